//! Interrupts: what a function of the host's has raised that the core must not take for an error of its own.
//!
//! The core is told of an exception in words. One that is no `Exception`, such as KeyboardInterrupt or SystemExit, ends the
//! program or the task: it is kept for whoever has called the core on this thread, and raised in place of its answer.

use std::cell::RefCell;

use pyo3::exceptions::PyException;
use pyo3::prelude::*;

thread_local! {
    static INTERRUPT: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// What the core is told of an exception, which is kept if it is an interrupt.
pub(crate) fn caught(py: Python<'_>, error: PyErr) -> String {
    let text = words(py, &error);
    if !error.is_instance_of::<PyException>(py) {
        INTERRUPT.set(Some(error));
    }
    text
}

/// What is to be raised in place of the core's answer.
pub(crate) fn interrupted() -> Option<PyErr> {
    INTERRUPT.take()
}

/// An exception in words: its kind, and what it says.
pub(crate) fn words(py: Python<'_>, error: &PyErr) -> String {
    let kind = error.get_type(py).name().map_or_else(|_| "an exception".to_owned(), |name| name.to_string());
    match error.value(py).str() {
        Ok(said) if said.is_empty().unwrap_or(false) => kind,
        Ok(said) => format!("{kind}: {}", said.to_string_lossy()),
        Err(_) => kind,
    }
}
