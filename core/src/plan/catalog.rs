//! The catalog: the plans in force, cached.
//!
//! Plans come from the store; where it has none, from the plans file. A request never waits for a
//! refresh: stale plans are served while one thread fetches new ones, and for as long as the store
//! fails. The catalog is never empty.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::RwLock;
use serde::Serialize;

use super::plan::Plans;
use crate::clock::Clock;
use crate::error::Error;
use crate::store::{Call, Store, Wait};

/// How soon after a failure the store is asked again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

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
    /// Held while plans are loaded, so that however many callers wait, one loads.
    loading: async_lock::Mutex<()>,
    /// Whether a refresh is running off the request path.
    refreshing: AtomicBool,
}

#[derive(Debug, Clone)]
struct Loaded {
    plans: Arc<Plans>,
    status: CatalogStatus,
    /// Monotonic time from which a refresh is due.
    stale_from: Duration,
    /// Whether the next caller must load before it goes on.
    cleared: bool,
}

impl Catalog {
    pub(crate) fn new(store: Arc<dyn Store>, file: PlansFile, clock: Arc<dyn Clock>, ttl: Duration) -> Self {
        Self {
            store,
            file,
            clock,
            ttl,
            loaded: RwLock::new(None),
            loading: async_lock::Mutex::new(()),
            refreshing: AtomicBool::new(false),
        }
    }

    /// The plans in force.
    pub(crate) async fn plans(self: &Arc<Self>, call: Call) -> Result<Arc<Plans>, Error> {
        if let Some(loaded) = self.usable() {
            if loaded.stale_from <= self.clock.monotonic() {
                self.refresh_aside(call.now);
            }
            return Ok(loaded.plans);
        }
        let _one = self.loading.lock().await;
        match self.usable() {
            Some(loaded) => Ok(loaded.plans),
            None => self.load(call).await,
        }
    }

    pub(crate) fn status(&self) -> Option<CatalogStatus> {
        self.loaded.read().as_ref().map(|loaded| loaded.status.clone())
    }

    /// Makes the next caller load the plans anew. If that fails, the plans in force stay.
    pub(crate) fn clear(&self) {
        if let Some(loaded) = self.loaded.write().as_mut() {
            loaded.cleared = true;
        }
    }

    fn usable(&self) -> Option<Loaded> {
        self.loaded.read().as_ref().filter(|loaded| !loaded.cleared).cloned()
    }

    /// Refreshes on a thread of its own, unless one already does.
    fn refresh_aside(self: &Arc<Self>, now: Timestamp) {
        if self.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let catalog = Arc::clone(self);
        let refresh = move || {
            let done = Finally(&catalog.refreshing);
            pollster::block_on(async {
                let _one = catalog.loading.lock().await;
                let _outcome = catalog.load(Call::new(now, Wait::Block)).await;
            });
            drop(done);
        };
        if let Err(error) = std::thread::Builder::new().name("quotum-catalog".to_owned()).spawn(refresh) {
            self.refreshing.store(false, Ordering::Release);
            self.keep_on(&error, now);
        }
    }

    /// Loads the plans: from the store, else from the file. With an error, the last good plans stay.
    async fn load(&self, call: Call) -> Result<Arc<Plans>, Error> {
        let fetched = match self.store.plans(call).await {
            Ok(Some(stored)) => Ok((stored.plans, PlansOrigin::Store, stored.version, None)),
            Ok(None) => self.read_file().map(|plans| (plans, PlansOrigin::File, 0, None)),
            Err(error) if self.loaded.read().is_some() => Err(Error::from(error)),
            // The store has never answered: its error stays visible while the file serves.
            Err(error) => match self.read_file() {
                Ok(plans) => Ok((plans, PlansOrigin::File, 0, Some(error.to_string()))),
                Err(_) => Err(error.into()),
            },
        };
        match fetched {
            Ok((plans, origin, version, last_error)) => {
                let status = CatalogStatus { origin, version, loaded_at: call.now, last_error };
                Ok(self.put(plans, status))
            }
            Err(error) => self.keep_on(&error, call.now).ok_or(error),
        }
    }

    fn read_file(&self) -> Result<Plans, Error> {
        match &self.file {
            PlansFile::None => Err(Error::NoPlans),
            PlansFile::Path(path) => Ok(Plans::read(path)?),
            PlansFile::Given(plans) => Ok(Plans::clone(plans)),
        }
    }

    fn put(&self, plans: Plans, status: CatalogStatus) -> Arc<Plans> {
        let mut loaded = self.loaded.write();
        // Plans that did not change stay the same object, by which records know that they are current.
        let plans = match loaded.as_ref() {
            Some(last) if *last.plans == plans => Arc::clone(&last.plans),
            _ => Arc::new(plans),
        };
        if let Some(error) = &status.last_error {
            tracing::warn!(target: "quotum", %error, "the store cannot be asked for plans: the plans file serves");
        }
        let lifetime = if status.last_error.is_some() { self.ttl.min(RETRY_AFTER) } else { self.ttl };
        let stale_from = self.clock.monotonic().saturating_add(lifetime);
        *loaded = Some(Loaded { plans: Arc::clone(&plans), status, stale_from, cleared: false });
        plans
    }

    /// Serves the last good plans on, and says why.
    fn keep_on(&self, error: &dyn std::error::Error, now: Timestamp) -> Option<Arc<Plans>> {
        let mut loaded = self.loaded.write();
        let loaded = loaded.as_mut()?;
        tracing::warn!(target: "quotum", %error, %now, "plans were not refreshed: the last good ones serve");
        loaded.status.last_error = Some(error.to_string());
        loaded.stale_from = self.clock.monotonic().saturating_add(self.ttl.min(RETRY_AFTER));
        loaded.cleared = false;
        Some(Arc::clone(&loaded.plans))
    }
}

/// Lowers a flag when it goes out of scope, by a panic too.
struct Finally<'f>(&'f AtomicBool);

impl Drop for Finally<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
