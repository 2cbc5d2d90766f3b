//! Random calls, each answered as the naive log says.

use std::time::Duration;

use proptest::prelude::*;
use quotum::rate::{Algorithm, RateTable};
use quotum::{Rate, RateLimit};

use super::log::Log;

/// One call: how far the clock moves, which key asks, by which of two editions of its rate, how much.
#[derive(Debug, Clone)]
struct Ask {
    step_ns: i64,
    key: usize,
    edition: usize,
    cost: u64,
}

const WINDOWS_S: [u32; 4] = [1, 7, 60, 86_400];

/// Two editions of a rate: the same windows, other units.
fn editions() -> impl Strategy<Value = (Rate, Rate)> {
    let algorithms = proptest::sample::select(&Algorithm::ALL[..]);
    let windows = proptest::sample::subsequence(&WINDOWS_S[..], 1..=4);
    let units = || proptest::collection::vec((1..30_u64, 1..30_u64), 4);
    (algorithms, windows, units(), units()).prop_map(|(algorithm, windows, first, second)| {
        let rate = |units: Vec<(u64, u64)>| {
            let limit = |(window_s, (units, burst)): (&u32, (u64, u64))| -> RateLimit {
                let burst = if algorithm == Algorithm::Gcra { burst } else { units };
                format!("{units}/{window_s} seconds burst {burst}").replace("/1 seconds", "/second").parse().unwrap()
            };
            Rate::new(algorithm, windows.iter().zip(units).map(limit).collect()).unwrap()
        };
        (rate(first), rate(second))
    })
}

/// Steps of all sizes; now and then one back, as of a thread that read the clock and was late.
fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let step_ns = prop_oneof![
        4 => Just(0_i64),
        2 => -1_500_000_000..0_i64,
        2 => 0..2_000_000_000_i64,
        2 => 0..200_000_000_000_i64,
        1 => 0..200_000_000_000_000_i64,
    ];
    let ask = (step_ns, 0..16_usize, 0..10_usize, 1..8_u64);
    let ask = ask.prop_map(|(step_ns, key, edition, cost)| Ask { step_ns, key, edition: edition / 9, cost });
    proptest::collection::vec(ask, 1..120)
}

struct Time(u64);

impl Time {
    fn step(&mut self, by_ns: i64) -> Duration {
        self.0 = self.0.saturating_add_signed(by_ns);
        Duration::from_nanos(self.0)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_key_with_a_cell_is_answered_as_the_log_says((first, second) in editions(), asks in asks()) {
        let (table, mut log, mut time) = (RateTable::with_capacity(9), Log::default(), Time(0));
        for Ask { step_ns, edition, cost, .. } in asks {
            let now = time.step(step_ns);
            let rate = [&first, &second][edition];
            let peek = |cost, now| table.peek("api", "ana".into(), rate, 1, cost, now);

            let before = peek(cost, now);
            prop_assert_eq!(before.allowed, log.admits(rate, cost, now));
            let remaining = before.windows().iter().map(|state| state.remaining).min().unwrap();
            prop_assert!(remaining == 0 || log.admits(rate, remaining, now));
            prop_assert!(!log.admits(rate, remaining + 1, now));

            let decision = table.decide("api", "ana".into(), rate, 1, cost, now);
            prop_assert_eq!(decision.allowed, before.allowed);
            if decision.allowed {
                log.push(rate, cost, now);
            } else {
                prop_assert_eq!(decision, before, "a denial changes nothing");
                let never = rate.limits.iter().any(|limit| cost > limit.burst);
                prop_assert_eq!(decision.never_fits, never);
                prop_assert_eq!(decision.retry_after.is_none(), never);
            }
            if let Some(wait) = decision.retry_after {
                prop_assert!(log.admits(rate, cost, now + wait));
                prop_assert!(!log.admits(rate, cost, now + wait - Duration::from_nanos(1)));
            }
            for state in table.peek("api", "ana".into(), rate, 1, 0, now).windows() {
                let replenished = peek(0, now + state.reset_after);
                let same = replenished.windows().iter().find(|other| other.limit == state.limit).unwrap();
                prop_assert_eq!((same.remaining, same.reset_after), (same.limit.burst, Duration::ZERO));
            }
        }
        prop_assert_eq!(table.evictions(), 0);
    }

    #[test]
    fn a_key_in_a_crowded_set_never_gets_more_than_the_log_says((rate, _) in editions(), asks in asks()) {
        let table = RateTable::with_capacity(9);
        let mut logs: Vec<Log> = (0..16).map(|_| Log::default()).collect();
        let mut time = Time(0);
        for Ask { step_ns, key, cost, .. } in asks {
            let now = time.step(step_ns.max(0));
            if table.decide("api", format!("user-{key}").as_str().into(), &rate, 1, cost, now).allowed {
                prop_assert!(logs[key].admits(&rate, cost, now));
                logs[key].push(&rate, cost, now);
            }
        }
        for limit in &rate.limits {
            let window = Duration::from_secs(limit.window_s.into());
            for log in &logs {
                prop_assert!(log.most_within(window) <= limit.burst + limit.units);
            }
        }
    }

    #[test]
    fn a_multiplied_rate_is_the_rate_with_multiplied_limits((rate, _) in editions(), asks in asks()) {
        let table = RateTable::with_capacity(9);
        let limits = rate.limits.iter().map(|limit| limit.times(3)).collect();
        let larger = Rate::new(rate.algorithm, limits).unwrap();
        let mut time = Time(0);
        for Ask { step_ns, cost, .. } in asks {
            let now = time.step(step_ns);
            let multiplied = table.decide("a", "ana".into(), &rate, 3, cost, now);
            prop_assert_eq!(multiplied, table.decide("b", "ana".into(), &larger, 1, cost, now));
        }
    }
}
