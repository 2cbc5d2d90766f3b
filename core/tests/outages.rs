//! An engine whose store fails, hangs, panics and comes back.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use pollster::block_on;
use quotum::blocking::{Quota, Reservation};
use quotum::store::{Fault, FaultRule, Faults, Layered, MemoryStore, Step};
use quotum::{
    Clock, Decision, Enforcement, Error, Event, EventName, EventQuery, ManualClock, Plans, Reason, Request,
    Subscription,
};

const PLANS: &str = "
default_plan = 'free'
[plans.free]
quotas = { jobs = '10/day', calls = '10/day' }
allow_degraded = { jobs = 3 }
[plans.pro]
rank = 1
quotas = { jobs = '100/day', calls = '100/day' }
";

/// How long the engine waits for the store, and for how long a test is content to see it wait: less than
/// twice that, so that two waits in a row are seen.
const TIMEOUT: Duration = Duration::from_millis(300);
const IN_TIME: Duration = Duration::from_millis(590);

struct Backend {
    store: Arc<Layered<Faults>>,
    clock: Arc<ManualClock>,
    quota: Quota,
}

fn open() -> Backend {
    let store = Arc::new(Layered::new(Arc::new(MemoryStore::new()), Faults::seeded(1)));
    let clock = Arc::new(ManualClock::at("2026-03-10T15:00:00Z".parse().unwrap()));
    let quota = open_on(&store, &clock);
    Backend { store, clock, quota }
}

fn open_on(store: &Arc<Layered<Faults>>, clock: &Arc<ManualClock>) -> Quota {
    let builder = Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).clock(clock.clone());
    builder.store_timeout(TIMEOUT).open_on(store.clone()).unwrap()
}

impl Backend {
    fn faults(&self) -> &Faults {
        self.store.layer()
    }

    fn consume(&self, subject: &str, metric: &str, units: u64) -> Decision {
        self.quota.consume(subject, &[(metric, units)]).unwrap()
    }

    fn reserve(&self, subject: &str, units: u64, key: Option<&str>) -> Reservation {
        let (costs, ttl) = ([("jobs", units)], Duration::from_secs(60));
        let reserved = match key {
            Some(key) => self.quota.reserve_once(subject, &costs, ttl, key),
            None => self.quota.reserve(subject, &costs, ttl),
        };
        reserved.unwrap().unwrap()
    }

    /// Heals the store, and lets the breaker's cool-down pass.
    fn heal(&self) {
        self.faults().heal();
        self.clock.advance(Duration::from_secs(31));
    }

    /// Units used and overage of the day's jobs.
    fn jobs(&self, subject: &str) -> (u64, u64) {
        let usage = self.quota.usage(subject).unwrap();
        let state = usage.quotas.iter().find(|state| &*state.metric == "jobs").unwrap();
        (state.used, state.overage)
    }
}

#[track_caller]
fn unavailable(decision: &Decision) -> &str {
    let denial = decision.denied.as_ref().unwrap();
    assert_eq!(denial.reason, Reason::StoreUnavailable, "{denial}");
    assert!(denial.retry_after_ms.is_some());
    denial.cause.as_deref().unwrap()
}

/// Asks from a synchronous caller and from a task, and measures the time that an answer took.
fn timed(backend: &Backend, subject: &str, metric: &str) -> [(Decision, Duration); 2] {
    let begin = Instant::now();
    let blocking = backend.consume(subject, metric, 1);
    let between = Instant::now();
    let yielding = block_on(backend.quota.to_async().consume(subject, &[(metric, 1)])).unwrap();
    [(blocking, between - begin), (yielding, between.elapsed())]
}

