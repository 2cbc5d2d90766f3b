//! The platform: what the handlers share.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use parking_lot::Mutex;
use quotum::http::Mapping;
use quotum::http::TrustedHops;
use quotum::store::Store;
use quotum::token::TokenCacheOptions;
use quotum::{Clock, Plans, Quota, Reason, SystemClock, Timestamp};

use crate::jobs::Jobs;
use crate::storage::Files;
use crate::users::Users;

/// Where the counters last.
#[derive(Debug, Clone)]
pub enum StoreChoice {
    /// Where a URL says, such as `sqlite:job-platform.db`.
    Url(String),
    /// In a store that is there already.
    Given(Arc<dyn Store>),
}

/// How a platform is opened.
#[derive(Debug)]
#[non_exhaustive]
pub struct Settings {
    /// What it sells.
    pub plans: Plans,
    /// Where it counts.
    pub store: StoreChoice,
    /// Where it takes the time from.
    pub clock: Arc<dyn Clock>,
    /// How many proxies of its own stand before it.
    pub hops: TrustedHops,
    /// Administrators, by name, and their tokens.
    pub admins: Vec<(String, String)>,
}

impl Settings {
    /// A platform that clients reach directly, on the system's clock and without administrators.
    #[must_use]
    pub fn new(plans: Plans, store: StoreChoice) -> Self {
        Self { plans, store, clock: Arc::new(SystemClock::new()), hops: TrustedHops::new(0), admins: Vec::new() }
    }
}

/// A platform that is open. Clones share everything.
#[derive(Debug, Clone)]
pub struct Platform {
    pub(crate) quota: Quota,
    /// The plan of everybody who comes.
    pub(crate) default_plan: Arc<str>,
    pub(crate) hops: TrustedHops,
    pub(crate) users: Arc<Users>,
    pub(crate) jobs: Arc<Mutex<Jobs>>,
    pub(crate) files: Arc<Mutex<Files>>,
    /// How the handlers answer denials: 402 where a dearer plan would help.
    pub(crate) mapping: Mapping,
    clock: Arc<dyn Clock>,
}

impl Platform {
    /// Opens the store and the engine on it.
    ///
    /// # Errors
    ///
    /// Where the store cannot be opened.
    pub async fn open(settings: Settings) -> Result<Self> {
        let Settings { plans, store, clock, hops, admins } = settings;
        let default_plan = Arc::clone(&plans.default_plan().id);
        let users = Arc::new(Users::with_admins(Arc::clone(&clock), &admins));
        let builder = Quota::builder()
            .plans(plans)
            .clock(Arc::clone(&clock))
            .verifier(Users::verifier(&users))
            .token_cache(TokenCacheOptions::new().ttl(Duration::from_secs(60)));
        let quota = match store {
            StoreChoice::Url(url) => builder.open(&url).await?,
            StoreChoice::Given(store) => builder.open_on(store).await?,
        };
        let mapping = Mapping::new().status(Reason::QuotaExhausted, 402)?.status(Reason::NeverFits, 402)?;
        let (jobs, files) = (Arc::default(), Arc::default());
        Ok(Self { quota, default_plan, hops, users, jobs, files, mapping, clock })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.wall()
    }

    /// The engine, for changes that the audit log shall know the author of.
    pub(crate) fn acting_as(&self, actor: &str) -> Quota {
        self.quota.acting_as(actor)
    }
}
