//! Subscriptions: which plan a subject is on, since when, until when, and what it has of its own.
//!
//! Values only; what they amount to at a moment is in `standing.rs`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::plan::{FeatureValue, Plan, Plans, QuotaLimit};

/// The longest id of a subject, in bytes.
pub(crate) const SUBJECT_BYTES_MAX: usize = 256;

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
    /// When its trial ends. Where it is not given, the plan's `trial_days` after `since`, fixed when the
    /// subscription is put.
    pub trial_ends_at: Option<Timestamp>,
    /// When what was paid for ends.
    pub expires_at: Option<Timestamp>,
    /// From when billing periods are counted, in whole seconds.
    pub anchor: Option<Timestamp>,
    /// The IANA zone of its calendar periods, where it is not that of the plans file.
    pub zone: Option<String>,
    /// The account it belongs to, such as its team: while there is one, the account's plan and subscription
    /// are in force in place of its own. A subject that a host's table names as its own account is in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
            account: None,
            overrides: Overrides::default(),
        }
    }

    /// A trial of `plan` that begins at `since`.
    #[must_use]
    pub fn trial(plan: &str, since: Timestamp) -> Self {
        Self { status: Status::Trialing, ..Self::active(plan, since) }
    }

    /// The same subscription of a member of `account`.
    ///
    /// ```
    /// use quotum::Subscription;
    ///
    /// let member = Subscription::active("free", "2026-03-01T00:00:00Z".parse()?).in_account("acme");
    /// assert_eq!(member.account.as_deref(), Some("acme"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn in_account(self, account: &str) -> Self {
        Self { account: Some(account.to_owned()), ..self }
    }

    /// The account that its subject belongs to. Nobody belongs to himself, whatever a host's table says.
    pub(crate) fn account_of(&self, subject: &str) -> Option<&str> {
        self.account.as_deref().filter(|account| *account != subject)
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

    /// As it is kept: with a trial's end, which no later change of the plan moves, and with whole
    /// milliseconds, so that it reads back equal from every store.
    pub(crate) fn kept_under(self, plan: &Plan) -> Self {
        let trial = self.status == Status::Trialing;
        let trial_ends_at = self.trial_ends_at.or_else(|| trial.then(|| after_days(self.since, plan.trial_days)));
        let whole = |time: Timestamp| Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time);
        Self {
            since: whole(self.since),
            trial_ends_at: trial_ends_at.map(whole),
            expires_at: self.expires_at.map(whole),
            anchor: self.anchor.map(whole),
            ..self
        }
    }
}

/// The zone of an IANA name.
pub(crate) fn zone_named(name: &str) -> Result<TimeZone, Error> {
    TimeZone::get(name).map_err(|_| {
        Error::argument("zone", format!("{name:?}"), "an IANA time zone such as \"America/Sao_Paulo\" or \"UTC\"")
    })
}

/// So many times 24 hours later.
pub(crate) fn after_days(from: Timestamp, days: u32) -> Timestamp {
    from.checked_add(SignedDuration::from_hours(24 * i64::from(days))).unwrap_or(Timestamp::MAX)
}
