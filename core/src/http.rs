//! HTTP: what a decision tells a client in status, header fields and body.
//!
//! Plain values for whichever framework serves the request; it decides nothing and sends nothing. The
//! fields are those of [`RateLimit`], revision 11, the body is a [problem document].
//!
//! [`RateLimit`]: https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/11/
//! [problem document]: https://www.rfc-editor.org/rfc/rfc9457

mod credentials;
mod failure;
mod hops;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::credentials::token_of;
pub use self::hops::TrustedHops;
use crate::decision::{Decision, Denial, QuotaState, Reason};
use crate::error::Error;
use crate::rate::RateState;
use crate::scope::ScopeState;
use crate::usage::period::Period;

/// How decisions become answers: a status for each reason, and which header fields are sent.
///
/// | reason | status | [`Retry-After`](Answer::fields) |
/// | --- | --- | --- |
/// | `quota_exhausted` | 429 | when the period ends, if it does |
/// | `rate_limited` | 429 | when the same request passes |
/// | `never_fits` | 429 | |
/// | `feature_not_in_plan`, `feature_value_exceeded` | 403 | |
/// | `trial_expired`, `subscription_inactive` | 403 | |
/// | `unauthenticated` | 401 | |
/// | `store_unavailable` | 503 | after a few seconds |
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use quotum::http::Mapping;
/// use quotum::{Clock, ManualClock, Plans, Reason, blocking::Quota};
///
/// let plans = Plans::from_toml(r#"
///     default_plan = "free"
///     [plans.free]
///     quotas = { searches = "1/month" }
/// "#)?;
/// let clock = Arc::new(ManualClock::at("2026-01-31T23:59:30Z".parse()?));
/// let quota = Quota::builder().plans(plans).clock(clock.clone()).open("memory:")?;
/// let mapping = Mapping::new().status(Reason::QuotaExhausted, 402)?;
///
/// let first = mapping.answer(&quota.consume("user-42", &[("searches", 1)])?, clock.wall());
/// assert_eq!(first.field("ratelimit-policy"), Some(r#""searches/month";q=1;qu="searches""#));
/// assert_eq!(first.field("ratelimit"), Some(r#""searches/month";r=0;t=30"#));
/// assert!(first.denied.is_none());
///
/// let second = mapping.answer(&quota.consume("user-42", &[("searches", 1)])?, clock.wall());
/// assert_eq!(second.field("retry-after"), Some("30"));
/// let denied = second.denied.ok_or("the second search is denied")?;
/// assert_eq!((denied.status, denied.content_type), (402, "application/problem+json"));
/// assert!(denied.body.contains(r#""violated-policies":["searches/month"],"reason":"quota_exhausted""#));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mapping {
    /// Statuses that are not the default ones.
    statuses: BTreeMap<Reason, u16>,
    fields: Fields,
}

impl Mapping {
    /// The default statuses, and the standard fields.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers denials for `reason` with `status`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a status that tells no error: outside 400 to 599.
    pub fn status(mut self, reason: Reason, status: u16) -> Result<Self, Error> {
        if !(400..=599).contains(&status) {
            let expected = format!("an HTTP status from 400 to 599 for {reason}");
            return Err(Error::argument("status", status, expected));
        }
        self.statuses.insert(reason, status);
        Ok(self)
    }

    /// Sends these families of header fields.
    #[must_use]
    pub fn fields(mut self, fields: Fields) -> Self {
        self.fields = fields;
        self
    }

    /// The status of a reason.
    #[must_use]
    pub fn status_of(&self, reason: Reason) -> u16 {
        self.statuses.get(&reason).copied().unwrap_or(match reason {
            Reason::QuotaExhausted | Reason::NeverFits | Reason::RateLimited => 429,
            Reason::FeatureNotInPlan
            | Reason::FeatureValueExceeded
            | Reason::TrialExpired
            | Reason::SubscriptionInactive => 403,
            Reason::Unauthenticated => 401,
            Reason::StoreUnavailable => 503,
        })
    }

    /// What to tell the client about a decision that was made `now`.
    ///
    /// A decision in shadow and a degraded one are allowed, and answered so.
    pub fn answer(&self, decision: &Decision, now: Timestamp) -> Answer {
        let policies = policies(decision, now);
        let mut fields = Vec::new();
        if self.fields.standard() {
            fields.extend(standard_fields(&policies, now));
        }
        if self.fields.legacy() {
            fields.extend(legacy_fields(&policies));
        }
        let denied = decision.denied.as_deref().map(|denial| {
            let status = self.status_of(denial.reason);
            fields.extend(retry_after_s(denial, &policies, now).map(|wait_s| ("retry-after", wait_s.to_string())));
            fields.extend(challenge(denial, status).map(|challenge| ("www-authenticate", challenge.to_owned())));
            Denied { status, content_type: "application/problem+json", body: body(denial, status, &policies) }
        });
        Answer { fields, denied }
    }
}

