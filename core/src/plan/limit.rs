//! Limits: the `"50/month"` of a quota and the `"10/minute"` of a rate.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::usage::period::Period;

/// The largest number of units: exact in a JavaScript number, a Lua double and a signed 64-bit integer.
pub const UNITS_MAX: u64 = (1 << 53) - 1;

/// How much a counter may reach. Serialised as a number, or as the word `unlimited`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// At most this many units.
    Units(u64),
    /// No limit.
    Unlimited,
}

impl Limit {
    /// The number of units, or `None` without a limit.
    #[must_use]
    pub const fn units(self) -> Option<u64> {
        match self {
            Self::Units(units) => Some(units),
            Self::Unlimited => None,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Units(units) => units.fmt(f),
            Self::Unlimited => f.pad("unlimited"),
        }
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Units(units) => serializer.serialize_u64(*units),
            Self::Unlimited => serializer.serialize_str("unlimited"),
        }
    }
}

/// One durable limit on a metric: how much, in which period.
///
/// ```
/// use quotum::{Period, QuotaLimit};
///
/// assert_eq!("50/month".parse(), Ok(QuotaLimit::Limited { units: 50, period: Period::Month }));
/// assert_eq!("unlimited".parse(), Ok(QuotaLimit::Unlimited));
/// assert!("50/fortnight".parse::<QuotaLimit>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QuotaLimit {
    /// `"50/month"`: at most so many units in each period.
    Limited {
        /// The most that a counter may reach.
        units: u64,
        /// When the counter starts afresh.
        period: Period,
    },
    /// `"unlimited/month"`: counted in each period, never denied.
    Metered {
        /// When the counter starts afresh.
        period: Period,
    },
    /// `"unlimited"`: neither limited nor counted.
    Unlimited,
}

impl QuotaLimit {
    /// The period in which units are counted, if they are.
    #[must_use]
    pub const fn period(self) -> Option<Period> {
        match self {
            Self::Limited { period, .. } | Self::Metered { period } => Some(period),
            Self::Unlimited => None,
        }
    }

    /// Refuses limits that cannot hold together on one metric: none at all, two for one period, or
    /// `unlimited` beside another.
    pub(crate) fn check_together(limits: &[Self]) -> Result<(), InvalidLimit> {
        if limits.is_empty() {
            return Err(InvalidLimit { found: "no limit".to_owned(), expected: "at least one".to_owned() });
        }
        if limits.len() > 1 && limits.contains(&Self::Unlimited) {
            let (found, expected) = ("unlimited beside another limit", "it alone");
            return Err(InvalidLimit { found: found.to_owned(), expected: expected.to_owned() });
        }
        if let Some(limit) = limits.iter().find(|limit| limit.limit().units() > Some(UNITS_MAX)) {
            let expected = format!("at most {UNITS_MAX} units");
            return Err(InvalidLimit { found: limit.to_string(), expected });
        }
        let repeated = limits
            .iter()
            .enumerate()
            .find(|(index, limit)| limits.iter().take(*index).any(|other| other.period() == limit.period()));
        match repeated {
            Some((_, limit)) => Err(InvalidLimit {
                found: format!("{limit} beside another limit of its period"),
                expected: "one limit for each period".to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// How much the counter may reach.
    #[must_use]
    pub const fn limit(self) -> Limit {
        match self {
            Self::Limited { units, .. } => Limit::Units(units),
            Self::Metered { .. } | Self::Unlimited => Limit::Unlimited,
        }
    }
}

impl fmt::Display for QuotaLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limited { units, period } => write!(f, "{units}/{period}"),
            Self::Metered { period } => write!(f, "unlimited/{period}"),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}

impl FromStr for QuotaLimit {
    type Err = InvalidLimit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "unlimited" {
            return Ok(Self::Unlimited);
        }
        let (amount, period) = text
            .split_once('/')
            .ok_or_else(|| InvalidLimit::new(text, "a quota such as \"50/month\", \"500/total\" or \"unlimited\""))?;
        let period: Period = period.parse()?;
        if amount == "unlimited" {
            return Ok(Self::Metered { period });
        }
        Ok(Self::Limited { units: parse_units(amount, 0)?, period })
    }
}

impl Serialize for QuotaLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for QuotaLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// One short-window limit on a scope: how many, in how long a window.
///
/// ```
/// use quotum::RateLimit;
///
/// let rate: RateLimit = "100/15 minutes".parse()?;
/// assert_eq!((rate.units, rate.window_s), (100, 900));
/// # Ok::<(), quotum::InvalidLimit>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RateLimit {
    /// The most that may pass in one window, at least 1.
    pub units: u64,
    /// The window's length, from one second to one day.
    pub window_s: u32,
}

/// The words for a rate's window, longest first, with their length in seconds.
const WINDOWS: [(&str, u32); 4] = [("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)];

/// The longest window of a rate; what lasts longer is a quota.
const WINDOW_S_MAX: u32 = 86_400;

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = WINDOWS.into_iter().find(|(_, length_s)| self.window_s.is_multiple_of(*length_s));
        let (word, length_s) = unit.unwrap_or(("second", 1));
        match self.window_s / length_s {
            1 => write!(f, "{}/{word}", self.units),
            count => write!(f, "{}/{count} {word}s", self.units),
        }
    }
}

impl FromStr for RateLimit {
    type Err = InvalidLimit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || {
            InvalidLimit::new(
                text,
                "a rate such as \"10/minute\" or \"100/15 minutes\", with a window of seconds, minutes, hours or one day",
            )
        };
        let (amount, window) = text.split_once('/').ok_or_else(refuse)?;
        let (count, word) = match window.split_once(' ') {
            Some((count, word)) => (parse_units(count, 1).map_err(|_| refuse())?, word),
            None => (1, window),
        };
        let singular = if count == 1 { word } else { word.strip_suffix('s').unwrap_or(word) };
        let unit = WINDOWS.into_iter().find(|(name, _)| *name == singular);
        let (_, length_s) = unit.ok_or_else(refuse)?;
        let window_s = count.checked_mul(u64::from(length_s)).and_then(|length| u32::try_from(length).ok());
        let window_s = window_s.filter(|length_s| *length_s <= WINDOW_S_MAX).ok_or_else(refuse)?;
        Ok(Self { units: parse_units(amount, 1)?, window_s })
    }
}

