//! Events: what happened, for logs, metrics and the audit trail. Their names are part of the interface.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::decision::Reason;
use crate::error::Error;
use crate::usage::period::Period;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventName {
    /// A request was allowed.
    QuotaCheckSuccess,
    /// A request was denied because units were lacking.
    QuotaExhausted,
    /// A counter has reached 80 % or 100 % of its limit; each once for each counter.
    QuotaThresholdReached,
    /// A request was denied by a rate.
    RateLimited,
    /// A request was denied because the trial is over.
    TrialExpired,
    /// A request was denied because the plan lacks a feature.
    FeatureBlocked,
    /// A request was denied because the plan has less of a feature.
    FeatureValueBlocked,
    /// A request was denied because the subscription has lapsed or is paused.
    SubscriptionInactive,
    /// A request was denied because its token stands for nobody.
    Unauthenticated,
    /// The store could not answer.
    QuotaCheckError,
    /// Units were granted although the store could not answer.
    DegradedGrant,
    /// The plans were replaced.
    PlanChanged,
    /// A subject was given another subscription.
    SubscriptionChanged,
    /// Enforcement was switched.
    EnforcementChanged,
    /// Usage was refunded, granted or reset.
    UsageAdjusted,
    /// Tokens were revoked.
    TokenForgotten,
    /// A key was given its whole allowance of rates back, in one process.
    RatesCleared,
    /// Live entries lost their place in a full cache: windows of rates, or tokens. Told at most once a minute for
    /// each cache, with their number.
    CacheEvicted,
    /// A reservation was resolved too late.
    HoldExpired,
    /// A process was denied units that others have leased, and asks them to return what they do not need.
    LeasesRecalled,
}

impl EventName {
    const ALL: [Self; 20] = [
        Self::QuotaCheckSuccess,
        Self::QuotaExhausted,
        Self::QuotaThresholdReached,
        Self::RateLimited,
        Self::TrialExpired,
        Self::FeatureBlocked,
        Self::FeatureValueBlocked,
        Self::SubscriptionInactive,
        Self::Unauthenticated,
        Self::QuotaCheckError,
        Self::DegradedGrant,
        Self::PlanChanged,
        Self::SubscriptionChanged,
        Self::EnforcementChanged,
        Self::UsageAdjusted,
        Self::TokenForgotten,
        Self::RatesCleared,
        Self::CacheEvicted,
        Self::HoldExpired,
        Self::LeasesRecalled,
    ];

    /// The word used in logs, stores and other languages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QuotaCheckSuccess => "quota_check_success",
            Self::QuotaExhausted => "quota_exhausted",
            Self::QuotaThresholdReached => "quota_threshold_reached",
            Self::RateLimited => "rate_limited",
            Self::TrialExpired => "trial_expired",
            Self::FeatureBlocked => "feature_blocked",
            Self::FeatureValueBlocked => "feature_value_blocked",
            Self::SubscriptionInactive => "subscription_inactive",
            Self::Unauthenticated => "unauthenticated",
            Self::QuotaCheckError => "quota_check_error",
            Self::DegradedGrant => "degraded_grant",
            Self::PlanChanged => "plan_changed",
            Self::SubscriptionChanged => "subscription_changed",
            Self::EnforcementChanged => "enforcement_changed",
            Self::UsageAdjusted => "usage_adjusted",
            Self::TokenForgotten => "token_forgotten",
            Self::RatesCleared => "rates_cleared",
            Self::CacheEvicted => "cache_evicted",
            Self::HoldExpired => "hold_expired",
            Self::LeasesRecalled => "leases_recalled",
        }
    }

    /// Whether this is a change that somebody made: audited, and told to other processes, which may have
    /// cached what was before.
    #[must_use]
    pub const fn is_change(self) -> bool {
        matches!(
            self,
            Self::PlanChanged
                | Self::SubscriptionChanged
                | Self::EnforcementChanged
                | Self::UsageAdjusted
                | Self::TokenForgotten
                | Self::RatesCleared
                | Self::LeasesRecalled
        )
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for EventName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = || Self::ALL.map(Self::as_str).join(", ");
        let found = Self::ALL.into_iter().find(|name| name.as_str() == text);
        found.ok_or_else(|| Error::argument("event", format!("{text:?}"), known()))
    }
}

/// One thing that happened, with what is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// Its place in the store's log, from 1; 0 for an event that no store has kept.
    #[serde(skip)]
    pub sequence: u64,
    /// What happened.
    pub name: EventName,
    /// When, in whole milliseconds.
    pub at: Timestamp,
    /// To whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Arc<str>>,
    /// The account that it is a member of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Arc<str>>,
    /// Who made the change, as the host has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Arc<str>>,
    /// Which engine made the change, so that it need not follow its own: a name that it gave itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Arc<str>>,
    /// The plan in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Arc<str>>,
    /// Why a request was denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The metric, scope or feature that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<Arc<str>>,
    /// The period of the metric's quota.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
    /// Units used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// The limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Units left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<u64>,
    /// When the quota starts afresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<Timestamp>,
    /// The plan that would have allowed the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade_to: Option<Arc<str>>,
    /// How long the decision took, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_us: Option<u64>,
    /// What else there is to say, such as what a change has put in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<serde_json::Value>,
}

impl Event {
    /// An event of which only the name and the time are known.
    #[must_use]
    pub fn new(name: EventName, at: Timestamp) -> Self {
        Self {
            sequence: 0,
            name,
            at: Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at),
            subject: None,
            account: None,
            actor: None,
            source: None,
            plan: None,
            reason: None,
            metric: None,
            period: None,
            used: None,
            limit: None,
            remaining: None,
            resets_at: None,
            upgrade_to: None,
            duration_us: None,
            detail: None,
        }
    }
}

/// Which events to read from a store's log, in the order of their happening.
///
/// ```
/// use quotum::{EventName, EventQuery};
///
/// let query = EventQuery { subject: Some("ana".into()), name: Some(EventName::UsageAdjusted), ..EventQuery::all() };
/// assert_eq!(query.limit, 100);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventQuery {
    /// Only events after this place in the log.
    pub after: u64,
    /// Only events of this subject.
    pub subject: Option<Arc<str>>,
    /// Only events of this name.
    pub name: Option<EventName>,
    /// Only changes: the audit trail, and what other processes must know.
    pub changes_only: bool,
    /// The newest first.
    pub newest_first: bool,
    /// At most so many.
    pub limit: usize,
}

impl EventQuery {
    /// The first hundred events.
    #[must_use]
    pub const fn all() -> Self {
        Self { after: 0, subject: None, name: None, changes_only: false, newest_first: false, limit: 100 }
    }

    /// The first hundred changes that somebody made.
    #[must_use]
    pub fn changes() -> Self {
        Self { changes_only: true, ..Self::all() }
    }

    /// Whether an event is among those asked for, as far as it alone decides.
    pub(crate) fn wants(&self, event: &Event) -> bool {
        event.sequence > self.after
            && self.subject.as_ref().is_none_or(|subject| event.subject.as_ref() == Some(subject))
            && self.name.is_none_or(|name| event.name == name)
            && (!self.changes_only || event.name.is_change())
    }
}