#[test]
fn a_store_that_hangs_is_waited_for_no_longer_than_the_timeout_and_then_not_at_all() {
    let backend = open();
    assert!(backend.consume("ana", "calls", 1).allowed);
    // Everything is stale: the log, the subscription, the plans. Each would be waited for on its own.
    backend.clock.advance(Duration::from_secs(3_600));
    backend.faults().break_all(Fault::Hang);
    for (decision, took) in timed(&backend, "ana", "calls") {
        assert!(unavailable(&decision).starts_with("the store did not answer within 300 ms"), "{decision:?}");
        assert!(took >= TIMEOUT && took < IN_TIME, "{took:?}");
    }
    for _ in 0..5 {
        unavailable(&backend.consume("bob", "calls", 1));
    }
    let before = backend.faults().counts();
    for (decision, took) in timed(&backend, "ana", "calls") {
        assert!(unavailable(&decision).contains("after it failed repeatedly"), "{decision:?}");
        assert!(took < TIMEOUT / 2, "{took:?}");
        assert!(decision.denied.unwrap().retry_after_ms.unwrap() <= 1_000);
    }
    assert_eq!(backend.faults().counts(), before);
    backend.faults().heal();
    backend.clock.advance(Duration::from_secs(1));
    assert!(backend.consume("ana", "calls", 1).allowed, "it recovers by itself");
    assert!(backend.consume("bob", "calls", 1).allowed);
}

#[test]
fn who_owes_something_waits_no_longer_than_others() {
    let backend = open();
    assert!(backend.consume("ana", "jobs", 1).allowed);
    backend.faults().break_all(Fault::Refuse);
    assert!(backend.consume("ana", "jobs", 3).degraded);
    backend.faults().break_all(Fault::Hang);
    for (decision, took) in timed(&backend, "ana", "jobs") {
        unavailable(&decision);
        assert!(took < IN_TIME, "{took:?}");
    }
}

#[test]
fn an_engine_opens_on_a_store_that_hangs() {
    let backend = open();
    backend.faults().break_all(Fault::Hang);
    let begin = Instant::now();
    let late = open_on(&backend.store, &backend.clock);
    assert!(begin.elapsed() < IN_TIME, "{:?}", begin.elapsed());
    unavailable(&late.consume("ana", &[("jobs", 1)]).unwrap());
    backend.heal();
    assert!(late.consume("ana", &[("jobs", 1)]).unwrap().allowed);
}

#[test]
fn without_the_store_a_known_subject_gets_what_its_plan_allows_and_owes_it() {
    let backend = open();
    assert!(backend.consume("ana", "jobs", 5).allowed);
    backend.faults().break_all(Fault::Refuse);
    for units in [1, 1] {
        let decision = backend.consume("ana", "jobs", units);
        assert!(decision.allowed && decision.degraded, "{decision:?}");
    }
    unavailable(&backend.consume("ana", "jobs", 2));
    assert!(backend.consume("ana", "jobs", 1).degraded);
    unavailable(&backend.consume("ana", "jobs", 1));
    unavailable(&backend.consume("ana", "calls", 1));
    unavailable(&backend.quota.consume("ana", &[("jobs", 1), ("calls", 1)]).unwrap());
    backend.heal();
    let decision = backend.consume("ana", "jobs", 1);
    assert!(decision.allowed && !decision.degraded);
    assert_eq!(decision.quota("jobs").unwrap().used, 5 + 3 + 1);
    assert_eq!(backend.jobs("ana"), (9, 0));
    let charged = EventQuery { name: Some(EventName::UsageAdjusted), ..EventQuery::changes() };
    assert_eq!(backend.quota.events(&charged).unwrap().len(), 1, "the three were charged as one");
    // Paid, it may be owed again.
    backend.faults().break_all(Fault::Refuse);
    assert!(backend.consume("ana", "jobs", 3).degraded);
}

