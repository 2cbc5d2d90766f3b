//! Layers: what is done around every step of a store, whichever store it is.
//!
//! A layer sees that a step is made and what came of it, not what it says: timeouts, breakers and
//! planted faults need no more. [`Layered`] is the only code that knows all the steps.

mod alarm;
mod breaker;
#[cfg(feature = "faults")]
mod fault;
mod guard;
mod timeout;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

pub use self::breaker::{BreakerOptions, CircuitBreaker};
#[cfg(feature = "faults")]
pub use self::fault::{Fault, FaultCounts, FaultRule, Faults};
pub(crate) use self::guard::Guard;
pub use self::timeout::Timeout;
use super::{
    Adjustment, Balance, Call, Census, Charge, Charged, CounterKey, Forgotten, Hold, KeptIdentity, Lease, Leased, Once,
    Paced, Settle, Settled, SharedRate, Store, StoreError, StoreFuture, StoredPlans, Subscriber, SubscriberQuery,
};
use crate::error::Retry;
use crate::event::{Event, EventQuery};
use crate::plan::Plans;
use crate::subscription::Subscription;
use crate::token::TokenDigest;

/// The methods of [`Store`], by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is the method of its name")]
pub enum Step {
    Plans,
    PutPlans,
    Subscription,
    PutSubscription,
    SwapSubscription,
    Subscribers,
    Census,
    Charge,
    Hold,
    Settle,
    Lease,
    Balances,
    Adjust,
    Rate,
    Identity,
    PutIdentity,
    ForgetIdentities,
    Record,
    Events,
}

impl Step {
    /// Whether it may change anything, so that a step whose answer was lost may have been made.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(
            self,
            Self::PutPlans
                | Self::PutSubscription
                | Self::SwapSubscription
                | Self::Charge
                | Self::Hold
                | Self::Settle
                | Self::Lease
                | Self::Adjust
                | Self::Rate
                | Self::PutIdentity
                | Self::ForgetIdentities
                | Self::Record
        )
    }

    /// Whether the step may be made again where it was begun and its answer was lost.
    #[must_use]
    pub const fn retry_if_lost(self) -> Retry {
        if self.writes() { Retry::OutcomeUnknown } else { Retry::Safe }
    }
}

/// What is done around every step of a store.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use quotum::store::{Call, Layer, Layered, MemoryStore, Step, StoreFuture};
///
/// /// Counts what a store is asked.
/// #[derive(Debug, Default)]
/// struct Counted(AtomicU64);
///
/// impl Layer for Counted {
///     fn around<'a, T: Send + 'a>(&'a self, _: Call, _: Step, inner: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
///         self.0.fetch_add(1, Ordering::Relaxed);
///         inner
///     }
/// }
///
/// let store = Layered::new(Arc::new(MemoryStore::new()), Counted::default());
/// ```
pub trait Layer: fmt::Debug + Send + Sync + 'static {
    /// Makes the step, or does not, and returns what came of it. A step is made by polling `inner`.
    fn around<'a, T: Send + 'a>(&'a self, call: Call, step: Step, inner: StoreFuture<'a, T>) -> StoreFuture<'a, T>;
}

/// A store with a layer around it. A store that panics before it returns a future is one that fails.
#[derive(Debug)]
pub struct Layered<L> {
    store: Arc<dyn Store>,
    layer: L,
}

impl<L: Layer> Layered<L> {
    /// Puts a layer around a store.
    pub const fn new(store: Arc<dyn Store>, layer: L) -> Self {
        Self { store, layer }
    }

    /// The layer.
    pub const fn layer(&self) -> &L {
        &self.layer
    }

    /// Puts the layer around a step of the store.
    fn step<'a, T: Send + 'a>(
        &'a self,
        call: Call,
        step: Step,
        make: impl FnOnce(&'a dyn Store) -> StoreFuture<'a, T>,
    ) -> StoreFuture<'a, T> {
        let inner = catch_unwind(AssertUnwindSafe(|| make(&*self.store)));
        let inner = inner.unwrap_or_else(|_| Box::pin(std::future::ready(Err(panicked(step)))));
        self.layer.around(call, step, inner)
    }
}

/// What a panic in a step comes to.
fn panicked(step: Step) -> StoreError {
    StoreError::Failed { detail: "it panicked".to_owned(), retry: step.retry_if_lost() }
}

