//! The Redis store on a real server: what several processes do at once, what a server that goes away leaves, what is
//! said of one that cannot be used. On a cluster: `redis_cluster.rs`.

#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod servers;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pollster::block_on;
use quotum::store::{
    Balance, Call, Charge, CounterKey, Fingerprint, Hold, Once, Outcome, RedisOptions, RedisStore, Settle, Settled,
    Store, StoreError, StoreTime, Wait,
};
use quotum::{Error, Event, EventName, EventQuery, HoldId, Limit, Period, Retry, Timestamp, UNITS_MAX};
use servers::Redis;

/// 2026-03-01T00:00:00Z.
const NOW_S: i64 = 1_772_323_200;

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn call() -> Call {
    Call::new(time(NOW_S), Wait::Block)
}

fn charge(subject: &str, period: Period, limit: u64) -> Charge {
    let key = CounterKey::of(subject, "jobs", period, NOW_S).in_account("acme");
    Charge { key, amount: 1, limit: Limit::Units(limit) }
}

fn balance(store: &RedisStore, charge: &Charge) -> Balance {
    block_on(store.balances(call(), std::slice::from_ref(&charge.key))).unwrap()[0]
}

fn used(store: &RedisStore, charge: &Charge) -> u64 {
    balance(store, charge).used
}

fn charge_one(store: &RedisStore, charge: &Charge) -> Result<bool, StoreError> {
    block_on(store.charge(call(), std::slice::from_ref(charge), None)).map(|charged| charged.granted())
}

fn once(number: u64) -> Once {
    let key = Arc::from(format!("key-{number}"));
    Once { subject: "ana".into(), key, arguments: Fingerprint::of(&[b"1"]), kept_until: time(NOW_S + 86_400) }
}

fn hold(number: u128, charges: &[Charge], now_s: i64) -> Hold {
    let (expires_at, kept_until) = (time(now_s + 60), time(now_s + 600));
    let id = HoldId::from_bytes(number.to_be_bytes());
    Hold { id, once: None, charges: charges.to_vec(), expires_at, kept_until }
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
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Runs a program that must succeed.
fn run(program: &str, words: &[&str]) {
    let output = Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn many_threads_of_two_clients_grant_exactly_the_limit() {
    let server = Redis::start();
    let options = server.options();
    let stores = [options.open().unwrap(), options.open().unwrap()];
    let charges =
        [charge("ana", Period::Day, 1_000), charge("ana", Period::Month, 300), charge("acme", Period::Day, 999)];
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
fn scripts_that_the_server_forgets_are_sent_again() {
    let server = Redis::start();
    let store = server.options().open().unwrap();
    let one = charge("ana", Period::Day, 1_000);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                server.cli(&["SCRIPT", "FLUSH"]);
            }
        });
        for _ in 0..200 {
            assert!(charge_one(&store, &one).unwrap());
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(used(&store, &one), 200);
}

/// Charges survive and are made once, under a key or without one, however often they are sent again.
#[test]
fn a_server_that_is_killed_and_comes_back_loses_nothing_and_charges_everything_once() {
    let mut server = Redis::start_durable();
    let options = server.options().response_timeout(Duration::from_secs(10));
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
                    match charge_one(store, plain) {
                        Ok(_) => acknowledged.fetch_add(1, Ordering::Relaxed),
                        Err(error) => {
                            unknown.fetch_add(u64::from(error.retry() == Retry::OutcomeUnknown), Ordering::Relaxed)
                        }
                    };
                }
            });
        }
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(300));
            server.kill();
            std::thread::sleep(Duration::from_millis(100));
            server.run();
        }
        std::thread::sleep(Duration::from_millis(300));
        done.store(true, Ordering::Relaxed);
    });
    let [sent, acknowledged, unknown] = [sent, acknowledged, unknown].map(AtomicU64::into_inner);
    assert_eq!(used(&stores[0], &keyed), sent);
    // The store itself asks again for the answers that it has lost, as long as there is time.
    assert_eq!((used(&stores[1], &plain), unknown), (acknowledged, 0));
}

