//! The ledger of the memory store: steps that must not be made twice, and holds.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::counters::Locked;
use crate::HoldId;
use crate::planted::planted;
use crate::store::{Balance, Charge, Charged, CounterKey, Fingerprint, Hold, Lease, Once, Receipt, Settle, Settled};
use crate::usage::hold::Kind;

/// How many entries that are too old are dropped for each one that is added, so that none needs a sweep.
const DROPPED_AT_ONCE: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    steps: HashMap<(Arc<str>, Arc<str>), Step>,
    holds: HashMap<HoldId, Held>,
    /// What to drop, in the order in which it is no longer needed.
    ends: BTreeSet<(i64, Entry)>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Step(Arc<str>, Arc<str>),
    Hold(HoldId),
}

/// A step that was made under an idempotency key.
#[derive(Debug)]
struct Step {
    arguments: Fingerprint,
    at: Timestamp,
    made: Vec<(CounterKey, Balance)>,
    /// The hold that it was, if it was one.
    hold: Option<HoldId>,
    kept_until: Timestamp,
}

/// A hold or a lease, open or resolved.
#[derive(Debug)]
struct Held {
    kind: Kind,
    at: Timestamp,
    made: Vec<(CounterKey, Balance)>,
    charges: Vec<Charge>,
    expires_at: Timestamp,
    kept_until: Timestamp,
    receipt: Option<Receipt>,
}

impl Held {
    /// Whether it has charged something, or still may.
    fn stands(&self, now: Timestamp) -> bool {
        now < self.kept_until && self.receipt.as_ref().map_or(now < self.expires_at, Receipt::has_charged)
    }
}

impl Ledger {
    /// What became of a step that was made before.
    pub(super) fn recall(&self, once: &Once, now: Timestamp) -> Option<Charged> {
        let step = self.steps.get(&(Arc::clone(&once.subject), Arc::clone(&once.key)))?;
        // What expired or was released has charged nothing, so there is nothing to do twice.
        let stands = step.hold.is_none_or(|id| self.holds.get(&id).is_some_and(|held| held.stands(now)));
        if step.kept_until <= now || !stands {
            return None;
        }
        Some(match step.arguments == once.arguments || planted!("once_ignores_the_arguments") {
            true => Charged::repeated(step.at, step.made.clone(), step.hold),
            false => Charged::conflict(),
        })
    }

    pub(super) fn remember(
        &mut self,
        once: &Once,
        now: Timestamp,
        made: Vec<(CounterKey, Balance)>,
        hold: Option<HoldId>,
    ) {
        self.forget(now);
        let place = (Arc::clone(&once.subject), Arc::clone(&once.key));
        let entry = Entry::Step(Arc::clone(&once.subject), Arc::clone(&once.key));
        let (arguments, kept_until) = (once.arguments, once.kept_until);
        self.ends.insert((kept_until.as_millisecond(), entry));
        self.steps.insert(place, Step { arguments, at: now, made, hold, kept_until });
    }

    /// What became of a hold that was made before, under its key or its name.
    pub(super) fn recall_hold(&self, hold: &Hold, now: Timestamp) -> Option<Charged> {
        let once = hold.once.as_ref().filter(|_| !planted!("hold_ignores_its_key"));
        once.and_then(|once| self.recall(once, now)).or_else(|| {
            let held = self.holds.get(&hold.id).filter(|held| held.stands(now))?;
            Some(Charged::repeated(held.at, held.made.clone(), Some(hold.id)))
        })
    }

    pub(super) fn open(&mut self, hold: &Hold, now: Timestamp, made: Vec<(CounterKey, Balance)>) {
        self.forget(now);
        if let Some(once) = &hold.once {
            self.remember(once, now, made.clone(), Some(hold.id));
        }
        let Hold { id, expires_at, kept_until, .. } = *hold;
        let charges = hold.charges.clone();
        self.insert(id, Held { kind: Kind::Hold, at: now, made, charges, expires_at, kept_until, receipt: None });
    }

