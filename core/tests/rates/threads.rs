//! Many threads on one table.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quotum::Rate;
use quotum::rate::{Algorithm, RateTable};

const THREADS: u64 = 8;

/// What all threads together are granted of a rate that does not come back in between.
fn granted(rate: &Rate, table: &RateTable, asks: u64, ask: impl Fn(u64, u64) -> bool + Sync) -> u64 {
    let granted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (granted, ask) = (&granted, &ask);
            scope.spawn(move || {
                let mine = (0..asks).filter(|n| ask(thread, *n)).count();
                granted.fetch_add(u64::try_from(mine).unwrap(), Ordering::Relaxed);
            });
        }
    });
    let left = table.peek("api", "ana".into(), rate, 1, 1, Duration::ZERO);
    assert!(!left.allowed);
    granted.into_inner()
}

#[test]
fn threads_at_the_edge_get_exactly_the_limit_in_every_algorithm() {
    for algorithm in Algorithm::ALL {
        let limits = vec!["5000/day".parse().unwrap(), "9000/hour".parse().unwrap()];
        let rate = Rate::new(algorithm, limits).unwrap();
        let table = RateTable::with_capacity(100);
        let ask = |_, _| table.decide("api", "ana".into(), &rate, 1, 1, Duration::ZERO).allowed;
        assert_eq!(granted(&rate, &table, 1_000, ask), 5_000, "{algorithm}");
    }
}

#[test]
fn threads_whose_other_keys_fill_the_table_get_no_more() {
    let rate: Rate = "1000/day".parse().unwrap();
    let table = RateTable::with_capacity(9);
    let ask = |thread, n: u64| {
        let other = format!("{thread}-{n}");
        let _ = table.decide("api", other.as_str().into(), &rate, 1, 1, Duration::ZERO);
        table.decide("api", "ana".into(), &rate, 1, 1, Duration::ZERO).allowed
    };
    assert!(granted(&rate, &table, 1_000, ask) <= 1_000);
    assert!(table.evictions() > 0);
}
