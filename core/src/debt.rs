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
    /// What each subject owes. Only the last of its debts still grows.
    debtors: Mutex<BTreeMap<Arc<str>, Vec<Debt>>>,
    count: AtomicUsize,
}

/// Units that one subject owes.
#[derive(Debug, Clone)]
pub(crate) struct Debt {
    /// Under which name it is charged, so that it is charged once.
    pub(crate) id: HoldId,
    /// The idempotency key under which it was granted. It is charged under that, because the charge that the
    /// store did not answer may have been made, and because its client may ask again.
    pub(crate) once: Option<Once>,
    /// What is to be recorded on each counter.
    pub(crate) adjustments: Vec<Adjustment>,
    /// Units granted, by metric.
    granted: BTreeMap<Arc<str>, u64>,
    /// Whether it is being charged, so that nothing may be added to it.
    closed: bool,
}

impl Debts {
    /// Grants what costs ask for, if the subject may owe it all.
    pub(crate) fn grant(
        &self,
        subject: &Arc<str>,
        costs: &[Cost],
        charges: &[Charge],
        once: Option<&Once>,
        allowed: impl Fn(&str) -> u64,
    ) -> bool {
        let mut debtors = self.debtors.lock();
        if let Some(earlier) = under_key(&debtors, subject, once) {
            return Some(earlier.arguments) == once.map(|once| once.arguments);
        }
        if !may_owe(&debtors, subject, costs, allowed) {
            return false;
        }
        let Ok(id) = HoldId::random() else { return false };
        let debts = debtors.entry(Arc::clone(subject)).or_default();
        let grows = |last: &Debt| !last.closed || planted!("debt_grows_while_it_is_charged");
        if once.is_some() || !debts.last().is_some_and(grows) {
            // What has a key of its own is a debt of its own.
            let (once, closed) = (once.cloned(), once.is_some());
            debts.push(Debt { id, once, adjustments: Vec::new(), granted: BTreeMap::new(), closed });
        }
        if let Some(debt) = debts.last_mut() {
            for Cost { metric, amount } in costs {
                *debt.granted.entry(Arc::clone(metric)).or_insert(0) += amount;
            }
            charges.iter().for_each(|charge| debt.add(charge));
        }
        self.count.store(debtors.len(), Ordering::Release);
        true
    }

    /// Whether [`grant`](Self::grant) would grant it.
    pub(crate) fn would_grant(&self, subject: &str, costs: &[Cost], allowed: impl Fn(&str) -> u64) -> bool {
        may_owe(&self.debtors.lock(), subject, costs, allowed)
    }

    /// Whether anybody owes anything: asked on every request.
    pub(crate) fn are_none(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Everybody who owes something.
    pub(crate) fn debtors(&self) -> Vec<Arc<str>> {
        self.debtors.lock().keys().cloned().collect()
    }

    /// What a subject owes, in order to charge it.
    pub(crate) fn close(&self, subject: &str) -> Vec<Debt> {
        let mut debtors = self.debtors.lock();
        let Some(debts) = debtors.get_mut(subject) else { return Vec::new() };
        debts.iter_mut().for_each(|debt| debt.closed = true);
        debts.clone()
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

/// The debt that was granted under this key before.
fn under_key<'d>(debtors: &'d BTreeMap<Arc<str>, Vec<Debt>>, subject: &str, once: Option<&Once>) -> Option<&'d Once> {
    let key = &once?.key;
    debtors.get(subject)?.iter().filter_map(|debt| debt.once.as_ref()).find(|earlier| earlier.key == *key)
}

fn may_owe(
    debtors: &BTreeMap<Arc<str>, Vec<Debt>>,
    subject: &str,
    costs: &[Cost],
    allowed: impl Fn(&str) -> u64,
) -> bool {
    let fits = |Cost { metric, amount }: &Cost| {
        let debts = debtors.get(subject).into_iter().flatten();
        let owed: u64 = debts.filter_map(|debt| debt.granted.get(metric)).sum();
        let owed = if planted!("budget_without_the_store_ignored") { 0 } else { owed };
        owed.checked_add(*amount).is_some_and(|sum| sum <= allowed(metric))
    };
    let room = debtors.len() < DEBTORS_MAX || debtors.contains_key(subject);
    room && costs.iter().all(fits)
}

impl Debt {
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
