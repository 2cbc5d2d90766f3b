//! What a charge costs on PostgreSQL, beside raw conditional updates of as many rows, one by one and as more ask at once.
//! Prints ratios, in one run.
//!
//! The raw statements are prepared once on a connection of their own to the same server; they are less than a charge,
//! which is all or nothing, resolves what has expired and tells what is left. On the same connection as they: the
//! function that a charge calls, as the store asks for it, with a turn, parsed anew each time. All are asked one after the
//! other.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

mod growth;
#[path = "../core/tests/servers/mod.rs"]
mod servers;

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pollster::block_on;
use quotum::store::{Call, Charge, CounterKey, PostgresStore, Store, Wait};
use quotum::{Limit, Period, Timestamp};
use servers::Postgres;
use tokio::runtime::Runtime;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls, Statement};

const ROUNDS: usize = 6_000;
const SUBJECTS: usize = 500;
/// Rounds that are not counted: those in which counters are made, and sessions learn their functions.
const WARM: usize = 2 * SUBJECTS;
const SCHEMA: &str = "quotum_0";
/// After how many steps the store leaves a seat.
const STEPS_ON_A_SEAT: i64 = 1_000;

fn main() {
    println!("{:<40} {:>10} {:>10} {:>14}", "what", "p50", "p99", "beside raw");
    let (durable, hasty) = (Postgres::start(), Postgres::start_hasty());
    measure("synchronous_commit on", &durable);
    measure("synchronous_commit off", &hasty);
    for (name, server) in [("on", &durable), ("off", &hasty)] {
        println!("\nAs more ask at once, synchronous_commit {name}");
        growth::heading();
        grow(server);
    }
}

/// How many charges of one counter are made in a second, by the store and by raw statements on as many connections.
fn grow(server: &Postgres) {
    let threads = growth::threads();
    let rows = format!("SELECT 'grown-' || i, 0 FROM generate_series(0, {}) i", growth::COUNTERS - 1);
    server.psql(&format!("INSERT INTO {SCHEMA}.raw {rows}"));
    let text =
        format!("UPDATE {SCHEMA}.raw SET used = used + 1 WHERE name = $1 AND used + 1 <= 1000000000 RETURNING used");
    let first: Arc<PostgresStore> = Arc::new(server.options_at(&server.url()).schema(SCHEMA).open().unwrap());
    let filled = Arc::clone(&first);
    growth::each(&threads, move |number| grown(Arc::clone(&filled), number));
    for (name, counters) in [("one for all", 1), ("10,000 in turn", growth::COUNTERS)] {
        for callers in growth::CALLERS {
            let connect = || async {
                let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
                tokio::spawn(connection);
                let statement = client.prepare(&text).await.unwrap();
                (client, statement)
            };
            let clients: Arc<Vec<_>> = Arc::new((0..callers).map(|_| threads.block_on(connect())).collect());
            let raw = growth::measured(&threads, callers, move |caller, number| {
                let clients = Arc::clone(&clients);
                async move {
                    let (client, statement) = &clients[caller];
                    let name = format!("grown-{}", number % counters);
                    assert_eq!(client.query(statement, &[&name]).await.unwrap().len(), 1);
                }
            });
            for prepares in [false, true] {
                let options = server.options_at(&server.url()).schema(SCHEMA).connections(callers);
                let store: Arc<PostgresStore> = Arc::new(options.prepare(prepares).open().unwrap());
                let charged =
                    growth::measured(&threads, callers, move |_, number| grown(Arc::clone(&store), number % counters));
                let name = format!("{name}{}", if prepares { ", prepared" } else { "" });
                growth::line(&name, callers, &raw, &charged);
            }
        }
    }
}

async fn grown(store: Arc<PostgresStore>, number: usize) {
    let key = CounterKey::of(format!("grown-{number}"), "jobs", Period::Month, 0);
    let charges = [Charge { key, amount: 1, limit: Limit::Units(1_000_000_000) }];
    let call = Call::new(Timestamp::UNIX_EPOCH, Wait::Yield);
    assert!(store.charge(call, &charges, None).await.unwrap().granted());
}

/// The ways to charge, each timed by itself.
#[derive(Default)]
struct Taken {
    trip: Vec<Duration>,
    raw: [Vec<Duration>; 2],
    function: [Vec<Duration>; 2],
    store: [Vec<Duration>; 2],
    prepared: [Vec<Duration>; 2],
}

struct Session {
    runtime: Runtime,
    client: Client,
    raw: [Statement; 2],
    /// How many steps have been made by the function.
    steps: Cell<i64>,
}

