//! A transaction as a step sees it: values where the host's has bytes, and what the step itself has written.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::counters::Loaded;
use super::host::{MapEntry, MapTransaction};
use super::keys::Key;
use crate::error::Retry;
use crate::store::{CounterKey, StoreError};

/// How many entries are read at once.
const PAGE: usize = 200;

pub(super) struct Transaction<'t> {
    host: &'t mut dyn MapTransaction,
    /// What the step has written, for the host at the end: by then it has read all that it reads.
    written: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// The counters that the step has met.
    pub(super) counters: BTreeMap<CounterKey, Loaded>,
    /// The time, in whole milliseconds.
    pub(super) now: Timestamp,
    /// How many entries that are too old may be forgotten.
    pub(super) forgets: usize,
}

impl<'t> Transaction<'t> {
    pub(super) fn new(host: &'t mut dyn MapTransaction, now: Timestamp) -> Self {
        let now = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
        Self { host, written: BTreeMap::new(), counters: BTreeMap::new(), now, forgets: 0 }
    }

    pub(super) fn get<T: DeserializeOwned>(&mut self, key: &Key, what: &str) -> Result<Option<T>, StoreError> {
        let found = match self.written.get(key.as_bytes()) {
            Some(written) => written.clone(),
            None => self.host.get(key.as_bytes())?,
        };
        found.map(|value| read(&value, what)).transpose()
    }

    pub(super) fn put(&mut self, key: &Key, value: &impl Serialize) -> Result<(), StoreError> {
        let value = serde_json::to_vec(value).map_err(|error| damaged("a value", &error))?;
        self.written.insert(key.as_bytes().to_vec(), Some(value));
        Ok(())
    }

    pub(super) fn delete(&mut self, key: &Key) {
        self.written.insert(key.as_bytes().to_vec(), None);
    }

    /// The first entries from `start` on and before `end`.
    pub(super) fn scan(&mut self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        if start >= end || limit == 0 {
            return Ok(Vec::new());
        }
        let written: Vec<_> = self.written.range(start.to_vec()..end.to_vec()).collect();
        // As many more as may turn out to be deleted.
        let asked = limit.saturating_add(written.len());
        let found = self.host.scan(start, end, asked)?;
        check(&found, start, end, asked)?;
        let mut entries: BTreeMap<Vec<u8>, Vec<u8>> = found.into_iter().collect();
        for (key, value) in written {
            match value {
                Some(value) => drop(entries.insert(key.clone(), value.clone())),
                None => drop(entries.remove(key)),
            }
        }
        Ok(entries.into_iter().take(limit).map(|(key, value)| (Key::from_bytes(key), value)).collect())
    }

    /// Shows entries from `start` on and before `end`, until `see` says that it has seen enough.
    pub(super) fn walk(
        &mut self,
        start: &[u8],
        end: &[u8],
        mut see: impl FnMut(&Key, &[u8]) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let mut start = start.to_vec();
        loop {
            let page = self.scan(&start, end, PAGE)?;
            for (key, value) in &page {
                if !see(key, value)? {
                    return Ok(());
                }
            }
            let Some((last, _)) = page.last().filter(|_| page.len() == PAGE) else { return Ok(()) };
            start = [last.as_bytes(), &[0]].concat();
        }
    }

    /// Hands the host what the step has written, and says whether that was anything.
    pub(super) fn write(mut self) -> Result<bool, StoreError> {
        self.forget()?;
        self.write_counters()?;
        let writes = !self.written.is_empty();
        for (key, value) in self.written {
            match value {
                Some(value) => self.host.put(&key, &value)?,
                None => self.host.delete(&key)?,
            }
        }
        Ok(writes)
    }
}

/// Refuses what no map can have found.
fn check(found: &[MapEntry], start: &[u8], end: &[u8], limit: usize) -> Result<(), StoreError> {
    let within = |(key, _): &MapEntry| start <= &**key && &**key < end;
    let rises = found.is_sorted_by(|(one, _), (next, _)| one < next);
    if rises && found.len() <= limit && found.iter().all(within) {
        return Ok(());
    }
    let detail = "its map has found other entries than were asked for, more of them, or in another order";
    Err(StoreError::Failed { detail: detail.to_owned(), retry: Retry::Never })
}

/// A value that was kept as JSON.
pub(super) fn read<T: DeserializeOwned>(value: &[u8], what: &str) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|error| damaged(what, &error))
}

/// What is found to be unreadable in a map that the host can read.
pub(super) fn damaged(what: &str, detail: &dyn fmt::Display) -> StoreError {
    StoreError::Damaged { name: "the map".to_owned(), detail: format!("{what} cannot be read: {detail}") }
}

/// What could be read, unless it is damaged: for work that is not the caller's, and must not fail his.
pub(super) fn unless_damaged<T>(read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Err(StoreError::Damaged { .. }) => Ok(None),
        read => read.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map as it is found, which nobody may write to.
    struct Found(BTreeMap<Vec<u8>, Vec<u8>>);

    impl MapTransaction for Found {
        fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            Ok(self.0.get(key).cloned())
        }

        fn scan(&mut self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<MapEntry>, StoreError> {
            let found = self.0.range(start.to_vec()..end.to_vec()).take(limit);
            Ok(found.map(|(key, value)| (key.clone(), value.clone())).collect())
        }

        fn put(&mut self, key: &[u8], _: &[u8]) -> Result<(), StoreError> {
            panic!("{key:?} is written before the end")
        }

        fn delete(&mut self, key: &[u8]) -> Result<(), StoreError> {
            panic!("{key:?} is deleted before the end")
        }

        fn commit(self: Box<Self>) -> Result<(), StoreError> {
            Ok(())
        }
    }

    /// Whatever was written, a scan finds what a map would that had been written to.
    #[test]
    fn a_step_finds_what_it_has_itself_written() {
        let place = |number: i64| Key::of("n").number(number);
        let random = std::hash::RandomState::new();
        let mut seed = std::hash::BuildHasher::hash_one(&random, 0) | 1;
        println!("seed {seed}");
        let mut below = |count: i64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            i64::try_from(seed >> 1).unwrap() % count
        };
        for _ in 0..300 {
            let mut model: BTreeMap<i64, i64> = (0..below(12)).map(|_| (below(20), below(100))).collect();
            let entry = |(number, value): (&i64, &i64)| (place(*number).as_bytes().to_vec(), value.to_string().into());
            let mut found = Found(model.iter().map(entry).collect());
            let mut transaction = Transaction::new(&mut found, Timestamp::UNIX_EPOCH);
            for _ in 0..20 {
                let number = below(20);
                match below(3) {
                    0 => {
                        transaction.put(&place(number), &-number).unwrap();
                        model.insert(number, -number);
                    }
                    1 => {
                        transaction.delete(&place(number));
                        model.remove(&number);
                    }
                    _ => assert_eq!(transaction.get(&place(number), "it").unwrap(), model.get(&number).copied()),
                }
                let (start, end, limit) = (below(20), below(22), usize::try_from(below(8)).unwrap());
                let scanned = transaction.scan(place(start).as_bytes(), place(end).as_bytes(), limit).unwrap();
                let expected = model.range(start..end.max(start)).take(limit);
                let expected: Vec<_> = expected.map(|(number, value)| (place(*number), value.to_string())).collect();
                let scanned: Vec<_> =
                    scanned.into_iter().map(|(key, value)| (key, String::from_utf8(value).unwrap())).collect();
                assert_eq!(scanned, expected, "{start}..{end}, {limit}");
            }
        }
    }
}
