//! The engine for synchronous callers.

use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyTuple};
use quotum::{FeatureValue, blocking};

use crate::costs::Costs;
use crate::error::{ClosedError, InvalidArgumentError, raise};
use crate::reservation::Reservation;
use crate::result::{Decision, QuotaState, Usage};

/// Asks a store, decides by the plans. Safe to share between threads, and to inherit by fork.
#[pyclass(frozen, module = "quotum")]
pub(crate) struct Quota {
    /// Taken when it is closed.
    open: RwLock<Option<blocking::Quota>>,
}

impl Quota {
    /// Does something with the engine, without keeping other threads from Python meanwhile.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        act: impl FnOnce(&blocking::Quota) -> Result<T, quotum::Error> + Send,
    ) -> PyResult<T> {
        py.detach(|| {
            let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
            open.as_ref().map(act)
        })
        .ok_or_else(|| ClosedError::new_err("this engine was closed: open another one"))?
        .map_err(raise)
    }

    /// Changes what was used, and tells how the quotas then stand.
    fn amend(&self, py: Python<'_>, subject: &str, costs: &Costs, amend: Amend) -> PyResult<Vec<QuotaState>> {
        self.with(py, |quota| amend(quota, subject, &costs.borrowed())).map(QuotaState::all)
    }
}

type Amend = fn(&blocking::Quota, &str, &[(&str, u64)]) -> Result<Vec<quotum::QuotaState>, quotum::Error>;
type Mapping<'a, 'py> = Option<&'a Bound<'py, PyMapping>>;

#[pymethods]
impl Quota {
    /// Open the store that a URL names, such as "sqlite:quota.db" or "memory:".
    #[staticmethod]
    #[pyo3(signature = (url, *, plans, store_timeout = None))]
    fn open(py: Python<'_>, url: &str, plans: PathBuf, store_timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let store_timeout = store_timeout.map(|timeout| duration("store_timeout", timeout)).transpose()?;
        let open = || {
            let builder = blocking::Quota::builder().plans_file(plans);
            let builder = match store_timeout {
                Some(timeout) => builder.store_timeout(timeout),
                None => builder,
            };
            builder.open(url)
        };
        py.detach(open).map(|open| Self { open: RwLock::new(Some(open)) }).map_err(raise)
    }

