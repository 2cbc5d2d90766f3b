//! The Redis store on a cluster of three: what lies in different slots, and slots that move.

#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod servers;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pollster::block_on;
use quotum::store::{Adjust, Adjustment, Call, Charge, CounterKey, Hold, Settle, Settled, Store, StoreError, Wait};
use quotum::{Event, EventName, EventQuery, HoldId, Limit, Period, Retry, Timestamp};
use servers::{Redis, RedisCluster};

/// 2026-03-01T00:00:00Z.
const NOW_S: i64 = 1_772_323_200;

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn call() -> Call {
    Call::new(time(NOW_S), Wait::Block)
}

fn charge(subject: &str, limit: u64) -> Charge {
    let key = CounterKey::of(subject, "jobs", Period::Month, NOW_S);
    Charge { key, amount: 1, limit: Limit::Units(limit) }
}

fn used(store: &dyn Store, charge: &Charge) -> u64 {
    block_on(store.balances(call(), std::slice::from_ref(&charge.key))).unwrap()[0].used
}

fn grant(store: &dyn Store, subject: &str) {
    let grant = [Adjustment { key: charge(subject, 0).key, by: Adjust::Grant(1) }];
    let mut event = Event::new(EventName::UsageAdjusted, time(NOW_S));
    event.subject = Some(subject.into());
    block_on(store.adjust(call(), &grant, None, &event)).unwrap();
}

fn changes(store: &dyn Store) -> Vec<String> {
    let events = block_on(store.events(call(), &EventQuery::changes())).unwrap();
    events.into_iter().map(|event| event.subject.unwrap().to_string()).collect()
}

#[test]
fn many_threads_of_two_clients_grant_exactly_the_limit_of_every_account() {
    let cluster = RedisCluster::start();
    let options = cluster.options();
    let stores = [options.open().unwrap(), options.open().unwrap()];
    let accounts: Vec<Charge> = (0..12).map(|number| charge(&format!("account-{number}"), 40)).collect();
    let granted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (store, granted, accounts) = (&stores[thread % 2], &granted, &accounts);
            scope.spawn(move || {
                for round in 0..120 {
                    let one = std::slice::from_ref(&accounts[(thread + round) % accounts.len()]);
                    let charged = block_on(store.charge(call(), one, None)).unwrap();
                    granted.fetch_add(u64::from(charged.granted()), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(granted.into_inner(), 12 * 40);
    assert!(accounts.iter().all(|account| used(&stores[0], account) == 40));
    let keys = |node| cluster.cli(node, &["DBSIZE"]).parse::<u64>().unwrap();
    assert!((0..3).all(|node| keys(node) > 0), "accounts lie on all nodes");
}

#[test]
fn a_step_on_several_accounts_is_refused_and_changes_nothing() {
    let cluster = RedisCluster::start();
    let store = cluster.options().open().unwrap();
    let both = [charge("ana", 10), charge("bob", 10)];
    let error = block_on(store.charge(call(), &both, None)).unwrap_err();
    assert_eq!(error.retry(), Retry::Never);
    assert!(error.to_string().contains("one step is on the counters of one account"), "{error}");
    assert!(both.iter().all(|charge| used(&store, charge) == 0));
    let member = Charge { key: charge("ana", 10).key.in_account("bob"), ..charge("ana", 10) };
    assert!(block_on(store.charge(call(), &[member, charge("bob", 10)], None)).unwrap().granted());
}

#[test]
fn a_slot_that_moves_while_it_is_charged_loses_and_doubles_nothing() {
    let cluster = RedisCluster::start();
    let store = cluster.options().prefix("app").open().unwrap();
    let one = charge("acme", 1_000_000);
    let slot = cluster.cli(0, &["CLUSTER", "KEYSLOT", "{app:acme}"]).parse::<u32>().unwrap();
    let (from, to) = (cluster.owner(slot), (cluster.owner(slot) + 1) % 3);
    let (done, granted) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let charged = block_on(store.charge(call(), std::slice::from_ref(&one), None));
                    granted.fetch_add(u64::from(charged.unwrap().granted()), Ordering::Relaxed);
                }
            });
        }
        for (from, to) in [(from, to), (to, from), (from, to)] {
            std::thread::sleep(Duration::from_millis(150));
            let before = granted.load(Ordering::Relaxed);
            assert!(before > 0);
            cluster.move_slot(slot, from, to);
        }
        std::thread::sleep(Duration::from_millis(300));
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(used(&store, &one), granted.into_inner());
    assert!(cluster.cli(to, &["KEYS", "{app:acme}:*"]).contains("counters"), "it has moved");
}

