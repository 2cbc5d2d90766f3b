//! A thousand cut connections: nothing is charged twice, nothing acknowledged is lost, no limit exceeded.
//!
//! Workers charge, hold, settle and lease through a proxy that cuts their connections before a request, after it, and
//! in the middle of the reply. What they do not know the outcome of they ask again under the same name, as an engine
//! does, until there is an answer. What has no name is not asked again, and may not be answered within the store's own
//! time: it was done once or not at all. Half of it also charges a counter that nothing else does, which tells in the end
//! what was done, and so what every counter must hold, to the unit. The other half has counters of its own, on which
//! charges travel together.

#![cfg(any(feature = "postgres", feature = "redis"))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, missing_docs)]

mod servers;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pollster::block_on;
use quotum::blocking::Quota;
use quotum::store::{
    Adjust, Adjustment, Balance, Call, Charge, Charged, CounterKey, Fingerprint, Hold, Lease, Once, Outcome, Settle,
    Settled, Store, StoreError, Wait,
};
use quotum::{Event, EventName, HoldId, Limit, Period, Plans, Retry, Timestamp};
use servers::{Cut, Proxy, Upstream};

const CUTS: u64 = 1_000;
const WORKERS: u64 = 4;
const WIDE: u64 = 1_000_000_000;
const TIGHT: u64 = 2_000;

/// 2026-03-01T00:00:00Z.
const NOW_S: i64 = 1_772_323_200;

#[cfg(feature = "postgres")]
#[test]
fn a_thousand_cuts_on_postgres_charge_everything_once() {
    let server = servers::Postgres::start_hasty();
    cut_a_thousand_times("postgres", server.upstream(), |proxy| {
        let options = server.options_at(&format!("postgres://quotum@{proxy}/postgres")).connections(3);
        let options = options.connect_timeout(Duration::from_secs(5)).statement_timeout(Duration::from_millis(500));
        Arc::new(options.open().unwrap())
    });
}

#[cfg(feature = "redis")]
#[test]
fn a_thousand_cuts_on_redis_charge_everything_once() {
    let server = servers::Redis::start();
    cut_a_thousand_times("redis", server.upstream(), |proxy| {
        let options = quotum::store::RedisOptions::from_url(&format!("redis://{proxy}")).unwrap().connections(3);
        let options = options.connect_timeout(Duration::from_secs(5)).response_timeout(Duration::from_millis(500));
        Arc::new(options.time(quotum::store::StoreTime::Told).open().unwrap())
    });
}

#[cfg(feature = "postgres")]
#[test]
fn a_reservation_on_postgres_whose_answer_was_lost_is_the_callers_own() {
    let server = servers::Postgres::start_hasty();
    let proxy = Proxy::start(server.upstream());
    reserve_while_answers_are_lost(&proxy, &format!("postgres://quotum@{}/postgres", proxy.address()));
}

#[cfg(feature = "redis")]
#[test]
fn a_reservation_on_redis_whose_answer_was_lost_is_the_callers_own() {
    let server = servers::Redis::start();
    let proxy = Proxy::start(server.upstream());
    reserve_while_answers_are_lost(&proxy, &format!("redis://{}", proxy.address()));
}

#[cfg(feature = "redis")]
#[test]
fn a_connection_to_redis_that_is_cut_while_it_is_made_is_made_once_more() {
    const CONNECTIONS: usize = 40;
    let server = servers::Redis::start();
    let proxy = Proxy::start(server.upstream());
    let options = quotum::store::RedisOptions::from_url(&format!("redis://{}", proxy.address())).unwrap();
    let store = options.connections(CONNECTIONS).open().unwrap();
    // Each step makes the next connection, and is itself what may be cut where nothing is said while it is made.
    for step in 0..CONNECTIONS * 2 {
        proxy.at_next_request(if step % 2 == 0 { Cut::BeforeRequest } else { Cut::AfterRequest });
        let call = Call::new(time(0), Wait::Block);
        block_on(store.balances(call, &[counters()[0].key.clone()])).unwrap_or_else(|error| panic!("{step}: {error}"));
    }
}