/// Which families of header fields tell how the quotas stand. `Retry-After` and `WWW-Authenticate` belong to
/// none of them: a denial always has them where they help.
///
/// ```
/// use quotum::http::{Fields, Mapping};
///
/// let mapping = Mapping::new().fields("both".parse()?);
/// assert_eq!(mapping, Mapping::new().fields(Fields::Both));
/// # Ok::<(), quotum::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fields {
    /// `RateLimit-Policy` and `RateLimit`, with every limited quota and every window of a rate. The window `w` is
    /// left out where its length depends on the calendar, and `t` where the period never ends. A quota of anything but
    /// `requests` names its metric as the unit `qu`: it is not in the draft's registry of units, but without
    /// it a client would have to take the units for requests.
    #[default]
    Standard,
    /// `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`, with one quota or rate: that which
    /// denied, or else the one with the fewest units left. The reset is the instant in seconds since 1970,
    /// as most services send it.
    Legacy,
    /// Both of them.
    Both,
    /// Neither.
    None,
}

impl Fields {
    const ALL: [Self; 4] = [Self::Standard, Self::Legacy, Self::Both, Self::None];

    /// The word used in configurations and other languages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Legacy => "legacy",
            Self::Both => "both",
            Self::None => "none",
        }
    }

    const fn standard(self) -> bool {
        matches!(self, Self::Standard | Self::Both)
    }

    const fn legacy(self) -> bool {
        matches!(self, Self::Legacy | Self::Both)
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Fields {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = || Self::ALL.map(Self::as_str).join(", ");
        let found = Self::ALL.into_iter().find(|fields| fields.as_str() == text);
        found.ok_or_else(|| Error::argument("fields", format!("{text:?}"), known()))
    }
}

/// What to tell the client: header fields, and in place of what was asked for, where it is denied, a status
/// and a body.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let plans = quotum::Plans::from_toml("default_plan = \"free\"\n[plans.free]\nfeatures = { excel = false }")?;
/// # let quota = quotum::blocking::Quota::builder().plans(plans).open("memory:")?;
/// # let mut response = Vec::new();
/// let decision = quota.require("user-42", "excel")?;
/// let answer = quotum::http::Mapping::new().answer(&decision, quotum::Timestamp::now());
/// for (name, value) in answer.fields {
///     response.push(format!("{name}: {value}"));
/// }
/// assert_eq!(answer.denied.map(|denied| denied.status), Some(403));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
#[must_use = "an answer that is not sent tells nobody"]
pub struct Answer {
    /// Header fields by name, in lower case, as HTTP/2 wants it. All of them printable ASCII.
    pub fields: Vec<(&'static str, String)>,
    /// The rest of the response, where the request is denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denied: Option<Denied>,
}

impl Answer {
    /// The value of a header field, by its name in lower case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }
}

/// The response to a denied request, besides its header fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Denied {
    /// The status code.
    pub status: u16,
    /// What the body is: `application/problem+json`.
    pub content_type: &'static str,
    /// A problem document in JSON: type, title, status, detail, and every field of the [`Denial`] that is there
    /// but `cause`, which is the operator's alone.
    pub body: String,
}

/// One limit, as clients are told of it.
struct Policy {
    name: String,
    /// What is counted, where that is not requests.
    unit: Option<String>,
    limit: u64,
    /// The exact length of the window, where it has one.
    window_s: Option<u32>,
    /// Units left.
    remaining: u64,
    /// Until when the client cannot count on more units: of a quota the end of its period; of a rate the time at
    /// which it is as good as unused, or if it denied, at which the request passes.
    until: Option<Timestamp>,
    /// Whether the request was denied because of it.
    violated: bool,
}

impl Policy {
    /// `None` for what is not limited.
    fn of_quota(state: &QuotaState, denial: Option<&Denial>) -> Option<Self> {
        let (limit, remaining, period) = (state.limit.units()?, state.remaining?, state.period?);
        // A denial names one period; its metric may lack room in others too.
        let violated = denial
            .is_some_and(|denial| denial.metric.as_ref() == Some(&state.metric) && denial.requested > Some(remaining));
        // A plan may limit each member of an account besides the account, in the same period.
        let whose = if state.shared { "/account" } else { "" };
        Some(Self {
            name: printable(&format!("{}/{period}{whose}", state.metric)),
            unit: Some(&*state.metric).filter(|metric| *metric != "requests").map(printable),
            limit,
            window_s: exact_length_s(period),
            remaining,
            until: state.resets_at,
            violated,
        })
    }

