//! Decisions: the answer to a request, with everything that a caller needs to act on it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::debt::Share;
use crate::plan::{FeatureValue, Limit, UNITS_MAX};
use crate::scope::ScopeState;
use crate::store::StoreError;
use crate::subscription::Status;
use crate::token::Identity;
use crate::usage::counter::{Balance, Crossing, THRESHOLDS};
use crate::usage::demand::{Costs, Touched};
use crate::usage::hold::HoldId;
use crate::usage::period::Period;

/// How soon a caller may ask again after the store has failed, in milliseconds.
const STORE_RETRY_AFTER_MS: u64 = 5_000;

/// Allowed, or denied and why.
///
/// What it says in JSON can be read again, but for the identity, which may be nobody else's to know.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let plans = quotum::Plans::from_toml(r#"
///     default_plan = "free"
///     [plans.free]
///     quotas = { searches = "1/total" }
/// "#)?;
/// let quota = quotum::blocking::Quota::builder().plans(plans).open("memory:")?;
/// assert!(quota.consume("user-42", &[("searches", 1)])?.allowed);
///
/// let decision = quota.consume("user-42", &[("searches", 1)])?;
/// let denial = decision.denied.ok_or("the second search is denied")?;
/// assert_eq!(denial.reason, quotum::Reason::QuotaExhausted);
/// assert_eq!((denial.limit, denial.used), (Some(1), Some(1)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[must_use = "a decision that is not looked at enforces nothing"]
pub struct Decision {
    /// Whether the request may go on.
    pub allowed: bool,
    /// Who asked; `None` where that is not known, because a token stood for nobody, say.
    pub subject: Option<Arc<str>>,
    /// Whom the token speaks for, where the request was made with one. Not serialized: its attributes are the
    /// host's own.
    #[serde(skip)]
    pub identity: Option<Arc<Identity>>,
    /// The id of the plan that decided; `None` where none did, because the caller is not known, the store
    /// could not be asked, or enforcement is off.
    pub plan: Option<Arc<str>>,
    /// Which edition of that plan.
    pub plan_version: Option<u32>,
    /// The quotas that were asked about, as they stand after the decision.
    pub quotas: Vec<QuotaState>,
    /// The windows of the rate that was asked about, as they stand after the decision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<ScopeState>,
    /// Why not, where the request is denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denied: Option<Box<Denial>>,
    /// Why the request would have been denied, were the quota enforced: see
    /// [`Enforcement::Shadow`](crate::Enforcement::Shadow).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_deny: Option<Box<Denial>>,
    /// Whether it was allowed without asking the store, which could not answer. What it costs is charged
    /// when the store is back.
    pub degraded: bool,
    /// Whether this is the answer to an earlier request with the same idempotency key, given again.
    pub repeated: bool,
    #[serde(skip)]
    pub(crate) trace: Trace,
}

/// What only observers are told of a decision. No two decisions differ by it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace {
    /// The thresholds that it has reached, by their place in `quotas`.
    pub(crate) crossed: Option<Box<[Crossing]>>,
    /// Whether the store was asked for counters.
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "only metrics tell"))]
    pub(crate) asked_store: bool,
    /// The request that this is the answer to again, if it is.
    pub(crate) earlier: Option<Box<Earlier>>,
    /// What was asked for while the store could not answer, if it could not.
    pub(crate) unanswered: Option<Box<Unanswered>>,
}

/// A request that was granted before under the same key.
#[derive(Debug, Clone)]
pub(crate) struct Earlier {
    /// When it was granted.
    pub(crate) at: Timestamp,
    /// The hold that it was, if it was one.
    pub(crate) hold: Option<HoldId>,
}

/// What a store that could not answer was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Unanswered {
    /// What the store said.
    pub(crate) cause: String,
    /// Units by metric.
    pub(crate) costs: Costs,
    /// What is owed, where they were granted all the same. Who only looks owes nothing.
    pub(crate) owed: Option<Box<Share>>,
}

