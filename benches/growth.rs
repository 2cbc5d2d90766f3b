//! What becomes of a server when more and more ask it at once.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

/// How many ask at once, each on a connection of its own where it has one.
pub(crate) const CALLERS: [usize; 3] = [1, 8, 32];

/// How many counters are asked of in turn, where it is not one that all ask of.
pub(crate) const COUNTERS: usize = 10_000;

const WARM: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_millis(1_500);

/// What was done while it was measured.
pub(crate) struct Done {
    pub(crate) per_second: f64,
    pub(crate) p99: Duration,
}

/// Threads to ask from.
pub(crate) fn threads() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Has so many ask, each anew when it was answered. `act` is told who asks, and a number that nobody else has.
pub(crate) fn measured<F: Future<Output = ()> + Send + 'static>(
    threads: &Runtime,
    callers: usize,
    act: impl Fn(usize, usize) -> F + Send + Sync + 'static,
) -> Done {
    let (act, next) = (Arc::new(act), Arc::new(AtomicUsize::new(0)));
    let began = Instant::now() + WARM;
    let ask = |caller| {
        let (act, next) = (Arc::clone(&act), Arc::clone(&next));
        threads.spawn(async move {
            let mut took = Vec::new();
            while began.elapsed() < LONG {
                let asked = Instant::now();
                act(caller, next.fetch_add(1, Ordering::Relaxed)).await;
                if asked >= began {
                    took.push(asked.elapsed());
                }
            }
            took
        })
    };
    let asking: Vec<_> = (0..callers).map(ask).collect();
    let mut took: Vec<Duration> = asking.into_iter().flat_map(|asking| threads.block_on(asking).unwrap()).collect();
    let per_second = took.len() as f64 / began.elapsed().as_secs_f64();
    took.sort_unstable();
    Done { per_second, p99: took[took.len() * 99 / 100] }
}

/// Does something to every counter, some at once.
pub(crate) fn each<F: Future<Output = ()> + Send + 'static>(
    threads: &Runtime,
    act: impl Fn(usize) -> F + Send + Sync + 'static,
) {
    let (act, next) = (Arc::new(act), Arc::new(AtomicUsize::new(0)));
    let ask = |_| {
        let (act, next) = (Arc::clone(&act), Arc::clone(&next));
        threads.spawn(async move {
            loop {
                match next.fetch_add(1, Ordering::Relaxed) {
                    number if number < COUNTERS => act(number).await,
                    _ => return,
                }
            }
        })
    };
    let asking: Vec<_> = (0..32).map(ask).collect();
    asking.into_iter().for_each(|asking| threads.block_on(asking).unwrap());
}

pub(crate) fn heading() {
    println!(
        "{:<26} {:>8} {:>14} {:>10} {:>14} {:>10} {:>12}",
        "counters", "callers", "raw", "p99", "the store", "p99", "store : raw"
    );
}

/// Prints how many charges a second either makes.
pub(crate) fn line(counters: &str, callers: usize, raw: &Done, store: &Done) {
    println!(
        "{counters:<26} {callers:>8} {:>12.0}/s {:>10.1?} {:>12.0}/s {:>10.1?} {:>11.2}x",
        raw.per_second,
        raw.p99,
        store.per_second,
        store.p99,
        store.per_second / raw.per_second
    );
}
