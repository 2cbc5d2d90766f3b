//! Handles: subjects that are asked about often.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};
use quotum::Request;

use crate::answer::Kind;
use crate::argument::Costs;
use crate::engine::Engine;
use crate::fork::detached;
use crate::request::{Asks, charging, requiring};

/// What Subject and AsyncSubject have in common: the verbs.
#[pyclass(frozen, subclass, module = "quotum._native")]
pub(crate) struct Handle {
    engine: Py<Engine>,
    /// Taken when this is dropped.
    inner: Option<quotum::Subject>,
}

/// A subject that is asked about often. What it is asked is decided as for its id, only faster, because what is known of
/// the subject need not be looked up.
#[pyclass(frozen, extends = Handle, module = "quotum")]
pub(crate) struct Subject;

/// The same as Subject for tasks: its verbs are awaited.
#[pyclass(frozen, extends = Handle, module = "quotum")]
pub(crate) struct AsyncSubject;

impl Handle {
    fn name(&self) -> &str {
        self.inner.as_ref().map_or("", quotum::Subject::id)
    }

    fn request(&self) -> Request<'_> {
        self.inner.as_ref().map_or_else(Request::by_anyone, quotum::Subject::request)
    }

    pub(crate) fn of(py: Python<'_>, kind: Kind, engine: Py<Engine>, inner: quotum::Subject) -> PyResult<Py<PyAny>> {
        let handle = PyClassInitializer::from(Self { engine, inner: Some(inner) });
        Ok(match kind {
            Kind::Blocking => Py::new(py, handle.add_subclass(Subject))?.into_any(),
            Kind::Asyncio => Py::new(py, handle.add_subclass(AsyncSubject))?.into_any(),
        })
    }
}

#[pymethods]
impl Handle {
    /// Whose handle it is.
    #[getter]
    fn id(&self) -> &str {
        self.name()
    }

    /// Decide on everything that one request asks for: see Quota.admit.
    #[pyo3(signature = (costs = None, /, *, rate = None, rate_key = None, rate_cost = None, features = None,
        idempotency_key = None, **units))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword of the verb")]
    fn admit<'py>(
        &self,
        py: Python<'py>,
        costs: Option<&Bound<'py, PyMapping>>,
        rate: Option<&str>,
        rate_key: Option<&Bound<'py, PyAny>>,
        rate_cost: Option<&Bound<'py, PyAny>>,
        features: Option<&Bound<'py, PyAny>>,
        idempotency_key: Option<&str>,
        units: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let asks = Asks { costs: Costs::of(costs, units)?, rate, rate_key, rate_cost, features, idempotency_key };
        asks.of(self.request(), |request| self.engine.get().decide(py, request))
    }

    /// Charge every cost, or none where one does not fit: see Quota.consume.
    #[pyo3(signature = (costs = None, /, *, idempotency_key = None, **units))]
    fn consume<'py>(
        &self,
        py: Python<'py>,
        costs: Option<&Bound<'py, PyMapping>>,
        idempotency_key: Option<&str>,
        units: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let costs = Costs::of(costs, units)?;
        self.engine.get().decide(py, &charging(self.request(), &costs.borrowed()?, idempotency_key))
    }

    /// Whether it would be allowed now: see Quota.check.
    #[pyo3(signature = (costs = None, /, **units))]
    fn check<'py>(
        &self,
        py: Python<'py>,
        costs: Option<&Bound<'py, PyMapping>>,
        units: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let costs = Costs::of(costs, units)?;
        self.engine.get().decide(py, &self.request().costs(&costs.borrowed()?).looking())
    }

    /// Whether the subject's plan has a feature, or as much of it as value: see Quota.require.
    #[pyo3(signature = (name, value = None, /))]
    fn require<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        value: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.engine.get().decide(py, &requiring(self.request(), name, value)?)
    }

    fn __repr__(&self) -> String {
        format!("<Subject {}>", self.name())
    }
}

impl Drop for Handle {
    /// Not while other threads are kept from Python: it may be the last that stands for the engine.
    fn drop(&mut self) {
        let inner = self.inner.take();
        Python::try_attach(|py| detached(py, || drop(inner)));
    }
}
