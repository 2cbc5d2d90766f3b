//! Every statement that the store makes, noted while the conformance suite runs on it, so that a test can ask
//! SQLite how it would go about each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rusqlite::Connection;
use rusqlite::trace::{TraceEvent, TraceEventCodes};

use super::options::{Durability, STATEMENTS_MAX, SqliteOptions};
use crate::store::conformance;

static NOTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The connection, with each statement noted that it makes from now on.
pub(super) fn noting(mut connection: Connection) -> Connection {
    let note = |event: TraceEvent<'_>| {
        if let TraceEvent::Stmt(statement, _) = event {
            NOTED.lock().insert(statement.sql().into_owned());
        }
    };
    connection.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(note)).unwrap();
    connection
}

/// The statements that begin, end and undo transactions.
const TRANSACTION: usize = 4;

/// How SQLite would go about a statement, step by step.
fn plan_of(connection: &Connection, statement: &str) -> Vec<String> {
    let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
    let mut rows = plan.raw_query();
    let mut steps = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        steps.push(row.get(3).unwrap());
    }
    steps
}

/// Of the statements that a request waits for, none may take longer the more there is in the file.
#[test]
fn every_statement_finds_its_rows_by_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let made = AtomicU64::new(0);
    let open = || {
        let file = folder.path().join(format!("{}.db", made.fetch_add(1, Ordering::Relaxed)));
        SqliteOptions::at(file).durability(Durability::Normal)
    };
    conformance::run(|| Arc::new(open().open().unwrap())).assert_passed();
    let connection = Connection::open(folder.path().join("0.db")).unwrap();
    let noted = NOTED.lock().clone();
    let is_of_rows = |sql: &String| ["SELECT", "INSERT", "UPDATE", "DELETE"].iter().any(|verb| sql.starts_with(verb));
    let plans: BTreeMap<String, Vec<String>> = noted
        .into_iter()
        .filter(|sql| is_of_rows(sql) && !sql.contains("sqlite_schema"))
        .map(|sql| (sql.clone(), plan_of(&connection, &sql)))
        .collect();
    for table in ["counter", "step", "hold", "hold_part", "identity", "event", "subscription"] {
        for verb in ["INSERT", "DELETE FROM"] {
            let noted = plans.keys().any(|sql| sql.starts_with(verb) && sql.contains(&format!(" {table} ")));
            assert!(noted || (verb, table) == ("DELETE FROM", "subscription"), "{verb} {table} was not noted");
        }
    }
    assert!(plans.len() + TRANSACTION <= STATEMENTS_MAX, "{} statements", plans.len());
    let slow = |step: &&String| ["SCAN", "TEMP B-TREE", "AUTOMATIC"].iter().any(|word| step.contains(word));
    for (sql, plan) in plans {
        // Subscribers are listed and counted for nobody's request, and of plans there is one row.
        let is_asked_seldom = sql.contains("FROM subscription WHERE subject >")
            || sql.contains("count(*) FROM subscription")
            || sql.ends_with("FROM plans");
        let found = plan.iter().filter(|step| *step != "SCAN CONSTANT ROW").find(slow);
        assert!(is_asked_seldom || found.is_none(), "{sql}: {found:?}");
    }
}
