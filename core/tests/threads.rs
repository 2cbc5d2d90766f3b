//! Many threads on one counter: at the edge, exactly the limit passes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pollster::block_on;
use quotum::store::{Call, CounterKey, MemoryStore, Store, Wait};
use quotum::{Clock, ManualClock, Period, Plans, Timestamp, blocking};

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

/// Sixteen threads use units of a minute until there are none, and meanwhile the minute ends: `step` uses one.
fn over_the_end_of_a_minute(store: &Arc<dyn Store>, step: impl Fn(&blocking::Quota) -> bool + Sync) {
    const UNITS: u64 = 200;
    let plans = format!("default_plan = 'free'\n[plans.free]\nquotas = {{ jobs = '{UNITS}/minute' }}");
    let end: Timestamp = "2026-03-10T16:00:00Z".parse().unwrap();
    let clock = Arc::new(ManualClock::at(end - Duration::from_millis(100)));
    let builder = blocking::Quota::builder().plans(Plans::from_toml(&plans).unwrap()).clock(clock.clone());
    let quota = builder.open_on(Arc::clone(store)).unwrap();
    let granted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..UNITS / 4 {
                    // Whoever has the middle unit ends the window, under the feet of all others.
                    if step(&quota) && granted.fetch_add(1, Ordering::Relaxed) == UNITS / 2 {
                        clock.advance(Duration::from_millis(200));
                    }
                }
            });
        }
    });
    let key = |start_s| CounterKey::of("ana", "jobs", Period::Minute, start_s);
    let keys = [key(end.as_second() - 60), key(end.as_second())];
    let balances = block_on(store.balances(Call::new(end, Wait::Block), &keys)).unwrap();
    let used: Vec<u64> = balances.iter().map(|balance| balance.used).collect();
    assert!(used.iter().all(|used| *used <= UNITS), "{used:?} of {UNITS} each");
    assert_eq!(used.iter().sum::<u64>(), granted.into_inner(), "{used:?}");
    // What others hold may deny the last units of a reservation: two for each thread.
    assert!(used[0] > UNITS / 2 && used[1] >= UNITS - 2 * 16, "{used:?} of {UNITS} each");
    assert!(balances.iter().all(|balance| balance.overage == 0 && balance.held == 0), "{balances:?}");
}

#[test]
fn threads_that_meet_at_the_end_of_a_window_grant_no_more_than_each_window_has() {
    let consume = |quota: &blocking::Quota| quota.consume("ana", &[("jobs", 1)]).unwrap().allowed;
    let reserve = |quota: &blocking::Quota| {
        let reserved = quota.reserve("ana", &[("jobs", 2)], Duration::from_secs(60)).unwrap();
        reserved.is_ok_and(|reservation| reservation.commit(&[("jobs", 1)]).unwrap().consumed("jobs") == 1)
    };
    let on_both = |store: Arc<dyn Store>, other: Arc<dyn Store>| {
        over_the_end_of_a_minute(&store, consume);
        over_the_end_of_a_minute(&other, reserve);
    };
    for _ in 0..10 {
        on_both(Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
    }
    #[cfg(feature = "sqlite")]
    {
        use quotum::store::{Durability, SqliteOptions};
        let folder = tempfile::tempdir().unwrap();
        let open = |name| SqliteOptions::at(folder.path().join(name)).durability(Durability::Normal).open().unwrap();
        on_both(Arc::new(open("consume.db")), Arc::new(open("reserve.db")));
    }
}
