//! Identities: whom a token speaks for.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pyo3::prelude::*;
use quotum::token::{Authenticated, Identity as Known};

use crate::answer::Told;
use crate::argument::time;
use crate::json::to_python;

/// Whom a token speaks for, as a verifier has found. Attributes are what else the host wants to know of the caller; not
/// the token itself, because they are printed.
#[pyclass(frozen, eq, module = "quotum")]
#[derive(PartialEq)]
pub(crate) struct Identity {
    pub(crate) inner: Known,
}

impl Identity {
    pub(crate) const fn new(inner: Known) -> Self {
        Self { inner }
    }
}

#[pymethods]
impl Identity {
    #[new]
    #[pyo3(signature = (subject, *, expires_at = None, attributes = None))]
    fn make(
        subject: &str,
        expires_at: Option<&Bound<'_, PyAny>>,
        attributes: Option<BTreeMap<String, String>>,
    ) -> PyResult<Self> {
        let mut inner = Known::of(subject);
        inner.expires_at = expires_at.map(|at| time("expires_at", at)).transpose()?;
        inner.attributes = attributes.unwrap_or_default();
        Ok(Self { inner })
    }

    /// Who is metered.
    #[getter]
    fn subject(&self) -> &str {
        &self.inner.subject
    }

    /// When the token ceases to be valid, in UTC, if it does by itself.
    #[getter]
    const fn expires_at(&self) -> Option<Timestamp> {
        self.inner.expires_at
    }

    /// What else the host has said of the caller.
    #[getter]
    fn attributes(&self) -> BTreeMap<&str, &str> {
        self.inner.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// The same as JSON can say it, with times as texts.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.inner)
    }

    fn __repr__(&self) -> String {
        format!("<Identity of {}>", self.inner.subject)
    }
}

impl Told for Authenticated {
    fn told(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let identity = self.identity().map(|known| Identity::new((*known).clone()));
        Ok(identity.into_pyobject(py)?.unbind())
    }
}
