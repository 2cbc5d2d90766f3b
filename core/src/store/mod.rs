//! Stores: where plans, subscriptions and counters last.
//!
//! One trait. Every method is one atomic step and takes the time it needs as an argument; a store
//! reads no clock, but that a server may go by its own. What a store must promise is stated as tests in
//! `conformance.rs`.

#[cfg(any(feature = "postgres", feature = "redis"))]
mod combining;
#[cfg(feature = "conformance")]
pub mod conformance;
mod editions;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod effect;
mod error;
mod layer;
mod map;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
mod sourced;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod time;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod turns;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

pub use self::editions::Editions;
pub use self::error::StoreError;
pub(crate) use self::layer::Guard;
pub use self::layer::{BreakerOptions, CircuitBreaker, Layer, Layered, Step, Timeout};
#[cfg(feature = "faults")]
pub use self::layer::{Fault, FaultCounts, FaultRule, Faults};
pub use self::map::{Map, MapEntry, MapStore, MapTransaction};
pub use self::memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use self::postgres::{PostgresOptions, PostgresStore};
#[cfg(feature = "redis")]
pub use self::redis::{RedisOptions, RedisStore};
pub use self::sourced::Sourced;
#[cfg(feature = "sqlite")]
pub use self::sqlite::{Durability, SqliteOptions, SqliteStore};
#[cfg(any(feature = "postgres", feature = "redis"))]
pub use self::time::StoreTime;
use crate::clock::Clock;
use crate::error::Error;
use crate::event::{Event, EventQuery};
use crate::plan::Plans;
pub use crate::rate::shared::{Paced, SharedRate, SharedWindow, pace_all};
use crate::subscription::{Status, Subscription};
use crate::token::{Identity, TokenDigest};
pub use crate::usage::counter::{
    Adjust, Adjustment, Balance, Charge, Charged, CounterKey, Crossing, Outcome, THRESHOLDS, charge_all,
};
pub use crate::usage::hold::{Fingerprint, Hold, Once, Part, Receipt, Settle, Settled, settle_one};
pub use crate::usage::lease::{Lease, Leased, lease_all};

/// What a store's method returns: a boxed future, so that any store fits behind one trait object.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The circumstances of one call to a store.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Call {
    /// The time, by the engine's clock.
    pub now: Timestamp,
    /// Whether the calling thread may be made to wait.
    pub wait: Wait,
    /// When the request was made that this is a step of, by the engine's monotonic clock: so that it is read
    /// once for a request.
    pub(crate) monotonic: Option<Duration>,
    /// The same by the computer's own clock, by which all steps of the request share one timeout.
    pub(crate) asked: Option<Instant>,
}

impl Call {
    /// A call made at `now`.
    #[must_use]
    pub const fn new(now: Timestamp, wait: Wait) -> Self {
        Self { now, wait, monotonic: None, asked: None }
    }

    /// The steps of a request that is made now.
    pub(crate) fn asked_now(self) -> Self {
        Self { asked: Some(Instant::now()), ..self }
    }

    /// When the request was made, by the engine's monotonic time.
    pub(crate) fn monotonic(&self, clock: &dyn Clock) -> Duration {
        self.monotonic.unwrap_or_else(|| clock.monotonic())
    }
}

/// Whether a store may make the calling thread wait for a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wait {
    /// The caller is synchronous: the work may be done on its own thread, inside `poll`.
    Block,
    /// The caller is a task: `poll` must return at once, and the work is done elsewhere.
    Yield,
}

/// Plans as a store holds them.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredPlans {
    /// How many times plans were put, this time included.
    pub version: u64,
    /// The plans.
    pub plans: Plans,
}

/// A subject and its subscription, as a listing shows them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Subscriber {
    /// The subject.
    pub subject: Arc<str>,
    /// Its subscription.
    pub subscription: Subscription,
}

/// Which subscribers to list, in the order of their subjects' bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriberQuery {
    /// Only subjects that come after this one: the last of the page before.
    pub after: Option<Arc<str>>,
    /// Only subjects whose id contains this text, capitals and all.
    pub containing: Option<String>,
    /// Only subscriptions to this plan.
    pub plan: Option<String>,
    /// Only subscriptions in this state.
    pub status: Option<Status>,
    /// Only members of this account.
    pub account: Option<String>,
    /// At most so many.
    pub limit: usize,
}

impl SubscriberQuery {
    /// The first hundred subscribers.
    #[must_use]
    pub const fn all() -> Self {
        Self { after: None, containing: None, plan: None, status: None, account: None, limit: 100 }
    }

