//! Reservations: units set aside for a request whose cost is known only when it is done.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pollster::block_on;

use crate::admission::{Admission, check_key, once, shadowed};
use crate::aside::aside;
use crate::caller::check_subject;
use crate::charging::{Holding, Step};
use crate::debt::Share;
use crate::decision::{Decision, Denial, Reason};
use crate::error::Error;
use crate::event::{Event, EventName};
use crate::fork::Bound;
use crate::plan::UNITS_MAX;
use crate::policy::Enforcement;
use crate::store::{Call, Part, Settle, Settled, Wait};
use crate::usage::demand::{Cost, Costs, costs_of, some_costs_of};
use crate::usage::hold::HoldId;

/// The longest that units may be set aside.
const TTL_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Units that are set aside until they are committed or released. Dropping it releases them.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # pollster::block_on(async {
/// use std::time::Duration;
/// use quotum::{Plans, Quota};
///
/// let plans = Plans::from_toml("default_plan = 'free'\n[plans.free]\nquotas = { tokens = '1000/day' }")?;
/// let quota = Quota::builder().plans(plans).open("memory:").await?;
///
/// let reservation = match quota.reserve("user-42", &[("tokens", 800)], Duration::from_secs(60)).await? {
///     Ok(reservation) => reservation,
///     Err(decision) => return Err(format!("{:?}", decision.denied).into()),
/// };
/// // … the model answers, and tells what it cost …
/// let settlement = reservation.commit(&[("tokens", 312)]).await?;
/// assert_eq!(settlement.consumed("tokens"), 312);
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping a reservation releases what it holds"]
pub struct Reservation {
    held: Held,
    /// Whether its store may do its work on the thread that settles or drops it.
    wait: Wait,
}

/// What a reservation of either kind is about.
#[derive(Debug)]
pub(crate) struct Held {
    admission: Bound<Admission>,
    /// None where nothing is held: enforcement is off, the units are owed, or they are not counted.
    id: Option<HoldId>,
    /// What is owed in place of a hold, where the store could not be asked.
    owed: Option<Box<Share>>,
    decision: Decision,
    costs: Costs,
    expires_at: Timestamp,
}

/// What a reservation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settlement {
    /// When it was settled.
    pub at: Timestamp,
    /// What each counter was charged: one for each period of each metric.
    pub parts: Vec<Part>,
    /// Whether it had been settled before; nothing was changed then.
    pub repeated: bool,
}

impl Settlement {
    /// How many units of a metric were consumed, overage included.
    #[must_use]
    pub fn consumed(&self, metric: &str) -> u64 {
        self.of(metric).map(|part| part.used + part.overage).max().unwrap_or(0)
    }

    /// How many of them did not fit into the tightest of the metric's limits.
    #[must_use]
    pub fn overage(&self, metric: &str) -> u64 {
        self.of(metric).map(|part| part.overage).max().unwrap_or(0)
    }

    fn of(&self, metric: &str) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(move |part| *part.key.metric == *metric)
    }
}

impl Reservation {
    pub(crate) const fn new(held: Held, wait: Wait) -> Self {
        Self { held, wait }
    }

    /// Its name, by which another process may commit it. `None` where nothing is held, because enforcement
    /// is off, the store could not be asked, or nothing of it is counted.
    #[must_use]
    pub const fn id(&self) -> Option<HoldId> {
        self.held.id
    }

    /// The decision that allowed it.
    pub const fn decision(&self) -> &Decision {
        &self.held.decision
    }

    /// When its units are given back, unless it is settled before.
    #[must_use]
    pub const fn expires_at(&self) -> Timestamp {
        self.held.expires_at
    }

