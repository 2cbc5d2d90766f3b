//! Counters as arrays, and what comes back of them.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_postgres::Row;

use super::failure::damaged;
use super::statement::{Bytes, Statement, shift_ms};
use crate::HoldId;
use crate::plan::{Limit, UNITS_MAX};
use crate::store::{
    Adjust, Adjustment, Balance, Charge, Charged, CounterKey, Crossing, Hold, Lease, Leased, Once, Outcome, Part,
    Receipt, Settle, Settled, StoreError,
};

/// How many numbers a balance is.
const BALANCE: usize = 7;

/// How many numbers a part of a receipt is: held, used, overage, the balance, the threshold crossed.
const PART: usize = 3 + BALANCE + 1;

/// The keys of a step, each once and in the order in which all steps lock them, and where each is found.
struct Keys<'k> {
    sorted: Vec<&'k CounterKey>,
    places: Vec<i32>,
}

impl<'k> Keys<'k> {
    fn of(keys: impl Iterator<Item = &'k CounterKey> + Clone) -> Self {
        let mut sorted: Vec<&CounterKey> = keys.clone().collect();
        sorted.sort_unstable_by_key(place_of);
        sorted.dedup();
        let place = |key: &CounterKey| sorted.binary_search_by_key(&place_of(&key), place_of).unwrap_or_default();
        // The server counts from one.
        let places = keys.map(|key| i32::try_from(place(key) + 1).unwrap_or(i32::MAX)).collect();
        Self { sorted, places }
    }

    /// A statement with these keys as its next values.
    fn add_to(self, statement: Statement) -> Statement {
        let kept = |key: &&CounterKey| key.period.kept_for().map(|kept| kept.as_secs());
        let idle = |key: &&CounterKey| key.period.kept_idle_for().map(|kept| kept.as_secs());
        let kept: Vec<Option<i64>> = self.sorted.iter().map(kept).collect();
        let idle: Vec<Option<i64>> = self.sorted.iter().map(idle).collect();
        with_keys(statement, self.sorted.iter().copied()).with(kept).with(idle).with(self.places)
    }
}

fn place_of<'k>(key: &&'k CounterKey) -> (&'k str, &'k str, &'static str, i64) {
    (&key.subject, &key.metric, key.period.as_str(), key.start_s)
}

fn with_keys<'k>(statement: Statement, keys: impl Iterator<Item = &'k CounterKey> + Clone) -> Statement {
    statement
        .with(keys.clone().map(|key| Bytes::of(&*key.subject)).collect::<Vec<_>>())
        .with(keys.clone().map(|key| Bytes::of(&*key.metric)).collect::<Vec<_>>())
        .with(keys.clone().map(|key| key.period.as_str()).collect::<Vec<_>>())
        .with(keys.map(|key| key.start_s).collect::<Vec<_>>())
}

/// The call of the function that charges; sums only where they fit and reach no threshold.
pub(super) fn charging(
    now: Timestamp,
    charges: &[Charge],
    once: Option<&Once>,
    are_sums: bool,
) -> Result<Statement, StoreError> {
    Ok(adding("charge", now, charges, once, once.is_some())?.with(are_sums).once(once.is_some()))
}

/// The call of a function that charges or holds, as far as the idempotency key.
fn adding(
    function: &str,
    now: Timestamp,
    charges: &[Charge],
    once: Option<&Once>,
    is_kept: bool,
) -> Result<Statement, StoreError> {
    let keys = || charges.iter().map(|charge| &charge.key);
    let statement = Keys::of(keys())
        .add_to(Statement::stepping(function, now))
        .with(charges.iter().map(|charge| signed(charge.amount)).collect::<Vec<_>>())
        .with(charges.iter().map(|charge| units_of(charge.limit)).collect::<Vec<_>>());
    with_once(statement, once, keys(), is_kept)
}

/// The call of the function that makes a hold.
pub(super) fn holding(now: Timestamp, hold: &Hold) -> Result<Statement, StoreError> {
    Ok(adding("make_hold", now, &hold.charges, hold.once.as_ref(), true)?
        .with(Bytes::of(hold.id.to_bytes()))
        .with_time(Some(hold.expires_at))
        .with_time(Some(hold.kept_until))
        .once(true))
}

/// The call of the function that leases a block.
pub(super) fn leasing(now: Timestamp, lease: &Lease) -> Result<Statement, StoreError> {
    let keys = || lease.charges.iter().map(|charge| &charge.key);
    let statement = Keys::of(keys())
        .add_to(Statement::stepping("make_lease", now))
        .with(lease.charges.iter().map(|charge| signed(charge.amount)).collect::<Vec<_>>())
        .with(lease.charges.iter().map(|charge| units_of(charge.limit)).collect::<Vec<_>>())
        .with(json(&keys().collect::<Vec<_>>())?)
        .with(Bytes::of(lease.id.to_bytes()))
        .with(signed(lease.least))
        .with_time(Some(lease.expires_at))
        .with_time(Some(lease.kept_until));
    let used = lease.settle.as_ref().map_or(&[][..], |settle| &settle.used);
    let settled = lease.settle.as_ref().map(|settle| Bytes::of(settle.id.to_bytes()));
    Ok(with_used(statement.with(settled), used).once(true))
}

