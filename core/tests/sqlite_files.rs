//! SQLite files in every state: damaged, foreign, newer, busy, full, gone. What must not be used is
//! refused and left as it is; what was acknowledged is found again.

#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pollster::block_on;
use quotum::blocking::Quota;
use quotum::store::{SqliteOptions, Store, StoreError};
use quotum::{Error, Plans, Reason, Retry};
use rusqlite::Connection;

fn quota_on(store: impl Store) -> Quota {
    let plans = "default_plan = 'free'\n[plans.free]\nquotas = { jobs = '1000000/total' }";
    Quota::builder().plans(Plans::from_toml(plans).unwrap()).open_on(Arc::new(store)).unwrap()
}

fn open(file: &Path) -> Quota {
    quota_on(SqliteOptions::at(file).open().unwrap())
}

/// A folder with a store in which a thousand subjects have used one unit each.
fn filled() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quota.db");
    let quota = quota_on(
        SqliteOptions::from_url(&format!("sqlite:{}?synchronous=normal", file.display())).unwrap().open().unwrap(),
    );
    for subject in 0..1_000 {
        assert!(quota.consume(&format!("subject-{subject}"), &[("jobs", 1)]).unwrap().allowed);
    }
    drop(quota);
    (folder, file)
}

fn refused(file: &Path) -> StoreError {
    let before = fs::read(file).unwrap();
    let error = SqliteOptions::at(file).open().unwrap_err();
    assert_eq!(fs::read(file).unwrap(), before, "a refused file must stay as it is");
    assert!(error.to_string().contains("quota.db"), "{error}");
    assert_eq!(error.retry(), Retry::Never);
    error
}

fn used(quota: &Quota, subject: &str) -> u64 {
    quota.usage(subject).unwrap().quotas[0].used
}

#[test]
fn what_was_used_is_found_again() {
    let (_folder, file) = filled();
    let quota = open(&file);
    assert_eq!((used(&quota, "subject-0"), used(&quota, "subject-999"), used(&quota, "subject-1000")), (1, 1, 0));
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quota.db");
    fs::write(&file, "these are somebody's notes, and not a database\n".repeat(400)).unwrap();
    assert!(matches!(refused(&file), StoreError::Damaged { .. }));
}

#[test]
fn another_programs_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quota.db");
    Connection::open(&file).unwrap().execute_batch("CREATE TABLE note (text TEXT)").unwrap();
    assert!(matches!(refused(&file), StoreError::Foreign { .. }));
}

#[test]
fn a_newer_schema_is_refused() {
    let (_folder, file) = filled();
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = refused(&file);
    assert!(matches!(error, StoreError::NewerSchema { found: 99, known: 2, .. }), "{error}");
    assert!(error.to_string().ends_with("update the library"), "{error}");
}

#[test]
fn a_truncated_file_is_refused() {
    let (_folder, file) = filled();
    let whole = fs::read(&file).unwrap();
    for length in [1, 99, 512, 4_096, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, &whole[..length]).unwrap();
        assert!(matches!(refused(&file), StoreError::Damaged { .. } | StoreError::Foreign { .. }), "{length} bytes");
    }
}

/// SQLite itself would take the empty file for a new database and throw its log away.
#[test]
fn a_log_without_its_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quota.db");
    let quota = open(&file);
    assert!(quota.consume("ana", &[("jobs", 1)]).unwrap().allowed);
    let log = fs::read(file.with_extension("db-wal")).unwrap();
    assert!(!log.is_empty());
    drop(quota);
    fs::write(file.with_extension("db-wal"), log).unwrap();
    fs::write(&file, "").unwrap();
    assert!(matches!(refused(&file), StoreError::Damaged { .. }));
    fs::remove_file(&file).unwrap();
    assert!(matches!(SqliteOptions::at(&file).open().unwrap_err(), StoreError::Damaged { .. }));
    assert!(!file.exists(), "nothing was recreated");
}

