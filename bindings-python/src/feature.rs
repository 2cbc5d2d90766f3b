//! Values of features: a bool, an int or a str.

use pyo3::prelude::*;
use quotum::FeatureValue;

use crate::answer::Told;

/// As Python has it.
pub(crate) struct Feature(pub(crate) FeatureValue);

impl<'py> IntoPyObject<'py> for Feature {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.0 {
            FeatureValue::Switch(on) => Ok(on.into_pyobject(py)?.to_owned().into_any()),
            FeatureValue::Ceiling(most) => Ok(most.into_pyobject(py)?.into_any()),
            FeatureValue::Text(word) => Ok(word.into_pyobject(py)?.into_any()),
        }
    }
}

impl Told for Option<FeatureValue> {
    fn told(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.map(Feature).into_pyobject(py)?.unbind())
    }
}
