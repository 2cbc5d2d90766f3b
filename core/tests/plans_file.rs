//! Plans files: what is read, and what is refused, with its line, its key and what was expected.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

use quotum::rate::Algorithm;
use quotum::{FeatureValue, Period, Plans, PlansError, QuotaLimit, Rate};

const GOOD_TOML: &str = r#"
default_plan = "free"
zone = "America/Sao_Paulo"
grace_days = 3
when_lapsed = "deny"

[plans.pro]
name = "Pro"
names = { fr = "Professionnel" }
description = "For people who work"
rank = 1
visible = true
version = 2
trial_days = 14
grace_days = 7
prices = { monthly = "BRL 297.00", annual = "XOF 2851" }
stripe_prices = { monthly = "price_1" }
features = { allow_excel = true, max_history_days = 365, priority = "high" }
quotas = { searches = ["50/day", "300/billing_month"], storage_mb = "500/total", exports = "unlimited", calls = "unlimited/month" }
rates = { api = "10/minute burst 5", login = ["5/minute", "20/hour"], upload = { limits = "3/hour", algorithm = "sliding_window" } }
rate_multiplier = 5

[plans.free]
features = { allow_excel = false, max_history_days = 7 }
quotas = { searches = "3/month" }
"#;

const GOOD_JSON: &str = r#"{
  "default_plan": "free", "zone": "America/Sao_Paulo", "grace_days": 3, "when_lapsed": "deny",
  "plans": {
    "pro": {
      "name": "Pro", "names": {"fr": "Professionnel"}, "description": "For people who work", "rank": 1,
      "visible": true, "version": 2, "trial_days": 14, "grace_days": 7,
      "prices": {"monthly": "BRL 297.00", "annual": "XOF 2851"}, "stripe_prices": {"monthly": "price_1"},
      "features": {"allow_excel": true, "max_history_days": 365, "priority": "high"},
      "quotas": {"searches": ["50/day", "300/billing_month"], "storage_mb": "500/total", "exports": "unlimited", "calls": "unlimited/month"},
      "rates": {
        "api": "10/minute burst 5", "login": ["5/minute", "20/hour"],
        "upload": {"limits": ["3/hour"], "algorithm": "sliding_window"}
      },
      "rate_multiplier": 5
    },
    "free": {"features": {"allow_excel": false, "max_history_days": 7}, "quotas": {"searches": "3/month"}}
  }
}"#;

#[test]
fn both_formats_say_the_same() {
    let plans = Plans::from_toml(GOOD_TOML).unwrap();
    assert_eq!(plans, Plans::from_json(GOOD_JSON).unwrap());
    let order: Vec<&str> = plans.visible().map(|plan| &*plan.id).collect();
    assert_eq!(order, ["free", "pro"]);
    let pro = plans.get("pro").unwrap();
    assert_eq!((pro.version, pro.trial_days, plans.grace_days(pro)), (2, 14, 7));
    assert_eq!(plans.grace_days(plans.default_plan()), 3);
    assert_eq!(pro.features["max_history_days"], FeatureValue::Ceiling(365));
    let limits = [
        QuotaLimit::Limited { units: 50, period: Period::Day },
        QuotaLimit::Limited { units: 300, period: Period::BillingMonth },
    ];
    assert_eq!(pro.quotas["searches"], limits);
    assert_eq!(pro.rates["api"], "10/minute burst 5".parse().unwrap());
    let upload = Rate::new(Algorithm::SlidingWindow, vec!["3/hour".parse().unwrap()]).unwrap();
    assert_eq!((&pro.rates["upload"], pro.rate_multiplier), (&upload, 5));
    assert_eq!(plans.default_plan().rate_multiplier, 1);
}

#[test]
fn plans_read_back_from_the_json_they_write() {
    let plans = Plans::from_toml(GOOD_TOML).unwrap();
    assert_eq!(Plans::from_json(&plans.to_json()).unwrap(), plans);
}

