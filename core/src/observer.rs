//! The observer: hands what happens to whoever listens, without making a request wait.
//!
//! `tracing` gets every event at once. A host's callback and the store's log get theirs from a thread of
//! their own, behind a bounded queue: what does not fit into it is dropped and counted.

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;
use pollster::block_on;

use crate::decision::{Decision, Denial, Reason};
use crate::event::{Event, EventName};
use crate::store::{Call, Store, Wait};

/// How many events may wait for a callback or the log.
const QUEUE_MAX: usize = 4_096;

/// How many events are written to the store's log at once.
const WRITTEN_AT_ONCE: usize = 256;

/// How long the end of an engine waits until what was queued is delivered. A callback that never returns must
/// not keep its host from ending.
const DELIVERED_WITHIN: Duration = Duration::from_secs(5);

/// What a host does with an event. It may take its time, and it may panic: neither reaches a request.
pub(crate) type Callback = Box<dyn Fn(&Event) + Send>;

/// Which events are written to the store's log, besides the changes, which always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoggedEvents {
    /// None.
    #[default]
    Changes,
    /// All but successes: denials, thresholds, failures.
    Incidents,
    /// Every one. A success for each request is a row for each request.
    All,
}

/// Who listens.
#[derive(Default, Clone)]
pub(crate) struct Listeners {
    /// Locked by the one thread that delivers. A child may find it locked by a thread that it does not have.
    pub(crate) callback: Option<Arc<std::sync::Mutex<Callback>>>,
    pub(crate) logged: LoggedEvents,
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners").field("logged", &self.logged).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(crate) struct Observer {
    queue: Option<SyncSender<Event>>,
    worker: Mutex<Option<Worker>>,
    dropped: AtomicU64,
    #[cfg(feature = "metrics")]
    pub(crate) metrics: crate::metrics::Metrics,
}

/// The thread that delivers events.
#[derive(Debug)]
struct Worker {
    thread: JoinHandle<()>,
    /// Nothing is ever sent here: it is cut off when the thread ends.
    ended: Receiver<Infallible>,
}

impl Worker {
    fn start(listeners: &Listeners, store: &Arc<dyn Store>, events: Receiver<Event>) -> std::io::Result<Self> {
        let (ends, ended): (Sender<Infallible>, _) = channel();
        let (listeners, store) = (listeners.clone(), Arc::clone(store));
        let work = move || {
            deliver(&events, &listeners, &*store);
            drop(ends);
        };
        let thread = std::thread::Builder::new().name("quotum-events".to_owned()).spawn(work)?;
        Ok(Self { thread, ended })
    }

    /// Waits until it has delivered everything, but not for ever: then it is left to itself.
    fn end(self) {
        if self.ended.recv_timeout(DELIVERED_WITHIN) == Err(RecvTimeoutError::Timeout) {
            let waited_s = DELIVERED_WITHIN.as_secs();
            tracing::warn!(target: "quotum", waited_s, "events were not delivered in time: their thread is left alone");
            return;
        }
        let _panicked = self.thread.join();
    }
}

impl Observer {
    /// Starts to observe, on a thread of its own if anybody but `tracing` listens.
    pub(crate) fn start(listeners: &Listeners, store: &Arc<dyn Store>) -> std::io::Result<Self> {
        let listened = listeners.callback.is_some() || listeners.logged != LoggedEvents::Changes;
        let (queue, worker) = match listened {
            false => (None, None),
            true => {
                let (queue, events) = sync_channel(QUEUE_MAX);
                (Some(queue), Some(Worker::start(listeners, store, events)?))
            }
        };
        let mut observer = Self::unheard();
        observer.queue = queue;
        *observer.worker.get_mut() = worker;
        Ok(observer)
    }

    /// One to which only `tracing` listens.
    pub(crate) fn unheard() -> Self {
        Self {
            queue: None,
            worker: Mutex::new(None),
            dropped: AtomicU64::new(0),
            #[cfg(feature = "metrics")]
            metrics: crate::metrics::Metrics::new(),
        }
    }

    /// When a decision began, if anybody wants to know how long it took.
    pub(crate) fn begin(&self) -> Option<Instant> {
        (cfg!(feature = "metrics") || self.is_heard(EventName::QuotaCheckSuccess)).then(Instant::now)
    }