/// Nobody was waiting for an answer when the server went away, so nothing is unknown.
#[test]
fn a_server_that_is_away_is_safe_to_ask_again_and_needs_no_opening_when_it_is_back() {
    let mut server = Redis::start_durable();
    let store = server.options().open().unwrap();
    let one = charge("ana", Period::Day, 1_000);
    assert!(charge_one(&store, &one).unwrap());
    server.kill();
    std::thread::sleep(Duration::from_millis(100));
    let error = charge_one(&store, &one).unwrap_err();
    assert_eq!(error.retry(), Retry::Safe, "{error}");
    server.run();
    assert!(charge_one(&store, &one).unwrap());
    assert_eq!(used(&store, &one), 2);
}

#[test]
fn a_primary_that_becomes_a_replica_is_said_to_be_one() {
    let server = Redis::start();
    let options = server.options();
    let store = options.open().unwrap();
    let one = charge("ana", Period::Day, 1_000);
    assert!(charge_one(&store, &one).unwrap());
    server.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    let error = charge_one(&store, &one).unwrap_err();
    assert_eq!(error.retry(), Retry::Safe);
    assert!(error.to_string().contains("a replica and takes no changes"), "{error}");
    let error = options.open().unwrap_err();
    assert!(error.to_string().contains("give the address of the primary"), "{error}");
    server.cli(&["REPLICAOF", "NO", "ONE"]);
    assert!(charge_one(&store, &one).unwrap());
}

#[test]
fn a_server_whose_memory_is_full_is_a_failure_and_no_denial() {
    let server = Redis::start();
    let store = server.options().open().unwrap();
    let one = charge("ana", Period::Day, 1_000);
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let error = charge_one(&store, &one).unwrap_err();
    assert_eq!(error.retry(), Retry::Safe);
    assert!(error.to_string().contains("raise its maxmemory"), "{error}");
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(charge_one(&store, &one).unwrap());
}

#[test]
fn a_step_is_answered_again_to_the_millisecond_by_the_servers_clock_too() {
    let server = Redis::start();
    let store = server.options().time(StoreTime::Server).open().unwrap();
    let one = [charge("ana", Period::Month, 10)];
    let at = time(NOW_S) + Duration::from_millis(999);
    let asked = |after_ms| Call::new(at + Duration::from_millis(after_ms), Wait::Block);
    block_on(store.charge(asked(0), &one, Some(&once(1)))).unwrap();
    let again = block_on(store.charge(asked(1), &one, Some(&once(1)))).unwrap();
    assert_eq!(again.outcome, Outcome::Repeated(at));
    block_on(store.hold(asked(0), &hold(1, &one, NOW_S))).unwrap();
    let settle = Settle { id: HoldId::from_bytes(1_u128.to_be_bytes()), used: Vec::new() };
    let Settled::Now(first) = block_on(store.settle(asked(2), &settle)).unwrap() else { panic!("in time") };
    let again = block_on(store.settle(asked(9), &settle)).unwrap();
    assert_eq!(again, Settled::Before(first));
}

#[test]
fn a_server_that_cannot_be_used_is_named_without_its_password() {
    let locked = Redis::start_with(&["--requirepass", "right"]);
    let evicting = Redis::start_with(&["--maxmemory-policy", "allkeys-lru"]);
    let (locked, evicting) = (locked.socket(), evicting.socket());
    let cases = [
        (format!("redis+unix://{locked}?pass=s3cret"), "correct the user's name and password"),
        (format!("redis+unix://{locked}?user=ana&pass=s3cret"), "correct the user's name and password"),
        (format!("redis+unix://{locked}"), "password"),
        (format!("redis+unix://{evicting}"), "set maxmemory-policy to noeviction, it is allkeys-lru"),
        ("redis://ana:s3cret@127.0.0.1:1".to_owned(), "correct its address, or start the server"),
        ("redis://ana:s3cret@no.host.invalid".to_owned(), "correct its address"),
        ("redis://ana:s3cret@127.0.0.1:1?cluster=true".to_owned(), "correct its address"),
        ("rediss://ana:s3cret@127.0.0.1:1?ca=/no/file.pem".to_owned(), "the file /no/file.pem cannot be read"),
        ("redis+unix:///no/socket?pass=s3cret".to_owned(), "correct its address"),
    ];
    for (url, advice) in cases {
        let error = quotum::store::open(&url).unwrap_err();
        let Error::Store(StoreError::CannotOpen { .. }) = &error else { panic!("{error:?}") };
        let told = format!("{error} {error:?} {:?}", RedisOptions::from_url(&url));
        assert!(told.contains(advice), "{told}");
        assert!(!told.contains("s3cret"), "{told}");
    }
}

