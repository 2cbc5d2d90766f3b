//! The flow of a request, top to bottom: token, subject, subscription, plan, rate, features, quota,
//! decision, event.
//!
//! Each stage lives in a module of its own; this file only strings them together. Whether a caller is
//! synchronous or a task makes one difference, which it hands on to the store as [`Wait`].

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::caller::Caller;
use crate::clock::{Clock, Ratchet};
use crate::debt::Debts;
use crate::decision::{Decision, Denial, QuotaState, Reason, Usage};
use crate::error::Error;
use crate::feed::Feed;
use crate::plan::catalog::Catalog;
use crate::plan::{FeatureValue, Plan, Plans, UNITS_MAX, upgrade};
use crate::planted::planted;
use crate::policy::{Enforcement, Modes, Switchboard};
use crate::rate::RateTable;
use crate::record::{Changes, Records};
use crate::request::{Purpose, Request, Who};
use crate::store::{
    Balance, Call, Charge, Charged, CounterKey, Hold, Once, Outcome, Store, StoreError, Wait, charge_all,
};
use crate::token::{Authenticated, Identity, Tokens};
use crate::usage::demand::{self, Cost, Touched, costs_of, keys_of, some_costs_of, states_of};
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

impl Admission {
    /// The whole flow for one request.
    pub(crate) async fn admit(self: &Arc<Self>, wait: Wait, request: &Request<'_>) -> Result<Decision, Error> {
        self.keep_up(wait).await;
        let modes = self.switchboard.modes();
        if modes.everywhere() == Enforcement::Off {
            return Ok(Decision::allow());
        }
        let call = self.call(wait);
        let identity: Arc<Identity>;
        let subject = match request.who {
            Who::Subject(subject) => subject,
            Who::Token(token) => match self.authenticate(call, token).await? {
                Authenticated::Known(known) => {
                    identity = known;
                    &identity.subject
                }
                // Nobody is let in because enforcement is in shadow.
                Authenticated::Refused => return Ok(Decision::deny(None, Denial::because(Reason::Unauthenticated))),
            },
        };
        let decision = match self.caller(call, subject).await {
            Err(Error::Store(error)) => Decision::deny(Some(subject.into()), Denial::unanswered(&error)),
            caller => self.decide(caller?, &modes, request).await?,
        };
        Ok(shadowed(decision, modes.everywhere()))
    }

    /// Whom a token speaks for.
    pub(crate) async fn authenticate(&self, call: Call, token: &str) -> Result<Authenticated, Error> {
        let tokens = self.tokens.as_ref().ok_or_else(|| {
            Error::argument("token", "a token", "a subject, because the builder was given no verifier of tokens")
        })?;
        tokens.authenticate(call, token).await
    }

    /// Rate, features and quota, for a caller who is known.
    async fn decide(&self, caller: Caller, modes: &Modes, request: &Request<'_>) -> Result<Decision, Error> {
        // Everything is checked before anything is decided, so that a mistake never charges.
        let costs = match request.asks_only_for_costs() {
            true => some_costs_of(&caller.plans, request.costs)?,
            false => costs_of(&caller.plans, request.costs, 1)?,
        };
        let features = features_of(&caller.plans, &request.features)?;
        let paced = request.pace.map(|pace| self.pace(&caller, pace, request.purpose)).transpose()?;
        let (rates, denial) = paced.unwrap_or_default();
        if let Some(denial) = denial {
            return Ok(Decision { rates, ..caller.deny(Vec::new(), denial) });
        }
        for (feature, requested) in features {
            if let Some(decision) = self.lacks(&caller, &feature, requested) {
                return Ok(Decision { rates, ..decision });
            }
        }
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
        modes: &Modes,
        step: Step<'_>,
        mut costs: Vec<Cost>,
    ) -> Result<Decision, Error> {
        costs.retain(|cost| modes.of(&cost.metric) != Enforcement::Off);
        if step != Step::Look && caller.standing.trial_to_start && !costs.is_empty() {
            // A denied request leaves nothing behind, so it must not start the trial either.
            let decision = self.charge(&caller, modes, Step::Look, &costs).await?;
            if !decision.allowed {
                return Ok(decision);
            }
            caller = match self.start_trial(&caller).await {
                Err(Error::Store(error)) => return Ok(self.unavailable(&caller, step, &costs, &error)),
                caller => caller?,
            };
        }
        self.charge(&caller, modes, step, &costs).await
    }

