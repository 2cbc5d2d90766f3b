//! What other limiters get wrong, each as a test that fails if Quotum does.

use std::net::IpAddr;
use std::time::Duration;

use quotum::Rate;
use quotum::rate::{Algorithm, RateDecision, RateTable};

const DAY_S: u64 = 86_400;

fn rate(algorithm: Algorithm, limits: &[&str]) -> Rate {
    Rate::new(algorithm, limits.iter().map(|limit| limit.parse().unwrap()).collect()).unwrap()
}

fn ask(table: &RateTable, rate: &Rate, cost: u64, second: u64) -> RateDecision {
    table.decide("api", "ana".into(), rate, 1, cost, Duration::from_secs(second))
}

/// How many of so many requests for one unit pass at once.
fn passed(table: &RateTable, rate: &Rate, asks: usize, second: u64) -> usize {
    (0..asks).filter(|_| ask(table, rate, 1, second).allowed).count()
}

/// throttlecrab sets the arrival time of an idle key to `now - tolerance`: a burst of 10 lets 17 pass.
#[test]
fn a_key_that_was_idle_gets_its_burst_and_no_more() {
    let (table, rate) = (RateTable::with_capacity(9), rate(Algorithm::Gcra, &["60/minute burst 10"]));
    for second in [0, 5, 100, 100_000] {
        let free = if second == 5 { 5 } else { 10 };
        assert_eq!(passed(&table, &rate, 30, second), free, "{second} s");
    }
}

