//! The Python module `quotum._native`: converts, calls the core, converts back.

mod answer;
mod argument;
mod bell;
mod clock;
mod decision;
mod diagnosis;
mod engine;
mod error;
mod event;
mod feature;
mod fork;
mod host;
mod http;
mod identity;
mod interpreter;
mod interrupt;
mod json;
mod opening;
mod options;
mod plan;
mod rate;
mod request;
mod reservation;
mod store;
mod subject;
mod subscription;
mod usage;

use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;

#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::answer::Answer;
    #[pymodule_export]
    use crate::clock::ManualClock;
    #[pymodule_export]
    use crate::decision::{Decision, Denial, QuotaState};
    #[pymodule_export]
    use crate::engine::Engine;
    #[pymodule_export]
    use crate::event::Event;
    #[pymodule_export]
    use crate::http::{HttpAnswer, Mapping, client_address, token_of};
    #[pymodule_export]
    use crate::identity::Identity;
    #[pymodule_export]
    use crate::interpreter::end_calls;
    #[pymodule_export]
    use crate::opening::{AsyncQuota, Quota};
    #[pymodule_export]
    use crate::plan::{CatalogStatus, Plan, Plans};
    #[pymodule_export]
    use crate::rate::{RateDecision, RateState};
    #[pymodule_export]
    use crate::reservation::{AsyncReservation, Held, Reservation, Settlement};
    #[pymodule_export]
    use crate::store::check_store;
    #[pymodule_export]
    use crate::subject::{AsyncSubject, Handle, Subject};
    #[pymodule_export]
    use crate::subscription::{Census, Subscriber, Subscription};
    #[pymodule_export]
    use crate::usage::Usage;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::claim(module.py())?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        crate::diagnosis::listen();
        crate::fork::watch(module.py())
    }
}

/// Takes this module for the interpreter that imports it first: what it keeps of Python's must not reach another.
fn claim(py: Python<'_>) -> PyResult<()> {
    static FIRST: AtomicUsize = AtomicUsize::new(0);
    // Each interpreter has a module of this name of its own, for as long as it lives.
    let here = py.import("sys")?.as_ptr().addr();
    match FIRST.compare_exchange(0, here, Ordering::Relaxed, Ordering::Relaxed) {
        Err(first) if first != here => {
            let text = "quotum serves one interpreter of a process, and another has imported it before this one";
            Err(PyImportError::new_err(text))
        }
        _ => Ok(()),
    }
}
