//! Engines that share a store and do not agree on the time: whatever a clock says, nobody gets an allowance twice.

#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use quotum::blocking::Quota;
use quotum::store::{MemoryStore, SqliteOptions, Store};
use quotum::{ManualClock, Plans};

/// Runs a test on each store.
fn on_each_store(test: impl Fn(&Arc<dyn Store>)) {
    test(&(Arc::new(MemoryStore::new()) as Arc<dyn Store>));
    let folder = tempfile::tempdir().unwrap();
    test(&(Arc::new(SqliteOptions::at(folder.path().join("quota.db")).open().unwrap()) as Arc<dyn Store>));
}

fn open(store: &Arc<dyn Store>, quotas: &str, now: &str) -> Quota {
    let plans = format!("default_plan = 'free'\n[plans.free]\nquotas = {{ jobs = {quotas} }}");
    let clock = Arc::new(ManualClock::at(now.parse().unwrap()));
    Quota::builder().plans(Plans::from_toml(&plans).unwrap()).clock(clock).open_on(Arc::clone(store)).unwrap()
}

fn allowed(quota: &Quota, subject: &str, units: u64) -> bool {
    quota.consume(subject, &[("jobs", units)]).unwrap().allowed
}

#[test]
fn a_clock_that_is_years_ahead_gives_nobody_a_second_allowance() {
    on_each_store(|store| {
        let open = |now| open(store, "['1/hour', '1/day']", now);
        let (right, ahead) = (open("2026-03-10T15:10:00Z"), open("2030-01-01T00:00:00Z"));
        assert!(allowed(&right, "ana", 1));
        assert!(allowed(&ahead, "ana", 1) && allowed(&ahead, "bob", 1));
        assert!(!allowed(&right, "ana", 1));
        assert!(!allowed(&open("2026-03-10T15:20:00Z"), "ana", 1));
    });
}
