//! Flights: one call for however many callers wait for its answer.
//!
//! Whichever of the callers is polled drives the call. A lock held by one of them would do too, were
//! it not that a task which holds it and is not polled again would stall all others for ever.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::thread;

use futures_channel::oneshot;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;

use crate::error::Retry;
use crate::store::{StoreError, Wait};

/// The calls under way for one answer: one by callers that may be made to wait, one by tasks, because
/// a task must not drive a call that may block its thread.
pub(crate) struct Flight<A: Clone, E: Clone> {
    blocking: Slot<Result<A, E>>,
    yielding: Slot<Result<A, E>>,
}

/// A call that several callers wait for.
type Joined<T> = Shared<BoxFuture<'static, T>>;

/// Weak, so that a call which all callers have left is not resumed by a later one.
type Slot<T> = Mutex<Option<WeakShared<BoxFuture<'static, T>>>>;

impl<A: Clone + 'static, E: Clone + From<StoreError> + 'static> Flight<A, E> {
    pub(crate) const fn new() -> Self {
        Self { blocking: Mutex::new(None), yielding: Mutex::new(None) }
    }

    /// The answer of the call under way, or of one that is started now.
    pub(crate) fn join(
        &self,
        wait: Wait,
        start: impl FnOnce() -> BoxFuture<'static, Result<A, E>>,
    ) -> Joined<Result<A, E>> {
        let mut slot = self.slot(wait).lock();
        let under_way = slot.as_ref().and_then(WeakShared::upgrade).filter(|call| call.peek().is_none());
        under_way.unwrap_or_else(|| {
            // A store of the host's own may panic, which must not leave the other callers waiting.
            let call =
                AssertUnwindSafe(start()).catch_unwind().map(|outcome| outcome.unwrap_or_else(|_| Err(panicked())));
            let call = call.boxed().shared();
            *slot = call.downgrade();
            call
        })
    }

    /// Lets no later caller join the calls under way: what they have read may be out of date.
    pub(crate) fn abandon(&self) {
        *self.blocking.lock() = None;
        *self.yielding.lock() = None;
    }

    fn slot(&self, wait: Wait) -> &Slot<Result<A, E>> {
        match wait {
            Wait::Block => &self.blocking,
            Wait::Yield => &self.yielding,
        }
    }
}

impl<A: Clone, E: Clone> fmt::Debug for Flight<A, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight").finish_non_exhaustive()
    }
}

fn panicked<E: From<StoreError>>() -> E {
    StoreError::Failed { detail: "it panicked".to_owned(), retry: Retry::Never }.into()
}

/// Does work that may block: here, or for a task on a thread of its own.
pub(crate) async fn unblocked<T: Send + 'static>(
    wait: Wait,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    if wait == Wait::Block {
        return Ok(work());
    }
    let (answer, answered) = oneshot::channel();
    let failed = |detail: String| StoreError::Failed { detail, retry: Retry::Safe };
    let run = move || drop(answer.send(work()));
    thread::Builder::new()
        .name("quotum-aside".to_owned())
        .spawn(run)
        .map_err(|error| failed(format!("no thread could be started: {error}")))?;
    answered.await.map_err(|_| failed("the thread that did the work has died".to_owned()))
}
