//! The PostgreSQL store behind a pooler that hands sessions on after each transaction: nothing that a store needs is
//! kept in a session.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, missing_docs)]

mod servers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pollster::block_on;
use quotum::store::{
    Call, Charge, CounterKey, Fingerprint, Once, Outcome, PostgresStore, Store, StoreError, Wait, conformance,
};
use quotum::{Limit, Period, Retry, Timestamp};
use servers::{Pooler, Postgres, SESSIONS};

/// 2026-03-01T00:00:00Z.
const NOW_S: i64 = 1_772_323_200;

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn call() -> Call {
    Call::new(time(NOW_S), Wait::Block)
}

fn charge(limit: u64) -> Charge {
    let key = CounterKey::of("ana", "jobs", Period::Day, NOW_S);
    Charge { key, amount: 1, limit: Limit::Units(limit) }
}

fn used(store: &PostgresStore) -> u64 {
    block_on(store.balances(call(), &[charge(0).key])).unwrap()[0].used
}

/// So many stores on one schema, each with connections of its own.
fn stores(server: &Postgres, pooler: &Pooler, many: usize) -> Vec<PostgresStore> {
    let options = server.options_at(&pooler.url()).connections(4);
    (0..many).map(|_| options.open().unwrap()).collect()
}

/// How many sessions the server has, but for those that ask this.
fn sessions(server: &Postgres) -> usize {
    let whose = "backend_type = 'client backend' AND application_name <> 'psql'";
    server.psql(&format!("SELECT count(*) FROM pg_stat_activity WHERE {whose}")).parse().unwrap()
}

#[test]
fn the_store_conforms_behind_a_pooler() {
    let server = Postgres::start_hasty();
    let pooler = Pooler::start(&server);
    conformance::run(|| Arc::new(server.emptied(&pooler.url(), |options| options))).assert_passed();
    assert!((1..=SESSIONS).contains(&sessions(&server)), "nobody has gone past the pooler");
}

#[test]
fn many_threads_on_few_sessions_grant_exactly_the_limit() {
    const THREADS: usize = 32;
    const LIMIT: u64 = 1_500;
    let server = Postgres::start_hasty();
    let pooler = Pooler::start(&server);
    let stores = stores(&server, &pooler, 4);
    let (granted, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, granted, refused) = (&stores[thread % stores.len()], &granted, &refused);
            scope.spawn(move || {
                // Beyond the end of the counter, each.
                for _ in 0..100 {
                    let charged = block_on(store.charge(call(), &[charge(LIMIT)], None)).unwrap();
                    let counted = if charged.granted() { granted } else { refused };
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!((granted.into_inner(), refused.into_inner()), (LIMIT, THREADS as u64 * 100 - LIMIT));
    assert_eq!(used(&stores[0]), LIMIT);
    // The pooler keeps those that it has had.
    assert_eq!(sessions(&server), SESSIONS);
}

/// The pooler itself closes the session of a client that is gone; that the server gives up what the session was waiting
/// for is a setting of the server's.
#[test]
fn statements_that_wait_too_long_keep_nobody_from_the_pooler() {
    let server = Postgres::start_hasty();
    server.psql("ALTER SYSTEM SET client_connection_check_interval = '100ms'");
    server.psql("SELECT pg_reload_conf()");
    let pooler = Pooler::start(&server);
    let options = server.options_at(&pooler.url()).statement_timeout(Duration::from_millis(300));
    let store = options.open().unwrap();
    block_on(store.charge(call(), &[charge(10)], None)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| server.psql("BEGIN; SELECT used FROM quotum_0.counter FOR UPDATE; SELECT pg_sleep(3)"));
        let locked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        while server.psql(locked) != "1" {}
        // More than there are sessions, one after the other.
        for _ in 0..=SESSIONS {
            let error = block_on(store.charge(call(), &[charge(10)], None)).unwrap_err();
            assert!(matches!(error, StoreError::TimedOut { retry: Retry::OutcomeUnknown, .. }), "{error}");
        }
        assert!(block_on(store.plans(call())).is_ok(), "others are answered meanwhile");
    });
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(used(&store), 1, "the server has found that nobody waits");
}

/// Has threads charge one counter under a key each until that is answered, while something happens to who answers.
fn charge_once_while(stores: &[PostgresStore], happens: impl FnOnce()) {
    let (sent, again, done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (store, sent, again, done) = (&stores[thread % stores.len()], &sent, &again, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let number = sent.fetch_add(1, Ordering::Relaxed);
                    charge_until_answered(store, number, again);
                }
            });
        }
        // Also where it panics, so that the threads end.
        let _done = SetAtEnd(&done);
        happens();
    });
    let (sent, again) = (sent.into_inner(), again.into_inner());
    println!("{sent} charged, {again} times not answered");
    assert_eq!(used(&stores[0]), sent);
}

struct SetAtEnd<'f>(&'f AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn charge_until_answered(store: &PostgresStore, number: u64, again: &AtomicU64) {
    let key = Arc::from(format!("key-{number}"));
    let arguments = Fingerprint::of(&[b"1"]);
    let once = Once { subject: "ana".into(), key, arguments, kept_until: time(NOW_S + 86_400) };
    let began = Instant::now();
    loop {
        match block_on(store.charge(call(), &[charge(1_000_000)], Some(&once))) {
            Ok(charged) => break assert_ne!(charged.outcome, Outcome::Refused),
            Err(error) => {
                assert_ne!(error.retry(), Retry::Never, "{error}");
                assert!(!matches!(error, StoreError::Damaged { .. }), "{error}");
                assert!(began.elapsed() < Duration::from_secs(60), "{error}");
                again.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

#[test]
fn keyed_charges_are_made_once_while_the_pooler_is_restarted() {
    let server = Postgres::start_hasty();
    let mut pooler = Pooler::start(&server);
    charge_once_while(&stores(&server, &pooler, 2), || {
        for by in ["-KILL", "-TERM", "-INT", "-KILL", "-TERM", "-INT"] {
            std::thread::sleep(Duration::from_millis(300));
            pooler.end(by);
            std::thread::sleep(Duration::from_millis(100));
            pooler.run();
        }
        std::thread::sleep(Duration::from_millis(300));
    });
}

/// What is told of a session that has ended is the pooler's own word, and no server's.
#[test]
fn keyed_charges_are_made_once_while_sessions_behind_the_pooler_end() {
    let server = Postgres::start_hasty();
    let pooler = Pooler::start(&server);
    charge_once_while(&stores(&server, &pooler, 2), || {
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(60));
            server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'quotum'");
        }
    });
}

#[test]
fn keyed_charges_are_made_once_while_the_server_behind_the_pooler_crashes() {
    let mut server = Postgres::start();
    let pooler = Pooler::start(&server);
    charge_once_while(&stores(&server, &pooler, 2), || {
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(300));
            server.kill();
            std::thread::sleep(Duration::from_millis(200));
            server.run();
        }
        std::thread::sleep(Duration::from_millis(300));
    });
}
