//! The SQLite store: one file, shared by any number of threads and processes of one machine.
//!
//! Writes and reads have a connection each ([`lane`]); each does its work in batches ([`session`],
//! [`batch`]). What the file looks like is in [`schema`], how it is opened in [`options`].

mod batch;
mod failure;
mod lane;
mod options;
mod schema;
mod session;

use jiff::Timestamp;
use rusqlite::OptionalExtension;

use self::failure::failure;
use self::lane::Lane;
pub use self::options::{Durability, SqliteOptions};
use self::session::Session;
use super::{Balance, Call, Charge, Charged, CounterKey, Refund, Store, StoreError, StoreFuture, StoredPlans};
use crate::plan::Plans;
use crate::subscription::Subscription;

/// A store in one SQLite file.
///
/// Any number of processes on one machine may open the same file; put it on a local disk, not on a
/// network share. Async callers are served by up to two threads of the store's own, started for the
/// first of them; synchronous callers need none. Dropping the store waits for work under way.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Lane,
    reader: Lane,
}

impl SqliteStore {
    fn new(writer: Session, reader: Session) -> Self {
        Self { writer: Lane::new("quotum-writer", writer), reader: Lane::new("quotum-reader", reader) }
    }
}

impl Store for SqliteStore {
    fn plans(&self, call: Call) -> StoreFuture<'_, Option<StoredPlans>> {
        Box::pin(async move {
            let row = self.reader.run(call.wait, |batch| {
                batch
                    .connection
                    .query_row("SELECT version, document FROM plans", (), |row| {
                        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
                    })
                    .optional()
                    .map_err(failure)
            });
            let Some((version, document)) = row.await? else { return Ok(None) };
            let plans = Plans::from_json(&document).map_err(|error| damaged("its plans", &error))?;
            Ok(Some(StoredPlans { version: version.unsigned_abs(), plans }))
        })
    }

    fn put_plans<'a>(&'a self, call: Call, plans: &'a Plans) -> StoreFuture<'a, u64> {
        let document = plans.to_json();
        Box::pin(self.writer.run(call.wait, move |batch| {
            batch
                .connection
                .query_row(
                    "INSERT INTO plans (id, version, document) VALUES (1, 1, ?1)
                     ON CONFLICT (id) DO UPDATE SET version = version + 1, document = excluded.document
                     RETURNING version",
                    (&document,),
                    |row| row.get(0).map(i64::unsigned_abs),
                )
                .map_err(failure)
        }))
    }

    fn subscription<'a>(&'a self, call: Call, subject: &'a str) -> StoreFuture<'a, Option<Subscription>> {
        let subject = subject.to_owned();
        Box::pin(async move {
            let row = self.reader.run(call.wait, move |batch| SubscriptionRow::read(batch.connection, &subject));
            row.await?.map(SubscriptionRow::into_subscription).transpose()
        })
    }

    fn put_subscription<'a>(
        &'a self,
        call: Call,
        subject: &'a str,
        subscription: &'a Subscription,
    ) -> StoreFuture<'a, ()> {
        let (subject, row) = (subject.to_owned(), SubscriptionRow::of(subscription));
        Box::pin(self.writer.run(call.wait, move |batch| row.write(batch.connection, &subject, "REPLACE")))
    }

    fn add_subscription<'a>(
        &'a self,
        call: Call,
        subject: &'a str,
        subscription: &'a Subscription,
    ) -> StoreFuture<'a, Subscription> {
        let (subject, row) = (subject.to_owned(), SubscriptionRow::of(subscription));
        Box::pin(async move {
            let kept = self.writer.run(call.wait, move |batch| {
                row.write(batch.connection, &subject, "IGNORE")?;
                SubscriptionRow::read(batch.connection, &subject)
            });
            match kept.await? {
                Some(row) => row.into_subscription(),
                None => Err(damaged("a subscription", &"it is gone right after it was added")),
            }
        })
    }

    fn charge<'a>(&'a self, call: Call, charges: &'a [Charge]) -> StoreFuture<'a, Charged> {
        let charges = charges.to_vec();
        Box::pin(self.writer.run(call.wait, move |batch| batch.charge(&charges)))
    }

    fn balances<'a>(&'a self, call: Call, keys: &'a [CounterKey]) -> StoreFuture<'a, Vec<Balance>> {
        let keys = keys.to_vec();
        Box::pin(self.reader.run(call.wait, move |batch| batch.balances(&keys)))
    }

    fn refund<'a>(&'a self, call: Call, refunds: &'a [Refund]) -> StoreFuture<'a, Vec<Balance>> {
        let refunds = refunds.to_vec();
        Box::pin(self.writer.run(call.wait, move |batch| batch.refund(&refunds)))
    }
}

