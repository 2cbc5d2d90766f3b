//! An engine whose store answers what cannot be: whatever it says, nothing is granted on its word alone, nothing
//! panics, and nothing goes on for ever.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quotum::blocking::Quota;
use quotum::store::{
    Adjustment, Balance, Call, Census, Charge, Charged, CounterKey, Forgotten, Hold, KeptIdentity, Lease, Leased,
    MemoryStore, Once, Outcome, Paced, Receipt, Settle, Settled, SharedRate, Store, StoreError, StoreFuture,
    StoredPlans, Subscriber, SubscriberQuery,
};
use quotum::token::TokenDigest;
use quotum::{
    Clock, Decision, Enforcement, Error, Event, EventName, EventQuery, ManualClock, Overrides, Period, Plans, Reason,
    Subscription, Timestamp,
};

/// What the store says that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    None,
    /// Charges do not fit, by balances into which they do.
    Refused,
    /// The same once: the answer to a charge that was refused before there was room, asked for again.
    RefusedEarlier,
    /// Charges do not fit, by no balances.
    RefusedByNothing,
    /// Charges were made, and no balances are told.
    GrantedOnNothing,
    /// Nothing is told of any counter.
    NoBalances,
    /// The log begins anew with every page, which is always full.
    EndlessLog,
    /// A hold was settled on somebody else's counters.
    ReceiptOfOthers,
    /// No hold is known.
    UnknownHold,
    /// Somebody else was faster, whatever is changed.
    AlwaysSwapped,
    /// A subscription counts its days on Mars.
    ZoneOnMars,
}

#[derive(Debug)]
struct Liar {
    truth: MemoryStore,
    lie: Mutex<Lie>,
}

impl Liar {
    fn says(&self, lie: Lie) -> bool {
        *self.lie.lock().unwrap() == lie
    }

    fn charged(&self) -> Option<Charged> {
        let mut lie = self.lie.lock().unwrap();
        let told = *lie;
        if told == Lie::RefusedEarlier {
            *lie = Lie::None;
        }
        Some(match told {
            Lie::Refused | Lie::RefusedEarlier => Charged::new(Outcome::Refused, vec![Balance::of(1); 4]),
            Lie::RefusedByNothing => Charged::new(Outcome::Refused, Vec::new()),
            Lie::GrantedOnNothing => Charged::new(Outcome::Granted, Vec::new()),
            _ => return None,
        })
    }
}

/// An answer that the store does not have to look for.
fn at_once<'a, T: Send + 'a>(answer: T) -> StoreFuture<'a, T> {
    Box::pin(std::future::ready(Ok(answer)))
}

