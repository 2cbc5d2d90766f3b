//! Rates: the `"10/minute"` of a scope, and the windows that are decided together. Values only; the
//! module [`rate`](crate::rate) decides by them.

use std::fmt;
use std::str::FromStr;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::limit::{InvalidLimit, UNITS_MAX, parse_units};
use crate::rate::Algorithm;

/// One short-window limit on a scope: how many, in how long a window.
///
/// ```
/// use quotum::RateLimit;
///
/// let limit: RateLimit = "100/15 minutes".parse()?;
/// assert_eq!((limit.units, limit.window_s, limit.burst), (100, 900, 100));
///
/// let limit: RateLimit = "600/minute burst 20".parse()?;
/// assert_eq!((limit.units, limit.window_s, limit.burst), (600, 60, 20));
/// # Ok::<(), quotum::InvalidLimit>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RateLimit {
    /// What comes back in one window, at least 1.
    pub units: u64,
    /// The window's length, from one second to one day.
    pub window_s: u32,
    /// The most that may pass at once, at least 1; as many as `units` where the text gives none.
    pub burst: u64,
}

/// The words for a rate's window, longest first, with their length in seconds.
const WINDOWS: [(&str, u32); 4] = [("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)];

/// The longest window of a rate; what lasts longer is a quota.
const WINDOW_S_MAX: u32 = 86_400;

impl RateLimit {
    /// This limit so many times over, in units and in burst; neither grows beyond [`UNITS_MAX`].
    #[must_use]
    pub fn times(self, multiplier: u32) -> Self {
        let times = |units: u64| units.saturating_mul(u64::from(multiplier)).min(UNITS_MAX);
        Self { units: times(self.units), burst: times(self.burst), ..self }
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = WINDOWS.into_iter().find(|(_, length_s)| self.window_s.is_multiple_of(*length_s));
        let (word, length_s) = unit.unwrap_or(("second", 1));
        match self.window_s / length_s {
            1 => write!(f, "{}/{word}", self.units)?,
            count => write!(f, "{}/{count} {word}s", self.units)?,
        }
        if self.burst == self.units { Ok(()) } else { write!(f, " burst {}", self.burst) }
    }
}

impl FromStr for RateLimit {
    type Err = InvalidLimit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || {
            InvalidLimit::new(
                text,
                "a rate such as \"10/minute\", \"100/15 minutes\" or \"600/minute burst 20\", with a window of seconds, \
                 minutes, hours or one day",
            )
        };
        let (sustained, burst) = match text.split_once(" burst ") {
            Some((sustained, burst)) => (sustained, Some(parse_units(burst, 1)?)),
            None => (text, None),
        };
        let (amount, window) = sustained.split_once('/').ok_or_else(refuse)?;
        let (count, word) = match window.split_once(' ') {
            Some((count, word)) => (parse_units(count, 1).map_err(|_| refuse())?, word),
            None => (1, window),
        };
        let singular = if count == 1 { word } else { word.strip_suffix('s').unwrap_or(word) };
        let unit = WINDOWS.into_iter().find(|(name, _)| *name == singular);
        let (_, length_s) = unit.ok_or_else(refuse)?;
        let window_s = count.checked_mul(u64::from(length_s)).and_then(|length| u32::try_from(length).ok());
        let window_s = window_s.filter(|length_s| *length_s <= WINDOW_S_MAX).ok_or_else(refuse)?;
        let units = parse_units(amount, 1)?;
        Ok(Self { units, window_s, burst: burst.unwrap_or(units) })
    }
}

impl Serialize for RateLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RateLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The limits on one scope, decided together: a request passes all of its windows, or takes from none.
///
/// ```
/// use quotum::Rate;
/// use quotum::rate::Algorithm;
///
/// let limits = vec!["5/minute".parse()?, "20/hour".parse()?];
/// let login = Rate::new(Algorithm::SlidingWindow, limits)?;
/// assert_eq!(login.limits[1].to_string(), "20/hour");
///
/// // One limit, by the default algorithm.
/// assert_eq!("10/minute".parse::<Rate>()?.algorithm, Algorithm::Gcra);
/// # Ok::<(), quotum::InvalidLimit>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Rate {
    /// How a window is counted.
    pub algorithm: Algorithm,
    /// Up to [`WINDOWS_MAX`](Self::WINDOWS_MAX) limits, no two of them for one window; none where the scope is
    /// `"unlimited"`.
    pub limits: Vec<RateLimit>,
    /// Whether it is counted in the store, for all processes together, and not in each one's memory. While the store
    /// cannot be asked, each counts by itself.
    pub shared: bool,
}

impl Rate {
    /// The most limits that one scope can have.
    pub const WINDOWS_MAX: usize = 4;

