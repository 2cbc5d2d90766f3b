//! Shared rates: counted in the store, for all processes that use it.
//!
//! The same algorithm as in memory, GCRA, written as debts: a window owes the time in which what was taken from it
//! comes back. A cost fits where the debt stays within the time in which the whole burst comes back. Debts pass with
//! time, so a store keeps of a key one number for each window, and when they were what they were.

use super::algorithm::Algorithm;
use super::decision::{RateDecision, RateState};
use super::key::RateKey;
use super::meter::{Fit, Meter, interval_ns};
use super::state::{State, Use};
use crate::plan::{InvalidLimit, Rate, RateLimit};
use crate::store::Fingerprint;

/// The longest that the burst of a shared rate may take to come back, in nanoseconds, 104 days: exact in a Lua double.
const FULL_NS_MAX: u64 = (1 << 53) - 1;

/// A rate that is decided in the store, for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedRate {
    /// What is counted: a scope and a key.
    pub name: Fingerprint,
    /// What is taken from each of its windows, from all or from none. Where there are none, what was counted under
    /// the name is forgotten.
    pub windows: Vec<SharedWindow>,
}

/// One window of a shared rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedWindow {
    /// The time in which the cost comes back, in nanoseconds; 0 only looks.
    pub cost_ns: u64,
    /// The time in which the whole burst comes back, in nanoseconds: no debt grows beyond it.
    pub full_ns: u64,
}

/// What a shared rate has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paced {
    /// Whether the cost was taken.
    pub allowed: bool,
    /// What each window then owes, in nanoseconds.
    pub debts_ns: Vec<u64>,
}

/// Decides a shared rate: the arithmetic of [`Store::rate`](crate::store::Store::rate). `debts_ns` is what each window
/// owed so many milliseconds ago; a window that is not listed owed nothing.
///
/// ```
/// use quotum::store::{SharedWindow, pace_all};
///
/// // Two a second, ten at once: one more than there is, and again 100 ms later.
/// let window = SharedWindow { cost_ns: 500_000_000, full_ns: 5_000_000_000 };
/// assert!(!pace_all(&[window], &[4_600_000_000], 0).allowed);
/// assert_eq!(pace_all(&[window], &[4_600_000_000], 100).debts_ns, [5_000_000_000]);
/// ```
#[must_use]
pub fn pace_all(windows: &[SharedWindow], debts_ns: &[u64], elapsed_ms: u64) -> Paced {
    let elapsed_ns = elapsed_ms.saturating_mul(1_000_000);
    let owed = debts_ns.iter().copied().chain(std::iter::repeat(0));
    // Under another limit than before, no more is owed than a window can owe.
    let now = |(window, owed): (&SharedWindow, u64)| owed.saturating_sub(elapsed_ns).min(window.full_ns);
    let before: Vec<u64> = windows.iter().zip(owed).map(now).collect();
    let fits = |(window, owed): (&SharedWindow, &u64)| owed.saturating_add(window.cost_ns) <= window.full_ns;
    match windows.iter().zip(&before).all(fits) {
        true => {
            let debts_ns = windows.iter().zip(before).map(|(window, owed)| owed + window.cost_ns).collect();
            Paced { allowed: true, debts_ns }
        }
        false => Paced { allowed: false, debts_ns: before },
    }
}

impl Algorithm {
    /// Refuses a limit that cannot be shared.
    pub(crate) fn check_shared(self, limit: RateLimit) -> Result<(), InvalidLimit> {
        let refuse = |expected: &str| Err(InvalidLimit { found: limit.to_string(), expected: expected.to_owned() });
        if self != Self::Gcra {
            return refuse("the algorithm gcra, by which shared rates are counted");
        }
        let full_ns = u128::from(limit.burst) * u128::from(interval_ns(limit));
        if full_ns > u128::from(FULL_NS_MAX) {
            return refuse("a burst that comes back within 104 days, where the rate is shared");
        }
        Ok(())
    }
}

