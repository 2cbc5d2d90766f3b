//! Counters: what each holds, and which of them are too old to be kept.
//!
//! A step reads a counter once, however often it charges it, and writes it once, at its end.

use serde::{Deserialize, Serialize};

use super::keys::{Key, newest_of, number_of, text_of};
use super::transaction::{Transaction, damaged};
use crate::event::Event;
use crate::plan::UNITS_MAX;
use crate::store::{Adjustment, Balance, Charge, Charged, CounterKey, Once, Outcome, StoreError, charge_all};
use crate::usage::counter::WINDOWS_KEPT;
use crate::usage::period::Period;

/// How many counters that are too old are dropped for each one that is made, so that none needs a sweep.
const DROPPED_AT_ONCE: usize = 4;

/// A counter as it is kept. What is zero is left out, but for what was used: an empty value is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Counter {
    used: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    held: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    leased: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    leases: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    bonus: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    overage: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    told: u8,
    /// Before when nothing expires that is set aside on it: until then, nobody need look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_ms: Option<i64>,
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

impl Counter {
    fn read(self) -> Result<(Balance, Option<i64>), StoreError> {
        let Self { used, held, leased, leases, bonus, overage, told, expires_ms } = self;
        if [used, held, leased, bonus, overage].iter().any(|units| *units > UNITS_MAX) {
            return Err(damaged("a counter", &format!("it holds more than {UNITS_MAX} units")));
        }
        Ok((Balance { used, held, leased, leases, bonus, overage, told }, expires_ms))
    }

    fn of(Balance { used, held, leased, leases, bonus, overage, told }: Balance, expires_ms: Option<i64>) -> Self {
        let expires_ms = expires_ms.filter(|_| held > 0);
        Self { used, held, leased, leases, bonus, overage, told, expires_ms }
    }
}

/// A counter as the step has found it and as it will leave it.
pub(super) struct Loaded {
    stored: Option<Counter>,
    balance: Balance,
    expires_ms: Option<i64>,
}

