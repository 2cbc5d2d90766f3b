//! Clocks: where the engine gets the time from.
//!
//! Wall time decides periods, trials and expiry; monotonic time decides how old a cached value is.
//! The two are never mixed. Tests and replays bring a [`ManualClock`].

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::planted::planted;

/// A source of time.
///
/// ```
/// use quotum::{Clock, SystemClock};
///
/// let clock = SystemClock::new();
/// let before = clock.monotonic();
/// assert!(clock.monotonic() >= before);
/// ```
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time of day, in UTC.
    fn wall(&self) -> Timestamp;

    /// Time since an origin of the clock's own choice; never goes back.
    fn monotonic(&self) -> Duration;
}

/// The computer's own clocks. On Linux, their [coarse] variants: up to 4 ms behind, depending on the kernel,
/// and read in a quarter of the time.
///
/// [coarse]: https://man7.org/linux/man-pages/man2/clock_gettime.2.html
#[derive(Debug, Clone)]
pub struct SystemClock {
    origin: Ticks,
}

#[cfg(target_os = "linux")]
type Ticks = Duration;

#[cfg(not(target_os = "linux"))]
type Ticks = std::time::Instant;

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    pub fn new() -> Self {
        #[cfg(target_os = "linux")]
        let origin = coarse(rustix::time::ClockId::MonotonicCoarse);
        #[cfg(not(target_os = "linux"))]
        let origin = std::time::Instant::now();
        Self { origin }
    }
}

/// Time since the clock's origin, which is not before 1970.
#[cfg(target_os = "linux")]
fn coarse(clock: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanoseconds.unwrap_or(0))
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(target_os = "linux")]
impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        let nanoseconds = i32::try_from(time.tv_nsec).unwrap_or(0);
        Timestamp::new(time.tv_sec, nanoseconds).unwrap_or(Timestamp::MAX)
    }

    fn monotonic(&self) -> Duration {
        coarse(rustix::time::ClockId::MonotonicCoarse).saturating_sub(self.origin)
    }
}

#[cfg(not(target_os = "linux"))]
impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// A clock that moves only when told to.
///
/// Share it as an `Arc`: one for the engine, one for the test that turns it.
///
/// ```
/// use std::time::Duration;
/// use quotum::{Clock, ManualClock};
///
/// let clock = ManualClock::at("2026-01-31T23:59:59Z".parse()?);
/// clock.advance(Duration::from_secs(1));
/// assert_eq!(clock.wall().to_string(), "2026-02-01T00:00:00Z");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<(Timestamp, Duration)>,
}

impl ManualClock {
    /// A clock that stands at `wall`.
    #[must_use]
    pub const fn at(wall: Timestamp) -> Self {
        Self { now: Mutex::new((wall, Duration::ZERO)) }
    }

    /// Lets time pass, on both clocks. Wall time stops at the last instant it can name.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock();
        now.0 = now.0.checked_add(by).unwrap_or(Timestamp::MAX);
        now.1 = now.1.saturating_add(by);
    }

    /// Sets the wall clock, forwards or back, as an operator or NTP would: no time passes.
    pub fn set_wall(&self, wall: Timestamp) {
        self.now.lock().0 = wall;
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> Timestamp {
        self.now.lock().0
    }

    fn monotonic(&self) -> Duration {
        self.now.lock().1
    }
}

/// Wall time that never goes back.
///
/// A clock that is set back across a period's boundary would open a window that is already spent, or
/// one that is not yet charged. Until the clock has caught up, time stands still instead.
#[derive(Debug)]
pub(crate) struct Ratchet {
    latest_ms: AtomicI64,
}

impl Ratchet {
    pub(crate) const fn new() -> Self {
        Self { latest_ms: AtomicI64::new(i64::MIN) }
    }

    /// The clock's time of day in whole milliseconds, or the latest that was ever seen if it is later.
    pub(crate) fn wall(&self, clock: &dyn Clock) -> Timestamp {
        let seen_ms = clock.wall().as_millisecond();
        let latest_ms = self.latest_ms.fetch_max(seen_ms, Ordering::Relaxed).max(seen_ms);
        let latest_ms = if planted!("clock_goes_back") { seen_ms } else { latest_ms };
        Timestamp::from_millisecond(latest_ms).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_stands_still_until_it_has_caught_up() {
        let start: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        let (clock, ratchet) = (ManualClock::at(start), Ratchet::new());
        assert_eq!(ratchet.wall(&clock), start);

        clock.set_wall("2026-02-28T23:00:00Z".parse().unwrap());
        assert_eq!(ratchet.wall(&clock), start);

        clock.advance(Duration::from_secs(3_601));
        assert_eq!(ratchet.wall(&clock).to_string(), "2026-03-01T00:00:01Z");
    }

    #[test]
    fn a_manual_clock_stops_at_the_ends_of_time() {
        let clock = ManualClock::at(Timestamp::MAX);
        clock.advance(Duration::from_secs(10));
        assert_eq!(clock.wall(), Timestamp::MAX);
        assert_eq!(clock.monotonic(), Duration::from_secs(10));
    }
}
