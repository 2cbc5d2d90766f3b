//! The PostgreSQL store on a real server: what several processes do at once, what a crash leaves, what is said of a
//! server that cannot be used.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod servers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pollster::block_on;

use quotum::store::{
    Call, Charge, CounterKey, Fingerprint, Hold, Lease, Once, Outcome, PostgresOptions, PostgresStore, Settle, Settled,
    Store, StoreError, StoreTime, Wait,
};
use quotum::{Error, HoldId, Limit, Period, Retry, Timestamp};
use servers::Postgres;

/// 2026-03-01T00:00:00Z.
const NOW_S: i64 = 1_772_323_200;

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn call() -> Call {
    Call::new(time(NOW_S), Wait::Block)
}

fn charge(subject: &str, period: Period, limit: u64) -> Charge {
    let key = CounterKey::of(subject, "jobs", period, NOW_S);
    Charge { key, amount: 1, limit: Limit::Units(limit) }
}

fn used(store: &PostgresStore, charge: &Charge) -> u64 {
    block_on(store.balances(call(), std::slice::from_ref(&charge.key))).unwrap()[0].used
}

fn once(number: u64) -> Once {
    let key = Arc::from(format!("key-{number}"));
    Once { subject: "ana".into(), key, arguments: Fingerprint::of(&[b"1"]), kept_until: time(NOW_S + 86_400) }
}

