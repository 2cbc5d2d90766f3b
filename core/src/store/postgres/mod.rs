//! The PostgreSQL store: a schema of its own in a database that any number of processes and machines share.
//!
//! Each method is one call of a function of the schema (`schema/*.sql`), and so one round trip and one transaction.
//! [`server`] has the store's own threads, [`connections`] talks to the server, [`statement`] is what it is told,
//! [`failure`] what its errors mean. How rows are read is in [`counter`], [`subscription`] and [`log`]; how the store is
//! opened in [`options`], [`url`], [`tls`] and [`schema`].

#[cfg_attr(not(feature = "postgres-tls"), allow(clippy::clone_on_copy, reason = "a connector with TLS is no copy"))]
mod connections;
mod counter;
mod failure;
mod hosted;
mod log;
#[cfg_attr(not(feature = "postgres-tls"), allow(clippy::clone_on_copy, reason = "a connector with TLS is no copy"))]
mod options;
mod rate;
mod schema;
#[cfg_attr(not(feature = "postgres-tls"), allow(clippy::clone_on_copy, reason = "a connector with TLS is no copy"))]
mod server;
mod statement;
mod subscription;
mod tls;
mod url;

use jiff::Timestamp;

use self::failure::damaged;
use self::hosted::HostedTables;
pub use self::options::PostgresOptions;
use self::server::Server;
use self::statement::{Bytes, Statement};
use super::sourced::{kept_by_host, plans_kept_by_host, swap_hosted};
use super::{
    Adjustment, Balance, Call, Census, Charge, Charged, CounterKey, Forgotten, Hold, KeptIdentity, Lease, Leased, Once,
    Paced, Settle, Settled, SharedRate, Store, StoreError, StoreFuture, StoredPlans, Subscriber, SubscriberQuery,
};
use crate::event::{Event, EventName, EventQuery};
use crate::plan::Plans;
use crate::subscription::Subscription;
use crate::token::TokenDigest;

/// A store on a PostgreSQL server, version 14 or newer.
///
/// Any number of processes on any number of machines may share one schema, through a pooler too that hands sessions
/// on after each transaction: nothing is kept in one. What was acknowledged is as durable as the server's
/// `synchronous_commit` makes it.
///
/// Two threads of the store's own talk to the server, for callers of any executor and of none. Dropping the store
/// waits for nothing: a step under way is made whole or not at all.
#[derive(Debug)]
pub struct PostgresStore {
    server: Server,
    tables: HostedTables,
}

impl PostgresStore {
    const fn new(server: Server, tables: HostedTables) -> Self {
        Self { server, tables }
    }

    /// The subscription that the host's own table has for a subject.
    async fn hosted(&self, subject: &str) -> Result<Option<Subscription>, StoreError> {
        let statement = self.tables.subscription.as_ref().and_then(|hosted| hosted.asking_for(subject));
        let Some(statement) = statement else { return Ok(None) };
        self.server.ask(statement, |rows| rows.first().map(hosted::subscription).transpose()).await
    }
}

/// A future that fails with what was wrong with the values, before anything is sent.
fn unsent<'a, T: Send + 'a>(error: StoreError) -> StoreFuture<'a, T> {
    Box::pin(std::future::ready(Err(error)))
}

/// The statement, unless its values cannot be written down.
macro_rules! whole {
    ($statement:expr) => {
        match $statement {
            Ok(statement) => statement,
            Err(error) => return unsent(error),
        }
    };
}

