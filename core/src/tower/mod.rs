//! A middleware for [tower](https://docs.rs/tower): axum, hyper and whatever else speaks [`http`] types.
//!
//! [`QuotaLayer`] asks the engine before the inner service is called. What a request asks for is said by a
//! function of the backend's, from the request's head to an [`OwnedRequest`](crate::OwnedRequest); nothing here
//! reads a path or guesses a subject.
//!
//! - **Denied**: the inner service is not called, and the answer is that of [`quotum::http`](crate::http).
//! - **Allowed**: the [`Decision`](crate::Decision) is among the request's extensions, and the `RateLimit`
//!   fields are on the response, whatever its status.
//! - **Not asked**: the request passes as it came.
//! - **An error**: 503 where the store or the verifier cannot answer, otherwise a 500 that says nothing, and
//!   an event of `tracing` that says all.
//!
//! What is charged stays charged if the inner service then fails, or if the client goes away. For work whose
//! cost is known only afterwards, or that often fails, let the layer [`reserve`](crate::OwnedRequest::reserve).
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # pollster::block_on(async {
//! use http::request::Parts;
//! use http::{Request, Response, StatusCode};
//! use quotum::token::{Identity, blocking_verifier};
//! use quotum::tower::{QuotaLayer, token_of};
//! use quotum::{Decision, OwnedRequest, Plans, Quota};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! let plans = Plans::from_toml("default_plan = 'free'\n[plans.free]\nquotas = { searches = '1/day' }")?;
//! let verifier = blocking_verifier(|token| Ok((token == "key-of-ana").then(|| Identity::of("ana"))));
//! let quota = Quota::builder().plans(plans).verifier(verifier).open("memory:").await?;
//!
//! let layer = QuotaLayer::new(quota, |parts: &Parts| match parts.uri.path() {
//!     "/health" => None,
//!     _ => Some(OwnedRequest::with_token(token_of(&parts.headers).unwrap_or_default()).cost("searches", 1)),
//! });
//! let service = layer.layer(service_fn(|request: Request<()>| async move {
//!     let caller = request.extensions().get::<Decision>().and_then(|decision| decision.subject.clone());
//!     Ok::<_, std::convert::Infallible>(Response::new(format!("found for {caller:?}")))
//! }));
//!
//! let search = || Request::get("/search").header("authorization", "Bearer key-of-ana").body(());
//! let first = service.clone().oneshot(search()?).await?;
//! assert_eq!(first.body(), "found for Some(\"ana\")");
//! assert_eq!(first.headers()["ratelimit-policy"], "\"searches/day\";q=1;qu=\"searches\"");
//!
//! let second = service.clone().oneshot(search()?).await?;
//! assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
//! assert_eq!(second.headers()["content-type"], "application/problem+json");
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! [`http`]: https://docs.rs/http

mod fields;
mod gate;
mod layer;
mod reserved;
mod response;
mod service;
#[cfg(test)]
mod tests;

pub use self::fields::{forwarded_for, token_of};
pub use self::layer::QuotaLayer;
pub use self::reserved::Reserved;
pub use self::response::{add_fields, denied_response};
pub use self::service::{QuotaFuture, QuotaService};
