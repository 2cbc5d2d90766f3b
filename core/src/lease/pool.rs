//! Pools: what one owner of counters has leased of one metric in this process.
//!
//! Pure: times are arguments, and what is to be asked of the store is returned for others to ask. All of an owner's
//! pools are under one lock, so that a request takes from several of them at once or from none.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::block::{Asked, Block, Counters, Ended, Terms};
use super::demand::{Demand, Wanted};
use crate::plan::Limit;
use crate::store::{Balance, Charge, CounterKey, Lease, Leased, Settle, Settled};
use crate::usage::demand::Touched;
use crate::usage::hold::HoldId;

/// How long nothing more is asked for after the store had no block to give, or did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// The pools of one owner, by metric. Most owners have none.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "most subjects have none, and of those there may be a million")]
pub(crate) struct Pools(pub(crate) Mutex<Option<Box<Vec<Pool>>>>);

/// What one owner has leased of one metric.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) metric: Arc<str>,
    terms: Terms,
    counters: Arc<Counters>,
    demand: Demand,
    /// What the counters held by the last charge that was made in the store.
    told: SmallVec<[Balance; 2]>,
    /// Blocks that units are taken from, oldest first.
    open: VecDeque<Block>,
    /// Blocks that are to be settled, all of these counters' or earlier ones'.
    closed: Vec<Block>,
    /// A block that was asked for, as long as it is not known what came of it.
    asked: Option<Asked>,
    /// Before when no further block is asked for.
    paused_until: Duration,
    /// Before when nothing is asked of the store, because it has failed.
    retried_at: Duration,
    /// Whether another block is wanted, or this one back.
    calls: Calls,
    /// When others were last asked to return theirs.
    recalled_at: Option<Duration>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Calls {
    /// Somebody needs what is leased here.
    to_return: bool,
    /// A request was denied of which others hold units.
    to_recall: bool,
}

/// What a pool needs of the store next.
#[derive(Debug)]
pub(crate) enum Need {
    /// A block, and perhaps another one settled.
    Lease(Lease),
    /// A block settled.
    Settle(Settle),
    /// That others return theirs of these counters.
    Recall,
}

