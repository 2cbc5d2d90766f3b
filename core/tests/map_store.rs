//! A store over a map of the host's own: what it makes of values that are damaged and of maps that fail, and what it
//! keeps. That it is a store at all is in `conformance.rs`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod maps;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use maps::{At, Entries, Fault, Faulty, Locked, Optimistic};
use pollster::block_on;
use quotum::blocking::Quota;
use quotum::store::{
    Adjust, Adjustment, Call, Charge, CounterKey, Fingerprint, Forgotten, Hold, KeptIdentity, Map, MapStore,
    MapTransaction, Once, Settle, Settled, SharedRate, SharedWindow, Store, StoreError, SubscriberQuery, Wait,
};
use quotum::token::{Identity, TokenDigest};
use quotum::{Event, EventName, EventQuery, HoldId, Limit, Period, Plans, Reason, Retry, Subscription, Timestamp};

/// 2026-03-10T15:00:00Z.
const NOW_S: i64 = 1_773_154_800;
const DAY_S: i64 = 24 * 3_600;

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn call(second: i64) -> Call {
    Call::new(time(second), Wait::Block)
}

fn event(name: EventName, second: i64) -> Event {
    Event::new(name, time(second))
}

fn charge(subject: &str, period: Period, start_s: i64) -> Charge {
    Charge { key: CounterKey::of(subject, "jobs", period, start_s), amount: 1, limit: Limit::Units(5) }
}

fn once(key: &str, now_s: i64) -> Once {
    let arguments = Fingerprint::of(&[b"1"]);
    Once { subject: "ana".into(), key: key.into(), arguments, kept_until: time(now_s + 60) }
}

fn hold(number: u128, now_s: i64, charges: Vec<Charge>) -> Hold {
    let (expires_at, kept_until) = (time(now_s + 30), time(now_s + 60));
    Hold { id: HoldId::from_bytes(number.to_be_bytes()), once: None, charges, expires_at, kept_until }
}

fn rate(name: &str) -> SharedRate {
    let windows = vec![SharedWindow { cost_ns: 1_000_000_000, full_ns: 10_000_000_000 }];
    SharedRate { name: Fingerprint::of(&[name.as_bytes()]), windows }
}

fn kept(subject: &str, now_s: i64) -> KeptIdentity {
    KeptIdentity { identity: Identity::of(subject), until: time(now_s + 60) }
}

/// A store with something in every table of its map.
fn filled(map: Arc<dyn quotum::store::Map>) -> MapStore {
    let (store, now) = (MapStore::over(map), call(NOW_S));
    let plans = Plans::from_toml("default_plan = 'free'\n[plans.free]").unwrap();
    let subscription = Subscription::active("free", time(NOW_S));
    let day = [charge("ana", Period::Day, NOW_S)];
    block_on(store.put_plans(now, &plans, &event(EventName::PlanChanged, NOW_S))).unwrap();
    let changed = event(EventName::SubscriptionChanged, NOW_S);
    block_on(store.put_subscription(now, "ana", &subscription, &changed)).unwrap();
    block_on(store.charge(now, &day, Some(&once("k", NOW_S)))).unwrap();
    block_on(store.hold(now, &hold(1, NOW_S, vec![charge("bob", Period::Month, NOW_S)]))).unwrap();
    block_on(store.rate(now, &rate("ana"))).unwrap();
    block_on(store.put_identity(now, &TokenDigest::of("token"), &kept("ana", NOW_S), 0)).unwrap();
    let forgotten = Forgotten::Subject("eve".into());
    block_on(store.forget_identities(now, &forgotten, &event(EventName::TokenForgotten, NOW_S))).unwrap();
    block_on(store.record(now, &[event(EventName::RateLimited, NOW_S)])).unwrap();
    store
}

/// The table of an entry: what its key begins with.
fn table(key: &[u8]) -> &str {
    std::str::from_utf8(key.split(|byte| *byte == 0).next().unwrap()).unwrap()
}

