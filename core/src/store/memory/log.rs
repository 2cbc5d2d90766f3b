//! The log of the memory store.

use std::collections::VecDeque;

use crate::event::{Event, EventQuery};

/// How many events are kept that are not changes. Changes, which are few, are kept for ever.
const OCCURRENCES_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Log {
    last: u64,
    changes: Vec<Event>,
    occurrences: VecDeque<Event>,
}

impl Log {
    pub(super) fn append(&mut self, event: &Event) {
        self.last += 1;
        let event = Event { sequence: self.last, ..event.clone() };
        if event.name.is_change() {
            self.changes.push(event);
            return;
        }
        if self.occurrences.len() == OCCURRENCES_MAX {
            self.occurrences.pop_front();
        }
        self.occurrences.push_back(event);
    }

    pub(super) fn read(&self, query: &EventQuery) -> Vec<Event> {
        // Both parts are in order: only what comes after `after` is looked at.
        let changes = self.changes.get(self.changes.partition_point(|event| event.sequence <= query.after)..);
        let occurrences = self.occurrences.iter().filter(|_| !query.changes_only);
        let mut found: Vec<&Event> = changes.into_iter().flatten().chain(occurrences).collect();
        found.retain(|event| query.wants(event));
        found.sort_unstable_by_key(|event| event.sequence);
        if query.newest_first {
            found.reverse();
        }
        found.into_iter().take(query.limit).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventName;

    #[test]
    fn the_newest_occurrences_are_kept_and_all_changes() {
        let mut log = Log::default();
        for number in 0..12_000 {
            let name = if number % 100 == 0 { EventName::UsageAdjusted } else { EventName::RateLimited };
            log.append(&Event::new(name, crate::Timestamp::UNIX_EPOCH));
        }
        assert_eq!(log.read(&EventQuery { limit: usize::MAX, ..EventQuery::changes() }).len(), 120);
        let all = log.read(&EventQuery { limit: usize::MAX, ..EventQuery::all() });
        assert_eq!(all.len(), 120 + OCCURRENCES_MAX);
        assert_eq!(log.occurrences.front().map(|event| event.sequence), Some(1_900));
    }
}
