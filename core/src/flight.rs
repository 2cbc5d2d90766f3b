//! Flights: one call for however many callers wait for its answer.
//!
//! Whichever of the callers is polled drives the call. A lock held by one of them would do too, were
//! it not that a task which holds it and is not polled again would stall all others for ever. For the
//! same reason every wake-up of the call wakes all callers, not only the one that drove it last: that
//! one may be gone, or have better things to do.

#[cfg(all(test, shuttle))]
mod models;
#[cfg(all(test, not(shuttle)))]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::mem;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use futures_channel::oneshot;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::error::{Error, Retry};
use crate::planted::planted;
use crate::store::{StoreError, Wait};
use crate::sync::{Mutex, ThreadId, current_thread};

/// The calls under way for one answer: one by callers that may be made to wait, one by tasks, because
/// a task must not drive a call that may block its thread.
pub(crate) struct Flight<A, E> {
    blocking: Slot<Result<A, E>>,
    yielding: Slot<Result<A, E>>,
}

/// Weak, so that a call which all callers have left is not resumed by a later one.
type Slot<T> = Mutex<Weak<UnderWay<T>>>;

impl<A, E> Flight<A, E>
where
    A: Clone + Send + 'static,
    E: Clone + Send + From<Unfinished> + 'static,
{
    pub(crate) const fn new() -> Self {
        Self { blocking: Mutex::new(Weak::new()), yielding: Mutex::new(Weak::new()) }
    }

    /// The answer of the call under way, or of one that is started now.
    pub(crate) fn join(
        &self,
        wait: Wait,
        start: impl FnOnce() -> BoxFuture<'static, Result<A, E>>,
    ) -> Joined<Result<A, E>> {
        let mut slot = self.slot(wait).lock();
        UnderWay::join(&slot).unwrap_or_else(|| {
            let call = UnderWay::start(start());
            *slot = call.call();
            call
        })
    }

    /// Lets no later caller join the calls under way: what they have read may be out of date.
    pub(crate) fn abandon(&self) {
        *self.blocking.lock() = Weak::new();
        *self.yielding.lock() = Weak::new();
    }

    /// Whether no call is under way.
    pub(crate) fn is_over(&self) -> bool {
        [&self.blocking, &self.yielding].into_iter().all(|slot| slot.lock().strong_count() == 0)
    }

    fn slot(&self, wait: Wait) -> &Slot<Result<A, E>> {
        match wait {
            Wait::Block => &self.blocking,
            Wait::Yield => &self.yielding,
        }
    }
}

impl<A, E> fmt::Debug for Flight<A, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight").finish_non_exhaustive()
    }
}

/// A call that several callers wait for. When all of them have left, it is dropped where it stands.
pub(crate) struct UnderWay<T> {
    /// Locked by the caller that drives, and by no other: see [`Bell::turn`].
    work: Mutex<BoxFuture<'static, T>>,
    bell: Arc<Bell<T>>,
}

impl<A, E> UnderWay<Result<A, E>>
where
    A: Clone + Send + 'static,
    E: Clone + Send + From<Unfinished> + 'static,
{
    /// A call with its first caller.
    pub(crate) fn start(work: BoxFuture<'static, Result<A, E>>) -> Joined<Result<A, E>> {
        // A host's own store or verifier may panic, which must not leave the other callers waiting.
        let work = AssertUnwindSafe(work).catch_unwind().map(|outcome| outcome.unwrap_or_else(|_| Err(panicked())));
        let bell = Arc::new(Bell(Mutex::new(State::new())));
        Joined { call: Arc::new(Self { work: Mutex::new(work.boxed()), bell }), seat: 0 }
    }

    /// One more caller of a call, unless it is done or all others have left.
    pub(crate) fn join(call: &Weak<Self>) -> Option<Joined<Result<A, E>>> {
        let call = call.upgrade()?;
        let seat = call.bell.take_seat()?;
        Some(Joined { call, seat })
    }
}

/// One caller of a call: a future of its answer.
pub(crate) struct Joined<T> {
    call: Arc<UnderWay<T>>,
    seat: u64,
}

impl<T> Joined<T> {
    /// The call, to let others join it.
    pub(crate) fn call(&self) -> Weak<UnderWay<T>> {
        Arc::downgrade(&self.call)
    }
}

impl<A, E> Future for Joined<Result<A, E>>
where
    A: Clone + Send + 'static,
    E: Clone + Send + From<Unfinished> + 'static,
{
    type Output = Result<A, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<A, E>> {
        let bell = &self.call.bell;
        match bell.turn(self.seat, context.waker().clone()) {
            Turn::Wait => return Poll::Pending,
            Turn::Within => return Poll::Ready(Err(reentered())),
            Turn::Done(answer) => return Poll::Ready(answer),
            Turn::Drive => {}
        }
        let everybody = Waker::from(Arc::clone(bell));
        let polled = self.call.work.lock().poll_unpin(&mut Context::from_waker(&everybody));
        bell.end_turn(&polled);
        polled
    }
}