/// Asks until the store answers, and counts how often it did not.
fn until_answered<T>(mut ask: impl FnMut() -> Result<T, StoreError>, failures: &AtomicU64) -> T {
    let began = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(error) => {
                assert_ne!(error.retry(), Retry::Never, "{error}");
                assert!(began.elapsed() < Duration::from_secs(60), "{error}");
                failures.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

#[test]
fn many_threads_of_two_pools_grant_exactly_the_limit() {
    let server = Postgres::start_hasty();
    let options = server.options().connections(4);
    let stores = [options.open().unwrap(), options.open().unwrap()];
    let charges =
        [charge("ana", Period::Day, 1_000), charge("ana", Period::Month, 300), charge("team", Period::Day, 999)];
    let granted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let (store, granted) = (&stores[thread % 2], &granted);
            let mut charges = charges.clone();
            charges.rotate_left(thread % 3);
            scope.spawn(move || {
                for _ in 0..40 {
                    let charged = block_on(store.charge(call(), &charges, None)).unwrap();
                    granted.fetch_add(u64::from(charged.granted()), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(granted.into_inner(), 300);
    assert!(charges.iter().all(|charge| used(&stores[0], charge) == 300));
}

#[test]
fn a_charge_that_is_refused_writes_nothing() {
    let server = Postgres::start_hasty();
    let store = server.options().open().unwrap();
    let charges = [charge("ana", Period::Day, 1), charge("ana", Period::Month, 5)];
    assert!(block_on(store.charge(call(), &charges, None)).unwrap().granted());
    let transactions = || server.psql("SELECT pg_current_xact_id()").parse::<u64>().unwrap();
    let before = transactions();
    for (day, month) in [(0, 5), (1, 5), (5, 1)] {
        let new = charge("bob", Period::Day, 0);
        let refused = [charge("ana", Period::Day, day), charge("ana", Period::Month, month), new];
        for refused in [&refused[..], &refused[..2]] {
            let charged = block_on(store.charge(call(), refused, None)).unwrap();
            assert_eq!((charged.outcome, charged.balances[0].used), (Outcome::Refused, 1));
        }
    }
    assert_eq!(transactions(), before + 1, "only this look has taken a number");
    assert_eq!(server.psql("SELECT count(*) FROM quotum_0.counter"), "2");
}

#[test]
fn what_is_kept_of_a_process_is_forgotten_after_hours() {
    let server = Postgres::start_hasty();
    let options = server.options();
    let begin = || {
        let store = options.open().unwrap();
        assert!(block_on(store.charge(call(), &[charge("ana", Period::Day, 10)], None)).unwrap().granted());
    };
    (0..2).for_each(|_| begin());
    // Both have begun three hours ago, and one of them two hours before.
    server.psql("UPDATE quotum_0.turn SET since = since - interval '3 hours'");
    let first = "WHERE ctid = (SELECT ctid FROM quotum_0.turn LIMIT 1)";
    server.psql(&format!("UPDATE quotum_0.turn SET since = since - interval '2 hours' {first}"));
    begin();
    let ages = "SELECT string_agg(extract(hour FROM now() - since)::text, ' ' ORDER BY since) FROM quotum_0.turn";
    assert_eq!(server.psql(ages), "3 0");
}

#[test]
fn of_many_who_open_at_once_one_makes_the_schema() {
    let server = Postgres::start_hasty();
    let options = server.options().connections(1);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let options = &options;
            scope.spawn(move || {
                let store = options.open().unwrap();
                assert!(block_on(store.charge(call(), &[charge(&number.to_string(), Period::Day, 1)], None)).is_ok());
            });
        }
    });
    assert_eq!(server.psql("SELECT version FROM quotum_0.schema_version"), "1");
    assert_eq!(server.psql("SELECT count(*) FROM quotum_0.counter"), "8");
}

#[test]
fn holds_of_many_that_share_counters_are_made_settled_and_expire_without_a_deadlock() {
    let server = Postgres::start_hasty();
    let options = server.options();
    let stores = [options.open().unwrap(), options.open().unwrap()];
    let all = ["ana", "bob", "team"].map(|subject| charge(subject, Period::Day, 1_000_000));
    let settled = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8_usize {
            let (store, settled) = (&stores[thread % 2], &settled);
            let mut charges = all.to_vec();
            charges.rotate_left(thread % 3);
            scope.spawn(move || {
                for round in 0..40 {
                    let now_s = NOW_S + i64::try_from(round).unwrap();
                    let call = Call::new(time(now_s), Wait::Yield);
                    let id = HoldId::from_bytes((thread as u128 * 1_000 + round).to_be_bytes());
                    let (expires_at, kept_until) = (time(now_s + 2), time(now_s + 5));
                    let hold = Hold { id, once: None, charges: charges.clone(), expires_at, kept_until };
                    assert!(block_on(store.hold(call, &hold)).unwrap().granted());
                    // Every other one is left to expire, on some counters before others.
                    if round % 2 == 0 {
                        let outcome = block_on(store.settle(call, &Settle { id, used: Vec::new() })).unwrap();
                        settled.fetch_add(u64::from(matches!(outcome, Settled::Now(_))), Ordering::Relaxed);
                    }
                    charges.swap(0, 1);
                    block_on(store.charge(call, &charges[..2], None)).unwrap();
                }
            });
        }
    });
    let late = Call::new(time(NOW_S + 1_000), Wait::Block);
    let keys = all.clone().map(|charge| charge.key);
    let settled = settled.into_inner();
    let found = block_on(stores[0].balances(late, &keys)).unwrap();
    assert!(found.iter().all(|balance| balance.held == 0), "{found:?}");
    let total: u64 = found.iter().map(|balance| balance.used).sum();
    assert_eq!(total, 3 * settled + 2 * 8 * 40, "{found:?}");
    block_on(stores[0].charge(late, &all, None)).unwrap();
    assert_eq!(server.psql("SELECT count(*) FROM quotum_0.hold_part"), "0");
    assert_eq!(server.psql("SELECT sum(held) FROM quotum_0.counter"), "0");
    let deadlocks = server.psql("SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'");
    assert_eq!(deadlocks, "0", "steps lock in one order");
}

/// Charges survive and are made once, under a key or without one, however often they are sent again.
#[test]
fn a_server_that_is_killed_and_comes_back_loses_nothing_and_charges_everything_once() {
    let mut server = Postgres::start();
    let options = server.options().connect_timeout(Duration::from_secs(1)).statement_timeout(Duration::from_secs(10));
    let stores = [options.open().unwrap(), options.open().unwrap()];
    let (keyed, plain) = (charge("ana", Period::Day, 1_000_000), charge("bob", Period::Day, 1_000_000));
    let [sent, acknowledged, unknown, failures] = [(); 4].map(|()| AtomicU64::new(0));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (store, keyed, plain) = (&stores[thread % 2], &keyed, &plain);
            let (sent, acknowledged, unknown, failures, done) = (&sent, &acknowledged, &unknown, &failures, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let once = once(sent.fetch_add(1, Ordering::Relaxed));
                    let charges = std::slice::from_ref(keyed);
                    let charged = until_answered(|| block_on(store.charge(call(), charges, Some(&once))), failures);
                    assert!(matches!(charged.outcome, Outcome::Granted | Outcome::Repeated(_)), "{charged:?}");
                    match block_on(store.charge(call(), std::slice::from_ref(plain), None)) {
                        Ok(_) => acknowledged.fetch_add(1, Ordering::Relaxed),
                        Err(error) => {
                            unknown.fetch_add(u64::from(error.retry() == Retry::OutcomeUnknown), Ordering::Relaxed)
                        }
                    };
                }
            });
        }
        for round in 0..6 {
            std::thread::sleep(Duration::from_millis(400));
            if round % 2 == 0 {
                assert!(server.kill_a_session());
            } else {
                server.kill();
                std::thread::sleep(Duration::from_millis(100));
                server.run();
            }
        }
        std::thread::sleep(Duration::from_millis(400));
        done.store(true, Ordering::Relaxed);
    });
    let [sent, acknowledged, unknown, failures] = [sent, acknowledged, unknown, failures].map(AtomicU64::into_inner);
    println!("{sent} keyed, {acknowledged} plain acknowledged, {unknown} unknown, {failures} keyed sent again");
    assert_eq!(used(&stores[0], &keyed), sent);
    // The store itself asks again for the answers that it has lost, as long as there is time.
    assert_eq!((used(&stores[1], &plain), unknown), (acknowledged, 0));
}

