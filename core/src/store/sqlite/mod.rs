//! The SQLite store: one file, shared by any number of threads and processes of one machine.
//!
//! Writes and reads have a connection each ([`lane`]); each does its work in batches ([`session`],
//! [`batch`]). Each table has a file: [`counter`], [`holds`], [`identity`], [`ledger`], [`log`], [`rate`],
//! [`subscription`]. What the file looks like is in [`schema`], how it is opened in [`options`].

mod batch;
mod counter;
mod failure;
mod holds;
mod identity;
mod lane;
mod ledger;
mod log;
mod options;
mod rate;
mod schema;
mod session;
#[cfg(test)]
#[cfg(feature = "conformance")]
mod statements;
mod subscription;

use std::sync::Arc;

use rusqlite::OptionalExtension;

use self::failure::{damaged, failure};
use self::lane::{Lane, Seat};
pub use self::options::{Durability, SqliteOptions};
use self::session::Session;
use self::subscription::SubscriptionRow;
use super::{
    Adjustment, Balance, Call, Census, Charge, Charged, CounterKey, Forgotten, Hold, KeptIdentity, Lease, Leased, Once,
    Paced, Settle, Settled, SharedRate, Store, StoreError, StoreFuture, StoredPlans, Subscriber, SubscriberQuery,
};
use crate::event::{Event, EventQuery};
use crate::fork::PerProcess;
use crate::plan::Plans;
use crate::subscription::Subscription;
use crate::token::TokenDigest;

/// A store in one SQLite file.
///
/// Any number of processes on one machine may open the same file; put it on a local disk, not on a
/// network share. Async callers are served by up to two threads of the store's own, started for the
/// first of them; synchronous callers need none. Dropping the store waits for work under way.
#[derive(Debug)]
pub struct SqliteStore {
    lanes: PerProcess<Lanes, StoreError>,
}

/// The connections of one process.
#[derive(Debug)]
struct Lanes {
    writer: Lane,
    reader: Lane,
}

impl Lanes {
    fn new(writer: Seat, reader: Seat) -> Arc<Self> {
        let (writer, reader) = (Lane::seated("quotum-writer", writer), Lane::seated("quotum-reader", reader));
        Arc::new(Self { writer, reader })
    }
}

impl SqliteStore {
    /// `options` say how a child process opens the file again.
    fn new(options: SqliteOptions, writer: Session, reader: Session) -> Self {
        let stopped = writer.stopped();
        let lanes = Lanes::new(Seat::Open(writer), Seat::Open(reader));
        let again = move |inherited: &Arc<Lanes>| {
            inherited.reader.close_inherited()?;
            inherited.writer.close_inherited()?;
            let (writer, reader) = (options.clone(), options.clone());
            let (stops, stopped) = (Arc::clone(&stopped), Arc::clone(&stopped));
            let writer = move || Ok(writer.open_session()?.sharing(&stops));
            let reader = move || Ok(reader.open_reading()?.sharing(&stopped));
            Ok(Lanes::new(Seat::ToOpen(Box::new(writer)), Seat::ToOpen(Box::new(reader))))
        };
        Self { lanes: PerProcess::new(lanes, again) }
    }
}

/// The future that does this in a lane of the process, or fails because it can have none.
macro_rules! run {
    ($store:ident.$lane:ident, $($argument:tt)*) => {
        async move { $store.lanes.here()?.$lane.run($($argument)*).await }
    };
}

impl Store for SqliteStore {
    fn plans(&self, call: Call) -> StoreFuture<'_, Option<StoredPlans>> {
        Box::pin(async move {
            let row = run!(self.reader, call.wait, |batch| {
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

    fn put_plans<'a>(&'a self, call: Call, plans: &'a Plans, event: &'a Event) -> StoreFuture<'a, u64> {
        let (document, event) = (plans.to_json(), event.clone());
        Box::pin(run!(self.writer, call.wait, move |batch| {
            let version = batch
                .connection
                .query_row(
                    "INSERT INTO plans (id, version, document) VALUES (1, 1, ?1)
                     ON CONFLICT (id) DO UPDATE SET version = version + 1, document = excluded.document
                     RETURNING version",
                    (&document,),
                    |row| row.get(0).map(i64::unsigned_abs),
                )
                .map_err(failure)?;
            log::append(batch.connection, &event)?;
            Ok(version)
        }))
    }

    fn subscription<'a>(&'a self, call: Call, subject: &'a str) -> StoreFuture<'a, Option<Subscription>> {
        let subject = subject.to_owned();
        Box::pin(async move {
            let row = run!(self.reader, call.wait, move |batch| SubscriptionRow::read(batch.connection, &subject));
            row.await?.map(SubscriptionRow::into_subscription).transpose()
        })
    }

    fn put_subscription<'a>(
        &'a self,
        call: Call,
        subject: &'a str,
        subscription: &'a Subscription,
        event: &'a Event,
    ) -> StoreFuture<'a, ()> {
        let (subject, row, event) = (subject.to_owned(), SubscriptionRow::of(subscription), event.clone());
        Box::pin(run!(self.writer, call.wait, move |batch| {
            row.write(batch.connection, &subject)?;
            log::append(batch.connection, &event)
        }))
    }

