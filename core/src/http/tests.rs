//! The mapping, reason by reason, read back by an independent parser of structured fields.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use sfv::{BareItem, List, ListEntry, Parser};

use super::*;
use crate::blocking::Quota;
use crate::clock::{Clock, ManualClock};
use crate::plan::{FeatureValue, Limit, Plans, RateLimit, UNITS_MAX};
use crate::request::Request;

const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
const REDUCED_CAPACITY: &str = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn noon() -> Timestamp {
    at("2026-01-31T12:00:00Z")
}

fn state(metric: &str, period: Period, limit: u64, used: u64, resets_at: Option<&str>) -> QuotaState {
    QuotaState {
        metric: metric.into(),
        period: Some(period),
        limit: Limit::Units(limit),
        used,
        held: 0,
        leased: 0,
        stranded: 0,
        bonus: 0,
        overage: 0,
        remaining: Some(limit.saturating_sub(used)),
        resets_at: resets_at.map(at),
        percent: None,
        warning: false,
        shared: false,
    }
}

fn unlimited(metric: &str, period: Option<Period>) -> QuotaState {
    let counted = state(metric, Period::Month, 1, 0, None);
    QuotaState { period, limit: Limit::Unlimited, remaining: None, ..counted }
}

fn allowed(quotas: Vec<QuotaState>) -> Decision {
    Decision { quotas, ..Decision::allow() }
}

fn denied(denial: Denial, quotas: Vec<QuotaState>) -> Decision {
    Decision { quotas, ..Decision::deny(Some("user-42".into()), denial) }
}

fn exhausted(quotas: Vec<QuotaState>, requested: u64) -> Decision {
    let denial = Denial::of_quota(quotas.last().unwrap(), requested);
    denied(denial, quotas)
}

fn window(units: u64, window_s: u32, remaining: u64, reset_after_ms: u64) -> ScopeState {
    let limit = RateLimit { units, window_s, burst: units };
    let reset_after = Duration::from_millis(reset_after_ms);
    ScopeState { scope: "api".into(), window: RateState { limit, remaining, reset_after } }
}

fn rate_denial(requested: u64, retry_after_ms: u64) -> Denial {
    Denial {
        scope: Some("api".into()),
        requested: Some(requested),
        limit: Some(10),
        window_s: Some(60),
        retry_after_ms: Some(retry_after_ms),
        ..Denial::because(Reason::RateLimited)
    }
}

fn rate_limited(retry_after_ms: u64) -> Decision {
    let rates = vec![window(10, 60, 0, retry_after_ms.saturating_add(54_000))];
    Decision { rates, ..denied(rate_denial(1, retry_after_ms), Vec::new()) }
}

fn answer(decision: &Decision) -> Answer {
    Mapping::new().fields(Fields::Both).answer(decision, noon())
}

fn problem(answer: &Answer) -> Value {
    serde_json::from_str(&answer.denied.as_ref().unwrap().body).unwrap()
}

/// The names and parameters of a list of strings, read by a parser that is not ours.
fn items(field: &str) -> Vec<(String, Vec<(String, String)>)> {
    let entries = Parser::new(field).parse::<List>().unwrap_or_else(|error| panic!("{field}: {error}"));
    let text = |value: BareItem| match value {
        BareItem::String(text) => text.to_string(),
        BareItem::Integer(number) => i64::from(number).to_string(),
        other => panic!("{field}: {other:?}"),
    };
    let item = |entry| match entry {
        ListEntry::Item(item) => {
            assert!(matches!(item.bare_item, BareItem::String(_)), "{field}");
            let params = item.params.into_iter().map(|(key, value)| (key.to_string(), text(value)));
            (text(item.bare_item), params.collect())
        }
        ListEntry::InnerList(_) => panic!("{field}: a list within"),
    };
    entries.into_iter().map(item).collect()
}

