//! Decisions: frozen, and converted where they are looked at.

use jiff::Timestamp;
use pyo3::prelude::*;
use quotum::QuotaState as State;

use crate::answer::Told;
use crate::error::DeniedError;
use crate::feature::Feature;
use crate::identity::Identity;
use crate::json::to_python;
use crate::rate::RateState;

/// Allowed, or denied and why. True where the request may go on.
#[pyclass(frozen, eq, module = "quotum")]
#[derive(PartialEq)]
pub(crate) struct Decision {
    pub(crate) inner: quotum::Decision,
}

#[pymethods]
impl Decision {
    /// Whether the request may go on.
    #[getter]
    const fn allowed(&self) -> bool {
        self.inner.allowed
    }

    /// Who asked; None where that is not known.
    #[getter]
    fn subject(&self) -> Option<&str> {
        self.inner.subject.as_deref()
    }

    /// The id of the plan that decided; None where none did.
    #[getter]
    fn plan(&self) -> Option<&str> {
        self.inner.plan.as_deref()
    }

    /// Which edition of that plan; None where none decided.
    #[getter]
    const fn plan_version(&self) -> Option<u32> {
        self.inner.plan_version
    }

    /// The quotas that were asked about, as they stand after the decision.
    #[getter]
    fn quotas(&self) -> Vec<QuotaState> {
        QuotaState::all(self.inner.quotas.clone())
    }

    /// The tightest quota of a metric: the one with the fewest units left. None where it was not asked about.
    #[pyo3(signature = (metric, /))]
    fn quota(&self, metric: &str) -> Option<QuotaState> {
        self.inner.quota(metric).cloned().map(|inner| QuotaState { inner })
    }

    /// The windows of the rate that was asked about, as they stand after the decision.
    #[getter]
    fn rates(&self) -> Vec<RateState> {
        self.inner.rates.iter().map(RateState::of_scope).collect()
    }

    /// Whom the token speaks for, where the request was made with one.
    #[getter]
    fn identity(&self) -> Option<Identity> {
        self.inner.identity.as_deref().cloned().map(Identity::new)
    }

    /// Why not, where the request is denied; None where it is allowed.
    #[getter]
    fn denied(&self) -> Option<Denial> {
        self.inner.denied.as_deref().cloned().map(|inner| Denial { inner })
    }

    /// Why the request would have been denied, were the quota enforced; None where it would not.
    #[getter]
    fn would_deny(&self) -> Option<Denial> {
        self.inner.would_deny.as_deref().cloned().map(|inner| Denial { inner })
    }

    /// Why the request is denied, such as "quota_exhausted"; None where it is allowed.
    #[getter]
    fn reason(&self) -> Option<&str> {
        self.inner.denied.as_ref().map(|denial| denial.reason.as_str())
    }

    /// The id of the cheapest plan by rank that would have allowed the request; None where there is none.
    #[getter]
    fn upgrade_to(&self) -> Option<&str> {
        self.inner.denied.as_ref()?.upgrade_to.as_deref()
    }

    /// Whether it was allowed without asking the store, which could not answer.
    #[getter]
    const fn degraded(&self) -> bool {
        self.inner.degraded
    }

    /// Whether this is the answer to an earlier request with the same idempotency key, given again.
    #[getter]
    const fn repeated(&self) -> bool {
        self.inner.repeated
    }

    /// Raise DeniedError where the request is denied; otherwise return the decision itself.
    fn raise_for_denied(slf: &Bound<'_, Self>) -> PyResult<Py<Self>> {
        match &slf.get().inner.denied {
            Some(denial) => Err(DeniedError::new_err((denial.to_string(), slf.clone().unbind()))),
            None => Ok(slf.clone().unbind()),
        }
    }

    /// The same as JSON can say it, with times as texts.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.inner)
    }

    const fn __bool__(&self) -> bool {
        self.inner.allowed
    }

    fn __repr__(&self) -> String {
        match &self.inner.denied {
            Some(denial) => format!("<Decision denied: {denial}>"),
            None => format!("<Decision allowed by plan {}>", self.inner.plan.as_deref().unwrap_or("none")),
        }
    }
}

/// Why a request is denied, and what would help. Its text says it in a sentence.
#[pyclass(frozen, eq, module = "quotum")]
#[derive(PartialEq)]
pub(crate) struct Denial {
    inner: quotum::Denial,
}

#[pymethods]
impl Denial {
    /// The reason, such as "quota_exhausted".
    #[getter]
    const fn reason(&self) -> &str {
        self.inner.reason.as_str()
    }

    /// The metric whose quota denied, where one did. Of several, the one that is free again last.
    #[getter]
    fn metric(&self) -> Option<&str> {
        self.inner.metric.as_deref()
    }

    /// The period of that quota, such as "day".
    #[getter]
    fn period(&self) -> Option<&str> {
        self.inner.period.map(quotum::Period::as_str)
    }

    /// How many units were asked for.
    #[getter]
    const fn requested(&self) -> Option<u64> {
        self.inner.requested
    }

    /// The limit of that quota or rate, in units.
    #[getter]
    const fn limit(&self) -> Option<u64> {
        self.inner.limit
    }

