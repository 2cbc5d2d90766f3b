//! Administration: what operators and billing do. Every change is an event of the store's log, made in the
//! same step, with who made it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use pollster::block_on;
use serde_json::json;

use crate::admission::Admission;
use crate::caller::{Caller, Forget, Loosen, check_subject};
use crate::debt::Debt;
use crate::decision::QuotaState;
use crate::error::{Error, Retry};
use crate::event::{Event, EventName, EventQuery};
use crate::plan::{Plan, Plans, Rate};
use crate::planted::planted;
use crate::policy::Enforcement;
use crate::rate::RateKey;
use crate::store::{
    Adjust, Adjustment, Call, Census, Charged, Forgotten, Layer, Once, Outcome, Step, StoreError, Subscriber,
    SubscriberQuery, Timeout, Wait,
};
use crate::subscription::{Overrides, SUBJECT_BYTES_MAX, Status, Subscription};
use crate::token::TokenDigest;
use crate::usage::demand::{Cost, Touched, Touches, some_costs_of, states_of};
use crate::usage::hold::Fingerprint;
use crate::usage::period::Period;

/// Who makes a change, as the host has said.
pub(crate) type Actor = Option<Arc<str>>;

/// How often a change of a subscription is tried again when somebody else was faster.
const ATTEMPTS: usize = 10;

/// How long a store remembers that a debt was charged. Were its answer lost, an engine that next has a
/// request of the subject only then would charge it again.
const DEBT_REMEMBERED: Duration = Duration::from_secs(400 * 24 * 3_600);

/// How long the end of an engine waits for the store, whatever its timeout is.
const ENDED_WITHIN: Duration = Duration::from_secs(5);

/// A change of usage that no limit decides on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Amend {
    /// Gives units back.
    Refund,
    /// Gives units of a level back, and of nothing else.
    GiveBack,
    /// Grants units on top of the limits.
    Grant,
    /// Forgets what was used.
    Reset,
}

impl Amend {
    /// The word in the log.
    const fn verb(self) -> &'static str {
        match self {
            Self::Refund => "refund",
            Self::GiveBack => "release",
            Self::Grant => "grant",
            Self::Reset => "reset",
        }
    }

    const fn by(self, amount: u64) -> Adjust {
        match self {
            Self::Refund | Self::GiveBack => Adjust::Refund(amount),
            Self::Grant => Adjust::Grant(amount),
            Self::Reset => Adjust::Reset,
        }
    }
}

impl Drop for Admission {
    /// Does what is still to be done, once, if the store lets it in time: nobody else knows of it.
    fn drop(&mut self) {
        let untold = self.tokens.as_ref().is_some_and(|tokens| tokens.untold.now().iter().next().is_some());
        if self.debts.are_none() && !untold && !self.has_leases() {
            return;
        }
        let call = self.call(Wait::Block);
        let timeout = Timeout::after(ENDED_WITHIN);
        let end = async {
            self.return_all(Wait::Block).await;
            self.settle_up(call, usize::MAX).await
        };
        let settled = timeout.around(call, Step::Adjust, end.boxed());
        if let Err(error) = block_on(settled) {
            let debtors = self.debts.debtors().len();
            tracing::warn!(target: "quotum", %error, debtors, "units granted without the store were never charged");
        }
    }
}

impl Admission {
    pub(crate) async fn set_plans(&self, wait: Wait, actor: &Actor, plans: &Plans) -> Result<u64, Error> {
        let call = self.call(wait);
        let ids: Vec<&str> = plans.iter().map(|plan| &*plan.id).collect();
        let event = Event { detail: Some(json!({ "plans": ids })), ..self.change(EventName::PlanChanged, call, actor) };
        match self.store.put_plans(call, plans, &event).await {
            Ok(version) => {
                self.catalog.install(plans.clone(), version, call.now);
                self.observer.tell(event);
                Ok(version)
            }
            Err(error) => {
                // The outcome may be unknown.
                self.catalog.clear();
                Err(error.into())
            }
        }
    }

