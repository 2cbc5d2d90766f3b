//! The table of events.

use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use rusqlite::types::Value;

use super::failure::{damaged, failure};
use crate::event::{Event, EventQuery};
use crate::store::StoreError;

/// How long events are kept that are not changes. Changes, which are few, are kept for ever.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 90);

/// How many events that are too old are deleted for each one that is appended.
const DELETED_AT_ONCE: i64 = 4;

pub(super) fn append(connection: &Connection, event: &Event) -> Result<(), StoreError> {
    let text = serde_json::to_string(event).map_err(|error| damaged("an event", &error))?;
    let row = (event.at.as_millisecond(), event.name.as_str(), event.subject.as_deref(), event.name.is_change(), text);
    connection
        .prepare_cached("INSERT INTO event (at_ms, name, subject, is_change, event) VALUES (?1, ?2, ?3, ?4, ?5)")
        .and_then(|mut insert| insert.execute(row))
        .map(drop)
        .map_err(failure)
}

pub(super) fn record(connection: &Connection, now: Timestamp, events: &[Event]) -> Result<(), StoreError> {
    for event in events {
        append(connection, event)?;
        let before_ms = now.checked_sub(KEPT).unwrap_or(Timestamp::MIN).as_millisecond();
        connection
            .prepare_cached(
                "DELETE FROM event WHERE sequence IN
                 (SELECT sequence FROM event WHERE at_ms < ?1 AND NOT is_change ORDER BY at_ms LIMIT ?2)",
            )
            .and_then(|mut delete| delete.execute((before_ms, DELETED_AT_ONCE)))
            .map_err(failure)?;
    }
    Ok(())
}

pub(super) fn read(connection: &Connection, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
    let mut select = "SELECT sequence, event FROM event WHERE sequence > ?".to_owned();
    let mut values = vec![Value::from(i64::try_from(query.after).unwrap_or(i64::MAX))];
    if let Some(subject) = &query.subject {
        select.push_str(" AND subject = ?");
        values.push(Value::from(subject.to_string()));
    }
    if let Some(name) = query.name {
        select.push_str(" AND name = ?");
        values.push(Value::from(name.as_str().to_owned()));
    }
    if query.changes_only {
        select.push_str(" AND is_change");
    }
    select.push_str(if query.newest_first { " ORDER BY sequence DESC LIMIT ?" } else { " ORDER BY sequence LIMIT ?" });
    values.push(Value::from(i64::try_from(query.limit).unwrap_or(i64::MAX)));
    let rows: Vec<(i64, String)> = connection
        .prepare_cached(&select)
        .and_then(|mut select| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            select.query_map(rusqlite::params_from_iter(values), read)?.collect()
        })
        .map_err(failure)?;
    let event = |(sequence, text): (i64, String)| {
        let event: Event = serde_json::from_str(&text).map_err(|error| damaged("an event", &error))?;
        Ok(Event { sequence: sequence.unsigned_abs(), ..event })
    };
    rows.into_iter().map(event).collect()
}
