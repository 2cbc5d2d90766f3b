//! What a client sees, from its first request to its first denial and beyond.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::app::App;

#[tokio::test]
async fn the_first_job_is_made_and_what_is_left_is_told() {
    let app = App::start().await;
    let ana = app.register("ana", "203.0.113.1").await;

    let first = app.new_job(&ana).await;
    assert_eq!(first.status, 201, "{}", first.text);
    let jobs = &first.body["quotas"][0];
    assert_eq!((&jobs["metric"], &jobs["used"], &jobs["remaining"]), (&json!("jobs"), &json!(1), &json!(9)));
    assert_eq!(jobs["resets_at"], "2026-02-28T09:00:00Z");
    assert_eq!(first.field("ratelimit-policy"), "\"jobs/3600s\";q=10;w=3600, \"api/60s\";q=60;w=60");
    assert_eq!(first.field("ratelimit"), "\"jobs/3600s\";r=9;t=360, \"api/60s\";r=59;t=1");

    let me = app.ask("GET", "/v1/subscription/me", &ana.token, Value::Null).await;
    assert_eq!((&me.body["plan"], &me.body["subscription"]["status"]), (&json!("free"), &json!("active")));
    let usage = app.ask("GET", "/v1/usage", &ana.token, Value::Null).await;
    assert_eq!((usage.status, &usage.body["plan_name"]), (200, &json!("Free")));
    app.stop().await;
}