/// A store that is passed over for a week must not go unnoticed.
#[test]
fn what_is_done_without_the_store_is_told_with_its_cause() {
    let (store, clock) = {
        let Backend { store, clock, .. } = open();
        (store, clock)
    };
    let (told, heard) = channel();
    let builder = Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).clock(clock.clone());
    let quota = builder.on_event(move |event| told.send(event.clone()).unwrap()).open_on(store.clone()).unwrap();
    let consume = |metric| quota.consume("ana", &[(metric, 1)]).unwrap();
    assert!(consume("jobs").allowed);
    store.layer().break_all(Fault::Refuse);
    assert!(consume("jobs").degraded);
    unavailable(&consume("calls"));
    assert!(quota.check("ana", &[("jobs", 1)]).unwrap().degraded);
    assert!(quota.set_enforcement(Some("calls"), Enforcement::Shadow).is_err(), "but in force");
    assert!(consume("calls").allowed);
    assert_measured(&quota, [("degraded_grants_total", 1), ("store_errors_total", 4), ("debtors", 1)]);
    store.layer().heal();
    clock.advance(Duration::from_secs(31));
    assert!(consume("jobs").allowed);
    assert_measured(&quota, [("degraded_grants_total", 1), ("store_errors_total", 4), ("debtors", 0)]);
    drop(quota);

    let of_outage = |event: &Event| matches!(event.name, EventName::DegradedGrant | EventName::QuotaCheckError);
    let told: Vec<Event> = heard.iter().filter(of_outage).collect();
    let expected = [
        (EventName::DegradedGrant, "jobs", "allow"),
        (EventName::QuotaCheckError, "calls", "deny"),
        (EventName::QuotaCheckError, "jobs", "allow"),
        (EventName::QuotaCheckError, "calls", "allow"),
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for (event, (name, metric, fallback)) in told.iter().zip(expected) {
        let who = (event.subject.as_deref(), event.plan.as_deref());
        assert_eq!((event.name, event.metric.as_deref(), who), (name, Some(metric), (Some("ana"), Some("free"))));
        let detail = event.detail.as_ref().unwrap();
        assert_eq!((&detail["fallback_applied"], &detail["units"][metric]), (&fallback.into(), &1.into()), "{event:?}");
        assert!(detail["cause"].as_str().unwrap().contains("planted"), "{event:?}");
    }
}

#[cfg(feature = "metrics")]
#[track_caller]
fn assert_measured(quota: &Quota, expected: [(&str, u64); 3]) {
    let page = quota.metrics();
    for (name, value) in expected {
        let line = format!("quotum_{name} {value}");
        assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
    }
}

#[cfg(not(feature = "metrics"))]
fn assert_measured(_: &Quota, _: [(&str, u64); 3]) {}

#[test]
fn what_is_owed_is_charged_once_though_the_answer_is_lost() {
    for fault in [Fault::LoseReply, Fault::HangAfter] {
        let backend = open();
        assert!(backend.consume("ana", "jobs", 2).allowed);
        backend.faults().break_all(Fault::Refuse);
        assert!(backend.consume("ana", "jobs", 3).degraded);
        backend.faults().heal();
        backend.faults().plant(FaultRule::new(fault).on(&[Step::Adjust]).times(2));
        for _ in 0..2 {
            unavailable(&backend.consume("ana", "jobs", 1));
        }
        assert!(backend.consume("ana", "jobs", 1).allowed);
        assert_eq!(backend.jobs("ana"), (6, 0), "{fault:?}");
        backend.clock.advance(Duration::from_secs(60));
        assert_eq!(backend.jobs("ana"), (6, 0), "{fault:?}");
    }
}

#[test]
fn what_is_owed_and_does_not_fit_is_overage() {
    let backend = open();
    assert!(backend.consume("ana", "jobs", 9).allowed);
    backend.faults().break_all(Fault::Refuse);
    assert!(backend.consume("ana", "jobs", 3).degraded);
    backend.heal();
    let denial = backend.consume("ana", "jobs", 1).denied.unwrap();
    assert_eq!(denial.reason, Reason::QuotaExhausted);
    assert_eq!(backend.jobs("ana"), (10, 2));
}

