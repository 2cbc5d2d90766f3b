//! Events: what happened, and the log of it.

use jiff::Timestamp;
use pyo3::prelude::*;
use quotum::Event as Happened;

use crate::answer::Told;
use crate::json::to_python;

/// One thing that happened, with what is known of it.
#[pyclass(frozen, eq, module = "quotum")]
#[derive(PartialEq)]
pub(crate) struct Event {
    pub(crate) inner: Happened,
}

#[pymethods]
impl Event {
    /// Its place in the store's log, from 1; 0 for an event that no store has kept.
    #[getter]
    const fn sequence(&self) -> u64 {
        self.inner.sequence
    }

    /// What happened, such as "quota_exhausted".
    #[getter]
    const fn name(&self) -> &'static str {
        self.inner.name.as_str()
    }

    /// When, in UTC.
    #[getter]
    const fn at(&self) -> Timestamp {
        self.inner.at
    }

    /// To whom.
    #[getter]
    fn subject(&self) -> Option<&str> {
        self.inner.subject.as_deref()
    }

    /// The account that it is a member of.
    #[getter]
    fn account(&self) -> Option<&str> {
        self.inner.account.as_deref()
    }

    /// Who made the change, as `acting_as` has said.
    #[getter]
    fn actor(&self) -> Option<&str> {
        self.inner.actor.as_deref()
    }

    /// The id of the plan in force.
    #[getter]
    fn plan(&self) -> Option<&str> {
        self.inner.plan.as_deref()
    }

    /// Why a request was denied.
    #[getter]
    fn reason(&self) -> Option<&'static str> {
        self.inner.reason.map(|reason| reason.as_str())
    }

    /// The metric, scope or feature that it is about.
    #[getter]
    fn metric(&self) -> Option<&str> {
        self.inner.metric.as_deref()
    }

    /// The period of the metric's quota.
    #[getter]
    fn period(&self) -> Option<&'static str> {
        self.inner.period.map(quotum::Period::as_str)
    }

    /// Units used.
    #[getter]
    const fn used(&self) -> Option<u64> {
        self.inner.used
    }

    /// The limit, in units.
    #[getter]
    const fn limit(&self) -> Option<u64> {
        self.inner.limit
    }

    /// Units left.
    #[getter]
    const fn remaining(&self) -> Option<u64> {
        self.inner.remaining
    }

    /// When the quota starts afresh, in UTC.
    #[getter]
    const fn resets_at(&self) -> Option<Timestamp> {
        self.inner.resets_at
    }

    /// The id of the cheapest plan by rank that would have allowed the request.
    #[getter]
    fn upgrade_to(&self) -> Option<&str> {
        self.inner.upgrade_to.as_deref()
    }

    /// How long the decision took, in microseconds.
    #[getter]
    const fn duration_us(&self) -> Option<u64> {
        self.inner.duration_us
    }

    /// What else there is to say, such as what a change has put in place, as JSON can say it; None for nothing.
    #[getter]
    fn detail<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.inner.detail)
    }

    /// The same as JSON can say it, with times as texts.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.inner)
    }

    fn __repr__(&self) -> String {
        let of = self.inner.subject.as_deref().map(|subject| format!(" of {subject}")).unwrap_or_default();
        format!("<Event {}{of}>", self.inner.name)
    }
}

impl Told for Vec<Happened> {
    fn told(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let events: Vec<Event> = self.into_iter().map(|inner| Event { inner }).collect();
        Ok(events.into_pyobject(py)?.unbind())
    }
}
