//! Keeping leases: blocks are asked for, renewed, returned and recalled off the request path.
//!
//! One thread of the engine's own does it, as long as anything is leased. The store is asked for many owners at
//! once, and for one owner one thing after the other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use pollster::block_on;

use super::block::Ended;
use super::pool::{Need, Pool};
use super::{Desk, Work};
use crate::admission::Admission;
use crate::aside::{aside, is_simulated};
use crate::caller::Caller;
use crate::event::{Event, EventName};
use crate::record::Record;
use crate::store::{Call, StoreError, Wait};
use crate::sync::MonitorGuard;
use crate::usage::demand::Touched;
use crate::usage::hold::HoldId;

/// For how many owners the store is asked at once.
const AT_ONCE: usize = 64;

/// How often it is tried to return what a process has leased, where somebody waits for it.
const RETURNS: usize = 3;

/// How long the keeper rests at the most: the engine's clock may be one that somebody else moves.
const REST: Duration = Duration::from_millis(250);

impl Desk {
    /// Has an owner's pools looked after.
    pub(super) fn call(&self, record: &Arc<Record>) {
        let mut work = self.work.lock();
        work.called.insert(place_of(record), Arc::clone(record));
        self.work.notify_one();
        self.keep(work);
    }

    /// Has somebody look after the pools, where that is due and nobody does.
    pub(crate) fn keep_if_due(&self, now: Duration) {
        let work = self.work.lock();
        if !work.called.is_empty() || work.due.is_some_and(|due| due <= now) {
            self.keep(work);
        }
    }

    /// Starts a keeper, unless there is one. A child process needs none for what it has inherited.
    fn keep(&self, mut work: MonitorGuard<'_, Work>) {
        if work.keeper || !self.born.is_here() {
            return;
        }
        let engine = Weak::clone(&self.engine);
        if aside("quotum-leases", move || keep(&engine)).is_ok() {
            work.keeper = true;
        }
    }

    /// The owners whose pools are to be looked after now.
    fn take_due(&self, now: Duration) -> Vec<Arc<Record>> {
        let mut work = self.work.lock();
        let mut due = std::mem::take(&mut work.called);
        work.open.extend(due.iter().map(|(place, record)| (*place, Arc::clone(record))));
        let is_due = |record: &Arc<Record>| due_of(record).is_some_and(|due| due <= now);
        let others = work.open.iter().filter(|(_, record)| is_due(record));
        due.extend(others.map(|(place, record)| (*place, Arc::clone(record))));
        due.into_values().collect()
    }

    /// Forgets owners that have nothing leased, and when to look next.
    fn tidy(&self) {
        let mut work = self.work.lock();
        work.open.retain(|_, record| {
            record.pools.0.lock().iter().flat_map(|pools| pools.iter()).any(|pool| !pool.is_empty())
        });
        work.due = work.open.values().filter_map(|record| due_of(record)).min();
    }

    /// Rests until somebody calls or something is due. False where there is nothing more to keep, and for a
    /// simulation, which calls again by itself: then nobody is at work.
    fn rest(&self, now: Duration) -> bool {
        let mut work = self.work.lock();
        if work.called.is_empty() && (work.open.is_empty() || is_simulated()) {
            work.keeper = false;
            return false;
        }
        if work.called.is_empty() {
            let until_due = work.due.map_or(REST, |due| due.saturating_sub(now));
            // A clock that is moved by hand is looked at again and again.
            drop(self.work.wait_for(work, until_due.clamp(Duration::from_millis(1), REST)));
        }
        true
    }
}

/// Where a record lies, which tells it from all others.
fn place_of(record: &Arc<Record>) -> usize {
    Arc::as_ptr(record).addr()
}

fn due_of(record: &Record) -> Option<Duration> {
    record.pools.0.lock().iter().flat_map(|pools| pools.iter()).filter_map(Pool::due).min()
}

impl Admission {
    /// Looks after every pool that needs it, once.
    async fn tend(self: &Arc<Self>) {
        let wait = if is_simulated() { Wait::Block } else { Wait::Yield };
        // Who has leased something must hear that others need it, also while nobody asks here.
        self.keep_up(wait).await;
        let due = self.desk.take_due(self.clock.monotonic());
        let tend = |record: Arc<Record>| async move {
            // It is tried again later.
            let _failed = self.tend_to(&record, wait).await;
        };
        stream::iter(due).map(tend).buffer_unordered(AT_ONCE).collect::<()>().await;
        self.desk.tidy();
    }

