//! The algorithms by which a rate's window is counted, and the largest limits that each can keep.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::meter::{DEBT_NS_MAX, interval_ns, window_ns};
use super::state::{FIXED_UNITS_MAX, SLIDING_UNITS_MAX};
use crate::plan::{InvalidLimit, RateLimit};

/// How a rate's window is counted.
///
/// All of them admit at most `burst + units` in any stretch of time as long as the window. They differ
/// in how evenly: a fixed window may admit twice its units around its end, GCRA with a small burst
/// never comes near it.
///
/// ```
/// use quotum::rate::Algorithm;
///
/// assert_eq!("sliding_window".parse(), Ok(Algorithm::SlidingWindow));
/// assert_eq!(Algorithm::default().as_str(), "gcra");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Algorithm {
    /// The generic cell rate algorithm of ITU-T I.371 and ATM Forum Traffic Management 4.0, as virtual
    /// scheduling: units come back one by one, evenly, up to the burst. At most 10^9 units a second.
    ///
    /// The time between two units is rounded up to whole nanoseconds, so a rate is kept to one part in
    /// a thousand up to a million units a second, and better the slower it is.
    #[default]
    Gcra,
    /// The count of this window, and that of the one before as far as it would still overlap a window
    /// that ends now, taken as evenly spread. At most 65,535 units.
    SlidingWindow,
    /// The count of this window, which all comes back at its end. At most 4,294,967,295 units.
    ///
    /// Windows begin at multiples of their length on the monotonic clock, not at wall-clock minutes.
    FixedWindow,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::Gcra, Self::SlidingWindow, Self::FixedWindow];

    /// What a message says where none of the words was found.
    pub(crate) const EXPECTED: &str = "an algorithm: gcra, sliding_window, fixed_window";

    /// The word used in plans files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gcra => "gcra",
            Self::SlidingWindow => "sliding_window",
            Self::FixedWindow => "fixed_window",
        }
    }

    /// Refuses a limit that this algorithm's 64 bits of state cannot keep.
    pub(crate) fn check(self, limit: RateLimit) -> Result<(), InvalidLimit> {
        let at_most =
            |units: u64| (limit.units > units).then(|| format!("at most {units} units in a window of {self}"));
        let only_gcra =
            || (limit.burst != limit.units).then(|| format!("no burst, which {self} does not know, or {}", Self::Gcra));
        let expected = match self {
            Self::Gcra => at_most(window_ns(limit)).or_else(|| {
                let debt_ns = u128::from(limit.burst) * u128::from(interval_ns(limit));
                (debt_ns > u128::from(DEBT_NS_MAX)).then(|| "a burst that comes back within 36 years".to_owned())
            }),
            Self::SlidingWindow => at_most(SLIDING_UNITS_MAX).or_else(only_gcra),
            Self::FixedWindow => at_most(FIXED_UNITS_MAX).or_else(only_gcra),
        };
        expected.map_or(Ok(()), |expected| Err(InvalidLimit { found: limit.to_string(), expected }))
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = InvalidLimit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == text);
        found.ok_or_else(|| InvalidLimit::new(text, Self::EXPECTED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_read_back_what_they_print_and_serialise_as_the_same_word() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
            assert_eq!(serde_json::to_string(&algorithm).unwrap(), format!("\"{algorithm}\""));
            assert!(Algorithm::EXPECTED.contains(algorithm.as_str()));
        }
        let error = "leaky".parse::<Algorithm>().unwrap_err().to_string();
        assert_eq!(error, "found \"leaky\", expected an algorithm: gcra, sliding_window, fixed_window");
    }

    #[test]
    fn a_limit_that_does_not_fit_the_state_is_refused_and_the_largest_that_does_is_not() {
        let check = |algorithm: Algorithm, text: &str| algorithm.check(text.parse().unwrap());
        for (algorithm, largest, too_large) in [
            (Algorithm::Gcra, "1000000000/second", "1000000001/second"),
            (Algorithm::Gcra, "1/day burst 13343", "1/day burst 13344"),
            (Algorithm::SlidingWindow, "65535/day", "65536/day"),
            (Algorithm::FixedWindow, "4294967295/second", "4294967296/second"),
        ] {
            assert_eq!(check(algorithm, largest), Ok(()));
            assert!(check(algorithm, too_large).is_err(), "{algorithm} {too_large}");
        }
        let error = check(Algorithm::SlidingWindow, "70000/minute").unwrap_err().to_string();
        assert_eq!(error, "found 70000/minute, expected at most 65535 units in a window of sliding_window");
    }
}
