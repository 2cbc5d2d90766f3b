//! The verbs of [`crate::Quota`] for synchronous callers, on the caller's own thread.
//!
//! A store may then do its work where it is called, which spares two switches of thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pollster::block_on;

use crate::builder;
use crate::clock::Clock;
use crate::decision::{Decision, QuotaState, Usage};
use crate::error::Error;
use crate::event::{Event, EventQuery};
use crate::observer::LoggedEvents;
use crate::plan::{CatalogStatus, FeatureValue, Leasing, Plan, Plans};
use crate::policy::Enforcement;
use crate::rate::{RateDecision, RateKey};
use crate::recall::Recalled;
use crate::request::Request;
use crate::reservation::Settlement;
use crate::store::{self, BreakerOptions, Census, Store, Subscriber, SubscriberQuery, Wait};
use crate::subject::Subject;
use crate::subscription::{Overrides, Subscription};
use crate::token::{Authenticated, Pepper, TokenCacheOptions, TokenCacheStats, Verifier};
use crate::usage::hold::HoldId;

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

    pub(crate) fn of(quota: &crate::Quota) -> Self {
        Self { inner: crate::Quota { wait: Wait::Block, ..quota.clone() } }
    }

    /// The same engine, for changes that `actor` makes. See [`crate::Quota::acting_as`].
    #[must_use]
    pub fn acting_as(&self, actor: &str) -> Self {
        Self { inner: self.inner.acting_as(actor) }
    }

    /// A handle to a subject. See [`crate::Quota::subject`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::subject`].
    pub fn subject(&self, id: &str) -> Result<Subject, Error> {
        self.inner.subject(id)
    }

    /// Decides on everything that one request asks for. See [`crate::Quota::admit`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::admit`].
    pub fn admit(&self, request: &Request<'_>) -> Result<Decision, Error> {
        self.decide(request)
    }

    fn decide(&self, request: &Request<'_>) -> Result<Decision, Error> {
        // What is in memory needs no future.
        match self.inner.admission.recall(request) {
            Recalled::Decided(decision) => decision,
            Recalled::AskStore(found) => block_on(self.inner.admission.ask(self.inner.wait, request, *found)),
        }
    }

    /// As `admit`, where everything is in memory. See [`crate::Quota::try_admit`].
    #[must_use]
    pub fn try_admit(&self, request: &Request<'_>) -> Option<Result<Decision, Error>> {
        self.inner.try_admit(request)
    }

    /// Charges every cost, or none. See [`crate::Quota::consume`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::consume`].
    pub fn consume(&self, subject: &str, costs: &[(&str, u64)]) -> Result<Decision, Error> {
        self.decide(&Request::by(subject).costs(costs))
    }

    /// Charges at most once under an idempotency key. See [`crate::Quota::consume_once`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::consume_once`].
    pub fn consume_once(&self, subject: &str, costs: &[(&str, u64)], idempotency_key: &str) -> Result<Decision, Error> {
        self.decide(&Request::by(subject).costs(costs).once(idempotency_key))
    }

    /// Whether the costs would be allowed now. See [`crate::Quota::check`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::check`].
    pub fn check(&self, subject: &str, costs: &[(&str, u64)]) -> Result<Decision, Error> {
        self.decide(&Request::by(subject).costs(costs).looking())
    }

    /// Sets units aside: the reservation, or the decision that denied it. See [`crate::Quota::reserve`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::reserve`].
    pub fn reserve(
        &self,
        subject: &str,
        costs: &[(&str, u64)],
        ttl: Duration,
    ) -> Result<Result<Reservation, Decision>, Error> {
        Ok(block_on(self.inner.reserve(subject, costs, ttl))?.map(Reservation::new))
    }

    /// Sets units aside, once under an idempotency key. See [`crate::Quota::reserve_once`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::reserve_once`].
    pub fn reserve_once(
        &self,
        subject: &str,
        costs: &[(&str, u64)],
        ttl: Duration,
        idempotency_key: &str,
    ) -> Result<Result<Reservation, Decision>, Error> {
        Ok(block_on(self.inner.reserve_once(subject, costs, ttl, idempotency_key))?.map(Reservation::new))
    }

    /// Commits a reservation by its name. See [`crate::Quota::commit`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::commit`].
    pub fn commit(&self, reservation: HoldId, actual: &[(&str, u64)]) -> Result<Settlement, Error> {
        block_on(self.inner.commit(reservation, actual))
    }

    /// Releases a reservation by its name. See [`crate::Quota::release`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::release`].
    pub fn release(&self, reservation: HoldId) -> Result<Settlement, Error> {
        block_on(self.inner.release(reservation))
    }

    /// Gives units back. See [`crate::Quota::refund`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::refund`].
    pub fn refund(&self, subject: &str, costs: &[(&str, u64)]) -> Result<Vec<QuotaState>, Error> {
        block_on(self.inner.refund(subject, costs))
    }

    /// Gives units of a level back. See [`crate::Quota::give_back`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::give_back`].
    pub fn give_back(&self, subject: &str, costs: &[(&str, u64)]) -> Result<Vec<QuotaState>, Error> {
        block_on(self.inner.give_back(subject, costs))
    }

    /// Grants units on top of the limits of the current periods. See [`crate::Quota::grant`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::grant`].
    pub fn grant(&self, subject: &str, costs: &[(&str, u64)]) -> Result<Vec<QuotaState>, Error> {
        block_on(self.inner.grant(subject, costs))
    }

    /// Forgets what a subject has used of a metric in the current periods. See [`crate::Quota::reset_usage`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::reset_usage`].
    pub fn reset_usage(&self, subject: &str, metric: &str) -> Result<Vec<QuotaState>, Error> {
        block_on(self.inner.reset_usage(subject, metric))
    }

    /// The limiter alone. See [`crate::Quota::rate`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::rate`].
    pub fn rate(&self, scope: &str, key: RateKey<'_>, cost: u64) -> Result<RateDecision, Error> {
        block_on(self.inner.rate(scope, key, cost))
    }

    /// Gives back what the limiter has counted for a key. See [`crate::Quota::refund_rate`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::refund_rate`].
    pub fn refund_rate(&self, scope: &str, key: RateKey<'_>, units: u64) -> Result<RateDecision, Error> {
        block_on(self.inner.refund_rate(scope, key, units))
    }

    /// Gives a key its whole allowance back. See [`crate::Quota::clear_rates`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::clear_rates`].
    pub fn clear_rates(&self, key: RateKey<'_>) -> Result<(), Error> {
        block_on(self.inner.clear_rates(key))
    }

    /// What an account page shows. See [`crate::Quota::usage`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::usage`].
    pub fn usage(&self, subject: &str) -> Result<Usage, Error> {
        block_on(self.inner.usage(subject))
    }

    /// The value of a feature. See [`crate::Quota::feature`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::feature`].
    pub fn feature(&self, subject: &str, name: &str) -> Result<Option<FeatureValue>, Error> {
        block_on(self.inner.feature(subject, name))
    }

    /// Decides whether the plan has a feature. See [`crate::Quota::require`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::require`].
    pub fn require(&self, subject: &str, name: &str) -> Result<Decision, Error> {
        self.decide(&Request::by(subject).feature(name))
    }

    /// Decides whether the plan grants a value of a feature. See [`crate::Quota::require_value`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::require_value`].
    pub fn require_value(&self, subject: &str, name: &str, value: impl Into<FeatureValue>) -> Result<Decision, Error> {
        self.decide(&Request::by(subject).feature_value(name, value))
    }

    /// The plans that the public may see, by rank. See [`crate::Quota::plans`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::plans`].
    pub fn plans(&self) -> Result<Vec<Arc<Plan>>, Error> {
        block_on(self.inner.plans())
    }

    /// Puts plans into the store. See [`crate::Quota::set_plans`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::set_plans`].
    pub fn set_plans(&self, plans: &Plans) -> Result<u64, Error> {
        block_on(self.inner.set_plans(plans))
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
        block_on(self.inner.subscription(subject))
    }

    /// Gives a subject a subscription. See [`crate::Quota::subscribe`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::subscribe`].
    pub fn subscribe(&self, subject: &str, subscription: Subscription) -> Result<(), Error> {
        block_on(self.inner.subscribe(subject, subscription))
    }

    /// Ends a subject's subscription. See [`crate::Quota::cancel`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::cancel`].
    pub fn cancel(&self, subject: &str) -> Result<Subscription, Error> {
        block_on(self.inner.cancel(subject))
    }

    /// Gives a subject features and limits of its own. See [`crate::Quota::set_overrides`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::set_overrides`].
    pub fn set_overrides(&self, subject: &str, overrides: Overrides) -> Result<Subscription, Error> {
        block_on(self.inner.set_overrides(subject, overrides))
    }

    /// Switches enforcement, of everything or of one metric. See [`crate::Quota::set_enforcement`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::set_enforcement`].
    pub fn set_enforcement(&self, metric: Option<&str>, mode: Enforcement) -> Result<(), Error> {
        block_on(self.inner.set_enforcement(metric, mode))
    }

    /// Subjects that have a subscription, in pages. See [`crate::Quota::subscribers`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::subscribers`].
    pub fn subscribers(&self, query: &SubscriberQuery) -> Result<Vec<Subscriber>, Error> {
        block_on(self.inner.subscribers(query))
    }

    /// How many subjects are on each plan. See [`crate::Quota::census`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::census`].
    pub fn census(&self) -> Result<Vec<Census>, Error> {
        block_on(self.inner.census())
    }

    /// Reads the store's log. See [`crate::Quota::events`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::events`].
    pub fn events(&self, query: &EventQuery) -> Result<Vec<Event>, Error> {
        block_on(self.inner.events(query))
    }

    /// Whom a token speaks for. See [`crate::Quota::authenticate`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::authenticate`].
    pub fn authenticate(&self, token: &str) -> Result<Authenticated, Error> {
        block_on(self.inner.authenticate(token))
    }

    /// Has a token verified anew. See [`crate::Quota::forget_token`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::forget_token`].
    pub fn forget_token(&self, token: &str) -> Result<(), Error> {
        block_on(self.inner.forget_token(token))
    }

    /// Has every token of a subject verified anew. See [`crate::Quota::forget_subject`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::forget_token`].
    pub fn forget_subject(&self, subject: &str) -> Result<(), Error> {
        block_on(self.inner.forget_subject(subject))
    }

    /// Gives this handle up, and charges before what was granted without the store. See [`crate::Quota::close`].
    ///
    /// # Errors
    ///
    /// As [`crate::Quota::close`].
    pub fn close(self) -> Result<(), Error> {
        block_on(self.inner.close())
    }

    /// How many events were dropped. See [`crate::Quota::events_dropped`].
    #[must_use]
    pub fn events_dropped(&self) -> u64 {
        self.inner.events_dropped()
    }

    /// Everything that there is to measure. See [`crate::Quota::metrics`].
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics(&self) -> String {
        self.inner.metrics()
    }

    /// How the cache of tokens has done. See [`crate::Quota::token_stats`].
    #[must_use]
    pub fn token_stats(&self) -> Option<TokenCacheStats> {
        self.inner.token_stats()
    }

    /// The same engine for async callers.
    #[must_use]
    pub fn to_async(&self) -> crate::Quota {
        crate::Quota { wait: Wait::Yield, ..self.inner.clone() }
    }

    /// The same verbs as futures, whose work is done on the thread that polls them, which may have to wait: for whoever
    /// drives them in a way of its own, so that a signal ends the wait, say.
    #[must_use]
    pub fn to_futures(&self) -> crate::Quota {
        self.inner.clone()
    }
}