impl Serialize for RateLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn parse_units(text: &str, least: u64) -> Result<u64, InvalidLimit> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let units = text.parse::<u64>().ok().filter(|units| digits && (least..=UNITS_MAX).contains(units));
    units.ok_or_else(|| InvalidLimit::new(text, format!("a whole number from {least} to {UNITS_MAX}")))
}

/// A limit that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("found {found}, expected {expected}")]
pub struct InvalidLimit {
    /// What was written, in quotes, or what was wrong with it.
    pub found: String,
    /// What could have been written instead.
    pub expected: String,
}

impl InvalidLimit {
    pub(crate) fn new(found: &str, expected: impl Into<String>) -> Self {
        Self { found: format!("{found:?}"), expected: expected.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_read_back_what_they_print() {
        for text in ["0/day", "50/billing_month", "9007199254740991/total", "unlimited", "unlimited/year"] {
            assert_eq!(text.parse::<QuotaLimit>().unwrap().to_string(), text);
        }
        for text in ["1/second", "10/minute", "100/15 minutes", "7/90 seconds", "5/6 hours", "9/day"] {
            assert_eq!(text.parse::<RateLimit>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_limit_is_refused() {
        let quotas = [
            "",
            "/",
            "50",
            "50/",
            "/month",
            "-1/month",
            "+1/month",
            "1.5/month",
            "1e3/month",
            " 5/month",
            "5 /month",
            "9007199254740992/month",
            "99999999999999999999/month",
            "5/Month",
            "5/months",
            "5/2 days",
            "Unlimited",
            "NaN/day",
            "null",
            "∞/day",
            "5/day/day",
            "5/second",
        ];
        for text in quotas {
            assert!(text.parse::<QuotaLimit>().is_err(), "{text:?}");
        }
        let rates = [
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
        ];
        for text in rates {
            assert!(text.parse::<RateLimit>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_value_and_what_was_expected() {
        let error = "50/fortnight".parse::<QuotaLimit>().unwrap_err().to_string();
        assert!(error.starts_with("found \"fortnight\", expected a period: minute, hour, day"), "{error}");
        let error = "1.5/day".parse::<QuotaLimit>().unwrap_err().to_string();
        assert_eq!(error, "found \"1.5\", expected a whole number from 0 to 9007199254740991");
    }
}