impl PartialEq for Trace {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Decision {
    /// Allowed, for nobody in particular and without a plan.
    pub(crate) const fn allow() -> Self {
        Self {
            allowed: true,
            subject: None,
            identity: None,
            plan: None,
            plan_version: None,
            quotas: Vec::new(),
            rates: Vec::new(),
            denied: None,
            would_deny: None,
            degraded: false,
            repeated: false,
            trace: Trace { crossed: None, asked_store: false, earlier: None, unanswered: None },
        }
    }

    /// Allowed without asking, because enforcement is off.
    pub(crate) fn unasked(subject: Option<&str>) -> Self {
        Self { subject: subject.map(Arc::from), ..Self::allow() }
    }

    /// Denied, before a plan could decide.
    pub(crate) fn deny(subject: Option<Arc<str>>, denial: Denial) -> Self {
        Self { allowed: false, subject, denied: Some(Box::new(denial)), ..Self::allow() }
    }

    /// Whether units were granted although the store could not answer.
    pub(crate) fn is_degraded_grant(&self) -> bool {
        self.trace.unanswered.as_ref().is_some_and(|unanswered| unanswered.owed.is_some())
    }

    /// Why it is denied, or would be.
    pub(crate) fn reason(&self) -> Option<Reason> {
        self.denied.as_ref().or(self.would_deny.as_ref()).map(|denial| denial.reason)
    }

    /// The tightest quota of a metric: the one with the fewest units left.
    #[must_use]
    pub fn quota(&self, metric: &str) -> Option<&QuotaState> {
        let states = self.quotas.iter().filter(|state| &*state.metric == metric);
        states.min_by_key(|state| state.remaining.unwrap_or(u64::MAX))
    }

    /// Turns a denial into an error, for callers who leave with `?`.
    ///
    /// # Errors
    ///
    /// The [`Denial`] of a denied request.
    pub fn into_result(self) -> Result<Self, Box<Denial>> {
        match self.denied {
            Some(denial) => Err(denial),
            None => Ok(self),
        }
    }
}

/// One quota of a subject, as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QuotaState {
    /// What is counted.
    pub metric: Arc<str>,
    /// How often it starts afresh; `None` where nothing is counted.
    pub period: Option<Period>,
    /// How much the period allows, bonus included.
    pub limit: Limit,
    /// Units used in this period. More than the limit where the limit was lowered since.
    pub used: u64,
    /// Units set aside by reservations that are still open.
    pub held: u64,
    /// Units in leased blocks, of which this process knows no use.
    pub leased: u64,
    /// Of these, the units in other processes' blocks: not to be had here, until they are returned.
    pub stranded: u64,
    /// Units granted in this period on top of the plan's limit.
    pub bonus: u64,
    /// Units consumed in this period that did not fit: what reservations cost more than they held, and
    /// what was granted while the store could not be asked.
    pub overage: u64,
    /// Units left; `None` without a limit.
    pub remaining: Option<u64>,
    /// When the period ends; `None` where it never does.
    pub resets_at: Option<Timestamp>,
    /// How much of the limit is used, in whole percent rounded down; `None` without a limit.
    pub percent: Option<u64>,
    /// Whether 80 % or more of the limit is used.
    pub warning: bool,
    /// Whether all members of the subject's account share it.
    pub shared: bool,
}

impl QuotaState {
    /// With how many units are left in blocks that this process has leased, which the balance has as free.
    pub(crate) fn new(quota: &Touched<'_>, balance: Balance, own: u64) -> Self {
        let limit = quota.limit.limit();
        let percent = balance.percent(limit);
        Self {
            metric: Arc::clone(quota.metric),
            period: quota.limit.period(),
            limit: limit.units().map_or(limit, |_| Limit::Units(balance.ceiling(limit))),
            used: balance.used,
            held: balance.held.saturating_sub(balance.leased),
            leased: balance.leased.saturating_add(own),
            stranded: balance.leased,
            bonus: balance.bonus,
            overage: balance.overage,
            remaining: limit.units().map(|_| balance.room(limit)),
            resets_at: quota.window.and_then(|window| window.end),
            percent,
            warning: percent.is_some_and(|percent| percent >= u64::from(THRESHOLDS[0])),
            shared: quota.shared,
        }
    }