/// The call of the function that settles.
pub(super) fn settling(now: Timestamp, settle: &Settle) -> Statement {
    let statement = Statement::stepping("settle", now).with(Bytes::of(settle.id.to_bytes()));
    with_used(statement, &settle.used).once(true)
}

fn with_used(statement: Statement, used: &[(Arc<str>, u64)]) -> Statement {
    statement
        .with(used.iter().map(|(metric, _)| Bytes::of(&**metric)).collect::<Vec<_>>())
        .with(used.iter().map(|(_, amount)| signed(*amount)).collect::<Vec<_>>())
}

/// The call of the function that adjusts, as far as the event.
pub(super) fn adjusting(
    now: Timestamp,
    adjustments: &[Adjustment],
    once: Option<&Once>,
) -> Result<Statement, StoreError> {
    let keys = || adjustments.iter().map(|adjustment| &adjustment.key);
    let (mut amounts, mut limits, mut how) = (Vec::new(), Vec::new(), Vec::new());
    for adjustment in adjustments {
        let (number, amount, limit) = match adjustment.by {
            Adjust::Refund(amount) => (0, amount, Limit::Unlimited),
            Adjust::Grant(amount) => (1, amount, Limit::Unlimited),
            Adjust::Record(amount, limit) => (2, amount, limit),
            Adjust::Reset => (3, 0, Limit::Unlimited),
        };
        amounts.push(signed(amount));
        limits.push(units_of(limit));
        how.push(number);
    }
    let statement =
        Keys::of(keys()).add_to(Statement::stepping("adjust", now)).with(amounts).with(limits).with::<Vec<i32>>(how);
    Ok(with_once(statement, once, keys(), once.is_some())?.once(once.is_some()))
}

fn with_once<'k>(
    statement: Statement,
    once: Option<&Once>,
    keys: impl Iterator<Item = &'k CounterKey>,
    is_kept: bool,
) -> Result<Statement, StoreError> {
    let keys = match is_kept || once.is_some() {
        true => Some(json(&keys.collect::<Vec<_>>())?),
        false => None,
    };
    Ok(statement
        .with(once.map(|once| Bytes::of(&*once.subject)))
        .with(once.map(|once| Bytes::of(&*once.key)))
        .with(once.map(|once| Bytes::of(once.arguments.to_bytes())))
        .with_time(once.map(|once| once.kept_until))
        .with(keys))
}

/// What each counter holds once what has expired is given back or charged. This only reads.
pub(super) fn reading(now: Timestamp, keys: &[CounterKey]) -> Statement {
    let statement = Statement::reading(
        "SELECT c.used + coalesce(ended.charged, 0), greatest(c.held - coalesce(ended.units, 0), 0),
                greatest(c.leased - coalesce(ended.charged, 0), 0), greatest(c.leases - coalesce(ended.leases, 0), 0),
                c.bonus, c.overage, c.told
         FROM unnest($1, $2, $3, $4) WITH ORDINALITY AS asked (subject, metric, period, start_s, number)
         LEFT JOIN quotum.counter c ON c.subject = asked.subject AND c.metric = asked.metric
               AND c.period = asked.period AND c.start_s = asked.start_s
         LEFT JOIN LATERAL (
             SELECT sum(amount)::int8 AS units, sum(amount) FILTER (WHERE is_lease)::int8 AS charged,
                    count(*) FILTER (WHERE is_lease) AS leases
             FROM quotum.hold_part p
             WHERE p.subject = c.subject AND p.metric = c.metric AND p.period = c.period
               AND p.start_s = c.start_s AND p.expires_ms <= @5) ended ON c.held > 0
         ORDER BY number",
    );
    with_keys(statement.at(now), keys.iter()).with_time(Some(now))
}

/// A balance whose columns are these of a row; of a counter that is not there, all are null.
pub(super) fn balance_at(row: &Row) -> Result<Balance, StoreError> {
    let mut numbers = [0; BALANCE];
    for (index, number) in numbers.iter_mut().enumerate() {
        let found: Option<i64> = row.try_get(index).map_err(|error| damaged("a counter", &error))?;
        *number = found.unwrap_or(0);
    }
    balance(numbers)
}

fn balance(numbers: [i64; BALANCE]) -> Result<Balance, StoreError> {
    let [used, held, leased, leases, bonus, overage, told] = numbers;
    let told = u8::try_from(told).map_err(|_| damaged("a counter", &format!("it has told {told} %")))?;
    let leases = u32::try_from(leases).map_err(|_| damaged("a counter", &format!("it has {leases} leases")))?;
    Ok(Balance {
        used: units(used)?,
        held: units(held)?,
        leased: units(leased)?,
        leases,
        bonus: units(bonus)?,
        overage: units(overage)?,
        told,
    })
}

fn balances(numbers: &[i64]) -> Result<Vec<Balance>, StoreError> {
    let (whole, _) = numbers.as_chunks::<BALANCE>();
    whole.iter().map(|numbers| balance(*numbers)).collect()
}

