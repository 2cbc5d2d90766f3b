//! Rates that are counted in the store, for all engines on it.

#![cfg(feature = "faults")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use quotum::blocking::Quota;
use quotum::store::{Fault, Faults, Layered, MemoryStore};
use quotum::{ManualClock, Plans, Reason, Request};

const PLANS: &str = "
    default_plan = 'free'
    [rates]
    login = { limits = '3/minute', shared = true }
    local = '3/minute'
    [plans.free]
    rates = { api = { limits = ['10/minute', '15/hour'], shared = true } }
    [plans.pro]
    rank = 1
    rate_multiplier = 10
    rates = { api = { limits = ['10/minute', '15/hour'], shared = true } }
";

struct Shop {
    store: Arc<Layered<Faults>>,
    clock: Arc<ManualClock>,
}

impl Shop {
    fn new() -> Self {
        let store = Arc::new(Layered::new(Arc::new(MemoryStore::new()), Faults::seeded(1)));
        Self { store, clock: Arc::new(ManualClock::at("2026-03-10T12:00:00Z".parse().unwrap())) }
    }

    fn engine(&self) -> Quota {
        let builder = Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).clock(self.clock.clone());
        builder.open_on(self.store.clone()).unwrap()
    }
}

#[test]
fn engines_share_one_allowance_and_local_rates_are_each_ones_own() {
    let shop = Shop::new();
    let engines = [shop.engine(), shop.engine()];
    let passed = |scope: &str| -> usize {
        let ask = |round: usize| engines[round % 2].rate(scope, "203.0.113.7".into(), 1).unwrap().allowed;
        (0..20).filter(|round| ask(*round)).count()
    };
    assert_eq!((passed("login"), passed("local")), (3, 6));
    let denied = engines[1].rate("login", "203.0.113.7".into(), 1).unwrap();
    assert_eq!(denied.retry_after, Some(Duration::from_secs(20)));
    shop.clock.advance(Duration::from_secs(20));
    assert!(engines[1].rate("login", "203.0.113.7".into(), 1).unwrap().allowed);
    assert!(!engines[0].rate("login", "203.0.113.7".into(), 1).unwrap().allowed);
}

#[test]
fn what_a_store_has_counted_is_not_given_back_and_what_memory_has_is() {
    let quota = Shop::new().engine();
    assert!(quota.rate("local", "ana".into(), 3).unwrap().allowed);
    assert_eq!(quota.refund_rate("local", "ana".into(), 2).unwrap().windows()[0].remaining, 2);
    let refused = quota.refund_rate("login", "ana".into(), 1).unwrap_err().to_string();
    assert!(refused.starts_with("argument `scope`: found \"login\", which is shared, expected"), "{refused}");
    assert!(quota.refund_rate("local", "ana".into(), 0).unwrap_err().to_string().starts_with("argument `cost`"));
    assert!(quota.refund_rate("nowhere", "ana".into(), 1).is_err());
}

#[test]
fn a_request_with_a_shared_rate_passes_all_of_its_windows_or_takes_nothing() {
    let shop = Shop::new();
    let engines = [shop.engine(), shop.engine()];
    let request = Request::by("ana").rate_for("api", "ana".into(), 4);
    for (round, passes) in [true, true, false, false].into_iter().enumerate() {
        let decision = engines[round % 2].admit(&request).unwrap();
        assert_eq!(decision.allowed, passes, "{round}: {decision:?}");
    }
    let denied = engines[0].admit(&request).unwrap();
    let denial = denied.denied.unwrap();
    assert_eq!((denial.reason, denial.window_s, denial.retry_after_ms), (Reason::RateLimited, Some(60), Some(12_000)));
    assert_eq!(denial.upgrade_to.as_deref(), Some("pro"));
    assert_eq!(denied.rates[0].window.remaining, 2);
    shop.clock.advance(Duration::from_secs(12));
    assert!(engines[1].admit(&Request::by("ana").rate_for("api", "ana".into(), 4)).unwrap().allowed);
}

#[test]
fn a_cleared_key_has_its_whole_allowance_in_every_engine() {
    let shop = Shop::new();
    let engines = [shop.engine(), shop.engine()];
    while engines[0].rate("login", "ana".into(), 1).unwrap().allowed {}
    engines[1].clear_rates("ana".into()).unwrap();
    assert!(engines[0].rate("login", "ana".into(), 3).unwrap().allowed);
}

#[test]
fn while_the_store_is_away_each_engine_counts_by_itself() {
    let shop = Shop::new();
    let engines = [shop.engine(), shop.engine()];
    shop.store.layer().break_all(Fault::Refuse);
    for engine in &engines {
        let passed = (0..10).filter(|_| engine.rate("login", "ana".into(), 1).unwrap().allowed).count();
        assert_eq!(passed, 3);
    }
    shop.store.layer().heal();
    shop.clock.advance(Duration::from_secs(60));
    let passed = (0..10).filter(|round| engines[round % 2].rate("login", "ana".into(), 1).unwrap().allowed).count();
    assert_eq!(passed, 3, "together again");
}
