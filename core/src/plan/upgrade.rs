//! Which plan to suggest to a denied subject: the cheapest by rank that would have allowed the request.
//!
//! Pure: the balances that a suggestion depends on are gathered by the caller.

use std::sync::Arc;

use super::limit::QuotaLimit;
use super::plan::{FeatureValue, Plan, Plans};
use crate::usage::counter::Balance;
use crate::usage::period::Period;

/// The plans that may be suggested, cheapest first: visible ones from `rank` on. A default plan that is
/// a trial is no upgrade.
pub(crate) fn candidates(plans: &Plans, rank: u32) -> impl Iterator<Item = &Arc<Plan>> {
    let trial = Some(plans.default_plan()).filter(|plan| plan.trial_days > 0);
    plans.visible().filter(move |plan| plan.rank >= rank && Some(*plan) != trial)
}

/// Whether `plan` would let `amount` units of a metric pass, given what each period has used.
pub(crate) fn allows(plan: &Plan, metric: &str, amount: u64, used: impl Fn(Period) -> Balance) -> bool {
    let Some(limits) = plan.quotas.get(metric) else { return false };
    limits.iter().all(|limit: &QuotaLimit| limit.period().is_none_or(|period| used(period).fits(amount, limit.limit())))
}

/// Whether `plan` grants what was asked of a feature: its value, or only that it be there.
pub(crate) fn grants(plan: &Plan, feature: &str, requested: Option<&FeatureValue>) -> bool {
    let Some(value) = plan.features.get(feature) else { return false };
    requested.map_or_else(|| value.is_present(), |requested| value.grants(requested) == Some(true))
}