#[test]
fn a_url_that_cannot_be_read_is_refused_without_its_password() {
    for url in [
        "redis://ana:s3cret@host?prefix={quotum}",
        "redis://ana:s3cret@host?connections=many",
        "redis://ana:s3cret@host?cluster=perhaps",
        "redis://ana:s3cret@host1,host2",
        "redis://ana:s3cret@host:port",
        "redis://ana:s3cret@host/database",
        "redis:s3cret@host",
        "rediz://ana:s3cret@host",
    ] {
        let error = quotum::store::open(url).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    }
}

#[test]
fn a_prefix_that_is_newer_or_foreign_is_refused_as_it_is() {
    let server = Redis::start();
    let options = server.options().prefix("app");
    drop(options.open().unwrap());
    server.cli(&["SET", "{app}:layout", "99"]);
    let error = options.open().unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { found: 99, known: 1, .. }), "{error}");
    server.cli(&["SET", "{app}:layout", "mine"]);
    let error = options.open().unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    assert_eq!(server.cli(&["GET", "{app}:layout"]), "mine");
}

/// The rights that `RedisOptions::prefix` names.
#[test]
fn a_user_with_no_more_rights_than_are_needed_can_use_the_store() {
    let server = Redis::start();
    server.cli(&[
        "ACL",
        "SETUSER",
        "quotum",
        "on",
        ">right",
        "~{app}:*",
        "~{app:*",
        "~app:*",
        "+@read",
        "+@write",
        "+@scripting",
        "+@connection",
        "+time",
        "+info",
    ]);
    let url = format!("redis+unix://{}?user=quotum&pass=right&prefix=app", server.socket());
    let store = RedisOptions::from_url(&url).unwrap().open().unwrap();
    let charges = [charge("ana", Period::Day, 10), charge("ana", Period::Month, 10)];
    let now_s = Timestamp::now().as_second();
    let call = Call::new(time(now_s), Wait::Block);
    assert!(block_on(store.charge(call, &charges, None)).unwrap().granted());
    assert!(block_on(store.hold(call, &hold(1, &charges, now_s))).unwrap().granted());
    server.cli(&["ACL", "SETUSER", "quotum", "-info"]);
    let error = RedisOptions::from_url(&url).unwrap().open().unwrap_err();
    assert!(error.to_string().contains("let the user run INFO"), "{error}");
}

#[test]
fn a_server_is_reached_through_tls_if_its_authority_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (ca, ca_key, key, request, certificate, names) =
        (at("ca.pem"), at("ca.key"), at("key"), at("request"), at("certificate"), at("names"));
    std::fs::write(&names, "subjectAltName=DNS:localhost,IP:127.0.0.1").unwrap();
    let new =
        |subject: &'static str, key| vec!["req", "-newkey", "rsa:2048", "-nodes", "-subj", subject, "-keyout", key];
    run("openssl", &[new("/CN=Quotum tests", &ca_key), vec!["-x509", "-days", "2", "-out", &ca]].concat());
    run("openssl", &[new("/CN=localhost", &key), vec!["-out", &request]].concat());
    let sign = ["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial", "-days", "2"];
    run("openssl", &[&sign[..], &["-extfile", &names, "-out", &certificate]].concat());
    let port = servers::free_port().to_string();
    let _server = Redis::start_with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "no",
    ]);
    let store = quotum::store::open(&format!("rediss://localhost:{port}?ca={ca}")).unwrap();
    assert!(block_on(store.charge(call(), &[charge("ana", Period::Day, 1)], None)).unwrap().granted());
    let error = quotum::store::open(&format!("rediss://localhost:{port}")).unwrap_err().to_string();
    assert!(error.contains("name the authority that has signed its certificate"), "{error}");
}

