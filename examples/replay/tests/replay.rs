//! `replay` as a person runs it: its counts against a computation of a few lines, and its refusals.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs `replay` in a folder that holds these files.
fn replay(files: &[(&str, &str)], arguments: &[&str]) -> (tempfile::TempDir, Output) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let output =
        Command::new(env!("CARGO_BIN_EXE_replay")).args(arguments).current_dir(folder.path()).output().unwrap();
    (folder, output)
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn error(output: &Output) -> String {
    assert!(!output.status.success(), "{}", text(output));
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The number before a word.
fn count(text: &str, word: &str) -> u64 {
    let before = text.split_once(&format!(" {word}")).unwrap().0;
    let digits: String = before.rsplit(' ').next().unwrap().chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

const PLANS: &str = r#"
default_plan = "free"
[plans.free]
quotas = { searches = ["6/day", "40/month"], exports = "2/hour" }
[plans.pro]
rank = 1
quotas = { searches = "100/month", exports = "5/day" }
"#;

fn traffic() -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_make-traffic")).output().unwrap();
    text(&output)
}

/// Every request of a subject's day, month and hour, counted by the text of its time: 2026-03-02T11:00:00Z.
fn allowed_by_hand(traffic: &str) -> u64 {
    let mut used: HashMap<(String, String), u64> = HashMap::new();
    let mut allowed = 0;
    for line in traffic.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let (time, subject, exports) = (fields[0], fields[1], fields[3].parse::<u64>().unwrap());
        let limits =
            [("searches", 1, &time[..10], 6), ("searches", 1, &time[..7], 40), ("exports", exports, &time[..13], 2)];
        let key = |metric: &str, period: &str| (subject.to_owned(), format!("{metric} {period}"));
        let fits = |(metric, units, period, limit): &(&str, u64, &str, u64)| {
            *units == 0 || used.get(&key(metric, period)).unwrap_or(&0) + units <= *limit
        };
        if limits.iter().all(fits) {
            allowed += 1;
            for (metric, units, period, _) in limits {
                *used.entry(key(metric, period)).or_default() += units;
            }
        }
    }
    allowed
}

#[test]
fn the_allowed_requests_are_those_of_a_computation_by_hand() {
    let traffic = traffic();
    let arguments = [
        "--plans",
        "plans.toml",
        "--subject",
        "user",
        "--cost",
        "searches=1",
        "--cost",
        "exports=exports",
        "traffic.csv",
    ];
    let expected = allowed_by_hand(&traffic);
    assert!(expected > 1_000);
    for store in [&[][..], &["--store", "memory:"], &["--store", "sqlite:kept.db"]] {
        let (_folder, output) =
            replay(&[("plans.toml", PLANS), ("traffic.csv", &traffic)], &[&arguments, store].concat());
        let report = text(&output);
        assert_eq!(count(&report, "allowed"), expected, "{store:?}\n{report}");
        assert_eq!(count(&report, "denied ("), traffic.lines().count() as u64 - 1 - expected);
    }
}

#[test]
fn traffic_out_of_order_is_enforced_in_the_order_of_time() {
    let traffic = traffic();
    let (header, rows) = traffic.split_once('\n').unwrap();
    let mut rows: Vec<&str> = rows.lines().collect();
    rows.reverse();
    let reversed = format!("{header}\n{}\n", rows.join("\n"));
    let arguments =
        ["--plans", "plans.toml", "--subject", "user", "--cost", "searches=1", "--store", "memory:", "traffic.csv"];
    let run = |traffic: &str| {
        let (_folder, output) = replay(&[("plans.toml", PLANS), ("traffic.csv", traffic)], &arguments);
        count(&text(&output), "allowed")
    };
    assert_eq!(run(&reversed), run(&traffic));
}

#[test]
fn two_plans_files_stand_side_by_side_and_the_page_needs_nothing_else() {
    let generous = PLANS.replace("6/day", "600/day").replace("40/month", "4000/month");
    let files = [("plans.toml", PLANS), ("generous.toml", &generous), ("traffic.csv", &traffic())];
    let arguments = [
        "--plans",
        "plans.toml",
        "--compare",
        "generous.toml",
        "--subject",
        "user",
        "--deal",
        "free=3,pro=1",
        "--cost",
        "searches=1",
        "--report",
        "report.html",
        "traffic.csv",
    ];
    let (folder, output) = replay(&files, &arguments);
    let report = text(&output);
    assert!(report.contains("Side by side") && report.contains("report.html"), "{report}");
    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("generous.toml") && page.matches("<svg").count() >= 8);
    for outside in ["http:", "https:", "<script", "src=", "href=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

/// The words of a table's row that begins with these words.
fn row<'t>(report: &'t str, begin: &[&str]) -> Vec<&'t str> {
    let rows = report.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.into_iter().find(|words| words.starts_with(begin)).unwrap_or_else(|| panic!("no row {begin:?} in\n{report}"))
}