#[test]
fn the_shipped_plans_are_good() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/plans");
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 4);
    for file in files {
        let plans = Plans::read(&file).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(Plans::from_json(&plans.to_json()).unwrap(), plans, "{}", file.display());
    }
}

/// A line that stands in for the fifth of this file, and what must be said about it.
#[track_caller]
fn refused(line: &str, key: &str, message: &str) {
    let text =
        format!("default_plan = 'free'\n[plans.free]\nrank = 1\n[plans.pro]\n{line}\nquotas = {{ jobs = '1/day' }}\n");
    assert_problem(Plans::from_toml(&text), 5, key, message);
}

/// There must be just this problem.
#[track_caller]
fn assert_problem(found: Result<Plans, PlansError>, line: usize, key: &str, message: &str) {
    let error = found.expect_err("these plans are bad");
    let [problem] = &error.problems[..] else { panic!("expected one problem in:\n{error}") };
    let fits = problem.line == line && problem.key == key && problem.message.contains(message);
    assert!(fits, "expected line {line}, key {key}, {message:?} in:\n{error}");
}

#[test]
fn every_kind_of_bad_plan_is_refused() {
    refused("rank = 1", "plans.pro.rank", "found 1, as plan \"free\" has; expected a rank of its own");
    let whole = |value: &str| format!("found {value}, expected a whole number from 0 to");
    refused("rank = -1", "plans.pro.rank", &whole("-1"));
    refused("rank = 1.5", "plans.pro.rank", &whole("1.5"));
    refused("rank = nan", "plans.pro.rank", &whole("nan"));
    refused("rank = true", "plans.pro.rank", &whole("true"));
    refused("rank = '1'", "plans.pro.rank", &whole("\"1\""));
    refused("rank = 99999999999999999999", "plans.pro.rank", "found 99999999999999999999");
    refused("trial_days = 36501", "plans.pro.trial_days", "from 0 to 36500");
    refused("visible = 'yes'", "plans.pro.visible", "found \"yes\", expected true or false");
    refused("name = ''", "plans.pro.name", "expected a text");
    refused("nmae = 'Pro'", "plans.pro.nmae", "found an unknown key, expected one of: name, names");
    refused("prices = { monthly = '297' }", "plans.pro.prices.monthly", "such as \"BRL 297.00\"");
    refused("prices = { monthly = 'brl 297.00' }", "plans.pro.prices.monthly", "such as \"BRL 297.00\"");
    refused("prices = { monthly = 'BRL -1' }", "plans.pro.prices.monthly", "such as \"BRL 297.00\"");
    refused("features = { days = -1 }", "plans.pro.features.days", "found -1, expected true, false, a whole number");
    refused("features = { days = 1.5 }", "plans.pro.features.days", "found 1.5");
    refused("features = { days = 9007199254740992 }", "plans.pro.features.days", "to 9007199254740991");
    refused("features = { 'a b' = 1 }", "plans.pro.features.a b", "found the name \"a b\"");
    refused("features = []", "plans.pro.features", "found a list of 0, expected a table");
    refused("features = 2026-01-01", "plans.pro.features", "found 2026-01-01, expected a table");
}

