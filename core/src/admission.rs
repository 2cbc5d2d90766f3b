//! The flow of a request, top to bottom: token, subject, subscription, plan, rate, features, quota,
//! decision, event.
//!
//! Each stage lives in a module of its own; this file only strings them together. Whether a caller is
//! synchronous or a task makes one difference, which it hands on to the store as [`Wait`].

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;

use crate::caller::{Caller, check_subject};
use crate::charging::Step;
use crate::clock::{Clock, Ratchet};
use crate::debt::Debts;
use crate::decision::{Decision, Denial, Reason};
use crate::error::Error;
use crate::eviction::Evictions;
use crate::feed::Feed;
use crate::lease::Desk;
use crate::observer::Observer;
use crate::plan::catalog::Catalog;
use crate::plan::{FeatureValue, Plans, upgrade};
use crate::policy::{Enforcement, Modes, Switchboard};
use crate::rate::{RateDecision, RateTable};
use crate::recall::{Found, Recalled};
use crate::record::{Changes, Records};
use crate::request::{Purpose, Request, Who};
use crate::scope::{ScopeState, check_cost};
use crate::store::{Call, Once, Store, Wait};
use crate::token::{Authenticated, Tokens};
use crate::usage::demand::{Cost, Costs, costs_of, some_costs_of};
use crate::usage::hold::Fingerprint;

#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) store: Arc<dyn Store>,
    /// Whether nobody has to wait for the store.
    pub(crate) answers_at_once: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ratchet: Ratchet,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) records: Records,
    pub(crate) changes: Changes,
    pub(crate) feed: Feed,
    pub(crate) switchboard: Switchboard,
    pub(crate) debts: Debts,
    pub(crate) desk: Arc<Desk>,
    pub(crate) observer: Observer,
    pub(crate) evictions: Evictions,
    pub(crate) tokens: Option<Arc<Tokens>>,
    pub(crate) rates: RateTable,
    pub(crate) subscription_ttl: Duration,
    pub(crate) idempotency_ttl: Duration,
}

impl Admission {
    /// The whole flow for one request: straight through where everything is in memory, and otherwise as a
    /// future that may ask the store.
    pub(crate) async fn admit(self: &Arc<Self>, wait: Wait, request: &Request<'_>) -> Result<Decision, Error> {
        match self.recall(request) {
            Recalled::Decided(decision) => decision,
            // Boxed, so that callers do not carry around what most requests do not need.
            Recalled::AskStore(found) => Box::pin(self.ask(wait, request, *found)).await,
        }
    }

