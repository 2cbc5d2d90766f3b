//! `consume` on each store, beside the least that could do the same job, in turn and in one run.
//!
//! The peer of an SQLite store is the best single statement that charges a counter within its limit: a
//! prepared conditional upsert whose outcome is read from `changes()`. Its callers share one
//! connection, as a backend without a batching store would. The memory store's peer is a map of
//! counters without plans, subscriptions, periods or decisions.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use dashmap::DashMap;
use quotum::Plans;
use quotum::blocking::Quota;
use quotum::store::{Durability, MemoryStore, SqliteOptions, Store};
use rusqlite::Connection;

const SUBJECTS: usize = 10_000;
const CALLERS: usize = 64;
/// The least that one caller does in a sample, so that starting the threads does not count.
const OPS_PER_CALLER_MIN: usize = 40;

/// What is charged: every subject in turn, or one that all callers share.
#[derive(Clone, Copy)]
enum Spread {
    Subjects,
    Hot,
}

/// The subject of a caller's n-th charge: uniform, and the same in every run.
fn pick(spread: Spread, caller: usize, n: usize) -> usize {
    match spread {
        Spread::Hot => 0,
        Spread::Subjects => (n * CALLERS + caller).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20,
    }
}

/// Times `iterations` calls of `charge`, shared out to so many callers.
fn time(callers: usize, iterations: u64, charge: impl Fn(usize, usize) -> bool + Sync) -> Duration {
    let each = usize::try_from(iterations).unwrap().div_ceil(callers).max(OPS_PER_CALLER_MIN);
    let begin = Instant::now();
    if callers == 1 {
        assert!((0..each).all(|n| charge(0, n)));
    } else {
        std::thread::scope(|scope| {
            for caller in 0..callers {
                let charge = &charge;
                scope.spawn(move || assert!((0..each).all(|n| charge(caller, n))));
            }
        });
    }
    let done = u32::try_from(each * callers).unwrap();
    begin.elapsed().mul_f64(f64::from(u32::try_from(iterations).unwrap()) / f64::from(done))
}

fn engine(store: Arc<dyn Store>) -> Quota {
    let plans = "default_plan = 'free'\n[plans.free]\nquotas = { calls = '9007199254740991/month' }";
    Quota::builder().plans(Plans::from_toml(plans).unwrap()).open_on(store).unwrap()
}

fn raw(path: &std::path::Path, synchronous: &str) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous};
             CREATE TABLE counter (subject TEXT, metric TEXT, period TEXT, start_s INTEGER, used INTEGER,
                 PRIMARY KEY (subject, metric, period, start_s)) WITHOUT ROWID;"
        ))
        .unwrap();
    connection
}

fn raw_charge(connection: &Connection, subject: &str) -> bool {
    let upsert = "INSERT INTO counter VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET used = used + ?5 WHERE used + ?5 <= ?6";
    let mut upsert = connection.prepare_cached(upsert).unwrap();
    upsert.execute((subject, "calls", "month", 1_772_323_200, 1, (1_i64 << 53) - 1)).unwrap() == 1
}

/// Measures Quotum and its peer in turn, over many counters and over one, with one caller and with many.
fn compare(criterion: &mut Criterion, store: &str, quota: &Quota, peer: impl Fn(&str) -> bool + Sync) {
    let subjects: Vec<String> = (0..SUBJECTS).map(|number| format!("user:{number}")).collect();
    let subject = |spread, caller, n| subjects[pick(spread, caller, n) % SUBJECTS].as_str();
    for (spread, counters) in [(Spread::Subjects, "10k"), (Spread::Hot, "hot")] {
        for callers in [1, CALLERS] {
            let mut group = criterion.benchmark_group(format!("{store}/{counters}/{callers}"));
            group.bench_function("quotum", |bencher| {
                bencher.iter_custom(|iterations| {
                    time(callers, iterations, |caller, n| {
                        quota.consume(subject(spread, caller, n), &[("calls", 1)]).unwrap().allowed
                    })
                });
            });
            group.bench_function("peer", |bencher| {
                bencher
                    .iter_custom(|iterations| time(callers, iterations, |caller, n| peer(subject(spread, caller, n))));
            });
        }
    }
}

fn memory(criterion: &mut Criterion) {
    let map: DashMap<String, AtomicU64> =
        (0..SUBJECTS).map(|number| (format!("user:{number}"), AtomicU64::new(0))).collect();
    let bounded_add = |subject: &str| {
        let add = |used: u64| used.checked_add(1);
        map.get(subject).unwrap().fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    };
    compare(criterion, "memory", &engine(Arc::new(MemoryStore::new())), bounded_add);
}

fn sqlite(criterion: &mut Criterion) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for (durability, synchronous) in [(Durability::Full, "FULL"), (Durability::Normal, "NORMAL")] {
        let path = |name: &str| folder.path().join(format!("{name}-{synchronous}.db"));
        let quota = engine(Arc::new(SqliteOptions::at(path("quotum")).durability(durability).open().unwrap()));
        let raw = Mutex::new(raw(&path("raw"), synchronous));
        compare(criterion, &format!("sqlite-{synchronous}"), &quota, |subject| {
            raw_charge(&raw.lock().unwrap(), subject)
        });
    }
}

criterion_group! {
    name = consume;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = memory, sqlite
}
criterion_main!(consume);
