//! The quota stage of the flow: charges what a request costs, sets it aside, or only looks; in the store,
//! or without it where that is allowed.

use std::convert::Infallible;
use std::sync::Arc;

use jiff::Timestamp;

use crate::admission::Admission;
use crate::caller::{Caller, Charging};
use crate::debt::{Owed, Share};
use crate::decision::{Decision, Denial, QuotaState, Trace, Unanswered};
use crate::error::{Error, Retry};
use crate::plan::{Plan, UNITS_MAX, upgrade};
use crate::planted::planted;
use crate::policy::{Enforcement, Modes};
use crate::store::{Balance, Charge, Charged, CounterKey, Crossing, Hold, Once, Outcome, StoreError, charge_all};
use crate::usage::demand::{self, Cost, Costs, Touched, states_of};
use crate::usage::hold::HoldId;
use crate::usage::period::Period;

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
    pub(crate) once: Option<Once>,
    pub(crate) expires_at: Timestamp,
    pub(crate) kept_until: Timestamp,
}

impl<'s> Step<'s> {
    /// Whether it is a new step each time, so that a denial of one is a denial of all.
    fn is_anonymous(self) -> bool {
        self.once().is_none()
    }

    /// What makes it the same one when it is asked for again.
    fn once(self) -> Option<&'s Once> {
        match self {
            Self::Charge(once) => once,
            Self::Hold(holding) => holding.once.as_ref(),
            Self::Look | Self::LookBefore(_) => None,
        }
    }
}

impl Admission {
    /// Weighs the costs against the caller's quotas, and charges or holds them if that is the step.
    pub(crate) async fn weigh(
        &self,
        mut caller: Caller,
        modes: &Arc<Modes>,
        step: Step<'_>,
        mut costs: Costs,
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
        let mut asked = Costs::from(costs);
        let mut would_deny = None;
        let (mut returned, mut doubted) = (false, false);
        loop {
            let touched = caller.touched(&asked);
            let charged = match self.attempt(caller, step, &touched).await {
                Err(Error::Store(error)) => return self.unavailable(caller, modes, step, &asked, &error),
                charged => charged?,
            };
            if let Outcome::Repeated(at) = charged.outcome {
                return Ok(Decision { would_deny, ..caller.repeat(at, &asked, &charged) });
            }
            if charged.granted() {
                if matches!(step, Step::Charge(_)) {
                    self.note_charged(caller, &touched, &charged.balances);
                }
                let states = self.states_with_own(caller, &touched, &charged.balances);
                let asked_store = !charged.balances.is_empty();
                let crossed = crossed_of(&touched, &charged.crossed);
                let trace = Trace { crossed, asked_store, ..Trace::default() };
                return Ok(Decision { would_deny, trace, ..caller.allow(states) });
            }
            // What this process has leased itself may be all that is missing.
            if !std::mem::replace(&mut returned, true) && self.return_own(caller, &touched).await {
                continue;
            }
            let states = states_of(&touched, &charged.balances);
            let in_shadow = |quota: &Touched<'_>| modes.of(quota.metric) == Enforcement::Shadow;
            let enforced = demand::full(&touched, &states).filter(|(quota, _)| !in_shadow(quota));
            if let Some(denial) = demand::tightest(enforced) {
                self.recall_from_others(caller, &touched, &states);
                let denied = self.denied(caller, states, denial, &asked).await;
                if let Some(basis) = basis {
                    caller.record.denials.put(basis, &denied, self.clock.monotonic());
                }
                return Ok(denied);
            }
            let Some(denial) = demand::tightest(demand::full(&touched, &states)) else {
                // A refusal whose answer was lost comes with what the counters hold now: there may be room since.
                if !charged.balances.is_empty() && !std::mem::replace(&mut doubted, true) {
                    continue;
                }
                return Ok(distrusted(caller, modes, &asked, &charged.balances));
            };
            let full: Vec<Arc<str>> =
                demand::full(&touched, &states).map(|(quota, _)| Arc::clone(quota.metric)).collect();
            drop(touched);
            asked.retain(|cost| !full.contains(&cost.metric));
            would_deny = would_deny.or_else(|| Some(Box::new(denial)));
        }
    }

