//! A clock that stands still until it is told to move.

use std::sync::Arc;

use jiff::Timestamp;
use pyo3::prelude::*;
use quotum::Clock;

use crate::argument::{span, time};

/// A clock for tests: it stands still until it is told to move. It is made with the time that it shows, a datetime with
/// a zone.
#[pyclass(frozen, module = "quotum")]
pub(crate) struct ManualClock {
    pub(crate) inner: Arc<quotum::ManualClock>,
}

#[pymethods]
impl ManualClock {
    #[new]
    #[pyo3(signature = (now, /))]
    fn make(now: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self { inner: Arc::new(quotum::ManualClock::at(time("now", now)?)) })
    }

    /// What the clock shows, in UTC.
    #[getter]
    fn now(&self) -> Timestamp {
        self.inner.wall()
    }

    /// Let time pass: a timedelta, or seconds. Raises InvalidArgumentError for less than 0.
    #[pyo3(signature = (by, /))]
    fn advance(&self, by: &Bound<'_, PyAny>) -> PyResult<()> {
        self.inner.advance(span("by", by)?);
        Ok(())
    }

    /// Set the clock, forwards or back, as an operator would: no time passes. Raises InvalidArgumentError for a
    /// datetime without a zone.
    #[pyo3(signature = (now, /))]
    fn set_wall(&self, now: &Bound<'_, PyAny>) -> PyResult<()> {
        self.inner.set_wall(time("now", now)?);
        Ok(())
    }

    fn __repr__(&self) -> String {
        format!("<ManualClock at {}>", self.inner.wall())
    }
}
