//! A batch: what the work of one transaction sees of the database.
//!
//! A counter that several callers charge is read once, charged in memory in the order of their
//! arrival, and written once (combining): a hot counter costs no more than a cold one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use jiff::Timestamp;
use rusqlite::Connection;

use super::failure::failure;
use super::{counter, log};
use crate::event::Event;
use crate::store::{Adjustment, Balance, Charge, Charged, CounterKey, Once, Outcome, StoreError, charge_all};

/// Work in a batch.
pub(super) trait Job: Send {
    /// Does the work, inside the batch's transaction.
    fn run(&mut self, batch: &mut Batch<'_>) -> Result<(), StoreError>;

    /// Tells the caller what came of it, once the batch has been committed or undone.
    fn finish(self: Box<Self>, outcome: &Result<(), StoreError>);

    /// Tells the caller to lead; false where it cannot.
    fn promote(&self) -> bool;

    /// Whether the caller has gone away: its work is then not begun.
    fn is_abandoned(&self) -> bool;
}

pub(super) struct Batch<'c> {
    pub(super) connection: &'c Connection,
    counters: HashMap<CounterKey, Counter>,
}

/// A counter as the batch has found it and as it will leave it.
struct Counter {
    stored: Option<Balance>,
    now: Balance,
    /// By when the holds on it that have expired are resolved, if they are.
    expired_by: Option<Timestamp>,
}

impl<'c> Batch<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Self { connection, counters: HashMap::new() }
    }

    pub(super) fn charge(
        &mut self,
        now: Timestamp,
        charges: &[Charge],
        once: Option<&Once>,
    ) -> Result<Charged, StoreError> {
        if let Some(earlier) = self.recall(now, once)? {
            return Ok(earlier);
        }
        let charged = self.add(now, charges, Balance::charged)?;
        if charged.granted() {
            self.remember(now, once, charges.iter().map(|charge| &charge.key), &charged.balances, None)?;
        }
        Ok(charged)
    }

    /// Charges or holds, all or nothing.
    pub(super) fn add(
        &mut self,
        now: Timestamp,
        charges: &[Charge],
        add: fn(Balance, u64) -> Balance,
    ) -> Result<Charged, StoreError> {
        let charged = charge_all(charges, |key| self.balance(now, key), add)?;
        if charged.granted() {
            for (charge, balance) in charges.iter().zip(&charged.balances) {
                self.put(&charge.key, *balance);
            }
        }
        Ok(charged)
    }

    pub(super) fn adjust(
        &mut self,
        now: Timestamp,
        adjustments: &[Adjustment],
        once: Option<&Once>,
        event: &Event,
    ) -> Result<Charged, StoreError> {
        if let Some(earlier) = self.recall(now, once)? {
            return Ok(earlier);
        }
        let mut balances = Vec::with_capacity(adjustments.len());
        let mut changed = false;
        for Adjustment { key, by } in adjustments {
            let before = self.balance(now, key)?;
            let after = by.apply(before);
            changed |= after != before;
            self.put(key, after);
            balances.push(after);
        }
        self.remember(now, once, adjustments.iter().map(|adjustment| &adjustment.key), &balances, None)?;
        if changed {
            log::append(self.connection, event)?;
        }
        Ok(Charged::new(Outcome::Granted, balances))
    }

    /// What each counter holds, with expired holds given back but not resolved: this only reads.
    pub(super) fn balances(&self, now: Timestamp, keys: &[CounterKey]) -> Result<Vec<Balance>, StoreError> {
        keys.iter().map(|key| counter::read_now(self.connection, key, now)).collect()
    }

    /// A counter, once the holds on it that have expired are resolved.
    pub(super) fn balance(&mut self, now: Timestamp, key: &CounterKey) -> Result<Balance, StoreError> {
        let balance = self.load(key)?;
        let Some(counter) = self.counters.get_mut(key) else { return Ok(balance) };
        if counter.expired_by.replace(now).is_some() || balance.held == 0 {
            return Ok(balance);
        }
        self.expire_holds(now, key)?;
        self.load(key)
    }

    /// A counter as it is.
    pub(super) fn load(&mut self, key: &CounterKey) -> Result<Balance, StoreError> {
        if let Some(counter) = self.counters.get(key) {
            return Ok(counter.now);
        }
        let stored = counter::read(self.connection, key)?;
        let now = stored.unwrap_or_default();
        self.counters.insert(key.clone(), Counter { stored, now, expired_by: None });
        Ok(now)
    }

    /// Changes a counter that was loaded.
    pub(super) fn put(&mut self, key: &CounterKey, balance: Balance) {
        if let Entry::Occupied(mut counter) = self.counters.entry(key.clone()) {
            counter.get_mut().now = balance;
        }
    }

    /// Writes the counters that have changed, at the end of the transaction.
    pub(super) fn write(&mut self) -> Result<(), StoreError> {
        let mut created = Vec::new();
        for (key, counter) in &self.counters {
            let written = match counter.stored {
                Some(stored) if stored == counter.now => Ok(()),
                // A refund of what was never charged leaves no trace.
                None if counter.now == Balance::default() => Ok(()),
                Some(_) => counter::update(self.connection, key, counter.now),
                None => {
                    created.push((key, counter.expired_by));
                    counter::create(self.connection, key, counter.now)
                }
            };
            written.map_err(failure)?;
        }
        // Afterwards, so that nothing is forgotten that is yet to be written.
        for (key, now) in created {
            counter::forget_older(self.connection, key).map_err(failure)?;
            if let Some(now) = now {
                counter::forget_idle(self.connection, key.period, now).map_err(failure)?;
            }
        }
        Ok(())
    }
}
