//! Any calls on a table: a key alone is answered as a naive log says, one among many never gets more.

#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use quotum::Rate;
use quotum::rate::{Algorithm, RateTable};

#[path = "../../core/tests/rates/log.rs"]
mod log;

use log::Log;

#[derive(Debug, Arbitrary)]
struct Input {
    algorithm: u8,
    limits: Vec<(u16, u16, u16)>,
    crowd: bool,
    asks: Vec<Ask>,
}

#[derive(Debug, Arbitrary)]
struct Ask {
    /// Of both signs, and of any size: shifted to the left by up to 32 bits.
    step: (i16, u8),
    key: u8,
    cost: u8,
    peek: bool,
}

fuzz_target!(|input: Input| {
    let algorithm = Algorithm::ALL[usize::from(input.algorithm) % Algorithm::ALL.len()];
    let limit = |(units, window_s, burst): &(u16, u16, u16)| {
        let units = u64::from(*units).max(1);
        let burst = if algorithm == Algorithm::Gcra { u64::from(*burst).max(1) } else { units };
        let window_s = (*window_s).max(2);
        format!("{units}/{window_s} seconds burst {burst}").parse().unwrap()
    };
    let Ok(rate) = Rate::new(algorithm, input.limits.iter().map(limit).collect()) else { return };
    let keys: usize = if input.crowd { 16 } else { 1 };
    let table = RateTable::with_capacity(9);
    let mut logs: Vec<Log> = (0..keys).map(|_| Log::default()).collect();
    let mut now_ns = 0_u64;
    for ask in input.asks.iter().take(200) {
        let step = i64::from(ask.step.0) << (ask.step.1 % 33);
        // Among many, times stay in order: a late thread may evict what it has not reached yet.
        now_ns = now_ns.saturating_add_signed(if input.crowd { step.saturating_abs() } else { step });
        let (now, cost) = (Duration::from_nanos(now_ns), u64::from(ask.cost));
        if now.as_secs() > 30 * 365 * 86_400 {
            return;
        }
        let number = usize::from(ask.key) % keys;
        let (key, log) = (number.to_string(), &mut logs[number]);
        let admits = cost == 0 || log.admits(&rate, cost, now);
        let decision = match ask.peek {
            true => table.peek("api", key.as_str().into(), &rate, 1, cost, now),
            false => table.decide("api", key.as_str().into(), &rate, 1, cost, now),
        };
        assert!(decision.allowed == admits || (input.crowd && admits), "{ask:?} {decision:?}");
        if decision.allowed && !ask.peek && cost > 0 {
            log.push(&rate, cost, now);
        }
    }
    for limit in rate.limits.iter().filter(|_| input.crowd) {
        let window = Duration::from_secs(limit.window_s.into());
        assert!(logs.iter().all(|log| log.most_within(window) <= limit.burst + limit.units));
    }
});