#[test]
fn every_kind_of_bad_rate_is_refused() {
    let bad =
        |rate: &str, message: &str| refused(&format!("rates = {{ api = {rate} }}"), "plans.pro.rates.api", message);
    bad("'10/month'", "found \"10/month\", expected a rate such as");
    bad("['unlimited', '10/minute']", "expected a rate");
    bad("'10/minute burst 0'", "found \"0\", expected a whole number from 1");
    bad("10", "found 10, expected a limit");
    bad("[]", "found a list of 0");
    bad("['1/minute', '2/minute']", "found 2/minute beside another limit of its window");
    bad("['1/second', '1/minute', '1/hour', '1/2 hours', '1/day']", "found 5 limits, expected from one to four");
    bad("'2000000000/second'", "expected at most 1000000000 units in a window of gcra");
    bad("{ limits = '70000/hour', algorithm = 'sliding_window' }", "expected at most 65535 units");
    bad("{ limits = '7/hour burst 2', algorithm = 'fixed_window' }", "expected no burst");

    let key = "plans.pro.rates.api.limits";
    refused("rates = { api = {} }", key, "found nothing, expected a rate such as");
    refused("rates = { api = { limits = true } }", key, "found true");
    let algorithm = "plans.pro.rates.api.algorithm";
    let unknown = "expected an algorithm: gcra, sliding_window, fixed_window";
    refused("rates = { api = { limits = '1/day', algorithm = 'leaky' } }", algorithm, unknown);
    refused("rates = { api = { limits = '1/day', algorithm = 1 } }", algorithm, unknown);
    refused(
        "rates = { api = { limits = '1/day', burst = 2 } }",
        "plans.pro.rates.api.burst",
        "expected one of: limits",
    );
}

#[test]
fn a_rate_multiplier_is_a_whole_number_that_the_rates_can_take() {
    for value in ["0", "-1", "1001", "1.5", "true", "'2'"] {
        refused(&format!("rate_multiplier = {value}"), "plans.pro.rate_multiplier", "a whole number from 1 to 1000");
    }
    let text =
        "default_plan = 'free'\n[plans.free]\nrates = { up = { limits = '400/day', algorithm = 'sliding_window' } }\n";
    assert!(Plans::from_toml(&format!("{text}rate_multiplier = 163")).is_ok());
    let message = "found 65600/day, expected at most 65535 units in a window of sliding_window, in the rate \"up\"";
    assert_problem(Plans::from_toml(&format!("{text}rate_multiplier = 164")), 4, "plans.free.rate_multiplier", message);
}

#[test]
fn every_kind_of_bad_quota_is_refused() {
    let bad = |quota: &str, message: &str| {
        let text = format!("default_plan = 'free'\n[plans.free.quotas]\n\njobs = {quota}\n");
        assert_problem(Plans::from_toml(&text), 4, "plans.free.quotas.jobs", message);
    };
    bad("'50/fortnight'", "found \"fortnight\", expected a period: minute, hour, day");
    bad("'-5/day'", "found \"-5\", expected a whole number from 0");
    bad("'1.5/day'", "found \"1.5\"");
    bad("'9007199254740992/day'", "to 9007199254740991");
    bad("50", "found 50, expected a limit such as \"50/month\"");
    bad("true", "found true");
    bad("[]", "found a list of 0");
    bad("['5/day', 3]", "found 3");
    bad("['5/day', '6/day']", "found 6/day beside another limit of its period, expected one limit for each period");
    bad("['unlimited', '6/day']", "found unlimited beside another limit, expected it alone");
    bad("['unlimited', 'unlimited']", "beside another limit");
    bad("'∞/day'", "found \"∞\"");
}

#[test]
fn what_is_allowed_without_the_store_is_units_of_a_metric_that_the_plan_has() {
    let known = "found \"jbs\", expected a metric of the plan's quotas: jobs";
    refused(
        "rates = { api = { limits = '1/day', shared = 1 } }",
        "plans.pro.rates.api.shared",
        "expected true or false",
    );
    let by_gcra = "expected the algorithm gcra, by which shared rates are counted";
    let fixed = "rates = { api = { limits = '1/day', algorithm = 'fixed_window', shared = true } }";
    refused(fixed, "plans.pro.rates.api", by_gcra);
    refused("lease = { jbs = \"off\" }", "plans.pro.lease.jbs", known);
    for value in ["\"on\"", "5", "true"] {
        refused(
            &format!("lease = {{ jobs = {value} }}"),
            "plans.pro.lease.jobs",
            "expected \"auto\", \"off\" or a table",
        );
    }
    refused("lease = { jobs = { max = -1 } }", "plans.pro.lease.jobs.max", "expected a whole number from 0");
    for seconds in ["0", "3601", "1.5"] {
        let line = format!("lease = {{ jobs = {{ ttl_s = {seconds} }} }}");
        refused(&line, "plans.pro.lease.jobs.ttl_s", "expected a whole number from 1 to 3600");
    }
    refused("lease = { jobs = { size = 5 } }", "plans.pro.lease.jobs.size", "expected one of: max, ttl_s");
    refused("allow_degraded = { jbs = 3 }", "plans.pro.allow_degraded.jbs", known);
    for value in ["-1", "1.5", "'3'", "9007199254740992", "true"] {
        let line = format!("allow_degraded = {{ jobs = {value} }}");
        refused(&line, "plans.pro.allow_degraded.jobs", "expected a whole number from 0");
    }
}