#[test]
fn by_the_servers_clock_a_caller_who_is_ahead_ends_nobody_elses_hold() {
    let server = Redis::start();
    let options = server.options().time(StoreTime::Server);
    let (right, wrong) = (options.open().unwrap(), options.open().unwrap());
    let ten = Charge { amount: 10, ..charge("ana", Period::Month, 10) };
    let (now_s, ahead_s) = (NOW_S, NOW_S + 3_600);
    assert!(block_on(right.hold(call(), &hold(1, std::slice::from_ref(&ten), now_s))).unwrap().granted());
    let ahead = Call::new(time(ahead_s), Wait::Block);
    let charged = block_on(wrong.charge(ahead, std::slice::from_ref(&ten), None)).unwrap();
    assert_eq!((charged.outcome, charged.balances[0].held), (Outcome::Refused, 10));
    let id = HoldId::from_bytes(1_u128.to_be_bytes());
    let Settled::Now(receipt) = block_on(right.settle(call(), &Settle { id, used: Vec::new() })).unwrap() else {
        panic!("it was settled in time");
    };
    assert!(receipt.at.duration_since(time(now_s)).abs().as_secs() < 60, "told by the caller's clock: {}", receipt.at);
    // Who is ahead has his holds for as long as others.
    let short = Hold { expires_at: time(ahead_s) + Duration::from_millis(200), ..hold(2, &[], ahead_s) };
    let one = charge("bob", Period::Month, 1);
    assert!(block_on(wrong.hold(ahead, &Hold { charges: vec![one.clone()], ..short })).unwrap().granted());
    assert!(!charge_one(&right, &one).unwrap(), "it is held");
    std::thread::sleep(Duration::from_millis(300));
    assert!(charge_one(&right, &one).unwrap(), "it has expired");
}

#[test]
fn a_hold_is_settled_by_another_process_than_made_it() {
    let server = Redis::start();
    let options = server.options();
    let (maker, other) = (options.open().unwrap(), options.open().unwrap());
    let one = charge("ana", Period::Month, 10);
    block_on(maker.hold(call(), &hold(1, std::slice::from_ref(&one), NOW_S))).unwrap();
    let id = HoldId::from_bytes(1_u128.to_be_bytes());
    let settled = block_on(other.settle(call(), &Settle { id, used: Vec::new() })).unwrap();
    assert!(matches!(settled, Settled::Now(_)), "{settled:?}");
    assert_eq!(used(&maker, &one), 1);
}

#[test]
fn the_largest_numbers_are_kept_and_remembered_to_the_unit() {
    let server = Redis::start();
    let store = server.options().open().unwrap();
    let most = Charge { amount: UNITS_MAX - 1, limit: Limit::Unlimited, ..charge("ana", Period::Total, 0) };
    for _ in 0..2 {
        let charged = block_on(store.charge(call(), std::slice::from_ref(&most), Some(&once(1)))).unwrap();
        assert_eq!(charged.balances, [Balance::of(UNITS_MAX - 1)]);
    }
    let held = Charge { key: most.key.clone().in_account("acme"), ..charge("bob", Period::Total, UNITS_MAX) };
    let held = Charge { key: CounterKey { subject: "bob".into(), ..held.key }, amount: UNITS_MAX, ..held };
    for _ in 0..2 {
        let made = block_on(store.hold(call(), &hold(1, std::slice::from_ref(&held), NOW_S))).unwrap();
        assert_eq!(made.balances[0].held, UNITS_MAX);
    }
    let id = HoldId::from_bytes(1_u128.to_be_bytes());
    for _ in 0..2 {
        let settle = Settle { id, used: vec![("jobs".into(), u64::MAX)] };
        let settled = block_on(store.settle(call(), &settle)).unwrap();
        let (Settled::Now(receipt) | Settled::Before(receipt)) = settled else { panic!("{settled:?}") };
        let part = &receipt.parts[0];
        assert_eq!((part.held, part.used, part.overage), (UNITS_MAX, UNITS_MAX, UNITS_MAX));
    }
}

