//! The counters of the memory store, in shards that a step locks together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ahash::RandomState;
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};

use super::sweeps::Sweeps;
use crate::HoldId;
use crate::planted::planted;
use crate::store::{Balance, Charge, CounterKey, Part, Settle, settle_one};
use crate::usage::counter::WINDOWS_KEPT;
use crate::usage::hold::Kind;
use crate::usage::period::Period;

/// How many parts the counters are split into, so that two subjects seldom wait for one lock.
const SHARDS: usize = 64;

#[derive(Debug)]
pub(super) struct Counters {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

/// The counters of some subjects.
#[derive(Debug, Default)]
struct Shard {
    subjects: HashMap<Arc<str>, Subject, RandomState>,
    sweeps: Sweeps,
}

/// The counters of one subject, by metric, period and start, so that old ones lie side by side.
type Subject = BTreeMap<(Arc<str>, Period, i64), Counter>;

#[derive(Debug, Default)]
struct Counter {
    balance: Balance,
    /// What is held, in the order in which it expires.
    holds: BTreeMap<(i64, HoldId), Held>,
}

/// Units that are set aside on a counter.
#[derive(Debug, Clone, Copy)]
struct Held {
    amount: u64,
    kind: Kind,
}

impl Counter {
    /// Gives back what holds have set aside that have expired, and charges what leases have.
    fn expire(&mut self, now: Timestamp) {
        while let Some(first) = self.holds.first_entry().filter(|first| first.key().0 <= now.as_millisecond()) {
            let Held { amount, kind } = first.remove();
            self.balance = kind.expire(amount, self.balance);
        }
    }
}

impl Shard {
    /// The counters of a subject, which is added where it is new.
    fn subject(&mut self, subject: &Arc<str>, now: Timestamp) -> &mut Subject {
        if self.sweeps.are_due(self.subjects.len()) && !self.subjects.contains_key(subject) {
            self.forget_idle(now);
            self.sweeps.swept(self.subjects.len());
        }
        self.subjects.entry(Arc::clone(subject)).or_default()
    }

