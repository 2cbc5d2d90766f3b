//! The Python module `quotum._native`: converts, calls the core, converts back.

use std::collections::HashMap;
use std::path::PathBuf;

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use quotum::blocking;

create_exception!(quotum, QuotumError, PyException, "What went wrong, other than a denial: a denial is a Decision.");

fn raise(error: quotum::Error) -> PyErr {
    QuotumError::new_err(error.to_string())
}

/// The engine: asks a store, decides by the plans. Safe to share between threads.
#[pyclass(frozen, module = "quotum")]
struct Quota {
    inner: blocking::Quota,
}

#[pymethods]
impl Quota {
    /// Open the store that a URL names, such as "sqlite:quota.db" or "memory:".
    #[staticmethod]
    #[pyo3(signature = (url, *, plans))]
    fn open(py: Python<'_>, url: &str, plans: PathBuf) -> PyResult<Self> {
        let open = || blocking::Quota::builder().plans_file(plans).open(url);
        py.detach(open).map(|inner| Self { inner }).map_err(raise)
    }

    /// Charge every cost, such as searches=1, or none.
    #[pyo3(signature = (subject, **costs))]
    fn consume(&self, py: Python<'_>, subject: &str, costs: Option<HashMap<String, u64>>) -> PyResult<Decision> {
        let costs = costs.unwrap_or_default();
        let costs: Vec<(&str, u64)> = costs.iter().map(|(metric, units)| (metric.as_str(), *units)).collect();
        py.detach(|| self.inner.consume(subject, &costs)).map(|inner| Decision { inner }).map_err(raise)
    }
}

/// Allowed, or denied and why. True where the request may go on.
#[pyclass(frozen, module = "quotum")]
struct Decision {
    inner: quotum::Decision,
}

#[pymethods]
impl Decision {
    #[getter]
    fn allowed(&self) -> bool {
        self.inner.allowed
    }

    #[getter]
    fn plan(&self) -> Option<&str> {
        self.inner.plan.as_deref()
    }

    #[getter]
    fn reason(&self) -> Option<&str> {
        self.inner.denied.as_ref().map(|denial| denial.reason.as_str())
    }

    #[getter]
    fn upgrade_to(&self) -> Option<&str> {
        self.inner.denied.as_ref()?.upgrade_to.as_deref()
    }

    fn __bool__(&self) -> bool {
        self.inner.allowed
    }

    fn __repr__(&self) -> String {
        match &self.inner.denied {
            Some(denial) => format!("<Decision denied: {denial}>"),
            None => format!("<Decision allowed by plan {}>", self.inner.plan.as_deref().unwrap_or("none")),
        }
    }
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("QuotumError", module.py().get_type::<QuotumError>())?;
    module.add_class::<Quota>()?;
    module.add_class::<Decision>()
}
