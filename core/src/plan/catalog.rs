//! The catalog: the plans in force, cached.
//!
//! Plans come from the store; where it has none, from the plans file. A request never waits for a
//! refresh: stale plans are served while one thread fetches new ones, and for as long as the store
//! fails. The catalog is never empty.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;
use parking_lot::RwLock;
use serde::Serialize;

use super::plan::Plans;
use crate::aside::{Finally, aside};
use crate::clock::Clock;
use crate::error::Error;
use crate::flight::{Flight, unblocked};
use crate::store::{Call, Store, Wait};

/// How soon after a failure the store is asked again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How old plans must be before a plan that they do not know has them loaded anew.
const RELOAD_AFTER: Duration = Duration::from_secs(1);

/// Where the plans in force came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PlansOrigin {
    /// The store, where `set_plans` put them.
    Store,
    /// The plans file or the plans given to the builder.
    File,
}

/// How the catalog is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CatalogStatus {
    /// Where the plans in force came from.
    pub origin: PlansOrigin,
    /// Their version in the store; 0 for plans from a file.
    pub version: u64,
    /// When they were last found to be current, by the engine's clock.
    pub loaded_at: Timestamp,
    /// Why the last refresh failed, if it did: the plans in force are older than they should be.
    pub last_error: Option<String>,
}

/// The plans a host gives, for when the store has none.
#[derive(Debug, Clone)]
pub(crate) enum PlansFile {
    /// None: the store must have plans.
    None,
    /// Read anew at every refresh.
    Path(PathBuf),
    /// Given as a value.
    Given(Arc<Plans>),
}

#[derive(Debug)]
pub(crate) struct Catalog {
    store: Arc<dyn Store>,
    file: PlansFile,
    clock: Arc<dyn Clock>,
    ttl: Duration,
    loaded: RwLock<Option<Loaded>>,
    loading: Flight<Arc<Plans>, Error>,
    /// Counts loads and clears, so that each knows which came before it.
    steps: AtomicU64,
    /// The step of the last clear: what was read before it is not served after it.
    cleared: AtomicU64,
    /// The step of the last expiry: what was read before it is refreshed as soon as somebody asks.
    expired: AtomicU64,
    /// Whether a refresh is running off the request path.
    refreshing: AtomicBool,
}

#[derive(Debug, Clone)]
struct Loaded {
    plans: Arc<Plans>,
    status: CatalogStatus,
    /// Monotonic time of the last attempt to load, and from which a refresh is due.
    loaded_at: Duration,
    stale_from: Duration,
    /// The step at which these plans began to be read.
    started: u64,
}

impl Catalog {
    pub(crate) fn new(store: Arc<dyn Store>, file: PlansFile, clock: Arc<dyn Clock>, ttl: Duration) -> Self {
        Self {
            store,
            file,
            clock,
            ttl,
            loaded: RwLock::new(None),
            loading: Flight::new(),
            steps: AtomicU64::new(1),
            cleared: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            refreshing: AtomicBool::new(false),
        }
    }

    /// The plans in force.
    pub(crate) async fn plans(self: &Arc<Self>, call: Call) -> Result<Arc<Plans>, Error> {
        let cleared = self.cleared.load(Ordering::Acquire);
        let loaded = self.loaded.read().as_ref().filter(|loaded| loaded.started > cleared).cloned();
        let Some(loaded) = loaded else { return self.load_once(call).await };
        let expired = loaded.started < self.expired.load(Ordering::Acquire);
        if expired || loaded.stale_from <= call.monotonic(&*self.clock) {
            self.refresh_aside(call);
        }
        Ok(loaded.plans)
    }

    /// The plans in force, if they need no refresh.
    pub(crate) fn known(&self, monotonic: Duration) -> Option<Arc<Plans>> {
        self.fresh(&self.loaded.read(), monotonic).map(|loaded| Arc::clone(&loaded.plans))
    }

