//! The bench on which one vector runs: a clock, a store that lasts, and the engines on it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quotum::blocking::{Quota, Reservation};
use quotum::store::{
    Call, Durability, Layer, Layered, MemoryStore, SqliteOptions, Step, Store, StoreError, StoreFuture,
};
use quotum::token::{Identity, VerifyError, blocking_verifier};
use quotum::{Error, HoldId, ManualClock, Plans, PlansError, Retry, Timestamp};
use serde_json::Value;

/// Where a vector's store keeps what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    InMemory,
    InSqlite,
}

pub(crate) struct Bench {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) reservations: BTreeMap<String, Named>,
    plans: Plans,
    settings: Value,
    /// The store that every engine shares, or the folder of the file that each opens for itself.
    memory: Arc<dyn Store>,
    folder: Option<tempfile::TempDir>,
    engines: BTreeMap<String, Quota>,
    down: Arc<AtomicBool>,
    revoked: Arc<Mutex<BTreeSet<String>>>,
}

/// A reservation of the script: the value as long as nobody settled it, and its name for ever.
pub(crate) struct Named {
    pub(crate) engine: String,
    pub(crate) value: Option<Reservation>,
    pub(crate) id: Option<HoldId>,
}

impl Bench {
    pub(crate) fn new(plans: &Value, now: &str, settings: &Value, kept: Kept) -> Self {
        for key in settings.as_object().into_iter().flat_map(|settings| settings.keys()) {
            assert!(["idempotency_ttl_s", "enforcement"].contains(&key.as_str()), "unknown setting {key:?}");
        }
        Self {
            clock: Arc::new(ManualClock::at(now.parse().unwrap())),
            reservations: BTreeMap::new(),
            plans: plans_of(plans).unwrap(),
            settings: settings.clone(),
            memory: Arc::new(MemoryStore::new()),
            folder: (kept == Kept::InSqlite).then(|| tempfile::tempdir().unwrap()),
            engines: BTreeMap::new(),
            down: Arc::default(),
            revoked: Arc::default(),
        }
    }

    /// The engine of a name, opened when it is first named.
    pub(crate) fn engine(&mut self, name: &str) -> Result<Quota, Error> {
        if !self.engines.contains_key(name) {
            let engine = self.open()?;
            self.engines.insert(name.to_owned(), engine);
        }
        Ok(self.engines[name].clone())
    }

    fn open(&self) -> Result<Quota, Error> {
        let seconds = |key: &str| self.settings.get(key).map(|value| Duration::from_secs(value.as_u64().unwrap()));
        let store: Arc<dyn Store> = match &self.folder {
            None => Arc::clone(&self.memory),
            Some(folder) => {
                let options = SqliteOptions::at(folder.path().join("quota.db")).durability(Durability::Normal);
                Arc::new(options.open()?)
            }
        };
        let (clock, revoked) = (self.clock.clone(), Arc::clone(&self.revoked));
        let verifier = blocking_verifier(move |token| verify(token, &revoked.lock().unwrap()));
        let mut builder = Quota::builder().plans(self.plans.clone()).clock(clock).verifier(verifier);
        if let Some(ttl) = seconds("idempotency_ttl_s") {
            builder = builder.idempotency_ttl(ttl);
        }
        if let Some(mode) = self.settings.get("enforcement") {
            builder = builder.enforcement(mode.as_str().unwrap().parse()?);
        }
        builder.open_on(Arc::new(Layered::new(store, Outage(Arc::clone(&self.down)))))
    }

    /// Closes every engine, as the end of its process would; what was reserved stays reserved.
    pub(crate) fn restart(&mut self) {
        for named in self.reservations.values_mut() {
            if let Some(reservation) = named.value.take() {
                reservation.detach();
            }
        }
        self.engines.clear();
    }

    pub(crate) fn set_store_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    pub(crate) fn revoke(&self, token: &str) {
        self.revoked.lock().unwrap().insert(token.to_owned());
    }
}

/// Plans by the name of a file of `examples/plans`, or as an object of the same schema.
pub(crate) fn plans_of(plans: &Value) -> Result<Plans, PlansError> {
    match plans {
        Value::String(name) => {
            let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/plans");
            Plans::read(examples.join(format!("{name}.toml")))
        }
        plans => Plans::from_json(&plans.to_string()),
    }
}

/// `key-of-<subject>` is that subject's, and `key-of-<subject>@<time>` until then.
fn verify(token: &str, revoked: &BTreeSet<String>) -> Result<Option<Identity>, VerifyError> {
    let Some(of) = token.strip_prefix("key-of-").filter(|_| !revoked.contains(token)) else { return Ok(None) };
    match of.split_once('@') {
        None if of == "nobody" => Err(VerifyError::unavailable("the directory is down")),
        None => Ok(Some(Identity::of(of))),
        Some((subject, until)) => {
            let until: Timestamp = until.parse().map_err(|_| VerifyError::unavailable("a bad time"))?;
            Ok(Some(Identity::of(subject).expiring_at(until)))
        }
    }
}

/// How many blocks were asked for on any bench.
pub(crate) static LEASES: AtomicU64 = AtomicU64::new(0);

/// A store that answers nothing while the flag is up.
#[derive(Debug)]
struct Outage(Arc<AtomicBool>);

impl Layer for Outage {
    fn around<'a, T: Send + 'a>(&'a self, _: Call, step: Step, inner: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        LEASES.fetch_add(u64::from(step == Step::Lease), Ordering::Relaxed);
        if self.0.load(Ordering::SeqCst) {
            let failed = StoreError::Failed { detail: "the disk is gone".to_owned(), retry: Retry::Safe };
            return Box::pin(async move { Err(failed) });
        }
        inner
    }
}
