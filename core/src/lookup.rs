//! Lookups: the verbs that only read.

use std::sync::Arc;

use crate::admission::Admission;
use crate::charging::{LEFT_OUT, store_lied};
use crate::decision::Usage;
use crate::error::Error;
use crate::plan::FeatureValue;
use crate::store::Wait;
use crate::usage::demand::{Cost, Costs, keys_of, states_from};

impl Admission {
    /// Everything that a subject's account page shows.
    pub(crate) async fn usage(self: &Arc<Self>, wait: Wait, subject: &str) -> Result<Usage, Error> {
        let call = self.keep_up(wait).await;
        let caller = self.caller(call, subject).await?;
        let reading = caller.reading();
        if let Some(usage) = caller.record.usage.get(&reading, caller.call.now, self.clock.monotonic()) {
            return Ok(usage);
        }
        let standing = &caller.standing;
        let plan = &standing.plan;
        let mut metrics: Vec<&Arc<str>> = plan.quotas.keys().collect();
        if caller.owners.account.is_some() {
            metrics.extend(plan.member_quotas.keys().filter(|metric| !plan.quotas.contains_key(*metric)));
        }
        let every: Costs = metrics.into_iter().map(|metric| Cost { metric: Arc::clone(metric), amount: 1 }).collect();
        let touched = caller.touched(&every);
        let keys = keys_of(&touched);
        let balances = self.balances_with_own(&caller, &keys).await?;
        if balances.len() < keys.len() {
            return Err(store_lied(LEFT_OUT).into());
        }
        let usage = Usage {
            subject: Arc::clone(&caller.owners.subject),
            account: caller.owners.account.clone(),
            plan: Arc::clone(&plan.id),
            plan_name: plan.name.clone(),
            plan_version: plan.version,
            status: standing.status,
            refused: standing.refused.map(|(reason, _)| reason),
            trial_ends_at: standing.trial_ends_at,
            expires_at: standing.expires_at,
            features: plan.features.clone(),
            quotas: states_from(&touched, balances),
        };
        caller.record.usage.put(reading, &usage, self.clock.monotonic());
        Ok(usage)
    }

    /// The value of a feature in the subject's plan; `None` where the plan does not name it.
    pub(crate) async fn feature(
        self: &Arc<Self>,
        wait: Wait,
        subject: &str,
        name: &str,
    ) -> Result<Option<FeatureValue>, Error> {
        let call = self.keep_up(wait).await;
        let caller = self.caller(call, subject).await?;
        caller.standing.plans.feature(name)?;
        let granted = caller.standing.refused.is_none();
        Ok(caller.standing.plan.features.get(name).filter(|_| granted).cloned())
    }
}