    /// Charges what was really used, from 0 units, and gives the rest back. Of a metric that is not listed,
    /// as much as was reserved. Beyond that, more of the limit is taken while there is some; what does not
    /// fit is recorded as overage.
    ///
    /// # Errors
    ///
    /// [`Error::HoldExpired`] after `expires_at`. [`Error::InvalidArgument`] for a metric that was not
    /// reserved, or more units than can be counted: they stay held, and may be committed by the name that
    /// [`id`](Self::id) gave. [`Error::Store`] where the store cannot answer: what is held then expires.
    pub async fn commit(mut self, actual: &[(&str, u64)]) -> Result<Settlement, Error> {
        self.held.commit_at_last(self.wait, actual).await
    }

    /// Gives everything back.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub async fn release(mut self) -> Result<Settlement, Error> {
        self.held.release(self.wait).await
    }

    /// Lets the units stay held when this value is dropped: another process will settle them, or they
    /// expire.
    pub fn detach(mut self) -> Option<HoldId> {
        self.held.detach()
    }
}

impl Drop for Reservation {
    /// Releases on a thread of its own where a task would be made to wait for a disk.
    fn drop(&mut self) {
        let Some(id) = self.held.take_unless_repeated() else { return };
        let admission = Arc::clone(&self.held.admission);
        let release = move || admission.release_quietly(id);
        if self.wait == Wait::Block {
            return release();
        }
        if let Err(error) = aside("quotum-release", release) {
            tracing::warn!(target: "quotum", %error, %id, "a dropped reservation was not released: it will expire");
        }
    }
}

/// A hold that may have been made without anybody knowing: it is released when this goes out of scope.
struct Unanswered<'a> {
    admission: &'a Arc<Admission>,
    id: Option<HoldId>,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let admission = Arc::clone(self.admission);
        let release = move || drop(block_on(admission.release(Wait::Block, id)));
        if let Err(error) = aside("quotum-release", release) {
            tracing::warn!(target: "quotum", %error, %id, "a hold was not released: it will expire");
        }
    }
}

/// A reservation that was committed, or was to be: dropping it gives nothing back.
struct NeverReleased<'h>(&'h mut Held);

impl Drop for NeverReleased<'_> {
    fn drop(&mut self) {
        self.0.detach();
    }
}

impl Held {
    /// What dropping it releases: not what another request under the same key has reserved. What is owed needs no
    /// store, and is released at once.
    fn take_unless_repeated(&mut self) -> Option<HoldId> {
        let (id, owed) = (self.id.take(), self.owed.take());
        // What a child inherits is still its parent's.
        if self.decision.repeated || !self.admission.is_here() {
            return None;
        }
        if let Some(share) = owed {
            self.admission.debts.settle(&share, |_| Some(0));
        }
        id
    }

    pub(crate) fn detach(&mut self) -> Option<HoldId> {
        self.owed = None;
        self.id.take()
    }

    pub(crate) async fn commit(&mut self, wait: Wait, actual: &[(&str, u64)]) -> Result<Settlement, Error> {
        for (metric, units) in actual {
            if *units > UNITS_MAX {
                let expected = format!("from 0 to {UNITS_MAX} units");
                return Err(Error::argument("actual", format!("{units} {metric}"), expected));
            }
            if !self.costs.iter().any(|cost| *cost.metric == **metric) {
                let reserved: Vec<&str> = self.costs.iter().map(|cost| &*cost.metric).collect();
                let expected = format!("one of those reserved: {}", reserved.join(", "));
                return Err(Error::argument("actual", format!("{metric:?}"), expected));
            }
        }
        self.settle(wait, actual).await
    }

    /// Commits a value that is given up by it. A mistake in the arguments must not make the work free: the
    /// units then stay held.
    pub(crate) async fn commit_at_last(&mut self, wait: Wait, actual: &[(&str, u64)]) -> Result<Settlement, Error> {
        // Taken out before the store is asked: work that was done must not become free because the answer is
        // lost, or because nobody waits for it any more. What is not settled then expires.
        let kept = NeverReleased(self);
        kept.0.commit(wait, actual).await
    }

