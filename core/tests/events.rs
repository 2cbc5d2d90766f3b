//! What the engine tells: to a callback, to the store's log, as metrics; and who made a change.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use quotum::blocking::{Builder, Quota};
use quotum::{Enforcement, Event, EventName, EventQuery, ManualClock, Overrides, Plans, Request, Subscription};

const PLANS: &str = r#"
default_plan = "free"
[plans.free]
features = { excel = false, days = 7 }
quotas = { jobs = "10/day", calls = "unlimited/month" }
rates = { api = "1/minute" }
[plans.pro]
rank = 1
features = { excel = true, days = 30 }
quotas = { jobs = "100/day" }
"#;

fn builder() -> (Builder, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at("2026-03-10T15:00:00Z".parse().unwrap()));
    (Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).clock(clock.clone()), clock)
}

fn listening() -> (Quota, Arc<ManualClock>, Receiver<Event>) {
    let (builder, clock) = builder();
    let (told, heard) = channel();
    let quota = builder.on_event(move |event| told.send(event.clone()).unwrap()).open("memory:").unwrap();
    (quota, clock, heard)
}

/// Everything told until now: dropping the engine delivers what is queued.
fn heard(quota: Quota, events: &Receiver<Event>) -> Vec<Event> {
    drop(quota);
    events.iter().collect()
}

fn heard_of(quota: Quota, events: &Receiver<Event>, name: EventName) -> Vec<Event> {
    heard(quota, events).into_iter().filter(|event| event.name == name).collect()
}

#[test]
fn each_decision_is_told_with_what_it_was_about() {
    let (quota, _, events) = listening();
    let _ = quota.consume("ana", &[("jobs", 3)]).unwrap();
    let _ = quota.consume("ana", &[("jobs", 8)]).unwrap();
    let _ = quota.consume("ana", &[("jobs", 11)]).unwrap();
    let _ = quota.require("ana", "excel").unwrap();
    let _ = quota.require_value("ana", "days", 9).unwrap();
    for _ in 0..2 {
        let _ = quota.admit(&Request::by("ana").rate("api")).unwrap();
    }
    let events = heard(quota, &events);
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "quota_check_success",
            "quota_exhausted",
            "quota_exhausted",
            "feature_blocked",
            "feature_value_blocked",
            "quota_check_success",
            "rate_limited"
        ]
    );
    let denied = &events[1];
    assert_eq!((denied.subject.as_deref(), denied.plan.as_deref()), (Some("ana"), Some("free")));
    assert_eq!(
        (denied.metric.as_deref(), denied.used, denied.limit, denied.remaining),
        (Some("jobs"), Some(3), Some(10), Some(7))
    );
    assert_eq!(denied.upgrade_to.as_deref(), Some("pro"));
    assert!(denied.duration_us.is_some());
    assert_eq!(events[6].metric.as_deref(), Some("api"));
}

#[test]
fn each_threshold_is_told_once_whatever_is_refunded() {
    let (quota, clock, events) = listening();
    let consume = |units| drop(quota.consume("ana", &[("jobs", units), ("calls", 1)]).unwrap());
    consume(8);
    let _ = quota.refund("ana", &[("jobs", 2)]).unwrap();
    consume(2);
    consume(2);
    let _ = quota.refund("ana", &[("jobs", 5)]).unwrap();
    let reservation = quota.reserve("ana", &[("jobs", 5)], Duration::from_secs(9)).unwrap().unwrap();
    let _ = reservation.commit(&[]).unwrap();
    clock.advance(Duration::from_secs(86_400));
    let reservation = quota.reserve("ana", &[("jobs", 9)], Duration::from_secs(9)).unwrap().unwrap();
    let _ = reservation.commit(&[]).unwrap();
    let events = heard(quota, &events);
    let told: Vec<(Option<&str>, Option<u64>)> = events
        .iter()
        .filter(|event| event.name == EventName::QuotaThresholdReached)
        .map(|event| (event.metric.as_deref(), event.detail.as_ref().unwrap()["percent"].as_u64()))
        .collect();
    assert_eq!(told, [(Some("jobs"), Some(80)), (Some("jobs"), Some(100)), (Some("jobs"), Some(80))]);
}

#[test]
fn a_late_commit_is_told() {
    let (quota, clock, events) = listening();
    let reservation = quota.reserve("ana", &[("jobs", 5)], Duration::from_secs(9)).unwrap().unwrap();
    clock.advance(Duration::from_secs(9));
    assert!(reservation.commit(&[]).is_err());
    assert!(heard(quota, &events).iter().any(|event| event.name == EventName::HoldExpired));
}

