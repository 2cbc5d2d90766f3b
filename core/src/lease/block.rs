//! Blocks: units that were leased at once, and until when they are good for what.
//!
//! Pure, like the pools that they are in.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use smallvec::SmallVec;

use crate::plan::Limit;
use crate::planted::planted;
use crate::store::{Balance, CounterKey, Lease, Part, Settle};
use crate::usage::demand::Touched;
use crate::usage::hold::HoldId;

/// How blocks of a quota are leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The most units of one block.
    pub(crate) max: u64,
    /// For how long.
    pub(crate) ttl: Duration,
}

impl Terms {
    /// For how long units are granted from a block, counted from before it was asked for. The rest of its time is
    /// for the store to be told what was used.
    fn usable_for(self) -> Duration {
        self.ttl * 2 / 3
    }

    /// After which part of its time another block is asked for, and one that nobody takes from is returned.
    fn half(self) -> Duration {
        self.ttl / 2
    }
}

/// The counters that blocks are of: of one owner and metric, in the windows of a time.
#[derive(Debug, Clone)]
pub(super) struct Counters {
    pub(super) counted: SmallVec<[(CounterKey, Limit); 2]>,
    /// When the first of their windows ends.
    pub(super) until: Timestamp,
}

impl Counters {
    /// Those of one owner's quotas of one metric.
    pub(super) fn of(touched: &[Touched<'_>]) -> Self {
        let counted = touched.iter().filter_map(|quota| Some((quota.key()?, quota.limit.limit()))).collect();
        let until = touched.iter().filter_map(|quota| quota.window?.end).min().unwrap_or(Timestamp::MAX);
        Self { counted, until }
    }

    /// Whether they are these quotas', in the same windows and under the same limits.
    pub(super) fn are_of(&self, touched: &[Touched<'_>]) -> bool {
        let mut counted = touched.iter().filter(|quota| quota.window.is_some());
        let known = |(key, limit): &(CounterKey, Limit)| {
            counted.next().is_some_and(|quota| {
                let start_s = quota.window.map(|window| window.start.as_second());
                let same_window = start_s == Some(key.start_s) || planted!("lease_crosses_a_period");
                same_window && quota.limit.period() == Some(key.period) && quota.limit.limit() == *limit
            })
        };
        self.counted.iter().all(known) && counted.next().is_none()
    }
}

/// A block that was asked for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) lease: Lease,
    pub(super) counters: Arc<Counters>,
    /// When, by monotonic time.
    pub(super) at: Duration,
}

/// Units that were leased at once.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) id: HoldId,
    pub(super) size: u64,
    pub(super) left: u64,
    pub(super) counters: Arc<Counters>,
    /// What its counters held right after it was made, or another one was settled.
    pub(super) balances: Vec<Balance>,
    /// When it was asked for, by monotonic time.
    asked_at: Duration,
    /// When units were last taken from it.
    taken_at: Duration,
}

impl Block {
    /// The block that was asked for, of so many units.
    pub(super) fn new(asked: Asked, size: u64, balances: Vec<Balance>) -> Self {
        let Asked { lease, counters, at } = asked;
        Self { id: lease.id, size, left: size, counters, balances, asked_at: at, taken_at: at }
    }

    /// Whether so many units can be taken from it now.
    pub(super) fn offers(&self, amount: u64, terms: Terms, now: Duration) -> bool {
        self.left >= amount && now < self.usable_until(terms)
    }

    /// Takes units that it offers.
    pub(super) fn take(&mut self, amount: u64, now: Duration) {
        if !planted!("leased_units_granted_twice") {
            self.left = self.left.saturating_sub(amount);
        }
        self.taken_at = now;
    }

    /// Whether so little is left of it that another one should be asked for.
    pub(super) const fn is_low(&self) -> bool {
        self.left.saturating_mul(4) <= self.size
    }

    /// Whether it lasts so long yet that no other one need be asked for.
    pub(super) fn is_young(&self, terms: Terms, now: Duration) -> bool {
        now < self.asked_at.saturating_add(terms.half())
    }

    /// Whether nothing more is to be taken from it.
    pub(super) fn is_over(&self, terms: Terms, now: Duration) -> bool {
        self.left == 0 || now >= self.over_at(terms)
    }

    /// When it is over at the latest: too old, or idle.
    pub(super) fn over_at(&self, terms: Terms) -> Duration {
        self.usable_until(terms).min(self.taken_at.max(self.asked_at).saturating_add(terms.half()))
    }

    fn usable_until(&self, terms: Terms) -> Duration {
        self.asked_at.saturating_add(terms.usable_for())
    }

    /// Whether the store has surely charged it by now.
    pub(super) fn is_charged(&self, terms: Terms, now: Duration) -> bool {
        now >= self.asked_at.saturating_add(terms.ttl * 2)
    }

    /// A balance that it is part of, with what was used of it as used, and what is left of it as free.
    pub(super) fn apart_from(&self, balance: Balance) -> Balance {
        balance.unleased(self.size).charged(self.used())
    }

    const fn used(&self) -> u64 {
        self.size - self.left
    }

    /// What the store is told of it at its end.
    pub(super) fn settle(&self, metric: &Arc<str>) -> Settle {
        Settle { id: self.id, used: vec![(Arc::clone(metric), self.used())] }
    }

    /// What is left of it was given back.
    pub(super) const fn returned(&self, parts: Vec<Part>) -> Ended {
        Ended { returned: self.left, lost: 0, parts }
    }

    /// The store was told too late, or not at all.
    pub(super) const fn lost(&self) -> Ended {
        Ended { returned: 0, lost: self.left, parts: Vec::new() }
    }
}

/// What became of a block in the end.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// Units that were given back.
    pub(crate) returned: u64,
    /// Units that were charged although nobody had used them: the store was told too late.
    pub(crate) lost: u64,
    /// What its counters were charged, where the store has said it.
    pub(crate) parts: Vec<Part>,
}