    /// What became of a lease that was made before under its name: its size, and what its counters then held.
    pub(super) fn recall_lease(&self, lease: &Lease, now: Timestamp) -> Option<(u64, Vec<Balance>)> {
        let held = self.holds.get(&lease.id).filter(|held| now < held.kept_until)?;
        let amount = held.charges.first().map_or(0, |charge| charge.amount);
        Some((amount, held.made.iter().map(|(_, balance)| *balance).collect()))
    }

    /// Opens a lease of these charges.
    pub(super) fn open_lease(
        &mut self,
        lease: &Lease,
        charges: Vec<Charge>,
        now: Timestamp,
        made: Vec<(CounterKey, Balance)>,
    ) {
        self.forget(now);
        let Lease { id, expires_at, kept_until, .. } = *lease;
        self.insert(id, Held { kind: Kind::Lease, at: now, made, charges, expires_at, kept_until, receipt: None });
    }

    fn insert(&mut self, id: HoldId, held: Held) {
        self.ends.insert((held.kept_until.as_millisecond(), Entry::Hold(id)));
        self.holds.insert(id, held);
    }

    /// Resolves a hold, whose counters `lock` locks.
    pub(super) fn settle<'s>(&mut self, settle: &Settle, lock: impl FnOnce(&[Charge]) -> Locked<'s>) -> Settled {
        let held = self.holds.get_mut(&settle.id);
        let mut counters = lock(held.as_ref().map_or(&[], |held| &held.charges));
        let now = counters.now();
        let Some(held) = held.filter(|held| now < held.kept_until) else { return Settled::Unknown };
        if let Some(receipt) = held.receipt.as_ref().filter(|_| !planted!("hold_settled_twice")) {
            return Settled::Before(receipt.clone());
        }
        if held.expires_at <= now && !planted!("hold_settled_after_it_expired") {
            return Settled::Expired(held.expires_at);
        }
        let settle_one = |charge| counters.settle(charge, settle, held.kind, held.expires_at);
        let parts = held.charges.iter().map(settle_one).collect();
        let receipt = Receipt { at: now, parts };
        held.receipt = Some(receipt.clone());
        Settled::Now(receipt)
    }

    /// Drops some of what is no longer needed.
    fn forget(&mut self, now: Timestamp) {
        for _ in 0..DROPPED_AT_ONCE {
            let Some((end_ms, _)) = self.ends.first() else { return };
            if *end_ms > now.as_millisecond() {
                return;
            }
            match self.ends.pop_first() {
                // A later entry of the same name is not meant.
                Some((end_ms, Entry::Step(subject, key))) => {
                    let place = (subject, key);
                    if self.steps.get(&place).is_some_and(|step| step.kept_until.as_millisecond() == end_ms) {
                        self.steps.remove(&place);
                    }
                }
                Some((end_ms, Entry::Hold(id))) => {
                    if self.holds.get(&id).is_some_and(|held| held.kept_until.as_millisecond() == end_ms) {
                        self.holds.remove(&id);
                    }
                }
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn once(number: i64, kept_until: Timestamp) -> Once {
        let (subject, key) = (Arc::from("ana"), Arc::from(number.to_string()));
        Once { subject, key, arguments: Fingerprint::of(&[b"1"]), kept_until }
    }

    #[test]
    fn steps_and_holds_go_when_their_time_is_over() {
        let mut ledger = Ledger::default();
        let sizes = |ledger: &Ledger| (ledger.steps.len(), ledger.holds.len(), ledger.ends.len());
        let mut open = |from: i64, count: i64, now: Timestamp| {
            let kept_until = time(now.as_second() + 60);
            for number in from..from + count {
                let id = HoldId::from_bytes(i128::from(number).to_be_bytes());
                let hold = Hold { id, once: None, charges: Vec::new(), expires_at: kept_until, kept_until };
                ledger.remember(&once(number, kept_until), now, Vec::new(), None);
                ledger.open(&hold, now, Vec::new());
            }
            sizes(&ledger)
        };
        assert_eq!(open(0, 1_000, time(0)), (1_000, 1_000, 2_000));
        assert_eq!(open(1_000, 400, time(61)), (400, 400, 800));
    }
}
