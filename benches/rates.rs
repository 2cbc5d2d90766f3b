//! The rate alone, keyed, beside `governor`; and a table under attack. Prints ratios, in one run.
//!
//! Both decide one limit that allows everything, so that the writing path always runs. Keys are
//! uniform, or follow Zipf's law with an exponent of 0.99, their ranks permuted. Times are medians of
//! passes made in turn. Bytes per key are the growth of resident memory over one request of each key.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod measure;

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use quotum::rate::{Algorithm, RatePlace, RateTable};
use quotum::{Clock, Rate, SystemClock};

use measure::{median, picks, resident};

const OPS: usize = 1 << 20;
const PASSES: usize = 7;
const HOSTILE_KEYS: u64 = 10_000_000;

/// Nanoseconds for each operation: so many threads, each with its own share of the picks.
fn pass<K: Sync>(threads: usize, picks: &[u32], keys: &[K], decide: impl Fn(&K) -> bool + Sync) -> f64 {
    let begin = Instant::now();
    let asked = |picks: &[u32]| assert!(picks.iter().all(|pick| black_box(decide(&keys[*pick as usize]))));
    match threads {
        1 => asked(picks),
        _ => std::thread::scope(|scope| {
            for picks in picks.chunks(picks.len().div_ceil(threads)) {
                scope.spawn(move || asked(picks));
            }
        }),
    }
    begin.elapsed().as_nanos() as f64 / picks.len() as f64
}

/// Builds a limiter, asks it once for every key, and says by how many bytes a key memory grew.
fn filled<L>(keys: &[String], make: impl Fn() -> L, decide: impl Fn(&L, &String) -> bool) -> (L, f64) {
    let before = resident();
    let limiter = make();
    assert!(keys.iter().all(|key| decide(&limiter, key)));
    (limiter, (resident() - before) / keys.len() as f64)
}

fn compare(key_count: usize) {
    let keys: Vec<String> = (0..key_count).map(|number| format!("user:{number}")).collect();
    let clock = SystemClock::new();
    let rate: Rate = "1000000000/second burst 4294967295".parse().unwrap();
    let ours = |table: &RateTable, key: &String| {
        table.decide("api", key.as_str().into(), &rate, 1, 1, clock.monotonic()).allowed
    };
    let placed = |table: &RateTable, place: RatePlace| table.decide_at(place, &rate, 1, 1, clock.monotonic()).allowed;
    let theirs = |limiter: &DefaultKeyedRateLimiter<String>, key: &String| limiter.check_key(key).is_ok();
    let quota = Quota::per_second(NonZeroU32::new(1_000_000_000).unwrap()).allow_burst(NonZeroU32::MAX);

    // Twice the cells that the keys need, as the table's documentation advises.
    let (table, our_bytes) = filled(&keys, || RateTable::with_capacity(key_count * 2), ours);
    let (limiter, peer_bytes) = filled(&keys, || RateLimiter::keyed(quota), theirs);
    let places: Vec<RatePlace> = keys.iter().map(|key| table.place("api", key.as_str().into())).collect();
    for zipf in [false, true] {
        let picks = picks(OPS, key_count, zipf);
        for threads in [1, 2] {
            let (mut our_ns, mut placed_ns, mut peer_ns) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..=PASSES {
                our_ns.push(pass(threads, &picks, &keys, |key| ours(&table, key)));
                placed_ns.push(pass(threads, &picks, &places, |place| placed(&table, *place)));
                peer_ns.push(pass(threads, &picks, &keys, |key| theirs(&limiter, key)));
            }
            // The first pass of each warms the caches.
            let [our_ns, placed_ns, peer_ns] = [our_ns, placed_ns, peer_ns].map(|mut ns| median(ns.split_off(1)));
            let law = if zipf { "zipf" } else { "uniform" };
            let name = format!("{key_count} / {law} / {threads}");
            let ratios = (our_ns / peer_ns, placed_ns / peer_ns);
            println!(
                "{name:<24} {our_ns:>8.0} ns {placed_ns:>8.0} ns {peer_ns:>8.0} ns {:>10.2}x {:>10.2}x",
                ratios.0, ratios.1
            );
        }
    }
    let name = format!("{key_count} / bytes per key");
    println!("{name:<24} {our_bytes:>11.1} {:>11} {peer_bytes:>11.1} {:>10.2}x", "", our_bytes / peer_bytes);
}

/// Ten million keys that are made up against a table of a hundred thousand cells, one of which blocks a
/// victim.
fn attack() {
    for algorithm in Algorithm::ALL {
        let table = RateTable::with_capacity(100_000);
        let rate = Rate::new(algorithm, vec!["5/minute".parse().unwrap(), "20/day".parse().unwrap()]).unwrap();
        let victim = |now| table.decide("login", "victim".into(), &rate, 1, 1, now).allowed;
        let mut admitted = (0..100).filter(|_| victim(Duration::ZERO)).count();
        let before = resident();
        let begin = Instant::now();
        for number in 0..HOSTILE_KEYS {
            // Spread over a minute and a half of the table's own time.
            let now = Duration::from_micros(number * 9);
            let mut digits = *b"hostile:0000000000000000";
            digits[8..].iter_mut().enumerate().for_each(|(at, digit)| *digit += (number >> (4 * at)) as u8 & 15);
            let _ = black_box(table.decide("login", std::str::from_utf8(&digits).unwrap().into(), &rate, 1, 1, now));
            if number % 1_000 == 0 {
                admitted += usize::from(victim(now));
            }
        }
        let elapsed = begin.elapsed();
        let grown_kb = (resident() - before) / 1_024.0;
        // 5 at once, and what a minute and a half brings back; a fresh allowance would be more.
        assert!(admitted <= 5 + 8, "the victim got {admitted}");
        println!(
            "attack on {algorithm:<18} {:>6.1} M keys/s; the victim got {admitted} of 10,100 in 90 s; memory {:.1} MB, grown by {grown_kb:.0} kB; {} evictions",
            HOSTILE_KEYS as f64 / 1e6 / elapsed.as_secs_f64(),
            table.memory_bytes() as f64 / 1e6,
            table.evictions(),
        );
    }
}

fn main() {
    println!("seed {:#x}, {OPS} operations a pass, {PASSES} passes", measure::SEED);
    println!(
        "{:<24} {:>11} {:>11} {:>11} {:>11} {:>11}",
        "keys / law / threads", "quotum", "by place", "governor", "quotum:peer", "place:peer"
    );
    compare(10_000);
    compare(1_000_000);
    attack();
}
