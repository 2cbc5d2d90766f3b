//! What to tell HTTP clients of decisions and errors. The core says it all.

use std::net::IpAddr;

use jiff::Timestamp;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMapping};
use quotum::Reason;
use quotum::http::{self, Fields, TrustedHops};

use crate::argument::{number, refused_value, time};
use crate::decision::Decision;
use crate::error::{DeniedError, cause_of, raise};
use crate::json::from_python;
use crate::subscription::parsed;

/// How decisions become responses: a status for each reason, and which header fields are sent.
///
/// `statuses` are those that are not the usual ones, such as {"quota_exhausted": 402}, from 400 to 599. `fields` are
/// "standard", which is usual, "legacy", "both" or "none". Raises InvalidArgumentError for others.
#[pyclass(frozen, eq, module = "quotum.http")]
#[derive(PartialEq)]
pub(crate) struct Mapping {
    inner: http::Mapping,
}

#[pymethods]
impl Mapping {
    /// `statuses` are those that are not the usual ones, such as {"quota_exhausted": 402}. `fields` are "standard",
    /// "legacy", "both" or "none".
    #[new]
    #[pyo3(signature = (*, statuses = None, fields = None))]
    fn make(
        py: Python<'_>,
        statuses: Option<&Bound<'_, PyMapping>>,
        fields: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let mut inner = http::Mapping::new();
        for item in statuses.map(|statuses| statuses.items()).transpose()?.iter().flatten() {
            let (reason, status): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
            let reason: Reason = from_python("statuses", &reason)?;
            // What is no status is out of the bounds that the core tells.
            let status = u16::try_from(number("statuses", &status)?).unwrap_or(u16::MAX);
            inner = inner.status(reason, status).map_err(|error| raise(py, error))?;
        }
        if let Some(fields) = fields {
            inner = inner.fields(parsed::<Fields>("fields", fields)?);
        }
        Ok(Self { inner })
    }

    /// What to tell the client about a decision that was made `now`, which is the time where it is not given.
    #[pyo3(signature = (decision, now = None, /))]
    fn answer(&self, decision: &Decision, now: Option<&Bound<'_, PyAny>>) -> PyResult<HttpAnswer> {
        Ok(self.inner.answer(&decision.inner, time_or_now(now)?).into())
    }

    /// What to tell the client where an exception kept the engine from deciding. It is never to be let pass. An exception
    /// that is not this library's is the backend's own: it is raised again.
    #[pyo3(signature = (error, now = None, /))]
    fn answer_error(&self, error: &Bound<'_, PyAny>, now: Option<&Bound<'_, PyAny>>) -> PyResult<HttpAnswer> {
        let now = time_or_now(now)?;
        if let Some(denied) = denied(error) {
            return Ok(self.inner.answer(&denied.get().inner, now).into());
        }
        match cause_of(error) {
            Some(cause) => Ok(self.inner.answer_error(&cause, now).into()),
            None => Err(PyErr::from_value(error.clone())),
        }
    }
}

/// The decision that an exception was raised for, if it was.
fn denied(exception: &Bound<'_, PyAny>) -> Option<Py<Decision>> {
    if !PyErr::from_value(exception.clone()).is_instance_of::<DeniedError>(exception.py()) {
        return None;
    }
    exception.getattr("decision").ok()?.cast_into().ok().map(Bound::unbind)
}

fn time_or_now(now: Option<&Bound<'_, PyAny>>) -> PyResult<Timestamp> {
    now.map_or_else(|| Ok(Timestamp::now()), |now| time("now", now))
}

/// What to tell the client: header fields, and in place of what was asked for, where it is denied, a status and a body.
#[pyclass(frozen, eq, get_all, module = "quotum.http")]
#[derive(PartialEq)]
pub(crate) struct HttpAnswer {
    /// Header fields: names in lower case, and values.
    fields: Vec<(&'static str, String)>,
    /// The status of a denial; None where the request is allowed.
    status: Option<u16>,
    /// What the body of a denial is: "application/problem+json".
    content_type: Option<&'static str>,
    /// The body of a denial: a problem document.
    body: Option<String>,
}

impl From<http::Answer> for HttpAnswer {
    fn from(answer: http::Answer) -> Self {
        let denied = answer.denied;
        Self {
            fields: answer.fields,
            status: denied.as_ref().map(|denied| denied.status),
            content_type: denied.as_ref().map(|denied| denied.content_type),
            body: denied.map(|denied| denied.body),
        }
    }
}

#[pymethods]
impl HttpAnswer {
    fn __repr__(&self) -> String {
        match self.status {
            Some(status) => format!("<Answer {status}>"),
            None => "<Answer to an allowed request>".to_owned(),
        }
    }
}

/// The token of `Authorization: Bearer`, or else of `X-API-Key`, by the values of both fields; None without one.
#[pyfunction]
#[pyo3(signature = (authorization, api_key, /))]
pub(crate) fn token_of(authorization: Vec<Bound<'_, PyBytes>>, api_key: Vec<Bound<'_, PyBytes>>) -> Option<String> {
    let values_of = |name: &str| {
        let values = if name == "authorization" { &authorization } else { &api_key };
        values.iter().map(|value| value.as_bytes())
    };
    http::token_of(values_of).map(str::to_owned)
}

/// The address that a request comes from, behind so many trusted proxies, by the lines of `X-Forwarded-For`.
///
/// Raises InvalidArgumentError for a peer that is no address.
#[pyfunction]
#[pyo3(signature = (trusted_hops, peer, forwarded_for, /))]
pub(crate) fn client_address(
    trusted_hops: usize,
    peer: &Bound<'_, PyAny>,
    forwarded_for: Vec<Bound<'_, PyBytes>>,
) -> PyResult<IpAddr> {
    let peer: IpAddr = peer.extract().map_err(|_| refused_value("peer", peer, "an address"))?;
    Ok(TrustedHops::new(trusted_hops).address(peer, forwarded_for.iter().map(|line| line.as_bytes())))
}
