//! Requests: everything that one call of [`Quota::admit`](crate::Quota::admit) asks for.

use std::fmt;

use crate::plan::FeatureValue;
use crate::rate::RateKey;
use crate::subject::Subject;

/// What a backend asks before it serves a request: all of it must be granted, or nothing is charged.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use quotum::{Plans, Request, blocking::Quota};
///
/// let plans = Plans::from_toml(r#"
///     default_plan = "free"
///     [plans.free]
///     features = { excel = true, history_days = 30 }
///     quotas = { searches = "50/month" }
///     rates = { api = "10/minute" }
/// "#)?;
/// let quota = Quota::builder().plans(plans).open("memory:")?;
///
/// let costs = [("searches", 1)];
/// let request = Request::by("user-42").rate("api").feature("excel").feature_value("history_days", 7).costs(&costs);
/// assert!(quota.admit(&request)?.allowed);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a request does nothing until it is admitted"]
pub struct Request<'r> {
    pub(crate) who: Who<'r>,
    pub(crate) pace: Option<Pace<'r>>,
    pub(crate) features: Vec<(&'r str, Option<FeatureValue>)>,
    pub(crate) costs: &'r [(&'r str, u64)],
    pub(crate) idempotency_key: Option<&'r str>,
    pub(crate) purpose: Purpose,
}

/// Whom a request is by.
#[derive(Clone, Copy)]
pub(crate) enum Who<'r> {
    Subject(&'r str),
    /// The same, with what is known of it at hand.
    Held(&'r Subject),
    /// Whomever this token speaks for.
    Token(&'r str),
    /// Nobody who is known yet.
    Anyone,
}

impl fmt::Debug for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject(subject) => f.debug_tuple("Subject").field(subject).finish(),
            Self::Held(subject) => subject.fmt(f),
            Self::Token(_) => f.write_str("Token(redacted)"),
            Self::Anyone => f.write_str("Anyone"),
        }
    }
}

/// The rate that a request counts on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace<'r> {
    pub(crate) scope: &'r str,
    /// The subject, where no other key is given.
    pub(crate) key: Option<RateKey<'r>>,
    pub(crate) cost: u64,
}

/// What a request means to do with the quotas it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Use them.
    Charge,
    /// Only look.
    Look,
}

impl<'r> Request<'r> {
    /// A request by a subject that is known.
    pub const fn by(subject: &'r str) -> Self {
        Self::asked_by(Who::Subject(subject))
    }

    /// A request by whomever a token speaks for: see [`Builder::verifier`](crate::Builder::verifier).
    pub const fn with_token(token: &'r str) -> Self {
        Self::asked_by(Who::Token(token))
    }

    /// A request by nobody who is known yet, such as a login. It needs a [rate for a key](Self::rate_for), such
    /// as the address that it comes from, and can ask for nothing else: the rate is that of all plans, or else
    /// the default plan's, as for [`Quota::rate`](crate::Quota::rate), and a scope that only other plans have is denied.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use quotum::{Plans, Request, blocking::Quota};
    /// let plans = Plans::from_toml("default_plan = 'free'\nrates = { login = '1/minute' }\n[plans.free]")?;
    /// let quota = Quota::builder().plans(plans).open("memory:")?;
    /// let address: std::net::IpAddr = "203.0.113.7".parse()?;
    ///
    /// let login = Request::by_anyone().rate_for("login", address.into(), 1);
    /// assert!(quota.admit(&login)?.allowed);
    /// assert!(!quota.admit(&login)?.allowed);
    /// # Ok(())
    /// # }
    /// ```
    pub const fn by_anyone() -> Self {
        Self::asked_by(Who::Anyone)
    }

    pub(crate) const fn asked_by(who: Who<'r>) -> Self {
        Self { who, pace: None, features: Vec::new(), costs: &[], idempotency_key: None, purpose: Purpose::Charge }
    }

    /// It counts as one on a scope's rate, for its subject.
    pub const fn rate(self, scope: &'r str) -> Self {
        self.paced(Pace { scope, key: None, cost: 1 })
    }

    /// It counts as so many on a scope's rate, for any key: an address, say.
    pub const fn rate_for(self, scope: &'r str, key: RateKey<'r>, cost: u64) -> Self {
        self.paced(Pace { scope, key: Some(key), cost })
    }

    const fn paced(mut self, pace: Pace<'r>) -> Self {
        self.pace = Some(pace);
        self
    }

    /// The plan must have a feature.
    pub fn feature(mut self, name: &'r str) -> Self {
        self.features.push((name, None));
        self
    }

    /// The plan must grant this value of a feature.
    pub fn feature_value(mut self, name: &'r str, value: impl Into<FeatureValue>) -> Self {
        self.features.push((name, Some(value.into())));
        self
    }

    /// What it consumes: metrics and units, as for [`Quota::consume`](crate::Quota::consume).
    pub const fn costs(mut self, costs: &'r [(&'r str, u64)]) -> Self {
        self.costs = costs;
        self
    }

    /// Charges at most once under this key, however often the request is made: see
    /// [`Quota::consume_once`](crate::Quota::consume_once).
    pub const fn once(mut self, idempotency_key: &'r str) -> Self {
        self.idempotency_key = Some(idempotency_key);
        self
    }

    /// It consumes nothing, as [`Quota::check`](crate::Quota::check).
    pub const fn looking(mut self) -> Self {
        self.purpose = Purpose::Look;
        self
    }

    /// Which verb it stands for, in metrics.
    pub(crate) fn verb(&self) -> &'static str {
        match self.purpose {
            Purpose::Look => "check",
            Purpose::Charge if self.asks_only_for_costs() => "consume",
            Purpose::Charge if self.costs.is_empty() && self.pace.is_none() => "require",
            Purpose::Charge => "admit",
        }
    }

    /// Whether costs are all it could ask for: then it must have some.
    pub(crate) fn asks_only_for_costs(&self) -> bool {
        self.features.is_empty() && self.pace.is_none() && matches!(self.who, Who::Subject(_) | Who::Held(_))
    }
}