impl Pool {
    pub(crate) fn new(metric: &Arc<str>, terms: Terms, touched: &[Touched<'_>]) -> Self {
        Self {
            metric: Arc::clone(metric),
            terms,
            counters: Arc::new(Counters::of(touched)),
            demand: Demand::default(),
            told: SmallVec::new(),
            open: VecDeque::new(),
            closed: Vec::new(),
            asked: None,
            paused_until: Duration::ZERO,
            retried_at: Duration::ZERO,
            calls: Calls::default(),
            recalled_at: None,
        }
    }

    /// From which block so many units can be taken now, if from one.
    pub(crate) fn offer(&self, touched: &[Touched<'_>], amount: u64, now: Duration) -> Option<usize> {
        let index = self.open.iter().position(|block| block.offers(amount, self.terms, now))?;
        self.counters.are_of(touched).then_some(index)
    }

    /// Takes units that were offered just now. Returns whether the pool needs to be looked after.
    pub(crate) fn take(&mut self, index: usize, amount: u64, now: Duration) -> bool {
        self.demand.note(amount, now, self.terms.ttl);
        let is_last = index + 1 == self.open.len();
        let Some(block) = self.open.get_mut(index) else { return false };
        block.take(amount, now);
        is_last && block.is_low() && self.may_ask(now)
    }

    fn may_ask(&self, now: Duration) -> bool {
        self.asked.is_none() && now >= self.paused_until.max(self.retried_at)
    }

    /// Notes a charge that was made in the store, and what the counters then held. Returns whether the pool needs to
    /// be looked after.
    pub(crate) fn charged(&mut self, touched: &[Touched<'_>], told: &[Balance], terms: Terms, now: Duration) -> bool {
        let amount = touched.first().map_or(0, |quota| quota.amount);
        self.terms = terms;
        if !self.counters.are_of(touched) {
            self.close_all();
            self.counters = Arc::new(Counters::of(touched));
        }
        self.told = told.into();
        self.learn();
        self.demand.note(amount, now, terms.ttl);
        if !self.closed.is_empty() {
            return true;
        }
        self.may_ask(now) && self.open.is_empty() && self.demand.wanted(now, terms.ttl, terms.max).is_some()
    }

    /// What the counters hold, in their order, as far as this process knows: what it has used of its blocks counts
    /// as used, and what it has left as free. Empty where nothing is known.
    pub(crate) fn balances(&self) -> SmallVec<[Balance; 2]> {
        let mut known: SmallVec<[Balance; 2]> =
            self.open.back().map(|newest| newest.balances.as_slice().into()).unwrap_or_default();
        for balance in &mut known {
            for block in self.open.iter().chain(&self.closed).filter(|block| self.is_current(block)) {
                *balance = block.apart_from(*balance);
            }
        }
        known
    }

    /// The counters' balances as the store has told them, with this process's own blocks as in
    /// [`balances`](Self::balances), and how many units those have left.
    pub(crate) fn own(&self, key: &CounterKey, told: Balance, among: &[HoldId]) -> (Balance, u64) {
        if !self.counters.counted.iter().any(|(known, _)| known == key) {
            return (told, 0);
        }
        let own = self.open.iter().chain(&self.closed).filter(|block| among.contains(&block.id));
        own.filter(|block| self.is_current(block))
            .fold((told, 0), |(balance, left), block| (block.apart_from(balance), left + block.left))
    }

    /// Takes up what the store has told of the counters, unless it is from before the newest block was made.
    fn learn(&mut self) {
        let told = &self.told;
        let leased: u64 = self.open.iter().map(|block| block.size).sum();
        let Some(newest) = self.open.back_mut().filter(|newest| newest.balances.len() == told.len()) else { return };
        for (known, told) in newest.balances.iter_mut().zip(told) {
            if told.leased >= leased && told.used >= known.used {
                *known = *told;
            }
        }
    }

    fn is_current(&self, block: &Block) -> bool {
        Arc::ptr_eq(&block.counters, &self.counters)
    }

    /// The blocks that are not settled yet.
    pub(crate) fn ids(&self) -> impl Iterator<Item = HoldId> {
        self.open.iter().chain(&self.closed).map(|block| block.id)
    }

    /// Whether this process has leased units, or may have.
    pub(crate) fn has_some(&self) -> bool {
        !self.open.is_empty() || !self.closed.is_empty() || self.asked.is_some()
    }

    /// How many units are left in blocks that are not settled.
    pub(crate) fn left(&self) -> u64 {
        self.open.iter().map(|block| block.left).sum()
    }

    /// How many units other processes have in blocks, by what the store has told last; 0 where nothing is known. A block
    /// is of all of the counters.
    #[cfg(feature = "metrics")]
    pub(crate) fn stranded(&self) -> u64 {
        self.balances().iter().map(|balance| balance.leased).max().unwrap_or(0)
    }

    /// Whether there is nothing that the store must be told of.
    pub(crate) fn is_empty(&self) -> bool {
        !self.has_some() && !self.calls.to_recall
    }

    /// From now on nothing is taken from these blocks.
    pub(crate) fn close_all(&mut self) {
        self.closed.extend(self.open.drain(..));
    }

    /// Has the pool return what it has, because somebody else needs it or the engine ends.
    pub(crate) fn return_soon(&mut self) {
        self.calls.to_return = true;
        self.retried_at = Duration::ZERO;
    }

    /// Asks others to return what they have of these counters, if that was not done just now.
    pub(crate) fn recall_soon(&mut self, now: Duration) -> bool {
        let again = self.recalled_at.is_none_or(|at| now.saturating_sub(at) >= self.terms.ttl / 4);
        if again {
            self.recalled_at = Some(now);
            self.calls.to_recall = true;
        }
        again
    }

    /// When the pool needs to be looked after next.
    pub(crate) fn due(&self) -> Option<Duration> {
        let looks = self.open.iter().map(|block| block.over_at(self.terms));
        let waits = self.asked.is_some() || !self.closed.is_empty() || self.calls != Calls::default();
        looks.chain(waits.then_some(self.retried_at)).min()
    }

    /// What is to be asked of the store now: one thing at a time, until there is nothing.
    ///
    /// `name` names a new block.
    pub(crate) fn need(
        &mut self,
        now: Duration,
        wall: Timestamp,
        name: impl FnOnce() -> Option<HoldId>,
    ) -> Option<Need> {
        if std::mem::take(&mut self.calls.to_recall) {
            return Some(Need::Recall);
        }
        if self.calls.to_return {
            self.paused_until = now.saturating_add(PAUSE);
        }
        self.close_what_is_over(now, wall);
        if now < self.retried_at {
            return None;
        }
        if let Some(asked) = &self.asked {
            return Some(Need::Lease(asked.lease.clone()));
        }
        if let Some(lease) = self.wanted(now, wall).and_then(|wanted| self.lease(wanted, wall, name()?)) {
            let counters = Arc::clone(&self.counters);
            self.asked = Some(Asked { lease: lease.clone(), counters, at: now });
            return Some(Need::Lease(lease));
        }
        let need = self.closed.first().map(|block| Need::Settle(block.settle(&self.metric)));
        self.calls.to_return &= need.is_some();
        need
    }

    fn close_what_is_over(&mut self, now: Duration, wall: Timestamp) {
        let all = self.calls.to_return || wall >= self.counters.until;
        let is_over = |block: &Block| all || block.is_over(self.terms, now);
        let (over, open): (VecDeque<Block>, _) = std::mem::take(&mut self.open).into_iter().partition(is_over);
        self.open = open;
        self.closed.extend(over);
    }

    /// The block to ask for, where what is left of young ones may not last.
    fn wanted(&mut self, now: Duration, wall: Timestamp) -> Option<Wanted> {
        let wanted = self.demand.wanted(now, self.terms.ttl, self.terms.max)?;
        let young = self.open.iter().filter(|block| block.is_young(self.terms, now));
        let left: u64 = young.map(|block| block.left).sum();
        (now >= self.paused_until && wall < self.counters.until && left.saturating_mul(4) <= wanted.units)
            .then_some(wanted)
    }

    fn lease(&self, wanted: Wanted, wall: Timestamp, id: HoldId) -> Option<Lease> {
        let charge =
            |(key, limit): &(CounterKey, Limit)| Charge { key: key.clone(), amount: wanted.units, limit: *limit };
        let expires_at = wall.checked_add(self.terms.ttl).ok()?;
        Some(Lease {
            id,
            settle: self.closed.first().map(|block| block.settle(&self.metric)),
            charges: self.counters.counted.iter().map(charge).collect(),
            least: wanted.least,
            expires_at,
            // Long enough that whoever is late learns what became of it.
            kept_until: expires_at.checked_add(self.terms.ttl * 6).ok()?,
        })
    }

    /// Takes up what the store has answered to a block that was asked for. Returns what became of the block that was
    /// settled with it.
    pub(crate) fn answered(&mut self, id: HoldId, leased: Leased, now: Duration) -> Option<Ended> {
        // Two may ask for one block at once. What is answered to the second is not about whatever was asked for since.
        if self.asked.as_ref().is_none_or(|asked| asked.lease.id != id) {
            return None;
        }
        let mut asked = self.asked.take()?;
        let Leased { settled, amount, balances } = leased;
        let settle = asked.lease.settle.take();
        let ended = settle.zip(settled).and_then(|(settle, settled)| self.settled(settle.id, settled));
        if amount > 0 {
            let block = Block::new(asked, amount, balances);
            if self.is_current(&block) {
                self.open.push_back(block)
            } else {
                self.closed.push(block)
            }
            self.learn();
        } else {
            self.paused_until = now.saturating_add(PAUSE);
        }
        ended
    }

    /// Notes that the store did not answer. A block that was asked for is asked for again under its name, also where
    /// this attempt has surely done nothing: another one may have.
    pub(crate) fn unanswered(&mut self, now: Duration) -> Option<Ended> {
        self.retried_at = now.saturating_add(PAUSE);
        // What the store has charged by now need not be told it any more.
        if self.asked.as_ref().is_some_and(|asked| now >= asked.at.saturating_add(self.terms.ttl)) {
            self.asked = None;
        }
        let expired = self.closed.iter().position(|block| block.is_charged(self.terms, now))?;
        Some(self.closed.remove(expired).lost())
    }

    /// Takes up what became of a block.
    pub(crate) fn settled(&mut self, id: HoldId, settled: Settled) -> Option<Ended> {
        let place = self.closed.iter().position(|block| block.id == id)?;
        let block = self.closed.remove(place);
        let parts = match settled {
            Settled::Now(receipt) => receipt.parts,
            // The answer to an earlier attempt was lost.
            Settled::Before(_) => return Some(block.returned(Vec::new())),
            Settled::Expired(_) | Settled::Unknown => return Some(block.lost()),
        };
        if let Some(newest) = self.open.back_mut() {
            for ((key, _), balance) in self.counters.counted.iter().zip(&mut newest.balances) {
                if let Some(part) = parts.iter().find(|part| part.key == *key) {
                    *balance = part.balance;
                }
            }
        }
        Some(block.returned(parts))
    }
}
