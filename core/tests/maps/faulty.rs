//! A map that does what no map should, on demand.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quotum::Retry;
use quotum::store::{Map, MapEntry, MapTransaction, StoreError};

use super::Locked;

/// Where a map goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    Begin,
    Get,
    Scan,
    Put,
    Commit,
}

/// How it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Busy,
    Fails,
    Panics,
    /// What is found comes in the wrong order.
    Reversed,
    /// What is found begins anew.
    Endless,
}

#[derive(Debug, Default)]
pub(crate) struct Faulty {
    pub(crate) inner: Arc<Locked>,
    pub(crate) fault: Mutex<Option<(At, Fault)>>,
    /// How many transactions were begun.
    pub(crate) begun: AtomicU32,
}

struct Transaction<'m> {
    map: &'m Faulty,
    inner: Box<dyn MapTransaction + 'm>,
}

impl Faulty {
    fn says(&self, at: At, fault: Fault) -> bool {
        *self.fault.lock().unwrap() == Some((at, fault))
    }

    fn goes_wrong(&self, at: At) -> Result<(), StoreError> {
        assert!(!self.says(at, Fault::Panics), "as it was told");
        if self.says(at, Fault::Fails) {
            return Err(StoreError::Failed { detail: format!("{at:?}"), retry: Retry::Safe });
        }
        if self.says(at, Fault::Busy) {
            return Err(StoreError::Busy { waited: Duration::ZERO });
        }
        Ok(())
    }
}

impl Map for Faulty {
    fn begin(&self) -> Result<Box<dyn MapTransaction + '_>, StoreError> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.goes_wrong(At::Begin)?;
        Ok(Box::new(Transaction { map: self, inner: self.inner.begin()? }))
    }
}

impl MapTransaction for Transaction<'_> {
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.map.goes_wrong(At::Get)?;
        self.inner.get(key)
    }

    fn scan(&mut self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<MapEntry>, StoreError> {
        self.map.goes_wrong(At::Scan)?;
        let mut found = self.inner.scan(start, end, limit)?;
        if self.map.says(At::Scan, Fault::Reversed) {
            found.reverse();
        }
        if self.map.says(At::Scan, Fault::Endless) {
            found = self.inner.scan(&[], &[0xff], limit)?;
        }
        Ok(found)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.map.goes_wrong(At::Put)?;
        self.inner.put(key, value)
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.inner.delete(key)
    }

    fn commit(self: Box<Self>) -> Result<(), StoreError> {
        self.map.goes_wrong(At::Commit)?;
        self.inner.commit()
    }
}
