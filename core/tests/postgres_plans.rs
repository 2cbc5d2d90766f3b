//! How the PostgreSQL server finds what a step needs among tens of thousands of rows: by an index, looking at few rows.
//!
//! The server says itself how it has made each statement, also those inside of functions, and how many rows it has
//! looked at. Each step is made often enough for the server to have a plan of its own that fits any values.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod servers;

use pollster::block_on;
use quotum::store::{
    Adjust, Adjustment, Call, Charge, CounterKey, Fingerprint, Forgotten, Hold, KeptIdentity, Lease, Once, Outcome,
    PostgresOptions, PostgresStore, Settle, SharedRate, SharedWindow, Store, SubscriberQuery, Wait,
};
use quotum::token::{Identity, TokenDigest};
use quotum::{Event, EventName, EventQuery, HoldId, Limit, Period, Subscription, Timestamp};
use servers::Postgres;

/// 2026-03-01T00:00:00Z, the time of what is there already.
const NOW_S: i64 = 1_772_323_200;

const DAY_S: i64 = 86_400;

/// How many rows any part of a plan may look at, where a page has a hundred.
const ROWS_MAX: u64 = 250;

/// How often each step is made. The server thinks about a plan for any values from the sixth time on.
const TIMES: i64 = 12;

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW_S + seconds).unwrap()
}

fn call() -> Call {
    Call::new(time(0), Wait::Block)
}

fn charge(subject: &str, period: Period, start_s: i64) -> Charge {
    Charge { key: CounterKey::of(subject, "jobs", period, start_s), amount: 1, limit: Limit::Units(1_000_000) }
}

/// The counters of one of the many, today's and the month's.
fn of(number: i64) -> Vec<Charge> {
    [Period::Day, Period::Month].map(|period| charge(&format!("subject-{number}"), period, NOW_S)).to_vec()
}

fn name(number: i64) -> HoldId {
    HoldId::from_bytes(u128::from(number.unsigned_abs()).to_be_bytes())
}

fn event() -> Event {
    let mut event = Event::new(EventName::UsageAdjusted, time(0));
    event.subject = Some("subject-7".into());
    event
}

fn once(number: i64) -> Once {
    let key = format!("new-{number}").into();
    Once { subject: "subject-7".into(), key, arguments: Fingerprint::of(&[b"1"]), kept_until: time(DAY_S) }
}

/// A store on the tables that were filled, and how to open more.
struct World {
    options: PostgresOptions,
    store: PostgresStore,
}