fn params(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn every_reason_has_its_status_problem_and_fields() {
    let month = || state("searches", Period::Month, 50, 50, Some("2026-02-01T00:00:00Z"));
    let of_store = Denial { retry_after_ms: Some(4_001), ..Denial::because(Reason::StoreUnavailable) };
    let because = |reason| denied(Denial::because(reason), Vec::new());
    let never = || denied(Denial::of_quota(&month(), 51), vec![month()]);
    let searches = json!(["searches/month"]);
    let cases = [
        (exhausted(vec![month()], 1), 429, QUOTA_EXCEEDED, "Quota Exceeded", searches.clone(), Some("43200")),
        (never(), 429, QUOTA_EXCEEDED, "Quota Exceeded", searches, None),
        (rate_limited(1_500), 429, QUOTA_EXCEEDED, "Quota Exceeded", json!(["api/60s"]), Some("2")),
        (denied(of_store, Vec::new()), 503, REDUCED_CAPACITY, "Temporary Reduced Capacity", json!([]), Some("5")),
        (because(Reason::FeatureNotInPlan), 403, "about:blank", "Forbidden", Value::Null, None),
        (because(Reason::FeatureValueExceeded), 403, "about:blank", "Forbidden", Value::Null, None),
        (because(Reason::TrialExpired), 403, "about:blank", "Forbidden", Value::Null, None),
        (because(Reason::SubscriptionInactive), 403, "about:blank", "Forbidden", Value::Null, None),
        (because(Reason::Unauthenticated), 401, "about:blank", "Unauthorized", Value::Null, None),
    ];
    for (decision, status, kind, title, violated, retry_after) in cases {
        let denial = decision.denied.clone().unwrap();
        let (answer, reason) = (answer(&decision), denial.reason);
        let sent = answer.denied.as_ref().unwrap();
        assert_eq!((sent.status, sent.content_type), (status, "application/problem+json"), "{reason}");
        assert_eq!(answer.field("retry-after"), retry_after, "{reason}");
        let challenge = (status == 401).then_some("Bearer error=\"invalid_token\"");
        assert_eq!(answer.field("www-authenticate"), challenge, "{reason}");
        let problem = problem(&answer);
        assert_eq!(problem["type"], kind, "{reason}");
        assert_eq!(problem["title"], title, "{reason}");
        assert_eq!(problem["status"], status, "{reason}");
        assert_eq!(problem["violated-policies"], violated, "{reason}");
        assert_eq!(problem["reason"], reason.as_str());
        if reason != Reason::StoreUnavailable {
            assert_eq!(problem["detail"], denial.to_string());
        }
    }
}

#[test]
fn a_status_can_be_chosen_for_each_reason() {
    let decision = exhausted(vec![state("searches", Period::Month, 1, 1, None)], 1);
    for status in [400, 402, 403, 599] {
        let mapping = Mapping::new().status(Reason::QuotaExhausted, status).unwrap();
        let answer = mapping.answer(&decision, noon());
        assert_eq!(answer.denied.as_ref().unwrap().status, status);
        assert_eq!(problem(&answer)["status"], status);
        assert_eq!(mapping.status_of(Reason::RateLimited), 429);
    }
}

#[test]
fn a_status_that_tells_no_error_is_refused() {
    for status in [0, 200, 302, 399, 600, u16::MAX] {
        let error = Mapping::new().status(Reason::QuotaExhausted, status).unwrap_err().to_string();
        let expected =
            format!("argument `status`: found {status}, expected an HTTP status from 400 to 599 for quota_exhausted");
        assert_eq!(error, expected);
    }
}

#[test]
fn what_is_allowed_has_fields_and_nothing_else() {
    let quotas = vec![state("requests", Period::Hour, 100, 58, Some("2026-01-31T13:00:00Z"))];
    let denial = || Some(Box::new(Denial::of_quota(&quotas[0], 50)));
    let in_shadow = Decision { would_deny: denial(), ..allowed(quotas.clone()) };
    let degraded = Decision { degraded: true, ..allowed(quotas.clone()) };
    for decision in [allowed(quotas.clone()), in_shadow, degraded] {
        let answer = answer(&decision);
        assert_eq!(answer.denied, None);
        let expected = [
            ("ratelimit-policy", "\"requests/hour\";q=100;w=3600"),
            ("ratelimit", "\"requests/hour\";r=42;t=3600"),
            ("x-ratelimit-limit", "100"),
            ("x-ratelimit-remaining", "42"),
            ("x-ratelimit-reset", "1769864400"),
        ];
        let fields: Vec<_> = answer.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(fields, expected);
    }
}

#[test]
fn only_the_families_asked_for_are_sent() {
    let decision = exhausted(vec![state("searches", Period::Month, 1, 1, Some("2026-02-01T00:00:00Z"))], 1);
    for (fields, standard, legacy) in [
        (Fields::Standard, true, false),
        (Fields::Legacy, false, true),
        (Fields::Both, true, true),
        (Fields::None, false, false),
    ] {
        assert_eq!(fields.to_string().parse(), Ok(fields));
        let answer = Mapping::new().fields(fields).answer(&decision, noon());
        assert_eq!(answer.field("ratelimit").is_some(), standard, "{fields}");
        assert_eq!(answer.field("ratelimit-policy").is_some(), standard, "{fields}");
        assert_eq!(answer.field("x-ratelimit-limit").is_some(), legacy, "{fields}");
        assert_eq!(answer.field("retry-after"), Some("43200"), "{fields}");
    }
    let error = "ietf".parse::<Fields>().unwrap_err().to_string();
    assert_eq!(error, "argument `fields`: found \"ietf\", expected standard, legacy, both, none");
}

#[test]
fn each_limit_is_one_policy_with_what_is_known_of_it() {
    let shared = QuotaState { shared: true, ..state("messages", Period::Day, 90, 0, Some("2026-02-01T00:00:00Z")) };
    let answer = answer(&allowed(vec![
        state("messages", Period::Day, 5, 1, Some("2026-02-01T00:00:00Z")),
        shared,
        state("requests", Period::Minute, 60, 0, Some("2026-01-31T12:00:10Z")),
        state("storage_mb", Period::Total, 500, 499, None),
        unlimited("exports", Some(Period::Month)),
        unlimited("exports", None),
    ]));
    let expected = [
        ("messages/day".to_owned(), params(&[("q", "5"), ("qu", "messages")])),
        ("messages/day/account".to_owned(), params(&[("q", "90"), ("qu", "messages")])),
        ("requests/minute".to_owned(), params(&[("q", "60"), ("w", "60")])),
        ("storage_mb/total".to_owned(), params(&[("q", "500"), ("qu", "storage_mb")])),
    ];
    assert_eq!(items(answer.field("ratelimit-policy").unwrap()), expected);
    let expected = [
        ("messages/day".to_owned(), params(&[("r", "4"), ("t", "43200")])),
        ("messages/day/account".to_owned(), params(&[("r", "90"), ("t", "43200")])),
        ("requests/minute".to_owned(), params(&[("r", "60"), ("t", "10")])),
        ("storage_mb/total".to_owned(), params(&[("r", "1")])),
    ];
    assert_eq!(items(answer.field("ratelimit").unwrap()), expected);
}

#[test]
fn a_window_is_stated_only_where_all_windows_are_alike() {
    for period in Period::ALL {
        let exact = match period {
            Period::Minute => Some(60),
            Period::Hour => Some(3_600),
            _ => None,
        };
        assert_eq!(exact_length_s(period), exact, "{period}");
    }
}

#[test]
fn what_is_unlimited_has_no_fields() {
    let decision = allowed(vec![unlimited("exports", None), unlimited("calls", Some(Period::Month))]);
    assert_eq!(answer(&decision).fields, []);
    assert_eq!(answer(&Decision::allow()).fields, []);
}

#[test]
fn waits_are_rounded_up_and_never_end_before_the_window() {
    for (now, t, retry_after) in [
        ("2026-01-31T23:59:59Z", "1", "1"),
        ("2026-01-31T23:59:59.001Z", "1", "1"),
        ("2026-01-31T23:59:58.999999999Z", "2", "2"),
        ("2026-01-31T23:59:59.999999999Z", "1", "1"),
        ("2026-02-01T00:00:00Z", "0", "1"),
        ("2026-02-01T00:00:01.5Z", "0", "1"),
    ] {
        let decision = exhausted(vec![state("searches", Period::Month, 1, 1, Some("2026-02-01T00:00:00Z"))], 1);
        let answer = Mapping::new().answer(&decision, at(now));
        let expected = format!("\"searches/month\";r=0;t={t}");
        assert_eq!(answer.field("ratelimit"), Some(expected.as_str()), "{now}");
        assert_eq!(answer.field("retry-after"), Some(retry_after), "{now}");
    }
    for (wait_ms, wait_s) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2"), (59_999, "60")] {
        let answer = answer(&rate_limited(wait_ms));
        assert_eq!(answer.field("retry-after"), Some(wait_s), "{wait_ms} ms");
    }
}

