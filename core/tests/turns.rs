//! How servers know steps without a name when they come again: among the steps of others who have the same name, after
//! a long while, and without remembering ever more.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod servers;

use std::time::{Duration, Instant};

use pollster::block_on;
use quotum::store::{
    Adjust, Adjustment, Call, Charge, CounterKey, PostgresOptions, RedisOptions, Store, StoreError, StoreTime, Wait,
};
use quotum::{Event, EventName, Limit, Period, Retry, Timestamp};
use servers::{Cut, Postgres, Proxy, Redis};

/// 2026-03-01T00:00:00Z.
const NOW_S: i64 = 1_772_323_200;

fn call() -> Call {
    Call::new(Timestamp::from_second(NOW_S).unwrap(), Wait::Block)
}

/// One job of twenty, so that thresholds are reached on the way.
fn job() -> Charge {
    let key = CounterKey::of("ana", "jobs", Period::Month, NOW_S).in_account("acme");
    Charge { key, amount: 1, limit: Limit::Units(20) }
}

fn charge(store: &dyn Store) -> Result<bool, StoreError> {
    block_on(store.charge(call(), &[job()], None)).map(|charged| charged.granted())
}

fn grant(store: &dyn Store) {
    let grant = [Adjustment { key: job().key, by: Adjust::Grant(1) }];
    block_on(store.adjust(call(), &grant, None, &Event::new(EventName::UsageAdjusted, call().now))).unwrap();
}

/// The jobs that are used, and the bonus.
fn found(store: &dyn Store) -> (u64, u64) {
    let balance = block_on(store.balances(call(), &[job().key])).unwrap()[0];
    (balance.used, balance.bonus)
}

fn postgres(url: &str) -> PostgresOptions {
    let options = PostgresOptions::from_url(url).unwrap().schema("quotum").connections(1);
    options.time(StoreTime::Told)
}

fn redis(url: &str) -> RedisOptions {
    RedisOptions::from_url(url).unwrap().prefix("app").connections(1).time(StoreTime::Told)
}

/// What a twin leaves on the server, a process that was started from the same image of a machine: in the place of every
/// step so far, its own of this number.
fn twin_on_postgres(server: &Postgres, number: u32) {
    server.psql(&format!("UPDATE quotum.turn SET number = {number}, mark = 1"));
}

fn twin_on_redis(server: &Redis, number: u32) {
    let script = "for _, key in ipairs(redis.call('KEYS', '*:turns*')) do
                      local list = redis.call('HGETALL', key)
                      for i = 1, #list, 2 do
                          redis.call('HSET', key, list[i], (string.gsub(list[i + 1], '^(%d+) %d+', ARGV[1] .. ' 1')))
                      end
                  end";
    server.cli(&["EVAL", script, "0", &number.to_string()]);
}

/// A first attempt is never taken for a twin's step, wherever the twin is.
fn charge_beside_a_twin(store: &dyn Store, twin: impl Fn(u32)) {
    assert!(charge(store).unwrap());
    for number in [1_000, 2, 3] {
        twin(number);
        assert!(charge(store).unwrap(), "beside the twin's step {number}");
    }
    twin(1_000);
    grant(store);
    assert_eq!(found(store), (4, 1));
    let mut granted = 4;
    while charge(store).unwrap() {
        granted += 1;
        twin(granted);
    }
    assert_eq!((granted, found(store)), (21, (21, 1)), "of twenty and one more");
}

#[test]
fn a_step_on_postgres_is_made_although_a_twin_has_taken_its_turn() {
    let server = Postgres::start_hasty();
    charge_beside_a_twin(&postgres(&server.url()).open().unwrap(), |number| twin_on_postgres(&server, number));
}

#[test]
fn a_step_on_redis_is_made_although_a_twin_has_taken_its_turn() {
    let server = Redis::start();
    charge_beside_a_twin(&redis(&server.url()).open().unwrap(), |number| twin_on_redis(&server, number));
}

/// A machine that was started from an image finds its connections dead. So its first step is sent again: it is not known
/// whether it was made, but it was surely not by the twin.
fn lose_a_step_beside_a_twin(store: &dyn Store, proxy: &Proxy, twin: impl Fn(u32)) {
    assert!(charge(store).unwrap());
    for number in [1_000, 2] {
        let before = found(store);
        twin(number);
        proxy.at_next_request(Cut::BeforeRequest);
        let error = charge(store).unwrap_err();
        assert_eq!((error.retry(), found(store)), (Retry::OutcomeUnknown, before), "{error}");
        assert!(charge(store).unwrap());
        assert_eq!(found(store), (before.0 + 1, 0));
    }
}

