//! Random work on every store and on a model of a few lines: all must agree on every answer and on every counter.

#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod maps;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod servers;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pollster::block_on;
use proptest::prelude::*;
use quotum::store::{
    Adjust, Adjustment, Call, Charge, CounterKey, Durability, Fingerprint, Hold, Lease, Leased, MapStore, MemoryStore,
    Once, Receipt, Settle, Settled, SqliteOptions, Store, Wait,
};
use quotum::{Event, EventName, Limit, Period, Timestamp, UNITS_MAX};

/// One store of each kind, the reference first, and what they need.
struct Stores {
    stores: Vec<Arc<dyn Store>>,
    #[cfg(feature = "postgres")]
    _postgres: servers::Postgres,
    #[cfg(feature = "redis")]
    _redis: (servers::Redis, servers::RedisCluster),
    _folder: tempfile::TempDir,
}

impl Stores {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sqlite = SqliteOptions::at(folder.path().join("quota.db")).durability(Durability::Normal).open().unwrap();
        #[cfg(feature = "postgres")]
        let postgres = servers::Postgres::start_hasty();
        #[cfg(feature = "redis")]
        let redis = (servers::Redis::start(), servers::RedisCluster::start());
        let stores: Vec<Arc<dyn Store>> = vec![
            Arc::new(MemoryStore::new()),
            Arc::new(sqlite),
            Arc::new(MapStore::over(Arc::new(maps::Locked::default()))),
            Arc::new(MapStore::over(Arc::new(maps::Optimistic::default()))),
            #[cfg(feature = "postgres")]
            Arc::new(postgres.options().open().unwrap()),
            #[cfg(feature = "redis")]
            Arc::new(redis.0.options().open().unwrap()),
            #[cfg(feature = "redis")]
            Arc::new(redis.1.options().open().unwrap()),
        ];
        Self {
            stores,
            #[cfg(feature = "postgres")]
            _postgres: postgres,
            #[cfg(feature = "redis")]
            _redis: redis,
            _folder: folder,
        }
    }
}

fn all<T>(stores: &[Arc<dyn Store>], ask: impl FnMut(&Arc<dyn Store>) -> T) -> Vec<T> {
    stores.iter().map(ask).collect()
}

/// Whether every store has answered as the reference has.
fn agree<T: PartialEq + Debug>(
    stores: &[Arc<dyn Store>],
    answers: &[T],
    asked: &dyn Debug,
) -> Result<(), TestCaseError> {
    for (store, answer) in stores.iter().zip(answers) {
        prop_assert_eq!(answer, &answers[0], "{:?}: {:?}", store, asked);
    }
    Ok(())
}

#[derive(Debug, Clone)]
enum Step {
    Charge(Vec<(usize, u64, Option<u64>)>),
    Refund(Vec<(usize, u64)>),
}

const COUNTERS: usize = 6;

fn amount() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 1_u64..20, 1 => Just(UNITS_MAX), 1 => (UNITS_MAX - 20)..UNITS_MAX]
}

fn step() -> impl Strategy<Value = Step> {
    let limit = prop_oneof![6 => (0_u64..60).prop_map(Some), 1 => Just(Some(UNITS_MAX)), 1 => Just(None)];
    prop_oneof![
        3 => prop::collection::vec((0..COUNTERS, amount(), limit), 0..5).prop_map(Step::Charge),
        1 => prop::collection::vec((0..COUNTERS, amount()), 0..4).prop_map(Step::Refund),
    ]
}

/// The counters of one case: of two subjects, two metrics and three windows, none met by another case.
fn keys(case: u64) -> Vec<CounterKey> {
    let key = |subject: &str, metric: &str, period, start_s| {
        CounterKey::of(format!("{subject}-{case}"), metric, period, start_s).in_account(format!("{case}"))
    };
    vec![
        key("ana", "jobs", Period::Day, 0),
        key("ana", "jobs", Period::Day, 86_400),
        key("ana", "jobs", Period::Month, 0),
        key("ana", "tokens", Period::Day, 0),
        key("bob", "jobs", Period::Day, 0),
        key("bob", "tokens", Period::Total, 0),
    ]
}

/// The model: a number for each counter.
fn model_charge(used: &mut HashMap<usize, u64>, charges: &[(usize, u64, Option<u64>)]) -> bool {
    let before = used.clone();
    for (counter, amount, limit) in charges {
        let total = used.entry(*counter).or_insert(0);
        *total += amount;
        if *total > limit.unwrap_or(UNITS_MAX).min(UNITS_MAX) {
            *used = before;
            return false;
        }
    }
    true
}

