//! Leased quotas on a store that fails: what is leased is granted on, and nothing is granted twice.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quotum::blocking::Quota;
use quotum::store::{Call, CounterKey, Fault, FaultRule, Faults, Layered, MemoryStore, Step, Store, Wait};
use quotum::{Clock, ManualClock, Period, Plans, Reason, Timestamp};

const PLANS: &str = "
    default_plan = 'free'
    [plans.free]
    quotas = { tokens = '20000/month' }
    lease = { tokens = { ttl_s = 2 } }
";

/// 2026-03-01T00:00:00Z.
const MARCH_S: i64 = 1_772_323_200;

/// What ana has used by the store itself, and what is held.
fn used_and_held(store: &dyn Store, now: Timestamp) -> (u64, u64) {
    let key = CounterKey::of("ana", "tokens", Period::Month, MARCH_S);
    let balances = pollster::block_on(store.balances(Call::new(now, Wait::Block), &[key])).unwrap();
    (balances[0].used, balances[0].held)
}

#[test]
fn a_block_is_granted_from_while_the_store_is_away_and_no_longer_than_it_lasts() {
    let store = Arc::new(Layered::new(Arc::new(MemoryStore::new()), Faults::seeded(1)));
    let clock = Arc::new(ManualClock::at("2026-03-10T15:00:00Z".parse().unwrap()));
    let builder = Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).clock(clock.clone());
    let quota = builder.store_timeout(Duration::from_millis(100)).open_on(store.clone()).unwrap();
    let mut granted = 0;
    while granted < 200 {
        assert!(quota.consume("ana", &[("tokens", 1)]).unwrap().allowed);
        granted += 1;
        std::thread::sleep(Duration::from_micros(200));
    }
    store.layer().break_all(Fault::Refuse);
    for _ in 0..20 {
        let decision = quota.consume("ana", &[("tokens", 1)]).unwrap();
        assert!(decision.allowed && !decision.degraded, "{decision:?}");
        granted += 1;
    }
    clock.advance(Duration::from_millis(1_400));
    let denied = quota.consume("ana", &[("tokens", 1)]).unwrap().denied.unwrap();
    assert_eq!(denied.reason, Reason::StoreUnavailable);
    store.layer().heal();
    // In time for the block to be settled.
    clock.advance(Duration::from_millis(300));
    let began = Instant::now();
    while used_and_held(&*store, clock.wall()) != (granted, 0) {
        assert!(began.elapsed() < Duration::from_secs(10), "{:?} of {granted}", used_and_held(&*store, clock.wall()));
        std::thread::sleep(Duration::from_millis(20));
        // The pause after a failure passes, and no lease ends.
        clock.advance(Duration::from_micros(200));
    }
}

#[test]
fn answers_that_are_lost_and_steps_that_fail_grant_nothing_twice() {
    let mut replies_lost = 0;
    for seed in 0..6 {
        let faults = Faults::seeded(seed);
        let steps = [Step::Lease, Step::Settle, Step::Charge];
        faults.plant(FaultRule::new(Fault::Refuse).on(&steps).per_mille(100));
        faults.plant(FaultRule::new(Fault::LoseReply).on(&steps[..2]).per_mille(400));
        let store = Arc::new(Layered::new(Arc::new(MemoryStore::new()), faults));
        let granted = AtomicU64::new(0);
        let engines: Vec<Quota> = (0..3)
            .map(|_| {
                let builder = Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).breaker(None);
                builder.open_on(store.clone()).unwrap()
            })
            .collect();
        std::thread::scope(|scope| {
            for quota in &engines {
                let granted = &granted;
                scope.spawn(move || {
                    let began = Instant::now();
                    while began.elapsed() < Duration::from_millis(700) {
                        let cost = 1 + granted.load(Ordering::Relaxed) % 5;
                        if quota.consume("ana", &[("tokens", cost)]).unwrap().allowed {
                            granted.fetch_add(cost, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        store.layer().heal();
        let granted = granted.into_inner();
        assert!((1..=20_000).contains(&granted), "{granted}");
        for quota in engines {
            quota.close().unwrap();
        }
        let quota = Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).open_on(store.clone()).unwrap();
        let state = &quota.usage("ana").unwrap().quotas[0];
        assert_eq!((state.used, state.stranded), (granted, 0), "seed {seed}: {:?}", store.layer().counts());
        replies_lost += store.layer().counts().replies_lost;
    }
    assert!(replies_lost > 0);
}
