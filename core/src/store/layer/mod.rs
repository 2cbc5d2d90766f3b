//! Layers: what is done around every step of a store, whichever store it is.
//!
//! A layer sees that a step is made and what came of it, not what it says: timeouts, breakers and
//! planted faults need no more. [`Layered`] is the only code that knows all the steps.

use std::fmt;
use std::sync::Arc;

use super::{
    Adjustment, Balance, Call, Census, Charge, Charged, CounterKey, Forgotten, Hold, KeptIdentity, Once, Settle,
    Settled, Store, StoreFuture, StoredPlans, Subscriber, SubscriberQuery,
};
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
    Balances,
    Adjust,
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
                | Self::Adjust
                | Self::PutIdentity
                | Self::ForgetIdentities
                | Self::Record
        )
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

/// A store with a layer around it.
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
}

impl<L: Layer> Store for Layered<L> {
    fn plans(&self, call: Call) -> StoreFuture<'_, Option<StoredPlans>> {
        self.layer.around(call, Step::Plans, self.store.plans(call))
    }

    fn put_plans<'a>(&'a self, call: Call, plans: &'a Plans, event: &'a Event) -> StoreFuture<'a, u64> {
        self.layer.around(call, Step::PutPlans, self.store.put_plans(call, plans, event))
    }

    fn subscription<'a>(&'a self, call: Call, subject: &'a str) -> StoreFuture<'a, Option<Subscription>> {
        self.layer.around(call, Step::Subscription, self.store.subscription(call, subject))
    }

    fn put_subscription<'a>(
        &'a self,
        call: Call,
        subject: &'a str,
        subscription: &'a Subscription,
        event: &'a Event,
    ) -> StoreFuture<'a, ()> {
        let inner = self.store.put_subscription(call, subject, subscription, event);
        self.layer.around(call, Step::PutSubscription, inner)
    }

    fn swap_subscription<'a>(
        &'a self,
        call: Call,
        subject: &'a str,
        from: Option<&'a Subscription>,
        to: &'a Subscription,
        event: &'a Event,
    ) -> StoreFuture<'a, Option<Subscription>> {
        let inner = self.store.swap_subscription(call, subject, from, to, event);
        self.layer.around(call, Step::SwapSubscription, inner)
    }

    fn subscribers<'a>(&'a self, call: Call, query: &'a SubscriberQuery) -> StoreFuture<'a, Vec<Subscriber>> {
        self.layer.around(call, Step::Subscribers, self.store.subscribers(call, query))
    }

    fn census(&self, call: Call) -> StoreFuture<'_, Vec<Census>> {
        self.layer.around(call, Step::Census, self.store.census(call))
    }

    fn charge<'a>(&'a self, call: Call, charges: &'a [Charge], once: Option<&'a Once>) -> StoreFuture<'a, Charged> {
        self.layer.around(call, Step::Charge, self.store.charge(call, charges, once))
    }

    fn hold<'a>(&'a self, call: Call, hold: &'a Hold) -> StoreFuture<'a, Charged> {
        self.layer.around(call, Step::Hold, self.store.hold(call, hold))
    }

    fn settle<'a>(&'a self, call: Call, settle: &'a Settle) -> StoreFuture<'a, Settled> {
        self.layer.around(call, Step::Settle, self.store.settle(call, settle))
    }

    fn balances<'a>(&'a self, call: Call, keys: &'a [CounterKey]) -> StoreFuture<'a, Vec<Balance>> {
        self.layer.around(call, Step::Balances, self.store.balances(call, keys))
    }

    fn adjust<'a>(
        &'a self,
        call: Call,
        adjustments: &'a [Adjustment],
        once: Option<&'a Once>,
        event: &'a Event,
    ) -> StoreFuture<'a, Charged> {
        self.layer.around(call, Step::Adjust, self.store.adjust(call, adjustments, once, event))
    }

    fn identity<'a>(&'a self, call: Call, token: &'a TokenDigest) -> StoreFuture<'a, Option<KeptIdentity>> {
        self.layer.around(call, Step::Identity, self.store.identity(call, token))
    }

    fn put_identity<'a>(
        &'a self,
        call: Call,
        token: &'a TokenDigest,
        kept: &'a KeptIdentity,
        followed: u64,
    ) -> StoreFuture<'a, ()> {
        self.layer.around(call, Step::PutIdentity, self.store.put_identity(call, token, kept, followed))
    }

    fn forget_identities<'a>(&'a self, call: Call, which: &'a Forgotten, event: &'a Event) -> StoreFuture<'a, ()> {
        self.layer.around(call, Step::ForgetIdentities, self.store.forget_identities(call, which, event))
    }

    fn record<'a>(&'a self, call: Call, events: &'a [Event]) -> StoreFuture<'a, ()> {
        self.layer.around(call, Step::Record, self.store.record(call, events))
    }

    fn events<'a>(&'a self, call: Call, query: &'a EventQuery) -> StoreFuture<'a, Vec<Event>> {
        self.layer.around(call, Step::Events, self.store.events(call, query))
    }
}
