//! Subscriptions: which plan a subject is on.

use std::collections::BTreeMap;
use std::str::FromStr;

use jiff::Timestamp;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyString};
use quotum::store::{Census as Count, Subscriber as Listed};
use quotum::{Overrides, QuotaLimit, Subscription as Kept};

use crate::answer::Told;
use crate::argument::{feature_value, refused, refused_value, text, time};
use crate::error::raise;
use crate::feature::Feature;
use crate::json::to_python;

/// Which plan a subject is on, since when and until when.
///
/// `since` is when it came into its state: now, where it is not given. `features` and `quotas` are what it has that its
/// plan does not say, such as {"searches": ["5/day", "100/month"]}. Times are datetimes with a zone. Raises
/// InvalidArgumentError for a field that no subscription can have.
#[pyclass(frozen, eq, module = "quotum")]
#[derive(PartialEq)]
pub(crate) struct Subscription {
    pub(crate) inner: Kept,
}

#[pymethods]
impl Subscription {
    /// `since` is when it came into its state: now, where it is not given. `features` and `quotas` are what it has that
    /// its plan does not say, such as {"searches": ["5/day", "100/month"]}.
    #[new]
    #[pyo3(signature = (plan, **fields))]
    fn make(plan: String, fields: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        Ok(Self { inner: subscription(plan, fields, Timestamp::now())? })
    }

    /// The id of the plan.
    #[getter]
    fn plan(&self) -> &str {
        &self.inner.plan
    }

    /// The state it is in: "trialing", "active", "past_due", "paused" or "canceled".
    #[getter]
    const fn status(&self) -> &'static str {
        self.inner.status.as_str()
    }

    /// When it came into that state, in UTC.
    #[getter]
    const fn since(&self) -> Timestamp {
        self.inner.since
    }

    /// When its trial ends, in UTC.
    #[getter]
    const fn trial_ends_at(&self) -> Option<Timestamp> {
        self.inner.trial_ends_at
    }

    /// When what was paid for ends, in UTC.
    #[getter]
    const fn expires_at(&self) -> Option<Timestamp> {
        self.inner.expires_at
    }

    /// From when billing periods are counted, in UTC.
    #[getter]
    const fn anchor(&self) -> Option<Timestamp> {
        self.inner.anchor
    }

    /// The IANA zone of its calendar periods, where it is not that of the plans file.
    #[getter]
    fn zone(&self) -> Option<&str> {
        self.inner.zone.as_deref()
    }

    /// The account it belongs to, such as its team.
    #[getter]
    fn account(&self) -> Option<&str> {
        self.inner.account.as_deref()
    }

    /// Features that it has in place of its plan's.
    #[getter]
    fn features(&self) -> BTreeMap<&str, Feature> {
        self.inner.overrides.features.iter().map(|(name, value)| (name.as_str(), Feature(value.clone()))).collect()
    }

    /// Limits that it has in place of its plan's, by metric.
    #[getter]
    fn quotas(&self) -> BTreeMap<&str, Vec<String>> {
        let quotas = self.inner.overrides.quotas.iter();
        quotas.map(|(metric, limits)| (metric.as_str(), limits.iter().map(ToString::to_string).collect())).collect()
    }

    /// The same as JSON can say it, with times as texts.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.inner)
    }

    fn __repr__(&self) -> String {
        format!("<Subscription {} to {}>", self.inner.status, self.inner.plan)
    }
}

impl Subscription {
    /// As a function of the host's says it: a subscription, the id of a plan that it is active on, or None.
    pub(crate) fn hosted(answer: &Bound<'_, PyAny>) -> PyResult<Option<Kept>> {
        if answer.is_none() {
            return Ok(None);
        }
        if let Ok(subscription) = answer.cast::<Self>() {
            return Ok(Some(subscription.get().inner.clone()));
        }
        let plan: String = answer.extract().map_err(|_| {
            refused_value("subscriptions", answer, "a function that returns a Subscription, the id of a plan, or None")
        })?;
        Ok(Some(Kept::active(&plan, Timestamp::UNIX_EPOCH)))
    }
}

/// A subscription by its fields, active since `now` where they do not say otherwise.
pub(crate) fn subscription(plan: String, fields: Option<&Bound<'_, PyDict>>, now: Timestamp) -> PyResult<Kept> {
    let mut subscription = Kept::active(&plan, now);
    let (mut features, mut quotas) = (None, None);
    for (name, value) in fields.into_iter().flatten().filter(|(_, value)| !value.is_none()) {
        let name = name.cast_into::<PyString>()?;
        match name.to_str()? {
            "status" => subscription.status = parsed("status", &value)?,
            "since" => subscription.since = time("since", &value)?,
            "trial_ends_at" => subscription.trial_ends_at = Some(time("trial_ends_at", &value)?),
            "expires_at" => subscription.expires_at = Some(time("expires_at", &value)?),
            "anchor" => subscription.anchor = Some(time("anchor", &value)?),
            "zone" => subscription.zone = Some(text("zone", &value)?),
            "account" => subscription.account = Some(text("account", &value)?),
            "features" => features = Some(mapping("features", &value)?),
            "quotas" => quotas = Some(mapping("quotas", &value)?),
            unknown => {
                let known = "status, since, trial_ends_at, expires_at, anchor, zone, account, features or quotas";
                return Err(refused(unknown, "a field that no subscription has", known));
            }
        }
    }
    subscription.overrides = overrides(features.as_ref(), quotas.as_ref())?;
    Ok(subscription)
}

