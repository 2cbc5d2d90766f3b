//! Threads on one set of a rate table, in thousands of orders chosen by a model checker.
//!
//! Run by `RUSTFLAGS="--cfg shuttle" cargo test -p quotum --test rate_schedules`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]
#![cfg(shuttle)]

use std::time::Duration;

use quotum::Rate;
use quotum::rate::{Algorithm, RateTable};
use shuttle::sync::Arc;
use shuttle::thread;

const SCHEDULES: usize = 2_000;

/// In random orders, and in those that a few well-placed switches make (probabilistic concurrency
/// testing, Burckhardt et al. 2010).
fn check(scenario: fn()) {
    shuttle::check_random(scenario, SCHEDULES);
    shuttle::check_pct(scenario, SCHEDULES, 3);
}

/// Each thread's grants of its own three requests, made at its own times.
fn granted(table: &Arc<RateTable>, rate: &Rate, key: fn(usize) -> String, now: fn(usize) -> Duration) -> Vec<usize> {
    let threads: Vec<_> = (0..3)
        .map(|number| {
            let (table, rate) = (Arc::clone(table), rate.clone());
            let ask =
                move |_: &usize| table.decide("api", key(number).as_str().into(), &rate, 1, 1, now(number)).allowed;
            thread::spawn(move || (0..3).filter(ask).count())
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

fn both_windows(algorithm: Algorithm) -> Rate {
    Rate::new(algorithm, vec!["4/minute".parse().unwrap(), "6/hour".parse().unwrap()]).unwrap()
}

#[test]
fn one_key_gets_exactly_its_limit_and_a_denial_takes_nothing_from_the_other_window() {
    check(|| {
        for algorithm in Algorithm::ALL {
            let (table, rate) = (Arc::new(RateTable::with_capacity(9)), both_windows(algorithm));
            let grants = granted(&table, &rate, |_| "ana".to_owned(), |_| Duration::ZERO);
            assert_eq!(grants.iter().sum::<usize>(), 4);
            let stands = table.peek("api", "ana".into(), &rate, 1, 1, Duration::ZERO);
            assert_eq!((stands.windows()[0].remaining, stands.windows()[1].remaining), (0, 2));
        }
    });
}

#[test]
fn a_thread_whose_clock_is_late_gets_nothing_twice() {
    check(|| {
        for algorithm in Algorithm::ALL {
            let (table, rate) = (Arc::new(RateTable::with_capacity(9)), both_windows(algorithm));
            let near_the_end = |number| Duration::from_millis(59_999 + u64::try_from(number).unwrap() % 2);
            let grants: usize = granted(&table, &rate, |_| "ana".to_owned(), near_the_end).iter().sum();
            let windows = if algorithm == Algorithm::FixedWindow { 2 } else { 1 };
            // The last of a burst that began at the later time comes too early for a late thread.
            assert!((3..=4 * windows).contains(&grants), "{algorithm} {grants}");
        }
    });
}

#[test]
fn keys_that_evict_each_other_never_get_more_than_their_limit() {
    check(|| {
        let (table, rate) = (Arc::new(RateTable::with_capacity(9)), both_windows(Algorithm::Gcra));
        for number in 0..8 {
            let _ = table.decide("api", number.to_string().as_str().into(), &rate, 1, 1, Duration::ZERO);
        }
        let key = |number: usize| format!("user-{number}");
        for _ in 0..2 {
            for (number, grants) in granted(&table, &rate, key, |_| Duration::ZERO).into_iter().enumerate() {
                let left = table.peek("api", key(number).as_str().into(), &rate, 1, 1, Duration::ZERO);
                assert!(grants <= 4 && (grants < 4 || !left.allowed));
            }
        }
        assert!(table.evictions() > 0);
    });
}