/// What the store finds made already, because it has asked again, is not an earlier request's: it is released when its
/// reservation is dropped.
fn reserve_while_answers_are_lost(proxy: &Proxy, url: &str) {
    let plans = "default_plan = 'all'\n[plans.all]\nquotas = { tokens = '100/total' }";
    let quota = Quota::builder().plans(Plans::from_toml(plans).unwrap()).open(url).unwrap();
    assert!(quota.consume("ana", &[("tokens", 1)]).unwrap().allowed);
    for round in 0..20 {
        proxy.at_next_request(Cut::AfterRequest);
        let reserved = quota.reserve("ana", &[("tokens", 60)], Duration::from_secs(60)).unwrap().unwrap();
        let decision = reserved.decision();
        assert!(decision.allowed && !decision.repeated, "{round}: {decision:?}");
        drop(reserved);
        assert_eq!(quota.usage("ana").unwrap().quotas[0].held, 0, "{round}");
    }
}

/// The counters of what is known in the end to the unit, and those of charges that travel together: of either, one that
/// never fills, and one that does.
fn counters() -> [Charge; 4] {
    [("ana", WIDE), ("acme", TIGHT), ("bob", WIDE), ("beta", TIGHT)].map(|(subject, limit)| {
        let key = CounterKey::of(subject, "tokens", Period::Day, NOW_S).in_account("acme");
        Charge { key, amount: 1, limit: Limit::Units(limit) }
    })
}

/// Where the counters of charges that travel together begin.
const TOGETHER: usize = 2;

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW_S + seconds).unwrap()
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33) % most
    }
}

/// What the workers know.
#[derive(Debug, Default)]
struct Books {
    used: [u64; 4],
    held: [u64; 4],
    bonus: u64,
    /// Steps without a name, by the counter that only they charge.
    marked: Vec<Marked>,
    /// What was charged together by steps of which nobody knows whether they were made.
    perhaps_used: [u64; 4],
    perhaps: u64,
    steps: u64,
    refused: u64,
    /// Answers that the store itself could not get in its time: of steps with a name, and of others.
    asked_again: u64,
    unknown: u64,
    took: Vec<Duration>,
    /// When each worker was first answered after the last cut.
    answered: Vec<Instant>,
}

/// A step without a name, and what else than its own counter it charges or raises.
#[derive(Debug)]
struct Marked {
    mark: CounterKey,
    counters: usize,
    amount: u64,
    is_bonus: bool,
    /// Whether it was made, where that is known.
    is_made: Option<bool>,
}

fn cut_a_thousand_times(name: &str, upstream: Upstream, open: impl FnOnce(SocketAddr) -> Arc<dyn Store>) {
    let proxy = Proxy::start(upstream);
    let store = open(proxy.address());
    let (books, stop) = (Mutex::new(Books::default()), AtomicBool::new(false));
    let (is_over, mut last_cut) = (AtomicBool::new(false), Instant::now());
    std::thread::scope(|scope| {
        for number in 0..WORKERS {
            let (books, stop, is_over) = (&books, &stop, &is_over);
            let store = &*store;
            scope.spawn(move || {
                let mut worker = Worker { store, books, dice: Dice(number), number, steps: 0, lease: None };
                let mut answered = false;
                while !stop.load(Ordering::Relaxed) {
                    let was_over = is_over.load(Ordering::Relaxed);
                    if worker.step() && was_over && !std::mem::replace(&mut answered, true) {
                        books.lock().unwrap().answered.push(Instant::now());
                    }
                }
                worker.settle_lease();
            });
        }
        let mut dice = Dice(99);
        for number in 0..CUTS {
            if number % 50 == 7 {
                // Longer than a statement may take: it is asked again while the server may yet do it.
                proxy.act(dice.below(5), Cut::Delay(Duration::from_millis(600)));
            }
            let cut = match dice.below(10) {
                0..3 => Cut::BeforeRequest,
                3..6 => Cut::AfterRequest,
                6..9 => Cut::InReply(usize::try_from(dice.below(200)).unwrap()),
                _ => Cut::AndRefuse(Duration::from_millis(dice.below(20))),
            };
            proxy.act(dice.below(8), cut);
        }
        last_cut = Instant::now();
        is_over.store(true, Ordering::Relaxed);
        let are_answered = || books.lock().unwrap().answered.len() as u64 == WORKERS;
        while !are_answered() && last_cut.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
    });
    report(name, &store, books.into_inner().unwrap(), last_cut);
}

