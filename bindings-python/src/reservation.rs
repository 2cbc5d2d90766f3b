//! Units set aside: `with quota.reserve(...) as r: r.commit(tokens=n)`.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyTuple};
use quotum::{Error, HoldId};

use crate::answer::{Answer, Kind, Told};
use crate::argument::Costs;
use crate::decision::Decision;
use crate::error::{DeniedError, HoldUnknownError};
use crate::fork::detached;
use crate::json::to_python;

/// Units set aside for one request, or the denial. True where they are set aside.
#[pyclass(frozen, subclass, module = "quotum._native")]
pub(crate) struct Held {
    kind: Kind,
    decision: Py<Decision>,
    expires_at: Option<Timestamp>,
    id: Option<HoldId>,
    /// By which it is settled again, where it was settled before, or was to be. Taken when this is dropped.
    quota: Option<quotum::Quota>,
    /// Taken when it is first settled.
    open: Mutex<Option<quotum::Reservation>>,
}

/// Units set aside for one request, or the denial. True where they are set aside.
///
/// As a context manager, what was not committed by its end is given back, also where an exception ends it.
#[pyclass(frozen, extends = Held, module = "quotum")]
pub(crate) struct Reservation;

/// Units set aside for one request, or the denial, for tasks: settling it is awaited. True where they are set aside.
///
/// Entered by `async with`, what was not committed by its end is given back, also where an exception ends it.
#[pyclass(frozen, extends = Held, module = "quotum")]
pub(crate) struct AsyncReservation;

/// What was reserved, or the denial, and for which kind of caller.
pub(crate) struct Reserved {
    pub(crate) kind: Kind,
    pub(crate) quota: quotum::Quota,
    pub(crate) decision: quotum::Decision,
    pub(crate) open: Option<quotum::Reservation>,
}

impl Told for Reserved {
    fn told(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let Self { kind, quota, decision, open } = self;
        let held = Held {
            kind,
            decision: Py::new(py, Decision { inner: decision })?,
            expires_at: open.as_ref().map(quotum::Reservation::expires_at),
            id: open.as_ref().and_then(quotum::Reservation::id),
            quota: Some(quota),
            open: Mutex::new(open),
        };
        let held = PyClassInitializer::from(held);
        Ok(match kind {
            Kind::Blocking => Py::new(py, held.add_subclass(Reservation))?.into_any(),
            Kind::Asyncio => Py::new(py, held.add_subclass(AsyncReservation))?.into_any(),
        })
    }
}

impl Held {
    /// Settles it: what is open, or else by its name, which changes nothing that was done before.
    fn settle<'py, Open, Named>(
        &self,
        py: Python<'py>,
        open: impl FnOnce(quotum::Reservation) -> Open,
        named: impl FnOnce(quotum::Quota, HoldId) -> Named,
    ) -> PyResult<Bound<'py, PyAny>>
    where
        Open: Future<Output = Result<quotum::Settlement, Error>> + Send + 'static,
        Named: Future<Output = Result<quotum::Settlement, Error>> + Send + 'static,
    {
        let taken = self.open.lock().take();
        match (taken, self.id.zip(self.quota.clone())) {
            (Some(taken), _) => self.kind.ask(py, open(taken)),
            (None, Some((id, quota))) => self.kind.ask(py, named(quota, id)),
            (None, None) => Err(match &self.decision.get().inner.denied {
                Some(denial) => DeniedError::new_err((denial.to_string(), self.decision.clone_ref(py))),
                None => HoldUnknownError::new_err("this reservation held nothing, and was settled already"),
            }),
        }
    }
}

#[pymethods]
impl Held {
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
    fn id(&self) -> Option<String> {
        self.id.map(|id| id.to_string())
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
    fn commit<'py>(
        &self,
        py: Python<'py>,
        costs: Option<&Bound<'py, PyMapping>>,
        actual: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let actual = Arc::new(Costs::of(costs, actual)?.owned()?);
        let again = Arc::clone(&actual);
        self.settle(
            py,
            |open| async move { open.commit(&actual.borrowed()).await },
            |quota, id| async move { quota.commit(id, &again.borrowed()).await },
        )
    }