#[tokio::test]
async fn after_the_last_job_of_the_month_there_is_a_402_that_says_where_to_buy_more() {
    let app = App::start().await;
    let ana = app.register("ana", "203.0.113.1").await;
    for job in 1..=10 {
        let made = app.new_job(&ana).await;
        assert_eq!((made.status, &made.body["quotas"][0]["used"]), (201, &json!(job)), "{}", made.text);
    }

    let too_fast = app.new_job(&ana).await;
    assert_eq!((too_fast.status, too_fast.field("retry-after").as_str()), (429, "360"));
    assert_eq!(too_fast.body["reason"], "rate_limited");
    assert_eq!(too_fast.body["violated-policies"], json!(["jobs/3600s"]));

    app.pass(360);
    let denied = app.new_job(&ana).await;
    assert_eq!(denied.status, 402, "{}", denied.text);
    assert_eq!(denied.field("content-type"), "application/problem+json");
    let until_the_28th_s = 27 * 86_400 + 86_400 - 360;
    assert_eq!(denied.field("retry-after"), until_the_28th_s.to_string());
    assert_eq!((&denied.body["current"], &denied.body["limit"]), (&json!(10), &json!(10)));
    assert_eq!(denied.body["upgrade_url"], "/v1/plans?upgrade_to=pro");
    assert_eq!(denied.body["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    let expected = "\"jobs/billing_month\";r=0;t=2418840";
    assert!(denied.field("ratelimit").starts_with(expected), "{}", denied.field("ratelimit"));
    assert_eq!(app.usage(&ana, "api_calls", "used").await, 10, "a denied job has cost no call either");
    app.stop().await;
}

#[tokio::test]
async fn of_64_requests_at_once_exactly_as_many_pass_as_fit() {
    race_at_the_edge(App::start().await).await;
}

#[tokio::test]
async fn of_64_requests_at_once_exactly_as_many_pass_as_fit_on_a_file() {
    let folder = tempfile::tempdir().unwrap();
    race_at_the_edge(App::start_in(folder.path(), crate::app::START).await).await;
}

async fn race_at_the_edge(app: App) {
    let ana = app.register("ana", "203.0.113.1").await;
    app.put_on(&ana, "pro").await;
    let bearer = format!("Bearer {}", ana.token);
    let fields = [("authorization", bearer.as_str())];

    let stored = app.burst(64, "/v1/storage", &fields, |file| json!({ "name": format!("{file}"), "mb": 200 })).await;
    assert_eq!(stored, BTreeMap::from([(201, 50), (402, 14)]));
    assert_eq!(app.usage(&ana, "storage_mb", "used").await, 10_000);

    // The hour's rate lets 50 pass, and the month's quota what is left of 100.
    let jobs = || app.burst(64, "/v1/jobs", &fields, |_| json!({}));
    assert_eq!(jobs().await, BTreeMap::from([(201, 50), (429, 14)]));
    app.pass(3_600);
    for _ in 0..40 {
        assert_eq!(app.new_job(&ana).await.status, 201);
    }
    app.pass(3_600);
    assert_eq!(jobs().await, BTreeMap::from([(201, 10), (402, 40), (429, 14)]));
    assert_eq!(app.usage(&ana, "jobs", "used").await, 100);
    app.stop().await;
}

#[tokio::test]
async fn a_billing_month_begins_when_the_last_one_ends_to_the_second() {
    let app = App::start().await;
    let ana = app.register("ana", "203.0.113.1").await;
    for _ in 0..10 {
        assert_eq!(app.new_job(&ana).await.status, 201);
    }
    app.turn_to("2026-02-28T08:59:59Z");
    let ana = app.log_in(&ana, "203.0.113.1").await;
    let denied = app.new_job(&ana).await;
    assert_eq!((denied.status, denied.field("retry-after").as_str()), (402, "1"));
    app.pass(1);
    let first = app.new_job(&ana).await;
    assert_eq!((first.status, &first.body["quotas"][0]["used"]), (201, &json!(1)));
    assert_eq!(first.body["quotas"][0]["resets_at"], "2026-03-31T09:00:00Z");
    app.stop().await;
}

#[tokio::test]
async fn a_dearer_plan_is_in_force_at_once_and_what_was_used_stays_used() {
    let app = App::start().await;
    let ana = app.register("ana", "203.0.113.1").await;
    for _ in 0..10 {
        assert_eq!(app.new_job(&ana).await.status, 201);
    }
    app.pass(3_600);
    assert_eq!(app.new_job(&ana).await.status, 402);
    app.put_on(&ana, "pro").await;
    let next = app.new_job(&ana).await;
    let jobs = &next.body["quotas"][0];
    assert_eq!((next.status, &jobs["used"], &jobs["limit"]), (201, &json!(11), &json!(100)), "{}", next.text);
    assert_eq!(jobs["resets_at"], "2026-02-28T09:00:00Z", "the billing month goes on");
    assert!(next.field("ratelimit-policy").contains("\"jobs/3600s\";q=50"), "five times as fast");
    app.stop().await;
}

#[tokio::test]
async fn logging_in_is_limited_by_address_and_who_waits_as_told_is_let_pass() {
    let app = App::start().await;
    let wrong = || json!({ "email": "ana@example.com", "password": "guess" });
    for _ in 0..10 {
        assert_eq!(app.post_from("/v1/login", "203.0.113.7", wrong()).await.status, 401);
    }
    let denied = app.post_from("/v1/login", "203.0.113.7", wrong()).await;
    assert_eq!((denied.status, denied.field("retry-after").as_str()), (429, "360"));
    assert_eq!(denied.field("ratelimit-policy"), "\"login/3600s\";q=10;w=3600");
    assert_eq!(app.post_from("/v1/login", "203.0.113.8", wrong()).await.status, 401, "another address");
    app.pass(359);
    assert_eq!(app.post_from("/v1/login", "203.0.113.7", wrong()).await.status, 429);
    app.pass(1);
    assert_eq!(app.post_from("/v1/login", "203.0.113.7", wrong()).await.status, 401);
    app.stop().await;
}

#[tokio::test]
async fn the_calls_of_a_day_end_in_a_429_of_the_middleware() {
    let app = App::start().await;
    let ana = app.register("ana", "203.0.113.1").await;
    // Each file takes the place of the last, so that only calls are used up.
    let file = || json!({ "name": "notes", "mb": 1 });
    for _ in 0..100 {
        assert_eq!(app.ask("POST", "/v1/storage", &ana.token, file()).await.status, 201);
        app.pass(1);
    }
    let denied = app.ask("POST", "/v1/storage", &ana.token, file()).await;
    assert_eq!((denied.status, &denied.body["metric"]), (429, &json!("api_calls")));
    assert_eq!((&denied.body["limit"], &denied.body["upgrade_to"]), (&json!(100), &json!("pro")));
    assert_eq!(denied.field("content-type"), "application/problem+json");
    assert_eq!(denied.body["violated-policies"], json!(["api_calls/day"]));
    let until_midnight_s = 15 * 3_600 - 100;
    assert_eq!(denied.field("retry-after"), until_midnight_s.to_string());
    let standing = format!("\"api_calls/day\";r=0;t={until_midnight_s}");
    assert!(denied.field("ratelimit").starts_with(&standing), "{}", denied.field("ratelimit"));
    let policy = denied.field("ratelimit-policy");
    assert!(policy.starts_with("\"api_calls/day\";q=100"), "{policy}");
    assert_eq!(app.usage(&ana, "storage_mb", "used").await, 1);
    assert_eq!(app.ask("GET", "/v1/usage", &ana.token, Value::Null).await.status, 200, "it can still look");

    app.turn_to("2026-01-31T23:59:59Z");
    let ana = app.log_in(&ana, "203.0.113.1").await;
    let denied = app.ask("POST", "/v1/storage", &ana.token, file()).await;
    assert_eq!((denied.status, denied.field("retry-after").as_str()), (429, "1"));
    app.pass(1);
    assert_eq!(app.ask("POST", "/v1/storage", &ana.token, file()).await.status, 201);
    assert_eq!(app.usage(&ana, "api_calls", "used").await, 1, "a day begins at midnight");
    app.stop().await;
}

#[tokio::test]
async fn a_store_that_fails_is_503_and_never_a_limit_until_it_is_back() {
    let app = App::start().await;
    let ana = app.register("ana", "203.0.113.1").await;
    assert_eq!(app.new_job(&ana).await.status, 201);

    app.outage.begin();
    let failed = app.new_job(&ana).await;
    assert_eq!((failed.status, &failed.body["reason"]), (503, &json!("store_unavailable")), "{}", failed.text);
    assert_eq!(failed.field("retry-after"), "5");
    assert!(!failed.text.contains("db-3"), "{}", failed.text);
    assert_eq!(app.ask("GET", "/v1/admin/stats", "token-of-root", Value::Null).await.status, 503);

    app.outage.end();
    app.pass(60);
    let back = app.new_job(&ana).await;
    assert_eq!((back.status, &back.body["quotas"][0]["used"]), (201, &json!(2)), "{}", back.text);
    app.stop().await;
}

#[tokio::test]
async fn what_was_used_is_used_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::start_in(folder.path(), crate::app::START).await;
    let ana = app.register("ana", "203.0.113.1").await;
    app.put_on(&ana, "pro").await;
    for _ in 0..3 {
        assert_eq!(app.new_job(&ana).await.status, 201);
    }
    app.stop().await;

    let app = App::start_in(folder.path(), "2026-02-01T10:00:00Z").await;
    let ana = app.register("ana", "203.0.113.1").await;
    let next = app.new_job(&ana).await;
    let jobs = &next.body["quotas"][0];
    assert_eq!((&jobs["used"], &jobs["limit"]), (&json!(4), &json!(100)), "{}", next.text);
    assert_eq!(jobs["resets_at"], "2026-02-28T09:00:00Z");
    let audit = app.as_admin("GET", "/v1/admin/audit", Value::Null).await;
    assert_eq!(audit.body.as_array().unwrap().len(), 2, "registered and put on a plan, once each: {}", audit.text);
    app.stop().await;
}

#[tokio::test]
async fn features_are_asked_for_where_they_are_used() {
    let app = App::start().await;
    let ana = app.register("ana", "203.0.113.1").await;
    let by_key = || app.ask("GET", "/v1/usage", &ana.api_key, Value::Null);
    let denied = by_key().await;
    assert_eq!((denied.status, &denied.body["reason"]), (403, &json!("feature_not_in_plan")));
    assert_eq!((&denied.body["feature"], &denied.body["upgrade_to"]), (&json!("api_access"), &json!("pro")));
    app.put_on(&ana, "pro").await;
    assert_eq!(by_key().await.status, 200);

    let custom = || app.ask("POST", "/v1/jobs", &ana.token, json!({ "model": "my-own" }));
    let denied = custom().await;
    assert_eq!((denied.status, &denied.body["upgrade_to"]), (403, &json!("enterprise")));
    assert_eq!(app.usage(&ana, "jobs", "used").await, 0);
    app.put_on(&ana, "enterprise").await;
    assert_eq!(custom().await.status, 201);
    app.stop().await;
}

#[tokio::test]
async fn minutes_are_reserved_and_those_that_a_job_took_are_charged() {
    let app = App::start().await;
    let (ana, bob) = (app.register("ana", "203.0.113.1").await, app.register("bob", "203.0.113.2").await);
    assert_eq!(app.new_job(&ana).await.body["id"], 1);
    let run = |token: String, minutes: u64| {
        let app = &app;
        async move { app.ask("POST", "/v1/jobs/1/run", &token, json!({ "minutes": minutes })).await }
    };
    assert_eq!(run(bob.token.clone(), 12).await.status, 404, "it is not his");
    assert_eq!(run(ana.token.clone(), 61).await.status, 422);
    let done = run(ana.token.clone(), 12).await;
    assert_eq!((done.status, &done.body["minutes"]), (200, &json!(12)), "{}", done.text);
    assert_eq!(run(ana.token.clone(), 12).await.status, 409);
    assert_eq!(app.usage(&ana, "compute_minutes", "used").await, 12);
    app.stop().await;
}

#[tokio::test]
async fn a_job_that_never_ran_is_refunded_and_its_storage_is_free_again() {
    let app = App::start().await;
    let ana = app.register("ana", "203.0.113.1").await;
    let made = app.ask("POST", "/v1/jobs", &ana.token, json!({ "storage_mb": 60 })).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let too_large = app.ask("POST", "/v1/jobs", &ana.token, json!({ "storage_mb": 60 })).await;
    assert_eq!((too_large.status, &too_large.body["metric"]), (402, &json!("storage_mb")));
    assert_eq!(app.usage(&ana, "jobs", "used").await, 1, "all or nothing");

    let remove = || app.ask("DELETE", "/v1/jobs/1", &ana.token, Value::Null);
    assert_eq!(remove().await.status, 204);
    assert_eq!(remove().await.status, 404, "nothing is given back twice");
    assert_eq!((app.usage(&ana, "jobs", "used").await, app.usage(&ana, "storage_mb", "used").await), (0, 0));
    app.stop().await;
}

/// A refund goes to the month of now: jobs kept from January would be as many more in February.
#[tokio::test]
async fn a_job_of_an_earlier_month_gives_nothing_back_to_this_one() {
    let app = App::start().await;
    let ana = app.register("ana", "203.0.113.1").await;
    for _ in 0..10 {
        assert_eq!(app.new_job(&ana).await.status, 201);
    }
    app.turn_to("2026-02-28T09:00:00Z");
    let ana = app.log_in(&ana, "203.0.113.1").await;
    for _ in 0..10 {
        assert_eq!(app.new_job(&ana).await.status, 201);
    }
    app.pass(3_600);
    assert_eq!(app.new_job(&ana).await.status, 402);
    let remove = |job: u64| {
        let (app, token) = (&app, &ana.token);
        async move { app.ask("DELETE", &format!("/v1/jobs/{job}"), token, Value::Null).await.status }
    };
    for january in 1..=10 {
        assert_eq!(remove(january).await, 204);
    }
    assert_eq!(app.usage(&ana, "jobs", "used").await, 10);
    assert_eq!(app.new_job(&ana).await.status, 402);
    assert_eq!(remove(11).await, 204);
    assert_eq!(app.usage(&ana, "jobs", "used").await, 9, "one of this month's is given back");
    app.stop().await;
}

#[tokio::test]
async fn a_job_that_was_not_charged_gives_nothing_back() {
    let app = App::start().await;
    let ana = app.register("ana", "203.0.113.1").await;
    assert_eq!(app.new_job(&ana).await.status, 201);
    let switch = |mode: &'static str| app.as_admin("POST", "/v1/admin/enforcement", json!({ "mode": mode }));
    assert_eq!(switch("off").await.status, 204);
    assert_eq!(app.new_job(&ana).await.body["id"], 2);
    assert_eq!(switch("enforce").await.status, 204);
    assert_eq!(app.ask("DELETE", "/v1/jobs/2", &ana.token, Value::Null).await.status, 204);
    assert_eq!(app.usage(&ana, "jobs", "used").await, 1);
    app.stop().await;
}

#[tokio::test]
async fn nobody_comes_in_without_a_token_and_no_user_administrates() {
    let app = App::start().await;
    let ana = app.register("ana", "203.0.113.1").await;
    for token in ["", "guessed", "session_00000000000000000000000000000000"] {
        let answer = app.ask("GET", "/v1/usage", token, Value::Null).await;
        assert_eq!((answer.status, &answer.body["reason"]), (401, &json!("unauthenticated")), "{token:?}");
        assert!(answer.field("www-authenticate").starts_with("Bearer"));
        assert_eq!(app.ask("GET", "/v1/admin/audit", token, Value::Null).await.status, 401, "{token:?}");
    }
    for path in ["/v1/admin/users", "/v1/admin/stats", "/v1/admin/audit", "/v1/admin/users/ana@example.com"] {
        assert_eq!(app.ask("GET", path, &ana.token, Value::Null).await.status, 403, "{path}");
    }
    app.pass(12 * 3_600);
    assert_eq!(app.ask("GET", "/v1/usage", &ana.token, Value::Null).await.status, 401, "sessions end");
    app.stop().await;
}

#[tokio::test]
async fn administrators_find_suspend_and_remove_users_and_it_is_on_record() {
    let app = App::start().await;
    let (ana, bob) = (app.register("ana", "203.0.113.1").await, app.register("bob", "203.0.113.2").await);
    app.put_on(&bob, "pro").await;
    let found = app.as_admin("GET", "/v1/admin/users?containing=bob&plan=pro&status=active", Value::Null).await;
    assert_eq!((found.body.as_array().unwrap().len(), &found.body[0]["subject"]), (1, &json!("bob@example.com")));
    let stats = app.as_admin("GET", "/v1/admin/stats", Value::Null).await;
    let expected = json!([
        { "plan": "free", "status": "active", "subjects": 1 },
        { "plan": "pro", "status": "active", "subjects": 1 },
    ]);
    assert_eq!(stats.body["users"], expected);

    let turn = |word: &'static str| app.as_admin("POST", word, Value::Null);
    assert_eq!(turn("/v1/admin/users/ana@example.com/suspend").await.status, 200);
    let denied = app.new_job(&ana).await;
    assert_eq!((denied.status, &denied.body["reason"]), (403, &json!("subscription_inactive")));
    assert_eq!(turn("/v1/admin/users/ana@example.com/resume").await.status, 200);
    assert_eq!(app.new_job(&ana).await.status, 201);

    assert_eq!(app.new_job(&bob).await.status, 201);
    assert_eq!(app.as_admin("DELETE", "/v1/admin/users/bob@example.com", Value::Null).await.status, 204);
    assert_eq!(app.new_job(&bob).await.status, 401, "at once, although the token was cached");

    let audit = app.as_admin("GET", "/v1/admin/audit?user=bob@example.com", Value::Null).await;
    let told: Vec<_> = audit.body.as_array().unwrap().iter().map(|event| (&event["name"], &event["actor"])).collect();
    let (changed, forgotten, root) = (json!("subscription_changed"), json!("token_forgotten"), json!("admin:root"));
    let registered = json!("registration");
    assert_eq!(told, [(&changed, &root), (&forgotten, &root), (&changed, &root), (&changed, &registered)]);
    app.stop().await;
}

#[tokio::test]
async fn the_kill_switch_lets_users_pass_and_strangers_not() {
    let app = App::start().await;
    let ana = app.register("ana", "203.0.113.1").await;
    for _ in 0..10 {
        assert_eq!(app.new_job(&ana).await.status, 201);
    }
    let switch = |mode: &'static str| app.as_admin("POST", "/v1/admin/enforcement", json!({ "mode": mode }));
    assert_eq!(app.new_job(&ana).await.status, 429);
    assert_eq!(switch("off").await.status, 204);
    assert_eq!(app.new_job(&ana).await.status, 201);
    assert_eq!(app.ask("POST", "/v1/jobs", "guessed", json!({})).await.status, 401);
    assert_eq!(switch("shadow").await.status, 204);
    assert_eq!(app.new_job(&ana).await.status, 201);
    assert_eq!(switch("enforce").await.status, 204);
    assert_eq!(app.new_job(&ana).await.status, 429);
    app.stop().await;
}

#[tokio::test]
async fn plans_and_metrics_are_public_and_name_no_user() {
    let app = App::start().await;
    let ana = app.register("ana", "203.0.113.1").await;
    assert_eq!(app.new_job(&ana).await.status, 201);
    let plans = app.ask("GET", "/v1/plans", "", Value::Null).await;
    let listed: Vec<_> =
        plans.body.as_array().unwrap().iter().map(|plan| (&plan["id"], &plan["prices"]["monthly"])).collect();
    let expected = [("free", "USD 0.00"), ("pro", "USD 19.99"), ("enterprise", "USD 99.99")];
    assert_eq!(listed.len(), 3);
    for ((id, price), expected) in listed.into_iter().zip(expected) {
        assert_eq!((id.as_str().unwrap(), price.as_str().unwrap()), expected);
    }
    let metrics = app.ask("GET", "/metrics", "", Value::Null).await;
    assert!(metrics.text.contains("quotum_decisions_total{verb=\"admit\""), "{}", metrics.text);
    assert!(!metrics.text.contains("ana@example.com"));
    app.stop().await;
}
