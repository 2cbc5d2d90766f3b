//! One limit by one algorithm: whether a cost fits a state, and what is left. Pure arithmetic on
//! times since the clock's origin, which it takes as arguments.
//!
//! Threads read the clock before they get here, so `now` may be a little earlier than what a state was
//! made from. Every algorithm then goes by its state: nothing is admitted twice.

use super::algorithm::Algorithm;
use super::state::{FIXED_UNITS_MAX, NS_PER_S, SLIDING_UNITS_MAX, State, Use};
use crate::plan::RateLimit;

/// The longest that a GCRA burst may take to come back, and the latest `now`: 36 years. Their sum fits
/// a state.
pub(super) const DEBT_NS_MAX: u64 = 1 << 60;

/// Whether a cost can be admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// Now, and the state after it.
    Now(State),
    /// Not before this time, in nanoseconds, and then for certain if nothing else is admitted.
    At(u64),
    /// Never: the cost is above what an unused window holds.
    Never,
}

/// What evicted states have left behind, of no matter which keys and windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Debt {
    /// When the last of them is replenished.
    pub(super) until_ns: u64,
    /// When the last of them was evicted.
    pub(super) since_ns: u64,
}

/// One window's limit, ready to decide by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meter {
    algorithm: Algorithm,
    units: u64,
    window_s: u64,
    /// GCRA only: the time in which one unit comes back, and all of the burst.
    interval_ns: u64,
    full_ns: u64,
}

/// A sliding window's counts as they are at one time.
struct Counts {
    start_s: u64,
    before: u64,
    count: u64,
    /// Units of `before` that still weigh, rounded up.
    weight: u64,
}

pub(super) fn window_ns(limit: RateLimit) -> u64 {
    window_s(limit) * NS_PER_S
}

/// The window's length, within what can be read from a text: fields are anyone's to write.
fn window_s(limit: RateLimit) -> u64 {
    u64::from(limit.window_s.clamp(1, 86_400))
}

/// The time in which one unit comes back, rounded up: a rate may be kept too slow by it, never too fast.
pub(super) fn interval_ns(limit: RateLimit) -> u64 {
    window_ns(limit).div_ceil(limit.units.max(1))
}

impl Meter {
    /// A limit larger than the algorithm can keep counts as the largest that it can.
    #[inline]
    pub(super) fn new(algorithm: Algorithm, limit: RateLimit) -> Self {
        let window_s = window_s(limit);
        let (units, interval_ns) = match algorithm {
            Algorithm::Gcra => {
                let interval_ns = interval_ns(limit);
                // Most bursts come back in time, and need no division to say so.
                let kept = limit.burst.checked_mul(interval_ns).is_some_and(|full_ns| full_ns <= DEBT_NS_MAX);
                (if kept { limit.burst } else { DEBT_NS_MAX / interval_ns }, interval_ns)
            }
            Algorithm::SlidingWindow => (limit.units.min(SLIDING_UNITS_MAX), 0),
            Algorithm::FixedWindow => (limit.units.min(FIXED_UNITS_MAX), 0),
        };
        Self { algorithm, units, window_s, interval_ns, full_ns: units * interval_ns }
    }

    /// A kept state as this meter reads it: another algorithm's is a debt like any other.
    #[inline]
    pub(super) fn read(&self, state: State, now_ns: u64) -> State {
        let own = matches!(
            (self.algorithm, state.unpack()),
            (Algorithm::Gcra, Use::Gcra { .. })
                | (Algorithm::SlidingWindow, Use::Sliding { .. })
                | (Algorithm::FixedWindow, Use::Fixed { .. })
        );
        if own { state } else { self.owing(Debt { until_ns: state.until_ns(), since_ns: now_ns }, now_ns) }
    }

    /// The state of a key that has none: as much used as any state of this meter can have been that was
    /// evicted with the debt, and no more.
    ///
    /// Two bounds hold for such a state. It was replenished no later than the last of the debt; and it
    /// was at most fully used when it was evicted, and has been coming back since.
    pub(super) fn owing(&self, debt: Debt, now_ns: u64) -> State {
        if debt.until_ns <= now_ns {
            return State::ABSENT;
        }
        // Windows end at multiples of their length.
        let end_s = |windows: u64| {
            let last_s = debt.until_ns / NS_PER_S / self.window_s * self.window_s;
            let full_s = (debt.since_ns / NS_PER_S / self.window_s).saturating_add(windows) * self.window_s;
            last_s.min(full_s)
        };
        let used = match self.algorithm {
            Algorithm::Gcra => Use::Gcra { tat_ns: debt.until_ns.min(debt.since_ns.saturating_add(self.full_ns)) },
            Algorithm::SlidingWindow => Use::Sliding { end_s: end_s(2), before: 0, count: self.units },
            Algorithm::FixedWindow => Use::Fixed { end_s: end_s(1), count: self.units },
        };
        State::pack(used)
    }

