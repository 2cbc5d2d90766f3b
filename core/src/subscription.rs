//! Subscriptions: which plan a subject is on, and whether it grants anything now.
//!
//! Pure: [`Standing::of`] takes the time as an argument and asks no store.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::decision::Reason;
use crate::error::Error;
use crate::plan::{FeatureValue, Plan, Plans, QuotaLimit, WhenLapsed};

/// Which plan a subject is on, since when and until when. Stores keep its times in whole milliseconds.
///
/// ```
/// use quotum::{Status, Subscription};
///
/// let mut subscription = Subscription::active("pro", "2026-01-31T09:00:00Z".parse()?);
/// subscription.anchor = Some("2026-01-31T09:00:00Z".parse()?);
/// subscription.expires_at = Some("2026-02-28T09:00:00Z".parse()?);
/// assert_eq!(subscription.status, Status::Active);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Subscription {
    /// The id of the plan.
    pub plan: String,
    /// The state it is in.
    pub status: Status,
    /// When it came into that state.
    pub since: Timestamp,
    /// When its trial ends. Without it a trial lasts the plan's `trial_days` from `since`.
    pub trial_ends_at: Option<Timestamp>,
    /// When what was paid for ends.
    pub expires_at: Option<Timestamp>,
    /// From when billing periods are counted, in whole seconds.
    pub anchor: Option<Timestamp>,
    /// The IANA zone of its calendar periods, where it is not that of the plans file.
    pub zone: Option<String>,
    /// What this subject has that its plan does not say.
    #[serde(default)]
    pub overrides: Overrides,
}

/// What one subject has in place of what its plan says. What is not named here is as in the plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Overrides {
    /// Features by name.
    pub features: BTreeMap<String, FeatureValue>,
    /// All limits of a metric, by metric.
    pub quotas: BTreeMap<String, Vec<QuotaLimit>>,
}

/// The state of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// On trial until `trial_ends_at`, then denied as `trial_expired`.
    Trialing,
    /// Paid for until `expires_at`, if there is one, and the grace.
    Active,
    /// A payment is missing: grants for the grace after `expires_at`, or after `since` without one.
    PastDue,
    /// Stopped for now: grants nothing.
    Paused,
    /// Ended: grants until `expires_at`, without grace.
    Canceled,
}

impl Status {
    const ALL: [Self; 5] = [Self::Trialing, Self::Active, Self::PastDue, Self::Paused, Self::Canceled];

    /// The word used in stores and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trialing => "trialing",
            Self::Active => "active",
            Self::PastDue => "past_due",
            Self::Paused => "paused",
            Self::Canceled => "canceled",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Status {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| Error::argument("status", format!("{text:?}"), known()))
    }
}

impl Subscription {
    /// An active subscription to `plan` since `since`, without an end.
    #[must_use]
    pub fn active(plan: &str, since: Timestamp) -> Self {
        Self {
            plan: plan.to_owned(),
            status: Status::Active,
            since,
            trial_ends_at: None,
            expires_at: None,
            anchor: None,
            zone: None,
            overrides: Overrides::default(),
        }
    }

    /// A trial of `plan` that begins at `since`.
    #[must_use]
    pub fn trial(plan: &str, since: Timestamp) -> Self {
        Self { status: Status::Trialing, ..Self::active(plan, since) }
    }

    /// The trial of a default plan, with its end, which no later change of the plan moves.
    pub(crate) fn default_trial(plan: &Plan, now: Timestamp) -> Self {
        Self { trial_ends_at: Some(after_days(now, plan.trial_days)), ..Self::trial(&plan.id, now) }
    }

    /// Refuses what these plans could not carry out.
    pub(crate) fn check(&self, plans: &Plans) -> Result<(), Error> {
        let plan = plans.get(&self.plan)?;
        if self.status == Status::Trialing && self.trial_ends_at.is_none() && plan.trial_days == 0 {
            let expected = format!("an end, because plan {:?} has no trial_days", plan.id);
            return Err(Error::argument("trial_ends_at", "nothing", expected));
        }
        if let Some(zone) = &self.zone {
            zone_named(zone)?;
        }
        for (name, value) in &self.overrides.features {
            plans.check_feature("overrides", name, value)?;
        }
        for (metric, limits) in &self.overrides.quotas {
            plans.metric(metric)?;
            QuotaLimit::check_together(limits).map_err(|error| {
                Error::argument("overrides", format!("{} of {metric}", error.found), error.expected)
            })?;
        }
        Ok(())
    }

    /// With its times as every store keeps them, so that a subscription reads back equal.
    pub(crate) fn in_milliseconds(self) -> Self {
        let whole = |time: Timestamp| Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time);
        Self {
            since: whole(self.since),
            trial_ends_at: self.trial_ends_at.map(whole),
            expires_at: self.expires_at.map(whole),
            anchor: self.anchor.map(whole),
            ..self
        }
    }

    fn trial_end(&self, plan: Option<&Plan>) -> Timestamp {
        self.trial_ends_at.unwrap_or_else(|| after_days(self.since, plan.map_or(0, |plan| plan.trial_days)))
    }

    /// Whether the subject is on the default plan once this has ended. Nobody gets a trial twice, and a
    /// trial has ended for good unless its plan has become the one that everybody has.
    fn falls_back(&self, plans: &Plans) -> bool {
        let default = plans.default_plan();
        match self.status {
            _ if default.trial_days > 0 => false,
            Status::Trialing => *default.id == *self.plan,
            _ => plans.when_lapsed() == WhenLapsed::DefaultPlan,
        }
    }
}

