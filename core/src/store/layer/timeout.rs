//! Timeouts: every step of a store ends, and none of them unwinds.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::alarm::Alarm;
use super::{Layer, Step, panicked};
use crate::error::Retry;
use crate::store::{Call, StoreError, StoreFuture};

/// Ends every step that takes too long, with [`StoreError::TimedOut`], and turns a panic of the store into
/// [`StoreError::Failed`].
///
/// All steps that an engine makes for one request share one timeout, counted from when it was asked. Of a
/// step that nobody else has begun, time runs from when it is first polled. The time is that of the
/// computer, not of the engine's clock.
///
/// A step that is ready when it is first polled costs next to nothing. The first that is not starts a thread,
/// `quotum-timeout`, which serves the whole process and ends once nobody waits.
///
/// Work that a store does inside `poll`, for callers that may be made to wait
/// ([`Wait::Block`](crate::store::Wait)), cannot be interrupted: such a store must bound itself, as SQLite
/// does with its `busy_timeout`.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use quotum::store::{Layered, MemoryStore, Timeout};
///
/// let store = Layered::new(Arc::new(MemoryStore::new()), Timeout::after(Duration::from_secs(2)));
/// ```
#[derive(Debug)]
pub struct Timeout {
    after: Duration,
    /// Whether a step was ever not ready at once. Until then no request can be late, and no clock is read.
    has_waited: AtomicBool,
}

impl Timeout {
    /// Ends what takes longer than this; [`Duration::MAX`] ends nothing.
    #[must_use]
    pub const fn after(after: Duration) -> Self {
        Self { after, has_waited: AtomicBool::new(false) }
    }

    /// The error of a request whose time is over before this step is begun.
    pub(super) fn late(&self, call: Call) -> Option<StoreError> {
        if !self.has_waited.load(Ordering::Relaxed) {
            return None;
        }
        let ends_at = call.asked?.checked_add(self.after)?;
        // Nothing was done, whatever the step.
        (Instant::now() >= ends_at).then_some(StoreError::TimedOut { after: self.after, retry: Retry::Safe })
    }

    /// The step, within its time.
    pub(super) fn bound<'a, T>(&'a self, call: Call, step: Step, inner: StoreFuture<'a, T>) -> Bounded<'a, T> {
        Bounded { inner: Some(inner), timeout: self, step, since: call.asked, alarm: None }
    }
}

impl Layer for Timeout {
    fn around<'a, T: Send + 'a>(&'a self, call: Call, step: Step, inner: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        Box::pin(async move {
            match self.late(call) {
                Some(error) => Err(error),
                None => self.bound(call, step, inner).await,
            }
        })
    }
}

/// A step that ends in time.
pub(super) struct Bounded<'a, T> {
    /// None once it has ended.
    inner: Option<StoreFuture<'a, T>>,
    timeout: &'a Timeout,
    step: Step,
    /// From when its time runs: from when it was first found not to be ready, unless it was known before.
    since: Option<Instant>,
    alarm: Option<Alarm>,
}

impl<T> Bounded<'_, T> {
    /// Ends the step. What it leaves behind may panic too.
    fn end(&mut self) {
        let inner = self.inner.take();
        let _panicked = catch_unwind(AssertUnwindSafe(|| drop(inner)));
        self.alarm = None;
    }

    /// Waits on, if there is time left.
    fn wait(&mut self, context: &Context<'_>) -> Poll<Result<T, StoreError>> {
        let now = Instant::now();
        let Timeout { after, has_waited } = self.timeout;
        has_waited.store(true, Ordering::Relaxed);
        let Some(ends_at) = self.since.get_or_insert(now).checked_add(*after) else { return Poll::Pending };
        if now >= ends_at {
            self.end();
            return Poll::Ready(Err(StoreError::TimedOut { after: *after, retry: self.step.retry_if_lost() }));
        }
        match &self.alarm {
            Some(alarm) => alarm.wake_instead(context.waker()),
            None => match Alarm::set(ends_at, context.waker()) {
                Ok(alarm) => self.alarm = Some(alarm),
                Err(error) => tracing::warn!(target: "quotum", %error, "no thread could be started for timeouts"),
            },
        }
        Poll::Pending
    }
}

impl<T> Future for Bounded<'_, T> {
    type Output = Result<T, StoreError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else { return Poll::Pending };
        match catch_unwind(AssertUnwindSafe(|| inner.as_mut().poll(context))) {
            Ok(ready @ Poll::Ready(_)) => {
                this.inner = None;
                this.alarm = None;
                ready
            }
            Ok(Poll::Pending) => this.wait(context),
            Err(_) => {
                this.end();
                Poll::Ready(Err(panicked(this.step)))
            }
        }
    }
}

impl<T> fmt::Debug for Bounded<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bounded").field("step", &self.step).finish_non_exhaustive()
    }
}