#[test]
fn what_holds_for_members_and_for_all_plans_is_read_as_strictly() {
    let fortnight = "found \"fortnight\", expected a period: minute, hour, day";
    refused("member_quotas = { jobs = '5/fortnight' }", "plans.pro.member_quotas.jobs", fortnight);
    refused("grace_days = -1", "plans.pro.grace_days", "found -1, expected a whole number from 0");
    let bad = |line: &str, key: &str, message: &str| {
        let text = format!("default_plan = 'free'\n{line}\n[plans.free]\n");
        assert_problem(Plans::from_toml(&text), 2, key, message);
    };
    bad("rates = { api = '10/month' }", "rates.api", "found \"10/month\", expected a rate such as");
    bad("grace_days = -1", "grace_days", "found -1, expected a whole number from 0");
    bad("when_lapsed = 'maybe'", "when_lapsed", "found \"maybe\", expected \"default_plan\" or \"deny\"");
}

#[test]
fn names_have_up_to_64_bytes() {
    let (longest, longer) = ("n".repeat(64), "n".repeat(65));
    let plans = |name: &str| {
        let values =
            format!("features = {{ {name} = 1 }}\nquotas = {{ {name} = '1/day' }}\nrates = {{ {name} = '1/day' }}");
        Plans::from_toml(&format!("default_plan = '{name}'\n[plans.{name}]\n{values}"))
    };
    assert!(plans(&longest).is_ok());
    let error = plans(&longer).unwrap_err();
    assert!(error.problems.iter().any(|problem| problem.message.contains("expected up to 64 letters")), "{error}");
    for table in ["features", "quotas", "member_quotas", "rates", "prices"] {
        let key = format!("plans.pro.{table}.{longer}");
        let line = format!("{table} = {{ {longer} = 1 }}");
        let text = format!("default_plan = 'free'\n[plans.free]\nrank = 1\n[plans.pro]\n{line}\n");
        assert_problem(Plans::from_toml(&text), 5, &key, "expected up to 64 letters");
    }
}

#[test]
fn a_file_without_what_it_needs_is_refused() {
    assert_problem(
        Plans::from_toml("plans = { free = {} }"),
        1,
        "default_plan",
        "found nothing, expected the id of a plan",
    );
    assert_eq!(Plans::from_toml("").unwrap_err().problems.len(), 2);
    let ranks = "default_plan = 'a'\n[plans.a]\n[plans.b]";
    assert_problem(Plans::from_toml(ranks), 3, "plans.b.rank", "found no rank, which means 0, as plan \"a\" has");
    assert_problem(Plans::from_toml("default_plan = 'x'"), 1, "plans", "found nothing, expected a table of plans");
    assert_problem(Plans::from_toml("default_plan = 'x'\nplans = {}"), 2, "plans", "expected at least one");
    let missing = "zone = 'UTC'\ndefault_plan = 'gold'\n[plans.free]\n[plans.pro]\nrank = 1";
    assert_problem(
        Plans::from_toml(missing),
        2,
        "default_plan",
        "found \"gold\", expected the id of a plan: free, pro",
    );
    let zone = "default_plan = 'free'\nzone = 'Mars/Olympus'\n[plans.free]";
    assert_problem(Plans::from_toml(zone), 2, "zone", "found \"Mars/Olympus\", expected an IANA time zone");
    let kinds =
        "default_plan = 'a'\n[plans.a]\nfeatures = { days = 7 }\n[plans.b]\nrank = 1\nfeatures = { days = true }";
    assert_problem(
        Plans::from_toml(kinds),
        6,
        "plans.b.features.days",
        "found true, expected a whole number as in plan \"a\"",
    );
}

