//! The shared rates of the memory store.

use std::collections::HashMap;

use super::sweeps::Sweeps;
use crate::store::{Fingerprint, Paced, SharedRate, pace_all};

/// What was counted, by name.
#[derive(Debug, Default)]
pub(super) struct Rates {
    counted: HashMap<Fingerprint, Counted>,
    sweeps: Sweeps,
}

/// What each window owed at a time.
#[derive(Debug)]
struct Counted {
    at_ms: i64,
    debts_ns: Vec<u64>,
}

impl Counted {
    fn is_over(&self, now_ms: i64) -> bool {
        let longest_ns = self.debts_ns.iter().copied().max().unwrap_or(0);
        now_ms.abs_diff(self.at_ms) > longest_ns / 1_000_000 && now_ms > self.at_ms
    }
}

impl Rates {
    pub(super) fn pace(&mut self, rate: &SharedRate, now_ms: i64) -> Paced {
        if rate.windows.is_empty() {
            self.counted.remove(&rate.name);
            return Paced { allowed: true, debts_ns: Vec::new() };
        }
        let known = self.counted.get(&rate.name);
        // A clock that goes back gives nothing back.
        let at_ms = known.map_or(now_ms, |known| known.at_ms.max(now_ms));
        let elapsed_ms = known.map_or(0, |known| at_ms.abs_diff(known.at_ms));
        let paced = pace_all(&rate.windows, known.map_or(&[], |known| &known.debts_ns), elapsed_ms);
        if paced.debts_ns.iter().all(|debt_ns| *debt_ns == 0) {
            self.counted.remove(&rate.name);
            return paced;
        }
        if !paced.allowed {
            return paced;
        }
        if known.is_none() && self.sweeps.are_due(self.counted.len()) {
            self.counted.retain(|_, counted| !counted.is_over(now_ms));
            self.sweeps.swept(self.counted.len());
        }
        self.counted.insert(rate.name, Counted { at_ms, debts_ns: paced.debts_ns.clone() });
        paced
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SharedWindow;

    #[test]
    fn keys_that_never_come_back_go_in_time() {
        let mut rates = Rates::default();
        let windows = vec![SharedWindow { cost_ns: 1_000_000_000, full_ns: 10_000_000_000 }];
        for key in 0..10_000_u32 {
            let rate = SharedRate { name: Fingerprint::of(&[&key.to_be_bytes()]), windows: windows.clone() };
            assert!(rates.pace(&rate, i64::from(key) * 100).allowed);
            assert!(rates.counted.len() < 50, "{}", rates.counted.len());
        }
    }
}
