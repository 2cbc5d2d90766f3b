//! The store over a map of the host's own: the host gives an ordered map of bytes with transactions ([`host`]), and all
//! that a store must know is here, once.
//!
//! Every step is one transaction ([`attempts`], [`transaction`]). Keys are tuples ([`keys`]), values are JSON:
//!
//! | key | what is kept under it |
//! | --- | --- |
//! | `format` | the number of this table |
//! | `plans`, `plans_version` | the plans, and how many times plans were put |
//! | `subscription`, subject | a subscription |
//! | `counter`, subject, metric, period, start (newest first) | what a counter holds |
//! | `open`, subject, metric, period, start, expiry, hold | units that a hold or a lease has set aside on a counter |
//! | `idle`, period, start, subject, metric | names a counter of a short period on which nothing is held |
//! | `windows`, period | when the three newest windows of a short period began |
//! | `hold`, name | a hold or a lease, open or resolved |
//! | `step`, subject, idempotency key | a step that is not made again |
//! | `rate`, fingerprint | what the windows of a shared rate owe |
//! | `identity`, digest | who a token stands for |
//! | `identity_of`, subject, digest | names a token of a subject |
//! | `event`, number | an event of the log |
//! | `change`, number | the same, if it is a change |
//! | `last_event`, `last_revocation` | the numbers of the last event, and of the last that revokes tokens |
//! | `end`, time, key | names what is kept until then |

mod attempts;
mod catalog;
mod counters;
mod ends;
mod format;
mod holds;
mod host;
mod identities;
mod keys;
mod log;
mod once;
mod rates;
mod transaction;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use self::host::{Map, MapEntry, MapTransaction};
use self::transaction::Transaction;
use super::{
    Adjustment, Balance, Call, Census, Charge, Charged, CounterKey, Forgotten, Hold, KeptIdentity, Lease, Leased, Once,
    Paced, Settle, Settled, SharedRate, Store, StoreError, StoreFuture, StoredPlans, Subscriber, SubscriberQuery, Wait,
};
use crate::event::{Event, EventQuery};
use crate::flight::unblocked;
use crate::plan::Plans;
use crate::subscription::Subscription;
use crate::token::TokenDigest;

/// A store over a map of the host's own: any ordered map of bytes with transactions, such as a database that the host
/// has already. See [`Map`] for what it must do, and for an example.
///
/// It is as exact as the map's transactions are serializable, and lasts as long as what they have committed. Holds and
/// leases expire by the clocks of those who ask. Lists of subscribers, their census, and events that are sought by
/// subject or name are read from beginning to end.
///
/// A step of a synchronous caller is made on his own thread, and a step of a task on a thread aside. It is made again
/// where another was faster ([`StoreError::Busy`] from the map), up to 60 times and for about five seconds. A value
/// that cannot be read is [`StoreError::Damaged`], and never begun anew; a map that panics is one that fails.
///
/// ```
/// # use std::sync::Arc;
/// # use quotum::store::{Map, MapStore, Store};
/// fn open(map: Arc<dyn Map>) -> Arc<dyn Store> {
///     Arc::new(MapStore::over(map))
/// }
/// ```
#[derive(Debug)]
pub struct MapStore {
    map: Arc<dyn Map>,
    /// Whether the map's format was found to be ours.
    is_known: Arc<AtomicBool>,
    /// Whether steps of synchronous callers are made aside too.
    is_aside: bool,
}

impl MapStore {
    /// The store that is kept in this map, which holds nothing else.
    #[must_use]
    pub fn over(map: Arc<dyn Map>) -> Self {
        Self { map, is_known: Arc::default(), is_aside: false }
    }

    /// The same, which makes steps of synchronous callers on a thread aside too: for a map that may hang, of which they
    /// are told in time. It costs each of them two switches of thread.
    #[must_use]
    pub fn aside(self) -> Self {
        Self { is_aside: true, ..self }
    }

    /// Makes a step, where the caller may wait here or aside.
    fn run<T: Send + 'static>(
        &self,
        call: Call,
        step: impl Fn(&mut Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> StoreFuture<'_, T> {
        let (map, is_known) = (Arc::clone(&self.map), Arc::clone(&self.is_known));
        let work = move || {
            let answer = attempts::make(&*map, call.now, |transaction| {
                if !is_known.load(Ordering::Relaxed) {
                    transaction.check_format()?;
                }
                step(transaction)
            })?;
            is_known.store(true, Ordering::Relaxed);
            Ok(answer)
        };
        let wait = if self.is_aside { Wait::Yield } else { call.wait };
        Box::pin(async move { unblocked(wait, work).await? })
    }
}