    /// Tells what a decision means.
    pub(crate) fn decided(&self, verb: &'static str, decision: &Decision, at: Timestamp, begun: Option<Instant>) {
        let took = begun.map(|begun| begun.elapsed());
        #[cfg(feature = "metrics")]
        self.metrics.decided(verb, decision, took);
        #[cfg(not(feature = "metrics"))]
        let _ = verb;
        let name = name_of(decision);
        if self.is_heard(name) {
            let duration_us = took.and_then(|took| u64::try_from(took.as_micros()).ok());
            self.tell(Event { duration_us, ..event_of(name, decision, at) });
        }
        for crossed in decision.trace.crossed.iter().flatten() {
            let state = decision.quotas.get(crossed.index);
            self.tell(Event {
                subject: decision.subject.clone(),
                plan: decision.plan.clone(),
                metric: state.map(|state| Arc::clone(&state.metric)),
                period: state.and_then(|state| state.period),
                used: state.map(|state| state.used),
                limit: state.and_then(|state| state.limit.units()),
                remaining: state.and_then(|state| state.remaining),
                resets_at: state.and_then(|state| state.resets_at),
                detail: Some(serde_json::json!({ "percent": crossed.percent })),
                ..Event::new(EventName::QuotaThresholdReached, at)
            });
        }
    }

