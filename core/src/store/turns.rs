//! Turns: how a server knows a step that has no name when it comes again, because its answer was lost.
//!
//! A process has a few seats on the server, each for one step at a time, and each remembers the number of the last step
//! that was made on it. A step that finds its own number there was made before; one that finds a later number is a
//! straggler whose caller has long been answered. So the server keeps one entry for each seat, and none for each step.

use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use super::StoreError;
use crate::HoldId;
use crate::error::{Error, Retry};

/// The seats of one process.
pub(super) struct Turns {
    asker: HoldId,
    /// Seats that nobody is on, and the number of the next step on each.
    free: Mutex<Vec<(u32, u32)>>,
    seats: AtomicU32,
}

/// A step's turn.
pub(super) struct Turn<'t> {
    turns: &'t Turns,
    pub(super) seat: u32,
    pub(super) number: u32,
    /// Whether the step was sent before. What is then refused is noted too: the first attempt, which may yet come, must
    /// not be granted behind the caller's back.
    pub(super) is_again: bool,
}

impl Turns {
    pub(super) fn new() -> Result<Self, StoreError> {
        let failed = |error: Error| StoreError::Failed { detail: error.to_string(), retry: Retry::Safe };
        Ok(Self { asker: HoldId::random().map_err(failed)?, free: Mutex::default(), seats: AtomicU32::new(0) })
    }

    /// The next turn on a free seat.
    pub(super) fn take(&self) -> Turn<'_> {
        let free = self.free.lock().pop();
        let (seat, number) = free.unwrap_or_else(|| (self.seats.fetch_add(1, Ordering::Relaxed), 1));
        Turn { turns: self, seat, number, is_again: false }
    }
}

impl Turn<'_> {
    /// The process that has the seat.
    pub(super) const fn asker(&self) -> HoldId {
        self.turns.asker
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // A seat that has run out of numbers is left.
        if let Some(next) = self.number.checked_add(1) {
            self.turns.free.lock().push((self.seat, next));
        }
    }
}
