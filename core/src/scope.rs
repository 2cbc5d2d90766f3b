//! Scopes: the rates of a plan, decided for whoever asks.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::admission::Admission;
use crate::caller::Caller;
use crate::decision::{Decision, Denial, Reason};
use crate::error::Error;
use crate::plan::{Plan, Plans, Rate, UNITS_MAX};
use crate::rate::{RateDecision, RateKey, RateState};
use crate::request::{Pace, Purpose};
use crate::store::{self, Call, Wait, pace_all};

/// How one window of a scope's rate stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ScopeState {
    /// What the rate limits.
    pub scope: Arc<str>,
    /// How the window stands.
    #[serde(flatten)]
    pub window: RateState,
}

impl Admission {
    /// The stage of a request that a rate decides: how its windows stand, and the denial, if it is one.
    ///
    /// It takes what it allows although the quota may deny later: a rate limits attempts.
    ///
    /// `shared` is what the store has decided, of a rate that is counted there.
    pub(crate) fn pace(
        &self,
        caller: &Caller,
        pace: Pace<'_>,
        purpose: Purpose,
        shared: Option<RateDecision>,
        now: Duration,
    ) -> Result<(Vec<ScopeState>, Option<Denial>), Error> {
        let scope = caller.standing.plans.scope(pace.scope)?;
        check_cost(pace.cost)?;
        let plan = &caller.standing.plan;
        let Some(rate) = caller.standing.plans.rate(plan, scope) else {
            return Ok((Vec::new(), Some(not_granted(scope))));
        };
        let paced = Paced { scope, key: key_of(caller, pace), rate, multiplier: plan.rate_multiplier, cost: pace.cost };
        let decision = shared.unwrap_or_else(|| self.decide_here(&paced, purpose, now));
        let states = states_of(scope, &decision);
        let denial = (!decision.allowed).then(|| {
            let faster = |plan: &&Arc<Plan>| {
                let rate = caller.standing.plans.rate(plan, scope);
                rate.is_some_and(|rate| would_pass(rate, plan.rate_multiplier, pace.cost, decision.windows()))
            };
            let upgrade_to = caller.upgrades().find(faster).map(|plan| Arc::clone(&plan.id));
            Denial { upgrade_to, ..denied(scope, &decision, pace.cost) }
        });
        Ok((states, denial))
    }

    /// The limiter alone, for a key that need not be a subject.
    pub(crate) async fn rate(
        self: &Arc<Self>,
        wait: Wait,
        scope: &str,
        key: RateKey<'_>,
        cost: u64,
    ) -> Result<RateDecision, Error> {
        check_cost(cost)?;
        let plans = self.plans(wait).await?;
        let scope = plans.scope(scope)?;
        let Some(rate) = plans.shared_rate(scope) else { return Ok(RateDecision::never()) };
        let paced = Paced { scope, key, rate, multiplier: 1, cost };
        Ok(self.decide_rate(self.call(wait), &paced, Purpose::Charge).await)
    }

    /// Gives back what the limiter alone has counted for a key.
    pub(crate) async fn refund_rate(
        self: &Arc<Self>,
        wait: Wait,
        scope: &str,
        key: RateKey<'_>,
        units: u64,
    ) -> Result<RateDecision, Error> {
        check_cost(units)?;
        let plans = self.plans(wait).await?;
        let scope = plans.scope(scope)?;
        let Some(rate) = plans.shared_rate(scope) else { return Ok(RateDecision::never()) };
        if rate.shared {
            let expected =
                "a scope whose rate is counted in memory: a store keeps when units come back, not who took them";
            return Err(Error::argument("scope", format!("{scope:?}, which is shared"), expected));
        }
        Ok(self.rates.refund(scope, key, rate, 1, units, self.clock.monotonic()))
    }

    /// The decision of a request's rate, where that is made in the store.
    pub(crate) async fn paced_in_store(
        &self,
        caller: &Caller,
        pace: Option<Pace<'_>>,
        purpose: Purpose,
    ) -> Result<Option<RateDecision>, Error> {
        let Some(pace) = pace else { return Ok(None) };
        let scope = caller.standing.plans.scope(pace.scope)?;
        check_cost(pace.cost)?;
        let plan = &caller.standing.plan;
        let Some(rate) = caller.standing.plans.rate(plan, scope).filter(|rate| rate.shared) else { return Ok(None) };
        let paced = Paced { scope, key: key_of(caller, pace), rate, multiplier: plan.rate_multiplier, cost: pace.cost };
        Ok(Some(self.decide_rate(caller.call, &paced, purpose).await))
    }

    /// Whether a request's rate is counted in the store.
    pub(crate) fn is_paced_in_store(&self, caller: &Caller, pace: Option<Pace<'_>>) -> bool {
        let plans = &caller.standing.plans;
        let scope = pace.and_then(|pace| plans.scope(pace.scope).ok());
        scope.and_then(|scope| plans.rate(&caller.standing.plan, scope)).is_some_and(|rate| rate.shared)
    }

