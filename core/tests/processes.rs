//! Several processes on one SQLite file: fairness at the edge of a limit, crashes, migrations.
//!
//! Each test starts this test binary again as its child processes, which find their orders in the
//! environment.

#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use quotum::blocking::Quota;
use quotum::store::SqliteOptions;
use quotum::{Limit, Plans};
use rusqlite::{Connection, OpenFlags};

const FILE: &str = "QUOTUM_TEST_FILE";
const FROM: &str = "QUOTUM_TEST_FROM";

fn open(file: &Path, limit: u64) -> Quota {
    let plans = format!(
        "default_plan = 'free'\n[plans.free]\nquotas = {{ jobs = '{limit}/total' }}\nlease = {{ jobs = 'off' }}"
    );
    let store = SqliteOptions::at(file).busy_timeout(Duration::from_secs(30)).open().unwrap();
    Quota::builder().plans(Plans::from_toml(&plans).unwrap()).open_on(std::sync::Arc::new(store)).unwrap()
}

/// Starts this test again as a child, which runs the branch that `FILE` opens.
fn child(test: &str, file: &Path) -> Child {
    child_from(test, file, 0)
}

/// Starts a child that is to begin with this number.
fn child_from(test: &str, file: &Path, from: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(FILE, file)
        .env(FROM, from.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The file to work on, where this process is a child.
fn orders() -> Option<std::path::PathBuf> {
    let file = std::env::var_os(FILE)?;
    // The harness has begun a line, which what is said first would be a part of.
    say("");
    Some(file.into())
}

/// The number to begin with, where this process is a child.
fn from() -> u64 {
    std::env::var(FROM).unwrap().parse().unwrap()
}

/// Acknowledges something, in one write.
fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    output.write_all(format!("{line}\n").as_bytes()).unwrap();
    output.flush().unwrap();
}

/// Kills a child, and returns what it had still said that begins with this word, without it.
fn kill(mut child: Child, lines: impl Iterator<Item = std::io::Result<String>>, word: &str) -> Vec<String> {
    child.kill().unwrap();
    child.wait().unwrap();
    let rest = |line: String| line.strip_prefix(word).map(str::to_owned);
    lines.map_while(Result::ok).filter_map(rest).collect()
}

/// The child's next line that begins with this word, without it.
fn line_of(lines: &mut impl Iterator<Item = std::io::Result<String>>, word: &str) -> String {
    let found = lines.map(Result::unwrap).find_map(|line| line.split_once(word).map(|(_, rest)| rest.to_owned()));
    found.unwrap_or_else(|| panic!("the child ended without saying {word:?}"))
}

fn used(file: &Path) -> u64 {
    let connection = Connection::open(file).unwrap();
    connection.query_row("SELECT used FROM counter", (), |row| row.get(0).map(i64::unsigned_abs)).unwrap()
}

/// Units used, also where there is no file yet or nothing in it.
fn used_or_none(file: &Path) -> u64 {
    let read = |connection: Connection| connection.query_row("SELECT used FROM counter", (), |row| row.get(0));
    Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).and_then(read).map_or(0, i64::unsigned_abs)
}

fn assert_sound(file: &Path) {
    let check: String =
        Connection::open(file).unwrap().query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}

