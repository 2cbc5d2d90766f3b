//! Subscriptions as rows.

use jiff::Timestamp;
use tokio_postgres::Row;

use super::counter::json;
use super::failure::damaged;
use super::statement::{Bytes, Statement};
use crate::store::{Census, StoreError, Subscriber, SubscriberQuery};
use crate::subscription::{Status, Subscription};

/// How many columns a subscription has, its subject included.
pub(super) const COLUMNS: usize = 10;

/// A statement with a subscription, or none, as its next values.
pub(super) fn with_subscription(
    statement: Statement,
    subject: &str,
    subscription: Option<&Subscription>,
) -> Result<Statement, StoreError> {
    let ms = |time: fn(&Subscription) -> Option<Timestamp>| subscription.and_then(time).map(Timestamp::as_millisecond);
    let text = |text: fn(&Subscription) -> Option<&str>| subscription.and_then(text).map(Bytes::of);
    Ok(statement
        .with(subscription.map(|_| Bytes::of(subject)))
        .with(text(|subscription| Some(&subscription.plan)))
        .with(subscription.map(|subscription| subscription.status.as_str()))
        .with(ms(|subscription| Some(subscription.since)))
        .with(ms(|subscription| subscription.trial_ends_at))
        .with(ms(|subscription| subscription.expires_at))
        .with(ms(|subscription| subscription.anchor))
        .with(text(|subscription| subscription.zone.as_deref()))
        .with(text(|subscription| subscription.account.as_deref()))
        .with(subscription.map(|subscription| json(&subscription.overrides)).transpose()?))
}

/// A row of values as one of the table of subscriptions, from the value of this number on.
pub(super) fn row_from(first: usize) -> String {
    let values: Vec<String> = (first..first + COLUMNS).map(|number| format!("${number}")).collect();
    format!("ROW({})::quotum.subscription", values.join(", "))
}

/// The subscription in a row of all columns.
pub(super) fn subscription(row: &Row) -> Result<Subscription, StoreError> {
    let get = |error| damaged("a subscription", &error);
    let ms = |column| -> Result<Option<Timestamp>, StoreError> {
        let ms: Option<i64> = row.try_get(column).map_err(get)?;
        ms.map(Timestamp::from_millisecond).transpose().map_err(|error| damaged("a subscription's time", &error))
    };
    let texts = |column| -> Result<Option<String>, StoreError> {
        row.try_get::<_, Option<&[u8]>>(column).map_err(get)?.map(text_of).transpose()
    };
    let missing = || damaged("a subscription", &"it lacks a plan or a time");
    let status: &str = row.try_get("status").map_err(get)?;
    let plan = texts("plan")?.ok_or_else(missing)?;
    let mut subscription = Subscription::active(&plan, ms("since_ms")?.ok_or_else(missing)?);
    subscription.status = status.parse().map_err(|error: crate::Error| damaged("a subscription", &error))?;
    subscription.trial_ends_at = ms("trial_ends_ms")?;
    subscription.expires_at = ms("expires_ms")?;
    subscription.anchor = ms("anchor_ms")?;
    subscription.zone = texts("zone")?;
    subscription.account = texts("account")?;
    if let Some(overrides) = row.try_get::<_, Option<&str>>("overrides").map_err(get)? {
        subscription.overrides =
            serde_json::from_str(overrides).map_err(|error| damaged("a subscription's overrides", &error))?;
    }
    Ok(subscription)
}

/// The subscribers that a query asks for.
pub(super) fn listing(query: &SubscriberQuery) -> Statement {
    Statement::reading(
        "SELECT * FROM quotum.subscription
         WHERE ($1 IS NULL OR subject > $1) AND ($2 IS NULL OR position($2 IN subject) > 0)
           AND ($3 IS NULL OR plan = $3) AND ($4 IS NULL OR status = $4) AND ($5 IS NULL OR account = $5)
         ORDER BY subject LIMIT $6",
    )
    .with(query.after.as_deref().map(Bytes::of))
    .with(query.containing.as_ref().map(Bytes::of))
    .with(query.plan.as_ref().map(Bytes::of))
    .with(query.status.map(Status::as_str))
    .with(query.account.as_ref().map(Bytes::of))
    .with(i64::try_from(query.limit).unwrap_or(i64::MAX))
}

pub(super) fn subscriber(row: &Row) -> Result<Subscriber, StoreError> {
    let subject: &[u8] = row.try_get("subject").map_err(|error| damaged("a subscriber", &error))?;
    Ok(Subscriber { subject: text_of(subject)?.into(), subscription: subscription(row)? })
}

pub(super) fn census_line(row: &Row) -> Result<Census, StoreError> {
    let get = |error| damaged("a census", &error);
    let status: &str = row.try_get(1).map_err(get)?;
    Ok(Census {
        plan: text_of(row.try_get(0).map_err(get)?)?,
        status: status.parse().map_err(|error: crate::Error| damaged("a subscription", &error))?,
        subjects: row.try_get::<_, i64>(2).map_err(get)?.unsigned_abs(),
    })
}

fn text_of(bytes: &[u8]) -> Result<String, StoreError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| damaged("a text", &error))
}
