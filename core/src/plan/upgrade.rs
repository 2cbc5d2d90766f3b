//! Which plan to suggest to a denied subject: the cheapest by rank that would have allowed the request.
//!
//! Pure: the balances that a suggestion depends on are gathered by the caller.

use std::sync::Arc;

use super::plan::{FeatureValue, Plan, Plans};
use crate::usage::counter::Balance;
use crate::usage::demand::{Cost, Owners};
use crate::usage::period::Period;

/// The plans that may be suggested, cheapest first: visible ones from `rank` on. A default plan that is
/// a trial is no upgrade.
pub(crate) fn candidates(plans: &Plans, rank: u32) -> impl Iterator<Item = &Arc<Plan>> {
    let trial = Some(plans.default_plan()).filter(|plan| plan.trial_days > 0);
    plans.visible().filter(move |plan| plan.rank >= rank && Some(*plan) != trial)
}

/// Whether `plan` would let these costs pass, given what each counter holds.
pub(crate) fn allows(
    plan: &Plan,
    costs: &[Cost],
    owners: &Owners,
    held: impl Fn(&str, &str, Period) -> Balance,
) -> bool {
    costs.iter().all(|Cost { metric, amount }| {
        owners.limits(plan, metric).all(|(owner, limit)| {
            limit.period().is_none_or(|period| held(owner, metric, period).fits(*amount, limit.limit()))
        })
    })
}

/// Whether `plan` grants what was asked of a feature: its value, or only that it be there.
pub(crate) fn grants(plan: &Plan, feature: &str, requested: Option<&FeatureValue>) -> bool {
    let Some(value) = plan.features.get(feature) else { return false };
    requested.map_or_else(|| value.is_present(), |requested| value.grants(requested) == Some(true))
}
