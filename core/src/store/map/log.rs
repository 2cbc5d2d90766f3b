//! The log: events by their place in it, and the changes among them once more.

use jiff::{SignedDuration, Timestamp};

use super::keys::{Key, number_of};
use super::transaction::{Transaction, damaged, read};
use crate::event::{Event, EventName, EventQuery};
use crate::store::StoreError;

/// How long events are kept that are not changes. Changes, which are few, are kept for ever.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 90);

/// Beyond every number that an event can have.
const LAST_MAX: i64 = 1 << 53;

/// How many events are read at once.
const PAGE: usize = 200;

impl Transaction<'_> {
    pub(super) fn append(&mut self, events: &[Event]) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        let mut last = self.last_event()?;
        for event in events {
            last = last.saturating_add(1);
            let place = Key::of("event").number(last);
            self.put(&place, event)?;
            if event.name.is_change() {
                self.put(&Key::of("change").number(last), event)?;
            } else {
                let until = event.at.checked_add(KEPT).unwrap_or(Timestamp::MAX);
                self.look_later(&place, until.as_millisecond())?;
            }
            if event.name == EventName::TokenForgotten {
                self.put(&Key::of("last_revocation"), &last)?;
            }
        }
        self.put(&Key::of("last_event"), &last)
    }

    fn last_event(&mut self) -> Result<i64, StoreError> {
        let what = "the number of the last event";
        match self.get(&Key::of("last_event"), what)?.unwrap_or(0) {
            last @ 0..LAST_MAX => Ok(last),
            last => Err(damaged(what, &last)),
        }
    }

    /// The place in the log of the last event that tells of a revocation.
    pub(super) fn last_revocation(&mut self) -> Result<u64, StoreError> {
        Ok(self.get(&Key::of("last_revocation"), "the number of the last revocation")?.unwrap_or(0))
    }

    pub(super) fn events(&mut self, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
        let table = Key::of(if query.changes_only { "change" } else { "event" });
        let after = i64::try_from(query.after).unwrap_or(i64::MAX);
        if query.newest_first {
            return self.newest_events(&table, after, query);
        }
        let mut found = Vec::new();
        self.walk(&table.clone().number(after).end(), &table.end(), |key, value| {
            if found.len() < query.limit {
                found.extend(Some(event(key, value)?).filter(|event| query.wants(event)));
            }
            Ok(found.len() < query.limit)
        })?;
        Ok(found)
    }

    /// Reads the log backwards, a stretch at a time: the longer, the fewer events are found in it.
    fn newest_events(&mut self, table: &Key, after: i64, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
        let mut found = Vec::new();
        let mut last = self.last_event()?;
        let shortest = PAGE as i64;
        let mut stretch = shortest;
        while last > after && found.len() < query.limit {
            let first = last.saturating_sub(stretch).max(after);
            let (start, end) = (table.clone().number(first).end(), table.clone().number(last).end());
            let page = self.scan(&start, &end, PAGE + 1)?;
            if page.len() > PAGE && stretch > shortest {
                stretch = shortest;
                continue;
            }
            for (key, value) in page.iter().rev() {
                found.extend(Some(event(key, value)?).filter(|event| query.wants(event)));
            }
            last = first;
            stretch = if page.len() < PAGE / 2 { stretch.saturating_mul(2) } else { shortest };
        }
        found.truncate(query.limit);
        Ok(found)
    }
}

fn event(key: &Key, value: &[u8]) -> Result<Event, StoreError> {
    let sequence = key.parts().and_then(|parts| number_of(parts.last()?));
    let sequence = sequence.ok_or_else(|| damaged("an event", &"its key is none of ours"))?;
    Ok(Event { sequence: sequence.unsigned_abs(), ..read(value, "an event")? })
}
