//! Usage: what an account page shows.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pyo3::prelude::*;

use crate::answer::Told;
use crate::decision::QuotaState;
use crate::feature::Feature;
use crate::json::to_python;

/// What an account page shows: every quota of a subject, its plan and its state.
#[pyclass(frozen, eq, module = "quotum")]
#[derive(PartialEq)]
pub(crate) struct Usage {
    pub(crate) inner: quotum::Usage,
}

#[pymethods]
impl Usage {
    /// Whose usage.
    #[getter]
    fn subject(&self) -> &str {
        &self.inner.subject
    }

    /// The id of the plan in force, or of the plan that has lapsed.
    #[getter]
    fn plan(&self) -> &str {
        &self.inner.plan
    }

    /// The plan's name for people.
    #[getter]
    fn plan_name(&self) -> &str {
        &self.inner.plan_name
    }

    /// Which edition of the plan.
    #[getter]
    const fn plan_version(&self) -> u32 {
        self.inner.plan_version
    }

    /// The subscription's state; None for a subject without one.
    #[getter]
    fn status(&self) -> Option<&str> {
        self.inner.status.map(quotum::Status::as_str)
    }

    /// The account that the subject is a member of, whose plan it has.
    #[getter]
    fn account(&self) -> Option<&str> {
        self.inner.account.as_deref()
    }

    /// Why nothing is granted now, if nothing is.
    #[getter]
    fn refused(&self) -> Option<&str> {
        self.inner.refused.map(quotum::Reason::as_str)
    }

    /// When the trial ends, in UTC.
    #[getter]
    const fn trial_ends_at(&self) -> Option<Timestamp> {
        self.inner.trial_ends_at
    }

    /// When what was paid for ends, in UTC.
    #[getter]
    const fn expires_at(&self) -> Option<Timestamp> {
        self.inner.expires_at
    }

    /// What the plan can do, by name, with what the subject has of its own in place of it.
    #[getter]
    fn features(&self) -> BTreeMap<&str, Feature> {
        self.inner.features.iter().map(|(name, value)| (&**name, Feature(value.clone()))).collect()
    }

    /// Every quota of the plan, by metric.
    #[getter]
    fn quotas(&self) -> Vec<QuotaState> {
        QuotaState::all(self.inner.quotas.clone())
    }

    /// The same as JSON can say it, with times as texts.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.inner)
    }

    fn __repr__(&self) -> String {
        format!("<Usage of {}: plan {}, {} quotas>", self.inner.subject, self.inner.plan, self.inner.quotas.len())
    }
}

impl Told for quotum::Usage {
    fn told(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(Py::new(py, Usage { inner: self })?.into_any())
    }
}
