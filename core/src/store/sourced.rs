//! A store whose plans and subscriptions are the host's own.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::{
    Adjustment, Balance, Call, Census, Charge, Charged, CounterKey, Forgotten, Hold, KeptIdentity, Lease, Leased, Once,
    Paced, Settle, Settled, SharedRate, Store, StoreError, StoreFuture, StoredPlans, Subscriber, SubscriberQuery,
};
use crate::error::Retry;
use crate::event::{Event, EventQuery};
use crate::flight::unblocked;
use crate::plan::Plans;
use crate::subscription::Subscription;
use crate::token::TokenDigest;

/// A store around another, for a host that keeps its plans or subscriptions in tables of its own: they are read by two
/// functions of the host's, and everything else is the other store's.
///
/// - A subject that the host's function knows has that subscription. `subscribe`, `cancel` and overrides are refused
///   for it ([`StoreError::KeptByHost`]): they are changed where they are kept. Of every other subject, the
///   subscription is the inner store's, such as the trial of a default plan.
/// - Plans, where there is a function for them, are the host's, and `set_plans` is refused. Where it has none, those of
///   the plans file hold.
/// - Listings of subscribers and their census are the inner store's, and do not show the host's.
///
/// The host's changes are in no change feed. A changed subscription is seen within the engine's
/// [`subscription_ttl`](crate::Builder::subscription_ttl), 30 seconds by default, or at once after
/// [`forget_subject`](crate::Quota::forget_subject), which tells the other processes too; changed plans within its
/// [`catalog_ttl`](crate::Builder::catalog_ttl).
///
/// The functions' futures are polled by whoever asks the engine: on the host's executor for [`Quota`](crate::Quota), on
/// the calling thread, without one, for [`blocking::Quota`](crate::blocking::Quota). They are given up after the
/// engine's `store_timeout`, and may be asked again at any time. A function that may block is given to
/// [`blocking_subscriptions`](Self::blocking_subscriptions) or [`blocking_plans`](Self::blocking_plans).
///
/// ```
/// use std::collections::HashMap;
/// use std::convert::Infallible;
/// use std::sync::Arc;
/// use quotum::store::{MemoryStore, Sourced};
/// use quotum::{Plans, Subscription, Timestamp, blocking::Quota};
///
/// // In place of `SELECT plan FROM users WHERE id = …`.
/// let users = Arc::new(HashMap::from([("ana", "pro")]));
/// let store = Sourced::around(Arc::new(MemoryStore::new())).subscriptions(move |subject| {
///     let plan = users.get(&*subject).copied();
///     async move { Ok::<_, Infallible>(plan.map(|plan| Subscription::active(plan, Timestamp::UNIX_EPOCH))) }
/// });
/// let plans = "default_plan = 'free'
///     [plans.free]
///     quotas = { jobs = '1/day' }
///     [plans.pro]
///     rank = 1
///     quotas = { jobs = '9/day' }";
/// let quota = Quota::builder().plans(Plans::from_toml(plans)?).open_on(Arc::new(store))?;
/// assert!(quota.consume("ana", &[("jobs", 9)])?.allowed);
/// assert!(!quota.consume("bob", &[("jobs", 9)])?.allowed);
/// # Ok::<(), quotum::Error>(())
/// ```
pub struct Sourced {
    store: Arc<dyn Store>,
    subscriptions: Option<Source<Arc<str>, Subscription>>,
    plans: Option<Source<(), StoredPlans>>,
}

/// A function of the host's.
type Source<Q, A> =
    Box<dyn Fn(Call, Q) -> Pin<Box<dyn Future<Output = Result<Option<A>, StoreError>> + Send>> + Send + Sync>;

impl fmt::Debug for Sourced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sourced").field("store", &self.store).finish_non_exhaustive()
    }
}

/// What an error of the host's function is to the engine.
fn failed(what: &str, error: &impl fmt::Display) -> StoreError {
    let detail = format!("{what} of the host's cannot be read: {error}");
    StoreError::Failed { detail, retry: Retry::Safe }
}

impl Sourced {
    /// A store around `store`, which is asked for everything that no function is given for.
    #[must_use]
    pub fn around(store: Arc<dyn Store>) -> Self {
        Self { store, subscriptions: None, plans: None }
    }

