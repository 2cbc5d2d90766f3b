//! The auditor: follows every step that the store makes and every answer that a client gets, and knows what
//! each must be. Of an engine it knows what it must have seen, and lets it believe nothing older.

use std::collections::hash_map::Entry as Entered;
use std::collections::{BTreeMap, HashMap};

use jiff::tz::TimeZone;
use quotum::store::{Adjust, Adjustment, Balance, Charge, Charged, CounterKey, Hold, Once, Settle, Settled, Step};
use quotum::{
    Decision, Error, Event, HoldId, Limit, Overrides, Period, Plans, QuotaLimit, QuotaState, Reason, Reservation,
    Settlement, Status, Subscription, Timestamp,
};

use crate::books::{Books, Entry, Resolved, Verdict, answered, entry_of};
use crate::terms::{ACCOUNT, PlanTerms, SUBJECTS, Terms, window_of};

pub(crate) type Costs = Vec<(&'static str, u64)>;

/// What a client asks of an engine.
#[derive(Debug, Clone)]
pub(crate) enum Asked {
    Consume { subject: &'static str, costs: Costs, key: Option<String> },
    Check { subject: &'static str, costs: Costs },
    Reserve { subject: &'static str, costs: Costs, ttl_s: u64, key: Option<String> },
    Commit { hold: HoldId, actual: Costs },
    Release { hold: HoldId },
    Refund { subject: &'static str, costs: Costs },
    GiveBack { subject: &'static str, costs: Costs },
    Grant { subject: &'static str, costs: Costs },
    Reset { subject: &'static str, metric: &'static str },
    Subscribe { subject: &'static str, subscription: Box<Subscription> },
    Override { subject: &'static str, overrides: Overrides },
    Cancel { subject: &'static str },
    SetPlans { edition: u32 },
    ForgetSubject { subject: &'static str },
}

/// What it is told.
#[derive(Debug)]
pub(crate) enum Told {
    Decision(Result<Decision, Error>),
    Reserved(Result<Result<Reservation, Decision>, Error>),
    Settled(Result<Settlement, Error>),
    States(Result<Vec<QuotaState>, Error>),
    Done(Result<(), Error>),
}

/// A step that the store made for an operation.
#[derive(Debug)]
enum Seen {
    Charged(Verdict, Vec<Entry>),
    Looked(Vec<(CounterKey, Entry)>),
    Settled(Resolved),
    Adjusted(Vec<Entry>),
    /// A subscription was put: whose, and as which in its history.
    Put(usize, usize),
}

#[derive(Debug)]
struct Operation {
    asked: Asked,
    engine: usize,
    /// The oldest plans and subscriptions that it may go by.
    plans_from: usize,
    subscriptions_from: [usize; SUBJECTS.len()],
    /// The earliest time that it may go by, and the last that it has gone by.
    now_from: Timestamp,
    now: Option<Timestamp>,
    faulted: bool,
    seen: Vec<Seen>,
}

/// What an engine must have seen.
#[derive(Debug)]
struct Engine {
    plans_from: usize,
    subscriptions_from: [usize; SUBJECTS.len()],
    now: Timestamp,
    /// The latest time that its clock has shown.
    wall_max: Timestamp,
    /// Units that each subject was granted without the store since its debt was last charged, by metric.
    degraded: HashMap<(&'static str, &'static str), u64>,
    /// Units granted without the store, by counter, and units charged for it.
    owed: BTreeMap<CounterKey, (u64, u64)>,
    /// Idempotency keys under which units were granted without the store, for what, and what was charged for it first.
    keyed: HashMap<(String, String), (Costs, Option<Verdict>)>,
    /// Whether it cannot be known which counters a debt is on, or whose it is, until all are paid.
    obscure: bool,
}

pub(crate) struct Auditor {
    pub(crate) failure: Option<String>,
    zone: TimeZone,
    books: Books,
    /// By edition, from 1; and which were in force, one after the other.
    terms: Vec<Terms>,
    plans: Vec<u32>,
    subscriptions: [Vec<Option<Subscription>>; SUBJECTS.len()],
    engines: Vec<Engine>,
    operations: BTreeMap<u64, Operation>,
    /// Units that clients were told they may use, by owner, metric, period and its end, with the limit told.
    told: HashMap<WindowTold, (u64, u64)>,
    /// Whether limits stay and nothing is given back, so that what was told adds up.
    steady: bool,
    pub(crate) degraded_grants: u64,
    pub(crate) grants: u64,
    pub(crate) denials: u64,
    pub(crate) doubly_charged: u64,
}

/// One of the things that an engine may believe of a subject.
struct Belief<'a> {
    edition: u32,
    plan: &'static str,
    terms: &'a PlanTerms,
    refused: bool,
    subject: &'static str,
    member: bool,
    shared: Option<&'a Subscription>,
    own: Option<&'a Subscription>,
}

/// A window as a client is told of it: whose, of what, how long and until when.
type WindowTold = (String, String, Period, Option<Timestamp>);

/// Owner, metric, period, start, limit and units.
type Demand = (String, String, Period, i64, Option<u64>, u64);

impl Belief<'_> {
    fn limits(&self, metric: &str) -> Vec<(&'static str, QuotaLimit)> {
        let payer = if self.member { ACCOUNT } else { self.subject };
        let overridden = |of: Option<&Subscription>| of.and_then(|of| of.overrides.quotas.get(metric)).cloned();
        let shared = overridden(self.shared).or_else(|| self.terms.quotas.get(metric).cloned()).unwrap_or_default();
        let each = match self.member {
            true => overridden(self.own).or_else(|| self.terms.members.get(metric).cloned()).unwrap_or_default(),
            false => Vec::new(),
        };
        let mut limits: Vec<(&'static str, QuotaLimit)> = shared.into_iter().map(|limit| (payer, limit)).collect();
        limits.extend(each.into_iter().map(|limit| (self.subject, limit)));
        if limits.is_empty() {
            limits.push((payer, QuotaLimit::Limited { units: 0, period: Period::Total }));
        }
        limits
    }

    /// What costs are to be charged, in an order of its own.
    fn demands(&self, costs: &[(&'static str, u64)], now: Timestamp, zone: &TimeZone) -> Vec<Demand> {
        let mut demands = Vec::new();
        for (metric, amount) in costs {
            for (owner, limit) in self.limits(metric) {
                let Some(period) = limit.period() else { continue };
                let (start_s, _) = window_of(period, now, zone);
                demands.push((owner.to_owned(), (*metric).to_owned(), period, start_s, limit.limit().units(), *amount));
            }
        }
        demands.sort();
        demands
    }
}

fn demand_of(key: &CounterKey, limit: Option<u64>, amount: u64) -> Demand {
    (key.subject.to_string(), key.metric.to_string(), key.period, key.start_s, limit, amount)
}

fn place_of(subject: &str) -> usize {
    SUBJECTS.iter().position(|known| *known == subject).unwrap()
}

impl Auditor {
    pub(crate) fn new(zone: &str, terms: Terms, steady: bool) -> Self {
        Self {
            failure: None,
            zone: TimeZone::get(zone).unwrap(),
            books: Books::new(),
            terms: vec![terms],
            plans: vec![1],
            subscriptions: std::array::from_fn(|_| vec![None]),
            engines: Vec::new(),
            operations: BTreeMap::new(),
            told: HashMap::new(),
            steady,
            degraded_grants: 0,
            grants: 0,
            denials: 0,
            doubly_charged: 0,
        }
    }

    fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }

    fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(what());
        }
    }

    // What the scheduler says.

    /// An engine has started: it knows nothing older than now.
    pub(crate) fn started(&mut self, wall: Timestamp) -> usize {
        let latest = self.latest();
        self.engines.push(Engine {
            plans_from: latest.0,
            subscriptions_from: latest.1,
            now: wall,
            wall_max: wall,
            degraded: HashMap::new(),
            owed: BTreeMap::new(),
            keyed: HashMap::new(),
            obscure: false,
        });
        self.engines.len() - 1
    }

    fn latest(&self) -> (usize, [usize; SUBJECTS.len()]) {
        (self.plans.len() - 1, std::array::from_fn(|place| self.subscriptions[place].len() - 1))
    }

    /// An engine has had time and means to follow every change.
    pub(crate) fn caught_up(&mut self, engine: usize) {
        let (plans, subscriptions) = self.latest();
        self.engines[engine].plans_from = plans;
        self.engines[engine].subscriptions_from = subscriptions;
    }

    pub(crate) fn clock_shows(&mut self, engine: usize, wall: Timestamp) {
        let engine = &mut self.engines[engine];
        engine.wall_max = engine.wall_max.max(wall);
    }

    pub(crate) fn terms_drawn(&mut self, terms: Terms) {
        self.terms.push(terms);
    }

    pub(crate) fn terms_of(&self, edition: u32) -> &Terms {
        &self.terms[edition as usize - 1]
    }

    fn subscription_of(&self, subject: &str) -> Option<&Subscription> {
        self.subscriptions[place_of(subject)].last().unwrap().as_ref()
    }

    pub(crate) fn begins(&mut self, number: u64, engine: usize, asked: Asked) {
        let known = &self.engines[engine];
        let operation = Operation {
            asked,
            engine,
            plans_from: known.plans_from,
            subscriptions_from: known.subscriptions_from,
            now_from: known.now,
            now: None,
            faulted: false,
            seen: Vec::new(),
        };
        self.operations.insert(number, operation);
    }

    /// Its client has gone away: nobody will hear what came of it.
    pub(crate) fn abandoned(&mut self, number: u64) {
        self.operations.remove(&number);
    }

    // What the way to the store hears.

    pub(crate) fn heard(&mut self, engine: usize, number: u64, step: Step, now: Timestamp) {
        let known = &mut self.engines[engine];
        let in_time = now <= known.wall_max;
        known.now = known.now.max(now);
        self.expect(in_time, || format!("engine {engine} goes by {now}, which its clock has never shown"));
        // What several wait for is read by whoever is polled, at the time of whoever began it.
        if matches!(step, Step::Plans | Step::Subscription) {
            return;
        }
        let Some(operation) = self.operations.get_mut(&number) else { return };
        operation.now = Some(now);
        let from = operation.now_from;
        self.expect(now >= from, || format!("time has gone back in engine {engine}: from {from} to {now}"));
    }

    pub(crate) fn faulted(&mut self, number: u64) {
        if let Some(operation) = self.operations.get_mut(&number) {
            operation.faulted = true;
        }
    }

    // What the store does.

    pub(crate) fn plans_put(&mut self, plans: &Plans, version: u64) {
        let edition = plans.get("free").unwrap().version;
        self.plans.push(edition);
        let expected = self.plans.len() as u64 - 1;
        self.expect(version == expected, || format!("plans got version {version}, not {expected}"));
    }

    pub(crate) fn subscription_put(&mut self, number: u64, subject: &str, subscription: &Subscription) {
        let place = place_of(subject);
        self.subscriptions[place].push(Some(subscription.clone()));
        self.see(number, Seen::Put(place, self.subscriptions[place].len() - 1));
    }

    pub(crate) fn subscription_swapped(
        &mut self,
        number: u64,
        subject: &str,
        from: Option<&Subscription>,
        to: &Subscription,
        kept: Option<&Subscription>,
    ) {
        let current = self.subscription_of(subject).cloned();
        if current.as_ref() == from {
            self.expect(kept == Some(to), || format!("a swap of {subject}'s subscription was not made: {kept:?}"));
            self.subscription_put(number, subject, to);
        } else {
            let right = kept == current.as_ref();
            self.expect(right, || format!("a swap overwrote {subject}'s subscription {current:?} by {kept:?}"));
        }
    }

    fn see(&mut self, number: u64, seen: Seen) {
        if let Some(operation) = self.operations.get_mut(&number) {
            operation.seen.push(seen);
        }
    }

    pub(crate) fn charged(
        &mut self,
        number: u64,
        now: Timestamp,
        charges: &[Charge],
        once: Option<&Once>,
        charged: &Charged,
    ) {
        self.books.tell_time(now);
        self.demanded(number, now, charges);
        let expected = self.books.charge(charges, once);
        self.compare(number, "a charge", expected, charged);
    }

    pub(crate) fn held(&mut self, number: u64, now: Timestamp, hold: &Hold, charged: &Charged) {
        self.books.tell_time(now);
        self.demanded(number, now, &hold.charges);
        let expected = self.books.hold(hold);
        self.compare(number, "a hold", expected, charged);
    }

    fn compare(&mut self, number: u64, what: &str, expected: (Verdict, Vec<Entry>), charged: &Charged) {
        let found = answered(charged);
        self.expect(found == expected, || format!("{what} of #{number} came to {found:?} instead of {expected:?}"));
        self.see(number, Seen::Charged(found.0, found.1));
    }

    /// What is charged must be what the plan demands that the engine may believe in.
    fn demanded(&mut self, number: u64, now: Timestamp, charges: &[Charge]) {
        let Some(operation) = self.operations.get(&number) else {
            return self.fail(format!("something is charged for nobody: {charges:?}"));
        };
        let (Asked::Consume { subject, costs, .. } | Asked::Reserve { subject, costs, .. }) = &operation.asked else {
            return self.fail(format!("#{number} asked for no charge: {charges:?}"));
        };
        let mut found: Vec<Demand> =
            charges.iter().map(|charge| demand_of(&charge.key, charge.limit.units(), charge.amount)).collect();
        found.sort();
        let (Asked::Consume { key, .. } | Asked::Reserve { key, .. }) = &operation.asked else { return };
        let demanded = self.believable(operation, subject, |belief| {
            let mut demands = belief.demands(costs, now, &self.zone);
            if belief.refused {
                // Who is refused may have been granted it before under its key: it asks for more than can fit.
                demands.iter_mut().for_each(|demand| demand.5 = quotum::UNITS_MAX + 1);
            }
            (!belief.refused || key.is_some()) && demands == found
        });
        if !demanded {
            let known = self.known_to(operation, subject, costs, now);
            self.fail(format!("#{number} charges {found:?}, but its engine can only believe in {known}"));
        }
    }

    fn known_to(&self, of: &Operation, subject: &'static str, costs: &Costs, now: Timestamp) -> String {
        let mut known = Vec::new();
        self.believable(of, subject, |belief| {
            let refused = if belief.refused { "refused by" } else { "granted by" };
            let demands = belief.demands(costs, now, &self.zone);
            known.push(format!("{refused} {} {}: {demands:?}", belief.plan, belief.edition));
            false
        });
        known.join(" or ")
    }

    /// Whether the test holds under any of the beliefs that an operation may go by.
    fn believable(&self, of: &Operation, subject: &'static str, mut test: impl FnMut(&Belief<'_>) -> bool) -> bool {
        let known = |subject: &str| {
            let place = place_of(subject);
            self.subscriptions[place][of.subscriptions_from[place]..].iter().map(Option::as_ref)
        };
        self.plans[of.plans_from..].iter().any(|edition| {
            let terms = &self.terms[*edition as usize - 1];
            let mut belief = |shared: Option<&Subscription>, own: Option<&Subscription>, member| {
                let lapsed_at = |now: Timestamp| {
                    shared.is_some_and(|shared| match shared.status {
                        Status::Paused => true,
                        // It ends when the engine's clock gets there.
                        Status::Canceled => shared.since <= now,
                        _ => false,
                    })
                };
                // What a subscription came to for a later request also serves one that began earlier.
                let (first, last) = (lapsed_at(of.now.unwrap_or(of.now_from)), lapsed_at(self.engines[of.engine].now));
                let mut belief = |lapsed: bool| {
                    // Who has lapsed is on the default plan, or gets nothing; who is paused gets nothing.
                    let paused = shared.is_some_and(|shared| shared.status == Status::Paused);
                    let refused = lapsed && (terms.deny_when_lapsed || paused);
                    let shared = shared.filter(|_| !lapsed || refused);
                    let name = shared.map_or("free", |shared| &shared.plan);
                    let (plan, terms) = terms.plans.get_key_value(name).unwrap();
                    test(&Belief { edition: *edition, plan, terms, refused, subject, member, shared, own })
                };
                belief(first) || (last != first && belief(last))
            };
            known(subject).any(|own| match own.is_some_and(|own| own.account.is_some()) {
                true => known(ACCOUNT).any(|shared| belief(shared, own, true)),
                false => belief(own, own, false),
            })
        })
    }

    pub(crate) fn settled(&mut self, number: u64, now: Timestamp, settle: &Settle, settled: &Settled) {
        self.books.tell_time(now);
        if let Some(operation) = self.operations.get(&number) {
            let mut found: Vec<(&str, u64)> = settle.used.iter().map(|(metric, units)| (&**metric, *units)).collect();
            found.sort_unstable();
            let right = match &operation.asked {
                Asked::Commit { hold, actual } => {
                    let mut expected = actual.clone();
                    expected.sort_unstable();
                    *hold == settle.id && found == expected
                }
                Asked::Release { hold } => *hold == settle.id && found.iter().all(|(_, units)| *units == 0),
                _ => false,
            };
            self.expect(right, || format!("#{number} settles {found:?}"));
        }
        if self.books.hold_of(settle.id).is_none() {
            self.expect(*settled == Settled::Unknown, || format!("an unknown hold was settled: {settled:?}"));
        }
        let parts = |receipt: &quotum::store::Receipt| {
            receipt.parts.iter().map(|part| (part.used, part.overage)).collect::<Vec<_>>()
        };
        let expected = self.books.settle(settle);
        let found = match settled {
            Settled::Now(receipt) => Resolved::Now(parts(receipt)),
            Settled::Before(receipt) => Resolved::Before(parts(receipt)),
            Settled::Expired(_) => Resolved::Expired,
            Settled::Unknown => Resolved::Unknown,
        };
        self.expect(found == expected, || {
            format!("settling {} for #{number} came to {found:?} instead of {expected:?}", settle.id)
        });
        self.see(number, Seen::Settled(found));
    }

    pub(crate) fn looked(&mut self, number: u64, now: Timestamp, keys: &[CounterKey], balances: &[Balance]) {
        self.books.tell_time(now);
        let found: Vec<(CounterKey, Entry)> = keys.iter().cloned().zip(balances.iter().map(entry_of)).collect();
        for (key, entry) in &found {
            let expected = self.books.entry(key);
            self.expect(*entry == expected, || format!("{key:?} holds {entry:?} instead of {expected:?}"));
        }
        self.see(number, Seen::Looked(found));
    }

    #[expect(clippy::too_many_arguments, reason = "all that there is to a step")]
    pub(crate) fn adjusted(
        &mut self,
        engine: usize,
        number: u64,
        now: Timestamp,
        adjustments: &[Adjustment],
        once: Option<&Once>,
        event: &Event,
        charged: &Charged,
    ) {
        self.books.tell_time(now);
        let (expected, found) = (self.books.adjust(adjustments, once), answered(charged));
        self.expect(found == expected, || format!("#{number} adjusted to {found:?} instead of {expected:?}"));
        if event.detail.as_ref().and_then(|detail| detail["verb"].as_str()) == Some("charge_degraded") {
            // Under a client's key it may have been charged when the client asked, or asked again. Once the store
            // has forgotten the key, nobody can tell.
            let key = once.map(|once| (once.subject.to_string(), once.key.to_string()));
            let Engine { keyed, obscure, .. } = &mut self.engines[engine];
            if found.0 == Verdict::Conflict {
                // It is charged under a name of its own, which does not tell whose key it was.
                *obscure = true;
                return;
            }
            let before = key.and_then(|key| keyed.get_mut(&key));
            let charges = match (&found.0, before) {
                (verdict, Some((_, before @ None))) => {
                    *before = Some(verdict.clone());
                    true
                }
                (Verdict::Granted, Some((_, before))) => *before == Some(Verdict::Granted),
                (verdict, _) => *verdict == Verdict::Granted,
            };
            if charges {
                self.debt_charged(engine, event.subject.as_deref().unwrap(), adjustments);
            }
            return;
        }
        self.adjustment_demanded(number, now, adjustments);
        self.see(number, Seen::Adjusted(found.1));
    }

    /// What is adjusted must be the counters of a plan that the engine may believe in.
    fn adjustment_demanded(&mut self, number: u64, now: Timestamp, adjustments: &[Adjustment]) {
        let Some(operation) = self.operations.get(&number) else {
            return self.fail(format!("something is adjusted for nobody: {adjustments:?}"));
        };
        let (subject, costs, kind): (_, Costs, fn(u64) -> Adjust) = match &operation.asked {
            Asked::Refund { subject, costs } => (*subject, costs.clone(), Adjust::Refund),
            Asked::Grant { subject, costs } => (*subject, costs.clone(), Adjust::Grant),
            Asked::Reset { subject, metric } => (*subject, vec![(*metric, 1)], |_| Adjust::Reset),
            Asked::GiveBack { subject, costs } => (*subject, costs.clone(), Adjust::Refund),
            asked => return self.fail(format!("{asked:?} adjusts {adjustments:?}")),
        };
        let level = matches!(operation.asked, Asked::GiveBack { .. });
        let mut found: Vec<(Demand, String)> = Vec::new();
        for Adjustment { key, by } in adjustments {
            found.push((demand_of(key, None, 0), format!("{by:?}")));
        }
        found.sort();
        let demanded = self.believable(operation, subject, |belief| {
            let mut expected = Vec::new();
            for (owner, metric, period, start_s, _, amount) in belief.demands(&costs, now, &self.zone) {
                if !level || period == Period::Total {
                    expected.push(((owner, metric, period, start_s, None, 0), format!("{:?}", kind(amount))));
                }
            }
            if level && expected.is_empty() {
                // A level that the plan does not have is its payer's.
                let owner = if belief.member { ACCOUNT } else { subject };
                let (metric, amount) = costs[0];
                let demand = (owner.to_owned(), metric.to_owned(), Period::Total, 0, None, 0);
                expected.push((demand, format!("{:?}", kind(amount))));
            }
            expected == found
        });
        if !demanded {
            let known = self.known_to(operation, subject, &costs, now);
            self.fail(format!("#{number} adjusts {found:?}, but its engine can only believe in {known}"));
        }
    }

    // Degraded grants and their debts.

    fn granted_without_store(&mut self, operation: &Operation, subject: &'static str, costs: &Costs, told: &Decision) {
        self.degraded_grants += 1;
        let now = operation.now.unwrap_or(operation.now_from);
        let (mut most, mut counters) = (HashMap::new(), Vec::new());
        self.believable(operation, subject, |belief| {
            if told.plan.as_deref() == Some(belief.plan) && told.plan_version == Some(belief.edition) {
                for (metric, _) in costs {
                    let allowed = most.entry(*metric).or_insert(0);
                    *allowed = belief.terms.degraded.get(metric).copied().unwrap_or(0).max(*allowed);
                }
                let mut demands = belief.demands(costs, now, &self.zone);
                demands.iter_mut().for_each(|demand| demand.4 = None);
                counters.push(demands);
            }
            false
        });
        counters.sort();
        counters.dedup();
        let engine = &mut self.engines[operation.engine];
        let mut failure = None;
        for (metric, amount) in costs {
            let units = engine.degraded.entry((subject, metric)).or_insert(0);
            *units += amount;
            let allowed = most.get(metric).copied().unwrap_or(0);
            if *units > allowed && !engine.obscure {
                failure = Some(format!("{subject} got {units} {metric} without the store, of {allowed}"));
            }
        }
        engine.obscure |= counters.len() > 1;
        for (owner, metric, period, start_s, _, amount) in counters.into_iter().flatten() {
            let key = CounterKey::of(owner, metric, period, start_s);
            engine.owed.entry(key).or_insert((0, 0)).0 += amount;
        }
        if let Some(failure) = failure {
            self.fail(failure);
        }
    }

    fn debt_charged(&mut self, engine: usize, subject: &str, adjustments: &[Adjustment]) {
        let known = &mut self.engines[engine];
        known.degraded.retain(|(debtor, _), _| *debtor != subject);
        for Adjustment { key, by } in adjustments {
            let Adjust::Record(amount, _) = by else { continue };
            let owed = known.owed.entry(key.clone()).or_insert((0, 0));
            owed.1 += amount;
            if owed.1 > owed.0 && !known.obscure {
                let owed = *owed;
                return self.fail(format!(
                    "{} units were charged on {key:?} for {} granted without the store, by {adjustments:?}",
                    owed.1, owed.0
                ));
            }
        }
    }

    /// Everything that was granted without the store must have been charged, by an engine that has had the time.
    pub(crate) fn debts_are_paid(&mut self, engine: usize) {
        let known = &mut self.engines[engine];
        let owed = std::mem::take(&mut known.owed);
        let obscure = std::mem::take(&mut known.obscure);
        known.degraded.clear();
        known.keyed.clear();
        let unpaid = owed.iter().find(|(_, (granted, charged))| granted != charged);
        if let Some((key, owed)) = unpaid.filter(|_| !obscure) {
            self.fail(format!("of {} units granted without the store, {} were charged on {key:?}", owed.0, owed.1));
        }
    }

    // What clients are told.

    /// Compares what a client is told with what was done for it. `calm`: nothing was wrong meanwhile.
    pub(crate) fn ends(&mut self, number: u64, told: &Told, calm: bool) {
        let Some(operation) = self.operations.remove(&number) else { return };
        let wrong = self.wrong(&operation, told, calm);
        if let Some(wrong) = wrong {
            self.fail(format!(
                "#{number} {:?} saw {:?} and was told {told:?}: {wrong}",
                operation.asked, operation.seen
            ));
        }
        self.learned(&operation, told);
    }

    fn wrong(&mut self, operation: &Operation, told: &Told, calm: bool) -> Option<&'static str> {
        match (&operation.asked, told) {
            (Asked::Consume { subject, costs, .. }, Told::Decision(told)) => {
                self.wrong_decision(operation, subject, costs, told.as_ref(), calm)
            }
            (Asked::Check { subject, costs }, Told::Decision(told)) => {
                self.wrong_look(operation, subject, costs, told.as_ref(), calm)
            }
            (Asked::Reserve { subject, costs, .. }, Told::Reserved(told)) => {
                let told = match told {
                    Ok(Ok(reservation)) => Ok(reservation.decision()),
                    Ok(Err(decision)) => Ok(decision),
                    Err(error) => Err(error),
                };
                self.wrong_decision(operation, subject, costs, told, calm)
            }
            (_, Told::Settled(told)) => {
                let last = operation.seen.last();
                match (told, last) {
                    (Ok(told), Some(Seen::Settled(Resolved::Now(parts) | Resolved::Before(parts)))) => {
                        let repeated = matches!(last, Some(Seen::Settled(Resolved::Before(_))));
                        let listed: Vec<(u64, u64)> = told.parts.iter().map(|part| (part.used, part.overage)).collect();
                        (told.repeated != repeated || listed != *parts).then_some("another settlement")
                    }
                    (Err(Error::HoldExpired { .. }), Some(Seen::Settled(Resolved::Expired)))
                    | (Err(Error::HoldUnknown { .. }), Some(Seen::Settled(Resolved::Unknown))) => None,
                    (Err(Error::Store(_)), _) => (!operation.faulted || calm).then_some("the store did not fail"),
                    _ => Some("that is not how the hold was resolved"),
                }
            }
            (_, Told::States(Ok(states))) => match operation.seen.last() {
                Some(Seen::Adjusted(entries)) => {
                    let counted: Vec<Entry> =
                        states.iter().filter(|state| state.period.is_some()).map(entry_of_state).collect();
                    let right = counted.len() == entries.len()
                        && counted.iter().zip(entries).all(|(told, entry)| told[..4] == entry[..4]);
                    (!right).then_some("the states are others")
                }
                _ => (!states.is_empty()).then_some("nothing was adjusted"),
            },
            (_, Told::States(Err(Error::Store(_))) | Told::Done(Err(Error::Store(_)))) => {
                (!operation.faulted || calm).then_some("the store did not fail")
            }
            (_, Told::Done(Ok(()))) => None,
            // Without a subscription there is nothing to cancel.
            (Asked::Cancel { .. }, Told::Done(Err(Error::InvalidArgument { .. }))) => None,
            _ => Some("it is no answer"),
        }
    }

    fn wrong_decision(
        &mut self,
        operation: &Operation,
        subject: &'static str,
        costs: &Costs,
        told: Result<&Decision, &Error>,
        calm: bool,
    ) -> Option<&'static str> {
        let last = operation.seen.iter().rev().find_map(|seen| match seen {
            Seen::Charged(verdict, entries) => Some((verdict, entries)),
            _ => None,
        });
        let told = match told {
            Ok(told) => told,
            // Without the store, a key is known by what is owed under it.
            Err(Error::Conflict { .. }) if last.is_none() => {
                return (!operation.faulted || calm).then_some("it is no conflict");
            }
            Err(Error::Conflict { .. }) => {
                return (last.map(|(verdict, _)| verdict) != Some(&Verdict::Conflict)).then_some("it is no conflict");
            }
            Err(Error::Store(_)) => return (!operation.faulted || calm).then_some("the store did not fail"),
            Err(_) => return Some("there is no such mistake"),
        };
        if told.degraded {
            if !operation.faulted || calm {
                return Some("the store did not fail");
            }
            let key = match &operation.asked {
                Asked::Consume { key: Some(key), .. } | Asked::Reserve { key: Some(key), .. } => {
                    Some((subject.to_owned(), key.clone()))
                }
                _ => None,
            };
            let made = last.is_some_and(|(verdict, _)| *verdict == Verdict::Granted);
            if made && key.is_none() && matches!(operation.asked, Asked::Consume { .. }) {
                self.doubly_charged += 1;
            }
            if let Some(key) = key {
                let Engine { keyed, obscure, .. } = &mut self.engines[operation.engine];
                match keyed.entry(key) {
                    // Asked again under its key, it is the same grant.
                    Entered::Occupied(earlier) if earlier.get().0 == *costs => return None,
                    // A conflict, which the store lets pass under another name when it can tell.
                    Entered::Occupied(_) => *obscure = true,
                    Entered::Vacant(place) => {
                        place.insert((costs.clone(), None));
                    }
                }
            }
            self.granted_without_store(operation, subject, costs, told);
            return None;
        }
        match told.denied.as_ref().map(|denial| denial.reason) {
            None => self.wrong_grant(operation, subject, costs, told, last),
            Some(Reason::QuotaExhausted | Reason::NeverFits) => {
                self.denials += 1;
                match last {
                    Some((verdict, _)) => (*verdict != Verdict::Refused).then_some("the store refused nothing"),
                    None => self.wrong_denial_from_memory(operation, subject, costs, told, calm),
                }
            }
            Some(Reason::StoreUnavailable) => (!operation.faulted || calm).then_some("the store did not fail"),
            Some(Reason::SubscriptionInactive) => {
                (!self.believable(operation, subject, |belief| belief.refused)).then_some("it has not lapsed")
            }
            Some(_) => Some("there is no such reason"),
        }
    }

    fn wrong_grant(
        &mut self,
        operation: &Operation,
        subject: &'static str,
        costs: &Costs,
        told: &Decision,
        last: Option<(&Verdict, &Vec<Entry>)>,
    ) -> Option<&'static str> {
        self.grants += 1;
        let now = operation.now.unwrap_or(operation.now_from);
        let Some((verdict, entries)) = last else {
            let free = self.believable(operation, subject, |belief| {
                !belief.refused && belief.demands(costs, now, &self.zone).is_empty()
            });
            return (!free).then_some("nothing was charged");
        };
        let repeated = match verdict {
            Verdict::Granted => false,
            Verdict::Repeated(_) => true,
            _ => return Some("it was not granted"),
        };
        if told.repeated != repeated {
            return Some("repeated or not");
        }
        let counted: Vec<&QuotaState> = told.quotas.iter().filter(|state| state.period.is_some()).collect();
        let right = counted.len() == entries.len()
            && counted.iter().zip(entries).all(|(state, entry)| entry_of_state(state)[..4] == entry[..4]);
        if !right {
            // What a request was answered under other plans does not say which counters those were.
            return (!repeated).then_some("the states are others");
        }
        if self.steady && !repeated && matches!(operation.asked, Asked::Consume { .. }) {
            for state in counted {
                let Limit::Units(limit) = state.limit else { continue };
                let owner = if state.shared { ACCOUNT } else { subject };
                let amount = costs.iter().find(|(metric, _)| **metric == *state.metric)?.1;
                let window = (owner.to_owned(), state.metric.to_string(), state.period.unwrap(), state.resets_at);
                let told = self.told.entry(window).or_insert((0, 0));
                *told = (told.0 + amount, told.1.max(limit));
                if told.0 > told.1 {
                    return Some("more was granted than the limit");
                }
            }
        }
        None
    }

    /// A denial that the store was not asked for: it must agree with itself, and once everything has been
    /// followed, with the books.
    fn wrong_denial_from_memory(
        &self,
        operation: &Operation,
        subject: &'static str,
        costs: &Costs,
        told: &Decision,
        calm: bool,
    ) -> Option<&'static str> {
        let lacks = |state: &QuotaState| {
            let asked = costs.iter().find(|(metric, _)| **metric == *state.metric);
            asked.is_some_and(|(_, units)| state.remaining.is_some_and(|left| *units > left))
        };
        if !told.quotas.iter().any(lacks) {
            return Some("the quotas that it shows have room");
        }
        let now = operation.now.unwrap_or(operation.now_from);
        let is_full = |(owner, metric, period, start_s, limit, amount): &Demand| {
            let (subject, metric) = (owner.as_str(), metric.as_str());
            let entry = self.books.entry(&CounterKey::of(subject, metric, *period, *start_s));
            limit.is_some_and(|limit| entry[0] + entry[1] + amount > limit + entry[2])
        };
        let denied = !calm
            || self.believable(operation, subject, |belief| {
                !belief.refused && belief.demands(costs, now, &self.zone).iter().any(is_full)
            });
        (!denied).then_some("it was denied from memory what now fits")
    }

    fn wrong_look(
        &self,
        operation: &Operation,
        subject: &'static str,
        costs: &Costs,
        told: Result<&Decision, &Error>,
        calm: bool,
    ) -> Option<&'static str> {
        let Ok(told) = told else {
            return (!operation.faulted || calm).then_some("the store did not fail");
        };
        let now = operation.now.unwrap_or(operation.now_from);
        match told.denied.as_ref().map(|denial| denial.reason) {
            Some(Reason::StoreUnavailable) => (!operation.faulted || calm).then_some("the store did not fail"),
            // It takes nothing from the budget, which would be found too small.
            _ if told.degraded => (!operation.faulted || calm).then_some("the store did not fail"),
            Some(Reason::SubscriptionInactive) => {
                (!self.believable(operation, subject, |belief| belief.refused)).then_some("it has not lapsed")
            }
            denied => {
                let looked = operation.seen.iter().find_map(|seen| match seen {
                    Seen::Looked(entries) => Some(&entries[..]),
                    _ => None,
                });
                if looked.is_none() && denied.is_some() {
                    return self.wrong_denial_from_memory(operation, subject, costs, told, calm);
                }
                let looked = looked.unwrap_or(&[]);
                let right = self.believable(operation, subject, |belief| {
                    let demands = belief.demands(costs, now, &self.zone);
                    let room = |demand: &Demand| {
                        let is_of = |key: &CounterKey| {
                            *key.subject == *demand.0
                                && *key.metric == *demand.1
                                && (key.period, key.start_s) == (demand.2, demand.3)
                        };
                        let entry = looked.iter().find(|(key, _)| is_of(key)).map(|(_, entry)| *entry)?;
                        let ceiling = demand.4.map_or(u64::MAX, |limit| limit + entry[2]);
                        Some(entry[0] + entry[1] + demand.5 <= ceiling)
                    };
                    let rooms: Option<Vec<bool>> = demands.iter().map(room).collect();
                    !belief.refused && rooms.is_some_and(|rooms| rooms.iter().all(|fits| *fits) == denied.is_none())
                });
                (!right).then_some("the counters say otherwise")
            }
        }
    }

    /// A change that is acknowledged holds in this engine from now on.
    fn learned(&mut self, operation: &Operation, told: &Told) {
        if !matches!(told, Told::Done(Ok(()))) {
            return;
        }
        let engine = &mut self.engines[operation.engine];
        for seen in &operation.seen {
            if let Seen::Put(place, index) = *seen {
                engine.subscriptions_from[place] = engine.subscriptions_from[place].max(index);
            }
        }
        if let Asked::SetPlans { edition } = &operation.asked {
            let put = self.plans.iter().rposition(|known| known == edition).unwrap_or(0);
            engine.plans_from = engine.plans_from.max(put);
        }
    }

    // The whole.

    pub(crate) fn counters(&mut self, now: Timestamp) -> Vec<(CounterKey, Entry)> {
        self.books.tell_time(now);
        self.books.all()
    }

    pub(crate) fn latest_ms(&self) -> i64 {
        self.books.latest_ms
    }

    pub(crate) fn held_units(&self) -> u64 {
        self.books.held()
    }
}

fn entry_of_state(state: &QuotaState) -> Entry {
    [state.used, state.held, state.bonus, state.overage, 0]
}
