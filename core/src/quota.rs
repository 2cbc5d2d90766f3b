//! The engine and its builder: the verbs, for async callers. `blocking.rs` has the same for others.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::Actor;
use crate::admission::Admission;
use crate::clock::{Clock, Ratchet, SystemClock};
use crate::debt::Debts;
use crate::decision::{Decision, QuotaState, Usage};
use crate::error::{Error, Retry};
use crate::event::{Event, EventQuery};
use crate::feed::Feed;
use crate::flight::unblocked;
use crate::observer::{Listeners, LoggedEvents, Observer};
use crate::plan::catalog::{Catalog, PlansFile};
use crate::plan::{CatalogStatus, FeatureValue, Plan, Plans};
use crate::policy::{Enforcement, Switchboard};
use crate::rate::{RateDecision, RateKey, RateTable};
use crate::recall::Recalled;
use crate::record::{Changes, Records};
use crate::request::Request;
use crate::reservation::{Reservation, Settlement};
use crate::store::{
    self, BreakerOptions, Census, Guard, Layered, Store, StoreError, Subscriber, SubscriberQuery, Timeout, Wait,
};
use crate::subscription::{Overrides, Subscription};
use crate::token::{
    Authenticated, CALLS_MAX, Pepper, SecondLevel, TokenCacheOptions, TokenCacheStats, Tokens, Verifier,
};
use crate::usage::hold::HoldId;

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
    pub(crate) actor: Actor,
}

impl Quota {
    /// Starts to build an engine.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// The same engine, for changes that `actor` makes: the audit log then says so.
    #[must_use]
    pub fn acting_as(&self, actor: &str) -> Self {
        Self { admission: Arc::clone(&self.admission), actor: Some(actor.into()) }
    }

    /// Decides on everything that one request asks for: features and quotas, all or nothing. What the
    /// middlewares of web frameworks call.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] and [`Error::Unknown`] for what no plan could have, [`Error::Unknown`]
    /// also for a subject whose plan was removed from the plans, [`Error::NoPlans`] and [`Error::Plans`]
    /// where there never were any plans, and [`Error::Conflict`] for an idempotency key that was used for
    /// something else. A denial is no error, and neither is a store that cannot answer: the decision then
    /// says [`StoreUnavailable`](crate::Reason::StoreUnavailable), unless the plan allows units without it.
    pub async fn admit(&self, request: &Request<'_>) -> Result<Decision, Error> {
        self.admission.admit(Wait::Yield, request).await
    }

    /// As [`admit`](Self::admit), where everything that the decision needs is in memory: features, rates,
    /// quotas without a limit, denials that still hold. `None` where the store or the verifier must be asked;
    /// nothing has then been done.
    #[must_use]
    pub fn try_admit(&self, request: &Request<'_>) -> Option<Result<Decision, Error>> {
        match self.admission.recall(request) {
            Recalled::Decided(decision) => Some(decision),
            Recalled::AskStore(_) => None,
        }
    }

    /// Charges every cost, or none: allowed only if each metric has room in every one of its periods, the
    /// subject's and its account's.
    ///
    /// `costs` are metrics and units, each from 1 to [`UNITS_MAX`](crate::UNITS_MAX). The first
    /// charge of a subject without a subscription starts the default plan's trial, if it is one.
    ///
    /// # Errors
    ///
    /// As [`admit`](Self::admit).
    pub async fn consume(&self, subject: &str, costs: &[(&str, u64)]) -> Result<Decision, Error> {
        self.admission.admit(Wait::Yield, &Request::by(subject).costs(costs)).await
    }

    /// Charges like [`consume`](Self::consume), at most once under an idempotency key: asked for again, it
    /// answers as it did, and the decision is marked `repeated`. A denied request charges nothing, so asked
    /// again under its key, it is decided anew.
    ///
    /// The key is the subject's own, from 1 to 256 bytes, and is remembered for
    /// [`Builder::idempotency_ttl`].
    ///
    /// # Errors
    ///
    /// As [`admit`](Self::admit); [`Error::Conflict`] where the key was used with other costs.
    pub async fn consume_once(
        &self,
        subject: &str,
        costs: &[(&str, u64)],
        idempotency_key: &str,
    ) -> Result<Decision, Error> {
        self.admission.admit(Wait::Yield, &Request::by(subject).costs(costs).once(idempotency_key)).await
    }

