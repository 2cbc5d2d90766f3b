//! The engine: every verb once, for synchronous callers and for tasks.

use std::future::Future;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyString};
use quotum::store::SubscriberQuery;
use quotum::{Enforcement, Error, EventName, EventQuery, HoldId, OwnedRequest, Request, Status};

use crate::answer::{Kind, Told};
use crate::argument::{Costs, Key, large_number, number, refused, refused_value, span, token_text};
use crate::error::{ClosedError, raise};
use crate::fork::detached;
use crate::json::to_python;
use crate::opening::Opened;
use crate::plan::{CatalogStatus, Source};
use crate::request::{Asks, by, charging, requiring};
use crate::reservation::Reserved;
use crate::subject::Handle;
use crate::subscription::{Subscription, overrides, subscription};

/// How many entries a listing has, where nobody says.
const PAGE: usize = 100;

/// What Quota and AsyncQuota have in common: the verbs.
#[pyclass(frozen, subclass, weakref, module = "quotum._native")]
pub(crate) struct Engine {
    kind: Kind,
    /// Taken when it is closed.
    open: RwLock<Option<quotum::Quota>>,
    shared: Shared,
}

/// What all have in common that stand for one engine: the last of them ends it.
pub(crate) type Shared = Arc<()>;

impl Engine {
    pub(crate) const fn new(kind: Kind, quota: quotum::Quota, shared: Shared) -> Self {
        Self { kind, open: RwLock::new(Some(quota)), shared }
    }

    pub(crate) fn shared(&self) -> Shared {
        Arc::clone(&self.shared)
    }

    /// Does something with the engine at once, which must not wait for a store.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&quotum::Quota) -> T) -> PyResult<T> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let open = open.as_ref().ok_or_else(|| ClosedError::new_err("this engine was closed: open another one"))?;
        Ok(act(open))
    }

    fn quota(&self) -> PyResult<quotum::Quota> {
        self.with(quotum::Quota::clone)
    }

    /// Asks the core for what may need the store.
    fn ask<'py, T: Told, F>(
        &self,
        py: Python<'py>,
        verb: impl FnOnce(quotum::Quota) -> F,
    ) -> PyResult<Bound<'py, PyAny>>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        self.kind.ask(py, verb(self.quota()?))
    }

    /// Decides on a request: from memory, where that can be.
    pub(crate) fn decide<'py>(&self, py: Python<'py>, request: &Request<'_>) -> PyResult<Bound<'py, PyAny>> {
        match self.with(|quota| quota.try_admit(request))? {
            Some(known) => self.kind.answer(py, known),
            None => {
                let request = OwnedRequest::from(request);
                self.ask(py, |quota| async move { Ok(request.admit(&quota).await?.0) })
            }
        }
    }
}

fn word<T: FromStr<Err = Error>>(py: Python<'_>, word: &str) -> PyResult<T> {
    word.parse().map_err(|error| raise(py, error))
}