/// Units that are set aside until they are committed or released. Dropping it releases them, on the thread
/// that drops it. See [`crate::Reservation`].
#[derive(Debug)]
#[must_use = "dropping a reservation releases what it holds"]
pub struct Reservation {
    inner: crate::Reservation,
}

impl Reservation {
    const fn new(inner: crate::Reservation) -> Self {
        Self { inner }
    }

    /// Its name. See [`crate::Reservation::id`].
    #[must_use]
    pub const fn id(&self) -> Option<HoldId> {
        self.inner.id()
    }

    /// The decision that allowed it.
    pub const fn decision(&self) -> &Decision {
        self.inner.decision()
    }

    /// When its units are given back, unless it is settled before.
    #[must_use]
    pub const fn expires_at(&self) -> Timestamp {
        self.inner.expires_at()
    }

    /// Charges what was really used. See [`crate::Reservation::commit`].
    ///
    /// # Errors
    ///
    /// As [`crate::Reservation::commit`].
    pub fn commit(self, actual: &[(&str, u64)]) -> Result<Settlement, Error> {
        block_on(self.inner.commit(actual))
    }

    /// Gives everything back. See [`crate::Reservation::release`].
    ///
    /// # Errors
    ///
    /// As [`crate::Reservation::commit`].
    pub fn release(self) -> Result<Settlement, Error> {
        block_on(self.inner.release())
    }

