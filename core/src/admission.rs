//! The flow of a request, top to bottom: token, subject, subscription, plan, rate, features, quota,
//! decision, event.
//!
//! Each stage lives in a module of its own; this file only strings them together. Whether a caller is
//! synchronous or a task makes one difference, which it hands on to the store as [`Wait`].

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::caller::{Caller, Charging};
use crate::clock::{Clock, Ratchet};
use crate::debt::{Debts, Owed};
use crate::decision::{Decision, Denial, QuotaState, Reason, Trace, Usage};
use crate::error::{Error, Retry};
use crate::feed::Feed;
use crate::observer::Observer;
use crate::plan::catalog::Catalog;
use crate::plan::{FeatureValue, Plan, Plans, QuotaLimit, UNITS_MAX, upgrade};
use crate::policy::{Enforcement, Modes, Switchboard};
use crate::rate::RateTable;
use crate::record::{Changes, Records};
use crate::request::{Purpose, Request, Who};
use crate::scope::ScopeState;
use crate::store::{
    Balance, Call, Charge, Charged, CounterKey, Crossing, Hold, Once, Outcome, Store, StoreError, Wait, charge_all,
};
use crate::token::{Authenticated, Identity, Tokens};
use crate::usage::demand::{self, Cost, Touched, costs_of, keys_of, some_costs_of, states_of};
use crate::usage::denial_cache::Basis;
use crate::usage::hold::{Fingerprint, HoldId};
use crate::usage::period::Period;

#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ratchet: Ratchet,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) records: Records,
    pub(crate) changes: Changes,
    pub(crate) feed: Feed,
    pub(crate) switchboard: Switchboard,
    pub(crate) debts: Debts,
    pub(crate) observer: Observer,
    pub(crate) tokens: Option<Arc<Tokens>>,
    pub(crate) rates: RateTable,
    pub(crate) subscription_ttl: Duration,
    pub(crate) idempotency_ttl: Duration,
}

/// What is to be done with the quotas that a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<'s> {
    /// Use them; under an idempotency key, once.
    Charge(Option<&'s Once>),
    /// Set units of them aside.
    Hold(&'s Holding),
    /// Only look.
    Look,
    /// Look, before another step is made: where the store cannot be asked, that one is granted or denied.
    LookBefore(&'s Step<'s>),
}

/// A hold that is to be made, whatever it turns out to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) id: HoldId,
    pub(crate) arguments: Fingerprint,
    pub(crate) expires_at: Timestamp,
    pub(crate) kept_until: Timestamp,
    /// What to call it where it turns out to be another one.
    pub(crate) key: Option<Arc<str>>,
}

impl Step<'_> {
    /// Whether it is a new step each time, so that a denial of one is a denial of all.
    fn is_anonymous(self) -> bool {
        match self {
            Self::Charge(once) => once.is_none(),
            Self::Hold(holding) => holding.key.is_none(),
            Self::Look | Self::LookBefore(_) => true,
        }
    }
}

impl Holding {
    /// What makes it the same one where it is owed in place of being held.
    fn once(&self, subject: &Arc<str>) -> Option<Once> {
        self.key.as_ref()?;
        let key = format!("reservation {}", self.id).into();
        Some(Once { subject: Arc::clone(subject), key, arguments: self.arguments, kept_until: self.kept_until })
    }
}

impl Admission {
    /// The whole flow for one request: straight through where everything is in memory, and otherwise as a
    /// future that may ask the store.
    pub(crate) async fn admit(self: &Arc<Self>, wait: Wait, request: &Request<'_>) -> Result<Decision, Error> {
        match self.recall(request) {
            Recalled::Decided(decision) => decision,
            // Boxed, so that callers do not carry around what most requests do not need.
            Recalled::AskStore(identity) => Box::pin(self.ask(wait, request, identity)).await,
        }
    }

