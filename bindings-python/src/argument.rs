//! Arguments: from what a caller gives to what the core takes. How large a number may be, the core says.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyMapping, PyString};
use quotum::rate::RateKey;
use quotum::{FeatureValue, UNITS_MAX};
use smallvec::SmallVec;

use crate::error::InvalidArgumentError;

/// Costs: `q.consume("user-42", searches=1)`, or a mapping where a metric is no identifier.
pub(crate) struct Costs<'py>(SmallVec<[(Bound<'py, PyString>, u64); 4]>);

impl<'py> Costs<'py> {
    /// Those of a mapping and of keywords, which must not name the same metric.
    pub(crate) fn of(mapping: Option<&Bound<'py, PyMapping>>, keywords: Option<&Bound<'py, PyDict>>) -> PyResult<Self> {
        let mut costs: SmallVec<[(Bound<'py, PyString>, u64); 4]> = SmallVec::new();
        for pair in mapping.map(|mapping| mapping.items()).transpose()?.iter().flatten() {
            let (metric, value): (Bound<'py, PyAny>, Bound<'py, PyAny>) = pair.extract()?;
            let metric = name("costs", &metric)?;
            let units = units(&metric, &value)?;
            costs.push((metric, units));
        }
        for (metric, value) in keywords.into_iter().flatten() {
            let metric = metric.cast_into::<PyString>()?;
            for (known, _) in &costs {
                if known.as_any().eq(&metric)? {
                    return Err(refused(metric.to_str()?, "a keyword and an entry of the mapping", "one of them"));
                }
            }
            let units = units(&metric, &value)?;
            costs.push((metric, units));
        }
        Ok(Self(costs))
    }

    /// As the core takes them.
    pub(crate) fn borrowed(&self) -> PyResult<SmallVec<[(&str, u64); 4]>> {
        self.0.iter().map(|(metric, units)| Ok((metric.to_str()?, *units))).collect()
    }

    /// To be kept while Python goes on.
    pub(crate) fn owned(&self) -> PyResult<Owned> {
        let costs = self.0.iter().map(|(metric, units)| Ok((metric.to_str()?.to_owned(), *units)));
        costs.collect::<PyResult<_>>().map(Owned)
    }
}

/// Costs that borrow nothing of Python's.
pub(crate) struct Owned(Vec<(String, u64)>);

impl Owned {
    pub(crate) fn borrowed(&self) -> SmallVec<[(&str, u64); 4]> {
        self.0.iter().map(|(metric, units)| (metric.as_str(), *units)).collect()
    }
}

/// An error that names the argument, what was found and what was expected.
pub(crate) fn refused(argument: &str, found: &str, expected: &str) -> PyErr {
    InvalidArgumentError::new_err(format!("argument `{argument}`: found {found}, expected {expected}"))
}

/// The same for a value as Python shows it.
pub(crate) fn refused_value(argument: &str, value: &Bound<'_, PyAny>, expected: &str) -> PyErr {
    match value.repr() {
        Ok(found) => refused(argument, &found.to_string_lossy(), expected),
        // A number of thousands of digits has none, say.
        Err(_) => refused(argument, &format!("a value of {}", value.get_type()), expected),
    }
}

fn name<'py>(argument: &str, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    value.cast::<PyString>().cloned().map_err(|_| refused_value(argument, value, "names that are texts"))
}

/// A number of units; an error names the metric. `True` is none, although Python counts with it.
fn units(metric: &Bound<'_, PyString>, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    whole(value).ok_or_else(|| {
        let expected = format!("a whole number from 0 to {UNITS_MAX} units");
        refused_value(&metric.to_string_lossy(), value, &expected)
    })
}

fn whole(value: &Bound<'_, PyAny>) -> Option<u64> {
    if value.is_instance_of::<PyBool>() { None } else { value.extract().ok() }
}

