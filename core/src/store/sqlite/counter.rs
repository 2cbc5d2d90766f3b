//! The table of counters.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::failure::{damaged, failure};
use crate::plan::UNITS_MAX;
use crate::store::{Balance, CounterKey, StoreError};
use crate::usage::counter::WINDOWS_KEPT;
use crate::usage::period::Period;

/// How many counters of idle subjects are deleted for each one that is made, so that none needs a sweep.
const DELETED_AT_ONCE: i64 = 4;

/// SQL that is true of counters of the period `?1`, which is one of the short ones: said so, because only those
/// are in the index.
macro_rules! is_short {
    () => {
        "period = ?1 AND period IN ('minute', 'hour', 'day', 'billing_day')"
    };
}

pub(super) fn read(connection: &Connection, key: &CounterKey) -> Result<Option<Balance>, StoreError> {
    let row = connection
        .prepare_cached(
            "SELECT used, held, leased, leases, bonus, overage, told FROM counter
             WHERE subject = ?1 AND metric = ?2 AND period = ?3 AND start_s = ?4",
        )
        .and_then(|mut select| {
            let read = |row: &rusqlite::Row<'_>| {
                let units = [row.get(0)?, row.get(1)?, row.get(2)?, row.get(4)?, row.get(5)?];
                Ok((units, row.get(3)?, row.get(6)?))
            };
            select.query_row((&*key.subject, &*key.metric, key.period.as_str(), key.start_s), read).optional()
        })
        .map_err(failure)?;
    let Some(([used, held, leased, bonus, overage], leases, told)) = row else { return Ok(None) };
    let units = |column: i64| units_of(column).ok_or_else(|| damaged("a counter", &format!("it holds {column} units")));
    let [used, held, leased] = [units(used)?, units(held)?, units(leased)?];
    Ok(Some(Balance { used, held, leased, leases, bonus: units(bonus)?, overage: units(overage)?, told }))
}

/// A counter without what holds and leases have set aside that have expired.
pub(super) fn read_now(connection: &Connection, key: &CounterKey, now: Timestamp) -> Result<Balance, StoreError> {
    let balance = read(connection, key)?.unwrap_or_default();
    if balance.held == 0 {
        return Ok(balance);
    }
    let expired: Vec<(i64, bool)> = connection
        .prepare_cached(
            "SELECT amount, is_lease FROM hold_part
             WHERE subject = ?1 AND metric = ?2 AND period = ?3 AND start_s = ?4 AND expires_ms <= ?5",
        )
        .and_then(|mut select| {
            let place = (&*key.subject, &*key.metric, key.period.as_str(), key.start_s, now.as_millisecond());
            select.query_map(place, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .map_err(failure)?;
    let end = |balance, (amount, is_lease): (i64, bool)| expired_part(balance, amount.unsigned_abs(), is_lease);
    Ok(expired.into_iter().fold(balance, end))
}

/// A balance once a part of a hold or a lease has expired: a hold's units are given back, a lease's charged.
pub(super) const fn expired_part(balance: Balance, amount: u64, is_lease: bool) -> Balance {
    if is_lease { balance.unleased(amount).charged(amount) } else { balance.unheld(amount) }
}

pub(super) fn update(connection: &Connection, key: &CounterKey, balance: Balance) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE counter SET used = ?5, held = ?6, leased = ?7, leases = ?8, bonus = ?9, overage = ?10, told = ?11
             WHERE subject = ?1 AND metric = ?2 AND period = ?3 AND start_s = ?4",
        )?
        .execute(row_of(key, balance))
        .map(drop)
}

pub(super) fn create(connection: &Connection, key: &CounterKey, balance: Balance) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO counter (subject, metric, period, start_s, used, held, leased, leases, bonus, overage, told)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(row_of(key, balance))
        .map(drop)
}

/// Deletes what is too old of the same subject, metric and period, once a new counter of them is there; never
/// the three newest, so that a clock that is years ahead makes nobody's present counter an old one.
pub(super) fn forget_older(connection: &Connection, key: &CounterKey) -> rusqlite::Result<()> {
    let Some(before_s) = key.forget_before_s() else { return Ok(()) };
    connection
        .prepare_cached(
            "DELETE FROM counter
             WHERE subject = ?1 AND metric = ?2 AND period = ?3 AND start_s < min(?4,
             (SELECT start_s FROM counter WHERE subject = ?1 AND metric = ?2 AND period = ?3
              ORDER BY start_s DESC LIMIT 1 OFFSET ?5))",
        )?
        .execute((&*key.subject, &*key.metric, key.period.as_str(), before_s, WINDOWS_KEPT - 1))
        .map(drop)
}

/// Deletes some of the oldest counters of subjects that have not come back, unless something is held on them.
///
/// Old is what a clock calls so, and the windows in the store: one clock that is years ahead makes no counter old
/// until the store has three windows of that future.
pub(super) fn forget_idle(connection: &Connection, period: Period, now: Timestamp) -> rusqlite::Result<()> {
    let Some(kept) = period.kept_idle_for() else { return Ok(()) };
    // Each of the three newest windows is found by one look into the index, however many counters it has.
    connection
        .prepare_cached(concat!(
            "DELETE FROM counter WHERE (subject, metric, period, start_s) IN
             (SELECT subject, metric, period, start_s FROM counter
              WHERE ",
            is_short!(),
            " AND held = 0 AND start_s < ?3 + min(?2, (SELECT max(start_s) FROM counter WHERE ",
            is_short!(),
            " AND start_s < (SELECT max(start_s) FROM counter WHERE ",
            is_short!(),
            " AND start_s < (SELECT max(start_s) FROM counter WHERE ",
            is_short!(),
            "))))
              ORDER BY start_s LIMIT ?4)"
        ))?
        .execute((period.as_str(), now.as_second(), -kept.as_secs(), DELETED_AT_ONCE))
        .map(drop)
}

/// A counter's columns, in the order of the table.
fn row_of(key: &CounterKey, balance: Balance) -> impl rusqlite::Params + '_ {
    let Balance { used, held, leased, leases, bonus, overage, told } = balance;
    let [used, held, leased, bonus, overage] = [used, held, leased, bonus, overage].map(signed);
    let (metric, period) = (&*key.metric, key.period.as_str());
    (&*key.subject, metric, period, key.start_s, used, held, leased, leases, bonus, overage, told)
}

/// SQLite's integers are signed; no number of units exceeds 2^53.
pub(super) fn signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}

/// The units in a column, if they can be any.
pub(super) fn units_of(column: i64) -> Option<u64> {
    u64::try_from(column).ok().filter(|units| *units <= UNITS_MAX)
}
