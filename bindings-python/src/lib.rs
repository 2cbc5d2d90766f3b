//! The Python module `quotum._native`: converts, calls the core, converts back.

mod costs;
mod error;
mod quota;
mod reservation;
mod result;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<quota::Quota>()?;
    module.add_class::<result::Decision>()?;
    module.add_class::<result::Denial>()?;
    module.add_class::<result::QuotaState>()?;
    module.add_class::<result::Usage>()?;
    module.add_class::<result::Settlement>()?;
    module.add_class::<reservation::Reservation>()
}
