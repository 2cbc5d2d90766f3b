//! Attempts: a step is made again where another was faster, and whatever the host's map does, the host lives on.

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::host::Map;
use super::transaction::Transaction;
use crate::error::Retry;
use crate::store::StoreError;

/// How often a step is tried.
const ATTEMPTS_MAX: u32 = 60;

/// How long a step is tried, where the map itself waits before it gives up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Half of the longest pause after the first attempt, which doubles with each.
const PAUSE_US: u64 = 100;

/// The longest pause there is.
const PAUSE_US_MAX: u64 = 20_000;

/// Makes a step, as often as it takes.
pub(super) fn make<T>(
    map: &dyn Map,
    now: Timestamp,
    step: impl Fn(&mut Transaction<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let began = Instant::now();
    let mut attempt = 0;
    loop {
        let outcome = attempt_once(map, now, attempt, &step);
        let Err(StoreError::Busy { .. }) = outcome else { return outcome };
        attempt += 1;
        let waited = began.elapsed();
        if attempt == ATTEMPTS_MAX || waited >= PATIENCE {
            return Err(StoreError::Busy { waited });
        }
        thread::sleep(pause(attempt));
    }
}

/// A pause after so many attempts; random, because those that wait for each other must not wait in step.
fn pause(attempts: u32) -> Duration {
    let longest_us = (PAUSE_US << attempts.min(16)).min(PAUSE_US_MAX);
    Duration::from_micros(RandomState::new().hash_one(attempts) % longest_us)
}

fn attempt_once<T>(
    map: &dyn Map,
    now: Timestamp,
    attempt: u32,
    step: impl Fn(&mut Transaction<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut under_way = guarded(Retry::Never, || map.begin())?;
    let made = guarded(Retry::Never, || {
        let mut transaction = Transaction::new(&mut *under_way, now);
        let answer = step(&mut transaction)?;
        // What others forget at the same time is theirs to forget.
        if attempt > 0 {
            transaction.forgets = 0;
        }
        Ok((answer, transaction.write()?))
    });
    match made {
        Ok((answer, writes)) => {
            let if_lost = if writes { Retry::OutcomeUnknown } else { Retry::Never };
            guarded(if_lost, || under_way.commit()).map(|()| answer)
        }
        Err(error) => {
            guarded(Retry::Never, || {
                drop(under_way);
                Ok(())
            })?;
            Err(error)
        }
    }
}

/// What the host's code comes to, also where it panics.
fn guarded<T>(retry: Retry, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(StoreError::Failed { detail: "its map panicked".to_owned(), retry }))
}