#[pymethods]
impl Engine {
    /// Decide on everything that one request asks for: a rate, features and costs, all or nothing.
    ///
    /// It is by a subject, by whomever a token speaks for, or, with a rate_key, by nobody who is known. `rate` is the
    /// scope that it counts on, rate_cost times, for its subject or for rate_key: any text, or an address of
    /// `ipaddress`. `features` are names, pairs of a name and a value, or a mapping of both.
    ///
    /// Raises ConflictError where the idempotency key was used before with other arguments, and VerifyError where the
    /// verifier cannot tell.
    #[pyo3(signature = (subject = None, costs = None, /, *, token = None, rate = None, rate_key = None, rate_cost = None,
        features = None, idempotency_key = None, **units))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword of the verb")]
    fn admit<'py>(
        &self,
        py: Python<'py>,
        subject: Option<&str>,
        costs: Option<&Bound<'py, PyMapping>>,
        token: Option<&Bound<'py, PyString>>,
        rate: Option<&str>,
        rate_key: Option<&Bound<'py, PyAny>>,
        rate_cost: Option<&Bound<'py, PyAny>>,
        features: Option<&Bound<'py, PyAny>>,
        idempotency_key: Option<&str>,
        units: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let asks = Asks { costs: Costs::of(costs, units)?, rate, rate_key, rate_cost, features, idempotency_key };
        asks.of(by(subject, token.map(token_text))?, |request| self.decide(py, request))
    }

    /// Whom a token speaks for: an Identity, or None for one that is malformed, unknown, revoked or expired.
    ///
    /// Raises VerifyError where the verifier cannot tell, and InvalidArgumentError for an engine without one.
    #[pyo3(signature = (token, /))]
    fn authenticate<'py>(&self, py: Python<'py>, token: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        let token = token_text(token).to_owned();
        self.ask(py, |quota| async move { quota.authenticate(&token).await })
    }

    /// Charge every cost, or none where one does not fit. Under an idempotency key, once.
    ///
    /// Raises ConflictError where the key was used before with other arguments.
    #[pyo3(signature = (subject, costs = None, /, *, idempotency_key = None, **units))]
    fn consume<'py>(
        &self,
        py: Python<'py>,
        subject: &str,
        costs: Option<&Bound<'py, PyMapping>>,
        idempotency_key: Option<&str>,
        units: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let costs = Costs::of(costs, units)?;
        self.decide(py, &charging(Request::by(subject), &costs.borrowed()?, idempotency_key))
    }

    /// Whether it would be allowed now. Consumes nothing, promises nothing.
    #[pyo3(signature = (subject, costs = None, /, **units))]
    fn check<'py>(
        &self,
        py: Python<'py>,
        subject: &str,
        costs: Option<&Bound<'py, PyMapping>>,
        units: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let costs = Costs::of(costs, units)?;
        self.decide(py, &Request::by(subject).costs(&costs.borrowed()?).looking())
    }

    /// Set units aside for a request whose cost is known later, for as long as ttl: a timedelta or seconds, from a
    /// millisecond to 7 days. Whatever else the request asks for, as in admit, is decided first.
    ///
    /// Raises ConflictError where the idempotency key was used before with other arguments.
    #[pyo3(signature = (subject = None, costs = None, /, *, ttl, token = None, rate = None, rate_key = None,
        rate_cost = None, features = None, idempotency_key = None, **units))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword of the verb")]
    fn reserve<'py>(
        &self,
        py: Python<'py>,
        subject: Option<&str>,
        costs: Option<&Bound<'py, PyMapping>>,
        ttl: &Bound<'_, PyAny>,
        token: Option<&Bound<'py, PyString>>,
        rate: Option<&str>,
        rate_key: Option<&Bound<'py, PyAny>>,
        rate_cost: Option<&Bound<'py, PyAny>>,
        features: Option<&Bound<'py, PyAny>>,
        idempotency_key: Option<&str>,
        units: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if subject.is_none() && token.is_none() {
            return Err(refused("subject", "nothing", "a subject or a token: units are set aside for somebody"));
        }
        let (ttl, kind) = (span("ttl", ttl)?, self.kind);
        let asks = Asks { costs: Costs::of(costs, units)?, rate, rate_key, rate_cost, features, idempotency_key };
        let request =
            asks.of(by(subject, token.map(token_text))?, |request| Ok(OwnedRequest::from(request).reserve(ttl)))?;
        self.ask(py, |quota| async move {
            let (decision, open) = request.admit(&quota).await?;
            Ok(Reserved { kind, quota, decision, open })
        })
    }

    /// Commit a reservation by its id, in this process or another: see Reservation.commit.
    ///
    /// Raises HoldExpiredError where it is too late, and HoldUnknownError for one that is not known.
    #[pyo3(signature = (reservation, costs = None, /, **actual))]
    fn commit<'py>(
        &self,
        py: Python<'py>,
        reservation: &str,
        costs: Option<&Bound<'py, PyMapping>>,
        actual: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (id, actual) = (word::<HoldId>(py, reservation)?, Costs::of(costs, actual)?.owned()?);
        self.ask(py, |quota| async move { quota.commit(id, &actual.borrowed()).await })
    }

    /// Release a reservation by its id: see Reservation.release. Raises as commit does.
    #[pyo3(signature = (reservation, /))]
    fn release<'py>(&self, py: Python<'py>, reservation: &str) -> PyResult<Bound<'py, PyAny>> {
        let id = word::<HoldId>(py, reservation)?;
        self.ask(py, |quota| async move { quota.release(id).await })
    }

    /// Give back what was consumed in the present periods, overage first and never below zero.
    #[pyo3(signature = (subject, costs = None, /, **units))]
    fn refund<'py>(
        &self,
        py: Python<'py>,
        subject: String,
        costs: Option<&Bound<'py, PyMapping>>,
        units: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let costs = Costs::of(costs, units)?.owned()?;
        self.ask(py, |quota| async move { quota.refund(&subject, &costs.borrowed()).await })
    }

    /// Lower levels, such as storage, that never reset.
    #[pyo3(signature = (subject, costs = None, /, **units))]
    fn give_back<'py>(
        &self,
        py: Python<'py>,
        subject: String,
        costs: Option<&Bound<'py, PyMapping>>,
        units: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let costs = Costs::of(costs, units)?.owned()?;
        self.ask(py, |quota| async move { quota.give_back(&subject, &costs.borrowed()).await })
    }

    /// Grant units on top of the plan's limits, in the present periods only.
    #[pyo3(signature = (subject, costs = None, /, **units))]
    fn grant<'py>(
        &self,
        py: Python<'py>,
        subject: String,
        costs: Option<&Bound<'py, PyMapping>>,
        units: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let costs = Costs::of(costs, units)?.owned()?;
        self.ask(py, |quota| async move { quota.grant(&subject, &costs.borrowed()).await })
    }

    /// Forget what was used of a metric in the present periods. What is reserved stays so.
    #[pyo3(signature = (subject, metric, /))]
    fn reset_usage<'py>(&self, py: Python<'py>, subject: String, metric: String) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, |quota| async move { quota.reset_usage(&subject, &metric).await })
    }

    /// Every quota of a subject, its plan and its state: what an account page shows.
    #[pyo3(signature = (subject, /))]
    fn usage<'py>(&self, py: Python<'py>, subject: String) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, |quota| async move { quota.usage(&subject).await })
    }

    /// What a subject's plan has of a feature; None where it has nothing of it.
    #[pyo3(signature = (subject, name, /))]
    fn feature<'py>(&self, py: Python<'py>, subject: String, name: String) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, |quota| async move { quota.feature(&subject, &name).await })
    }

    /// Whether a subject's plan has a feature, or as much of it as value.
    ///
    /// Raises InvalidArgumentError for a value of another kind than the feature's.
    #[pyo3(signature = (subject, name, value = None, /))]
    fn require<'py>(
        &self,
        py: Python<'py>,
        subject: &str,
        name: &str,
        value: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.decide(py, &requiring(Request::by(subject), name, value)?)
    }

    /// The limiter alone: count cost on a scope's rate, for a key that need not be a subject: any text, or an address of
    /// `ipaddress`. An IPv6 address counts for its /64.
    #[pyo3(signature = (scope, key, cost = None, /))]
    fn rate<'py>(
        &self,
        py: Python<'py>,
        scope: String,
        key: &Bound<'py, PyAny>,
        cost: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let key = Key::of(key)?.owned()?;
        let cost = cost.map_or(Ok(1), |cost| large_number("cost", cost))?;
        self.ask(py, |quota| async move { quota.rate(&scope, key.borrowed(), cost).await })
    }

    /// Give back units that `rate` has counted for a key, such as a login that went well where only failures are to count.
    /// Never more than the whole allowance.
    ///
    /// Raises InvalidArgumentError for a scope whose rate is shared.
    #[pyo3(signature = (scope, key, units = None, /))]
    fn refund_rate<'py>(
        &self,
        py: Python<'py>,
        scope: String,
        key: &Bound<'py, PyAny>,
        units: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let key = Key::of(key)?.owned()?;
        let units = units.map_or(Ok(1), |units| large_number("units", units))?;
        self.ask(py, |quota| async move { quota.refund_rate(&scope, key.borrowed(), units).await })
    }

    /// Give a key its whole allowance back, in every scope, in this process.
    #[pyo3(signature = (key, /))]
    fn clear_rates<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let key = Key::of(key)?.owned()?;
        self.ask(py, |quota| async move { quota.clear_rates(key.borrowed()).await })
    }

    /// The plans that the public may see, by rank.
    fn plans<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, |quota| async move { quota.plans().await })
    }

    /// Put plans into the store, in place of those it has and of the plans file: quotum.Plans, a plans file's
    /// dictionary, or its path. Returns their version. In force at once in this process, elsewhere within catalog_ttl.
    ///
    /// Raises PlansError for plans that are refused.
    #[pyo3(signature = (plans, /))]
    fn set_plans<'py>(&self, py: Python<'py>, plans: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let plans = Source::of("plans", plans)?;
        self.ask(py, |quota| async move { quota.set_plans(&plans.read().await?).await })
    }

    /// Have the next caller read the plans anew, from the store or the plans file.
    fn clear_catalog(&self) -> PyResult<()> {
        self.with(quotum::Quota::clear_catalog)
    }

    /// Where the plans in force came from, and whether the last refresh failed; None before the first.
    #[getter]
    fn catalog_status(&self) -> PyResult<Option<CatalogStatus>> {
        Ok(self.with(quotum::Quota::catalog_status)?.map(|inner| CatalogStatus { inner }))
    }

    /// The subscription of a subject as the store has it; None for a subject on the default plan.
    #[pyo3(signature = (subject, /))]
    fn subscription<'py>(&self, py: Python<'py>, subject: String) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, |quota| async move { quota.subscription(&subject).await })
    }

    /// Give a subject a subscription in place of any it had: a Subscription, or a plan's id and the fields of a
    /// Subscription that are to be said of it. In force at once in this process, elsewhere within a second.
    #[pyo3(signature = (subject, plan, /, **fields))]
    fn subscribe<'py>(
        &self,
        py: Python<'py>,
        subject: String,
        plan: &Bound<'py, PyAny>,
        fields: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let given = plan.cast::<Subscription>().ok().filter(|_| fields.is_none());
        let subscription = match (given, plan.extract::<String>()) {
            (Some(given), _) => given.get().inner.clone(),
            (None, Ok(plan)) => subscription(plan, fields, self.with(quotum::Quota::now)?)?,
            (None, Err(_)) => {
                return Err(refused_value("plan", plan, "the id of a plan, or a Subscription and no fields beside it"));
            }
        };
        self.ask(py, |quota| async move { quota.subscribe(&subject, subscription).await })
    }

    /// End a subject's subscription. What is paid for until expires_at still grants.
    ///
    /// Raises InvalidArgumentError for a subject without one.
    #[pyo3(signature = (subject, /))]
    fn cancel<'py>(&self, py: Python<'py>, subject: String) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, |quota| async move { quota.cancel(&subject).await })
    }

    /// Give a subject features and limits of its own, in place of all it had of its own before, such as
    /// quotas={"searches": ["5/day", "100/month"]}.
    #[pyo3(signature = (subject, /, *, features = None, quotas = None))]
    fn set_overrides<'py>(
        &self,
        py: Python<'py>,
        subject: String,
        features: Option<&Bound<'py, PyMapping>>,
        quotas: Option<&Bound<'py, PyMapping>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let overrides = overrides(features, quotas)?;
        self.ask(py, |quota| async move { quota.set_overrides(&subject, overrides).await })
    }

    /// Switch enforcement, of everything or of one metric: "enforce", "shadow" or "off". At once in this process, within a
    /// second in others.
    #[pyo3(signature = (mode, /, *, metric = None))]
    fn set_enforcement<'py>(&self, py: Python<'py>, mode: &str, metric: Option<String>) -> PyResult<Bound<'py, PyAny>> {
        let mode = word::<Enforcement>(py, mode)?;
        self.ask(py, |quota| async move { quota.set_enforcement(metric.as_deref(), mode).await })
    }

    /// Subjects that have a subscription, in the order of their ids, in pages: `after` is the last one of the page
    /// before, `limit` how many there are on a page, 100 where it is not given.
    #[pyo3(signature = (*, after = None, containing = None, plan = None, status = None, account = None, limit = None))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword of the verb")]
    fn subscribers<'py>(
        &self,
        py: Python<'py>,
        after: Option<&str>,
        containing: Option<String>,
        plan: Option<String>,
        status: Option<&str>,
        account: Option<String>,
        limit: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let limit = limit.map_or(Ok(PAGE), |limit| number("limit", limit))?;
        let status = status.map(|status| word::<Status>(py, status)).transpose()?;
        let query = SubscriberQuery { after: after.map(Into::into), containing, plan, status, account, limit };
        self.ask(py, |quota| async move { quota.subscribers(&query).await })
    }

    /// How many subjects are on each plan, by the state of their subscription.
    fn census<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, |quota| async move { quota.census().await })
    }

    /// Read the store's log, in pages: `after` is the sequence of the last event of the page before, `limit` how many
    /// there are on a page, 100 where it is not given. With changes_only it is the audit trail: who changed what, and
    /// when.
    #[pyo3(signature = (*, after = None, subject = None, name = None, changes_only = false, newest_first = false, limit = None))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword of the verb")]
    fn events<'py>(
        &self,
        py: Python<'py>,
        after: Option<&Bound<'py, PyAny>>,
        subject: Option<&str>,
        name: Option<&str>,
        changes_only: bool,
        newest_first: bool,
        limit: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let limit = limit.map_or(Ok(PAGE), |limit| number("limit", limit))?;
        let after = after.map_or(Ok(0), |after| large_number("after", after))?;
        let name = name.map(|name| word::<EventName>(py, name)).transpose()?;
        let query = EventQuery { after, subject: subject.map(Into::into), name, changes_only, newest_first, limit };
        self.ask(py, |quota| async move { quota.events(&query).await })
    }

    /// Have a token verified anew, because it was revoked: at once in this process, within a second in others.
    #[pyo3(signature = (token, /))]
    fn forget_token<'py>(&self, py: Python<'py>, token: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        let token = token_text(token).to_owned();
        self.ask(py, |quota| async move { quota.forget_token(&token).await })
    }

    /// Have every token of a subject verified anew, and its subscription read anew.
    #[pyo3(signature = (subject, /))]
    fn forget_subject<'py>(&self, py: Python<'py>, subject: String) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, |quota| async move { quota.forget_subject(&subject).await })
    }

    /// The same engine, for changes that `actor` makes: the audit trail then says so.
    #[pyo3(signature = (actor, /))]
    fn acting_as(&self, py: Python<'_>, actor: &str) -> PyResult<Py<PyAny>> {
        Opened(self.kind, self.with(|quota| quota.acting_as(actor))?, self.shared()).told(py)
    }

    /// A handle to a subject, for whoever asks about it often. The store is not asked yet.
    #[pyo3(signature = (id, /))]
    fn subject(slf: PyRef<'_, Self>, py: Python<'_>, id: &str) -> PyResult<Py<PyAny>> {
        let subject = slf.with(|quota| quota.subject(id))?.map_err(|error| raise(py, error))?;
        Handle::of(py, slf.kind, slf.into(), subject)
    }

    /// The time by the engine's clock, in UTC.
    #[getter]
    fn now(&self) -> PyResult<Timestamp> {
        self.with(quotum::Quota::now)
    }

    /// How many events were dropped because the listener or the log could not keep up.
    #[getter]
    fn events_dropped(&self) -> PyResult<u64> {
        self.with(quotum::Quota::events_dropped)
    }

    /// How the cache of tokens has done: hits, negative_hits, misses and evictions; None for an engine without a verifier.
    #[getter]
    fn token_stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.with(quotum::Quota::token_stats)?)
    }

    /// Everything that there is to measure, as OpenMetrics text for Prometheus.
    fn metrics(&self) -> PyResult<String> {
        self.with(quotum::Quota::metrics)
    }

    /// Charge and return what is owed and leased, and end. Afterwards every verb raises ClosedError.
    ///
    /// Raises StoreError where the store cannot answer: what was owed is lost then.
    pub(crate) fn close<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let open = self.open.write().unwrap_or_else(PoisonError::into_inner).take();
        self.kind.ask(py, async move {
            match open {
                Some(open) => open.close().await,
                None => Ok(()),
            }
        })
    }

    /// Close at the end of the interpreter, when no event loop runs any more.
    fn _end(&self, py: Python<'_>) {
        let open = self.open.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(open) = open else { return };
        // What could not be done is told as an event of its own.
        let _closed = detached(py, || {
            let quota = open.to_blocking();
            drop(open);
            quota.close()
        });
    }

    fn __repr__(slf: PyRef<'_, Self>) -> &'static str {
        let is_open = slf.with(|_| ()).is_ok();
        match (slf.kind, is_open) {
            (Kind::Blocking, true) => "<Quota>",
            (Kind::Blocking, false) => "<Quota, closed>",
            (Kind::Asyncio, true) => "<AsyncQuota>",
            (Kind::Asyncio, false) => "<AsyncQuota, closed>",
        }
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<()> {
        let name = slf.get_type().name()?;
        let text = format!("a {name} cannot be pickled: each process opens its own, or inherits one by fork");
        Err(pyo3::exceptions::PyTypeError::new_err(text))
    }
}

impl Drop for Engine {
    /// Not while other threads are kept from Python: a listener may have to be waited for. The last one that stands for
    /// an engine ends it, which no event loop is to wait for.
    fn drop(&mut self) {
        let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let is_last = Arc::strong_count(&self.shared) == 1;
        if open.is_none() {
            return;
        }
        if self.kind == Kind::Asyncio && is_last {
            // Where there is no thread to be had, the engine ends here.
            let _ended = std::thread::Builder::new().name("quotum-end".to_owned()).spawn(move || drop(open));
            return;
        }
        Python::try_attach(|py| detached(py, || drop(open)));
    }
}
