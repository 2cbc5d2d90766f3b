//! Many threads on one counter: at the edge, exactly the limit passes.

#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pollster::block_on;
use quotum::store::{MemoryStore, Store};
use quotum::{ManualClock, Plans, blocking};

const THREADS: u64 = 64;
const EACH: u64 = 40;
const LIMIT: u64 = THREADS * EACH / 2;

fn open(store: Arc<dyn Store>) -> blocking::Quota {
    let plans = format!(
        "default_plan = 'free'\n[plans.free]\ntrial_days = 7\nquotas = {{ jobs = ['{LIMIT}/total', '{}/year'], calls = '{}/day' }}",
        LIMIT + 1,
        LIMIT * 2,
    );
    let clock = Arc::new(ManualClock::at("2026-06-15T12:00:00Z".parse().unwrap()));
    blocking::Quota::builder().plans(Plans::from_toml(&plans).unwrap()).clock(clock).open_on(store).unwrap()
}

/// Half of the charges are denied; of each, some come from synchronous callers and some from tasks.
fn hammer(store: Arc<dyn Store>) {
    let quota = open(store);
    let granted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (quota, granted) = (quota.clone(), &granted);
            scope.spawn(move || {
                let tasks = quota.to_async();
                for _ in 0..EACH {
                    let costs = [("jobs", 1), ("calls", 2)];
                    let decision = if thread % 2 == 0 {
                        quota.consume("ana", &costs).unwrap()
                    } else {
                        block_on(tasks.consume("ana", &costs)).unwrap()
                    };
                    granted.fetch_add(u64::from(decision.allowed), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(granted.into_inner(), LIMIT);
    let used: Vec<(String, u64)> = quota
        .usage("ana")
        .unwrap()
        .quotas
        .iter()
        .map(|state| (format!("{}/{}", state.metric, state.period.unwrap()), state.used))
        .collect();
    let expected = [("calls/day", 2 * LIMIT), ("jobs/total", LIMIT), ("jobs/year", LIMIT)];
    assert_eq!(used, expected.map(|(name, used)| (name.to_owned(), used)));
}

#[test]
fn sixty_four_threads_on_one_counter_in_memory_grant_exactly_the_limit() {
    hammer(Arc::new(MemoryStore::new()));
}

#[cfg(feature = "sqlite")]
#[test]
fn sixty_four_threads_on_one_counter_in_sqlite_grant_exactly_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    hammer(Arc::new(quotum::store::SqliteOptions::at(folder.path().join("quota.db")).open().unwrap()));
}

#[test]
fn one_trial_starts_however_many_first_requests_race() {
    let quota = open(Arc::new(MemoryStore::new()));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert!(quota.consume("bob", &[("jobs", 1)]).unwrap().allowed));
        }
    });
    let ends = quota.usage("bob").unwrap().trial_ends_at;
    assert_eq!(ends, quota.usage("bob").unwrap().trial_ends_at);
    let started = quota.subscription("bob").unwrap().unwrap().since;
    assert_eq!(ends.unwrap().duration_since(started).as_hours(), 7 * 24);
}
