//! Requests: what one call asks the core to decide, and how a decision is told in JSON.

use std::time::Duration;

use quotum::token::Identity;
use quotum::{Decision, Error, OwnedRequest, Quota, Request, Timestamp};
use serde::{Deserialize, Serialize};

use crate::home::{Home, Of};
use crate::outcome::{Outcome, closed, refused};
use crate::rate::Window;
use crate::task::{Begun, Tasks, work};
use crate::wire::{Costs, Feature, Key, Milliseconds};

/// Everything that a request may ask for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Asked {
    subject: Option<String>,
    /// A handle to the subject, in place of it.
    handle: Option<u32>,
    token: Option<String>,
    costs: Costs,
    rate: Option<String>,
    rate_key: Option<Key>,
    rate_cost: Option<u64>,
    #[serde(default)]
    features: Vec<Feature>,
    idempotency_key: Option<String>,
    #[serde(default)]
    is_look: bool,
    /// For how long costs are set aside, where they are not charged.
    reserve_ms: Option<Milliseconds>,
    /// Whether memory must do.
    #[serde(default)]
    is_try: bool,
}

/// What a decision says, and what its own JSON leaves out.
#[derive(Serialize)]
struct Told<'d> {
    decision: &'d Decision,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<&'d Identity>,
    /// The denial, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    rates: Vec<Window<'d>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reservation: Option<Held>,
}

/// Units that are set aside.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Held {
    number: u32,
    id: Option<String>,
    expires_at: Timestamp,
}

impl<'d> Told<'d> {
    fn of(decision: &'d Decision, reservation: Option<Held>) -> Self {
        let denial = decision.denied.as_ref().or(decision.would_deny.as_ref());
        Self {
            decision,
            identity: decision.identity.as_deref(),
            message: denial.map(ToString::to_string),
            rates: decision.rates.iter().map(|rate| Window::of(&rate.scope, &rate.window)).collect(),
            reservation,
        }
    }
}

/// Tells a decision in JSON. The next one that names the same can be asked for in numbers.
pub(crate) fn told_decision(home: &Home, decision: &Decision) -> Outcome {
    home.names.borrow_mut().learn(decision);
    Outcome::value(&Told::of(decision, None))
}

impl Asked {
    /// Decides, in memory where that can be.
    pub(crate) fn begin(self, home: &Home, engine: u32) -> Begun {
        let Some(Of { value: quota, opening }) = home.engine(engine) else { return Begun::Done(closed()) };
        let request = {
            let held = self.handle.map(|handle| home.subjects.with(handle, |subject| subject.value.clone()));
            let by = match (&held, &self.subject, &self.token) {
                (Some(Some(subject)), ..) => subject.request(),
                (Some(None), ..) => return Begun::Done(closed()),
                (None, Some(subject), _) => Request::by(subject),
                (None, None, Some(token)) => Request::with_token(token),
                (None, None, None) => Request::by_anyone(),
            };
            let costs = self.costs.borrowed();
            let request = match self.ask(by, &costs) {
                Ok(request) => request,
                Err(error) => return Begun::Done(Outcome::error(&error)),
            };
            if self.reserve_ms.is_none() {
                match quota.try_admit(&request) {
                    Some(Ok(decision)) => return Begun::Done(told_decision(home, &decision)),
                    Some(Err(error)) => return Begun::Done(Outcome::error(&error)),
                    None if self.is_try => return Begun::Done(Outcome::value(&())),
                    None => {}
                }
            }
            OwnedRequest::from(&request)
        };
        match self.reserve_ms {
            Some(ttl) => reserve(home, quota, opening, request.reserve(Duration::from(ttl))),
            None => {
                let decided = async move { Ok(request.admit(&quota).await?.0) };
                Tasks::begin(home, work(decided, |home, decision| told_decision(home, &decision)))
            }
        }
    }

    fn ask<'r>(&'r self, by: Request<'r>, costs: &'r [(&'r str, u64)]) -> Result<Request<'r>, Error> {
        let key = self.rate_key.as_ref().map(Key::borrowed).transpose()?;
        let mut request = by.costs(costs);
        request = match (&self.rate, key, self.rate_cost) {
            (Some(scope), Some(key), cost) => request.rate_for(scope, key, cost.unwrap_or(1)),
            (Some(scope), None, None) => request.rate(scope),
            (Some(_), None, Some(_)) => {
                return Err(refused("rateCost", "no rateKey beside it", "the key that it is for"));
            }
            (None, Some(_), _) | (None, _, Some(_)) => {
                return Err(refused("rate", "nothing", "the scope that rateKey and rateCost are for"));
            }
            (None, None, None) => request,
        };
        for (name, value) in &self.features {
            request = match value {
                Some(value) => request.feature_value(name, value.clone()),
                None => request.feature(name),
            };
        }
        if let Some(key) = &self.idempotency_key {
            request = request.once(key);
        }
        Ok(if self.is_look { request.looking() } else { request })
    }
}

fn reserve(home: &Home, quota: Quota, opening: u64, request: OwnedRequest) -> Begun {
    let reserved = async move { request.admit(&quota).await };
    Tasks::begin(
        home,
        work(reserved, move |home, (decision, reservation)| {
            let held = reservation.map(|reservation| Held {
                id: reservation.id().map(|id| id.to_string()),
                expires_at: reservation.expires_at(),
                number: home.reservations.insert(Of::new(reservation, opening)),
            });
            Outcome::value(&Told::of(&decision, held))
        }),
    )
}
