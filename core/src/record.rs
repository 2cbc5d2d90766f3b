//! The one record per subject: what a decision needs to know about it, in memory.
//!
//! Records are a bounded cache over the store. They hold no limit, so dropping one loses nothing and
//! gives nobody a fresh allowance.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use ahash::RandomState;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use lru::LruCache;
use parking_lot::{Mutex, RwLock};

use crate::error::Error;
use crate::flight::Flight;
use crate::lease::pool::Pools;
use crate::plan::Plans;
use crate::planted::planted;
use crate::standing::{Standing, Unsubscribed};
use crate::store::{StoreError, Wait};
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
    pub(crate) unsubscribed: Unsubscribed,
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
            unsubscribed: Unsubscribed::default(),
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
        if shard.len() > self.each_max
            && let Some((_, dropped)) = shard.pop_lru()
        {
            dropped.is_dropped.store(true, Ordering::Release);
        }
        record
    }

    /// The record of a subject, if there is one. `second` is the time in whole seconds: within one of them
    /// a record is moved to the front of the list once, because that touches its neighbours too.
    pub(crate) fn known(&self, subject: &str, second: u32) -> Option<Arc<Record>> {
        let mut shard = self.shard(subject)?.lock();
        let record = Arc::clone(shard.peek(subject)?);
        if record.front_at_s.swap(second, Ordering::Relaxed) != second {
            shard.promote(subject);
        }
        Some(record)
    }

    /// Moves a record that was used to the front of the list, as if it had been looked up.
    pub(crate) fn touch(&self, record: &Record, second: u32) {
        if record.front_at_s.load(Ordering::Relaxed) != second
            && record.front_at_s.swap(second, Ordering::Relaxed) != second
            && let Some(shard) = self.shard(&record.subject)
        {
            shard.lock().promote(&*record.subject);
        }
    }

    /// Notes that something has changed that a cached denial of the subject may have been due to.
    pub(crate) fn loosen(&self, subject: &str) {
        if let Some(record) = self.peek(subject) {
            record.loosen(self.epochs.next());
        }
    }

    /// Forgets the subscription of a subject, so that the next caller asks the store.
    pub(crate) fn clear(&self, subject: &str) {
        if let Some(record) = self.peek(subject) {
            record.clear();
            record.loosen(self.epochs.next());
        }
    }

    /// Drops what is known of a subject.
    pub(crate) fn forget(&self, subject: &str) {
        let dropped = self.shard(subject).and_then(|shard| shard.lock().pop(subject));
        if let Some(dropped) = dropped {
            dropped.is_dropped.store(true, Ordering::Release);
        }
    }

    fn peek(&self, subject: &str) -> Option<Arc<Record>> {
        self.shard(subject)?.lock().peek(subject).cloned()
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

/// What is known of one subject. There may be a million of them, so what few need is allocated apart.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) subject: Arc<str>,
    known: RwLock<Option<Known>>,
    /// The calls to the store under way for the subscription, while there are any.
    loading: Mutex<Option<Box<Loading>>>,
    pub(crate) denials: DenialCache,
    pub(crate) usage: UsageCache,
    /// What this process has leased of its counters.
    pub(crate) pools: Pools,
    /// Changes whenever a denial may not hold any more.
    epoch: AtomicU64,
    /// How often this process has charged the subject, so that what it has read of its usage is not shown
    /// after that. What was read is not shown for long, and the count does not come round meanwhile.
    charges: AtomicU32,
    /// When it was last moved to the front of the list of records, in seconds.
    front_at_s: AtomicU32,
    /// Whether it is no longer in the list, so that nobody tells it of changes.
    is_dropped: AtomicBool,
}