#[test]
fn a_hold_is_settled_by_another_process_than_made_it() {
    let cluster = RedisCluster::start();
    let options = cluster.options();
    let (maker, other) = (options.open().unwrap(), options.open().unwrap());
    for number in 0..10_u128 {
        let (id, one) = (HoldId::from_bytes(number.to_be_bytes()), charge(&format!("ana-{number}"), 10));
        let (expires_at, kept_until) = (time(NOW_S + 60), time(NOW_S + 600));
        let hold = Hold { id, once: None, charges: vec![one.clone()], expires_at, kept_until };
        assert!(block_on(maker.hold(call(), &hold)).unwrap().granted());
        let settled = block_on(other.settle(call(), &Settle { id, used: Vec::new() })).unwrap();
        assert!(matches!(settled, Settled::Now(_)), "{settled:?}");
        assert_eq!(used(&maker, &one), 1);
    }
}

#[test]
fn what_a_process_left_in_an_outbox_is_moved_by_whoever_reads_the_log_and_once() {
    let cluster = RedisCluster::start();
    let store = cluster.options().prefix("app").open().unwrap();
    grant(&store, "ana");
    let node_of = |key: &str| {
        let slot = cluster.cli(0, &["CLUSTER", "KEYSLOT", key]).parse::<u32>().unwrap();
        cluster.owner(slot)
    };
    let (account, log) = (node_of("{app:bob}"), node_of("{app}"));
    // As a process leaves it that dies between the two scripts, and one that dies before it has crossed that out.
    let event = r#"{"name":"usage_adjusted","at":"2026-03-01T00:00:00Z","subject":"bob"}"#;
    cluster.cli(account, &["RPUSH", "{app:bob}:outbox", &format!("first {event}"), &format!("second {event}")]);
    cluster.cli(log, &["SET", "{app}:log:moved:first", "1"]);
    cluster.cli(log, &["ZADD", "{app}:log:noted", "1", "bob/first", "1", "bob/second", "9999999999999", "cyd/third"]);
    let began = Instant::now();
    while changes(&store).len() < 2 {
        assert!(began.elapsed() < Duration::from_secs(30), "nobody moves it");
    }
    while cluster.cli(log, &["ZCARD", "{app}:log:noted"]) != "1" {
        assert!(began.elapsed() < Duration::from_secs(30), "nobody crosses it out");
        changes(&store);
    }
    assert_eq!(changes(&store), ["ana", "bob"], "the second alone: the first was moved before");
    assert_eq!(changes(&store), ["ana", "bob"]);
    assert_eq!(cluster.cli(account, &["EXISTS", "{app:bob}:outbox"]), "0");
    let noted = cluster.cli(log, &["ZRANGE", "{app}:log:noted", "0", "-1"]);
    assert_eq!(noted, "cyd/third", "what may still be under way is left alone");
    grant(&store, "bob");
    assert_eq!(changes(&store), ["ana", "bob", "bob"]);
}

#[test]
fn a_node_that_goes_away_is_asked_again_when_it_is_back() {
    let mut cluster = RedisCluster::start();
    let options = cluster.options().prefix("app").response_timeout(Duration::from_millis(500));
    let store = options.open().unwrap();
    let one = charge("acme", 1_000_000);
    let ask = || block_on(store.charge(call(), std::slice::from_ref(&one), None));
    assert!(ask().unwrap().granted());
    let slot = cluster.cli(0, &["CLUSTER", "KEYSLOT", "{app:acme}"]).parse::<u32>().unwrap();
    let node = cluster.owner(slot);
    cluster.kill(node);
    for _ in 0..5 {
        let error = ask().unwrap_err();
        assert_ne!(error.retry(), Retry::Never, "{error}");
    }
    cluster.run(node);
    let began = Instant::now();
    while let Err(error) = ask() {
        assert_ne!(error.retry(), Retry::Never, "{error}");
        assert!(began.elapsed() < Duration::from_secs(60), "{error}");
    }
}

#[test]
fn a_cluster_is_not_taken_for_a_server_nor_a_server_for_a_cluster() {
    let cluster = RedisCluster::start();
    let one_node = format!("redis://127.0.0.1:{}", cluster.ports[0]);
    let error = quotum::store::open(&one_node).unwrap_err().to_string();
    assert!(error.contains("add `cluster=true` to the URL"), "{error}");
    assert!(quotum::store::open(&format!("{one_node}?cluster=true")).is_ok(), "one node names the others");
    let port = servers::free_port().to_string();
    let _single = Redis::start_with(&["--port", &port]);
    let error = quotum::store::open(&format!("redis://127.0.0.1:{port}?cluster=true")).unwrap_err();
    let quotum::Error::Store(StoreError::CannotOpen { .. }) = error else { panic!("{error:?}") };
}