impl Store for MapStore {
    fn plans(&self, call: Call) -> StoreFuture<'_, Option<StoredPlans>> {
        self.run(call, |transaction| transaction.plans())
    }

    fn put_plans<'a>(&'a self, call: Call, plans: &'a Plans, event: &'a Event) -> StoreFuture<'a, u64> {
        let (plans, event) = (plans.clone(), event.clone());
        self.run(call, move |transaction| transaction.put_plans(&plans, &event))
    }

    fn subscription<'a>(&'a self, call: Call, subject: &'a str) -> StoreFuture<'a, Option<Subscription>> {
        let subject = subject.to_owned();
        self.run(call, move |transaction| transaction.subscription(&subject))
    }

    fn put_subscription<'a>(
        &'a self,
        call: Call,
        subject: &'a str,
        subscription: &'a Subscription,
        event: &'a Event,
    ) -> StoreFuture<'a, ()> {
        let (subject, subscription, event) = (subject.to_owned(), subscription.clone(), event.clone());
        self.run(call, move |transaction| transaction.put_subscription(&subject, &subscription, &event))
    }

    fn swap_subscription<'a>(
        &'a self,
        call: Call,
        subject: &'a str,
        from: Option<&'a Subscription>,
        to: &'a Subscription,
        event: &'a Event,
    ) -> StoreFuture<'a, Option<Subscription>> {
        let (subject, from, to, event) = (subject.to_owned(), from.cloned(), to.clone(), event.clone());
        self.run(call, move |transaction| transaction.swap_subscription(&subject, from.as_ref(), &to, &event))
    }

    fn subscribers<'a>(&'a self, call: Call, query: &'a SubscriberQuery) -> StoreFuture<'a, Vec<Subscriber>> {
        let query = query.clone();
        self.run(call, move |transaction| transaction.subscribers(&query))
    }

    fn census(&self, call: Call) -> StoreFuture<'_, Vec<Census>> {
        self.run(call, |transaction| transaction.census())
    }

    fn charge<'a>(&'a self, call: Call, charges: &'a [Charge], once: Option<&'a Once>) -> StoreFuture<'a, Charged> {
        let (charges, once) = (charges.to_vec(), once.cloned());
        self.run(call, move |transaction| transaction.charge(&charges, once.as_ref()))
    }

    fn hold<'a>(&'a self, call: Call, hold: &'a Hold) -> StoreFuture<'a, Charged> {
        let hold = hold.clone();
        self.run(call, move |transaction| transaction.hold(&hold))
    }

    fn settle<'a>(&'a self, call: Call, settle: &'a Settle) -> StoreFuture<'a, Settled> {
        let settle = settle.clone();
        self.run(call, move |transaction| transaction.settle(&settle))
    }

    fn lease<'a>(&'a self, call: Call, lease: &'a Lease) -> StoreFuture<'a, Leased> {
        let lease = lease.clone();
        self.run(call, move |transaction| transaction.lease(&lease))
    }

    fn is_worth_leasing(&self) -> bool {
        true
    }

    fn balances<'a>(&'a self, call: Call, keys: &'a [CounterKey]) -> StoreFuture<'a, Vec<Balance>> {
        let keys = keys.to_vec();
        self.run(call, move |transaction| keys.iter().map(|key| transaction.balance_now(key)).collect())
    }

    fn adjust<'a>(
        &'a self,
        call: Call,
        adjustments: &'a [Adjustment],
        once: Option<&'a Once>,
        event: &'a Event,
    ) -> StoreFuture<'a, Charged> {
        let (adjustments, once, event) = (adjustments.to_vec(), once.cloned(), event.clone());
        self.run(call, move |transaction| transaction.adjust(&adjustments, once.as_ref(), &event))
    }

    fn rate<'a>(&'a self, call: Call, rate: &'a SharedRate) -> StoreFuture<'a, Paced> {
        let rate = rate.clone();
        self.run(call, move |transaction| transaction.pace(&rate))
    }

    fn identity<'a>(&'a self, call: Call, token: &'a TokenDigest) -> StoreFuture<'a, Option<KeptIdentity>> {
        let token = *token;
        self.run(call, move |transaction| transaction.identity(&token))
    }

    fn put_identity<'a>(
        &'a self,
        call: Call,
        token: &'a TokenDigest,
        kept: &'a KeptIdentity,
        followed: u64,
    ) -> StoreFuture<'a, ()> {
        let (token, kept) = (*token, kept.clone());
        self.run(call, move |transaction| transaction.put_identity(&token, &kept, followed))
    }

    fn forget_identities<'a>(&'a self, call: Call, which: &'a Forgotten, event: &'a Event) -> StoreFuture<'a, ()> {
        let (which, event) = (which.clone(), event.clone());
        self.run(call, move |transaction| {
            transaction.forget_identities(&which)?;
            transaction.append(std::slice::from_ref(&event))
        })
    }

    fn record<'a>(&'a self, call: Call, events: &'a [Event]) -> StoreFuture<'a, ()> {
        let events = events.to_vec();
        self.run(call, move |transaction| transaction.append(&events))
    }

    fn events<'a>(&'a self, call: Call, query: &'a EventQuery) -> StoreFuture<'a, Vec<Event>> {
        let query = query.clone();
        self.run(call, move |transaction| transaction.events(&query))
    }
}
