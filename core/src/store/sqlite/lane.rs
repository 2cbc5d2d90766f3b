//! A lane: the queue of work for one connection, done in batches.
//!
//! Callers that arrive while a batch is being done travel together in the next one, so one commit,
//! and one wait for the disk, serves them all (group commit). Whoever finds the lane free leads: a
//! synchronous caller does the batch on its own thread, which costs it no switch of thread, and then
//! hands the lead to one that waits. Tasks never lead, because they must not block; a thread of the
//! lane's own, started for the first of them, leads in their place.
//!
//! Knows nothing of SQL; a [`Session`] does the batches.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use super::batch::{Batch, Job};
use super::session::Session;
use crate::error::Retry;
use crate::store::{StoreError, Wait};
use crate::sync::Monitor;

/// The most that one batch holds: some milliseconds of work, so that other processes get their turn.
const BATCH_MAX: usize = 1_024;

#[derive(Debug)]
pub(super) struct Lane {
    shared: Arc<Shared>,
    name: &'static str,
    worker: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    /// Signalled when the lane is free and has work that only the worker can lead, and at the end.
    state: Monitor<State>,
    seat: Mutex<Seat>,
}

/// A session, or how to have one.
pub(super) enum Seat {
    Open(Session),
    /// Whoever leads first opens it, because that takes a disk.
    ToOpen(Box<dyn Fn() -> Result<Session, StoreError> + Send>),
    /// A child process has closed its copy.
    Closed,
}

impl Seat {
    fn session(&mut self) -> Result<&mut Session, StoreError> {
        if let Self::ToOpen(open) = self {
            *self = Self::Open(open()?);
        }
        match self {
            Self::Open(session) => Ok(session),
            Self::ToOpen(_) | Self::Closed => Err(closed("a session of a parent process is closed")),
        }
    }
}

fn closed(cause: &str) -> StoreError {
    StoreError::Stopped { cause: cause.to_owned() }
}

#[derive(Default)]
struct State {
    queue: VecDeque<Box<dyn Job>>,
    /// Whether somebody leads, or was told to.
    led: bool,
    closed: bool,
}

impl Lane {
    #[cfg(test)]
    pub(super) fn new(name: &'static str, session: Session) -> Self {
        Self::seated(name, Seat::Open(session))
    }

    pub(super) fn seated(name: &'static str, seat: Seat) -> Self {
        let shared = Shared { state: Monitor::default(), seat: Mutex::new(seat) };
        Self { shared: Arc::new(shared), name, worker: Mutex::new(None) }
    }

    /// Does `work` in a batch, and returns what it returned once the batch has been committed.
    ///
    /// An error of `work` undoes the whole batch; what concerns only one caller belongs in `T`.
    pub(super) async fn run<T, F>(&self, wait: Wait, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Batch<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        if wait == Wait::Yield {
            self.start_worker()?;
        }
        let ticket = Arc::new(Ticket { progress: Mutex::new(Progress::Waiting(None)) });
        let task = Task { work: Some(work), output: None, ticket: Arc::clone(&ticket), wait };
        self.shared.enqueue(Box::new(task), wait, &ticket);
        Pending { shared: &self.shared, ticket }.await
    }

    /// Closes the connection that a child process has inherited with its copy of the lane, so that the child may open
    /// the file itself.
    ///
    /// SQLite says not to close in a child, nor to use; but it keeps in the memory of the process which locks the
    /// process has on a file. As long as an inherited connection is open, it would take no lock for the child's own
    /// ones: the parent's last act, or somebody else's, would then be to delete the log that the child writes to. An
    /// idle connection that does no checkpoint as it closes touches nothing but the child's copy.
    pub(super) fn close_inherited(&self) -> Result<(), StoreError> {
        const FORKED: &str = "the process was forked while its parent was using the store: fork between two requests, \
                              or open the store in the child";
        let mut seat = self.shared.seat.try_lock().ok_or_else(|| closed(FORKED))?;
        let Seat::Open(session) = &*seat else { return Ok(()) };
        if !session.let_go() {
            return Err(closed(FORKED));
        }
        *seat = Seat::Closed;
        Ok(())
    }

    fn start_worker(&self) -> Result<(), StoreError> {
        let mut worker = self.worker.lock();
        if worker.is_none() {
            let shared = Arc::clone(&self.shared);
            let spawned = std::thread::Builder::new().name(self.name.to_owned()).spawn(move || shared.work());
            *worker = Some(spawned.map_err(|error| StoreError::Failed {
                detail: format!("no thread could be started for async callers: {error}"),
                retry: Retry::Safe,
            })?);
        }
        Ok(())
    }
}

