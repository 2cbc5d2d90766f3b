//! The verbs, as a backend calls them: on a manual clock, over months of a subject's life.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use quotum::blocking::Quota;
use quotum::{
    Decision, Error, FeatureValue, Kind, Limit, ManualClock, Period, Plans, QuotaLimit, Reason, Request, Status,
    Subscription, Timestamp, UNITS_MAX,
};

const PLANS: &str = r#"
default_plan = "free"
zone = "America/Sao_Paulo"
grace_days = 3

[plans.free]
features = { excel = false, history_days = 7, priority = "low" }
quotas = { searches = ["5/day", "8/month"], exports = "0/day", storage_mb = "100/total", calls = "unlimited/month", pings = "unlimited" }

[plans.pro]
rank = 1
features = { excel = true, history_days = 30, priority = "normal" }
quotas = { searches = "50/month", exports = "2/day", seats = "3/total" }

[plans.secret]
rank = 2
visible = false
quotas = { searches = "unlimited" }

[plans.max]
rank = 3
features = { excel = true, history_days = "unlimited" }
quotas = { searches = "1000/billing_month", exports = "unlimited", seats = "unlimited" }
"#;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn open_with(plans: &str, now: &str) -> (Quota, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(time(now)));
    let builder = Quota::builder().plans(Plans::from_toml(plans).unwrap()).clock(clock.clone());
    (builder.open("memory:").unwrap(), clock)
}

fn open(now: &str) -> (Quota, Arc<ManualClock>) {
    open_with(PLANS, now)
}

fn days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}

#[track_caller]
fn reason(decision: &Decision) -> Reason {
    decision.denied.as_ref().unwrap().reason
}

#[test]
fn a_decision_tells_everything_a_caller_needs() {
    let (quota, _) = open("2026-03-10T15:00:00Z");
    let decision = quota.consume("ana", &[("searches", 4)]).unwrap();
    assert!(decision.allowed && decision.denied.is_none());
    assert_eq!((decision.plan.as_deref(), decision.plan_version), (Some("free"), Some(1)));
    let [day, month] = &decision.quotas[..] else { panic!("{decision:?}") };
    assert_eq!((day.period, day.limit, day.used, day.remaining), (Some(Period::Day), Limit::Units(5), 4, Some(1)));
    assert_eq!((day.percent, day.warning), (Some(80), true));
    // Midnight in São Paulo.
    assert_eq!(day.resets_at, Some(time("2026-03-11T03:00:00Z")));
    assert_eq!((month.used, month.remaining, month.percent, month.warning), (4, Some(4), Some(50), false));
    assert_eq!(month.resets_at, Some(time("2026-04-01T03:00:00Z")));
    assert_eq!(decision.quota("searches"), Some(day));
}

