//! The verbs of the vectors: from a step's arguments to a call of the engine, and its answer as JSON.

use std::net::IpAddr;
use std::time::Duration;

use quotum::blocking::Quota;
use quotum::rate::RateKey;
use quotum::store::SubscriberQuery;
use quotum::{Error, EventQuery, FeatureValue, Overrides, Plans, Request, Settlement, Status, Subscription, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::bench::{Bench, Named, plans_of};

/// Every verb, those of the clock and the surroundings too.
pub(crate) const ALL: [&str; 37] = [
    "advance_s",
    "advance_ms",
    "set_wall",
    "restart",
    "store",
    "revoke",
    "admit",
    "authenticate",
    "check",
    "consume",
    "reserve",
    "commit",
    "release",
    "refund",
    "give_back",
    "grant",
    "reset_usage",
    "usage",
    "feature",
    "require",
    "require_value",
    "rate",
    "refund_rate",
    "clear_rates",
    "plans",
    "catalog_status",
    "set_plans",
    "subscription",
    "subscribe",
    "cancel",
    "set_overrides",
    "set_enforcement",
    "subscribers",
    "census",
    "events",
    "forget_token",
    "forget_subject",
];

/// Why a step could not even be made: the vector is at fault.
type Mistake = String;

/// Does what a step says; its answer, or the error that the engine answered with.
pub(crate) fn call(
    bench: &mut Bench,
    verb: &str,
    arguments: &Value,
    step: &Value,
) -> Result<Result<Value, Value>, Mistake> {
    if !ALL.contains(&verb) {
        return Err(format!("unknown verb {verb:?}"));
    }
    let given = Given { verb, value: arguments };
    if let Some(()) = surroundings(bench, &given)? {
        return Ok(Ok(Value::Null));
    }
    let name = step["engine"].as_str().unwrap_or("a");
    let quota = match bench.engine(name) {
        Ok(quota) => quota,
        Err(error) => return Ok(Err(error_as_json(&error))),
    };
    let quota = step["by"].as_str().map_or_else(|| quota.clone(), |actor| quota.acting_as(actor));
    let answer = match verb {
        "reserve" => reserve(bench, &quota, name, &given, step)?,
        "commit" | "release" => settle(bench, &quota, name, &given)?,
        _ => match decided(&quota, &given)? {
            Some(answer) => answer,
            None => administered(&quota, &given, bench)?,
        },
    };
    Ok(answer.map_err(|error| error_as_json(&error)))
}

/// The arguments of a verb: an object whose keys are all read, or one value.
struct Given<'s> {
    verb: &'s str,
    value: &'s Value,
}

impl<'s> Given<'s> {
    /// Refuses keys that the verb does not know: a typing error would expect less than it says.
    fn only(&self, known: &[&str]) -> Result<(), Mistake> {
        let fields = self.value.as_object().ok_or_else(|| format!("{} takes an object", self.verb))?;
        match fields.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(format!("{} takes no {key:?}, only {known:?}", self.verb)),
            None => Ok(()),
        }
    }

    fn text(&self, key: &str) -> Result<&'s str, Mistake> {
        self.value[key].as_str().ok_or_else(|| format!("{} needs a text {key:?}", self.verb))
    }

    fn plain(&self) -> Result<&'s str, Mistake> {
        self.value.as_str().ok_or_else(|| format!("{} takes a text", self.verb))
    }

    fn number(&self) -> Result<u64, Mistake> {
        self.value.as_u64().ok_or_else(|| format!("{} takes a whole number", self.verb))
    }

    /// Metrics and units, in the order of their names.
    fn costs(&self, key: &str) -> Result<Vec<(&'s str, u64)>, Mistake> {
        let wrong = || format!("{} needs {key:?}: units by metric", self.verb);
        let Some(costs) = self.value.get(key) else { return Ok(Vec::new()) };
        let cost = |(metric, units): (&'s String, &Value)| Some((metric.as_str(), units.as_u64()?));
        let mut costs: Vec<_> =
            costs.as_object().ok_or_else(wrong)?.iter().map(cost).collect::<Option<_>>().ok_or_else(wrong)?;
        costs.sort_unstable();
        Ok(costs)
    }
}