impl Store for Liar {
    fn plans(&self, call: Call) -> StoreFuture<'_, Option<StoredPlans>> {
        self.truth.plans(call)
    }

    fn put_plans<'a>(&'a self, call: Call, plans: &'a Plans, event: &'a Event) -> StoreFuture<'a, u64> {
        self.truth.put_plans(call, plans, event)
    }

    fn subscription<'a>(&'a self, call: Call, subject: &'a str) -> StoreFuture<'a, Option<Subscription>> {
        if self.says(Lie::ZoneOnMars) {
            let mut subscription = Subscription::active("free", Timestamp::UNIX_EPOCH);
            subscription.zone = Some("Mars/Olympus".to_owned());
            return at_once(Some(subscription));
        }
        self.truth.subscription(call, subject)
    }

    fn put_subscription<'a>(
        &'a self,
        call: Call,
        subject: &'a str,
        subscription: &'a Subscription,
        event: &'a Event,
    ) -> StoreFuture<'a, ()> {
        self.truth.put_subscription(call, subject, subscription, event)
    }

    fn swap_subscription<'a>(
        &'a self,
        call: Call,
        subject: &'a str,
        from: Option<&'a Subscription>,
        to: &'a Subscription,
        event: &'a Event,
    ) -> StoreFuture<'a, Option<Subscription>> {
        if self.says(Lie::AlwaysSwapped) {
            return at_once(Some(Subscription::active("pro", Timestamp::UNIX_EPOCH)));
        }
        self.truth.swap_subscription(call, subject, from, to, event)
    }

    fn subscribers<'a>(&'a self, call: Call, query: &'a SubscriberQuery) -> StoreFuture<'a, Vec<Subscriber>> {
        self.truth.subscribers(call, query)
    }

    fn census(&self, call: Call) -> StoreFuture<'_, Vec<Census>> {
        self.truth.census(call)
    }

    fn charge<'a>(&'a self, call: Call, charges: &'a [Charge], once: Option<&'a Once>) -> StoreFuture<'a, Charged> {
        self.charged().map_or_else(|| self.truth.charge(call, charges, once), at_once)
    }

    fn hold<'a>(&'a self, call: Call, hold: &'a Hold) -> StoreFuture<'a, Charged> {
        self.charged().map_or_else(|| self.truth.hold(call, hold), at_once)
    }

    fn rate<'a>(&'a self, call: Call, rate: &'a SharedRate) -> StoreFuture<'a, Paced> {
        self.truth.rate(call, rate)
    }

    fn lease<'a>(&'a self, call: Call, lease: &'a Lease) -> StoreFuture<'a, Leased> {
        self.truth.lease(call, lease)
    }

    fn settle<'a>(&'a self, call: Call, settle: &'a Settle) -> StoreFuture<'a, Settled> {
        if self.says(Lie::UnknownHold) {
            return at_once(Settled::Unknown);
        }
        if self.says(Lie::ReceiptOfOthers) {
            let key = CounterKey::of("eve", "gold", Period::Year, -1);
            let part = quotum::store::settle_one(
                &Charge { key, amount: 1, limit: quotum::Limit::Units(1) },
                &settle.used,
                Balance::of(5).holding(1),
            );
            return at_once(Settled::Now(Receipt { at: Timestamp::MAX, parts: vec![part] }));
        }
        self.truth.settle(call, settle)
    }

    fn balances<'a>(&'a self, call: Call, keys: &'a [CounterKey]) -> StoreFuture<'a, Vec<Balance>> {
        let keys = if self.says(Lie::NoBalances) { &[] } else { keys };
        self.truth.balances(call, keys)
    }

    fn adjust<'a>(
        &'a self,
        call: Call,
        adjustments: &'a [Adjustment],
        once: Option<&'a Once>,
        event: &'a Event,
    ) -> StoreFuture<'a, Charged> {
        self.truth.adjust(call, adjustments, once, event)
    }

    fn identity<'a>(&'a self, call: Call, token: &'a TokenDigest) -> StoreFuture<'a, Option<KeptIdentity>> {
        self.truth.identity(call, token)
    }

    fn put_identity<'a>(
        &'a self,
        call: Call,
        token: &'a TokenDigest,
        kept: &'a KeptIdentity,
        followed: u64,
    ) -> StoreFuture<'a, ()> {
        self.truth.put_identity(call, token, kept, followed)
    }

    fn forget_identities<'a>(&'a self, call: Call, which: &'a Forgotten, event: &'a Event) -> StoreFuture<'a, ()> {
        self.truth.forget_identities(call, which, event)
    }

    fn record<'a>(&'a self, call: Call, events: &'a [Event]) -> StoreFuture<'a, ()> {
        self.truth.record(call, events)
    }

    fn events<'a>(&'a self, call: Call, query: &'a EventQuery) -> StoreFuture<'a, Vec<Event>> {
        if self.says(Lie::EndlessLog) {
            let event = |sequence| {
                let mut event = Event::new(EventName::SubscriptionChanged, Timestamp::UNIX_EPOCH);
                event.sequence = sequence;
                event
            };
            return at_once((1..=query.limit as u64).map(event).collect());
        }
        self.truth.events(call, query)
    }
}

struct Backend {
    store: Arc<Liar>,
    clock: Arc<ManualClock>,
    quota: Quota,
}

impl Backend {
    /// With a store that has told the truth until now.
    fn new() -> Self {
        let store = Arc::new(Liar { truth: MemoryStore::new(), lie: Mutex::new(Lie::None) });
        let clock = Arc::new(ManualClock::at("2026-03-10T15:00:00Z".parse().unwrap()));
        Self { quota: open_on(&store, &clock), store, clock }
    }