    fn fresh<'l>(&self, loaded: &'l Option<Loaded>, monotonic: Duration) -> Option<&'l Loaded> {
        let since = self.cleared.load(Ordering::Acquire).max(self.expired.load(Ordering::Acquire));
        loaded.as_ref().filter(|loaded| loaded.started > since && monotonic < loaded.stale_from)
    }

    /// Whether these are the plans in force, and need no refresh.
    pub(crate) fn is_known(&self, plans: &Arc<Plans>, monotonic: Duration) -> bool {
        self.fresh(&self.loaded.read(), monotonic).is_some_and(|loaded| Arc::ptr_eq(&loaded.plans, plans))
    }

    /// Plans that may know a plan which those in force do not: loaded anew, unless they were just now.
    /// Meanwhile other callers are served as ever.
    pub(crate) async fn newer(self: &Arc<Self>, call: Call) -> Result<Arc<Plans>, Error> {
        let current = self.loaded.read().clone();
        match current.filter(|loaded| self.clock.monotonic() < loaded.loaded_at.saturating_add(RELOAD_AFTER)) {
            Some(loaded) => Ok(loaded.plans),
            None => self.load_once(call).await,
        }
    }

    /// Loads the plans anew, because somebody else has changed them. If that fails, those in force stay, and
    /// are loaded as soon as that is possible.
    pub(crate) async fn reload(self: &Arc<Self>, call: Call) {
        self.expire();
        self.loading.abandon();
        let _failed = self.load_once(call).await;
    }

    /// Has the plans loaded anew off the request path, as soon as somebody asks for them.
    pub(crate) fn expire(&self) {
        self.expired.fetch_max(self.step(), Ordering::AcqRel);
    }

    pub(crate) fn status(&self) -> Option<CatalogStatus> {
        self.loaded.read().as_ref().map(|loaded| loaded.status.clone())
    }

    /// Makes the next caller load the plans anew. If that fails, the plans in force stay.
    pub(crate) fn clear(&self) {
        self.cleared.fetch_max(self.step(), Ordering::AcqRel);
        self.loading.abandon();
    }

    /// Puts plans in force that the store has just accepted as this version.
    pub(crate) fn install(&self, plans: Plans, version: u64, now: Timestamp) {
        self.loading.abandon();
        let loaded_at = self.clock.monotonic();
        let stale_from = loaded_at.saturating_add(self.ttl);
        let status = CatalogStatus { origin: PlansOrigin::Store, version, loaded_at: now, last_error: None };
        {
            let mut loaded = self.loaded.write();
            if loaded.as_ref().is_none_or(|last| last.status.version < version) {
                *loaded = Some(Loaded { plans: Arc::new(plans), status, loaded_at, stale_from, started: self.step() });
                return;
            }
        }
        // Another change came in between, or the store was restored from a copy: it knows which plans hold.
        self.clear();
    }

    fn step(&self) -> u64 {
        self.steps.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Loads the plans, once for however many callers wait.
    async fn load_once(self: &Arc<Self>, call: Call) -> Result<Arc<Plans>, Error> {
        let start = || {
            let catalog = Arc::clone(self);
            async move { catalog.load(call).await }.boxed()
        };
        self.loading.join(call.wait, start).await
    }

    /// Refreshes on a thread of its own, unless one already does.
    fn refresh_aside(self: &Arc<Self>, call: Call) {
        if self.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let catalog = Arc::clone(self);
        let refresh = move || {
            let done = Finally(&catalog.refreshing);
            let _outcome = pollster::block_on(catalog.load_once(Call::new(call.now, Wait::Block)));
            drop(done);
        };
        if let Err(error) = aside("quotum-catalog", refresh) {
            self.refreshing.store(false, Ordering::Release);
            self.keep_on(&error, call.now, 0);
        }
    }

    /// Loads the plans: from the store, else from the file. With an error, the last good plans stay.
    async fn load(&self, call: Call) -> Result<Arc<Plans>, Error> {
        let started = self.step();
        let fetched = match self.store.plans(call).await {
            Ok(Some(stored)) => Ok((stored.plans, PlansOrigin::Store, stored.version, None)),
            Ok(None) => self.read_file(call).await.map(|plans| (plans, PlansOrigin::File, 0, None)),
            Err(error) if self.loaded.read().is_some() => Err(Error::from(error)),
            // The store has never answered: its error stays visible while the file serves.
            Err(error) => match self.read_file(call).await {
                Ok(plans) => Ok((plans, PlansOrigin::File, 0, Some(error.to_string()))),
                Err(_) => Err(error.into()),
            },
        };
        match fetched {
            Ok((plans, origin, version, last_error)) => {
                let status = CatalogStatus { origin, version, loaded_at: call.now, last_error };
                Ok(self.put(plans, status, started))
            }
            Err(error) => self.keep_on(&error, call.now, started).ok_or(error),
        }
    }

    async fn read_file(&self, call: Call) -> Result<Plans, Error> {
        match self.file.clone() {
            PlansFile::None => Err(Error::NoPlans),
            PlansFile::Path(path) => Ok(unblocked(call.wait, move || Plans::read(path)).await??),
            PlansFile::Given(plans) => Ok(Plans::clone(&plans)),
        }
    }

    fn put(&self, plans: Plans, status: CatalogStatus, started: u64) -> Arc<Plans> {
        if let Some(error) = &status.last_error {
            tracing::warn!(target: "quotum", %error, "the store cannot be asked for plans: the plans file serves");
        }
        let lifetime = if status.last_error.is_some() { self.ttl.min(RETRY_AFTER) } else { self.ttl };
        let loaded_at = self.clock.monotonic();
        let stale_from = loaded_at.saturating_add(lifetime);
        let mut loaded = self.loaded.write();
        // Plans that did not change stay the same object, by which records know that they are current.
        let plans = match loaded.as_ref() {
            Some(last) if *last.plans == plans => Arc::clone(&last.plans),
            _ => Arc::new(plans),
        };
        // What was read earlier must not replace what was read later, unless that was put before it: the answer
        // to a change may come after that to a later one.
        let put_later = |last: &CatalogStatus| last.origin == status.origin && last.version < status.version;
        if loaded.as_ref().is_none_or(|last| last.started < started || put_later(&last.status)) {
            // As of when it was read: had it been changed since, it is to be read once more.
            *loaded = Some(Loaded { plans: Arc::clone(&plans), status, loaded_at, stale_from, started });
        }
        plans
    }

    /// Serves the last good plans on, and says why.
    fn keep_on(&self, error: &dyn std::error::Error, now: Timestamp, started: u64) -> Option<Arc<Plans>> {
        let kept = self.loaded.write().as_mut().map(|loaded| {
            loaded.status.last_error = Some(error.to_string());
            loaded.loaded_at = self.clock.monotonic();
            loaded.stale_from = loaded.loaded_at.saturating_add(self.ttl.min(RETRY_AFTER));
            loaded.started = loaded.started.max(started);
            Arc::clone(&loaded.plans)
        })?;
        tracing::warn!(target: "quotum", %error, %now, "plans were not refreshed: the last good ones serve");
        Some(kept)
    }
}