    /// Whether [`consume`](Self::consume) would be allowed now. Consumes nothing, promises nothing:
    /// another caller may be faster.
    ///
    /// # Errors
    ///
    /// As [`admit`](Self::admit).
    pub async fn check(&self, subject: &str, costs: &[(&str, u64)]) -> Result<Decision, Error> {
        self.admission.admit(Wait::Yield, &Request::by(subject).costs(costs).looking()).await
    }

    /// Sets units aside for a request whose cost is known only when it is done: the reservation, or the
    /// decision that denied it. They are given back after `ttl`, from 1 millisecond to 7 days, unless the
    /// reservation is committed or released before.
    ///
    /// # Errors
    ///
    /// As [`admit`](Self::admit).
    pub async fn reserve(
        &self,
        subject: &str,
        costs: &[(&str, u64)],
        ttl: Duration,
    ) -> Result<Result<Reservation, Decision>, Error> {
        Ok(self.admission.reserve(Wait::Yield, subject, costs, ttl, None).await?.map(Reservation::new))
    }

    /// Reserves like [`reserve`](Self::reserve), once under an idempotency key: asked for again, it is the
    /// same reservation.
    ///
    /// # Errors
    ///
    /// As [`admit`](Self::admit); [`Error::Conflict`] where the key was used with other costs.
    pub async fn reserve_once(
        &self,
        subject: &str,
        costs: &[(&str, u64)],
        ttl: Duration,
        idempotency_key: &str,
    ) -> Result<Result<Reservation, Decision>, Error> {
        let reserved = self.admission.reserve(Wait::Yield, subject, costs, ttl, Some(idempotency_key)).await?;
        Ok(reserved.map(Reservation::new))
    }

    /// Commits a reservation by its name, in this process or another:
    /// see [`Reservation::commit`]. A metric that the reservation does not hold is passed over.
    ///
    /// # Errors
    ///
    /// [`Error::HoldExpired`], [`Error::HoldUnknown`], and [`Error::Store`] where the store cannot answer.
    pub async fn commit(&self, reservation: HoldId, actual: &[(&str, u64)]) -> Result<Settlement, Error> {
        self.admission.commit(Wait::Yield, reservation, actual).await
    }

    /// Releases a reservation by its name: see [`Reservation::release`].
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub async fn release(&self, reservation: HoldId) -> Result<Settlement, Error> {
        self.admission.release(Wait::Yield, reservation).await
    }

    /// Gives units back to the current periods, overage first and never below zero, and returns how they
    /// then stand: for work that was charged and then failed. For levels such as storage, see
    /// [`give_back`](Self::give_back).
    ///
    /// # Errors
    ///
    /// As [`consume`](Self::consume), and [`Error::Store`] where the store cannot answer.
    pub async fn refund(&self, subject: &str, costs: &[(&str, u64)]) -> Result<Vec<QuotaState>, Error> {
        self.admission.refund(Wait::Yield, &self.actor, subject, costs, None).await
    }

    /// Gives units of a level back, such as storage that was freed or a seat that was left: its `total`
    /// goes down, and what was used in other periods stays used.
    ///
    /// # Errors
    ///
    /// As [`refund`](Self::refund).
    pub async fn give_back(&self, subject: &str, costs: &[(&str, u64)]) -> Result<Vec<QuotaState>, Error> {
        self.admission.release_level(Wait::Yield, &self.actor, subject, costs, None).await
    }

    /// Grants units on top of the limits of the current periods: what support gives to somebody who has
    /// run out. They end with the period, and those of a `total` never.
    ///
    /// # Errors
    ///
    /// As [`refund`](Self::refund).
    pub async fn grant(&self, subject: &str, costs: &[(&str, u64)]) -> Result<Vec<QuotaState>, Error> {
        self.admission.grant(Wait::Yield, &self.actor, subject, costs, None).await
    }

    /// Forgets what a subject has used of a metric in the current periods. What is reserved stays so.
    ///
    /// # Errors
    ///
    /// As [`refund`](Self::refund).
    pub async fn reset_usage(&self, subject: &str, metric: &str) -> Result<Vec<QuotaState>, Error> {
        self.admission.reset_usage(Wait::Yield, &self.actor, subject, metric).await
    }

