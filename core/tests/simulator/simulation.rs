//! A run: several engines on one store, their clients, clocks and faults, in an order that its seed has drawn.
//!
//! Everything happens on one thread. A task is an operation of a client, polled in random order and only when
//! it was woken, so that a lost wake-up is found; it may be dropped anywhere.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use pollster::block_on;
use quotum::store::{Call, CounterKey, Layered, MemoryStore, Store, Wait};
use quotum::{Clock, collect_aside, take_aside};
use quotum::{HoldId, ManualClock, Plans, Quota, Reservation, Subscription, Timestamp, Work};

use crate::auditor::{Asked, Auditor, Costs, Told};
use crate::books::entry_of;
use crate::dice::Dice;
use crate::store::{Faulty, Mood, Witness, as_operation};
use crate::terms::{ACCOUNT, MEMBERS, METRICS, PLANS, SUBJECTS, Terms};

/// Where clocks change, and when: runs begin shortly before.
const PLACES: [(&str, &str); 5] = [
    ("UTC", "2026-02-27T22:00:00Z"),
    ("America/New_York", "2026-03-08T05:30:00Z"),
    ("Europe/Berlin", "2026-10-24T21:00:00Z"),
    ("America/Sao_Paulo", "2027-12-31T23:30:00Z"),
    ("Australia/Lord_Howe", "2028-02-29T10:00:00Z"),
];

/// How many of a run's last events are told when it fails.
const TRACE: usize = 60;

const PATIENCE: Duration = Duration::from_secs(12 * 3_600);

const KEY_LIFE: Duration = Duration::from_secs(20 * 3_600);

const FEED_INTERVAL: Duration = Duration::from_secs(1);

