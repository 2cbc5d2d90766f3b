//! Any sequence of charges and refunds: the memory and the SQLite store agree on every answer.

#![no_main]

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pollster::block_on;
use quotum::store::{
    Adjust, Adjustment, Call, Charge, CounterKey, Durability, MemoryStore, SqliteOptions, SqliteStore, Store, Wait,
};
use quotum::{Event, EventName, Limit, Period, Timestamp, UNITS_MAX};

#[derive(Debug, Arbitrary)]
enum Step {
    Charge(Vec<(u8, u64, Option<u64>)>),
    Refund(Vec<(u8, u64)>),
}

static SQLITE: LazyLock<(tempfile::TempDir, SqliteStore)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteOptions::at(folder.path().join("quota.db")).durability(Durability::Normal).open().unwrap();
    (folder, store)
});

static RUN: AtomicU64 = AtomicU64::new(0);

fuzz_target!(|steps: Vec<Step>| {
    let run = RUN.fetch_add(1, Ordering::Relaxed);
    let key = |counter: u8| CounterKey {
        subject: format!("{run}-{}", counter % 2).into(),
        metric: "m".into(),
        period: Period::ALL[usize::from(counter / 2) % Period::ALL.len()],
        start_s: i64::from(counter / 32) * 60,
    };
    let amount = |units: u64| units % UNITS_MAX + 1;
    let memory = MemoryStore::new();
    let call = Call::new(Timestamp::UNIX_EPOCH, Wait::Block);
    let event = Event::new(EventName::UsageAdjusted, Timestamp::UNIX_EPOCH);
    for step in steps.iter().take(50) {
        match step {
            Step::Charge(parts) => {
                let charges: Vec<Charge> = parts
                    .iter()
                    .take(8)
                    .map(|&(counter, units, limit)| Charge {
                        key: key(counter),
                        amount: amount(units),
                        limit: limit.map_or(Limit::Unlimited, |limit| Limit::Units(limit % (UNITS_MAX + 1))),
                    })
                    .collect();
                let expected = block_on(memory.charge(call, &charges, None)).unwrap();
                assert_eq!(block_on(SQLITE.1.charge(call, &charges, None)).unwrap(), expected);
            }
            Step::Refund(parts) => {
                let refunds: Vec<Adjustment> = parts
                    .iter()
                    .take(8)
                    .map(|&(counter, units)| Adjustment { key: key(counter), by: Adjust::Refund(amount(units)) })
                    .collect();
                let expected = block_on(memory.adjust(call, &refunds, None, &event)).unwrap();
                assert_eq!(block_on(SQLITE.1.adjust(call, &refunds, None, &event)).unwrap(), expected);
            }
        }
    }
});