    /// A decision in the store, of a rate that is counted there, or in memory.
    async fn decide_rate(&self, call: Call, paced: &Paced<'_>, purpose: Purpose) -> RateDecision {
        let Paced { scope, key, rate, multiplier, cost } = *paced;
        if rate.shared {
            let taken = rate.shared_cost(scope, key, multiplier, cost);
            let asked = match purpose {
                Purpose::Charge => taken.clone(),
                Purpose::Look => rate.shared_cost(scope, key, multiplier, 0),
            };
            match self.store.rate(call, &asked).await {
                Ok(found) if purpose == Purpose::Look => {
                    let allowed = pace_all(&taken.windows, &found.debts_ns, 0).allowed;
                    return rate.decided(multiplier, cost, &store::Paced { allowed, ..found });
                }
                Ok(found) => return rate.decided(multiplier, cost, &found),
                // A rate protects what is behind it also then: each process by itself.
                Err(error) => tracing::debug!(target: "quotum", %error, %scope, "a shared rate is counted here alone"),
            }
        }
        self.decide_here(paced, purpose, self.clock.monotonic())
    }

    /// A decision in memory.
    fn decide_here(&self, paced: &Paced<'_>, purpose: Purpose, now: Duration) -> RateDecision {
        let Paced { scope, key, rate, multiplier, cost } = *paced;
        match purpose {
            Purpose::Charge => self.rates.decide(scope, key, rate, multiplier, cost, now),
            Purpose::Look => self.rates.peek(scope, key, rate, multiplier, cost, now),
        }
    }

    /// The same as a stage of a request by somebody who is not known.
    pub(crate) async fn pace_anyone(
        &self,
        call: Call,
        plans: &Plans,
        pace: Pace<'_>,
        key: RateKey<'_>,
        purpose: Purpose,
    ) -> Result<Decision, Error> {
        check_cost(pace.cost)?;
        let scope = plans.scope(pace.scope)?;
        let Some(rate) = plans.shared_rate(scope) else { return Ok(Decision::deny(None, not_granted(scope))) };
        let paced = Paced { scope, key, rate, multiplier: 1, cost: pace.cost };
        let decision = self.decide_rate(call, &paced, purpose).await;
        let rates = states_of(scope, &decision);
        Ok(match decision.allowed {
            true => Decision { rates, ..Decision::allow() },
            false => Decision { rates, ..Decision::deny(None, denied(scope, &decision, pace.cost)) },
        })
    }
}

/// A cost on a rate.
#[derive(Clone, Copy)]
struct Paced<'p> {
    scope: &'p Arc<str>,
    key: RateKey<'p>,
    rate: &'p Rate,
    multiplier: u32,
    cost: u64,
}

/// The key that a request counts under: its subject, where it gives no other.
fn key_of<'c>(caller: &'c Caller, pace: Pace<'c>) -> RateKey<'c> {
    pace.key.unwrap_or_else(|| RateKey::from(&*caller.owners.subject))
}

/// Whether another plan's rate would have let a cost pass, had the key asked for the same units under it.
///
/// In units, not by the states that are kept: a state of GCRA is a time, and a burst that is spent under a
/// slow rate is as long a time as one spent under a fast rate.
fn would_pass(rate: &Rate, multiplier: u32, cost: u64, denied: &[RateState]) -> bool {
    rate.limits.iter().map(|limit| limit.times(multiplier)).all(|limit| {
        let same = denied.iter().find(|state| state.limit.window_s == limit.window_s);
        let used = same.map_or(0, |state| state.limit.burst.saturating_sub(state.remaining));
        used.saturating_add(cost) <= limit.burst
    })
}

/// The denial of a scope that only other plans have. A name that a plan does not mention never means "unlimited",
/// and whoever is not known to be on a plan is on none that has it.
fn not_granted(scope: &Arc<str>) -> Denial {
    Denial { scope: Some(Arc::clone(scope)), limit: Some(0), ..Denial::because(Reason::NeverFits) }
}

fn states_of(scope: &Arc<str>, decision: &RateDecision) -> Vec<ScopeState> {
    let state = |window: &RateState| ScopeState { scope: Arc::clone(scope), window: *window };
    decision.windows().iter().map(state).collect()
}

fn denied(scope: &Arc<str>, decision: &RateDecision, cost: u64) -> Denial {
    let window = decision.denied_by().map(|state| state.limit);
    let limit = window.map(|limit| if decision.never_fits { limit.burst } else { limit.units });
    let retry_after = decision.retry_after.map(whole_ms);
    Denial {
        scope: Some(Arc::clone(scope)),
        window_s: window.map(|limit| limit.window_s),
        requested: Some(cost),
        limit,
        retry_after_ms: retry_after,
        ..Denial::because(if decision.never_fits { Reason::NeverFits } else { Reason::RateLimited })
    }
}

/// Rounded up: who waits that long must not be too early.
fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

pub(crate) fn check_cost(cost: u64) -> Result<(), Error> {
    match cost {
        1..=UNITS_MAX => Ok(()),
        _ => Err(Error::argument("cost", cost, format!("from 1 to {UNITS_MAX} units"))),
    }
}
