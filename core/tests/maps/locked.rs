//! A map with one lock, that a transaction holds from its beginning to its end.

use std::mem::take;
use std::sync::{Mutex, MutexGuard, PoisonError};

use quotum::store::{Map, MapEntry, MapTransaction, StoreError};

use super::{Changes, Entries, apply, found};

#[derive(Debug, Default)]
pub(crate) struct Locked(Mutex<Entries>);

struct Transaction<'m> {
    entries: MutexGuard<'m, Entries>,
    changes: Changes,
}

impl Locked {
    /// What it holds, for whoever looks behind a store's back.
    pub(crate) fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Map for Locked {
    fn begin(&self) -> Result<Box<dyn MapTransaction + '_>, StoreError> {
        Ok(Box::new(Transaction { entries: self.entries(), changes: Vec::new() }))
    }
}

impl MapTransaction for Transaction<'_> {
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.entries.get(key).cloned())
    }

    fn scan(&mut self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<MapEntry>, StoreError> {
        Ok(found(&self.entries, start, end, limit))
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.changes.push((key.to_vec(), Some(value.to_vec())));
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.changes.push((key.to_vec(), None));
        Ok(())
    }

    fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        let changes = take(&mut self.changes);
        apply(&mut self.entries, changes);
        Ok(())
    }
}