    fn swap_subscription<'a>(
        &'a self,
        call: Call,
        subject: &'a str,
        from: Option<&'a Subscription>,
        to: &'a Subscription,
        event: &'a Event,
    ) -> StoreFuture<'a, Option<Subscription>> {
        let (subject, from, to, event) = (subject.to_owned(), from.cloned(), to.clone(), event.clone());
        Box::pin(run!(self.writer, call.wait, move |batch| {
            let (kept, swapped) = subscription::swap(batch.connection, &subject, from.as_ref(), &to)?;
            if swapped {
                log::append(batch.connection, &event)?;
            }
            Ok(kept)
        }))
    }

    fn subscribers<'a>(&'a self, call: Call, query: &'a SubscriberQuery) -> StoreFuture<'a, Vec<Subscriber>> {
        let query = query.clone();
        Box::pin(run!(self.reader, call.wait, move |batch| subscription::list(batch.connection, &query)))
    }

    fn census(&self, call: Call) -> StoreFuture<'_, Vec<Census>> {
        Box::pin(run!(self.reader, call.wait, |batch| subscription::census(batch.connection)))
    }

    fn charge<'a>(&'a self, call: Call, charges: &'a [Charge], once: Option<&'a Once>) -> StoreFuture<'a, Charged> {
        let (charges, once) = (charges.to_vec(), once.cloned());
        Box::pin(run!(self.writer, call.wait, move |batch| batch.charge(call.now, &charges, once.as_ref())))
    }

    fn hold<'a>(&'a self, call: Call, hold: &'a Hold) -> StoreFuture<'a, Charged> {
        let hold = hold.clone();
        Box::pin(run!(self.writer, call.wait, move |batch| batch.hold(call.now, &hold)))
    }

    fn settle<'a>(&'a self, call: Call, settle: &'a Settle) -> StoreFuture<'a, Settled> {
        let settle = settle.clone();
        Box::pin(run!(self.writer, call.wait, move |batch| batch.settle(call.now, &settle)))
    }

    fn lease<'a>(&'a self, call: Call, lease: &'a Lease) -> StoreFuture<'a, Leased> {
        let lease = lease.clone();
        Box::pin(run!(self.writer, call.wait, move |batch| batch.lease(call.now, &lease)))
    }

    fn is_worth_leasing(&self) -> bool {
        true
    }

    fn balances<'a>(&'a self, call: Call, keys: &'a [CounterKey]) -> StoreFuture<'a, Vec<Balance>> {
        let keys = keys.to_vec();
        Box::pin(run!(self.reader, call.wait, move |batch| batch.balances(call.now, &keys)))
    }

    fn adjust<'a>(
        &'a self,
        call: Call,
        adjustments: &'a [Adjustment],
        once: Option<&'a Once>,
        event: &'a Event,
    ) -> StoreFuture<'a, Charged> {
        let (adjustments, once, event) = (adjustments.to_vec(), once.cloned(), event.clone());
        Box::pin(run!(self.writer, call.wait, move |batch| batch.adjust(call.now, &adjustments, once.as_ref(), &event)))
    }

    fn rate<'a>(&'a self, call: Call, rate: &'a SharedRate) -> StoreFuture<'a, Paced> {
        let rate = rate.clone();
        Box::pin(run!(self.writer, call.wait, move |batch| batch.pace(call.now.as_millisecond(), &rate)))
    }

    fn identity<'a>(&'a self, call: Call, token: &'a TokenDigest) -> StoreFuture<'a, Option<KeptIdentity>> {
        let token = *token;
        Box::pin(run!(self.reader, call.wait, move |batch| identity::read(batch.connection, call.now, &token)))
    }

    fn put_identity<'a>(
        &'a self,
        call: Call,
        token: &'a TokenDigest,
        kept: &'a KeptIdentity,
        followed: u64,
    ) -> StoreFuture<'a, ()> {
        let (token, kept) = (*token, kept.clone());
        Box::pin(run!(self.writer, call.wait, move |batch| identity::put(
            batch.connection,
            call.now,
            &token,
            &kept,
            followed
        )))
    }

    fn forget_identities<'a>(&'a self, call: Call, which: &'a Forgotten, event: &'a Event) -> StoreFuture<'a, ()> {
        let (which, event) = (which.clone(), event.clone());
        Box::pin(run!(self.writer, call.wait, move |batch| {
            identity::forget(batch.connection, &which)?;
            log::append(batch.connection, &event)
        }))
    }

    fn record<'a>(&'a self, call: Call, events: &'a [Event]) -> StoreFuture<'a, ()> {
        let events = events.to_vec();
        Box::pin(run!(self.writer, call.wait, move |batch| log::record(batch.connection, call.now, &events)))
    }

    fn events<'a>(&'a self, call: Call, query: &'a EventQuery) -> StoreFuture<'a, Vec<Event>> {
        let query = query.clone();
        Box::pin(run!(self.reader, call.wait, move |batch| log::read(batch.connection, &query)))
    }
}
