//! The memory store: everything in this process, gone at its end. The reference that other stores are
//! compared with.

mod counters;
mod ledger;
mod log;
mod rates;
mod sweeps;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use dashmap::DashMap;
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};

use self::counters::Counters;
use self::ledger::Ledger;
use self::log::Log;
use self::rates::Rates;
use self::sweeps::Sweeps;
use super::{
    Adjustment, Balance, Call, Census, Charge, Charged, CounterKey, Forgotten, Hold, KeptIdentity, Lease, Leased, Once,
    Outcome, Paced, Settle, Settled, SharedRate, Store, StoreFuture, StoredPlans, Subscriber, SubscriberQuery,
    charge_all, lease_all,
};
use crate::event::{Event, EventName, EventQuery};
use crate::plan::Plans;
use crate::planted::planted;
use crate::subscription::Subscription;
use crate::token::TokenDigest;
use crate::usage::hold::Kind;

/// A store in memory. Exact, and shared by all threads of one process; it lasts as long as the
/// process.
///
/// ```
/// use std::sync::Arc;
/// use quotum::{Plans, blocking::Quota, store::MemoryStore};
///
/// let plans = Plans::from_toml("default_plan = 'free'\n[plans.free]\nquotas = { jobs = '2/day' }")?;
/// let quota = Quota::builder().plans(plans).open_on(Arc::new(MemoryStore::new()))?;
/// assert!(quota.consume("ana", &[("jobs", 2)])?.allowed);
/// # Ok::<(), quotum::Error>(())
/// ```
#[derive(Debug)]
pub struct MemoryStore {
    plans: Mutex<Option<StoredPlans>>,
    subscriptions: RwLock<BTreeMap<Arc<str>, Subscription>>,
    identities: DashMap<TokenDigest, KeptIdentity>,
    identity_sweeps: Mutex<Sweeps>,
    counters: Counters,
    /// Locked before any counter.
    ledger: Mutex<Ledger>,
    log: Mutex<Log>,
    rates: Mutex<Rates>,
    /// The latest time that anybody has told, in milliseconds: the store's own clock, by which holds
    /// expire. Were it to go back, a hold might be settled that has expired on some of its counters.
    latest_ms: AtomicI64,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self {
            plans: Mutex::default(),
            subscriptions: RwLock::default(),
            identities: DashMap::new(),
            identity_sweeps: Mutex::default(),
            counters: Counters::new(),
            ledger: Mutex::default(),
            log: Mutex::default(),
            rates: Mutex::default(),
            latest_ms: AtomicI64::new(i64::MIN),
        }
    }

    /// The store's time.
    fn now(&self, call: Call) -> Timestamp {
        let told_ms = call.now.as_millisecond();
        let latest_ms = self.latest_ms.fetch_max(told_ms, Ordering::AcqRel).max(told_ms);
        Timestamp::from_millisecond(latest_ms).unwrap_or(call.now)
    }

    fn put_plans_now(&self, plans: &Plans, event: &Event) -> u64 {
        let mut stored = self.plans.lock();
        let version = stored.as_ref().map_or(0, |stored| stored.version) + 1;
        *stored = Some(StoredPlans { version, plans: plans.clone() });
        self.log.lock().append(event);
        version
    }

    fn swap_subscription_now(
        &self,
        subject: &str,
        from: Option<&Subscription>,
        to: &Subscription,
        event: &Event,
    ) -> Option<Subscription> {
        let mut subscriptions = self.subscriptions.write();
        if subscriptions.get(subject) != from && !planted!("swap_overwrites_another_change") {
            return subscriptions.get(subject).cloned();
        }
        subscriptions.insert(subject.into(), to.clone());
        self.log.lock().append(event);
        Some(to.clone())
    }

    fn subscribers_now(&self, query: &SubscriberQuery) -> Vec<Subscriber> {
        let subscriptions = self.subscriptions.read();
        let wanted = subscriptions.iter().filter(|(subject, subscription)| query.wants(subject, subscription));
        let listed = wanted.take(query.limit).map(|(subject, subscription)| Subscriber {
            subject: Arc::clone(subject),
            subscription: subscription.clone(),
        });
        listed.collect()
    }

    fn census_now(&self) -> Vec<Census> {
        let mut counts = BTreeMap::new();
        for subscription in self.subscriptions.read().values() {
            *counts.entry((subscription.plan.clone(), subscription.status)).or_insert(0) += 1;
        }
        counts.into_iter().map(|((plan, status), subjects)| Census { plan, status, subjects }).collect()
    }

    fn put_identity_now(&self, call: Call, token: &TokenDigest, kept: &KeptIdentity, followed: u64) {
        // Under the log's lock, so that no revocation comes in between.
        let log = self.log.lock();
        let forgotten =
            EventQuery { after: followed, name: Some(EventName::TokenForgotten), limit: 1, ..EventQuery::changes() };
        if log.read(&forgotten).is_empty() {
            let mut sweeps = self.identity_sweeps.lock();
            if sweeps.are_due(self.identities.len()) && !self.identities.contains_key(token) {
                self.identities.retain(|_, kept| call.now < kept.until);
                sweeps.swept(self.identities.len());
            }
            self.identities.insert(*token, kept.clone());
        }
    }

    fn charge_now(&self, call: Call, charges: &[Charge], once: Option<&Once>) -> Charged {
        let now = self.now(call);
        let mut ledger = once.map(|_| self.ledger.lock());
        let earlier = once.and_then(|once| ledger.as_ref()?.recall(once, now));
        if let Some(earlier) = earlier {
            return earlier;
        }
        let charged = self.add(charges, call, Balance::charged);
        let made_now = charged.granted() || planted!("once_remembers_denials");
        let is_made = made_now && !planted!("once_forgets_what_was_done");
        if let (true, Some(once), Some(ledger)) = (is_made, once, ledger.as_mut()) {
            ledger.remember(once, now, made(charges.iter().map(|charge| &charge.key), &charged.balances), None);
        }
        charged
    }

    fn hold_now(&self, call: Call, hold: &Hold) -> Charged {
        let now = self.now(call);
        let mut ledger = self.ledger.lock();
        if let Some(earlier) = ledger.recall_hold(hold, now) {
            return earlier;
        }
        let charged = self.add(&hold.charges, call, Balance::holding);
        if charged.granted() {
            let mut counters = self.counters.lock(hold.charges.iter().map(|charge| &charge.key), || self.now(call));
            let one_only = if planted!("hold_expires_on_one_counter_only") { 1 } else { usize::MAX };
            for charge in hold.charges.iter().take(one_only) {
                counters.expire_later(charge, hold.id, Kind::Hold, hold.expires_at);
            }
            drop(counters);
            ledger.open(hold, now, made(hold.charges.iter().map(|charge| &charge.key), &charged.balances));
        }
        charged
    }

    /// Charges or holds, all or nothing.
    fn add(&self, charges: &[Charge], call: Call, add: fn(Balance, u64) -> Balance) -> Charged {
        let mut counters = self.counters.lock(charges.iter().map(|charge| &charge.key), || self.now(call));
        let read = |key: &CounterKey| Ok::<_, Infallible>(counters.balance(key));
        let Ok(charged) = charge_all(charges, read, add);
        if charged.granted() {
            for (charge, balance) in charges.iter().zip(&charged.balances) {
                counters.put(&charge.key, *balance);
            }
        } else if let (true, [first, _, ..]) = (planted!("refused_charge_is_partly_made"), charges) {
            let before = counters.balance(&first.key);
            counters.put(&first.key, add(before, first.amount));
        }
        charged
    }

    fn settle_now(&self, call: Call, settle: &Settle) -> Settled {
        self.settle_in(&mut self.ledger.lock(), call, settle)
    }

    fn settle_in(&self, ledger: &mut Ledger, call: Call, settle: &Settle) -> Settled {
        ledger.settle(settle, |charges| self.counters.lock(charges.iter().map(|charge| &charge.key), || self.now(call)))
    }

    fn lease_now(&self, call: Call, lease: &Lease) -> Leased {
        let now = self.now(call);
        let mut ledger = self.ledger.lock();
        let settled = lease.settle.as_ref().map(|settle| self.settle_in(&mut ledger, call, settle));
        if let Some((amount, balances)) = ledger.recall_lease(lease, now) {
            return Leased { settled, amount, balances };
        }
        let keys = || lease.charges.iter().map(|charge| &charge.key);
        let mut counters = self.counters.lock(keys(), || self.now(call));
        let before = keys().map(|key| counters.balance(key)).collect();
        let (amount, balances) = lease_all(&lease.charges, lease.least, before);
        if amount > 0 {
            let charges: Vec<Charge> = lease.charges.iter().map(|charge| Charge { amount, ..charge.clone() }).collect();
            for (charge, balance) in charges.iter().zip(&balances) {
                counters.put(&charge.key, *balance);
                counters.expire_later(charge, lease.id, Kind::Lease, lease.expires_at);
            }
            drop(counters);
            ledger.open_lease(lease, charges, now, made(keys(), &balances));
        }
        Leased { settled, amount, balances }
    }

    fn balances_now(&self, call: Call, keys: &[CounterKey]) -> Vec<Balance> {
        let mut counters = self.counters.lock(keys.iter(), || self.now(call));
        keys.iter().map(|key| counters.balance(key)).collect()
    }

    fn adjust_now(&self, call: Call, adjustments: &[Adjustment], once: Option<&Once>, event: &Event) -> Charged {
        let now = self.now(call);
        let mut ledger = self.ledger.lock();
        if let Some(earlier) = once.and_then(|once| ledger.recall(once, now)) {
            return earlier;
        }
        let mut counters = self.counters.lock(adjustments.iter().map(|adjustment| &adjustment.key), || self.now(call));
        let mut changed = false;
        let mut apply = |adjustment: &Adjustment| {
            let before = counters.balance(&adjustment.key);
            let after = adjustment.by.apply(before);
            // A counter that was never charged stays absent.
            if after != before {
                counters.put(&adjustment.key, after);
                changed = true;
            }
            after
        };
        let balances: Vec<Balance> = adjustments.iter().map(&mut apply).collect();
        drop(counters);
        if let Some(once) = once {
            ledger.remember(once, now, made(adjustments.iter().map(|adjustment| &adjustment.key), &balances), None);
        }
        if changed {
            self.log.lock().append(event);
        }
        Charged::new(Outcome::Granted, balances)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

/// The counters of a step with what they then held.
fn made<'k>(keys: impl Iterator<Item = &'k CounterKey>, balances: &[Balance]) -> Vec<(CounterKey, Balance)> {
    keys.cloned().zip(balances.iter().copied()).collect()
}