/// A step, which of its indexes the server must have used at least, and how it is made for the so-manieth time.
type Step = (&'static str, &'static [&'static str], fn(&World, i64));

const STEPS: &[Step] = &[
    ("charge", &["counter_pkey", "turn_pkey"], |World { store, .. }, n| {
        assert!(block_on(store.charge(call(), &of(7 + n % 2), None)).unwrap().granted());
    }),
    ("charge on a new day", &["counter_pkey"], |World { store, .. }, n| {
        let tomorrow = charge(&format!("subject-{n}"), Period::Day, NOW_S + DAY_S);
        assert!(block_on(store.charge(call(), std::slice::from_ref(&tomorrow), None)).unwrap().granted());
        let hold = Hold {
            id: name(3_000_000 + n),
            once: None,
            charges: vec![tomorrow],
            expires_at: time(60),
            kept_until: time(DAY_S),
        };
        assert!(block_on(store.hold(call(), &hold)).unwrap().granted());
    }),
    ("charge of what has expired holds", &["hold_part_by_counter", "hold_part_by_hold"], |World { store, .. }, n| {
        assert!(block_on(store.charge(call(), &of(n * 10), None)).unwrap().granted());
    }),
    ("charge of a new counter", &["counter_by_age"], |World { store, .. }, n| {
        let days = n + 2;
        let call = Call::new(time(days * DAY_S), Wait::Block);
        let charges = [charge("ana", Period::Day, NOW_S + days * DAY_S)];
        assert!(block_on(store.charge(call, &charges, None)).unwrap().granted());
    }),
    ("charge that is refused", &["counter_pkey"], |World { store, .. }, _| {
        let charges: Vec<Charge> = of(7).into_iter().map(|charge| Charge { amount: 2_000_000, ..charge }).collect();
        assert!(!block_on(store.charge(call(), &charges, None)).unwrap().granted());
    }),
    ("charge under a key", &["step_pkey", "step_by_end"], |World { store, .. }, n| {
        assert!(block_on(store.charge(call(), &of(7), Some(&once(n)))).unwrap().granted());
        let again = block_on(store.charge(call(), &of(7), Some(&once(n)))).unwrap();
        assert!(matches!(again.outcome, Outcome::Repeated(_)));
    }),
    (
        "hold and settle",
        &["hold_pkey", "hold_by_end", "hold_part_expired", "hold_part_by_hold"],
        |World { store, .. }, n| {
            let id = name(1_000_000 + n);
            let (charges, expires_at, kept_until) = (of(7 + n), time(3_600), time(DAY_S));
            let hold = Hold { id, once: None, charges, expires_at, kept_until };
            assert!(block_on(store.hold(call(), &hold)).unwrap().granted());
            block_on(store.settle(call(), &Settle { id, used: Vec::new() })).unwrap();
        },
    ),
    ("lease", &["hold_pkey", "hold_part_by_hold"], |World { store, .. }, n| {
        let settle = (n > 0).then(|| Settle { id: name(2_000_000 + n - 1), used: Vec::new() });
        let (id, charges) = (name(2_000_000 + n), of(8));
        let lease = Lease { id, settle, charges, least: 1, expires_at: time(60), kept_until: time(DAY_S) };
        assert!(block_on(store.lease(call(), &lease)).unwrap().amount > 0);
    }),
    ("balances", &["counter_pkey", "hold_part_by_counter"], |World { store, .. }, n| {
        let keys: Vec<CounterKey> = (0..3).flat_map(|more| of(100 + n + more)).map(|charge| charge.key).collect();
        assert!(block_on(store.balances(call(), &keys)).unwrap().iter().all(|balance| balance.used > 0));
    }),
    ("adjust", &["counter_pkey"], |World { store, .. }, n| {
        let adjustments = [Adjustment { key: of(n)[0].key.clone(), by: Adjust::Refund(1) }];
        block_on(store.adjust(call(), &adjustments, Some(&once(1_000 + n)), &event())).unwrap();
    }),
    ("rate", &["rate_pkey", "rate_by_end"], |World { store, .. }, n| {
        let windows = vec![SharedWindow { cost_ns: 1_000, full_ns: 1_000_000 }];
        let rate = SharedRate { name: Fingerprint::of(&[&n.to_be_bytes()]), windows };
        assert!(block_on(store.rate(call(), &rate)).unwrap().allowed);
    }),
    (
        "identities",
        &["identity_pkey", "identity_by_end", "identity_by_subject", "event_that_changed"],
        |World { store, .. }, n| {
            let token = TokenDigest::of(&n.to_string());
            let kept = KeptIdentity { identity: Identity::of("subject-7"), until: time(60) };
            block_on(store.put_identity(call(), &token, &kept, 50_001)).unwrap();
            assert!(block_on(store.identity(call(), &token)).unwrap().is_some());
            block_on(store.forget_identities(call(), &Forgotten::Subject("bob".into()), &event())).unwrap();
        },
    ),
    ("subscription", &["subscription_pkey"], |World { store, .. }, n| {
        let subject = format!("subject-{n}");
        let found = block_on(store.subscription(call(), &subject)).unwrap().unwrap();
        let trial = Subscription::trial("free", time(0));
        block_on(store.swap_subscription(call(), &subject, Some(&found), &trial, &event())).unwrap();
        block_on(store.put_subscription(call(), &subject, &found, &event())).unwrap();
    }),
    ("a page of subscribers", &["subscription_pkey"], |World { store, .. }, n| {
        let query = SubscriberQuery { after: Some(format!("subject-{}", n * 1_000).into()), ..SubscriberQuery::all() };
        assert_eq!(block_on(store.subscribers(call(), &query)).unwrap().len(), 100);
    }),
    ("a page of an account's members", &["subscription_by_account"], |World { store, .. }, n| {
        let (after, account) = (Some(format!("subject-{n}").into()), Some("acme".to_owned()));
        let query = SubscriberQuery { after, account, ..SubscriberQuery::all() };
        assert_eq!(block_on(store.subscribers(call(), &query)).unwrap().len(), 100);
    }),
    ("record", &["event_by_age"], |World { store, .. }, _| {
        let events = [Event::new(EventName::QuotaExhausted, time(0)), event()];
        block_on(store.record(call(), &events)).unwrap();
    }),
    ("a page of changes", &["event_that_changed"], |World { store, .. }, n| {
        let query = EventQuery { after: 10_000 + n.unsigned_abs(), ..EventQuery::changes() };
        assert_eq!(block_on(store.events(call(), &query)).unwrap().len(), 100);
        let newest = EventQuery { newest_first: true, limit: 1, ..EventQuery::changes() };
        let newest = block_on(store.events(call(), &newest)).unwrap()[0].sequence;
        let query = EventQuery { after: newest, ..EventQuery::changes() };
        assert!(block_on(store.events(call(), &query)).unwrap().is_empty());
    }),
    ("a subject's events", &["event_by_subject"], |World { store, .. }, n| {
        for newest_first in [false, true] {
            let subject = Some(format!("subject-{n}").into());
            let query = EventQuery { subject, newest_first, ..EventQuery::all() };
            assert!(block_on(store.events(call(), &query)).unwrap().len() >= 5);
        }
    }),
    ("the first step of a process", &["turn_by_age"], |World { options, .. }, n| {
        let store = options.open().unwrap();
        assert!(block_on(store.charge(call(), &of(7 + n), None)).unwrap().granted());
    }),
];

/// Makes every step, and returns what the server has found too much to look at.
fn excesses(server: &Postgres, world: &World) -> Vec<String> {
    let mut excesses = Vec::new();
    for (step, indexes, make) in STEPS {
        let before = server.log().len();
        (0..TIMES).for_each(|n| make(world, n));
        let log = server.log().split_off(before);
        let unused = indexes.iter().filter(|index| !log.contains(**index));
        excesses.extend(unused.map(|index| format!("{step}: {index} is not used")));
        let plans = log.split("LOG:  duration: ").filter(|plan| is_excess(plan));
        excesses.extend(plans.map(|plan| format!("{step}: {plan}")));
    }
    excesses
}

/// Whether a statement has read one of the tables from end to end, or looked at too many rows anywhere.
fn is_excess(plan: &str) -> bool {
    // But for the server's own tables, and one that has one row, when a store is opened.
    let is_small = |line: &&str| line.contains(" on pg_") || line.contains(" on schema_version");
    plan.lines().filter(|line| !is_small(line)).any(|line| {
        let scans = line.contains("Seq Scan on ");
        let rows = number_after(line, "actual rows=") * number_after(line, "loops=");
        scans || rows.max(number_after(line, "Rows Removed by Filter: ")) > ROWS_MAX
    })
}

fn number_after(line: &str, what: &str) -> u64 {
    let digits = line.split_once(what).map_or("", |(_, rest)| rest);
    let end = digits.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().unwrap_or(0)
}

/// Fills a server's tables, and looks how every step is made there.
fn look_at_few_rows(prepares: bool) {
    let server = Postgres::start_explaining();
    let options = server.options().connections(1).prepare(prepares);
    let store = options.open().unwrap();
    block_on(store.record(call(), &[event()])).unwrap();
    server.psql(include_str!("postgres_plans.sql"));
    let excesses = excesses(&server, &World { options, store });
    assert!(excesses.is_empty(), "{} statements look at too much: {}", excesses.len(), excesses.join("\n"));
}

#[test]
fn statements_that_are_planned_for_their_values_find_them_by_an_index() {
    look_at_few_rows(false);
}

#[test]
fn statements_that_are_prepared_for_any_values_find_them_by_an_index() {
    look_at_few_rows(true);
}