    fn of_rate(state: &ScopeState, denial: Option<&Denial>, now: Timestamp) -> Self {
        let RateState { limit, remaining, reset_after } = state.window;
        let denied = denial.filter(|denial| denial.scope.as_ref() == Some(&state.scope));
        let violated = denied.is_some_and(|denial| denial.requested > Some(remaining));
        // Units come back one by one: what was asked for may fit long before the window is as good as unused.
        let retry_after = denied.filter(|_| violated).and_then(|denial| denial.retry_after_ms);
        let wait = retry_after.map_or(reset_after, |wait_ms| reset_after.min(Duration::from_millis(wait_ms)));
        Self {
            // In seconds, so that no quota can have the same name.
            name: printable(&format!("{}/{}s", state.scope, limit.window_s)),
            unit: None,
            limit: limit.units,
            window_s: Some(limit.window_s),
            remaining,
            // An unused window has not begun to pass.
            until: (!wait.is_zero()).then(|| now.checked_add(wait).unwrap_or(Timestamp::MAX)),
            violated,
        }
    }

    /// The item of `RateLimit-Policy`; `None` where its number is too large to be said.
    fn allocation(&self) -> Option<String> {
        let limit = Some(self.limit).filter(|limit| *limit <= INTEGER_MAX)?;
        let unit = self.unit.as_deref().map(|unit| format!(";qu={}", quoted(unit))).unwrap_or_default();
        let window = self.window_s.map(|window_s| format!(";w={window_s}")).unwrap_or_default();
        Some(format!("{};q={limit}{unit}{window}", quoted(&self.name)))
    }

    /// The item of `RateLimit`. A server may understate what is available, so a number too large is lowered.
    fn availability(&self, now: Timestamp) -> String {
        let remaining = self.remaining.min(INTEGER_MAX);
        let wait = self.until.map(|until| format!(";t={}", seconds_until(until, now))).unwrap_or_default();
        format!("{};r={remaining}{wait}", quoted(&self.name))
    }
}

/// Every limit that a decision knows of.
fn policies(decision: &Decision, now: Timestamp) -> Vec<Policy> {
    let denial = decision.denied.as_deref();
    let rates = decision.rates.iter().map(|state| Policy::of_rate(state, denial, now));
    let quotas = decision.quotas.iter().filter_map(|state| Policy::of_quota(state, denial));
    rates.chain(quotas).collect()
}

/// How long each window of a period is, if all are alike. Local days, and what consists of them, are longer or
/// shorter where clocks change, and a decision does not know the zone.
const fn exact_length_s(period: Period) -> Option<u32> {
    match period {
        Period::Minute => Some(60),
        Period::Hour => Some(3_600),
        _ => None,
    }
}

fn standard_fields(policies: &[Policy], now: Timestamp) -> impl Iterator<Item = (&'static str, String)> {
    let allocations: Vec<String> = policies.iter().filter_map(Policy::allocation).collect();
    let available: Vec<String> = policies.iter().map(|policy| policy.availability(now)).collect();
    let lists = [("ratelimit-policy", allocations), ("ratelimit", available)];
    lists.into_iter().filter(|(_, items)| !items.is_empty()).map(|(name, items)| (name, items.join(", ")))
}

fn legacy_fields(policies: &[Policy]) -> impl Iterator<Item = (&'static str, String)> {
    let tightest = tightest(policies);
    let of = |value: fn(&Policy) -> Option<u64>| tightest.and_then(value).map(|number| number.to_string());
    let fields = [
        ("x-ratelimit-limit", of(|policy| Some(policy.limit))),
        ("x-ratelimit-remaining", of(|policy| Some(policy.remaining))),
        ("x-ratelimit-reset", of(|policy| policy.until.map(|until| seconds_until(until, Timestamp::UNIX_EPOCH)))),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name, value?)))
}

/// The limit that says most: of those that denied, the one that does so longest, or else the one with the
/// fewest units left.
fn tightest(policies: &[Policy]) -> Option<&Policy> {
    let violated = policies.iter().filter(|policy| policy.violated);
    let longest = violated.max_by_key(|policy| policy.until.unwrap_or(Timestamp::MAX));
    longest.or_else(|| policies.iter().min_by_key(|policy| policy.remaining))
}