#[test]
fn what_is_owed_is_charged_though_its_subject_never_asks_again() {
    let backend = open();
    assert!(backend.consume("ana", "jobs", 1).allowed);
    backend.faults().break_all(Fault::Refuse);
    assert!(backend.consume("ana", "jobs", 2).degraded);
    backend.heal();
    assert!(backend.consume("bob", "calls", 1).allowed);
    let elsewhere = open_on(&backend.store, &backend.clock);
    assert_eq!(elsewhere.usage("ana").unwrap().quotas.iter().map(|state| state.used).max(), Some(3));
}

/// To look is not to consume: it must use up nothing of what may be owed.
#[test]
fn to_check_without_the_store_owes_nothing() {
    let backend = open();
    assert!(backend.consume("ana", "jobs", 1).allowed);
    backend.faults().break_all(Fault::Refuse);
    for _ in 0..10 {
        let decision = backend.quota.check("ana", &[("jobs", 3)]).unwrap();
        assert!(decision.allowed && decision.degraded);
        unavailable(&backend.quota.check("ana", &[("jobs", 4)]).unwrap());
    }
    assert!(backend.consume("ana", "jobs", 3).degraded);
    unavailable(&backend.quota.check("ana", &[("jobs", 1)]).unwrap());
    backend.heal();
    assert!(backend.consume("bob", "jobs", 1).allowed);
    assert_eq!(backend.jobs("ana"), (4, 0));
}

/// A client that retries under its key must not owe the same units for each attempt, nor be charged for
/// them again when the store is back.
#[test]
fn a_request_under_a_key_is_owed_once_and_charged_once() {
    let backend = open();
    let once = |units, key| backend.quota.consume_once("ana", &[("jobs", units)], key);
    assert!(once(1, "before").unwrap().allowed);
    backend.faults().break_all(Fault::Refuse);
    let first = once(2, "during").unwrap();
    assert!(first.degraded && !first.repeated);
    for _ in 0..5 {
        let again = once(2, "during").unwrap();
        assert!(again.allowed && again.degraded && again.repeated);
    }
    assert!(matches!(once(1, "during"), Err(Error::Conflict { key }) if key == "during"));
    // It cannot be known yet that this was charged before.
    assert!(once(1, "before").unwrap().degraded);
    unavailable(&once(1, "another").unwrap());
    backend.heal();
    let again = once(2, "during").unwrap();
    assert!(again.allowed && again.repeated && !again.degraded, "{again:?}");
    assert_eq!(backend.jobs("ana"), (3, 0));
}

#[test]
fn a_charge_whose_answer_was_lost_is_not_owed_besides_where_it_has_a_key() {
    let backend = open();
    assert!(backend.consume("ana", "jobs", 1).allowed);
    backend.faults().plant(FaultRule::new(Fault::LoseReply).on(&[Step::Charge]).times(1));
    assert!(backend.quota.consume_once("ana", &[("jobs", 2)], "order-1").unwrap().degraded);
    assert!(backend.consume("ana", "jobs", 1).allowed);
    assert_eq!(backend.jobs("ana"), (4, 0));
}

#[test]
fn a_key_that_meant_something_else_before_the_outage_is_charged_all_the_same() {
    let backend = open();
    assert!(backend.quota.consume_once("ana", &[("jobs", 1)], "key").unwrap().allowed);
    backend.faults().break_all(Fault::Refuse);
    assert!(backend.quota.consume_once("ana", &[("jobs", 2)], "key").unwrap().degraded);
    backend.faults().heal();
    backend.faults().plant(FaultRule::new(Fault::LoseReply).on(&[Step::Adjust]).after(1).times(1));
    unavailable(&backend.consume("ana", "jobs", 2));
    assert!(backend.consume("ana", "jobs", 1).allowed);
    assert_eq!(backend.jobs("ana"), (4, 0));
}

