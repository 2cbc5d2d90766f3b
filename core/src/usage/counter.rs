//! Counters: how many units of a metric a subject has used in one period.
//!
//! The arithmetic that every store shares. It does no I/O and takes no lock: a store brings the
//! balances together, calls [`charge_all`], and keeps the result in one atomic step.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::hold::HoldId;
use super::period::{Period, Window};
use crate::plan::{Limit, UNITS_MAX};
use crate::planted::planted;

/// How many of the newest windows are in use whatever a clock says: one that is far ahead must have made as many
/// of its own before anybody's present window is an old one.
pub(crate) const WINDOWS_KEPT: u8 = 3;

/// Names one counter. The window's start is part of the name, so a new period is a new counter.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CounterKey {
    /// Whose usage.
    pub subject: Arc<str>,
    /// Of what.
    pub metric: Arc<str>,
    /// In which kind of period.
    pub period: Period,
    /// When the period began, in seconds since 1970-01-01T00:00:00Z.
    pub start_s: i64,
    /// The account that the subject is a member of, if it is of one. This says which counters are charged together,
    /// for a store that is spread over several servers; it is no part of the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Arc<str>>,
}

impl PartialEq for CounterKey {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for CounterKey {}

impl PartialOrd for CounterKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for CounterKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(&other.name())
    }
}

impl Hash for CounterKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl CounterKey {
    /// The counter of `subject` and `metric` for the window of `period` that begins at this second.
    ///
    /// ```
    /// use quotum::Period;
    /// use quotum::store::CounterKey;
    ///
    /// let march = CounterKey::of("ana", "jobs", Period::Month, 1_772_323_200);
    /// assert_eq!(march, march.clone().in_account("acme"));
    /// ```
    #[must_use]
    pub fn of(subject: impl Into<Arc<str>>, metric: impl Into<Arc<str>>, period: Period, start_s: i64) -> Self {
        Self { subject: subject.into(), metric: metric.into(), period, start_s, account: None }
    }

    /// The same counter, of a member of this account.
    #[must_use]
    pub fn in_account(self, account: impl Into<Arc<str>>) -> Self {
        Self { account: Some(account.into()), ..self }
    }

    /// Whose counters this one is charged together with.
    #[must_use]
    pub fn payer(&self) -> &Arc<str> {
        self.account.as_ref().unwrap_or(&self.subject)
    }

    fn name(&self) -> (&str, &str, Period, i64) {
        (&self.subject, &self.metric, self.period, self.start_s)
    }

    /// The counter of `subject` and `metric` for one window of `period`.
    #[must_use]
    pub fn new(subject: Arc<str>, metric: Arc<str>, period: Period, window: Window) -> Self {
        Self::of(subject, metric, period, window.start.as_second())
    }

    /// Counters of this subject, metric and period that began before this second may be forgotten
    /// when this one is created, but for those of the three newest windows; `None` keeps them all.
    /// See [`Period::kept_for`].
    #[must_use]
    pub fn forget_before_s(&self) -> Option<i64> {
        self.period.kept_for().map(|kept| self.start_s.saturating_sub(kept.as_secs()))
    }
}

/// What a counter holds. Every grant keeps `used + held` within the limit and the bonus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Balance {
    /// Units used.
    pub used: u64,
    /// Units set aside by holds and leases that are still open.
    pub held: u64,
    /// Of these, the units in leases: some may be used already, which the store learns when a lease is settled.
    pub leased: u64,
    /// In how many leases they are.
    pub leases: u32,
    /// Units granted on top of the limit, in this window only.
    pub bonus: u64,
    /// Units that were consumed although they did not fit: what a reservation cost more than it held,
    /// and what was granted while the store could not be asked. Never part of `used`.
    pub overage: u64,
    /// The highest of [`THRESHOLDS`] that was ever reached, in percent; 0 for none. A store only keeps it.
    pub told: u8,
}

/// How much of a limit, in percent, is worth telling about, lowest first. Each is told once in the life of
/// a counter, however often refunds let it be reached again.
pub const THRESHOLDS: [u8; 2] = [80, 100];

impl Balance {
    /// A balance of `used` units and nothing else.
    #[must_use]
    pub const fn of(used: u64) -> Self {
        Self { used, held: 0, leased: 0, leases: 0, bonus: 0, overage: 0, told: 0 }
    }

    /// How far the counter may be filled under `limit`. Nothing counts beyond [`UNITS_MAX`], however
    /// unlimited the quota.
    #[must_use]
    pub fn ceiling(self, limit: Limit) -> u64 {
        limit.units().map_or(UNITS_MAX, |units| units.saturating_add(self.bonus)).min(UNITS_MAX)
    }