#[test]
fn a_subject_that_changes_its_plan_is_counted_under_each() {
    let plans = r#"
default_plan = "trial"
[plans.trial]
trial_days = 2
quotas = { jobs = "2/day" }
[plans.basic]
rank = 1
quotas = { jobs = "2/billing_month" }
[plans.pro]
rank = 2
quotas = { jobs = "100/billing_month" }
"#;
    let mut rows = "time,user,tier\n".to_owned();
    let mut day = |day: u32, user: &str, tier: &str, times: u32| {
        for minute in 0..times {
            rows.push_str(&format!("2026-03-{day:02} 10:{minute:02}:00,{user},{tier}\n"));
        }
    };
    day(1, "ana", "trial", 3); // two pass
    day(2, "ana", "", 1); // passes: still on trial
    day(4, "ana", "", 5); // the trial is over
    day(5, "ana", "basic", 3); // two pass
    day(6, "ana", "pro", 4); // all pass
    day(7, "ana", "basic", 2); // the same billing month: none passes
    day(7, "bob", "pro", 1);
    let files = [("plans.toml", plans), ("t.csv", &rows)];
    let (_folder, output) =
        replay(&files, &["--plans", "plans.toml", "--subject", "user", "--plan", "tier", "--cost", "jobs=1", "t.csv"]);
    let report = text(&output);
    assert!(report.contains("10 allowed, 9 denied"), "{report}");
    assert!(report.contains("1 of 2 subjects were denied something"), "{report}");
    assert_eq!(row(&report, &["trial"]), ["trial", "1", "1", "9", "3", "6", "66.7", "%"]);
    assert_eq!(row(&report, &["basic"]), ["basic", "1", "1", "5", "2", "3", "60.0", "%"]);
    assert_eq!(row(&report, &["pro"]), ["pro", "2", "0", "5", "5", "0", "0.0", "%"]);
    let limit = row(&report, &["basic", "jobs", "2/billing_month"]);
    assert_eq!(limit[3..], ["quota_exhausted", "2026-03-05", "10:02", "pro", "1", "3"]);
    let trial = row(&report, &["trial", "trial_expired"]);
    assert_eq!(trial[2..], ["2026-03-04", "10:00", "basic", "1", "5"]);
    assert_eq!(row(&report, &["2026-03-01", "10:02"])[2..], ["ana", "trial", "jobs", "2/day", "1"]);
}

/// One line that the engine would refuse is a line that cannot be read, like any other.
#[test]
fn lines_that_no_engine_takes_are_skipped() {
    let rows = format!("time,subject,n\n1,ana,3\n2,{},3\n3,ana,9007199254740992\n4,ana,-1\n5,ana,0\n", "x".repeat(257));
    let files = [("plans.toml", PLANS), ("t.csv", &rows)];
    let (_folder, output) = replay(&files, &["--plans", "plans.toml", "--cost", "searches=n", "t.csv"]);
    let report = text(&output);
    assert!(report.contains("2 requests of 1 subject") && report.contains("3 lines could not be read"), "{report}");
    assert!(report.contains("line 3 was skipped: the subject has 257 bytes, expected 256 at the most"), "{report}");
    assert!(report.contains("1 allowed, 0 denied") && report.contains("1 request cost nothing"), "{report}");
}

#[test]
fn a_subject_that_is_html_stays_text() {
    let rows = "{\"time\": 1, \"subject\": \"<script>alert(1)</script>\"}\n".repeat(9);
    let files = [("plans.toml", "default_plan = 'a'\n[plans.a]\nquotas = { requests = '5/day' }"), ("t.jsonl", &rows)];
    let (folder, output) = replay(&files, &["--plans", "plans.toml", "--report", "r.html", "t.jsonl"]);
    assert_eq!(count(&text(&output), "allowed"), 5);
    let page = std::fs::read_to_string(folder.path().join("r.html")).unwrap();
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script"));
}

#[test]
fn malformed_lines_are_counted_shown_and_skipped_or_refused() {
    let good = r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5"#;
    let log = format!("{good}\nnonsense\n\n{good}\n{}\n", good.replace("May", "Foo"));
    let files =
        [("plans.toml", "default_plan = 'a'\n[plans.a]\nquotas = { requests = '5/day' }"), ("access.log", &log)];
    let (_folder, output) = replay(&files, &["--plans", "plans.toml", "access.log"]);
    let report = text(&output);
    assert!(report.contains("2 requests of 1 subject") && report.contains("2 lines could not be read"), "{report}");
    assert!(report.contains("line 2 was skipped: expected") && report.contains("line 5 was skipped"), "{report}");
    let (_folder, output) = replay(&files, &["--plans", "plans.toml", "--malformed", "refuse", "access.log"]);
    let refusal = error(&output);
    assert!(refusal.contains("access.log") && refusal.contains("line 2"), "{refusal}");
}