impl Drop for Lane {
    /// Waits until the worker has done what was asked of it, so that the file is closed afterwards.
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.state.notify_one();
        let worker = self.worker.lock().take();
        // The last handle may be dropped by the worker itself, inside a waker.
        if let Some(worker) = worker.filter(|worker| worker.thread().id() != std::thread::current().id()) {
            let _panicked = worker.join();
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Shared").field("waiting", &state.queue.len()).field("led", &state.led).finish()
    }
}

impl Shared {
    /// Queues a job; the lane's first synchronous caller is told to lead.
    fn enqueue<T>(&self, job: Box<dyn Job>, wait: Wait, ticket: &Ticket<T>) {
        let mut state = self.state.lock();
        state.queue.push_back(job);
        if state.led {
            return;
        }
        match wait {
            Wait::Block => {
                state.led = true;
                *ticket.progress.lock() = Progress::Leading;
            }
            Wait::Yield => {
                self.state.notify_one();
            }
        }
    }

    /// Does one batch and hands the lead on, even where the batch panics.
    fn lead(&self) {
        let lead = Lead { shared: self };
        let mut jobs: Vec<Box<dyn Job>> = {
            let mut state = self.state.lock();
            let count = state.queue.len().min(BATCH_MAX);
            state.queue.drain(..count).filter(|job| !job.is_abandoned()).collect()
        };
        if jobs.is_empty() {
            return;
        }
        let (outcome, has_stopped) = {
            let mut seat = self.seat.lock();
            match seat.session() {
                Ok(session) => {
                    let had_stopped = session.has_stopped();
                    let outcome = session.run(&mut jobs);
                    (outcome, session.has_stopped() && !had_stopped)
                }
                Err(error) => (Err(error), false),
            }
        };
        for job in jobs {
            job.finish(&outcome);
        }
        drop(lead);
        // Last, because whoever listens may ask this very store.
        if let (Err(error), true) = (outcome, has_stopped) {
            tracing::error!(target: "quotum", %error, "the store has stopped");
        }
    }

    fn hand_on(&self) {
        let mut state = self.state.lock();
        state.led = state.queue.iter().any(|job| job.promote());
        if !state.led && !state.queue.is_empty() {
            self.state.notify_one();
        }
    }

    /// The worker: leads whenever the lane is free and tasks wait.
    fn work(&self) {
        loop {
            {
                let mut state = self.state.lock();
                while state.led || state.queue.is_empty() {
                    if state.closed {
                        return;
                    }
                    state = self.state.wait(state);
                }
                state.led = true;
            }
            // A batch that panics has failed its callers already; the next one needs the worker still.
            let _panicked = catch_unwind(AssertUnwindSafe(|| self.lead()));
        }
    }
}

/// Leadership of a lane; going out of scope hands it on.
struct Lead<'s> {
    shared: &'s Shared,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.shared.hand_on();
    }
}

struct Task<T, F> {
    work: Option<F>,
    output: Option<T>,
    ticket: Arc<Ticket<T>>,
    wait: Wait,
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: FnOnce(&mut Batch<'_>) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        if let Some(work) = self.work.take() {
            self.output = Some(work(batch)?);
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, outcome: &Result<(), StoreError>) {
        match (outcome, self.output.take()) {
            (Ok(()), Some(output)) => self.ticket.finish(Ok(output)),
            (Err(error), _) => self.ticket.finish(Err(error.clone())),
            // Dropping the task says that nobody knows.
            (Ok(()), None) => {}
        }
    }

    fn promote(&self) -> bool {
        self.wait == Wait::Block && self.ticket.promote()
    }

    fn is_abandoned(&self) -> bool {
        matches!(*self.ticket.progress.lock(), Progress::Gone)
    }
}

impl<T, F> Drop for Task<T, F> {
    /// A task that was never finished was in a batch that panicked: its caller must not wait for ever.
    fn drop(&mut self) {
        self.ticket.finish(Err(StoreError::Failed {
            detail: "the batch was abandoned".to_owned(),
            retry: Retry::OutcomeUnknown,
        }));
    }
}

/// What a caller waits on.
struct Ticket<T> {
    progress: Mutex<Progress<T>>,
}

