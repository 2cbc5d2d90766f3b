//! Shared rates as numbers, and what comes back of them.

use jiff::Timestamp;
use tokio_postgres::Row;

use super::counter::signed;
use super::failure::damaged;
use super::statement::{Bytes, Statement};
use crate::store::{Paced, SharedRate, StoreError};

/// The call of the function that decides a rate.
pub(super) fn pacing(now: Timestamp, rate: &SharedRate) -> Statement {
    Statement::stepping("pace", now)
        .with(Bytes::of(rate.name.to_bytes()))
        .with(rate.windows.iter().map(|window| signed(window.cost_ns)).collect::<Vec<_>>())
        .with(rate.windows.iter().map(|window| signed(window.full_ns)).collect::<Vec<_>>())
}

/// What was decided, and then what each window owes.
pub(super) fn paced(row: &Row) -> Result<Paced, StoreError> {
    let numbers: Vec<i64> = row.try_get(0).map_err(|error| damaged("a rate", &error))?;
    let (allowed, debts) = numbers.split_first().ok_or_else(|| damaged("a rate", &"it has no answer"))?;
    Ok(Paced { allowed: *allowed == 1, debts_ns: debts.iter().map(|debt| debt.unsigned_abs()).collect() })
}
