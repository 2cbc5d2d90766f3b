//! Plans: what there is to subscribe to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures_channel::oneshot;
use jiff::Timestamp;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use quotum::store::StoreError;
use quotum::{CatalogStatus as Loaded, Error, PlansError, PlansOrigin, QuotaLimit, Retry};

use crate::answer::Told;
use crate::argument::refused_value;
use crate::error::raise;
use crate::feature::Feature;
use crate::json::to_python;

/// One plan: what a subject on it may do, and how it is shown and sold.
#[pyclass(frozen, eq, module = "quotum")]
#[derive(PartialEq)]
pub(crate) struct Plan {
    inner: Arc<quotum::Plan>,
}

fn as_texts(limits: &BTreeMap<Arc<str>, Vec<QuotaLimit>>) -> BTreeMap<&str, Vec<String>> {
    limits.iter().map(|(metric, limits)| (&**metric, limits.iter().map(ToString::to_string).collect())).collect()
}

#[pymethods]
impl Plan {
    /// The name by which subscriptions refer to it.
    #[getter]
    fn id(&self) -> &str {
        &self.inner.id
    }

    /// The name shown to people; the id where the file gives none.
    #[getter]
    fn name(&self) -> &str {
        &self.inner.name
    }

    /// The name in other languages, by language tag.
    #[getter]
    fn names(&self) -> BTreeMap<String, String> {
        self.inner.names.clone()
    }

    /// A sentence for the price list.
    #[getter]
    fn description(&self) -> Option<&str> {
        self.inner.description.as_deref()
    }

    /// Its place in lists and in upgrade suggestions, cheapest first.
    #[getter]
    fn rank(&self) -> u32 {
        self.inner.rank
    }

    /// Whether the public listing and upgrade suggestions show it.
    #[getter]
    fn visible(&self) -> bool {
        self.inner.visible
    }

    /// Which edition of the plan this is, for whoever keeps several.
    #[getter]
    fn version(&self) -> u32 {
        self.inner.version
    }

    /// How many days a trial of it lasts; 0 where there is none.
    #[getter]
    fn trial_days(&self) -> u32 {
        self.inner.trial_days
    }

    /// How many days after its end a subscription still grants; the file's own setting where None.
    #[getter]
    fn grace_days(&self) -> Option<u32> {
        self.inner.grace_days
    }

    /// What it costs, by billing interval, such as {"monthly": "BRL 297.00"}.
    #[getter]
    fn prices(&self) -> BTreeMap<&str, String> {
        self.inner.prices.iter().map(|(interval, price)| (interval.as_str(), price.to_string())).collect()
    }

    /// Its Stripe price ids, by billing interval.
    #[getter]
    fn stripe_prices(&self) -> BTreeMap<String, String> {
        self.inner.stripe_prices.clone()
    }

    /// What it can do, by name.
    #[getter]
    fn features(&self) -> BTreeMap<&str, Feature> {
        self.inner.features.iter().map(|(name, value)| (&**name, Feature(value.clone()))).collect()
    }

    /// How much it may use, by metric, such as {"searches": ["5/day", "50/month"]}.
    #[getter]
    fn quotas(&self) -> BTreeMap<&str, Vec<String>> {
        as_texts(&self.inner.quotas)
    }

    /// How much each member of an account on this plan may use of what the account has, by metric.
    #[getter]
    fn member_quotas(&self) -> BTreeMap<&str, Vec<String>> {
        as_texts(&self.inner.member_quotas)
    }

    /// How many times over each of its rates holds.
    #[getter]
    fn rate_multiplier(&self) -> u32 {
        self.inner.rate_multiplier
    }

    /// Everything that the plans file says of it, as JSON can say it.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &*self.inner)
    }

    fn __repr__(&self) -> String {
        format!("<Plan {}>", self.inner.id)
    }
}

/// All plans of a plans file, checked and ready to decide by.
#[pyclass(frozen, eq, module = "quotum")]
#[derive(PartialEq)]
pub(crate) struct Plans {
    pub(crate) inner: quotum::Plans,
}

#[pymethods]
impl Plans {
    /// Read a plans file, TOML or JSON by its ending. Raises PlansError with every problem's line and key.
    #[staticmethod]
    #[pyo3(signature = (path, /))]
    fn from_file(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        made(py, quotum::Plans::read(path))
    }

    /// Read plans from a text in TOML. Raises PlansError.
    #[staticmethod]
    #[pyo3(signature = (text, /))]
    fn from_toml(py: Python<'_>, text: &str) -> PyResult<Self> {
        made(py, quotum::Plans::from_toml(text))
    }

    /// Read plans from a text in JSON. Raises PlansError.
    #[staticmethod]
    #[pyo3(signature = (text, /))]
    fn from_json(py: Python<'_>, text: &str) -> PyResult<Self> {
        made(py, quotum::Plans::from_json(text))
    }

