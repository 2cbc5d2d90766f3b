//! Handles of subjects: they answer as the subject's name does, whatever becomes of what was remembered.

#![allow(clippy::unwrap_used, missing_docs)]

use quotum::blocking::Quota;
use quotum::{Enforcement, Error, Plans, Reason, Subject, Subscription, Timestamp};

const PLANS: &str = r#"
    default_plan = "free"
    [plans.free]
    features = { excel = false }
    quotas = { jobs = "3/total", views = "unlimited" }
    rates = { api = "2/minute" }
    [plans.pro]
    rank = 1
    features = { excel = true }
    quotas = { jobs = "300/total", views = "unlimited" }
    rates = { api = "2/minute" }
"#;

fn open() -> Quota {
    let builder = Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).records_max(64);
    builder.open("memory:").unwrap()
}

/// Why a request by the handle is denied, if it is.
fn denied(quota: &Quota, subject: &Subject, jobs: u64) -> Option<Reason> {
    let decision = quota.admit(&subject.request().costs(&[("jobs", jobs)])).unwrap();
    assert_eq!(decision.subject.as_deref(), Some(subject.id()));
    decision.denied.map(|denial| denial.reason)
}

/// So many others that nothing is remembered of anybody before.
fn crowd_out(quota: &Quota) {
    for stranger in 0..10_000 {
        assert!(quota.consume(&format!("stranger-{stranger}"), &[("views", 1)]).unwrap().allowed);
    }
}

#[test]
fn a_handle_and_a_name_share_every_limit() {
    let quota = open();
    let ana = quota.subject("ana").unwrap();
    assert_eq!(denied(&quota, &ana, 2), None);
    assert!(quota.consume("ana", &[("jobs", 1)]).unwrap().allowed);
    assert_eq!(denied(&quota, &ana, 1), Some(Reason::QuotaExhausted));
    assert!(quota.admit(&ana.request().rate("api")).unwrap().allowed);
    assert!(quota.try_admit(&quotum::Request::by("ana").rate("api")).unwrap().unwrap().allowed);
    let third = quota.try_admit(&ana.request().rate("api")).unwrap().unwrap();
    assert_eq!(third.denied.unwrap().reason, Reason::RateLimited);
}

#[test]
fn a_handle_hears_of_changes_though_the_subject_was_crowded_out() {
    let quota = open();
    let ana = quota.subject("ana").unwrap();
    assert_eq!(denied(&quota, &ana, 3), None);
    for _ in 0..3 {
        assert_eq!(denied(&quota, &ana, 1), Some(Reason::QuotaExhausted), "remembered from the first on");
    }
    crowd_out(&quota);
    quota.refund("ana", &[("jobs", 1)]).unwrap();
    assert_eq!(denied(&quota, &ana, 1), None);

    let excel = |subject: &Subject| quota.admit(&subject.request().feature("excel")).unwrap().allowed;
    assert!(!excel(&ana));
    crowd_out(&quota);
    quota.subscribe("ana", Subscription::active("pro", Timestamp::now())).unwrap();
    assert!(excel(&ana));
    let copy = ana.clone();
    quota.forget_subject("ana").unwrap();
    quota.subscribe("ana", Subscription::active("free", Timestamp::now())).unwrap();
    assert!(!excel(&ana) && !excel(&copy));
}

#[test]
fn a_handle_of_another_engine_stands_for_its_name() {
    let (here, elsewhere) = (open(), open());
    let ana = elsewhere.subject("ana").unwrap();
    elsewhere.subscribe("ana", Subscription::active("pro", Timestamp::now())).unwrap();
    assert_eq!(denied(&elsewhere, &ana, 100), None);
    assert_eq!(denied(&here, &ana, 100), Some(Reason::NeverFits));
    assert_eq!(denied(&here, &ana, 3), None);
    assert_eq!(denied(&here, &ana, 1), Some(Reason::QuotaExhausted));
}

#[test]
fn a_handle_obeys_the_kill_switch_and_refuses_what_is_no_id() {
    let quota = open();
    let ana = quota.subject("ana").unwrap();
    quota.set_enforcement(None, Enforcement::Off).unwrap();
    assert_eq!(denied(&quota, &ana, 1_000), None);
    quota.set_enforcement(None, Enforcement::Enforce).unwrap();
    assert_eq!(denied(&quota, &ana, 1_000), Some(Reason::NeverFits));
    for id in ["", &"x".repeat(257)] {
        assert!(matches!(quota.subject(id), Err(Error::InvalidArgument { .. })));
    }
    assert_eq!(format!("{ana:?}"), r#"Subject("ana")"#);
}