    pub(crate) fn wants(&self, subject: &str, subscription: &Subscription) -> bool {
        self.after.as_ref().is_none_or(|after| subject > &**after)
            && self.containing.as_ref().is_none_or(|text| subject.contains(text.as_str()))
            && self.plan.as_ref().is_none_or(|plan| subscription.plan == *plan)
            && self.status.is_none_or(|status| subscription.status == status)
            && self.account.as_ref().is_none_or(|account| subscription.account.as_ref() == Some(account))
    }
}

/// How many subjects have a subscription to a plan in a state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Census {
    /// The plan's id.
    pub plan: String,
    /// The state.
    pub status: Status,
    /// How many subjects.
    pub subjects: u64,
}

/// Who a token stands for, and until when that is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptIdentity {
    /// The identity.
    pub identity: Identity,
    /// From when it is to be verified again, in whole milliseconds.
    pub until: Timestamp,
}

/// Whose tokens are forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forgotten {
    /// One token.
    Token(TokenDigest),
    /// Every token of a subject.
    Subject(Arc<str>),
}

/// Where plans, subscriptions, counters, holds and events last.
///
/// A method that returns an error has done nothing, unless [`StoreError::retry`] says that the
/// outcome is unknown. A future that is dropped has done the whole step or nothing of it. A method
/// that takes an [`Event`] appends it to the log in the same step, if it changes anything.
///
/// A database that this crate does not know is a store by far less than this: see [`Map`].
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// The plans that were put last, if any were.
    fn plans(&self, call: Call) -> StoreFuture<'_, Option<StoredPlans>>;

    /// Replaces the plans and returns their version.
    fn put_plans<'a>(&'a self, call: Call, plans: &'a Plans, event: &'a Event) -> StoreFuture<'a, u64>;

    /// The subscription of a subject, if it has one.
    fn subscription<'a>(&'a self, call: Call, subject: &'a str) -> StoreFuture<'a, Option<Subscription>>;

    /// Gives a subject this subscription in place of any it had.
    fn put_subscription<'a>(
        &'a self,
        call: Call,
        subject: &'a str,
        subscription: &'a Subscription,
        event: &'a Event,
    ) -> StoreFuture<'a, ()>;

    /// Gives a subject the subscription `to` if the one it has is `from`, and returns the one it then
    /// has: another than `to` where somebody else was faster.
    fn swap_subscription<'a>(
        &'a self,
        call: Call,
        subject: &'a str,
        from: Option<&'a Subscription>,
        to: &'a Subscription,
        event: &'a Event,
    ) -> StoreFuture<'a, Option<Subscription>>;

    /// Subjects that have a subscription, and theirs.
    fn subscribers<'a>(&'a self, call: Call, query: &'a SubscriberQuery) -> StoreFuture<'a, Vec<Subscriber>>;

    /// How many subjects are on each plan, by plan and state.
    fn census(&self, call: Call) -> StoreFuture<'_, Vec<Census>>;

    /// Charges every counter, where all of them stay within their limits; otherwise none.
    ///
    /// Under [`Once`], charges that were made are not made again as long as the store remembers them;
    /// charges that were refused are decided anew.
    fn charge<'a>(&'a self, call: Call, charges: &'a [Charge], once: Option<&'a Once>) -> StoreFuture<'a, Charged>;

    /// Sets units aside on every counter, where all of them stay within their limits; otherwise on none.
    /// They are given back at `expires_at`, unless the hold is settled before. Holds that were refused are
    /// not remembered.
    fn hold<'a>(&'a self, call: Call, hold: &'a Hold) -> StoreFuture<'a, Charged>;

    /// Resolves a hold, once: charges what was really used and gives the rest back.
    fn settle<'a>(&'a self, call: Call, settle: &'a Settle) -> StoreFuture<'a, Settled>;

    /// Leases a block of units, as many as [`lease_all`] says, to whoever grants them from memory. What is not
    /// settled at `expires_at` is charged in full. Another block of the same holder may be settled in the same step,
    /// before it: that happens also where no block is made.
    ///
    /// A block is settled like a hold, and counts as one in what counters hold.
    fn lease<'a>(&'a self, call: Call, lease: &'a Lease) -> StoreFuture<'a, Leased>;

    /// Whether grants from leased blocks save enough to strand some units for a while: where a step takes a disk
    /// or a network.
    fn is_worth_leasing(&self) -> bool {
        false
    }

    /// Whether every step is done, or has failed, when it is first polled, and holds nobody up: where nothing but
    /// memory is asked. [`try_admit`](crate::Quota::try_admit) then asks it too.
    fn answers_at_once(&self) -> bool {
        false
    }

    /// What each counter holds, in the order of the keys. A counter never charged holds nothing.
    fn balances<'a>(&'a self, call: Call, keys: &'a [CounterKey]) -> StoreFuture<'a, Vec<Balance>>;

    /// Changes counters whatever their limits, and returns what each then holds. Under [`Once`], nothing
    /// is done a second time.
    fn adjust<'a>(
        &'a self,
        call: Call,
        adjustments: &'a [Adjustment],
        once: Option<&'a Once>,
        event: &'a Event,
    ) -> StoreFuture<'a, Charged>;

    /// Takes a cost from every window of a rate, as [`pace_all`] says, or from none. The time is the store's own, to
    /// the millisecond; one that goes back gives nothing back.
    fn rate<'a>(&'a self, call: Call, rate: &'a SharedRate) -> StoreFuture<'a, Paced>;

    /// Who a token stands for, if that was put and is still kept.
    fn identity<'a>(&'a self, call: Call, token: &'a TokenDigest) -> StoreFuture<'a, Option<KeptIdentity>>;

    /// Keeps who a token stands for, unless tokens were forgotten after the change numbered `followed`: a
    /// verification that began before a revocation must not undo it.
    fn put_identity<'a>(
        &'a self,
        call: Call,
        token: &'a TokenDigest,
        kept: &'a KeptIdentity,
        followed: u64,
    ) -> StoreFuture<'a, ()>;

    /// Forgets one token, or all of a subject's. The event is logged also where nothing was kept: other
    /// processes may remember more.
    fn forget_identities<'a>(&'a self, call: Call, which: &'a Forgotten, event: &'a Event) -> StoreFuture<'a, ()>;

    /// Appends events to the log.
    fn record<'a>(&'a self, call: Call, events: &'a [Event]) -> StoreFuture<'a, ()>;

    /// Reads the log.
    fn events<'a>(&'a self, call: Call, query: &'a EventQuery) -> StoreFuture<'a, Vec<Event>>;
}

