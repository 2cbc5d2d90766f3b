//! What a unit costs that is granted from a leased block, beside one in the memory store and one charged in the store.
//! Prints ratios, in one run.
//!
//! One hot subject, whose quota does not end. Every store with one thread, and with eight that share an engine.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[path = "../core/tests/servers/mod.rs"]
mod servers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quotum::blocking::Quota;
use quotum::store::{MemoryStore, SqliteOptions, Store};
use quotum::{Leasing, Plans};
use servers::{Postgres, Redis};

const PLANS: &str = "default_plan = 'all'\n[plans.all]\nquotas = { units = '1000000000/total' }";

/// How long each is asked for, once blocks have grown.
const LONG: Duration = Duration::from_secs(2);
const WARM: Duration = Duration::from_millis(500);

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let (postgres, redis) = (Postgres::start(), Redis::start());
    println!(
        "{:<12} {:>8} {:>14} {:>14} {:>16} {:>14}",
        "store", "threads", "leased", "exact", "leased : memory", "leased : exact"
    );
    for threads in [1, 8] {
        let memory_ns = measure(Arc::new(MemoryStore::new()), Leasing::Off, threads);
        println!("{:<12} {threads:>8} {:>14} {memory_ns:>11.0} ns", "memory", "");
        let of = |name: &str| -> Arc<dyn Store> {
            match name {
                "sqlite" => {
                    let file = folder.path().join(format!("{threads}-{}.db", std::process::id()));
                    Arc::new(SqliteOptions::at(file).open().unwrap())
                }
                "postgres" => Arc::new(postgres.options().open().unwrap()),
                _ => Arc::new(redis.options().open().unwrap()),
            }
        };
        for name in ["sqlite", "postgres", "redis"] {
            let store = of(name);
            let leased_ns = measure(Arc::clone(&store), Leasing::Auto, threads);
            let exact_ns = measure(store, Leasing::Off, threads);
            println!(
                "{name:<12} {threads:>8} {leased_ns:>11.0} ns {exact_ns:>11.0} ns {:>15.2}x {:>13.4}x",
                leased_ns / memory_ns,
                leased_ns / exact_ns,
            );
        }
    }
}

/// How long a unit takes, of all threads together.
fn measure(store: Arc<dyn Store>, leasing: Leasing, threads: u64) -> f64 {
    let quota = Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).lease(leasing).open_on(store).unwrap();
    consume(&quota, WARM, threads);
    let began = Instant::now();
    let granted = consume(&quota, LONG, threads);
    let took = began.elapsed();
    quota.close().unwrap();
    took.as_nanos() as f64 / granted as f64
}

fn consume(quota: &Quota, long: Duration, threads: u64) -> u64 {
    let granted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let (began, mut own) = (Instant::now(), 0);
                while own % 64 != 0 || began.elapsed() < long {
                    assert!(quota.consume("hot", &[("units", 1)]).unwrap().allowed);
                    own += 1;
                }
                granted.fetch_add(own, Ordering::Relaxed);
            });
        }
    });
    granted.into_inner()
}