/// The clock, the store and the verifier.
fn surroundings(bench: &mut Bench, given: &Given<'_>) -> Result<Option<()>, Mistake> {
    match given.verb {
        "advance_s" => bench.clock.advance(Duration::from_secs(given.number()?)),
        "advance_ms" => bench.clock.advance(Duration::from_millis(given.number()?)),
        "set_wall" => bench.clock.set_wall(time(given.plain()?)?),
        "restart" => bench.restart(),
        "revoke" => bench.revoke(given.plain()?),
        "store" => match given.plain()? {
            "down" => bench.set_store_down(true),
            "up" => bench.set_store_down(false),
            other => return Err(format!("a store is up or down, not {other:?}")),
        },
        _ => return Ok(None),
    }
    Ok(Some(()))
}

type Answer = Result<Value, Error>;

/// The verbs of a request; none where it is another.
fn decided(quota: &Quota, given: &Given<'_>) -> Result<Option<Answer>, Mistake> {
    let answer = match given.verb {
        "admit" => admit(quota, given)?,
        "consume" => {
            given.only(&["subject", "costs", "idempotency_key"])?;
            let (subject, costs) = (given.text("subject")?, given.costs("costs")?);
            json_of(match given.value["idempotency_key"].as_str() {
                Some(key) => quota.consume_once(subject, &costs, key),
                None => quota.consume(subject, &costs),
            })
        }
        "check" => {
            given.only(&["subject", "costs"])?;
            json_of(quota.check(given.text("subject")?, &given.costs("costs")?))
        }
        "feature" | "require" => {
            given.only(&["subject", "name"])?;
            let (subject, name) = (given.text("subject")?, given.text("name")?);
            match given.verb {
                "feature" => json_of(quota.feature(subject, name)),
                _ => json_of(quota.require(subject, name)),
            }
        }
        "require_value" => {
            given.only(&["subject", "name", "value"])?;
            json_of(quota.require_value(
                given.text("subject")?,
                given.text("name")?,
                feature_value(&given.value["value"])?,
            ))
        }
        "rate" => {
            given.only(&["scope", "key", "cost"])?;
            let cost = given.value.get("cost").map_or(Some(1), Value::as_u64).ok_or("rate needs a whole cost")?;
            json_of(quota.rate(given.text("scope")?, rate_key(&given.value["key"])?, cost))
        }
        "refund_rate" => {
            given.only(&["scope", "key", "units"])?;
            let units = given.value["units"].as_u64().ok_or("refund_rate needs whole units")?;
            json_of(quota.refund_rate(given.text("scope")?, rate_key(&given.value["key"])?, units))
        }
        "authenticate" => json_of(quota.authenticate(given.plain()?).map(|answer| answer.identity())),
        "usage" => json_of(quota.usage(given.plain()?)),
        _ => return Ok(None),
    };
    Ok(Some(answer))
}

fn admit(quota: &Quota, given: &Given<'_>) -> Result<Answer, Mistake> {
    given.only(&["subject", "token", "rate", "features", "costs", "idempotency_key"])?;
    let costs = given.costs("costs")?;
    let mut request = match (given.value["subject"].as_str(), given.value["token"].as_str()) {
        (Some(subject), None) => Request::by(subject),
        (None, Some(token)) => Request::with_token(token),
        _ => return Err("admit takes a subject or a token".to_owned()),
    };
    request = match &given.value["rate"] {
        Value::Null => request,
        Value::String(scope) => request.rate(scope),
        rate => {
            let rate = Given { verb: "rate", value: rate };
            rate.only(&["scope", "key", "cost"])?;
            let cost = rate.value.get("cost").map_or(Some(1), Value::as_u64).ok_or("a rate needs a whole cost")?;
            request.rate_for(rate.text("scope")?, rate_key(&rate.value["key"])?, cost)
        }
    };
    for feature in given.value["features"].as_array().into_iter().flatten() {
        request = match feature {
            Value::String(name) => request.feature(name),
            Value::Array(pair) => {
                let [Value::String(name), value] = &pair[..] else { return Err("a feature and its value".to_owned()) };
                request.feature_value(name, feature_value(value)?)
            }
            _ => return Err("features are names, or pairs of a name and a value".to_owned()),
        };
    }
    if let Some(key) = given.value["idempotency_key"].as_str() {
        request = request.once(key);
    }
    Ok(json_of(quota.admit(&request.costs(&costs))))
}

