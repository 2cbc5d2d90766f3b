//! The table of identities: who tokens stand for, by their digests.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::failure::{damaged, failure};
use crate::event::EventName;
use crate::store::{Forgotten, KeptIdentity, StoreError};
use crate::token::TokenDigest;

/// How many rows that are too old are deleted for each one that is added, so that none needs a sweep.
const DELETED_AT_ONCE: i64 = 4;

pub(super) fn read(
    connection: &Connection,
    now: Timestamp,
    token: &TokenDigest,
) -> Result<Option<KeptIdentity>, StoreError> {
    let row: Option<(String, i64)> = connection
        .prepare_cached("SELECT identity, kept_until_ms FROM identity WHERE token = ?1 AND kept_until_ms > ?2")
        .and_then(|mut select| {
            select.query_row((token.as_bytes(), now.as_millisecond()), |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })
        .map_err(failure)?;
    let Some((text, until_ms)) = row else { return Ok(None) };
    let identity = serde_json::from_str(&text).map_err(|error| damaged("an identity", &error))?;
    let until = Timestamp::from_millisecond(until_ms).map_err(|error| damaged("an identity", &error))?;
    Ok(Some(KeptIdentity { identity, until }))
}

pub(super) fn put(
    connection: &Connection,
    now: Timestamp,
    token: &TokenDigest,
    kept: &KeptIdentity,
    followed: u64,
) -> Result<(), StoreError> {
    let text = serde_json::to_string(&kept.identity).map_err(|error| damaged("an identity", &error))?;
    connection
        .prepare_cached(
            "DELETE FROM identity WHERE token IN
             (SELECT token FROM identity WHERE kept_until_ms <= ?1 ORDER BY kept_until_ms LIMIT ?2)",
        )
        .and_then(|mut delete| delete.execute((now.as_millisecond(), DELETED_AT_ONCE)))
        .map_err(failure)?;
    let values = (
        token.as_bytes(),
        &*kept.identity.subject,
        text,
        kept.until.as_millisecond(),
        i64::try_from(followed).unwrap_or(i64::MAX),
        EventName::TokenForgotten.as_str(),
    );
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO identity (token, subject, identity, kept_until_ms)
             SELECT ?1, ?2, ?3, ?4
             WHERE NOT EXISTS (SELECT 1 FROM event WHERE sequence > ?5 AND is_change AND name = ?6)",
        )
        .and_then(|mut insert| insert.execute(values))
        .map(drop)
        .map_err(failure)
}

pub(super) fn forget(connection: &Connection, which: &Forgotten) -> Result<(), StoreError> {
    match which {
        Forgotten::Token(token) => connection
            .prepare_cached("DELETE FROM identity WHERE token = ?1")
            .and_then(|mut delete| delete.execute((token.as_bytes(),))),
        Forgotten::Subject(subject) => connection
            .prepare_cached("DELETE FROM identity WHERE subject = ?1")
            .and_then(|mut delete| delete.execute((&**subject,))),
    }
    .map(drop)
    .map_err(failure)
}
