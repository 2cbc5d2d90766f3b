//! The table of shared rates.

use rusqlite::OptionalExtension;

use super::batch::Batch;
use super::failure::{damaged, failure};
use super::ledger::{DELETED_AT_ONCE, json, read_json};
use crate::store::{Paced, SharedRate, StoreError, pace_all};

impl Batch<'_> {
    pub(super) fn pace(&self, now_ms: i64, rate: &SharedRate) -> Result<Paced, StoreError> {
        let name = rate.name.to_bytes();
        if rate.windows.is_empty() {
            self.forget_rate(name)?;
            return Ok(Paced { allowed: true, debts_ns: Vec::new() });
        }
        let row: Option<(i64, String)> = self
            .connection
            .prepare_cached("SELECT at_ms, debts FROM rate WHERE name = ?1")
            .and_then(|mut select| select.query_row((name,), |row| Ok((row.get(0)?, row.get(1)?))).optional())
            .map_err(failure)?;
        let (known_ms, debts_ns): (i64, Vec<u64>) = match row {
            Some((at_ms, debts)) => (at_ms, read_json(&debts, "a rate")?),
            None => (now_ms, Vec::new()),
        };
        // A clock that goes back gives nothing back.
        let at_ms = known_ms.max(now_ms);
        let paced = pace_all(&rate.windows, &debts_ns, at_ms.abs_diff(known_ms));
        let Some(longest_ns) = paced.debts_ns.iter().copied().max().filter(|longest_ns| *longest_ns > 0) else {
            self.forget_rate(name)?;
            return Ok(paced);
        };
        if paced.allowed {
            let longest_ms = i64::try_from(longest_ns / 1_000_000 + 1).map_err(|error| damaged("a rate", &error))?;
            self.keep_rate(name, at_ms, &paced, at_ms.saturating_add(longest_ms))?;
            self.forget_rates(now_ms)?;
        }
        Ok(paced)
    }

    fn keep_rate(&self, name: [u8; 16], at_ms: i64, paced: &Paced, over_ms: i64) -> Result<(), StoreError> {
        let debts = json(&paced.debts_ns)?;
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO rate (name, at_ms, debts, over_ms) VALUES (?1, ?2, ?3, ?4)")
            .and_then(|mut insert| insert.execute((name, at_ms, debts, over_ms)))
            .map(drop)
            .map_err(failure)
    }

    fn forget_rate(&self, name: [u8; 16]) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("DELETE FROM rate WHERE name = ?1")
            .and_then(|mut delete| delete.execute((name,)))
            .map(drop)
            .map_err(failure)
    }

    /// Deletes some of the keys that owe nothing any more.
    fn forget_rates(&self, now_ms: i64) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "DELETE FROM rate WHERE name IN
                 (SELECT name FROM rate WHERE over_ms <= ?1 ORDER BY over_ms LIMIT ?2)",
            )
            .and_then(|mut delete| delete.execute((now_ms, DELETED_AT_ONCE)))
            .map(drop)
            .map_err(failure)
    }
}
