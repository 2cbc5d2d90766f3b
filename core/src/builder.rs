//! The builder: opens an engine on a store, with everything that can be chosen about it.

use crate::admission::Admission;
use crate::clock::{Clock, Ratchet, SystemClock};
use crate::debt::Debts;
use crate::engine::Engine;
use crate::error::{Error, Retry};
use crate::event::Event;
use crate::eviction::Evictions;
use crate::feed::Feed;
use crate::flight::unblocked;
use crate::lease::Desk;
use crate::observer::{Listeners, LoggedEvents, Observer};
use crate::plan::catalog::{Catalog, PlansFile};
use crate::plan::{Leasing, Plans};
use crate::policy::{Enforcement, Switchboard};
use crate::quota::Quota;
use crate::rate::RateTable;
use crate::record::{Changes, Records};
use crate::store::{self, BreakerOptions, Guard, Layered, Store, StoreError, Timeout, Wait};
use crate::token::{CALLS_MAX, Pepper, SecondLevel, TokenCacheOptions, Tokens, Verifier};
use crate::usage::hold::HoldId;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
    lease: Leasing,
    wrap: Wrap,
}

/// What is put around a store once it is open.
#[derive(Default)]
struct Wrap(Option<Box<WrapOnce>>);

type WrapOnce = dyn FnOnce(Arc<dyn Store>) -> Arc<dyn Store> + Send + Sync;

impl fmt::Debug for Wrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Wrap(..)" } else { "Wrap" })
    }
}

impl Builder {
    pub(crate) fn new() -> Self {
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
            lease: Leasing::Auto,
            wrap: Wrap::default(),
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
    /// ([`events_dropped`](Quota::events_dropped)). Dropping the last engine waits until those are delivered that
    /// wait, for 5 seconds at the most: a callback that never returns is then left to its thread.
    pub fn on_event(mut self, callback: impl Fn(&Event) + Send + 'static) -> Self {
        self.listeners.callback = Some(Arc::new(Mutex::new(Box::new(callback))));
        self
    }

    /// Which events are written to the store's log, besides the changes, which always are. SQLite keeps them
    /// for 90 days, memory the last 10,000. They are written by the thread of [`on_event`](Self::on_event), which is
    /// waited for as there.
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

    /// Whether units are granted from leased blocks, of quotas whose plan does not say; [`Leasing::Auto`] by
    /// default.
    pub const fn lease(mut self, leasing: Leasing) -> Self {
        self.lease = leasing;
        self
    }

    /// What is put around the store once it is open, such as the host's own plans and subscriptions
    /// ([`store::Sourced`]), or layers of the host's.
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use std::sync::Arc;
    /// use quotum::{Plans, Subscription, Timestamp, blocking::Quota, store::Sourced};
    ///
    /// let plans = Plans::from_toml("default_plan = 'free'\n[plans.free]\n[plans.pro]\nrank = 1\nfeatures = { excel = true }")?;
    /// let pro = |_: &str| Ok::<_, Infallible>(Some(Subscription::active("pro", Timestamp::UNIX_EPOCH)));
    /// let quota = Quota::builder()
    ///     .plans(plans)
    ///     .around_store(move |store| Arc::new(Sourced::around(store).blocking_subscriptions(pro)))
    ///     .open("memory:")?;
    /// assert!(quota.require("ana", "excel")?.allowed);
    /// # Ok::<(), quotum::Error>(())
    /// ```
    pub fn around_store(mut self, wrap: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store> + Send + Sync + 'static) -> Self {
        self.wrap = Wrap(Some(Box::new(wrap)));
        self
    }

    /// The same settings, for synchronous callers.
    pub fn blocking(self) -> crate::blocking::Builder {
        crate::blocking::Builder::of(self)
    }

    /// Opens the store that a URL names, such as `sqlite:quota.db` or `memory:`, and the engine on it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a URL that names no store, or more rates than there is memory for,
    /// [`Error::Store`] where it cannot be opened, and [`Error::Plans`] or [`Error::NoPlans`] where there are no plans to decide by.
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

    pub(crate) async fn open_in(mut self, wait: Wait, store: Arc<dyn Store>) -> Result<Quota, Error> {
        let store = match self.wrap.0.take() {
            Some(wrap) => wrap(store),
            None => store,
        };
        RateTable::check_capacity(self.rates_max)?;
        let layered = self.layered(&store);
        let observer = Observer::start(&self.listeners, &layered).map_err(|error| StoreError::Failed {
            detail: format!("no thread could be started for events: {error}"),
            retry: Retry::Safe,
        })?;
        let name = HoldId::random()?.to_string();
        let admission = self.engine(layered, store.answers_at_once(), name.into(), observer);
        // Before anything is cached that may change. A store that fails now is asked again later.
        let call = admission.call(wait);
        admission.begin_or_warn(call).await;
        // Bad plans are better refused now than at the first request.
        admission.catalog.plans(call).await?;
        Ok(Quota { admission: Engine::new(admission, move || self.engine_of_child(&store)), actor: None, wait })
    }

    /// The engine of a child process, which has nothing of its parent's: no lease, no debt, no cached record, and no
    /// lock that a thread of the parent's may have held.
    fn engine_of_child(&self, store: &Arc<dyn Store>) -> Arc<Admission> {
        let layered = self.layered(store);
        let observer = Observer::start(&self.listeners, &layered).unwrap_or_else(|error| {
            tracing::error!(target: "quotum", %error, "no thread could be started for events in a child process");
            Observer::unheard()
        });
        let by_number = |_| format!("process {}", std::process::id());
        let name = HoldId::random().map_or_else(by_number, |id| id.to_string());
        self.engine(layered, store.answers_at_once(), name.into(), observer)
    }

    fn layered(&self, store: &Arc<dyn Store>) -> Arc<dyn Store> {
        let guard = Guard::new(Timeout::after(self.store_timeout), self.breaker, &self.clock);
        Arc::new(Layered::new(Arc::clone(store), guard))
    }

    /// An engine that nothing was asked of yet. `name` is what its changes are marked with.
    fn engine(
        &self,
        store: Arc<dyn Store>,
        answers_at_once: bool,
        name: Arc<str>,
        observer: Observer,
    ) -> Arc<Admission> {
        let catalog = Catalog::new(Arc::clone(&store), self.plans.clone(), Arc::clone(&self.clock), self.catalog_ttl);
        let feed = Feed::every(self.feed_interval, name);
        let second = self.tokens_in_store.then(|| SecondLevel { store: Arc::clone(&store), followed: feed.seen() });
        let tokens = self.verifier.as_ref().map(|verifier| {
            let (cache, clock) = (self.token_cache.clone().build(), Arc::clone(&self.clock));
            Tokens::new(Arc::clone(verifier), cache, self.pepper.clone(), clock, self.verifications_max, second)
        });
        let is_worth_leasing = store.is_worth_leasing();
        Arc::new_cyclic(|engine| Admission {
            desk: Arc::new(Desk::new(engine, self.lease, is_worth_leasing)),
            observer,
            evictions: Evictions::default(),
            store,
            answers_at_once,
            clock: Arc::clone(&self.clock),
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
        })
    }
}