    /// The flow for a request that is not decided in memory.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        wait: Wait,
        request: &Request<'_>,
        found: Found,
    ) -> Result<Decision, Error> {
        let begun = self.observer.begin();
        let call = self.keep_up(wait).await;
        let decision = self.decide(call, request, found).await?;
        self.observer.decided(request.verb(), &decision, call.now, begun);
        Ok(decision)
    }

    /// The same by a store that answers at once. `None` where somebody else must be waited for, such as a verifier;
    /// nothing has then been done: the charge is the last that is waited for.
    pub(crate) fn ask_at_once(
        self: &Arc<Self>,
        request: &Request<'_>,
        found: Found,
    ) -> Option<Result<Decision, Error>> {
        // A rate would be taken before, and again by whoever asks again; a verifier would be asked twice.
        let is_unknown = matches!(request.who, Who::Token(_)) && found.identity.is_none();
        if !self.answers_at_once || request.pace.is_some() || is_unknown {
            return None;
        }
        self.ask(Wait::Yield, request, found).now_or_never()
    }

    /// From the request to the decision.
    async fn decide(&self, call: Call, request: &Request<'_>, found: Found) -> Result<Decision, Error> {
        let modes = self.switchboard.modes();
        // Switching the quotas off or into shadow lets nobody in: who is asking is found out first.
        let identity = match (request.who, found.identity) {
            (Who::Subject(_) | Who::Held(_) | Who::Anyone, _) => None,
            (Who::Token(_), Some(known)) => Some(known),
            (Who::Token(token), None) => match self.authenticate(call, token).await? {
                Authenticated::Known(known) => Some(known),
                Authenticated::Refused => return Ok(stranger(token)),
            },
        };
        let subject = match request.who {
            Who::Subject(subject) => Some(subject),
            Who::Held(subject) => Some(subject.id()),
            Who::Token(_) | Who::Anyone => identity.as_ref().map(|identity| &*identity.subject),
        };
        let decision = match subject {
            // It guards logins, which are not opened by switching the quotas off or into shadow.
            None => return self.decide_for_anyone(call, request).await,
            Some(subject) if modes.everywhere() == Enforcement::Off => {
                // A kill switch works also where nothing can be read.
                match self.catalog.plans(call).await {
                    Ok(plans) => undecided(&plans, subject, request)?,
                    Err(_) => Decision::unasked(Some(subject)),
                }
            }
            Some(subject) => match self.caller_found(call, subject, found.caller).await {
                Err(Error::Store(error)) => Decision::deny(Some(subject.into()), Denial::unanswered(&error)),
                caller => self.decide_for(caller?, &modes, request).await?,
            },
        };
        Ok(Decision { identity, ..shadowed(decision, &modes) })
    }

    /// A rate, and nothing else, for a caller who is not known.
    async fn decide_for_anyone(&self, call: Call, request: &Request<'_>) -> Result<Decision, Error> {
        let wanted = request.pace.and_then(|pace| Some((pace, pace.key?)));
        match wanted.filter(|_| request.features.is_empty() && request.costs.is_empty()) {
            Some((pace, key)) => {
                self.pace_anyone(call, &*self.catalog.plans(call).await?, pace, key, request.purpose).await
            }
            None => {
                let expected = "a rate for a key and nothing else, because nobody is known to have a plan";
                Err(Error::argument("request", "a request by anyone", expected))
            }
        }
    }

    /// Whom a token speaks for.
    pub(crate) async fn authenticate(&self, call: Call, token: &str) -> Result<Authenticated, Error> {
        // No token at all speaks for nobody, also where none could be verified.
        if token.is_empty() {
            return Ok(Authenticated::Refused);
        }
        let tokens = self.tokens.as_ref().ok_or_else(|| {
            Error::argument("token", "a token", "a subject, because the builder was given no verifier of tokens")
        })?;
        tokens.authenticate(call, token).await
    }

    /// Rate, features and quota, for a caller who is known.
    async fn decide_for(&self, caller: Caller, modes: &Arc<Modes>, request: &Request<'_>) -> Result<Decision, Error> {
        let asks = Asks::of(&caller.standing.plans, request)?;
        // By the time of now: the store may have been asked about the caller.
        let shared = self.paced_in_store(&caller, request.pace, request.purpose).await?;
        let (rates, denied) = self.gate(&caller, request, &asks, shared, self.clock.monotonic())?;
        if let Some(denied) = denied {
            return Ok(denied);
        }
        let costs = asks.costs;
        let decision = match (request.purpose, request.idempotency_key) {
            (Purpose::Look, _) => self.weigh(caller, modes, Step::Look, costs).await?,
            (Purpose::Charge, None) => self.weigh(caller, modes, Step::Charge(None), costs).await?,
            (Purpose::Charge, Some(key)) => {
                let once = once(&caller.owners.subject, key, "consume", &costs, self.kept_until(caller.call));
                self.weigh(caller, modes, Step::Charge(Some(&once)), costs).await?
            }
        };
        Ok(Decision { rates, ..decision })
    }

    /// The stages before the quota: how the rate stands, and the denial of it or of a feature.
    pub(crate) fn gate(
        &self,
        caller: &Caller,
        request: &Request<'_>,
        asks: &Asks<'_>,
        shared: Option<RateDecision>,
        now: Duration,
    ) -> Result<Gated, Error> {
        let paced = request.pace.map(|pace| self.pace(caller, pace, request.purpose, shared, now)).transpose()?;
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

    /// The plans in force.
    pub(crate) async fn plans(self: &Arc<Self>, wait: Wait) -> Result<Arc<Plans>, Error> {
        let call = self.keep_up(wait).await;
        self.catalog.plans(call).await
    }

    /// A request that is made now.
    pub(crate) fn call(&self, wait: Wait) -> Call {
        self.call_in_memory(wait).asked_now()
    }

    /// A request that is made now and may not need the store, whose timeouts then need no clock.
    pub(crate) fn call_in_memory(&self, wait: Wait) -> Call {
        Call { monotonic: Some(self.clock.monotonic()), ..Call::new(self.ratchet.wall(&*self.clock), wait) }
    }

    /// Until when it is remembered that a step was made.
    fn kept_until(&self, call: Call) -> Timestamp {
        call.now.checked_add(self.idempotency_ttl).unwrap_or(Timestamp::MAX)
    }
}