    /// How many units of it are used.
    #[getter]
    const fn used(&self) -> Option<u64> {
        self.inner.used
    }

    /// When that quota starts afresh, in UTC.
    #[getter]
    const fn resets_at(&self) -> Option<Timestamp> {
        self.inner.resets_at
    }

    /// The scope whose rate denied, where one did.
    #[getter]
    fn scope(&self) -> Option<&str> {
        self.inner.scope.as_deref()
    }

    /// The length of that rate's window, in seconds.
    #[getter]
    const fn window_s(&self) -> Option<u32> {
        self.inner.window_s
    }

    /// How long to wait, in milliseconds, where that is known without a calendar.
    #[getter]
    const fn retry_after_ms(&self) -> Option<u64> {
        self.inner.retry_after_ms
    }

    /// The feature that denied, where one did.
    #[getter]
    fn feature(&self) -> Option<&str> {
        self.inner.feature.as_deref()
    }

    /// What was asked of the feature.
    #[getter]
    fn feature_requested(&self) -> Option<Feature> {
        self.inner.feature_requested.clone().map(Feature)
    }

    /// What the plan has of it.
    #[getter]
    fn feature_granted(&self) -> Option<Feature> {
        self.inner.feature_granted.clone().map(Feature)
    }

    /// When the trial or the subscription ended, in UTC.
    #[getter]
    const fn ended_at(&self) -> Option<Timestamp> {
        self.inner.ended_at
    }

    /// What the store said, where it could not answer: for operators, not for clients.
    #[getter]
    fn cause(&self) -> Option<&str> {
        self.inner.cause.as_deref()
    }

    /// The id of the cheapest plan by rank that would have allowed the request; None where there is none.
    #[getter]
    fn upgrade_to(&self) -> Option<&str> {
        self.inner.upgrade_to.as_deref()
    }

    /// The same as JSON can say it, with times as texts.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.inner)
    }

    fn __str__(&self) -> String {
        self.inner.to_string()
    }

    fn __repr__(&self) -> String {
        format!("<Denial {}: {}>", self.inner.reason, self.inner)
    }
}

/// One quota of a subject, as it stands.
#[pyclass(frozen, eq, module = "quotum")]
#[derive(PartialEq)]
pub(crate) struct QuotaState {
    pub(crate) inner: State,
}

impl QuotaState {
    pub(crate) fn all(states: Vec<State>) -> Vec<Self> {
        states.into_iter().map(|inner| Self { inner }).collect()
    }
}

#[pymethods]
impl QuotaState {
    /// What is counted.
    #[getter]
    fn metric(&self) -> &str {
        &self.inner.metric
    }

    /// How often it starts afresh, such as "month"; None where nothing is counted.
    #[getter]
    fn period(&self) -> Option<&str> {
        self.inner.period.map(quotum::Period::as_str)
    }

    /// How many units the period allows, bonus included; None without a limit.
    #[getter]
    fn limit(&self) -> Option<u64> {
        self.inner.limit.units()
    }

    /// Units used in this period.
    #[getter]
    const fn used(&self) -> u64 {
        self.inner.used
    }

    /// Units set aside by reservations that are still open.
    #[getter]
    const fn held(&self) -> u64 {
        self.inner.held
    }

    /// Units in leased blocks, of which this process knows no use.
    #[getter]
    const fn leased(&self) -> u64 {
        self.inner.leased
    }

    /// Of these, the units in other processes' blocks.
    #[getter]
    const fn stranded(&self) -> u64 {
        self.inner.stranded
    }

    /// Units granted in this period on top of the plan's limit.
    #[getter]
    const fn bonus(&self) -> u64 {
        self.inner.bonus
    }

    /// Units consumed in this period that did not fit.
    #[getter]
    const fn overage(&self) -> u64 {
        self.inner.overage
    }

    /// Units left; None without a limit.
    #[getter]
    const fn remaining(&self) -> Option<u64> {
        self.inner.remaining
    }

    /// When the period ends, in UTC; None where it never does.
    #[getter]
    const fn resets_at(&self) -> Option<Timestamp> {
        self.inner.resets_at
    }

    /// How much of the limit is used, in whole percent rounded down; None without a limit.
    #[getter]
    const fn percent(&self) -> Option<u64> {
        self.inner.percent
    }

    /// Whether 80 % or more of the limit is used.
    #[getter]
    const fn warning(&self) -> bool {
        self.inner.warning
    }

    /// Whether all members of the subject's account share it.
    #[getter]
    const fn shared(&self) -> bool {
        self.inner.shared
    }

    /// The same as JSON can say it, with times as texts.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.inner)
    }

    fn __repr__(&self) -> String {
        let State { metric, used, limit, .. } = &self.inner;
        match self.inner.period {
            Some(period) => format!("<QuotaState {metric}: {used} of {limit}/{period} used>"),
            None => format!("<QuotaState {metric}: {limit}>"),
        }
    }
}

impl Told for quotum::Decision {
    fn told(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(Py::new(py, Decision { inner: self })?.into_any())
    }
}

impl Told for Vec<State> {
    fn told(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(QuotaState::all(self).into_pyobject(py)?.unbind())
    }
}
