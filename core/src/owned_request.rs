//! Owned requests: what a request asks for, kept while it is under way.

use std::sync::Arc;
use std::time::Duration;

use crate::decision::Decision;
use crate::error::Error;
use crate::plan::FeatureValue;
use crate::quota::Quota;
use crate::rate::{OwnedKey, RateKey};
use crate::request::{Pace, Purpose, Request, Who};
use crate::reservation::Reservation;
use crate::token::Secret;

/// What a request asks for, as [`Request`], but borrowing nothing.
///
/// ```
/// use quotum::OwnedRequest;
///
/// let export = OwnedRequest::with_token("key-of-ana").rate("api").feature("excel").cost("exports", 1);
/// let login = OwnedRequest::by_anyone().rate_for("login", "ana@example.com".into(), 1);
/// # let _ = (export, login);
/// ```
#[derive(Debug, Clone)]
#[must_use = "a request does nothing until it is admitted"]
pub struct OwnedRequest {
    who: OwnedWho,
    pace: Option<OwnedPace>,
    features: Vec<(String, Option<FeatureValue>)>,
    costs: Vec<(String, u64)>,
    idempotency_key: Option<String>,
    purpose: Purpose,
    reserved_for: Option<Duration>,
}

#[derive(Debug, Clone)]
enum OwnedWho {
    Subject(Arc<str>),
    Token(Secret),
    Anyone,
}

#[derive(Debug, Clone)]
struct OwnedPace {
    scope: String,
    /// The subject, where no other key is given.
    key: Option<OwnedKey>,
    cost: u64,
}

impl OwnedRequest {
    /// A request by a subject that is known: from an extension that another layer has set, say. A field that a
    /// client may write names nobody.
    pub fn by(subject: impl Into<Arc<str>>) -> Self {
        Self::of(OwnedWho::Subject(subject.into()))
    }

    /// A request by whomever a token speaks for. An empty one speaks for nobody.
    pub fn with_token(token: &str) -> Self {
        Self::of(OwnedWho::Token(Secret::from(token)))
    }

    /// A request by nobody who is known yet: see [`Request::by_anyone`].
    pub fn by_anyone() -> Self {
        Self::of(OwnedWho::Anyone)
    }

    fn of(who: OwnedWho) -> Self {
        let (features, costs) = (Vec::new(), Vec::new());
        Self { who, pace: None, features, costs, idempotency_key: None, purpose: Purpose::Charge, reserved_for: None }
    }

    /// It counts as one on a scope's rate, for its subject.
    pub fn rate(mut self, scope: impl Into<String>) -> Self {
        self.pace = Some(OwnedPace { scope: scope.into(), key: None, cost: 1 });
        self
    }

    /// It counts as so many on a scope's rate, for any key: an address, say.
    pub fn rate_for(mut self, scope: impl Into<String>, key: RateKey<'_>, cost: u64) -> Self {
        self.pace = Some(OwnedPace { scope: scope.into(), key: Some(key.into()), cost });
        self
    }

    /// The plan must have a feature.
    pub fn feature(mut self, name: impl Into<String>) -> Self {
        self.features.push((name.into(), None));
        self
    }

    /// The plan must grant this value of a feature.
    pub fn feature_value(mut self, name: impl Into<String>, value: impl Into<FeatureValue>) -> Self {
        self.features.push((name.into(), Some(value.into())));
        self
    }

    /// It consumes so many units of a metric, besides those of others.
    pub fn cost(mut self, metric: impl Into<String>, units: u64) -> Self {
        self.costs.push((metric.into(), units));
        self
    }

    /// Charges, or reserves, at most once under this key: see [`Request::once`].
    pub fn once(mut self, idempotency_key: impl Into<String>) -> Self {
        self.idempotency_key = Some(idempotency_key.into());
        self
    }

    /// What it costs is only set aside, for `ttl` at the most: whoever serves the request commits what was really
    /// used. A request that is not committed, for whatever reason, costs nothing; unless it was granted without the
    /// store, and charged because the store came back meanwhile.
    ///
    /// Rate and features are decided first, and then the reservation is made: a request that is denied it has
    /// counted on its rate, as every other that is denied by a quota.
    pub const fn reserve(mut self, ttl: Duration) -> Self {
        self.reserved_for = Some(ttl);
        self
    }

    /// What the engine decides, as [`Quota::admit`] does, and what it has set aside.
    ///
    /// # Errors
    ///
    /// As [`Quota::admit`].
    pub async fn admit(&self, quota: &Quota) -> Result<(Decision, Option<Reservation>), Error> {
        let costs: Vec<(&str, u64)> = self.costs.iter().map(|(metric, units)| (metric.as_str(), *units)).collect();
        let Some(ttl) = self.reserved_for else {
            return Ok((quota.admit(&self.borrowed(&costs, self.idempotency_key.as_deref())).await?, None));
        };
        let first = match &self.who {
            // Nothing is left to be decided first.
            OwnedWho::Subject(subject) if self.pace.is_none() && self.features.is_empty() => {
                Decision { subject: Some(Arc::clone(subject)), ..Decision::allow() }
            }
            _ => quota.admit(&self.borrowed(&[], None)).await?,
        };
        let Some(subject) = first.subject.as_deref().filter(|_| first.allowed) else { return Ok((first, None)) };
        let reserved = match &self.idempotency_key {
            Some(key) => quota.reserve_once(subject, &costs, ttl, key).await?,
            None => quota.reserve(subject, &costs, ttl).await?,
        };
        let (decision, reservation) = match reserved {
            Ok(reservation) => (reservation.decision().clone(), Some(reservation)),
            Err(denied) => (denied, None),
        };
        let would_deny = first.would_deny.or(decision.would_deny);
        Ok((Decision { identity: first.identity, rates: first.rates, would_deny, ..decision }, reservation))
    }

    fn borrowed<'r>(&'r self, costs: &'r [(&'r str, u64)], idempotency_key: Option<&'r str>) -> Request<'r> {
        let mut request = Request::asked_by(match &self.who {
            OwnedWho::Subject(subject) => Who::Subject(subject),
            OwnedWho::Token(token) => Who::Token(token),
            OwnedWho::Anyone => Who::Anyone,
        });
        if let Some(OwnedPace { scope, key, cost }) = &self.pace {
            request = match key {
                Some(key) => request.rate_for(scope, key.borrowed(), *cost),
                None => request.rate(scope),
            };
        }
        for (name, value) in &self.features {
            request = match value {
                Some(value) => request.feature_value(name, value.clone()),
                None => request.feature(name),
            };
        }
        Request { idempotency_key, purpose: self.purpose, ..request.costs(costs) }
    }
}

impl From<&Request<'_>> for OwnedRequest {
    fn from(request: &Request<'_>) -> Self {
        let who = match request.who {
            Who::Subject(subject) => OwnedWho::Subject(subject.into()),
            Who::Held(subject) => OwnedWho::Subject(subject.id().into()),
            Who::Token(token) => OwnedWho::Token(Secret::from(token)),
            Who::Anyone => OwnedWho::Anyone,
        };
        let owned =
            |Pace { scope, key, cost }| OwnedPace { scope: scope.to_owned(), key: key.map(OwnedKey::from), cost };
        Self {
            who,
            pace: request.pace.map(owned),
            features: request.features.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            costs: request.costs.iter().map(|(metric, units)| ((*metric).to_owned(), *units)).collect(),
            idempotency_key: request.idempotency_key.map(str::to_owned),
            purpose: request.purpose,
            reserved_for: None,
        }
    }
}