fn count(entries: &Entries, name: &str) -> usize {
    entries.keys().filter(|key| table(key) == name).count()
}

/// Kept for ever by whoever uses this: a change of it needs a new format.
#[test]
fn what_is_kept_can_be_read_and_stays_as_it_is() {
    let map = Arc::new(Locked::default());
    filled(map.clone());
    let shown = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().replace('\0', "/");
    let entries = map.entries();
    let found: Vec<String> = entries
        .iter()
        .filter(|(key, _)| !["end", "plans"].contains(&table(key)))
        .map(|(key, value)| shown(key) + " " + &shown(value))
        .collect();
    let expected = include_str!("maps/format-1.txt");
    assert_eq!(found.join("\n") + "\n", expected);
    assert_eq!(count(&entries, "end"), 5, "the step, the hold, the rate, the identity and the occurrence");
}

/// What a step says that needs what is kept in a table.
fn ask(store: &MapStore, table: &str) -> Result<(), StoreError> {
    let now = call(NOW_S + 1);
    let ana = charge("ana", Period::Day, NOW_S);
    let id = HoldId::from_bytes(1_u128.to_be_bytes());
    match table {
        "plans" | "plans_version" => block_on(store.plans(now)).map(drop),
        "subscription" => block_on(store.subscription(now, "ana")).map(drop),
        "counter" => block_on(store.charge(now, &[ana], None)).map(drop),
        "windows" => block_on(store.charge(now, &[charge("eve", Period::Day, NOW_S)], None)).map(drop),
        "step" => block_on(store.charge(now, &[ana], Some(&once("k", NOW_S)))).map(drop),
        "hold" => block_on(store.settle(now, &Settle { id, used: Vec::new() })).map(drop),
        "open" => block_on(store.charge(call(NOW_S + 31), &[charge("bob", Period::Month, NOW_S)], None)).map(drop),
        "rate" => block_on(store.rate(now, &rate("ana"))).map(drop),
        "identity" => block_on(store.identity(now, &TokenDigest::of("token"))).map(drop),
        "event" => block_on(store.events(now, &EventQuery::all())).map(drop),
        "change" => block_on(store.events(now, &EventQuery { newest_first: true, ..EventQuery::changes() })).map(drop),
        "last_event" => block_on(store.record(now, &[event(EventName::RateLimited, NOW_S)])),
        "last_revocation" => block_on(store.put_identity(now, &TokenDigest::of("another"), &kept("bob", NOW_S), 9)),
        _ => panic!("nobody reads what is kept in {table}"),
    }
}

#[test]
fn a_value_that_is_damaged_is_told_and_never_begun_anew() {
    let tables = [
        "plans",
        "plans_version",
        "subscription",
        "counter",
        "windows",
        "step",
        "hold",
        "open",
        "rate",
        "identity",
        "event",
        "change",
        "last_event",
        "last_revocation",
    ];
    for name in tables {
        for value in
            [&b""[..], b"{}", b"null", b"{\"used\":", b"{\"used\":-1}", b"{\"used\":9007199254740992}", b"\xff"]
        {
            let map = Arc::new(Locked::default());
            let store = filled(map.clone());
            assert_eq!(ask(&store, name), Ok(()), "{name} as it was");
            let map = Arc::new(Locked::default());
            let store = filled(map.clone());
            let damage = |entries: &mut Entries| {
                let keys: Vec<_> = entries.keys().filter(|key| table(key) == name).cloned().collect();
                assert!(!keys.is_empty(), "{name}");
                keys.into_iter().for_each(|key| drop(entries.insert(key, value.to_vec())));
                entries.clone()
            };
            let before = damage(&mut map.entries());
            let told = ask(&store, name);
            assert!(matches!(told, Err(StoreError::Damaged { .. })), "{name} {value:?}: {told:?}");
            assert!(*map.entries() == before, "{name}: nothing is changed");
        }
    }
}

