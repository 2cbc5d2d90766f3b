//! Turns: how the server knows a step that has no name when it comes again, because its answer was lost.
//!
//! A process has a few seats in the schema, each for one step at a time, and each remembers the number of the last step
//! that was made on it. A step that finds its own number there was made before; one that finds a later number is a
//! straggler whose caller has long been answered. So the schema keeps a row for each seat, and none for each step.

use std::sync::atomic::{AtomicI32, Ordering};

use parking_lot::Mutex;
use tokio_postgres::types::{ToSql, Type};

use super::statement::Bytes;
use crate::HoldId;
use crate::error::Retry;
use crate::store::StoreError;

/// The seats of one process.
pub(super) struct Turns {
    asker: Bytes,
    /// Seats that nobody is on, and the number of the next step on each.
    free: Mutex<Vec<(i32, i64)>>,
    seats: AtomicI32,
}

/// A step's turn.
pub(super) struct Turn<'t> {
    turns: &'t Turns,
    seat: i32,
    number: i64,
    /// Whether the step was sent before.
    pub(super) is_again: bool,
}

impl Turns {
    pub(super) fn new() -> Result<Self, StoreError> {
        let unknown = |error: crate::Error| StoreError::Failed { detail: error.to_string(), retry: Retry::Safe };
        let asker = Bytes::of(HoldId::random().map_err(unknown)?.to_bytes());
        Ok(Self { asker, free: Mutex::default(), seats: AtomicI32::new(0) })
    }

    /// The next turn on a free seat.
    pub(super) fn take(&self) -> Turn<'_> {
        let free = self.free.lock().pop();
        let (seat, number) = free.unwrap_or_else(|| (self.seats.fetch_add(1, Ordering::Relaxed), 1));
        Turn { turns: self, seat, number, is_again: false }
    }
}

impl Turn<'_> {
    /// What the server is told of it.
    pub(super) fn values(&self) -> [(&(dyn ToSql + Sync), Type); 4] {
        [
            (&self.turns.asker, Type::BYTEA),
            (&self.seat, Type::INT4),
            (&self.number, Type::INT8),
            (&self.is_again, Type::BOOL),
        ]
    }

    /// How many values that are.
    pub(super) const VALUES: usize = 4;
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.free.lock().push((self.seat, self.number + 1));
    }
}