    /// No limit: `"unlimited"`.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self { algorithm: Algorithm::Gcra, limits: Vec::new(), shared: false }
    }

    /// Limits that are decided together.
    ///
    /// # Errors
    ///
    /// When there are none or too many, two for one window, or one that the algorithm cannot keep.
    pub fn new(algorithm: Algorithm, limits: Vec<RateLimit>) -> Result<Self, InvalidLimit> {
        let expected = |found: String, expected: &str| Err(InvalidLimit { found, expected: expected.to_owned() });
        if !(1..=Self::WINDOWS_MAX).contains(&limits.len()) {
            return expected(format!("{} limits", limits.len()), "from one to four limits for a scope");
        }
        for (index, limit) in limits.iter().enumerate() {
            if limits.iter().take(index).any(|other| other.window_s == limit.window_s) {
                return expected(format!("{limit} beside another limit of its window"), "one limit for each window");
            }
        }
        let rate = Self { algorithm, limits, shared: false };
        rate.check_times(1)?;
        Ok(rate)
    }

    /// The same rate, counted in the store: see [`shared`](Self::shared).
    ///
    /// # Errors
    ///
    /// For another algorithm than [`Algorithm::Gcra`], and for a burst that takes longer than 104 days to come back.
    pub fn in_store(self) -> Result<Self, InvalidLimit> {
        let rate = Self { shared: true, ..self };
        rate.check_times(1)?;
        Ok(rate)
    }

    /// Refuses limits that the algorithm cannot keep once they are multiplied.
    pub(super) fn check_times(&self, multiplier: u32) -> Result<(), InvalidLimit> {
        self.limits.iter().map(|limit| limit.times(multiplier)).try_for_each(|limit| {
            self.algorithm.check(limit)?;
            if self.shared { self.algorithm.check_shared(limit) } else { Ok(()) }
        })
    }
}

impl FromStr for Rate {
    type Err = InvalidLimit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "unlimited" => Ok(Self::unlimited()),
            _ => Self::new(Algorithm::default(), vec![text.parse()?]),
        }
    }
}

/// As a plans file says it: the list alone where the algorithm is the default.
impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.limits.is_empty() {
            return serializer.serialize_str("unlimited");
        }
        if self.algorithm == Algorithm::default() && !self.shared {
            return self.limits.serialize(serializer);
        }
        let mut table = serializer.serialize_struct("Rate", 2 + usize::from(self.shared))?;
        table.serialize_field("limits", &self.limits)?;
        table.serialize_field("algorithm", &self.algorithm)?;
        if self.shared {
            table.serialize_field("shared", &true)?;
        }
        table.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(text: &str) -> RateLimit {
        text.parse().unwrap()
    }

    #[test]
    fn limits_read_back_what_they_print() {
        let limits =
            ["1/second", "10/minute", "100/15 minutes", "7/90 seconds", "5/6 hours", "9/day", "6/minute burst 2"];
        for text in limits {
            assert_eq!(limit(text).to_string(), text);
        }
        assert_eq!(limit("10/minute burst 10").to_string(), "10/minute");
    }

    #[test]
    fn what_is_not_a_limit_is_refused() {
        let limits = [
            "",
            "10",
            "0/minute",
            "10/0 minutes",
            "10/minutes",
            "10/month",
            "10/2 days",
            "10/86401 seconds",
            "10/4294967295 days",
            "-1/minute",
            "10/-1 minutes",
            "unlimited",
            "10/1.5 minutes",
            "10/ minute",
            "10/+2 minutes",
            "10/minute burst",
            "10/minute burst 0",
            "10/minute burst -1",
            "10/minute burst 1.5",
            "10/minute burst 9007199254740992",
            "10/minute burst 2 burst 3",
            "10/minute  burst 2",
        ];
        for text in limits {
            assert!(text.parse::<RateLimit>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_multiplied_limit_has_more_units_and_a_larger_burst_in_the_same_window() {
        assert_eq!(limit("10/minute burst 3").times(5), limit("50/minute burst 15"));
        assert_eq!(limit("9007199254740991/day").times(1_000), limit("9007199254740991/day"));
    }

    #[test]
    fn limits_that_cannot_hold_together_are_refused() {
        let refused = |algorithm, limits: &[&str]| {
            let limits = limits.iter().map(|text| limit(text)).collect();
            Rate::new(algorithm, limits).unwrap_err().to_string()
        };
        assert!(refused(Algorithm::Gcra, &[]).starts_with("found 0 limits, expected from one to four"));
        let five = ["1/second", "1/minute", "1/hour", "1/day", "1/2 hours"];
        assert!(refused(Algorithm::Gcra, &five).starts_with("found 5 limits"));
        let twice = refused(Algorithm::Gcra, &["1/minute", "2/60 seconds"]);
        assert_eq!(twice, "found 2/minute beside another limit of its window, expected one limit for each window");
        assert!(refused(Algorithm::FixedWindow, &["6/minute burst 2"]).contains("burst"));
    }

    #[test]
    fn a_rate_is_written_as_a_list_or_with_its_algorithm() {
        let rate: Rate = "6/minute burst 2".parse().unwrap();
        assert_eq!(serde_json::to_string(&rate).unwrap(), r#"["6/minute burst 2"]"#);
        let rate = Rate::new(Algorithm::FixedWindow, rate_limits(&["6/minute"])).unwrap();
        assert_eq!(serde_json::to_string(&rate).unwrap(), r#"{"limits":["6/minute"],"algorithm":"fixed_window"}"#);
    }

    fn rate_limits(texts: &[&str]) -> Vec<RateLimit> {
        texts.iter().map(|text| limit(text)).collect()
    }
}
