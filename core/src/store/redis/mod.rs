//! The Redis store: keys under a prefix on a Redis server, or on a cluster of them.
//!
//! Each method is one call of a script (`scripts/*.lua`), and so one round trip in which nothing else happens on the
//! server. [`names`] says which keys there are and in which slots of a cluster, [`script`] what is sent, [`failure`]
//! what errors mean; [`server`] and [`connection`] send it. How answers are read is in [`reply`], [`counter`],
//! [`subscription`] and [`log`]; how the store is opened in [`options`] and [`opening`]; what a cluster needs in more
//! than one step in [`outbox`] and [`holders`].

mod charging;
mod connection;
mod counter;
mod failure;
mod holders;
mod log;
mod names;
mod opening;
mod options;
mod outbox;
mod reply;
mod script;
mod server;
mod subscription;

use std::sync::Arc;

use futures_channel::oneshot;
use redis::Value;

use self::charging::Charger;
use self::failure::damaged;
use self::holders::Holders;
use self::log::{Entry, on_log};
use self::names::Names;
pub use self::options::RedisOptions;
use self::reply::Reply;
use self::script::{
    ADJUST, BALANCES, CHARGE, FORGET_IDENTITIES, HOLD, IDENTITY, LEASE, PUT_IDENTITY, PUT_PLANS, RATE, RECORD, SETTLE,
    Step, json,
};
use self::server::{Shared, Threads};
use super::combining::Combiner;
use super::{
    Adjustment, Balance, Call, Census, Charge, Charged, CounterKey, Forgotten, Hold, KeptIdentity, Lease, Leased, Once,
    Outcome, Paced, Settle, Settled, SharedRate, SharedWindow, Store, StoreError, StoreFuture, StoredPlans, Subscriber,
    SubscriberQuery,
};
use crate::HoldId;
use crate::event::{Event, EventName, EventQuery};
use crate::fork::PerProcess;
use crate::plan::Plans;
use crate::subscription::Subscription;
use crate::token::TokenDigest;

/// A store on a Redis server of version 7 or newer, on Valkey, or on a cluster of either. Tested with Redis 7.0 and Valkey
/// 8.0.
///
/// Any number of processes on any number of machines may share one prefix. What was acknowledged is as durable as the
/// server makes it: with `appendonly yes` and `appendfsync everysec`, a crash of its machine loses the last second.
/// A replica that takes over after a failure lacks what had not reached it: charges, which are then granted again,
/// and holds, which are then unknown.
///
/// The counters that one step is on must be one account's, as they always are in an engine. While a cluster's slot is
/// being moved, its accounts wait until that is done.
///
/// Two threads of the store's own talk to the server, for callers of any executor and of none. Dropping the store
/// waits for nothing: a step under way is made whole or not at all.
#[derive(Debug)]
pub struct RedisStore {
    own: PerProcess<Own, StoreError>,
    is_cluster: bool,
    names: Arc<Names>,
}

/// What each process has for itself: threads, connections, and what it remembers.
#[derive(Debug)]
struct Own {
    threads: Threads,
    server: Shared,
    holders: Arc<Holders>,
    combiner: Arc<Combiner>,
}

impl Own {
    fn new(threads: Threads, server: Shared) -> Self {
        Self { threads, server, holders: Arc::new(Holders::new()), combiner: Arc::default() }
    }
}

/// What this process has, or a future that fails because it can have none.
macro_rules! own {
    ($store:expr) => {
        match $store.own.here() {
            Ok(own) => own,
            Err(error) => return unsent(Err(error)),
        }
    };
}

impl RedisStore {
    /// `start` makes what a child process has for itself.
    fn new(own: Own, names: Names, start: impl Fn() -> Result<Own, StoreError> + Send + Sync + 'static) -> Self {
        let is_cluster = own.server.is_cluster();
        let own = PerProcess::new(Arc::new(own), move |_| start().map(Arc::new));
        Self { own, is_cluster, names: Arc::new(names) }
    }

