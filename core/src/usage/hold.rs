//! Holds: units set aside for a request whose cost is known only later.
//!
//! The arithmetic that every store shares: what settling a hold does to its counters. Where holds are
//! kept, and when one that nobody settles is found to have expired, is the store's business.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::counter::{Balance, Charge, CounterKey};
use crate::error::Error;
use crate::planted::planted;

/// The name of a hold: 128 bits, written as 32 hexadecimal digits.
///
/// ```
/// use quotum::HoldId;
///
/// let id: HoldId = "00112233445566778899aabbccddeeff".parse()?;
/// assert_eq!(id.to_string(), "00112233445566778899aabbccddeeff");
/// # Ok::<(), quotum::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldId([u8; 16]);

impl HoldId {
    /// A name that no other hold has: bits of the operating system's own randomness.
    pub(crate) fn random() -> Result<Self, Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| Error::Randomness { detail: error.to_string() })?;
        Ok(Self(bytes))
    }

    /// The bytes, for stores that keep them so.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// The name that was kept as these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for HoldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for HoldId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || Error::argument("reservation", format!("{text:?}"), "32 hexadecimal digits");
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(refuse());
        }
        u128::from_str_radix(text, 16).map(|bits| Self(bits.to_be_bytes())).map_err(|_| refuse())
    }
}

/// What tells two lists of arguments apart: the first 128 bits of a SHA-256 over them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// The fingerprint of these parts, in this order. Each part counts with its length, so that no two
    /// lists of parts run into one.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut bytes = [0; 16];
        for (byte, digested) in bytes.iter_mut().zip(hash.finalize()) {
            *byte = digested;
        }
        Self(bytes)
    }

    /// The bytes, for stores that keep them so.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

/// Makes a step happen once, however often it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// Whose step it is. Keys of different subjects have nothing to do with each other.
    pub subject: Arc<str>,
    /// The idempotency key.
    pub key: Arc<str>,
    /// What was asked for. The same key with another fingerprint is a conflict.
    pub arguments: Fingerprint,
    /// Until when the store remembers the step.
    pub kept_until: Timestamp,
}

/// Units to set aside, all or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Its name. A hold that is made a second time under its name is not made again.
    pub id: HoldId,
    /// Under which key it is made once, whatever its name. A hold that has expired, or was released, has
    /// charged nothing: under its key it is made anew.
    pub once: Option<Once>,
    /// The counters, each at most once, and how many units of each.
    pub charges: Vec<Charge>,
    /// When the units are given back, unless the hold is settled before.
    pub expires_at: Timestamp,
    /// Until when the store remembers how the hold was resolved; later than `expires_at`.
    pub kept_until: Timestamp,
}

/// What becomes of units that are set aside and not settled in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// They are given back.
    Hold,
    /// They are charged.
    Lease,
}

impl Kind {
    /// A balance once so many units are no longer set aside.
    pub(crate) const fn end(self, amount: u64, balance: Balance) -> Balance {
        match self {
            Self::Hold => balance.unheld(amount),
            Self::Lease => balance.unleased(amount),
        }
    }

    /// A balance once nobody has settled so many units in time.
    pub(crate) fn expire(self, amount: u64, balance: Balance) -> Balance {
        let ended = self.end(amount, balance);
        match self {
            Self::Hold => ended,
            Self::Lease if planted!("lease_given_back_when_it_expires") => ended,
            Self::Lease => ended.charged(amount),
        }
    }
}

/// How a hold is to be resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settle {
    /// The hold.
    pub id: HoldId,
    /// What was really used, by metric: zero or more units, on every counter of the metric. Of a metric
    /// that is not listed, as much as is held.
    pub used: Vec<(Arc<str>, u64)>,
}

/// What became of a hold that was to be settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It was resolved by this step.
    Now(Receipt),
    /// It was settled before; nothing was changed.
    Before(Receipt),
    /// It had expired at this time; its units had been given back, and nothing was changed.
    Expired(Timestamp),
    /// The store knows no hold of this name, or has forgotten it.
    Unknown,
}

