//! Leased quotas: granted from memory, never beyond the limit, and nothing lost that can be returned.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quotum::blocking::Quota;
use quotum::store::{Call, Layer, Layered, MemoryStore, Step, Store, StoreFuture};
use quotum::{Clock, Limit, ManualClock, Plans, Reason};

/// Counts the steps of a store that charge.
#[derive(Debug, Default)]
struct Counting {
    charges: AtomicU64,
    leases: AtomicU64,
    settles: AtomicU64,
}

#[derive(Debug, Clone, Default)]
struct Counted(Arc<Counting>);

impl Layer for Counted {
    fn around<'a, T: Send + 'a>(&'a self, _: Call, step: Step, inner: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        let counter = match step {
            Step::Charge => &self.0.charges,
            Step::Lease => &self.0.leases,
            Step::Settle => &self.0.settles,
            _ => return inner,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        inner
    }
}

impl Counting {
    fn charges(&self) -> u64 {
        self.charges.load(Ordering::Relaxed)
    }
}

const PLANS: &str = r#"
    default_plan = "free"
    [plans.free]
    quotas = { tokens = "10000/month", jobs = "1000/day", calls = ["5000/day", "20000/month"] }
    lease = { tokens = {}, jobs = {}, calls = { max = 400, ttl_s = 30 } }
    [plans.team]
    rank = 1
    quotas = { tokens = "50000/month" }
    member_quotas = { tokens = "2000/month" }
    lease = { tokens = {} }
"#;

/// Engines on one store in memory, with a clock of their own.
struct Shop {
    store: Arc<dyn Store>,
    steps: Arc<Counting>,
    clock: Arc<ManualClock>,
}

impl Shop {
    fn new() -> Self {
        let steps = Counted::default();
        let counting = Arc::clone(&steps.0);
        Self {
            store: Arc::new(Layered::new(Arc::new(MemoryStore::new()), steps)),
            steps: counting,
            clock: Arc::new(ManualClock::at("2026-03-10T12:00:00Z".parse().unwrap())),
        }
    }

    fn engine(&self) -> Quota {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).clock(clock).open_on(Arc::clone(&self.store)).unwrap()
    }
}

/// Consumes one unit at a time until something holds, for ten seconds at the most.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn used(quota: &Quota, subject: &str, metric: &str) -> u64 {
    let usage = quota.usage(subject).unwrap();
    usage.quotas.iter().find(|state| *state.metric == *metric).unwrap().used
}

#[test]
fn a_busy_subject_is_granted_from_memory_and_everything_is_counted() {
    let shop = Shop::new();
    let quota = shop.engine();
    for unit in 1..=3_000 {
        let decision = quota.consume("ana", &[("tokens", 1)]).unwrap();
        assert!(decision.allowed, "{unit}");
        assert_eq!(decision.quotas[0].limit, Limit::Units(10_000));
        assert_eq!((decision.quotas[0].used, decision.quotas[0].remaining), (unit, Some(10_000 - unit)), "{unit}");
        if unit % 100 == 0 {
            shop.clock.advance(Duration::from_millis(50));
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    assert!(shop.steps.charges() < 1_000, "{:?}", shop.steps);
    assert_eq!(used(&quota, "ana", "tokens"), 3_000, "what is not settled yet counts here");
    let other = shop.engine();
    let state = &other.usage("ana").unwrap().quotas.iter().find(|state| &*state.metric == "tokens").unwrap().clone();
    assert!(state.stranded > 0 && state.leased == state.stranded, "{state:?}");
    assert!(state.used + state.stranded >= 3_000, "{state:?}");
    quota.close().unwrap();
    shop.clock.advance(Duration::from_secs(2));
    let state = &other.usage("ana").unwrap().quotas.iter().find(|state| &*state.metric == "tokens").unwrap().clone();
    assert_eq!((state.used, state.held, state.leased, state.stranded), (3_000, 0, 0, 0), "returned at the end");
}

#[test]
fn a_leased_quota_ends_exactly_at_its_limit() {
    let shop = Shop::new();
    let quota = shop.engine();
    let mut granted = 0;
    let denied = loop {
        let decision = quota.consume("ana", &[("tokens", 7)]).unwrap();
        if !decision.allowed {
            break decision;
        }
        granted += 7;
        if granted % 700 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    assert_eq!(granted, 9_996);
    assert_eq!(denied.denied.unwrap().reason, Reason::QuotaExhausted);
    assert!(quota.consume("ana", &[("tokens", 4)]).unwrap().allowed);
    assert!(!quota.consume("ana", &[("tokens", 1)]).unwrap().allowed);
    assert_eq!(used(&quota, "ana", "tokens"), 10_000);
    assert!(shop.steps.leases.load(Ordering::Relaxed) > 0);
    assert!(shop.steps.charges() < 1_400, "{:?}", shop.steps);
}

#[test]
fn limits_of_up_to_a_thousand_are_exact() {
    let shop = Shop::new();
    let quota = shop.engine();
    for _ in 0..1_000 {
        assert!(quota.consume("ana", &[("jobs", 1)]).unwrap().allowed);
    }
    assert!(!quota.consume("ana", &[("jobs", 1)]).unwrap().allowed);
    assert_eq!((shop.steps.leases.load(Ordering::Relaxed), shop.steps.charges()), (0, 1_001));
}

#[test]
fn engines_that_share_a_quota_never_grant_more_than_the_limit() {
    let shop = Shop::new();
    let engines: Vec<Quota> = (0..4).map(|_| shop.engine()).collect();
    let granted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for quota in &engines {
            let granted = &granted;
            scope.spawn(move || {
                let mut denials = 0;
                while denials < 3 {
                    match quota.consume("ana", &[("tokens", 1)]).unwrap().allowed {
                        true => drop(granted.fetch_add(1, Ordering::Relaxed)),
                        false => denials += 1,
                    }
                }
            });
        }
    });
    let at_first = granted.load(Ordering::Relaxed);
    assert!(at_first <= 10_000, "{at_first}");
    assert!(at_first >= 9_900, "{at_first}: more than one in a hundred is stranded");
    // Once all have returned what they had, the rest can be used.
    let [first, others @ ..] = &engines[..] else { unreachable!() };
    shop.clock.advance(Duration::from_secs(6));
    for quota in others {
        drop(quota.clone().close());
    }
    until("the rest is granted", || {
        while first.consume("ana", &[("tokens", 1)]).unwrap().allowed {
            granted.fetch_add(1, Ordering::Relaxed);
        }
        shop.clock.advance(Duration::from_secs(1));
        granted.load(Ordering::Relaxed) == 10_000
    });
    assert_eq!(used(first, "ana", "tokens"), 10_000);
}