#[test]
fn a_map_that_a_newer_library_has_written_is_refused() {
    let map = Arc::new(Locked::default());
    filled(map.clone());
    map.entries().insert(b"format\0".to_vec(), b"2".to_vec());
    let before = map.entries().clone();
    let refused = block_on(MapStore::over(map.clone()).charge(call(NOW_S), &[charge("ana", Period::Day, 0)], None));
    assert_eq!(refused, Err(StoreError::NewerSchema { name: "the map".to_owned(), found: 2, known: 1 }));
    assert!(*map.entries() == before);
}

#[test]
fn what_others_have_left_damaged_fails_nobody_who_forgets_it() {
    for spoilt in [&["step", "hold", "rate", "identity"][..], &["counter"]] {
        let map = Arc::new(Locked::default());
        let store = filled(map.clone());
        for (key, value) in map.entries().iter_mut() {
            if spoilt.contains(&table(key)) {
                *value = b"{".to_vec();
            }
        }
        let later_s = NOW_S + 100 * DAY_S;
        for number in 0..10 {
            let charges = [charge("cyd", Period::Year, number)];
            let made = block_on(store.charge(call(later_s), &charges, Some(&once(&number.to_string(), later_s))));
            assert!(made.unwrap().granted());
        }
        let entries = map.entries();
        let stays = |name: &&str| entries.iter().any(|(key, value)| table(key) == *name && value == b"{");
        assert!(spoilt.iter().all(stays), "it stays for whoever mends it");
        assert_eq!((count(&entries, "hold"), count(&entries, "end")), (1, 10));
    }
}

#[test]
fn a_map_that_always_conflicts_is_busy_and_nothing_is_done() {
    for (at, wait) in [(At::Begin, Wait::Block), (At::Commit, Wait::Yield), (At::Commit, Wait::Block)] {
        let map = Arc::new(Faulty::default());
        *map.fault.lock().unwrap() = Some((at, Fault::Busy));
        let store = MapStore::over(map.clone());
        let now = Call::new(time(NOW_S), wait);
        let busy = block_on(store.charge(now, &[charge("ana", Period::Day, NOW_S)], None));
        assert!(matches!(busy, Err(StoreError::Busy { .. })), "{busy:?}");
        assert_eq!(busy.unwrap_err().retry(), Retry::Safe);
        assert_eq!(map.begun.load(Ordering::Relaxed), 60, "attempts");
        assert!(map.inner.entries().is_empty(), "nothing is done");
        *map.fault.lock().unwrap() = None;
        assert!(block_on(store.charge(now, &[charge("ana", Period::Day, NOW_S)], None)).unwrap().granted());
        // What is read is only known to have been so at one moment once it is committed.
        *map.fault.lock().unwrap() = Some((at, Fault::Busy));
        let key = charge("ana", Period::Day, NOW_S).key;
        let read = block_on(store.balances(now, &[key]));
        assert!(matches!(read, Err(StoreError::Busy { .. })), "{read:?}");
    }
}

#[test]
fn a_map_that_fails_or_panics_fails_the_step_and_nothing_else() {
    for wait in [Wait::Block, Wait::Yield] {
        for at in [At::Begin, At::Get, At::Scan, At::Put, At::Commit] {
            for fault in [Fault::Fails, Fault::Panics] {
                let map = Arc::new(Faulty::default());
                let store = filled(map.clone());
                let before = map.inner.entries().clone();
                *map.fault.lock().unwrap() = Some((at, fault));
                let now = Call::new(time(NOW_S), wait);
                let charges = [charge("eve", Period::Day, NOW_S)];
                let failed = block_on(store.charge(now, &charges, None)).unwrap_err();
                let expected = match (at, fault) {
                    (_, Fault::Fails) => Retry::Safe,
                    (At::Commit, _) => Retry::OutcomeUnknown,
                    _ => Retry::Never,
                };
                assert_eq!(failed.retry(), expected, "{at:?} {fault:?}: {failed}");
                assert!(*map.inner.entries() == before, "{at:?} {fault:?}: nothing is done");
                *map.fault.lock().unwrap() = None;
                assert!(block_on(store.charge(now, &charges, None)).unwrap().granted(), "{at:?} {fault:?}");
            }
        }
    }
}

