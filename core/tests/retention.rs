//! What a store on a disk keeps, and what it forgets: nothing stays in it for ever because nobody came back, and
//! nothing goes that somebody still counts on.

#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

#[cfg(feature = "postgres")]
mod servers;

use std::sync::Arc;

use pollster::block_on;
use quotum::store::{
    Call, Charge, CounterKey, Durability, Fingerprint, Hold, KeptIdentity, Once, Settle, Settled, SqliteOptions, Store,
    Wait,
};
use quotum::token::{Identity, TokenDigest};
use quotum::{Event, EventName, HoldId, Limit, Period, Timestamp};
use rusqlite::Connection;

/// 2026-03-10T15:00:00Z.
const NOW_S: i64 = 1_773_154_800;
const MINUTE_S: i64 = 60;
const DAY_S: i64 = 24 * 3_600;

/// A store, and a way to count what is in it behind its back.
struct File {
    store: Box<dyn Store>,
    count: Box<dyn Fn(&str) -> i64>,
}

impl File {
    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quota.db");
        let store = SqliteOptions::at(&path).durability(Durability::Normal).open().unwrap();
        let reader = Connection::open(path).unwrap();
        let count = move |rows: &str| {
            let _kept = &folder;
            reader.query_row(&format!("SELECT count(*) FROM {rows}"), (), |row| row.get(0)).unwrap()
        };
        Self { store: Box::new(store), count: Box::new(count) }
    }

    #[cfg(feature = "postgres")]
    fn postgres() -> Self {
        let server = servers::Postgres::start_hasty();
        let store = server.options().open().unwrap();
        let count = move |rows: &str| {
            server.psql(&format!("SET search_path = quotum_0; SELECT count(*) FROM {rows}")).parse().unwrap()
        };
        Self { store: Box::new(store), count: Box::new(count) }
    }

    fn count(&self, rows: &str) -> i64 {
        (self.count)(rows)
    }

    /// One unit of a counter whose window begins at that second.
    fn charge(&self, subject: &str, period: Period, start_s: i64) {
        let charges = [charge(subject, period, start_s)];
        assert!(block_on(self.store.charge(call(start_s), &charges, None)).unwrap().granted());
    }
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn call(second: i64) -> Call {
    Call::new(time(second), Wait::Block)
}

fn charge(subject: &str, period: Period, start_s: i64) -> Charge {
    let key = CounterKey::of(subject, "jobs", period, start_s);
    Charge { key, amount: 1, limit: Limit::Units(5) }
}

/// The periods whose counters are not kept for ever, in turn.
fn short(number: i64) -> Period {
    let short: Vec<Period> = Period::ALL.into_iter().filter(|period| period.kept_for().is_some()).collect();
    short[usize::try_from(number).unwrap() % short.len()]
}

fn id(number: usize) -> HoldId {
    HoldId::from_bytes((number as u128).to_be_bytes())
}

fn counters_of_short_periods_go_although_their_subjects_never_come_back(file: &File) {
    for number in 0..1_000 {
        file.charge(&format!("old-{number}"), short(number), NOW_S + number / 100 * MINUTE_S);
    }
    for (subject, period) in [("ana", Period::Month), ("bob", Period::BillingYear), ("cyd", Period::Total)] {
        file.charge(subject, period, NOW_S);
    }
    let others = |from_s: i64| {
        for number in 0..400 {
            file.charge(&format!("new-{from_s}-{number}"), short(number), from_s + number / 40 * MINUTE_S);
        }
    };
    others(NOW_S + 399 * DAY_S);
    assert_eq!(file.count("counter"), 1_403, "all of what may still be needed");
    others(NOW_S + 401 * DAY_S);
    assert_eq!(file.count("counter WHERE subject LIKE 'old-%'"), 0);
    assert_eq!(file.count("counter WHERE subject LIKE 'new-%'"), 800);
    assert_eq!(file.count("counter WHERE period IN ('month', 'billing_year', 'total')"), 3);
}