    pub(crate) async fn release(&mut self, wait: Wait) -> Result<Settlement, Error> {
        let metrics: Vec<Arc<str>> = self.costs.iter().map(|cost| Arc::clone(&cost.metric)).collect();
        let nothing: Vec<(&str, u64)> = metrics.iter().map(|metric| (&**metric, 0)).collect();
        self.settle(wait, &nothing).await
    }

    async fn settle(&mut self, wait: Wait, used: &[(&str, u64)]) -> Result<Settlement, Error> {
        let Some(id) = self.id else {
            let at = self.admission.call(wait).now;
            if let Some(share) = self.owed.take() {
                let used = |name: &str| used.iter().find(|(metric, _)| *metric == name).map(|(_, units)| *units);
                self.admission.debts.settle(&share, used);
            }
            return Ok(Settlement { at, parts: Vec::new(), repeated: false });
        };
        let settled = self.admission.commit(wait, id, used).await;
        // Where the store could not answer, dropping tries once more to release.
        let open = matches!(&settled, Err(error) if is_mistake(error) || error.retry() != crate::Retry::Never);
        if !open {
            self.id = None;
        }
        settled
    }
}

impl Admission {
    /// Sets units aside: the reservation, or the decision that denied it.
    pub(crate) async fn reserve(
        self: &Arc<Self>,
        wait: Wait,
        subject: &str,
        costs: &[(&str, u64)],
        ttl: Duration,
        key: Option<&str>,
    ) -> Result<Result<Held, Decision>, Error> {
        let begun = self.observer.begin();
        let call = self.keep_up(wait).await;
        let reserved = self.set_aside(call, subject, costs, ttl, key).await?;
        let decision = reserved.as_ref().map_or_else(|denied| denied, |held| &held.decision);
        self.observer.decided("reserve", decision, call.now, begun);
        Ok(reserved)
    }

    async fn set_aside(
        self: &Arc<Self>,
        call: Call,
        subject: &str,
        costs: &[(&str, u64)],
        ttl: Duration,
        key: Option<&str>,
    ) -> Result<Result<Held, Decision>, Error> {
        if ttl < Duration::from_millis(1) || ttl > TTL_MAX {
            return Err(Error::argument("ttl", format!("{} ms", ttl.as_millis()), "from 1 millisecond to 7 days"));
        }
        key.map(check_key).transpose()?;
        let modes = self.switchboard.modes();
        let later = |after: Duration| call.now.checked_add(after).unwrap_or(Timestamp::MAX);
        let expires_at = later(ttl);
        let held = |id, decision: Decision, costs, expires_at| {
            let owed = decision.trace.unanswered.as_ref().and_then(|unanswered| unanswered.owed.clone());
            Held { admission: Bound::new(Arc::clone(self)), id, owed, decision, costs, expires_at }
        };
        if modes.everywhere() == Enforcement::Off {
            check_subject(subject)?;
            if let Ok(plans) = self.catalog.plans(call).await {
                some_costs_of(&plans, costs)?;
            }
            return Ok(Ok(held(None, Decision::unasked(Some(subject)), named(costs), expires_at)));
        }
        let caller = match self.caller(call, subject).await {
            Err(Error::Store(error)) => {
                return Ok(Err(Decision::deny(Some(subject.into()), Denial::unanswered(&error))));
            }
            caller => caller?,
        };
        let costs = some_costs_of(&caller.standing.plans, costs)?;
        let id = HoldId::random()?;
        let kept_until = later(ttl.saturating_add(self.idempotency_ttl));
        let verb = format!("reserve for {} ms", ttl.as_millis());
        let once = key.map(|key| once(&caller.owners.subject, key, &verb, &costs, kept_until));
        let holding = Holding { id, once, expires_at, kept_until };
        // Where the answer is lost or nobody waits for it, nobody else knows the name.
        let mut unanswered = Unanswered { admission: self, id: key.is_none().then_some(id) };
        let decision = self.weigh(caller, &modes, Step::Hold(&holding), costs.clone()).await?;
        if !decision.degraded && decision.reason() != Some(Reason::StoreUnavailable) {
            unanswered.id = None;
        }
        let decision = shadowed(decision, &modes);
        if !decision.allowed {
            return Ok(Err(decision));
        }
        // What is not counted is not held either, so there is nothing to settle.
        let counted = decision.quotas.iter().any(|state| state.period.is_some());
        let held_now = Some(id).filter(|_| counted && !decision.degraded);
        // What was granted without the store is charged by now, and no hold.
        let earlier = decision.trace.earlier.as_deref().cloned();
        let id = if decision.repeated { earlier.as_ref().and_then(|earlier| earlier.hold) } else { held_now };
        // A reservation that was made before expires as it was to then.
        let earlier_expires_at = earlier.and_then(|earlier| earlier.at.checked_add(ttl).ok());
        Ok(Ok(held(id, decision, costs, earlier_expires_at.unwrap_or(expires_at))))
    }

