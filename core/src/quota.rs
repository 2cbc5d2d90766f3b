//! The engine and its builder: the verbs, for async callers. `blocking.rs` has the same for others.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::admission::{Admission, Purpose};
use crate::clock::{Clock, Ratchet, SystemClock};
use crate::decision::{Decision, QuotaState, Usage};
use crate::error::Error;
use crate::flight::unblocked;
use crate::plan::catalog::{Catalog, PlansFile};
use crate::plan::{CatalogStatus, FeatureValue, Plan, Plans};
use crate::record::{Changes, Records};
use crate::store::{self, Store, Wait};
use crate::subscription::Subscription;

/// The engine: asks a store, decides by the plans. Clones share everything.
///
/// Needs no particular async runtime, and none of its verbs blocks the one it runs on: what may wait for
/// a disk is done on threads of its own. Only dropping the last clone waits for work under way. For
/// callers without a runtime there is [`blocking::Quota`](crate::blocking::Quota).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # pollster::block_on(async {
/// use quotum::{Plans, Quota};
///
/// let plans = Plans::from_toml(r#"
///     default_plan = "free"
///     [plans.free]
///     quotas = { messages = ["5/day", "150/month"] }
/// "#)?;
/// let quota = Quota::builder().plans(plans).open("memory:").await?;
///
/// let decision = quota.consume("user-42", &[("messages", 1)]).await?;
/// assert!(decision.allowed);
/// assert_eq!(decision.quota("messages").and_then(|state| state.remaining), Some(4));
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Quota {
    pub(crate) admission: Arc<Admission>,
}

impl Quota {
    /// Starts to build an engine.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Charges every cost, or none: allowed only if each metric has room in every one of its periods.
    ///
    /// `costs` are metrics and units, each from 1 to [`UNITS_MAX`](crate::UNITS_MAX). The first
    /// charge of a subject without a subscription starts the default plan's trial, if it is one.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] and [`Error::Unknown`] for costs that no plan could have,
    /// [`Error::Unknown`] also for a subject whose plan was removed from the plans, and
    /// [`Error::Store`] where the store cannot answer. A denial is no error.
    pub async fn consume(&self, subject: &str, costs: &[(&str, u64)]) -> Result<Decision, Error> {
        self.admission.admit(Wait::Yield, Purpose::Charge, subject, costs).await
    }

    /// Whether [`consume`](Self::consume) would be allowed now. Consumes nothing, promises nothing:
    /// another caller may be faster.
    ///
    /// # Errors
    ///
    /// As [`consume`](Self::consume).
    pub async fn check(&self, subject: &str, costs: &[(&str, u64)]) -> Result<Decision, Error> {
        self.admission.admit(Wait::Yield, Purpose::Look, subject, costs).await
    }

    /// Gives units back to the current periods, never below zero, and returns how they then stand.
    ///
    /// # Errors
    ///
    /// As [`consume`](Self::consume).
    pub async fn refund(&self, subject: &str, costs: &[(&str, u64)]) -> Result<Vec<QuotaState>, Error> {
        self.admission.refund(Wait::Yield, subject, costs).await
    }

    /// Every quota of a subject, its plan, trial and expiry: what an account page shows.
    ///
    /// # Errors
    ///
    /// As [`consume`](Self::consume).
    pub async fn usage(&self, subject: &str) -> Result<Usage, Error> {
        self.admission.usage(Wait::Yield, subject).await
    }

    /// The value of a feature; `None` where the plan does not name it or nothing is granted.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] for a feature that no plan names, [`Error::Store`] where the store cannot
    /// answer.
    pub async fn feature(&self, subject: &str, name: &str) -> Result<Option<FeatureValue>, Error> {
        self.admission.feature(Wait::Yield, subject, name).await
    }

    /// Decides whether the subject's plan has a feature.
    ///
    /// # Errors
    ///
    /// As [`feature`](Self::feature).
    pub async fn require(&self, subject: &str, name: &str) -> Result<Decision, Error> {
        self.admission.require(Wait::Yield, subject, name, None).await
    }

    /// Decides whether the subject's plan grants a value of a feature: 90 days of history where the
    /// plan has at most 30.
    ///
    /// # Errors
    ///
    /// As [`feature`](Self::feature), and [`Error::InvalidArgument`] for a value of another kind than
    /// the feature's.
    pub async fn require_value(
        &self,
        subject: &str,
        name: &str,
        value: impl Into<FeatureValue>,
    ) -> Result<Decision, Error> {
        self.admission.require(Wait::Yield, subject, name, Some(value.into())).await
    }

    /// The plans that the public may see, by rank.
    ///
    /// # Errors
    ///
    /// [`Error::NoPlans`], [`Error::Plans`] or [`Error::Store`] where there never were any plans.
    pub async fn plans(&self) -> Result<Vec<Arc<Plan>>, Error> {
        Ok(self.admission.plans(Wait::Yield).await?.visible().cloned().collect())
    }

