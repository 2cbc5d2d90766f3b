//! Counters: how many units of a metric a subject has used in one period.
//!
//! The arithmetic that every store shares. It does no I/O and takes no lock: a store brings the
//! balances together, calls [`charge_all`], and keeps the result in one atomic step.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::period::{Period, Window};
use crate::plan::{Limit, UNITS_MAX};

/// Names one counter. The window's start is part of the name, so a new period is a new counter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CounterKey {
    /// Whose usage.
    pub subject: Arc<str>,
    /// Of what.
    pub metric: Arc<str>,
    /// In which kind of period.
    pub period: Period,
    /// When the period began, in seconds since 1970-01-01T00:00:00Z.
    pub start_s: i64,
}

impl CounterKey {
    /// The counter of `subject` and `metric` for one window of `period`.
    #[must_use]
    pub fn new(subject: Arc<str>, metric: Arc<str>, period: Period, window: Window) -> Self {
        Self { subject, metric, period, start_s: window.start.as_second() }
    }

    /// Counters of this subject, metric and period that began before this second may be forgotten
    /// when this one is created; `None` keeps them all. See [`Period::kept_for`].
    #[must_use]
    pub fn forget_before_s(&self) -> Option<i64> {
        self.period.kept_for().map(|kept| self.start_s.saturating_sub(kept.as_secs()))
    }
}

/// What a counter holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Balance {
    /// Units used.
    pub used: u64,
}

impl Balance {
    /// A balance of `used` units.
    #[must_use]
    pub const fn of(used: u64) -> Self {
        Self { used }
    }

    /// Whether `amount` more units stay within `limit`. Nothing counts beyond [`UNITS_MAX`], however
    /// unlimited the quota.
    #[must_use]
    pub fn fits(self, amount: u64, limit: Limit) -> bool {
        let ceiling = limit.units().unwrap_or(UNITS_MAX).min(UNITS_MAX);
        self.used.checked_add(amount).is_some_and(|total| total <= ceiling)
    }

    /// This balance after `amount` units were given back; never below zero.
    #[must_use]
    pub const fn refunded(self, amount: u64) -> Self {
        Self { used: self.used.saturating_sub(amount) }
    }
}

/// One counter to charge, and the limit that it must keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The counter.
    pub key: CounterKey,
    /// How many units, at least 1.
    pub amount: u64,
    /// What the counter may reach.
    pub limit: Limit,
}

/// What became of a list of charges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charged {
    /// Whether every charge was made; otherwise none was.
    pub granted: bool,
    /// What each charged counter holds now, in the order of the charges.
    pub balances: Vec<Balance>,
}

/// Decides a list of charges, all or nothing: the arithmetic of [`Store::charge`].
///
/// `load` reads a counter's balance. Where the charges are granted, the store keeps `balances[i]` as
/// what the counter of `charges[i]` now holds, in that order: a counter that is listed twice is
/// charged twice.
///
/// ```
/// use std::convert::Infallible;
/// use quotum::store::{Balance, Charge, CounterKey, charge_all};
/// use quotum::{Limit, Period};
///
/// let key = CounterKey { subject: "ana".into(), metric: "jobs".into(), period: Period::Total, start_s: 0 };
/// let charges = [Charge { key, amount: 2, limit: Limit::Units(3) }];
/// let read = |_: &CounterKey| Ok::<_, Infallible>(Balance::of(1));
/// assert_eq!(charge_all(&charges, read)?.balances, [Balance::of(3)]);
/// # Ok::<(), Infallible>(())
/// ```
///
/// # Errors
///
/// The first error of `load`.
///
/// [`Store::charge`]: crate::store::Store::charge
pub fn charge_all<E>(
    charges: &[Charge],
    mut load: impl FnMut(&CounterKey) -> Result<Balance, E>,
) -> Result<Charged, E> {
    let mut before = Vec::with_capacity(charges.len());
    for charge in charges {
        before.push(load(&charge.key)?);
    }
    let mut after: Vec<Balance> = Vec::with_capacity(charges.len());
    for (charge, &loaded) in charges.iter().zip(&before) {
        let earlier = charges.iter().zip(&after).rev().find(|(other, _)| other.key == charge.key);
        let balance = earlier.map_or(loaded, |(_, &balance)| balance);
        if !balance.fits(charge.amount, charge.limit) {
            return Ok(Charged { granted: false, balances: before });
        }
        after.push(Balance::of(balance.used + charge.amount));
    }
    Ok(Charged { granted: true, balances: after })
}
