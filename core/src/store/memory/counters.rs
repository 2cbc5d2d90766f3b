//! The counters of the memory store, in shards that a step locks together.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};

use crate::HoldId;
use crate::planted::planted;
use crate::store::{Balance, Charge, CounterKey, Part, Settle, settle_one};
use crate::usage::period::Period;

/// How many parts the counters are split into, so that two subjects seldom wait for one lock.
const SHARDS: usize = 64;

#[derive(Debug)]
pub(super) struct Counters {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

/// The counters of some subjects.
type Shard = HashMap<Arc<str>, Subject>;

/// The counters of one subject, by metric, period and start, so that old ones lie side by side.
type Subject = BTreeMap<(Arc<str>, Period, i64), Counter>;

#[derive(Debug, Default)]
struct Counter {
    balance: Balance,
    /// What is held, in the order in which it expires.
    holds: BTreeMap<(i64, HoldId), u64>,
}

impl Counter {
    /// Gives back what has expired.
    fn expire(&mut self, now: Timestamp) {
        while let Some(first) = self.holds.first_entry().filter(|first| first.key().0 <= now.as_millisecond()) {
            self.balance = self.balance.unheld(first.remove());
        }
    }
}

impl Counters {
    pub(super) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    /// Locks the counters of all these keys at once, in one order for everybody.
    pub(super) fn lock<'k>(&self, keys: impl Iterator<Item = &'k CounterKey>, now: Timestamp) -> Locked<'_> {
        let mut numbers: Vec<usize> = keys.map(|key| self.shard_of(key)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let shard = |number: usize| Some((number, self.shards.get(number)?.lock()));
        Locked { counters: self, shards: numbers.into_iter().filter_map(shard).collect(), now }
    }

    fn shard_of(&self, key: &CounterKey) -> usize {
        usize::try_from(self.hasher.hash_one(&*key.subject) % SHARDS as u64).unwrap_or(0)
    }
}

/// The shards that one step works on, all of them locked.
pub(super) struct Locked<'s> {
    counters: &'s Counters,
    shards: Vec<(usize, MutexGuard<'s, Shard>)>,
    now: Timestamp,
}

impl Locked<'_> {
    /// What a counter holds now.
    pub(super) fn balance(&mut self, key: &CounterKey) -> Balance {
        let now = self.now;
        let Some(counter) = self.counter(key) else { return Balance::default() };
        counter.expire(now);
        counter.balance
    }

    pub(super) fn put(&mut self, key: &CounterKey, balance: Balance) {
        let Some(shard) = self.shard(key) else { return };
        let counters = shard.entry(Arc::clone(&key.subject)).or_default();
        if let Some(counter) = counters.get_mut(&place(key, key.start_s)) {
            counter.balance = balance;
            return;
        }
        let mut balance = balance;
        if planted!("bonus_follows_into_the_next_window") {
            let before = counters.range(place(key, i64::MIN)..place(key, key.start_s)).next_back();
            balance.bonus += before.map_or(0, |(_, before)| before.balance.bonus);
        }
        counters.insert(place(key, key.start_s), Counter { balance, holds: BTreeMap::new() });
        if let Some(before_s) = key.forget_before_s() {
            let old: Vec<_> =
                counters.range(place(key, i64::MIN)..place(key, before_s)).map(|(place, _)| place.clone()).collect();
            for place in old {
                counters.remove(&place);
            }
        }
    }

    /// Notes when units that are held are to be given back.
    pub(super) fn expire_later(&mut self, key: &CounterKey, id: HoldId, amount: u64, expires_at: Timestamp) {
        if let Some(counter) = self.counter(key) {
            counter.holds.insert((expires_at.as_millisecond(), id), amount);
        }
    }

    /// Settles one counter of a hold that has not expired.
    pub(super) fn settle(&mut self, charge: &Charge, settle: &Settle, expires_at: Timestamp) -> Part {
        let part = settle_one(charge, &settle.used, self.balance(&charge.key));
        self.put(&charge.key, part.balance);
        if let Some(counter) = self.counter(&charge.key) {
            counter.holds.remove(&(expires_at.as_millisecond(), settle.id));
        }
        part
    }

    fn counter(&mut self, key: &CounterKey) -> Option<&mut Counter> {
        self.shard(key)?.get_mut(&key.subject)?.get_mut(&place(key, key.start_s))
    }

    fn shard(&mut self, key: &CounterKey) -> Option<&mut Shard> {
        let number = self.counters.shard_of(key);
        self.shards.iter_mut().find(|(locked, _)| *locked == number).map(|(_, shard)| &mut **shard)
    }
}

fn place(key: &CounterKey, start_s: i64) -> (Arc<str>, Period, i64) {
    (Arc::clone(&key.metric), key.period, start_s)
}