/// What a settled hold came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// When it was settled, in whole milliseconds.
    pub at: Timestamp,
    /// What each of its counters was charged.
    pub parts: Vec<Part>,
}

impl Receipt {
    /// Whether anything was charged: not where all was released.
    #[must_use]
    pub fn has_charged(&self) -> bool {
        self.parts.iter().any(|part| part.used > 0 || part.overage > 0)
    }
}

/// What one counter of a settled hold was charged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Part {
    /// The counter.
    pub key: CounterKey,
    /// Units that were held.
    pub held: u64,
    /// Units charged to the limit.
    pub used: u64,
    /// Units consumed that did not fit into the limit any more.
    pub overage: u64,
    /// What the counter then held.
    pub balance: Balance,
    /// The threshold that was reached by this and never before, in percent.
    #[serde(default)]
    pub crossed: Option<u8>,
}

/// Settles one counter of a hold: the arithmetic of [`Store::settle`](crate::store::Store::settle).
/// `ended` is what the counter holds without the hold: [`Balance::unheld`] or [`Balance::unleased`].
///
/// What was used beyond what was held takes more of the limit while there is some, and is recorded as
/// overage where there is none.
#[must_use]
pub fn settle_one(charge: &Charge, used: &[(Arc<str>, u64)], ended: Balance) -> Part {
    let listed = used.iter().find(|(metric, _)| *metric == charge.key.metric);
    let actual = listed.map_or(charge.amount, |(_, actual)| *actual);
    // What was held has its place already, even under a limit that was lowered since.
    let within = if planted!("commit_charges_what_was_held") { charge.amount } else { actual.min(charge.amount) };
    let settled = ended.charged(within).recorded(actual.saturating_sub(within), charge.limit);
    let (after, crossed) = settled.telling(charge.limit);
    Part {
        key: charge.key.clone(),
        held: charge.amount,
        used: after.used - ended.used,
        overage: after.overage - ended.overage,
        balance: after,
        crossed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limit, Period};

    fn settled(held: u64, actual: u64, before: Balance, limit: u64) -> Part {
        let key = CounterKey::of("ana", "tokens", Period::Day, 0);
        let charge = Charge { key, amount: held, limit: Limit::Units(limit) };
        settle_one(&charge, &[("tokens".into(), actual)], before.unheld(held))
    }

    #[test]
    fn what_was_not_used_is_given_back() {
        let part = settled(10, 4, Balance { used: 50, held: 10, ..Balance::default() }, 100);
        assert_eq!((part.used, part.overage), (4, 0));
        assert_eq!(part.balance, Balance::of(54));
    }

    #[test]
    fn more_than_was_held_takes_more_of_the_limit_and_then_becomes_overage() {
        let before = Balance { used: 50, held: 30, ..Balance::default() };
        let part = settled(10, 25, before, 100);
        assert_eq!((part.used, part.overage), (25, 0));
        let part = settled(10, 45, before, 100);
        assert_eq!((part.used, part.overage), (30, 15));
        assert_eq!(part.balance, Balance { held: 20, overage: 15, told: 80, ..Balance::of(80) });
        assert_eq!(part.crossed, Some(80));
    }

    #[test]
    fn what_was_held_counts_as_used_even_under_a_limit_lowered_since() {
        let part = settled(10, 12, Balance { used: 50, held: 10, ..Balance::default() }, 20);
        assert_eq!((part.used, part.overage), (10, 2));
    }

    #[test]
    fn fingerprints_tell_lists_of_parts_apart() {
        assert_ne!(Fingerprint::of(&[b"ab", b"c"]), Fingerprint::of(&[b"a", b"bc"]));
        assert_ne!(Fingerprint::of(&[b"ab"]), Fingerprint::of(&[b"ab", b""]));
        assert_eq!(Fingerprint::of(&[b"ab", b"c"]), Fingerprint::of(&[b"ab", b"c"]));
    }

    #[test]
    fn what_is_not_a_name_of_a_hold_is_refused() {
        for text in ["", "0011", "+0112233445566778899aabbccddeeff", "0g112233445566778899aabbccddeeff"] {
            assert!(text.parse::<HoldId>().is_err(), "{text:?}");
        }
    }
}