/// Any byte of the file may be wrong. The file is then refused, or what it says is believed: nothing
/// that it holds takes the host down.
#[test]
fn a_damaged_file_is_refused_or_read_and_never_breaks_the_host() {
    let (_folder, file) = filled();
    let whole = fs::read(&file).unwrap();
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    let (mut refused, mut read) = (0, 0);
    for _ in 0..300 {
        let mut damaged = whole.clone();
        for _ in 0..8 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from(random >> 20).unwrap() % damaged.len();
            damaged[at] ^= u8::try_from(random >> 8 & 0xFF).unwrap() | 1;
        }
        fs::write(&file, damaged).unwrap();
        for end in ["db-wal", "db-shm"] {
            let _ = fs::remove_file(file.with_extension(end));
        }
        let Ok(store) = SqliteOptions::at(&file).open() else {
            refused += 1;
            continue;
        };
        let quota = quota_on(store);
        for subject in ["subject-0", "subject-500", "new"] {
            match quota.consume(subject, &[("jobs", 1)]) {
                Ok(_) | Err(Error::Store(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
        read += 1;
    }
    println!("{refused} damaged files were refused, {read} could be read");
    assert!(refused > 50, "{refused} refused, {read} read");
}

#[test]
fn a_path_that_cannot_be_opened_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no/such/quota.db");
    let error = SqliteOptions::at(&missing).open().unwrap_err().to_string();
    assert!(
        error.contains("quota.db cannot be opened: there is no folder") && error.ends_with("make it first"),
        "{error}"
    );
    let error = SqliteOptions::at(folder.path()).open().unwrap_err().to_string();
    assert!(error.ends_with("it is a folder, name a file in it"), "{error}");
}

#[test]
fn any_time_to_wait_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    for timeout in [Duration::ZERO, Duration::from_millis(3_000_000_000), Duration::MAX] {
        let store = SqliteOptions::at(folder.path().join("quota.db")).busy_timeout(timeout).open().unwrap();
        assert!(quota_on(store).consume("ana", &[("jobs", 1)]).unwrap().allowed);
    }
}

#[test]
fn a_file_that_stays_busy_is_an_error_to_retry_and_charges_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quota.db");
    let quota = quota_on(SqliteOptions::at(&file).busy_timeout(Duration::from_millis(50)).open().unwrap());
    assert!(quota.consume("ana", &[("jobs", 1)]).unwrap().allowed);
    let other = Connection::open(&file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let denial = quota.consume("ana", &[("jobs", 1)]).unwrap().denied.unwrap();
    assert_eq!(denial.reason, Reason::StoreUnavailable);
    let error = quota.refund("ana", &[("jobs", 1)]).unwrap_err();
    assert!(
        matches!(error, Error::Store(StoreError::Busy { waited }) if waited >= Duration::from_millis(50)),
        "{error}"
    );
    assert_eq!(error.retry(), Retry::Safe);
    assert_eq!(used(&quota, "ana"), 1, "reading goes on meanwhile");
    other.execute_batch("ROLLBACK").unwrap();
    assert!(quota.consume("ana", &[("jobs", 1)]).unwrap().allowed);
    assert_eq!(used(&quota, "ana"), 2);
}

/// While another process holds the file, a task's poll must return at once, and not wait on its thread.
#[test]
fn a_task_never_waits_for_the_file_on_its_own_thread() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quota.db");
    let quota = open(&file).to_async();
    assert!(block_on(quota.consume("ana", &[("jobs", 1)])).unwrap().allowed);
    let other = Connection::open(&file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut waiting = Box::pin(quota.consume("ana", &[("jobs", 1)]));
    assert!(matches!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
    other.execute_batch("ROLLBACK").unwrap();
    assert!(block_on(waiting).unwrap().allowed);
}

/// Of tasks that are dropped before they are polled again, some have begun, and the others never do.
#[test]
fn a_cancelled_task_leaves_its_charge_whole_or_undone() {
    let folder = tempfile::tempdir().unwrap();
    let quota = open(&folder.path().join("quota.db")).to_async();
    for _ in 0..200 {
        let mut leaving = Box::pin(quota.consume("ana", &[("jobs", 5)]));
        let _ = leaving.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
    assert!(block_on(quota.consume("ana", &[("jobs", 5)])).unwrap().allowed);
    let used = block_on(quota.usage("ana")).unwrap().quotas[0].used;
    assert!(used.is_multiple_of(5) && (5..=1_005).contains(&used), "{used}");
}

/// What a check of the whole file could not see when it was opened.
#[test]
fn damage_that_is_found_later_stops_the_store_which_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quota.db");
    let quota = open(&file);
    for subject in ["ana", "bob"] {
        assert!(quota.consume(subject, &[("jobs", 1)]).unwrap().allowed);
    }
    let set_used = |used: i64| {
        let other = Connection::open(&file).unwrap();
        other.execute_batch("PRAGMA ignore_check_constraints = ON").unwrap();
        other.execute("UPDATE counter SET used = ?1 WHERE subject = 'ana'", (used,)).unwrap();
    };
    set_used(-1);
    let denied = |subject: &str| {
        let denial = quota.consume(subject, &[("jobs", 1)]).unwrap().denied.unwrap();
        assert_eq!(denial.reason, Reason::StoreUnavailable);
        denial.cause.unwrap()
    };
    let cause = denied("ana");
    assert!(cause.contains("is damaged") && cause.contains("a counter cannot be read: it holds -1 units"), "{cause}");
    for subject in ["ana", "bob"] {
        let cause = denied(subject);
        assert!(cause.starts_with("the store has stopped"), "{cause}");
        let error = quota.usage(subject).unwrap_err();
        assert!(matches!(error, Error::Store(StoreError::Stopped { .. })), "{error}");
        assert_eq!(error.retry(), Retry::Never);
    }
    drop(quota);
    // A file that is still damaged in that way is refused as a whole.
    assert!(matches!(SqliteOptions::at(&file).open().unwrap_err(), StoreError::Damaged { .. }));
    set_used(1);
    let quota = open(&file);
    assert_eq!((used(&quota, "ana"), used(&quota, "bob")), (1, 1));
    assert!(quota.consume("ana", &[("jobs", 1)]).unwrap().allowed);
}