#[test]
fn every_change_is_audited_with_who_made_it() {
    let (builder, _) = builder();
    let quota = builder.open("memory:").unwrap();
    let ops = quota.acting_as("ops@example.com");
    let now = "2026-03-10T00:00:00Z".parse().unwrap();
    let _ = ops.set_plans(&Plans::from_toml(PLANS).unwrap()).unwrap();
    ops.subscribe("ana", Subscription::active("pro", now)).unwrap();
    let _ = ops.set_overrides("ana", Overrides::default()).unwrap();
    let _ = ops.cancel("ana").unwrap();
    let _ = ops.grant("ana", &[("jobs", 5)]).unwrap();
    let _ = quota.consume("ana", &[("jobs", 1)]).unwrap();
    let _ = ops.refund("ana", &[("jobs", 1)]).unwrap();
    let _ = ops.reset_usage("ana", "jobs").unwrap();
    ops.set_enforcement(Some("jobs"), Enforcement::Shadow).unwrap();
    ops.forget_subject("ana").unwrap();
    ops.clear_rates("ana".into()).unwrap();
    ops.clear_rates("203.0.113.7".parse::<std::net::IpAddr>().unwrap().into()).unwrap();
    let audit = quota.events(&EventQuery::changes()).unwrap();
    let names: Vec<&str> = audit.iter().map(|event| event.name.as_str()).collect();
    let expected = [
        "plan_changed",
        "subscription_changed",
        "subscription_changed",
        "usage_adjusted",
        "usage_adjusted",
        "enforcement_changed",
        "token_forgotten",
        "rates_cleared",
        "rates_cleared",
    ];
    assert_eq!(names, expected, "what changes nothing is no change");
    assert!(audit.iter().all(|event| event.actor.as_deref() == Some("ops@example.com")), "{audit:?}");
    assert_eq!(audit[2].detail.as_ref().unwrap()["status"], "canceled");
    assert_eq!(audit[3].detail.as_ref().unwrap()["verb"], "grant");
    assert_eq!(audit[3].detail.as_ref().unwrap()["units"]["jobs"], 5);
    let cleared = (audit[8].subject.as_deref(), &audit[8].detail.as_ref().unwrap()["address"]);
    assert_eq!(cleared, (None, &"203.0.113.7".into()));
    let of_ana = EventQuery { subject: Some("ana".into()), ..EventQuery::changes() };
    assert_eq!(quota.events(&of_ana).unwrap().len(), 6);
}

/// A flood of keys must not become a flood of events.
#[test]
fn evictions_of_live_windows_are_told_once_a_minute_with_their_number() {
    let (builder, clock) = builder();
    let (told, heard) = channel();
    let listen = move |event: &Event| told.send(event.clone()).unwrap();
    let plans = "default_plan = 'free'\n[plans.free]\nrates = { api = '1000/minute' }";
    let builder = builder.plans(Plans::from_toml(plans).unwrap()).rates_max(1);
    let quota = builder.on_event(listen).open("memory:").unwrap();
    for second in 0..70 {
        for key in 0..20 {
            let _ = quota.rate("api", format!("{second}-{key}").as_str().into(), 1).unwrap();
        }
        clock.advance(Duration::from_secs(1));
    }
    let events = heard_of(quota, &heard, EventName::CacheEvicted);
    let counts: Vec<u64> =
        events.iter().map(|event| event.detail.as_ref().unwrap()["evicted"].as_u64().unwrap()).collect();
    assert!(counts.len() == 2 && counts[0] <= 20 && counts[1] > 500, "{counts:?}");
    assert!(events.iter().all(|event| event.detail.as_ref().unwrap()["cache"] == "rates"));
}

#[cfg(feature = "sqlite")]
#[test]
fn the_log_keeps_what_it_is_asked_to() {
    use quotum::LoggedEvents;

    for (logged, expected) in [
        (LoggedEvents::Changes, vec![]),
        (LoggedEvents::Incidents, vec![EventName::QuotaExhausted]),
        (LoggedEvents::All, vec![EventName::QuotaCheckSuccess, EventName::QuotaExhausted]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("quota.db").display());
        let quota = builder().0.log_events(logged).open(&url).unwrap();
        let _ = quota.consume("ana", &[("jobs", 1)]).unwrap();
        let _ = quota.consume("ana", &[("jobs", 11)]).unwrap();
        drop(quota);
        let quota = builder().0.open(&url).unwrap();
        let names: Vec<EventName> = quota.events(&EventQuery::all()).unwrap().iter().map(|event| event.name).collect();
        assert_eq!(names, expected, "{logged:?}");
    }
}

