//! A map that makes nobody wait: a transaction remembers what it has read, and is committed only if that is still so.

use std::sync::Mutex;
use std::time::Duration;

use quotum::store::{Map, MapEntry, MapTransaction, StoreError};

use super::{Changes, Entries, apply, found};

#[derive(Debug, Default)]
pub(crate) struct Optimistic(pub(crate) Mutex<Entries>);

struct Transaction<'m> {
    map: &'m Optimistic,
    read: Vec<Read>,
    changes: Changes,
}

/// What a transaction has read.
enum Read {
    One { key: Vec<u8>, value: Option<Vec<u8>> },
    Many { start: Vec<u8>, end: Vec<u8>, limit: usize, entries: Vec<MapEntry> },
}

impl Read {
    fn is_still_so(&self, now: &Entries) -> bool {
        match self {
            Self::One { key, value } => now.get(key) == value.as_ref(),
            Self::Many { start, end, limit, entries } => found(now, start, end, *limit) == *entries,
        }
    }
}

impl Map for Optimistic {
    fn begin(&self) -> Result<Box<dyn MapTransaction + '_>, StoreError> {
        Ok(Box::new(Transaction { map: self, read: Vec::new(), changes: Vec::new() }))
    }
}

impl MapTransaction for Transaction<'_> {
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.map.0.lock().unwrap().get(key).cloned();
        self.read.push(Read::One { key: key.to_vec(), value: value.clone() });
        Ok(value)
    }

    fn scan(&mut self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<MapEntry>, StoreError> {
        let entries = found(&self.map.0.lock().unwrap(), start, end, limit);
        self.read.push(Read::Many { start: start.to_vec(), end: end.to_vec(), limit, entries: entries.clone() });
        Ok(entries)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.changes.push((key.to_vec(), Some(value.to_vec())));
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.changes.push((key.to_vec(), None));
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), StoreError> {
        let mut entries = self.map.0.lock().unwrap();
        if !self.read.iter().all(|read| read.is_still_so(&entries)) {
            return Err(StoreError::Busy { waited: Duration::ZERO });
        }
        apply(&mut entries, self.changes);
        Ok(())
    }
}