    /// The answer to a step that was made before under its key, if it was: asked for with more units than can
    /// ever fit, whatever the bonus, so that it is not made now.
    async fn made_before(&self, caller: &Caller, step: Step<'_>, costs: &[Cost]) -> Result<Option<Decision>, Error> {
        if step.is_anonymous() {
            return Ok(None);
        }
        let mut touched = caller.touched(costs);
        for quota in &mut touched {
            quota.amount = UNITS_MAX + 1;
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
    async fn attempt(&self, caller: &Caller, step: Step<'_>, touched: &[Touched<'_>]) -> Result<Charged, Error> {
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
        let charged = match step {
            Step::Look | Step::LookBefore(_) => self.look(caller, &charges).await?,
            Step::Charge(once) => self.store.charge(caller.call, &charges, once).await?,
            Step::Hold(holding) => {
                let Holding { id, once, expires_at, kept_until } = holding.clone();
                let hold = Hold { id, once, charges, expires_at, kept_until };
                let held = self.store.hold(caller.call, &hold).await?;
                // Nobody else knows the name: the store has asked its server again for an answer that was lost.
                match held.hold == Some(id) {
                    true => Charged::new(Outcome::Granted, held.balances),
                    false => held,
                }
            }
        };
        match charged.outcome {
            Outcome::Conflict => Err(conflict(step.once())),
            _ => Ok(charged),
        }
    }

    /// Whether charges would be made, with the balances as they are.
    async fn look(&self, caller: &Caller, charges: &[Charge]) -> Result<Charged, Error> {
        let keys: Vec<CounterKey> = charges.iter().map(|charge| charge.key.clone()).collect();
        let known = self.balances_with_own(caller, &keys).await?;
        let balances: Vec<Balance> = known.into_iter().map(|(balance, _)| balance).collect();
        if balances.len() < keys.len() {
            return Ok(Charged::new(Outcome::Refused, Vec::new()));
        }
        let mut read = balances.iter().copied();
        let next = |_: &CounterKey| Ok::<_, Infallible>(read.next().unwrap_or_default());
        let Ok(weighed) = charge_all(charges, next, Balance::charged);
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
        if let Step::LookBefore(step) = step {
            return self.unavailable(caller, modes, *step, costs, error);
        }
        let denial = Denial::unanswered(error);
        let told = |owed| {
            let unanswered = Unanswered { cause: error.to_string(), costs: Costs::from(costs), owed };
            Trace { asked_store: true, unanswered: Some(Box::new(unanswered)), ..Trace::default() }
        };
        let enforced = costs.iter().filter(|cost| modes.of(&cost.metric) != Enforcement::Shadow);
        let enforced: Costs = enforced.cloned().collect();
        if enforced.is_empty() {
            let passed = caller.allow(Vec::new());
            return Ok(Decision { would_deny: Some(Box::new(denial)), trace: told(None), ..passed });
        }
        let charges: Vec<Charge> = caller.touched(&enforced).iter().filter_map(Touched::charge).collect();
        let allowed = |metric: &str| caller.standing.plan.allow_degraded.get(metric).copied().unwrap_or(0);
        let subject = &caller.owners.subject;
        let step = if planted!("look_is_charged_when_the_store_is_dead") { Step::Charge(None) } else { step };
        let owed = match step {
            Step::Look if self.debts.would_grant(subject, &enforced, allowed) => {
                return Ok(Decision { degraded: true, trace: told(None), ..caller.allow(Vec::new()) });
            }
            Step::Look => Owed::Refused,
            _ => self.debts.grant(subject, step.once(), &enforced, &charges, allowed),
        };
        let repeated = matches!(owed, Owed::Repeated(_));
        match owed {
            Owed::Granted(debt) | Owed::Repeated(debt) => {
                let share = Share { subject: Arc::clone(subject), debt, costs: enforced, charges };
                Ok(Decision {
                    degraded: true,
                    repeated,
                    trace: told(Some(Box::new(share))),
                    ..caller.allow(Vec::new())
                })
            }
            Owed::Refused => Ok(Decision { trace: told(None), ..caller.deny(Vec::new(), denial) }),
            Owed::Conflict => Err(conflict(step.once())),
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
}

/// The thresholds that charges have reached, by the place of their quotas, of which not all are charged.
fn crossed_of(touched: &[Touched<'_>], crossed: &[Crossing]) -> Option<Box<[Crossing]>> {
    if crossed.is_empty() {
        return None;
    }
    let counted = touched.iter().enumerate().filter(|(_, quota)| quota.limit.period().is_some());
    let places: Vec<usize> = counted.map(|(place, _)| place).collect();
    let placed = |crossing: &Crossing| {
        let index = places.get(crossing.index).copied().unwrap_or(usize::MAX);
        Crossing { index, ..*crossing }
    };
    Some(crossed.iter().map(placed).collect())
}

fn conflict(once: Option<&Once>) -> Error {
    Error::Conflict { key: once.map(|once| once.key.to_string()).unwrap_or_default() }
}

/// The answer where the store has answered, but what cannot be. It is in doubt and not away, so nothing is granted
/// without it.
fn distrusted(caller: &Caller, modes: &Modes, costs: &[Cost], balances: &[Balance]) -> Decision {
    let what = if balances.is_empty() { LEFT_OUT } else { "it refused charges that fit within their limits" };
    let denial = Denial::unanswered(&store_lied(what));
    match costs.iter().all(|cost| modes.of(&cost.metric) == Enforcement::Shadow) {
        true => Decision { would_deny: Some(Box::new(denial)), ..caller.allow(Vec::new()) },
        false => caller.deny(Vec::new(), denial),
    }
}

/// How a store breaks its contract that tells nothing of counters it was asked for.
pub(crate) const LEFT_OUT: &str = "it left out balances";

pub(crate) fn store_lied(what: &str) -> StoreError {
    StoreError::Failed { detail: format!("it broke its contract: {what}"), retry: Retry::Never }
}
