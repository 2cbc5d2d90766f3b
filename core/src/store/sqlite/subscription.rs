//! The table of subscriptions.

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row};

use super::failure::{damaged, failure};
use crate::store::{Census, StoreError, Subscriber, SubscriberQuery};
use crate::subscription::{Status, Subscription};

const COLUMNS: &str = "plan, status, since_ms, trial_ends_ms, expires_ms, anchor_ms, zone, account, overrides";

/// A row of the table `subscription`, without its subject.
pub(super) struct SubscriptionRow {
    plan: String,
    status: String,
    since_ms: i64,
    trial_ends_ms: Option<i64>,
    expires_ms: Option<i64>,
    anchor_ms: Option<i64>,
    zone: Option<String>,
    account: Option<String>,
    overrides: Option<String>,
}

impl SubscriptionRow {
    pub(super) fn of(subscription: &Subscription) -> Self {
        let ms = |time: Option<Timestamp>| time.map(Timestamp::as_millisecond);
        Self {
            plan: subscription.plan.clone(),
            status: subscription.status.as_str().to_owned(),
            since_ms: subscription.since.as_millisecond(),
            trial_ends_ms: ms(subscription.trial_ends_at),
            expires_ms: ms(subscription.expires_at),
            anchor_ms: ms(subscription.anchor),
            zone: subscription.zone.clone(),
            account: subscription.account.clone(),
            overrides: serde_json::to_string(&subscription.overrides).ok(),
        }
    }

    pub(super) fn read(connection: &Connection, subject: &str) -> Result<Option<Self>, StoreError> {
        connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM subscription WHERE subject = ?1"))
            .and_then(|mut select| select.query_row((subject,), |row| Self::at(row, 0)).optional())
            .map_err(failure)
    }

    /// The row whose first column is that of this number.
    fn at(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            plan: row.get(first)?,
            status: row.get(first + 1)?,
            since_ms: row.get(first + 2)?,
            trial_ends_ms: row.get(first + 3)?,
            expires_ms: row.get(first + 4)?,
            anchor_ms: row.get(first + 5)?,
            zone: row.get(first + 6)?,
            account: row.get(first + 7)?,
            overrides: row.get(first + 8)?,
        })
    }

    /// Writes the row, in place of one that is there.
    pub(super) fn write(&self, connection: &Connection, subject: &str) -> Result<(), StoreError> {
        let values = (
            subject,
            &self.plan,
            &self.status,
            self.since_ms,
            self.trial_ends_ms,
            self.expires_ms,
            self.anchor_ms,
            &self.zone,
            &self.account,
            &self.overrides,
        );
        connection
            .prepare_cached(&format!(
                "INSERT OR REPLACE INTO subscription (subject, {COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
            ))
            .and_then(|mut insert| insert.execute(values))
            .map(drop)
            .map_err(failure)
    }

    pub(super) fn into_subscription(self) -> Result<Subscription, StoreError> {
        let time = |ms| Timestamp::from_millisecond(ms).map_err(|error| damaged("a subscription's time", &error));
        let status = self.status.parse().map_err(|error: crate::Error| damaged("a subscription", &error))?;
        let mut subscription = Subscription::active(&self.plan, time(self.since_ms)?);
        subscription.status = status;
        subscription.trial_ends_at = self.trial_ends_ms.map(time).transpose()?;
        subscription.expires_at = self.expires_ms.map(time).transpose()?;
        subscription.anchor = self.anchor_ms.map(time).transpose()?;
        subscription.zone = self.zone;
        subscription.account = self.account;
        if let Some(overrides) = self.overrides {
            subscription.overrides =
                serde_json::from_str(&overrides).map_err(|error| damaged("a subscription's overrides", &error))?;
        }
        Ok(subscription)
    }
}

/// Gives a subject `to` if it has `from`, and returns what it then has and whether that was done.
pub(super) fn swap(
    connection: &Connection,
    subject: &str,
    from: Option<&Subscription>,
    to: &Subscription,
) -> Result<(Option<Subscription>, bool), StoreError> {
    let found = SubscriptionRow::read(connection, subject)?.map(SubscriptionRow::into_subscription).transpose()?;
    if found.as_ref() != from {
        return Ok((found, false));
    }
    SubscriptionRow::of(to).write(connection, subject)?;
    Ok((Some(to.clone()), true))
}

pub(super) fn list(connection: &Connection, query: &SubscriberQuery) -> Result<Vec<Subscriber>, StoreError> {
    let mut select = format!("SELECT subject, {COLUMNS} FROM subscription WHERE subject > ?");
    let mut values = vec![Value::from(query.after.as_deref().unwrap_or_default().to_owned())];
    let mut only = |condition: &str, value: Option<&str>| {
        if let Some(value) = value {
            select.push_str(condition);
            values.push(Value::from(value.to_owned()));
        }
    };
    only(" AND instr(subject, ?)", query.containing.as_deref());
    only(" AND plan = ?", query.plan.as_deref());
    only(" AND status = ?", query.status.map(Status::as_str));
    only(" AND account = ?", query.account.as_deref());
    select.push_str(" ORDER BY subject LIMIT ?");
    values.push(Value::from(i64::try_from(query.limit).unwrap_or(i64::MAX)));
    let rows: Vec<(String, SubscriptionRow)> = connection
        .prepare_cached(&select)
        .and_then(|mut select| {
            let read = |row: &Row<'_>| Ok((row.get(0)?, SubscriptionRow::at(row, 1)?));
            select.query_map(rusqlite::params_from_iter(values), read)?.collect()
        })
        .map_err(failure)?;
    let subscriber = |(subject, row): (String, SubscriptionRow)| {
        Ok(Subscriber { subject: subject.into(), subscription: row.into_subscription()? })
    };
    rows.into_iter().map(subscriber).collect()
}

pub(super) fn census(connection: &Connection) -> Result<Vec<Census>, StoreError> {
    let rows: Vec<(String, String, i64)> = connection
        .prepare_cached("SELECT plan, status, count(*) FROM subscription GROUP BY plan, status")
        .and_then(|mut select| select.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect())
        .map_err(failure)?;
    let line = |(plan, status, subjects): (String, String, i64)| {
        let status = status.parse().map_err(|error: crate::Error| damaged("a subscription", &error))?;
        Ok(Census { plan, status, subjects: subjects.unsigned_abs() })
    };
    let mut census = rows.into_iter().map(line).collect::<Result<Vec<_>, StoreError>>()?;
    census.sort_unstable();
    Ok(census)
}