/// A step whose answer was lost is sent again while the server may still be making it, or may get it later.
#[test]
fn of_two_attempts_at_one_step_one_decides_whichever_comes_first() {
    let server = Postgres::start_hasty();
    let store = server.options().open().unwrap();
    let one = charge("ana", Period::Day, 10);
    let attempt = |number: u32, amount: u32, is_again: bool| {
        format!(
            "quotum_0.charge(0, ARRAY['ana']::bytea[], '{{jobs}}', '{{day}}', '{{{NOW_S}}}', '{{NULL}}', '{{NULL}}', '{{1}}',
             '{{{amount}}}', '{{10}}', NULL, NULL, NULL, NULL, NULL, false, 'asker', 7, {number}, {number}, {is_again})"
        )
    };
    let outcome = |attempt: &str| server.psql(&format!("SELECT outcome FROM {attempt}"));
    let is_undone = |attempt: &str| {
        let undone = "EXCEPTION WHEN SQLSTATE 'QT001' THEN RETURN";
        server.psql(&format!("DO $$ BEGIN PERFORM {attempt}; RAISE 'it was decided'; {undone}; END $$"));
    };
    // The second attempt finds no room any more, because the first has just taken it.
    let slow = format!("BEGIN; SELECT outcome FROM {}; SELECT pg_sleep(1); COMMIT", attempt(1, 6, false));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| server.psql(&slow));
        std::thread::sleep(Duration::from_millis(400));
        is_undone(&attempt(1, 6, true));
        assert_eq!(first.join().unwrap(), "1");
    });
    assert_eq!((outcome(&attempt(1, 6, true)), used(&store, &one)), ("1".to_owned(), 6));
    // The first comes when the second was refused, and room has been made since.
    assert_eq!(outcome(&attempt(2, 5, true)), "0");
    server.psql("UPDATE quotum_0.counter SET used = 0");
    is_undone(&attempt(2, 5, false));
    assert_eq!((outcome(&attempt(2, 5, true)), used(&store, &one)), ("0".to_owned(), 0));
    // The threshold that the first attempt has reached is told by the second.
    assert_eq!(outcome(&attempt(3, 9, false)), "1");
    assert_eq!(server.psql(&format!("SELECT outcome, crossed FROM {}", attempt(3, 9, true))), "1|{80}");
}