#[test]
fn a_callback_that_is_slow_or_panics_harms_nobody() {
    let (told, events) = channel();
    let (gate, opened) = channel::<()>();
    let callback = move |event: &Event| {
        let _waits_until_opened = opened.recv();
        told.send(event.name).unwrap();
        panic!("planted");
    };
    let quota = builder().0.on_event(callback).open("memory:").unwrap();
    for _ in 0..6_000 {
        assert!(quota.consume("ana", &[("calls", 1)]).unwrap().allowed);
    }
    assert!(quota.events_dropped() > 0, "the queue is bounded");
    let kept = 6_000 - quota.events_dropped();
    drop(gate);
    drop(quota);
    assert_eq!(events.iter().count() as u64, kept, "each that was kept is delivered");
}

/// Whoever listens may hang; the engine must come to its end all the same.
fn ends_in_time(quota: Quota) {
    let (ends, ended) = channel::<()>();
    std::thread::spawn(move || {
        drop(quota);
        drop(ends);
    });
    let waited = ended.recv_timeout(Duration::from_secs(30));
    assert_eq!(waited, Err(std::sync::mpsc::RecvTimeoutError::Disconnected), "dropping the engine hangs");
}

#[test]
fn a_callback_that_never_returns_does_not_keep_the_engine_from_ending() {
    let callback = |_: &Event| loop {
        std::thread::park();
    };
    let quota = builder().0.on_event(callback).open("memory:").unwrap();
    assert!(quota.consume("ana", &[("jobs", 1)]).unwrap().allowed);
    ends_in_time(quota);
}

#[cfg(feature = "faults")]
#[test]
fn a_log_that_never_answers_does_not_keep_the_engine_from_ending() {
    use quotum::LoggedEvents;
    use quotum::store::{Fault, FaultRule, Faults, Layered, MemoryStore, Step};

    let store = Arc::new(Layered::new(Arc::new(MemoryStore::new()), Faults::seeded(1)));
    let builder = builder().0.log_events(LoggedEvents::All).store_timeout(Duration::MAX);
    let quota = builder.open_on(store.clone()).unwrap();
    store.layer().plant(FaultRule::new(Fault::Hang).on(&[Step::Record]));
    assert!(quota.consume("ana", &[("jobs", 1)]).unwrap().allowed);
    ends_in_time(quota);
}

#[test]
fn the_last_engine_may_be_dropped_by_the_callback() {
    let kept: Arc<std::sync::Mutex<Option<Quota>>> = Arc::default();
    let (told, heard) = channel();
    let last = Arc::clone(&kept);
    let callback = move |_: &Event| {
        let quota = last.lock().unwrap().take();
        drop(quota);
        told.send(()).unwrap();
    };
    let quota = builder().0.on_event(callback).open("memory:").unwrap();
    let mut place = kept.lock().unwrap();
    assert!(quota.consume("ana", &[("jobs", 1)]).unwrap().allowed);
    *place = Some(quota);
    drop(place);
    heard.recv_timeout(Duration::from_secs(30)).unwrap();
}

#[cfg(feature = "metrics")]
#[test]
fn metrics_count_decisions_and_never_name_a_subject() {
    let (builder, _) = builder();
    let quota = builder.open("memory:").unwrap();
    for _ in 0..3 {
        let _ = quota.consume("ana-the-subject", &[("jobs", 5)]).unwrap();
    }
    let _ = quota.check("ana-the-subject", &[("jobs", 1)]).unwrap();
    let page = quota.metrics();
    let lines = [
        r#"quotum_decisions_total{verb="consume",outcome="allowed",reason="",plan="free"} 2"#,
        r#"quotum_decisions_total{verb="consume",outcome="denied",reason="quota_exhausted",plan="free"} 1"#,
        r#"quotum_decisions_total{verb="check",outcome="denied",reason="quota_exhausted",plan="free"} 1"#,
        r#"quotum_decision_duration_seconds_count{path="store"} 4"#,
        "quotum_subject_records 1",
    ];
    for line in lines {
        assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
    }
    assert!(page.ends_with("# EOF\n") && !page.contains("ana-the-subject"));
}