    /// Charge every cost, or none where one does not fit. Under an idempotency key, once.
    ///
    /// Raises ConflictError where the key was used before with other arguments.
    #[pyo3(signature = (subject, costs = None, /, *, idempotency_key = None, **units))]
    fn consume(
        &self,
        py: Python<'_>,
        subject: &str,
        costs: Mapping<'_, '_>,
        idempotency_key: Option<&str>,
        units: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Decision> {
        let costs = Costs::of(costs, units)?;
        let consume = |quota: &blocking::Quota| match idempotency_key {
            Some(key) => quota.consume_once(subject, &costs.borrowed(), key),
            None => quota.consume(subject, &costs.borrowed()),
        };
        Ok(Decision { inner: self.with(py, consume)? })
    }

    /// Whether it would be allowed now. Consumes nothing, promises nothing.
    #[pyo3(signature = (subject, costs = None, /, **units))]
    fn check(
        &self,
        py: Python<'_>,
        subject: &str,
        costs: Mapping<'_, '_>,
        units: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Decision> {
        let costs = Costs::of(costs, units)?;
        Ok(Decision { inner: self.with(py, |quota| quota.check(subject, &costs.borrowed()))? })
    }

    /// Set units aside for as long as ttl, a timedelta or seconds, for a request whose cost is known later.
    #[pyo3(signature = (subject, costs = None, /, *, ttl, idempotency_key = None, **units))]
    fn reserve(
        &self,
        py: Python<'_>,
        subject: &str,
        costs: Mapping<'_, '_>,
        ttl: &Bound<'_, PyAny>,
        idempotency_key: Option<&str>,
        units: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Reservation> {
        let (costs, ttl) = (Costs::of(costs, units)?, duration("ttl", ttl)?);
        let reserve = |quota: &blocking::Quota| match idempotency_key {
            Some(key) => quota.reserve_once(subject, &costs.borrowed(), ttl, key),
            None => quota.reserve(subject, &costs.borrowed(), ttl),
        };
        let reserved = self.with(py, reserve)?;
        Reservation::new(py, reserved)
    }

    /// Give back what was consumed, never below zero.
    #[pyo3(signature = (subject, costs = None, /, **units))]
    fn refund(
        &self,
        py: Python<'_>,
        subject: &str,
        costs: Mapping<'_, '_>,
        units: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Vec<QuotaState>> {
        self.amend(py, subject, &Costs::of(costs, units)?, blocking::Quota::refund)
    }

    /// Lower levels, such as storage, that never reset.
    #[pyo3(signature = (subject, costs = None, /, **units))]
    fn give_back(
        &self,
        py: Python<'_>,
        subject: &str,
        costs: Mapping<'_, '_>,
        units: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Vec<QuotaState>> {
        self.amend(py, subject, &Costs::of(costs, units)?, blocking::Quota::give_back)
    }

    /// Grant units on top of the plan's limits, in the present periods only.
    #[pyo3(signature = (subject, costs = None, /, **units))]
    fn grant(
        &self,
        py: Python<'_>,
        subject: &str,
        costs: Mapping<'_, '_>,
        units: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Vec<QuotaState>> {
        self.amend(py, subject, &Costs::of(costs, units)?, blocking::Quota::grant)
    }

    /// Forget what was used of a metric in the present periods.
    #[pyo3(signature = (subject, metric, /))]
    fn reset_usage(&self, py: Python<'_>, subject: &str, metric: &str) -> PyResult<Vec<QuotaState>> {
        self.with(py, |quota| quota.reset_usage(subject, metric)).map(QuotaState::all)
    }

    /// Every quota of a subject, its plan and its state.
    #[pyo3(signature = (subject, /))]
    fn usage(&self, py: Python<'_>, subject: &str) -> PyResult<Usage> {
        Ok(Usage { inner: self.with(py, |quota| quota.usage(subject))? })
    }

    /// What a subject's plan has of a feature; None where it has nothing of it.
    #[pyo3(signature = (subject, name, /))]
    fn feature<'py>(&self, py: Python<'py>, subject: &str, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        let value = self.with(py, |quota| quota.feature(subject, name))?;
        value.map(|value| value_of(py, value)).transpose()
    }

    /// Whether a subject's plan has a feature, or as much of it as value.
    #[pyo3(signature = (subject, name, value = None, /))]
    fn require(
        &self,
        py: Python<'_>,
        subject: &str,
        name: &str,
        value: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Decision> {
        let value = value.map(|value| feature_value(name, value)).transpose()?;
        let require = |quota: &blocking::Quota| match value {
            Some(value) => quota.require_value(subject, name, value),
            None => quota.require(subject, name),
        };
        Ok(Decision { inner: self.with(py, require)? })
    }

    /// Charge and return what is owed and leased. Afterwards every verb raises ClosedError.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let open = py.detach(|| self.open.write().unwrap_or_else(PoisonError::into_inner).take());
        match open {
            Some(open) => py.detach(|| open.close()).map_err(raise),
            None => Ok(()),
        }
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> &'static str {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        if open.is_some() { "<Quota>" } else { "<Quota, closed>" }
    }
}

/// A time span: a `timedelta`, or a number of seconds.
fn duration(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds = || value.extract::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let span = value.extract::<Duration>().ok().or_else(seconds);
    let found = value.repr()?;
    span.ok_or_else(|| {
        InvalidArgumentError::new_err(format!(
            "argument `{argument}`: found {found}, expected a timedelta or a number of seconds, from 0"
        ))
    })
}

fn value_of<'py>(py: Python<'py>, value: FeatureValue) -> PyResult<Bound<'py, PyAny>> {
    match value {
        FeatureValue::Switch(on) => Ok(on.into_pyobject(py)?.to_owned().into_any()),
        FeatureValue::Ceiling(most) => Ok(most.into_pyobject(py)?.into_any()),
        FeatureValue::Text(text) => Ok(text.into_pyobject(py)?.into_any()),
    }
}

fn feature_value(name: &str, value: &Bound<'_, PyAny>) -> PyResult<FeatureValue> {
    if let Ok(on) = value.extract::<bool>() {
        return Ok(FeatureValue::Switch(on));
    }
    if let Ok(most) = value.extract::<u64>() {
        return Ok(FeatureValue::Ceiling(most));
    }
    if let Ok(text) = value.extract::<String>() {
        return Ok(FeatureValue::Text(text));
    }
    let found = value.repr()?;
    Err(InvalidArgumentError::new_err(format!(
        "argument `{name}`: found {found}, expected True or False, a whole number from 0, or a text"
    )))
}