/// A step that is made when it is polled, at once: this store never waits.
fn lazily<'a, T: Send + 'a>(step: impl FnOnce() -> T + Send + 'a) -> StoreFuture<'a, T> {
    Box::pin(async move { Ok(step()) })
}

impl Store for MemoryStore {
    fn answers_at_once(&self) -> bool {
        true
    }

    fn plans(&self, _: Call) -> StoreFuture<'_, Option<StoredPlans>> {
        lazily(move || self.plans.lock().clone())
    }

    fn put_plans<'a>(&'a self, _: Call, plans: &'a Plans, event: &'a Event) -> StoreFuture<'a, u64> {
        lazily(move || self.put_plans_now(plans, event))
    }

    fn subscription<'a>(&'a self, _: Call, subject: &'a str) -> StoreFuture<'a, Option<Subscription>> {
        lazily(move || self.subscriptions.read().get(subject).cloned())
    }

    fn put_subscription<'a>(
        &'a self,
        _: Call,
        subject: &'a str,
        subscription: &'a Subscription,
        event: &'a Event,
    ) -> StoreFuture<'a, ()> {
        lazily(move || {
            let mut subscriptions = self.subscriptions.write();
            subscriptions.insert(subject.into(), subscription.clone());
            self.log.lock().append(event);
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
        lazily(move || self.swap_subscription_now(subject, from, to, event))
    }

    fn subscribers<'a>(&'a self, _: Call, query: &'a SubscriberQuery) -> StoreFuture<'a, Vec<Subscriber>> {
        lazily(move || self.subscribers_now(query))
    }

    fn census(&self, _: Call) -> StoreFuture<'_, Vec<Census>> {
        lazily(move || self.census_now())
    }

    fn charge<'a>(&'a self, call: Call, charges: &'a [Charge], once: Option<&'a Once>) -> StoreFuture<'a, Charged> {
        lazily(move || self.charge_now(call, charges, once))
    }

    fn hold<'a>(&'a self, call: Call, hold: &'a Hold) -> StoreFuture<'a, Charged> {
        lazily(move || self.hold_now(call, hold))
    }

    fn settle<'a>(&'a self, call: Call, settle: &'a Settle) -> StoreFuture<'a, Settled> {
        lazily(move || self.settle_now(call, settle))
    }

    fn lease<'a>(&'a self, call: Call, lease: &'a Lease) -> StoreFuture<'a, Leased> {
        lazily(move || self.lease_now(call, lease))
    }

    fn balances<'a>(&'a self, call: Call, keys: &'a [CounterKey]) -> StoreFuture<'a, Vec<Balance>> {
        lazily(move || self.balances_now(call, keys))
    }

    fn adjust<'a>(
        &'a self,
        call: Call,
        adjustments: &'a [Adjustment],
        once: Option<&'a Once>,
        event: &'a Event,
    ) -> StoreFuture<'a, Charged> {
        lazily(move || self.adjust_now(call, adjustments, once, event))
    }

    fn rate<'a>(&'a self, call: Call, rate: &'a SharedRate) -> StoreFuture<'a, Paced> {
        lazily(move || self.rates.lock().pace(rate, call.now.as_millisecond()))
    }

    fn identity<'a>(&'a self, call: Call, token: &'a TokenDigest) -> StoreFuture<'a, Option<KeptIdentity>> {
        lazily(move || self.identities.get(token).filter(|kept| call.now < kept.until).map(|kept| kept.clone()))
    }

    fn put_identity<'a>(
        &'a self,
        call: Call,
        token: &'a TokenDigest,
        kept: &'a KeptIdentity,
        followed: u64,
    ) -> StoreFuture<'a, ()> {
        lazily(move || self.put_identity_now(call, token, kept, followed))
    }

    fn forget_identities<'a>(&'a self, _: Call, which: &'a Forgotten, event: &'a Event) -> StoreFuture<'a, ()> {
        lazily(move || {
            // Under the log's lock: who follows the event must not find the identity still, and who puts one
            // meanwhile must see the event.
            let mut log = self.log.lock();
            match which {
                Forgotten::Token(token) => drop(self.identities.remove(token)),
                Forgotten::Subject(subject) => self.identities.retain(|_, kept| kept.identity.subject != *subject),
            }
            log.append(event);
        })
    }

    fn record<'a>(&'a self, _: Call, events: &'a [Event]) -> StoreFuture<'a, ()> {
        lazily(move || {
            let mut log = self.log.lock();
            events.iter().for_each(|event| log.append(event));
        })
    }

    fn events<'a>(&'a self, _: Call, query: &'a EventQuery) -> StoreFuture<'a, Vec<Event>> {
        lazily(move || self.log.lock().read(query))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Wait;
    use crate::token::Identity;

    #[test]
    fn identities_go_when_their_time_is_over_and_known_ones_are_put_without_a_sweep() {
        let store = MemoryStore::new();
        let put = |number: i64, second: i64| {
            let time = |second| Timestamp::from_second(second).unwrap();
            let kept = KeptIdentity { identity: Identity::of("ana"), until: time(second + 60) };
            let call = Call::new(time(second), Wait::Block);
            store.put_identity_now(call, &TokenDigest::of(&number.to_string()), &kept, 0);
            store.identities.len()
        };
        for number in 0..64 {
            assert_eq!(put(number, 0), usize::try_from(number + 1).unwrap());
        }
        for _ in 0..10 {
            assert_eq!(put(0, 100), 64, "one that is known");
        }
        assert_eq!(put(64, 100), 2, "one that is new");
        for number in 0..1_000 {
            assert!(put(number, number * 10) < 20, "never many more than are still kept");
        }
    }
}