/// What came of a step, from a row of the type `charged`.
pub(super) fn charged(row: &Row) -> Result<Charged, StoreError> {
    let get = |error| damaged("a step", &error);
    let outcome: i32 = row.try_get(0).map_err(get)?;
    let at_ms: Option<i64> = row.try_get(1).map_err(get)?;
    let keys: Option<&str> = row.try_get(2).map_err(get)?;
    let numbers: Option<Vec<i64>> = row.try_get(3).map_err(get)?;
    let crossed: Option<Vec<i64>> = row.try_get(4).map_err(get)?;
    let hold: Option<&[u8]> = row.try_get(5).map_err(get)?;
    let balances = balances(numbers.as_deref().unwrap_or_default())?;
    match outcome {
        0 => Ok(Charged::new(Outcome::Refused, balances)),
        1 => {
            let crossing = |(index, percent): (usize, i64)| {
                let percent = u8::try_from(percent).ok().filter(|percent| *percent > 0)?;
                Some(Crossing { index, percent })
            };
            let crossed = crossed.unwrap_or_default().into_iter().enumerate().filter_map(crossing).collect();
            Ok(Charged { crossed, ..Charged::new(Outcome::Granted, balances) })
        }
        2 => {
            let keys = read_keys(keys)?;
            let hold = hold.map(hold_id).transpose()?;
            Ok(Charged::repeated(time(row, at_ms)?, keys.into_iter().zip(balances).collect(), hold))
        }
        3 => Ok(Charged::conflict()),
        other => Err(damaged("a step", &format!("its outcome is {other}"))),
    }
}

/// What became of a hold, from a row of the type `settled`.
pub(super) fn settled(row: &Row) -> Result<Settled, StoreError> {
    let get = |error| damaged("a hold", &error);
    let outcome: i32 = row.try_get(0).map_err(get)?;
    let at_ms: Option<i64> = row.try_get(1).map_err(get)?;
    if outcome == 0 {
        return Ok(Settled::Unknown);
    }
    let at = time(row, at_ms)?;
    if outcome == 3 {
        return Ok(Settled::Expired(at));
    }
    let keys = read_keys(row.try_get(2).map_err(get)?)?;
    let numbers: Vec<i64> = row.try_get(3).map_err(get)?;
    let (whole, _) = numbers.as_chunks::<PART>();
    if keys.len() != whole.len() {
        return Err(damaged("a receipt", &"its parts are not as many as its counters"));
    }
    let part = |(key, &[held, used, overage, ref after @ .., crossed]): (CounterKey, &[i64; PART])| {
        let after: &[i64; BALANCE] = after;
        Ok(Part {
            key,
            held: units(held)?,
            used: units(used)?,
            overage: units(overage)?,
            balance: balance(*after)?,
            crossed: u8::try_from(crossed).ok().filter(|percent| *percent > 0),
        })
    };
    let parts = keys.into_iter().zip(whole).map(part).collect::<Result<Vec<_>, StoreError>>()?;
    let receipt = Receipt { at, parts };
    Ok(if outcome == 1 { Settled::Now(receipt) } else { Settled::Before(receipt) })
}

/// What came of asking for a block, from a row of the type `leased`.
pub(super) fn leased(row: &Row) -> Result<Leased, StoreError> {
    let get = |error| damaged("a lease", &error);
    let outcome: Option<i32> = row.try_get(0).map_err(get)?;
    let settled = outcome.map(|_| settled(row)).transpose()?;
    let numbers: Option<Vec<i64>> = row.try_get(5).map_err(get)?;
    let amount = units(row.try_get(4).map_err(get)?)?;
    Ok(Leased { settled, amount, balances: balances(numbers.as_deref().unwrap_or_default())? })
}

fn read_keys(text: Option<&str>) -> Result<Vec<CounterKey>, StoreError> {
    serde_json::from_str(text.unwrap_or("[]")).map_err(|error| damaged("a step", &error))
}

/// A time in a row, by the clock that the step was told the time of.
fn time(row: &Row, ms: Option<i64>) -> Result<Timestamp, StoreError> {
    let told_ms = ms.unwrap_or(i64::MAX).saturating_sub(shift_ms(row)?);
    Timestamp::from_millisecond(told_ms).map_err(|error| damaged("a step's time", &error))
}

fn hold_id(bytes: &[u8]) -> Result<HoldId, StoreError> {
    bytes.try_into().map(HoldId::from_bytes).map_err(|_| damaged("a hold", &"its name has another length"))
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| damaged("a row", &error))
}

/// The units that a limit is, if it is one. Nothing counts beyond the largest number.
fn units_of(limit: Limit) -> Option<i64> {
    limit.units().map(|units| signed(units.min(UNITS_MAX)))
}

/// An amount as the server's integers have it: at most one to which another can be added.
pub(super) fn signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX).min(i64::MAX / 2)
}

/// The units in a column, if they can be any.
fn units(column: i64) -> Result<u64, StoreError> {
    let found = u64::try_from(column).ok().filter(|units| *units <= UNITS_MAX);
    found.ok_or_else(|| damaged("a counter", &format!("it holds {column} units")))
}