    /// How many more units fit. Without a limit there is still an end to counting.
    pub(crate) fn room(&self) -> u64 {
        self.remaining.unwrap_or_else(|| {
            UNITS_MAX.saturating_sub(self.used.saturating_add(self.held).saturating_add(self.stranded))
        })
    }
}

/// Why a request is denied, and what would help.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Denial {
    /// The reason.
    pub reason: Reason,
    /// The metric whose quota denied, where one did. Of several, the one that is free again last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<Arc<str>>,
    /// The period of that quota.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
    /// How many units were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested: Option<u64>,
    /// The limit of that quota.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// How many units of it are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// When that quota starts afresh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<Timestamp>,
    /// The scope whose rate denied, where one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Arc<str>>,
    /// The length of that rate's window, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_s: Option<u32>,
    /// How long to wait before the same request may pass, in milliseconds, where that is known without a
    /// calendar: of a rate, and of a store that fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The feature that denied, where one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature: Option<Arc<str>>,
    /// What was asked of the feature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_requested: Option<FeatureValue>,
    /// What the plan has of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_granted: Option<FeatureValue>,
    /// When the trial or the subscription ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// What the store said, where it could not answer; or that there was no token at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The cheapest plan by rank that would have allowed the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade_to: Option<Arc<str>>,
}

impl Denial {
    pub(crate) const fn because(reason: Reason) -> Self {
        Self {
            reason,
            metric: None,
            period: None,
            requested: None,
            limit: None,
            used: None,
            resets_at: None,
            scope: None,
            window_s: None,
            retry_after_ms: None,
            feature: None,
            feature_requested: None,
            feature_granted: None,
            ended_at: None,
            cause: None,
            upgrade_to: None,
        }
    }

    /// A store that could not answer.
    pub(crate) fn unanswered(error: &StoreError) -> Self {
        let retry_after_ms = match error {
            StoreError::Unavailable { retry_after, .. } => {
                u64::try_from(retry_after.as_millis().max(1)).unwrap_or(u64::MAX)
            }
            _ => STORE_RETRY_AFTER_MS,
        };
        Self {
            cause: Some(error.to_string()),
            retry_after_ms: Some(retry_after_ms),
            ..Self::because(Reason::StoreUnavailable)
        }
    }

