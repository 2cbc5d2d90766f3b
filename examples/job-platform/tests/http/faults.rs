//! The faults of the backend's own quota code, each of them tried.

use std::collections::BTreeMap;

use quotum::Plans;
use serde_json::{Value, json};

use crate::app::{App, User};

async fn store(app: &App, user: &User, name: &str, mb: u64) -> u16 {
    app.ask("POST", "/v1/storage", &user.token, json!({ "name": name, "mb": mb })).await.status
}

/// It compared the limit of a day with the counter of a month.
#[tokio::test]
async fn a_day_and_a_month_are_counted_apart() {
    let app = App::start().await;
    let ana = app.register("ana", "203.0.113.1").await;
    for _ in 0..3 {
        assert_eq!(app.new_job(&ana).await.status, 201);
    }
    app.turn_to("2026-02-01T00:00:00Z");
    let used = (app.usage(&ana, "api_calls", "used").await, app.usage(&ana, "jobs", "used").await);
    assert_eq!(used, (0, 3), "another day, the same billing month");
    app.stop().await;
}

/// A limit that was NULL made the free plan unlimited.
#[test]
fn a_limit_that_is_missing_or_empty_is_never_unlimited() {
    for limit in ["\"\"", "-1", "0", "\"/billing_month\"", "\"null/billing_month\""] {
        let plans = format!("default_plan = 'free'\n[plans.free]\nquotas = {{ jobs = {limit} }}");
        assert!(Plans::from_toml(&plans).is_err(), "{limit}");
    }
    let plans = "default_plan = 'free'\n[plans.free]\n[plans.pro]\nrank = 1\nquotas = { jobs = '9/month' }";
    let quota = quotum::blocking::Quota::builder().plans(Plans::from_toml(plans).unwrap()).open("memory:").unwrap();
    assert!(!quota.consume("ana", &[("jobs", 1)]).unwrap().allowed, "what a plan does not name, it does not grant");
}

/// It reset the storage in use every month.
#[tokio::test]
async fn storage_is_a_level_that_only_removing_lowers() {
    let app = App::start().await;
    let ana = app.register("ana", "203.0.113.1").await;
    assert_eq!(store(&app, &ana, "video", 90).await, 201);
    app.turn_to("2026-04-01T00:00:00Z");
    let ana = app.log_in(&ana, "203.0.113.1").await;
    assert_eq!(store(&app, &ana, "other", 11).await, 402);

    let remove = || app.ask("DELETE", "/v1/storage/video", &ana.token, Value::Null);
    assert_eq!(remove().await.status, 204);
    assert_eq!(remove().await.status, 404);
    assert_eq!(app.usage(&ana, "storage_mb", "used").await, 0);
    assert_eq!(store(&app, &ana, "other", 100).await, 201);
    app.stop().await;
}

/// Its `+=` lost updates, and two first requests both inserted the row.
#[tokio::test]
async fn no_use_is_lost_among_many_at_once_not_even_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::start_in(folder.path(), crate::app::START).await;
    let ana = app.register("ana", "203.0.113.1").await;
    let bearer = format!("Bearer {}", ana.token);
    let file = |number: usize| json!({ "name": format!("{number}"), "mb": 1 });
    let stored = app.burst(48, "/v1/storage", &[("authorization", &bearer)], file).await;
    assert_eq!(stored, BTreeMap::from([(201, 48)]));
    let used = (app.usage(&ana, "storage_mb", "used").await, app.usage(&ana, "api_calls", "used").await);
    assert_eq!(used, (48, 48));
    app.stop().await;
}

/// It ignored metrics that it did not know.
#[tokio::test]
async fn a_name_that_no_plan_knows_is_refused_with_those_there_are() {
    let app = App::start().await;
    let wrong = json!({ "mode": "off", "metric": "jobz" });
    let refused = app.as_admin("POST", "/v1/admin/enforcement", wrong).await;
    assert_eq!(refused.status, 422);
    assert!(refused.body["detail"].as_str().unwrap().contains("compute_minutes, jobs"), "{}", refused.text);
    let ana = app.register("ana", "203.0.113.1").await;
    let path = format!("/v1/admin/users/{}/plan", ana.id);
    assert_eq!(app.as_admin("POST", &path, json!({ "plan": "platinum" })).await.status, 422);
    app.stop().await;
}

