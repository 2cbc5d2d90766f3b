//! A set: the few states that share a place and a lock, and the debt of those that lost theirs.
//!
//! Nothing is forgotten that could be to a caller's advantage. A state that must go is folded into the
//! set's [`Debt`], from which every key of the set without a state of its own starts. What goes is the
//! state that is replenished soonest, be it the newcomer's own: the debt is then as small as can be for
//! all who start from it, and a caller who is blocked is the last to be evicted.

use super::meter::{Debt, Meter};
use super::state::State;

/// The states in a set: as many as fit two cache lines with the lock and the debt.
pub(super) const WAYS: usize = 9;

/// Which key, scope and window a state belongs to: half of a keyed hash. Two that have the same one in
/// the same set share a state, and so get less than their own allowance, never more.
pub(super) type Tag = u32;

/// The states of one set. Numbers are kept in halves, so that the lock's byte costs four and not eight.
#[derive(Debug, Default)]
pub(super) struct Set {
    until_ns: Halves,
    since_ns: Halves,
    tags: [Tag; WAYS],
    states: [Halves; WAYS],
}

/// A 64-bit number that lies on a four-byte boundary.
#[derive(Debug, Clone, Copy, Default)]
struct Halves([u32; 2]);

impl Halves {
    fn get(self) -> u64 {
        let [low, high] = self.0;
        (u64::from(high) << 32) | u64::from(low)
    }

    fn set(&mut self, value: u64) {
        let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
        self.0 = [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])];
    }
}

impl Set {
    /// The place of `tag`, if it has one. All nine are compared at once, without a branch for each.
    #[inline]
    pub(super) fn place(&self, tag: Tag) -> Option<usize> {
        let places = self.tags.iter().rev().fold(0_u32, |places, other| (places << 1) | u32::from(*other == tag));
        (places != 0).then_some(places.trailing_zeros() as usize)
    }

    /// The state at a tag's place as `meter` reads it. One that has no place starts from the set's debt.
    ///
    /// A place that is still the tag's own counts even when it is replenished: then nothing of it was
    /// ever evicted, and the debt is not the tag's.
    #[inline]
    pub(super) fn read(&self, place: Option<usize>, meter: &Meter, now_ns: u64) -> State {
        match place.and_then(|place| self.states.get(place)) {
            Some(state) => meter.read(State::from_bits(state.get()), now_ns),
            None => meter.owing(self.debt(), now_ns),
        }
    }

    /// Writes the state of `tag`, and says whether a live state lost its place, or got none. The states
    /// of `together` stay: they belong to the same decision.
    #[inline]
    pub(super) fn write(
        &mut self,
        place: Option<usize>,
        tag: Tag,
        state: State,
        together: impl Fn(Tag) -> bool,
        now_ns: u64,
    ) -> bool {
        if let Some(own) = place.and_then(|place| self.states.get_mut(place)) {
            own.set(state.bits());
            return false;
        }
        self.take_place(tag, state, together, now_ns)
    }

    /// Writes the state of a tag that has no place.
    fn take_place(&mut self, tag: Tag, state: State, together: impl Fn(Tag) -> bool, now_ns: u64) -> bool {
        let others = self.tags.iter_mut().zip(&mut self.states).filter(|(other, _)| !together(**other));
        let soonest = others.map(|(tag, kept)| (State::from_bits(kept.get()).until_ns(), tag, kept));
        let evicted_until_ns = match soonest.min_by_key(|(until_ns, ..)| *until_ns) {
            Some((until_ns, place, kept)) if until_ns <= now_ns || until_ns < state.until_ns() => {
                *place = tag;
                kept.set(state.bits());
                until_ns
            }
            _ => state.until_ns(),
        };
        let live = evicted_until_ns > now_ns;
        if live {
            self.until_ns.set(self.until_ns.get().max(evicted_until_ns));
            self.since_ns.set(self.since_ns.get().max(now_ns));
        }
        live
    }

    /// Gives `tag` a place whose state is unused, and says whether a live state lost it.
    pub(super) fn clear(&mut self, tag: Tag, together: impl Fn(Tag) -> bool, now_ns: u64) -> bool {
        // As the last to be replenished it gets a place for certain.
        let evicted = self.write(self.place(tag), tag, State::LAST, &together, now_ns);
        self.write(self.place(tag), tag, State::ABSENT, together, now_ns);
        evicted
    }

    /// How many states are not replenished.
    pub(super) fn live(&self, now_ns: u64) -> usize {
        self.states.iter().filter(|state| State::from_bits(state.get()).until_ns() > now_ns).count()
    }