    /// Hands an event to whoever listens.
    pub(crate) fn tell(&self, event: Event) {
        trace(&event);
        let Some(queue) = &self.queue else { return };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = queue.try_send(event) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many events were dropped because the queue was full.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn is_heard(&self, name: EventName) -> bool {
        self.queue.is_some() || is_traced(name)
    }
}

impl Drop for Observer {
    /// Waits until what was queued is delivered, for a while.
    fn drop(&mut self) {
        self.queue = None;
        // The last handle may be dropped by the callback itself.
        let worker = self.worker.lock().take();
        if let Some(worker) = worker.filter(|worker| worker.thread.thread().id() != std::thread::current().id()) {
            worker.end();
        }
    }
}

/// Delivers events until the observer is gone.
fn deliver(events: &Receiver<Event>, listeners: &Listeners, store: &dyn Store) {
    let mut batch = Vec::with_capacity(WRITTEN_AT_ONCE);
    while let Ok(event) = events.recv() {
        batch.push(event);
        batch.extend(events.try_iter().take(WRITTEN_AT_ONCE - 1));
        if let Some(callback) = &listeners.callback {
            hand_over(callback, &batch);
        }
        // Changes are in the log already: they were made in one step with it.
        batch.retain(|event| !event.name.is_change() && is_logged(listeners.logged, event.name));
        if let Some(last) = batch.last() {
            let call = Call::new(last.at, Wait::Block);
            if let Err(error) = block_on(store.record(call, &batch)) {
                tracing::warn!(target: "quotum", %error, lost = batch.len(), "events were not logged");
            }
        }
        batch.clear();
    }
}

fn hand_over(callback: &std::sync::Mutex<Callback>, events: &[Event]) {
    let callback = match callback.try_lock() {
        Ok(callback) => callback,
        Err(TryLockError::Poisoned(callback)) => callback.into_inner(),
        Err(TryLockError::WouldBlock) => {
            let lost = events.len();
            tracing::error!(target: "quotum", lost, "the event callback was running at the fork: it cannot be called");
            return;
        }
    };
    for event in events {
        let call = std::panic::AssertUnwindSafe(|| callback(event));
        if std::panic::catch_unwind(call).is_err() {
            tracing::error!(target: "quotum", event = %event.name, "the event callback panicked");
        }
    }
}

fn is_logged(logged: LoggedEvents, name: EventName) -> bool {
    match logged {
        LoggedEvents::Changes => false,
        LoggedEvents::Incidents => name != EventName::QuotaCheckSuccess,
        LoggedEvents::All => true,
    }
}

/// The event that a decision is.
fn name_of(decision: &Decision) -> EventName {
    if decision.is_degraded_grant() {
        return EventName::DegradedGrant;
    }
    // Nothing is granted to who only looks, but neither could the store be asked.
    let otherwise = if decision.degraded { EventName::QuotaCheckError } else { EventName::QuotaCheckSuccess };
    let denial = decision.denied.as_ref().or(decision.would_deny.as_ref());
    denial.map_or(otherwise, |denial| match denial.reason {
        Reason::QuotaExhausted => EventName::QuotaExhausted,
        Reason::NeverFits if denial.scope.is_some() => EventName::RateLimited,
        Reason::NeverFits => EventName::QuotaExhausted,
        Reason::RateLimited => EventName::RateLimited,
        Reason::FeatureNotInPlan => EventName::FeatureBlocked,
        Reason::FeatureValueExceeded => EventName::FeatureValueBlocked,
        Reason::TrialExpired => EventName::TrialExpired,
        Reason::SubscriptionInactive => EventName::SubscriptionInactive,
        Reason::Unauthenticated => EventName::Unauthenticated,
        Reason::StoreUnavailable => EventName::QuotaCheckError,
    })
}

fn event_of(name: EventName, decision: &Decision, at: Timestamp) -> Event {
    let denial: Option<&Denial> = decision.denied.as_deref().or(decision.would_deny.as_deref());
    let tightest = decision.quotas.iter().min_by_key(|state| state.remaining.unwrap_or(u64::MAX));
    let of = |denial: &Denial| denial.metric.clone().or(denial.scope.clone()).or(denial.feature.clone());
    let unanswered = decision.trace.unanswered.as_deref();
    let asked = unanswered.and_then(|unanswered| Some(Arc::clone(&unanswered.costs.first()?.metric)));
    let detail = match (name, &decision.would_deny) {
        (EventName::DegradedGrant | EventName::QuotaCheckError, _) => Some(fallback_of(decision, denial)),
        (_, Some(_)) => Some(serde_json::json!({ "enforcement": "shadow" })),
        (_, None) => None,
    };
    Event {
        subject: decision.subject.clone(),
        plan: decision.plan.clone(),
        reason: denial.map(|denial| denial.reason),
        metric: denial.and_then(of).or(asked).or_else(|| tightest.map(|state| Arc::clone(&state.metric))),
        period: denial.map_or_else(|| tightest.and_then(|state| state.period), |denial| denial.period),
        used: denial.map_or_else(|| tightest.map(|state| state.used), |denial| denial.used),
        limit: denial.map_or_else(|| tightest.and_then(|state| state.limit.units()), |denial| denial.limit),
        remaining: tightest.and_then(|state| state.remaining),
        resets_at: denial.map_or_else(|| tightest.and_then(|state| state.resets_at), |denial| denial.resets_at),
        upgrade_to: denial.and_then(|denial| denial.upgrade_to.clone()),
        detail,
        ..Event::new(name, at)
    }
}

/// What was done where the store could not answer, why it could not, and what it was asked for.
fn fallback_of(decision: &Decision, denial: Option<&Denial>) -> serde_json::Value {
    let fallback = if decision.allowed { "allow" } else { "deny" };
    let unanswered = decision.trace.unanswered.as_deref();
    let cause = unanswered
        .map(|unanswered| unanswered.cause.as_str())
        .or_else(|| denial.and_then(|denial| denial.cause.as_deref()));
    let mut units = serde_json::Map::new();
    for cost in unanswered.into_iter().flat_map(|unanswered| &unanswered.costs) {
        units.insert(cost.metric.to_string(), cost.amount.into());
    }
    serde_json::json!({ "fallback_applied": fallback, "cause": cause, "units": units })
}

/// Successes are for whoever debugs; everything else is worth a line.
macro_rules! by_level {
    ($name:expr, $macro:ident $(, $($argument:tt)*)?) => {
        match $name {
            EventName::QuotaCheckSuccess => tracing::$macro!(target: "quotum::event", tracing::Level::DEBUG $(, $($argument)*)?),
            EventName::QuotaCheckError | EventName::DegradedGrant => {
                tracing::$macro!(target: "quotum::event", tracing::Level::WARN $(, $($argument)*)?)
            }
            _ => tracing::$macro!(target: "quotum::event", tracing::Level::INFO $(, $($argument)*)?),
        }
    };
}

fn is_traced(name: EventName) -> bool {
    by_level!(name, enabled)
}

fn show(text: Option<&Arc<str>>) -> Option<tracing::field::DisplayValue<&str>> {
    text.map(|text| tracing::field::display(&**text))
}

fn trace(event: &Event) {
    by_level!(
        event.name,
        event,
        event = %event.name,
        subject = show(event.subject.as_ref()),
        plan = show(event.plan.as_ref()),
        metric = show(event.metric.as_ref()),
        reason = event.reason.map(Reason::as_str),
        used = event.used,
        limit = event.limit,
        remaining = event.remaining,
        resets_at = event.resets_at.map(tracing::field::display),
        upgrade_to = show(event.upgrade_to.as_ref()),
        actor = show(event.actor.as_ref()),
        duration_us = event.duration_us,
    );
}
