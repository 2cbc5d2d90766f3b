//! Events as values of a script, and the log that they are read from.

use redis::Value;

use super::failure::damaged;
use super::names::Names;
use super::reply::Reply;
use super::script::{EVENTS, Step, json};
use crate::event::{Event, EventQuery};
use crate::store::{Call, StoreError};

/// An event as it is appended: its text, whether it is a change, and the keys of its indexes. A line each, so that an
/// outbox can keep it as one text.
pub(super) struct Entry {
    text: String,
    is_change: bool,
    by_name: String,
    by_subject: Option<String>,
}

impl Entry {
    pub(super) fn of(names: &Names, event: &Event) -> Result<Self, StoreError> {
        let is_change = event.name.is_change();
        Ok(Self {
            text: json(event)?,
            is_change,
            by_name: names.events_named(event.name.as_str()),
            by_subject: event.subject.as_ref().map(|subject| names.events_of(subject, is_change)),
        })
    }

    /// A step that appends this, its keys after those that it has.
    pub(super) fn append_to(self, step: Step) -> Step {
        let (mut step, by_name) = step.on_all(vec![self.by_name]);
        let mut by_subject = 0;
        if let Some(key) = self.by_subject {
            (step, by_subject) = step.on_all(vec![key]);
        }
        let is_change = if self.is_change { "1" } else { "0" };
        step.with(self.text).with(is_change).with_number(by_name as i64).with_number(by_subject as i64)
    }

    /// This with a name of its own, as an outbox keeps it.
    pub(super) fn kept_as(&self, name: &str) -> String {
        format!("{name} {}", self.text)
    }
}

/// The name and the event that an outbox has kept so.
pub(super) fn kept(names: &Names, text: &str) -> Result<(String, Entry), StoreError> {
    let whole = text.split_once(' ').ok_or_else(|| damaged("an event", &"it has no name"));
    let (name, text) = whole?;
    let event: Event = serde_json::from_str(text).map_err(|error| damaged("an event", &error))?;
    Ok((name.to_owned(), Entry::of(names, &event)?))
}

/// A step that is given the log's keys after those that it has.
pub(super) fn on_log(step: Step, names: &Names) -> Step {
    step.on_all(names.log()).0
}

/// What reads the events that are asked for: from the narrowest index there is.
pub(super) fn reading(names: &Names, call: Call, query: &EventQuery) -> Step {
    let [_, events, changes, rest] = ["log:last", "log:events", "log:changes", "log:rest"].map(|what| names.of(what));
    let is_change = query.name.map(|name| name.is_change());
    let mut indexes = match (&query.subject, is_change) {
        (Some(subject), Some(is_change)) => vec![names.events_of(subject, is_change)],
        (Some(subject), None) => vec![names.events_of(subject, true), names.events_of(subject, false)],
        (None, Some(_)) => query.name.map(|name| names.events_named(name.as_str())).into_iter().collect(),
        (None, None) => vec![changes, rest],
    };
    if query.changes_only {
        match is_change {
            // No such event is a change.
            Some(false) => indexes.clear(),
            Some(true) => {}
            None => indexes.truncate(1),
        }
    }
    // An event begins with its name, after a space that is nowhere else before a brace.
    let by_name = query.name.filter(|_| query.subject.is_some());
    let pattern = by_name.map(|name| format!(" {{\"name\":\"{}\"", name.as_str())).unwrap_or_default();
    let keys = std::iter::once(events).chain(indexes).collect();
    Step::reading(&EVENTS, call.now, keys)
        .with_number(query.after.min(1 << 53))
        .with(if query.newest_first { "1" } else { "0" })
        .with_number(query.limit.min(1 << 30) as i64)
        .with(pattern)
}

/// The events that were read.
pub(super) fn events(value: Value) -> Result<Vec<Event>, StoreError> {
    let mut reply = Reply::of("an event", value)?;
    let mut events = Vec::new();
    while !reply.is_over() {
        let sequence = reply.units()?;
        let event: Event = serde_json::from_str(&reply.text()?).map_err(|error| damaged("an event", &error))?;
        events.push(Event { sequence, ..event });
    }
    Ok(events)
}
