//! Demand: how many units of a quota are asked for, and how large a block that makes.

use std::time::Duration;

/// How many requests must have come before a block is asked for: most subjects ask for less.
const REQUESTS_MIN: u64 = 8;

/// How many requests of the usual size a block must serve to be worth two steps of the store; and how many units at
/// the least.
pub(crate) const LEAST: u64 = 8;

/// What comes within less than this is taken for what comes within this: so that blocks grow tenfold at most from
/// one to the next, however suddenly demand begins.
const SHORTEST: Duration = Duration::from_secs(1);

/// What was asked for lately. What is older than the time a block lasts counts for half, and then for half of that.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Demand {
    since: Duration,
    latest: Duration,
    units: u64,
    requests: u64,
}

/// A block that demand makes worth asking for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// How many units.
    pub(crate) units: u64,
    /// Below how many none is worth it.
    pub(crate) least: u64,
}

impl Demand {
    /// Notes a request for `units`, `now` by monotonic time, where blocks last for `ttl`.
    pub(crate) fn note(&mut self, units: u64, now: Duration, ttl: Duration) {
        self.age(now, ttl);
        self.latest = now;
        self.units = self.units.saturating_add(units);
        self.requests = self.requests.saturating_add(1);
    }

    /// The block that is worth asking for, if one is.
    pub(crate) fn wanted(&mut self, now: Duration, ttl: Duration, max: u64) -> Option<Wanted> {
        self.age(now, ttl);
        let is_over = now.saturating_sub(self.latest) >= ttl / 2;
        if self.requests < REQUESTS_MIN || is_over {
            return None;
        }
        let within = now.saturating_sub(self.since).max(SHORTEST).as_millis().max(1);
        let units = u128::from(self.units) * ttl.as_millis() / within;
        let units = u64::try_from(units).unwrap_or(u64::MAX).min(max);
        let least = (self.units / self.requests).saturating_mul(LEAST).max(LEAST);
        (units >= least).then_some(Wanted { units, least })
    }

    fn age(&mut self, now: Duration, ttl: Duration) {
        let mut age = now.saturating_sub(self.since);
        if age >= ttl.saturating_mul(16) {
            *self = Self { since: now, latest: self.latest, ..Self::default() };
            return;
        }
        while age >= ttl && !ttl.is_zero() {
            (self.units, self.requests, age) = (self.units / 2, self.requests / 2, age / 2);
            self.since = now.saturating_sub(age);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn wanted(requests: u64, units: u64, every: Duration) -> Option<Wanted> {
        let mut demand = Demand::default();
        let mut now = Duration::from_secs(1_000);
        for _ in 0..requests {
            now += every;
            demand.note(units, now, TTL);
        }
        demand.wanted(now, TTL, 1_000_000)
    }

    #[test]
    fn a_block_is_as_large_as_what_is_asked_for_in_its_time() {
        let Some(Wanted { units, least: 8 }) = wanted(1_000, 1, Duration::from_millis(100)) else { unreachable!() };
        assert!((90..=110).contains(&units), "{units} of ten a second");
        let Some(Wanted { units, least }) = wanted(200, 1_500, Duration::from_millis(500)) else { unreachable!() };
        assert!((27_000..=33_000).contains(&units) && least == 12_000, "{units}, {least}");
    }

    #[test]
    fn what_is_asked_for_seldom_is_not_worth_a_block() {
        assert_eq!(wanted(7, 1, Duration::from_millis(1)), None);
        assert_eq!(wanted(100, 1, Duration::from_secs(2)), None);
        assert_eq!(wanted(100, 5_000, Duration::from_secs(2)), None);
    }

    #[test]
    fn a_sudden_demand_makes_no_huge_block_and_none_one_beyond_the_bound() {
        assert_eq!(wanted(8, 1, Duration::ZERO), Some(Wanted { units: 80, least: 8 }));
        assert_eq!(wanted(8, 1_000_000, Duration::ZERO), None, "a bound below what is worth it");
        let Some(Wanted { units, .. }) = wanted(1_000_000, 1, Duration::from_micros(1)) else { unreachable!() };
        assert_eq!(units, 1_000_000);
    }

    #[test]
    fn demand_that_is_over_is_forgotten() {
        let mut demand = Demand::default();
        (0..1_000).for_each(|_| demand.note(1, Duration::from_secs(5), TTL));
        assert!(demand.wanted(Duration::from_secs(6), TTL, 1_000).is_some());
        assert_eq!(
            demand.wanted(Duration::from_secs(10), TTL, 1_000),
            None,
            "nobody has asked for half a block's time"
        );
        assert_eq!(demand.wanted(Duration::from_secs(500), TTL, 1_000), None);
    }
}