    /// Lets the units stay held when this value is dropped. See [`crate::Reservation::detach`].
    pub fn detach(self) -> Option<HoldId> {
        self.inner.detach()
    }
}

/// Builds an engine. Every setting is that of [`crate::Builder`] and is documented there.
#[derive(Debug)]
#[must_use = "a builder does nothing until it opens a store"]
pub struct Builder {
    inner: builder::Builder,
}

impl Builder {
    pub(crate) const fn of(inner: builder::Builder) -> Self {
        Self { inner }
    }

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

    /// How often the store is asked for changes. See [`crate::Builder::feed_interval`].
    pub fn feed_interval(self, interval: Duration) -> Self {
        Self { inner: self.inner.feed_interval(interval) }
    }

    /// How long an idempotency key is remembered. See [`crate::Builder::idempotency_ttl`].
    pub fn idempotency_ttl(self, ttl: Duration) -> Self {
        Self { inner: self.inner.idempotency_ttl(ttl) }
    }

    /// How denials are enforced at first. See [`crate::Builder::enforcement`].
    pub fn enforcement(self, mode: Enforcement) -> Self {
        Self { inner: self.inner.enforcement(mode) }
    }

    /// Who tells whom a token speaks for. See [`crate::Builder::verifier`].
    pub fn verifier(self, verifier: impl Verifier) -> Self {
        Self { inner: self.inner.verifier(verifier) }
    }