    fn says(&self, lie: Lie) {
        *self.store.lie.lock().unwrap() = lie;
    }

    fn consume(&self, units: u64) -> Decision {
        self.quota.consume("ana", &[("jobs", units), ("calls", 1)]).unwrap()
    }

    fn used(&self) -> Vec<u64> {
        self.says(Lie::None);
        self.quota.usage("ana").unwrap().quotas.iter().map(|state| state.used).collect()
    }
}

fn open_on(store: &Arc<Liar>, clock: &Arc<ManualClock>) -> Quota {
    let plans = "default_plan = 'free'\n[plans.free]\nquotas = { jobs = '10/day', calls = '100/month' }\n\
                 allow_degraded = { jobs = 5, calls = 5 }\n[plans.pro]\nrank = 1";
    Quota::builder().plans(Plans::from_toml(plans).unwrap()).clock(clock.clone()).open_on(store.clone()).unwrap()
}

/// Does something that must come to an end.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, outcome) = channel();
    std::thread::spawn(move || done.send(work()));
    outcome.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("it goes on and on"))
}

#[track_caller]
fn in_doubt(decision: &Decision, what: &str) {
    let denial = decision.denied.as_ref().unwrap();
    assert_eq!(denial.reason, Reason::StoreUnavailable);
    assert!(denial.cause.as_ref().unwrap().contains(&format!("it broke its contract: {what}")), "{denial:?}");
    assert!(denial.retry_after_ms.is_some() && !decision.degraded);
}

/// Nor is anything granted as without the store: it has answered.
#[test]
fn what_is_refused_although_it_fits_is_denied_for_the_store() {
    let backend = Backend::new();
    assert!(backend.consume(1).allowed);
    for (lie, what) in [(Lie::Refused, "it refused charges that fit"), (Lie::RefusedByNothing, "it left out balances")]
    {
        backend.says(lie);
        in_doubt(&backend.consume(1), what);
        let reserved = backend.quota.reserve("ana", &[("jobs", 1)], Duration::from_secs(9)).unwrap();
        in_doubt(&reserved.unwrap_err(), what);
        in_doubt(&backend.quota.consume_once("ana", &[("jobs", 1)], "key").unwrap(), what);
    }
    backend.quota.set_enforcement(None, Enforcement::Shadow).unwrap();
    let decision = backend.consume(1);
    assert!(decision.allowed && decision.would_deny.unwrap().reason == Reason::StoreUnavailable);
    assert_eq!(backend.used(), [1, 1]);
    backend.quota.set_enforcement(None, Enforcement::Enforce).unwrap();
    assert!(backend.consume(1).allowed, "it is believed again once it can be");
}

/// No lie at all: a server that is asked again for a lost answer tells what its counters hold now.
#[test]
fn what_was_refused_before_there_was_room_is_decided_once_more() {
    let backend = Backend::new();
    backend.says(Lie::RefusedEarlier);
    assert!(backend.consume(1).allowed);
    backend.says(Lie::RefusedEarlier);
    let reserved = backend.quota.reserve("ana", &[("jobs", 1)], Duration::from_secs(9)).unwrap().unwrap();
    reserved.commit(&[("jobs", 1)]).unwrap();
    assert_eq!(backend.used(), [1, 2]);
    // A refusal that holds is a denial like any other.
    backend.says(Lie::RefusedEarlier);
    assert_eq!(backend.consume(9).denied.unwrap().reason, Reason::QuotaExhausted);
    assert_eq!(backend.used(), [1, 2]);
}

#[test]
fn a_charge_that_was_made_stands_although_no_balances_are_told() {
    let backend = Backend::new();
    backend.says(Lie::GrantedOnNothing);
    assert!(backend.consume(1).allowed);
    let reserved = backend.quota.reserve("ana", &[("jobs", 1)], Duration::from_secs(9)).unwrap().unwrap();
    assert!(matches!(reserved.commit(&[("jobs", 1)]), Err(Error::HoldUnknown { .. })));
}

