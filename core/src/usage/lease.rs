//! Leases: blocks of units that one process grants from its memory.
//!
//! The arithmetic that every store shares: how large a block is, and what it does to its counters. A block is a hold
//! whose units are charged when it expires, and not given back: whoever holds it may have granted every one of them
//! and be unable to say so. That is why no clock and no lost process can have a limit exceeded.

use jiff::Timestamp;

use super::counter::{Balance, Charge};
use super::hold::{HoldId, Settle, Settled};
use crate::plan::Limit;

/// A block of units that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its name. A block that is asked for a second time under its name is not made again.
    pub id: HoldId,
    /// A block of the same holder that is settled first, in the same step.
    pub settle: Option<Settle>,
    /// The counters, each at most once, and how many units of each are wanted: the same of all.
    pub charges: Vec<Charge>,
    /// How many units a block must have to be worth it, at least 1.
    pub least: u64,
    /// When the units are charged, unless the block is settled before.
    pub expires_at: Timestamp,
    /// Until when the store remembers how the block was resolved; later than `expires_at`.
    pub kept_until: Timestamp,
}

/// What came of asking for a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// What became of the block that was to be settled first.
    pub settled: Option<Settled>,
    /// How many units of each counter the block has; 0 where none was made.
    pub amount: u64,
    /// What each counter holds, the block included: now, or of a repeated step, right after it was first made.
    pub balances: Vec<Balance>,
}

/// Decides a block, on all counters or none: the arithmetic of [`Store::lease`](crate::store::Store::lease).
///
/// `before` is what each counter holds, in the order of the charges. Of each counter a block takes at most half of
/// an even share of what is left, so that holders run dry together and what they strand is little: with so many
/// blocks open on it, `room / (2 × (leases + 1))`. Returns the block's size and what the counters then hold.
///
/// ```
/// use quotum::store::{Balance, Charge, CounterKey, lease_all};
/// use quotum::{Limit, Period};
///
/// let key = CounterKey::of("ana", "jobs", Period::Total, 0);
/// let charges = [Charge { key, amount: 900, limit: Limit::Units(10_000) }];
/// let (amount, after) = lease_all(&charges, 8, vec![Balance::of(9_000)]);
/// assert_eq!((amount, after[0].leased, after[0].leases), (500, 500, 1));
/// let (amount, _) = lease_all(&charges, 8, after);
/// assert_eq!(amount, 125);
/// ```
#[must_use]
pub fn lease_all(charges: &[Charge], least: u64, before: Vec<Balance>) -> (u64, Vec<Balance>) {
    let shares = charges.iter().zip(&before).map(|(charge, balance)| share(*balance, charge.limit).min(charge.amount));
    match shares.min() {
        Some(amount) if amount >= least.max(1) => {
            (amount, before.into_iter().map(|balance| balance.leasing(amount)).collect())
        }
        _ => (0, before),
    }
}

/// How many units of a counter one more block may have.
fn share(balance: Balance, limit: Limit) -> u64 {
    balance.room(limit) / (2 * (u64::from(balance.leases) + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::CounterKey;
    use crate::{Period, UNITS_MAX};

    fn charges(limits: &[Limit], amount: u64) -> Vec<Charge> {
        let charge =
            |limit: &Limit| Charge { key: CounterKey::of("ana", "jobs", Period::Day, 0), amount, limit: *limit };
        limits.iter().map(charge).collect()
    }

    #[test]
    fn a_block_is_as_small_as_its_tightest_counter_says() {
        let limits = [Limit::Units(100_000), Limit::Units(2_000), Limit::Unlimited];
        let before = vec![Balance::of(0), Balance::of(1_900), Balance::of(5)];
        let (amount, after) = lease_all(&charges(&limits, 1_000), 8, before);
        assert_eq!(amount, 50);
        assert!(after.iter().all(|balance| (balance.held, balance.leased, balance.leases) == (50, 50, 1)));
    }

    #[test]
    fn a_block_too_small_to_be_worth_it_is_none() {
        let before = vec![Balance::of(85)];
        assert_eq!(lease_all(&charges(&[Limit::Units(100)], 50), 8, before.clone()), (0, before));
        assert_eq!(lease_all(&charges(&[Limit::Units(0)], 50), 0, vec![Balance::of(0)]).0, 0);
        assert_eq!(lease_all(&[], 1, Vec::new()), (0, Vec::new()));
    }

    #[test]
    fn however_many_ask_one_after_the_other_half_of_what_is_left_stays() {
        let charges = charges(&[Limit::Units(10_000)], UNITS_MAX);
        let mut balances = vec![Balance::default()];
        for asked in 0..1_000 {
            let (amount, after) = lease_all(&charges, 8, balances);
            assert!(amount == 0 || amount >= 8, "{asked}: {amount}");
            balances = after;
        }
        let [balance] = balances[..] else { unreachable!() };
        assert!(balance.held < 10_000 && balance.leases > 3, "{balance:?}");
    }
}
