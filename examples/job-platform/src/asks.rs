//! Asks: what a request asks the quotas for before a handler sees it, by route.
//!
//! What can be denied here is answered 429. Costs that depend on the body are the handlers' to ask for.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use quotum::Decision;
use quotum::OwnedRequest;
use quotum::http::TrustedHops;
use quotum::tower::{forwarded_for, token_of};

use crate::users::KEY_PREFIX;

/// The longest that a job may run, in minutes.
pub(crate) const RUN_MINUTES_MAX: u64 = 60;

/// Somebody who is not known yet, limited by address.
pub(crate) fn by_address(scope: &'static str, hops: TrustedHops) -> impl Fn(&Parts) -> Option<OwnedRequest> + Clone {
    move |parts| {
        // Without an address, which a server always has, everybody shares one key.
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
        let key = peer.map_or_else(|| "unknown".into(), |peer| hops.key(peer, forwarded_for(&parts.headers)));
        Some(OwnedRequest::by_anyone().rate_for(scope, key, 1))
    }
}

/// A user, at the pace of its plan. API keys are for plans that have them.
pub(crate) fn by_user(parts: &Parts) -> Option<OwnedRequest> {
    let token = token_of(&parts.headers).unwrap_or_default();
    let request = OwnedRequest::with_token(token).rate("api");
    Some(if token.starts_with(KEY_PREFIX) { request.feature("api_access") } else { request })
}

/// An administrator: somebody who is known. What the role is, `admin.rs` looks at.
pub(crate) fn by_admin(parts: &Parts) -> Option<OwnedRequest> {
    Some(OwnedRequest::with_token(token_of(&parts.headers).unwrap_or_default()))
}

/// One more call of the day.
pub(crate) fn call(parts: &Parts) -> Option<OwnedRequest> {
    Some(again(parts).cost("api_calls", 1))
}

/// One more job of the hour.
pub(crate) fn job(parts: &Parts) -> Option<OwnedRequest> {
    Some(again(parts).rate("jobs"))
}

/// As many minutes as a job may take, until it is known how many it took.
pub(crate) fn run(parts: &Parts) -> Option<OwnedRequest> {
    let ttl = Duration::from_secs(60 * (RUN_MINUTES_MAX + 5));
    Some(again(parts).cost("compute_minutes", RUN_MINUTES_MAX).reserve(ttl))
}

/// By whom `by_user` has let in. If it has not, by nobody.
fn again(parts: &Parts) -> OwnedRequest {
    let subject = parts.extensions.get::<Decision>().and_then(|decision| decision.subject.clone());
    subject.map_or_else(|| OwnedRequest::with_token(""), OwnedRequest::by)
}