#[test]
fn what_nobody_comes_back_for_goes_by_itself() {
    let server = Redis::start();
    let store = server.options().prefix("app").open().unwrap();
    let day_ms = 24 * 3_600 * 1_000;
    let ttl_ms = |key: &str| server.cli(&["PTTL", key]).parse::<i64>().unwrap();
    let charges = [charge("ana", Period::Minute, 10), charge("ana", Period::Month, 10)];
    block_on(store.charge(call(), &charges, Some(&once(1)))).unwrap();
    block_on(store.hold(call(), &hold(1, &charges, NOW_S))).unwrap();
    for what in ["windows", "order", "ages"] {
        let ttl_ms = ttl_ms(&format!("{{app:acme}}:{what}"));
        assert!((400 * day_ms..=401 * day_ms).contains(&ttl_ms), "{what}: {ttl_ms}");
    }
    for key in ["{app:acme}:holds", "{app:acme}:ends", "app:hold:00000000000000000000000000000001"] {
        assert!((1..=600_000).contains(&ttl_ms(key)), "{key}");
    }
    assert!((1..=day_ms).contains(&ttl_ms("{app:acme}:step:ana/key-1")));
    assert_eq!(ttl_ms("{app:acme}:counters"), -1, "long periods are kept for ever");
}

#[test]
fn short_windows_of_members_who_do_not_come_back_go_although_their_account_does() {
    let server = Redis::start();
    let store = server.options().prefix("app").open().unwrap();
    for number in 0..10 {
        charge_one(&store, &charge(&format!("old-{number}"), Period::Minute, 10)).unwrap();
    }
    let held = hold(1, &[charge("old-3", Period::Minute, 10)], NOW_S);
    block_on(store.hold(call(), &Hold { expires_at: time(NOW_S + 500 * 86_400), ..held })).unwrap();
    // As if they had been made long ago, by the server's clock.
    let ages = "{app:acme}:ages";
    for member in server.cli(&["ZRANGE", ages, "0", "-1"]).lines() {
        server.cli(&["ZADD", ages, "1000000000", member]);
    }
    for number in 0..4 {
        charge_one(&store, &charge(&format!("new-{number}"), Period::Minute, 10)).unwrap();
    }
    let left = server.cli(&["HKEYS", "{app:acme}:windows"]);
    let olds: Vec<&str> = left.lines().filter(|field| field.starts_with("old-")).collect();
    assert_eq!(olds, ["old-3/jobs/minute/0001772323200"], "only that on which something is held");
    assert_eq!(left.lines().count(), 5);
    assert_eq!(server.cli(&["ZCARD", "{app:acme}:order"]), "5");
}

#[test]
fn occurrences_go_after_ninety_days_and_changes_never() {
    let server = Redis::start();
    let store = server.options().prefix("app").open().unwrap();
    let day_s = 24 * 3_600;
    let record = |name, at_s, count| {
        let mut event = Event::new(name, time(at_s));
        event.subject = Some("ana".into());
        let events = vec![event; count];
        block_on(store.record(Call::new(time(at_s), Wait::Block), &events)).unwrap();
    };
    record(EventName::UsageAdjusted, NOW_S, 20);
    record(EventName::RateLimited, NOW_S, 400);
    record(EventName::RateLimited, NOW_S + 89 * day_s, 100);
    let kept = |key: &str| server.cli(&["ZCARD", key]).parse::<u64>().unwrap();
    assert_eq!((kept("{app}:log:rest"), kept("{app}:log:changes")), (500, 20));
    record(EventName::RateLimited, NOW_S + 91 * day_s, 150);
    assert_eq!((kept("{app}:log:rest"), kept("{app}:log:changes")), (250, 20));
    assert_eq!(server.cli(&["HLEN", "{app}:log:events"]), "270");
    // An index loses what was forgotten when it is added to, and is read without it before.
    let asked =
        |query: EventQuery| block_on(store.events(call(), &EventQuery { limit: 1_000, ..query })).unwrap().len();
    let limited = EventQuery { name: Some(EventName::RateLimited), ..EventQuery::all() };
    assert_eq!(asked(limited.clone()), 250);
    assert_eq!(asked(EventQuery { subject: Some("ana".into()), ..limited.clone() }), 250);
    assert_eq!(asked(EventQuery { subject: Some("ana".into()), ..EventQuery::all() }), 270);
    assert_eq!(asked(EventQuery { changes_only: true, ..limited }), 0);
    record(EventName::RateLimited, NOW_S + 91 * day_s, 1);
    let indexes = ["{app}:log:name:rate_limited", "{app}:log:subject:rest:ana"].map(kept);
    assert_eq!(indexes, [251, 251]);
}
