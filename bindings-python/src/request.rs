//! Requests: what a call asks the core for.

use pyo3::prelude::*;
use quotum::{FeatureValue, Request};

use crate::argument::{Costs, Key, feature_value, features, large_number, refused};

/// Who makes a request: one of the two, or nobody who is known.
pub(crate) fn by<'r>(subject: Option<&'r str>, token: Option<&'r str>) -> PyResult<Request<'r>> {
    match (subject, token) {
        (Some(subject), None) => Ok(Request::by(subject)),
        (None, Some(token)) => Ok(Request::with_token(token)),
        (None, None) => Ok(Request::by_anyone()),
        (Some(_), Some(_)) => Err(refused("token", "a subject too", "one of them")),
    }
}

/// A request that is about costs, under an idempotency key where there is one.
pub(crate) fn charging<'r>(
    by: Request<'r>,
    costs: &'r [(&'r str, u64)],
    idempotency_key: Option<&'r str>,
) -> Request<'r> {
    let request = by.costs(costs);
    match idempotency_key {
        Some(key) => request.once(key),
        None => request,
    }
}

/// A request that is about a feature, or as much of it as value.
pub(crate) fn requiring<'r>(by: Request<'r>, name: &'r str, value: Option<&Bound<'_, PyAny>>) -> PyResult<Request<'r>> {
    Ok(match value {
        Some(value) => by.feature_value(name, feature_value(name, value)?),
        None => by.feature(name),
    })
}

/// What a request asks for, besides who makes it.
pub(crate) struct Asks<'a, 'py> {
    pub(crate) costs: Costs<'py>,
    pub(crate) rate: Option<&'a str>,
    pub(crate) rate_key: Option<&'a Bound<'py, PyAny>>,
    pub(crate) rate_cost: Option<&'a Bound<'py, PyAny>>,
    pub(crate) features: Option<&'a Bound<'py, PyAny>>,
    pub(crate) idempotency_key: Option<&'a str>,
}

impl Asks<'_, '_> {
    /// Does something with the whole request.
    pub(crate) fn of<T>(self, by: Request<'_>, act: impl FnOnce(&Request<'_>) -> PyResult<T>) -> PyResult<T> {
        let costs = self.costs.borrowed()?;
        let key = self.rate_key.map(Key::of).transpose()?;
        let key = key.as_ref().map(Key::borrowed).transpose()?;
        let features: Vec<(String, Option<FeatureValue>)> =
            self.features.map(features).transpose()?.unwrap_or_default();
        let mut request = charging(by, &costs, self.idempotency_key);
        let rate_cost = self.rate_cost.map(|cost| large_number("rate_cost", cost)).transpose()?;
        request = match (self.rate, key, rate_cost) {
            (Some(scope), Some(key), cost) => request.rate_for(scope, key, cost.unwrap_or(1)),
            (Some(scope), None, None) => request.rate(scope),
            (Some(_), None, Some(_)) => {
                return Err(refused("rate_cost", "no rate_key beside it", "the key that it is for"));
            }
            (None, Some(_), _) | (None, _, Some(_)) => {
                return Err(refused("rate", "nothing", "the scope that rate_key and rate_cost are for"));
            }
            (None, None, None) => request,
        };
        for (name, value) in &features {
            request = match value {
                Some(value) => request.feature_value(name, value.clone()),
                None => request.feature(name),
            };
        }
        act(&request)
    }
}