    fn debt(&self) -> Debt {
        Debt { until_ns: self.until_ns.get(), since_ns: self.since_ns.get() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate::Algorithm;
    use crate::rate::meter::Fit;
    use crate::rate::state::NS_PER_S;

    const ALONE: fn(Tag) -> bool = |_| false;

    fn meter(algorithm: Algorithm, limit: &str) -> Meter {
        Meter::new(algorithm, limit.parse().unwrap())
    }

    /// Takes one unit if it fits.
    fn take(set: &mut Set, tag: Tag, meter: &Meter, now_ns: u64) -> bool {
        let place = set.place(tag);
        match meter.fit(set.read(place, meter, now_ns), 1, now_ns) {
            Fit::Now(state) => {
                set.write(place, tag, state, ALONE, now_ns);
                true
            }
            _ => false,
        }
    }

    #[test]
    fn a_set_and_its_lock_are_two_cache_lines() {
        assert_eq!(size_of::<parking_lot::Mutex<Set>>(), 128);
    }

    #[test]
    fn a_replenished_state_gives_up_its_place_and_leaves_nothing_behind() {
        let mut set = Set::default();
        let minute = meter(Algorithm::Gcra, "1/minute");
        for tag in 0..100 {
            assert!(take(&mut set, tag, &minute, u64::from(tag) * 60 * NS_PER_S));
        }
        assert_eq!(set.debt(), Debt::default());
    }

    #[test]
    fn the_state_that_is_replenished_soonest_goes_and_a_blocked_one_stays() {
        let mut set = Set::default();
        let minute = meter(Algorithm::Gcra, "10/minute");
        while take(&mut set, 7, &minute, 0) {}
        for tag in 100..1_000 {
            take(&mut set, tag, &minute, 0);
        }
        let place = set.tags.iter().position(|tag| *tag == 7).unwrap();
        assert!(set.states[place].get() >= 60 * NS_PER_S, "its own state is whole");
        assert!(set.debt().until_ns > 0);
    }

    #[test]
    fn a_key_that_lost_its_place_comes_back_no_better() {
        for algorithm in Algorithm::ALL {
            let mut set = Set::default();
            let minute = meter(algorithm, "10/minute");
            let day = meter(algorithm, "10/day");
            while take(&mut set, 7, &minute, 0) {}
            for tag in 100..109 {
                set.write(set.place(tag), tag, State::LAST, ALONE, 0);
            }
            assert!(!set.tags.contains(&7), "{algorithm}");
            assert!(!take(&mut set, 7, &minute, 0), "{algorithm}");
            assert!(!take(&mut set, 8, &minute, 59), "{algorithm}: nor does another");
            assert!(take(&mut set, 9, &day, 0), "{algorithm}: what a minute owes is little of a day");
        }
    }

    #[test]
    fn the_debt_of_a_long_window_blocks_a_short_one_no_longer_than_its_own() {
        for (algorithm, free_s) in [(Algorithm::Gcra, 6), (Algorithm::SlidingWindow, 66), (Algorithm::FixedWindow, 60)]
        {
            let mut set = Set::default();
            let hour = Meter::new(Algorithm::Gcra, "1/hour".parse().unwrap());
            let minute = meter(algorithm, "10/minute");
            for tag in 0..20 {
                take(&mut set, tag, &hour, 0);
            }
            assert!(set.debt().until_ns >= 3_600 * NS_PER_S);
            let free_ns = free_s * NS_PER_S;
            assert!(!take(&mut set, 100, &minute, free_ns - 1), "{algorithm}");
            assert!(take(&mut set, 100, &minute, free_ns), "{algorithm}");
        }
    }

    #[test]
    fn the_windows_of_one_decision_do_not_evict_each_other() {
        let mut set = Set::default();
        let (minute, hour) = (meter(Algorithm::Gcra, "60/minute"), meter(Algorithm::Gcra, "1/hour"));
        assert!(take(&mut set, 1, &minute, 0));
        for tag in 100..108 {
            assert!(take(&mut set, tag, &hour, 0));
        }
        let evicted = set.write(None, 2, State::LAST, |tag| tag == 1, 0);
        assert!(evicted && set.tags.contains(&1) && set.tags.contains(&2));
    }

    #[test]
    fn a_late_thread_does_not_make_the_debt_older() {
        let mut set = Set::default();
        let hour = meter(Algorithm::Gcra, "1/hour");
        for (tag, now_ns) in (0..11).zip([0, 0, 0, 0, 0, 0, 0, 0, 0, 2 * NS_PER_S, NS_PER_S]) {
            set.write(set.place(tag), tag, State::LAST, ALONE, now_ns);
        }
        assert_eq!(set.debt().since_ns, 2 * NS_PER_S);
        assert!(!take(&mut set, 100, &hour, 3_601 * NS_PER_S));
    }
}
