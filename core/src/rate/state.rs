//! What is remembered of one window, in 64 bits.
//!
//! A state says by itself until when it matters, whatever limit it was made under. That is what lets a
//! full set choose among the states of different scopes, windows and algorithms.

/// The most units that a sliding window can count.
pub(super) const SLIDING_UNITS_MAX: u64 = COUNT_MASK;

/// The most units that a fixed window can count.
pub(super) const FIXED_UNITS_MAX: u64 = u32::MAX as u64;

pub(super) const NS_PER_S: u64 = 1_000_000_000;

/// The latest time that a state can hold, in seconds: 34 years after the clock's origin.
const END_S_MAX: u64 = (1 << 30) - 1;

const COUNT_MASK: u64 = (1 << 16) - 1;
const KIND_SHIFT: u32 = 62;
const END_SHIFT: u32 = 32;
const SLIDING: u64 = 1;
const FIXED: u64 = 2;

/// A window's use, packed. The default is no use at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct State(u64);

/// A window's use, unpacked. Times are since the clock's origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// The theoretical arrival time (TAT): when all units will have come back.
    Gcra { tat_ns: u64 },
    /// The counts of a window and of the one before; `end_s` is when the latest of them stops to matter,
    /// two windows after the counted one began.
    Sliding { end_s: u64, before: u64, count: u64 },
    /// The count of the window that ends at `end_s`.
    Fixed { end_s: u64, count: u64 },
}

impl State {
    /// Nothing used.
    pub(super) const ABSENT: Self = Self(0);

    /// Replenished later than any other.
    pub(super) const LAST: Self = Self((1 << KIND_SHIFT) - 1);

    /// Packs what fits its bits; meters never make more.
    pub(super) fn pack(used: Use) -> Self {
        let kind = |kind: u64, end_s: u64| (kind << KIND_SHIFT) | (end_s.min(END_S_MAX) << END_SHIFT);
        Self(match used {
            Use::Gcra { tat_ns } => tat_ns.min(Self::LAST.0),
            Use::Sliding { end_s, before, count } => {
                kind(SLIDING, end_s) | (before.min(COUNT_MASK) << 16) | count.min(COUNT_MASK)
            }
            Use::Fixed { end_s, count } => kind(FIXED, end_s) | count.min(FIXED_UNITS_MAX),
        })
    }

    pub(super) const fn unpack(self) -> Use {
        let end_s = (self.0 >> END_SHIFT) & END_S_MAX;
        match self.0 >> KIND_SHIFT {
            0 => Use::Gcra { tat_ns: self.0 },
            SLIDING => Use::Sliding { end_s, before: (self.0 >> 16) & COUNT_MASK, count: self.0 & COUNT_MASK },
            _ => Use::Fixed { end_s, count: self.0 & FIXED_UNITS_MAX },
        }
    }

    /// When the window is fully replenished: from then on this state says no more than none.
    pub(super) const fn until_ns(self) -> u64 {
        match self.unpack() {
            Use::Gcra { tat_ns } => tat_ns,
            Use::Sliding { end_s, .. } | Use::Fixed { end_s, .. } => end_s * NS_PER_S,
        }
    }

    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    pub(super) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_unpack_to_what_was_packed_up_to_their_largest_values() {
        let (end_s, before, count) = (END_S_MAX, SLIDING_UNITS_MAX, 1);
        for used in [
            Use::Gcra { tat_ns: 0 },
            Use::Gcra { tat_ns: (1 << 62) - 1 },
            Use::Sliding { end_s, before, count },
            Use::Sliding { end_s: 2, before: 0, count: SLIDING_UNITS_MAX },
            Use::Fixed { end_s, count: FIXED_UNITS_MAX },
            Use::Fixed { end_s: 1, count: 1 },
        ] {
            assert_eq!(State::pack(used).unpack(), used);
        }
    }

    #[test]
    fn a_value_that_is_too_large_stays_within_its_own_bits() {
        let all = u64::MAX;
        let sliding = State::pack(Use::Sliding { end_s: all, before: all, count: all }).unpack();
        assert_eq!(sliding, Use::Sliding { end_s: END_S_MAX, before: COUNT_MASK, count: COUNT_MASK });
        assert_eq!(State::pack(Use::Gcra { tat_ns: all }).unpack(), Use::Gcra { tat_ns: (1 << 62) - 1 });
    }
}
