//! The Node addon: converts, calls the core on the thread pool, converts back.

use std::collections::HashMap;

use napi::bindgen_prelude::{AsyncTask, Error, Result, Status};
use napi::{Env, Task};
use napi_derive::napi;
use quotum::{UNITS_MAX, blocking};

fn throw(error: quotum::Error) -> Error {
    Error::new(Status::GenericFailure, error.to_string())
}

/// The engine: asks a store, decides by the plans.
#[napi]
pub struct Engine {
    inner: blocking::Quota,
}

/// Opens the store that a URL names, such as `sqlite:quota.db` or `memory:`, with a plans file.
#[napi]
pub fn open(url: String, plans: String) -> Result<Engine> {
    let inner = blocking::Quota::builder().plans_file(plans).open(&url).map_err(throw)?;
    Ok(Engine { inner })
}

/// Charges every cost, or none.
#[napi]
pub fn consume(engine: &Engine, subject: String, costs: HashMap<String, f64>) -> Result<AsyncTask<Consume>> {
    let costs = costs.into_iter().map(|(metric, amount)| Ok((units(&metric, amount)?, metric)));
    let costs: Result<Vec<(u64, String)>> = costs.collect();
    Ok(AsyncTask::new(Consume { quota: engine.inner.clone(), subject, costs: costs? }))
}

/// A JavaScript number as units: a whole one that it holds exactly.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "checked")]
fn units(metric: &str, amount: f64) -> Result<u64> {
    if amount.fract() == 0.0 && (0.0..=UNITS_MAX as f64).contains(&amount) {
        return Ok(amount as u64);
    }
    let message = format!("cost of {metric:?}: found {amount}, expected a whole number from 1 to {UNITS_MAX}");
    Err(Error::new(Status::InvalidArg, message))
}

/// Allowed, or denied and why.
#[napi(object)]
pub struct Decision {
    /// Whether the request may go on.
    pub allowed: bool,
    /// The id of the plan that decided, if one did.
    pub plan: Option<String>,
    /// Why the request is denied, such as `quota_exhausted`.
    pub reason: Option<String>,
    /// The cheapest plan by rank that would have allowed the request.
    pub upgrade_to: Option<String>,
}

/// A `consume` on its way through the thread pool.
pub struct Consume {
    quota: blocking::Quota,
    subject: String,
    costs: Vec<(u64, String)>,
}

impl Task for Consume {
    type Output = quotum::Decision;
    type JsValue = Decision;

    fn compute(&mut self) -> Result<Self::Output> {
        let costs: Vec<(&str, u64)> = self.costs.iter().map(|(units, metric)| (metric.as_str(), *units)).collect();
        self.quota.consume(&self.subject, &costs).map_err(throw)
    }

    fn resolve(&mut self, _: Env, decision: Self::Output) -> Result<Self::JsValue> {
        let denial = decision.denied.as_deref();
        Ok(Decision {
            allowed: decision.allowed,
            plan: decision.plan.map(|plan| plan.to_string()),
            reason: denial.map(|denial| denial.reason.as_str().to_owned()),
            upgrade_to: denial.and_then(|denial| denial.upgrade_to.as_deref().map(str::to_owned)),
        })
    }
}
