//! The change feed: what other processes have changed, so that what is cached of it here is dropped.
//!
//! Asked for at most once in an interval, and only when there are requests: an idle process has no
//! thread that wakes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::admission::Admission;
use crate::aside::{Finally, aside};
use crate::event::{Event, EventName, EventQuery};
use crate::planted::planted;
use crate::store::{Call, StoreError, Wait};

/// How many subjects' debts are charged, and how many revocations are told, where a request waits for it.
const OWED_AT_ONCE: usize = 16;

/// How many changes are read at once.
const PAGE: usize = 1_000;

#[derive(Debug)]
pub(crate) struct Feed {
    /// What this engine's own changes are marked with.
    name: Arc<str>,
    interval: Duration,
    /// The last change that was followed.
    seen: Arc<AtomicU64>,
    /// Whether it is known from which change on to follow.
    begun: AtomicBool,
    /// Monotonic time, in nanoseconds, from which the store is to be asked again.
    due_ns: AtomicU64,
    /// Whether somebody is asking it off the request path.
    asking: AtomicBool,
    following: Mutex<()>,
}

impl Feed {
    /// `name` is one that no other engine has, nor this one's copy in another process: its changes would not be
    /// followed.
    pub(crate) fn every(interval: Duration, name: Arc<str>) -> Self {
        Self {
            name,
            interval,
            seen: Arc::default(),
            begun: AtomicBool::new(false),
            due_ns: AtomicU64::new(0),
            asking: AtomicBool::new(false),
            following: Mutex::new(()),
        }
    }

    /// The last change that was followed, as it advances.
    pub(crate) fn seen(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.seen)
    }

    /// What this engine's own changes are marked with.
    pub(crate) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }
}

impl Admission {
    /// Follows the feed if it is time to. A request waits for it only where nobody has asked for two
    /// intervals: then what is cached may be older than anybody was promised.
    ///
    /// Returns the call for the request's own steps, which have the time that is then left.
    pub(crate) async fn keep_up(self: &Arc<Self>, wait: Wait) -> Call {
        let call = self.call(wait);
        let now = call.monotonic(&*self.clock);
        let due = Duration::from_nanos(self.feed.due_ns.load(Ordering::Acquire));
        if now < due {
            return call;
        }
        if !self.feed.begun.load(Ordering::Acquire) {
            // A child process begins here. Nothing is cached before.
            self.begin_or_warn(call).await;
            return Call { now: self.call(wait).now, ..call };
        }
        self.tell_evictions(call);
        self.desk.keep_if_due(now);
        if now.saturating_sub(due) >= self.feed.interval {
            // Postponed only then: nobody is served what is older, and one that goes away leaves it to the next.
            if self.follow(call).await {
                let _owed_on = self.settle_up(call, OWED_AT_ONCE).await;
            }
            self.postpone(now);
            return Call { now: self.call(wait).now, ..call };
        }
        if self.feed.asking.swap(true, Ordering::AcqRel) {
            return call;
        }
        self.postpone(now);
        let admission = Arc::clone(self);
        let ask = move || {
            let _done = Finally(&admission.feed.asking);
            pollster::block_on(async {
                if admission.follow(admission.call(Wait::Block)).await {
                    let _owed_on = admission.settle_up(admission.call(Wait::Block), usize::MAX).await;
                }
            });
        };
        if aside("quotum-feed", ask).is_err() {
            self.feed.asking.store(false, Ordering::Release);
        }
        call
    }

    /// Whether the feed is to be followed before anything is decided.
    pub(crate) fn is_behind(&self, call: Call) -> bool {
        let due = Duration::from_nanos(self.feed.due_ns.load(Ordering::Acquire));
        call.monotonic(&*self.clock) >= due
    }

    fn postpone(&self, now: Duration) {
        let next_ns = u64::try_from(now.saturating_add(self.feed.interval).as_nanos()).unwrap_or(u64::MAX);
        self.feed.due_ns.fetch_max(next_ns, Ordering::AcqRel);
    }

