//! Standing: what a subscription amounts to at a moment. The plan in force, or why nothing is granted.
//!
//! Pure: takes the time as an argument and asks no store.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use parking_lot::Mutex;

use crate::decision::Reason;
use crate::error::Error;
use crate::plan::{Plan, Plans, WhenLapsed};
use crate::store::StoreError;
use crate::subscription::{Overrides, Status, Subscription, after_days, zone_named};

/// What a subscription amounts to at a moment: the plan in force, or why there is none.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// The plans under which it is so.
    pub(crate) plans: Arc<Plans>,
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
    /// Whether that is not the zone of the plans.
    pub(crate) has_own_zone: bool,
    /// From when its billing periods are counted.
    pub(crate) anchor: Option<Timestamp>,
    /// The account whose plan is in force in place of all this, if the subject belongs to one.
    pub(crate) membership: Option<Membership>,
    /// Whether the subject's first charge starts the default plan's trial.
    pub(crate) trial_to_start: bool,
    /// Until when all this holds, as far as time alone can change it.
    pub(crate) holds_until: Option<Timestamp>,
}

/// A subject's place in an account.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    pub(crate) account: Arc<str>,
    /// What the member has of its own.
    overrides: Overrides,
}

impl Membership {
    /// What a member has: what its account has, with its own overrides.
    pub(crate) fn within(&self, account: Arc<Standing>) -> Arc<Standing> {
        if self.overrides == Overrides::default() {
            return account;
        }
        let mut own = Standing::clone(&account);
        own.plan = overridden(&account.plan, &self.overrides, Owner::Member);
        Arc::new(own)
    }
}

impl Standing {
    /// The standing at `now` of a subject with this subscription.
    pub(crate) fn of(
        subject: &str,
        subscription: Option<&Subscription>,
        plans: &Arc<Plans>,
        now: Timestamp,
    ) -> Result<Self, Error> {
        match subscription {
            Some(subscription) => match subscription.account_of(subject) {
                // Its own plan does not matter, even one that is gone.
                Some(account) => {
                    let overrides = subscription.overrides.clone();
                    let membership = Some(Membership { account: account.into(), overrides });
                    Ok(Self { membership, holds_until: None, ..Self::on_default_plan(plans, now) })
                }
                None => Self::subscribed(subscription, plans, now),
            },
            None => Ok(Self::on_default_plan(plans, now)),
        }
    }

    fn subscribed(subscription: &Subscription, plans: &Arc<Plans>, now: Timestamp) -> Result<Self, Error> {
        // A plan that was removed still lapses, and then falls to the default plan.
        let plan = plans.get(&subscription.plan);
        let grace_days = plan.as_ref().map_or(plans.grace_days, |plan| plans.grace_days(plan));
        let grace = |end: Timestamp| after_days(end, grace_days);
        let (since, expires_at) = (subscription.since, subscription.expires_at);
        let ends_at = match subscription.status {
            Status::Trialing => Some(trial_end(subscription, plan.as_ref().ok().map(|plan| &***plan))),
            Status::Active => expires_at.map(grace),
            Status::PastDue => Some(grace(expires_at.unwrap_or(since))),
            Status::Paused => Some(since),
            Status::Canceled => Some(expires_at.unwrap_or(since)),
        };
        let ended = ends_at.filter(|end| *end <= now || subscription.status == Status::Paused);
        let zone = zone_of(subscription, plans)?;
        if ended.is_some() && falls_back(subscription, plans) {
            let (status, anchor) = (Some(subscription.status), subscription.anchor);
            let has_own_zone = subscription.zone.is_some();
            let default = Self::on_default_plan(plans, now);
            return Ok(Self { status, expires_at, zone, has_own_zone, anchor, ..default });
        }
        let trial = subscription.status == Status::Trialing;
        let reason = if trial { Reason::TrialExpired } else { Reason::SubscriptionInactive };
        // A plan that is gone grants nothing to whom it has ended for; to others it is an error.
        let plan = if ended.is_some() { plan.unwrap_or_else(|_| plans.default_plan()) } else { plan? };
        Ok(Self {
            plans: Arc::clone(plans),
            plan: overridden(plan, &subscription.overrides, Owner::Payer),
            refused: ended.map(|end| (reason, end)),
            status: Some(subscription.status),
            trial_ends_at: ends_at.filter(|_| trial),
            expires_at,
            zone,
            has_own_zone: subscription.zone.is_some(),
            anchor: subscription.anchor,
            membership: None,
            trial_to_start: false,
            holds_until: ends_at.filter(|_| ended.is_none()),
        })
    }

