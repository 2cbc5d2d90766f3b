//! The naive limiter: it keeps every admitted request, and adds them up anew for each question.
//!
//! It states each algorithm as a sum over the past, where the library keeps 64 bits.

use std::time::Duration;

use quotum::rate::Algorithm;
use quotum::{Rate, RateLimit};

/// What one key was granted, in the order of the grants.
#[derive(Debug, Default)]
pub struct Log {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    at_ns: i128,
    cost: i128,
    /// For each window of the rate, the time that the cost takes to come back.
    costs_ns: Vec<i128>,
    /// For each window of the rate, the number of the window that it counts in.
    numbers: Vec<i128>,
}

fn window_ns(limit: &RateLimit) -> i128 {
    i128::from(limit.window_s) * 1_000_000_000
}

fn interval_ns(limit: &RateLimit) -> i128 {
    let (window_ns, units) = (window_ns(limit), i128::from(limit.units));
    (window_ns + units - 1) / units
}

impl Log {
    /// Whether the cost fits every window now.
    pub fn admits(&self, rate: &Rate, cost: u64, now: Duration) -> bool {
        let (cost, now_ns) = (i128::from(cost), i128::try_from(now.as_nanos()).unwrap());
        rate.limits.iter().enumerate().all(|(index, limit)| match rate.algorithm {
            Algorithm::Gcra => self.gcra(index, limit, cost, now_ns),
            Algorithm::SlidingWindow => self.sliding(index, limit, cost, now_ns),
            _ => self.counted(index, self.number(index, limit, now_ns)) + cost <= i128::from(limit.units),
        })
    }

    /// Notes a grant.
    pub fn push(&mut self, rate: &Rate, cost: u64, now: Duration) {
        let (cost, at_ns) = (i128::from(cost), i128::try_from(now.as_nanos()).unwrap());
        let costs_ns = rate.limits.iter().map(|limit| cost * interval_ns(limit)).collect();
        let numbers = rate.limits.iter().enumerate().map(|(index, limit)| self.number(index, limit, at_ns)).collect();
        self.entries.push(Entry { at_ns, cost, costs_ns, numbers });
    }

    /// The most units granted within any stretch of time so long.
    pub fn most_within(&self, stretch: Duration) -> u64 {
        let stretch_ns = i128::try_from(stretch.as_nanos()).unwrap();
        let within = |from: &Entry| {
            let inside = |entry: &&Entry| (from.at_ns..from.at_ns + stretch_ns).contains(&entry.at_ns);
            self.entries.iter().filter(inside).map(|entry| entry.cost).sum::<i128>()
        };
        u64::try_from(self.entries.iter().map(within).max().unwrap_or(0)).unwrap()
    }

    /// However far one looks back: what was granted since then, and this, is no more than the burst and
    /// what came back since.
    fn gcra(&self, index: usize, limit: &RateLimit, cost: i128, now_ns: i128) -> bool {
        let full_ns = i128::from(limit.burst) * interval_ns(limit);
        let mut granted_ns = cost * interval_ns(limit);
        let since_then = |entry: &Entry| {
            granted_ns += entry.costs_ns[index];
            granted_ns <= full_ns + now_ns - entry.at_ns
        };
        cost <= i128::from(limit.burst) && self.entries.iter().rev().all(since_then)
    }

    fn sliding(&self, index: usize, limit: &RateLimit, cost: i128, now_ns: i128) -> bool {
        let (number, window_ns) = (self.number(index, limit, now_ns), window_ns(limit));
        let left_ns = window_ns - (now_ns - number * window_ns).max(0);
        let before = self.counted(index, number - 1) * left_ns;
        // Both sides times the window's length, so that nothing is rounded.
        before <= (i128::from(limit.units) - cost - self.counted(index, number)) * window_ns
    }

    /// The number of the window at a time, or of the latest that was counted in, if that is later.
    fn number(&self, index: usize, limit: &RateLimit, now_ns: i128) -> i128 {
        let latest = self.entries.last().map_or(0, |entry| entry.numbers[index]);
        latest.max(now_ns / window_ns(limit))
    }

    fn counted(&self, index: usize, number: i128) -> i128 {
        self.entries.iter().filter(|entry| entry.numbers[index] == number).map(|entry| entry.cost).sum()
    }
}
