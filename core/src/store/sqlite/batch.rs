//! A batch: what the work of one transaction sees of the database.
//!
//! A counter that several callers charge is read once, charged in memory in the order of their
//! arrival, and written once (combining): a hot counter costs no more than a cold one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::{Connection, OptionalExtension};

use super::failure::failure;
use crate::plan::UNITS_MAX;
use crate::store::{Balance, Charge, Charged, CounterKey, Refund, StoreError, charge_all};

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
}

impl<'c> Batch<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Self { connection, counters: HashMap::new() }
    }

    pub(super) fn charge(&mut self, charges: &[Charge]) -> Result<Charged, StoreError> {
        let charged = charge_all(charges, |key| self.balance(key))?;
        if charged.granted {
            for (charge, balance) in charges.iter().zip(&charged.balances) {
                self.put(&charge.key, *balance);
            }
        }
        Ok(charged)
    }

    pub(super) fn refund(&mut self, refunds: &[Refund]) -> Result<Vec<Balance>, StoreError> {
        let mut after = Vec::with_capacity(refunds.len());
        for Refund { key, amount } in refunds {
            let balance = self.balance(key)?.refunded(*amount);
            self.put(key, balance);
            after.push(balance);
        }
        Ok(after)
    }

    pub(super) fn balances(&mut self, keys: &[CounterKey]) -> Result<Vec<Balance>, StoreError> {
        keys.iter().map(|key| self.balance(key)).collect()
    }

    fn balance(&mut self, key: &CounterKey) -> Result<Balance, StoreError> {
        if let Some(counter) = self.counters.get(key) {
            return Ok(counter.now);
        }
        let stored = read(self.connection, key)?;
        let now = stored.unwrap_or_default();
        self.counters.insert(key.clone(), Counter { stored, now });
        Ok(now)
    }

    fn put(&mut self, key: &CounterKey, balance: Balance) {
        if let Entry::Occupied(mut counter) = self.counters.entry(key.clone()) {
            counter.get_mut().now = balance;
        }
    }

    /// Writes the counters that have changed, at the end of the transaction.
    pub(super) fn write(&mut self) -> rusqlite::Result<()> {
        for (key, counter) in self.counters.drain() {
            match counter.stored {
                Some(stored) if stored == counter.now => {}
                // A refund of what was never charged leaves no trace.
                None if counter.now == Balance::default() => {}
                Some(_) => update(self.connection, &key, counter.now)?,
                None => create(self.connection, &key, counter.now)?,
            }
        }
        Ok(())
    }
}

fn read(connection: &Connection, key: &CounterKey) -> Result<Option<Balance>, StoreError> {
    let used: Option<i64> = connection
        .prepare_cached("SELECT used FROM counter WHERE subject = ?1 AND metric = ?2 AND period = ?3 AND start_s = ?4")
        .and_then(|mut select| {
            select
                .query_row((&*key.subject, &*key.metric, key.period.as_str(), key.start_s), |row| row.get(0))
                .optional()
        })
        .map_err(failure)?;
    let Some(used) = used else { return Ok(None) };
    match u64::try_from(used) {
        Ok(used) if used <= UNITS_MAX => Ok(Some(Balance::of(used))),
        _ => Err(StoreError::Damaged {
            name: "the database".to_owned(),
            detail: format!("a counter of {:?} holds {used} units", key.metric),
        }),
    }
}

fn update(connection: &Connection, key: &CounterKey, balance: Balance) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE counter SET used = ?5 WHERE subject = ?1 AND metric = ?2 AND period = ?3 AND start_s = ?4",
        )?
        .execute((&*key.subject, &*key.metric, key.period.as_str(), key.start_s, signed(balance)))
        .map(drop)
}

fn create(connection: &Connection, key: &CounterKey, balance: Balance) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO counter (subject, metric, period, start_s, used) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute((&*key.subject, &*key.metric, key.period.as_str(), key.start_s, signed(balance)))?;
    if let Some(before_s) = key.forget_before_s() {
        connection
            .prepare_cached("DELETE FROM counter WHERE subject = ?1 AND metric = ?2 AND period = ?3 AND start_s < ?4")?
            .execute((&*key.subject, &*key.metric, key.period.as_str(), before_s))?;
    }
    Ok(())
}

/// SQLite's integers are signed; no balance exceeds 2^53.
fn signed(balance: Balance) -> i64 {
    i64::try_from(balance.used).unwrap_or(i64::MAX)
}