enum Progress<T> {
    Waiting(Option<Waker>),
    /// The caller is to lead the next batch, its own work included.
    Leading,
    Finished(Result<T, StoreError>),
    /// The caller has its answer, or has gone away.
    Gone,
}

impl<T> Ticket<T> {
    fn finish(&self, result: Result<T, StoreError>) {
        let mut progress = self.progress.lock();
        if !matches!(*progress, Progress::Waiting(_) | Progress::Leading) {
            return;
        }
        let before = std::mem::replace(&mut *progress, Progress::Finished(result));
        drop(progress);
        if let Progress::Waiting(Some(waker)) = before {
            waker.wake();
        }
    }

    fn promote(&self) -> bool {
        let mut progress = self.progress.lock();
        let Progress::Waiting(waker) = &mut *progress else { return false };
        let waker = waker.take();
        *progress = Progress::Leading;
        drop(progress);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }
}

/// A caller's wait for its answer, in which it may be told to lead.
struct Pending<'l, T> {
    shared: &'l Shared,
    ticket: Arc<Ticket<T>>,
}

impl<T> Future for Pending<'_, T> {
    type Output = Result<T, StoreError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            {
                let mut progress = self.ticket.progress.lock();
                match std::mem::replace(&mut *progress, Progress::Gone) {
                    Progress::Finished(result) => return Poll::Ready(result),
                    Progress::Waiting(_) | Progress::Gone => {
                        *progress = Progress::Waiting(Some(context.waker().clone()));
                        return Poll::Pending;
                    }
                    Progress::Leading => *progress = Progress::Waiting(None),
                }
            }
            // Its own work is in this batch, unless more than a batch's worth came before it.
            self.shared.lead();
        }
    }
}

impl<T> Drop for Pending<'_, T> {
    /// A caller that goes away leaves its work in the queue, to be passed over unless it has begun, and
    /// must not take the lead with it.
    fn drop(&mut self) {
        let last = std::mem::replace(&mut *self.ticket.progress.lock(), Progress::Gone);
        if matches!(last, Progress::Leading) {
            self.shared.hand_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::SqliteOptions;

    fn lane() -> (tempfile::TempDir, Lane) {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions::at(folder.path().join("quota.db"));
        (folder, Lane::new("test", options.open_session().unwrap()))
    }

    #[test]
    fn a_panic_in_a_batch_fails_its_callers_and_frees_the_lane() {
        let (_folder, lane) = lane();
        for wait in [Wait::Block, Wait::Yield] {
            let panicking = catch_unwind(AssertUnwindSafe(|| {
                pollster::block_on(lane.run(wait, |_| -> Result<(), StoreError> { panic!("planted") }))
            }));
            if let Ok(outcome) = panicking {
                assert_eq!(outcome.unwrap_err().retry(), Retry::OutcomeUnknown);
            }
            for next in [Wait::Block, Wait::Yield] {
                assert_eq!(pollster::block_on(lane.run(next, |_| Ok(7))), Ok(7));
            }
        }
    }

    #[test]
    fn callers_that_go_away_leave_the_lane_usable() {
        let (_folder, lane) = lane();
        for round in 0..1_000 {
            let wait = if round % 2 == 0 { Wait::Block } else { Wait::Yield };
            let mut context = Context::from_waker(Waker::noop());
            let mut first = Box::pin(lane.run(wait, move |_| Ok(round)));
            let mut second = Box::pin(lane.run(Wait::Yield, move |_| Ok(round)));
            let _ = second.as_mut().poll(&mut context);
            let _ = first.as_mut().poll(&mut context);
            drop(second);
            drop(first);
        }
        assert_eq!(pollster::block_on(lane.run(Wait::Block, |_| Ok(1))), Ok(1));
        assert_eq!(pollster::block_on(lane.run(Wait::Yield, |_| Ok(2))), Ok(2));
    }

    #[test]
    fn synchronous_callers_and_tasks_share_a_lane() {
        let (_folder, lane) = lane();
        std::thread::scope(|scope| {
            let runs: Vec<_> = (0..16)
                .map(|caller| {
                    let lane = &lane;
                    let wait = if caller % 2 == 0 { Wait::Block } else { Wait::Yield };
                    scope.spawn(move || (0..200).all(|n| pollster::block_on(lane.run(wait, move |_| Ok(n))) == Ok(n)))
                })
                .collect();
            for run in runs {
                assert!(run.join().unwrap());
            }
        });
    }
}
