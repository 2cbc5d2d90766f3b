//! What an engine puts around its store: a breaker outside a timeout, as one layer, which costs every step
//! one box in place of two.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::breaker::Pass;
use super::timeout::Bounded;
use super::{BreakerOptions, CircuitBreaker, Layer, Step, Timeout};
use crate::clock::Clock;
use crate::store::{Call, StoreError, StoreFuture};

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
        let bounded = self.timeout.bound(call, step, inner);
        Box::pin(Guarded { guard: self, call, begun: false, pass: None, bounded })
    }
}

/// A step behind a guard. Written out, because an `async` block would be moved around with a copy of the step
/// in each of its states, and every request pays for that.
struct Guarded<'a, T> {
    guard: &'a Guard,
    call: Call,
    begun: bool,
    pass: Option<Pass<'a>>,
    bounded: Bounded<'a, T>,
}

impl<T> Guarded<'_, T> {
    /// Whether the step may be made.
    fn begin(&mut self) -> Result<(), StoreError> {
        self.begun = true;
        // Before the breaker: that a request is late says nothing about the store that it can no longer ask.
        if let Some(error) = self.guard.timeout.late(self.call) {
            return Err(error);
        }
        self.pass = self.guard.breaker.as_ref().map(CircuitBreaker::pass).transpose()?;
        Ok(())
    }
}

impl<T> Future for Guarded<'_, T> {
    type Output = Result<T, StoreError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if !this.begun
            && let Err(error) = this.begin()
        {
            return Poll::Ready(Err(error));
        }
        let outcome = ready!(Pin::new(&mut this.bounded).poll(context));
        if let Some(pass) = this.pass.take() {
            pass.judge(outcome.as_ref().err());
        }
        Poll::Ready(outcome)
    }
}