fn report(name: &str, store: &Arc<dyn Store>, mut books: Books, last_cut: Instant) {
    books.took.sort_unstable();
    let (median, worst) = (books.took[books.took.len() / 2], books.took[books.took.len() - 1]);
    assert_eq!(books.answered.len() as u64, WORKERS, "answered after the last cut");
    audit(name, store, &mut books);
    let Books { steps, refused, asked_again, unknown, .. } = &books;
    println!("{name}: {CUTS} cuts, {steps} steps, {refused} refused");
    println!("  {asked_again} answers were asked for again by the caller, {unknown} are not known");
    println!("  a step took {median:.1?} (median), {worst:.1?} (the slowest)");
    let recovered = books.answered.iter().map(|answer| answer.saturating_duration_since(last_cut)).max();
    println!("  after the last cut every worker was answered within {:.1?}", recovered.unwrap_or_default());
    assert!(*refused > 0, "the limit was never reached");
    // All but those that were delayed for longer than the store waits, or were cut over and over again.
    assert!(*unknown < CUTS / 10, "{unknown} answers are not known");
}

/// What the counters hold is what was charged.
fn audit(name: &str, store: &Arc<dyn Store>, books: &mut Books) {
    let balances = |keys: &[CounterKey]| block_on(store.balances(Call::new(time(0), Wait::Block), keys)).unwrap();
    let (mut unknown, mut made) = (0, 0);
    for step in std::mem::take(&mut books.marked) {
        let [Balance { used, bonus, .. }] = balances(std::slice::from_ref(&step.mark))[..] else { panic!("{step:?}") };
        let found = if step.is_bonus { bonus } else { used };
        assert!(found == 0 || found == step.amount, "{found} by one step: {step:?}");
        let is_made = found > 0;
        assert_eq!(step.is_made.unwrap_or(is_made), is_made, "{step:?}");
        unknown += u64::from(step.is_made.is_none());
        made += u64::from(step.is_made.is_none() && is_made);
        match (is_made, step.is_bonus) {
            (true, true) => books.bonus += step.amount,
            (true, false) => books.used.iter_mut().take(step.counters).for_each(|counter| *counter += step.amount),
            (false, _) => {}
        }
    }
    println!("{name}: of {unknown} steps that nobody knew of, {made} were made, once");
    let found = balances(&counters().map(|charge| charge.key));
    for (number, balance) in found.iter().enumerate() {
        let Balance { used, held, overage, bonus, .. } = *balance;
        assert_eq!((held, overage), (books.held[number], 0), "of counter {number}");
        assert_eq!(bonus, if number == 0 { books.bonus } else { 0 }, "of counter {number}");
        let surely = books.used[number];
        let perhaps = surely..=surely + books.perhaps_used[number];
        assert!(perhaps.contains(&used), "of counter {number}: {used} used, {perhaps:?} charged");
    }
    let Books { perhaps, perhaps_used, .. } = books;
    println!("{name}: of those that travelled together, {perhaps} are not known, of at most {perhaps_used:?} units");
    assert_eq!(perhaps_used[..TOGETHER], [0, 0], "only what travels together is not known to the unit");
    assert!([1, 3].iter().all(|full: &usize| found[*full].used + found[*full].held <= TIGHT), "{found:?}");
}

struct Worker<'t> {
    store: &'t dyn Store,
    books: &'t Mutex<Books>,
    dice: Dice,
    number: u64,
    steps: u64,
    /// The block that is open, and how much of it is used.
    lease: Option<(HoldId, u64)>,
}

