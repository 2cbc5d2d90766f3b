//! Decisions in memory, asked for and told without JSON: in numbers that both sides read and write in one place, in the
//! layout that `lib/decide.ts` has too.
//!
//! What does not fit into numbers, such as a denial, is told as any other outcome.

use std::sync::Arc;

use jiff::Timestamp;
use quotum::rate::{RateDecision, RateState};
use quotum::token::Authenticated;
use quotum::{Decision, Denial, Error, OwnedRequest, Quota, QuotaState, Request, ScopeState};
use smallvec::SmallVec;

use crate::home::Home;
use crate::names::Names;
use crate::outcome::{Outcome, closed, panicked};
use crate::rate::{Limited, whole_ms};
use crate::raw::Writer;
use crate::request::told_decision;
use crate::task::{Tasks, work};
use crate::wire::Key;

/// Who asks.
pub(crate) enum Asker<'a> {
    Subject(&'a str),
    Token(&'a str),
    /// A handle to a subject, by its number.
    Handle(u32),
}

/// What is asked, besides the costs that are in the numbers.
pub(crate) struct Asked {
    pub(crate) engine: u32,
    /// How many costs there are: pairs of a metric's number and units.
    pub(crate) costs: usize,
    /// The number of the scope of a rate.
    pub(crate) scope: Option<usize>,
    pub(crate) is_look: bool,
    /// Whether the store may be asked, where memory cannot tell.
    pub(crate) may_ask: bool,
}

/// What is told, and written at the first place of the numbers.
pub(crate) enum Told {
    /// That memory cannot tell.
    Unknown,
    /// A decision, in the numbers.
    Decided,
    /// The same, with the subject of the token that it was asked for with.
    DecidedFor(Arc<str>),
    /// A denial, in the numbers, with what it says in a sentence.
    Denied(String),
    /// Anything else.
    Outcome(Outcome),
    /// The number of a task.
    Pending(u32),
}

impl Told {
    pub(crate) const fn tag(&self) -> f64 {
        match self {
            Self::Unknown => 0.0,
            Self::Decided | Self::DecidedFor(_) => 1.0,
            Self::Outcome(_) => 2.0,
            Self::Pending(_) => 3.0,
            Self::Denied(_) => 4.0,
        }
    }
}

/// Decides, in memory or, where it may, by the store.
pub(crate) fn decide(home: &Home, asker: &Asker<'_>, asked: &Asked) -> Told {
    let engines = home.engines.borrow();
    let Some(quota) = engines.get(asked.engine as usize) else { return Told::Outcome(closed()) };
    let subjects = home.subjects.borrow();
    let by = match asker {
        Asker::Subject(subject) => Request::by(subject),
        Asker::Token(token) => Request::with_token(token),
        Asker::Handle(number) => match subjects.get(*number as usize) {
            Some(subject) => subject.request(),
            None => return Told::Outcome(closed()),
        },
    };
    let asked = {
        let names = home.names.borrow();
        // The package writes only numbers that it was told.
        let Some(costs) = costs(home, &names, asked.costs) else { return Told::Outcome(panicked()) };
        let mut request = by.costs(&costs);
        if let Some(scope) = asked.scope.and_then(|scope| names.get(scope)) {
            request = request.rate(scope);
        }
        if asked.is_look {
            request = request.looking();
        }
        match quota.try_admit(&request) {
            Some(decided) => Ok(decided),
            None if asked.may_ask => Err(OwnedRequest::from(&request)),
            None => return Told::Unknown,
        }
    };
    match asked {
        Ok(decided) => tell(home, decided),
        Err(request) => ask(home, quota, request),
    }
}

fn costs<'n>(home: &Home, names: &'n Names, count: usize) -> Option<SmallVec<[(&'n str, u64); 4]>> {
    let cost = |cost| {
        let metric = usize::try_from(home.numbers.units(2 * cost)?).ok()?;
        Some((&**names.get(metric)?, home.numbers.units(2 * cost + 1)?))
    };
    (0..count).map(cost).collect()
}

fn ask(home: &Home, quota: &Quota, request: OwnedRequest) -> Told {
    let quota = quota.clone();
    let decided = async move { Ok(request.admit(&quota).await?.0) };
    match Tasks::try_now(home, Box::pin(decided), |decided| work(decided, |_, decision| told_decision(&decision))) {
        Ok(decided) => tell(home, decided),
        Err(task) => Told::Pending(task),
    }
}

/// Tells a decision in numbers, where it fits.
fn tell(home: &Home, decided: Result<Decision, Error>) -> Told {
    let decision = match decided {
        Ok(decision) => decision,
        Err(error) => return Told::Outcome(Outcome::error(&error)),
    };
    match write(home, &decision) {
        None => Told::Outcome(told_decision(&decision)),
        Some(()) => match (decision.denied, decision.identity, decision.subject) {
            (Some(denial), ..) => Told::Denied(denial.to_string()),
            (None, Some(_), Some(subject)) => Told::DecidedFor(subject),
            _ => Told::Decided,
        },
    }
}

fn write(home: &Home, decision: &Decision) -> Option<()> {
    let identity = decision.identity.as_deref();
    // There is room for one text beside the numbers: the subject of a token, or what a denial says.
    let fits = decision.would_deny.is_none()
        && identity.is_none_or(|identity| identity.attributes.is_empty() && decision.denied.is_none());
    if !fits {
        return None;
    }
    let mut names = home.names.borrow_mut();
    let mut numbers = home.numbers.writer();
    numbers.put(name(&mut names, decision.plan.as_ref())?)?;
    numbers.put(decision.plan_version.map_or(NONE, f64::from))?;
    numbers.put(bits([decision.degraded, decision.repeated, identity.is_some()]))?;
    numbers.put(time(identity.and_then(|identity| identity.expires_at)))?;
    numbers.count(decision.quotas.len())?;
    numbers.count(decision.rates.len())?;
    for quota in &decision.quotas {
        write_quota(&mut numbers, &mut names, quota)?;
    }
    for rate in &decision.rates {
        write_rate(&mut numbers, &mut names, rate)?;
    }
    match decision.denied.as_deref() {
        Some(denial) => write_denial(&mut numbers, &mut names, denial),
        None => Some(()),
    }
}

fn write_denial(numbers: &mut Writer<'_>, names: &mut Names, denial: &Denial) -> Option<()> {
    // Values of features and causes are no numbers.
    if denial.feature.is_some() || denial.cause.is_some() {
        return None;
    }
    numbers.put(f64::from(names.number_of_word(denial.reason.as_str())?))?;
    numbers.put(name(names, denial.metric.as_ref())?)?;
    numbers.put(match denial.period {
        Some(period) => f64::from(names.number_of_word(period.as_str())?),
        None => NONE,
    })?;
    numbers.units(denial.requested)?;
    numbers.units(denial.limit)?;
    numbers.units(denial.used)?;
    numbers.put(time(denial.resets_at))?;
    numbers.put(name(names, denial.scope.as_ref())?)?;
    numbers.put(denial.window_s.map_or(NONE, f64::from))?;
    numbers.units(denial.retry_after_ms)?;
    numbers.put(time(denial.ended_at))?;
    numbers.put(name(names, denial.upgrade_to.as_ref())?)
}

/// The number of a name, if there is one.
fn name(names: &mut Names, name: Option<&Arc<str>>) -> Option<f64> {
    match name {
        Some(name) => names.number(name).map(f64::from),
        None => Some(NONE),
    }
}

fn write_quota(numbers: &mut Writer<'_>, names: &mut Names, quota: &QuotaState) -> Option<()> {
    numbers.put(f64::from(names.number(&quota.metric)?))?;
    numbers.put(match quota.period {
        Some(period) => f64::from(names.number_of_word(period.as_str())?),
        None => NONE,
    })?;
    numbers.units(quota.limit.units())?;
    numbers.units(Some(quota.used))?;
    numbers.units(Some(quota.held))?;
    numbers.units(Some(quota.leased))?;
    numbers.units(Some(quota.stranded))?;
    numbers.units(Some(quota.bonus))?;
    numbers.units(Some(quota.overage))?;
    numbers.units(quota.remaining)?;
    numbers.put(time(quota.resets_at))?;
    numbers.units(quota.percent)?;
    numbers.put(bits([quota.warning, quota.shared, false]))
}

fn write_rate(numbers: &mut Writer<'_>, names: &mut Names, rate: &ScopeState) -> Option<()> {
    numbers.put(f64::from(names.number(&rate.scope)?))?;
    write_window(numbers, names, &rate.window)
}

fn write_window(numbers: &mut Writer<'_>, names: &mut Names, window: &RateState) -> Option<()> {
    numbers.put(f64::from(names.number_of_limit(window.limit)?))?;
    numbers.units(Some(window.limit.units))?;
    numbers.units(Some(window.limit.burst))?;
    numbers.put(f64::from(window.limit.window_s))?;
    numbers.units(Some(window.remaining))?;
    numbers.units(Some(whole_ms(window.reset_after)))
}

/// What stands for nothing, where a number could not be below zero.
const NONE: f64 = -1.0;

fn bits(all: [bool; 3]) -> f64 {
    let [first, second, third] = all.map(u8::from);
    f64::from(first | second << 1 | third << 2)
}

/// In milliseconds since 1970; NaN for none.
#[expect(clippy::cast_precision_loss, reason = "years would have to have six digits")]
fn time(at: Option<Timestamp>) -> f64 {
    at.map_or(f64::NAN, |at| at.as_millisecond() as f64)
}

/// Whom a token speaks for: told in numbers, as of a decision, and otherwise as any other outcome.
pub(crate) fn authenticate(home: &Home, engine: u32, token: &str) -> Told {
    let Some(quota) = home.engine(engine, Quota::clone) else { return Told::Outcome(closed()) };
    let token = token.to_owned();
    let found = async move { quota.authenticate(&token).await.map(Authenticated::identity) };
    let found = Tasks::try_now(home, Box::pin(found), |found| work(found, |_, identity| Outcome::value(&identity)));
    match found {
        Ok(Ok(Some(identity))) if identity.attributes.is_empty() => {
            home.numbers.writer().put(time(identity.expires_at));
            Told::DecidedFor(Arc::clone(&identity.subject))
        }
        Ok(found) => Told::Outcome(Outcome::of(found)),
        Err(task) => Told::Pending(task),
    }
}

/// The limiter alone, for a key: told in numbers where it can be.
pub(crate) fn pace(home: &Home, engine: u32, scope: usize, key: Key, cost: u64) -> Told {
    let Some(quota) = home.engine(engine, Quota::clone) else { return Told::Outcome(closed()) };
    let Some(scope) = home.names.borrow().get(scope).map(Arc::clone) else { return Told::Outcome(panicked()) };
    let name = Arc::clone(&scope);
    let paced = async move { quota.rate(&scope, key.borrowed()?, cost).await };
    let paced = Tasks::try_now(home, Box::pin(paced), |paced| {
        let name = Arc::clone(&name);
        work(paced, move |_, paced| Outcome::value(&Limited::of(&name, &paced)))
    });
    match paced {
        Err(task) => Told::Pending(task),
        Ok(Err(error)) => Told::Outcome(Outcome::error(&error)),
        Ok(Ok(paced)) => match write_paced(home, &paced) {
            Some(()) => Told::Decided,
            None => Told::Outcome(Outcome::value(&Limited::of(&name, &paced))),
        },
    }
}

fn write_paced(home: &Home, paced: &RateDecision) -> Option<()> {
    let (mut names, mut numbers) = (home.names.borrow_mut(), home.numbers.writer());
    numbers.put(bits([paced.allowed, paced.never_fits, false]))?;
    numbers.units(paced.retry_after.map(whole_ms))?;
    numbers.count(paced.windows().len())?;
    paced.windows().iter().try_for_each(|window| write_window(&mut numbers, &mut names, window))
}