    /// Makes a step, and reads what comes back.
    fn ask<'a, T: Send + 'static>(
        &'a self,
        step: Step,
        read: impl FnOnce(Value) -> Result<T, StoreError> + Send + 'static,
    ) -> StoreFuture<'a, T> {
        Box::pin(async move {
            let own = self.own.here()?;
            let server = Arc::clone(&own.server);
            let (answer, answered) = oneshot::channel();
            own.threads.spawn(async move {
                let made = server.make_if_wanted(&step, &|| !answer.is_canceled()).await;
                // Where the caller is gone, nobody is told.
                let _gone = answer.send(made.and_then(read));
            })?;
            answered.await.unwrap_or_else(|_| Err(server::stopped()))
        })
    }

    /// Makes a step of which only the doing matters.
    fn tell(&self, step: Step) -> StoreFuture<'_, ()> {
        self.ask(step, |_| Ok(()))
    }

    /// Charges counters, together with others of this process who charge the same ones.
    fn charge_together<'a>(&'a self, call: Call, charges: &'a [Charge]) -> StoreFuture<'a, Charged> {
        Box::pin(async move {
            // Those of another account would never be charged.
            counter::payer(charges.iter().map(|charge| &charge.key))?;
            let own = self.own.here()?;
            let (answer, lead) = own.combiner.join(call.now, charges);
            if let Some(lead) = lead {
                let (server, names) = (Arc::clone(&own.server), Arc::clone(&self.names));
                own.threads.spawn(lead.take(Arc::new(Charger { server, names })))?;
            }
            answer.await.unwrap_or_else(|_| Err(server::stopped()))
        })
    }

    /// A step on the counters of an account.
    fn on_account(&self, script: &'static script::Script, call: Call, payer: &str) -> Step {
        Step::of(script, call.now, self.names.account(payer))
    }

    /// The payer to note in the hold's own script: on a cluster that is done before, in another slot.
    fn pointer_in_step(&self, step: Step, id: HoldId) -> Step {
        if self.is_cluster { step } else { step.on(self.names.pointer(id)) }
    }

    /// Makes the step that opens a hold or a lease, once others can find its account.
    fn open_hold<'a, T: Send + 'static>(
        &'a self,
        opened: Opened,
        step: Step,
        read: impl FnOnce(Value) -> Result<T, StoreError> + Send + 'static,
    ) -> StoreFuture<'a, T> {
        let own = own!(self);
        let (server, names, holders) = (Arc::clone(&own.server), Arc::clone(&self.names), Arc::clone(&own.holders));
        own.threads.run(async move {
            let Opened { id, payer, kept_ms } = opened;
            holders.note(id, &payer);
            if server.is_cluster() {
                holders::point(&server, &names, id, &payer, kept_ms).await?;
            }
            read(server.make(&step).await?)
        })
    }
}

/// A hold or a lease that is to be made.
struct Opened {
    id: HoldId,
    payer: Arc<str>,
    /// For how long it is remembered.
    kept_ms: i64,
}

/// A future that is ready with what needs no server.
fn unsent<'a, T: Send + 'a>(answer: Result<T, StoreError>) -> StoreFuture<'a, T> {
    Box::pin(std::future::ready(answer))
}

/// The value, unless it cannot be had.
macro_rules! whole {
    ($value:expr) => {
        match $value {
            Ok(value) => value,
            Err(error) => return unsent(Err(error)),
        }
    };
}