impl Worker<'_> {
    /// Whether it was answered.
    fn step(&mut self) -> bool {
        self.steps += 1;
        self.books.lock().unwrap().steps += 1;
        match self.dice.below(9) {
            0 | 1 => self.charge(),
            2 => return self.charge_with_a_mark(),
            3 | 4 => return self.charge_together(),
            5 => return self.grant_with_a_mark(),
            6 => self.hold(),
            _ => self.lease(),
        }
        true
    }

    /// One counter, or both of them.
    fn charges(&mut self, from: usize) -> Vec<Charge> {
        let amount = 1 + self.dice.below(3);
        let counters = 1 + usize::try_from(self.dice.below(2)).unwrap();
        counters_of(from, counters, amount)
    }

    fn name(&self) -> HoldId {
        HoldId::from_bytes((u128::from(self.number) << 64 | u128::from(self.steps)).to_be_bytes())
    }

    fn once(&self, charges: &[Charge]) -> Once {
        let (subject, key) = ("ana".into(), format!("{}-{}", self.number, self.steps).into());
        let arguments = Fingerprint::of(&[format!("{charges:?}").as_bytes()]);
        Once { subject, key, arguments, kept_until: time(86_400) }
    }

    /// Asks under one name until there is an answer.
    fn ask<T>(&self, mut ask: impl FnMut(Call) -> Result<T, StoreError>) -> T {
        let began = Instant::now();
        let mut failures = 0;
        loop {
            match ask(Call::new(time(0), Wait::Block)) {
                Ok(answer) => {
                    let mut books = self.books.lock().unwrap();
                    books.asked_again += failures;
                    books.took.push(began.elapsed());
                    return answer;
                }
                Err(error) => {
                    assert_ne!(error.retry(), Retry::Never, "{error}");
                    assert!(began.elapsed() < Duration::from_secs(30), "{error}");
                    failures += 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    fn refused(&self) {
        self.books.lock().unwrap().refused += 1;
    }

    fn note_used(&self, charges: usize, used: u64) {
        self.books.lock().unwrap().used.iter_mut().take(charges).for_each(|counter| *counter += used);
    }

    /// The counter that only this step charges.
    fn mark(&self) -> CounterKey {
        let subject = format!("step-{}-{}", self.number, self.steps);
        CounterKey::of(&*subject, "tokens", Period::Day, NOW_S).in_account("acme")
    }

    fn charge(&mut self) {
        let charges = self.charges(0);
        let once = self.once(&charges);
        let charged = self.ask(|call| block_on(self.store.charge(call, &charges, Some(&once))));
        match charged.outcome {
            Outcome::Granted | Outcome::Repeated(_) => self.note_used(charges.len(), charges[0].amount),
            Outcome::Refused => self.refused(),
            Outcome::Conflict => panic!("{charged:?}"),
        }
    }

    /// Asks for something that has no name, once. `None` where nobody knows whether it was made.
    fn ask_once<T>(&self, ask: impl FnOnce(Call) -> Result<T, StoreError>) -> Option<Result<T, StoreError>> {
        match ask(Call::new(time(0), Wait::Block)) {
            Err(error) if error.retry() == Retry::OutcomeUnknown => {
                self.books.lock().unwrap().unknown += 1;
                None
            }
            Err(error) => {
                assert_eq!(error.retry(), Retry::Safe, "{error}");
                Some(Err(error))
            }
            answer => Some(answer),
        }
    }

    fn charge_with_a_mark(&mut self) -> bool {
        let (mut charges, mark) = (self.charges(0), self.mark());
        let (counters, amount) = (charges.len(), charges[0].amount);
        charges.push(Charge { key: mark.clone(), amount, limit: Limit::Units(WIDE) });
        let charged = self.ask_once(|call| block_on(self.store.charge(call, &charges, None)));
        if matches!(&charged, Some(Ok(charged)) if !charged.granted()) {
            self.refused();
        }
        let is_made = charged.as_ref().map(|charged| charged.as_ref().is_ok_and(Charged::granted));
        self.books.lock().unwrap().marked.push(Marked { mark, counters, amount, is_bonus: false, is_made });
        matches!(charged, Some(Ok(_)))
    }

    fn charge_together(&mut self) -> bool {
        let charges = self.charges(TOGETHER);
        let amount = charges[0].amount;
        let charged = self.ask_once(|call| block_on(self.store.charge(call, &charges, None)));
        let mut books = self.books.lock().unwrap();
        let Books { used, perhaps_used, perhaps, refused, .. } = &mut *books;
        let counters = match &charged {
            Some(Ok(charged)) if charged.granted() => used,
            Some(answer) => {
                *refused += u64::from(answer.is_ok());
                return answer.is_ok();
            }
            None => {
                *perhaps += 1;
                perhaps_used
            }
        };
        counters.iter_mut().skip(TOGETHER).take(charges.len()).for_each(|counter| *counter += amount);
        charged.is_some()
    }

    /// Units on top of the limit that nothing depends on.
    fn grant_with_a_mark(&self) -> bool {
        let ([Charge { key, .. }, ..], mark) = (counters(), self.mark());
        let adjustments = [key, mark.clone()].map(|key| Adjustment { key, by: Adjust::Grant(1) });
        let event = Event::new(EventName::UsageAdjusted, time(0));
        let granted = self.ask_once(|call| block_on(self.store.adjust(call, &adjustments, None, &event)));
        let is_made = granted.as_ref().map(Result::is_ok);
        self.books.lock().unwrap().marked.push(Marked { mark, counters: 0, amount: 1, is_bonus: true, is_made });
        matches!(granted, Some(Ok(_)))
    }

    /// Every fourth hold stays open, the others are settled.
    fn hold(&mut self) {
        let (charges, id) = (self.charges(0), self.name());
        let once = Some(self.once(&charges));
        let hold = Hold { id, once, charges, expires_at: time(3_600), kept_until: time(86_400) };
        let charged = self.ask(|call| block_on(self.store.hold(call, &hold)));
        if !charged.granted() {
            return self.refused();
        }
        let amount = hold.charges[0].amount;
        if self.dice.below(4) == 0 {
            let mut books = self.books.lock().unwrap();
            return books.held.iter_mut().take(hold.charges.len()).for_each(|counter| *counter += amount);
        }
        // Something of it: a hold that was released may be made anew by a request that comes late.
        let used = 1 + self.dice.below(amount);
        let settle = Settle { id, used: vec![("tokens".into(), used)] };
        self.settled(&self.ask(|call| block_on(self.store.settle(call, &settle))), used);
    }

    /// Books what a settled hold or block has charged.
    fn settled(&self, settled: &Settled, used: u64) {
        let (Settled::Now(receipt) | Settled::Before(receipt)) = settled else { panic!("{settled:?}") };
        assert!(receipt.parts.iter().all(|part| part.used == used && part.overage == 0), "{receipt:?}");
        self.note_used(receipt.parts.len(), used);
    }

    /// Settles the block that is open and makes another, of both counters.
    fn lease(&mut self) {
        let id = self.name();
        let before = self.lease.take();
        let settle = before.map(|(id, used)| Settle { id, used: vec![("tokens".into(), used)] });
        let charges = counters_of(0, 2, 20);
        let lease = Lease { id, settle, charges, least: 2, expires_at: time(3_600), kept_until: time(86_400) };
        let leased = self.ask(|call| block_on(self.store.lease(call, &lease)));
        if let (Some((_, used)), Some(settled)) = (before, &leased.settled) {
            self.settled(settled, used);
        }
        match leased.amount {
            0 => self.refused(),
            amount => self.lease = Some((id, self.dice.below(amount + 1))),
        }
    }

    fn settle_lease(&mut self) {
        if let Some((id, used)) = self.lease.take() {
            let settle = Settle { id, used: vec![("tokens".into(), used)] };
            self.settled(&self.ask(|call| block_on(self.store.settle(call, &settle))), used);
        }
    }
}

fn counters_of(from: usize, many: usize, amount: u64) -> Vec<Charge> {
    counters().into_iter().skip(from).take(many).map(|charge| Charge { amount, ..charge }).collect()
}
