//! Leases, simulated: engines that grant one subject's units from memory, on clocks that differ, of which some die
//! with what they have leased, over ways on which requests and replies are lost.
//!
//! Whatever happens, no day grants more than its limit, and the store has counted all that was granted; where nothing
//! is lost and nobody dies, exactly that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pollster::block_on;
use quotum::blocking::Quota;
use quotum::store::{Call, CounterKey, Layer, Layered, MemoryStore, Step, Store, StoreError, StoreFuture, Wait};
use quotum::{Clock, ManualClock, Period, Plans, Retry, Timestamp, Work, collect_aside, take_aside};

use crate::dice::Dice;

const LIMIT: u64 = 3_000;

const PLANS: &str = "default_plan = 'free'\n[plans.free]\nquotas = { tokens = '3000/day' }\nlease = { tokens = {} }";

const DAY_S: i64 = 86_400;

/// The way from one engine to the store. Its fate is drawn anew for each step.
#[derive(Debug)]
struct Way {
    is_dead: AtomicBool,
    faults: AtomicU64,
    /// In thousandths.
    fault_rate: u64,
}

impl Layer for Way {
    fn around<'a, T: Send + 'a>(&'a self, _: Call, step: Step, inner: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        let lost = |retry| Err(StoreError::Failed { detail: "lost".to_owned(), retry });
        if self.is_dead.load(Ordering::Relaxed) {
            return Box::pin(async move { lost(Retry::Safe) });
        }
        let drawn = self.faults.fetch_add(1, Ordering::Relaxed);
        let mut dice = Dice::seeded(drawn);
        let counts = matches!(step, Step::Charge | Step::Lease | Step::Settle);
        match counts && dice.chance(self.fault_rate) {
            true if dice.chance(500) => Box::pin(async move { lost(Retry::Safe) }),
            true => Box::pin(async move {
                let _made = inner.await;
                lost(step.retry_if_lost())
            }),
            false => inner,
        }
    }
}

/// One engine of a run.
struct Site {
    quota: Quota,
    way: Arc<Layered<Way>>,
    clock: Arc<ManualClock>,
}

/// What one run has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Summary {
    pub(crate) granted: u64,
    pub(crate) denied: u64,
    pub(crate) deaths: u64,
    /// Units that the store has charged and nobody was granted.
    pub(crate) stranded: u64,
}

struct Run {
    dice: Dice,
    store: Arc<dyn Store>,
    sites: Vec<Site>,
    /// Work that engines do aside, when the dice say so.
    work: Vec<Work>,
    /// What was granted in each day, by the clock of the engine that granted it.
    granted: BTreeMap<i64, u64>,
    calm: bool,
    summary: Summary,
}

/// Runs one seed, and says what was wrong.
pub(crate) fn run(seed: u64, operations: u64) -> Result<Summary, String> {
    collect_aside();
    let mut dice = Dice::seeded(seed);
    let calm = dice.chance(300);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let mut run = Run {
        dice,
        store,
        sites: Vec::new(),
        work: Vec::new(),
        granted: BTreeMap::new(),
        calm,
        summary: Summary::default(),
    };
    let begin: Timestamp = "2026-03-10T12:00:00Z".parse().unwrap();
    for _ in 0..run.dice.between(1, 4) {
        run.open(begin);
    }
    // Most runs are within one day, and some end it.
    if run.dice.chance(300) {
        let late: Timestamp = "2026-03-10T23:59:45Z".parse().unwrap();
        run.sites.iter().for_each(|site| site.clock.set_wall(late));
    }
    for operation in 0..operations {
        run.act();
        run.check().map_err(|what| format!("seed {seed}, operation {operation}: {what}"))?;
    }
    run.end().map_err(|what| format!("seed {seed}, at the end: {what}"))?;
    Ok(run.summary)
}

impl Run {
    fn open(&mut self, wall: Timestamp) {
        let fault_rate = if self.calm { 0 } else { 30 };
        let way = Way { is_dead: AtomicBool::new(false), faults: AtomicU64::new(self.dice.roll()), fault_rate };
        let way = Arc::new(Layered::new(Arc::clone(&self.store), way));
        let skew = Duration::from_millis(self.dice.below(if self.calm { 1 } else { 5_000 }));
        let clock = Arc::new(ManualClock::at(wall + skew));
        let builder = Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).clock(clock.clone()).breaker(None);
        let quota = builder.open_on(way.clone()).unwrap();
        self.sites.push(Site { quota, way, clock });
    }

    fn act(&mut self) {
        let place = self.dice.index(self.sites.len());
        match self.dice.below(1_000) {
            0..700 => self.consume(place),
            700..900 => self.pass_time(),
            900..904 if !self.calm => self.die(place),
            _ => self.do_work(),
        }
        self.work.extend(take_aside());
        if self.calm || self.dice.chance(300) {
            self.do_work();
        }
    }

    fn consume(&mut self, place: usize) {
        let site = &self.sites[place];
        let cost = self.dice.between(1, 12);
        for _ in 0..self.dice.between(1, 8) {
            let decision = site.quota.consume("ana", &[("tokens", cost)]).unwrap();
            if decision.allowed {
                let day = site.clock.wall().as_second().div_euclid(DAY_S) * DAY_S;
                *self.granted.entry(day).or_default() += cost;
                self.summary.granted += cost;
            } else {
                self.summary.denied += 1;
            }
        }
    }

    fn pass_time(&mut self) {
        let most_ms = match self.dice.below(20) {
            0 if !self.calm => 15_000,
            _ => 400,
        };
        let passed = Duration::from_millis(self.dice.below(most_ms));
        self.sites.iter().for_each(|site| site.clock.advance(passed));
    }

    /// An engine dies with what it has leased, and another takes its place.
    fn die(&mut self, place: usize) {
        let site = self.sites.remove(place);
        site.way.layer().is_dead.store(true, Ordering::Relaxed);
        let wall = site.clock.wall();
        drop(site);
        self.summary.deaths += 1;
        self.open(wall);
    }

    fn do_work(&mut self) {
        // What is done may leave more to do.
        for _ in 0..self.dice.between(1, 3) {
            std::mem::take(&mut self.work).into_iter().for_each(|work| work());
            self.work.extend(take_aside());
        }
    }

    /// No day grants more than its limit, at any time.
    fn check(&self) -> Result<(), String> {
        let beyond = self.granted.iter().find(|(_, granted)| **granted > LIMIT);
        beyond.map_or(Ok(()), |(day, granted)| Err(format!("{granted} of {LIMIT} granted on the day from {day}")))
    }

    fn end(&mut self) -> Result<(), String> {
        let last = self.sites.iter().map(|site| site.clock.wall()).max().unwrap();
        for site in std::mem::take(&mut self.sites) {
            let _unanswered = site.quota.close();
        }
        std::mem::take(&mut self.work).into_iter().for_each(|work| work());
        for (day, granted) in &self.granted {
            let key = CounterKey::of("ana", "tokens", Period::Day, *day);
            // Long after the last lease has ended.
            let call = Call::new(last + Duration::from_secs(3_600), Wait::Block);
            let found = block_on(self.store.balances(call, &[key])).unwrap()[0];
            let told =
                format!("{} used and {} held of {granted} granted on the day from {day}", found.used, found.held);
            let is_right = match self.calm {
                true => found.used == *granted,
                false => found.used >= *granted && found.used <= LIMIT,
            };
            if !is_right || found.held > 0 {
                return Err(told);
            }
            self.summary.stranded += found.used - granted;
        }
        Ok(())
    }
}
