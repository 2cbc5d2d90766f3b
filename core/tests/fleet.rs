//! Eight processes and more on one counter of each store: exact at the edge, and leased.
//!
//! Nothing is granted beyond the limit, whatever the processes hold in their blocks; what they give back can be granted
//! to others.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, missing_docs)]

mod holders;
mod servers;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use holders::{
    BLOCK, Counted, EXACT, Holder, LARGE, LEASED, PATIENCE, Pace, balance, engine, served, take_all_but, until,
};
use quotum::blocking::Quota;
use quotum::store::{Balance, MemoryStore, Store};

/// A store that processes find by its URL.
struct Place {
    name: &'static str,
    test: &'static str,
    url: String,
    store: Arc<dyn Store>,
}

impl Place {
    fn new(name: &'static str, test: &'static str, url: String) -> Self {
        let store = quotum::store::open(&url).unwrap();
        // The schema, and the plans.
        drop(engine(Arc::clone(&store), PATIENCE));
        Self { name, test, url, store }
    }

    /// So many processes, ready to go.
    fn holders(&self, of: Counted<'_>, paces: impl Iterator<Item = Pace>) -> Vec<Holder> {
        let holders: Vec<Holder> = paces.map(|pace| Holder::start(self.test, &self.url, of, pace)).collect();
        for holder in &holders {
            holder.line("ready");
        }
        holders
    }

    fn balance(&self, of: Counted<'_>) -> Balance {
        balance(&*self.store, of)
    }

    fn engine(&self) -> Quota {
        engine(Arc::clone(&self.store), PATIENCE)
    }
}

fn granted(holders: &[Holder]) -> u64 {
    holders.iter().map(Holder::granted).sum()
}

/// What is left, granted unit by unit.
fn the_rest(quota: &Quota, (subject, metric): Counted<'_>) -> u64 {
    let consume = || quota.consume(subject, &[(metric, 1)]).unwrap().allowed;
    std::iter::from_fn(|| consume().then_some(1)).sum()
}

/// Without leases: the limit, to the unit.
fn exact(place: &Place) {
    let mut holders = place.holders(("ana", "exact"), std::iter::repeat_n(Pace::HARD, 8));
    holders.iter_mut().for_each(Holder::go);
    for holder in &holders {
        holder.line("exhausted");
    }
    let shares: Vec<u64> = holders.into_iter().map(Holder::close).collect();
    println!("{}: exact, eight processes were granted {shares:?}", place.name);
    assert_eq!(shares.iter().sum::<u64>(), EXACT, "{}: {shares:?}", place.name);
    let held = place.balance(("ana", "exact"));
    assert_eq!((held.used, held.held), (EXACT, 0), "{}", place.name);
}

/// What was seen of holders of leases up to their denials.
struct Seen {
    /// Units that nobody had been granted when the first was denied.
    stranded: u64,
    /// Units that were in other processes' blocks then by the store, which does not know yet what of them is used.
    told: u64,
    /// The most units that were leased at any time.
    most: u64,
}

/// Watches holders of `leased` until each was denied once: what they were granted is always covered.
fn watch(place: &Place, of: Counted<'_>, holders: &mut [Holder]) -> Seen {
    holders.iter_mut().for_each(Holder::go);
    let began = Instant::now();
    let mut is_denied = vec![false; holders.len()];
    let (mut most, mut denials) = (0, Vec::new());
    while is_denied.contains(&false) {
        assert!(began.elapsed() < PATIENCE, "{}: nobody is denied", place.name);
        let known = granted(holders);
        let Balance { used, held, leased, .. } = place.balance(of);
        assert!(used + held <= LEASED, "{}: {used} used and {held} held", place.name);
        assert!(known <= used + held, "{}: {known} granted, {used} used and {held} held", place.name);
        most = most.max(leased);
        for (holder, is_denied) in holders.iter().zip(&mut is_denied).filter(|(_, is_denied)| !**is_denied) {
            if let Some(denial) = holder.line_if("exhausted", Duration::from_micros(100)) {
                *is_denied = true;
                denials.push(denial);
            }
        }
    }
    let (at, told) = denials.iter().min().unwrap();
    let by_then: u64 = holders.iter().map(|holder| holder.granted_by(*at)).sum();
    Seen { told: told.parse().unwrap(), stranded: LEASED - by_then, most }
}

/// Has them close: what they were granted is what is used, and the rest can be granted. Returns the rest.
fn close_all(place: &Place, of: Counted<'_>, holders: Vec<Holder>) -> u64 {
    let granted: u64 = holders.into_iter().map(Holder::close).sum();
    let Balance { used, held, .. } = place.balance(of);
    assert_eq!((used, held), (granted, 0), "{}", place.name);
    let rest = the_rest(&place.engine(), of);
    assert_eq!(granted + rest, LEASED, "{}", place.name);
    rest
}

fn leased(place: &Place) {
    let of = ("ana", "leased");
    let mut holders = place.holders(of, std::iter::repeat_n(Pace::HARD, 8));
    let Seen { most, .. } = watch(place, of, &mut holders);
    let rest = close_all(place, of, holders);
    println!("{}: leased, eight processes were granted {} of {LEASED} up to their denials", place.name, LEASED - rest);
    assert!(most > 0, "{}: nothing was leased", place.name);
}

