//! The verbs of [`crate::Quota`] for synchronous callers, on the caller's own thread.
//!
//! A store may then do its work where it is called, which spares two switches of thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pollster::block_on;

use crate::admission::Purpose;
use crate::clock::Clock;
use crate::decision::{Decision, QuotaState, Usage};
use crate::error::Error;
use crate::plan::{CatalogStatus, FeatureValue, Plan, Plans};
use crate::quota;
use crate::store::{self, Store, Wait};
use crate::subscription::Subscription;

/// The engine, for callers without an async runtime. Clones share everything.
///
/// Every verb is that of [`crate::Quota`] and is documented there. Do not call it on a thread that
/// drives async tasks: it waits.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use quotum::{Plans, blocking::Quota};
///
/// let plans = Plans::from_toml(r#"
///     default_plan = "free"
///     [plans.free]
///     quotas = { searches = "3/month" }
/// "#)?;
/// let quota = Quota::builder().plans(plans).open("memory:")?;
/// assert!(quota.consume("user-42", &[("searches", 3)])?.allowed);
/// assert!(!quota.check("user-42", &[("searches", 1)])?.allowed);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Quota {
    inner: crate::Quota,
}

impl Quota {
    /// Starts to build an engine.
    pub fn builder() -> Builder {
        Builder { inner: crate::Quota::builder() }
    }

    /// Charges every cost, or none. See [`crate::Quota::consume`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::consume`].
    pub fn consume(&self, subject: &str, costs: &[(&str, u64)]) -> Result<Decision, Error> {
        block_on(self.inner.admission.admit(Wait::Block, Purpose::Charge, subject, costs))
    }

    /// Whether the costs would be allowed now. See [`crate::Quota::check`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::check`].
    pub fn check(&self, subject: &str, costs: &[(&str, u64)]) -> Result<Decision, Error> {
        block_on(self.inner.admission.admit(Wait::Block, Purpose::Look, subject, costs))
    }

    /// Gives units back. See [`crate::Quota::refund`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::refund`].
    pub fn refund(&self, subject: &str, costs: &[(&str, u64)]) -> Result<Vec<QuotaState>, Error> {
        block_on(self.inner.admission.refund(Wait::Block, subject, costs))
    }

    /// What an account page shows. See [`crate::Quota::usage`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::usage`].
    pub fn usage(&self, subject: &str) -> Result<Usage, Error> {
        block_on(self.inner.admission.usage(Wait::Block, subject))
    }

    /// The value of a feature. See [`crate::Quota::feature`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::feature`].
    pub fn feature(&self, subject: &str, name: &str) -> Result<Option<FeatureValue>, Error> {
        block_on(self.inner.admission.feature(Wait::Block, subject, name))
    }

    /// Decides whether the plan has a feature. See [`crate::Quota::require`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::require`].
    pub fn require(&self, subject: &str, name: &str) -> Result<Decision, Error> {
        block_on(self.inner.admission.require(Wait::Block, subject, name, None))
    }

    /// Decides whether the plan grants a value of a feature. See [`crate::Quota::require_value`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::require_value`].
    pub fn require_value(&self, subject: &str, name: &str, value: impl Into<FeatureValue>) -> Result<Decision, Error> {
        block_on(self.inner.admission.require(Wait::Block, subject, name, Some(value.into())))
    }

    /// The plans that the public may see, by rank. See [`crate::Quota::plans`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::plans`].
    pub fn plans(&self) -> Result<Vec<Arc<Plan>>, Error> {
        Ok(block_on(self.inner.admission.plans(Wait::Block))?.visible().cloned().collect())
    }

    /// Puts plans into the store. See [`crate::Quota::set_plans`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::set_plans`].
    pub fn set_plans(&self, plans: &Plans) -> Result<u64, Error> {
        block_on(self.inner.admission.set_plans(Wait::Block, plans))
    }

    /// Makes the next caller read the plans anew. See [`crate::Quota::clear_catalog`].
    pub fn clear_catalog(&self) {
        self.inner.clear_catalog();
    }

    /// Where the plans came from. See [`crate::Quota::catalog_status`].
    #[must_use]
    pub fn catalog_status(&self) -> Option<CatalogStatus> {
        self.inner.catalog_status()
    }

    /// The subscription of a subject. See [`crate::Quota::subscription`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::subscription`].
    pub fn subscription(&self, subject: &str) -> Result<Option<Subscription>, Error> {
        block_on(self.inner.admission.subscription(Wait::Block, subject))
    }

    /// Gives a subject a subscription. See [`crate::Quota::subscribe`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::subscribe`].
    pub fn subscribe(&self, subject: &str, subscription: Subscription) -> Result<(), Error> {
        block_on(self.inner.admission.subscribe(Wait::Block, subject, subscription))
    }

    /// Drops what is cached of a subject. See [`crate::Quota::forget_subject`].
    pub fn forget_subject(&self, subject: &str) {
        self.inner.forget_subject(subject);
    }

    /// The same engine for async callers.
    #[must_use]
    pub fn to_async(&self) -> crate::Quota {
        self.inner.clone()
    }
}

/// Builds an engine. Every setting is that of [`crate::Builder`] and is documented there.
#[derive(Debug)]
#[must_use = "a builder does nothing until it opens a store"]
pub struct Builder {
    inner: quota::Builder,
}

impl Builder {
    /// The plans file. See [`crate::Builder::plans_file`].
    pub fn plans_file(self, path: impl Into<PathBuf>) -> Self {
        Self { inner: self.inner.plans_file(path) }
    }

    /// Plans given as a value. See [`crate::Builder::plans`].
    pub fn plans(self, plans: Plans) -> Self {
        Self { inner: self.inner.plans(plans) }
    }

    /// Where the time comes from. See [`crate::Builder::clock`].
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { inner: self.inner.clock(clock) }
    }

    /// How long plans are served. See [`crate::Builder::catalog_ttl`].
    pub fn catalog_ttl(self, ttl: Duration) -> Self {
        Self { inner: self.inner.catalog_ttl(ttl) }
    }

    /// How long a subscription is served. See [`crate::Builder::subscription_ttl`].
    pub fn subscription_ttl(self, ttl: Duration) -> Self {
        Self { inner: self.inner.subscription_ttl(ttl) }
    }

    /// How many subjects are kept in memory. See [`crate::Builder::records_max`].
    pub fn records_max(self, records_max: usize) -> Self {
        Self { inner: self.inner.records_max(records_max) }
    }

    /// Opens the store that a URL names, and the engine on it. See [`crate::Builder::open`].
    ///
    /// # Errors
    ///
    /// As [`crate::Builder::open`].
    pub fn open(self, url: &str) -> Result<Quota, Error> {
        self.open_on(store::open(url)?)
    }

    /// Opens the engine on a store. See [`crate::Builder::open_on`].
    ///
    /// # Errors
    ///
    /// As [`crate::Builder::open`].
    pub fn open_on(self, store: Arc<dyn Store>) -> Result<Quota, Error> {
        Ok(Quota { inner: block_on(self.inner.open_in(Wait::Block, store))? })
    }
}