#[test]
fn a_server_that_cannot_be_used_is_named_without_its_password() {
    let server = Postgres::start_hasty();
    let socket = server.folder().display();
    let port = server.port();
    server.psql("CREATE ROLE locked PASSWORD 'other' LOGIN");
    server.psql("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0");
    let rules = "local all locked scram-sha-256\nlocal all all trust\n";
    std::fs::write(server.folder().join("data/pg_hba.conf"), rules).unwrap();
    server.psql("SELECT pg_reload_conf()");
    std::thread::sleep(Duration::from_millis(200));
    let cases = [
        (
            format!("postgres://locked:s3cret@/postgres?host={socket}&port={port}"),
            "correct the user's name and password",
        ),
        (format!("postgres://nobody:s3cret@/postgres?host={socket}&port={port}"), "correct the user's name"),
        (format!("postgres://quotum:s3cret@/missing?host={socket}&port={port}"), "create the database first"),
        (format!("postgres://quotum:s3cret@/latin?host={socket}&port={port}"), "ENCODING 'UTF8'"),
        ("postgres://quotum:s3cret@127.0.0.1:1/app".to_owned(), "correct its address, or start the server"),
        ("postgres://quotum:s3cret@no.host.invalid/app".to_owned(), "correct its address"),
        ("postgres://quotum:s3cret@/app?host=/nowhere&sslmode=require".to_owned(), "correct its address"),
    ];
    for (url, advice) in cases {
        let error = quotum::store::open(&url).unwrap_err();
        let Error::Store(StoreError::CannotOpen { .. }) = &error else { panic!("{error:?}") };
        let told = format!("{error} {error:?} {:?}", PostgresOptions::from_url(&url));
        assert!(told.contains(advice), "{told}");
        assert!(!told.contains("s3cret"), "{told}");
    }
}

#[test]
fn a_url_that_cannot_be_read_is_refused_without_its_password() {
    for url in [
        "postgres://ana:s3cret@host/app?schema=Robert'); --",
        "postgres://ana:s3cret@host/app?connections=many",
        "postgres://ana:s3cret@host/app?time=mine",
        "postgres://ana:s3cret@host/app?prepare=maybe",
        "postgres://ana:s3cret@host/app?sslmode=sometimes",
        "postgres://ana:s3cret@host:port/app",
        "postgres:s3cret@host",
        "postgress://ana:s3cret@host/app",
    ] {
        let error = quotum::store::open(url).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    }
}

#[test]
fn a_schema_that_is_newer_or_foreign_is_refused_as_it_is() {
    let server = Postgres::start_hasty();
    let options = server.options();
    drop(options.open().unwrap());
    server.psql("UPDATE quotum_0.schema_version SET version = 99; CREATE SCHEMA other; CREATE TABLE other.counter ()");
    let error = options.open().unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { found: 99, known: 1, .. }), "{error}");
    let error = server.options().schema("other").open().unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    assert_eq!(server.psql("SELECT version FROM quotum_0.schema_version"), "99");
}

#[test]
fn a_statement_that_waits_too_long_is_given_up_and_the_next_is_answered() {
    let server = Postgres::start_hasty();
    let store = server.options().statement_timeout(Duration::from_millis(300)).open().unwrap();
    let charges = [charge("ana", Period::Day, 10)];
    block_on(store.charge(call(), &charges, None)).unwrap();
    let held = std::thread::scope(|scope| {
        let locked =
            scope.spawn(|| server.psql("BEGIN; SELECT used FROM quotum_0.counter FOR UPDATE; SELECT pg_sleep(1.5)"));
        std::thread::sleep(Duration::from_millis(500));
        let error = block_on(store.charge(call(), &charges, None)).unwrap_err();
        assert!(matches!(error, StoreError::TimedOut { retry: Retry::OutcomeUnknown, .. }), "{error}");
        assert!(block_on(store.plans(call())).is_ok(), "others are answered meanwhile");
        locked.join().unwrap()
    });
    assert_eq!(held.lines().next(), Some("1"));
    assert_eq!(used(&store, &charges[0]), 1, "the server was told to give it up");
}