    /// Begins to follow the feed. Where that fails, all of it is read when the store answers again.
    pub(crate) async fn begin_or_warn(&self, call: Call) {
        if let Err(error) = self.begin_to_follow(call).await {
            tracing::warn!(target: "quotum", %error, "the store's log cannot be read yet");
        }
        self.feed.begun.store(true, Ordering::Release);
    }

    /// Begins to follow the feed: from now on, and with the enforcement that was switched before.
    async fn begin_to_follow(&self, call: Call) -> Result<(), StoreError> {
        let newest = EventQuery { newest_first: true, limit: 1, ..EventQuery::changes() };
        let newest = self.store.events(call, &newest).await?;
        let mut switches =
            EventQuery { name: Some(EventName::EnforcementChanged), limit: PAGE, ..EventQuery::changes() };
        loop {
            let page = self.store.events(call, &switches).await?;
            page.iter().for_each(|event| self.switchboard.follow(event));
            let Some(next) = last_of_full_page(&page, switches.after) else { break };
            switches.after = next;
        }
        let seen = newest.first().map_or(0, |event| event.sequence);
        self.feed.seen.fetch_max(seen, Ordering::AcqRel);
        self.postpone(self.clock.monotonic());
        Ok(())
    }

    /// Reads what has changed, and drops what is known of it. While the store fails, what is known stays.
    ///
    /// Returns whether the store has answered.
    async fn follow(&self, call: Call) -> bool {
        let mut plans_changed = false;
        loop {
            let after = self.feed.seen.load(Ordering::Acquire);
            let query = EventQuery { after, limit: PAGE, ..EventQuery::changes() };
            let Ok(page) = self.store.events(call, &query).await else { return false };
            // Two that follow at once see the same page: each change is followed in its order, once.
            {
                let _alone = self.feed.following.lock();
                let skipped = usize::from(planted!("feed_skips_a_change") && page.len() > 1);
                for event in page.iter().skip(skipped) {
                    if self.feed.seen.fetch_max(event.sequence, Ordering::AcqRel) < event.sequence {
                        plans_changed |= self.follow_one(event);
                    }
                }
            }
            if last_of_full_page(&page, after).is_none() {
                break;
            }
        }
        if plans_changed {
            self.catalog.reload(call).await;
        }
        true
    }

    /// Drops what is known of what has changed; true where plans must be loaded anew.
    fn follow_one(&self, event: &Event) -> bool {
        let own = event.source.as_ref() == Some(&self.feed.name);
        match event.name {
            // Its own change is in force here, unless its caller went away before it was made.
            EventName::PlanChanged if planted!("plans_of_others_not_loaded") => {}
            EventName::PlanChanged if own => self.catalog.expire(),
            EventName::PlanChanged => {
                // Also where the rest of the log cannot be read now.
                self.catalog.expire();
                return true;
            }
            EventName::EnforcementChanged => self.switchboard.follow(event),
            EventName::SubscriptionChanged => {
                if let Some(subject) = &event.subject {
                    self.changes.note();
                    self.records.clear(subject);
                }
            }
            EventName::UsageAdjusted => {
                let owners = event.subject.iter().chain(&event.account);
                owners.for_each(|owner| self.records.loosen(owner));
                // What a refund gives back must have been counted.
                if let (Some(subject), false) = (&event.subject, own) {
                    self.return_recalled(event.account.as_ref().unwrap_or(subject), None);
                }
            }
            EventName::LeasesRecalled => {
                if let (Some(owner), false) = (&event.subject, own) {
                    self.return_recalled(owner, event.metric.as_ref());
                }
            }
            EventName::TokenForgotten => self.forget_locally(event),
            _ => {}
        }
        false
    }
}

/// After which change to read on, where there may be more than this page. A store that answers with nothing newer
/// than what it was asked for would do so for ever.
fn last_of_full_page(page: &[Event], after: u64) -> Option<u64> {
    let last = page.iter().map(|event| event.sequence).max()?;
    (page.len() >= PAGE && last > after).then_some(last)
}
