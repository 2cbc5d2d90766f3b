//! What a charge of two counters costs on PostgreSQL, beside the raw statements on the same server.
//!
//! It measures and asserts nothing:
//! `cargo test --release --features postgres --test postgres_cost -- --ignored --nocapture`

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

mod servers;

use std::time::{Duration, Instant};

use pollster::block_on;
use quotum::store::{Call, Charge, CounterKey, Store, Wait};
use quotum::{Limit, Period, Timestamp};
use servers::Postgres;
use tokio_postgres::NoTls;

const ROUNDS: usize = 4_000;
const SUBJECTS: usize = 500;

fn charges(number: usize) -> [Charge; 2] {
    let subject: std::sync::Arc<str> = format!("subject-{}", number % SUBJECTS).into();
    [Period::Day, Period::Month].map(|period| {
        let key = CounterKey::of(subject.clone(), "jobs", period, 0);
        Charge { key, amount: 1, limit: Limit::Units(1_000_000) }
    })
}

fn percentiles(mut taken: Vec<Duration>) -> (Duration, Duration) {
    taken.sort_unstable();
    (taken[taken.len() / 2], taken[taken.len() * 99 / 100])
}

fn timed(taken: &mut Vec<Duration>, act: impl FnOnce()) {
    let began = Instant::now();
    act();
    taken.push(began.elapsed());
}

/// Two conditional upserts in one statement: less than a charge, which is all or nothing and tells what is left.
fn raw_upserts(schema: &str) -> String {
    let upsert = |subject| {
        format!(
            "INSERT INTO {schema}.raw AS r VALUES ({subject}, 1)
             ON CONFLICT (name) DO UPDATE SET used = r.used + 1 WHERE r.used + 1 <= 1000000 RETURNING used"
        )
    };
    format!("WITH a AS ({}), b AS ({}) SELECT (SELECT used FROM a), (SELECT used FROM b)", upsert("$1"), upsert("$2"))
}

fn measure(name: &str, server: &Postgres) {
    let store = server.options().open().unwrap();
    let schema = "quotum_0";
    server
        .psql(&format!("CREATE TABLE {schema}.raw (name text PRIMARY KEY, used int8 NOT NULL) WITH (fillfactor = 70)"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (client, connection) = runtime.block_on(tokio_postgres::connect(&server.url(), NoTls)).unwrap();
    runtime.spawn(connection);
    let raw = runtime.block_on(client.prepare(&raw_upserts(schema))).unwrap();
    let function = format!(
        "SELECT * FROM {schema}.charge(0, ARRAY[$1, $1]::bytea[], '{{jobs,jobs}}', '{{day,month}}', '{{0,0}}',
         '{{34560000,NULL}}', '{{34560000,NULL}}', '{{1,2}}', '{{1,1}}', '{{1000000,1000000}}',
         NULL, NULL, NULL, NULL, NULL)"
    );
    let function = runtime.block_on(client.prepare(&function)).unwrap();
    let mut taken: [Vec<Duration>; 4] = Default::default();
    for number in 0..ROUNDS {
        let subject = format!("raw-{}", number % SUBJECTS);
        let (day, month) = (format!("{subject}-day"), format!("{subject}-month"));
        timed(&mut taken[0], || drop(runtime.block_on(client.query(&raw, &[&day, &month])).unwrap()));
        let bytes = subject.into_bytes();
        timed(&mut taken[1], || drop(runtime.block_on(client.query(&function, &[&bytes])).unwrap()));
        let charges = charges(number);
        let call = Call::new(Timestamp::UNIX_EPOCH, Wait::Block);
        timed(&mut taken[2], || assert!(block_on(store.charge(call, &charges, None)).unwrap().granted()));
        timed(&mut taken[3], || drop(runtime.block_on(client.simple_query("SELECT 1")).unwrap()));
    }
    let [raw, function, store, trip] = taken.map(|mut taken| percentiles(taken.split_off(SUBJECTS)));
    println!("{name}: p50 and p99 of {} each", ROUNDS - SUBJECTS);
    println!("  a round trip (SELECT 1)       {trip:?}");
    println!("  two raw conditional upserts   {raw:?}");
    println!("  the function, prepared        {function:?}");
    println!("  the store's charge            {store:?}");
    let ratio = |over: Duration| store.0.as_secs_f64() / over.as_secs_f64();
    println!("  the store takes {:.2} × the raw upserts, {:.2} × the function", ratio(raw.0), ratio(function.0));
}

#[test]
#[ignore = "measures, and asserts nothing"]
fn a_charge_of_two_counters_beside_the_raw_upserts() {
    measure("synchronous_commit on", &Postgres::start());
    measure("synchronous_commit off", &Postgres::start_hasty());
}