    /// The flow for a request that is not decided in memory.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        wait: Wait,
        request: &Request<'_>,
        identity: Option<Arc<Identity>>,
    ) -> Result<Decision, Error> {
        let begun = self.observer.begin();
        let call = self.keep_up(wait).await;
        let decision = self.decide(call, request, identity).await?;
        self.observer.decided(request.verb(), &decision, call.now, begun);
        Ok(decision)
    }

    /// From the request to the decision.
    async fn decide(
        &self,
        call: Call,
        request: &Request<'_>,
        identity: Option<Arc<Identity>>,
    ) -> Result<Decision, Error> {
        let modes = self.switchboard.modes();
        // Switching the quotas off or into shadow lets nobody in: who is asking is found out first.
        let identity = match (request.who, identity) {
            (Who::Subject(_) | Who::Anyone, _) => None,
            (Who::Token(_), Some(identity)) => Some(identity),
            (Who::Token(token), None) => match self.authenticate(call, token).await? {
                Authenticated::Known(identity) => Some(identity),
                Authenticated::Refused => return Ok(stranger()),
            },
        };
        let subject = match request.who {
            Who::Subject(subject) => Some(subject),
            Who::Token(_) | Who::Anyone => identity.as_ref().map(|identity| &*identity.subject),
        };
        let decision = match subject {
            _ if modes.everywhere() == Enforcement::Off => Decision::unasked(subject),
            None => self.decide_for_anyone(call, request).await?,
            Some(subject) => match self.caller(call, subject).await {
                Err(Error::Store(error)) => Decision::deny(Some(subject.into()), Denial::unanswered(&error)),
                caller => self.decide_for(caller?, &modes, request).await?,
            },
        };
        Ok(Decision { identity, ..shadowed(decision, modes.everywhere()) })
    }

    /// A rate, and nothing else, for a caller who is not known.
    async fn decide_for_anyone(&self, call: Call, request: &Request<'_>) -> Result<Decision, Error> {
        let wanted = request.pace.and_then(|pace| Some((pace, pace.key?)));
        match wanted.filter(|_| request.features.is_empty() && request.costs.is_empty()) {
            Some((pace, key)) => self.pace_anyone(&*self.catalog.plans(call).await?, pace, key, request.purpose),
            None => {
                let expected = "a rate for a key and nothing else, because nobody is known to have a plan";
                Err(Error::argument("request", "a request by anyone", expected))
            }
        }
    }

    /// The decision, where everything that it needs is in memory: of features, rates, quotas without a
    /// limit, and denials that still hold.
    pub(crate) fn recall(&self, request: &Request<'_>) -> Recalled {
        let begun = self.observer.begin();
        let call = self.call(Wait::Block);
        let decided = match self.recall_at(call, request) {
            Ok(decided) => decided,
            Err(identity) => return Recalled::AskStore(identity),
        };
        if let Ok(decision) = &decided {
            self.observer.decided(request.verb(), decision, call.now, begun);
        }
        Recalled::Decided(decided)
    }

    /// As [`recall`](Self::recall); an error is whom a token was found to speak for, on the way to the store.
    fn recall_at(&self, call: Call, request: &Request<'_>) -> Result<Result<Decision, Error>, Option<Arc<Identity>>> {
        if self.is_behind(call) {
            return Err(None);
        }
        let modes = self.switchboard.modes();
        let identity = match request.who {
            Who::Subject(_) => None,
            // It needs no record, only the plans, which the catalog may have to read.
            Who::Anyone => return Err(None),
            Who::Token(token) => match self.tokens.as_ref().ok_or(None)?.recall(call.now, token) {
                Ok(Authenticated::Known(identity)) => Some(identity),
                Ok(Authenticated::Refused) => return Ok(Ok(stranger())),
                Err(_) => return Err(None),
            },
        };
        let subject = match (&identity, request.who) {
            (Some(identity), _) => &*identity.subject,
            (None, Who::Subject(subject)) => subject,
            (None, Who::Token(_) | Who::Anyone) => return Err(None),
        };
        if modes.everywhere() == Enforcement::Off {
            let decision = Decision::unasked(Some(subject));
            return Ok(Ok(Decision { identity, ..decision }));
        }
        let decided = self.known_caller(call, subject).and_then(|caller| self.decide_known(&caller, &modes, request));
        let Some(decided) = decided else { return Err(identity) };
        Ok(decided.map(|decision| Decision { identity, ..shadowed(decision, modes.everywhere()) }))
    }

    /// The decision for a caller who is known, where the store need not be asked.
    fn decide_known(
        &self,
        caller: &Caller,
        modes: &Arc<Modes>,
        request: &Request<'_>,
    ) -> Option<Result<Decision, Error>> {
        let asks = match Asks::of(caller, request) {
            Ok(asks) => asks,
            Err(error) => return Some(Err(error)),
        };
        // Before the rate takes anything: it must not take it again on the way to the store.
        let anonymous = request.idempotency_key.is_none();
        let weighed = self.weigh_known(caller, modes, anonymous, request.purpose, &asks.costs)?;
        Some(match self.gate(caller, request, &asks) {
            Err(error) => Err(error),
            Ok((_, Some(denied))) => Ok(denied),
            Ok((rates, None)) => Ok(Decision { rates, ..weighed }),
        })
    }

    /// What the quotas say, where that is in memory.
    fn weigh_known(
        &self,
        caller: &Caller,
        modes: &Arc<Modes>,
        anonymous: bool,
        purpose: Purpose,
        costs: &[Cost],
    ) -> Option<Decision> {
        if costs.is_empty() {
            return Some(caller.allow(Vec::new()));
        }
        let starts_trial = caller.standing.trial_to_start && purpose == Purpose::Charge;
        if starts_trial || caller.standing.refused.is_some() || !self.debts.are_none() {
            return None;
        }
        let counted: Vec<Cost> =
            costs.iter().filter(|cost| modes.of(&cost.metric) != Enforcement::Off).cloned().collect();
        if caller.counts(&counted) {
            return self.known_denial(caller, &caller.basis(modes, &counted)).filter(|_| anonymous);
        }
        Some(caller.allow(states_of(&caller.touched(&counted), &[])))
    }

    fn known_denial(&self, caller: &Caller, basis: &Basis) -> Option<Decision> {
        caller.record.denials.get(basis, caller.call.now, caller.call.monotonic(&*self.clock))
    }

    /// Whom a token speaks for.
    pub(crate) async fn authenticate(&self, call: Call, token: &str) -> Result<Authenticated, Error> {
        let tokens = self.tokens.as_ref().ok_or_else(|| {
            Error::argument("token", "a token", "a subject, because the builder was given no verifier of tokens")
        })?;
        tokens.authenticate(call, token).await
    }

    /// Rate, features and quota, for a caller who is known.
    async fn decide_for(&self, caller: Caller, modes: &Arc<Modes>, request: &Request<'_>) -> Result<Decision, Error> {
        let asks = Asks::of(&caller, request)?;
        let (rates, denied) = self.gate(&caller, request, &asks)?;
        if let Some(denied) = denied {
            return Ok(denied);
        }
        let costs = asks.costs;
        let decision = match (request.purpose, request.idempotency_key) {
            (Purpose::Look, _) => self.weigh(caller, modes, Step::Look, costs).await?,
            (Purpose::Charge, None) => self.weigh(caller, modes, Step::Charge(None), costs).await?,
            (Purpose::Charge, Some(key)) => {
                let once = self.once(&caller, key, "consume", &costs)?;
                self.weigh(caller, modes, Step::Charge(Some(&once)), costs).await?
            }
        };
        Ok(Decision { rates, ..decision })
    }

    /// The stages before the quota: how the rate stands, and the denial of it or of a feature.
    fn gate(&self, caller: &Caller, request: &Request<'_>, asks: &Asks<'_>) -> Result<Gated, Error> {
        let paced = request.pace.map(|pace| self.pace(caller, pace, request.purpose)).transpose()?;
        let (rates, denial) = paced.unwrap_or_default();
        if let Some(denial) = denial {
            let denied = caller.deny(Vec::new(), denial);
            return Ok((Vec::new(), Some(Decision { rates, ..denied })));
        }
        let lacks = |(feature, requested): &Required<'_>| self.lacks(caller, feature, *requested);
        Ok(match asks.features.iter().find_map(lacks) {
            Some(denied) => (Vec::new(), Some(Decision { rates, ..denied })),
            None => (rates, None),
        })
    }

    /// The denial of a feature that the plan does not have, or has less of than was asked for.
    fn lacks(&self, caller: &Caller, feature: &Arc<str>, requested: Option<&FeatureValue>) -> Option<Decision> {
        let plan = &caller.standing.plan;
        let denial = match caller.refusal() {
            Some(denial) => denial,
            None if upgrade::grants(plan, feature, requested) => return None,
            None => {
                let granted = plan.features.get(feature);
                let missing = granted.is_none_or(|granted| !granted.is_present());
                let reason = if missing { Reason::FeatureNotInPlan } else { Reason::FeatureValueExceeded };
                Denial { feature_granted: granted.cloned(), ..Denial::because(reason) }
            }
        };
        let better = caller.upgrades().find(|plan| upgrade::grants(plan, feature, requested));
        let upgrade_to = better.map(|plan| Arc::clone(&plan.id));
        let (feature, feature_requested) = (Some(Arc::clone(feature)), requested.cloned());
        Some(caller.deny(Vec::new(), Denial { feature, feature_requested, upgrade_to, ..denial }))
    }

    /// Weighs the costs against the caller's quotas, and charges or holds them if that is the step.
    pub(crate) async fn weigh(
        &self,
        mut caller: Caller,
        modes: &Arc<Modes>,
        step: Step<'_>,
        mut costs: Vec<Cost>,
    ) -> Result<Decision, Error> {
        costs.retain(|cost| modes.of(&cost.metric) != Enforcement::Off);
        if step != Step::Look && caller.standing.trial_to_start && !costs.is_empty() {
            // A denied request leaves nothing behind, so it must not start the trial either.
            let decision = self.charge(&caller, modes, Step::LookBefore(&step), &costs).await?;
            if !decision.allowed || decision.degraded {
                return Ok(decision);
            }
            caller = match self.start_trial(&caller).await {
                Err(Error::Store(error)) => return self.unavailable(&caller, modes, step, &costs, &error),
                caller => caller?,
            };
        }
        self.charge(&caller, modes, step, &costs).await
    }

    /// Charges the costs, or only looks, leaving out what is in shadow and does not fit.
    async fn charge(
        &self,
        caller: &Caller,
        modes: &Arc<Modes>,
        step: Step<'_>,
        costs: &[Cost],
    ) -> Result<Decision, Error> {
        if let Some(denial) = caller.refusal().filter(|_| !costs.is_empty()) {
            // What was granted before the subscription lapsed is answered as it was.
            if let Some(repeated) = self.made_before(caller, step, costs).await? {
                return Ok(repeated);
            }
            return Ok(self.denied(caller, Vec::new(), denial, costs).await);
        }
        let basis = step.is_anonymous().then(|| caller.basis(modes, costs));
        if let Some(denied) = basis.as_ref().and_then(|basis| self.known_denial(caller, basis)) {
            return Ok(denied);
        }
        let mut asked: Vec<Cost> = costs.to_vec();
        let mut would_deny = None;
        loop {
            let touched = caller.touched(&asked);
            let charged = match self.attempt(caller, step, &touched).await {
                Err(Error::Store(error)) => return self.unavailable(caller, modes, step, &asked, &error),
                charged => charged?,
            };
            if let Outcome::Repeated(at) = charged.outcome {
                return Ok(Decision { would_deny, ..caller.repeat(at, &asked, &charged) });
            }
            let states = states_of(&touched, &charged.balances);
            if charged.granted() {
                let asked_store = !charged.balances.is_empty();
                let crossed = crossed_of(&touched, charged.crossed);
                let trace = Trace { crossed, asked_store, ..Trace::default() };
                return Ok(Decision { would_deny, trace, ..caller.allow(states) });
            }
            let in_shadow = |quota: &Touched| modes.of(&quota.metric) == Enforcement::Shadow;
            let enforced = demand::full(&touched, &states).filter(|(quota, _)| !in_shadow(quota));
            if let Some(denial) = demand::tightest(enforced) {
                let denied = self.denied(caller, states, denial, &asked).await;
                if let Some(basis) = basis {
                    caller.record.denials.put(basis, &denied, self.clock.monotonic());
                }
                return Ok(denied);
            }
            let Some(denial) = demand::tightest(demand::full(&touched, &states)) else {
                return Err(store_lied("it refused charges that fit within their limits"));
            };
            let full: Vec<Arc<str>> =
                demand::full(&touched, &states).map(|(quota, _)| Arc::clone(&quota.metric)).collect();
            asked.retain(|cost| !full.contains(&cost.metric));
            would_deny = would_deny.or_else(|| Some(Box::new(denial)));
        }
    }

    /// The answer to a step that was made before under its key, if it was: asked for within limits that
    /// nothing fits into, so that it is not made now.
    async fn made_before(&self, caller: &Caller, step: Step<'_>, costs: &[Cost]) -> Result<Option<Decision>, Error> {
        if step.is_anonymous() {
            return Ok(None);
        }
        let mut touched = caller.touched(costs);
        for quota in &mut touched {
            if let Some(period) = quota.limit.period() {
                quota.limit = QuotaLimit::Limited { units: 0, period };
            }
        }
        let charged = match self.attempt(caller, step, &touched).await {
            Err(Error::Store(_)) => return Ok(None),
            charged => charged?,
        };
        Ok(match charged.outcome {
            Outcome::Repeated(at) => Some(caller.repeat(at, costs, &charged)),
            _ => None,
        })
    }

    /// One attempt, by the store or without it where nothing is counted.
    async fn attempt(&self, caller: &Caller, step: Step<'_>, touched: &[Touched]) -> Result<Charged, Error> {
        let charges: Vec<Charge> = touched.iter().filter_map(Touched::charge).collect();
        if charges.is_empty() {
            return Ok(Charged::new(Outcome::Granted, Vec::new()));
        }
        match self.collect_debt(caller.call, &caller.owners.subject).await {
            // The store cannot be asked: the charge itself would only wait as long again.
            Err(error) if error.retry() != Retry::Never => return Err(error.into()),
            _ => {}
        }
        // Noted afterwards, also where the caller goes away: what was read meanwhile is then not shown.
        let looks = matches!(step, Step::Look | Step::LookBefore(_));
        let _noted = (!looks).then(|| Charging(caller));
        let (charged, key) = match step {
            Step::Look | Step::LookBefore(_) => (self.look(caller.call, &charges).await?, None),
            Step::Charge(once) => (self.store.charge(caller.call, &charges, once).await?, once.map(|once| &once.key)),
            Step::Hold(holding) => {
                let Holding { id, arguments, expires_at, kept_until, .. } = *holding;
                let hold = Hold { id, arguments, charges, expires_at, kept_until };
                (self.store.hold(caller.call, &hold).await?, holding.key.as_ref())
            }
        };
        match charged.outcome {
            Outcome::Conflict => Err(conflict(key)),
            _ => Ok(charged),
        }
    }

    /// Whether charges would be made, with the balances as they are.
    async fn look(&self, call: Call, charges: &[Charge]) -> Result<Charged, Error> {
        let keys: Vec<CounterKey> = charges.iter().map(|charge| charge.key.clone()).collect();
        let balances = self.store.balances(call, &keys).await?;
        let mut read = balances.iter().copied();
        let next = |_: &CounterKey| read.next().ok_or_else(|| store_lied("it left out balances"));
        let weighed = charge_all(charges, next, Balance::charged)?;
        Ok(Charged::new(weighed.outcome, balances))
    }

    /// The answer where the store cannot say: what the plan allows without it, or a denial.
    fn unavailable(
        &self,
        caller: &Caller,
        modes: &Modes,
        step: Step<'_>,
        costs: &[Cost],
        error: &StoreError,
    ) -> Result<Decision, Error> {
        let denial = Denial::unanswered(error);
        let enforced = costs.iter().filter(|cost| modes.of(&cost.metric) != Enforcement::Shadow);
        let costs: Vec<Cost> = enforced.cloned().collect();
        if costs.is_empty() {
            return Ok(Decision { would_deny: Some(Box::new(denial)), ..caller.allow(Vec::new()) });
        }
        let touched = caller.touched(&costs);
        let charges: Vec<Charge> = touched.iter().filter_map(Touched::charge).collect();
        let allowed = |metric: &str| caller.standing.plan.allow_degraded.get(metric).copied().unwrap_or(0);
        let subject = &caller.owners.subject;
        let (once, key) = match step {
            Step::LookBefore(step) => return self.unavailable(caller, modes, *step, &costs, error),
            Step::Charge(once) => (once.cloned(), once.map(|once| &once.key)),
            Step::Hold(holding) => (holding.once(subject), holding.key.as_ref()),
            Step::Look => (None, None),
        };
        let owed = match step {
            Step::Look if self.debts.would_grant(subject, &costs, allowed) => Owed::Granted,
            Step::Look => Owed::Refused,
            _ => self.debts.grant(subject, once.as_ref(), &costs, &charges, allowed),
        };
        let repeated = owed == Owed::Repeated;
        match owed {
            Owed::Granted | Owed::Repeated => Ok(Decision { degraded: true, repeated, ..caller.allow(Vec::new()) }),
            Owed::Refused => Ok(caller.deny(Vec::new(), denial)),
            Owed::Conflict => Err(conflict(key)),
        }
    }

    /// A denial, with the cheapest plan that would have let these costs pass.
    async fn denied(&self, caller: &Caller, states: Vec<QuotaState>, denial: Denial, costs: &[Cost]) -> Decision {
        let mut keys: Vec<CounterKey> = Vec::new();
        for (plan, cost) in caller.upgrades().flat_map(|plan| costs.iter().map(move |cost| (plan, cost))) {
            for (owner, limit) in caller.owners.limits(plan, &cost.metric) {
                let key = limit.period().map(|period| caller.key(owner, &cost.metric, period));
                keys.extend(key.filter(|key| !keys.contains(key)));
            }
        }
        // The denial stands whether or not a suggestion can be made.
        let balances = if keys.is_empty() { Ok(Vec::new()) } else { self.store.balances(caller.call, &keys).await };
        let held = |owner: &str, metric: &str, period: Period| {
            let mut known = keys.iter().zip(balances.iter().flatten());
            let found = known.find(|(key, _)| *key.subject == *owner && *key.metric == *metric && key.period == period);
            found.map_or(Balance::of(UNITS_MAX), |(_, balance)| *balance)
        };
        let would_allow = |plan: &&Arc<Plan>| upgrade::allows(plan, costs, &caller.owners, held);
        let upgrade_to = caller.upgrades().find(would_allow).map(|plan| Arc::clone(&plan.id));
        let trace = Trace { asked_store: true, ..Trace::default() };
        Decision { trace, ..caller.deny(states, Denial { upgrade_to, ..denial }) }
    }

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
        let every: Vec<Cost> =
            metrics.into_iter().map(|metric| Cost { metric: Arc::clone(metric), amount: 1 }).collect();
        let touched = caller.touched(&every);
        let balances = self.store.balances(caller.call, &keys_of(&touched)).await?;
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
            quotas: states_of(&touched, &balances),
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
        caller.plans.feature(name)?;
        let granted = caller.standing.refused.is_none();
        Ok(caller.standing.plan.features.get(name).filter(|_| granted).cloned())
    }

    /// The plans in force.
    pub(crate) async fn plans(self: &Arc<Self>, wait: Wait) -> Result<Arc<Plans>, Error> {
        let call = self.keep_up(wait).await;
        self.catalog.plans(call).await
    }

    /// A request that is made now.
    pub(crate) fn call(&self, wait: Wait) -> Call {
        Call::new(self.ratchet.wall(&*self.clock), wait).asked_now(&*self.clock)
    }

    /// What makes a request under an idempotency key the same one.
    pub(crate) fn once(&self, caller: &Caller, key: &str, verb: &str, costs: &[Cost]) -> Result<Once, Error> {
        check_key(key)?;
        Ok(Once {
            subject: Arc::clone(&caller.owners.subject),
            key: key.into(),
            arguments: fingerprint(verb, costs),
            kept_until: self.kept_until(caller.call),
        })
    }

    /// Until when it is remembered that a step was made.
    pub(crate) fn kept_until(&self, call: Call) -> Timestamp {
        call.now.checked_add(self.idempotency_ttl).unwrap_or(Timestamp::MAX)
    }
}