fn mapping<'py>(argument: &str, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyMapping>> {
    value.cast::<PyMapping>().cloned().map_err(|_| refused_value(argument, value, "a mapping"))
}

/// A word that the core knows.
pub(crate) fn parsed<T: FromStr<Err = quotum::Error>>(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<T> {
    text(argument, value)?.parse().map_err(|error| raise(value.py(), error))
}

/// What one subject has in place of what its plan says.
pub(crate) fn overrides(
    features: Option<&Bound<'_, PyMapping>>,
    quotas: Option<&Bound<'_, PyMapping>>,
) -> PyResult<Overrides> {
    let mut overrides = Overrides::default();
    for item in features.map(|features| features.items()).transpose()?.iter().flatten() {
        let (name, value): (String, Bound<'_, PyAny>) = item.extract()?;
        let value = feature_value(&name, &value)?;
        overrides.features.insert(name, value);
    }
    for item in quotas.map(|quotas| quotas.items()).transpose()?.iter().flatten() {
        let (metric, limits): (String, Bound<'_, PyAny>) = item.extract()?;
        let limits = limits_of(&metric, &limits)?;
        overrides.quotas.insert(metric, limits);
    }
    Ok(overrides)
}

/// One limit or several, as plans write them.
fn limits_of(metric: &str, given: &Bound<'_, PyAny>) -> PyResult<Vec<QuotaLimit>> {
    let texts: Vec<String> = match given.extract::<String>() {
        Ok(one) => vec![one],
        Err(_) => given
            .extract()
            .map_err(|_| refused_value(metric, given, "a limit such as \"50/month\", or a list of them"))?,
    };
    let limit = |text: String| {
        text.parse::<QuotaLimit>()
            .map_err(|error| refused(metric, &error.found.to_string(), &error.expected.to_string()))
    };
    texts.into_iter().map(limit).collect()
}

/// A subject that has a subscription, as a listing shows it.
#[pyclass(frozen, eq, module = "quotum")]
#[derive(PartialEq)]
pub(crate) struct Subscriber {
    inner: Listed,
}

#[pymethods]
impl Subscriber {
    /// The subject.
    #[getter]
    fn subject(&self) -> &str {
        &self.inner.subject
    }

    /// Its subscription.
    #[getter]
    fn subscription(&self) -> Subscription {
        Subscription { inner: self.inner.subscription.clone() }
    }

    /// The same as JSON can say it, with times as texts.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.inner)
    }

    fn __repr__(&self) -> String {
        format!("<Subscriber {} on {}>", self.inner.subject, self.inner.subscription.plan)
    }
}

/// How many subjects have a subscription to a plan in a state.
#[pyclass(frozen, eq, module = "quotum")]
#[derive(PartialEq)]
pub(crate) struct Census {
    inner: Count,
}

#[pymethods]
impl Census {
    /// The plan's id.
    #[getter]
    fn plan(&self) -> &str {
        &self.inner.plan
    }

    /// The state.
    #[getter]
    const fn status(&self) -> &'static str {
        self.inner.status.as_str()
    }

    /// How many subjects.
    #[getter]
    const fn subjects(&self) -> u64 {
        self.inner.subjects
    }

    /// The same as JSON can say it.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.inner)
    }

    fn __repr__(&self) -> String {
        format!("<Census {} {} on {}>", self.inner.subjects, self.inner.status, self.inner.plan)
    }
}

impl Told for Kept {
    fn told(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(Py::new(py, Subscription { inner: self })?.into_any())
    }
}

impl Told for Option<Kept> {
    fn told(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.map_or_else(|| Ok(py.None()), |kept| kept.told(py))
    }
}

impl Told for Vec<Listed> {
    fn told(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let listed: Vec<Subscriber> = self.into_iter().map(|inner| Subscriber { inner }).collect();
        Ok(listed.into_pyobject(py)?.unbind())
    }
}

impl Told for Vec<Count> {
    fn told(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let counts: Vec<Census> = self.into_iter().map(|inner| Census { inner }).collect();
        Ok(counts.into_pyobject(py)?.unbind())
    }
}
