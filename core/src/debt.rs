//! Debts: units granted while the store could not be asked, to be charged when it can.
//!
//! Each subject may owe as much of a metric as its plan allows (`allow_degraded`), and no more: a dead
//! store must not become a free one. Debts are in memory: they are charged at the latest when the engine ends, and
//! a process that dies loses them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::plan::UNITS_MAX;
use crate::planted::planted;
use crate::store::{Adjust, Adjustment, Charge, Once};
use crate::usage::demand::{Cost, Costs};
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
    /// Whether what was owed under a key was settled: it is, once.
    settled: bool,
}

/// One request's part of a debt: what a reservation may turn out not to have cost.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    pub(crate) subject: Arc<str>,
    pub(crate) debt: HoldId,
    pub(crate) costs: Costs,
    pub(crate) charges: Vec<Charge>,
}

/// What came of asking for units without the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owed {
    /// They are owed, as part of this debt.
    Granted(HoldId),
    /// They are owed already, under the same idempotency key.
    Repeated(HoldId),
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
        let mut known = owed.iter().filter_map(|debt| Some((debt.id, debt.once.as_ref()?, once?)));
        if let Some((made_by, made, once)) = known.find(|(_, made, once)| made.key == once.key) {
            return if made.arguments == once.arguments { Owed::Repeated(made_by) } else { Owed::Conflict };
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
            let (adjustments, granted) = (Vec::new(), BTreeMap::new());
            debts.push(Debt { id, once, adjustments, granted, charging: 0, settled: false });
        }
        let mut owed = Owed::Refused;
        if let Some(debt) = debts.get_mut(place) {
            for Cost { metric, amount } in costs {
                *debt.granted.entry(Arc::clone(metric)).or_insert(0) += amount;
            }
            charges.iter().for_each(|charge| debt.add(charge));
            owed = Owed::Granted(debt.id);
        }
        self.count.store(debtors.len(), Ordering::Release);
        owed
    }

    /// Has a share of a debt be what was really used, where `used` knows it of a metric. What was charged by now, or
    /// may have been, stays as it is.
    pub(crate) fn settle(&self, share: &Share, used: impl Fn(&str) -> Option<u64>) {
        let mut debtors = self.debtors.lock();
        let Some(debts) = debtors.get_mut(&share.subject) else { return };
        let open = |debt: &&mut Debt| debt.id == share.debt && debt.charging == 0 && !debt.settled;
        let Some(debt) = debts.iter_mut().find(open) else { return };
        debt.settled = debt.once.is_some();
        for Cost { metric, amount } in &share.costs {
            let granted = debt.granted.entry(Arc::clone(metric)).or_insert(0);
            *granted = replaced(*granted, *amount, used(metric));
        }
        // By its own counters: a request that was repeated under its key may have come in another period.
        let whole = debt.settled;
        for Adjustment { key, by } in &mut debt.adjustments {
            let Adjust::Record(owed, _) = by else { continue };
            let of_share = share.charges.iter().find(|charge| charge.key == *key).map(|charge| charge.amount);
            if let Some(amount) = if whole { Some(*owed) } else { of_share } {
                *owed = replaced(*owed, amount, used(&key.metric));
            }
        }
        debt.adjustments.retain(|adjustment| !matches!(adjustment.by, Adjust::Record(0, _)));
        debt.granted.retain(|_, units| *units > 0);
        if debt.adjustments.is_empty() && debt.granted.is_empty() {
            drop_debt(&mut debtors, &share.subject, share.debt);
        }
        self.count.store(debtors.len(), Ordering::Release);
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
        drop_debt(&mut debtors, subject, id);
        self.count.store(debtors.len(), Ordering::Release);
    }
}

fn drop_debt(debtors: &mut BTreeMap<Arc<str>, Vec<Debt>>, subject: &str, id: HoldId) {
    let Some(debts) = debtors.get_mut(subject) else { return };
    debts.retain(|debt| debt.id != id);
    if debts.is_empty() {
        debtors.remove(subject);
    }
}

/// A sum in which one part is another now, if that is known.
fn replaced(sum: u64, part: u64, by: Option<u64>) -> u64 {
    sum.saturating_sub(part).saturating_add(by.unwrap_or(part)).min(UNITS_MAX)
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

#[cfg(test)]
#[allow(clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn grant(debts: &Debts, subject: &Arc<str>) -> Owed {
        let costs = [Cost { metric: "jobs".into(), amount: 1 }];
        debts.grant(subject, None, &costs, &[], |_| 2)
    }

    #[test]
    fn no_more_subjects_owe_than_there_is_room_for() {
        let debts = Debts::default();
        let subjects: Vec<Arc<str>> = (0..DEBTORS_MAX).map(|number| format!("subject-{number}").into()).collect();
        for subject in &subjects {
            assert!(matches!(grant(&debts, subject), Owed::Granted(_)));
        }
        let (first, another): (&Arc<str>, Arc<str>) = (&subjects[0], "another".into());
        assert_eq!(grant(&debts, &another), Owed::Refused);
        assert!(!debts.would_grant(&another, &[], |_| 2));
        let Owed::Granted(id) = grant(&debts, first) else { panic!("it owes something already") };
        assert_eq!(grant(&debts, first), Owed::Refused, "but no more than it may");

        assert!(debts.close(first, id).is_some());
        debts.paid(first, id);
        assert!(matches!(grant(&debts, &another), Owed::Granted(_)), "there is room again");
        assert_eq!(grant(&debts, first), Owed::Refused, "for one");
    }
}