    /// A subject without a subscription. Where the default plan is a trial, it has yet to start.
    fn on_default_plan(plans: &Arc<Plans>, now: Timestamp) -> Self {
        let plan = plans.default_plan();
        let trial = plan.trial_days > 0;
        Self {
            plans: Arc::clone(plans),
            plan: Arc::clone(plan),
            refused: None,
            status: None,
            trial_ends_at: trial.then(|| after_days(now, plan.trial_days)),
            expires_at: None,
            zone: plans.zone().clone(),
            has_own_zone: false,
            anchor: None,
            membership: None,
            trial_to_start: trial,
            // The end of a trial that has not started moves with the time.
            holds_until: trial.then_some(now),
        }
    }
}

/// The standing of everybody without a subscription: the same for all, and kept once.
#[derive(Debug, Default)]
pub(crate) struct Unsubscribed(Mutex<Option<Arc<Standing>>>);

impl Unsubscribed {
    /// The standing of a subject with this subscription, shared where it has none.
    pub(crate) fn standing(
        &self,
        subject: &str,
        subscription: Option<&Subscription>,
        plans: &Arc<Plans>,
        now: Timestamp,
    ) -> Result<Arc<Standing>, Error> {
        let own = || Standing::of(subject, subscription, plans, now).map(Arc::new);
        // One that changes with the time is nobody else's.
        if subscription.is_some() || plans.default_plan().trial_days > 0 {
            return own();
        }
        let mut shared = self.0.lock();
        if let Some(standing) = shared.as_ref().filter(|standing| Arc::ptr_eq(&standing.plans, plans)) {
            return Ok(Arc::clone(standing));
        }
        let standing = own()?;
        *shared = Some(Arc::clone(&standing));
        Ok(standing)
    }
}

/// Whose overrides they are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Of whoever has the subscription: they are in place of the plan's limits.
    Payer,
    /// Of a member of an account: they are in place of the limits for each member.
    Member,
}

/// The plan with a subject's own values in place of its own.
fn overridden(plan: &Arc<Plan>, overrides: &Overrides, owner: Owner) -> Arc<Plan> {
    if *overrides == Overrides::default() {
        return Arc::clone(plan);
    }
    let mut own = Plan::clone(plan);
    for (name, value) in &overrides.features {
        own.features.insert(name.as_str().into(), value.clone());
    }
    for (metric, limits) in &overrides.quotas {
        let quotas = if owner == Owner::Member { &mut own.member_quotas } else { &mut own.quotas };
        quotas.insert(metric.as_str().into(), limits.clone());
    }
    Arc::new(own)
}

fn zone_of(subscription: &Subscription, plans: &Plans) -> Result<TimeZone, Error> {
    let Some(name) = &subscription.zone else { return Ok(plans.zone().clone()) };
    // It was checked when it was put, so what is wrong is what the store has, and not what the caller asks for.
    zone_named(name).map_err(|error| {
        let (name, detail) = ("a subscription".to_owned(), error.to_string());
        StoreError::Damaged { name, detail }.into()
    })
}

/// When a trial ends that began with this subscription.
fn trial_end(subscription: &Subscription, plan: Option<&Plan>) -> Timestamp {
    subscription.trial_ends_at.unwrap_or_else(|| after_days(subscription.since, plan.map_or(0, |plan| plan.trial_days)))
}

/// Whether the subject is on the default plan once this has ended. Nobody gets a trial twice, and a
/// trial has ended for good unless its plan has become the one that everybody has.
fn falls_back(subscription: &Subscription, plans: &Plans) -> bool {
    let default = plans.default_plan();
    match subscription.status {
        // Who could go on by the default plan would not have been stopped.
        Status::Paused => false,
        _ if default.trial_days > 0 => false,
        Status::Trialing => *default.id == *subscription.plan,
        _ => plans.when_lapsed() == WhenLapsed::DefaultPlan,
    }
}
