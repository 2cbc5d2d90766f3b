//! Steps that the PostgreSQL server has undone for the sake of another session are made again, and once.
//!
//! The store's own steps lock in one order and do not deadlock; but a host's own statements may, and a server may be set
//! to isolate transactions more than the store asks for.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, missing_docs)]

mod servers;

use std::time::{Duration, Instant};

use pollster::block_on;
use quotum::store::{Call, Charge, CounterKey, Fingerprint, Hold, Once, Settle, Settled, Store, Wait};
use quotum::{HoldId, Limit, Period, Timestamp};
use servers::Postgres;

/// 2026-03-01T00:00:00Z.
const NOW_S: i64 = 1_772_323_200;

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn call() -> Call {
    Call::new(time(NOW_S), Wait::Block)
}

/// Of two counters, in the order in which a step locks them.
fn charges() -> Vec<Charge> {
    let of = |subject| Charge {
        key: CounterKey::of(subject, "jobs", Period::Day, NOW_S),
        amount: 1,
        limit: Limit::Units(1_000_000),
    };
    ["ana", "bob"].map(of).to_vec()
}

fn used(store: &impl Store) -> Vec<u64> {
    let keys: Vec<CounterKey> = charges().into_iter().map(|charge| charge.key).collect();
    block_on(store.balances(call(), &keys)).unwrap().iter().map(|balance| balance.used).collect()
}

/// How often the server has told this.
fn told(server: &Postgres, error: &str) -> usize {
    server.log().matches(error).count()
}

#[test]
fn a_charge_that_was_undone_for_a_deadlock_is_made_again() {
    let server = Postgres::start_hasty();
    let store = server.options().open().unwrap();
    block_on(store.charge(call(), &charges(), None)).unwrap();
    let update = |subject| format!("UPDATE quotum_0.counter SET used = used WHERE subject = '{subject}'");
    let until_waiting = |sessions| {
        format!(
            "DO $$ BEGIN WHILE (SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted) < {sessions} LOOP
                 PERFORM pg_sleep(0.01);
             END LOOP; END $$"
        )
    };
    let (ana, bob) = (update("ana"), update("bob"));
    let [one, two] = [until_waiting(1), until_waiting(2)];
    // The charge waits for the first session's counter, and the second session behind it. Then the charge has that
    // counter, and waits for the second session's, which waits for the charge. Who waits last looks for a deadlock first.
    // The first session only locks: those who wait for a row that was changed are let in in any order.
    let lock = "SELECT FROM quotum_0.counter WHERE subject = 'ana' FOR UPDATE";
    let tell = |session: u8| format!("SELECT pg_advisory_xact_lock({session})");
    let first = format!("BEGIN; {lock}; {}; {two}; COMMIT", tell(1));
    let second = format!("SET deadlock_timeout = '1min'; BEGIN; {bob}; {}; {one}; {ana}; COMMIT", tell(2));
    std::thread::scope(|scope| {
        for session in [first, second] {
            let server = &server;
            scope.spawn(move || server.psql(&session));
        }
        let locked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted";
        let began = Instant::now();
        while server.psql(locked) != "2" {
            assert!(began.elapsed() < Duration::from_secs(10), "both sessions have their counter");
        }
        assert!(block_on(store.charge(call(), &charges(), None)).unwrap().granted());
    });
    assert_eq!(told(&server, "deadlock detected"), 1);
    assert_eq!(used(&store), [2, 2]);
}

#[test]
fn steps_that_cannot_be_serialized_are_made_again_until_they_can_be() {
    const EACH: u64 = 40;
    for isolation in ["repeatable read", "serializable"] {
        let server = Postgres::start_hasty();
        let options = server.options();
        let stores = [options.open().unwrap(), options.open().unwrap()];
        block_on(stores[0].charge(call(), &charges(), None)).unwrap();
        // A store that is opened afterwards says that it must not be so. These do not ask again.
        server.psql(&format!("ALTER ROLE quotum SET default_transaction_isolation = '{isolation}'"));
        assert!(options.open().unwrap_err().to_string().contains("read committed"));
        server.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
        );
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let store = &stores[usize::try_from(thread % 2).unwrap()];
                scope.spawn(move || {
                    for round in 0..EACH {
                        let number = thread * EACH + round;
                        assert!(block_on(store.charge(call(), &charges(), None)).unwrap().granted());
                        let once = Once {
                            subject: "ana".into(),
                            key: format!("key-{number}").into(),
                            arguments: Fingerprint::of(&[b"1"]),
                            kept_until: time(NOW_S + 86_400),
                        };
                        assert!(block_on(store.charge(call(), &charges(), Some(&once))).unwrap().granted());
                        let id = HoldId::from_bytes(u128::from(number).to_be_bytes());
                        let (expires_at, kept_until) = (time(NOW_S + 3_600), time(NOW_S + 86_400));
                        let hold = Hold { id, once: None, charges: charges(), expires_at, kept_until };
                        assert!(block_on(store.hold(call(), &hold)).unwrap().granted());
                        let settle = Settle { id, used: vec![("jobs".into(), 1)] };
                        assert!(matches!(block_on(store.settle(call(), &settle)).unwrap(), Settled::Now(_)));
                    }
                });
            }
        });
        let undone = told(&server, "could not serialize access");
        println!("{isolation}: {undone} attempts were undone");
        assert!(undone > 0, "{isolation}: no two steps met");
        assert_eq!(used(&stores[0]), [4 * EACH * 3 + 1; 2], "{isolation}");
    }
}