/// What makes a request under an idempotency key the same one: the verb and what it asked for, whatever the
/// order in which it named it.
pub(crate) fn once(subject: &Arc<str>, key: &str, verb: &str, costs: &[Cost], kept_until: Timestamp) -> Once {
    let mut sorted: Vec<String> = costs.iter().map(|cost| format!("{} {}", cost.metric, cost.amount)).collect();
    sorted.sort_unstable();
    let parts: Vec<&[u8]> = std::iter::once(verb).chain(sorted.iter().map(String::as_str)).map(str::as_bytes).collect();
    Once { subject: Arc::clone(subject), key: key.into(), arguments: Fingerprint::of(&parts), kept_until }
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

/// What the stages before the quota have said.
type Gated = (Vec<ScopeState>, Option<Decision>);

/// What a request asks for, in names that the plans know. Everything is checked before anything is decided,
/// so that a mistake never charges.
pub(crate) struct Asks<'r> {
    pub(crate) costs: Costs,
    features: Vec<Required<'r>>,
}

impl<'r> Asks<'r> {
    pub(crate) fn of(plans: &Plans, request: &'r Request<'_>) -> Result<Self, Error> {
        let costs = match request.asks_only_for_costs() {
            true => some_costs_of(plans, request.costs)?,
            false => costs_of(plans, request.costs, 1)?,
        };
        request.idempotency_key.map(check_key).transpose()?;
        Ok(Self { costs, features: features_of(plans, &request.features)? })
    }
}

/// The answer where enforcement is off: nothing is decided, but a mistake is a mistake, and would be found only
/// when enforcement is back.
pub(crate) fn undecided(plans: &Plans, subject: &str, request: &Request<'_>) -> Result<Decision, Error> {
    check_subject(subject)?;
    Asks::of(plans, request)?;
    if let Some(pace) = request.pace {
        plans.scope(pace.scope)?;
        check_cost(pace.cost)?;
    }
    Ok(Decision::unasked(Some(subject)))
}

/// The denial of a token that speaks for nobody, which shadow does not lift: it would let anybody in.
pub(crate) fn stranger(token: &str) -> Decision {
    let cause = token.is_empty().then(|| "the request has no token".to_owned());
    Decision::deny(None, Denial { cause, ..Denial::because(Reason::Unauthenticated) })
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
pub(crate) fn shadowed(decision: Decision, modes: &Modes) -> Decision {
    let in_shadow =
        |metric: Option<&Arc<str>>| metric.map_or(modes.everywhere(), |metric| modes.of(metric)) == Enforcement::Shadow;
    match decision.denied {
        // A metric that is enforced by itself stays so.
        Some(denial) if in_shadow(denial.metric.as_ref()) => {
            Decision { allowed: true, denied: None, would_deny: Some(denial), ..decision }
        }
        _ => decision,
    }
}