type Loading = Flight<Fetched, StoreError>;

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
    subscription: Option<Box<Subscription>>,
    stale_from_ns: u64,
    /// What the subscription amounts to.
    standing: Arc<Standing>,
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
            known: RwLock::new(None),
            loading: Mutex::default(),
            denials: DenialCache::default(),
            usage: UsageCache::default(),
            pools: Pools::default(),
            epoch: AtomicU64::new(epoch),
            charges: AtomicU32::new(0),
            front_at_s: AtomicU32::new(u32::MAX),
            is_dropped: AtomicBool::new(false),
        }
    }

    /// Whether changes are no longer told to it.
    pub(crate) fn is_dropped(&self) -> bool {
        self.is_dropped.load(Ordering::Acquire)
    }

    /// As of which changes a denial holds.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// How often the subject was charged.
    pub(crate) fn charges(&self) -> u32 {
        self.charges.load(Ordering::Acquire)
    }

    /// Notes that the subject was charged, or may have been.
    pub(crate) fn charged(&self) {
        self.charges.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that something has changed that a cached denial may have been due to.
    fn loosen(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Release);
    }

    /// The subject's standing, if its subscription is known well enough and it is so under plans in force
    /// now; neither plans nor time may have changed it.
    pub(crate) fn current(&self, now: Timestamp, monotonic: Duration) -> Option<Arc<Standing>> {
        let known = self.known.read();
        let known = known.as_ref().filter(|known| nanoseconds(monotonic) < known.stale_from_ns)?;
        let holds = known.standing.holds_until.is_none_or(|until| now < until);
        holds.then(|| Arc::clone(&known.standing))
    }

    /// The subject's standing under `plans`, if its subscription is known well enough.
    pub(crate) fn standing(
        &self,
        plans: &Arc<Plans>,
        unsubscribed: &Unsubscribed,
        now: Timestamp,
        monotonic: Duration,
    ) -> Result<Option<Arc<Standing>>, Error> {
        let current = self.current(now, monotonic);
        if let Some(standing) = current.filter(|standing| Arc::ptr_eq(&standing.plans, plans)) {
            return Ok(Some(standing));
        }
        let mut known = self.known.write();
        let Some(known) = known.as_mut().filter(|known| nanoseconds(monotonic) < known.stale_from_ns) else {
            return Ok(None);
        };
        known.standing = unsubscribed.standing(&self.subject, known.subscription.as_deref(), plans, now)?;
        Ok(Some(Arc::clone(&known.standing)))
    }

    /// What was known last amounts to, however old it is: for when the store cannot be asked.
    pub(crate) fn last_known(&self, plans: &Arc<Plans>, now: Timestamp) -> Option<Result<Arc<Standing>, Error>> {
        let known = self.known.read();
        let subscription = known.as_ref()?.subscription.as_deref();
        Some(Standing::of(&self.subject, subscription, plans, now).map(Arc::new))
    }

    /// The subscription as the store tells it now, by one call for however many callers ask.
    pub(crate) async fn load(
        &self,
        wait: Wait,
        start: impl FnOnce() -> BoxFuture<'static, Result<Fetched, StoreError>>,
    ) -> Result<Fetched, StoreError> {
        let joined = self.loading.lock().get_or_insert_with(|| Box::new(Loading::new())).join(wait, start);
        let fetched = joined.await;
        let mut loading = self.loading.lock();
        if loading.as_ref().is_some_and(|loading| loading.is_over()) {
            *loading = None;
        }
        fetched
    }

    /// What the store has told amounts to; it is kept unless a subscription was changed meanwhile, or
    /// the store was asked again later.
    pub(crate) fn keep(
        &self,
        fetched: Fetched,
        changes: &Changes,
        plans: &Arc<Plans>,
        unsubscribed: &Unsubscribed,
        now: Timestamp,
    ) -> Result<Arc<Standing>, Error> {
        let standing = unsubscribed.standing(&self.subject, fetched.subscription.as_deref(), plans, now)?;
        let stale_from_ns = nanoseconds(fetched.stale_from);
        let mut known = self.known.write();
        let newest = known.as_ref().is_none_or(|known| known.stale_from_ns <= stale_from_ns);
        let late = fetched.changes != changes.count() && !planted!("late_read_of_a_subscription_is_kept");
        if newest && !late {
            let (subscription, standing) = (fetched.subscription, Arc::clone(&standing));
            *known = Some(Known { subscription, stale_from_ns, standing });
        }
        Ok(standing)
    }

    fn clear(&self) {
        *self.loading.lock() = None;
        *self.known.write() = None;
    }
}

/// Monotonic time in 64 bits, which last for five hundred years.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who knows which subjects share a lock could have all requests wait for one.
    #[test]
    fn no_two_engines_keep_subjects_at_the_same_places() {
        let (one, other) = (Records::bounded(SHARDS), Records::bounded(SHARDS));
        let hash = |records: &Records, number: u32| records.hasher.hash_one(format!("subject-{number}"));
        assert!((0..64).all(|number| hash(&one, number) == hash(&one, number)));
        assert!((0..64).all(|number| hash(&one, number) != hash(&other, number)));
    }

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