/// What a subscription amounts to at a moment: the plan in force, or why there is none.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Standing {
    /// The plan in force, with the subject's overrides; of a lapsed subject, the plan it had.
    pub(crate) plan: Arc<Plan>,
    /// Why nothing is granted, and since when.
    pub(crate) refused: Option<(Reason, Timestamp)>,
    /// The subscription's state; `None` for a subject without one.
    pub(crate) status: Option<Status>,
    /// When the trial ends or ended.
    pub(crate) trial_ends_at: Option<Timestamp>,
    /// When what was paid for ends or ended.
    pub(crate) expires_at: Option<Timestamp>,
    /// Where its calendar periods begin.
    pub(crate) zone: TimeZone,
    /// From when its billing periods are counted.
    pub(crate) anchor: Option<Timestamp>,
    /// Whether the subject's first charge starts the default plan's trial.
    pub(crate) trial_to_start: bool,
    /// Until when all this holds, as far as time alone can change it.
    pub(crate) holds_until: Option<Timestamp>,
}

impl Standing {
    /// The standing at `now` of a subject with this subscription.
    pub(crate) fn of(subscription: Option<&Subscription>, plans: &Plans, now: Timestamp) -> Result<Self, Error> {
        match subscription {
            Some(subscription) => Self::subscribed(subscription, plans, now),
            None => Ok(Self::on_default_plan(plans, now)),
        }
    }

    fn subscribed(subscription: &Subscription, plans: &Plans, now: Timestamp) -> Result<Self, Error> {
        // A plan that was removed still lapses, and then falls to the default plan.
        let plan = plans.get(&subscription.plan);
        let grace_days = plan.as_ref().map_or(plans.grace_days, |plan| plans.grace_days(plan));
        let grace = |end: Timestamp| after_days(end, grace_days);
        let (since, expires_at) = (subscription.since, subscription.expires_at);
        let ends_at = match subscription.status {
            Status::Trialing => Some(subscription.trial_end(plan.as_ref().ok().map(|plan| &***plan))),
            Status::Active => expires_at.map(grace),
            Status::PastDue => Some(grace(expires_at.unwrap_or(since))),
            Status::Paused => Some(since),
            Status::Canceled => Some(expires_at.unwrap_or(since)),
        };
        let ended = ends_at.filter(|end| *end <= now || subscription.status == Status::Paused);
        let zone = zone_of(subscription, plans)?;
        if ended.is_some() && subscription.falls_back(plans) {
            let (status, anchor) = (Some(subscription.status), subscription.anchor);
            return Ok(Self { status, expires_at, zone, anchor, ..Self::on_default_plan(plans, now) });
        }
        let trial = subscription.status == Status::Trialing;
        let reason = if trial { Reason::TrialExpired } else { Reason::SubscriptionInactive };
        let plan = plan?;
        Ok(Self {
            plan: overridden(plan, &subscription.overrides),
            refused: ended.map(|end| (reason, end)),
            status: Some(subscription.status),
            trial_ends_at: ends_at.filter(|_| trial),
            expires_at,
            zone,
            anchor: subscription.anchor,
            trial_to_start: false,
            holds_until: ends_at.filter(|_| ended.is_none()),
        })
    }

    /// A subject without a subscription. Where the default plan is a trial, it has yet to start.
    fn on_default_plan(plans: &Plans, now: Timestamp) -> Self {
        let plan = plans.default_plan();
        let trial = plan.trial_days > 0;
        Self {
            plan: Arc::clone(plan),
            refused: None,
            status: None,
            trial_ends_at: trial.then(|| after_days(now, plan.trial_days)),
            expires_at: None,
            zone: plans.zone().clone(),
            anchor: None,
            trial_to_start: trial,
            // The end of a trial that has not started moves with the time.
            holds_until: trial.then_some(now),
        }
    }
}

/// The plan with a subject's own values in place of its own.
fn overridden(plan: &Arc<Plan>, overrides: &Overrides) -> Arc<Plan> {
    if *overrides == Overrides::default() {
        return Arc::clone(plan);
    }
    let mut own = Plan::clone(plan);
    for (name, value) in &overrides.features {
        own.features.insert(name.as_str().into(), value.clone());
    }
    for (metric, limits) in &overrides.quotas {
        own.quotas.insert(metric.as_str().into(), limits.clone());
    }
    Arc::new(own)
}

fn zone_of(subscription: &Subscription, plans: &Plans) -> Result<TimeZone, Error> {
    subscription.zone.as_deref().map_or_else(|| Ok(plans.zone().clone()), zone_named)
}

fn zone_named(name: &str) -> Result<TimeZone, Error> {
    TimeZone::get(name).map_err(|_| {
        Error::argument("zone", format!("{name:?}"), "an IANA time zone such as \"America/Sao_Paulo\" or \"UTC\"")
    })
}

fn after_days(from: Timestamp, days: u32) -> Timestamp {
    from.checked_add(SignedDuration::from_hours(24 * i64::from(days))).unwrap_or(Timestamp::MAX)
}
