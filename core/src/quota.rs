//! The engine: the verbs, for async callers. `blocking.rs` has the same for others.

use crate::admin::{Actor, Amend};
use crate::builder::Builder;
use crate::decision::{Decision, QuotaState, Usage};
use crate::engine::Engine;
use crate::error::Error;
use crate::event::{Event, EventQuery};
use crate::flight::unblocked;
use crate::plan::{CatalogStatus, FeatureValue, Plan, Plans};
use crate::policy::Enforcement;
use crate::rate::{RateDecision, RateKey};
use crate::recall::Recalled;
use crate::request::Request;
use crate::reservation::{Reservation, Settlement};
use crate::store::{Census, Subscriber, SubscriberQuery, Wait};
use crate::subject::Subject;
use crate::subscription::{Overrides, Subscription};
use crate::token::{Authenticated, TokenCacheStats};
use crate::usage::hold::HoldId;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

/// The engine: asks a store, decides by the plans. Clones share everything.
///
/// Needs no particular async runtime, and none of its verbs blocks the one it runs on: what may wait for
/// a disk is done on threads of its own. Only dropping the last clone waits for work under way: see
/// [`close`](Self::close). For callers without a runtime there is [`blocking::Quota`](crate::blocking::Quota).
///
/// # Processes that fork
///
/// A server may open the engine, use it, and then fork its workers, while no thread is inside a call. A child that asks
/// the engine gets one of its own: it reads what it needs anew, opens the store again, has none of its parent's leases and
/// debts, and starts its own threads. What it inherits it leaves to its parent: dropping an inherited engine, reservation
/// or [`Subject`] does nothing. A child returns what it has leased by [`close`](Self::close) or by dropping the engine; one
/// that ends without (`_exit`) strands it, as a crash would.
///
/// - With `memory:`, each process counts for itself from the fork on. So do rates that are not shared, everywhere.
/// - An SQLite file that the parent has open in more than one store, or in a connection of the host's, must not be used
///   in the child. A child that was forked in the middle of a step of SQLite's is refused
///   ([`StoreError::Stopped`](crate::store::StoreError::Stopped)).
/// - A reservation is settled by the process that made it, or by its [`id`](Reservation::id) in another.
/// - The callback of [`on_event`](Builder::on_event), the verifier and the clock are copies of the parent's.
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
    pub(crate) admission: Engine,
    pub(crate) actor: Actor,
    /// Whether a store may do its work on the thread that polls.
    pub(crate) wait: Wait,
}

impl Quota {
    /// Starts to build an engine.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// The same engine, for changes that `actor` makes: the audit log then says so.
    #[must_use]
    pub fn acting_as(&self, actor: &str) -> Self {
        Self { actor: Some(actor.into()), ..self.clone() }
    }

    /// A handle to a subject, for whoever asks about it often. The store is not asked yet.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for an id that is empty or longer than 256 bytes.
    pub fn subject(&self, id: &str) -> Result<Subject, Error> {
        Subject::of(&self.admission, id)
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
        self.admission.admit(self.wait, request).await
    }

