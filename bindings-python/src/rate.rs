//! Rates: what the limiter alone has decided, and how its windows stand.

use pyo3::prelude::*;
use quotum::ScopeState;
use quotum::rate::{RateDecision as Decided, RateState as Window};

use crate::answer::Told;
use crate::json::to_python;

/// How one window of a rate stands.
#[pyclass(frozen, eq, module = "quotum")]
#[derive(PartialEq)]
pub(crate) struct RateState {
    scope: Option<String>,
    inner: Window,
}

impl RateState {
    /// As part of a decision, which names the scope.
    pub(crate) fn of_scope(state: &ScopeState) -> Self {
        Self { scope: Some(state.scope.to_string()), inner: state.window }
    }
}

#[pymethods]
impl RateState {
    /// What the rate limits, as part of a decision; None in a RateDecision, which was asked about one.
    #[getter]
    fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    /// The limit as plans write it, such as "10/minute".
    #[getter]
    fn limit(&self) -> String {
        self.inner.limit.to_string()
    }

    /// How many units a window's length allows.
    #[getter]
    const fn units(&self) -> u64 {
        self.inner.limit.units
    }

    /// How many of them at once.
    #[getter]
    const fn burst(&self) -> u64 {
        self.inner.limit.burst
    }

    /// The length of the window, in seconds.
    #[getter]
    const fn window_s(&self) -> u32 {
        self.inner.limit.window_s
    }

    /// The most units that this window would still allow now.
    #[getter]
    const fn remaining(&self) -> u64 {
        self.inner.remaining
    }

    /// How long until the window is as good as unused, in milliseconds rounded up.
    #[getter]
    fn reset_after_ms(&self) -> u128 {
        self.inner.reset_after.as_nanos().div_ceil(1_000_000)
    }

    /// The same as JSON can say it.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let fields = to_python(py, &self.inner)?;
        if let Some(scope) = &self.scope {
            fields.set_item("scope", scope)?;
        }
        Ok(fields)
    }

    fn __repr__(&self) -> String {
        let scope = self.scope.as_deref().map(|scope| format!("{scope}: ")).unwrap_or_default();
        format!("<RateState {scope}{} of {} left>", self.inner.remaining, self.inner.limit)
    }
}

/// What the limiter alone has decided. True where the cost was taken.
#[pyclass(frozen, eq, module = "quotum")]
#[derive(PartialEq)]
pub(crate) struct RateDecision {
    inner: Decided,
}

#[pymethods]
impl RateDecision {
    /// Whether the cost was taken.
    #[getter]
    const fn allowed(&self) -> bool {
        self.inner.allowed
    }

    /// Whether the cost is above what a window holds unused, so that waiting does not help.
    #[getter]
    const fn never_fits(&self) -> bool {
        self.inner.never_fits
    }

    /// How long until the same cost would be taken, in milliseconds rounded up; None if it was, or never will be.
    #[getter]
    fn retry_after_ms(&self) -> Option<u128> {
        self.inner.retry_after.map(|wait| wait.as_nanos().div_ceil(1_000_000))
    }

    /// Each window, in the order of the rate's limits.
    #[getter]
    fn windows(&self) -> Vec<RateState> {
        self.inner.windows().iter().map(|inner| RateState { scope: None, inner: *inner }).collect()
    }

    /// The same as JSON can say it.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.inner)
    }

    const fn __bool__(&self) -> bool {
        self.inner.allowed
    }

    fn __repr__(&self) -> String {
        match (self.inner.allowed, self.retry_after_ms()) {
            (true, _) => "<RateDecision allowed>".to_owned(),
            (false, Some(wait_ms)) => format!("<RateDecision denied for {wait_ms} ms>"),
            (false, None) => "<RateDecision denied: it never fits>".to_owned(),
        }
    }
}

impl Told for Decided {
    fn told(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(Py::new(py, RateDecision { inner: self })?.into_any())
    }
}
