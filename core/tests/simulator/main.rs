//! The deterministic simulator: several engines on one store, on clocks that step and drift, over ways on which
//! requests and replies are lost, late or stuck; with clients that go away, ask again, and change everything.
//! An auditor checks the invariants of every step. One seed, one run.
//!
//! `QUOTUM_SIM_SEEDS` and `QUOTUM_SIM_OPS` say how many runs and how long, `QUOTUM_SIM_SEED` which one alone.

#![cfg(feature = "conformance")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod auditor;
mod books;
mod dice;
mod leases;
mod simulation;
mod store;
mod terms;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use simulation::{Simulation, Summary};

fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// Runs seeds on all processors until one fails.
fn run_all(seeds: std::ops::Range<u64>, operations: u64) -> Result<Vec<Summary>, String> {
    let next = AtomicU64::new(seeds.start);
    let (summaries, failure) = (Mutex::new(Vec::new()), Mutex::new(None));
    let work = || {
        while failure.lock().unwrap().is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            match Simulation::run(seed, operations) {
                Ok(summary) => summaries.lock().unwrap().push(summary),
                Err(what) => *failure.lock().unwrap() = Some(what),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(work);
        }
    });
    failure.into_inner().unwrap().map_or_else(|| Ok(summaries.into_inner().unwrap()), Err)
}

#[test]
fn every_invariant_holds_in_every_run() {
    // Without optimisation a run takes ten times as long.
    let (runs, operations) = if cfg!(debug_assertions) { (100, 300) } else { (300, 500) };
    let operations = setting("QUOTUM_SIM_OPS", operations);
    let seeds = match setting("QUOTUM_SIM_SEED", u64::MAX) {
        u64::MAX => 0..setting("QUOTUM_SIM_SEEDS", runs),
        seed => seed..seed + 1,
    };
    let began = Instant::now();
    let summaries = run_all(seeds, operations).unwrap_or_else(|what| panic!("{what}"));
    let total = |of: fn(&Summary) -> u64| summaries.iter().map(of).sum::<u64>();
    println!(
        "{} runs, {} operations in {:.1} s: {} grants, {} denials, {} without the store, {} of them charged twice",
        summaries.len(),
        total(|run| run.operations),
        began.elapsed().as_secs_f64(),
        total(|run| run.grants),
        total(|run| run.denials),
        total(|run| run.degraded),
        total(|run| run.doubly_charged),
    );
    // A run in which nothing happens proves nothing.
    assert!(total(|run| run.grants) > 0 && total(|run| run.denials) > 0);
}

#[test]
fn leases_never_grant_more_than_a_limit_and_lose_nothing_that_can_be_told() {
    let (runs, operations) = if cfg!(debug_assertions) { (150, 1_500) } else { (600, 2_000) };
    let seeds = 0..setting("QUOTUM_SIM_SEEDS", runs);
    let mut total = leases::Summary::default();
    for seed in seeds {
        let run = leases::run(seed, operations).unwrap_or_else(|what| panic!("{what}"));
        total.granted += run.granted;
        total.denied += run.denied;
        total.deaths += run.deaths;
        total.stranded += run.stranded;
    }
    println!("{total:?}");
    assert!(total.granted > 0 && total.denied > 0 && total.deaths > 0 && total.stranded > 0, "{total:?}");
}

#[test]
fn the_same_seed_makes_the_same_run() {
    for seed in 0..5 {
        assert_eq!(leases::run(seed, 300), leases::run(seed, 300), "seed {seed}");
        assert_eq!(Simulation::run(seed, 300), Simulation::run(seed, 300), "seed {seed}");
    }
}

/// Each bug that is planted, and after how many runs it is found.
#[cfg(planted)]
#[test]
fn every_planted_bug_is_found() {
    let (seeds, operations) = (setting("QUOTUM_SIM_SEEDS", 1_000), setting("QUOTUM_SIM_OPS", 500));
    let next = std::sync::atomic::AtomicUsize::new(0);
    let missed = Mutex::new(Vec::new());
    let hunt = || {
        while let Some(bug) = quotum::PLANTED_BUGS.get(next.fetch_add(1, Ordering::Relaxed)) {
            quotum::plant(bug);
            let run = |seed| match bug.starts_with("lease") {
                true => leases::run(seed, 4 * operations).err(),
                false => Simulation::run(seed, operations).err(),
            };
            let found = (0..seeds).find_map(|seed| run(seed).map(|what| (seed, what)));
            match found {
                Some((seed, what)) => {
                    let what: String = what.lines().next().unwrap_or_default().chars().take(150).collect();
                    println!("{bug:45} found in run {:4}: {what}", seed + 1);
                }
                None => {
                    println!("{bug:45} NOT FOUND in {seeds} runs");
                    missed.lock().unwrap().push(bug);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(hunt);
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "no run found {missed:?}");
}