#[test]
fn a_map_that_finds_what_nobody_asked_for_is_not_believed() {
    for fault in [Fault::Reversed, Fault::Endless] {
        let map = Arc::new(Faulty::default());
        let store = filled(map.clone());
        *map.fault.lock().unwrap() = Some((At::Scan, fault));
        for answer in [
            block_on(store.events(call(NOW_S), &EventQuery::all())).map(drop),
            block_on(store.events(call(NOW_S), &EventQuery { newest_first: true, ..EventQuery::all() })).map(drop),
        ] {
            assert!(matches!(answer, Err(StoreError::Failed { .. })), "{fault:?}: {answer:?}");
        }
    }
}

#[test]
fn many_who_forget_at_once_do_not_keep_each_other_from_working() {
    let map = Arc::new(Optimistic::default());
    let store = MapStore::over(map.clone());
    for number in 0..400 {
        let name = number.to_string();
        let charges = [charge("ana", Period::Year, number)];
        block_on(store.charge(call(NOW_S), &charges, Some(&once(&name, NOW_S)))).unwrap();
    }
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for number in 0..50 {
                    let charges = [charge(&format!("subject-{thread}"), Period::Year, number)];
                    let once = once(&format!("{thread}-{number}"), NOW_S + 61);
                    assert!(block_on(store.charge(call(NOW_S + 61), &charges, Some(&once))).unwrap().granted());
                }
            });
        }
    });
    let entries = map.0.lock().unwrap();
    assert!(count(&entries, "step") < 800, "{}", count(&entries, "step"));
    assert_eq!(count(&entries, "step"), count(&entries, "end"));
}

#[test]
fn counters_of_short_periods_go_although_their_subjects_never_come_back() {
    let map = Arc::new(Locked::default());
    let store = MapStore::over(map.clone());
    let charge = |subject: &str, period, start_s| {
        assert!(block_on(store.charge(call(start_s), &[charge(subject, period, start_s)], None)).unwrap().granted());
    };
    let short: Vec<Period> = Period::ALL.into_iter().filter(|period| period.kept_for().is_some()).collect();
    for number in 0..1_000 {
        charge(&format!("old-{number}"), short[number % short.len()], NOW_S + (number / 100 * 60) as i64);
    }
    for (subject, period) in [("ana", Period::Month), ("bob", Period::BillingYear), ("cyd", Period::Total)] {
        charge(subject, period, NOW_S);
    }
    let others = |from_s: i64| {
        for number in 0..400 {
            charge(&format!("{from_s}-{number}"), short[number % short.len()], from_s + (number / 40 * 60) as i64);
        }
        let entries = map.entries();
        (count(&entries, "counter"), count(&entries, "idle"), count(&entries, "windows"))
    };
    assert_eq!(others(NOW_S + 399 * DAY_S), (1_403, 1_400, 4), "all of what may still be needed");
    assert_eq!(others(NOW_S + 401 * DAY_S), (803, 800, 4));
}