    /// How many more units fit within `limit`.
    #[must_use]
    pub fn room(self, limit: Limit) -> u64 {
        let held = if planted!("held_units_ignored") { 0 } else { self.held };
        self.ceiling(limit).saturating_sub(self.used.saturating_add(held))
    }

    /// Whether `amount` more units stay within `limit`.
    #[must_use]
    pub fn fits(self, amount: u64, limit: Limit) -> bool {
        amount <= self.room(limit)
    }

    /// This balance after `amount` more units were used, which fit.
    #[must_use]
    pub const fn charged(self, amount: u64) -> Self {
        Self { used: self.used.saturating_add(amount), ..self }
    }

    /// This balance after `amount` more units were set aside, which fit.
    #[must_use]
    pub const fn holding(self, amount: u64) -> Self {
        Self { held: self.held.saturating_add(amount), ..self }
    }

    /// This balance after a hold of `amount` units has ended, whatever became of the units.
    #[must_use]
    pub const fn unheld(self, amount: u64) -> Self {
        Self { held: self.held.saturating_sub(amount), ..self }
    }

    /// This balance after a lease of `amount` more units was made, which fit.
    #[must_use]
    pub const fn leasing(self, amount: u64) -> Self {
        let (leased, leases) = (self.leased.saturating_add(amount), self.leases.saturating_add(1));
        Self { leased, leases, ..self.holding(amount) }
    }

    /// This balance after a lease of `amount` units has ended, whatever became of the units.
    #[must_use]
    pub const fn unleased(self, amount: u64) -> Self {
        let (leased, leases) = (self.leased.saturating_sub(amount), self.leases.saturating_sub(1));
        Self { leased, leases, ..self.unheld(amount) }
    }

    /// This balance after `amount` units were consumed, whether they fit or not: as many as fit count
    /// as used, the others as overage.
    #[must_use]
    pub fn recorded(self, amount: u64, limit: Limit) -> Self {
        let used = if planted!("overage_counts_as_used") { amount } else { amount.min(self.room(limit)) };
        let overage = self.overage.saturating_add(amount - used).min(UNITS_MAX);
        Self { used: self.used + used, overage, ..self }
    }

    /// How much of the limit is used, in whole percent rounded down; `None` without a limit.
    #[must_use]
    pub fn percent(self, limit: Limit) -> Option<u64> {
        let ceiling = self.ceiling(Limit::Units(limit.units()?));
        // Of a limit of zero nothing can be used, so all of it always is.
        Some(self.used.saturating_mul(100).checked_div(ceiling).unwrap_or(100))
    }

    /// This balance with the highest threshold that it has reached noted, and that threshold if it is new.
    pub(crate) fn telling(self, limit: Limit) -> (Self, Option<u8>) {
        let percent = self.percent(limit).unwrap_or(0);
        let reached = THRESHOLDS.into_iter().rfind(|threshold| u64::from(*threshold) <= percent);
        let new = reached.filter(|reached| *reached > self.told && self.used > 0);
        (Self { told: new.unwrap_or(self.told), ..self }, new)
    }

    /// This balance after `amount` units were given back, overage first; never below zero.
    #[must_use]
    pub const fn refunded(self, amount: u64) -> Self {
        let beyond = amount.saturating_sub(self.overage);
        let (overage, used) = (self.overage.saturating_sub(amount), self.used.saturating_sub(beyond));
        Self { used, overage, ..self }
    }

    /// This balance after `amount` units were granted on top of the limit.
    #[must_use]
    pub fn granted(self, amount: u64) -> Self {
        Self { bonus: self.bonus.saturating_add(amount).min(UNITS_MAX), ..self }
    }

    /// This balance as if nothing had been used yet. What is held stays held.
    #[must_use]
    pub const fn reset(self) -> Self {
        Self { used: 0, overage: 0, ..self }
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
    /// Whether they were made.
    pub outcome: Outcome,
    /// What each charged counter holds: now, or of a repeated step, right after it was first made.
    pub balances: Vec<Balance>,
    /// Of a repeated step, the counters that the balances are of: those of the first time. Otherwise they are
    /// those of the step, and this is empty.
    pub keys: Vec<CounterKey>,
    /// The thresholds that were reached by this step and never before.
    pub crossed: Vec<Crossing>,
    /// Of a repeated step, the hold that was made the first time, if it was one.
    pub hold: Option<HoldId>,
}

/// A threshold of a limit that a counter has reached for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crossing {
    /// Which of the step's counters, by its place in the list.
    pub index: usize,
    /// Which of [`THRESHOLDS`], in percent.
    pub percent: u8,
}

/// How a step that charges or holds has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every charge was made.
    Granted,
    /// One at least did not fit, so none was made.
    Refused,
    /// The same step was made before, at this time, and was not made again.
    Repeated(Timestamp),
    /// Another step was made before under the same name; this one was not made.
    Conflict,
}

