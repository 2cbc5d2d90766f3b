//! Random work on a store, on another store and on a model of a few lines: all three must agree on
//! every answer and on every counter.

#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pollster::block_on;
use proptest::prelude::*;
use quotum::store::{
    Adjust, Adjustment, Call, Charge, CounterKey, Durability, MemoryStore, SqliteOptions, Store, Wait,
};
use quotum::{Event, EventName, Limit, Period, Timestamp, UNITS_MAX};

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
    let key = |subject: &str, metric: &str, period, start_s| CounterKey {
        subject: format!("{subject}-{case}").into(),
        metric: metric.into(),
        period,
        start_s,
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
fn memory_sqlite_and_a_naive_model_agree_on_random_work() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = SqliteOptions::at(folder.path().join("quota.db")).durability(Durability::Normal).open().unwrap();
    let stores: [Arc<dyn Store>; 2] = [Arc::new(MemoryStore::new()), Arc::new(sqlite)];
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
                    let found = stores.each_ref().map(|store| block_on(store.charge(call, &charges, None)).unwrap());
                    prop_assert_eq!(found[0].granted(), expected, "memory: {:?}", parts);
                    prop_assert_eq!(&found[1], &found[0], "SQLite: {:?}", parts);
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
                    let found =
                        stores.each_ref().map(|store| block_on(store.adjust(call, &refunds, None, &event)).unwrap());
                    prop_assert_eq!(&found[1], &found[0], "{:?}", parts);
                }
            }
            let expected: Vec<u64> = (0..COUNTERS).map(|counter| model.get(&counter).copied().unwrap_or(0)).collect();
            for store in &stores {
                let balances = block_on(store.balances(call, &keys)).unwrap();
                let used: Vec<u64> = balances.iter().map(|balance| balance.used).collect();
                prop_assert_eq!(&used, &expected, "{:?} after {:?}", store, step);
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
