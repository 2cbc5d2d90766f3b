//! The layer: puts a service behind the quotas.

use std::fmt;
use std::sync::Arc;

use ::http::request::Parts;
use tower_layer::Layer;

use super::gate::Gate;
use super::service::QuotaService;
use crate::http::Mapping;
use crate::owned_request::OwnedRequest;
use crate::quota::Quota;

/// Admits requests before the service that it is put around: see the [module](super).
pub struct QuotaLayer<A> {
    gate: Arc<Gate>,
    ask: Arc<A>,
}

impl<A> QuotaLayer<A>
where
    A: Fn(&Parts) -> Option<OwnedRequest>,
{
    /// A layer that asks `quota` for what `ask` makes of a request's head; a request for which it asks nothing
    /// passes. It is called on the runtime's own threads, so it must not block.
    pub fn new(quota: Quota, ask: A) -> Self {
        Self { gate: Arc::new(Gate { quota, mapping: Mapping::new() }), ask: Arc::new(ask) }
    }

    /// Answers as this mapping says.
    #[must_use]
    pub fn mapping(self, mapping: Mapping) -> Self {
        Self { gate: Arc::new(Gate { mapping, quota: self.gate.quota.clone() }), ..self }
    }
}

impl<S, A> Layer<S> for QuotaLayer<A> {
    type Service = QuotaService<S, A>;

    fn layer(&self, inner: S) -> Self::Service {
        QuotaService::new(inner, Arc::clone(&self.gate), Arc::clone(&self.ask))
    }
}

impl<A> Clone for QuotaLayer<A> {
    fn clone(&self) -> Self {
        Self { gate: Arc::clone(&self.gate), ask: Arc::clone(&self.ask) }
    }
}

impl<A> fmt::Debug for QuotaLayer<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuotaLayer").finish_non_exhaustive()
    }
}
