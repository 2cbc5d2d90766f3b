//! The one record per subject: what a decision needs to know about it, in memory.
//!
//! Records are a bounded cache over the store. They hold no limit, so dropping one loses nothing and
//! gives nobody a fresh allowance.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ahash::RandomState;
use jiff::Timestamp;
use lru::LruCache;
use parking_lot::{Mutex, RwLock};

use crate::error::Error;
use crate::flight::Flight;
use crate::plan::Plans;
use crate::planted::planted;
use crate::standing::Standing;
use crate::store::StoreError;
use crate::subscription::Subscription;
use crate::usage::denial_cache::DenialCache;
use crate::usage::usage_cache::UsageCache;

/// How many parts the records are split into, so that two subjects seldom wait for one lock.
const SHARDS: usize = 64;

/// The records of all subjects seen lately: at most so many, the least recently used dropped first.
pub(crate) struct Records {
    shards: Box<[Shard]>,
    /// How many records a shard holds at the most.
    each_max: usize,
    /// Keyed anew in each process, so that nobody can choose subjects that collide.
    hasher: RandomState,
    epochs: Epochs,
}

/// Numbers that are never given twice.
#[derive(Debug, Default)]
struct Epochs(AtomicU64);

impl Epochs {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::AcqRel)
    }
}

type Shard = Mutex<LruCache<Arc<str>, Arc<Record>, RandomState>>;

impl Records {
    pub(crate) fn bounded(records_max: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(LruCache::unbounded_with_hasher(RandomState::new()))).collect();
        Self {
            shards,
            each_max: records_max.div_ceil(SHARDS).max(1),
            hasher: RandomState::new(),
            epochs: Epochs::default(),
        }
    }

    /// The record of a subject, made now if there is none.
    pub(crate) fn of(&self, subject: &str) -> Arc<Record> {
        let new = || Arc::new(Record::new(subject.into(), self.epochs.next()));
        let Some(shard) = self.shard(subject) else { return new() };
        let mut shard = shard.lock();
        if let Some(record) = shard.get(subject) {
            return Arc::clone(record);
        }
        let record = new();
        shard.put(Arc::clone(&record.subject), Arc::clone(&record));
        if shard.len() > self.each_max {
            shard.pop_lru();
        }
        record
    }

    /// The record of a subject, if there is one. `second` is the time in whole seconds: within one of them
    /// a record is moved to the front of the list once, because that touches its neighbours too.
    pub(crate) fn known(&self, subject: &str, second: u64) -> Option<Arc<Record>> {
        let mut shard = self.shard(subject)?.lock();
        let record = Arc::clone(shard.peek(subject)?);
        if record.front_at_s.swap(second, Ordering::Relaxed) != second {
            shard.promote(subject);
        }
        Some(record)
    }

    /// Notes that something has changed that a cached denial of the subject may have been due to.
    pub(crate) fn loosen(&self, subject: &str) {
        let record = self.shard(subject).and_then(|shard| shard.lock().peek(subject).cloned());
        if let Some(record) = record {
            record.epoch.store(self.epochs.next(), Ordering::Release);
        }
    }

    /// Forgets the subscription of a subject, so that the next caller asks the store.
    pub(crate) fn clear(&self, subject: &str) {
        let record = self.shard(subject).and_then(|shard| shard.lock().peek(subject).cloned());
        if let Some(record) = record {
            record.clear();
            record.epoch.store(self.epochs.next(), Ordering::Release);
        }
    }

    /// Drops what is known of a subject.
    pub(crate) fn forget(&self, subject: &str) {
        if let Some(shard) = self.shard(subject) {
            shard.lock().pop(subject);
        }
    }

    fn shard(&self, subject: &str) -> Option<&Shard> {
        let hash = usize::try_from(self.hasher.hash_one(subject) % SHARDS as u64).ok()?;
        self.shards.get(hash)
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("len", &self.len()).finish()
    }
}

/// What is known of one subject.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) subject: Arc<str>,
    pub(crate) loading: Flight<Fetched, StoreError>,
    known: RwLock<Option<Known>>,
    pub(crate) denials: DenialCache,
    pub(crate) usage: UsageCache,
    /// Changes whenever a denial may not hold any more.
    epoch: AtomicU64,
    /// When it was last moved to the front of the list of records.
    front_at_s: AtomicU64,
    /// How often this process has charged the subject, so that what it has read of its usage is not shown
    /// after that.
    charges: AtomicU64,
}

