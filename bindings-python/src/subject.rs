//! Handles: subjects that are asked about often.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};

use crate::argument::{Costs, feature_value};
use crate::engine::{Asks, Engine};

/// A subject that is asked about often. What it is asked is decided as for its id, only faster, because what is known of
/// the subject need not be looked up.
#[pyclass(frozen, module = "quotum")]
pub(crate) struct Subject {
    engine: Py<Engine>,
    inner: quotum::Subject,
}

impl Subject {
    pub(crate) const fn new(engine: Py<Engine>, inner: quotum::Subject) -> Self {
        Self { engine, inner }
    }
}

#[pymethods]
impl Subject {
    /// Whose handle it is.
    #[getter]
    fn id(&self) -> &str {
        self.inner.id()
    }

    /// Decide on everything that one request asks for: see Quota.admit.
    #[pyo3(signature = (costs = None, /, *, rate = None, rate_key = None, rate_cost = 1, features = None,
        idempotency_key = None, **units))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword of the verb")]
    fn admit<'py>(
        &self,
        py: Python<'py>,
        costs: Option<&Bound<'py, PyMapping>>,
        rate: Option<&str>,
        rate_key: Option<&Bound<'py, PyAny>>,
        rate_cost: u64,
        features: Option<&Bound<'py, PyAny>>,
        idempotency_key: Option<&str>,
        units: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let asks = Asks { costs: Costs::of(costs, units)?, rate, rate_key, rate_cost, features, idempotency_key };
        asks.of(self.inner.request(), |request| self.engine.get().decide(py, request))
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
        let costs = costs.borrowed()?;
        let mut request = self.inner.request().costs(&costs);
        if let Some(key) = idempotency_key {
            request = request.once(key);
        }
        self.engine.get().decide(py, &request)
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
        self.engine.get().decide(py, &self.inner.request().costs(&costs.borrowed()?).looking())
    }

    /// Whether the subject's plan has a feature, or as much of it as value: see Quota.require.
    #[pyo3(signature = (name, value = None, /))]
    fn require<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        value: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let request = match value {
            Some(value) => self.inner.request().feature_value(name, feature_value(name, value)?),
            None => self.inner.request().feature(name),
        };
        self.engine.get().decide(py, &request)
    }

    fn __repr__(&self) -> String {
        format!("<Subject {}>", self.inner.id())
    }
}