/// limitador keeps a window's expiry and its count apart, and loses counts when the window rolls over.
#[test]
fn threads_that_meet_at_the_end_of_a_window_lose_no_count() {
    let rate = rate(Algorithm::FixedWindow, &["500/second"]);
    for start_s in 0..20 {
        let table = RateTable::with_capacity(9);
        let (ended, begun) = (Duration::from_millis(start_s * 1_000 + 999), Duration::from_secs(start_s + 1));
        let grants: usize = std::thread::scope(|scope| {
            let asking = |times: [Duration; 2]| {
                let (table, rate) = (&table, &rate);
                let ask = move |n: usize| table.decide("api", "ana".into(), rate, 1, 1, times[n / 500]).allowed;
                scope.spawn(move || (0..1_000).filter(|n| ask(*n)).count())
            };
            let threads = [asking([ended, begun]), asking([begun, begun]), asking([ended, ended])];
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!((500..=1_000).contains(&grants), "{grants} in two windows of 500");
        assert!(!table.peek("api", "ana".into(), &rate, 1, 1, begun).allowed);
    }
}

/// Who knows where keys are kept can choose some that share a place, and crowd a victim out of it.
#[test]
fn no_two_tables_keep_a_key_at_the_same_place() {
    let (one, other) = (RateTable::with_capacity(1_000), RateTable::with_capacity(1_000));
    for number in 0..1_000 {
        let key = format!("key-{number}");
        assert_eq!(one.place("api", key.as_str().into()), one.place("api", key.as_str().into()));
        assert_ne!(one.place("api", key.as_str().into()), other.place("api", key.as_str().into()), "{key}");
    }
}

/// rate-limiter-flexible arms a timer for each window; a long one overflows it, and all pass.
#[test]
fn the_longest_window_holds_to_its_end() {
    for algorithm in Algorithm::ALL {
        let (table, rate) = (RateTable::with_capacity(9), rate(algorithm, &["2/day"]));
        assert_eq!(passed(&table, &rate, 20, 0), 2, "{algorithm}");
        assert_eq!(passed(&table, &rate, 20, DAY_S / 2 - 1), 0, "{algorithm}");
        let later = passed(&table, &rate, 20, DAY_S - 1);
        assert_eq!(later, usize::from(algorithm == Algorithm::Gcra), "{algorithm}");
    }
}

/// @fastify/rate-limit forgets a blocked key once 5,000 others came by.
#[test]
fn other_keys_in_any_number_do_not_unblock_a_blocked_one() {
    for algorithm in Algorithm::ALL {
        let (table, rate) = (RateTable::with_capacity(1_000), rate(algorithm, &["5/minute", "20/hour"]));
        assert_eq!(passed(&table, &rate, 10, 0), 5);
        for number in 0..200_000_u64 {
            let now = Duration::from_micros(number * 100);
            let _ = table.decide("api", number.to_string().as_str().into(), &rate, 1, 1, now);
            if number % 1_000 == 0 && algorithm != Algorithm::Gcra {
                assert!(!ask(&table, &rate, 1, now.as_secs()).allowed, "{algorithm} after {number} keys");
            }
        }
        let in_twenty_seconds = passed(&table, &rate, 10, 20);
        assert!(in_twenty_seconds <= usize::from(algorithm == Algorithm::Gcra), "{algorithm}");
        assert!(table.evictions() > 0);
        assert_eq!(table.capacity(), 1_008);
    }
}

/// rate-limiter-flexible takes from every window of a union, also when one of them denies.
#[test]
fn a_request_that_one_window_denies_takes_from_none() {
    for algorithm in Algorithm::ALL {
        let (table, rate) = (RateTable::with_capacity(9), rate(algorithm, &["2/minute", "10/hour"]));
        assert_eq!(passed(&table, &rate, 100, 0), 2);
        let denied = ask(&table, &rate, 1, 0);
        assert_eq!(denied.windows()[1].remaining, 8, "{algorithm}");
        assert_eq!(denied.denied_by().unwrap().limit, rate.limits[0]);
    }
}

/// limits leaves its counter above the limit when a cost of 5 is denied.
#[test]
fn a_denied_cost_leaves_what_was_left() {
    for algorithm in Algorithm::ALL {
        let (table, rate) = (RateTable::with_capacity(9), rate(algorithm, &["7/minute"]));
        assert!(ask(&table, &rate, 5, 0).allowed);
        assert!(!ask(&table, &rate, 5, 0).allowed);
        assert_eq!(passed(&table, &rate, 5, 0), 2, "{algorithm}");
    }
}

/// A question that takes nothing must not cost anybody a place.
#[test]
fn a_cost_of_zero_and_a_peek_evict_nothing() {
    let (table, rate) = (RateTable::with_capacity(9), rate(Algorithm::Gcra, &["5/minute"]));
    let decide =
        |number: u64, cost| table.decide("api", number.to_string().as_str().into(), &rate, 1, cost, Duration::ZERO);
    (0..10).for_each(|number| assert!(decide(number, 1).allowed));
    let evictions = table.evictions();
    for number in 1_000..2_000 {
        assert!(decide(number, 0).allowed);
        let _ = table.peek("api", number.to_string().as_str().into(), &rate, 1, 1, Duration::ZERO);
    }
    assert!(evictions > 0);
    assert_eq!(table.evictions(), evictions);
}

/// Several peers accept a cost above the limit, or tell the caller to wait for what never comes.
#[test]
fn a_cost_above_the_limit_never_fits_and_takes_nothing() {
    for algorithm in Algorithm::ALL {
        let (table, rate) = (RateTable::with_capacity(9), rate(algorithm, &["7/minute", "50/hour"]));
        for cost in [8, 50, 51, u64::MAX] {
            let denied = ask(&table, &rate, cost, 0);
            assert_eq!((denied.allowed, denied.never_fits, denied.retry_after), (false, true, None), "{algorithm}");
        }
        assert_eq!(passed(&table, &rate, 20, 0), 7);
    }
}

/// limitador underflows when a limit is lowered below what was used.
#[test]
fn a_limit_lowered_below_what_was_used_leaves_nothing_and_holds() {
    for algorithm in Algorithm::ALL {
        let table = RateTable::with_capacity(9);
        assert_eq!(passed(&table, &rate(algorithm, &["100/minute"]), 200, 0), 100);
        let lower = rate(algorithm, &["10/minute"]);
        let denied = ask(&table, &lower, 1, 0);
        assert_eq!((denied.allowed, denied.windows()[0].remaining), (false, 0), "{algorithm}");
        assert!(denied.retry_after.unwrap() <= Duration::from_secs(120));
        assert_eq!(passed(&table, &lower, 50, 240), 10, "{algorithm}: and then it is a limit like any other");
    }
}

/// A raised limit or another algorithm does not start from nothing.
#[test]
fn another_plan_is_no_fresh_allowance() {
    for (before, after) in [(Algorithm::Gcra, Algorithm::Gcra), (Algorithm::FixedWindow, Algorithm::SlidingWindow)] {
        let table = RateTable::with_capacity(9);
        assert_eq!(passed(&table, &rate(before, &["10/minute"]), 20, 0), 10);
        assert!(passed(&table, &rate(after, &["20/minute"]), 50, 0) <= 10, "{before} to {after}");
    }
    let table = RateTable::with_capacity(9);
    assert_eq!(passed(&table, &rate(Algorithm::SlidingWindow, &["10/minute"]), 20, 30), 10);
    assert_eq!(passed(&table, &rate(Algorithm::Gcra, &["10/minute"]), 20, 30), 0);
}

/// Mapped addresses and rotation within a network get around limiters that key by the address's text.
#[test]
fn a_caller_does_not_get_around_a_limit_by_writing_its_address_otherwise() {
    let (table, rate) = (RateTable::with_capacity(9), rate(Algorithm::Gcra, &["1/minute"]));
    let ask =
        |text: &str| table.decide("login", text.parse::<IpAddr>().unwrap().into(), &rate, 1, 1, Duration::ZERO).allowed;
    assert!(ask("203.0.113.7"));
    assert!(!ask("::ffff:203.0.113.7"));
    assert!(ask("2001:db8::1"));
    assert!(!ask("2001:db8::2"));
}

#[test]
fn scopes_keys_and_tables_are_apart() {
    let (table, rate) = (RateTable::with_capacity(1_000), rate(Algorithm::Gcra, &["1/minute"]));
    let ask = |scope, key: &str| table.decide(scope, key.into(), &rate, 1, 1, Duration::ZERO).allowed;
    assert!(ask("api", "ana") && ask("login", "ana") && ask("api", "bea") && ask("", "") && ask("apia", "na"));
    assert!(!ask("api", "ana") && !ask("login", "ana"));
}

#[test]
fn what_is_given_back_is_as_if_it_had_not_been_taken() {
    for algorithm in Algorithm::ALL {
        let rate = rate(algorithm, &["10/minute", "40/hour"]);
        let (table, other) = (RateTable::with_capacity(100), RateTable::with_capacity(100));
        for second in [0, 7, 20, 61, 75] {
            assert_eq!(ask(&table, &rate, 2, second), ask(&other, &rate, 2, second));
            assert!(ask(&table, &rate, 1, second).allowed, "{algorithm} at {second} s");
            let back = table.refund("api", "ana".into(), &rate, 1, 1, Duration::from_secs(second));
            assert_eq!(back.windows(), ask(&other, &rate, 0, second).windows(), "{algorithm} at {second} s");
            assert_eq!(back.windows(), ask(&table, &rate, 0, second).windows());
        }
    }
}

#[test]
fn no_more_is_given_back_than_the_whole_allowance() {
    for algorithm in Algorithm::ALL {
        let rate = rate(algorithm, &["10/minute"]);
        let table = RateTable::with_capacity(100);
        assert_eq!(passed(&table, &rate, 4, 0), 4);
        for units in [3, u64::MAX, u64::MAX] {
            table.refund("api", "ana".into(), &rate, 1, units, Duration::ZERO);
        }
        assert_eq!(passed(&table, &rate, 30, 0), 10, "{algorithm}");
        // Nor where nothing was taken.
        let idle = RateTable::with_capacity(100);
        idle.refund("api", "ana".into(), &rate, 1, 5, Duration::from_secs(30));
        assert_eq!(passed(&idle, &rate, 30, 30), 10, "{algorithm}");
    }
}

#[test]
fn what_an_earlier_window_has_counted_is_not_given_back_to_this_one() {
    for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow] {
        let rate = rate(algorithm, &["10/minute"]);
        let table = RateTable::with_capacity(100);
        assert_eq!(passed(&table, &rate, 10, 59), 10);
        let left = ask(&table, &rate, 0, 61).windows()[0].remaining;
        let back = table.refund("api", "ana".into(), &rate, 1, 10, Duration::from_secs(61));
        assert_eq!(back.windows()[0].remaining, left, "{algorithm}");
    }
}

#[test]
fn a_key_that_others_have_crowded_out_gets_nothing_back() {
    let rate = rate(Algorithm::FixedWindow, &["10/minute"]);
    let table = RateTable::with_capacity(9);
    assert_eq!(passed(&table, &rate, 10, 0), 10);
    for other in 0..5_000 {
        let key = format!("other-{other}");
        for _ in 0..10 {
            let _asked = table.decide("api", key.as_str().into(), &rate, 1, 1, Duration::ZERO);
        }
        // Whoever is crowded out by then starts from what the others have used.
        let _back = table.refund("api", key.as_str().into(), &rate, 1, 1, Duration::ZERO);
    }
    assert_eq!(passed(&table, &rate, 30, 0), 0);
    table.refund("api", "ana".into(), &rate, 1, 10, Duration::ZERO);
    assert!(passed(&table, &rate, 30, 0) <= 10);
}

#[test]
fn a_cleared_key_has_its_whole_allowance_even_in_a_crowded_set() {
    let (table, rate) = (RateTable::with_capacity(9), rate(Algorithm::Gcra, &["2/minute", "5/hour"]));
    assert_eq!(passed(&table, &rate, 10, 0), 2);
    table.clear("api", "ana".into(), &rate, Duration::ZERO);
    assert_eq!(passed(&table, &rate, 10, 0), 2);
    for number in 0..1_000 {
        let _ = table.decide("api", number.to_string().as_str().into(), &rate, 1, 1, Duration::ZERO);
    }
    table.clear("api", "ana".into(), &rate, Duration::ZERO);
    assert_eq!(passed(&table, &rate, 10, 0), 2);
}

#[test]
fn a_table_tells_how_full_it_is_and_never_grows() {
    let (table, rate) = (RateTable::with_capacity(1_000), rate(Algorithm::Gcra, &["1/minute"]));
    let memory_bytes = table.memory_bytes();
    for number in 0..100 {
        let _ = table.decide("api", number.to_string().as_str().into(), &rate, 1, 1, Duration::ZERO);
    }
    assert_eq!(table.live(Duration::ZERO), 100);
    assert_eq!(table.live(Duration::from_secs(60)), 0);
    assert_eq!((table.evictions(), table.memory_bytes()), (0, memory_bytes));
    assert!(memory_bytes < 1_008 * 15 + 256);
}

#[test]
fn an_answer_is_written_in_milliseconds_rounded_up() {
    let (table, rate) = (RateTable::with_capacity(9), rate(Algorithm::Gcra, &["7/minute burst 1"]));
    let allowed = serde_json::to_value(ask(&table, &rate, 1, 0)).unwrap();
    let window = serde_json::json!({"limit": "7/minute burst 1", "remaining": 0, "reset_after_ms": 8_572});
    let expected =
        serde_json::json!({"allowed": true, "never_fits": false, "retry_after_ms": null, "windows": [window]});
    assert_eq!(allowed, expected);
    assert_eq!(serde_json::to_value(ask(&table, &rate, 1, 0)).unwrap()["retry_after_ms"], 8_572);
}
