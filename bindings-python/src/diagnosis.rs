//! Diagnoses: what the core warns its operator of, told to Python's `logging`.

use pyo3::prelude::*;
use quotum::diagnosis::{self, Diagnosis};

use crate::interpreter::attached;

/// Has the core's warnings told to the logger "quotum".
pub(crate) fn listen() {
    // Another copy of this module may listen already.
    let _listens = diagnosis::listen(tell);
}

/// Whether the interpreter goes on.
fn tell(Diagnosis { is_error, text, .. }: Diagnosis) -> bool {
    // As `logging` counts: 30 for a warning, 40 for an error.
    let level = if is_error { 40 } else { 30 };
    let told = attached(|py| {
        let logger = py.import("logging")?.call_method1("getLogger", ("quotum",))?;
        logger.call_method1("log", (level, "%s", text)).map(drop)
    });
    // A handler's own mistake.
    if let Some(Err(error)) = &told {
        let _written = attached(|py| error.clone_ref(py).write_unraisable(py, None));
    }
    told.is_some()
}
