//! Costs, as a caller gives them: `q.consume("user-42", searches=1)`, or a mapping where a metric is no identifier.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyInt, PyMapping};
use quotum::UNITS_MAX;

use crate::error::InvalidArgumentError;

/// Units by metric.
pub(crate) struct Costs(Vec<(String, u64)>);

impl Costs {
    /// Those of a mapping and of keywords, which must not name the same metric.
    pub(crate) fn of(mapping: Option<&Bound<'_, PyMapping>>, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut costs = Vec::new();
        for pair in mapping.map(|mapping| mapping.items()).transpose()?.iter().flatten() {
            let (metric, value): (String, Bound<'_, PyAny>) = pair.extract()?;
            let amount = units(&metric, &value)?;
            costs.push((metric, amount));
        }
        for (metric, value) in keywords.into_iter().flatten() {
            let metric: String = metric.extract()?;
            if costs.iter().any(|(known, _)| *known == metric) {
                let text = format!("argument `{metric}`: found a keyword and an entry of the mapping, expected one");
                return Err(InvalidArgumentError::new_err(text));
            }
            let amount = units(&metric, &value)?;
            costs.push((metric, amount));
        }
        Ok(Self(costs))
    }

    /// As the core takes them.
    pub(crate) fn borrowed(&self) -> Vec<(&str, u64)> {
        self.0.iter().map(|(metric, amount)| (metric.as_str(), *amount)).collect()
    }
}

/// A number of units; an error names the metric. How many there may be, the core says.
fn units(metric: &str, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    if value.is_instance_of::<PyInt>()
        && !value.is_instance_of::<PyBool>()
        && let Ok(units) = value.extract()
    {
        return Ok(units);
    }
    let found = value.repr()?;
    Err(InvalidArgumentError::new_err(format!(
        "argument `{metric}`: found {found}, expected a whole number from 0 to {UNITS_MAX} units"
    )))
}
