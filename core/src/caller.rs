//! The caller: who asks, on which subscription and plan. From the record, or from the store.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;

use crate::admission::Admission;
use crate::decision::{Decision, Denial, Earlier, QuotaState, Trace};
use crate::error::{Error, Kind};
use crate::plan::{Plan, Plans, upgrade};
use crate::planted::planted;
use crate::policy::Modes;
use crate::record::{Fetched, Record};
use crate::standing::Standing;
use crate::store::{Call, Charged, CounterKey};
use crate::subject::Subject;
use crate::subscription::{SUBJECT_BYTES_MAX, Subscription};
use crate::usage::demand::{Cost, Costs, Owners, Touched, Touches};
use crate::usage::denial_cache::Basis;
use crate::usage::period::{Period, Window};
use crate::usage::usage_cache::Reading;

/// A caller whose subject, subscription and plan are known.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) call: Call,
    pub(crate) standing: Arc<Standing>,
    pub(crate) owners: Owners,
    pub(crate) record: Arc<Record>,
    pub(crate) account: Option<Arc<Record>>,
}

/// By what a caller is known to be somebody.
#[derive(Clone, Copy)]
pub(crate) enum Asking<'a> {
    Named(&'a str),
    /// By a handle, so that its record need not be looked up.
    Held(&'a Subject),
}

impl<'a> Asking<'a> {
    pub(crate) fn id(self) -> &'a str {
        match self {
            Self::Named(subject) => subject,
            Self::Held(subject) => subject.id(),
        }
    }
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
        self.admission.records.clear(self.subject);
    }
}

/// Notes that a caller was charged, or may have been, when it goes out of scope.
pub(crate) struct Charging<'c>(pub(crate) &'c Caller);

impl Drop for Charging<'_> {
    fn drop(&mut self) {
        self.0.record.charged();
        if let Some(account) = &self.0.account {
            account.charged();
        }
    }
}

/// Lets no cached denial of these owners hold any longer when it goes out of scope.
pub(crate) struct Loosen<'a> {
    pub(crate) admission: &'a Admission,
    pub(crate) owners: Owners,
}

impl Drop for Loosen<'_> {
    fn drop(&mut self) {
        self.admission.records.loosen(&self.owners.subject);
        if let Some(account) = &self.owners.account {
            self.admission.records.loosen(account);
        }
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

    /// The caller that was found in memory just now, or as it is found in the store.
    pub(crate) async fn caller_found(&self, call: Call, subject: &str, found: Option<Caller>) -> Result<Caller, Error> {
        match found {
            Some(caller) => Ok(Caller { call, ..caller }),
            None => self.caller(call, subject).await,
        }
    }

    /// The caller, where everything that is to be known of it is in memory.
    pub(crate) fn known_caller(&self, call: Call, subject: Asking<'_>) -> Option<Caller> {
        let monotonic = call.monotonic(&*self.clock);
        let record = self.known_record(subject, monotonic)?;
        let own = self.known_standing(call, &record, monotonic)?;
        let Some(membership) = &own.membership else {
            return Some(Caller::alone(call, own, record));
        };
        let account = self.known_record(Asking::Named(&membership.account), monotonic)?;
        let standing = membership.within(self.known_standing(call, &account, monotonic)?);
        Some(Caller::member(call, standing, record, account))
    }

    fn known_record(&self, subject: Asking<'_>, monotonic: Duration) -> Option<Arc<Record>> {
        let second = u32::try_from(monotonic.as_secs()).unwrap_or(u32::MAX);
        match subject {
            Asking::Named(subject) => self.records.known(subject, second),
            Asking::Held(subject) => {
                let record = subject.record(&self.records);
                self.records.touch(&record, second);
                Some(record)
            }
        }
    }

    /// A subject's standing under the plans in force, if neither is to be asked for.
    fn known_standing(&self, call: Call, record: &Record, monotonic: Duration) -> Option<Arc<Standing>> {
        let current = record.current(call.now, monotonic);
        if let Some(standing) = current.filter(|standing| self.catalog.is_known(&standing.plans, monotonic)) {
            return Some(standing);
        }
        let plans = self.catalog.known(monotonic)?;
        record.standing(&plans, &self.records.unsubscribed, call.now, monotonic).ok()?
    }

    async fn caller_under(&self, call: Call, plans: &Arc<Plans>, subject: &str) -> Result<Caller, Error> {
        let record = self.records.of(subject);
        let own = self.standing(call, &record, plans).await?;
        let Some(membership) = &own.membership else {
            return Ok(Caller::alone(call, own, record));
        };
        let account = self.records.of(&membership.account);
        let standing = membership.within(self.standing(call, &account, plans).await?);
        Ok(Caller::member(call, standing, record, account))
    }

    async fn standing(&self, call: Call, record: &Record, plans: &Arc<Plans>) -> Result<Arc<Standing>, Error> {
        let unsubscribed = &self.records.unsubscribed;
        if let Some(standing) = record.standing(plans, unsubscribed, call.now, call.monotonic(&*self.clock))? {
            return Ok(standing);
        }
        let start = || {
            let (store, subject) = (Arc::clone(&self.store), Arc::clone(&record.subject));
            let stale_from = self.clock.monotonic().saturating_add(self.subscription_ttl);
            let changes = self.changes.count();
            let fetch = async move {
                let subscription = store.subscription(call, &subject).await?.map(Box::new);
                Ok(Fetched { subscription, stale_from, changes })
            };
            fetch.boxed()
        };
        match record.load(call.wait, start).await {
            Ok(fetched) => record.keep(fetched, &self.changes, plans, unsubscribed, call.now),
            // What was known last is better than nothing, while the store cannot be asked.
            Err(error) => match record.last_known(plans, call.now) {
                Some(standing) => standing,
                None => Err(error.into()),
            },
        }
    }

    /// Starts the default plan's trial, unless the subject has got a subscription meanwhile.
    pub(crate) async fn start_trial(&self, caller: &Caller) -> Result<Caller, Error> {
        let default = caller.standing.plans.default_plan();
        let subject = caller.payer();
        let trial = Subscription::trial(&default.id, caller.call.now).kept_under(default);
        let event = self.subscribed(caller.call, &None, subject, &trial);
        let forgotten = Forget { admission: self, subject };
        let kept = self.store.swap_subscription(caller.call, subject, None, &trial, &event).await?;
        drop(forgotten);
        if kept.as_ref() == Some(&trial) {
            self.observer.tell(event);
        }
        self.caller_under(caller.call, &caller.standing.plans, &caller.owners.subject).await
    }
}