impl Session {
    fn open(server: &Postgres) -> Self {
        let table = format!("{SCHEMA}.raw (name text PRIMARY KEY, used int8 NOT NULL) WITH (fillfactor = 70)");
        server.psql(&format!("CREATE TABLE {table}"));
        for period in ["day", "month"] {
            let rows = format!("SELECT 'raw-' || i || '-{period}', 0 FROM generate_series(0, {}) i", SUBJECTS - 1);
            server.psql(&format!("INSERT INTO {SCHEMA}.raw {rows}"));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (client, connection) = runtime.block_on(tokio_postgres::connect(&server.url(), NoTls)).unwrap();
        runtime.spawn(connection);
        let update = |name| {
            format!(
                "UPDATE {SCHEMA}.raw SET used = used + 1 WHERE name = {name} AND used + 1 <= 1000000 RETURNING used"
            )
        };
        let both = format!("WITH a AS ({}), b AS ({}) SELECT * FROM a, b", update("$1"), update("$2"));
        let raw = [update("$1"), both].map(|text| runtime.block_on(client.prepare(&text)).unwrap());
        Self { runtime, client, raw, steps: Cell::new(0) }
    }

    fn raw(&self, counters: usize, number: usize) {
        let names = ["day", "month"].map(|period| format!("raw-{number}-{period}"));
        let values: Vec<&(dyn ToSql + Sync)> = names.iter().take(counters).map(|name| name as _).collect();
        let rows = self.runtime.block_on(self.client.query(&self.raw[counters - 1], &values)).unwrap();
        assert_eq!(rows.len(), 1);
    }

    fn function(&self, counters: usize, number: usize) {
        let subject = format!("function-{number}").into_bytes();
        let text = if counters == 1 { one_counter() } else { two_counters() };
        let step = self.steps.replace(self.steps.get() + 1);
        let (seat, number) = (step / STEPS_ON_A_SEAT, step % STEPS_ON_A_SEAT + 1);
        let values: [(&(dyn ToSql + Sync), Type); 3] =
            [(&subject, Type::BYTEA), (&seat, Type::INT8), (&number, Type::INT8)];
        let rows = self.runtime.block_on(self.client.query_typed(&text, &values)).unwrap();
        assert_eq!(rows[0].get::<_, i32>(0), 1);
    }

    fn trip(&self) {
        self.runtime.block_on(self.client.simple_query("SELECT 1")).unwrap();
    }
}

fn one_counter() -> String {
    format!(
        "SELECT *, 0::int8 AS shift FROM {SCHEMA}.charge(0, ARRAY[$1]::bytea[], '{{jobs}}', '{{day}}', '{{0}}',
         '{{34560000}}', '{{34560000}}', '{{1}}', '{{1}}', '{{1000000}}', NULL, NULL, NULL, NULL, NULL, false,
         'asker of its own', $2, $3, $3, false)"
    )
}

fn two_counters() -> String {
    format!(
        "SELECT *, 0::int8 AS shift FROM {SCHEMA}.charge(0, ARRAY[$1, $1]::bytea[], '{{jobs,jobs}}', '{{day,month}}',
         '{{0,0}}', '{{34560000,NULL}}', '{{34560000,NULL}}', '{{1,2}}', '{{1,1}}', '{{1000000,1000000}}',
         NULL, NULL, NULL, NULL, NULL, false, 'asker of its own', $2, $3, $3, false)"
    )
}

fn charge(store: &PostgresStore, counters: usize, number: usize) {
    let subject: Arc<str> = format!("subject-{number}").into();
    let of = |period| {
        let key = CounterKey::of(Arc::clone(&subject), "jobs", period, 0);
        Charge { key, amount: 1, limit: Limit::Units(1_000_000) }
    };
    let charges = [Period::Day, Period::Month].map(of);
    let call = Call::new(Timestamp::UNIX_EPOCH, Wait::Block);
    assert!(block_on(store.charge(call, &charges[..counters], None)).unwrap().granted());
}

fn measure(name: &str, server: &Postgres) {
    let store = server.options().connections(1).open().unwrap();
    let preparing = server.options_at(&server.url()).schema(SCHEMA).connections(1).prepare(true).open().unwrap();
    let session = Session::open(server);
    let mut taken = Taken::default();
    for round in 0..ROUNDS {
        let number = round % SUBJECTS;
        timed(&mut taken.trip, round, || session.trip());
        for counters in [1, 2] {
            timed(&mut taken.raw[counters - 1], round, || session.raw(counters, number));
            timed(&mut taken.function[counters - 1], round, || session.function(counters, number));
            timed(&mut taken.store[counters - 1], round, || charge(&store, counters, number));
            timed(&mut taken.prepared[counters - 1], round, || charge(&preparing, counters, number));
        }
    }
    println!("{name}");
    line("a round trip (SELECT 1)", &mut taken.trip, None);
    for (counters, of) in ["one counter", "two counters"].into_iter().enumerate() {
        let raw = line(&format!("{of}: raw updates"), &mut taken.raw[counters], None);
        line(&format!("{of}: the function"), &mut taken.function[counters], Some(raw));
        line(&format!("{of}: the store"), &mut taken.store[counters], Some(raw));
        line(&format!("{of}: the store, prepared"), &mut taken.prepared[counters], Some(raw));
    }
}

fn timed(taken: &mut Vec<Duration>, round: usize, act: impl FnOnce()) {
    let began = Instant::now();
    act();
    if round >= WARM {
        taken.push(began.elapsed());
    }
}

/// Prints a line, and returns its median.
fn line(what: &str, taken: &mut [Duration], raw: Option<Duration>) -> Duration {
    taken.sort_unstable();
    let (median, most) = (taken[taken.len() / 2], taken[taken.len() * 99 / 100]);
    let ratio = raw.map_or_else(String::new, |raw| format!("{:.2}x", median.as_secs_f64() / raw.as_secs_f64()));
    println!("  {what:<38} {median:>10.0?} {most:>10.0?} {ratio:>14}");
    median
}