    /// As [`admit`](Self::admit), where everything that the decision needs is in memory: features, rates,
    /// quotas without a limit, units of leased blocks, denials that still hold, and everything but requests with a
    /// rate where the store itself [answers at once](crate::store::Store::answers_at_once). `None` where a store or
    /// the verifier must be waited for; nothing has then been done.
    #[must_use]
    pub fn try_admit(&self, request: &Request<'_>) -> Option<Result<Decision, Error>> {
        match self.admission.recall(request) {
            Recalled::Decided(decision) => Some(decision),
            Recalled::AskStore(found) => self.admission.ask_at_once(request, *found),
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
        self.admission.admit(self.wait, &Request::by(subject).costs(costs)).await
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
        self.admission.admit(self.wait, &Request::by(subject).costs(costs).once(idempotency_key)).await
    }

    /// Whether [`consume`](Self::consume) would be allowed now. Consumes nothing, promises nothing:
    /// another caller may be faster.
    ///
    /// # Errors
    ///
    /// As [`admit`](Self::admit).
    pub async fn check(&self, subject: &str, costs: &[(&str, u64)]) -> Result<Decision, Error> {
        self.admission.admit(self.wait, &Request::by(subject).costs(costs).looking()).await
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
        Ok(self
            .admission
            .reserve(self.wait, subject, costs, ttl, None)
            .await?
            .map(|held| Reservation::new(held, self.wait)))
    }

    /// Reserves like [`reserve`](Self::reserve), once under an idempotency key: asked for again, it is the
    /// same reservation. One that was released or has expired has charged nothing, and is made anew.
    ///
    /// A subject's keys are one set: one that [`consume_once`](Self::consume_once) was called with is a
    /// conflict here.
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
        let reserved = self.admission.reserve(self.wait, subject, costs, ttl, Some(idempotency_key)).await?;
        Ok(reserved.map(|held| Reservation::new(held, self.wait)))
    }

    /// Commits a reservation by its name, in this process or another:
    /// see [`Reservation::commit`]. A metric that the reservation does not hold is passed over.
    ///
    /// # Errors
    ///
    /// [`Error::HoldExpired`], [`Error::HoldUnknown`], and [`Error::Store`] where the store cannot answer.
    pub async fn commit(&self, reservation: HoldId, actual: &[(&str, u64)]) -> Result<Settlement, Error> {
        self.admission.commit(self.wait, reservation, actual).await
    }

    /// Releases a reservation by its name: see [`Reservation::release`].
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub async fn release(&self, reservation: HoldId) -> Result<Settlement, Error> {
        self.admission.release(self.wait, reservation).await
    }

    /// Gives units back to the current periods, overage first and never below zero, and returns how they
    /// then stand: for work that was charged and then failed. For levels such as storage, see
    /// [`give_back`](Self::give_back).
    ///
    /// # Errors
    ///
    /// As [`consume`](Self::consume), and [`Error::Store`] where the store cannot answer.
    pub async fn refund(&self, subject: &str, costs: &[(&str, u64)]) -> Result<Vec<QuotaState>, Error> {
        self.admission.amend(self.wait, &self.actor, subject, costs, Amend::Refund).await
    }

    /// Gives units of a level back, such as storage that was freed or a seat that was left: its `total`
    /// goes down, and what was used in other periods stays used.
    ///
    /// # Errors
    ///
    /// As [`refund`](Self::refund).
    pub async fn give_back(&self, subject: &str, costs: &[(&str, u64)]) -> Result<Vec<QuotaState>, Error> {
        self.admission.amend(self.wait, &self.actor, subject, costs, Amend::GiveBack).await
    }

    /// Grants units on top of the limits of the current periods: what support gives to somebody who has
    /// run out. They end with the period, and those of a `total` never.
    ///
    /// # Errors
    ///
    /// As [`refund`](Self::refund).
    pub async fn grant(&self, subject: &str, costs: &[(&str, u64)]) -> Result<Vec<QuotaState>, Error> {
        self.admission.amend(self.wait, &self.actor, subject, costs, Amend::Grant).await
    }

    /// Forgets what a subject has used of a metric in the current periods. What is reserved stays so.
    ///
    /// # Errors
    ///
    /// As [`refund`](Self::refund).
    pub async fn reset_usage(&self, subject: &str, metric: &str) -> Result<Vec<QuotaState>, Error> {
        self.admission.amend(self.wait, &self.actor, subject, &[(metric, 1)], Amend::Reset).await
    }

