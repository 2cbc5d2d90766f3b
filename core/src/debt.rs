//! Debts: units granted while the store could not be asked, to be charged when it can.
//!
//! Each subject may owe as much of a metric as its plan allows (`allow_degraded`), and no more: a dead
//! store must not become a free one. Debts are in memory; a process that dies loses them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::planted::planted;
use crate::store::{Adjust, Adjustment, Charge, Once};
use crate::usage::demand::Cost;
use crate::usage::hold::HoldId;

/// How many subjects may owe at once. Beyond that, nothing more is granted without the store.
const DEBTORS_MAX: usize = 100_000;

#[derive(Debug, Default)]
pub(crate) struct Debts {
    /// What each subject owes.
    debtors: Mutex<BTreeMap<Arc<str>, Vec<Debt>>>,
    count: AtomicUsize,
}

/// Units that one subject owes.
#[derive(Debug, Clone)]
pub(crate) struct Debt {
    /// Under which name it is charged, so that it is charged once.
    pub(crate) id: HoldId,
    /// The request under an idempotency key that made it, if one did. Charged under that key, it is not
    /// charged again where the store had made the request before it failed.
    pub(crate) once: Option<Once>,
    /// What is to be recorded on each counter.
    pub(crate) adjustments: Vec<Adjustment>,
    /// Units granted, by metric.
    granted: BTreeMap<Arc<str>, u64>,
    /// How many are charging it, or have tried to and cannot know whether they did.
    charging: u32,
}

/// What came of asking for units without the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owed {
    /// They are owed.
    Granted,
    /// They are owed already, under the same idempotency key.
    Repeated,
    /// They are more than the subject may owe.
    Refused,
    /// The idempotency key was used for something else.
    Conflict,
}

impl Debts {
    /// Grants what costs ask for, if the subject may owe it all.
    pub(crate) fn grant(
        &self,
        subject: &Arc<str>,
        once: Option<&Once>,
        costs: &[Cost],
        charges: &[Charge],
        allowed: impl Fn(&str) -> u64,
    ) -> Owed {
        let mut debtors = self.debtors.lock();
        let owed = debtors.get(subject).map(Vec::as_slice).unwrap_or_default();
        let made = |once: &Once| owed.iter().filter_map(|debt| debt.once.as_ref()).find(|made| made.key == once.key);
        if let Some((made, once)) = once.and_then(|once| Some((made(once)?, once))) {
            return if made.arguments == once.arguments { Owed::Repeated } else { Owed::Conflict };
        }
        let room = debtors.len() < DEBTORS_MAX || debtors.contains_key(subject);
        if !room || !fits(owed, costs, allowed) {
            return Owed::Refused;
        }
        let Ok(id) = HoldId::random() else { return Owed::Refused };
        let debts = debtors.entry(Arc::clone(subject)).or_default();
        let place = debts
            .iter()
            .position(|debt| once.is_none() && (debt.grows() || planted!("debt_grows_while_it_is_charged")))
            .unwrap_or(debts.len());
        if place == debts.len() {
            let once = once.cloned();
            debts.push(Debt { id, once, adjustments: Vec::new(), granted: BTreeMap::new(), charging: 0 });
        }
        if let Some(debt) = debts.get_mut(place) {
            for Cost { metric, amount } in costs {
                *debt.granted.entry(Arc::clone(metric)).or_insert(0) += amount;
            }
            charges.iter().for_each(|charge| debt.add(charge));
        }
        self.count.store(debtors.len(), Ordering::Release);
        Owed::Granted
    }

    /// Whether the subject may owe what costs ask for. Nothing is granted.
    pub(crate) fn would_grant(&self, subject: &str, costs: &[Cost], allowed: impl Fn(&str) -> u64) -> bool {
        let debtors = self.debtors.lock();
        let room = debtors.len() < DEBTORS_MAX || debtors.contains_key(subject);
        room && fits(debtors.get(subject).map(Vec::as_slice).unwrap_or_default(), costs, allowed)
    }

    /// Whether anybody owes anything: asked on every request.
    pub(crate) fn are_none(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// How many subjects owe something.
    #[cfg(feature = "metrics")]
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Everybody who owes something.
    pub(crate) fn debtors(&self) -> Vec<Arc<str>> {
        self.debtors.lock().keys().cloned().collect()
    }

    /// The debts of a subject.
    pub(crate) fn of(&self, subject: &str) -> Vec<HoldId> {
        self.debtors.lock().get(subject).into_iter().flatten().map(|debt| debt.id).collect()
    }

    /// One debt, in order to charge it: nothing is added to it from now on.
    pub(crate) fn close(&self, subject: &str, id: HoldId) -> Option<Debt> {
        let mut debtors = self.debtors.lock();
        let debt = debtors.get_mut(subject)?.iter_mut().find(|debt| debt.id == id)?;
        debt.charging += 1;
        Some(debt.clone())
    }

    /// Lets a debt grow again that was closed, and surely not charged.
    pub(crate) fn reopen(&self, subject: &str, id: HoldId) {
        let mut debtors = self.debtors.lock();
        if let Some(debt) = debtors.get_mut(subject).into_iter().flatten().find(|debt| debt.id == id) {
            debt.charging = debt.charging.saturating_sub(1);
        }
    }

    /// Forgets a debt that was charged.
    pub(crate) fn paid(&self, subject: &str, id: HoldId) {
        let mut debtors = self.debtors.lock();
        if let Some(debts) = debtors.get_mut(subject) {
            debts.retain(|debt| debt.id != id);
            if debts.is_empty() {
                debtors.remove(subject);
            }
        }
        self.count.store(debtors.len(), Ordering::Release);
    }
}

/// Whether costs may be owed beside what is owed.
fn fits(owed: &[Debt], costs: &[Cost], allowed: impl Fn(&str) -> u64) -> bool {
    costs.iter().all(|Cost { metric, amount }| {
        let owed: u64 = owed.iter().filter_map(|debt| debt.granted.get(metric)).sum();
        let owed = if planted!("budget_without_the_store_ignored") { 0 } else { owed };
        owed.checked_add(*amount).is_some_and(|sum| sum <= allowed(metric))
    })
}

impl Debt {
    /// Whether more may be added to it: not to what may have been charged, nor to what has a key of its own.
    const fn grows(&self) -> bool {
        self.charging == 0 && self.once.is_none()
    }

    fn add(&mut self, charge: &Charge) {
        let known = self.adjustments.iter_mut().find(|known| known.key == charge.key);
        match known.map(|known| &mut known.by) {
            Some(Adjust::Record(amount, _)) => *amount += charge.amount,
            _ => {
                let by = Adjust::Record(charge.amount, charge.limit);
                self.adjustments.push(Adjustment { key: charge.key.clone(), by });
            }
        }
    }
}