    /// The limiter alone: counts `cost` on a scope's rate, for a key that need not be a subject, such as the
    /// address that a login comes from. The rate is that of all plans, or else the default plan's.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # pollster::block_on(async {
    /// # use quotum::{Plans, Quota};
    /// let plans = Plans::from_toml("default_plan = 'free'\nrates = { login = '1/minute' }\n[plans.free]")?;
    /// let quota = Quota::builder().plans(plans).open("memory:").await?;
    /// let address: std::net::IpAddr = "203.0.113.7".parse()?;
    ///
    /// assert!(quota.rate("login", address.into(), 1).await?.allowed);
    /// assert!(!quota.rate("login", address.into(), 1).await?.allowed);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] for a scope that no plan names, [`Error::InvalidArgument`] for a cost of 0.
    pub async fn rate(&self, scope: &str, key: RateKey<'_>, cost: u64) -> Result<RateDecision, Error> {
        self.admission.rate(Wait::Yield, scope, key, cost).await
    }

    /// Gives a key its whole allowance back, in every scope, in this process.
    ///
    /// # Errors
    ///
    /// [`Error::NoPlans`], [`Error::Plans`] or [`Error::Store`] where there never were any plans.
    pub async fn clear_rates(&self, key: RateKey<'_>) -> Result<(), Error> {
        self.admission.clear_rates(Wait::Yield, key).await
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
        self.admission.admit(Wait::Yield, &Request::by(subject).feature(name)).await
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
        self.admission.admit(Wait::Yield, &Request::by(subject).feature_value(name, value)).await
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
        self.admission.set_plans(Wait::Yield, &self.actor, plans).await
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
        self.admission.subscribe(Wait::Yield, &self.actor, subject, subscription).await
    }

    /// Ends a subject's subscription. What is paid for until `expires_at` still grants.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a subject without a subscription, and as
    /// [`subscribe`](Self::subscribe).
    pub async fn cancel(&self, subject: &str) -> Result<Subscription, Error> {
        self.admission.cancel(Wait::Yield, &self.actor, subject).await
    }

    /// Gives a subject features and limits of its own, in place of all it had of its own before. A subject
    /// without a subscription gets one to the default plan.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe).
    pub async fn set_overrides(&self, subject: &str, overrides: Overrides) -> Result<Subscription, Error> {
        self.admission.set_overrides(Wait::Yield, &self.actor, subject, overrides).await
    }

    /// Switches enforcement, of everything or of one metric: at once in this process, within
    /// [`Builder::feed_interval`] in others.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] for a metric that no plan names. [`Error::Store`] where the store cannot keep it:
    /// it is in force in this process nevertheless.
    pub async fn set_enforcement(&self, metric: Option<&str>, mode: Enforcement) -> Result<(), Error> {
        self.admission.set_enforcement(Wait::Yield, &self.actor, metric, mode).await
    }

    /// Subjects that have a subscription, in pages.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] where the store cannot answer.
    pub async fn subscribers(&self, query: &SubscriberQuery) -> Result<Vec<Subscriber>, Error> {
        self.admission.subscribers(Wait::Yield, query).await
    }

    /// How many subjects are on each plan, by the state of their subscription.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] where the store cannot answer.
    pub async fn census(&self) -> Result<Vec<Census>, Error> {
        self.admission.census(Wait::Yield).await
    }

    /// Reads the store's log; [`EventQuery::changes`] is the audit trail.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] where the store cannot answer.
    pub async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, Error> {
        self.admission.events(Wait::Yield, query).await
    }

    /// Whom a token speaks for: from the cache, or from the verifier, which is asked once however many
    /// callers wait.
    ///
    /// # Errors
    ///
    /// [`Error::Verify`] where the verifier cannot tell, and [`Error::InvalidArgument`] for an engine that
    /// was built without one.
    pub async fn authenticate(&self, token: &str) -> Result<Authenticated, Error> {
        self.admission.keep_up(Wait::Yield).await;
        self.admission.authenticate(self.admission.call(Wait::Yield), token).await
    }

