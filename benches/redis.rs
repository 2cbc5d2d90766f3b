//! What a charge costs on Redis, beside a bare script that increments as many counters on the same server. Prints
//! ratios.
//!
//! Both ask on threads of a runtime, one by one and many at once; how long the server itself took for each is by its
//! own account.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    missing_docs
)]

#[path = "../core/tests/servers/mod.rs"]
mod servers;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pollster::block_on;
use quotum::store::{Call, Charge, CounterKey, RedisStore, Store, Wait};
use quotum::{Limit, Period, Timestamp};
use redis::Value;
use servers::Redis;

const ROUNDS: usize = 60_000;
const AT_ONCE: usize = 64;
const SUBJECTS: usize = 500;

fn charges(number: usize, counters: usize) -> Vec<Charge> {
    let subject: Arc<str> = format!("subject-{}", number % SUBJECTS).into();
    let charge = |period: &Period| {
        let key = CounterKey::of(subject.clone(), "jobs", *period, 0);
        Charge { key, amount: 1, limit: Limit::Units(1_000_000_000) }
    };
    [Period::Month, Period::Day].iter().take(counters).map(charge).collect()
}

/// The time that the server has spent in scripts, and how many it has run.
fn spent(server: &Redis) -> (f64, f64) {
    let stats = server.cli(&["INFO", "commandstats"]);
    let line = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap_or_default().to_owned();
    let field = |name: &str| {
        let found = line.split([':', ',']).find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or("0").parse::<f64>().unwrap()
    };
    (field("usec"), field("calls"))
}

/// Does something so many times, some at once, and tells how many a second, and how long the server took for each.
fn measured(server: &Redis, at_once: usize, act: impl AsyncFn(usize)) -> (f64, f64) {
    let (before, began, next) = (spent(server), Instant::now(), AtomicUsize::new(0));
    let rounds = if at_once == 1 { ROUNDS / 10 } else { ROUNDS };
    block_on(join_all((0..at_once).map(|_| async {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= rounds {
                return;
            }
            act(number).await;
        }
    })));
    let (taken, after) = (began.elapsed(), spent(server));
    (rounds as f64 / taken.as_secs_f64(), (after.0 - before.0) / (after.1 - before.1))
}

fn main() {
    let server = Redis::start();
    let store: RedisStore = server.options().connections(1).open().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(5)));
    let connection = runtime.block_on(client.get_multiplexed_async_connection_with_config(&config)).unwrap();
    let text = "local r = {} for i = 1, #KEYS do r[i] = redis.call('HINCRBY', KEYS[i], 'used', ARGV[1]) end return r";
    let name = server.cli(&["SCRIPT", "LOAD", text]);
    for counters in [1, 2] {
        for at_once in [1, AT_ONCE] {
            let bare = measured(&server, at_once, async |number| {
                let mut command = redis::cmd("EVALSHA");
                command.arg(&name).arg(counters);
                for counter in 0..counters {
                    command.arg(format!("bare-{counter}-{}", number % SUBJECTS));
                }
                command.arg(1);
                let mut connection = connection.clone();
                // On threads of its own, as the store does it.
                let asked = runtime.spawn(async move { command.query_async::<Value>(&mut connection).await });
                asked.await.unwrap().unwrap();
            });
            let charged = measured(&server, at_once, async |number| {
                let call = Call::new(Timestamp::UNIX_EPOCH, Wait::Yield);
                assert!(store.charge(call, &charges(number, counters), None).await.unwrap().granted());
            });
            println!("{counters} counters, {at_once} at once:");
            println!("  bare: {:.0} a second, {:.1} µs of the server's each", bare.0, bare.1);
            println!("  the store: {:.0} a second, {:.1} µs of the server's each", charged.0, charged.1);
            println!(
                "  it makes {:.2} × as many, for {:.2} × the server's time",
                charged.0 / bare.0,
                charged.1 / bare.1
            );
        }
    }
}