    /// Whether `cost` more units fit. A cost of 0 fits always and changes nothing.
    #[inline]
    pub(super) fn fit(&self, state: State, cost: u64, now_ns: u64) -> Fit {
        if cost == 0 {
            return Fit::Now(state);
        }
        if cost > self.units {
            return Fit::Never;
        }
        match self.algorithm {
            Algorithm::Gcra => self.fit_gcra(state, cost, now_ns),
            Algorithm::SlidingWindow => self.fit_sliding(state, cost, now_ns),
            Algorithm::FixedWindow => self.fit_fixed(state, cost, now_ns),
        }
    }

    /// The most units that would be admitted now.
    #[inline]
    pub(super) fn remaining(&self, state: State, now_ns: u64) -> u64 {
        match self.algorithm {
            Algorithm::Gcra => {
                let free_ns = (now_ns + self.full_ns).saturating_sub(self.tat_ns(state, now_ns));
                free_ns / self.interval_ns
            }
            Algorithm::SlidingWindow => {
                let counts = self.counts(state, now_ns);
                self.units.saturating_sub(counts.weight + counts.count)
            }
            Algorithm::FixedWindow => self.units.saturating_sub(self.count(state, now_ns).1),
        }
    }

    /// The state after `units` that it had admitted are given back: those of the present window only, because what an
    /// earlier one has admitted weighs less by now.
    pub(super) fn refund(&self, state: State, units: u64, now_ns: u64) -> State {
        State::pack(match self.algorithm {
            Algorithm::Gcra => {
                let back_ns = units.saturating_mul(self.interval_ns);
                Use::Gcra { tat_ns: self.tat_ns(state, now_ns).saturating_sub(back_ns).max(now_ns) }
            }
            Algorithm::SlidingWindow => {
                let Counts { start_s, before, count, .. } = self.counts(state, now_ns);
                Use::Sliding { end_s: start_s + 2 * self.window_s, before, count: count.saturating_sub(units) }
            }
            Algorithm::FixedWindow => {
                let (end_s, count) = self.count(state, now_ns);
                Use::Fixed { end_s, count: count.saturating_sub(units) }
            }
        })
    }

    /// An idle key gains nothing: time that passed unused does not add to the burst.
    fn tat_ns(&self, state: State, now_ns: u64) -> u64 {
        match state.unpack() {
            Use::Gcra { tat_ns } => tat_ns.max(now_ns),
            _ => now_ns,
        }
    }

    fn fit_gcra(&self, state: State, cost: u64, now_ns: u64) -> Fit {
        let tat_ns = self.tat_ns(state, now_ns).saturating_add(cost * self.interval_ns);
        let earliest_ns = tat_ns.saturating_sub(self.full_ns);
        if earliest_ns <= now_ns { Fit::Now(State::pack(Use::Gcra { tat_ns })) } else { Fit::At(earliest_ns) }
    }

    /// The fixed window at `now`: when it ends, and its count.
    fn count(&self, state: State, now_ns: u64) -> (u64, u64) {
        match state.unpack() {
            Use::Fixed { end_s, count } if now_ns < end_s * NS_PER_S => (end_s, count),
            _ => ((now_ns / NS_PER_S / self.window_s + 1) * self.window_s, 0),
        }
    }

    fn fit_fixed(&self, state: State, cost: u64, now_ns: u64) -> Fit {
        let (end_s, count) = self.count(state, now_ns);
        if count + cost <= self.units {
            Fit::Now(State::pack(Use::Fixed { end_s, count: count + cost }))
        } else {
            Fit::At(end_s * NS_PER_S)
        }
    }

    fn counts(&self, state: State, now_ns: u64) -> Counts {
        let window_ns = self.window_s * NS_PER_S;
        let (start_s, before, count) = match state.unpack() {
            Use::Sliding { end_s, before, count } if now_ns < end_s * NS_PER_S => {
                let next_s = end_s.saturating_sub(self.window_s);
                if now_ns < next_s * NS_PER_S {
                    (next_s.saturating_sub(self.window_s), before, count)
                } else {
                    (next_s, count, 0)
                }
            }
            _ => (now_ns / NS_PER_S / self.window_s * self.window_s, 0, 0),
        };
        let elapsed_ns = now_ns.saturating_sub(start_s * NS_PER_S);
        let weight = (before * window_ns.saturating_sub(elapsed_ns)).div_ceil(window_ns);
        Counts { start_s, before, count, weight }
    }

