//! Cached usage: an account page that is shown again is not read from the store again.
//!
//! What this process charges is seen at once; what others charge, within [`TTL`].

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::decision::Usage;
use crate::standing::Standing;

/// How old usage may be that is shown.
const TTL: Duration = Duration::from_secs(1);

/// As of which subscription, changes and charges a usage was read; the latter two of the subject and of its
/// account.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) standing: Arc<Standing>,
    pub(crate) epochs: [u64; 2],
    pub(crate) charges: [u32; 2],
}

impl PartialEq for Reading {
    fn eq(&self, other: &Self) -> bool {
        self.epochs == other.epochs && self.charges == other.charges && Arc::ptr_eq(&self.standing, &other.standing)
    }
}

#[derive(Debug, Default)]
pub(crate) struct UsageCache(Mutex<Option<Box<Cached>>>);

#[derive(Debug)]
struct Cached {
    reading: Reading,
    stale_from: Duration,
    usage: Usage,
}

impl UsageCache {
    pub(crate) fn get(&self, reading: &Reading, now: Timestamp, monotonic: Duration) -> Option<Usage> {
        let cached = self.0.lock();
        let found = cached.as_ref().filter(|cached| cached.reading == *reading && monotonic < cached.stale_from)?;
        let ended = found.usage.quotas.iter().any(|state| state.resets_at.is_some_and(|end| end <= now));
        (!ended).then(|| found.usage.clone())
    }

    pub(crate) fn put(&self, reading: Reading, usage: &Usage, monotonic: Duration) {
        let stale_from = monotonic.saturating_add(TTL);
        *self.0.lock() = Some(Box::new(Cached { reading, stale_from, usage: usage.clone() }));
    }
}