#[test]
fn a_counter_on_which_something_is_held_stays_and_keeps_nothing_else_from_going() {
    let map = Arc::new(Locked::default());
    let store = MapStore::over(map.clone());
    let later_s = NOW_S + 401 * DAY_S;
    for number in 0..10 {
        let charges = vec![charge(&format!("holder-{number}"), Period::Minute, NOW_S)];
        if number < 5 {
            assert!(block_on(store.charge(call(NOW_S), &charges, None)).unwrap().granted());
        }
        let long = Hold {
            expires_at: time(NOW_S + 500 * DAY_S),
            kept_until: time(NOW_S + 501 * DAY_S),
            ..hold(number, NOW_S, charges)
        };
        assert!(block_on(store.hold(call(NOW_S), &long)).unwrap().granted());
    }
    for (number, from_s) in
        (0..100).map(|number| (number, NOW_S + 60)).chain((100..200).map(|number| (number, later_s)))
    {
        let start_s = from_s + number % 100 / 20 * 60;
        let charges = [charge(&format!("other-{number}"), Period::Minute, start_s)];
        assert!(block_on(store.charge(call(start_s), &charges, None)).unwrap().granted());
    }
    assert_eq!(count(&map.entries(), "counter"), 110);
    let third = Settle { id: HoldId::from_bytes(3_u128.to_be_bytes()), used: Vec::new() };
    let settled = block_on(store.settle(call(later_s), &third)).unwrap();
    assert!(matches!(settled, Settled::Now(receipt) if receipt.parts[0].balance.used == 2));
    assert_eq!(count(&map.entries(), "idle"), 101, "it can go now");
}

#[test]
fn steps_holds_rates_and_identities_go_when_their_time_is_over() {
    let map = Arc::new(Locked::default());
    let store = MapStore::over(map.clone());
    let all = |from: u32, many: u32, now_s: i64| {
        for number in from..from + many {
            let subject = format!("subject-{number}");
            let total = [charge(&subject, Period::Total, 0)];
            let made = block_on(store.charge(call(now_s), &total, Some(&once(&subject, now_s)))).unwrap();
            assert!(made.granted());
            let charges = vec![total[0].clone(), charge("account", Period::Year, number.into())];
            let hold = hold(number.into(), now_s, charges);
            assert!(block_on(store.hold(call(now_s), &hold)).unwrap().granted());
            // Half of them are released, half expire when nobody looks.
            if number % 2 == 0 {
                let nothing = Settle { id: hold.id, used: vec![("jobs".into(), 0)] };
                assert!(matches!(block_on(store.settle(call(now_s), &nothing)), Ok(Settled::Now(_))));
            }
            block_on(store.put_identity(call(now_s), &TokenDigest::of(&subject), &kept(&subject, now_s), 0)).unwrap();
            // One that comes back again and again, and one that never does.
            for name in ["ana", &subject] {
                block_on(store.rate(call(now_s), &rate(name))).unwrap();
            }
        }
        let entries = map.entries();
        ["step", "hold", "open", "identity", "identity_of", "rate"].map(|name| count(&entries, name))
    };
    assert_eq!(all(0, 400, NOW_S), [400, 400, 400, 400, 400, 401]);
    assert_eq!(all(1_000, 150, NOW_S + 61), [150, 150, 150, 150, 150, 151]);
    let entries = map.entries();
    let holding =
        entries.iter().filter(|(key, value)| table(key) == "counter" && value.windows(6).any(|w| w == b"\"held\""));
    assert_eq!(holding.count(), 150, "what nobody looked at is given back");
    assert!(count(&entries, "end") <= 601, "{}", count(&entries, "end"));
}

#[test]
fn occurrences_go_after_ninety_days_and_changes_never() {
    let map = Arc::new(Locked::default());
    let store = MapStore::over(map.clone());
    let record = |name, at_s, many| {
        let events: Vec<Event> = (0..many).map(|_| event(name, at_s)).collect();
        block_on(store.record(call(at_s), &events)).unwrap();
        count(&map.entries(), "event")
    };
    record(EventName::UsageAdjusted, NOW_S, 600);
    record(EventName::RateLimited, NOW_S, 500);
    assert_eq!(record(EventName::RateLimited, NOW_S + 89 * DAY_S, 100), 1_200);
    assert_eq!(record(EventName::RateLimited, NOW_S + 91 * DAY_S, 150), 850);
    assert_eq!(count(&map.entries(), "change"), 600);
    // Backwards over the gap that they have left.
    let newest = |limit| EventQuery { newest_first: true, limit, ..EventQuery::all() };
    let places = |limit| -> Vec<u64> {
        let found = block_on(store.events(call(NOW_S), &newest(limit))).unwrap();
        found.iter().map(|event| event.sequence).collect()
    };
    assert_eq!(places(usize::MAX), (1..=600).chain(1_101..=1_350).rev().collect::<Vec<_>>());
    assert_eq!(places(255), (596..=600).chain(1_101..=1_350).rev().collect::<Vec<_>>());
}