#[test]
fn a_reservation_without_the_store_is_owed_once_under_its_key() {
    let backend = open();
    assert!(backend.consume("ana", "jobs", 1).allowed);
    backend.faults().break_all(Fault::Refuse);
    let ttl = Duration::from_secs(60);
    let first = backend.quota.reserve_once("ana", &[("jobs", 3)], ttl, "r").unwrap().unwrap();
    assert_eq!((first.id(), first.decision().repeated), (None, false));
    for _ in 0..3 {
        let again = backend.quota.reserve_once("ana", &[("jobs", 3)], ttl, "r").unwrap().unwrap();
        assert_eq!((again.id(), again.decision().repeated), (None, true), "a repetition gives nothing back");
    }
    backend.heal();
    assert!(backend.consume("ana", "jobs", 1).allowed);
    assert_eq!(backend.jobs("ana"), (5, 0));
    // It was charged, so there is nothing to hold any more when it is asked for again, nor to give back.
    let again = backend.quota.reserve_once("ana", &[("jobs", 3)], ttl, "r").unwrap().unwrap();
    assert_eq!((again.id(), again.decision().repeated), (None, true));
    again.release().unwrap();
    first.release().unwrap();
    assert_eq!(backend.jobs("ana"), (5, 0));
}

/// What was reserved is not what it cost: as long as it is only owed, a reservation settles it.
#[test]
fn a_reservation_without_the_store_costs_what_was_used_of_it() {
    type Settle = fn(Reservation);
    let settled: [(Settle, u64); 6] = [
        (|reservation| drop(reservation.commit(&[("jobs", 1)]).unwrap()), 1),
        (|reservation| drop(reservation.commit(&[]).unwrap()), 2),
        (|reservation| drop(reservation.commit(&[("jobs", 4)]).unwrap()), 4),
        (|reservation| drop(reservation.release().unwrap()), 0),
        (drop, 0),
        (|reservation| assert_eq!(reservation.detach(), None), 2),
    ];
    for key in [None, Some("key")] {
        for (index, (settle, cost)) in settled.iter().enumerate() {
            let backend = open();
            assert!(backend.consume("ana", "jobs", 1).allowed);
            backend.faults().break_all(Fault::Refuse);
            let reservation = backend.reserve("ana", 2, key);
            assert!(reservation.decision().degraded);
            assert!(backend.consume("ana", "jobs", 1).degraded, "beside it");
            settle(reservation);
            backend.heal();
            assert!(backend.consume("ana", "jobs", 1).allowed);
            assert_eq!(backend.jobs("ana"), (3 + cost, 0), "{key:?} {index}");
        }
    }
}

#[test]
fn what_a_reservation_without_the_store_did_not_use_may_be_granted_again() {
    let backend = open();
    assert!(backend.consume("ana", "jobs", 1).allowed);
    backend.faults().break_all(Fault::Refuse);
    let reservation = backend.reserve("ana", 3, None);
    unavailable(&backend.consume("ana", "jobs", 1));
    reservation.commit(&[("jobs", 1)]).unwrap();
    assert!(backend.consume("ana", "jobs", 2).degraded);
    unavailable(&backend.consume("ana", "jobs", 1));
}

/// Two that reserved under one key settle it once, whichever is first.
#[test]
fn what_is_owed_under_a_key_is_settled_once() {
    let backend = open();
    assert!(backend.consume("ana", "jobs", 1).allowed);
    backend.faults().break_all(Fault::Refuse);
    let first = backend.reserve("ana", 3, Some("k"));
    let again = backend.reserve("ana", 3, Some("k"));
    assert!(again.decision().repeated);
    again.commit(&[("jobs", 2)]).unwrap();
    first.release().unwrap();
    backend.heal();
    assert!(backend.consume("ana", "jobs", 1).allowed);
    assert_eq!(backend.jobs("ana"), (4, 0));
}