#[test]
fn all_stores_and_a_naive_model_agree_on_random_work() {
    let opened = Stores::open();
    let stores = &opened.stores;
    let case = AtomicU64::new(0);
    let steps = prop::collection::vec((step(), any::<bool>()), 1..25);
    let outcome = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(1_000)).run(&steps, |steps| {
        let keys = keys(case.fetch_add(1, Ordering::Relaxed));
        let mut model = HashMap::new();
        for (step, blocking) in steps {
            let wait = if blocking { Wait::Block } else { Wait::Yield };
            let call = Call::new(Timestamp::UNIX_EPOCH, wait);
            let event = Event::new(EventName::UsageAdjusted, Timestamp::UNIX_EPOCH);
            match &step {
                Step::Charge(parts) => {
                    let charge = |(counter, amount, limit): &(usize, u64, Option<u64>)| Charge {
                        key: keys[*counter].clone(),
                        amount: *amount,
                        limit: limit.map_or(Limit::Unlimited, Limit::Units),
                    };
                    let charges: Vec<Charge> = parts.iter().map(charge).collect();
                    let expected = model_charge(&mut model, parts);
                    let found = all(stores, |store| block_on(store.charge(call, &charges, None)).unwrap());
                    prop_assert_eq!(found[0].granted(), expected, "memory: {:?}", parts);
                    agree(stores, &found, &parts)?;
                }
                Step::Refund(parts) => {
                    let refund = |(counter, amount): &(usize, u64)| Adjustment {
                        key: keys[*counter].clone(),
                        by: Adjust::Refund(*amount),
                    };
                    let refunds: Vec<Adjustment> = parts.iter().map(refund).collect();
                    for (counter, amount) in parts {
                        let used = model.entry(*counter).or_insert(0);
                        *used = used.saturating_sub(*amount);
                    }
                    let found = all(stores, |store| block_on(store.adjust(call, &refunds, None, &event)).unwrap());
                    agree(stores, &found, &parts)?;
                }
            }
            let expected: Vec<u64> = (0..COUNTERS).map(|counter| model.get(&counter).copied().unwrap_or(0)).collect();
            for store in stores {
                let balances = block_on(store.balances(call, &keys)).unwrap();
                let used: Vec<u64> = balances.iter().map(|balance| balance.used).collect();
                prop_assert_eq!(&used, &expected, "{:?} after {:?}", store, step);
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// What a store can be asked about counters, by small numbers so that steps meet. Holds and leases have names of
/// their own.
#[derive(Debug, Clone)]
enum Work {
    Charge { parts: Vec<(usize, u64, u64)>, key: Option<u8> },
    Hold { id: u8, parts: Vec<(usize, u64, u64)>, seconds: i64, key: Option<u8> },
    Lease { id: u8, parts: Vec<(usize, u64, u64)>, least: u64, seconds: i64, settle: Option<(u8, u64)> },
    Settle { id: u8, used: Vec<(bool, u64)> },
    Adjust { counter: usize, by: u8, amount: u64, key: Option<u8> },
    Pass { seconds: i64 },
}

fn work() -> impl Strategy<Value = Work> {
    let part = || (0..COUNTERS, 1_u64..9, 0_u64..30);
    let key = || prop::option::of(0_u8..3);
    let settle = || prop::option::of((0_u8..8, 0_u64..20));
    prop_oneof![
        4 => (prop::collection::vec(part(), 1..4), key()).prop_map(|(parts, key)| Work::Charge { parts, key }),
        3 => (0_u8..4, prop::collection::vec(part(), 1..4), 1_i64..120, key())
            .prop_map(|(id, parts, seconds, key)| Work::Hold { id, parts, seconds, key }),
        3 => (4_u8..8, prop::collection::vec(part(), 1..4), 1_u64..6, 1_i64..120, settle())
            .prop_map(|(id, parts, least, seconds, settle)| Work::Lease { id, parts, least, seconds, settle }),
        4 => (0_u8..8, prop::collection::vec((any::<bool>(), 0_u64..20), 0..3))
            .prop_map(|(id, used)| Work::Settle { id, used }),
        3 => (0..COUNTERS, 0_u8..4, 1_u64..20, key())
            .prop_map(|(counter, by, amount, key)| Work::Adjust { counter, by, amount, key }),
        2 => (1_i64..90).prop_map(|seconds| Work::Pass { seconds }),
    ]
}

/// The order of a receipt's parts is the store's own, and so is whether it tells their account, which is no part of a
/// counter's name.
fn in_order(settled: Settled) -> Settled {
    let sorted = |mut receipt: Receipt| {
        receipt.parts.iter_mut().for_each(|part| part.key.account = None);
        receipt.parts.sort_by(|one, other| one.key.cmp(&other.key));
        receipt
    };
    match settled {
        Settled::Now(receipt) => Settled::Now(sorted(receipt)),
        Settled::Before(receipt) => Settled::Before(sorted(receipt)),
        settled => settled,
    }
}

fn fingerprint(value: &impl std::fmt::Debug) -> Fingerprint {
    Fingerprint::of(&[format!("{value:?}").as_bytes()])
}

#[test]
fn all_stores_agree_on_holds_leases_keys_and_adjustments() {
    let opened = Stores::open();
    let stores = &opened.stores;
    let case = AtomicU64::new(0);
    let now_s = std::sync::atomic::AtomicI64::new(0);
    let works = prop::collection::vec((work(), any::<bool>()), 1..40);
    let outcome = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(600)).run(&works, |works| {
        let number = case.fetch_add(1, Ordering::Relaxed);
        let keys = keys(number);
        let event = Event::new(EventName::UsageAdjusted, Timestamp::UNIX_EPOCH);
        let time = |seconds| Timestamp::from_second(seconds).unwrap();
        let id = |name: u8| -> quotum::HoldId { format!("{:024x}{name:08x}", number).parse().unwrap() };
        let subject: Arc<str> = format!("ana-{number}").into();
        // Each counter once, as an engine asks.
        let charges = |parts: &[(usize, u64, u64)]| -> Vec<Charge> {
            let mut charges: Vec<Charge> = Vec::new();
            for (counter, amount, limit) in parts {
                let key = keys[*counter].clone();
                if !charges.iter().any(|charge| charge.key == key) {
                    charges.push(Charge { key, amount: *amount, limit: Limit::Units(*limit) });
                }
            }
            charges
        };
        for (work, blocking) in works {
            let wait = if blocking { Wait::Block } else { Wait::Yield };
            let now = now_s.load(Ordering::Relaxed);
            let call = Call::new(time(now), wait);
            let once = |key: Option<u8>, arguments: Fingerprint| {
                let (subject, key) = (Arc::clone(&subject), key?.to_string().into());
                Some(Once { subject, key, arguments, kept_until: time(now + 100) })
            };
            let found = all(stores, |store| match &work {
                Work::Pass { .. } => String::new(),
                Work::Charge { parts, key } => {
                    let once = once(*key, fingerprint(parts));
                    format!("{:?}", block_on(store.charge(call, &charges(parts), once.as_ref())).unwrap())
                }
                Work::Hold { id: name, parts, seconds, key } => {
                    let (expires_at, kept_until) = (time(now + seconds), time(now + seconds + 60));
                    let once = once(*key, fingerprint(parts));
                    let hold = Hold { id: id(*name), once, charges: charges(parts), expires_at, kept_until };
                    format!("{:?}", block_on(store.hold(call, &hold)).unwrap())
                }
                Work::Lease { id: name, parts, least, seconds, settle } => {
                    let (expires_at, kept_until) = (time(now + seconds), time(now + seconds + 60));
                    let jobs = |used: u64| vec![(Arc::from("jobs"), used)];
                    // Never itself: a block is settled before the next is made under another name.
                    let settle = settle.filter(|(other, _)| other != name);
                    let settle = settle.map(|(other, used)| Settle { id: id(other), used: jobs(used) });
                    let charges = charges(parts);
                    let lease = Lease { id: id(*name), settle, charges, least: *least, expires_at, kept_until };
                    let leased = block_on(store.lease(call, &lease)).unwrap();
                    format!("{:?}", Leased { settled: leased.settled.map(in_order), ..leased })
                }
                Work::Settle { id: name, used } => {
                    let metric = |jobs: &bool| Arc::from(if *jobs { "jobs" } else { "tokens" });
                    let used = used.iter().map(|(jobs, units)| (metric(jobs), *units)).collect();
                    let settled = block_on(store.settle(call, &Settle { id: id(*name), used })).unwrap();
                    format!("{:?}", in_order(settled))
                }
                Work::Adjust { counter, by, amount, key } => {
                    let by = match by {
                        0 => Adjust::Refund(*amount),
                        1 => Adjust::Grant(*amount),
                        2 => Adjust::Record(*amount, Limit::Units(20)),
                        _ => Adjust::Reset,
                    };
                    let once = once(*key, fingerprint(&(counter, by)));
                    let adjustments = [Adjustment { key: keys[*counter].clone(), by }];
                    format!("{:?}", block_on(store.adjust(call, &adjustments, once.as_ref(), &event)).unwrap())
                }
            });
            agree(stores, &found, &(&work, now))?;
            if let Work::Pass { seconds } = work {
                now_s.fetch_add(seconds, Ordering::Relaxed);
            }
            let balances = all(stores, |store| block_on(store.balances(call, &keys)).unwrap());
            agree(stores, &balances, &("after", &work, now))?;
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