#[test]
fn old_counters_of_a_subject_go_when_it_has_new_ones() {
    let map = Arc::new(Locked::default());
    let store = MapStore::over(map.clone());
    let at = |start_s| {
        let made = block_on(store.charge(call(start_s), &[charge("ana", Period::Minute, start_s)], None)).unwrap();
        assert!(made.granted());
        let entries = map.entries();
        (count(&entries, "counter"), count(&entries, "idle"))
    };
    for minute in 0..48 * 60 {
        at(NOW_S + minute * 60);
    }
    for minute in 48 * 60..50 * 60 {
        assert_eq!(at(NOW_S + minute * 60), (48 * 60 + 1, 48 * 60 + 1));
    }
}

#[test]
fn lists_longer_than_a_page_are_read_to_their_end() {
    let store = MapStore::over(Arc::new(Locked::default()));
    let subscription = Subscription::active("free", time(NOW_S));
    let subjects: Vec<String> = (0..450).map(|number| format!("a\0{number:03}")).collect();
    for subject in &subjects {
        let changed = event(EventName::SubscriptionChanged, NOW_S);
        block_on(store.put_subscription(call(NOW_S), subject, &subscription, &changed)).unwrap();
    }
    let listed = |query| -> Vec<String> {
        let found = block_on(store.subscribers(call(NOW_S), &query)).unwrap();
        found.into_iter().map(|subscriber| subscriber.subject.to_string()).collect()
    };
    assert_eq!(listed(SubscriberQuery { limit: 1_000, ..SubscriberQuery::all() }), subjects);
    let after = Some("a\u{0}199".into());
    assert_eq!(listed(SubscriberQuery { after, limit: 240, ..SubscriberQuery::all() }), subjects[200..440]);
    assert_eq!(block_on(store.census(call(NOW_S))).unwrap()[0].subjects, 450);
    let all = EventQuery { limit: 1_000, ..EventQuery::all() };
    assert_eq!(block_on(store.events(call(NOW_S), &all)).unwrap().len(), 450);
}

#[test]
fn a_rate_that_is_asked_again_and_again_goes_when_it_is_no_longer() {
    let map = Arc::new(Locked::default());
    let store = MapStore::over(map.clone());
    let pace = |name: &str, at_s| assert!(block_on(store.rate(call(at_s), &rate(name))).unwrap().allowed);
    for second in 0..100 {
        pace("ana", NOW_S + second);
        pace(&format!("other-{second}"), NOW_S + second);
    }
    let entries = || ["rate", "end"].map(|name| count(&map.entries(), name));
    assert!(entries().into_iter().all(|entries| entries <= 6), "{:?}", entries());
    pace("bob", NOW_S + 1_000);
    pace("cyd", NOW_S + 1_000);
    assert_eq!(entries(), [2, 2]);
}

#[test]
fn of_what_is_held_on_a_counter_each_part_expires_at_its_time() {
    let store = MapStore::over(Arc::new(Locked::default()));
    let all = |amount| vec![Charge { amount, limit: Limit::Units(12), ..charge("ana", Period::Month, NOW_S) }];
    for (number, seconds) in [(1, 30), (2, 40), (3, 50)] {
        let hold = Hold { expires_at: time(NOW_S + seconds), ..hold(number, NOW_S, all(4)) };
        assert!(block_on(store.hold(call(NOW_S), &hold)).unwrap().granted());
    }
    for (seconds, granted) in [(29, false), (30, true), (39, false), (40, true), (49, false), (50, true), (60, false)] {
        let charged = block_on(store.charge(call(NOW_S + seconds), &all(4), None)).unwrap();
        assert_eq!(charged.granted(), granted, "{seconds} s later");
    }
}

