//! Decisions in memory, asked for without JSON: `lib/decide.ts` writes what is asked into numbers that both sides have, and
//! `numbers.rs` what is told.

use std::sync::Arc;

use quotum::token::Authenticated;
use quotum::{Decision, Error, OwnedRequest, Quota, Request, Subject};
use smallvec::SmallVec;

use crate::home::{Home, Of};
use crate::names::Names;
use crate::numbers;
use crate::outcome::{Outcome, closed, panicked};
use crate::rate::Limited;
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
    let asked = home.engines.with(asked.engine, |engine| match asker {
        Asker::Subject(subject) => try_in_memory(home, &engine.value, Request::by(subject), asked),
        Asker::Token(token) => try_in_memory(home, &engine.value, Request::with_token(token), asked),
        Asker::Handle(number) => {
            let by = |subject: &Of<Subject>| try_in_memory(home, &engine.value, subject.value.request(), asked);
            home.subjects.with(*number, by).unwrap_or_else(|| Tried::Told(Told::Outcome(closed())))
        }
    });
    match asked {
        None => Told::Outcome(closed()),
        Some(Tried::Told(told)) => told,
        Some(Tried::Decided(decided)) => tell(home, decided),
        Some(Tried::ToAsk(quota, request)) => ask(home, quota, request),
    }
}

/// What has come of asking memory.
enum Tried {
    Told(Told),
    Decided(Result<Decision, Error>),
    /// The store must be asked.
    ToAsk(Quota, OwnedRequest),
}

fn try_in_memory(home: &Home, quota: &Quota, by: Request<'_>, asked: &Asked) -> Tried {
    let names = home.names.borrow();
    // The package writes only numbers that it was told.
    let Some(costs) = costs(home, &names, asked.costs) else { return Tried::Told(Told::Outcome(panicked())) };
    let mut request = by.costs(&costs);
    if let Some(scope) = asked.scope.and_then(|scope| names.get(scope)) {
        request = request.rate(scope);
    }
    if asked.is_look {
        request = request.looking();
    }
    match quota.try_admit(&request) {
        Some(decided) => Tried::Decided(decided),
        None if asked.may_ask => Tried::ToAsk(quota.clone(), OwnedRequest::from(&request)),
        None => Tried::Told(Told::Unknown),
    }
}

fn costs<'n>(home: &Home, names: &'n Names, count: usize) -> Option<SmallVec<[(&'n str, u64); 4]>> {
    let cost = |cost| {
        let metric = usize::try_from(home.numbers.units(2 * cost)?).ok()?;
        Some((&**names.get(metric)?, home.numbers.units(2 * cost + 1)?))
    };
    (0..count).map(cost).collect()
}

fn ask(home: &Home, quota: Quota, request: OwnedRequest) -> Told {
    let decided = async move { Ok(request.admit(&quota).await?.0) };
    match Tasks::try_now(home, Box::pin(decided), |decided| {
        work(decided, |home, decision| told_decision(home, &decision))
    }) {
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
    match numbers::write(home, &decision) {
        None => Told::Outcome(told_decision(home, &decision)),
        Some(()) => match (decision.denied, decision.identity, decision.subject) {
            (Some(denial), ..) => Told::Denied(denial.to_string()),
            (None, Some(_), Some(subject)) => Told::DecidedFor(subject),
            _ => Told::Decided,
        },
    }
}
/// Whom a token speaks for: told in numbers, as of a decision, and otherwise as any other outcome.
pub(crate) fn authenticate(home: &Home, engine: u32, token: &str) -> Told {
    let Some(Of { value: quota, .. }) = home.engine(engine) else { return Told::Outcome(closed()) };
    let token = token.to_owned();
    let found = async move { quota.authenticate(&token).await.map(Authenticated::identity) };
    let found = Tasks::try_now(home, Box::pin(found), |found| work(found, |_, identity| Outcome::value(&identity)));
    match found {
        Ok(Ok(Some(identity))) if numbers::write_identity(home, &identity).is_some() => {
            Told::DecidedFor(Arc::clone(&identity.subject))
        }
        Ok(found) => Told::Outcome(Outcome::of(found)),
        Err(task) => Told::Pending(task),
    }
}

/// The limiter alone, for a key: told in numbers where it can be.
pub(crate) fn pace(home: &Home, engine: u32, scope: usize, key: Key, cost: u64) -> Told {
    let Some(Of { value: quota, .. }) = home.engine(engine) else { return Told::Outcome(closed()) };
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
        Ok(Ok(paced)) => match numbers::write_paced(home, &paced) {
            Some(()) => Told::Decided,
            None => Told::Outcome(Outcome::value(&Limited::of(&name, &paced))),
        },
    }
}
