//! Settings at their extremes: the least memory, and the shortest and the longest times.

#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use quotum::blocking::{Builder, Quota};
use quotum::token::{Authenticated, Identity, TokenCacheOptions, blocking_verifier};
use quotum::{ManualClock, Plans};

const PLANS: &str = "
default_plan = 'free'
[plans.free]
quotas = { jobs = '3/day' }
allow_degraded = { jobs = 3 }
";

fn builder() -> (Builder, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at("2026-03-10T15:00:00Z".parse().unwrap()));
    (Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).clock(clock.clone()), clock)
}

/// Everything that a duration is added to somewhere.
#[test]
fn an_engine_works_with_the_longest_and_the_shortest_times() {
    for time in [Duration::MAX, Duration::ZERO] {
        for in_memory in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let url = format!("sqlite:{}", folder.path().join("quota.db").display());
            let (builder, clock) = builder();
            let verifier = blocking_verifier(|token| Ok(token.strip_prefix("key-of-").map(Identity::of)));
            let quota = builder
                .catalog_ttl(time)
                .subscription_ttl(time)
                .feed_interval(time)
                .idempotency_ttl(time)
                .verifier(verifier)
                .token_cache(TokenCacheOptions::new().ttl(time).refusal_ttl(time))
                .tokens_in_store(true)
                // A store that had no time at all could do nothing.
                .store_timeout(time.max(Duration::from_secs(5)))
                .open(if in_memory { "memory:" } else { &url })
                .unwrap();
            for second in 0..3 {
                let told = format!("{time:?} {url} {second}");
                assert!(matches!(quota.authenticate("key-of-ana").unwrap(), Authenticated::Known(_)), "{told}");
                assert!(matches!(quota.authenticate("guessed").unwrap(), Authenticated::Refused), "{told}");
                let subject = format!("subject-{second}");
                assert!(quota.consume(&subject, &[("jobs", 1)]).unwrap().allowed, "{told}");
                let once = || quota.consume_once(&subject, &[("jobs", 1)], "key").unwrap();
                assert!(!once().repeated, "{told}");
                // What is remembered for no time at all is done again.
                assert_eq!(once().repeated, time == Duration::MAX, "{told}");
                let reserved = quota.reserve(&format!("other-{second}"), &[("jobs", 3)], Duration::from_secs(60));
                assert_eq!(reserved.unwrap().unwrap().commit(&[("jobs", 2)]).unwrap().consumed("jobs"), 2, "{told}");
                clock.advance(Duration::from_secs(1));
            }
            quota.close().unwrap();
        }
    }
}

#[cfg(all(feature = "metrics", feature = "faults"))]
#[test]
fn a_subject_that_is_crowded_out_of_memory_gets_nothing_afresh() {
    use quotum::store::{Fault, FaultRule, Faults, Layered, MemoryStore, Step};
    use quotum::{Overrides, Reason};

    let store = Arc::new(Layered::new(Arc::new(MemoryStore::new()), Faults::seeded(1)));
    let quota = builder().0.records_max(64).breaker(None).open_on(store.clone()).unwrap();
    let consume = |subject: &str, units| quota.consume(subject, &[("jobs", units)]).unwrap();
    let flood = || (0..10_000).for_each(|other| assert!(consume(&format!("other-{other}"), 7).denied.is_some()));
    let records = || {
        let page = quota.metrics();
        let line = page.lines().find_map(|line| line.strip_prefix("quotum_subject_records ")).unwrap();
        line.parse::<u64>().unwrap()
    };
    let mut overrides = Overrides::default();
    overrides.quotas.insert("jobs".to_owned(), vec!["5/day".parse().unwrap()]);
    quota.set_overrides("bob", overrides).unwrap();
    assert!(consume("ana", 3).allowed && consume("bob", 4).allowed);
    flood();
    assert!(records() <= 64, "{}", records());
    assert_eq!(consume("ana", 1).denied.unwrap().reason, Reason::QuotaExhausted);
    assert!(consume("bob", 1).allowed && !consume("bob", 1).allowed, "five, and not three");

    // Known again by its subscription, but still owing what it owed.
    store.layer().plant(FaultRule::new(Fault::Refuse).on(&[Step::Charge, Step::Adjust, Step::Balances]));
    assert!(consume("cat", 2).degraded);
    flood();
    assert_eq!(consume("cat", 2).denied.unwrap().reason, Reason::StoreUnavailable);
    assert!(consume("cat", 1).degraded);

    // Nothing is known of whom the store cannot be asked about.
    flood();
    store.layer().break_all(Fault::Refuse);
    for subject in ["ana", "bob", "cat"] {
        let denied = consume(subject, 1);
        assert_eq!((denied.denied.unwrap().reason, denied.plan), (Reason::StoreUnavailable, None), "{subject}");
    }
}