    fn fit_sliding(&self, state: State, cost: u64, now_ns: u64) -> Fit {
        let Counts { start_s, before, count, weight } = self.counts(state, now_ns);
        if weight + count + cost <= self.units {
            let end_s = start_s + 2 * self.window_s;
            return Fit::Now(State::pack(Use::Sliding { end_s, before, count: count + cost }));
        }
        // The count before shrinks evenly, so the wait ends when it weighs no more than there is room.
        let window_ns = self.window_s * NS_PER_S;
        let shrunk_ns = |counted: u64, room: u64| match (room * window_ns).checked_div(counted) {
            Some(left_ns) => window_ns.saturating_sub(left_ns),
            None => 0,
        };
        let start_ns = start_s * NS_PER_S;
        Fit::At(match self.units.checked_sub(count + cost) {
            Some(room) => start_ns + shrunk_ns(before, room),
            // Not in this window: in the next one its own count is the one before.
            None => start_ns + window_ns + shrunk_ns(count, self.units - cost),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = NS_PER_S;

    fn meter(algorithm: Algorithm, limit: &str) -> Meter {
        Meter::new(algorithm, limit.parse().unwrap())
    }

    #[track_caller]
    fn take(meter: &Meter, state: State, cost: u64, now_ns: u64) -> State {
        match meter.fit(state, cost, now_ns) {
            Fit::Now(next) => next,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn gcra_gives_units_back_one_by_one() {
        let minute = meter(Algorithm::Gcra, "60/minute burst 10");
        let used = take(&minute, State::ABSENT, 10, 5 * S);
        assert_eq!(used.unpack(), Use::Gcra { tat_ns: 15 * S });
        assert_eq!(minute.fit(used, 1, 5 * S), Fit::At(6 * S));
        assert_eq!(minute.fit(used, 4, 6 * S), Fit::At(9 * S));
        assert_eq!((minute.remaining(used, 6 * S - 1), minute.remaining(used, 6 * S)), (0, 1));
        assert_eq!(minute.remaining(used, 1_000_000 * S), 10);
    }

    #[test]
    fn gcra_rounds_the_time_of_a_unit_up_and_still_admits_the_whole_burst() {
        let minute = meter(Algorithm::Gcra, "7/minute");
        assert_eq!(minute.interval_ns, 8_571_428_572);
        let used = take(&minute, State::ABSENT, 7, 0);
        assert_eq!((minute.remaining(used, 0), minute.fit(used, 7, 0)), (0, Fit::At(7 * 8_571_428_572)));
    }

    #[test]
    fn a_sliding_window_counts_the_one_before_as_far_as_it_overlaps() {
        let minute = meter(Algorithm::SlidingWindow, "10/minute");
        let used = take(&minute, State::ABSENT, 10, 30 * S);
        assert_eq!(minute.fit(used, 1, 30 * S), Fit::At(66 * S));
        assert_eq!((minute.remaining(used, 59 * S), minute.remaining(used, 90 * S)), (0, 5));
        let used = take(&minute, used, 5, 90 * S);
        assert_eq!(used.unpack(), Use::Sliding { end_s: 180, before: 10, count: 5 });
        assert_eq!(minute.fit(used, 6, 90 * S), Fit::At(132 * S));
        assert_eq!(minute.remaining(used, 180 * S), 10);
    }

    #[test]
    fn a_fixed_window_comes_back_at_once_at_its_end() {
        let minute = meter(Algorithm::FixedWindow, "10/minute");
        let used = take(&minute, State::ABSENT, 10, 59 * S);
        assert_eq!(minute.fit(used, 1, 59 * S), Fit::At(60 * S));
        assert_eq!((minute.remaining(used, 60 * S - 1), minute.remaining(used, 60 * S)), (0, 10));
    }

    #[test]
    fn a_late_thread_counts_in_the_window_that_its_state_has_reached() {
        for algorithm in [Algorithm::SlidingWindow, Algorithm::FixedWindow] {
            let minute = meter(algorithm, "10/minute");
            let used = take(&minute, State::ABSENT, 9, 60 * S);
            let used = take(&minute, used, 1, 60 * S - 1);
            assert_eq!(minute.remaining(used, 60 * S), 0, "{algorithm}");
        }
    }

    #[test]
    fn a_cost_of_zero_fits_always_and_changes_nothing() {
        for algorithm in Algorithm::ALL {
            let minute = meter(algorithm, "1/minute");
            let used = take(&minute, State::ABSENT, 1, 0);
            assert_eq!(minute.fit(used, 0, 0), Fit::Now(used), "{algorithm}");
        }
    }

    #[test]
    fn the_largest_limits_costs_and_times_do_not_overflow() {
        let (window_s, most) = (u32::MAX, u64::MAX);
        for algorithm in Algorithm::ALL {
            for limit in [
                RateLimit { units: most, window_s, burst: most },
                RateLimit { units: 1, window_s, burst: most },
                RateLimit { units: 0, window_s: 0, burst: 0 },
            ] {
                let meter = Meter::new(algorithm, limit);
                let debt = Debt { until_ns: State::LAST.until_ns(), since_ns: DEBT_NS_MAX };
                for state in [State::ABSENT, State::LAST, meter.owing(debt, DEBT_NS_MAX)] {
                    let state = meter.read(state, 0);
                    assert!(meter.remaining(state, DEBT_NS_MAX) <= meter.units);
                    for cost in [0, 1, meter.units, most] {
                        let fits = matches!(meter.fit(state, cost, DEBT_NS_MAX), Fit::Never);
                        assert_eq!(fits, cost > meter.units, "{algorithm} {limit:?} {cost}");
                    }
                }
            }
        }
    }
}