#[test]
fn every_window_of_a_rate_is_a_policy_beside_the_quotas() {
    let quotas = vec![state("searches", Period::Month, 50, 1, Some("2026-02-01T00:00:00Z"))];
    let rates = vec![window(10, 60, 6, 23_001), window(100, 3_600, 100, 0)];
    let answer = answer(&Decision { rates, ..allowed(quotas) });
    let policies = "\"api/60s\";q=10;w=60, \"api/3600s\";q=100;w=3600, \"searches/month\";q=50;qu=\"searches\"";
    assert_eq!(answer.field("ratelimit-policy"), Some(policies));
    let available = "\"api/60s\";r=6;t=24, \"api/3600s\";r=100, \"searches/month\";r=49;t=43200";
    assert_eq!(answer.field("ratelimit"), Some(available));
    assert_eq!(answer.field("x-ratelimit-remaining"), Some("6"));
}

#[test]
fn only_the_windows_of_a_rate_that_lack_room_are_violated_and_waited_for() {
    let rates = vec![window(10, 60, 2, 48_000), window(100, 3_600, 40, 2_160_000), window(5, 1, 1, 800)];
    let answer = answer(&Decision { rates, ..denied(rate_denial(3, 6_000), Vec::new()) });
    assert_eq!(problem(&answer)["violated-policies"], json!(["api/60s", "api/1s"]));
    assert_eq!(answer.field("ratelimit"), Some("\"api/60s\";r=2;t=6, \"api/3600s\";r=40;t=2160, \"api/1s\";r=1;t=1"));
    assert_eq!(answer.field("retry-after"), Some("6"));
    assert_eq!(answer.field("x-ratelimit-limit"), Some("10"));
}

