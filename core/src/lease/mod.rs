//! Leases: units that are granted from memory, out of blocks leased from the store.
//!
//! A block is charged in full when it expires unsettled, so nothing that a process does with one can exceed a limit:
//! what is at stake is only how many units are stranded in it. How large blocks are is in [`demand`] and in the
//! store's [`lease_all`](crate::store::lease_all); what one of them is in [`block`]; what a process has is in [`pool`]; how
//! requests take from it in [`granting`]; how it is renewed, returned and recalled in [`keeping`], by a thread of the
//! engine's own.

mod block;
pub(crate) mod demand;
mod granting;
mod keeping;
pub(crate) mod pool;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use self::block::{Ended, Terms};
pub(crate) use self::granting::Granting;
use crate::admission::Admission;
use crate::fork::Born;
use crate::plan::{EXACT_UP_TO, Leasing, Limit, Plan, UNITS_MAX};
use crate::record::Record;
use crate::sync::Monitor;
use crate::usage::demand::Touched;

/// The leases of one engine: on which terms it takes them, and whose pools are to be looked after.
#[derive(Debug)]
pub(crate) struct Desk {
    engine: Weak<Admission>,
    /// In the process that leases. A request that is under way at a fork may end in the child, still on this engine:
    /// there it neither leases nor settles anything.
    born: Born,
    /// What holds for quotas whose plan does not say.
    default: Leasing,
    /// Whether the store is slower than memory.
    is_worth_it: bool,
    work: Monitor<Work>,
    /// Units that were charged in blocks although nobody had used them.
    lost: AtomicU64,
    /// How often a request was denied while units were leased elsewhere.
    stranded: AtomicU64,
}

/// What is leased, for people who look at metrics.
#[cfg(feature = "metrics")]
pub(crate) struct Open {
    /// Units left in the blocks of this process.
    pub(crate) left: u64,
    /// Units in the blocks of others.
    pub(crate) stranded: u64,
    /// How many subjects and accounts have blocks.
    pub(crate) owners: usize,
}

/// Records, each once: by where it lies in memory, which is nobody else's as long as it is in here.
type Owners = BTreeMap<usize, Arc<Record>>;

#[derive(Debug, Default)]
struct Work {
    /// Owners that somebody called for.
    called: Owners,
    /// Owners that have leased something, or may have.
    open: Owners,
    /// Whether a thread is at work.
    keeper: bool,
    /// When the first of them is to be looked after, by monotonic time.
    due: Option<Duration>,
}

impl Desk {
    pub(crate) fn new(engine: &Weak<Admission>, default: Leasing, is_worth_it: bool) -> Self {
        Self {
            engine: Weak::clone(engine),
            born: Born::here(),
            default,
            is_worth_it,
            work: Monitor::default(),
            lost: AtomicU64::new(0),
            stranded: AtomicU64::new(0),
        }
    }

    /// On which terms units of these quotas are leased, which are one owner's of one metric; `None` where every
    /// charge is made in the store.
    fn terms(&self, plan: &Plan, touched: &[Touched<'_>]) -> Option<Terms> {
        let metric = touched.first()?.metric;
        let small = |quota: &Touched<'_>| match quota.limit.limit() {
            Limit::Units(units) => units <= EXACT_UP_TO,
            Limit::Unlimited => false,
        };
        if touched.iter().all(|quota| quota.limit.period().is_none()) || touched.iter().any(small) {
            return None;
        }
        let (max, ttl_s) = match plan.lease.get(metric).copied().unwrap_or(self.default) {
            Leasing::Off => return None,
            Leasing::Auto if !self.is_worth_it => return None,
            Leasing::Auto => (UNITS_MAX, Leasing::TTL_S),
            Leasing::Blocks { max, ttl_s } => (max, ttl_s),
        };
        Some(Terms { max, ttl: Duration::from_secs(ttl_s.into()) })
    }

    /// What is counted for people who look at metrics: units lost, and denials while units were leased elsewhere.
    #[cfg(feature = "metrics")]
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.lost.load(Ordering::Relaxed), self.stranded.load(Ordering::Relaxed))
    }

    /// What is leased of all that this process has leased something of.
    #[cfg(feature = "metrics")]
    pub(crate) fn open(&self) -> Open {
        let owners = self.work.lock().open.clone();
        let mut open = Open { left: 0, stranded: 0, owners: owners.len() };
        for record in owners.values() {
            for pool in record.pools.0.lock().iter().flat_map(|pools| pools.iter()) {
                open.left += pool.left();
                open.stranded += pool.stranded();
            }
        }
        open
    }

    fn ended(&self, ended: &Ended) {
        self.lost.fetch_add(ended.lost, Ordering::Relaxed);
    }

    fn denied_while_leased(&self, quotas: u64) {
        self.stranded.fetch_add(quotas, Ordering::Relaxed);
    }
}

/// The touched quotas, one owner's of one metric at a time.
fn by_owner<'t, 'c>(touched: &'t [Touched<'c>]) -> impl Iterator<Item = &'t [Touched<'c>]> {
    touched.chunk_by(|one, other| one.metric == other.metric && one.owner == other.owner)
}
