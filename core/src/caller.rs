//! The caller: who asks, on which subscription and plan. From the record, or from the store.

use std::sync::Arc;

use futures_util::FutureExt;

use crate::admission::Admission;
use crate::decision::{Decision, Denial, QuotaState};
use crate::error::{Error, Kind};
use crate::plan::{Plan, Plans, upgrade};
use crate::planted::planted;
use crate::record::{Fetched, Record};
use crate::standing::Standing;
use crate::store::{Call, CounterKey};
use crate::subscription::{SUBJECT_BYTES_MAX, Subscription};
use crate::usage::demand::{Cost, Owners, Touched};
use crate::usage::period::{Period, Window};

/// A caller whose subject, subscription and plan are known.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) call: Call,
    pub(crate) plans: Arc<Plans>,
    pub(crate) standing: Arc<Standing>,
    pub(crate) owners: Owners,
    #[expect(dead_code, reason = "cached denials will hang on them")]
    pub(crate) records: Vec<Arc<Record>>,
}

/// Forgets what is known of a subject when it goes out of scope.
pub(crate) struct Forget<'a> {
    pub(crate) admission: &'a Admission,
    pub(crate) subject: &'a str,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if planted!("subscription_kept_after_a_change") {
            return;
        }
        // First the count, so that a read under way is either not kept or cleared here.
        self.admission.changes.note();
        self.admission.records.of(self.subject).clear();
    }
}

impl Admission {
    /// Subject, subscription and plan.
    pub(crate) async fn caller(&self, call: Call, subject: &str) -> Result<Caller, Error> {
        check_subject(subject)?;
        let plans = self.catalog.plans(call).await?;
        match self.caller_under(call, &plans, subject).await {
            // Another process may have put the plan since, and the subject on it.
            Err(Error::Unknown { kind: Kind::Plan, .. }) => {
                let plans = self.catalog.newer(call).await?;
                self.caller_under(call, &plans, subject).await
            }
            caller => caller,
        }
    }

    async fn caller_under(&self, call: Call, plans: &Arc<Plans>, subject: &str) -> Result<Caller, Error> {
        let record = self.records.of(subject);
        let own = self.standing(call, &record, plans).await?;
        let subject = Arc::clone(&record.subject);
        let plans = Arc::clone(plans);
        let Some(membership) = &own.membership else {
            let owners = Owners { subject, account: None };
            return Ok(Caller { call, plans, standing: own, owners, records: vec![record] });
        };
        let account = self.records.of(&membership.account);
        let standing = self.standing(call, &account, &plans).await?;
        let owners = Owners { subject, account: Some(Arc::clone(&account.subject)) };
        let standing = membership.within(standing);
        Ok(Caller { call, plans, standing, owners, records: vec![record, account] })
    }

    async fn standing(&self, call: Call, record: &Record, plans: &Arc<Plans>) -> Result<Arc<Standing>, Error> {
        if let Some(standing) = record.standing(plans, call.now, self.clock.monotonic())? {
            return Ok(standing);
        }
        let start = || {
            let (store, subject) = (Arc::clone(&self.store), Arc::clone(&record.subject));
            let stale_from = self.clock.monotonic().saturating_add(self.subscription_ttl);
            let changes = self.changes.count();
            let fetch = async move {
                let subscription = store.subscription(call, &subject).await?;
                Ok(Fetched { subscription, stale_from, changes })
            };
            fetch.boxed()
        };
        match record.loading.join(call.wait, start).await {
            Ok(fetched) => record.keep(fetched, &self.changes, plans, call.now),
            // What was known last is better than nothing, while the store cannot be asked.
            Err(error) => match record.last_known(plans, call.now) {
                Some(standing) => standing,
                None => Err(error.into()),
            },
        }
    }

    /// Starts the default plan's trial, unless the subject has got a subscription meanwhile.
    pub(crate) async fn start_trial(&self, caller: &Caller) -> Result<Caller, Error> {
        let default = caller.plans.default_plan();
        let subject = caller.payer();
        let trial = Subscription::trial(&default.id, caller.call.now).kept_under(default);
        let event = self.subscribed(caller.call, &None, subject, &trial);
        let forgotten = Forget { admission: self, subject };
        self.store.swap_subscription(caller.call, subject, None, &trial, &event).await?;
        drop(forgotten);
        self.caller_under(caller.call, &caller.plans, &caller.owners.subject).await
    }
}

impl Caller {
    /// Whose subscription it is: the account's, or its own.
    pub(crate) fn payer(&self) -> &Arc<str> {
        self.owners.account.as_ref().unwrap_or(&self.owners.subject)
    }

    /// Why nothing is granted to this caller, if nothing is.
    pub(crate) fn refusal(&self) -> Option<Denial> {
        let (reason, ended_at) = self.standing.refused?;
        Some(Denial { ended_at: Some(ended_at), ..Denial::because(reason) })
    }

    /// Every quota that the costs touch, with its window of now.
    pub(crate) fn touched(&self, costs: &[Cost]) -> Vec<Touched> {
        Touched::by(costs, &self.standing.plan, &self.owners, |period| self.window(period))
    }

    pub(crate) fn window(&self, period: Period) -> Window {
        let utc = jiff::tz::TimeZone::UTC;
        let zone = if planted!("zone_ignored") { &utc } else { &self.standing.zone };
        period.window(self.call.now, zone, self.standing.anchor)
    }

    /// The counter of a metric's period of now.
    pub(crate) fn key(&self, owner: &Arc<str>, metric: &Arc<str>, period: Period) -> CounterKey {
        CounterKey::new(Arc::clone(owner), Arc::clone(metric), period, self.window(period))
    }

    /// The plans that could be suggested: dearer ones, or of one that has lapsed, the same one too.
    pub(crate) fn upgrades(&self) -> impl Iterator<Item = &Arc<Plan>> {
        let dearer = u32::from(self.standing.refused.is_none());
        upgrade::candidates(&self.plans, self.standing.plan.rank.saturating_add(dearer))
    }

    pub(crate) fn allow(&self, quotas: Vec<QuotaState>) -> Decision {
        let plan = &self.standing.plan;
        Decision {
            subject: Some(Arc::clone(&self.owners.subject)),
            plan: Some(Arc::clone(&plan.id)),
            plan_version: Some(plan.version),
            quotas,
            ..Decision::allow()
        }
    }

    pub(crate) fn deny(&self, quotas: Vec<QuotaState>, denial: Denial) -> Decision {
        Decision { allowed: false, denied: Some(Box::new(denial)), ..self.allow(quotas) }
    }
}

pub(crate) fn check_subject(subject: &str) -> Result<(), Error> {
    if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX {
        let found = format!("{} bytes", subject.len());
        return Err(Error::argument("subject", found, format!("an id of 1 to {SUBJECT_BYTES_MAX} bytes")));
    }
    Ok(())
}