fn a_counter_on_which_something_is_held_stays_and_keeps_nothing_else_from_going(file: &File) {
    let hold = |number: usize| Hold {
        id: id(number),
        once: None,
        charges: vec![charge(&format!("holder-{number}"), Period::Minute, NOW_S)],
        expires_at: time(NOW_S + 500 * DAY_S),
        kept_until: time(NOW_S + 501 * DAY_S),
    };
    for number in 0..10 {
        assert!(block_on(file.store.hold(call(NOW_S), &hold(number))).unwrap().granted());
    }
    for number in 0..100 {
        file.charge(&format!("old-{number}"), Period::Minute, NOW_S + MINUTE_S);
    }
    let later_s = NOW_S + 401 * DAY_S;
    for number in 0..100 {
        file.charge(&format!("new-{number}"), Period::Minute, later_s + number / 20 * MINUTE_S);
    }
    assert_eq!(file.count("counter WHERE subject LIKE 'old-%'"), 0);
    assert_eq!(file.count("counter WHERE held = 1"), 10);
    let settled = block_on(file.store.settle(call(later_s), &Settle { id: id(3), used: Vec::new() })).unwrap();
    assert!(matches!(settled, Settled::Now(receipt) if receipt.parts[0].used == 1));
}

fn steps_holds_and_identities_go_when_their_time_is_over(file: &File) {
    let kept_s = 60;
    let once = |number: usize, now_s| Once {
        subject: "ana".into(),
        key: Arc::from(format!("{number}-{now_s}")),
        arguments: Fingerprint::of(&[b"1"]),
        kept_until: time(now_s + kept_s),
    };
    let all = |from: usize, count: usize, now_s: i64| {
        for number in from..from + count {
            let subject = format!("subject-{number}");
            let total = [charge(&subject, Period::Total, 0)];
            let made = block_on(file.store.charge(call(now_s), &total, Some(&once(number, now_s)))).unwrap();
            assert!(made.granted());
            let hold = Hold {
                id: id(number),
                once: None,
                charges: vec![charge(&subject, Period::Total, 0), charge("account", Period::Year, number as i64)],
                expires_at: time(now_s + kept_s / 2),
                kept_until: time(now_s + kept_s),
            };
            assert!(block_on(file.store.hold(call(now_s), &hold)).unwrap().granted());
            // Half of them are released, half expire when nobody looks.
            if number % 2 == 0 {
                let nothing = Settle { id: id(number), used: vec![("jobs".into(), 0)] };
                assert!(matches!(block_on(file.store.settle(call(now_s), &nothing)), Ok(Settled::Now(_))));
            }
            let kept = KeptIdentity { identity: Identity::of(&*subject), until: time(now_s + kept_s) };
            block_on(file.store.put_identity(call(now_s), &TokenDigest::of(&subject), &kept, 0)).unwrap();
        }
    };
    all(0, 400, NOW_S);
    let rows = || ["step", "hold", "hold_part", "identity"].map(|table| file.count(table));
    assert_eq!(rows(), [400, 400, 400, 400]);
    all(1_000, 150, NOW_S + kept_s + 1);
    assert_eq!(rows(), [150, 150, 150, 150]);
    assert_eq!(file.count("counter WHERE held > 0"), 150, "what nobody looked at is given back");
}

fn occurrences_go_after_ninety_days_and_changes_never(file: &File) {
    let record = |name, at_s, count| {
        let events: Vec<Event> = (0..count).map(|_| Event::new(name, time(at_s))).collect();
        block_on(file.store.record(call(at_s), &events)).unwrap();
    };
    record(EventName::UsageAdjusted, NOW_S, 20);
    record(EventName::RateLimited, NOW_S, 400);
    record(EventName::RateLimited, NOW_S + 89 * DAY_S, 100);
    assert_eq!(file.count("event"), 520);
    record(EventName::RateLimited, NOW_S + 91 * DAY_S, 150);
    assert_eq!(file.count("event WHERE NOT is_change"), 250);
    assert_eq!(file.count("event WHERE is_change"), 20);
}

macro_rules! rules {
    ($($rule:ident)*) => {
        mod sqlite {
            $(#[test] fn $rule() { super::$rule(&super::File::sqlite()); })*
        }

        #[cfg(feature = "postgres")]
        mod postgres {
            $(#[test] fn $rule() { super::$rule(&super::File::postgres()); })*
        }
    };
}

rules! {
    counters_of_short_periods_go_although_their_subjects_never_come_back
    a_counter_on_which_something_is_held_stays_and_keeps_nothing_else_from_going
    steps_holds_and_identities_go_when_their_time_is_over
    occurrences_go_after_ninety_days_and_changes_never
}
