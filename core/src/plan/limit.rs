//! Limits: the `"50/month"` of a quota.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
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

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            Units(u64),
            Word(String),
        }
        match Given::deserialize(deserializer)? {
            Given::Units(units) => Ok(Self::Units(units)),
            Given::Word(word) if word == "unlimited" => Ok(Self::Unlimited),
            Given::Word(word) => Err(de::Error::invalid_value(de::Unexpected::Str(&word), &"units, or \"unlimited\"")),
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

pub(super) fn parse_units(text: &str, least: u64) -> Result<u64, InvalidLimit> {
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
    }

    #[test]
    fn a_refusal_names_the_value_and_what_was_expected() {
        let error = "50/fortnight".parse::<QuotaLimit>().unwrap_err().to_string();
        assert!(error.starts_with("found \"fortnight\", expected a period: minute, hour, day"), "{error}");
        let error = "1.5/day".parse::<QuotaLimit>().unwrap_err().to_string();
        assert_eq!(error, "found \"1.5\", expected a whole number from 0 to 9007199254740991");
    }
}