#[test]
fn a_decision_is_read_again_from_its_json() {
    let plans = format!("{PLANS}\n[plans.free.rates]\napi = [\"2/minute\", \"100/15 minutes burst 7\"]");
    let (quota, _) = open_with(&plans, "2026-03-10T15:00:00Z");
    let asked = |request: Request<'_>| quota.admit(&request).unwrap();
    let decisions = [
        asked(Request::by("ana").rate("api").costs(&[("searches", 2), ("calls", 1), ("pings", 1)])),
        asked(Request::by("ana").rate("api").costs(&[("exports", 1)])),
        asked(Request::by("ana").rate("api")),
        asked(Request::by("bob").feature_value("history_days", 90)),
        asked(Request::by("bob").feature_value("priority", "high")),
    ];
    assert!(decisions[0].allowed && decisions[1..].iter().all(|decision| !decision.allowed));
    for decision in decisions {
        let json = serde_json::to_string(&decision).unwrap();
        assert_eq!(serde_json::from_str::<Decision>(&json).unwrap(), decision, "{json}");
    }
    let plain = r#"{"allowed":true,"plan":null,"plan_version":null,"subject":null,"quotas":[],"degraded":false,"repeated":false}"#;
    assert_eq!(serde_json::from_str::<Decision>(plain).unwrap().rates, []);
    let nonsense = plain.replace("[]", r#"[{"metric":"m","limit":"boundless"}]"#);
    let refused = serde_json::from_str::<Decision>(&nonsense).unwrap_err().to_string();
    assert!(refused.contains("boundless"), "{refused}");
}

#[test]
fn a_denial_tells_which_limit_how_much_until_when_and_which_plan_would_help() {
    let (quota, _) = open("2026-03-10T15:00:00Z");
    assert!(quota.consume("ana", &[("searches", 4)]).unwrap().allowed);
    let denial = quota.consume("ana", &[("searches", 2)]).unwrap().into_result().unwrap_err();
    assert_eq!(denial.reason, Reason::QuotaExhausted);
    assert_eq!((denial.metric.as_deref(), denial.period), (Some("searches"), Some(Period::Day)));
    assert_eq!((denial.requested, denial.limit, denial.used), (Some(2), Some(5), Some(4)));
    assert_eq!(denial.resets_at, Some(time("2026-03-11T03:00:00Z")));
    assert_eq!(denial.upgrade_to.as_deref(), Some("pro"));
    let text = denial.to_string();
    assert_eq!(
        text,
        "searches: 4 of 5/day used, 2 more do not fit; starts afresh at 2026-03-11T03:00:00Z; plan pro would allow it"
    );
    let json = serde_json::to_value(&denial).unwrap();
    assert_eq!(json["reason"], "quota_exhausted");
    assert_eq!(json["resets_at"], "2026-03-11T03:00:00Z");
    assert!(json.get("feature").is_none());
}

#[test]
fn of_two_exhausted_periods_the_one_that_ends_last_is_named() {
    let (quota, clock) = open("2026-03-10T15:00:00Z");
    assert!(quota.consume("ana", &[("searches", 5)]).unwrap().allowed);
    clock.advance(days(1));
    assert!(quota.consume("ana", &[("searches", 3)]).unwrap().allowed);
    let denial = quota.consume("ana", &[("searches", 3)]).unwrap().denied.unwrap();
    assert_eq!(denial.period, Some(Period::Month), "waiting for tomorrow would be in vain");
}

/// Of the peers, one burnt a window's quota for a request that another window denied, and one left a
/// counter above its limit.
#[test]
fn a_denied_request_consumes_nothing_of_any_metric_or_period() {
    let (quota, clock) = open("2026-03-10T15:00:00Z");
    assert!(quota.consume("ana", &[("searches", 5), ("storage_mb", 60)]).unwrap().allowed);
    clock.advance(days(1));
    let before = quota.usage("ana").unwrap();
    for costs in [
        [("searches", 4), ("storage_mb", 1)],
        [("searches", 1), ("storage_mb", 41)],
        [("calls", 1), ("exports", 1)],
        [("storage_mb", 40), ("searches", 6)],
    ] {
        assert!(!quota.consume("ana", &costs).unwrap().allowed, "{costs:?}");
        assert_eq!(quota.usage("ana").unwrap(), before, "{costs:?}");
    }
    assert!(quota.consume("ana", &[("searches", 3), ("storage_mb", 40)]).unwrap().allowed);
}

#[test]
fn check_answers_as_consume_would_and_consumes_nothing() {
    let (quota, _) = open("2026-03-10T15:00:00Z");
    for _ in 0..10 {
        let decision = quota.check("ana", &[("searches", 5)]).unwrap();
        assert!(decision.allowed);
        assert_eq!(decision.quotas[0].used, 0);
    }
    assert!(quota.consume("ana", &[("searches", 5)]).unwrap().allowed);
    let (checked, consumed) = (quota.check("ana", &[("searches", 1)]), quota.consume("ana", &[("searches", 1)]));
    assert_eq!(checked.unwrap(), consumed.unwrap());
    let never = quota.check("ana", &[("searches", 6)]).unwrap();
    assert_eq!(reason(&never), Reason::NeverFits);
}

#[test]
fn more_than_the_limit_itself_never_fits() {
    let (quota, _) = open("2026-03-10T15:00:00Z");
    let denial = quota.consume("ana", &[("searches", 6)]).unwrap().denied.unwrap();
    assert_eq!((denial.reason, denial.limit, denial.resets_at), (Reason::NeverFits, Some(5), None));
    assert_eq!(denial.upgrade_to.as_deref(), Some("pro"));
    let denial = quota.consume("ana", &[("searches", UNITS_MAX)]).unwrap().denied.unwrap();
    assert_eq!((denial.reason, denial.upgrade_to), (Reason::NeverFits, None), "a hidden plan is not suggested");
}

#[test]
fn a_metric_that_the_plan_does_not_name_is_not_granted() {
    let (quota, _) = open("2026-03-10T15:00:00Z");
    let denial = quota.consume("ana", &[("seats", 1)]).unwrap().denied.unwrap();
    assert_eq!((denial.reason, denial.limit), (Reason::NeverFits, Some(0)));
    assert_eq!(denial.upgrade_to.as_deref(), Some("pro"));
    let denial = quota.consume("ana", &[("seats", 4)]).unwrap().denied.unwrap();
    assert_eq!(denial.upgrade_to.as_deref(), Some("max"));
}

#[test]
fn unlimited_is_a_word_of_its_own() {
    let (quota, _) = open("2026-03-10T15:00:00Z");
    let decision = quota.consume("ana", &[("calls", 1_000_000), ("pings", UNITS_MAX)]).unwrap();
    assert!(decision.allowed);
    let counted = decision.quota("calls").unwrap();
    assert_eq!((counted.limit, counted.used, counted.remaining), (Limit::Unlimited, 1_000_000, None));
    let uncounted = decision.quota("pings").unwrap();
    assert_eq!((uncounted.period, uncounted.limit, uncounted.used), (None, Limit::Unlimited, 0));
    assert!(quota.consume("ana", &[("pings", UNITS_MAX)]).unwrap().allowed);
    assert!(!quota.consume("ana", &[("calls", UNITS_MAX)]).unwrap().allowed, "no count exceeds the largest number");
}

#[test]
fn a_new_period_starts_afresh_and_a_total_never_does() {
    let (quota, clock) = open("2026-03-31T12:00:00Z");
    assert!(quota.consume("ana", &[("searches", 5), ("storage_mb", 100)]).unwrap().allowed);
    // The last second of March in São Paulo is in April in UTC.
    clock.set_wall(time("2026-04-01T02:59:59Z"));
    assert!(!quota.consume("ana", &[("searches", 1)]).unwrap().allowed);
    clock.advance(Duration::from_secs(1));
    assert!(quota.consume("ana", &[("searches", 5)]).unwrap().allowed);
    assert!(!quota.consume("ana", &[("storage_mb", 1)]).unwrap().allowed);
    clock.advance(days(3_650));
    assert!(!quota.consume("ana", &[("storage_mb", 1)]).unwrap().allowed);
    let left = quota.refund("ana", &[("storage_mb", 30)]).unwrap();
    assert_eq!(left[0].remaining, Some(30));
    assert!(quota.consume("ana", &[("storage_mb", 30)]).unwrap().allowed);
}

#[test]
fn a_clock_that_steps_back_grants_no_second_allowance() {
    let (quota, clock) = open("2026-04-01T12:00:00Z");
    assert!(quota.consume("ana", &[("searches", 5)]).unwrap().allowed);
    for earlier in ["2026-04-01T11:00:00Z", "2026-03-31T12:00:00Z", "1970-01-01T00:00:00Z"] {
        clock.set_wall(time(earlier));
        assert!(!quota.consume("ana", &[("searches", 1)]).unwrap().allowed, "{earlier}");
    }
    clock.set_wall(time("2026-04-02T12:00:00Z"));
    assert!(quota.consume("ana", &[("searches", 3)]).unwrap().allowed);
}

/// A peer took "value equals amount" for a new window, so that a refund to zero moved its end.
#[test]
fn a_refund_gives_back_in_every_period_and_moves_no_window() {
    let (quota, clock) = open("2026-03-10T15:00:00Z");
    let resets_at = quota.consume("ana", &[("searches", 5)]).unwrap().quotas[0].resets_at;
    clock.advance(Duration::from_secs(3_600));
    let states = quota.refund("ana", &[("searches", 99)]).unwrap();
    assert!(states.iter().all(|state| state.used == 0));
    let decision = quota.consume("ana", &[("searches", 5)]).unwrap();
    assert!(decision.allowed);
    assert_eq!(decision.quotas[0].resets_at, resets_at);
}

#[test]
fn a_trial_starts_with_the_first_charge_and_ends_for_good() {
    let plans = PLANS.replace("[plans.free]", "[plans.free]\ntrial_days = 7");
    let (quota, clock) = open_with(&plans, "2026-03-10T15:00:00Z");
    // Looking starts nothing.
    assert!(quota.check("ana", &[("searches", 1)]).unwrap().allowed);
    quota.usage("ana").unwrap();
    quota.feature("ana", "excel").unwrap();
    clock.advance(days(30));
    assert!(quota.consume("ana", &[("searches", 1)]).unwrap().allowed);
    let usage = quota.usage("ana").unwrap();
    assert_eq!((usage.status, usage.trial_ends_at), (Some(Status::Trialing), Some(time("2026-04-16T15:00:00Z"))));

    clock.set_wall(time("2026-04-16T14:59:59Z"));
    assert!(quota.consume("ana", &[("searches", 1)]).unwrap().allowed);
    clock.advance(Duration::from_secs(1));
    let denial = quota.consume("ana", &[("searches", 1)]).unwrap().denied.unwrap();
    assert_eq!((denial.reason, denial.ended_at), (Reason::TrialExpired, Some(time("2026-04-16T15:00:00Z"))));
    assert_eq!(denial.upgrade_to.as_deref(), Some("pro"), "the trial plan itself is no upgrade");
    assert_eq!(quota.feature("ana", "history_days").unwrap(), None);
    assert_eq!(reason(&quota.require("ana", "history_days").unwrap()), Reason::TrialExpired);
    clock.advance(days(400));
    assert_eq!(reason(&quota.consume("ana", &[("searches", 1)]).unwrap()), Reason::TrialExpired);

    quota.subscribe("ana", Subscription::active("pro", time("2027-05-21T15:00:00Z"))).unwrap();
    assert!(quota.consume("ana", &[("searches", 1)]).unwrap().allowed);
}

/// A trial that has begun keeps its end, whatever becomes of the plan's `trial_days`.
#[test]
fn a_trial_once_started_is_moved_by_no_change_of_the_plan() {
    let trial = |days: u32| PLANS.replace("[plans.free]", &format!("[plans.free]\ntrial_days = {days}"));
    let (quota, clock) = open_with(&trial(7), "2026-03-10T15:00:00Z");
    assert!(quota.consume("ana", &[("searches", 1)]).unwrap().allowed);
    clock.advance(days(8));
    assert_eq!(reason(&quota.consume("ana", &[("searches", 1)]).unwrap()), Reason::TrialExpired);
    quota.set_plans(&Plans::from_toml(&trial(14)).unwrap()).unwrap();
    assert_eq!(reason(&quota.consume("ana", &[("searches", 1)]).unwrap()), Reason::TrialExpired);
    // Where the plan has become free for ever, it is so for those who tried it too.
    quota.set_plans(&Plans::from_toml(PLANS).unwrap()).unwrap();
    assert!(quota.consume("ana", &[("searches", 1)]).unwrap().allowed);
}

#[test]
fn a_trial_of_any_plan_is_put_with_its_end() {
    let trial = |days: u32| PLANS.replace("[plans.pro]", &format!("[plans.pro]\ntrial_days = {days}"));
    let (quota, clock) = open_with(&trial(14), "2026-03-10T00:00:00Z");
    quota.subscribe("ana", Subscription::trial("pro", clock_now(&clock))).unwrap();
    let end = Some(time("2026-03-24T00:00:00Z"));
    assert_eq!(quota.subscription("ana").unwrap().unwrap().trial_ends_at, end);
    quota.set_plans(&Plans::from_toml(&trial(1)).unwrap()).unwrap();
    clock.advance(days(3));
    assert_eq!(quota.check("ana", &[("searches", 1)]).unwrap().plan.as_deref(), Some("pro"));
    assert_eq!(quota.usage("ana").unwrap().trial_ends_at, end);
}

#[test]
fn a_plan_that_was_removed_is_an_error_until_its_subscription_lapses() {
    let (quota, clock) = open("2026-03-01T00:00:00Z");
    let mut subscription = Subscription::active("pro", time("2026-03-01T00:00:00Z"));
    subscription.expires_at = Some(time("2026-03-31T00:00:00Z"));
    quota.subscribe("ana", subscription).unwrap();
    let without = PLANS.replace("[plans.pro]", "[plans.other]");
    quota.set_plans(&Plans::from_toml(&without).unwrap()).unwrap();
    let error = quota.check("ana", &[("searches", 1)]).unwrap_err();
    assert!(matches!(error, Error::Unknown { kind: Kind::Plan, .. }), "{error}");
    clock.set_wall(time("2026-04-04T00:00:00Z"));
    assert_eq!(quota.check("ana", &[("searches", 1)]).unwrap().plan.as_deref(), Some("free"));
}

#[test]
fn whose_removed_plan_has_ended_is_denied_for_what_ended() {
    let trial = PLANS.replace("[plans.free]", "[plans.free]\ntrial_days = 7");
    let without = trial.replace("[plans.pro]", "[plans.other]");
    for (status, expected) in
        [(Status::Canceled, Reason::SubscriptionInactive), (Status::Trialing, Reason::TrialExpired)]
    {
        let (quota, _) = open_with(&trial, "2026-03-10T00:00:00Z");
        let mut subscription = Subscription::active("pro", time("2026-03-01T00:00:00Z"));
        subscription.status = status;
        subscription.trial_ends_at = Some(time("2026-03-09T00:00:00Z"));
        quota.subscribe("ana", subscription).unwrap();
        quota.set_plans(&Plans::from_toml(&without).unwrap()).unwrap();
        assert_eq!(reason(&quota.consume("ana", &[("searches", 1)]).unwrap()), expected);
    }
}

#[test]
fn a_lapsed_subject_finds_no_fresh_allowance_in_the_same_billing_period() {
    let plans = PLANS.replace(r#"searches = ["5/day", "8/month"]"#, r#"searches = "5/billing_month""#);
    let (quota, _) = open_with(&plans, "2026-03-20T00:00:00Z");
    let mut subscription = Subscription::active("max", time("2026-01-15T00:00:00Z"));
    subscription.anchor = Some(time("2026-01-15T00:00:00Z"));
    quota.subscribe("ana", subscription.clone()).unwrap();
    assert!(quota.consume("ana", &[("searches", 5)]).unwrap().allowed);
    subscription.status = Status::Canceled;
    quota.subscribe("ana", subscription).unwrap();
    let decision = quota.consume("ana", &[("searches", 1)]).unwrap();
    assert_eq!((decision.allowed, decision.plan.as_deref(), decision.quotas[0].used), (false, Some("free"), 5));
}

#[test]
fn overrides_that_could_not_be_kept_are_refused() {
    let (quota, clock) = open("2026-03-10T15:00:00Z");
    let refused = |change: &dyn Fn(&mut Subscription), expected: &str| {
        let mut subscription = Subscription::active("pro", clock_now(&clock));
        change(&mut subscription);
        let error = quota.subscribe("ana", subscription).unwrap_err().to_string();
        assert!(error.starts_with("argument `overrides`: found ") && error.contains(expected), "{error}");
    };
    let limited = |units| QuotaLimit::Limited { units, period: Period::Day };
    let quotas = |limits: Vec<QuotaLimit>| {
        move |subscription: &mut Subscription| {
            subscription.overrides.quotas.insert("searches".into(), limits.clone());
        }
    };
    refused(&quotas(vec![limited(u64::MAX)]), "at most 9007199254740991 units");
    refused(&quotas(vec![]), "at least one");
    refused(&quotas(vec![limited(1), limited(2)]), "one limit for each period");
    refused(
        &|subscription| {
            subscription.overrides.features.insert("excel".into(), 3.into());
        },
        "true or false",
    );
    refused(
        &|subscription| {
            subscription.overrides.features.insert("history_days".into(), u64::MAX.into());
        },
        "at most",
    );
    assert_eq!(quota.subscription("ana").unwrap(), None);
}

#[test]
fn a_denied_request_starts_no_trial() {
    let plans = PLANS.replace("[plans.free]", "[plans.free]\ntrial_days = 7");
    let (quota, _) = open_with(&plans, "2026-03-10T15:00:00Z");
    assert_eq!(reason(&quota.consume("ana", &[("searches", 6)]).unwrap()), Reason::NeverFits);
    assert_eq!(reason(&quota.consume("ana", &[("seats", 1)]).unwrap()), Reason::NeverFits);
    assert_eq!(quota.subscription("ana").unwrap(), None);
}

#[test]
fn bad_costs_do_not_start_a_trial() {
    let plans = PLANS.replace("[plans.free]", "[plans.free]\ntrial_days = 7");
    let (quota, _) = open_with(&plans, "2026-03-10T15:00:00Z");
    assert!(quota.consume("ana", &[("searches", 0)]).is_err());
    assert!(quota.consume("ana", &[("serches", 1)]).is_err());
    assert_eq!(quota.subscription("ana").unwrap(), None);
}

#[test]
fn a_paid_subscription_grants_until_its_grace_has_passed_and_then_falls_to_the_default_plan() {
    let (quota, clock) = open("2026-03-01T00:00:00Z");
    let mut subscription = Subscription::active("pro", time("2026-03-01T00:00:00Z"));
    subscription.expires_at = Some(time("2026-03-31T00:00:00Z"));
    quota.subscribe("ana", subscription).unwrap();
    let plan_at = |text: &str| {
        clock.set_wall(time(text));
        quota.check("ana", &[("searches", 1)]).unwrap().plan
    };
    assert_eq!(plan_at("2026-03-30T23:59:59Z").as_deref(), Some("pro"));
    assert_eq!(plan_at("2026-04-02T23:59:59Z").as_deref(), Some("pro"), "three days of grace");
    assert_eq!(plan_at("2026-04-03T00:00:00Z").as_deref(), Some("free"));
    let usage = quota.usage("ana").unwrap();
    assert_eq!((usage.status, usage.expires_at), (Some(Status::Active), Some(time("2026-03-31T00:00:00Z"))));
}

#[test]
fn each_status_grants_what_it_should() {
    let (quota, _) = open("2026-03-10T00:00:00Z");
    let plan_of = |status: Status, since: &str, expires_at: Option<&str>| {
        let mut subscription = Subscription::active("pro", time(since));
        (subscription.status, subscription.expires_at) = (status, expires_at.map(time));
        quota.subscribe("ana", subscription).unwrap();
        quota.check("ana", &[("searches", 1)]).unwrap().plan.unwrap().to_string()
    };
    assert_eq!(plan_of(Status::Active, "2026-01-01T00:00:00Z", None), "pro");
    assert_eq!(plan_of(Status::PastDue, "2026-03-08T00:00:00Z", None), "pro", "within the grace");
    assert_eq!(plan_of(Status::PastDue, "2026-03-07T00:00:00Z", None), "free");
    assert_eq!(plan_of(Status::PastDue, "2026-03-01T00:00:00Z", Some("2026-03-09T00:00:00Z")), "pro");
    assert_eq!(plan_of(Status::Canceled, "2026-03-09T00:00:00Z", None), "free");
    assert_eq!(plan_of(Status::Canceled, "2026-03-01T00:00:00Z", Some("2026-03-11T00:00:00Z")), "pro", "paid for");
    assert_eq!(plan_of(Status::Canceled, "2026-03-01T00:00:00Z", Some("2026-03-09T23:00:00Z")), "free", "no grace");
}

#[test]
fn a_paused_subscription_grants_nothing_not_even_the_default_plan() {
    let (quota, _) = open("2026-03-10T00:00:00Z");
    for (subject, plan) in [("ana", "pro"), ("bob", "free")] {
        let mut subscription = Subscription::active(plan, time("2026-03-09T00:00:00Z"));
        subscription.status = Status::Paused;
        subscription.expires_at = Some(time("2026-12-31T00:00:00Z"));
        quota.subscribe(subject, subscription.clone()).unwrap();
        let denied = quota.consume(subject, &[("searches", 1)]).unwrap();
        assert_eq!(reason(&denied), Reason::SubscriptionInactive, "{plan}");

        subscription.status = Status::Active;
        quota.subscribe(subject, subscription).unwrap();
        assert!(quota.consume(subject, &[("searches", 1)]).unwrap().allowed);
    }
}

#[test]
fn a_lapsed_subject_is_denied_where_the_plans_say_so_or_the_default_plan_is_a_trial() {
    let deny = PLANS.replace("grace_days = 3", "when_lapsed = 'deny'");
    let trial = PLANS.replace("[plans.free]", "[plans.free]\ntrial_days = 7");
    for plans in [deny, trial] {
        let (quota, _) = open_with(&plans, "2026-03-10T00:00:00Z");
        let mut subscription = Subscription::active("pro", time("2026-01-01T00:00:00Z"));
        subscription.status = Status::Canceled;
        quota.subscribe("ana", subscription).unwrap();
        let denial = quota.consume("ana", &[("searches", 1)]).unwrap().denied.unwrap();
        assert_eq!(denial.reason, Reason::SubscriptionInactive);
        assert_eq!(denial.upgrade_to.as_deref(), Some("pro"), "the same plan again");
        assert_eq!(quota.usage("ana").unwrap().refused, Some(Reason::SubscriptionInactive));
    }
}

#[test]
fn billing_months_follow_the_anchor_in_the_zone() {
    let (quota, clock) = open("2026-01-31T12:00:00Z");
    let mut subscription = Subscription::active("max", time("2026-01-31T12:00:00Z"));
    subscription.anchor = Some(time("2026-01-31T12:00:00Z"));
    quota.subscribe("ana", subscription).unwrap();
    for (begin, end) in [
        ("2026-01-31T12:00:00Z", "2026-02-28T12:00:00Z"),
        ("2026-02-28T12:00:00Z", "2026-03-31T12:00:00Z"),
        ("2026-03-31T12:00:00Z", "2026-04-30T12:00:00Z"),
    ] {
        clock.set_wall(time(begin));
        let decision = quota.consume("ana", &[("searches", 1_000)]).unwrap();
        assert!(decision.allowed, "{begin}");
        assert_eq!(decision.quotas[0].resets_at, Some(time(end)));
        assert!(!quota.consume("ana", &[("searches", 1)]).unwrap().allowed);
    }
}

#[test]
fn an_upgrade_in_the_middle_of_a_period_keeps_what_was_used() {
    let (quota, clock) = open("2026-03-10T15:00:00Z");
    assert!(quota.consume("ana", &[("searches", 5)]).unwrap().allowed);
    assert!(!quota.consume("ana", &[("searches", 1)]).unwrap().allowed);
    quota.subscribe("ana", Subscription::active("pro", clock_now(&clock))).unwrap();
    let decision = quota.consume("ana", &[("searches", 1)]).unwrap();
    assert_eq!((decision.allowed, decision.quotas[0].used), (true, 6), "at once, on the month's own counter");
    // Back again: the limit is now below what was used.
    assert!(quota.consume("ana", &[("searches", 30)]).unwrap().allowed);
    quota.subscribe("ana", Subscription::active("free", clock_now(&clock))).unwrap();
    let usage = quota.usage("ana").unwrap();
    let month = usage.quotas.iter().find(|state| &*state.metric == "searches" && state.period == Some(Period::Month));
    let month = month.unwrap();
    assert_eq!((month.used, month.remaining, month.percent), (36, Some(0), Some(450)));
    assert_eq!(reason(&quota.consume("ana", &[("searches", 1)]).unwrap()), Reason::QuotaExhausted);
}

fn clock_now(clock: &ManualClock) -> Timestamp {
    quotum::Clock::wall(clock)
}

#[test]
fn a_suggestion_counts_what_was_used_in_the_other_plans_own_periods() {
    let plans = r#"
        default_plan = "free"
        [plans.free]
        quotas = { jobs = "5/day" }
        [plans.basic]
        rank = 1
        quotas = { jobs = ["9/day", "10/month"] }
        [plans.pro]
        rank = 2
        quotas = { jobs = "500/month" }
    "#;
    let (quota, clock) = open_with(plans, "2026-03-10T15:00:00Z");
    quota.subscribe("ana", Subscription::active("basic", clock_now(&clock))).unwrap();
    assert!(quota.consume("ana", &[("jobs", 8)]).unwrap().allowed);
    quota.subscribe("ana", Subscription::active("free", clock_now(&clock))).unwrap();
    clock.advance(days(1));
    assert!(quota.consume("ana", &[("jobs", 4)]).unwrap().allowed);
    // Today basic has room for three more, but this month it has not.
    let denial = quota.consume("ana", &[("jobs", 3)]).unwrap().denied.unwrap();
    assert_eq!(denial.upgrade_to.as_deref(), Some("pro"));
}

#[test]
fn overrides_replace_what_the_plan_says_for_one_subject() {
    let (quota, clock) = open("2026-03-10T15:00:00Z");
    let mut subscription = Subscription::active("free", clock_now(&clock));
    subscription.overrides.quotas.insert("exports".into(), vec!["7/day".parse::<QuotaLimit>().unwrap()]);
    subscription.overrides.features.insert("excel".into(), true.into());
    quota.subscribe("ana", subscription).unwrap();
    assert!(quota.consume("ana", &[("exports", 7), ("searches", 5)]).unwrap().allowed);
    assert!(!quota.consume("ana", &[("exports", 1)]).unwrap().allowed);
    assert!(quota.require("ana", "excel").unwrap().allowed);
    assert!(!quota.consume("bob", &[("exports", 1)]).unwrap().allowed);
    assert!(!quota.require("bob", "excel").unwrap().allowed);
}

#[test]
fn features_are_looked_up_and_required_with_a_value() {
    let (quota, clock) = open("2026-03-10T15:00:00Z");
    assert_eq!(quota.feature("ana", "history_days").unwrap(), Some(FeatureValue::Ceiling(7)));
    let denial = quota.require("ana", "excel").unwrap().denied.unwrap();
    assert_eq!((denial.reason, denial.upgrade_to.as_deref()), (Reason::FeatureNotInPlan, Some("pro")));

    quota.subscribe("bob", Subscription::active("pro", clock_now(&clock))).unwrap();
    assert!(quota.require_value("bob", "history_days", 30).unwrap().allowed);
    let denial = quota.require_value("bob", "history_days", 90).unwrap().denied.unwrap();
    assert_eq!((denial.reason, denial.upgrade_to.as_deref()), (Reason::FeatureValueExceeded, Some("max")));
    assert_eq!(denial.feature_requested, Some(FeatureValue::Ceiling(90)));
    assert_eq!(denial.feature_granted, Some(FeatureValue::Ceiling(30)));
    assert_eq!(denial.to_string(), "history_days: 90 was asked for, the plan has 30; plan max would allow it");
    assert!(quota.require_value("bob", "priority", "normal").unwrap().allowed);
    assert_eq!(reason(&quota.require_value("bob", "priority", "high").unwrap()), Reason::FeatureValueExceeded);

    quota.subscribe("eve", Subscription::active("max", clock_now(&clock))).unwrap();
    assert!(quota.require_value("eve", "history_days", UNITS_MAX).unwrap().allowed);
    assert_eq!(reason(&quota.require("eve", "priority").unwrap()), Reason::FeatureNotInPlan);
}

#[test]
fn unknown_names_are_errors_that_list_the_known_ones() {
    let (quota, clock) = open("2026-03-10T15:00:00Z");
    let now = clock_now(&clock);
    let known = |kind, name: &str, known: &[&str]| Error::Unknown {
        kind,
        name: name.into(),
        known: known.iter().map(|&name| name.into()).collect(),
    };
    let metrics = ["calls", "exports", "pings", "searches", "seats", "storage_mb"];
    let features = ["excel", "history_days", "priority"];
    let error = quota.consume("ana", &[("searches", 1), ("serches", 1)]).unwrap_err();
    assert_eq!(error, known(Kind::Metric, "serches", &metrics));
    assert_eq!(
        error.to_string(),
        "unknown metric \"serches\"; the plans know: calls, exports, pings, searches, seats, storage_mb"
    );
    assert_eq!(quota.require("ana", "exel").unwrap_err(), known(Kind::Feature, "exel", &features));
    assert_eq!(quota.feature("ana", "").unwrap_err(), known(Kind::Feature, "", &features));
    let error = quota.subscribe("ana", Subscription::active("gold", now)).unwrap_err();
    assert_eq!(error, known(Kind::Plan, "gold", &["free", "pro", "secret", "max"]));
    let mut subscription = Subscription::active("pro", now);
    subscription.overrides.quotas.insert("serches".into(), vec![QuotaLimit::Unlimited]);
    assert_eq!(quota.subscribe("ana", subscription).unwrap_err(), known(Kind::Metric, "serches", &metrics));
    assert!(quota.usage("ana").unwrap().quotas.iter().all(|state| state.used == 0), "nothing was half-applied");
    assert_eq!(quota.subscription("ana").unwrap(), None);
}

#[test]
fn bad_arguments_are_refused_with_their_name_and_what_was_expected() {
    let (quota, clock) = open("2026-03-10T15:00:00Z");
    let refused = |error: Error, argument: &str, expected: &str| {
        let text = error.to_string();
        assert!(text.starts_with(&format!("argument `{argument}`: found ")) && text.contains(expected), "{text}");
        assert_eq!(error.retry(), quotum::Retry::Never);
    };
    for amount in [0, UNITS_MAX + 1, u64::MAX] {
        let error = quota.consume("ana", &[("searches", amount)]).unwrap_err();
        refused(error, "costs", "expected from 1 to 9007199254740991 units");
    }
    refused(quota.consume("ana", &[]).unwrap_err(), "costs", "at least one metric");
    refused(quota.consume("ana", &[("searches", 1), ("searches", 1)]).unwrap_err(), "costs", "once");
    for subject in [String::new(), "x".repeat(257)] {
        refused(quota.consume(&subject, &[("searches", 1)]).unwrap_err(), "subject", "1 to 256 bytes");
        refused(quota.usage(&subject).unwrap_err(), "subject", "1 to 256 bytes");
    }
    refused(quota.require_value("ana", "excel", 3).unwrap_err(), "value", "true or false, as in the plans");
    refused(quota.require_value("ana", "history_days", true).unwrap_err(), "value", "a whole number");
    let mut subscription = Subscription::active("pro", clock_now(&clock));
    subscription.zone = Some("Mars/Olympus".into());
    refused(quota.subscribe("ana", subscription).unwrap_err(), "zone", "an IANA time zone");
    let trial = Subscription::trial("pro", clock_now(&clock));
    refused(quota.subscribe("ana", trial).unwrap_err(), "trial_ends_at", "has no trial_days");
    for url in ["", "memory:x", "mysql://x", "quota.db", "sqlite:", "sqlite::memory:", "sqlite:a?synchronous=off"] {
        refused(Quota::builder().open(url).unwrap_err(), "url", "sqlite:");
    }
}

#[test]
fn usage_lists_every_quota_of_the_plan() {
    let (quota, _) = open("2026-03-10T15:00:00Z");
    assert!(quota.consume("ana", &[("searches", 4), ("calls", 9)]).unwrap().allowed);
    let usage = quota.usage("ana").unwrap();
    assert_eq!((&*usage.subject, &*usage.plan, usage.status, usage.refused), ("ana", "free", None, None));
    let rows: Vec<(&str, Option<Period>, u64)> =
        usage.quotas.iter().map(|state| (&*state.metric, state.period, state.used)).collect();
    let expected = [
        ("calls", Some(Period::Month), 9),
        ("exports", Some(Period::Day), 0),
        ("pings", None, 0),
        ("searches", Some(Period::Day), 4),
        ("searches", Some(Period::Month), 4),
        ("storage_mb", Some(Period::Total), 0),
    ];
    assert_eq!(rows, expected);
    let json = serde_json::to_value(&usage).unwrap();
    assert_eq!(json["quotas"][3]["limit"], 5);
    assert_eq!(json["quotas"][0]["limit"], "unlimited");
}

#[test]
fn the_public_listing_is_by_rank_and_leaves_out_hidden_plans() {
    let (quota, _) = open("2026-03-10T15:00:00Z");
    let ids: Vec<String> = quota.plans().unwrap().iter().map(|plan| plan.id.to_string()).collect();
    assert_eq!(ids, ["free", "pro", "max"]);
}

#[test]
fn a_subjects_own_zone_moves_its_days() {
    let (quota, clock) = open("2026-03-10T15:00:00Z");
    let mut subscription = Subscription::active("free", clock_now(&clock));
    subscription.zone = Some("Asia/Tokyo".into());
    quota.subscribe("ana", subscription).unwrap();
    let decision = quota.consume("ana", &[("searches", 5)]).unwrap();
    assert_eq!(decision.quotas[0].resets_at, Some(time("2026-03-11T15:00:00Z")));
}

/// The client's retry arrives while the first request still works.
#[test]
fn a_repeated_reservation_that_is_dropped_takes_nothing_from_the_first() {
    let (quota, _) = open("2026-03-10T15:00:00Z");
    let minute = Duration::from_secs(60);
    let first = quota.reserve_once("ana", &[("searches", 3)], minute, "k").unwrap().unwrap();
    let again = quota.reserve_once("ana", &[("searches", 3)], minute, "k").unwrap().unwrap();
    assert!(again.decision().repeated);
    drop(again);
    let settlement = first.commit(&[("searches", 2)]).unwrap();
    assert_eq!((settlement.repeated, settlement.consumed("searches")), (false, 2));
}

/// Whose units would count twice, or nowhere.
#[test]
fn an_account_is_no_member_of_another() {
    let plans = Plans::from_toml("default_plan = 'free'\n[plans.free]\nquotas = { jobs = '1/day' }").unwrap();
    let quota = Quota::builder().plans(plans).open("memory:").unwrap();
    let member_of = |account: &str| Subscription::active("free", Timestamp::now()).in_account(account);
    quota.subscribe("ana", member_of("team")).unwrap();
    for (subject, account, named) in [("bob", "ana", "ana"), ("team", "holding", "ana"), ("ana", "ana", "ana")] {
        let error = quota.subscribe(subject, member_of(account)).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
        assert!(error.to_string().contains(named), "{error}");
        assert_eq!(quota.subscription("team").unwrap(), None, "nothing was done");
    }
    quota.subscribe("bob", member_of("team")).unwrap();
    assert!(quota.consume("bob", &[("jobs", 1)]).unwrap().allowed);
    assert!(!quota.consume("ana", &[("jobs", 1)]).unwrap().allowed);
}