/// The scheme that lets a process wait twice as long at every turn starves the one that waits most: two
/// processes were seen to stall for three seconds.
#[test]
fn eight_processes_on_one_counter_grant_exactly_the_limit_and_share_it_fairly() {
    const LIMIT: u64 = 8_000;
    if let Some(file) = orders() {
        let quota = open(&file, LIMIT);
        println!("ready");
        std::io::stdin().read_line(&mut String::new()).unwrap();
        let (mut granted, mut worst) = (0, Duration::ZERO);
        loop {
            let begin = Instant::now();
            let decision = quota.consume("ana", &[("jobs", 1)]).unwrap();
            worst = worst.max(begin.elapsed());
            if !decision.allowed {
                break;
            }
            granted += 1;
        }
        println!("granted {granted} {}", worst.as_micros());
        return;
    }

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quota.db");
    let test = "eight_processes_on_one_counter_grant_exactly_the_limit_and_share_it_fairly";
    let mut children: Vec<Child> = (0..8).map(|_| child(test, &file)).collect();
    let mut outputs: Vec<_> =
        children.iter_mut().map(|child| BufReader::new(child.stdout.take().unwrap()).lines()).collect();
    for output in &mut outputs {
        line_of(output, "ready");
    }
    for child in &mut children {
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }
    let shares: Vec<(u64, u64)> = outputs
        .iter_mut()
        .map(|output| {
            let line = line_of(output, "granted ");
            let (granted, worst_us) = line.split_once(' ').unwrap();
            (granted.parse().unwrap(), worst_us.parse().unwrap())
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }

    let worst_ms = shares.iter().map(|(_, worst_us)| worst_us / 1_000).max().unwrap();
    println!("grants and worst waits in us: {shares:?}; worst wait {worst_ms} ms");
    assert_eq!(shares.iter().map(|(granted, _)| granted).sum::<u64>(), LIMIT);
    assert_eq!(used(&file), LIMIT);
    let fair = LIMIT / 8;
    assert!(
        shares.iter().all(|(granted, _)| *granted >= fair / 2),
        "a process got less than half its share: {shares:?}"
    );
    assert_sound(&file);
}

/// A grant is acknowledged by a line on standard output, after `consume` has returned.
#[test]
fn nothing_acknowledged_is_lost_when_a_writer_is_killed_a_hundred_times() {
    const LIMIT: u64 = 1_000_000_000;
    if let Some(file) = orders() {
        let quota = open(&file, LIMIT);
        loop {
            assert!(quota.consume("ana", &[("jobs", 1)]).unwrap().allowed);
            say("granted 1");
        }
    }

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quota.db");
    let (mut acknowledged, mut unacknowledged) = (0, 0);
    for round in 0..100_u64 {
        let mut child = child("nothing_acknowledged_is_lost_when_a_writer_is_killed_a_hundred_times", &file);
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        // A few grants, a different number each time, so that the kill falls on any step.
        for _ in 0..=round % 13 {
            line_of(&mut output, "granted ");
            acknowledged += 1;
        }
        std::thread::sleep(Duration::from_micros(round * 37 % 1_000));
        acknowledged += kill(child, output, "granted 1").len() as u64;

        let used = used(&file);
        assert!(used >= acknowledged + unacknowledged, "round {round}: {acknowledged} acknowledged, {used} used");
        // One grant at the most was under way when the process died.
        assert!(used - acknowledged <= round + 1, "round {round}: {acknowledged} acknowledged, {used} used");
        unacknowledged = used - acknowledged;
        assert_sound(&file);
    }
    println!("{acknowledged} grants acknowledged, {unacknowledged} made but cut off before they could be");
}

/// Others go on while one of them dies, and the limit is near.
#[test]
fn of_four_writers_that_are_killed_and_replaced_none_grants_more_than_the_limit() {
    const LIMIT: u64 = 1_000;
    if let Some(file) = orders() {
        let quota = open(&file, LIMIT);
        while quota.consume("ana", &[("jobs", 1)]).unwrap().allowed {
            say("granted 1");
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quota.db");
    let test = "of_four_writers_that_are_killed_and_replaced_none_grants_more_than_the_limit";
    let start = || {
        let mut child = child(test, &file);
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, output)
    };
    let mut children: VecDeque<_> = (0..4).map(|_| start()).collect();
    let (mut acknowledged, mut kills) = (0, 0);
    // The oldest dies, after a few grants of its own, a different number each time.
    while used_or_none(&file) < LIMIT {
        let (child, mut output) = children.pop_front().unwrap();
        for _ in 0..kills % 7 {
            acknowledged += u64::from(output.by_ref().map_while(Result::ok).any(|line| line == "granted 1"));
        }
        acknowledged += kill(child, output, "granted 1").len() as u64;
        kills += 1;
        assert!(kills < 5_000, "only {} units used", used_or_none(&file));
        children.push_back(start());
    }
    for (mut child, output) in children {
        acknowledged += output.map_while(Result::ok).filter(|line| line == "granted 1").count() as u64;
        assert!(child.wait().unwrap().success());
    }
    println!("{acknowledged} of {LIMIT} grants acknowledged, {kills} writers killed");
    assert_eq!(used(&file), LIMIT);
    assert!(acknowledged <= LIMIT && LIMIT - acknowledged <= kills, "{acknowledged} acknowledged, {kills} killed");
    assert!(kills > 10, "{kills} writers killed");
    assert!(!open(&file, LIMIT).consume("ana", &[("jobs", 1)]).unwrap().allowed);
    assert_sound(&file);
}

/// Each client asks again under its key for what it was not told.
#[test]
fn what_is_asked_for_again_under_its_key_after_a_kill_is_charged_once() {
    const LIMIT: u64 = 1_000_000;
    let key = |number: u64| format!("k-{number}");
    if let Some(file) = orders() {
        let quota = open(&file, LIMIT);
        for number in from().. {
            assert!(quota.consume_once("ana", &[("jobs", 1)], &key(number)).unwrap().allowed);
            say(&format!("granted {number}"));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quota.db");
    let test = "what_is_asked_for_again_under_its_key_after_a_kill_is_charged_once";
    let mut next = 0;
    for round in 0..30_u64 {
        let mut child = child_from(test, &file, next);
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..=round % 7 {
            next = line_of(&mut output, "granted ").parse::<u64>().unwrap() + 1;
        }
        std::thread::sleep(Duration::from_micros(round * 137 % 2_000));
        next += kill(child, output, "granted ").len() as u64;
    }
    let quota = open(&file, LIMIT);
    for number in 0..=next {
        let decision = quota.consume_once("ana", &[("jobs", 1)], &key(number)).unwrap();
        assert!(decision.allowed && (decision.repeated || number == next), "{number} of {next}");
    }
    assert_eq!(used(&file), next + 1);
    assert_sound(&file);
}

#[test]
fn what_writers_that_are_killed_have_reserved_comes_back_and_what_they_have_committed_stays() {
    const LIMIT: u64 = 1_000_000;
    const TTL: Duration = Duration::from_secs(1);
    if let Some(file) = orders() {
        let quota = open(&file, LIMIT);
        loop {
            let reservation = quota.reserve("ana", &[("jobs", 5)], TTL).unwrap().unwrap();
            say("reserved 5");
            reservation.commit(&[("jobs", 2)]).unwrap();
            say("committed 2");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quota.db");
    let test = "what_writers_that_are_killed_have_reserved_comes_back_and_what_they_have_committed_stays";
    let (mut committed, kills) = (0, 30);
    for round in 0..kills {
        let mut child = child(test, &file);
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..round % 7 {
            line_of(&mut output, "committed 2");
            committed += 1;
        }
        // With a reservation open, as far as this one knows.
        line_of(&mut output, "reserved 5");
        std::thread::sleep(Duration::from_micros(round * 137 % 2_000));
        committed += kill(child, output, "committed 2").len() as u64;
    }
    std::thread::sleep(TTL + Duration::from_millis(100));
    let quota = open(&file, LIMIT);
    let state = &quota.usage("ana").unwrap().quotas[0];
    println!("{committed} commits acknowledged, {} units used, {kills} writers killed", state.used);
    assert_eq!((state.held, state.overage), (0, 0));
    assert!(
        (2 * committed..=2 * (committed + kills)).contains(&state.used),
        "{} used, {committed} commits",
        state.used
    );
    assert!(quota.consume("ana", &[("jobs", LIMIT - state.used)]).unwrap().allowed, "all the rest can be used");
    assert_sound(&file);
}

#[test]
fn of_eight_processes_that_create_one_file_all_find_it_ready() {
    if let Some(file) = orders() {
        println!("granted {}", open(&file, 8).consume("ana", &[("jobs", 1)]).unwrap().allowed);
        return;
    }
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("quota.db");
        let test = "of_eight_processes_that_create_one_file_all_find_it_ready";
        let children: Vec<Child> = (0..8).map(|_| child(test, &file)).collect();
        for mut child in children {
            let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
            assert_eq!(line_of(&mut output, "granted "), "true");
            assert!(child.wait().unwrap().success());
        }
        assert_eq!(used(&file), 8);
        assert_sound(&file);
    }
}

/// A file as the first version of the schema had it, with plans, a subscription and a counter.
const FIRST_VERSION: &str = r#"
    PRAGMA journal_mode = WAL;
    CREATE TABLE plans (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        version INTEGER NOT NULL,
        document TEXT NOT NULL
    ) STRICT;
    CREATE TABLE subscription (
        subject TEXT NOT NULL PRIMARY KEY,
        plan TEXT NOT NULL,
        status TEXT NOT NULL,
        since_ms INTEGER NOT NULL,
        trial_ends_ms INTEGER,
        expires_ms INTEGER,
        anchor_ms INTEGER,
        zone TEXT,
        overrides TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE counter (
        subject TEXT NOT NULL,
        metric TEXT NOT NULL,
        period TEXT NOT NULL,
        start_s INTEGER NOT NULL,
        used INTEGER NOT NULL CHECK (used BETWEEN 0 AND 9007199254740991),
        PRIMARY KEY (subject, metric, period, start_s)
    ) STRICT, WITHOUT ROWID;
    PRAGMA application_id = 0x51756f74;
    PRAGMA user_version = 1;
    INSERT INTO plans VALUES (1, 3, '{"default_plan": "free", "plans": {
        "free": {"quotas": {"jobs": "100/total"}}, "pro": {"rank": 1, "features": {"excel": false}}}}');
    INSERT INTO subscription VALUES
        ('pat', 'pro', 'active', 1772323200000, NULL, NULL, 1772323200000, 'Asia/Kathmandu', '{"features": {"excel": true}}');
    INSERT INTO counter VALUES ('ana', 'jobs', 'total', 0, 7);
"#;

#[test]
fn of_eight_processes_that_open_an_older_file_one_migrates_it_and_all_go_on() {
    if let Some(file) = orders() {
        println!("granted {}", open(&file, 8).consume("ana", &[("jobs", 1)]).unwrap().allowed);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quota.db");
    Connection::open(&file).unwrap().execute_batch(FIRST_VERSION).unwrap();
    let test = "of_eight_processes_that_open_an_older_file_one_migrates_it_and_all_go_on";
    let children: Vec<Child> = (0..8).map(|_| child(test, &file)).collect();
    for mut child in children {
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(line_of(&mut output, "granted "), "true");
        assert!(child.wait().unwrap().success());
    }
    assert_sound(&file);
    let connection = Connection::open(&file).unwrap();
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 2);
    let counter: [i64; 5] = connection
        .query_row("SELECT used, held, bonus, overage, told FROM counter", (), |row| {
            Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?])
        })
        .unwrap();
    assert_eq!(counter, [7 + 8, 0, 0, 0, 0]);
    let quota = open(&file, 8);
    assert_eq!(quota.usage("ana").unwrap().quotas[0].limit, Limit::Units(100), "of the plans in the file");
    let pat = quota.subscription("pat").unwrap().unwrap();
    assert_eq!((pat.plan.as_str(), pat.zone.as_deref(), pat.account), ("pro", Some("Asia/Kathmandu"), None));
    assert_eq!(pat.anchor, Some("2026-03-01T00:00:00Z".parse().unwrap()));
    assert_eq!(quota.feature("pat", "excel").unwrap(), Some(true.into()));
    // What came with the newer version works in it.
    quota.grant("ana", &[("jobs", 5)]).unwrap();
    assert!(quota.consume_once("ana", &[("jobs", 90)], "key").unwrap().allowed);
}

/// As somebody else than root, whom no permission stops. SQLite itself would open a file that it may not write,
/// and leave its log beside it.
#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_written_is_refused_and_left_as_it_is() {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;

    if let Some(file) = orders() {
        let error = SqliteOptions::at(file).open().unwrap_err();
        println!("\nerror: {:?}: {error}", error.retry());
        return;
    }
    let allow = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    allow(folder.path(), 0o755);
    // The child may not be able to reach where this binary is.
    let binary = folder.path().join("test");
    let own = std::env::current_exe().unwrap();
    fs::hard_link(&own, &binary).or_else(|_| fs::copy(&own, &binary).map(drop)).unwrap();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let file = inner.join("quota.db");
    assert!(open(&file, 10).consume("ana", &[("jobs", 1)]).unwrap().allowed);
    let before = fs::read(&file).unwrap();
    let test = "a_file_that_may_not_be_written_is_refused_and_left_as_it_is";
    for (of_folder, of_file) in [(0o555, 0o444), (0o555, 0o666), (0o777, 0o444)] {
        allow(&file, of_file);
        allow(&inner, of_folder);
        let mut command = Command::new(&binary);
        if fs::metadata(&inner).unwrap().uid() == 0 {
            command.uid(65_534).gid(65_534);
        }
        command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(FILE, &file);
        let output = command.output().unwrap();
        allow(&inner, 0o755);
        let said = String::from_utf8_lossy(&output.stdout);
        let error = said.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or_else(|| panic!("{said}"));
        assert!(error.starts_with("Never: the store is read-only: correct the permissions"), "{error}");
        assert!(error.contains("inner/quota.db: "), "{error}");
        assert!(output.status.success());
        assert_eq!(fs::read(&file).unwrap(), before);
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 1, "nothing was made beside it");
    }
    allow(&file, 0o644);
    assert!(open(&file, 10).consume("ana", &[("jobs", 1)]).unwrap().allowed);
}

/// A sync that fails is planted between the child and its C library: of so many, one after the other.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn after_a_failed_sync_the_store_stops_and_without_one_nothing_is_acknowledged() {
    const SYNCS: &str = "#define _GNU_SOURCE
        #include <dlfcn.h>
        #include <errno.h>
        static int sync_or_fail(const char *name, int file) {
            static int done = 0;
            if (++done > 40) { errno = EIO; return -1; }
            return ((int (*)(int)) dlsym(RTLD_NEXT, name))(file);
        }
        int fsync(int file) { return sync_or_fail(\"fsync\", file); }
        int fdatasync(int file) { return sync_or_fail(\"fdatasync\", file); }
    ";
    if let Some(file) = orders() {
        let quota = open(&file, 1_000);
        let consume = || quota.consume("ana", &[("jobs", 1)]).unwrap().denied.map(|denial| denial.cause.unwrap());
        let (acknowledged, first) = (0..).find_map(|number| Some((number, consume()?))).unwrap();
        println!("\ngrants: {acknowledged}");
        println!("first: {first}");
        println!("last: {}", consume().unwrap());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (folder.path().join("syncs.c"), folder.path().join("syncs.so"));
    std::fs::write(&source, SYNCS).unwrap();
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut compile = Command::new(compiler);
    let compiled = compile.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").status().unwrap();
    assert!(compiled.success());
    let file = folder.path().join("quota.db");
    drop(open(&file, 1_000));
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "after_a_failed_sync_the_store_stops_and_without_one_nothing_is_acknowledged",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FILE, &file)
        .env("LD_PRELOAD", &library)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let acknowledged: u64 = line_of(&mut output, "grants: ").parse().unwrap();
    let (first, last) = (line_of(&mut output, "first: "), line_of(&mut output, "last: "));
    assert!(child.wait().unwrap().success());
    println!("{acknowledged} acknowledged before: {first}");
    // Each waited for a sync of its own.
    assert!((1..=40).contains(&acknowledged), "{acknowledged} grants by 40 syncs");
    assert!(first.starts_with("the store failed: disk I/O error"), "{first}");
    assert_eq!(last, format!("the store has stopped, open it again once the cause is mended: {first}"));
    assert!((acknowledged..=acknowledged + 1).contains(&used(&file)), "{acknowledged} acknowledged");
    assert_sound(&file);
    assert!(open(&file, 1_000).consume("ana", &[("jobs", 1)]).unwrap().allowed, "it can be opened again");
}

/// The child may write files of 200 kB at the most, so that a write of its log fails half-way, as on a
/// failing disk.
#[test]
fn after_a_failed_write_the_store_stops_and_keeps_what_it_acknowledged() {
    if let Some(file) = orders() {
        let quota = open(&file, 1_000_000);
        let (mut acknowledged, errors) = (0, &mut Vec::new());
        for number in 0..3_000 {
            match quota.consume(&format!("subject-{number}"), &[("jobs", 1)]) {
                Ok(decision) => match decision.denied {
                    None => acknowledged += 1,
                    Some(denial) => errors.push(denial.cause.unwrap()),
                },
                Err(error) => errors.push(error.to_string()),
            }
        }
        println!("grants: {acknowledged}");
        println!("first: {}", errors.first().unwrap());
        println!("last: {}", errors.last().unwrap());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quota.db");
    drop(open(&file, 1_000_000));
    let test = "after_a_failed_write_the_store_stops_and_keeps_what_it_acknowledged";
    let limited = "trap '' XFSZ; ulimit -f 400; exec \"$0\" \"$@\"";
    let mut child = Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(FILE, &file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let acknowledged: u64 = line_of(&mut output, "grants: ").parse().unwrap();
    let (first, last) = (line_of(&mut output, "first: "), line_of(&mut output, "last: "));
    assert!(child.wait().unwrap().success());
    println!("{acknowledged} acknowledged before: {first}");
    assert!(acknowledged > 0);
    assert!(first.starts_with("the store failed: disk I/O error"), "{first}");
    assert_eq!(last, format!("the store has stopped, open it again once the cause is mended: {first}"));

    let connection = Connection::open(&file).unwrap();
    let used: i64 = connection.query_row("SELECT coalesce(sum(used), 0) FROM counter", (), |row| row.get(0)).unwrap();
    let used = used.unsigned_abs();
    assert!((acknowledged..=acknowledged + 1).contains(&used), "{acknowledged} acknowledged, {used} used");
    assert_sound(&file);
    assert!(open(&file, 1_000_000).consume("ana", &[("jobs", 1)]).unwrap().allowed, "it can be opened again");
}