/// Opens the store that a URL names.
///
/// - `memory:` keeps everything in this process and loses it at its end.
/// - `sqlite:quota.db`, with `?synchronous=full|normal` and `&busy_timeout_ms=5000`.
/// - `postgres://user:password@host/database`, with the crate's feature `postgres`, and `postgres-tls` for encryption.
/// - `redis://user:password@host:6379`, `rediss://…` through TLS, `redis+unix:///run/redis.sock`, and
///   `redis://host1:7000,host2:7000?cluster=true`, with the crate's feature `redis`.
///
/// # Errors
///
/// [`Error::InvalidArgument`] for a URL that names no store, and [`Error::Store`] where the store
/// cannot be opened.
///
/// ```
/// let store = quotum::store::open("memory:")?;
/// # Ok::<(), quotum::Error>(())
/// ```
pub fn open(url: &str) -> Result<Arc<dyn Store>, Error> {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    match scheme {
        "memory" if rest.is_empty() => Ok(Arc::new(MemoryStore::new())),
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(Arc::new(SqliteOptions::from_url(url)?.open()?)),
        #[cfg(not(feature = "sqlite"))]
        "sqlite" => Err(Error::argument("url", format!("{url:?}"), "`memory:`, or the crate's feature `sqlite`")),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(Arc::new(PostgresOptions::from_url(url)?.open()?)),
        // A URL of a server is not repeated: it may hold a password.
        #[cfg(not(feature = "postgres"))]
        "postgres" | "postgresql" => {
            Err(Error::argument("url", format!("\"{scheme}:…\""), "the crate's feature `postgres` for this URL"))
        }
        #[cfg(feature = "redis")]
        "redis" | "rediss" | "redis+unix" | "valkey" | "valkeys" | "valkey+unix" => {
            Ok(Arc::new(RedisOptions::from_url(url)?.open()?))
        }
        #[cfg(not(feature = "redis"))]
        "redis" | "rediss" | "redis+unix" | "valkey" | "valkeys" | "valkey+unix" => {
            Err(Error::argument("url", format!("\"{scheme}:…\""), "the crate's feature `redis` for this URL"))
        }
        _ => {
            let shown = if rest.contains('@') { format!("\"{scheme}:…\"") } else { format!("{url:?}") };
            Err(Error::argument("url", shown, "`memory:`, `sqlite:` and the path of a file, `postgres:` or `redis:`"))
        }
    }
}