    /// Has a token verified anew, because it was revoked: at once in this process, within
    /// [`Builder::feed_interval`] in others.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] where the store cannot tell other processes; in this one it is forgotten
    /// nevertheless.
    pub async fn forget_token(&self, token: &str) -> Result<(), Error> {
        self.admission.forget_token(Wait::Yield, &self.actor, token).await
    }

    /// Has every token of a subject verified anew, and its subscription read anew: as
    /// [`forget_token`](Self::forget_token).
    ///
    /// # Errors
    ///
    /// As [`forget_token`](Self::forget_token).
    pub async fn forget_subject(&self, subject: &str) -> Result<(), Error> {
        self.admission.forget_subject(Wait::Yield, &self.actor, subject).await
    }

    /// How many events were dropped because the callback or the log could not keep up.
    #[must_use]
    pub fn events_dropped(&self) -> u64 {
        self.admission.observer.dropped()
    }

    /// Everything that there is to measure, as [OpenMetrics text] for Prometheus: decisions by verb, outcome,
    /// reason and plan; how long they took; caches, evictions and failures.
    ///
    /// [OpenMetrics text]: https://prometheus.io/docs/specs/om/open_metrics_spec/
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics(&self) -> String {
        self.admission.metrics_text()
    }

    /// How the cache of tokens has done; `None` for an engine without a verifier.
    #[must_use]
    pub fn token_stats(&self) -> Option<TokenCacheStats> {
        self.admission.tokens.as_ref().map(|tokens| tokens.cache().stats())
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
    feed_interval: Duration,
    idempotency_ttl: Duration,
    enforcement: Enforcement,
    verifier: Option<Arc<dyn Verifier>>,
    token_cache: TokenCacheOptions,
    pepper: Option<Pepper>,
    verifications_max: usize,
    tokens_in_store: bool,
    rates_max: usize,
    listeners: Listeners,
    store_timeout: Duration,
    breaker: Option<BreakerOptions>,
}

impl Builder {
    fn new() -> Self {
        Self {
            plans: PlansFile::None,
            clock: Arc::new(SystemClock::new()),
            catalog_ttl: Duration::from_secs(300),
            subscription_ttl: Duration::from_secs(30),
            records_max: 100_000,
            feed_interval: Duration::from_secs(1),
            idempotency_ttl: Duration::from_secs(24 * 3_600),
            enforcement: Enforcement::Enforce,
            verifier: None,
            token_cache: TokenCacheOptions::new(),
            pepper: None,
            verifications_max: CALLS_MAX,
            tokens_in_store: false,
            rates_max: 100_000,
            listeners: Listeners::default(),
            store_timeout: Duration::from_secs(5),
            breaker: Some(BreakerOptions::default()),
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

    /// How often the store is asked what other processes have changed; once a second by default.
    pub fn feed_interval(mut self, interval: Duration) -> Self {
        self.feed_interval = interval;
        self
    }

    /// How long an idempotency key is remembered, and what became of a reservation; 24 hours by default.
    pub fn idempotency_ttl(mut self, ttl: Duration) -> Self {
        self.idempotency_ttl = ttl;
        self
    }

    /// How denials are enforced, until somebody switches it: see
    /// [`set_enforcement`](Quota::set_enforcement).
    pub fn enforcement(mut self, mode: Enforcement) -> Self {
        self.enforcement = mode;
        self
    }

    /// Who tells whom a token speaks for: the host's own check of a JWT or of an API key. See
    /// [`blocking_verifier`](crate::token::blocking_verifier) and
    /// [`async_verifier`](crate::token::async_verifier).
    pub fn verifier(mut self, verifier: impl Verifier) -> Self {
        self.verifier = Some(Arc::new(verifier));
        self
    }

    /// How many tokens are remembered, and for how long.
    pub const fn token_cache(mut self, options: TokenCacheOptions) -> Self {
        self.token_cache = options;
        self
    }

    /// A secret under which tokens are digested, so that whoever reads the store cannot try tokens out. The
    /// same in every process that shares a store.
    pub fn pepper(mut self, pepper: Pepper) -> Self {
        self.pepper = Some(pepper);
        self
    }

    /// How many tokens may be verified at once, against floods of unknown ones; 1,000 by default.
    pub const fn verifications_max(mut self, count: usize) -> Self {
        self.verifications_max = count;
        self
    }

    /// Whether identities are kept in the store too, by the digests of their tokens, so that a process that
    /// starts need not verify every token again; not by default.
    pub const fn tokens_in_store(mut self, kept: bool) -> Self {
        self.tokens_in_store = kept;
        self
    }

    /// How many windows of rates are kept in memory, one for each key and limit; 100,000 by default, which
    /// takes about 2 MB at once. Where more are needed, keys get stricter, never laxer.
    pub const fn rates_max(mut self, count: usize) -> Self {
        self.rates_max = count;
        self
    }

    /// Called with every event, on a thread of its own: however slow it is, no request waits for it. Up to
    /// 4,096 events wait; what comes beyond that is dropped and counted
    /// ([`events_dropped`](Quota::events_dropped)).
    pub fn on_event(mut self, callback: impl Fn(&Event) + Send + 'static) -> Self {
        self.listeners.callback = Some(Box::new(callback));
        self
    }

    /// Which events are written to the store's log, besides the changes, which always are. SQLite keeps them
    /// for 90 days, memory the last 10,000.
    pub fn log_events(mut self, logged: LoggedEvents) -> Self {
        self.listeners.logged = logged;
        self
    }

    /// How long a request waits for the store, in all; 5 seconds by default, and without end for
    /// [`Duration::MAX`]. What it wanted to do may still be done afterwards, whole or not at all. A store that
    /// works on the thread of a synchronous caller bounds itself: see [`Timeout`].
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.store_timeout = timeout;
        self
    }

    /// After how many failures the store is not asked for a while, and for how long: see
    /// [`CircuitBreaker`](store::CircuitBreaker). `None` asks it every time.
    ///
    /// ```
    /// use quotum::{Plans, blocking::Quota, store::BreakerOptions};
    ///
    /// let plans = Plans::from_toml("default_plan = 'free'\n[plans.free]")?;
    /// let options = BreakerOptions { failures: 3, ..BreakerOptions::default() };
    /// let quota = Quota::builder().plans(plans).breaker(options).open("memory:")?;
    /// # Ok::<(), quotum::Error>(())
    /// ```
    pub fn breaker(mut self, options: impl Into<Option<BreakerOptions>>) -> Self {
        self.breaker = options.into();
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
        let guard = Guard::new(Timeout::after(self.store_timeout), self.breaker, &self.clock);
        let store: Arc<dyn Store> = Arc::new(Layered::new(store, guard));
        let catalog = Catalog::new(Arc::clone(&store), self.plans, Arc::clone(&self.clock), self.catalog_ttl);
        let feed = Feed::every(self.feed_interval)?;
        let second = self.tokens_in_store.then(|| SecondLevel { store: Arc::clone(&store), followed: feed.seen() });
        let tokens = self.verifier.map(|verifier| {
            let (cache, clock) = (self.token_cache.build(), Arc::clone(&self.clock));
            Tokens::new(verifier, cache, self.pepper, clock, self.verifications_max, second)
        });
        let observer = Observer::start(self.listeners, &store).map_err(|error| StoreError::Failed {
            detail: format!("no thread could be started for events: {error}"),
            retry: Retry::Safe,
        })?;
        let admission = Admission {
            observer,
            store,
            clock: self.clock,
            ratchet: Ratchet::new(),
            catalog: Arc::new(catalog),
            records: Records::bounded(self.records_max),
            changes: Changes::default(),
            feed,
            tokens,
            rates: RateTable::with_capacity(self.rates_max),
            switchboard: Switchboard::starting(self.enforcement),
            debts: Debts::default(),
            subscription_ttl: self.subscription_ttl,
            idempotency_ttl: self.idempotency_ttl,
        };
        let admission = Arc::new(admission);
        // Before anything is cached that may change. A store that fails now is asked again later.
        let call = admission.call(wait);
        if let Err(error) = admission.begin_to_follow(call).await {
            tracing::warn!(target: "quotum", %error, "the store's log cannot be read yet");
        }
        // Bad plans are better refused now than at the first request.
        admission.catalog.plans(call).await?;
        Ok(Quota { admission, actor: None })
    }
}