/// Holders that ask alike run dry together.
fn even(place: &Place) {
    let of = ("eve", "leased");
    let pace = Pace { pause: Duration::from_micros(500), ..Pace::HARD };
    let mut holders = place.holders(of, std::iter::repeat_n(pace, 4));
    let Seen { stranded, told, most } = watch(place, of, &mut holders);
    let rest = close_all(place, of, holders);
    println!(
        "{}: four even holders: {stranded} units stranded at the first denial ({told} in open blocks), {rest} \
         returned; {most} leased at the most",
        place.name
    );
    assert!(most > 0 && stranded < LEASED / 100, "{}: {stranded} stranded", place.name);
}

/// Holders of which the first asks 32 times as often as the last, by Zipf's law.
fn skewed(place: &Place) {
    let of = ("zoe", "leased");
    let pace = |rank: u32| Pace { pause: Duration::from_millis(1) * rank, ..Pace::HARD };
    let mut holders = place.holders(of, (1..=32).map(pace));
    let Seen { stranded, told, most } = watch(place, of, &mut holders);
    let rest = close_all(place, of, holders);
    println!(
        "{}: 32 skewed holders: {stranded} units stranded at the first denial ({told} in open blocks), {rest} \
         returned; {most} leased at the most",
        place.name
    );
    assert!(most > 0, "{}: nothing was leased", place.name);
}

/// Three holders go on while the fourth is killed again and again, at any step of its leases, and replaced.
///
/// What the dead had left in their own blocks is charged, and no more; the living grant the rest, to the unit.
fn killed(place: &Place) {
    const KILLS: u64 = 12;
    let of = ("kim", "blocks");
    let pace = Pace { pause: Duration::from_micros(500), stays: true, timeout: PATIENCE };
    let mut holders: VecDeque<Holder> = place.holders(of, std::iter::repeat_n(pace, 4)).into();
    holders.iter_mut().for_each(Holder::go);
    let quota = place.engine();
    let (mut of_the_dead, mut in_blocks) = (0, 0);
    for kill in 0..KILLS {
        // Long enough for the victim to have leased something, and never the same.
        let victim = holders.pop_front().unwrap();
        until("the victim is granted something", || victim.granted() > 100 + kill * 17);
        let dead = victim.kill();
        of_the_dead += dead.granted;
        in_blocks += dead.leased;
        let reported = of_the_dead + holders.iter().map(Holder::granted).sum::<u64>();
        let Balance { used, held, .. } = place.balance(of);
        assert!(used + held <= LARGE, "{}: {used} used and {held} held", place.name);
        assert!(reported <= used + held, "{}: {reported} granted, {used} used, {held} held", place.name);
        let mut next = Holder::start(place.test, &place.url, of, pace);
        next.line("ready");
        next.go();
        holders.push_back(next);
    }
    let bulk = take_all_but(3_000, of, LARGE, &*place.store, &quota);
    // The living end at the limit, once what the dead had is charged.
    until("everything is used", || {
        let Balance { used, held, .. } = place.balance(of);
        assert!(used + held <= LARGE, "{}: {used} used and {held} held", place.name);
        (used, held) == (LARGE, 0)
    });
    let living: u64 = holders.into_iter().map(Holder::close).sum();
    let (reported, used) = (of_the_dead + living + bulk, place.balance(of).used);
    println!(
        "{}: {KILLS} holders killed: {reported} units reported granted of {used} used; {} lost with the dead, whose \
         blocks may have had {in_blocks} left",
        place.name,
        used.saturating_sub(reported)
    );
    assert!(reported <= used && used == LARGE, "{}: {reported} reported, {used} used", place.name);
    // And of each of the dead a unit that it was granted, and could not report any more.
    assert!(used - reported <= in_blocks + KILLS, "{}: {reported} of {used}, {in_blocks} in blocks", place.name);
    assert!(in_blocks > KILLS * BLOCK, "{}: nobody had leased anything", place.name);
}

#[test]
fn processes_on_sqlite() {
    if served() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}?synchronous=normal&busy_timeout_ms=30000", folder.path().join("quota.db").display());
    run(&Place::new("sqlite", "processes_on_sqlite", url));
}

#[test]
fn processes_on_postgres() {
    if served() {
        return;
    }
    let server = servers::Postgres::start_hasty();
    run(&Place::new("postgres", "processes_on_postgres", format!("{}&connections=2", server.url())));
}

#[test]
fn processes_on_redis() {
    if served() {
        return;
    }
    let server = servers::Redis::start();
    run(&Place::new("redis", "processes_on_redis", format!("{}?connections=1", server.url())));
}

fn run(place: &Place) {
    // One store at a time: the machine is small.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock();
    exact(place);
    leased(place);
    even(place);
    skewed(place);
    killed(place);
}

#[test]
fn engines_in_memory() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    for (metric, limit) in [("exact", EXACT), ("leased", LEASED)] {
        let engines: Vec<Quota> = (0..8).map(|_| engine(Arc::clone(&store), PATIENCE)).collect();
        let granted = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for quota in &engines {
                scope.spawn(|| granted.fetch_add(the_rest(quota, ("ana", metric)), Ordering::Relaxed));
            }
        });
        let at_first = granted.into_inner();
        println!("memory: {metric}, eight engines were granted {at_first} of {limit}");
        assert!(at_first <= limit, "{at_first}");
        assert!(metric == "leased" || at_first == limit, "{at_first}");
        engines.into_iter().for_each(|quota| quota.close().unwrap());
        let held = balance(&*store, ("ana", metric));
        assert_eq!((held.used, held.held), (at_first, 0));
        assert_eq!(the_rest(&engine(Arc::clone(&store), PATIENCE), ("ana", metric)), limit - at_first);
    }
}