impl Rate {
    /// The cost of so many units, or of looking, on this rate, multiplied.
    pub(crate) fn shared_cost(&self, scope: &str, key: RateKey<'_>, multiplier: u32, cost: u64) -> SharedRate {
        let window = |limit: &RateLimit| {
            let limit = limit.times(multiplier);
            let interval_ns = interval_ns(limit);
            SharedWindow {
                cost_ns: cost.saturating_mul(interval_ns).min(FULL_NS_MAX + 1),
                full_ns: limit.burst.saturating_mul(interval_ns).min(FULL_NS_MAX),
            }
        };
        SharedRate { name: key.fingerprint(scope), windows: self.limits.iter().map(window).collect() }
    }

    /// What the store's answer amounts to.
    pub(crate) fn decided(&self, multiplier: u32, cost: u64, paced: &Paced) -> RateDecision {
        let mut decision = RateDecision::new(paced.allowed);
        let mut latest = None;
        for (index, (limit, debt_ns)) in self.limits.iter().zip(&paced.debts_ns).enumerate() {
            let limit = limit.times(multiplier);
            let (meter, state) = (Meter::new(Algorithm::Gcra, limit), State::pack(Use::Gcra { tat_ns: *debt_ns }));
            let reset_after = std::time::Duration::from_nanos(*debt_ns);
            decision.push(RateState { limit, remaining: meter.remaining(state, 0), reset_after });
            let wait_ns = match meter.fit(state, cost, 0) {
                Fit::Now(_) => continue,
                Fit::At(at_ns) => at_ns,
                Fit::Never => u64::MAX,
            };
            if !paced.allowed && latest.is_none_or(|(_, longest)| longest < wait_ns) {
                latest = Some((index, wait_ns));
            }
        }
        if let Some((index, wait_ns)) = latest {
            decision.denied_by = Some(index);
            decision.never_fits = wait_ns == u64::MAX;
            decision.retry_after = (wait_ns < u64::MAX).then(|| std::time::Duration::from_nanos(wait_ns));
        }
        decision
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rate::RateTable;

    /// Whatever is asked, the answers are those of a table in memory.
    #[test]
    fn a_shared_rate_answers_as_one_in_memory_does() {
        let limits = vec!["10/minute burst 4".parse().unwrap(), "30/hour".parse().unwrap()];
        let rate = Rate::new(Algorithm::Gcra, limits).unwrap();
        let table = RateTable::with_capacity(100);
        let (mut debts_ns, mut at_ms) = (Vec::new(), 0);
        for step in 0_u64..2_000 {
            let now_ms = step * 1_700 + step * step % 5_000;
            let now_ms = now_ms.max(at_ms);
            let cost = 1 + step % 6;
            let local = table.decide("api", "ana".into(), &rate, 2, cost, Duration::from_millis(now_ms));
            let asked = rate.shared_cost("api", "ana".into(), 2, cost);
            let paced = pace_all(&asked.windows, &debts_ns, now_ms - at_ms);
            assert_eq!(rate.decided(2, cost, &paced), local, "step {step}");
            (debts_ns, at_ms) = (paced.debts_ns, now_ms);
        }
    }

    #[test]
    fn a_window_that_has_become_smaller_owes_no_more_than_it_can() {
        let window = SharedWindow { cost_ns: 1, full_ns: 10 };
        assert_eq!(pace_all(&[window], &[1_000], 0), Paced { allowed: false, debts_ns: vec![10] });
        assert_eq!(pace_all(&[], &[1_000], 0), Paced { allowed: true, debts_ns: Vec::new() });
    }

    #[test]
    fn limits_that_cannot_be_shared_are_refused() {
        let check = |algorithm: Algorithm, text: &str| algorithm.check_shared(text.parse().unwrap());
        assert_eq!(check(Algorithm::Gcra, "100/day burst 10000"), Ok(()));
        assert!(check(Algorithm::Gcra, "100/day burst 11000").is_err());
        assert!(check(Algorithm::FixedWindow, "1/minute").is_err());
    }
}