/// After how long asking again may help, in whole seconds; `None` where it does not.
fn retry_after_s(denial: &Denial, policies: &[Policy], now: Timestamp) -> Option<u64> {
    let wait_s = match denial.reason {
        Reason::QuotaExhausted => seconds_until(denial.resets_at?, now),
        Reason::RateLimited | Reason::StoreUnavailable => denial.retry_after_ms?.div_ceil(1_000),
        Reason::NeverFits
        | Reason::FeatureNotInPlan
        | Reason::FeatureValueExceeded
        | Reason::TrialExpired
        | Reason::SubscriptionInactive
        | Reason::Unauthenticated => return None,
    };
    // Never before the end of `t`, whatever both were computed from.
    let until = policies.iter().filter(|policy| policy.violated).filter_map(|policy| policy.until).max();
    Some(wait_s.max(until.map_or(0, |until| seconds_until(until, now))).max(1))
}

/// What a 401 must say of how to authenticate ([RFC 9110], 15.5.2). Only a token that was refused is called
/// invalid ([RFC 6750], 3).
///
/// [RFC 6750]: https://www.rfc-editor.org/rfc/rfc6750#section-3
/// [RFC 9110]: https://www.rfc-editor.org/rfc/rfc9110#section-15.5.2
fn challenge(denial: &Denial, status: u16) -> Option<&'static str> {
    match (status, denial.reason) {
        (401, Reason::Unauthenticated) if denial.cause.is_none() => Some("Bearer error=\"invalid_token\""),
        (401, _) => Some("Bearer"),
        _ => None,
    }
}

/// A problem document. What the denial says follows as extension members.
#[derive(Serialize)]
struct ProblemDocument<'p> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'static str>,
    status: u16,
    detail: String,
    #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
    violated_policies: Option<Vec<&'p str>>,
    #[serde(flatten)]
    denial: Denial,
}

fn body(denial: &Denial, status: u16, policies: &[Policy]) -> String {
    let (kind, title, has_policies) = match denial.reason {
        Reason::QuotaExhausted | Reason::NeverFits | Reason::RateLimited => {
            ("https://iana.org/assignments/http-problem-types#quota-exceeded", Some("Quota Exceeded"), true)
        }
        Reason::StoreUnavailable => (
            "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
            Some("Temporary Reduced Capacity"),
            true,
        ),
        Reason::FeatureNotInPlan
        | Reason::FeatureValueExceeded
        | Reason::TrialExpired
        | Reason::SubscriptionInactive
        | Reason::Unauthenticated => ("about:blank", phrase(status), false),
    };
    // What a store says may name its host, its file or its tables.
    let detail = match denial.reason {
        Reason::StoreUnavailable => "the quotas cannot be checked at the moment".to_owned(),
        _ => denial.to_string(),
    };
    let violated = policies.iter().filter(|policy| policy.violated).map(|policy| policy.name.as_str());
    let document = ProblemDocument {
        kind,
        title,
        status,
        detail,
        violated_policies: has_policies.then(|| violated.collect()),
        denial: Denial { cause: None, ..denial.clone() },
    };
    // Maps have text for keys and no number is a float: nothing here can fail to be written.
    serde_json::to_string(&document).unwrap_or_else(|_| "{}".to_owned())
}

/// The title of a problem that has no type of its own: that of its status.
const fn phrase(status: u16) -> Option<&'static str> {
    match status {
        400 => Some("Bad Request"),
        401 => Some("Unauthorized"),
        402 => Some("Payment Required"),
        403 => Some("Forbidden"),
        404 => Some("Not Found"),
        409 => Some("Conflict"),
        422 => Some("Unprocessable Content"),
        423 => Some("Locked"),
        429 => Some("Too Many Requests"),
        451 => Some("Unavailable For Legal Reasons"),
        500 => Some("Internal Server Error"),
        503 => Some("Service Unavailable"),
        _ => None,
    }
}

/// The largest integer of a structured field: fifteen digits, where units have up to sixteen.
const INTEGER_MAX: u64 = 999_999_999_999_999;

/// A string of a structured field ([RFC 9651], 4.1.6), from printable text.
///
/// [RFC 9651]: https://www.rfc-editor.org/rfc/rfc9651#section-4.1.6
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The text in printable ASCII, percent-encoded where it is not: names in plans are letters, digits and a few
/// signs, and nothing but a name may end a header field.
fn printable(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'%' => "%25".to_owned(),
        b' '..=b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// Whole seconds from `now` until `at`, rounded up, so that nobody comes too early; none if it has passed.
fn seconds_until(at: Timestamp, now: Timestamp) -> u64 {
    let wait = at.duration_since(now);
    let whole_s = wait.as_secs().saturating_add(i64::from(wait.subsec_nanos() > 0));
    u64::try_from(whole_s).unwrap_or(0)
}