    /// Settles a reservation by its name.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        wait: Wait,
        id: HoldId,
        actual: &[(&str, u64)],
    ) -> Result<Settlement, Error> {
        let call = self.call(wait);
        let plans = self.catalog.plans(call).await?;
        let used = costs_of(&plans, actual, 0)?;
        self.settle(call, id, used).await
    }

    async fn settle(&self, call: Call, id: HoldId, used: Costs) -> Result<Settlement, Error> {
        let used = used.into_iter().map(|cost| (cost.metric, cost.amount)).collect();
        let (receipt, repeated) = match self.store.settle(call, &Settle { id, used }).await? {
            Settled::Now(receipt) => (receipt, false),
            Settled::Before(receipt) => (receipt, true),
            Settled::Expired(at) => {
                let detail = Some(serde_json::json!({ "reservation": id.to_string() }));
                self.observer.tell(Event { detail, ..Event::new(EventName::HoldExpired, call.now) });
                return Err(Error::HoldExpired { id, at });
            }
            Settled::Unknown => return Err(Error::HoldUnknown { id }),
        };
        // What was given back may let pass what was denied.
        receipt.parts.iter().for_each(|part| self.records.loosen(&part.key.subject));
        if !repeated {
            self.tell_thresholds(call, &receipt.parts);
        }
        Ok(Settlement { at: receipt.at, parts: receipt.parts, repeated })
    }

    /// Tells of the thresholds that a commit has reached.
    pub(crate) fn tell_thresholds(&self, call: Call, parts: &[Part]) {
        for part in parts {
            let Some(percent) = part.crossed else { continue };
            self.observer.tell(Event {
                subject: Some(Arc::clone(&part.key.subject)),
                metric: Some(Arc::clone(&part.key.metric)),
                period: Some(part.key.period),
                used: Some(part.balance.used),
                detail: Some(serde_json::json!({ "percent": percent })),
                ..Event::new(EventName::QuotaThresholdReached, call.now)
            });
        }
    }

    /// Releases what nobody waits for.
    fn release_quietly(self: &Arc<Self>, id: HoldId) {
        if let Err(error) = block_on(self.release(Wait::Block, id)) {
            tracing::warn!(target: "quotum", %error, %id, "a dropped reservation was not released: it will expire");
        }
    }

    /// Gives everything back that a reservation holds.
    pub(crate) async fn release(self: &Arc<Self>, wait: Wait, id: HoldId) -> Result<Settlement, Error> {
        let call = self.call(wait);
        let plans = self.catalog.plans(call).await?;
        let nothing = plans.metrics().map(|metric| Cost { metric: Arc::clone(metric), amount: 0 }).collect();
        self.settle(call, id, nothing).await
    }
}

/// Whether a call was wrong, so that nothing was asked of the store.
const fn is_mistake(error: &Error) -> bool {
    matches!(error, Error::InvalidArgument { .. } | Error::Unknown { .. })
}

/// Costs as they were given, for a reservation that nothing is held for.
fn named(costs: &[(&str, u64)]) -> Costs {
    costs.iter().map(|(metric, amount)| Cost { metric: Arc::from(*metric), amount: *amount }).collect()
}
