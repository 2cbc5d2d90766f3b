//! Events as rows.

use jiff::{SignedDuration, Timestamp};
use tokio_postgres::Row;

use super::counter::json;
use super::failure::damaged;
use super::statement::{Bytes, Statement};
use crate::event::{Event, EventQuery};
use crate::store::StoreError;

/// How long events are kept that are not changes. Changes, which are few, are kept for ever.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 90);

/// A statement with an event as its next values.
pub(super) fn with_event(statement: Statement, event: &Event) -> Result<Statement, StoreError> {
    Ok(statement
        .with(event.at.as_millisecond())
        .with(event.name.as_str())
        .with(event.subject.as_deref().map(Bytes::of))
        .with(event.name.is_change())
        .with(json(event)?))
}

/// The call of the function that appends events.
pub(super) fn recording(now: Timestamp, events: &[Event]) -> Result<Statement, StoreError> {
    let texts = events.iter().map(json).collect::<Result<Vec<_>, _>>()?;
    Ok(Statement::calling("record")
        .at(now)
        .with_time(Some(now.checked_sub(KEPT).unwrap_or(Timestamp::MIN)))
        .with(events.iter().map(|event| event.at.as_millisecond()).collect::<Vec<_>>())
        .with(events.iter().map(|event| event.name.as_str()).collect::<Vec<_>>())
        .with(events.iter().map(|event| event.subject.as_deref().map(Bytes::of)).collect::<Vec<_>>())
        .with(events.iter().map(|event| event.name.is_change()).collect::<Vec<_>>())
        .with(texts))
}

pub(super) fn reading(query: &EventQuery) -> Statement {
    let order = if query.newest_first { "DESC" } else { "ASC" };
    let only = if query.changes_only { " AND is_change" } else { "" };
    Statement::reading(&format!(
        "SELECT sequence, event FROM quotum.event
         WHERE sequence > $1 AND ($2 IS NULL OR subject = $2) AND ($3 IS NULL OR name = $3){only}
         ORDER BY sequence {order} LIMIT $4"
    ))
    .with(i64::try_from(query.after).unwrap_or(i64::MAX))
    .with(query.subject.as_deref().map(Bytes::of))
    .with(query.name.map(|name| name.as_str()))
    .with(i64::try_from(query.limit).unwrap_or(i64::MAX))
}

pub(super) fn event(row: &Row) -> Result<Event, StoreError> {
    let get = |error| damaged("an event", &error);
    let sequence: i64 = row.try_get(0).map_err(get)?;
    let text: &str = row.try_get(1).map_err(get)?;
    let event: Event = serde_json::from_str(text).map_err(|error| damaged("an event", &error))?;
    Ok(Event { sequence: sequence.unsigned_abs(), ..event })
}