/// Nobody but this engine knows what it has granted without the store.
#[test]
fn what_is_owed_is_charged_when_the_engine_ends() {
    let ends: [fn(Quota); 3] =
        [drop, |quota| quota.close().unwrap(), |quota| block_on(quota.to_async().close()).unwrap()];
    for end in ends {
        let Backend { store, clock, quota } = open();
        assert!(quota.consume("ana", &[("jobs", 1)]).unwrap().allowed);
        store.layer().break_all(Fault::Refuse);
        assert!(quota.consume("ana", &[("jobs", 3)]).unwrap().degraded);
        store.layer().heal();
        clock.advance(Duration::from_secs(31));
        end(quota);
        let elsewhere = open_on(&store, &clock);
        assert_eq!(elsewhere.usage("ana").unwrap().quotas.iter().map(|state| state.used).max(), Some(4));
    }
}

#[test]
fn an_engine_that_owes_something_ends_though_the_store_does_not_answer() {
    let Backend { store, clock, .. } = open();
    let builder = Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).clock(clock).breaker(None);
    let quota = builder.store_timeout(Duration::MAX).open_on(store.clone()).unwrap();
    assert!(quota.consume("ana", &[("jobs", 1)]).unwrap().allowed);
    store.layer().break_all(Fault::Refuse);
    assert!(quota.consume("ana", &[("jobs", 3)]).unwrap().degraded);
    assert!(matches!(quota.clone().close(), Err(Error::Store(_))));
    store.layer().break_all(Fault::Hang);
    let begin = Instant::now();
    drop(quota);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

/// Another process, or the client's next attempt, may have reserved under the key before the debt is charged.
#[test]
fn what_is_owed_under_a_key_is_not_charged_where_it_is_reserved_by_then() {
    let backend = open();
    assert!(backend.consume("ana", "jobs", 1).allowed);
    let ttl = Duration::from_secs(60);
    backend.faults().break_all(Fault::Refuse);
    backend.quota.reserve_once("ana", &[("jobs", 3)], ttl, "r").unwrap().unwrap().detach();
    backend.faults().heal();
    let elsewhere = open_on(&backend.store, &backend.clock);
    let reservation = elsewhere.reserve_once("ana", &[("jobs", 3)], ttl, "r").unwrap().unwrap();
    assert!(reservation.id().is_some());
    backend.heal();
    assert!(backend.consume("ana", "jobs", 1).allowed);
    reservation.commit(&[("jobs", 2)]).unwrap();
    assert_eq!(backend.jobs("ana"), (4, 0));
}

#[test]
fn without_the_store_a_stranger_is_denied_and_a_known_subject_keeps_its_plan() {
    let backend = open();
    let pro = Subscription::active("pro", backend.clock.wall());
    backend.quota.subscribe("pat", pro).unwrap();
    assert!(backend.consume("pat", "jobs", 1).allowed);
    assert!(backend.consume("ana", "jobs", 1).allowed);
    // Long after what is known of them is stale.
    backend.clock.advance(Duration::from_secs(3_600));
    backend.faults().break_all(Fault::Refuse);
    let stranger = backend.consume("eve", "jobs", 1);
    unavailable(&stranger);
    assert_eq!(stranger.plan, None);
    let known = backend.consume("ana", "jobs", 1);
    assert_eq!((known.degraded, known.plan.as_deref()), (true, Some("free")));
    let denied = backend.consume("pat", "jobs", 1);
    unavailable(&denied);
    assert_eq!(denied.plan.as_deref(), Some("pro"), "whose plan allows nothing without the store");
}

#[test]
fn a_metric_in_shadow_passes_without_the_store() {
    let backend = open();
    assert!(backend.consume("ana", "calls", 1).allowed);
    backend.quota.set_enforcement(Some("calls"), Enforcement::Shadow).unwrap();
    backend.faults().break_all(Fault::Refuse);
    let decision = backend.consume("ana", "calls", 1);
    assert!(decision.allowed && !decision.degraded);
    assert_eq!(decision.would_deny.unwrap().reason, Reason::StoreUnavailable);
    let both = Request::by("ana").costs(&[("jobs", 4), ("calls", 1)]);
    unavailable(&backend.quota.admit(&both).unwrap());
    let both = Request::by("ana").costs(&[("jobs", 3), ("calls", 1)]);
    assert!(backend.quota.admit(&both).unwrap().degraded);
    backend.heal();
    assert!(backend.consume("ana", "jobs", 1).allowed);
    assert_eq!(backend.jobs("ana"), (4, 0));
}