impl<T> Drop for Joined<T> {
    fn drop(&mut self) {
        // Nothing to hand on: whatever woke this caller has woken the others too. The waker is dropped
        // after the lock, because it may be all that keeps a task, with other callers in it, alive.
        let waker = self.call.bell.0.lock().callers.remove(&self.seat);
        drop(waker);
    }
}

/// Wakes all callers of a call. It does not own the call, whose wakers own it.
struct Bell<T>(Mutex<State<T>>);

struct State<T> {
    progress: Progress<T>,
    /// Whether the bell has rung since the turn began.
    rang: bool,
    callers: BTreeMap<u64, Waker>,
    seats: u64,
}

enum Progress<T> {
    Paused,
    /// By the caller that is polled on this thread.
    Driven(ThreadId),
    Done(T),
}

/// What a caller that is polled has to do.
enum Turn<T> {
    Drive,
    Wait,
    /// The call waits for itself: whoever makes it has asked for its answer in order to find it.
    Within,
    Done(T),
}

impl<T> State<T> {
    const fn new() -> Self {
        Self { progress: Progress::Paused, rang: false, callers: BTreeMap::new(), seats: 1 }
    }
}

impl<T: Clone> Bell<T> {
    fn take_seat(&self) -> Option<u64> {
        let mut state = self.0.lock();
        let seat = state.seats;
        state.seats += 1;
        (!matches!(state.progress, Progress::Done(_))).then_some(seat)
    }

    fn turn(&self, seat: u64, waker: Waker) -> Turn<T> {
        let mut state = self.0.lock();
        if let Progress::Done(answer) = &state.progress {
            return Turn::Done(answer.clone());
        }
        let (here, before) = (current_thread(), state.callers.insert(seat, waker));
        let turn = match state.progress {
            Progress::Driven(thread) if thread == here => Turn::Within,
            Progress::Driven(_) => Turn::Wait,
            _ => {
                state.progress = Progress::Driven(here);
                state.rang = false;
                Turn::Drive
            }
        };
        drop(state);
        drop(before);
        turn
    }

    fn end_turn(&self, polled: &Poll<T>) {
        let mut state = self.0.lock();
        state.progress = match polled {
            Poll::Ready(answer) => Progress::Done(answer.clone()),
            Poll::Pending => Progress::Paused,
        };
        // Whoever the bell has called during the turn found the call driven, and must try again.
        if polled.is_ready() || state.rang {
            let callers = mem::take(&mut state.callers);
            drop(state);
            callers.into_values().for_each(Waker::wake);
        }
    }
}

impl<T: Send> Wake for Bell<T> {
    fn wake(self: Arc<Self>) {
        let mut state = self.0.lock();
        state.rang = true;
        let callers = mem::take(&mut state.callers);
        drop(state);
        let woken = if planted!("flight_wakes_only_one_caller") { 1 } else { usize::MAX };
        callers.into_values().take(woken).for_each(Waker::wake);
    }
}

/// Work that ended without an answer: it panicked, or could not begin.
#[derive(Debug)]
pub(crate) struct Unfinished {
    pub(crate) detail: String,
    pub(crate) retry: Retry,
}

impl From<Unfinished> for StoreError {
    fn from(Unfinished { detail, retry }: Unfinished) -> Self {
        Self::Failed { detail, retry }
    }
}

impl From<Unfinished> for Error {
    fn from(unfinished: Unfinished) -> Self {
        Self::Store(unfinished.into())
    }
}

fn reentered<E: From<Unfinished>>() -> E {
    let detail = "it asks the engine for what the engine is asking it".to_owned();
    Unfinished { detail, retry: Retry::Never }.into()
}

fn panicked<E: From<Unfinished>>() -> E {
    Unfinished { detail: "it panicked".to_owned(), retry: Retry::Never }.into()
}

/// Does work that may block: here, or for a task on a thread of its own.
pub(crate) async fn unblocked<T: Send + 'static>(
    wait: Wait,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Unfinished> {
    if wait == Wait::Block {
        return Ok(work());
    }
    let (answer, answered) = oneshot::channel();
    let failed = |detail: String| Unfinished { detail, retry: Retry::Safe };
    let run = move || drop(answer.send(work()));
    thread::Builder::new()
        .name("quotum-aside".to_owned())
        .spawn(run)
        .map_err(|error| failed(format!("no thread could be started: {error}")))?;
    answered.await.map_err(|_| failed("the thread that did the work has died".to_owned()))
}
