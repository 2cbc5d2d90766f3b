//! What an engine puts around its store: a breaker outside a timeout, as one layer, which costs every step
//! one box in place of two.

use std::sync::Arc;

use super::{BreakerOptions, CircuitBreaker, Layer, Step, Timeout};
use crate::clock::Clock;
use crate::store::{Call, StoreFuture};

/// A breaker outside a timeout.
#[derive(Debug)]
pub(crate) struct Guard {
    timeout: Timeout,
    breaker: Option<CircuitBreaker>,
}

impl Guard {
    pub(crate) fn new(timeout: Timeout, breaker: Option<BreakerOptions>, clock: &Arc<dyn Clock>) -> Self {
        Self { timeout, breaker: breaker.map(|options| CircuitBreaker::new(options, Arc::clone(clock))) }
    }
}

impl Layer for Guard {
    fn around<'a, T: Send + 'a>(&'a self, call: Call, step: Step, inner: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        Box::pin(async move {
            // Before the breaker: that a request is late says nothing about the store that it can no longer ask.
            if let Some(error) = self.timeout.late(call) {
                return Err(error);
            }
            let bounded = self.timeout.bound(call, step, inner);
            match &self.breaker {
                Some(breaker) => breaker.watch(bounded).await,
                None => bounded.await,
            }
        })
    }
}
