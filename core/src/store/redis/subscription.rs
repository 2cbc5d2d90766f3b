//! Subscriptions as values of a script.

use redis::Value;

use super::failure::damaged;
use super::log::{Entry, on_log};
use super::names::Names;
use super::reply::Reply;
use super::script::{PUT_SUBSCRIPTION, SUBSCRIBERS, Step, json};
use super::server::Server;
use crate::event::Event;
use crate::store::{Call, Census, StoreError, Subscriber, SubscriberQuery};
use crate::subscription::Subscription;

/// How many subscribers are looked at in one step at least, where only some of them are wanted.
const CHUNK: usize = 500;

/// How often a swap is made again because the same subscription was written down in another way.
const ATTEMPTS_MAX: usize = 3;

pub(super) fn parse(text: &str) -> Result<Subscription, StoreError> {
    serde_json::from_str(text).map_err(|error| damaged("a subscription", &error))
}

/// What gives a subject a subscription, up to what it must have for that.
pub(super) fn putting(
    names: &Names,
    call: Call,
    subject: &str,
    to: &Subscription,
) -> Result<impl Fn(&str, Entry) -> Step + Send + 'static, StoreError> {
    let keys = ["subscriptions", "subscribers", "standings", "census"].map(|what| names.of(what)).to_vec();
    let step = on_log(Step::of(&PUT_SUBSCRIPTION, call.now, keys), names).with(subject).with(json(to)?).with(format!(
        "{}/{}",
        to.status.as_str(),
        to.plan
    ));
    Ok(move |from: &str, entry: Entry| entry.append_to(step.clone().with(from)))
}

/// Makes a swap. `from` is compared as it is written down; where that differs and the subscription is the same, as it
/// may have been written by another version of this library, it is compared as it was found.
pub(super) async fn swap(
    server: &Server,
    names: &Names,
    step: impl Fn(&str, Entry) -> Step,
    from: Option<Subscription>,
    event: &Event,
) -> Result<Option<Subscription>, StoreError> {
    let mut written = from.as_ref().map(json).transpose()?.unwrap_or_default();
    for _ in 0..ATTEMPTS_MAX {
        let mut reply = Reply::of("a subscription", server.make(&step(&written, Entry::of(names, event)?)).await?)?;
        let is_done = reply.number()? == 1;
        if reply.is_over() {
            return Ok(None);
        }
        let found = match reply.next()? {
            Value::Nil => return Ok(None),
            Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|error| damaged("a subscription", &error))?,
            other => return Err(damaged("a subscription", &format!("{other:?}"))),
        };
        let present = parse(&found)?;
        if is_done || from.as_ref() != Some(&present) {
            return Ok(Some(present));
        }
        written = found;
    }
    Err(StoreError::Busy { waited: std::time::Duration::ZERO })
}

/// The subscribers that a query asks for, looked through in stretches.
pub(super) async fn list(
    server: &Server,
    names: &Names,
    call: Call,
    query: &SubscriberQuery,
) -> Result<Vec<Subscriber>, StoreError> {
    let is_filtered =
        query.containing.is_some() || query.plan.is_some() || query.status.is_some() || query.account.is_some();
    let (mut found, mut after) =
        (Vec::new(), query.after.as_ref().map_or_else(|| "-".to_owned(), |after| format!("({after}")));
    while found.len() < query.limit {
        let wanted = query.limit - found.len();
        let size = if is_filtered { CHUNK } else { wanted.min(CHUNK) };
        let keys = vec![names.of("subscriptions"), names.of("subscribers")];
        let step = Step::reading(&SUBSCRIBERS, call.now, keys).with(after.as_bytes()).with_number(size as i64);
        let mut reply = Reply::of("a subscriber", server.make(&step).await?)?;
        let mut looked_at = 0;
        while !reply.is_over() {
            let (subject, subscription) = (reply.text()?, parse(&reply.text()?)?);
            looked_at += 1;
            after = format!("({subject}");
            if found.len() < query.limit && query.wants(&subject, &subscription) {
                found.push(Subscriber { subject: subject.into(), subscription });
            }
        }
        if looked_at < size {
            break;
        }
    }
    Ok(found)
}

/// How many subjects are on each plan, from lines of which there is one for each plan and state.
pub(super) fn census(value: Value) -> Result<Vec<Census>, StoreError> {
    let unreadable = || damaged("a census", &"a line is not a state, a plan and a number");
    let lines: Vec<(Value, Value)> = match value {
        Value::Map(lines) => lines,
        Value::Array(flat) => {
            let mut flat = flat.into_iter();
            std::iter::from_fn(|| Some((flat.next()?, flat.next()?))).collect()
        }
        _ => return Err(unreadable()),
    };
    let mut census = Vec::with_capacity(lines.len());
    for (line, count) in lines {
        let Value::BulkString(line) = line else { return Err(unreadable()) };
        let line = String::from_utf8(line).map_err(|error| damaged("a census", &error))?;
        let (status, plan) = line.split_once('/').ok_or_else(unreadable)?;
        census.push(Census {
            plan: plan.to_owned(),
            status: status.parse().map_err(|error: crate::Error| damaged("a census", &error))?,
            subjects: super::reply::number("a census", &count)?.unsigned_abs(),
        });
    }
    census.sort_unstable();
    Ok(census)
}
