//! What an engine does while its server is away: it says so, in time, or grants what the plan allows without it; and what
//! it has granted so is charged once, as soon as the server is back.

#![cfg(any(feature = "postgres", feature = "redis"))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

mod servers;

use std::cell::RefCell;
use std::time::{Duration, Instant};

use quotum::blocking::Quota;
use quotum::store::BreakerOptions;
use quotum::{Decision, Plans, Reason};
use servers::{Cut, Proxy};

const PLANS: &str = "
default_plan = 'free'
[plans.free]
quotas = { jobs = '100/total', calls = '100/total' }
allow_degraded = { jobs = 3 }
";

/// How long the engine waits for the server, and for how long a test is content to see it wait: less than twice that, so
/// that two waits in a row are seen.
const TIMEOUT: Duration = Duration::from_millis(1_000);
const IN_TIME: Duration = Duration::from_millis(1_900);

fn open(url: &str) -> Quota {
    let second = Duration::from_secs(1);
    let breaker = BreakerOptions { failures: 3, cool_down: second / 10, cool_down_max: second };
    let builder = Quota::builder().plans(Plans::from_toml(PLANS).unwrap());
    builder.store_timeout(TIMEOUT).breaker(breaker).open(url).unwrap()
}

/// Asks for one unit, and sees that the answer comes in time.
#[track_caller]
fn consume(quota: &Quota, metric: &str) -> Decision {
    let began = Instant::now();
    let decision = quota.consume("ana", &[(metric, 1)]).unwrap();
    assert!(began.elapsed() < IN_TIME, "after {:?}: {decision:?}", began.elapsed());
    decision
}

fn is_unavailable(decision: &Decision) -> bool {
    decision.denied.as_ref().is_some_and(|denial| denial.reason == Reason::StoreUnavailable)
}

/// Units used of the jobs, and consumed beyond the limit.
fn jobs(quota: &Quota) -> (u64, u64) {
    let usage = quota.usage("ana").unwrap();
    let state = usage.quotas.iter().find(|state| &*state.metric == "jobs").unwrap();
    (state.used, state.overage)
}

fn outlive(name: &str, quota: &Quota, stop: impl FnOnce(), start: impl FnOnce()) {
    for _ in 0..2 {
        assert!(consume(quota, "jobs").allowed && consume(quota, "calls").allowed);
    }
    stop();
    for _ in 0..3 {
        let decision = consume(quota, "jobs");
        assert!(decision.allowed && decision.degraded, "{decision:?}");
    }
    assert!(is_unavailable(&consume(quota, "jobs")), "no more than the plan allows without the server");
    assert!(is_unavailable(&consume(quota, "calls")), "nothing of what it does not name");
    let began = Instant::now();
    let mut kept_away = 0;
    for _ in 0..20 {
        let denied = consume(quota, "calls");
        assert!(is_unavailable(&denied), "{denied:?}");
        let cause = denied.denied.unwrap().cause.unwrap_or_default();
        kept_away += u32::from(cause.contains("is not asked for another"));
    }
    assert!(kept_away >= 10, "{kept_away} of 20 requests did not bother the server");
    println!("{name}: twenty requests were denied within {:.1?}", began.elapsed());
    start();
    let began = Instant::now();
    while !consume(quota, "calls").allowed {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not recover");
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("{name}: a request was granted {:.1?} after the server was back", began.elapsed());
    while jobs(quota) != (5, 0) {
        assert!(began.elapsed() < Duration::from_secs(20), "{:?} jobs are charged", jobs(quota));
        std::thread::sleep(Duration::from_millis(5));
        // Whoever asks for something has the debt charged first.
        let _asked = quota.check("ana", &[("jobs", 1)]).unwrap();
    }
    println!("{name}: what was granted without it was charged after {:.1?}", began.elapsed());
    let decision = consume(quota, "jobs");
    assert!(decision.allowed && !decision.degraded, "{decision:?}");
    assert_eq!(jobs(quota), (6, 0));
}

/// An answer that comes late is not waited for, and what was asked for may have been done: nothing else is in doubt.
fn outlive_silence(proxy: &Proxy, quota: &Quota) {
    assert!(consume(quota, "calls").allowed);
    proxy.at_next_request(Cut::Delay(TIMEOUT * 3));
    let denied = consume(quota, "calls");
    assert!(is_unavailable(&denied), "{denied:?}");
    let began = Instant::now();
    while !consume(quota, "jobs").allowed {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not recover");
    }
    std::thread::sleep(TIMEOUT * 3);
    let usage = quota.usage("ana").unwrap();
    let calls = usage.quotas.iter().find(|state| &*state.metric == "calls").unwrap().used;
    assert!((1..=2).contains(&calls), "{calls} calls are charged of one that was granted and one that is in doubt");
}

#[cfg(feature = "postgres")]
#[test]
fn an_engine_outlives_its_postgres() {
    let server = RefCell::new(servers::Postgres::start());
    let quota = open(&server.borrow().url());
    outlive("postgres", &quota, || server.borrow_mut().kill(), || server.borrow_mut().run());
}

#[cfg(feature = "redis")]
#[test]
fn an_engine_outlives_its_redis() {
    let server = RefCell::new(servers::Redis::start_durable());
    let quota = open(&server.borrow().url());
    outlive("redis", &quota, || server.borrow_mut().kill(), || server.borrow_mut().run());
}

#[cfg(feature = "postgres")]
#[test]
fn a_postgres_that_is_silent_is_waited_for_no_longer_than_the_timeout() {
    let server = servers::Postgres::start_hasty();
    let proxy = Proxy::start(server.upstream());
    outlive_silence(&proxy, &open(&format!("postgres://quotum@{}/postgres?connections=1", proxy.address())));
}

#[cfg(feature = "redis")]
#[test]
fn a_redis_that_is_silent_is_waited_for_no_longer_than_the_timeout() {
    let server = servers::Redis::start();
    let proxy = Proxy::start(server.upstream());
    outlive_silence(&proxy, &open(&format!("redis://{}", proxy.address())));
}
