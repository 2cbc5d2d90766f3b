//! Circuit breakers: a store that keeps failing is left alone for a while, and callers are told at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Layer, Step};
use crate::clock::Clock;
use crate::store::{Call, StoreError, StoreFuture};

/// When a breaker opens, and for how long.
///
/// ```
/// use std::time::Duration;
/// use quotum::store::BreakerOptions;
///
/// let patient = BreakerOptions { failures: 20, ..BreakerOptions::default() };
/// assert_eq!(patient.cool_down, Duration::from_secs(1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "written out by callers, with `..default()`")]
pub struct BreakerOptions {
    /// How many failures in a row open it, from 1; 5 by default.
    pub failures: u32,
    /// How long it stays open at first; 1 second by default.
    pub cool_down: Duration,
    /// How long it stays open at the most, each time twice as long as before; 30 seconds by default.
    pub cool_down_max: Duration,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self { failures: 5, cool_down: Duration::from_secs(1), cool_down_max: Duration::from_secs(30) }
    }
}

/// Refuses every step at once, with [`StoreError::Unavailable`], after a store has failed several times in a
/// row: callers do not wait in vain, and the store can recover.
///
/// *Closed*, it lets everything pass. After some failures in a row it is *open* for a cool-down. Then it lets
/// one step pass to see whether the store is well again: if so it closes, and otherwise it stays open for
/// twice as long as before. A probe whose caller went away, or that has not ended in the longest cool-down,
/// makes room for another one.
///
/// A failure is an error after which the store may be unwell, and well again later: `Busy`, `TimedOut`,
/// `Failed` and `CannotOpen`. The others are answers of a store that says at once what is wrong: with what it
/// holds (`Damaged`, `Stopped`), or with writing (`Full`, `ReadOnly`) while it can still be read. Refusing
/// everything for them would hide the cause and spare nobody any time.
///
/// ```
/// use std::sync::Arc;
/// use quotum::SystemClock;
/// use quotum::store::{BreakerOptions, CircuitBreaker, Layered, MemoryStore};
///
/// let breaker = CircuitBreaker::new(BreakerOptions::default(), Arc::new(SystemClock::new()));
/// let store = Layered::new(Arc::new(MemoryStore::new()), breaker);
/// ```
#[derive(Debug)]
pub struct CircuitBreaker {
    options: BreakerOptions,
    clock: Arc<dyn Clock>,
    /// The era, and in the lowest bit whether all is well: then no lock need be taken.
    sign: AtomicU64,
    gate: Mutex<Gate>,
}

#[derive(Debug)]
struct Gate {
    /// Counts openings, probes and closings: what was begun before the last of them is no longer judged.
    era: u64,
    /// Failures in a row, while closed.
    failures: u32,
    open: Option<Open>,
}

/// What an open breaker waits for.
#[derive(Debug)]
struct Open {
    /// Monotonic time from which a probe may pass.
    until: Duration,
    cool_down: Duration,
    cause: String,
    probing: bool,
}

/// The permission to make one step. Given up without a judgement, the step was cancelled.
#[derive(Debug)]
pub(super) struct Pass<'b> {
    breaker: &'b CircuitBreaker,
    era: u64,
    probe: bool,
}

/// The sign of an era in which nothing has failed.
const fn all_is_well(era: u64) -> u64 {
    era << 1 | 1
}

impl CircuitBreaker {
    /// A closed breaker, by the monotonic time of this clock.
    #[must_use]
    pub fn new(options: BreakerOptions, clock: Arc<dyn Clock>) -> Self {
        let gate = Gate { era: 0, failures: 0, open: None };
        Self { options, clock, sign: AtomicU64::new(all_is_well(0)), gate: Mutex::new(gate) }
    }

    /// Whether it is open: whether steps are refused, all or all but one.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.gate.lock().open.is_some()
    }

    /// The permission to make one step, if it may be made.
    pub(super) fn pass(&self) -> Result<Pass<'_>, StoreError> {
        let sign = self.sign.load(Ordering::Acquire);
        if sign & 1 == 1 {
            return Ok(Pass { breaker: self, era: sign >> 1, probe: false });
        }
        let mut gate = self.gate.lock();
        let mut probe = false;
        if let Some(open) = &mut gate.open {
            let now = self.clock.monotonic();
            if let Some(left) = open.until.checked_sub(now).filter(|left| !left.is_zero()) {
                let retry_after = if open.probing { open.cool_down } else { left };
                return Err(StoreError::Unavailable { cause: open.cause.clone(), retry_after });
            }
            open.probing = true;
            open.until = now.saturating_add(self.options.cool_down_max);
            probe = true;
            self.begin_era(&mut gate);
        }
        Ok(Pass { breaker: self, era: gate.era, probe })
    }

    /// Begins an era; it is told whether all is well in it.
    fn begin_era(&self, gate: &mut Gate) {
        gate.era += 1;
        self.tell(gate);
    }

    fn tell(&self, gate: &Gate) {
        let well = gate.open.is_none() && gate.failures == 0;
        let sign = if well { all_is_well(gate.era) } else { gate.era << 1 };
        self.sign.store(sign, Ordering::Release);
    }

    fn succeeded(&self, era: u64) {
        if self.sign.load(Ordering::Acquire) == all_is_well(era) {
            return;
        }
        let mut gate = self.gate.lock();
        if gate.era != era {
            return;
        }
        gate.failures = 0;
        if gate.open.take().is_some() {
            self.begin_era(&mut gate);
            drop(gate);
            tracing::info!(target: "quotum", "the store answers again");
        } else {
            self.tell(&gate);
        }
    }

    fn failed(&self, era: u64, error: &StoreError) {
        let mut gate = self.gate.lock();
        if gate.era != era {
            return;
        }
        gate.failures = gate.failures.saturating_add(1);
        let cool_down = match &gate.open {
            Some(open) => open.cool_down.saturating_mul(2).min(self.options.cool_down_max),
            None if gate.failures >= self.options.failures => self.options.cool_down,
            None => return self.tell(&gate),
        };
        let until = self.clock.monotonic().saturating_add(cool_down);
        gate.open = Some(Open { until, cool_down, cause: error.to_string(), probing: false });
        gate.failures = 0;
        self.begin_era(&mut gate);
        drop(gate);
        tracing::warn!(target: "quotum", %error, ?cool_down, "the store keeps failing: it is left alone for a while");
    }

    /// Lets another probe pass, as the one of this era has no answer.
    fn abandoned(&self, era: u64) {
        let mut gate = self.gate.lock();
        if gate.era != era {
            return;
        }
        if let Some(open) = &mut gate.open {
            open.probing = false;
            open.until = self.clock.monotonic();
        }
    }
}

impl Pass<'_> {
    /// Tells the breaker how the step ended.
    pub(super) fn judge(mut self, error: Option<&StoreError>) {
        match error.filter(|error| is_failure(error)) {
            Some(error) => self.breaker.failed(self.era, error),
            None => self.breaker.succeeded(self.era),
        }
        self.probe = false;
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.abandoned(self.era);
        }
    }
}

/// Whether the store may be unwell.
const fn is_failure(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Busy { .. }
            | StoreError::TimedOut { .. }
            | StoreError::Failed { .. }
            | StoreError::CannotOpen { .. }
    )
}

impl Layer for CircuitBreaker {
    fn around<'a, T: Send + 'a>(&'a self, _: Call, _: Step, inner: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        Box::pin(async move {
            let pass = self.pass()?;
            let outcome = inner.await;
            pass.judge(outcome.as_ref().err());
            outcome
        })
    }
}