    /// The limiter alone: counts `cost` on a scope's rate, for a key that need not be a subject, such as the
    /// address that a login comes from. The rate is that of all plans, or else the default plan's; a scope that
    /// only other plans have never fits.
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
        self.admission.rate(self.wait, scope, key, cost).await
    }

    /// Gives back `units` that [`rate`](Self::rate) has counted for a key, such as a login that went well where only
    /// failures are to count; says how the windows stand. Never more than the whole allowance, and of a window only
    /// what the present one has counted.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let plans = quotum::Plans::from_toml("default_plan = 'free'\nrates = { login = '1/minute' }\n[plans.free]")?;
    /// # let quota = quotum::blocking::Quota::builder().plans(plans).open("memory:")?;
    /// assert!(quota.rate("login", "ana".into(), 1)?.allowed);
    /// assert_eq!(quota.refund_rate("login", "ana".into(), 1)?.windows()[0].remaining, 1);
    /// assert!(quota.rate("login", "ana".into(), 1)?.allowed);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`rate`](Self::rate), and [`Error::InvalidArgument`] for a scope whose rate is shared: a store keeps when
    /// units come back, and not who has taken them.
    pub async fn refund_rate(&self, scope: &str, key: RateKey<'_>, units: u64) -> Result<RateDecision, Error> {
        self.admission.refund_rate(self.wait, scope, key, units).await
    }

    /// Gives a key its whole allowance back, in every scope, in this process. The audit log says so: a text as the
    /// event's subject, an address in its detail.
    ///
    /// # Errors
    ///
    /// [`Error::NoPlans`], [`Error::Plans`] or [`Error::Store`] where there never were any plans, and
    /// [`Error::Store`] where the store cannot log it: it is cleared nevertheless.
    pub async fn clear_rates(&self, key: RateKey<'_>) -> Result<(), Error> {
        self.admission.clear_rates(self.wait, &self.actor, key).await
    }

    /// Every quota of a subject, its plan, trial and expiry: what an account page shows.
    ///
    /// # Errors
    ///
    /// As [`consume`](Self::consume).
    pub async fn usage(&self, subject: &str) -> Result<Usage, Error> {
        self.admission.usage(self.wait, subject).await
    }

    /// The value of a feature; `None` where the plan does not name it or nothing is granted.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] for a feature that no plan names, [`Error::Store`] where the store cannot
    /// answer.
    pub async fn feature(&self, subject: &str, name: &str) -> Result<Option<FeatureValue>, Error> {
        self.admission.feature(self.wait, subject, name).await
    }

    /// Decides whether the subject's plan has a feature.
    ///
    /// # Errors
    ///
    /// As [`feature`](Self::feature).
    pub async fn require(&self, subject: &str, name: &str) -> Result<Decision, Error> {
        self.admission.admit(self.wait, &Request::by(subject).feature(name)).await
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
        self.admission.admit(self.wait, &Request::by(subject).feature_value(name, value)).await
    }

    /// The plans that the public may see, by rank.
    ///
    /// # Errors
    ///
    /// [`Error::NoPlans`], [`Error::Plans`] or [`Error::Store`] where there never were any plans.
    pub async fn plans(&self) -> Result<Vec<Arc<Plan>>, Error> {
        Ok(self.admission.plans(self.wait).await?.visible().cloned().collect())
    }

    /// Puts plans into the store, in place of those it has and of the plans file, and returns their
    /// version. They are in force at once in this process, elsewhere when the catalog is next
    /// refreshed. A call that is cancelled may still take effect, and is then seen as late here too.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] where the store cannot keep them.
    pub async fn set_plans(&self, plans: &Plans) -> Result<u64, Error> {
        self.admission.set_plans(self.wait, &self.actor, plans).await
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
        self.admission.subscription(self.wait, subject).await
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
        self.admission.subscribe(self.wait, &self.actor, subject, subscription).await
    }

    /// Ends a subject's subscription. What is paid for until `expires_at` still grants.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a subject without a subscription, and as
    /// [`subscribe`](Self::subscribe).
    pub async fn cancel(&self, subject: &str) -> Result<Subscription, Error> {
        self.admission.cancel(self.wait, &self.actor, subject).await
    }

    /// Gives a subject features and limits of its own, in place of all it had of its own before. A subject
    /// without a subscription gets one to the default plan.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe).
    pub async fn set_overrides(&self, subject: &str, overrides: Overrides) -> Result<Subscription, Error> {
        self.admission.set_overrides(self.wait, &self.actor, subject, overrides).await
    }

    /// Switches enforcement, of everything or of one metric: at once in this process, within
    /// [`Builder::feed_interval`] in others.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] for a metric that no plan names. [`Error::Store`] where the store cannot keep it:
    /// it is in force in this process nevertheless.
    pub async fn set_enforcement(&self, metric: Option<&str>, mode: Enforcement) -> Result<(), Error> {
        self.admission.set_enforcement(self.wait, &self.actor, metric, mode).await
    }

    /// Subjects that have a subscription, in pages.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] where the store cannot answer.
    pub async fn subscribers(&self, query: &SubscriberQuery) -> Result<Vec<Subscriber>, Error> {
        self.admission.subscribers(self.wait, query).await
    }

    /// How many subjects are on each plan, by the state of their subscription.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] where the store cannot answer.
    pub async fn census(&self) -> Result<Vec<Census>, Error> {
        self.admission.census(self.wait).await
    }

    /// Reads the store's log; [`EventQuery::changes`] is the audit trail.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] where the store cannot answer.
    pub async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, Error> {
        self.admission.events(self.wait, query).await
    }

    /// Whom a token speaks for: from the cache, or from the verifier, which is asked once however many
    /// callers wait.
    ///
    /// # Errors
    ///
    /// [`Error::Verify`] where the verifier cannot tell, and [`Error::InvalidArgument`] for an engine that
    /// was built without one.
    pub async fn authenticate(&self, token: &str) -> Result<Authenticated, Error> {
        self.admission.keep_up(self.wait).await;
        self.admission.authenticate(self.admission.call(self.wait), token).await
    }

    /// Has a token verified anew, because it was revoked: at once in this process, within
    /// [`Builder::feed_interval`] in others.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] where the store cannot tell other processes; in this one it is forgotten
    /// nevertheless, also where the store [keeps identities](Builder::tokens_in_store). The others are told when
    /// the store answers again, as long as this process lives.
    pub async fn forget_token(&self, token: &str) -> Result<(), Error> {
        self.admission.forget_token(self.wait, &self.actor, token).await
    }

    /// Has every token of a subject verified anew, and its subscription read anew: as
    /// [`forget_token`](Self::forget_token).
    ///
    /// # Errors
    ///
    /// As [`forget_token`](Self::forget_token).
    pub async fn forget_subject(&self, subject: &str) -> Result<(), Error> {
        self.admission.forget_subject(self.wait, &self.actor, subject).await
    }

    /// Gives this handle up, and does before what could not be done while the store could not be asked: charges
    /// what was granted without it, and tells it what was revoked. Other handles go on; with the last one the
    /// engine ends, which never blocks the task's thread.
    ///
    /// Dropping the last handle does the same, but waits on the thread that drops it, for the store and for
    /// listeners 5 seconds each at the most, and tells nobody whether it was done.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] where the store cannot answer: with the last handle, what was owed is lost.
    pub async fn close(self) -> Result<(), Error> {
        let wait = self.wait;
        self.admission.return_all(wait).await;
        let settled = self.admission.settle_up(self.admission.call(wait), usize::MAX).await;
        unblocked(wait, move || drop(self)).await?;
        Ok(settled?)
    }

    /// The same engine for synchronous callers.
    #[must_use]
    pub fn to_blocking(&self) -> crate::blocking::Quota {
        crate::blocking::Quota::of(self)
    }

    /// The time by the engine's clock, which never steps back: for [`http::Mapping`](crate::http::Mapping).
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.admission.call_in_memory(self.wait).now
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
