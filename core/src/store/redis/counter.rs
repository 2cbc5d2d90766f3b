//! Counters as values of a script, and what comes back of them.

use std::sync::Arc;

use jiff::Timestamp;
use redis::Value;

use super::failure::{damaged, several_accounts};
use super::names;
use super::reply::Reply;
use super::script::{Step, json};
use crate::HoldId;
use crate::plan::{Limit, UNITS_MAX};
use crate::store::{
    Adjust, Adjustment, Balance, Charge, Charged, CounterKey, Crossing, Leased, Once, Outcome, Part, Receipt, Settle,
    Settled, StoreError,
};

/// Whose counters these are; an error where they are not all one account's. `None` of no counters.
pub(super) fn payer<'k>(mut keys: impl Iterator<Item = &'k CounterKey>) -> Result<Option<Arc<str>>, StoreError> {
    let Some(first) = keys.next() else { return Ok(None) };
    let other = keys.find(|key| key.payer() != first.payer());
    match other {
        Some(other) => Err(several_accounts(first.payer(), other.payer())),
        None => Ok(Some(Arc::clone(first.payer()))),
    }
}

/// A step with a counter as its next values.
pub(super) fn with_key(step: Step, key: &CounterKey) -> Step {
    let before = key.forget_before_s().map(names::start).unwrap_or_default();
    step.with(before).with(names::family(key)).with(names::start(key.start_s))
}

/// A step with charges as its next values.
pub(super) fn with_charges(step: Step, charges: &[Charge]) -> Step {
    let with_charge =
        |step, charge: &Charge| with_key(step, &charge.key).with(digits(charge.amount)).with(units_of(charge.limit));
    charges.iter().fold(step.with_number(charges.len() as i64), with_charge)
}

/// A step with the metrics of charges as its next values, which a hold remembers.
pub(super) fn with_metrics(step: Step, charges: &[Charge]) -> Step {
    charges.iter().fold(step, |step, charge| step.with(charge.key.metric.as_bytes()))
}

/// A step with an adjustment as its next values.
pub(super) fn with_adjustment(step: Step, adjustment: &Adjustment) -> Step {
    let (how, amount, limit) = match adjustment.by {
        Adjust::Refund(amount) => ("refund", amount, Limit::Unlimited),
        Adjust::Grant(amount) => ("grant", amount, Limit::Unlimited),
        Adjust::Record(amount, limit) => ("record", amount, limit),
        Adjust::Reset => ("reset", 0, Limit::Unlimited),
    };
    with_key(step, &adjustment.key).with(how).with(digits(amount)).with(units_of(limit))
}

/// A step with an idempotency key, or none, as its next values.
pub(super) fn with_once(step: Step, once: Option<&Once>) -> Step {
    match once {
        Some(once) => step.with(once.arguments.to_bytes()).with_time(once.kept_until),
        None => step.with(""),
    }
}

/// A step with what was used of a hold as its next values.
pub(super) fn with_used(step: Step, settle: &Settle) -> Step {
    let with_metric =
        |step: Step, (metric, amount): &(Arc<str>, u64)| step.with(metric.as_bytes()).with(digits(*amount));
    settle.used.iter().fold(step.with_number(settle.used.len() as i64), with_metric)
}

/// The counters of a step as it is remembered with them.
pub(super) fn remembered<'k>(keys: impl Iterator<Item = &'k CounterKey>) -> Result<String, StoreError> {
    json(&keys.collect::<Vec<_>>())
}

fn balance(reply: &mut Reply) -> Result<Balance, StoreError> {
    let (used, held, leased) = (reply.units()?, reply.units()?, reply.units()?);
    let leases = u32::try_from(reply.units()?).unwrap_or(u32::MAX);
    let (bonus, overage) = (reply.units()?, reply.units()?);
    let told = u8::try_from(reply.units()?).map_err(|error| damaged("a counter", &error))?;
    Ok(Balance { used, held, leased, leases, bonus, overage, told })
}

/// Balances, one after the other.
pub(super) fn balances(value: Value) -> Result<Vec<Balance>, StoreError> {
    let mut reply = Reply::of("a counter", value)?;
    let mut balances = Vec::new();
    while !reply.is_over() {
        balances.push(balance(&mut reply)?);
    }
    Ok(balances)
}