#[test]
fn duplicates_are_refused_in_both_formats() {
    let toml = "default_plan = 'a'\n[plans.a]\nrank = 0\nrank = 1";
    assert_problem(Plans::from_toml(toml), 4, "", "this is not TOML: duplicate key");
    let json = "{\"default_plan\": \"a\",\n\"plans\": {\"a\": {},\n\"a\": {}}}";
    assert_problem(Plans::from_json(json), 3, "plans.a", "a second time");
    let json = "{\"default_plan\": \"free\", \"plans\": {\"free\": {\"quotas\": {\"jobs\": \"1/day\",\n\"jobs\": \"2/day\"}}}}";
    assert_problem(Plans::from_json(json), 2, "plans.free.quotas.jobs", "a second time");
    let json = "{\"default_plan\": \"a\",\n\"default_plan\": \"a\", \"plans\": {\"a\": {}}}";
    assert_problem(Plans::from_json(json), 2, "default_plan", "a second time");
}

#[test]
fn what_is_not_the_format_is_refused_with_its_line() {
    assert_problem(Plans::from_toml("default_plan = 'a'\n[plans.a\n"), 2, "", "this is not TOML");
    assert_problem(Plans::from_json("{\n\"default_plan\": \"a\",\n}"), 2, "", "this is not JSON: Trailing commas");
    assert_problem(Plans::from_json(""), 1, "", "the file is empty");
    assert_problem(Plans::from_json("[]"), 1, "", "found a list of 0, expected a table");
    let null = "{\"default_plan\": null, \"plans\": {\"a\": {}}}";
    assert_problem(Plans::from_json(null), 1, "default_plan", "found null, expected a text");
    for comment in ["{} // no", "{'a': 1}", "{a: 1}", "{\"a\": 0x10}", "{\"a\": NaN}"] {
        assert!(Plans::from_json(comment).is_err(), "{comment}");
    }
}

#[test]
fn hostile_files_are_refused_and_nothing_breaks() {
    let deep = 100_000;
    for text in ["[".repeat(deep), "{\"a\":".repeat(deep), "\u{0}".to_owned(), "\u{feff}".to_owned()] {
        assert!(Plans::from_json(&text).is_err());
        assert!(Plans::from_toml(&text).is_err());
    }
    assert!(Plans::from_toml(&format!("a = {}", "[".repeat(deep))).is_err());
}

#[test]
fn all_problems_of_a_file_are_told_at_once_in_its_order() {
    let text = "default_plan = 'free'\nzone = 'x'\n[plans.free]\nrank = -1\nquotas = { a = '1/x', b = '2/y' }\nfoo = 1";
    let error = Plans::from_toml(text).unwrap_err();
    let lines: Vec<usize> = error.problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [2, 4, 5, 5, 6], "{error}");
}

#[test]
fn a_file_is_named_in_its_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plans.json");
    std::fs::write(&file, "{\"default_plan\": \"a\",\n\"plans\": {\"a\": {\"rank\": -1}}}").unwrap();
    let error = Plans::read(&file).unwrap_err().to_string();
    let expected =
        format!("{}:2: plans.a.rank: found -1, expected a whole number from 0 to 4294967295", file.display());
    assert_eq!(error, expected);
    let missing = folder.path().join("none.toml");
    let error = Plans::read(&missing).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: the file cannot be read", missing.display())), "{error}");
}