    /// Give everything back. Raises as commit does.
    fn release<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let named = |quota: quotum::Quota, id| async move { quota.release(id).await };
        self.settle(py, |open| async move { open.release().await }, named)
    }

    /// Leave the units held, for whoever settles them by their id, or until they expire. Returns the id; None where
    /// nothing is held any more.
    fn detach(&self) -> Option<String> {
        let open = self.open.lock().take();
        open.and_then(quotum::Reservation::detach).map(|id| id.to_string())
    }

    /// Give back what was not settled, if anything is open. Units that cannot be given back now expire. For tasks it is
    /// done aside: nothing is awaited.
    fn let_go(&self, py: Python<'_>) {
        let open = self.open.lock().take();
        if open.is_some() {
            detached(py, || drop(open));
        }
    }

    fn __bool__(&self) -> bool {
        self.allowed()
    }

    fn __repr__(&self) -> String {
        match (&self.id, &self.decision.get().inner.denied) {
            (_, Some(denial)) => format!("<Reservation denied: {denial}>"),
            (Some(id), None) => format!("<Reservation {id}>"),
            (None, None) => "<Reservation of nothing that is held>".to_owned(),
        }
    }
}

impl Drop for Held {
    /// Not while other threads are kept from Python: it may be the last that stands for the engine.
    fn drop(&mut self) {
        let (open, quota) = (self.open.get_mut().take(), self.quota.take());
        Python::try_attach(|py| detached(py, || drop((open, quota))));
    }
}

#[pymethods]
impl Reservation {
    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// Gives back what was not committed. What went wrong in the block matters more than whether that worked.
    #[pyo3(signature = (*_exception))]
    fn __exit__(slf: PyRef<'_, Self>, py: Python<'_>, _exception: &Bound<'_, PyTuple>) {
        slf.as_super().let_go(py);
    }
}

#[pymethods]
impl AsyncReservation {
    fn __aenter__(slf: Py<Self>, py: Python<'_>) -> Answer {
        Answer::known(Ok(slf.clone_ref(py).into_any()))
    }

    /// Gives back what was not committed, without waiting for it.
    #[pyo3(signature = (*_exception))]
    fn __aexit__(slf: PyRef<'_, Self>, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> Answer {
        slf.as_super().let_go(py);
        Answer::known(Ok(py.None()))
    }
}

/// How a reservation was settled.
#[pyclass(frozen, eq, module = "quotum")]
#[derive(PartialEq)]
pub(crate) struct Settlement {
    inner: quotum::Settlement,
}

impl Settlement {
    /// Units by metric.
    fn by_metric(&self, units: impl Fn(&str) -> u64) -> BTreeMap<&str, u64> {
        self.inner.parts.iter().map(|part| (&*part.key.metric, units(&part.key.metric))).collect()
    }
}

#[pymethods]
impl Settlement {
    /// When, in UTC.
    #[getter]
    const fn at(&self) -> Timestamp {
        self.inner.at
    }

    /// Whether it had been settled before; nothing was changed then.
    #[getter]
    const fn repeated(&self) -> bool {
        self.inner.repeated
    }

    /// How many units of each metric were consumed, overage included.
    #[getter]
    fn consumed(&self) -> BTreeMap<&str, u64> {
        self.by_metric(|metric| self.inner.consumed(metric))
    }

    /// How many of them did not fit into the tightest of the metric's limits.
    #[getter]
    fn overage(&self) -> BTreeMap<&str, u64> {
        self.by_metric(|metric| self.inner.overage(metric))
    }

    /// The same as JSON can say it, with times as texts.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let fields = PyDict::new(py);
        fields.set_item("at", to_python(py, &self.inner.at)?)?;
        fields.set_item("repeated", self.inner.repeated)?;
        fields.set_item("consumed", self.consumed())?;
        fields.set_item("overage", self.overage())?;
        Ok(fields)
    }

    fn __repr__(&self) -> String {
        format!("<Settlement of {:?}>", self.consumed())
    }
}

impl Told for quotum::Settlement {
    fn told(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(Py::new(py, Settlement { inner: self })?.into_any())
    }
}