#[test]
fn a_lost_step_on_postgres_is_not_taken_for_a_twins() {
    let server = Postgres::start_hasty();
    let proxy = Proxy::start(server.upstream());
    let store = postgres(&format!("postgres://quotum@{}/postgres", proxy.address())).open().unwrap();
    lose_a_step_beside_a_twin(&store, &proxy, |number| twin_on_postgres(&server, number));
}

#[test]
fn a_lost_step_on_redis_is_not_taken_for_a_twins() {
    let server = Redis::start();
    let proxy = Proxy::start(server.upstream());
    let store = redis(&format!("redis://{}", proxy.address())).open().unwrap();
    lose_a_step_beside_a_twin(&store, &proxy, |number| twin_on_redis(&server, number));
}

/// A server that has stood still, or a proxy in between, comes late to what was sent to it.
#[test]
fn a_step_that_redis_gets_long_after_the_answer_to_it_was_lost_is_not_made_again() {
    let server = Redis::start();
    let proxy = Proxy::start(server.upstream());
    let options = redis(&format!("redis://{}", proxy.address()));
    let store = options.response_timeout(Duration::from_millis(500)).open().unwrap();
    assert!(charge(&store).unwrap());
    let sent = calls(&server);
    // The next request is a connection's greeting.
    proxy.at_next_requests([(0, Cut::InReply(0)), (1, Cut::Delay(Duration::from_secs(6)))]);
    let error = charge(&store).unwrap_err();
    assert_eq!(error.retry(), Retry::OutcomeUnknown, "{error}");
    assert_eq!(calls(&server), sent + 1, "the second attempt is under way");
    let began = Instant::now();
    while calls(&server) < sent + 2 {
        assert!(began.elapsed() < Duration::from_secs(30), "the second attempt does not come");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(found(&store), (2, 0));
}

/// How many scripts the server has been asked for by name.
fn calls(server: &Redis) -> u64 {
    let stats = server.cli(&["INFO", "commandstats"]);
    let (_, calls) = stats.split_once("cmdstat_evalsha:calls=").unwrap();
    calls.split_once(',').unwrap().0.parse().unwrap()
}

#[test]
fn what_redis_keeps_of_a_process_goes_however_busy_others_are_on_its_account() {
    let server = Redis::start();
    let options = redis(&server.url());
    let (gone, busy) = (options.open().unwrap(), options.open().unwrap());
    let of_all = |each: &str| {
        let script = format!(
            "local seats = 0
             for _, key in ipairs(redis.call('KEYS', '*:turns*')) do {each} seats = seats + redis.call('HLEN', key) end
             return seats"
        );
        server.cli(&["EVAL", &script, "0"])
    };
    grant(&gone);
    grant(&busy);
    assert_eq!(of_all("redis.call('PEXPIRE', key, 300)"), "2", "for a little longer");
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(600) {
        grant(&busy);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(of_all(""), "1");
}

/// As long as somebody has a transaction open that may look at them, the server keeps all states of a row that is changed,
/// and goes through them to find the last.
#[test]
fn no_row_on_postgres_is_changed_more_than_a_thousand_times_for_the_sake_of_turns() {
    let server = Postgres::start_hasty();
    let store = postgres(&server.url()).open().unwrap();
    (0..2_500).for_each(|_| grant(&store));
    let steps = "SELECT string_agg(number::text, ' ' ORDER BY seat) FROM quotum.turn";
    assert_eq!(server.psql(steps), "1000 1000 500");
    assert_eq!(found(&store), (0, 2_500));
}

#[test]
fn the_row_of_a_seat_on_postgres_is_found_by_its_key_however_few_there_are() {
    let server = Postgres::start_explaining();
    let store = postgres(&server.url()).open().unwrap();
    grant(&store);
    server.psql("VACUUM ANALYZE");
    let before = server.log().len();
    (0..12).for_each(|_| grant(&store));
    let log = server.log().split_off(before);
    assert!(log.contains("turn_pkey"), "{log}");
    assert!(!log.contains("Seq Scan on turn"), "{log}");
}
