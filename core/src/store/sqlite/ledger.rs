//! The table of steps that must not be made twice.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::batch::Batch;
use super::failure::{damaged, failure};
use crate::HoldId;
use crate::store::{Balance, Charged, CounterKey, Once, StoreError};

/// How many rows that are too old are deleted for each one that is added, so that none needs a sweep.
pub(super) const DELETED_AT_ONCE: i64 = 4;

/// SQL that is true of a hold that has charged something or still may, at the time `?1`.
macro_rules! hold_stands {
    () => {
        "(hold.kept_until_ms > ?1
          AND (hold.has_charged OR (hold.receipt IS NULL AND NOT hold.expired AND hold.expires_ms > ?1)))"
    };
}

pub(super) use hold_stands;

impl Batch<'_> {
    /// What became of a step that was made before.
    pub(super) fn recall(&self, now: Timestamp, once: Option<&Once>) -> Result<Option<Charged>, StoreError> {
        let Some(once) = once else { return Ok(None) };
        // What expired or was released has charged nothing, so there is nothing to do twice.
        let row: Option<([u8; 16], EarlierRow)> = self
            .connection
            .prepare_cached(concat!(
                "SELECT step.arguments, step.at_ms, step.made, step.hold FROM step LEFT JOIN hold ON hold.id = step.hold
                 WHERE step.subject = ?2 AND step.key = ?3 AND step.kept_until_ms > ?1
                 AND (step.hold IS NULL OR ",
                hold_stands!(),
                ")"
            ))
            .and_then(|mut select| {
                let place = (now.as_millisecond(), &*once.subject, &*once.key);
                let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, (row.get(1)?, row.get(2)?, row.get(3)?)));
                select.query_row(place, read).optional()
            })
            .map_err(failure)?;
        match row {
            Some((arguments, _)) if arguments != once.arguments.to_bytes() => Ok(Some(Charged::conflict())),
            Some((_, made)) => earlier(made).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn remember<'k>(
        &self,
        now: Timestamp,
        once: Option<&Once>,
        keys: impl Iterator<Item = &'k CounterKey>,
        balances: &[Balance],
        hold: Option<HoldId>,
    ) -> Result<(), StoreError> {
        let Some(once) = once else { return Ok(()) };
        let made: Vec<(&CounterKey, &Balance)> = keys.zip(balances).collect();
        forget(
            self.connection,
            now,
            "DELETE FROM step WHERE (subject, key) IN
            (SELECT subject, key FROM step WHERE kept_until_ms <= ?1 ORDER BY kept_until_ms LIMIT ?2)",
        )?;
        let values = (
            &*once.subject,
            &*once.key,
            once.arguments.to_bytes(),
            now.as_millisecond(),
            json(&made)?,
            hold.map(HoldId::to_bytes),
            once.kept_until.as_millisecond(),
        );
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO step (subject, key, arguments, at_ms, made, hold, kept_until_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )
            .and_then(|mut insert| insert.execute(values))
            .map(drop)
            .map_err(failure)
    }
}

/// What was made before: when, what, and of which hold.
pub(super) type EarlierRow = (i64, String, Option<[u8; 16]>);

pub(super) fn earlier((at_ms, made, hold): EarlierRow) -> Result<Charged, StoreError> {
    let at = Timestamp::from_millisecond(at_ms).map_err(|error| damaged("a step", &error))?;
    Ok(Charged::repeated(at, read_json(&made, "a step")?, hold.map(HoldId::from_bytes)))
}

fn forget(connection: &Connection, now: Timestamp, delete: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached(delete)
        .and_then(|mut delete| delete.execute((now.as_millisecond(), DELETED_AT_ONCE)))
        .map(drop)
        .map_err(failure)
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| damaged("a row", &error))
}

pub(super) fn read_json<T: serde::de::DeserializeOwned>(text: &str, what: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| damaged(what, &error))
}