    /// Puts plans into the store, in place of those it has and of the plans file, and returns their
    /// version. They are in force at once in this process, elsewhere when the catalog is next
    /// refreshed. A call that is cancelled may still take effect, and is then seen as late here too.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] where the store cannot keep them.
    pub async fn set_plans(&self, plans: &Plans) -> Result<u64, Error> {
        self.admission.set_plans(Wait::Yield, plans).await
    }

    /// Makes the next caller read the plans anew, from the store or the plans file.
    pub fn clear_catalog(&self) {
        self.admission.catalog.clear();
    }

    /// Where the plans in force came from, and whether the last refresh failed; `None` before the
    /// first.
    #[must_use]
    pub fn catalog_status(&self) -> Option<CatalogStatus> {
        self.admission.catalog.status()
    }

    /// The subscription of a subject as the store has it; `None` for a subject on the default plan.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] where the store cannot answer.
    pub async fn subscription(&self, subject: &str) -> Result<Option<Subscription>, Error> {
        self.admission.subscription(Wait::Yield, subject).await
    }

    /// Gives a subject a subscription in place of any it had: in force at once in this process,
    /// elsewhere within the subscription's time to live. A call that is cancelled may still take effect,
    /// and is then seen within that time here too.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] for a plan, metric or feature that the plans do not name,
    /// [`Error::InvalidArgument`] for a zone that does not exist, [`Error::Store`] where the store
    /// cannot keep it.
    pub async fn subscribe(&self, subject: &str, subscription: Subscription) -> Result<(), Error> {
        self.admission.subscribe(Wait::Yield, subject, subscription).await
    }

    /// Drops what is cached of a subject; the next request asks the store.
    pub fn forget_subject(&self, subject: &str) {
        self.admission.records.forget(subject);
    }
}

/// Builds an engine: which plans, which clock, how much is cached and for how long.
#[derive(Debug)]
#[must_use = "a builder does nothing until it opens a store"]
pub struct Builder {
    plans: PlansFile,
    clock: Arc<dyn Clock>,
    catalog_ttl: Duration,
    subscription_ttl: Duration,
    records_max: usize,
}

impl Builder {
    fn new() -> Self {
        Self {
            plans: PlansFile::None,
            clock: Arc::new(SystemClock::new()),
            catalog_ttl: Duration::from_secs(300),
            subscription_ttl: Duration::from_secs(30),
            records_max: 100_000,
        }
    }

    /// The plans file, in force as long as the store has no plans. Read when the engine is opened and
    /// at every refresh; a file that has become bad is reported and the last good plans stay.
    pub fn plans_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.plans = PlansFile::Path(path.into());
        self
    }

    /// Plans given as a value, in force as long as the store has none.
    pub fn plans(mut self, plans: Plans) -> Self {
        self.plans = PlansFile::Given(Arc::new(plans));
        self
    }

    /// Where the time comes from; the system's clocks by default.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// How long plans are served before they are refreshed; 5 minutes by default.
    pub fn catalog_ttl(mut self, ttl: Duration) -> Self {
        self.catalog_ttl = ttl;
        self
    }

    /// How long a subscription is served before the store is asked again; 30 seconds by default.
    /// Zero asks every time.
    pub fn subscription_ttl(mut self, ttl: Duration) -> Self {
        self.subscription_ttl = ttl;
        self
    }

    /// How many subjects are kept in memory, rounded up to a multiple of 64; 100,000 by default.
    /// Dropping one costs a read of the store, never a limit.
    pub fn records_max(mut self, records_max: usize) -> Self {
        self.records_max = records_max;
        self
    }

    /// Opens the store that a URL names, such as `sqlite:quota.db` or `memory:`, and the engine on it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a URL that names no store, [`Error::Store`] where it cannot be
    /// opened, and [`Error::Plans`] or [`Error::NoPlans`] where there are no plans to decide by.
    pub async fn open(self, url: &str) -> Result<Quota, Error> {
        let url = url.to_owned();
        let store = unblocked(Wait::Yield, move || store::open(&url)).await??;
        self.open_in(Wait::Yield, store).await
    }

    /// Opens the engine on a store.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn open_on(self, store: Arc<dyn Store>) -> Result<Quota, Error> {
        self.open_in(Wait::Yield, store).await
    }

    pub(crate) async fn open_in(self, wait: Wait, store: Arc<dyn Store>) -> Result<Quota, Error> {
        let catalog = Catalog::new(Arc::clone(&store), self.plans, Arc::clone(&self.clock), self.catalog_ttl);
        let admission = Admission {
            store,
            clock: self.clock,
            ratchet: Ratchet::new(),
            catalog: Arc::new(catalog),
            records: Records::bounded(self.records_max),
            changes: Changes::default(),
            subscription_ttl: self.subscription_ttl,
        };
        // Bad plans are better refused now than at the first request.
        admission.plans(wait).await?;
        Ok(Quota { admission: Arc::new(admission) })
    }
}
