//! When a map is swept of what is too old.

/// Below how many entries no sweep is worth it.
const FEWEST: usize = 16;

/// A map is swept when an entry is added and there are twice as many as the last sweep has left, so that an entry
/// costs the same however many there are.
#[derive(Debug)]
pub(super) struct Sweeps {
    due_at: usize,
}

impl Default for Sweeps {
    fn default() -> Self {
        Self { due_at: FEWEST }
    }
}

impl Sweeps {
    /// Whether a map of so many entries is to be swept before one is added.
    pub(super) const fn are_due(&self, entries: usize) -> bool {
        entries >= self.due_at
    }

    /// Notes how many entries a sweep has left.
    pub(super) fn swept(&mut self, left: usize) {
        self.due_at = (2 * left).max(FEWEST);
    }
}