impl Caller {
    fn alone(call: Call, standing: Arc<Standing>, record: Arc<Record>) -> Self {
        let owners = Owners { subject: Arc::clone(&record.subject), account: None };
        Self { call, standing, owners, record, account: None }
    }

    fn member(call: Call, standing: Arc<Standing>, record: Arc<Record>, account: Arc<Record>) -> Self {
        let owners = Owners { subject: Arc::clone(&record.subject), account: Some(Arc::clone(&account.subject)) };
        Self { call, standing, owners, record, account: Some(account) }
    }

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
    pub(crate) fn touched<'c>(&'c self, costs: &'c [Cost]) -> Touches<'c> {
        Touched::by(costs, &self.standing.plan, &self.owners, |period| self.window(period))
    }

    pub(crate) fn window(&self, period: Period) -> Window {
        let standing = &self.standing;
        if planted!("zone_ignored") {
            return period.window(self.call.now, &jiff::tz::TimeZone::UTC, standing.anchor);
        }
        match standing.anchor {
            None if !standing.has_own_zone => standing.plans.windows.at(period, self.call.now, &standing.zone),
            anchor => period.window(self.call.now, &standing.zone, anchor),
        }
    }

    /// The answer to a request that was granted before, at this time.
    pub(crate) fn repeat(&self, at: Timestamp, costs: &[Cost], charged: &Charged) -> Decision {
        let earlier = Some(Box::new(Earlier { at, hold: charged.hold }));
        let trace = Trace { asked_store: true, earlier, ..Trace::default() };
        Decision { repeated: true, trace, ..self.allow(self.states_at(at, costs, charged)) }
    }

    /// How the quotas of these costs stood when they were first charged: in the windows of that time, and of
    /// the counters that were charged then, whatever the plan has become since.
    fn states_at(&self, at: Timestamp, costs: &[Cost], charged: &Charged) -> Vec<QuotaState> {
        let then = |period: Period| period.window(at, &self.standing.zone, self.standing.anchor);
        let touched = Touched::by(costs, &self.standing.plan, &self.owners, then);
        let known = touched.into_iter().filter_map(|quota| {
            let key = quota.key()?;
            let (_, balance) = charged.keys.iter().zip(&charged.balances).find(|(charged, _)| **charged == key)?;
            Some(QuotaState::new(&quota, *balance, 0))
        });
        known.collect()
    }

    /// Whether any of these costs is counted anywhere.
    pub(crate) fn counts(&self, costs: &[Cost]) -> bool {
        let plan = &self.standing.plan;
        let mut limits = costs.iter().flat_map(|cost| self.owners.limits(plan, &cost.metric));
        limits.any(|(_, limit)| limit.period().is_some())
    }

    /// Which decision would be made on these costs.
    pub(crate) fn basis(&self, modes: &Arc<Modes>, costs: &[Cost]) -> Basis {
        Basis {
            costs: Costs::from(costs),
            plan: Arc::clone(&self.standing.plan),
            modes: Arc::clone(modes),
            epochs: self.epochs(),
        }
    }

    /// As of which changes a denial of this caller holds.
    pub(crate) fn epochs(&self) -> [u64; 2] {
        self.each(Record::epoch)
    }

    /// As of which subscription, changes and charges usage is read.
    pub(crate) fn reading(&self) -> Reading {
        Reading { standing: Arc::clone(&self.standing), epochs: self.epochs(), charges: self.each(Record::charges) }
    }

    fn each<N: Default>(&self, number: fn(&Record) -> N) -> [N; 2] {
        [number(&self.record), self.account.as_deref().map_or_else(N::default, number)]
    }

    /// The counter of a metric's period of now.
    pub(crate) fn key(&self, owner: &Arc<str>, metric: &Arc<str>, period: Period) -> CounterKey {
        let key = CounterKey::new(Arc::clone(owner), Arc::clone(metric), period, self.window(period));
        CounterKey { account: self.owners.account_of(owner).cloned(), ..key }
    }

    /// The plans that could be suggested: dearer ones, or of one that has lapsed, the same one too.
    pub(crate) fn upgrades(&self) -> impl Iterator<Item = &Arc<Plan>> {
        let dearer = u32::from(self.standing.refused.is_none());
        upgrade::candidates(&self.standing.plans, self.standing.plan.rank.saturating_add(dearer))
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