    pub(crate) async fn subscription(&self, wait: Wait, subject: &str) -> Result<Option<Subscription>, Error> {
        check_subject(subject)?;
        Ok(self.store.subscription(self.call(wait), subject).await?)
    }

    /// Puts a subscription in force: at once in this process, within the feed's interval in others.
    pub(crate) async fn subscribe(
        &self,
        wait: Wait,
        actor: &Actor,
        subject: &str,
        subscription: Subscription,
    ) -> Result<(), Error> {
        check_subject(subject)?;
        let call = self.call(wait);
        let subscription = self.checked(call, subject, subscription).await?;
        let event = self.subscribed(call, actor, subject, &subscription);
        // Also where the outcome is unknown: what was known is no longer sure.
        let _forgotten = Forget { admission: self, subject };
        self.store.put_subscription(call, subject, &subscription, &event).await?;
        self.observer.tell(event);
        Ok(())
    }

    /// Ends a subscription: now, or where something is paid for until then.
    pub(crate) async fn cancel(&self, wait: Wait, actor: &Actor, subject: &str) -> Result<Subscription, Error> {
        let call = self.call(wait);
        let canceled = |found: Option<Subscription>| match found {
            Some(found) if found.status == Status::Canceled => Ok(found),
            Some(found) => Ok(Subscription { status: Status::Canceled, since: call.now, ..found }),
            None => Err(Error::argument("subject", format!("{subject:?}"), "a subject that has a subscription")),
        };
        self.change_subscription(call, actor, subject, canceled).await
    }

    /// Gives a subject what its plan does not say, in place of what was given to it before.
    pub(crate) async fn set_overrides(
        &self,
        wait: Wait,
        actor: &Actor,
        subject: &str,
        overrides: Overrides,
    ) -> Result<Subscription, Error> {
        let call = self.call(wait);
        let plans = self.catalog.plans(call).await?;
        let overridden = |found: Option<Subscription>| {
            let found = found.unwrap_or_else(|| Subscription::active(&plans.default_plan().id, call.now));
            Ok(Subscription { overrides: overrides.clone(), ..found })
        };
        self.change_subscription(call, actor, subject, overridden).await
    }

    async fn change_subscription(
        &self,
        call: Call,
        actor: &Actor,
        subject: &str,
        change: impl Fn(Option<Subscription>) -> Result<Subscription, Error>,
    ) -> Result<Subscription, Error> {
        check_subject(subject)?;
        let _forgotten = Forget { admission: self, subject };
        let mut found = self.store.subscription(call, subject).await?;
        for _ in 0..ATTEMPTS {
            let to = self.checked(call, subject, change(found.clone())?).await?;
            if found.as_ref() == Some(&to) {
                return Ok(to);
            }
            let event = self.subscribed(call, actor, subject, &to);
            let kept = self.store.swap_subscription(call, subject, found.as_ref(), &to, &event).await?;
            if kept.as_ref() == Some(&to) {
                self.observer.tell(event);
                return Ok(to);
            }
            found = kept;
        }
        Err(StoreError::Busy { waited: std::time::Duration::ZERO }.into())
    }

    /// A subscription as it may be kept, if these plans can carry it out.
    async fn checked(&self, call: Call, subject: &str, subscription: Subscription) -> Result<Subscription, Error> {
        let mut plans = self.catalog.plans(call).await?;
        if plans.get(&subscription.plan).is_err() {
            plans = self.catalog.newer(call).await?;
        }
        subscription.check(&plans)?;
        if let Some(account) = &subscription.account {
            check_subject(account)?;
            if account == subject {
                return Err(Error::argument("account", format!("{account:?}"), "another subject than the member"));
            }
            self.check_account(call, subject, account).await?;
        }
        let plan = plans.get(&subscription.plan)?;
        Ok(subscription.kept_under(plan))
    }