impl Transaction<'_> {
    pub(super) fn charge(&mut self, charges: &[Charge], once: Option<&Once>) -> Result<Charged, StoreError> {
        if let Some(earlier) = self.recall(once)? {
            return Ok(earlier);
        }
        let charged = self.add(charges, Balance::charged)?;
        if charged.granted() {
            self.remember(once, charges.iter().map(|charge| &charge.key), &charged.balances, None)?;
        }
        Ok(charged)
    }

    /// Charges or holds, all or nothing.
    pub(super) fn add(&mut self, charges: &[Charge], add: fn(Balance, u64) -> Balance) -> Result<Charged, StoreError> {
        let charged = charge_all(charges, |key| self.balance(key), add)?;
        if charged.granted() {
            for (charge, balance) in charges.iter().zip(&charged.balances) {
                self.set(&charge.key, *balance);
            }
        }
        Ok(charged)
    }

    pub(super) fn adjust(
        &mut self,
        adjustments: &[Adjustment],
        once: Option<&Once>,
        event: &Event,
    ) -> Result<Charged, StoreError> {
        if let Some(earlier) = self.recall(once)? {
            return Ok(earlier);
        }
        let mut balances = Vec::with_capacity(adjustments.len());
        let mut changed = false;
        for Adjustment { key, by } in adjustments {
            let before = self.balance(key)?;
            let after = by.apply(before);
            changed |= after != before;
            self.set(key, after);
            balances.push(after);
        }
        self.remember(once, adjustments.iter().map(|adjustment| &adjustment.key), &balances, None)?;
        if changed {
            self.append(std::slice::from_ref(event))?;
        }
        Ok(Charged::new(Outcome::Granted, balances))
    }

    /// A counter, once what is set aside on it and has expired is resolved.
    pub(super) fn balance(&mut self, key: &CounterKey) -> Result<Balance, StoreError> {
        self.load(key)?;
        let now_ms = self.now.as_millisecond();
        if self.counters.get(key).and_then(|loaded| loaded.expires_ms).is_some_and(|expires_ms| expires_ms <= now_ms) {
            let next_ms = self.expire(key)?;
            if let Some(loaded) = self.counters.get_mut(key) {
                loaded.expires_ms = next_ms;
            }
        }
        self.load(key)
    }

    /// A counter as it is.
    pub(super) fn load(&mut self, key: &CounterKey) -> Result<Balance, StoreError> {
        if let Some(loaded) = self.counters.get(key) {
            return Ok(loaded.balance);
        }
        let stored: Option<Counter> = self.get(&place(key), "a counter")?;
        let (balance, expires_ms) = stored.unwrap_or_default().read()?;
        self.counters.insert(key.clone(), Loaded { stored, balance, expires_ms });
        Ok(balance)
    }

    /// Changes a counter that was loaded.
    pub(super) fn set(&mut self, key: &CounterKey, balance: Balance) {
        if let Some(loaded) = self.counters.get_mut(key) {
            loaded.balance = balance;
        }
    }

    /// Notes that something on a counter that was loaded may expire then.
    pub(super) fn note_expiry(&mut self, key: &CounterKey, at_ms: i64) {
        if let Some(loaded) = self.counters.get_mut(key) {
            loaded.expires_ms = Some(loaded.expires_ms.map_or(at_ms, |known_ms| known_ms.min(at_ms)));
        }
    }

    /// Writes the counters that have changed, at the end of the step.
    pub(super) fn write_counters(&mut self) -> Result<(), StoreError> {
        let mut made = Vec::new();
        for (key, Loaded { stored, balance, expires_ms }) in std::mem::take(&mut self.counters) {
            let counter = Counter::of(balance, expires_ms);
            // A refund of what was never charged leaves no trace.
            if stored.unwrap_or_default() == counter {
                continue;
            }
            self.put(&place(&key), &counter)?;
            if key.period.kept_idle_for().is_none() {
                continue;
            }
            let was_idle = stored.is_some_and(|stored| stored.held == 0);
            match (was_idle, counter.held == 0) {
                (false, true) => self.put(&idle(&key), &true)?,
                (true, false) => self.delete(&idle(&key)),
                _ => {}
            }
            if stored.is_none() {
                made.push(key);
            }
        }
        // Afterwards, so that nothing is forgotten that is yet to be written.
        for key in made {
            self.forget_older(&key)?;
            self.forget_idle(&key)?;
        }
        Ok(())
    }

    /// Drops some of what is too old of the same subject, metric and period, once a new counter of them is there;
    /// never the three newest, so that a clock that is years ahead makes nobody's present counter an old one.
    fn forget_older(&mut self, key: &CounterKey) -> Result<(), StoreError> {
        let (Some(before_s), all) = (key.forget_before_s(), counters_of(key)) else { return Ok(()) };
        let newest = self.scan(all.as_bytes(), &all.end(), usize::from(WINDOWS_KEPT))?;
        let Some((third, _)) = newest.get(usize::from(WINDOWS_KEPT) - 1) else { return Ok(()) };
        let last_kept = third.max(&all.clone().newest(before_s)).end();
        for (old, _) in self.scan(&last_kept, &all.end(), DROPPED_AT_ONCE)? {
            self.delete(&old);
            if let Some(start_s) = old.parts().and_then(|parts| newest_of(parts.last()?)) {
                self.delete(&idle(&CounterKey { start_s, ..key.clone() }));
            }
        }
        Ok(())
    }

    /// Drops some of the oldest counters of subjects that have not come back, on which nothing is held.
    ///
    /// Old is what a clock calls so, and the windows in the store: one clock that is years ahead makes no counter
    /// old until the store has three windows of that future.
    fn forget_idle(&mut self, key: &CounterKey) -> Result<(), StoreError> {
        let (Some(kept), Some(third_s)) = (key.period.kept_idle_for(), self.third_newest_window(key)?) else {
            return Ok(());
        };
        let before_s = self.now.as_second().min(third_s).saturating_sub(kept.as_secs());
        let of_period = Key::of("idle").text(key.period.as_str());
        let end = of_period.clone().number(before_s);
        for (old, _) in self.scan(of_period.as_bytes(), end.as_bytes(), DROPPED_AT_ONCE)? {
            if let Some(counter) = counter_of(&old, key.period) {
                self.delete(&place(&counter));
            }
            self.delete(&old);
        }
        Ok(())
    }

    /// When the third newest window of the period began that any subject has had, this counter's among them.
    fn third_newest_window(&mut self, key: &CounterKey) -> Result<Option<i64>, StoreError> {
        let windows = Key::of("windows").text(key.period.as_str());
        let mut newest: Vec<i64> = self.get(&windows, "the newest windows")?.unwrap_or_default();
        let known = newest.clone();
        newest.push(key.start_s);
        newest.sort_unstable_by(|one, other| other.cmp(one));
        newest.dedup();
        newest.truncate(WINDOWS_KEPT.into());
        if newest != known {
            self.put(&windows, &newest)?;
        }
        Ok(newest.get(usize::from(WINDOWS_KEPT) - 1).copied())
    }
}

/// Under what a counter is kept: the newest of a subject, metric and period first.
fn place(key: &CounterKey) -> Key {
    counters_of(key).newest(key.start_s)
}

fn counters_of(key: &CounterKey) -> Key {
    Key::of("counter").text(&key.subject).text(&key.metric).text(key.period.as_str())
}

/// The entry of a counter of a short period on which nothing is held: the oldest first.
fn idle(key: &CounterKey) -> Key {
    Key::of("idle").text(key.period.as_str()).number(key.start_s).text(&key.subject).text(&key.metric)
}

/// The counter of such an entry.
fn counter_of(idle: &Key, period: Period) -> Option<CounterKey> {
    let parts = idle.parts()?;
    let [_, _, start, subject, metric] = &*parts else { return None };
    Some(CounterKey::of(text_of(subject)?, text_of(metric)?, period, number_of(start)?))
}