impl Store for PostgresStore {
    fn plans(&self, _: Call) -> StoreFuture<'_, Option<StoredPlans>> {
        if let Some(hosted) = &self.tables.plans {
            return self.server.ask(hosted.asking(), |rows| rows.first().map(hosted::plans).transpose());
        }
        let statement = Statement::reading("SELECT version, document FROM quotum.plans");
        self.server.ask(statement, |rows| {
            let Some(row) = rows.first() else { return Ok(None) };
            let get = |error| damaged("its plans", &error);
            let (version, document): (i64, &str) = (row.try_get(0).map_err(get)?, row.try_get(1).map_err(get)?);
            let plans = Plans::from_json(document).map_err(|error| damaged("its plans", &error))?;
            Ok(Some(StoredPlans { version: version.unsigned_abs(), plans }))
        })
    }

    fn put_plans<'a>(&'a self, _: Call, plans: &'a Plans, event: &'a Event) -> StoreFuture<'a, u64> {
        if self.tables.plans.is_some() {
            return unsent(plans_kept_by_host());
        }
        let statement = whole!(log::with_event(Statement::calling("put_plans").with(plans.to_json()), event));
        self.server.ask_one(statement, |row| {
            let version: i64 = row.try_get(0).map_err(|error| damaged("its plans", &error))?;
            Ok(version.unsigned_abs())
        })
    }

    fn subscription<'a>(&'a self, _: Call, subject: &'a str) -> StoreFuture<'a, Option<Subscription>> {
        let statement =
            Statement::reading("SELECT * FROM quotum.subscription WHERE subject = $1").with(Bytes::of(subject));
        let kept = self.server.ask(statement, |rows| rows.first().map(subscription::subscription).transpose());
        if self.tables.subscription.is_none() {
            return kept;
        }
        Box::pin(async move {
            match self.hosted(subject).await? {
                Some(hosted) => Ok(Some(hosted)),
                None => kept.await,
            }
        })
    }

    fn put_subscription<'a>(
        &'a self,
        _: Call,
        subject: &'a str,
        subscription: &'a Subscription,
        event: &'a Event,
    ) -> StoreFuture<'a, ()> {
        let call =
            format!("SELECT * FROM quotum.put_subscription({}, $11, $12, $13, $14, $15)", subscription::row_from(1));
        let statement = subscription::with_subscription(Statement::writing(&call), subject, Some(subscription))
            .and_then(|statement| log::with_event(statement, event));
        let put = self.server.tell(whole!(statement));
        if self.tables.subscription.is_none() {
            return put;
        }
        Box::pin(async move {
            match self.hosted(subject).await? {
                Some(_) => Err(kept_by_host(subject)),
                None => put.await,
            }
        })
    }

    fn swap_subscription<'a>(
        &'a self,
        _: Call,
        subject: &'a str,
        from: Option<&'a Subscription>,
        to: &'a Subscription,
        event: &'a Event,
    ) -> StoreFuture<'a, Option<Subscription>> {
        let (first, second) = (subscription::row_from(1), subscription::row_from(1 + subscription::COLUMNS));
        let call = format!("SELECT * FROM quotum.swap_subscription({first}, {second}, $21, $22, $23, $24, $25)");
        let statement = subscription::with_subscription(Statement::writing(&call), subject, from)
            .and_then(|statement| subscription::with_subscription(statement, subject, Some(to)))
            .and_then(|statement| log::with_event(statement, event));
        let swapped =
            self.server.ask(whole!(statement), |rows| rows.first().map(subscription::subscription).transpose());
        if self.tables.subscription.is_none() {
            return swapped;
        }
        Box::pin(async move {
            match self.hosted(subject).await? {
                Some(hosted) => swap_hosted(subject, from, hosted),
                None => swapped.await,
            }
        })
    }

    fn subscribers<'a>(&'a self, _: Call, query: &'a SubscriberQuery) -> StoreFuture<'a, Vec<Subscriber>> {
        self.server.ask(subscription::listing(query), |rows| rows.iter().map(subscription::subscriber).collect())
    }

    fn census(&self, _: Call) -> StoreFuture<'_, Vec<Census>> {
        let count = "SELECT plan, status, count(*) FROM quotum.subscription GROUP BY plan, status";
        self.server.ask(Statement::reading(count), |rows| {
            let mut census = rows.iter().map(subscription::census_line).collect::<Result<Vec<_>, _>>()?;
            census.sort_unstable();
            Ok(census)
        })
    }

    fn charge<'a>(&'a self, call: Call, charges: &'a [Charge], once: Option<&'a Once>) -> StoreFuture<'a, Charged> {
        match once {
            None => self.server.charge(call.now, charges),
            once => {
                let statement = whole!(counter::charging(call.now, charges, once, false));
                self.server.ask_one(statement, counter::charged)
            }
        }
    }

    fn hold<'a>(&'a self, call: Call, hold: &'a Hold) -> StoreFuture<'a, Charged> {
        self.server.ask_one(whole!(counter::holding(call.now, hold)), counter::charged)
    }

    fn settle<'a>(&'a self, call: Call, settle: &'a Settle) -> StoreFuture<'a, Settled> {
        self.server.ask_one(counter::settling(call.now, settle), counter::settled)
    }

    fn lease<'a>(&'a self, call: Call, lease: &'a Lease) -> StoreFuture<'a, Leased> {
        self.server.ask_one(whole!(counter::leasing(call.now, lease)), counter::leased)
    }

    fn is_worth_leasing(&self) -> bool {
        true
    }

    fn balances<'a>(&'a self, call: Call, keys: &'a [CounterKey]) -> StoreFuture<'a, Vec<Balance>> {
        let statement = counter::reading(call.now, keys);
        self.server.ask(statement, |rows| rows.iter().map(counter::balance_at).collect())
    }

    fn adjust<'a>(
        &'a self,
        call: Call,
        adjustments: &'a [Adjustment],
        once: Option<&'a Once>,
        event: &'a Event,
    ) -> StoreFuture<'a, Charged> {
        let statement =
            counter::adjusting(call.now, adjustments, once).and_then(|statement| log::with_event(statement, event));
        self.server.ask_one(whole!(statement), counter::charged)
    }

    fn rate<'a>(&'a self, call: Call, rate: &'a SharedRate) -> StoreFuture<'a, Paced> {
        self.server.ask_one(rate::pacing(call.now, rate), rate::paced)
    }

    fn identity<'a>(&'a self, call: Call, token: &'a TokenDigest) -> StoreFuture<'a, Option<KeptIdentity>> {
        let statement = Statement::reading(
            "SELECT identity, kept_until_ms, @shift FROM quotum.identity WHERE token = $1 AND kept_until_ms > @2",
        )
        .at(call.now)
        .with(Bytes::of(token.as_bytes()))
        .with_time(Some(call.now));
        self.server.ask(statement, |rows| {
            let Some(row) = rows.first() else { return Ok(None) };
            let get = |error| damaged("an identity", &error);
            let (text, until_ms): (&str, i64) = (row.try_get(0).map_err(get)?, row.try_get(1).map_err(get)?);
            let identity = serde_json::from_str(text).map_err(|error| damaged("an identity", &error))?;
            let until_ms = until_ms.saturating_sub(statement::shift_ms(row)?);
            let until = Timestamp::from_millisecond(until_ms).map_err(|error| damaged("an identity", &error))?;
            Ok(Some(KeptIdentity { identity, until }))
        })
    }

    fn put_identity<'a>(
        &'a self,
        call: Call,
        token: &'a TokenDigest,
        kept: &'a KeptIdentity,
        followed: u64,
    ) -> StoreFuture<'a, ()> {
        let statement = Statement::calling("put_identity")
            .at(call.now)
            .with_time(Some(call.now))
            .with(Bytes::of(token.as_bytes()))
            .with(Bytes::of(&*kept.identity.subject))
            .with(whole!(counter::json(&kept.identity)))
            .with_time(Some(kept.until))
            .with(i64::try_from(followed).unwrap_or(i64::MAX))
            .with(EventName::TokenForgotten.as_str());
        self.server.tell(statement)
    }

    fn forget_identities<'a>(&'a self, _: Call, which: &'a Forgotten, event: &'a Event) -> StoreFuture<'a, ()> {
        let (token, subject) = match which {
            Forgotten::Token(token) => (Some(Bytes::of(token.as_bytes())), None),
            Forgotten::Subject(subject) => (None, Some(Bytes::of(&**subject))),
        };
        let statement = Statement::calling("forget_identities").with(token).with(subject);
        self.server.tell(whole!(log::with_event(statement, event)))
    }

    fn record<'a>(&'a self, call: Call, events: &'a [Event]) -> StoreFuture<'a, ()> {
        self.server.tell(whole!(log::recording(call.now, events)))
    }

    fn events<'a>(&'a self, _: Call, query: &'a EventQuery) -> StoreFuture<'a, Vec<Event>> {
        self.server.ask(log::reading(query), |rows| rows.iter().map(log::event).collect())
    }
}