    /// Asks the store for whatever one owner's pools need, until they need nothing or it fails.
    async fn tend_to(&self, record: &Arc<Record>, wait: Wait) -> Result<(), StoreError> {
        let count = record.pools.0.lock().as_ref().map_or(0, |pools| pools.len());
        for place in 0..count {
            // A pool needs a few things at a time; the rest is for the next time.
            for _ in 0..AT_ONCE {
                if !self.desk.born.is_here() {
                    // The parent grants from these blocks, and settles them.
                    return Ok(());
                }
                let call = self.call(wait);
                let needed = with_pool(record, place, |pool| {
                    let need = pool.need(call.monotonic(&*self.clock), call.now, || HoldId::random().ok());
                    need.map(|need| (Arc::clone(&pool.metric), need))
                });
                let Some((metric, need)) = needed.flatten() else { break };
                let done = match need {
                    Need::Lease(lease) => match self.store.lease(call, &lease).await {
                        Ok(leased) => {
                            Ok(with_pool(record, place, |pool| pool.answered(lease.id, leased, self.clock.monotonic())))
                        }
                        Err(error) => Err(error),
                    },
                    Need::Settle(settle) => match self.store.settle(call, &settle).await {
                        Ok(settled) => Ok(with_pool(record, place, |pool| pool.settled(settle.id, settled))),
                        Err(error) => Err(error),
                    },
                    Need::Recall => {
                        // Others return what they have as soon as they read this; if they never do, their leases end.
                        let _unread = self.tell_recall(call, record, &metric).await;
                        continue;
                    }
                };
                match done {
                    Ok(ended) => self.block_ended(call, record, ended.flatten().as_ref()),
                    Err(error) => {
                        self.lease_failed(record, place, &error);
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns what an owner has leased of some metrics, and waits for it. The keeper may be at it too, and may fail
    /// where this does not: then it is tried again.
    async fn give_back(&self, record: &Arc<Record>, wait: Wait, is_meant: impl Fn(&Pool) -> bool) -> bool {
        let mut had_some = false;
        for _ in 0..RETURNS {
            let mut has_some = false;
            if let Some(pools) = record.pools.0.lock().as_mut() {
                for pool in pools.iter_mut().filter(|pool| pool.has_some() && is_meant(pool)) {
                    pool.return_soon();
                    has_some = true;
                }
            }
            had_some |= has_some;
            if !has_some || self.tend_to(record, wait).await.is_err() {
                break;
            }
        }
        had_some
    }

    async fn tell_recall(&self, call: Call, record: &Record, metric: &Arc<str>) -> Result<(), StoreError> {
        let event = Event {
            subject: Some(Arc::clone(&record.subject)),
            metric: Some(Arc::clone(metric)),
            source: Some(self.feed.name()),
            ..Event::new(EventName::LeasesRecalled, call.now)
        };
        self.store.record(call, std::slice::from_ref(&event)).await
    }

    fn lease_failed(&self, record: &Arc<Record>, place: usize, error: &StoreError) {
        let ended = with_pool(record, place, |pool| pool.unanswered(self.clock.monotonic()));
        tracing::debug!(target: "quotum", %error, "the store could not be asked for leases");
        if let Some(ended) = ended.flatten() {
            self.desk.ended(&ended);
        }
    }

    fn block_ended(&self, call: Call, record: &Record, ended: Option<&Ended>) {
        let Some(ended) = ended else { return };
        self.desk.ended(ended);
        if ended.returned > 0 {
            // What was given back may let pass what was denied.
            self.records.loosen(&record.subject);
        }
        self.tell_thresholds(call, &ended.parts);
    }

    /// Returns what this process has leased of these quotas, and waits for it. False where it had nothing.
    pub(crate) async fn return_own(&self, caller: &Caller, touched: &[Touched<'_>]) -> bool {
        let mut returned = false;
        for record in std::iter::once(&caller.record).chain(&caller.account) {
            let is_meant = |pool: &Pool| {
                touched.iter().any(|quota| *quota.owner == record.subject && *quota.metric == pool.metric)
            };
            returned |= self.give_back(record, caller.call.wait, is_meant).await;
        }
        returned
    }

    /// Has this process return what it has leased of an owner's metric, because another one was denied it.
    pub(crate) fn return_recalled(&self, owner: &str, metric: Option<&Arc<str>>) {
        let open = self.desk.work.lock().open.clone();
        for record in open.values().filter(|record| *record.subject == *owner) {
            if let Some(pools) = record.pools.0.lock().as_mut() {
                let recalled = |pool: &&mut Pool| metric.is_none_or(|metric| pool.metric == *metric);
                pools.iter_mut().filter(recalled).for_each(Pool::return_soon);
            }
            self.desk.call(record);
        }
    }

    /// Whether this process has leased anything that is not settled.
    pub(crate) fn has_leases(&self) -> bool {
        let work = self.desk.work.lock();
        !work.open.is_empty() || !work.called.is_empty()
    }

    /// Returns everything that this process has leased.
    pub(crate) async fn return_all(&self, wait: Wait) {
        let all = {
            let mut work = self.desk.work.lock();
            let called = std::mem::take(&mut work.called);
            work.open.extend(called);
            work.open.clone()
        };
        let give_back = |record: Arc<Record>| async move {
            self.give_back(&record, wait, |_| true).await;
        };
        stream::iter(all.into_values()).map(give_back).buffer_unordered(AT_ONCE).collect::<()>().await;
        self.desk.tidy();
    }
}

/// Keeps the leases of an engine for as long as there are any.
fn keep(engine: &Weak<Admission>) {
    loop {
        // Not held while resting, so that the engine can end.
        let Some(engine) = engine.upgrade() else { return };
        let tended = catch_unwind(AssertUnwindSafe(|| block_on(engine.tend())));
        let (desk, now) = (Arc::clone(&engine.desk), engine.clock.monotonic());
        drop(engine);
        if tended.is_err() {
            desk.work.lock().keeper = false;
            return;
        }
        if !desk.rest(now) {
            return;
        }
    }
}

fn with_pool<T>(record: &Record, place: usize, act: impl FnOnce(&mut Pool) -> T) -> Option<T> {
    record.pools.0.lock().as_mut()?.get_mut(place).map(act)
}