fn reserve(bench: &mut Bench, quota: &Quota, engine: &str, given: &Given<'_>, step: &Value) -> Result<Answer, Mistake> {
    given.only(&["subject", "costs", "ttl_ms", "idempotency_key"])?;
    let (subject, costs) = (given.text("subject")?, given.costs("costs")?);
    let ttl = Duration::from_millis(given.value["ttl_ms"].as_u64().ok_or("reserve needs a whole ttl_ms")?);
    let reserved = match given.value["idempotency_key"].as_str() {
        Some(key) => quota.reserve_once(subject, &costs, ttl, key),
        None => quota.reserve(subject, &costs, ttl),
    };
    Ok(reserved.map(|reserved| match reserved {
        Err(decision) => json!(decision),
        Ok(reservation) => {
            let mut answer = json!(reservation.decision());
            answer["expires_at"] = json!(reservation.expires_at());
            let id = reservation.id();
            let named = Named { engine: engine.to_owned(), value: Some(reservation), id };
            if let Some(name) = step["as"].as_str() {
                bench.reservations.insert(name.to_owned(), named);
            } else if let Some(reservation) = named.value {
                reservation.detach();
            }
            answer
        }
    }))
}

fn settle(bench: &mut Bench, quota: &Quota, engine: &str, given: &Given<'_>) -> Result<Answer, Mistake> {
    given.only(if given.verb == "commit" { &["reservation", "actual"] } else { &["reservation"] })?;
    let actual = given.costs("actual")?;
    let name = given.text("reservation")?;
    if let Ok(id) = name.parse() {
        let settled = if given.verb == "commit" { quota.commit(id, &actual) } else { quota.release(id) };
        return Ok(settled.map(|settled| settlement(&settled)));
    }
    let named = bench.reservations.get_mut(name).ok_or_else(|| format!("no reservation {name:?}"))?;
    let own = named.value.take_if(|_| named.engine == engine);
    let settled = match (own, named.id, given.verb) {
        (Some(reservation), _, "commit") => reservation.commit(&actual),
        (Some(reservation), ..) => reservation.release(),
        (None, Some(id), "commit") => quota.commit(id, &actual),
        (None, Some(id), _) => quota.release(id),
        (None, None, _) => return Err(format!("reservation {name:?} has no name by which to settle it again")),
    };
    Ok(settled.map(|settled| settlement(&settled)))
}

fn settlement(settlement: &Settlement) -> Value {
    let metrics = || settlement.parts.iter().map(|part| part.key.metric.to_string());
    let consumed: Map<String, Value> =
        metrics().map(|metric| (metric.clone(), settlement.consumed(&metric).into())).collect();
    let overage: Map<String, Value> =
        metrics().map(|metric| (metric.clone(), settlement.overage(&metric).into())).collect();
    json!({ "at": settlement.at, "repeated": settlement.repeated, "consumed": consumed, "overage": overage })
}

/// The verbs of administration.
fn administered(quota: &Quota, given: &Given<'_>, bench: &Bench) -> Result<Answer, Mistake> {
    let nothing = |answer: Result<(), Error>| answer.map(|()| Value::Null);
    Ok(match given.verb {
        "refund" | "give_back" | "grant" => {
            given.only(&["subject", "costs"])?;
            let (subject, costs) = (given.text("subject")?, given.costs("costs")?);
            json_of(match given.verb {
                "refund" => quota.refund(subject, &costs),
                "give_back" => quota.give_back(subject, &costs),
                _ => quota.grant(subject, &costs),
            })
        }
        "reset_usage" => {
            given.only(&["subject", "metric"])?;
            json_of(quota.reset_usage(given.text("subject")?, given.text("metric")?))
        }
        "clear_rates" => nothing(quota.clear_rates(rate_key(given.value)?)),
        "plans" => json_of(quota.plans().map(|plans| plans.iter().map(|plan| json!(**plan)).collect::<Vec<_>>())),
        "catalog_status" => Ok(json!(quota.catalog_status())),
        "set_plans" => {
            plans_of(given.value).map_err(Error::from).and_then(|plans: Plans| json_of(quota.set_plans(&plans)))
        }
        "subscription" => json_of(quota.subscription(given.plain()?)),
        "subscribe" => nothing(quota.subscribe(given.text("subject")?, subscription(given, bench)?)),
        "cancel" => json_of(quota.cancel(given.plain()?)),
        "set_overrides" => {
            given.only(&["subject", "features", "quotas"])?;
            let overrides: Overrides =
                serde_json::from_value(given.value.clone()).map_err(|error| error.to_string())?;
            json_of(quota.set_overrides(given.text("subject")?, overrides))
        }
        "set_enforcement" => {
            given.only(&["metric", "mode"])?;
            let mode = given.text("mode")?.parse().map_err(|error: Error| error.to_string())?;
            nothing(quota.set_enforcement(given.value["metric"].as_str(), mode))
        }
        "subscribers" => json_of(quota.subscribers(&subscriber_query(given)?)),
        "census" => json_of(quota.census()),
        "events" => json_of(quota.events(&event_query(given)?)),
        "forget_token" => nothing(quota.forget_token(given.plain()?)),
        "forget_subject" => nothing(quota.forget_subject(given.plain()?)),
        other => return Err(format!("verb {other:?} is not made")),
    })
}

