//! Recall: decisions of which everything is in memory, made at once and without a future.
//!
//! Features, rates, quotas without a limit, and denials that still hold. Whatever was found out on the way
//! is handed on to the flow that asks the store.

use std::borrow::Cow;
use std::sync::Arc;

use crate::admission::{Admission, Asks, shadowed, stranger, undecided};
use crate::caller::{Asking, Caller};
use crate::decision::Decision;
use crate::error::Error;
use crate::lease::Granting;
use crate::policy::{Enforcement, Modes};
use crate::request::{Purpose, Request, Who};
use crate::store::{Call, Wait};
use crate::token::{Authenticated, Identity};
use crate::usage::demand::{Cost, states_of};
use crate::usage::denial_cache::Basis;

/// What became of a request that was to be decided in memory.
pub(crate) enum Recalled {
    Decided(Result<Decision, Error>),
    /// The store is needed, or the verifier.
    AskStore(Box<Found>),
}

/// What the quotas say to a request.
enum Weighed<'c> {
    Decided(Decision),
    /// It can have units of leased blocks.
    Leased(Granting<'c>),
}

impl Weighed<'_> {
    fn decide(self, engine: &Admission) -> Decision {
        match self {
            Self::Decided(decision) => decision,
            Self::Leased(granting) => granting.take(engine),
        }
    }
}

/// What was found in memory of a request that is not decided there.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Whom its token speaks for.
    pub(crate) identity: Option<Arc<Identity>>,
    pub(crate) caller: Option<Caller>,
}

impl Admission {
    /// The decision, where everything that it needs is in memory. Nothing is done where it is not.
    pub(crate) fn recall(&self, request: &Request<'_>) -> Recalled {
        let begun = self.observer.begin();
        let call = self.call_in_memory(Wait::Block);
        let mut found = Found::default();
        let Some(decided) = self.recall_at(call, request, &mut found) else {
            return Recalled::AskStore(Box::new(found));
        };
        if let Ok(decision) = &decided {
            self.observer.decided(request.verb(), decision, call.now, begun);
        }
        Recalled::Decided(decided)
    }

    fn recall_at(&self, call: Call, request: &Request<'_>, found: &mut Found) -> Option<Result<Decision, Error>> {
        if self.is_behind(call) {
            return None;
        }
        if let Who::Token(token) = request.who {
            match self.tokens.as_ref()?.recall(call.now, token) {
                Ok(Authenticated::Known(known)) => found.identity = Some(known),
                Ok(Authenticated::Refused) => return Some(Ok(stranger(token))),
                Err(_) => return None,
            }
        }
        let identity = found.identity.clone();
        let subject = match (&identity, request.who) {
            (Some(identity), _) => Asking::Named(&identity.subject),
            (None, Who::Subject(subject)) => Asking::Named(subject),
            (None, Who::Held(subject)) => subject.asking(self),
            (None, Who::Token(_) | Who::Anyone) => return None,
        };
        let modes = self.switchboard.read();
        if modes.everywhere() == Enforcement::Off {
            let plans = self.catalog.known(call.monotonic(&*self.clock))?;
            return Some(undecided(&plans, subject.id(), request).map(|decision| Decision { identity, ..decision }));
        }
        let caller = found.caller.insert(self.known_caller(call, subject)?);
        let decided = self.decide_known(caller, &modes, request)?;
        Some(decided.map(|decision| Decision { identity, ..shadowed(decision, &modes) }))
    }

    /// The decision for a caller who is known, where the store need not be asked.
    fn decide_known(
        &self,
        caller: &Caller,
        modes: &Arc<Modes>,
        request: &Request<'_>,
    ) -> Option<Result<Decision, Error>> {
        let asks = match Asks::of(&caller.standing.plans, request) {
            Ok(asks) => asks,
            Err(error) => return Some(Err(error)),
        };
        if self.is_paced_in_store(caller, request.pace) {
            return None;
        }
        // Before the rate takes anything: it must not take it again on the way to the store.
        let weighed = self.weigh_known(caller, modes, request, &asks.costs)?;
        Some(match self.gate(caller, request, &asks, None, caller.call.monotonic(&*self.clock)) {
            Err(error) => Err(error),
            Ok((_, Some(denied))) => Ok(denied),
            Ok((rates, None)) => Ok(Decision { rates, ..weighed.decide(self) }),
        })
    }

    /// What the quotas say, where that is in memory.
    fn weigh_known<'c>(
        &self,
        caller: &'c Caller,
        modes: &Arc<Modes>,
        request: &Request<'_>,
        costs: &'c [Cost],
    ) -> Option<Weighed<'c>> {
        let decided = |decision| Some(Weighed::Decided(decision));
        if costs.is_empty() {
            return decided(caller.allow(Vec::new()));
        }
        let starts_trial = caller.standing.trial_to_start && request.purpose == Purpose::Charge;
        if starts_trial || caller.standing.refused.is_some() || !self.debts.are_none() {
            return None;
        }
        let is_off = |cost: &Cost| modes.of(&cost.metric) == Enforcement::Off;
        let some_are_off = costs.iter().any(is_off);
        let counted: Cow<'_, [Cost]> = match some_are_off {
            true => costs.iter().filter(|cost| !is_off(cost)).cloned().collect(),
            false => Cow::Borrowed(costs),
        };
        if !caller.counts(&counted) {
            return decided(caller.allow(states_of(&caller.touched(&counted), &[])));
        }
        // A request under a key may have been granted before.
        let anonymous = request.idempotency_key.is_none() && caller.record.denials.has_some();
        let denied = anonymous.then(|| self.known_denial(caller, &caller.basis(modes, &counted))).flatten();
        match denied {
            Some(denied) => decided(denied),
            None if some_are_off => None,
            None => self.leased(caller, modes, request, costs).map(Weighed::Leased),
        }
    }

    pub(crate) fn known_denial(&self, caller: &Caller, basis: &Basis) -> Option<Decision> {
        caller.record.denials.get(basis, caller.call.now, caller.call.monotonic(&*self.clock))
    }
}