/// Opens a store that goes by the server's clock, and makes a hold, a lease and a charge under a key by a clock that is
/// at `NOW_S`: the first two for a minute.
fn by_the_servers_clock(server: &Postgres, keyed: &Once) -> PostgresStore {
    let store = server.options().time(StoreTime::Server).open().unwrap();
    let (expires_at, kept_until) = (time(NOW_S + 60), time(NOW_S + 120));
    let hold = Hold { id: name(1), once: None, charges: vec![charge("ana", Period::Day, 100)], expires_at, kept_until };
    assert!(block_on(store.hold(call(), &hold)).unwrap().granted());
    let charges = vec![Charge { amount: 10, ..charge("ana", Period::Day, 100) }];
    let lease = Lease { id: name(2), settle: None, charges, least: 1, expires_at, kept_until };
    assert_eq!(block_on(store.lease(call(), &lease)).unwrap().amount, 10);
    assert!(block_on(store.charge(call(), &[charge("ana", Period::Day, 100)], Some(keyed))).unwrap().granted());
    store
}

fn name(number: u128) -> HoldId {
    HoldId::from_bytes(number.to_be_bytes())
}

#[test]
fn who_is_an_hour_ahead_expires_nobody_elses_hold_lease_or_key() {
    let server = Postgres::start_hasty();
    let keyed = Once { kept_until: time(NOW_S + 60), ..once(1) };
    let store = by_the_servers_clock(&server, &keyed);
    let ahead = Call::new(time(NOW_S + 3_600), Wait::Block);
    let charges = [charge("ana", Period::Day, 100)];
    // Both a look and a step would resolve what has expired.
    let charged = block_on(store.charge(ahead, &charges, None)).unwrap();
    assert_eq!((charged.balances[0].used, charged.balances[0].held), (2, 11));
    let found = block_on(store.balances(ahead, &[charges[0].key.clone()])).unwrap();
    assert_eq!((found[0].used, found[0].held, found[0].leases), (2, 11, 1));
    let again = block_on(store.charge(ahead, &charges, Some(&keyed))).unwrap();
    let Outcome::Repeated(at) = again.outcome else { panic!("{again:?}") };
    let off = at.duration_since(time(NOW_S + 3_600)).abs();
    assert!(off.as_secs() < 30, "when it was made, by the clock of who asks: {at}");
    for number in [1, 2] {
        let settled = block_on(store.settle(call(), &Settle { id: name(number), used: Vec::new() })).unwrap();
        let Settled::Now(receipt) = settled else { panic!("{settled:?}") };
        assert!(receipt.at.duration_since(time(NOW_S)).abs().as_secs() < 30, "by one's own clock: {}", receipt.at);
    }
    assert_eq!(used(&store, &charges[0]), 13);
}

#[test]
fn by_the_servers_clock_a_hold_expires_when_its_time_is_over_whatever_clocks_say() {
    let server = Postgres::start_hasty();
    let store = server.options().time(StoreTime::Server).open().unwrap();
    let charges = vec![charge("ana", Period::Day, 10)];
    let expires_at = Timestamp::from_millisecond(NOW_S * 1_000 + 300).unwrap();
    let hold = Hold { id: name(1), once: None, charges: charges.clone(), expires_at, kept_until: time(NOW_S + 60) };
    assert!(block_on(store.hold(call(), &hold)).unwrap().granted());
    std::thread::sleep(Duration::from_millis(400));
    let behind = Call::new(time(NOW_S - 3_600), Wait::Block);
    let found = block_on(store.balances(behind, &[charges[0].key.clone()])).unwrap();
    assert_eq!(found[0].held, 0);
    let settled = block_on(store.settle(call(), &Settle { id: name(1), used: Vec::new() })).unwrap();
    assert!(matches!(settled, Settled::Expired(_)), "{settled:?}");
}