    /// Refuses accounts within accounts: a member's units count on its account, and on nobody's beyond that.
    async fn check_account(&self, call: Call, member: &str, account: &str) -> Result<(), Error> {
        let theirs = self.store.subscription(call, account).await?;
        if let Some(beyond) = theirs.as_ref().and_then(|theirs| theirs.account_of(account)) {
            let found = format!("{account:?}, a member of {beyond:?}");
            return Err(Error::argument("account", found, "an account that is no member of another"));
        }
        let members = SubscriberQuery { account: Some(member.to_owned()), limit: 1, ..SubscriberQuery::all() };
        if let Some(first) = self.store.subscribers(call, &members).await?.first() {
            let found = format!("{member:?}, the account of {:?}", first.subject);
            return Err(Error::argument("subject", found, "a subject that has no members of its own"));
        }
        Ok(())
    }

    /// Amends the counters of the periods that `now` lies in, and returns how the quotas then stand.
    pub(crate) async fn amend(
        &self,
        wait: Wait,
        actor: &Actor,
        subject: &str,
        costs: &[(&str, u64)],
        amend: Amend,
    ) -> Result<Vec<QuotaState>, Error> {
        let call = self.call(wait);
        let caller = self.caller(call, subject).await?;
        let costs = some_costs_of(&caller.standing.plans, costs)?;
        let touched = match amend {
            // Whatever the plan says now, a level that was consumed under another one can be given back.
            Amend::GiveBack => levels(&caller, &costs),
            Amend::Refund | Amend::Grant | Amend::Reset => caller.touched(&costs),
        };
        let adjustment = |quota: &Touched<'_>| Some(Adjustment { key: quota.key()?, by: amend.by(quota.amount) });
        let adjustments: Vec<Adjustment> = touched.iter().filter_map(adjustment).collect();
        let units: serde_json::Map<String, serde_json::Value> =
            costs.iter().map(|cost| (cost.metric.to_string(), cost.amount.into())).collect();
        let event = Event {
            subject: Some(subject.into()),
            account: caller.owners.account.clone(),
            plan: Some(Arc::clone(&caller.standing.plan.id)),
            detail: Some(json!({ "verb": amend.verb(), "units": units })),
            ..self.change(EventName::UsageAdjusted, call, actor)
        };
        // What is given back must have been counted.
        self.return_own(&caller, &touched).await;
        // Also where the outcome is unknown.
        let _loosened = Loosen { admission: self, owners: caller.owners.clone() };
        let adjusted = self.store.adjust(call, &adjustments, None, &event).await?;
        self.observer.tell(event);
        Ok(states_of(&touched, &adjusted.balances))
    }

    /// Does what could not be done while the store could not be asked: charges what is owed, and tells what was
    /// revoked.
    ///
    /// So much of each at the most: a request that this is done for must not wait for all of it.
    pub(crate) async fn settle_up(&self, call: Call, at_most: usize) -> Result<(), StoreError> {
        let charged = self.collect_debts(call, at_most).await;
        charged.and(self.tell_revocations(call, at_most).await)
    }

    async fn collect_debts(&self, call: Call, subjects_max: usize) -> Result<(), StoreError> {
        if self.debts.are_none() {
            return Ok(());
        }
        let mut collected = Ok(());
        for subject in self.debts.debtors().into_iter().take(subjects_max) {
            match self.collect_debt(call, &subject).await {
                // What would fail again concerns this subject; anything else concerns the store.
                Err(error) if error.retry() != Retry::Never => return Err(error),
                outcome => collected = collected.and(outcome),
            }
        }
        collected
    }

