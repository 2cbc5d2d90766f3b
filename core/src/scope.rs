//! Scopes: the rates of a plan, decided for whoever asks.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::admission::Admission;
use crate::caller::Caller;
use crate::decision::{Decision, Denial, Reason};
use crate::error::Error;
use crate::plan::{Plan, Plans, Rate, UNITS_MAX};
use crate::rate::{RateDecision, RateKey, RateState};
use crate::request::{Pace, Purpose};
use crate::store::Wait;

/// How one window of a scope's rate stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    pub(crate) fn pace(
        &self,
        caller: &Caller,
        pace: Pace<'_>,
        purpose: Purpose,
        now: Duration,
    ) -> Result<(Vec<ScopeState>, Option<Denial>), Error> {
        let scope = caller.standing.plans.scope(pace.scope)?;
        check_cost(pace.cost)?;
        let plan = &caller.standing.plan;
        let key = pace.key.unwrap_or_else(|| RateKey::from(&*caller.owners.subject));
        let Some(rate) = caller.standing.plans.rate(plan, scope) else {
            return Ok((Vec::new(), Some(not_granted(scope))));
        };
        let decision = match purpose {
            Purpose::Charge => self.rates.decide(scope, key, rate, plan.rate_multiplier, pace.cost, now),
            Purpose::Look => self.rates.peek(scope, key, rate, plan.rate_multiplier, pace.cost, now),
        };
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
        Ok(self.rates.decide(scope, key, rate, 1, cost, self.clock.monotonic()))
    }

    /// The same as a stage of a request by somebody who is not known.
    pub(crate) fn pace_anyone(
        &self,
        plans: &Plans,
        pace: Pace<'_>,
        key: RateKey<'_>,
        purpose: Purpose,
    ) -> Result<Decision, Error> {
        check_cost(pace.cost)?;
        let scope = plans.scope(pace.scope)?;
        let Some(rate) = plans.shared_rate(scope) else { return Ok(Decision::deny(None, not_granted(scope))) };
        let now = self.clock.monotonic();
        let decision = match purpose {
            Purpose::Charge => self.rates.decide(scope, key, rate, 1, pace.cost, now),
            Purpose::Look => self.rates.peek(scope, key, rate, 1, pace.cost, now),
        };
        let rates = states_of(scope, &decision);
        Ok(match decision.allowed {
            true => Decision { rates, ..Decision::allow() },
            false => Decision { rates, ..Decision::deny(None, denied(scope, &decision, pace.cost)) },
        })
    }
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
