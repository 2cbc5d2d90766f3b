//! Editions: a version for plans that a host keeps without one.

use parking_lot::Mutex;

use super::StoredPlans;
use crate::plan::Plans;

/// Numbers plans as they change, from 1, for a host that reads its plans by a function of
/// [`Sourced`](super::Sourced) and keeps no version of them.
///
/// ```
/// use quotum::Plans;
/// use quotum::store::Editions;
///
/// let editions = Editions::default();
/// let version = |text| editions.number(Plans::from_toml(text).ok()).map(|stored| stored.version);
/// let (free, paid) = ("default_plan = 'free'\n[plans.free]", "default_plan = 'paid'\n[plans.paid]");
/// assert_eq!([free, free, paid].map(version), [Some(1), Some(1), Some(2)]);
/// assert_eq!(editions.number(None), None);
/// ```
#[derive(Debug, Default)]
pub struct Editions(Mutex<Option<StoredPlans>>);

impl Editions {
    /// The plans with the version that they had before, or a new one where they are others.
    #[must_use]
    pub fn number(&self, plans: Option<Plans>) -> Option<StoredPlans> {
        let plans = plans?;
        let mut last = self.0.lock();
        let version = match &*last {
            Some(known) if known.plans == plans => known.version,
            known => known.as_ref().map_or(0, |known| known.version) + 1,
        };
        let stored = StoredPlans { version, plans };
        *last = Some(stored.clone());
        Some(stored)
    }
}