/// The thresholds that charges have reached, by the place of their quotas, of which not all are charged.
fn crossed_of(touched: &[Touched], mut crossed: Vec<Crossing>) -> Vec<Crossing> {
    let counted = touched.iter().enumerate().filter(|(_, quota)| quota.limit.period().is_some());
    let places: Vec<usize> = match crossed.is_empty() {
        true => Vec::new(),
        false => counted.map(|(place, _)| place).collect(),
    };
    for crossing in &mut crossed {
        crossing.index = places.get(crossing.index).copied().unwrap_or(usize::MAX);
    }
    crossed
}

/// What a request asked for, whatever the order in which it named it.
pub(crate) fn fingerprint(verb: &str, costs: &[Cost]) -> Fingerprint {
    let mut sorted: Vec<String> = costs.iter().map(|cost| format!("{} {}", cost.metric, cost.amount)).collect();
    sorted.sort_unstable();
    let parts: Vec<&[u8]> = std::iter::once(verb).chain(sorted.iter().map(String::as_str)).map(str::as_bytes).collect();
    Fingerprint::of(&parts)
}

/// The longest idempotency key, in bytes.
const KEY_BYTES_MAX: usize = 256;

pub(crate) fn check_key(key: &str) -> Result<(), Error> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let found = format!("{} bytes", key.len());
        return Err(Error::argument("idempotency_key", found, format!("a text of 1 to {KEY_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// What became of a request that was to be decided in memory.
pub(crate) enum Recalled {
    Decided(Result<Decision, Error>),
    /// The store is needed, or the verifier: whom the token speaks for, if that is known already.
    AskStore(Option<Arc<Identity>>),
}

/// What the stages before the quota have said.
type Gated = (Vec<ScopeState>, Option<Decision>);

/// What a request asks for, in names that the plans know. Everything is checked before anything is decided,
/// so that a mistake never charges.
struct Asks<'r> {
    costs: Vec<Cost>,
    features: Vec<Required<'r>>,
}

impl<'r> Asks<'r> {
    fn of(caller: &Caller, request: &'r Request<'_>) -> Result<Self, Error> {
        let costs = match request.asks_only_for_costs() {
            true => some_costs_of(&caller.plans, request.costs)?,
            false => costs_of(&caller.plans, request.costs, 1)?,
        };
        Ok(Self { costs, features: features_of(&caller.plans, &request.features)? })
    }
}

/// The denial of a token that speaks for nobody, which shadow does not lift: it would let anybody in.
fn stranger() -> Decision {
    Decision::deny(None, Denial::because(Reason::Unauthenticated))
}

/// A feature that must be in the plan, and the value that it must grant, if any.
type Required<'r> = (Arc<str>, Option<&'r FeatureValue>);

fn features_of<'r>(plans: &Plans, features: &'r [(&str, Option<FeatureValue>)]) -> Result<Vec<Required<'r>>, Error> {
    let known = |(name, requested): &'r (&str, Option<FeatureValue>)| {
        let feature = match requested {
            Some(requested) => plans.check_feature("value", name, requested)?,
            None => plans.feature(name)?,
        };
        Ok((Arc::clone(feature), requested.as_ref()))
    };
    features.iter().map(known).collect()
}

fn conflict(key: Option<&Arc<str>>) -> Error {
    Error::Conflict { key: key.map(|key| key.to_string()).unwrap_or_default() }
}

/// What a decision becomes where everything is in shadow.
pub(crate) fn shadowed(decision: Decision, mode: Enforcement) -> Decision {
    match decision.denied {
        Some(denial) if mode == Enforcement::Shadow => {
            Decision { allowed: true, denied: None, would_deny: Some(denial), ..decision }
        }
        _ => decision,
    }
}

pub(crate) fn store_lied(what: &str) -> Error {
    Error::Store(StoreError::Failed { detail: format!("it broke its contract: {what}"), retry: Retry::Never })
}