/// A whole number that is no number of units.
pub(crate) fn number(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<usize> {
    let found = whole(value).and_then(|number| usize::try_from(number).ok());
    found.ok_or_else(|| refused_value(argument, value, "a whole number from 0"))
}

/// The same, of any size.
pub(crate) fn large_number(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    whole(value).ok_or_else(|| refused_value(argument, value, "a whole number from 0"))
}

/// Whether or not.
pub(crate) fn switch(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let found = value.cast::<PyBool>().map(|on| on.is_true());
    found.map_err(|_| refused_value(argument, value, "True or False"))
}

/// A time span: a `timedelta`, or a number of seconds.
pub(crate) fn span(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds = || value.extract::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let found = if value.is_instance_of::<PyBool>() { None } else { value.extract().ok().or_else(seconds) };
    found.ok_or_else(|| refused_value(argument, value, "a timedelta or a number of seconds, from 0"))
}

/// A time: a `datetime` that knows its zone.
pub(crate) fn time(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<Timestamp> {
    // Of times in other zones than UTC, only the instant matters.
    let in_utc = || {
        let utc = value.py().import("datetime")?.getattr("timezone")?.getattr("utc")?;
        if value.getattr("tzinfo")?.is_none() {
            return Err(refused_value(argument, value, "a datetime with a zone, such as datetime.now(timezone.utc)"));
        }
        value.call_method1("astimezone", (utc,))?.extract::<Timestamp>()
    };
    in_utc().map_err(|_| refused_value(argument, value, "a datetime with a zone, such as datetime.now(timezone.utc)"))
}

/// A text, kept while Python goes on.
pub(crate) fn text(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    value.extract().map_err(|_| refused_value(argument, value, "a text"))
}

/// A token. One that is no text in UTF-8, which no error must show, is one that is malformed.
pub(crate) fn token_text<'t>(token: &'t Bound<'_, PyString>) -> &'t str {
    token.to_str().unwrap_or("\0")
}

/// The value of a feature.
pub(crate) fn feature_value(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<FeatureValue> {
    if let Ok(on) = value.cast::<PyBool>() {
        return Ok(FeatureValue::Switch(on.is_true()));
    }
    if let Some(most) = whole(value) {
        return Ok(FeatureValue::Ceiling(most));
    }
    let word = value.extract().map(FeatureValue::Text);
    word.map_err(|_| refused_value(argument, value, "True or False, a whole number from 0, or a text"))
}

/// Features that a plan must have, and what of them: names, pairs of a name and a value, or a mapping of both.
pub(crate) fn features(given: &Bound<'_, PyAny>) -> PyResult<Vec<(String, Option<FeatureValue>)>> {
    const EXPECTED: &str = "names, pairs of a name and a value, or a mapping of both";
    let pair = |name: &Bound<'_, PyAny>, value: Bound<'_, PyAny>| {
        let name = text("features", name)?;
        let value = if value.is_none() { None } else { Some(feature_value(&name, &value)?) };
        Ok((name, value))
    };
    if let Ok(mapping) = given.cast::<PyMapping>() {
        return mapping
            .items()?
            .iter()
            .map(|item| {
                let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
                pair(&name, value)
            })
            .collect();
    }
    if given.is_instance_of::<PyString>() {
        return Err(refused_value("features", given, "a list of names"));
    }
    let one = |feature: Bound<'_, PyAny>| match feature.extract::<String>() {
        Ok(name) => Ok((name, None)),
        Err(_) => {
            let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) =
                feature.extract().map_err(|_| refused_value("features", &feature, EXPECTED))?;
            pair(&name, value)
        }
    };
    given.try_iter().map_err(|_| refused_value("features", given, EXPECTED))?.map(|feature| one(feature?)).collect()
}

/// The key of a rate: any text, or an address from `ipaddress`.
pub(crate) enum Key<'py> {
    Text(Bound<'py, PyString>),
    Address(IpAddr),
}

impl<'py> Key<'py> {
    pub(crate) fn of(value: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(text) = value.cast::<PyString>() {
            return Ok(Self::Text(text.clone()));
        }
        let is_address = value.hasattr("packed")?;
        let address = if is_address { value.extract().ok() } else { None };
        address.map(Self::Address).ok_or_else(|| refused_value("key", value, "a text, or an address of `ipaddress`"))
    }

    pub(crate) fn borrowed(&self) -> PyResult<RateKey<'_>> {
        match self {
            Self::Text(text) => Ok(RateKey::from(text.to_str()?)),
            Self::Address(address) => Ok((*address).into()),
        }
    }

    pub(crate) fn owned(&self) -> PyResult<OwnedKey> {
        match self {
            Self::Text(text) => Ok(OwnedKey::Text(text.to_str()?.to_owned())),
            Self::Address(address) => Ok(OwnedKey::Address(*address)),
        }
    }
}

/// The same, borrowing nothing of Python's.
pub(crate) enum OwnedKey {
    Text(String),
    Address(IpAddr),
}

impl OwnedKey {
    pub(crate) fn borrowed(&self) -> RateKey<'_> {
        match self {
            Self::Text(text) => RateKey::from(text.as_str()),
            Self::Address(address) => (*address).into(),
        }
    }
}