/// A subscription as the store has told it.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    pub(crate) subscription: Option<Box<Subscription>>,
    /// Monotonic time from which the store must be asked again.
    pub(crate) stale_from: Duration,
    /// How many subscriptions this process had changed before it asked: see [`Changes`].
    pub(crate) changes: u64,
}

#[derive(Debug)]
struct Known {
    fetched: Fetched,
    /// What the subscription amounts to under these plans.
    standing: Arc<Standing>,
    plans: Arc<Plans>,
}

/// How many subscriptions this process has changed. What was read before the last change is not kept,
/// because it may be what was changed; changes are rare, and a read that is not kept is only repeated.
#[derive(Debug, Default)]
pub(crate) struct Changes(AtomicU64);

impl Changes {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn note(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

impl Record {
    fn new(subject: Arc<str>, epoch: u64) -> Self {
        Self {
            subject,
            loading: Flight::new(),
            known: RwLock::new(None),
            denials: DenialCache::default(),
            usage: UsageCache::default(),
            epoch: AtomicU64::new(epoch),
            front_at_s: AtomicU64::new(u64::MAX),
            charges: AtomicU64::new(0),
        }
    }

    /// As of which changes a denial holds.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// How often the subject was charged.
    pub(crate) fn charges(&self) -> u64 {
        self.charges.load(Ordering::Acquire)
    }

    /// Notes that the subject was charged, or may have been.
    pub(crate) fn charged(&self) {
        self.charges.fetch_add(1, Ordering::AcqRel);
    }

    /// The subject's standing under `plans`, if its subscription is known well enough.
    pub(crate) fn standing(
        &self,
        plans: &Arc<Plans>,
        now: Timestamp,
        monotonic: Duration,
    ) -> Result<Option<Arc<Standing>>, Error> {
        {
            let known = self.known.read();
            let Some(known) = known.as_ref().filter(|known| monotonic < known.fetched.stale_from) else {
                return Ok(None);
            };
            if Arc::ptr_eq(&known.plans, plans) && known.standing.holds_until.is_none_or(|until| now < until) {
                return Ok(Some(Arc::clone(&known.standing)));
            }
        }
        let mut known = self.known.write();
        let Some(known) = known.as_mut() else { return Ok(None) };
        known.standing = Arc::new(Standing::of(known.fetched.subscription.as_deref(), plans, now)?);
        known.plans = Arc::clone(plans);
        Ok(Some(Arc::clone(&known.standing)))
    }

    /// What was known last amounts to, however old it is: for when the store cannot be asked.
    pub(crate) fn last_known(&self, plans: &Arc<Plans>, now: Timestamp) -> Option<Result<Arc<Standing>, Error>> {
        let known = self.known.read();
        let subscription = known.as_ref()?.fetched.subscription.as_deref();
        Some(Standing::of(subscription, plans, now).map(Arc::new))
    }

    /// What the store has told amounts to; it is kept unless a subscription was changed meanwhile, or
    /// the store was asked again later.
    pub(crate) fn keep(
        &self,
        fetched: Fetched,
        changes: &Changes,
        plans: &Arc<Plans>,
        now: Timestamp,
    ) -> Result<Arc<Standing>, Error> {
        let standing = Arc::new(Standing::of(fetched.subscription.as_deref(), plans, now)?);
        let mut known = self.known.write();
        let newest = known.as_ref().is_none_or(|known| known.fetched.stale_from <= fetched.stale_from);
        let late = fetched.changes != changes.count() && !planted!("late_read_of_a_subscription_is_kept");
        if newest && !late {
            *known = Some(Known { fetched, standing: Arc::clone(&standing), plans: Arc::clone(plans) });
        }
        Ok(standing)
    }

    fn clear(&self) {
        self.loading.abandon();
        *self.known.write() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_stay_under_their_cap_and_the_least_used_go_first() {
        let records = Records::bounded(SHARDS * 2);
        let kept = records.of("kept");
        for stranger in 0..100_000 {
            records.of(&format!("stranger-{stranger}"));
            let again = records.of("kept");
            assert!(Arc::ptr_eq(&kept, &again));
        }
        assert!(records.len() <= SHARDS * 2, "{} records", records.len());
    }
}