/// Active since now, unless the step says otherwise.
fn subscription(given: &Given<'_>, bench: &Bench) -> Result<Subscription, Mistake> {
    given.only(&[
        "subject",
        "plan",
        "status",
        "since",
        "trial_ends_at",
        "expires_at",
        "anchor",
        "zone",
        "account",
        "overrides",
    ])?;
    let mut fields = given.value.as_object().cloned().unwrap_or_default();
    fields.entry("status").or_insert(json!(Status::Active));
    fields.entry("since").or_insert(json!(quotum::Clock::wall(&*bench.clock)));
    serde_json::from_value(fields.into()).map_err(|error| error.to_string())
}

fn subscriber_query(given: &Given<'_>) -> Result<SubscriberQuery, Mistake> {
    given.only(&["after", "containing", "plan", "status", "account", "limit"])?;
    let text = |key: &str| given.value[key].as_str();
    Ok(SubscriberQuery {
        after: text("after").map(Into::into),
        containing: text("containing").map(Into::into),
        plan: text("plan").map(Into::into),
        status: text("status").map(|word| word.parse().map_err(|error: Error| error.to_string())).transpose()?,
        account: text("account").map(Into::into),
        limit: given.value["limit"].as_u64().map_or(100, |limit| usize::try_from(limit).unwrap()),
    })
}

fn event_query(given: &Given<'_>) -> Result<EventQuery, Mistake> {
    given.only(&["subject", "name", "changes_only", "newest_first", "limit"])?;
    let flag = |key: &str| given.value[key].as_bool().unwrap_or(false);
    let name = given.value["name"].as_str().map(|word| word.parse().map_err(|error: Error| error.to_string()));
    Ok(EventQuery {
        subject: given.value["subject"].as_str().map(Into::into),
        name: name.transpose()?,
        changes_only: flag("changes_only"),
        newest_first: flag("newest_first"),
        limit: given.value["limit"].as_u64().map_or(100, |limit| usize::try_from(limit).unwrap()),
        ..EventQuery::all()
    })
}

fn rate_key(key: &Value) -> Result<RateKey<'_>, Mistake> {
    match key {
        Value::String(text) => Ok(RateKey::from(text.as_str())),
        key => {
            let address = key["ip"].as_str().ok_or("a key is a text, or an address under \"ip\"")?;
            Ok(address.parse::<IpAddr>().map_err(|error| error.to_string())?.into())
        }
    }
}

fn feature_value(value: &Value) -> Result<FeatureValue, Mistake> {
    serde_json::from_value(value.clone()).map_err(|error| error.to_string())
}

fn time(text: &str) -> Result<Timestamp, Mistake> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

fn json_of<T: Serialize>(answer: Result<T, Error>) -> Answer {
    answer.map(|answer| json!(answer))
}

/// An error as the vectors know it, by words that every language has.
fn error_as_json(error: &Error) -> Value {
    let mut fields = json!({ "kind": kind_of(error), "message": error.to_string() });
    match error {
        Error::InvalidArgument { argument, .. } => fields["argument"] = json!(argument),
        Error::Unknown { kind, name, known } => {
            (fields["what"], fields["name"], fields["known"]) = (json!(kind.to_string()), json!(name), json!(known));
        }
        _ => {}
    }
    fields
}

fn kind_of(error: &Error) -> &'static str {
    match error {
        Error::InvalidArgument { .. } => "invalid_argument",
        Error::Unknown { .. } => "unknown",
        Error::Plans(_) => "plans",
        Error::NoPlans => "no_plans",
        Error::Conflict { .. } => "conflict",
        Error::HoldExpired { .. } => "hold_expired",
        Error::HoldUnknown { .. } => "hold_unknown",
        Error::Randomness { .. } => "randomness",
        Error::Store(_) => "store",
        Error::Verify(_) => "verify",
        _ => "other",
    }
}
