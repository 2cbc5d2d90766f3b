//! Units set aside: `with quota.reserve(...) as r: r.commit(tokens=n)`.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};
use quotum::blocking;

use crate::costs::Costs;
use crate::error::{DeniedError, HoldUnknownError, raise};
use crate::result::{Decision, Settlement};

/// Units set aside for one request, or the denial. True where they are set aside. As a context manager, what was not
/// committed by its end is given back.
#[pyclass(frozen, module = "quotum")]
pub(crate) struct Reservation {
    decision: Py<Decision>,
    expires_at: Option<Timestamp>,
    id: Option<String>,
    /// Taken when it is settled.
    open: Mutex<Option<blocking::Reservation>>,
}

impl Reservation {
    pub(crate) fn new(py: Python<'_>, reserved: Result<blocking::Reservation, quotum::Decision>) -> PyResult<Self> {
        let (inner, open) = match reserved {
            Ok(open) => (open.decision().clone(), Some(open)),
            Err(denied) => (denied, None),
        };
        let expires_at = open.as_ref().map(blocking::Reservation::expires_at);
        let id = open.as_ref().and_then(blocking::Reservation::id).map(|id| id.to_string());
        Ok(Self { decision: Py::new(py, Decision { inner })?, expires_at, id, open: Mutex::new(open) })
    }

    fn take(&self) -> Option<blocking::Reservation> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What is open, in order to settle it.
    fn settled_now(&self, py: Python<'_>) -> PyResult<blocking::Reservation> {
        if let Some(open) = self.take() {
            return Ok(open);
        }
        match &self.decision.get().inner.denied {
            Some(denial) => Err(DeniedError::new_err((denial.to_string(), self.decision.clone_ref(py)))),
            None => Err(HoldUnknownError::new_err("this reservation was settled already: it is settled once")),
        }
    }
}

#[pymethods]
impl Reservation {
    /// The decision.
    #[getter]
    fn decision(&self, py: Python<'_>) -> Py<Decision> {
        self.decision.clone_ref(py)
    }

    /// Whether the request may go on.
    #[getter]
    fn allowed(&self) -> bool {
        self.decision.get().inner.allowed
    }

    /// The name by which it could be settled elsewhere; None where nothing is held.
    #[getter]
    fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// When its units are given back, in UTC, unless it is settled before.
    #[getter]
    const fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// Charge what was really used, and give the rest back. What is not named was used as it was reserved.
    ///
    /// Raises HoldExpiredError where it is too late, HoldUnknownError where it was settled already, DeniedError where
    /// nothing was reserved, and StoreError where the store cannot answer.
    #[pyo3(signature = (costs = None, /, **actual))]
    fn commit(
        &self,
        py: Python<'_>,
        costs: Option<&Bound<'_, PyMapping>>,
        actual: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Settlement> {
        let actual = Costs::of(costs, actual)?;
        let open = self.settled_now(py)?;
        py.detach(|| open.commit(&actual.borrowed())).map(|inner| Settlement { inner }).map_err(raise)
    }

    /// Give everything back. Raises as commit does.
    fn release(&self, py: Python<'_>) -> PyResult<Settlement> {
        let open = self.settled_now(py)?;
        py.detach(|| open.release()).map(|inner| Settlement { inner }).map_err(raise)
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// Gives back what was not committed. What went wrong in the block matters more than whether that worked: units
    /// that cannot be given back now expire.
    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        if let Some(open) = self.take() {
            py.detach(|| drop(open));
        }
    }

    fn __bool__(&self) -> bool {
        self.allowed()
    }

    fn __repr__(&self) -> String {
        match (&self.id, &self.decision.get().inner.denied) {
            (_, Some(denial)) => format!("<Reservation denied: {denial}>"),
            (Some(id), None) => format!("<Reservation {id}>"),
            (None, None) => "<Reservation of nothing that is counted>".to_owned(),
        }
    }
}