impl Store for RedisStore {
    fn plans(&self, _: Call) -> StoreFuture<'_, Option<StoredPlans>> {
        let step = Step::command("HMGET", self.names.of("plans")).with("version").with("document");
        self.ask(step, |value| {
            let mut reply = Reply::of("its plans", value)?;
            let (Value::BulkString(version), document) = (reply.next()?, reply.next()?) else { return Ok(None) };
            let version = reply::number("its plans", &Value::BulkString(version))?;
            let Value::BulkString(document) = document else { return Err(damaged("its plans", &"they are lacking")) };
            let document = String::from_utf8_lossy(&document);
            let plans = Plans::from_json(&document).map_err(|error| damaged("its plans", &error))?;
            Ok(Some(StoredPlans { version: version.unsigned_abs(), plans }))
        })
    }

    fn put_plans<'a>(&'a self, call: Call, plans: &'a Plans, event: &'a Event) -> StoreFuture<'a, u64> {
        let entry = whole!(Entry::of(&self.names, event));
        let step = on_log(Step::of(&PUT_PLANS, call.now, vec![self.names.of("plans")]), &self.names);
        let step = entry.append_to(step.with(plans.to_json()));
        self.ask(step, |value| Ok(reply::number("its plans", &value)?.unsigned_abs()))
    }

    fn subscription<'a>(&'a self, _: Call, subject: &'a str) -> StoreFuture<'a, Option<Subscription>> {
        let step = Step::command("HGET", self.names.of("subscriptions")).with(subject);
        self.ask(step, |value| match value {
            Value::BulkString(bytes) => subscription::parse(&String::from_utf8_lossy(&bytes)).map(Some),
            _ => Ok(None),
        })
    }

    fn put_subscription<'a>(
        &'a self,
        call: Call,
        subject: &'a str,
        subscription: &'a Subscription,
        event: &'a Event,
    ) -> StoreFuture<'a, ()> {
        let step = whole!(subscription::putting(&self.names, call, subject, subscription));
        self.tell(step("*", whole!(Entry::of(&self.names, event))))
    }

    fn swap_subscription<'a>(
        &'a self,
        call: Call,
        subject: &'a str,
        from: Option<&'a Subscription>,
        to: &'a Subscription,
        event: &'a Event,
    ) -> StoreFuture<'a, Option<Subscription>> {
        let step = whole!(subscription::putting(&self.names, call, subject, to));
        let own = own!(self);
        let (server, names) = (Arc::clone(&own.server), Arc::clone(&self.names));
        let (from, event) = (from.cloned(), event.clone());
        own.threads.run(async move { subscription::swap(&server, &names, step, from, &event).await })
    }

    fn subscribers<'a>(&'a self, call: Call, query: &'a SubscriberQuery) -> StoreFuture<'a, Vec<Subscriber>> {
        let own = own!(self);
        let (server, names, query) = (Arc::clone(&own.server), Arc::clone(&self.names), query.clone());
        own.threads.run(async move { subscription::list(&server, &names, call, &query).await })
    }

    fn census(&self, _: Call) -> StoreFuture<'_, Vec<Census>> {
        self.ask(Step::command("HGETALL", self.names.of("census")), subscription::census)
    }

    fn charge<'a>(&'a self, call: Call, charges: &'a [Charge], once: Option<&'a Once>) -> StoreFuture<'a, Charged> {
        let Some(once) = once else { return self.charge_together(call, charges) };
        let payer = whole!(counter::payer(charges.iter().map(|charge| &charge.key)));
        let payer = payer.unwrap_or_else(|| Arc::clone(&once.subject));
        let keys = whole!(counter::remembered(charges.iter().map(|charge| &charge.key)));
        let step = counter::with_once(self.on_account(&CHARGE, call, &payer).with("0"), Some(once));
        let step = step.on(self.names.step(&payer, once)).with(keys).named();
        self.ask(counter::with_charges(step, charges), counter::charged)
    }

    fn hold<'a>(&'a self, call: Call, hold: &'a Hold) -> StoreFuture<'a, Charged> {
        let keys = || hold.charges.iter().map(|charge| &charge.key);
        let payer = whole!(counter::payer(keys())).unwrap_or_else(|| "".into());
        let step = self.pointer_in_step(self.on_account(&HOLD, call, &payer), hold.id);
        let step = step
            .with(hold.id.to_bytes())
            .with(if self.is_cluster { "0" } else { "1" })
            .with(payer.as_bytes())
            .with_time(hold.expires_at)
            .with_time(hold.kept_until);
        let mut step = counter::with_once(step, hold.once.as_ref()).with(whole!(counter::remembered(keys())));
        if let Some(once) = &hold.once {
            step = step.on(self.names.step(&payer, once));
        }
        let step = counter::with_metrics(counter::with_charges(step, &hold.charges), &hold.charges).named();
        let opened = Opened { id: hold.id, payer, kept_ms: kept_ms(call, hold.kept_until) };
        self.open_hold(opened, step, counter::charged)
    }

    fn settle<'a>(&'a self, call: Call, settle: &'a Settle) -> StoreFuture<'a, Settled> {
        let own = own!(self);
        let (server, names, holders) = (Arc::clone(&own.server), Arc::clone(&self.names), Arc::clone(&own.holders));
        let settle = settle.clone();
        own.threads.run(async move {
            let Some(payer) = holders.find(&server, &names, settle.id).await? else { return Ok(Settled::Unknown) };
            let step = Step::of(&SETTLE, call.now, names.account(&payer)).with(settle.id.to_bytes()).named();
            counter::settled(server.make(&counter::with_used(step, &settle)).await?)
        })
    }

    fn lease<'a>(&'a self, call: Call, lease: &'a Lease) -> StoreFuture<'a, Leased> {
        let keys = || lease.charges.iter().map(|charge| &charge.key);
        let payer = whole!(counter::payer(keys())).unwrap_or_else(|| "".into());
        let step = self.pointer_in_step(self.on_account(&LEASE, call, &payer), lease.id);
        let step = match &lease.settle {
            Some(settle) => counter::with_used(step.with(settle.id.to_bytes()), settle),
            None => step.with(""),
        };
        let step = step
            .with(lease.id.to_bytes())
            .with(if self.is_cluster { "0" } else { "1" })
            .with(payer.as_bytes())
            .with_number(lease.least)
            .with_time(lease.expires_at)
            .with_time(lease.kept_until)
            .with(whole!(counter::remembered(keys())));
        let step = counter::with_metrics(counter::with_charges(step, &lease.charges), &lease.charges).named();
        let opened = Opened { id: lease.id, payer, kept_ms: kept_ms(call, lease.kept_until) };
        let settles = lease.settle.is_some();
        self.open_hold(opened, step, move |value| counter::leased(value, settles))
    }

    fn is_worth_leasing(&self) -> bool {
        true
    }

    fn balances<'a>(&'a self, call: Call, keys: &'a [CounterKey]) -> StoreFuture<'a, Vec<Balance>> {
        // One step for each account that they are of, which is one most often.
        let mut accounts: Vec<(Arc<str>, Vec<usize>)> = Vec::new();
        for (place, key) in keys.iter().enumerate() {
            match accounts.iter_mut().find(|(payer, _)| payer == key.payer()) {
                Some((_, places)) => places.push(place),
                None => accounts.push((Arc::clone(key.payer()), vec![place])),
            }
        }
        let step = |(payer, places): (Arc<str>, Vec<usize>)| {
            let of_account = places.iter().filter_map(|place| keys.get(*place));
            let step = Step::reading(&BALANCES, call.now, self.names.account(&payer));
            (of_account.fold(step.with_number(places.len() as i64), counter::with_key), places)
        };
        let steps: Vec<(Step, Vec<usize>)> = accounts.into_iter().map(step).collect();
        let own = own!(self);
        let (server, count) = (Arc::clone(&own.server), keys.len());
        own.threads.run(async move {
            let mut found = vec![Balance::default(); count];
            for (step, places) in steps {
                for (place, balance) in places.into_iter().zip(counter::balances(server.make(&step).await?)?) {
                    if let Some(slot) = found.get_mut(place) {
                        *slot = balance;
                    }
                }
            }
            Ok(found)
        })
    }

    fn adjust<'a>(
        &'a self,
        call: Call,
        adjustments: &'a [Adjustment],
        once: Option<&'a Once>,
        event: &'a Event,
    ) -> StoreFuture<'a, Charged> {
        let keys = || adjustments.iter().map(|adjustment| &adjustment.key);
        let Some(payer) = whole!(counter::payer(keys())).or_else(|| once.map(|once| Arc::clone(&once.subject))) else {
            return unsent(Ok(Charged::new(Outcome::Granted, Vec::new())));
        };
        let (own, entry) = (own!(self), whole!(Entry::of(&self.names, event)));
        let remembered = if once.is_some() { whole!(counter::remembered(keys())) } else { String::new() };
        let in_log = !self.is_cluster;
        let step = self.on_account(&ADJUST, call, &payer);
        let step = match once {
            once @ Some(_) => counter::with_once(step.named(), once),
            None => step.in_turn(self.names.turns(&payer)).with_number(own.server.seats_kept_ms()),
        };
        let step = step.with(remembered).with(if in_log { "1" } else { "0" }).with_number(adjustments.len() as i64);
        let step = adjustments.iter().fold(step, counter::with_adjustment);
        let last = once.map(|once| self.names.step(&payer, once));
        if in_log {
            let step = entry.append_to(on_log(step, &self.names));
            return self.ask(last.into_iter().fold(step, Step::on), counter::charged);
        }
        let name = whole!(HoldId::random().map_err(|error| damaged("randomness", &error))).to_string();
        let step = step.on(self.names.outbox(&payer)).with(entry.kept_as(&name));
        let step = last.into_iter().fold(step, Step::on);
        let (server, names) = (Arc::clone(&own.server), Arc::clone(&self.names));
        own.threads.run(async move {
            let note = outbox::note(&payer, &name);
            outbox::begin(&server, &names, call, &note).await?;
            let charged = counter::charged(server.make(&step).await?)?;
            // It is done. Where it cannot be told now, whoever reads the log next tells it.
            let _told_later = outbox::empty(&server, &names, call, &payer, &note).await;
            Ok(charged)
        })
    }

    fn rate<'a>(&'a self, call: Call, rate: &'a SharedRate) -> StoreFuture<'a, Paced> {
        let step = Step::of(&RATE, call.now, vec![self.names.rate(rate.name)]);
        let step = step.with_number(rate.windows.len() as i64);
        let with_window =
            |step: Step, window: &SharedWindow| step.with_number(window.cost_ns).with_number(window.full_ns);
        let windows = rate.windows.len();
        self.ask(rate.windows.iter().fold(step, with_window), move |value| {
            let mut reply = Reply::of("a rate", value)?;
            let allowed = reply.number()? == 1;
            let debts_ns =
                (0..windows).map(|_| Ok(reply.number()?.unsigned_abs())).collect::<Result<_, StoreError>>()?;
            Ok(Paced { allowed, debts_ns })
        })
    }

    fn identity<'a>(&'a self, call: Call, token: &'a TokenDigest) -> StoreFuture<'a, Option<KeptIdentity>> {
        let step = Step::reading(&IDENTITY, call.now, self.identity_keys()).with(token.to_hex());
        self.ask(step, |value| {
            let mut reply = Reply::of("an identity", value)?;
            if reply.is_over() {
                return Ok(None);
            }
            let identity = serde_json::from_str(&reply.text()?).map_err(|error| damaged("an identity", &error))?;
            Ok(Some(KeptIdentity { identity, until: counter::time(reply.number()?)? }))
        })
    }

    fn put_identity<'a>(
        &'a self,
        call: Call,
        token: &'a TokenDigest,
        kept: &'a KeptIdentity,
        followed: u64,
    ) -> StoreFuture<'a, ()> {
        let revoked = self.names.events_named(EventName::TokenForgotten.as_str());
        let step = Step::of(&PUT_IDENTITY, call.now, self.identity_keys())
            .on(revoked)
            .with(token.to_hex())
            .with(names::written(&kept.identity.subject))
            .with(whole!(json(&kept.identity)))
            .with_time(kept.until)
            .with_number(followed.min(1 << 53));
        self.tell(step)
    }

    fn forget_identities<'a>(&'a self, call: Call, which: &'a Forgotten, event: &'a Event) -> StoreFuture<'a, ()> {
        let (token, subject) = match which {
            Forgotten::Token(token) => (token.to_hex(), String::new()),
            Forgotten::Subject(subject) => (String::new(), names::written(subject)),
        };
        let step = Step::of(&FORGET_IDENTITIES, call.now, self.identity_keys());
        let step = on_log(step, &self.names).with(token).with(subject);
        self.tell(whole!(Entry::of(&self.names, event)).append_to(step))
    }

    fn record<'a>(&'a self, call: Call, events: &'a [Event]) -> StoreFuture<'a, ()> {
        let step = on_log(Step::of(&RECORD, call.now, Vec::new()), &self.names).with_number(events.len() as i64);
        let append = |step, event| Ok(Entry::of(&self.names, event)?.append_to(step));
        self.tell(whole!(events.iter().try_fold(step, append)))
    }

    fn events<'a>(&'a self, call: Call, query: &'a EventQuery) -> StoreFuture<'a, Vec<Event>> {
        let step = log::reading(&self.names, call, query);
        let own = own!(self);
        let (server, names) = (Arc::clone(&own.server), Arc::clone(&self.names));
        own.threads.run(async move {
            let (mended, under) = (Arc::clone(&server), Arc::clone(&names));
            server.mend_beside(async move { outbox::mend(&mended, &under, call).await });
            log::events(server.make(&step).await?)
        })
    }
}

impl RedisStore {
    fn identity_keys(&self) -> Vec<String> {
        ["identities", "tokens", "identity:ends"].map(|what| self.names.of(what)).to_vec()
    }
}

fn kept_ms(call: Call, kept_until: jiff::Timestamp) -> i64 {
    kept_until.as_millisecond().saturating_sub(call.now.as_millisecond()).max(1)
}
