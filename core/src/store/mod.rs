//! Stores: where plans, subscriptions and counters last.
//!
//! One trait. Every method is one atomic step and takes the time it needs as an argument; a store
//! reads no clock. What a store must promise is stated as tests in `conformance.rs`.

#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod memory;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use jiff::Timestamp;

pub use self::error::StoreError;
pub use self::memory::MemoryStore;
#[cfg(feature = "sqlite")]
pub use self::sqlite::{Durability, SqliteOptions, SqliteStore};
use crate::error::Error;
use crate::plan::Plans;
use crate::subscription::Subscription;
pub use crate::usage::counter::{Balance, Charge, Charged, CounterKey, charge_all};

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
}

impl Call {
    /// A call made at `now`.
    #[must_use]
    pub const fn new(now: Timestamp, wait: Wait) -> Self {
        Self { now, wait }
    }
}

/// Whether a store may make the calling thread wait for a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// Units to give back to a counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// The counter.
    pub key: CounterKey,
    /// How many units, at least 1.
    pub amount: u64,
}

/// Where plans, subscriptions and counters last.
///
/// A method that returns an error has done nothing, unless [`StoreError::retry`] says that the
/// outcome is unknown. A future that is dropped has done the whole step or nothing of it.
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// The plans that were put last, if any were.
    fn plans(&self, call: Call) -> StoreFuture<'_, Option<StoredPlans>>;

    /// Replaces the plans and returns their version.
    fn put_plans<'a>(&'a self, call: Call, plans: &'a Plans) -> StoreFuture<'a, u64>;

    /// The subscription of a subject, if it has one.
    fn subscription<'a>(&'a self, call: Call, subject: &'a str) -> StoreFuture<'a, Option<Subscription>>;

    /// Gives a subject this subscription in place of any it had.
    fn put_subscription<'a>(
        &'a self,
        call: Call,
        subject: &'a str,
        subscription: &'a Subscription,
    ) -> StoreFuture<'a, ()>;

    /// Gives a subject this subscription unless it has one, and returns the one it then has.
    fn add_subscription<'a>(
        &'a self,
        call: Call,
        subject: &'a str,
        subscription: &'a Subscription,
    ) -> StoreFuture<'a, Subscription>;

    /// Charges every counter, where all of them stay within their limits; otherwise none.
    fn charge<'a>(&'a self, call: Call, charges: &'a [Charge]) -> StoreFuture<'a, Charged>;

    /// What each counter holds, in the order of the keys. A counter never charged holds nothing.
    fn balances<'a>(&'a self, call: Call, keys: &'a [CounterKey]) -> StoreFuture<'a, Vec<Balance>>;

    /// Gives units back, each counter to zero at the least, and returns what each then holds.
    fn refund<'a>(&'a self, call: Call, refunds: &'a [Refund]) -> StoreFuture<'a, Vec<Balance>>;
}

/// Opens the store that a URL names.
///
/// - `memory:` keeps everything in this process and loses it at its end.
/// - `sqlite:quota.db`, with `?synchronous=full|normal` and `&busy_timeout_ms=5000`.
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
        _ => Err(Error::argument("url", format!("{url:?}"), "`memory:` or `sqlite:` and the path of a file")),
    }
}
