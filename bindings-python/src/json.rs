//! What JSON can say, as Python's own values and back.

use pyo3::prelude::*;
use pythonize::{depythonize, pythonize};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::argument::refused_value;

/// A value in dictionaries, lists, texts and numbers; times are texts.
pub(crate) fn to_python<'py>(py: Python<'py>, value: &impl Serialize) -> PyResult<Bound<'py, PyAny>> {
    Ok(pythonize(py, value)?)
}

/// The value that an argument says.
pub(crate) fn from_python<T: DeserializeOwned>(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<T> {
    depythonize(value).map_err(|error| refused_value(argument, value, &error.to_string()))
}
