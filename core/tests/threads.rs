//! Many threads on one counter: at the edge, exactly the limit passes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pollster::block_on;
use quotum::store::{MemoryStore, Store};
use quotum::{Clock, ManualClock, Plans, Timestamp, blocking};

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

/// A clock on which every look is a second later.
#[derive(Debug)]
struct Restless(AtomicU64);

impl Clock for Restless {
    fn wall(&self) -> Timestamp {
        let second = self.0.fetch_add(1, Ordering::Relaxed);
        Timestamp::from_second(1_781_524_800 + i64::try_from(second).unwrap()).unwrap()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

/// Sixteen engines, as in sixteen processes: none knows what the others know.
#[test]
fn one_trial_starts_however_many_first_requests_race() {
    let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(Restless(AtomicU64::new(0))));
    let plans = "default_plan = 'free'\n[plans.free]\ntrial_days = 7\nquotas = { jobs = '16/total' }";
    let plans = Plans::from_toml(plans).unwrap();
    let ends: Vec<Option<Timestamp>> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..16)
            .map(|_| {
                let builder = blocking::Quota::builder().plans(plans.clone()).clock(clock.clone());
                let quota = builder.open_on(store.clone()).unwrap();
                scope.spawn(move || {
                    assert!(quota.consume("bob", &[("jobs", 1)]).unwrap().allowed);
                    quota.usage("bob").unwrap().trial_ends_at
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    assert!(ends.iter().all(|end| end.is_some() && *end == ends[0]), "{ends:?}");
}