struct Engine {
    quota: Quota,
    clock: Arc<ManualClock>,
    way: Faulty,
    aside: VecDeque<Work>,
    /// Its number with the auditor: an engine that is opened anew gets another.
    number: usize,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Task {
    number: u64,
    engine: usize,
    future: Pin<Box<dyn Future<Output = Told>>>,
    woken: Arc<Flag>,
    asked: Asked,
    begun: Timestamp,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Summary {
    pub(crate) operations: u64,
    pub(crate) grants: u64,
    pub(crate) denials: u64,
    pub(crate) degraded: u64,
    pub(crate) doubly_charged: u64,
    /// A digest of everything that happened.
    pub(crate) digest: u64,
}

pub(crate) struct Simulation {
    dice: Dice,
    zone: &'static str,
    steady: bool,
    auditor: Arc<Mutex<Auditor>>,
    store: Arc<MemoryStore>,
    engines: Vec<Engine>,
    tasks: Vec<Task>,
    /// Reservations that clients keep, with their engine, and names of those that were let go.
    kept: Vec<(usize, Reservation)>,
    names: Vec<(HoldId, Costs)>,
    /// Idempotency keys, with what they were used for.
    keys: VecDeque<(&'static str, Costs, String, bool, Timestamp)>,
    /// True time, which no engine's clock quite shows.
    now: Timestamp,
    begun: u64,
    edition: u32,
    trace: VecDeque<String>,
    digest: u64,
}

type Outcome = Result<Summary, String>;

impl Simulation {
    pub(crate) fn run(seed: u64, operations: u64) -> Outcome {
        let mut dice = Dice::seeded(seed);
        let (zone, start) = *dice.pick(&PLACES);
        let steady = dice.chance(300);
        let terms = Terms::draw(1, &mut dice);
        let auditor = Arc::new(Mutex::new(Auditor::new(zone, terms.clone(), steady)));
        let mut simulation = Self {
            zone,
            steady,
            auditor,
            store: Arc::new(MemoryStore::new()),
            engines: Vec::new(),
            tasks: Vec::new(),
            kept: Vec::new(),
            names: Vec::new(),
            keys: VecDeque::new(),
            now: start.parse().unwrap(),
            begun: 0,
            edition: 1,
            trace: VecDeque::new(),
            digest: seed,
            dice,
        };
        collect_aside();
        let plans = Plans::from_toml(&terms.to_toml(zone)).unwrap();
        for _ in 0..simulation.dice.between(1, 4) {
            let engine = simulation.open(&plans);
            simulation.engines.push(engine);
        }
        let outcome = simulation.live(operations, &plans);
        // What is left releases quietly.
        simulation.tasks.clear();
        simulation.kept.drain(..).for_each(|(_, reservation)| {
            reservation.detach();
        });
        drop(take_aside());
        let failed = simulation.auditor().failure.take();
        match (outcome, failed) {
            (Ok(()), None) => Ok(simulation.summary()),
            (outcome, failed) => {
                let trace: Vec<String> = simulation.trace.into_iter().collect();
                let what = failed.or(outcome.err()).unwrap_or_default();
                Err(format!("seed {seed}: {what}\n  its last events:\n  {}", trace.join("\n  ")))
            }
        }
    }

    fn summary(&self) -> Summary {
        let auditor = self.auditor();
        Summary {
            operations: self.begun,
            grants: auditor.grants,
            denials: auditor.denials,
            degraded: auditor.degraded_grants,
            doubly_charged: auditor.doubly_charged,
            digest: self.digest,
        }
    }

    fn auditor(&self) -> MutexGuard<'_, Auditor> {
        self.auditor.lock().unwrap()
    }

    fn tell(&mut self, event: String) {
        for byte in event.bytes() {
            // FNV-1a.
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        self.trace.push_back(event);
    }

    fn open(&mut self, plans: &Plans) -> Engine {
        let wall = self.now - Duration::from_secs(300) + Duration::from_secs(self.dice.below(600));
        let clock = Arc::new(ManualClock::at(wall));
        let number = self.auditor().started(wall);
        let way = Faulty::new(self.dice.fork(), Arc::clone(&self.auditor), number);
        let witness = Witness::new(Arc::clone(&self.store), Arc::clone(&self.auditor), number);
        let store = Arc::new(Layered::new(Arc::new(witness), way.clone()));
        let subscription_ttl = *self.dice.pick(&[Duration::ZERO, Duration::from_secs(30), Duration::from_secs(86_400)]);
        let builder = Quota::builder()
            .plans(plans.clone())
            .clock(clock.clone())
            .catalog_ttl(Duration::from_secs(*self.dice.pick(&[5, 300, 86_400])))
            .subscription_ttl(subscription_ttl)
            .feed_interval(FEED_INTERVAL)
            // The way to the store has faults of its own, in simulated time.
            .store_timeout(Duration::MAX)
            .breaker(None)
            .rates_max(64);
        let quota = block_on(builder.open_on(store)).unwrap();
        Engine { quota, clock, way, aside: take_aside().into(), number }
    }

    fn live(&mut self, operations: u64, plans: &Plans) -> Result<(), String> {
        let mut calm_at = self.dice.between(40, 160);
        while self.begun < operations {
            match self.dice.below(100) {
                0..30 => self.begin(),
                30..80 => self.poll(),
                80..90 => self.pass_time(),
                90..92 => self.turn_a_clock(),
                92..94 => self.change_a_mood(),
                94 => self.drop_a_task(),
                95..98 => self.work_aside(),
                98 if self.dice.chance(100) => self.crash(plans),
                _ => self.let_go(),
            }
            self.fail_early()?;
            if self.begun >= calm_at {
                calm_at = self.begun + self.dice.between(40, 160);
                self.calm_down()?;
            }
        }
        self.calm_down()?;
        self.outlast_all_holds()
    }

    fn fail_early(&self) -> Result<(), String> {
        let failed = self.auditor().failure.clone();
        failed.map_or(Ok(()), Err)
    }

    // Clients.

    fn begin(&mut self) {
        if self.tasks.len() >= 8 {
            return;
        }
        let engine = self.dice.index(self.engines.len());
        if let Some(asked) = self.draw_asked() {
            self.start(engine, asked);
        }
    }

    fn draw_costs(&mut self) -> Costs {
        let metric = *self.dice.pick(&METRICS);
        let amount =
            |metric: &str, dice: &mut Dice| if metric == "tokens" { dice.between(1, 60) } else { dice.between(1, 3) };
        let mut costs = vec![(metric, amount(metric, &mut self.dice))];
        if self.dice.chance(350) {
            let other = *self.dice.pick(&METRICS);
            if other != metric {
                costs.push((other, amount(other, &mut self.dice)));
            }
        }
        if self.dice.chance(20) {
            costs[0].1 *= 1_000;
        }
        costs
    }

    fn draw_asked(&mut self) -> Option<Asked> {
        let subject = *self.dice.pick(&SUBJECTS);
        let costs = self.draw_costs();
        let changes = if self.steady { 62 } else { 100 };
        Some(match self.dice.below(changes) {
            0..24 => Asked::Consume { subject, costs, key: None },
            24..38 => {
                let (subject, costs, key) = self.draw_key(subject, costs, false);
                Asked::Consume { subject, costs, key: Some(key) }
            }
            38..42 => Asked::Check { subject, costs },
            42..50 => {
                let ttl_s = self.dice.between(1, 3 * 3_600);
                if self.dice.chance(700) {
                    return Some(Asked::Reserve { subject, costs, ttl_s, key: None });
                }
                let (subject, costs, key) = self.draw_key(subject, costs, true);
                Asked::Reserve { subject, costs, ttl_s, key: Some(key) }
            }
            50..62 if !self.names.is_empty() => {
                let (hold, costs) = self.dice.pick(&self.names).clone();
                if self.dice.chance(250) {
                    return Some(Asked::Release { hold });
                }
                let actual = costs.iter().filter(|_| self.dice.chance(850)).copied();
                let actual: Costs = actual.collect::<Vec<_>>();
                let dice = &mut self.dice;
                let vary =
                    |(metric, amount)| (metric, if dice.chance(200) { amount * 2 } else { dice.below(amount + 1) });
                Asked::Commit { hold, actual: actual.into_iter().map(vary).collect() }
            }
            50..62 => return None,
            62..70 => Asked::Refund { subject, costs },
            70..73 => Asked::GiveBack { subject, costs: vec![("seats", self.dice.between(1, 2))] },
            73..77 => Asked::Grant { subject, costs },
            77..79 => Asked::Reset { subject, metric: costs[0].0 },
            79..91 => self.draw_subscription(subject),
            91..93 => Asked::Cancel { subject },
            93..95 => {
                self.edition += 1;
                let terms = Terms::draw(self.edition, &mut self.dice);
                self.auditor().terms_drawn(terms);
                Asked::SetPlans { edition: self.edition }
            }
            95..97 => Asked::ForgetSubject { subject },
            _ => Asked::Check { subject, costs },
        })
    }

    /// A key of a subject: a new one, or one that was used, seldom for something else.
    fn draw_key(&mut self, subject: &'static str, costs: Costs, reserve: bool) -> (&'static str, Costs, String) {
        // Nobody uses a key again that the store may have forgotten.
        let now = self.now;
        self.keys.retain(|(.., since)| now < *since + KEY_LIFE);
        if !self.keys.is_empty() && self.dice.chance(600) {
            let index = self.dice.index(self.keys.len());
            let (subject, used_for, key, reserved, _) = self.keys[index].clone();
            if reserved == reserve {
                let costs = if self.dice.chance(900) { used_for } else { costs };
                return (subject, costs, key);
            }
        }
        let key = format!("key-{}", self.begun);
        if self.keys.len() == 12 {
            self.keys.pop_front();
        }
        self.keys.push_back((subject, costs.clone(), key.clone(), reserve, now));
        (subject, costs, key)
    }

    fn draw_subscription(&mut self, subject: &'static str) -> Asked {
        let plan = *self.dice.pick(&PLANS);
        let since = self.now - Duration::from_secs(self.dice.between(1, 1_000_000));
        let mut subscription = Subscription::active(plan, since);
        if MEMBERS.contains(&subject) && self.dice.chance(700) {
            subscription = subscription.in_account(ACCOUNT);
        }
        if self.dice.chance(100) {
            subscription.status = quotum::Status::Paused;
        }
        if self.dice.chance(250) {
            let units = self.dice.between(1, 30);
            let limit = format!("{units}/{}", self.dice.pick(&["day", "month"]));
            subscription.overrides.quotas.insert("jobs".to_owned(), vec![limit.parse().unwrap()]);
        }
        if self.dice.chance(300) {
            return Asked::Override { subject, overrides: subscription.overrides };
        }
        Asked::Subscribe { subject, subscription: Box::new(subscription) }
    }

    fn start(&mut self, engine: usize, asked: Asked) {
        self.begun += 1;
        let number = self.begun;
        self.tell(format!("#{number} on {engine}: {}", question(&asked)));
        self.auditor().begins(number, self.engines[engine].number, asked.clone());
        let quota = self.engines[engine].quota.clone();
        let plans = match asked {
            Asked::SetPlans { edition } => Some(self.plans_of(edition)),
            _ => None,
        };
        let future = Box::pin(ask(quota, asked.clone(), plans));
        self.tasks.push(Task {
            number,
            engine,
            future,
            woken: Arc::new(Flag(AtomicBool::new(true))),
            asked,
            begun: self.now,
        });
    }

    fn plans_of(&self, edition: u32) -> Plans {
        let text = self.auditor().terms_of(edition).to_toml(self.zone);
        Plans::from_toml(&text).unwrap()
    }

    // The scheduler.

    fn poll(&mut self) {
        if self.tasks.is_empty() {
            return;
        }
        let index = self.dice.index(self.tasks.len());
        // A task may be polled although nobody woke it.
        if self.tasks[index].woken.0.load(Ordering::Relaxed) || self.dice.chance(50) {
            self.poll_one(index, false);
        }
    }

    fn poll_one(&mut self, index: usize, calm: bool) {
        let task = &mut self.tasks[index];
        task.woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&task.woken));
        let (number, engine) = (task.number, task.engine);
        let polled = as_operation(number, || task.future.as_mut().poll(&mut Context::from_waker(&waker)));
        self.engines[engine].aside.extend(take_aside());
        let Poll::Ready(told) = polled else { return };
        let task = self.tasks.swap_remove(index);
        self.tell(format!("#{number} is told {}", short(&told)));
        self.auditor().ends(number, &told, calm);
        if let Told::Reserved(Ok(Ok(reservation))) = told {
            let Asked::Reserve { costs, .. } = task.asked else { return };
            if let Some(id) = reservation.id() {
                if self.names.len() == 10 {
                    self.names.remove(0);
                }
                self.names.push((id, costs));
            }
            self.kept.push((engine, reservation));
        }
    }

    fn drop_a_task(&mut self) {
        if self.tasks.is_empty() {
            return;
        }
        let index = self.dice.index(self.tasks.len());
        let task = self.tasks.swap_remove(index);
        self.tell(format!("#{} is dropped", task.number));
        self.abandon(task);
    }

    fn abandon(&mut self, task: Task) {
        self.auditor().abandoned(task.number);
        drop(task.future);
        self.engines[task.engine].aside.extend(take_aside());
    }

    /// A client lets go of a reservation: it is released, or left to its name.
    fn let_go(&mut self) {
        if self.kept.is_empty() {
            return;
        }
        let index = self.dice.index(self.kept.len());
        let (engine, reservation) = self.kept.swap_remove(index);
        // Of what is owed, the auditor could not tell whether it was let go before it was charged.
        if self.dice.chance(500) || reservation.decision().degraded {
            reservation.detach();
            return;
        }
        self.tell("a reservation is dropped".to_owned());
        drop(reservation);
        self.engines[engine].aside.extend(take_aside());
    }

    fn work_aside(&mut self) {
        let index = self.dice.index(self.engines.len());
        self.work_aside_of(index);
    }

    fn work_aside_of(&mut self, index: usize) {
        let engine = &mut self.engines[index];
        if let Some(work) = engine.aside.pop_front() {
            work();
            engine.aside.extend(take_aside());
            self.tell(format!("{index} works aside"));
        }
    }

    // The world.

    fn pass_time(&mut self) {
        let by_ms = match self.dice.below(100) {
            0..50 => self.dice.between(1, 2_000),
            50..80 => self.dice.between(1_000, 600_000),
            80..97 => self.dice.between(600_000, 4 * 3_600_000),
            _ => self.dice.between(3_600_000, 6 * 86_400_000),
        };
        self.advance(by_ms);
    }

    fn advance(&mut self, by_ms: u64) {
        self.now += Duration::from_millis(by_ms);
        // Nobody waits for an answer as long as a store remembers counters of hours.
        for index in (0..self.tasks.len()).rev() {
            if self.tasks[index].begun + PATIENCE < self.now {
                let task = self.tasks.swap_remove(index);
                self.abandon(task);
            }
        }
        for index in 0..self.engines.len() {
            // No two clocks run alike: up to 200 parts in a million.
            let drift_ms = by_ms * self.dice.below(200) / 1_000_000;
            let engine = &self.engines[index];
            engine.clock.advance(Duration::from_millis(by_ms + drift_ms));
            self.auditor().clock_shows(engine.number, engine.clock.wall());
        }
        self.tell(format!("{by_ms} ms pass: it is {}", self.now));
    }

    fn turn_a_clock(&mut self) {
        let index = self.dice.index(self.engines.len());
        let off_ms = self.dice.below(2 * 3_600_000);
        let wall = self.now - Duration::from_secs(3_600) + Duration::from_millis(off_ms);
        let engine = &self.engines[index];
        engine.clock.set_wall(wall);
        self.auditor().clock_shows(engine.number, wall);
        self.tell(format!("the clock of {index} is set to {wall}"));
    }

    fn change_a_mood(&mut self) {
        let index = self.dice.index(self.engines.len());
        let way = self.engines[index].way.clone();
        let mood = match way.mood() {
            Mood::Well => *self.dice.pick(&[Mood::Flaky, Mood::Flaky, Mood::Dead]),
            _ => *self.dice.pick(&[Mood::Well, Mood::Well, Mood::Dead]),
        };
        way.be(mood);
        self.tell(format!("the way of {index} to the store is {mood:?}"));
    }

    /// A process dies, with all that it has in memory, and another starts.
    fn crash(&mut self, plans: &Plans) {
        let index = self.dice.index(self.engines.len());
        self.tell(format!("{index} crashes"));
        for place in (0..self.tasks.len()).rev() {
            if self.tasks[place].engine == index {
                let task = self.tasks.swap_remove(place);
                self.abandon(task);
            }
        }
        for (engine, reservation) in std::mem::take(&mut self.kept) {
            match engine == index {
                true => {
                    reservation.detach();
                }
                false => self.kept.push((engine, reservation)),
            }
        }
        // What is killed settles nothing at its end.
        self.engines[index].way.be(Mood::Dead);
        self.engines[index] = self.open(plans);
    }

    // Checks of the whole.

    /// Every fault stops, everybody gets an answer, and all engines have the time to follow what changed.
    /// From then on they must know it, and must have charged what they granted without the store.
    fn calm_down(&mut self) -> Result<(), String> {
        self.tell("all is well".to_owned());
        self.engines.iter().for_each(|engine| engine.way.be(Mood::Well));
        self.finish(false)?;
        // Two intervals of the feed, and the time after which a catalog that failed asks again.
        self.advance(10_000);
        for probe in [false, true] {
            for index in 0..self.engines.len() {
                let subject = *self.dice.pick(&SUBJECTS);
                self.start(index, Asked::Consume { subject, costs: vec![("tokens", 1)], key: None });
                self.finish(probe)?;
            }
            if !probe {
                for engine in &self.engines {
                    self.auditor().caught_up(engine.number);
                }
            }
        }
        for index in 0..self.engines.len() {
            for subject in SUBJECTS {
                self.start(index, Asked::Check { subject, costs: vec![("tokens", 1), ("jobs", 1)] });
                self.finish(true)?;
            }
            self.auditor().debts_are_paid(self.engines[index].number);
        }
        self.compare_all()
    }

    /// Polls whoever is woken until nobody is left.
    fn finish(&mut self, calm: bool) -> Result<(), String> {
        loop {
            let woken: Vec<usize> =
                (0..self.tasks.len()).filter(|index| self.tasks[*index].woken.0.load(Ordering::Relaxed)).collect();
            if woken.is_empty() {
                break;
            }
            let index = *self.dice.pick(&woken);
            self.poll_one(index, calm);
            self.fail_early()?;
        }
        if let Some(task) = self.tasks.first() {
            return Err(format!("#{} is never woken although all is well: {:?}", task.number, task.asked));
        }
        for index in 0..self.engines.len() {
            while !self.engines[index].aside.is_empty() {
                self.work_aside_of(index);
            }
        }
        self.fail_early()
    }

    /// Every counter must hold what the books say.
    fn compare_all(&mut self) -> Result<(), String> {
        let counters = self.auditor().counters(self.now);
        let now = Timestamp::from_millisecond(self.auditor().latest_ms()).unwrap();
        let keys: Vec<CounterKey> = counters.iter().map(|(key, _)| key.clone()).collect();
        let balances = block_on(self.store.balances(Call::new(now, Wait::Block), &keys)).unwrap();
        for ((key, expected), balance) in counters.iter().zip(&balances) {
            let found = entry_of(balance);
            if found != *expected {
                return Err(format!("{key:?} holds {found:?} instead of {expected:?}"));
            }
        }
        Ok(())
    }

    /// When the longest hold has expired, nothing is held.
    fn outlast_all_holds(&mut self) -> Result<(), String> {
        self.advance(6 * 3_600_000);
        self.compare_all()?;
        match self.auditor().held_units() {
            0 => Ok(()),
            units => Err(format!("{units} units are still held after every hold must have expired")),
        }
    }
}

/// One operation, from the question to the answer.
async fn ask(quota: Quota, asked: Asked, plans: Option<Plans>) -> Told {
    match asked {
        Asked::Consume { subject, costs, key: None } => Told::Decision(quota.consume(subject, &costs).await),
        Asked::Consume { subject, costs, key: Some(key) } => {
            Told::Decision(quota.consume_once(subject, &costs, &key).await)
        }
        Asked::Check { subject, costs } => Told::Decision(quota.check(subject, &costs).await),
        Asked::Reserve { subject, costs, ttl_s, key } => {
            let ttl = Duration::from_secs(ttl_s);
            Told::Reserved(match key {
                Some(key) => quota.reserve_once(subject, &costs, ttl, &key).await,
                None => quota.reserve(subject, &costs, ttl).await,
            })
        }
        Asked::Commit { hold, actual } => Told::Settled(quota.commit(hold, &actual).await),
        Asked::Release { hold } => Told::Settled(quota.release(hold).await),
        Asked::Refund { subject, costs } => Told::States(quota.refund(subject, &costs).await),
        Asked::GiveBack { subject, costs } => Told::States(quota.give_back(subject, &costs).await),
        Asked::Grant { subject, costs } => Told::States(quota.grant(subject, &costs).await),
        Asked::Reset { subject, metric } => Told::States(quota.reset_usage(subject, metric).await),
        Asked::Subscribe { subject, subscription } => Told::Done(quota.subscribe(subject, *subscription).await),
        Asked::Override { subject, overrides } => {
            Told::Done(quota.set_overrides(subject, overrides).await.map(|_: Subscription| ()))
        }
        Asked::Cancel { subject } => Told::Done(quota.cancel(subject).await.map(|_: Subscription| ())),
        Asked::SetPlans { .. } => Told::Done(quota.set_plans(&plans.unwrap()).await.map(|_: u64| ())),
        Asked::ForgetSubject { subject } => Told::Done(quota.forget_subject(subject).await),
    }
}

/// What is asked, without the names of holds, which the operating system draws.
fn question(asked: &Asked) -> String {
    match asked {
        Asked::Commit { actual, .. } => format!("Commit {actual:?}"),
        Asked::Release { .. } => "Release".to_owned(),
        asked => format!("{asked:?}"),
    }
}

fn short(told: &Told) -> String {
    let decision = |decision: &quotum::Decision| match &decision.denied {
        None if decision.degraded => "allowed without the store".to_owned(),
        None if decision.repeated => "allowed before".to_owned(),
        None => "allowed".to_owned(),
        Some(denial) => denial.reason.to_string(),
    };
    match told {
        Told::Decision(Ok(told)) | Told::Reserved(Ok(Err(told))) => decision(told),
        Told::Reserved(Ok(Ok(reservation))) => format!("reserved, {}", decision(reservation.decision())),
        Told::Settled(Ok(settlement)) => format!("settled{}", if settlement.repeated { " before" } else { "" }),
        Told::States(Ok(_)) | Told::Done(Ok(())) => "done".to_owned(),
        // Names of holds are drawn by the operating system.
        Told::Settled(Err(quotum::Error::HoldExpired { .. })) => "expired".to_owned(),
        Told::Settled(Err(quotum::Error::HoldUnknown { .. })) => "unknown".to_owned(),
        Told::Decision(Err(error))
        | Told::Reserved(Err(error))
        | Told::Settled(Err(error))
        | Told::States(Err(error))
        | Told::Done(Err(error)) => error.to_string(),
    }
}