/// What came of a step.
pub(super) fn charged(value: Value) -> Result<Charged, StoreError> {
    let mut reply = Reply::of("a step", value)?;
    match reply.number()? {
        0 => Ok(Charged::new(Outcome::Refused, balances(reply.next()?)?)),
        1 => {
            let made = balances(reply.next()?)?;
            let mut reached = reply.list()?;
            let mut crossed = Vec::new();
            for index in 0..made.len() {
                if reached.is_over() {
                    break;
                }
                match u8::try_from(reached.number()?) {
                    Ok(percent) if percent > 0 => crossed.push(Crossing { index, percent }),
                    _ => {}
                }
            }
            Ok(Charged { crossed, ..Charged::new(Outcome::Granted, made) })
        }
        2 => {
            let (at, keys) = (time(reply.number()?)?, keys(&reply.text()?)?);
            let made = balances(reply.next()?)?;
            let hold = reply.bytes()?;
            let hold = if hold.is_empty() { None } else { Some(hold_id(&hold)?) };
            Ok(Charged::repeated(at, keys.into_iter().zip(made).collect(), hold))
        }
        3 => Ok(Charged::conflict()),
        4 => charged_plainly(&mut reply),
        other => Err(damaged("a step", &format!("its outcome is {other}"))),
    }
}

/// What came of charging counters that hold nothing but what was used, and have reached no threshold.
fn charged_plainly(reply: &mut Reply) -> Result<Charged, StoreError> {
    let mut balances = Vec::new();
    while !reply.is_over() {
        let used = reply.units()?;
        let told = u8::try_from(reply.units()?).map_err(|error| damaged("a counter", &error))?;
        balances.push(Balance { told, ..Balance::of(used) });
    }
    Ok(Charged::new(Outcome::Granted, balances))
}

/// What became of a hold.
pub(super) fn settled(value: Value) -> Result<Settled, StoreError> {
    let mut reply = Reply::of("a hold", value)?;
    let outcome = reply.number()?;
    if outcome == 0 {
        return Ok(Settled::Unknown);
    }
    let at = time(reply.number()?)?;
    if outcome == 3 {
        return Ok(Settled::Expired(at));
    }
    let keys = keys(&reply.text()?)?;
    let mut numbers = reply.list()?;
    let mut parts = Vec::with_capacity(keys.len());
    for key in keys {
        let (held, used, overage) = (numbers.units()?, numbers.units()?, numbers.units()?);
        let balance = balance(&mut numbers)?;
        let crossed = u8::try_from(numbers.number()?).ok().filter(|percent| *percent > 0);
        parts.push(Part { key, held, used, overage, balance, crossed });
    }
    let receipt = Receipt { at, parts };
    Ok(if outcome == 1 { Settled::Now(receipt) } else { Settled::Before(receipt) })
}

/// What came of asking for a block, where another was to be settled first or not.
pub(super) fn leased(value: Value, settles: bool) -> Result<Leased, StoreError> {
    let mut reply = Reply::of("a lease", value)?;
    let first = reply.next()?;
    let settled = if settles { Some(settled(first)?) } else { None };
    Ok(Leased { settled, amount: reply.units()?, balances: balances(reply.next()?)? })
}

fn keys(text: &str) -> Result<Vec<CounterKey>, StoreError> {
    serde_json::from_str(text).map_err(|error| damaged("a step", &error))
}

pub(super) fn time(ms: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(ms).map_err(|error| damaged("a time", &error))
}

fn hold_id(bytes: &[u8]) -> Result<HoldId, StoreError> {
    bytes.try_into().map(HoldId::from_bytes).map_err(|_| damaged("a hold", &"its name has another length"))
}

/// An amount that a script can count with: beyond twice what can be counted it makes no difference.
fn digits(units: u64) -> String {
    units.min(2 * (UNITS_MAX + 1)).to_string()
}

fn units_of(limit: Limit) -> String {
    limit.units().map(|units| units.min(UNITS_MAX).to_string()).unwrap_or_default()
}