    /// Charges the costs, or only looks, leaving out what is in shadow and does not fit.
    async fn charge(&self, caller: &Caller, modes: &Modes, step: Step<'_>, costs: &[Cost]) -> Result<Decision, Error> {
        if let Some(denial) = caller.refusal().filter(|_| !costs.is_empty()) {
            return Ok(self.denied(caller, Vec::new(), denial, costs).await);
        }
        let mut asked: Vec<Cost> = costs.to_vec();
        let mut would_deny = None;
        loop {
            let touched = caller.touched(&asked);
            let charged = match self.attempt(caller, step, &touched).await {
                Err(Error::Store(error)) => return Ok(self.unavailable(caller, step, &asked, &error)),
                charged => charged?,
            };
            let states = match charged.outcome {
                // As they stood then: in the windows of that time.
                Outcome::Repeated(at) => {
                    let then = |period: Period| period.window(at, &caller.standing.zone, caller.standing.anchor);
                    let touched = Touched::by(&asked, &caller.standing.plan, &caller.owners, then);
                    states_of(&touched, &charged.balances)
                }
                _ => states_of(&touched, &charged.balances),
            };
            if charged.granted() {
                let repeated = matches!(charged.outcome, Outcome::Repeated(_));
                return Ok(Decision { would_deny, repeated, ..caller.allow(states) });
            }
            let in_shadow = |quota: &Touched| modes.of(&quota.metric) == Enforcement::Shadow;
            let enforced = demand::full(&touched, &states).filter(|(quota, _)| !in_shadow(quota));
            if let Some(denial) = demand::tightest(enforced) {
                return Ok(self.denied(caller, states, denial, &asked).await);
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

    /// One attempt, by the store or without it where nothing is counted.
    async fn attempt(&self, caller: &Caller, step: Step<'_>, touched: &[Touched]) -> Result<Charged, Error> {
        let charges: Vec<Charge> = touched.iter().filter_map(Touched::charge).collect();
        if charges.is_empty() {
            return Ok(Charged { outcome: Outcome::Granted, balances: Vec::new(), crossed: Vec::new() });
        }
        self.collect_debt(caller.call, &caller.owners.subject).await;
        let (charged, key) = match step {
            Step::Look => (self.look(caller.call, &charges).await?, None),
            Step::Charge(once) => (self.store.charge(caller.call, &charges, once).await?, once.map(|once| &once.key)),
            Step::Hold(holding) => {
                let Holding { id, arguments, expires_at, kept_until, .. } = *holding;
                let hold = Hold { id, arguments, charges, expires_at, kept_until };
                (self.store.hold(caller.call, &hold).await?, holding.key.as_ref())
            }
        };
        match charged.outcome {
            Outcome::Conflict => Err(Error::Conflict { key: key.map(|key| key.to_string()).unwrap_or_default() }),
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
        Ok(Charged { outcome: weighed.outcome, balances, crossed: Vec::new() })
    }

    /// The answer where the store cannot say: what the plan allows without it, or a denial.
    fn unavailable(&self, caller: &Caller, step: Step<'_>, costs: &[Cost], error: &StoreError) -> Decision {
        let touched = caller.touched(costs);
        let charges: Vec<Charge> = touched.iter().filter_map(Touched::charge).collect();
        let allowed = |metric: &str| caller.standing.plan.allow_degraded.get(metric).copied().unwrap_or(0);
        let subject = &caller.owners.subject;
        let only_looks = step == Step::Look && !planted!("look_is_charged_when_the_store_is_dead");
        let granted = match step {
            _ if only_looks => self.debts.would_grant(subject, costs, allowed),
            Step::Charge(once) => self.debts.grant(subject, costs, &charges, once, allowed),
            _ => self.debts.grant(subject, costs, &charges, None, allowed),
        };
        if granted {
            return Decision { degraded: true, ..caller.allow(Vec::new()) };
        }
        caller.deny(Vec::new(), Denial::unanswered(error))
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
        caller.deny(states, Denial { upgrade_to, ..denial })
    }

    /// Everything that a subject's account page shows.
    pub(crate) async fn usage(self: &Arc<Self>, wait: Wait, subject: &str) -> Result<Usage, Error> {
        self.keep_up(wait).await;
        let caller = self.caller(self.call(wait), subject).await?;
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
        Ok(Usage {
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
        })
    }

    /// The value of a feature in the subject's plan; `None` where the plan does not name it.
    pub(crate) async fn feature(
        self: &Arc<Self>,
        wait: Wait,
        subject: &str,
        name: &str,
    ) -> Result<Option<FeatureValue>, Error> {
        self.keep_up(wait).await;
        let caller = self.caller(self.call(wait), subject).await?;
        caller.plans.feature(name)?;
        let granted = caller.standing.refused.is_none();
        Ok(caller.standing.plan.features.get(name).filter(|_| granted).cloned())
    }

    /// The plans in force.
    pub(crate) async fn plans(self: &Arc<Self>, wait: Wait) -> Result<Arc<Plans>, Error> {
        self.keep_up(wait).await;
        self.catalog.plans(self.call(wait)).await
    }

    pub(crate) fn call(&self, wait: Wait) -> Call {
        Call::new(self.ratchet.wall(&*self.clock), wait)
    }

    /// What makes a request under an idempotency key the same one.
    pub(crate) fn once(&self, caller: &Caller, key: &str, verb: &str, costs: &[Cost]) -> Result<Once, Error> {
        check_key(key)?;
        let kept_until = caller.call.now.checked_add(self.idempotency_ttl).unwrap_or(Timestamp::MAX);
        Ok(Once {
            subject: Arc::clone(&caller.owners.subject),
            key: key.into(),
            arguments: fingerprint(verb, costs),
            kept_until,
        })
    }
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
    Error::Store(StoreError::Failed {
        detail: format!("it broke its contract: {what}"),
        retry: crate::error::Retry::Never,
    })
}