    /// Take plans from a dictionary of the plans file's schema. Raises PlansError.
    #[staticmethod]
    #[pyo3(signature = (plans, /))]
    fn from_dict(py: Python<'_>, plans: &Bound<'_, PyDict>) -> PyResult<Self> {
        let text: String = py.import("json")?.call_method1("dumps", (plans,))?.extract()?;
        Self::from_json(py, &text)
    }

    /// All plans by rank, hidden ones too.
    #[getter]
    fn plans(&self) -> Vec<Plan> {
        self.inner.iter().map(|plan| Plan { inner: Arc::clone(plan) }).collect()
    }

    /// The plan of a subject that has no subscription.
    #[getter]
    fn default_plan(&self) -> Plan {
        Plan { inner: Arc::clone(self.inner.default_plan()) }
    }

    /// The plan of this id. Raises UnknownNameError, which lists the plans there are.
    #[pyo3(signature = (id, /))]
    fn get(&self, py: Python<'_>, id: &str) -> PyResult<Plan> {
        let found = self.inner.get(id).map_err(|error| raise(py, error))?;
        Ok(Plan { inner: Arc::clone(found) })
    }

    /// The plans file, as JSON, that reads back as these plans.
    fn to_json(&self) -> String {
        self.inner.to_json()
    }

    fn __repr__(&self) -> String {
        let ids: Vec<&str> = self.inner.iter().map(|plan| &*plan.id).collect();
        format!("<Plans {}>", ids.join(", "))
    }
}

impl Plans {
    /// Plans as an argument: a value of this class, a plans file's dictionary, or its path.
    pub(crate) fn of(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<quotum::Plans> {
        match Source::of(argument, value)? {
            Source::Given(plans) => Ok(*plans),
            Source::At(path) => Ok(Self::from_file(value.py(), path)?.inner),
        }
    }
}

/// Plans, or the file that they are to be read from.
pub(crate) enum Source {
    Given(Box<quotum::Plans>),
    At(PathBuf),
}

impl Source {
    pub(crate) fn of(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(plans) = value.cast::<Plans>() {
            return Ok(Self::Given(Box::new(plans.get().inner.clone())));
        }
        if let Ok(plans) = value.cast::<PyDict>() {
            return Ok(Self::Given(Box::new(Plans::from_dict(value.py(), plans)?.inner)));
        }
        let path = value.extract().map(Self::At);
        path.map_err(|_| refused_value(argument, value, "a path, a dictionary, or quotum.Plans"))
    }

    /// The plans. A file is read on a thread of its own: no event loop is to wait for a disk.
    pub(crate) async fn read(self) -> Result<quotum::Plans, Error> {
        let path = match self {
            Self::Given(plans) => return Ok(*plans),
            Self::At(path) => path,
        };
        let failed = |detail: String| StoreError::Failed { detail, retry: Retry::Safe };
        let (told, read) = oneshot::channel();
        std::thread::Builder::new()
            .name("quotum-plans".to_owned())
            .spawn(move || drop(told.send(quotum::Plans::read(path))))
            .map_err(|error| failed(format!("no thread could be started to read the plans: {error}")))?;
        Ok(read.await.map_err(|_| failed("the thread that read the plans has died".to_owned()))??)
    }
}

fn made(py: Python<'_>, plans: Result<quotum::Plans, PlansError>) -> PyResult<Plans> {
    plans.map(|inner| Plans { inner }).map_err(|error| raise(py, Error::from(error)))
}

/// Where the plans in force came from, and whether the last refresh failed.
#[pyclass(frozen, eq, module = "quotum")]
#[derive(PartialEq)]
pub(crate) struct CatalogStatus {
    pub(crate) inner: Loaded,
}

#[pymethods]
impl CatalogStatus {
    /// "store", where `set_plans` put them or the host keeps them, or "file".
    #[getter]
    const fn origin(&self) -> &'static str {
        match self.inner.origin {
            PlansOrigin::Store => "store",
            PlansOrigin::File => "file",
        }
    }

    /// Their version in the store; 0 for plans from a file.
    #[getter]
    const fn version(&self) -> u64 {
        self.inner.version
    }

    /// When they were last found to be current, in UTC.
    #[getter]
    const fn loaded_at(&self) -> Timestamp {
        self.inner.loaded_at
    }

    /// Why the last refresh failed, if it did: the plans in force are older than they should be.
    #[getter]
    fn last_error(&self) -> Option<&str> {
        self.inner.last_error.as_deref()
    }

    /// The same as JSON can say it, with times as texts.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.inner)
    }

    fn __repr__(&self) -> String {
        format!("<CatalogStatus of plans from the {}, version {}>", self.origin(), self.inner.version)
    }
}

impl Told for Vec<Arc<quotum::Plan>> {
    fn told(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let plans: Vec<Plan> = self.into_iter().map(|inner| Plan { inner }).collect();
        Ok(plans.into_pyobject(py)?.unbind())
    }
}
