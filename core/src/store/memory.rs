//! The memory store: everything in this process, gone at its end. The reference that other stores are
//! compared with.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use dashmap::DashMap;
use parking_lot::{Mutex, MutexGuard};

use super::{Balance, Call, Charge, Charged, CounterKey, Refund, Store, StoreFuture, StoredPlans, charge_all};
use crate::plan::Plans;
use crate::subscription::Subscription;
use crate::usage::period::Period;

/// How many parts the counters are split into, so that two subjects seldom wait for one lock.
const SHARDS: usize = 64;

/// A store in memory. Exact, and shared by all threads of one process; it lasts as long as the
/// process.
///
/// ```
/// use std::sync::Arc;
/// use quotum::{Plans, blocking::Quota, store::MemoryStore};
///
/// let plans = Plans::from_toml("default_plan = 'free'\n[plans.free]\nquotas = { jobs = '2/day' }")?;
/// let quota = Quota::builder().plans(plans).open_on(Arc::new(MemoryStore::new()))?;
/// assert!(quota.consume("ana", &[("jobs", 2)])?.allowed);
/// # Ok::<(), quotum::Error>(())
/// ```
#[derive(Debug)]
pub struct MemoryStore {
    plans: Mutex<Option<StoredPlans>>,
    subscriptions: DashMap<Arc<str>, Subscription>,
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

/// The counters of some subjects.
type Shard = HashMap<Arc<str>, Counters>;

/// The counters of one subject, by metric, period and start, so that old ones lie side by side.
type Counters = BTreeMap<(Arc<str>, Period, i64), Balance>;

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self {
            plans: Mutex::new(None),
            subscriptions: DashMap::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Locks the counters of all these keys at once, in one order for everybody.
    fn lock<'k>(&self, keys: impl Iterator<Item = &'k CounterKey>) -> Locked<'_> {
        let mut numbers: Vec<usize> = keys.map(|key| self.shard_of(key)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let shard = |number: usize| Some((number, self.shards.get(number)?.lock()));
        Locked { store: self, shards: numbers.into_iter().filter_map(shard).collect() }
    }

    fn shard_of(&self, key: &CounterKey) -> usize {
        usize::try_from(self.hasher.hash_one(&*key.subject) % SHARDS as u64).unwrap_or(0)
    }

    fn charge_now(&self, charges: &[Charge]) -> Charged {
        let mut locked = self.lock(charges.iter().map(|charge| &charge.key));
        let read = |key: &CounterKey| Ok::<_, Infallible>(locked.balance(key));
        let Ok(charged) = charge_all(charges, read);
        if charged.granted {
            for (charge, balance) in charges.iter().zip(&charged.balances) {
                locked.put(&charge.key, *balance);
            }
        }
        charged
    }

    fn balances_now(&self, keys: &[CounterKey]) -> Vec<Balance> {
        let locked = self.lock(keys.iter());
        keys.iter().map(|key| locked.balance(key)).collect()
    }

    fn refund_now(&self, refunds: &[Refund]) -> Vec<Balance> {
        let mut locked = self.lock(refunds.iter().map(|refund| &refund.key));
        let give_back = |refund: &Refund| {
            let before = locked.balance(&refund.key);
            let after = before.refunded(refund.amount);
            // A counter that was never charged stays absent.
            if after != before {
                locked.put(&refund.key, after);
            }
            after
        };
        refunds.iter().map(give_back).collect()
    }

    fn put_plans_now(&self, plans: &Plans) -> u64 {
        let mut stored = self.plans.lock();
        let version = stored.as_ref().map_or(0, |stored| stored.version) + 1;
        *stored = Some(StoredPlans { version, plans: plans.clone() });
        version
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

/// The shards that one step works on, all of them locked.
struct Locked<'s> {
    store: &'s MemoryStore,
    shards: Vec<(usize, MutexGuard<'s, Shard>)>,
}

impl Locked<'_> {
    fn balance(&self, key: &CounterKey) -> Balance {
        let number = self.store.shard_of(key);
        let shard = self.shards.iter().find(|(locked, _)| *locked == number);
        let counters = shard.and_then(|(_, shard)| shard.get(&key.subject));
        counters.and_then(|counters| counters.get(&place(key, key.start_s))).copied().unwrap_or_default()
    }

    fn put(&mut self, key: &CounterKey, balance: Balance) {
        let number = self.store.shard_of(key);
        let Some((_, shard)) = self.shards.iter_mut().find(|(locked, _)| *locked == number) else { return };
        let counters = shard.entry(Arc::clone(&key.subject)).or_default();
        let new = counters.insert(place(key, key.start_s), balance).is_none();
        if let Some(before_s) = key.forget_before_s().filter(|_| new) {
            let old: Vec<_> =
                counters.range(place(key, i64::MIN)..place(key, before_s)).map(|(place, _)| place.clone()).collect();
            for place in old {
                counters.remove(&place);
            }
        }
    }
}

fn place(key: &CounterKey, start_s: i64) -> (Arc<str>, Period, i64) {
    (Arc::clone(&key.metric), key.period, start_s)
}

/// A future that has its answer already: this store never waits.
fn ready<'a, T: Send + 'a>(answer: T) -> StoreFuture<'a, T> {
    Box::pin(std::future::ready(Ok(answer)))
}

impl Store for MemoryStore {
    fn plans(&self, _: Call) -> StoreFuture<'_, Option<StoredPlans>> {
        ready(self.plans.lock().clone())
    }

    fn put_plans<'a>(&'a self, _: Call, plans: &'a Plans) -> StoreFuture<'a, u64> {
        ready(self.put_plans_now(plans))
    }

    fn subscription<'a>(&'a self, _: Call, subject: &'a str) -> StoreFuture<'a, Option<Subscription>> {
        ready(self.subscriptions.get(subject).map(|subscription| subscription.clone()))
    }

    fn put_subscription<'a>(
        &'a self,
        _: Call,
        subject: &'a str,
        subscription: &'a Subscription,
    ) -> StoreFuture<'a, ()> {
        self.subscriptions.insert(subject.into(), subscription.clone());
        ready(())
    }

    fn add_subscription<'a>(
        &'a self,
        _: Call,
        subject: &'a str,
        subscription: &'a Subscription,
    ) -> StoreFuture<'a, Subscription> {
        ready(self.subscriptions.entry(subject.into()).or_insert_with(|| subscription.clone()).clone())
    }

    fn charge<'a>(&'a self, _: Call, charges: &'a [Charge]) -> StoreFuture<'a, Charged> {
        ready(self.charge_now(charges))
    }

    fn balances<'a>(&'a self, _: Call, keys: &'a [CounterKey]) -> StoreFuture<'a, Vec<Balance>> {
        ready(self.balances_now(keys))
    }

    fn refund<'a>(&'a self, _: Call, refunds: &'a [Refund]) -> StoreFuture<'a, Vec<Balance>> {
        ready(self.refund_now(refunds))
    }
}