    /// Reads subscriptions by this function: that of a subject, or `None` of one that the host does not know.
    #[must_use]
    pub fn subscriptions<F, R, E>(self, source: F) -> Self
    where
        F: Fn(Arc<str>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Option<Subscription>, E>> + Send + 'static,
        E: fmt::Display,
    {
        let ask = move |_, subject| {
            let asked = source(subject);
            Box::pin(async move { asked.await.map_err(|error| failed("a subscription", &error)) }) as Pin<Box<_>>
        };
        Self { subscriptions: Some(Box::new(ask)), ..self }
    }

    /// As [`subscriptions`](Self::subscriptions), by a function that may block: for tasks it is called on a thread of
    /// its own.
    #[must_use]
    pub fn blocking_subscriptions<F, E>(self, source: F) -> Self
    where
        F: Fn(&str) -> Result<Option<Subscription>, E> + Send + Sync + 'static,
        E: fmt::Display + Send + 'static,
    {
        let source = Arc::new(source);
        let ask = move |call: Call, subject: Arc<str>| {
            let source = Arc::clone(&source);
            Box::pin(async move {
                let asked = unblocked(call.wait, move || source(&subject)).await?;
                asked.map_err(|error| failed("a subscription", &error))
            }) as Pin<Box<_>>
        };
        Self { subscriptions: Some(Box::new(ask)), ..self }
    }

    /// Reads plans by this function, with a version that rises when they change ([`Editions`](super::Editions) numbers
    /// those that have none); `None` while the host has none.
    #[must_use]
    pub fn plans<F, R, E>(self, source: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<Option<StoredPlans>, E>> + Send + 'static,
        E: fmt::Display,
    {
        let ask = move |_, ()| {
            let asked = source();
            Box::pin(async move { asked.await.map_err(|error| failed("the plans", &error)) }) as Pin<Box<_>>
        };
        Self { plans: Some(Box::new(ask)), ..self }
    }

    /// As [`plans`](Self::plans), by a function that may block: for tasks it is called on a thread of its own.
    #[must_use]
    pub fn blocking_plans<F, E>(self, source: F) -> Self
    where
        F: Fn() -> Result<Option<StoredPlans>, E> + Send + Sync + 'static,
        E: fmt::Display + Send + 'static,
    {
        let source = Arc::new(source);
        let ask = move |call: Call, ()| {
            let source = Arc::clone(&source);
            Box::pin(async move {
                let asked = unblocked(call.wait, move || source()).await?;
                asked.map_err(|error| failed("the plans", &error))
            }) as Pin<Box<_>>
        };
        Self { plans: Some(Box::new(ask)), ..self }
    }

    /// The subscription that the host has for a subject.
    async fn hosted(&self, call: Call, subject: &str) -> Result<Option<Subscription>, StoreError> {
        match &self.subscriptions {
            Some(source) => source(call, subject.into()).await,
            None => Ok(None),
        }
    }
}

/// What a change of a subscription that the host has comes to: refused, unless it was to be another than it is.
pub(super) fn swap_hosted(
    subject: &str,
    from: Option<&Subscription>,
    hosted: Subscription,
) -> Result<Option<Subscription>, StoreError> {
    if from == Some(&hosted) { Err(kept_by_host(subject)) } else { Ok(Some(hosted)) }
}

pub(super) fn kept_by_host(subject: &str) -> StoreError {
    StoreError::KeptByHost { what: format!("the subscription of {subject:?}") }
}

pub(super) fn plans_kept_by_host() -> StoreError {
    StoreError::KeptByHost { what: "the catalog of plans".to_owned() }
}

impl Store for Sourced {
    fn plans(&self, call: Call) -> StoreFuture<'_, Option<StoredPlans>> {
        match &self.plans {
            Some(source) => source(call, ()),
            None => self.store.plans(call),
        }
    }

    fn put_plans<'a>(&'a self, call: Call, plans: &'a Plans, event: &'a Event) -> StoreFuture<'a, u64> {
        if self.plans.is_some() {
            return Box::pin(std::future::ready(Err(plans_kept_by_host())));
        }
        self.store.put_plans(call, plans, event)
    }

    fn subscription<'a>(&'a self, call: Call, subject: &'a str) -> StoreFuture<'a, Option<Subscription>> {
        Box::pin(async move {
            match self.hosted(call, subject).await? {
                Some(hosted) => Ok(Some(hosted)),
                None => self.store.subscription(call, subject).await,
            }
        })
    }

    fn put_subscription<'a>(
        &'a self,
        call: Call,
        subject: &'a str,
        subscription: &'a Subscription,
        event: &'a Event,
    ) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            match self.hosted(call, subject).await? {
                Some(_) => Err(kept_by_host(subject)),
                None => self.store.put_subscription(call, subject, subscription, event).await,
            }
        })
    }

    fn swap_subscription<'a>(
        &'a self,
        call: Call,
        subject: &'a str,
        from: Option<&'a Subscription>,
        to: &'a Subscription,
        event: &'a Event,
    ) -> StoreFuture<'a, Option<Subscription>> {
        Box::pin(async move {
            match self.hosted(call, subject).await? {
                Some(hosted) => swap_hosted(subject, from, hosted),
                None => self.store.swap_subscription(call, subject, from, to, event).await,
            }
        })
    }

    fn subscribers<'a>(&'a self, call: Call, query: &'a SubscriberQuery) -> StoreFuture<'a, Vec<Subscriber>> {
        self.store.subscribers(call, query)
    }

    fn census(&self, call: Call) -> StoreFuture<'_, Vec<Census>> {
        self.store.census(call)
    }

    fn charge<'a>(&'a self, call: Call, charges: &'a [Charge], once: Option<&'a Once>) -> StoreFuture<'a, Charged> {
        self.store.charge(call, charges, once)
    }

    fn hold<'a>(&'a self, call: Call, hold: &'a Hold) -> StoreFuture<'a, Charged> {
        self.store.hold(call, hold)
    }

    fn settle<'a>(&'a self, call: Call, settle: &'a Settle) -> StoreFuture<'a, Settled> {
        self.store.settle(call, settle)
    }

    fn rate<'a>(&'a self, call: Call, rate: &'a SharedRate) -> StoreFuture<'a, Paced> {
        self.store.rate(call, rate)
    }

    fn lease<'a>(&'a self, call: Call, lease: &'a Lease) -> StoreFuture<'a, Leased> {
        self.store.lease(call, lease)
    }

    fn is_worth_leasing(&self) -> bool {
        self.store.is_worth_leasing()
    }

    /// The host's functions may take their time.
    fn answers_at_once(&self) -> bool {
        self.store.answers_at_once() && self.plans.is_none() && self.subscriptions.is_none()
    }

    fn balances<'a>(&'a self, call: Call, keys: &'a [CounterKey]) -> StoreFuture<'a, Vec<Balance>> {
        self.store.balances(call, keys)
    }

    fn adjust<'a>(
        &'a self,
        call: Call,
        adjustments: &'a [Adjustment],
        once: Option<&'a Once>,
        event: &'a Event,
    ) -> StoreFuture<'a, Charged> {
        self.store.adjust(call, adjustments, once, event)
    }

    fn identity<'a>(&'a self, call: Call, token: &'a TokenDigest) -> StoreFuture<'a, Option<KeptIdentity>> {
        self.store.identity(call, token)
    }

    fn put_identity<'a>(
        &'a self,
        call: Call,
        token: &'a TokenDigest,
        kept: &'a KeptIdentity,
        followed: u64,
    ) -> StoreFuture<'a, ()> {
        self.store.put_identity(call, token, kept, followed)
    }

    fn forget_identities<'a>(&'a self, call: Call, which: &'a Forgotten, event: &'a Event) -> StoreFuture<'a, ()> {
        self.store.forget_identities(call, which, event)
    }

    fn record<'a>(&'a self, call: Call, events: &'a [Event]) -> StoreFuture<'a, ()> {
        self.store.record(call, events)
    }

    fn events<'a>(&'a self, call: Call, query: &'a EventQuery) -> StoreFuture<'a, Vec<Event>> {
        self.store.events(call, query)
    }
}
