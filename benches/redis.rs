//! What a charge costs on Redis, beside a raw script that charges as many counters where they stay within a limit, on
//! as many connections to the same server. Prints ratios, in one run.
//!
//! Both ask from threads of a runtime. How long the server itself took for each is by its own account.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    missing_docs
)]

mod growth;
#[path = "../core/tests/servers/mod.rs"]
mod servers;

use std::sync::Arc;
use std::time::Duration;

use quotum::store::{Call, Charge, CounterKey, RedisStore, Store, Wait};
use quotum::{Limit, Period, Timestamp};
use redis::Value;
use servers::Redis;

/// Charges as many counters as it has keys, all of them or none.
const RAW: &str = "
for i = 1, #KEYS do
    if tonumber(redis.call('GET', KEYS[i]) or '0') + ARGV[1] > tonumber(ARGV[2]) then return 0 end
end
local used = {}
for i = 1, #KEYS do used[i] = redis.call('INCRBY', KEYS[i], ARGV[1]) end
return used";

fn charges(number: usize, periods: usize) -> Vec<Charge> {
    let subject: Arc<str> = format!("subject-{number}").into();
    let charge = |period: &Period| {
        let key = CounterKey::of(subject.clone(), "jobs", *period, 0);
        Charge { key, amount: 1, limit: Limit::Units(1_000_000_000) }
    };
    [Period::Month, Period::Day].iter().take(periods).map(charge).collect()
}

async fn charge(store: Arc<RedisStore>, number: usize, periods: usize) {
    let call = Call::new(Timestamp::UNIX_EPOCH, Wait::Yield);
    assert!(store.charge(call, &charges(number, periods), None).await.unwrap().granted());
}

/// The time that the server has spent in scripts, in microseconds.
fn spent_us(server: &Redis) -> f64 {
    let stats = server.cli(&["INFO", "commandstats"]);
    let line = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap_or_default().to_owned();
    let usec = line.split([':', ',']).find_map(|field| field.strip_prefix("usec="));
    usec.unwrap_or("0").parse::<f64>().unwrap()
}

fn main() {
    let server = Redis::start();
    let threads = growth::threads();
    let script = server.cli(&["SCRIPT", "LOAD", RAW]);
    let client = redis::Client::open(server.url()).unwrap();
    for periods in [1, 2] {
        println!("\n{periods} counter{} of a subject", if periods == 1 { "" } else { "s, of a month and a day," });
        growth::heading();
        for (name, subjects) in [("one for all", 1), ("10,000 in turn", growth::COUNTERS)] {
            for callers in growth::CALLERS {
                let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(5)));
                let connect = |_| {
                    let connecting = client.get_multiplexed_async_connection_with_config(&config);
                    threads.block_on(connecting).unwrap()
                };
                let connections: Arc<Vec<_>> = Arc::new((0..callers).map(connect).collect());
                let script: Arc<str> = script.as_str().into();
                let before = spent_us(&server);
                let raw = growth::measured(&threads, callers, move |caller, number| {
                    let mut connection = connections[caller].clone();
                    let mut command = redis::cmd("EVALSHA");
                    command.arg(&*script).arg(periods);
                    for period in 0..periods {
                        command.arg(format!("raw-{period}-{}", number % subjects));
                    }
                    command.arg(1).arg(1_000_000_000);
                    async move {
                        let answer = command.query_async::<Value>(&mut connection).await.unwrap();
                        assert!(matches!(answer, Value::Array(_)));
                    }
                });
                let between = spent_us(&server);
                let store: Arc<RedisStore> = Arc::new(server.options().connections(callers).open().unwrap());
                let filled = Arc::clone(&store);
                growth::each(&threads, move |number| charge(Arc::clone(&filled), number, periods));
                let filled_us = spent_us(&server);
                let charged = growth::measured(&threads, callers, move |_, number| {
                    charge(Arc::clone(&store), number % subjects, periods)
                });
                growth::line(name, callers, &raw, &charged);
                let (raw_us, store_us) = (between - before, spent_us(&server) - filled_us);
                println!("{:>22} the server was busy for {:.0} and {:.0} ms", "", raw_us / 1e3, store_us / 1e3);
            }
        }
    }
}
