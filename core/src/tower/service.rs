//! The service: one request after the other, through the gate and to the inner service.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::request::Parts;
use ::http::{Request, Response};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tower_service::Service;

use super::gate::Gate;
use super::response::{add_fields, denied_response};
use crate::owned_request::OwnedRequest;

/// What a [`QuotaService`] returns. Dropped at any moment, it leaves nothing half done: what was charged stays
/// charged, and what was reserved is released.
pub type QuotaFuture<R, E> = BoxFuture<'static, Result<Response<R>, E>>;

/// A service behind the quotas, made by a [`QuotaLayer`](super::QuotaLayer).
pub struct QuotaService<S, A> {
    inner: S,
    gate: Arc<Gate>,
    ask: Arc<A>,
}

impl<S, A> QuotaService<S, A> {
    pub(super) const fn new(inner: S, gate: Arc<Gate>, ask: Arc<A>) -> Self {
        Self { inner, gate, ask }
    }
}

impl<S, A, B, R> Service<Request<B>> for QuotaService<S, A>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    A: Fn(&Parts) -> Option<OwnedRequest>,
    B: Send + 'static,
    R: From<String>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = QuotaFuture<R, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // It is this one that was polled ready, and the clone that was not.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let (mut parts, body) = request.into_parts();
        let asked = (self.ask)(&parts);
        let gate = Arc::clone(&self.gate);
        let answered = async move {
            let Some(asked) = asked else { return inner.call(Request::from_parts(parts, body)).await };
            let answer = gate.admit(&asked, &mut parts).await;
            if let Some(denied) = denied_response(&answer) {
                return Ok(denied);
            }
            let mut response = inner.call(Request::from_parts(parts, body)).await?;
            add_fields(response.headers_mut(), &answer);
            Ok(response)
        };
        answered.boxed()
    }
}

impl<S: Clone, A> Clone for QuotaService<S, A> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), gate: Arc::clone(&self.gate), ask: Arc::clone(&self.ask) }
    }
}

impl<S: fmt::Debug, A> fmt::Debug for QuotaService<S, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuotaService").field("inner", &self.inner).finish_non_exhaustive()
    }
}