impl Charged {
    pub(crate) const fn conflict() -> Self {
        Self::new(Outcome::Conflict, Vec::new())
    }

    /// What came of a step that was made now, or not made.
    #[must_use]
    pub const fn new(outcome: Outcome, balances: Vec<Balance>) -> Self {
        Self { outcome, balances, keys: Vec::new(), crossed: Vec::new(), hold: None }
    }

    /// What came of a step that was made before, at this time: of a hold, if it was one.
    #[must_use]
    pub fn repeated(at: Timestamp, made: Vec<(CounterKey, Balance)>, hold: Option<HoldId>) -> Self {
        let (keys, balances) = made.into_iter().unzip();
        Self { keys, hold, ..Self::new(Outcome::Repeated(at), balances) }
    }

    /// Whether the charges are made, now or before.
    #[must_use]
    pub const fn granted(&self) -> bool {
        matches!(self.outcome, Outcome::Granted | Outcome::Repeated(_))
    }
}

/// Decides a list of charges, all or nothing: the arithmetic of [`Store::charge`] and [`Store::hold`].
///
/// `load` reads a counter's balance, `add` puts an amount that fits onto it: [`Balance::charged`] or
/// [`Balance::holding`]. Where the charges are granted, the store keeps `balances[i]` as what the
/// counter of `charges[i]` now holds, in that order: a counter that is listed twice is charged twice.
///
/// ```
/// use std::convert::Infallible;
/// use quotum::store::{Balance, Charge, CounterKey, charge_all};
/// use quotum::{Limit, Period};
///
/// let key = CounterKey::of("ana", "jobs", Period::Total, 0);
/// let charges = [Charge { key, amount: 2, limit: Limit::Units(3) }];
/// let read = |_: &CounterKey| Ok::<_, Infallible>(Balance::of(1));
/// assert_eq!(charge_all(&charges, read, Balance::charged)?.balances[0].used, 3);
/// # Ok::<(), Infallible>(())
/// ```
///
/// # Errors
///
/// The first error of `load`.
///
/// [`Store::charge`]: crate::store::Store::charge
/// [`Store::hold`]: crate::store::Store::hold
pub fn charge_all<E>(
    charges: &[Charge],
    mut load: impl FnMut(&CounterKey) -> Result<Balance, E>,
    add: impl Fn(Balance, u64) -> Balance,
) -> Result<Charged, E> {
    let mut before = Vec::with_capacity(charges.len());
    for charge in charges {
        before.push(load(&charge.key)?);
    }
    let mut after: Vec<Balance> = Vec::with_capacity(charges.len());
    let mut crossed = Vec::new();
    for (index, (charge, &loaded)) in charges.iter().zip(&before).enumerate() {
        let earlier = charges.iter().zip(&after).rev().find(|(other, _)| other.key == charge.key);
        let balance = earlier.map_or(loaded, |(_, &balance)| balance);
        let unchecked = planted!("charge_checks_only_the_first_limit") && index > 0;
        if !unchecked && !balance.fits(charge.amount, charge.limit) {
            return Ok(Charged::new(Outcome::Refused, before));
        }
        let (balance, reached) = add(balance, charge.amount).telling(charge.limit);
        crossed.extend(reached.map(|percent| Crossing { index, percent }));
        after.push(balance);
    }
    Ok(Charged { crossed, ..Charged::new(Outcome::Granted, after) })
}

/// A change of one counter that no limit decides on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjustment {
    /// The counter.
    pub key: CounterKey,
    /// What is done to it.
    pub by: Adjust,
}

/// What an [`Adjustment`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Adjust {
    /// Gives units back: [`Balance::refunded`].
    Refund(u64),
    /// Grants units on top of the limit: [`Balance::granted`].
    Grant(u64),
    /// Records units that were consumed without asking: [`Balance::recorded`].
    Record(u64, Limit),
    /// Forgets what was used: [`Balance::reset`].
    Reset,
}

impl Adjust {
    /// What becomes of a balance.
    #[must_use]
    pub fn apply(self, balance: Balance) -> Balance {
        match self {
            Self::Refund(amount) if planted!("refund_takes_used_before_overage") => {
                Balance { used: balance.used.saturating_sub(amount), ..balance }
            }
            Self::Refund(amount) => balance.refunded(amount),
            Self::Grant(amount) => balance.granted(amount),
            Self::Record(amount, limit) => balance.recorded(amount, limit),
            Self::Reset if planted!("reset_drops_what_is_held") => Balance { held: 0, ..balance.reset() },
            Self::Reset => balance.reset(),
        }
    }
}