    /// Charges what a subject owes. Where the store still fails, it is owed on.
    pub(crate) async fn collect_debt(&self, call: Call, subject: &Arc<str>) -> Result<(), StoreError> {
        if self.debts.are_none() {
            return Ok(());
        }
        for id in self.debts.of(subject) {
            let Some(debt) = self.debts.close(subject, id) else { continue };
            match self.charge_debt(call, subject, &debt).await {
                Ok(()) => {
                    self.debts.paid(subject, id);
                    debt.adjustments.iter().for_each(|adjustment| self.records.loosen(&adjustment.key.subject));
                }
                Err(_) if planted!("debt_forgotten_when_its_charge_fails") => self.debts.paid(subject, id),
                Err(error) => {
                    if error.retry() != Retry::OutcomeUnknown {
                        self.debts.reopen(subject, id);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Charges one debt: under the key of its request, or its own name.
    async fn charge_debt(&self, call: Call, subject: &Arc<str>, debt: &Debt) -> Result<(), StoreError> {
        let kept_until = call.now.checked_add(DEBT_REMEMBERED).unwrap_or(jiff::Timestamp::MAX);
        let subject = Arc::clone(subject);
        let name = format!("debt {}", debt.id);
        let arguments = Fingerprint::of(&[name.as_bytes()]);
        let own = Once { subject, key: name.into(), arguments, kept_until };
        if let Some(once) = &debt.once {
            let once = Once { kept_until, ..once.clone() };
            if self.record_debt(call, &once, debt).await?.outcome != Outcome::Conflict {
                return Ok(());
            }
            // The key had been used for something else, which nobody could know without the store.
        }
        self.record_debt(call, &own, debt).await.map(drop)
    }

    async fn record_debt(&self, call: Call, once: &Once, debt: &Debt) -> Result<Charged, StoreError> {
        let event = Event {
            subject: Some(Arc::clone(&once.subject)),
            detail: Some(json!({ "verb": "charge_degraded" })),
            ..self.change(EventName::UsageAdjusted, call, &None)
        };
        let once = Some(once).filter(|_| !planted!("debt_charged_without_a_name"));
        self.store.adjust(call, &debt.adjustments, once, &event).await
    }

    /// Switches enforcement: everywhere, or of one metric.
    pub(crate) async fn set_enforcement(
        &self,
        wait: Wait,
        actor: &Actor,
        metric: Option<&str>,
        mode: Enforcement,
    ) -> Result<(), Error> {
        let call = self.call(wait);
        let metric = match metric {
            Some(metric) => Some(Arc::clone(self.catalog.plans(call).await?.metric(metric)?)),
            None => None,
        };
        let event = Event {
            metric: metric.clone(),
            detail: Some(json!(mode)),
            ..self.change(EventName::EnforcementChanged, call, actor)
        };
        // At once here, and also where the store cannot keep it: a kill switch must work then.
        self.switchboard.switch(metric, mode);
        let kept = self.store.record(call, std::slice::from_ref(&event)).await;
        self.observer.tell(event);
        Ok(kept?)
    }

    /// Gives a key its whole allowance back, in every scope.
    pub(crate) async fn clear_rates(
        self: &Arc<Self>,
        wait: Wait,
        actor: &Actor,
        key: RateKey<'_>,
    ) -> Result<(), Error> {
        let plans = self.plans(wait).await?;
        let call = self.call(wait);
        let now = call.monotonic(&*self.clock);
        for scope in plans.scopes() {
            let rates = plans.iter().filter_map(|plan| plans.rate(plan, scope));
            let mut is_shared = false;
            rates.for_each(|rate| {
                self.rates.clear(scope, key, rate, now);
                is_shared |= rate.shared;
            });
            if is_shared {
                self.store.rate(call, &Rate::unlimited().shared_cost(scope, key, 1, 0)).await?;
            }
        }
        let event = Event {
            subject: key.text().filter(|text| text.len() <= SUBJECT_BYTES_MAX).map(Into::into),
            detail: key.address().map(|address| json!({ "address": address })),
            ..self.change(EventName::RatesCleared, call, actor)
        };
        // Cleared also where the store cannot keep that it was: rates need no store.
        let kept = self.store.record(call, std::slice::from_ref(&event)).await;
        self.observer.tell(event);
        Ok(kept?)
    }

    fn change(&self, name: EventName, call: Call, actor: &Actor) -> Event {
        Event { actor: actor.clone(), source: Some(self.feed.name()), ..Event::new(name, call.now) }
    }

    /// The event of a subject having got a subscription.
    pub(crate) fn subscribed(&self, call: Call, actor: &Actor, subject: &str, subscription: &Subscription) -> Event {
        Event {
            subject: Some(subject.into()),
            plan: Some(subscription.plan.as_str().into()),
            detail: serde_json::to_value(subscription).ok(),
            ..self.change(EventName::SubscriptionChanged, call, actor)
        }
    }

    /// Has a token verified anew: at once here, within the feed's interval in other processes.
    pub(crate) async fn forget_token(&self, wait: Wait, actor: &Actor, token: &str) -> Result<(), Error> {
        let Some(tokens) = &self.tokens else { return Ok(()) };
        let digest = tokens.digest(token);
        let call = self.call(wait);
        let detail = Some(json!(digest.to_hex()));
        let event = Event { detail, ..self.change(EventName::TokenForgotten, call, actor) };
        self.forget_identities(call, &Forgotten::Token(digest), event).await
    }

    /// Has every token of a subject verified anew, and its subscription read anew.
    pub(crate) async fn forget_subject(&self, wait: Wait, actor: &Actor, subject: &str) -> Result<(), Error> {
        check_subject(subject)?;
        let call = self.call(wait);
        let event = Event { subject: Some(subject.into()), ..self.change(EventName::TokenForgotten, call, actor) };
        self.forget_identities(call, &Forgotten::Subject(subject.into()), event).await
    }

    async fn forget_identities(&self, call: Call, which: &Forgotten, event: Event) -> Result<(), Error> {
        // Here first, and for good: until the store has forgotten it too, what it keeps of it is not believed.
        if let Some(tokens) = &self.tokens {
            tokens.untold.add(which, &event);
        }
        self.forget_locally(&event);
        let forgotten = self.store.forget_identities(call, which, &event).await;
        if let (Some(tokens), Ok(())) = (&self.tokens, &forgotten) {
            tokens.untold.told(which);
        }
        self.observer.tell(event);
        Ok(forgotten?)
    }

    /// Tells the store of the revocations that it could not be told of, so many at the most.
    async fn tell_revocations(&self, call: Call, at_most: usize) -> Result<(), StoreError> {
        let Some(tokens) = &self.tokens else { return Ok(()) };
        for revocation in tokens.untold.now().iter().take(at_most) {
            self.store.forget_identities(call, &revocation.which, &revocation.event).await?;
            tokens.untold.told(&revocation.which);
        }
        Ok(())
    }

    /// Forgets here what an event says is to be forgotten.
    pub(crate) fn forget_locally(&self, event: &Event) {
        if let Some(subject) = &event.subject {
            self.changes.note();
            self.records.forget(subject);
        }
        let Some(tokens) = &self.tokens else { return };
        let digest = event.detail.as_ref().and_then(|detail| TokenDigest::from_hex(detail.as_str()?));
        match (digest, &event.subject) {
            (Some(digest), _) => tokens.forget(digest),
            (None, Some(subject)) => tokens.forget_subject(subject),
            (None, None) => {}
        }
    }

    pub(crate) async fn subscribers(&self, wait: Wait, query: &SubscriberQuery) -> Result<Vec<Subscriber>, Error> {
        Ok(self.store.subscribers(self.call(wait), query).await?)
    }

    pub(crate) async fn census(&self, wait: Wait) -> Result<Vec<Census>, Error> {
        Ok(self.store.census(self.call(wait)).await?)
    }

    pub(crate) async fn events(&self, wait: Wait, query: &EventQuery) -> Result<Vec<Event>, Error> {
        Ok(self.store.events(self.call(wait), query).await?)
    }
}

/// The counters of levels, whatever the plan in force has of them.
fn levels<'c>(caller: &'c Caller, costs: &'c [Cost]) -> Touches<'c> {
    let unlimited = crate::plan::QuotaLimit::Metered { period: Period::Total };
    let mut levels = Touches::new();
    for cost in costs {
        let plan: &Plan = &caller.standing.plan;
        let known: Touches<'_> =
            Touched::by(std::slice::from_ref(cost), plan, &caller.owners, |period| caller.window(period));
        let of_level = known.into_iter().filter(|quota| quota.limit.period() == Some(Period::Total));
        let before = levels.len();
        levels.extend(of_level);
        if levels.len() == before {
            levels.push(Touched {
                owner: caller.payer(),
                metric: &cost.metric,
                amount: cost.amount,
                limit: unlimited,
                window: Some(caller.window(Period::Total)),
                shared: caller.owners.account.is_some(),
                account: None,
            });
        }
    }
    levels
}