#[test]
fn mistakes_are_named_with_what_was_expected() {
    let rows = "time,subject,n\n2026-01-01,ana,3\n";
    let files = [("plans.toml", PLANS), ("bad.toml", "default_plan = 'x'"), ("t.csv", rows)];
    let says = |arguments: &[&str], expected: &str| {
        let (_folder, output) = replay(&files, arguments);
        let found = error(&output);
        assert!(found.contains(expected), "{arguments:?}: {found}");
    };
    says(&["--plans", "plans.toml", "t.csv"], "unknown metric \"requests\"; the plans know: exports, searches");
    says(&["--plans", "bad.toml", "t.csv"], "bad.toml:1: plans: found nothing, expected a table of plans");
    says(
        &["--plans", "plans.toml", "--cost", "searches=m", "t.csv"],
        "there is no field \"m\"; there are: time, subject, n",
    );
    says(&["--plans", "plans.toml", "--cost", "searches", "t.csv"], "expected METRIC=UNITS");
    says(&["--plans", "plans.toml", "--subject", "line%0", "t.csv"], "expected line%N with N from 1");
    says(&["--plans", "plans.toml", "--deal", "free", "t.csv"], "expected shares such as free=80,pro=20");
    says(&["--plans", "plans.toml", "--deal", "gold=1", "--cost", "searches=1", "t.csv"], "unknown plan \"gold\"");
    says(&["--plans", "plans.toml", "none.csv"], "none.csv cannot be opened");
    says(
        &["--plans", "plans.toml", "--time", "n", "--subject", "time", "--format", "log", "t.csv"],
        "there is no field \"n\"",
    );
    says(&["--plans", "plans.toml", "--store", "postgres:x", "--cost", "searches=1", "t.csv"], "argument `url`");
}

/// Where the variable names a web server's log, its counts are checked as well: all of its subjects on
/// one plan of 40 requests an hour and 100 a day.
#[test]
fn a_log_of_your_own_is_counted_right_too() {
    let Some(log) = std::env::var_os("QUOTUM_ACCESS_LOG").map(PathBuf::from) else {
        let line = |ip: u8, minute: usize| {
            format!("10.0.0.{ip} - - [17/May/2015:10:{minute:02}:00 +0000] \"GET / HTTP/1.1\" 200 5\n")
        };
        let log: String = (0..60).flat_map(|minute| [line(1, minute), line(2, minute / 2)]).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        std::fs::write(&path, log).unwrap();
        return check_log(&path);
    };
    check_log(&log);
}

fn check_log(log: &Path) {
    let plans = "default_plan = 'a'\n[plans.a]\nquotas = { requests = ['40/hour', '100/day'] }";
    let (_folder, output) =
        replay(&[("plans.toml", plans)], &["--plans", "plans.toml", "--store", "memory:", log.to_str().unwrap()]);
    let mut used: HashMap<String, u64> = HashMap::new();
    let text_of_log = String::from_utf8_lossy(&std::fs::read(log).unwrap()).into_owned();
    let mut requests: Vec<(&str, String, String)> = text_of_log
        .lines()
        .filter(|line| line.matches('"').count() % 2 == 0)
        .map(|line| {
            let (ip, rest) = line.split_once(' ').unwrap();
            // [17/May/2015:10:05:03 +0000]: within one month, the text sorts by time.
            let time = rest.split_once('[').unwrap().1;
            (ip, time[..14].to_owned(), time[..20].to_owned())
        })
        .collect();
    requests.sort_by(|a, b| a.2.cmp(&b.2));
    let mut expected = 0;
    for (ip, hour, _) in &requests {
        let keys = [(format!("{ip} {hour}"), 40), (format!("{ip} {}", &hour[..11]), 100)];
        if keys.iter().all(|(key, limit)| used.get(key).unwrap_or(&0) < limit) {
            expected += 1;
            for (key, _) in keys {
                *used.entry(key).or_default() += 1;
            }
        }
    }
    assert_eq!(count(&text(&output), "allowed"), expected);
}

#[test]
fn a_rate_is_enforced_where_a_scope_is_named() {
    let plans =
        "default_plan = 'free'\n[plans.free]\nquotas = { requests = '100/day' }\nrates = { api = '2/minute' }\n";
    let calls = "time,subject\n2026-03-02T11:00:00Z,ana\n2026-03-02T11:00:01Z,ana\n2026-03-02T11:00:02Z,ana\n\
                 2026-03-02T11:00:02Z,bob\n2026-03-02T11:00:31Z,ana\n";
    let files = [("plans.toml", plans), ("calls.csv", calls)];
    let (_, all) = replay(&files, &["--plans", "plans.toml", "calls.csv"]);
    assert_eq!((count(&text(&all), "allowed"), count(&text(&all), "denied")), (5, 0));
    let (_, paced) = replay(&files, &["--plans", "plans.toml", "--rate", "api", "calls.csv"]);
    assert_eq!((count(&text(&paced), "allowed"), count(&text(&paced), "denied")), (4, 1), "{}", text(&paced));
    assert!(text(&paced).contains("api 2 in 60 s"), "{}", text(&paced));
    let (_, unknown) = replay(&files, &["--plans", "plans.toml", "--rate", "apy", "calls.csv"]);
    assert!(error(&unknown).contains("unknown scope \"apy\"; the plans know: api"));
}