    /// Drops the old counters of subjects that have not come back, unless something is held on them.
    ///
    /// Old is what a clock calls so, and the windows that are here: one clock that is years ahead makes no counter
    /// old until there are three windows of that future.
    fn forget_idle(&mut self, now: Timestamp) {
        let mut newest: BTreeMap<Period, BTreeSet<i64>> = BTreeMap::new();
        for (_, period, start_s) in self.subjects.values().flat_map(BTreeMap::keys) {
            let newest = newest.entry(*period).or_default();
            if newest.insert(*start_s) && newest.len() > usize::from(WINDOWS_KEPT) {
                newest.pop_first();
            }
        }
        let before_s = |period: Period| {
            let third = newest.get(&period).filter(|newest| newest.len() == usize::from(WINDOWS_KEPT))?.first()?;
            Some(now.as_second().min(*third) - period.kept_idle_for()?.as_secs())
        };
        let forgotten: BTreeMap<Period, i64> =
            newest.keys().filter_map(|period| Some((*period, before_s(*period)?))).collect();
        self.subjects.retain(|_, counters| {
            counters.retain(|(_, period, start_s), counter| {
                counter.expire(now);
                counter.balance.held > 0 || forgotten.get(period).is_none_or(|before_s| *start_s >= *before_s)
            });
            !counters.is_empty()
        });
    }
}

impl Counters {
    pub(super) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    /// Locks the counters of all these keys at once, in one order for everybody.
    ///
    /// The time is read once they are locked: who reads it before that may have waited for somebody to whom it
    /// was later, and for whom what was held there has expired.
    pub(super) fn lock<'k>(
        &self,
        keys: impl Iterator<Item = &'k CounterKey>,
        now: impl FnOnce() -> Timestamp,
    ) -> Locked<'_> {
        let mut numbers: Vec<usize> = keys.map(|key| self.shard_of(key)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let shard = |number: usize| Some((number, self.shards.get(number)?.lock()));
        let shards = numbers.into_iter().filter_map(shard).collect();
        Locked { counters: self, shards, now: now() }
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
    /// The time, which nobody has found later before on any of these counters.
    pub(super) const fn now(&self) -> Timestamp {
        self.now
    }

    /// What a counter holds now.
    pub(super) fn balance(&mut self, key: &CounterKey) -> Balance {
        let now = self.now;
        let Some(counter) = self.counter(key) else { return Balance::default() };
        counter.expire(now);
        counter.balance
    }

    pub(super) fn put(&mut self, key: &CounterKey, balance: Balance) {
        if let Some(counter) = self.counter(key) {
            counter.balance = balance;
            return;
        }
        let now = self.now;
        let Some(shard) = self.shard(key) else { return };
        let counters = shard.subject(&key.subject, now);
        let mut balance = balance;
        if planted!("bonus_follows_into_the_next_window") {
            let before = counters.range(place(key, i64::MIN)..place(key, key.start_s)).next_back();
            balance.bonus += before.map_or(0, |(_, before)| before.balance.bonus);
        }
        counters.insert(place(key, key.start_s), Counter { balance, holds: BTreeMap::new() });
        let own = place(key, i64::MIN)..=place(key, i64::MAX);
        let newest = counters.range(own).rev().nth(usize::from(WINDOWS_KEPT) - 1).map(|((_, _, start_s), _)| *start_s);
        // Never the three newest, so that a clock that is years ahead makes nobody's present counter an old one.
        if let (Some(before_s), Some(third_s)) = (key.forget_before_s(), newest) {
            let before_s = before_s.min(third_s);
            let old: Vec<_> =
                counters.range(place(key, i64::MIN)..place(key, before_s)).map(|(place, _)| place.clone()).collect();
            for place in old {
                counters.remove(&place);
            }
        }
    }

    /// Notes when units that are set aside expire.
    pub(super) fn expire_later(&mut self, charge: &Charge, id: HoldId, kind: Kind, expires_at: Timestamp) {
        if let Some(counter) = self.counter(&charge.key) {
            let amount = charge.amount;
            counter.holds.insert((expires_at.as_millisecond(), id), Held { amount, kind });
        }
    }

    /// Settles one counter of a hold that has not expired.
    pub(super) fn settle(&mut self, charge: &Charge, settle: &Settle, kind: Kind, expires_at: Timestamp) -> Part {
        let ended = kind.end(charge.amount, self.balance(&charge.key));
        let part = settle_one(charge, &settle.used, ended);
        self.put(&charge.key, part.balance);
        if let Some(counter) = self.counter(&charge.key) {
            counter.holds.remove(&(expires_at.as_millisecond(), settle.id));
        }
        part
    }

    fn counter(&mut self, key: &CounterKey) -> Option<&mut Counter> {
        self.shard(key)?.subjects.get_mut(&key.subject)?.get_mut(&place(key, key.start_s))
    }

    fn shard(&mut self, key: &CounterKey) -> Option<&mut Shard> {
        let place = match self.shards.len() {
            // Most steps are on one subject.
            1 => 0,
            _ => {
                let number = self.counters.shard_of(key);
                self.shards.iter().position(|(locked, _)| *locked == number)?
            }
        };
        self.shards.get_mut(place).map(|(_, shard)| &mut **shard)
    }
}

fn place(key: &CounterKey, start_s: i64) -> (Arc<str>, Period, i64) {
    (Arc::clone(&key.metric), key.period, start_s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limit;

    const DAY_S: i64 = 24 * 3_600;

    fn key(subject: &str, period: Period, start_s: i64) -> CounterKey {
        CounterKey::of(subject, "jobs", period, start_s)
    }

    fn put(counters: &Counters, key: &CounterKey, balance: Balance) {
        let now = Timestamp::from_second(key.start_s).unwrap();
        counters.lock(std::iter::once(key), || now).put(key, balance);
    }

    fn subjects(counters: &Counters) -> usize {
        counters.shards.iter().map(|shard| shard.lock().subjects.len()).sum()
    }

    #[test]
    fn subjects_that_never_come_back_go_in_time() {
        let counters = Counters::new();
        for day in 0..100 {
            for subject in 0..100 {
                put(&counters, &key(&format!("{day}-{subject}"), Period::Hour, day * 100 * DAY_S), Balance::of(1));
            }
            put(&counters, &key(&format!("{day}"), Period::Month, 0), Balance::of(1));
        }
        let found = subjects(&counters);
        assert!(found < 3_000, "{found} of 10,100");
        let months =
            (0..100).filter(|day| counters.shards.iter().any(|s| s.lock().subjects.contains_key(&*format!("{day}"))));
        assert_eq!(months.count(), 100, "longer periods are kept for ever");
    }

    #[test]
    fn a_counter_on_which_something_is_held_stays() {
        let counters = Counters::new();
        let held = key("ana", Period::Minute, 0);
        let expires_at = Timestamp::from_second(1_000 * DAY_S).unwrap();
        let id = HoldId::from_bytes([7; 16]);
        {
            let mut counters = counters.lock(std::iter::once(&held), || Timestamp::UNIX_EPOCH);
            counters.put(&held, Balance::of(2).holding(3));
            let three = Charge { key: held.clone(), amount: 3, limit: Limit::Unlimited };
            counters.expire_later(&three, id, Kind::Hold, expires_at);
        }
        for subject in 0..10_000 {
            let start_s = 900 * DAY_S + subject / 100 * 60;
            put(&counters, &key(&subject.to_string(), Period::Minute, start_s), Balance::of(1));
        }
        let mut locked = counters.lock(std::iter::once(&held), || Timestamp::from_second(900 * DAY_S).unwrap());
        assert_eq!((locked.balance(&held).used, locked.balance(&held).held), (2, 3));
        let charge = Charge { key: held.clone(), amount: 3, limit: Limit::Units(9) };
        let part = locked.settle(&charge, &Settle { id, used: Vec::new() }, Kind::Hold, expires_at);
        assert_eq!((part.used, part.balance.used), (3, 5));
    }
}
