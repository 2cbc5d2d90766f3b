//! Two maps for `MapStore`, to copy from: one that locks, and one whose transactions look at their end whether others
//! were faster. And one that goes wrong.

#![allow(dead_code, unused_imports, clippy::unwrap_used, missing_docs)]

mod faulty;
mod locked;
mod optimistic;

use std::collections::BTreeMap;

pub(crate) use faulty::{At, Fault, Faulty};
pub(crate) use locked::Locked;
pub(crate) use optimistic::Optimistic;
use quotum::store::MapEntry;

pub(crate) type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a transaction is going to write: a value, or none to delete what is there.
type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

fn found(entries: &Entries, start: &[u8], end: &[u8], limit: usize) -> Vec<MapEntry> {
    let found = entries.range(start.to_vec()..end.to_vec()).take(limit);
    found.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn apply(entries: &mut Entries, changes: Changes) {
    for (key, value) in changes {
        match value {
            Some(value) => entries.insert(key, value),
            None => entries.remove(&key),
        };
    }
}