impl<L: Layer> Store for Layered<L> {
    fn plans(&self, call: Call) -> StoreFuture<'_, Option<StoredPlans>> {
        self.step(call, Step::Plans, |store| store.plans(call))
    }

    fn put_plans<'a>(&'a self, call: Call, plans: &'a Plans, event: &'a Event) -> StoreFuture<'a, u64> {
        self.step(call, Step::PutPlans, |store| store.put_plans(call, plans, event))
    }

    fn subscription<'a>(&'a self, call: Call, subject: &'a str) -> StoreFuture<'a, Option<Subscription>> {
        self.step(call, Step::Subscription, |store| store.subscription(call, subject))
    }

    fn put_subscription<'a>(
        &'a self,
        call: Call,
        subject: &'a str,
        subscription: &'a Subscription,
        event: &'a Event,
    ) -> StoreFuture<'a, ()> {
        self.step(call, Step::PutSubscription, |store| store.put_subscription(call, subject, subscription, event))
    }

    fn swap_subscription<'a>(
        &'a self,
        call: Call,
        subject: &'a str,
        from: Option<&'a Subscription>,
        to: &'a Subscription,
        event: &'a Event,
    ) -> StoreFuture<'a, Option<Subscription>> {
        self.step(call, Step::SwapSubscription, |store| store.swap_subscription(call, subject, from, to, event))
    }

    fn subscribers<'a>(&'a self, call: Call, query: &'a SubscriberQuery) -> StoreFuture<'a, Vec<Subscriber>> {
        self.step(call, Step::Subscribers, |store| store.subscribers(call, query))
    }

    fn census(&self, call: Call) -> StoreFuture<'_, Vec<Census>> {
        self.step(call, Step::Census, |store| store.census(call))
    }

    fn charge<'a>(&'a self, call: Call, charges: &'a [Charge], once: Option<&'a Once>) -> StoreFuture<'a, Charged> {
        self.step(call, Step::Charge, |store| store.charge(call, charges, once))
    }

    fn hold<'a>(&'a self, call: Call, hold: &'a Hold) -> StoreFuture<'a, Charged> {
        self.step(call, Step::Hold, |store| store.hold(call, hold))
    }

    fn settle<'a>(&'a self, call: Call, settle: &'a Settle) -> StoreFuture<'a, Settled> {
        self.step(call, Step::Settle, |store| store.settle(call, settle))
    }

    fn lease<'a>(&'a self, call: Call, lease: &'a Lease) -> StoreFuture<'a, Leased> {
        self.step(call, Step::Lease, |store| store.lease(call, lease))
    }

    fn is_worth_leasing(&self) -> bool {
        self.store.is_worth_leasing()
    }

    fn balances<'a>(&'a self, call: Call, keys: &'a [CounterKey]) -> StoreFuture<'a, Vec<Balance>> {
        self.step(call, Step::Balances, |store| store.balances(call, keys))
    }

    fn adjust<'a>(
        &'a self,
        call: Call,
        adjustments: &'a [Adjustment],
        once: Option<&'a Once>,
        event: &'a Event,
    ) -> StoreFuture<'a, Charged> {
        self.step(call, Step::Adjust, |store| store.adjust(call, adjustments, once, event))
    }

    fn rate<'a>(&'a self, call: Call, rate: &'a SharedRate) -> StoreFuture<'a, Paced> {
        self.step(call, Step::Rate, |store| store.rate(call, rate))
    }

    fn identity<'a>(&'a self, call: Call, token: &'a TokenDigest) -> StoreFuture<'a, Option<KeptIdentity>> {
        self.step(call, Step::Identity, |store| store.identity(call, token))
    }

    fn put_identity<'a>(
        &'a self,
        call: Call,
        token: &'a TokenDigest,
        kept: &'a KeptIdentity,
        followed: u64,
    ) -> StoreFuture<'a, ()> {
        self.step(call, Step::PutIdentity, |store| store.put_identity(call, token, kept, followed))
    }

    fn forget_identities<'a>(&'a self, call: Call, which: &'a Forgotten, event: &'a Event) -> StoreFuture<'a, ()> {
        self.step(call, Step::ForgetIdentities, |store| store.forget_identities(call, which, event))
    }

    fn record<'a>(&'a self, call: Call, events: &'a [Event]) -> StoreFuture<'a, ()> {
        self.step(call, Step::Record, |store| store.record(call, events))
    }

    fn events<'a>(&'a self, call: Call, query: &'a EventQuery) -> StoreFuture<'a, Vec<Event>> {
        self.step(call, Step::Events, |store| store.events(call, query))
    }
}
