//! Engines that share a store and do not agree on the time: whatever a clock says, nobody gets an allowance twice.

#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use quotum::blocking::Quota;
use quotum::store::{MemoryStore, SqliteOptions, Store};
use quotum::{Error, ManualClock, Plans};

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

#[test]
fn a_reservation_that_has_expired_for_one_engine_cannot_be_committed_by_another() {
    on_each_store(|store| {
        let open = |now| open(store, "'10/total'", now);
        let (behind, ahead) = (open("2026-03-10T15:00:00Z"), open("2026-03-10T16:00:00Z"));
        let reservation = behind.reserve("ana", &[("jobs", 10)], Duration::from_secs(60)).unwrap().unwrap();
        assert!(allowed(&ahead, "ana", 10));
        assert!(matches!(reservation.commit(&[("jobs", 10)]), Err(Error::HoldExpired { .. })));
        for quota in [&behind, &ahead] {
            let usage = quota.usage("ana").unwrap();
            let found: Vec<_> = usage.quotas.iter().map(|state| (state.used, state.held, state.overage)).collect();
            assert_eq!(found, [(10, 0, 0)]);
        }
    });
}