#[test]
fn who_waits_as_told_is_let_pass_by_a_rate() {
    let plans = "default_plan = 'free'\n[plans.free]\nrates = { api = ['2/minute', '3/hour'] }";
    let clock = Arc::new(ManualClock::at(noon()));
    let builder = Quota::builder().plans(Plans::from_toml(plans).unwrap());
    let quota = builder.clock(Arc::clone(&clock) as Arc<dyn Clock>).open("memory:").unwrap();
    let mut waits = 0;
    for _ in 0..12 {
        let decision = quota.admit(&Request::by("user-42").rate("api")).unwrap();
        let answer = Mapping::new().answer(&decision, clock.wall());
        assert_eq!(items(answer.field("ratelimit-policy").unwrap()).len(), 2);
        assert_eq!(answer.denied.is_none(), decision.allowed);
        let Some(wait_s) = answer.field("retry-after") else { continue };
        assert!(!problem(&answer)["violated-policies"].as_array().unwrap().is_empty());
        clock.advance(Duration::from_secs(wait_s.parse().unwrap()));
        assert!(quota.admit(&Request::by("user-42").rate("api")).unwrap().allowed);
        waits += 1;
    }
    assert!(waits > 3, "{waits}");
}

#[test]
fn a_rate_of_another_scope_did_not_deny() {
    let other = ScopeState { scope: "login".into(), ..window(5, 60, 0, 60_000) };
    let decision = rate_limited(1_500);
    let rates = decision.rates.iter().cloned().chain([other]).collect();
    let answer = answer(&Decision { rates, ..decision });
    assert_eq!(problem(&answer)["violated-policies"], json!(["api/60s"]));
    assert_eq!(answer.field("retry-after"), Some("2"));
}

#[test]
fn waiting_is_not_advised_for_more_than_a_rate_ever_lets_pass() {
    let denial = Denial { reason: Reason::NeverFits, retry_after_ms: None, ..rate_denial(11, 0) };
    let answer = answer(&Decision { rates: vec![window(10, 60, 10, 0)], ..denied(denial, Vec::new()) });
    assert_eq!(answer.field("ratelimit"), Some("\"api/60s\";r=10"));
    assert_eq!(answer.field("retry-after"), None);
    assert_eq!(problem(&answer)["violated-policies"], json!(["api/60s"]));
}