/// It asked `current < limit`, whatever was to be added.
#[tokio::test]
async fn what_does_not_fit_whole_is_not_granted_in_part() {
    let app = App::start().await;
    let ana = app.register("ana", "203.0.113.1").await;
    assert_eq!(store(&app, &ana, "a", 99).await, 201);
    assert_eq!(store(&app, &ana, "b", 2).await, 402);
    assert_eq!(store(&app, &ana, "c", 1).await, 201);
    assert_eq!(store(&app, &ana, "d", 101).await, 402);
    assert_eq!(app.usage(&ana, "storage_mb", "used").await, 100);
    app.stop().await;
}

/// It never looked at when a subscription ended.
#[tokio::test]
async fn a_plan_that_is_no_longer_paid_for_ends_after_the_grace() {
    let app = App::start().await;
    let ana = app.register("ana", "203.0.113.1").await;
    app.put_on(&ana, "pro").await;
    for (at, plan) in [("2026-03-03T08:59:59Z", "pro"), ("2026-03-03T09:00:00Z", "free")] {
        app.turn_to(at);
        let ana = app.log_in(&ana, "203.0.113.1").await;
        let me = app.ask("GET", "/v1/subscription/me", &ana.token, Value::Null).await;
        assert_eq!(me.body["plan"], plan, "{at}");
    }
    app.stop().await;
}

/// It gave thirty days to whoever had paid for a year.
#[tokio::test]
async fn a_year_is_a_year_and_a_month_ends_with_the_month() {
    let app = App::start().await;
    let ana = app.register("ana", "203.0.113.1").await;
    let path = format!("/v1/admin/users/{}/plan", ana.id);
    for (interval, end) in [("annual", "2027-01-31T09:00:00Z"), ("monthly", "2026-02-28T09:00:00Z")] {
        let changed = app.as_admin("POST", &path, json!({ "plan": "pro", "interval": interval })).await;
        assert_eq!((changed.status, &changed.body["expires_at"]), (200, &json!(end)), "{interval}");
    }
    app.stop().await;
}

/// Its limiter read, compared and wrote in three steps, and a key that was written at the wrong moment never
/// expired.
#[tokio::test]
async fn a_rate_lets_exactly_its_limit_pass_and_always_recovers() {
    let app = App::start().await;
    let from = [("x-forwarded-for", "203.0.113.9")];
    let wrong = |_| json!({ "email": "ana@example.com", "password": "guess" });
    for _ in 0..3 {
        let statuses = app.burst(64, "/v1/login", &from, wrong).await;
        assert_eq!(statuses, BTreeMap::from([(401, 10), (429, 54)]));
        app.pass(3_600);
    }
    app.stop().await;
}

/// It believed the address that a client wrote into a field.
#[tokio::test]
async fn a_client_cannot_choose_its_address() {
    let app = App::start().await;
    let wrong = || json!({ "email": "ana@example.com", "password": "guess" });
    for attempt in 0..10 {
        let from = format!("198.51.100.{attempt}, 203.0.113.9");
        assert_eq!(app.post_from("/v1/login", &from, wrong()).await.status, 401);
    }
    assert_eq!(app.post_from("/v1/login", "192.0.2.1, 203.0.113.9", wrong()).await.status, 429);
    app.stop().await;
}

/// Its administrators cleared keys under another name than the limiter wrote.
#[tokio::test]
async fn clearing_the_rates_of_a_user_clears_those_it_is_held_by() {
    let app = App::start().await;
    let ana = app.register("ana", "203.0.113.1").await;
    for plan in ["free", "pro"] {
        app.put_on(&ana, plan).await;
        while app.new_job(&ana).await.status == 201 {}
        let path = format!("/v1/admin/users/{}/clear-rate-limits", ana.id);
        assert_eq!(app.new_job(&ana).await.status, 429, "{plan}");
        assert_eq!(app.as_admin("POST", &path, Value::Null).await.status, 204);
        let next = app.new_job(&ana).await;
        // The ten jobs of the free plan are used up by then.
        assert_eq!(next.status, if plan == "free" { 402 } else { 201 }, "{plan}: {}", next.text);
        let audit = app.as_admin("GET", &format!("/v1/admin/audit?user={}", ana.id), Value::Null).await;
        let newest = (&audit.body[0]["name"], &audit.body[0]["actor"]);
        assert_eq!(newest, (&json!("rates_cleared"), &json!("admin:root")), "{plan}");
    }
    app.stop().await;
}
