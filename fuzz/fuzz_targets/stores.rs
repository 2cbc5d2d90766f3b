//! Any sequence of charges, holds, leases, adjustments and settlements, in keys and out of keys, while time passes: the
//! memory and the SQLite store agree on every answer.

#![no_main]

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pollster::block_on;
use quotum::store::{
    Adjust, Adjustment, Call, Charge, CounterKey, Durability, Fingerprint, Hold, Lease, Leased, MemoryStore, Once,
    Receipt, Settle, Settled, SqliteOptions, SqliteStore, Store, Wait,
};
use quotum::{Event, EventName, HoldId, Limit, Period, Timestamp, UNITS_MAX};

#[derive(Debug, Arbitrary)]
enum Step {
    Charge(Vec<Part>, Option<u8>),
    Hold(u8, Vec<Part>, u8, Option<u8>),
    Lease { name: u8, parts: Vec<Part>, least: u8, seconds: u8, settled: Option<(u8, u64)> },
    Settle(u8, Vec<(bool, u64)>),
    Adjust(Vec<(u8, By, u64)>, Option<u8>),
    Pass(u8),
}

#[derive(Debug, Arbitrary)]
enum By {
    Refund,
    Grant,
    Record(Option<u64>),
    Reset,
}

/// A counter, how many units of it, and its limit.
type Part = (u8, u64, Option<u64>);

static SQLITE: LazyLock<(tempfile::TempDir, SqliteStore)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteOptions::at(folder.path().join("quota.db")).durability(Durability::Normal).open().unwrap();
    (folder, store)
});

static RUN: AtomicU64 = AtomicU64::new(0);

/// Both stores' time goes on from run to run: a store's clock never goes back.
static NOW_S: AtomicI64 = AtomicI64::new(0);

/// Small numbers, so that limits are met, and now and then any.
fn units(number: u64) -> u64 {
    if number.is_multiple_of(16) { number % UNITS_MAX } else { number % 20 }
}

fn limit(number: Option<u64>) -> Limit {
    number.map_or(Limit::Unlimited, |number| Limit::Units(units(number)))
}

fn fingerprint(value: &impl Debug) -> Fingerprint {
    Fingerprint::of(&[format!("{value:?}").as_bytes()])
}

/// The order of a receipt's parts is the store's own.
fn in_order(settled: Settled) -> Settled {
    let sorted = |mut receipt: Receipt| {
        receipt.parts.sort_by(|one, other| one.key.cmp(&other.key));
        receipt
    };
    match settled {
        Settled::Now(receipt) => Settled::Now(sorted(receipt)),
        Settled::Before(receipt) => Settled::Before(sorted(receipt)),
        settled => settled,
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let run = RUN.fetch_add(1, Ordering::Relaxed);
    let memory = MemoryStore::new();
    let stores: [&dyn Store; 2] = [&memory, &SQLITE.1];
    let event = Event::new(EventName::UsageAdjusted, Timestamp::UNIX_EPOCH);
    let key = |counter: u8| {
        let metric = if counter.is_multiple_of(3) { "jobs" } else { "tokens" };
        let period = Period::ALL[usize::from(counter / 2) % Period::ALL.len()];
        CounterKey::of(format!("{run}-{}", counter % 2), metric, period, i64::from(counter / 64) * 60)
    };
    let id = |name: u8| HoldId::from_bytes((u128::from(run) << 8 | u128::from(name % 8)).to_be_bytes());
    // Holds and leases have names of their own.
    let (hold_id, lease_id) = (|name: u8| id(name % 4), |name: u8| id(name % 4 + 4));
    let time = |seconds: i64| Timestamp::from_second(seconds).unwrap();
    for step in steps.iter().take(50) {
        let now_s = NOW_S.load(Ordering::Relaxed);
        let call = Call::new(time(now_s), Wait::Block);
        let once = |key: Option<u8>, arguments| {
            let (subject, key) = (format!("{run}").into(), (key? % 4).to_string().into());
            Some(Once { subject, key, arguments, kept_until: time(now_s + 100) })
        };
        // Each counter once, as an engine asks.
        let charges = |parts: &[Part]| {
            let mut charges: Vec<Charge> = Vec::new();
            for &(counter, amount, most) in parts.iter().take(8) {
                let key = key(counter);
                if !charges.iter().any(|charge| charge.key == key) {
                    charges.push(Charge { key, amount: units(amount) + 1, limit: limit(most) });
                }
            }
            charges
        };
        match step {
            Step::Charge(parts, name) => {
                let (charges, once) = (charges(parts), once(*name, fingerprint(parts)));
                let [expected, found] =
                    stores.map(|store| block_on(store.charge(call, &charges, once.as_ref())).unwrap());
                assert_eq!(found, expected);
            }
            Step::Hold(name, parts, seconds, once_key) => {
                let (expires_at, kept_until) = (time(now_s + i64::from(*seconds) + 1), time(now_s + 400));
                let once = once(*once_key, fingerprint(parts));
                let hold = Hold { id: hold_id(*name), once, charges: charges(parts), expires_at, kept_until };
                let [expected, found] = stores.map(|store| block_on(store.hold(call, &hold)).unwrap());
                assert_eq!(found, expected);
            }
            Step::Lease { name, parts, least, seconds, settled } => {
                let (expires_at, kept_until) = (time(now_s + i64::from(*seconds) + 1), time(now_s + 400));
                // Never itself: a block is settled before the next is made under another name.
                let other = settled.filter(|(other, _)| id(*other) != lease_id(*name));
                let settle =
                    other.map(|(other, used)| Settle { id: id(other), used: vec![("jobs".into(), units(used))] });
                let (charges, least) = (charges(parts), u64::from(*least % 8));
                let lease = Lease { id: lease_id(*name), settle, charges, least, expires_at, kept_until };
                let [expected, found] = stores.map(|store| {
                    let leased = block_on(store.lease(call, &lease)).unwrap();
                    Leased { settled: leased.settled.map(in_order), ..leased }
                });
                assert_eq!(found, expected);
            }
            Step::Settle(name, used) => {
                let metric = |jobs: bool| Arc::from(if jobs { "jobs" } else { "tokens" });
                let used = used.iter().take(3).map(|&(jobs, amount)| (metric(jobs), units(amount))).collect();
                let settle = Settle { id: id(*name), used };
                let [expected, found] = stores.map(|store| in_order(block_on(store.settle(call, &settle)).unwrap()));
                assert_eq!(found, expected);
            }
            Step::Adjust(parts, name) => {
                let adjust = |(counter, by, amount): &(u8, By, u64)| {
                    let by = match by {
                        By::Refund => Adjust::Refund(units(*amount)),
                        By::Grant => Adjust::Grant(units(*amount)),
                        By::Record(most) => Adjust::Record(units(*amount), limit(*most)),
                        By::Reset => Adjust::Reset,
                    };
                    Adjustment { key: key(*counter), by }
                };
                let adjustments: Vec<Adjustment> = parts.iter().take(8).map(adjust).collect();
                let once = once(*name, fingerprint(parts));
                let [expected, found] =
                    stores.map(|store| block_on(store.adjust(call, &adjustments, once.as_ref(), &event)).unwrap());
                assert_eq!(found, expected);
            }
            Step::Pass(seconds) => drop(NOW_S.fetch_add(i64::from(*seconds), Ordering::Relaxed)),
        }
    }
});
