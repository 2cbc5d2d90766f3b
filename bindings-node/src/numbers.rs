//! Decisions as they are told in numbers, in the layout that `lib/numbers.ts` has too: names by the numbers that both sides know,
//! and everything else as it is. What does not fit, such as the value of a feature, is told as any other outcome.

use std::sync::Arc;

use jiff::Timestamp;
use quotum::rate::{RateDecision, RateState};
use quotum::token::Identity;
use quotum::{Decision, Denial, QuotaState, ScopeState};

use crate::home::Home;
use crate::names::Names;
use crate::rate::whole_ms;
use crate::raw::Writer;

/// Writes a decision; `None` where it does not fit.
pub(crate) fn write(home: &Home, decision: &Decision) -> Option<()> {
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
/// Writes until when an identity is known, which is all that there is to tell of it besides its subject; `None` where there
/// is more.
pub(crate) fn write_identity(home: &Home, identity: &Identity) -> Option<()> {
    if !identity.attributes.is_empty() {
        return None;
    }
    home.numbers.writer().put(time(identity.expires_at))
}

/// Writes what the limiter alone has decided.
pub(crate) fn write_paced(home: &Home, paced: &RateDecision) -> Option<()> {
    let (mut names, mut numbers) = (home.names.borrow_mut(), home.numbers.writer());
    numbers.put(bits([paced.allowed, paced.never_fits, false]))?;
    numbers.units(paced.retry_after.map(whole_ms))?;
    numbers.count(paced.windows().len())?;
    paced.windows().iter().try_for_each(|window| write_window(&mut numbers, &mut names, window))
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
