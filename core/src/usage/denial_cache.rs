//! Cached denials: who has used everything up is told so again without asking the store.
//!
//! A denial holds until a period ends or something changes that could let the request pass: a refund, a
//! grant, another plan or subscription, another enforcement. Every such change gives the subject's record
//! another epoch. What comes back by itself, from a hold or a lease, is waited for no longer than [`WHILE_HELD`].

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::decision::{Decision, QuotaState, Trace};
use crate::plan::Plan;
use crate::policy::Modes;
use crate::usage::demand::Costs;

/// How long a denial holds while units are held that may come back at any time.
const WHILE_HELD: Duration = Duration::from_secs(1);

/// How many denials one subject has cached: for so many different costs.
const DENIALS_MAX: usize = 4;

/// Which decision would be made: for these costs, by these rules, as of these changes.
#[derive(Debug, Clone)]
pub(crate) struct Basis {
    pub(crate) costs: Costs,
    pub(crate) plan: Arc<Plan>,
    pub(crate) modes: Arc<Modes>,
    /// Of the subject's record and of its account's.
    pub(crate) epochs: [u64; 2],
}

impl PartialEq for Basis {
    fn eq(&self, other: &Self) -> bool {
        self.epochs == other.epochs
            && Arc::ptr_eq(&self.plan, &other.plan)
            && Arc::ptr_eq(&self.modes, &other.modes)
            && self.costs == other.costs
    }
}

/// The denials of one subject.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "most subjects have none, and of those there may be a million")]
pub(crate) struct DenialCache(Mutex<Option<Box<Vec<Cached>>>>);

#[derive(Debug)]
struct Cached {
    basis: Basis,
    /// When a period of one of the quotas ends.
    until: Timestamp,
    /// Monotonic time from which the store must be asked again.
    stale_from: Duration,
    decision: Decision,
}

impl DenialCache {
    pub(crate) fn get(&self, basis: &Basis, now: Timestamp, monotonic: Duration) -> Option<Decision> {
        let cached = self.0.lock();
        let found = cached.as_ref()?.iter().find(|cached| cached.basis == *basis)?;
        (now < found.until && monotonic < found.stale_from).then(|| found.decision.clone())
    }

    /// Whether there are any at all.
    pub(crate) fn has_some(&self) -> bool {
        self.0.lock().is_some()
    }

    pub(crate) fn put(&self, basis: Basis, decision: &Decision, monotonic: Duration) {
        let ends = decision.quotas.iter().filter_map(|state| state.resets_at);
        let held = decision.quotas.iter().any(|state: &QuotaState| state.held > 0 || state.stranded > 0);
        let entry = Cached {
            basis,
            until: ends.min().unwrap_or(Timestamp::MAX),
            stale_from: if held { monotonic.saturating_add(WHILE_HELD) } else { Duration::MAX },
            decision: Decision { trace: Trace::default(), ..decision.clone() },
        };
        let mut cached = self.0.lock();
        let cached = cached.get_or_insert_default();
        // What was decided under an earlier epoch is never asked for again.
        cached.retain(|cached| cached.basis.epochs == entry.basis.epochs && cached.basis.costs != entry.basis.costs);
        if cached.len() == DENIALS_MAX {
            cached.remove(0);
        }
        cached.push(entry);
    }
}