    /// A quota that `requested` units do not fit into.
    pub(crate) fn of_quota(state: &QuotaState, requested: u64) -> Self {
        let never = state.limit.units().is_some_and(|limit| requested > limit);
        Self {
            metric: Some(Arc::clone(&state.metric)),
            period: state.period,
            requested: Some(requested),
            limit: state.limit.units(),
            used: Some(state.used),
            resets_at: state.resets_at.filter(|_| !never),
            ..Self::because(if never { Reason::NeverFits } else { Reason::QuotaExhausted })
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metric = self.metric.as_deref().unwrap_or_default();
        let name = self.scope.as_deref().unwrap_or(metric);
        let feature = self.feature.as_deref().unwrap_or_default();
        let (requested, limit) = (self.requested.unwrap_or_default(), self.limit.unwrap_or_default());
        let per = self.period.map(|period| format!("/{period}")).unwrap_or_default();
        match self.reason {
            Reason::QuotaExhausted => {
                write!(f, "{metric}: {} of {limit}{per} used, {requested} more do not fit", self.used.unwrap_or(0))?;
            }
            Reason::NeverFits if limit == 0 => write!(f, "{name}: the plan grants none")?,
            Reason::NeverFits => write!(f, "{name}: {requested} can never fit into a limit of {limit}{per}")?,
            Reason::FeatureNotInPlan => write!(f, "{feature} is not in the plan")?,
            Reason::FeatureValueExceeded => {
                write!(f, "{feature}")?;
                if let (Some(wanted), Some(granted)) = (&self.feature_requested, &self.feature_granted) {
                    write!(f, ": {wanted} was asked for, the plan has {granted}")?;
                }
            }
            Reason::RateLimited => {
                let (scope, window_s) = (self.scope.as_deref().unwrap_or_default(), self.window_s.unwrap_or_default());
                write!(f, "{scope}: more than {limit} in {window_s} s")?;
            }
            Reason::Unauthenticated => f.write_str(self.cause.as_deref().unwrap_or("the token is not valid"))?,
            Reason::StoreUnavailable => {
                write!(f, "the quota store could not answer: {}", self.cause.as_deref().unwrap_or("no reason given"))?;
            }
            Reason::TrialExpired => f.write_str("the trial has ended")?,
            Reason::SubscriptionInactive => f.write_str("the subscription is not active")?,
        }
        if let Some(resets_at) = self.resets_at {
            write!(f, "; starts afresh at {resets_at}")?;
        }
        if let Some(retry_after_ms) = self.retry_after_ms {
            write!(f, "; ask again in {retry_after_ms} ms")?;
        }
        if let Some(ended_at) = self.ended_at {
            write!(f, " at {ended_at}")?;
        }
        if let Some(plan) = &self.upgrade_to {
            write!(f, "; plan {plan} would allow it")?;
        }
        Ok(())
    }
}

impl std::error::Error for Denial {}

/// Why a request is denied. The words are part of the interface, in every language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The units left do not suffice; they may after `resets_at`.
    QuotaExhausted,
    /// More units at once than the limit itself: waiting does not help.
    NeverFits,
    /// The plan does not have the feature.
    FeatureNotInPlan,
    /// The plan has less of the feature than was asked for.
    FeatureValueExceeded,
    /// The trial is over.
    TrialExpired,
    /// The subscription has lapsed or is paused.
    SubscriptionInactive,
    /// More requests than the scope's rate lets pass; they may after `retry_after_ms`.
    RateLimited,
    /// The token stands for nobody.
    Unauthenticated,
    /// The store could not answer, and the plan allows nothing without it.
    StoreUnavailable,
}

impl Reason {
    /// The word used in reports, events and other languages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QuotaExhausted => "quota_exhausted",
            Self::NeverFits => "never_fits",
            Self::FeatureNotInPlan => "feature_not_in_plan",
            Self::FeatureValueExceeded => "feature_value_exceeded",
            Self::TrialExpired => "trial_expired",
            Self::SubscriptionInactive => "subscription_inactive",
            Self::RateLimited => "rate_limited",
            Self::Unauthenticated => "unauthenticated",
            Self::StoreUnavailable => "store_unavailable",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Everything that a subject's account page shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Usage {
    /// Whose usage.
    pub subject: Arc<str>,
    /// The id of the plan in force, or of the plan that has lapsed.
    pub plan: Arc<str>,
    /// The plan's name for people.
    pub plan_name: String,
    /// Which edition of the plan.
    pub plan_version: u32,
    /// The subscription's state; `None` for a subject without one.
    pub status: Option<Status>,
    /// The account that the subject is a member of, whose plan it has.
    pub account: Option<Arc<str>>,
    /// Why nothing is granted now, if nothing is.
    pub refused: Option<Reason>,
    /// When the trial ends. Of a trial that has not started, when it would end if it started now.
    pub trial_ends_at: Option<Timestamp>,
    /// When what was paid for ends.
    pub expires_at: Option<Timestamp>,
    /// What the plan can do, by name, with what the subject has of its own in place of it.
    pub features: BTreeMap<Arc<str>, FeatureValue>,
    /// Every quota of the plan, by metric.
    pub quotas: Vec<QuotaState>,
}