/// What it held is given back when another is to take its name, once, also where that other does not fit.
#[test]
fn a_hold_whose_name_another_could_not_take_is_not_ended_twice() {
    let map = Arc::new(Locked::default());
    let store = MapStore::over(map.clone());
    let of = |amount| vec![Charge { amount, limit: Limit::Units(10), ..charge("ana", Period::Month, NOW_S) }];
    let made = |at_s, hold: Hold| block_on(store.hold(call(at_s), &hold)).unwrap().granted();
    assert!(made(NOW_S, hold(1, NOW_S, of(5))));
    assert!(!made(NOW_S + 40, hold(1, NOW_S + 40, of(11))));
    assert!(made(NOW_S + 40, hold(2, NOW_S + 40, of(7))));
    // The first is forgotten.
    assert!(made(NOW_S + 61, hold(3, NOW_S + 61, of(1))));
    assert_eq!(count(&map.entries(), "hold"), 2);
    let found = block_on(store.balances(call(NOW_S + 61), &[of(1)[0].key.clone()])).unwrap();
    assert_eq!((found[0].used, found[0].held), (0, 8));
}

/// However many reservations an account has open.
#[test]
fn a_charge_reads_and_writes_as_little_however_much_is_held() {
    let map = Arc::new(Faulty::default());
    let store = MapStore::over(map.clone());
    let of = |amount| vec![Charge { amount, limit: Limit::Unlimited, ..charge("acme", Period::Month, NOW_S) }];
    for number in 0..2_000 {
        assert!(block_on(store.hold(call(NOW_S), &hold(number, NOW_S, of(2)))).unwrap().granted());
    }
    // Nothing has expired, so nobody looks.
    *map.fault.lock().unwrap() = Some((At::Scan, Fault::Fails));
    let charged = block_on(store.charge(call(NOW_S + 29), &of(1), None)).unwrap();
    assert_eq!((charged.balances[0].used, charged.balances[0].held), (1, 4_000));
    *map.fault.lock().unwrap() = None;
    let refund = [Adjustment { key: of(1)[0].key.clone(), by: Adjust::Refund(1) }];
    let adjusted = event(EventName::UsageAdjusted, NOW_S);
    let after = block_on(store.adjust(call(NOW_S + 30), &refund, None, &adjusted)).unwrap();
    assert_eq!((after.balances[0].used, after.balances[0].held), (0, 0));
    assert_eq!(count(&map.inner.entries(), "open"), 0);
}

/// A map whose transactions begin when they are let.
#[derive(Debug)]
struct Hanging(Mutex<()>, Locked);

impl Map for Hanging {
    fn begin(&self) -> Result<Box<dyn MapTransaction + '_>, StoreError> {
        drop(self.0.lock().unwrap());
        self.1.begin()
    }
}

#[test]
fn a_map_that_hangs_is_waited_for_no_longer_than_the_timeout_where_its_steps_are_made_aside() {
    let map = Arc::new(Hanging(Mutex::new(()), Locked::default()));
    let plans = Plans::from_toml("default_plan = 'free'\n[plans.free]\nquotas = { jobs = '9/total' }").unwrap();
    let builder = Quota::builder().plans(plans).store_timeout(Duration::from_millis(300));
    let quota = builder.open_on(Arc::new(MapStore::over(Arc::clone(&map) as _).aside())).unwrap();
    assert!(quota.consume("ana", &[("jobs", 1)]).unwrap().allowed);
    let hangs = map.0.lock().unwrap();
    let denied = quota.consume("ana", &[("jobs", 1)]).unwrap().denied.unwrap();
    assert_eq!(denied.reason, Reason::StoreUnavailable);
    assert!(denied.cause.unwrap().contains("within 300 ms"));
    drop(hangs);
}