#[test]
fn counters_that_nothing_is_told_of_are_not_shown_as_unused() {
    let backend = Backend::new();
    assert!(backend.consume(3).allowed);
    backend.says(Lie::NoBalances);
    let error = backend.quota.usage("ana").unwrap_err();
    assert!(matches!(error, Error::Store(StoreError::Failed { .. })), "{error}");
    assert!(error.to_string().contains("it broke its contract: it left out balances"), "{error}");
    in_doubt(&backend.quota.check("ana", &[("jobs", 1)]).unwrap(), "it left out balances");
    // A denial stands although no dearer plan can be suggested.
    assert_eq!(backend.consume(8).denied.unwrap().reason, Reason::QuotaExhausted);
    assert_eq!(backend.used(), [1, 3]);
}

#[test]
fn a_log_that_never_ends_is_left_off() {
    let backend = Backend::new();
    assert!(backend.consume(1).allowed);
    backend.says(Lie::EndlessLog);
    let (store, clock) = (Arc::clone(&backend.store), Arc::clone(&backend.clock));
    let opened = in_time(move || open_on(&store, &clock));
    assert!(opened.consume("ana", &[("jobs", 1)]).unwrap().allowed);
    // In turn by the request itself, which has found nobody following for long, and aside.
    for pause in [60_000, 1_100, 1_100, 60_000] {
        backend.clock.advance(Duration::from_millis(pause));
        let quota = backend.quota.clone();
        assert!(in_time(move || quota.consume("ana", &[("jobs", 1)]).unwrap().allowed));
    }
    in_time(move || drop(backend));
}

#[test]
fn a_reservation_is_settled_as_the_store_says_or_not_at_all() {
    let backend = Backend::new();
    let reserve = || backend.quota.reserve("ana", &[("jobs", 2)], Duration::from_secs(60)).unwrap().unwrap();
    let reservation = reserve();
    backend.says(Lie::ReceiptOfOthers);
    let settlement = reservation.commit(&[("jobs", 1)]).unwrap();
    assert_eq!(settlement.consumed("jobs"), 0);
    backend.says(Lie::None);
    let reservation = reserve();
    backend.says(Lie::UnknownHold);
    assert!(matches!(reservation.commit(&[("jobs", 1)]), Err(Error::HoldUnknown { .. })));
    backend.clock.advance(Duration::from_secs(61));
    assert_eq!(backend.used(), [0, 0], "what was held has expired");
}

#[test]
fn a_change_that_is_never_made_is_given_up() {
    let backend = Backend::new();
    let active = Subscription::active("free", backend.clock.wall());
    backend.quota.subscribe("ana", active).unwrap();
    backend.says(Lie::AlwaysSwapped);
    let quota = backend.quota.clone();
    let mut overrides = Overrides::default();
    overrides.quotas.insert("jobs".to_owned(), vec!["20/day".parse().unwrap()]);
    let outcomes = in_time(move || [quota.set_overrides("ana", overrides).map(drop), quota.cancel("ana").map(drop)]);
    for outcome in outcomes {
        assert!(matches!(outcome, Err(Error::Store(StoreError::Busy { .. }))), "{outcome:?}");
    }
}

/// It was checked when it was put: the store's data is wrong, and not what the caller asks for.
#[test]
fn a_subscription_in_a_zone_that_is_not_there_is_the_stores_failure() {
    let backend = Backend::new();
    backend.says(Lie::ZoneOnMars);
    let denial = backend.quota.consume("bob", &[("jobs", 1)]).unwrap().denied.unwrap();
    assert_eq!(denial.reason, Reason::StoreUnavailable);
    assert!(denial.cause.as_ref().unwrap().contains("Mars/Olympus"), "{denial:?}");
    let error = backend.quota.usage("bob").unwrap_err();
    assert!(matches!(error, Error::Store(StoreError::Damaged { .. })), "{error}");
    backend.says(Lie::None);
    assert!(backend.quota.consume("bob", &[("jobs", 1)]).unwrap().allowed);
}
