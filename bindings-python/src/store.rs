//! Stores of the host's own: a Python object with transactions, and the conformance suite to try it with.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use quotum::Retry;
use quotum::store::{Map, MapStore, MapTransaction, Store, StoreError, conformance};

use crate::argument::refused_value;
use crate::error::ConflictedError;
use crate::fork::{detached, outside};
use crate::interpreter;
use crate::interrupt::caught;

/// Where an engine keeps what lasts.
pub(crate) enum Place {
    /// In the store that a URL names.
    At(String),
    /// In one of the host's own.
    In(Arc<dyn Store>),
}

impl Place {
    pub(crate) fn of(store: &Bound<'_, PyAny>) -> PyResult<Self> {
        match store.extract() {
            Ok(url) => Ok(Self::At(url)),
            Err(_) => store_of(store).map(Self::In),
        }
    }
}

/// The store that an object of the host's is.
fn store_of(host: &Bound<'_, PyAny>) -> PyResult<Arc<dyn Store>> {
    if !host.hasattr("transaction")? {
        return Err(refused_value("store", host, "the URL of a store, or an object with a method `transaction`"));
    }
    // One that hangs must not keep who asks longer than the timeout.
    Ok(Arc::new(MapStore::over(Arc::new(HostMap(host.clone().unbind()))).aside()))
}

/// A Python object with a method `transaction`, which returns a context manager.
struct HostMap(Py<PyAny>);

impl fmt::Debug for HostMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostMap(..)")
    }
}

/// Does something with Python; an exception is a store that failed, and may be asked again as `retry` says.
fn attached<T>(retry: Retry, act: impl FnOnce(Python<'_>) -> PyResult<T>) -> Result<T, StoreError> {
    let failed = |detail| StoreError::Failed { detail, retry };
    let ended = || Err(failed("the interpreter ends".to_owned()));
    let told = |py: Python<'_>, error: PyErr| match error.is_instance_of::<ConflictedError>(py) {
        true => StoreError::Busy { waited: Duration::ZERO },
        false => failed(caught(py, error)),
    };
    outside(|| interpreter::attached(|py| act(py).map_err(|error| told(py, error))).unwrap_or_else(ended))
}

impl Map for HostMap {
    fn begin(&self) -> Result<Box<dyn MapTransaction + '_>, StoreError> {
        attached(Retry::Safe, |py| {
            let manager = self.0.bind(py).call_method0("transaction")?;
            let entered = manager.call_method0("__enter__")?.unbind();
            Ok(Box::new(HostTransaction { manager: Some(manager.unbind()), entered }) as Box<dyn MapTransaction>)
        })
    }
}

struct HostTransaction {
    /// Taken when it ends.
    manager: Option<Py<PyAny>>,
    entered: Py<PyAny>,
}

impl MapTransaction for HostTransaction {
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        attached(Retry::Safe, |py| self.entered.bind(py).call_method1("get", (PyBytes::new(py, key),))?.extract())
    }

    fn scan(&mut self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        attached(Retry::Safe, |py| {
            let (start, end) = (PyBytes::new(py, start), PyBytes::new(py, end));
            let found = self.entered.bind(py).call_method1("scan", (start, end, limit))?;
            found.try_iter()?.map(|entry| entry?.extract()).collect()
        })
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        attached(Retry::Safe, |py| {
            let entry = (PyBytes::new(py, key), PyBytes::new(py, value));
            self.entered.bind(py).call_method1("put", entry).map(drop)
        })
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), StoreError> {
        attached(Retry::Safe, |py| self.entered.bind(py).call_method1("delete", (PyBytes::new(py, key),)).map(drop))
    }

    fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        let Some(manager) = self.manager.take() else { return Ok(()) };
        attached(Retry::OutcomeUnknown, |py| {
            manager.bind(py).call_method1("__exit__", (py.None(), py.None(), py.None())).map(drop)
        })
    }
}

impl Drop for HostTransaction {
    /// Has what was not committed undone, as by any other exception within its block.
    fn drop(&mut self) {
        let Some(manager) = self.manager.take() else { return };
        let _undone = attached(Retry::Never, |py| {
            let rolled_back = ConflictedError::new_err("this transaction is given up");
            let (kind, trace) = (rolled_back.get_type(py), py.None());
            manager.bind(py).call_method1("__exit__", (kind, rolled_back.value(py), trace)).map(drop)
        });
    }
}

/// Run every rule of the conformance suite, each on a new and empty store that `factory` returns: the rules, each with
/// what was broken of it, or None.
#[pyfunction]
#[pyo3(signature = (factory, /))]
pub(crate) fn check_store(py: Python<'_>, factory: Py<PyAny>) -> PyResult<Vec<(&'static str, Option<String>)>> {
    let failed: Mutex<Option<PyErr>> = Mutex::new(None);
    let make = || {
        let made = Python::attach(|py| store_of(&factory.bind(py).call0()?));
        made.unwrap_or_else(|error| {
            failed.lock().get_or_insert(error);
            // Any store does: what it is found to do is not told.
            Arc::new(quotum::store::MemoryStore::new())
        })
    };
    let report = detached(py, || conformance::run(make));
    match failed.into_inner() {
        Some(error) => Err(error),
        None => Ok(report.outcomes.into_iter().map(|outcome| (outcome.rule, outcome.result.err())).collect()),
    }
}