    /// How many tokens are remembered. See [`crate::Builder::token_cache`].
    pub fn token_cache(self, options: TokenCacheOptions) -> Self {
        Self { inner: self.inner.token_cache(options) }
    }

    /// A secret under which tokens are digested. See [`crate::Builder::pepper`].
    pub fn pepper(self, pepper: Pepper) -> Self {
        Self { inner: self.inner.pepper(pepper) }
    }

    /// How many tokens may be verified at once. See [`crate::Builder::verifications_max`].
    pub fn verifications_max(self, count: usize) -> Self {
        Self { inner: self.inner.verifications_max(count) }
    }

    /// Whether identities are kept in the store too. See [`crate::Builder::tokens_in_store`].
    pub fn tokens_in_store(self, kept: bool) -> Self {
        Self { inner: self.inner.tokens_in_store(kept) }
    }

    /// How many windows of rates are kept. See [`crate::Builder::rates_max`].
    pub fn rates_max(self, count: usize) -> Self {
        Self { inner: self.inner.rates_max(count) }
    }

    /// Called with every event. See [`crate::Builder::on_event`].
    pub fn on_event(self, callback: impl Fn(&Event) + Send + 'static) -> Self {
        Self { inner: self.inner.on_event(callback) }
    }

    /// Which events are written to the store's log. See [`crate::Builder::log_events`].
    pub fn log_events(self, logged: LoggedEvents) -> Self {
        Self { inner: self.inner.log_events(logged) }
    }

    /// How long a request waits for the store. See [`crate::Builder::store_timeout`].
    pub fn store_timeout(self, timeout: Duration) -> Self {
        Self { inner: self.inner.store_timeout(timeout) }
    }

    /// After how many failures the store is left alone. See [`crate::Builder::breaker`].
    pub fn breaker(self, options: impl Into<Option<BreakerOptions>>) -> Self {
        Self { inner: self.inner.breaker(options) }
    }

    /// What is put around the store. See [`crate::Builder::around_store`].
    pub fn around_store(self, wrap: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store> + Send + Sync + 'static) -> Self {
        Self { inner: self.inner.around_store(wrap) }
    }

    /// Whether units are granted from leased blocks. See [`crate::Builder::lease`].
    pub fn lease(self, leasing: Leasing) -> Self {
        Self { inner: self.inner.lease(leasing) }
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