/// A row of the table `subscription`, without its subject.
struct SubscriptionRow {
    plan: String,
    status: String,
    since_ms: i64,
    trial_ends_ms: Option<i64>,
    expires_ms: Option<i64>,
    anchor_ms: Option<i64>,
    zone: Option<String>,
    overrides: Option<String>,
}

impl SubscriptionRow {
    fn of(subscription: &Subscription) -> Self {
        let ms = |time: Option<Timestamp>| time.map(Timestamp::as_millisecond);
        Self {
            plan: subscription.plan.clone(),
            status: subscription.status.as_str().to_owned(),
            since_ms: subscription.since.as_millisecond(),
            trial_ends_ms: ms(subscription.trial_ends_at),
            expires_ms: ms(subscription.expires_at),
            anchor_ms: ms(subscription.anchor),
            zone: subscription.zone.clone(),
            overrides: serde_json::to_string(&subscription.overrides).ok(),
        }
    }

    fn read(connection: &rusqlite::Connection, subject: &str) -> Result<Option<Self>, StoreError> {
        let select = "SELECT plan, status, since_ms, trial_ends_ms, expires_ms, anchor_ms, zone, overrides
                      FROM subscription WHERE subject = ?1";
        let row = connection.prepare_cached(select).and_then(|mut select| {
            let read = |row: &rusqlite::Row<'_>| {
                Ok(Self {
                    plan: row.get(0)?,
                    status: row.get(1)?,
                    since_ms: row.get(2)?,
                    trial_ends_ms: row.get(3)?,
                    expires_ms: row.get(4)?,
                    anchor_ms: row.get(5)?,
                    zone: row.get(6)?,
                    overrides: row.get(7)?,
                })
            };
            select.query_row((subject,), read).optional()
        });
        row.map_err(failure)
    }

    /// Writes the row; `conflict` says what becomes of one that is there: `REPLACE` or `IGNORE` it.
    fn write(&self, connection: &rusqlite::Connection, subject: &str, conflict: &str) -> Result<(), StoreError> {
        let insert = format!(
            "INSERT OR {conflict} INTO subscription
             (subject, plan, status, since_ms, trial_ends_ms, expires_ms, anchor_ms, zone, overrides)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
        );
        let values = (
            subject,
            &self.plan,
            &self.status,
            self.since_ms,
            self.trial_ends_ms,
            self.expires_ms,
            self.anchor_ms,
            &self.zone,
            &self.overrides,
        );
        connection.prepare_cached(&insert).and_then(|mut insert| insert.execute(values)).map(drop).map_err(failure)
    }

    fn into_subscription(self) -> Result<Subscription, StoreError> {
        let time = |ms| Timestamp::from_millisecond(ms).map_err(|error| damaged("a subscription's time", &error));
        let status = self.status.parse().map_err(|error: crate::Error| damaged("a subscription", &error))?;
        let mut subscription = Subscription::active(&self.plan, time(self.since_ms)?);
        subscription.status = status;
        subscription.trial_ends_at = self.trial_ends_ms.map(time).transpose()?;
        subscription.expires_at = self.expires_ms.map(time).transpose()?;
        subscription.anchor = self.anchor_ms.map(time).transpose()?;
        subscription.zone = self.zone;
        if let Some(overrides) = self.overrides {
            subscription.overrides =
                serde_json::from_str(&overrides).map_err(|error| damaged("a subscription's overrides", &error))?;
        }
        Ok(subscription)
    }
}

fn damaged(what: &str, detail: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged { name: "the database".to_owned(), detail: format!("{what} cannot be read: {detail}") }
}