#[test]
fn every_period_that_lacks_room_is_violated_and_the_wait_is_for_the_last() {
    let day = state("messages", Period::Day, 5, 4, Some("2026-02-01T00:00:00Z"));
    let other = state("exports", Period::Day, 1, 1, Some("2026-02-01T00:00:00Z"));
    let week = state("messages", Period::Week, 20, 2, Some("2026-02-02T00:00:00Z"));
    let month = state("messages", Period::BillingMonth, 150, 149, Some("2026-02-10T00:00:00Z"));
    let answer = answer(&exhausted(vec![day, other, week, month], 2));
    let violated = json!(["messages/day", "messages/billing_month"]);
    assert_eq!(problem(&answer)["violated-policies"], violated);
    let until_s = at("2026-02-10T00:00:00Z").as_second();
    assert_eq!(answer.field("retry-after"), Some((until_s - noon().as_second()).to_string().as_str()));
    assert_eq!(answer.field("x-ratelimit-limit"), Some("150"));
    assert_eq!(answer.field("x-ratelimit-reset"), Some(until_s.to_string().as_str()));
}

#[test]
fn waiting_is_not_advised_for_a_level() {
    let day = state("storage_mb", Period::Day, 5, 5, Some("2026-02-01T00:00:00Z"));
    let answer = answer(&exhausted(vec![day, state("storage_mb", Period::Total, 500, 500, None)], 1));
    assert_eq!(answer.field("retry-after"), None);
    assert_eq!(answer.field("x-ratelimit-limit"), Some("500"));
    assert_eq!(answer.field("x-ratelimit-reset"), None);
}

#[test]
fn legacy_fields_tell_of_the_fewest_units_left() {
    let answer = answer(&allowed(vec![
        state("messages", Period::Month, 150, 10, Some("2026-02-01T00:00:00Z")),
        state("messages", Period::Hour, 5, 2, Some("2026-01-31T12:30:00.5Z")),
        unlimited("exports", Some(Period::Month)),
    ]));
    assert_eq!(answer.field("x-ratelimit-limit"), Some("5"));
    assert_eq!(answer.field("x-ratelimit-remaining"), Some("3"));
    assert_eq!(answer.field("x-ratelimit-reset"), Some("1769862601"), "rounded up");
}

#[test]
fn numbers_too_large_for_a_structured_field_are_understated_or_left_out() {
    let largest = state("bytes", Period::Total, INTEGER_MAX, 0, None);
    let above = state("bytes", Period::Month, UNITS_MAX, 0, None);
    let answer = answer(&allowed(vec![largest, above]));
    assert_eq!(answer.field("ratelimit-policy"), Some("\"bytes/total\";q=999999999999999;qu=\"bytes\""));
    let available = "\"bytes/total\";r=999999999999999, \"bytes/month\";r=999999999999999";
    assert_eq!(answer.field("ratelimit"), Some(available));
    assert_eq!(items(available).len(), 2);
}

#[test]
fn names_that_differ_stay_different_when_they_are_made_printable() {
    let name =
        |metric: &str| items(answer(&allowed(vec![state(metric, Period::Hour, 1, 0, None)])).fields[0].1.as_str());
    assert_eq!(name("a\nb")[0].0, "a%0Ab/hour");
    assert_eq!(name("a%0Ab")[0].0, "a%250Ab/hour");
    assert_eq!(name("é")[0].0, "%C3%A9/hour");
    assert_eq!(name("a\"\\;q=9")[0].0, "a\"\\;q=9/hour");
}

#[test]
fn a_challenge_comes_with_every_401_and_blames_the_token_only_where_it_was_refused() {
    let mapping = Mapping::new().status(Reason::SubscriptionInactive, 401).unwrap();
    let mapping = mapping.status(Reason::Unauthenticated, 404).unwrap();
    let answer = |reason| mapping.answer(&denied(Denial::because(reason), Vec::new()), noon());
    assert_eq!(answer(Reason::SubscriptionInactive).field("www-authenticate"), Some("Bearer"));
    assert_eq!(answer(Reason::Unauthenticated).field("www-authenticate"), None);
}