#[test]
fn a_trial_that_cannot_start_is_owed_like_anything_else() {
    let store = Arc::new(Layered::new(Arc::new(MemoryStore::new()), Faults::seeded(1)));
    let plans = Plans::from_toml(&PLANS.replacen("quotas", "trial_days = 7\nquotas", 1)).unwrap();
    let clock = Arc::new(ManualClock::at("2026-03-10T15:00:00Z".parse().unwrap()));
    let quota = Quota::builder().plans(plans).clock(clock).open_on(store.clone()).unwrap();
    assert!(quota.check("ana", &[("jobs", 1)]).unwrap().allowed);
    for step in [Step::Balances, Step::SwapSubscription] {
        store.layer().plant(FaultRule::new(Fault::Refuse).on(&[step]).times(1));
        assert!(quota.consume("ana", &[("jobs", 1)]).unwrap().degraded, "{step:?}");
    }
    assert_eq!(quota.subscription("ana").unwrap(), None);
    assert!(quota.consume("ana", &[("jobs", 1)]).unwrap().allowed);
    assert_eq!(quota.usage("ana").unwrap().quotas.iter().map(|state| state.used).max(), Some(3));
}

#[test]
fn a_store_that_panics_is_answered_for() {
    let backend = open();
    assert!(backend.consume("ana", "calls", 1).allowed);
    backend.faults().plant(FaultRule::new(Fault::Panic).on(&[Step::Charge, Step::Hold, Step::Adjust]));
    for (decision, _) in timed(&backend, "ana", "calls") {
        assert_eq!(unavailable(&decision), "the store failed: it panicked");
    }
    assert!(backend.quota.reserve("ana", &[("calls", 1)], Duration::from_secs(1)).unwrap().is_err());
    assert!(matches!(backend.quota.refund("ana", &[("calls", 1)]), Err(Error::Store(_))));
    backend.heal();
    assert!(backend.consume("ana", "calls", 1).allowed);
}

#[test]
fn a_request_that_is_cancelled_charges_all_or_nothing() {
    let backend = open();
    let tasks = backend.quota.to_async();
    assert!(backend.quota.consume("ana", &[("jobs", 1), ("calls", 1)]).unwrap().allowed);
    let mut charged = 1;
    for (fault, done) in [(Fault::Hang, 0), (Fault::HangAfter, 1), (Fault::Delay { polls: 2 }, 0)] {
        backend.faults().break_all(fault);
        let mut request = Box::pin(tasks.consume("ana", &[("jobs", 1), ("calls", 1)]));
        assert!(matches!(request.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
        drop(request);
        backend.heal();
        charged += done;
        let usage = backend.quota.usage("ana").unwrap();
        assert!(usage.quotas.iter().all(|state| state.used == charged), "{fault:?}: {usage:?}");
    }
}

#[test]
fn without_a_breaker_the_store_is_asked_every_time() {
    let store = Arc::new(Layered::new(Arc::new(MemoryStore::new()), Faults::seeded(1)));
    let builder = Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).breaker(None);
    let quota = builder.store_timeout(Duration::MAX).open_on(store.clone()).unwrap();
    assert!(quota.consume("ana", &[("calls", 1)]).unwrap().allowed);
    store.layer().break_all(Fault::Refuse);
    for _ in 0..20 {
        assert!(unavailable(&quota.consume("ana", &[("calls", 1)]).unwrap()).contains("planted"));
    }
    assert!(store.layer().counts().refused >= 20);
    store.layer().heal();
    assert!(quota.consume("ana", &[("calls", 1)]).unwrap().allowed);
}