#[test]
fn the_body_has_what_the_denial_says_and_nothing_of_what_the_store_said() {
    let denial = Denial {
        reason: Reason::StoreUnavailable,
        metric: Some("searches".into()),
        period: Some(Period::Month),
        requested: Some(2),
        limit: Some(50),
        used: Some(49),
        resets_at: Some(at("2026-02-01T00:00:00Z")),
        scope: Some("api".into()),
        window_s: Some(60),
        retry_after_ms: Some(5_000),
        feature: Some("tone".into()),
        feature_requested: Some(FeatureValue::Text("\"}\r\n<b>".to_owned())),
        feature_granted: Some(FeatureValue::Ceiling(30)),
        ended_at: Some(at("2026-01-01T00:00:00Z")),
        cause: Some("unable to open /var/lib/quota.db".to_owned()),
        upgrade_to: Some("pro".into()),
    };
    let mut expected = serde_json::to_value(&denial).unwrap();
    let answer = answer(&denied(denial, Vec::new()));
    assert!(!answer.denied.as_ref().unwrap().body.contains("quota.db"));

    let (mut problem, expected) = (problem(&answer), expected.as_object_mut().unwrap());
    let problem = problem.as_object_mut().unwrap();
    for member in ["type", "title", "status", "detail", "violated-policies"] {
        assert!(problem.remove(member).is_some(), "{member}");
    }
    expected.remove("cause");
    assert_eq!(problem, expected);
}

#[test]
fn a_problem_begins_with_the_members_of_the_standard() {
    let answer = answer(&exhausted(vec![state("searches", Period::Month, 1, 1, None)], 1));
    let expected = "{\"type\":\"https://iana.org/assignments/http-problem-types#quota-exceeded\",\
        \"title\":\"Quota Exceeded\",\"status\":429,\
        \"detail\":\"searches: 1 of 1/month used, 1 more do not fit\",\
        \"violated-policies\":[\"searches/month\"],\"reason\":\"quota_exhausted\",\"metric\":\"searches\",\
        \"period\":\"month\",\"requested\":1,\"limit\":1,\"used\":1}";
    assert_eq!(answer.denied.unwrap().body, expected);
}

proptest! {
    #[test]
    fn no_text_ends_a_header_field_or_begins_another(
        metric in "\\PC{0,9}|[\\x00-\\x7f]{0,9}",
        scope in "\\PC{0,9}|[\\x00-\\x7f]{0,9}",
        subject in "\\r\\nset-cookie: [a-z]{1,9}",
        rate in any::<bool>(),
        limit in 0..=UNITS_MAX,
        used in 0..=UNITS_MAX,
        wait_ms in any::<u64>(),
    ) {
        let quotas = vec![state(&metric, Period::Month, limit, used, Some("2026-02-01T00:00:00Z"))];
        let scope: Arc<str> = scope.into();
        let rates = vec![ScopeState { scope: Arc::clone(&scope), ..window(limit, 60, 0, wait_ms) }];
        let denial = if rate {
            Denial { scope: Some(scope), ..rate_denial(1, wait_ms) }
        } else {
            Denial::of_quota(&quotas[0], 1)
        };
        let denial = Denial { cause: Some(subject.clone()), upgrade_to: Some(subject.as_str().into()), ..denial };
        let decision = Decision { plan: Some(Arc::from(subject.as_str())), rates, ..denied(denial, quotas) };
        let answer = answer(&Decision { subject: Some(subject.into()), ..decision });
        for (name, value) in &answer.fields {
            prop_assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}: {:?}", name, value);
            prop_assert!(!value.contains("cookie"), "{}: {:?}", name, value);
        }
        let policies = items(answer.field("ratelimit-policy").unwrap_or_default());
        let available = items(answer.field("ratelimit").unwrap());
        prop_assert!(policies.iter().all(|(name, _)| available.iter().any(|(other, _)| other == name)));
        // The problem names its policies as the fields do.
        let problem = problem(&answer);
        for name in problem["violated-policies"].as_array().unwrap() {
            prop_assert!(available.iter().any(|(other, _)| Some(other.as_str()) == name.as_str()), "{}", name);
        }
    }
}
