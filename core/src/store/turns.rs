//! Turns: how a server knows a step that has no name when it comes again, because its answer was lost.
//!
//! A process has a few seats on the server, each for one step at a time, and each remembers the number of the last step
//! that was made on it. A step that finds its own number there was made before; one that finds a later number is a
//! straggler whose caller has long been answered. So the server keeps one entry for each seat, and none for each step.
//!
//! Seats are told apart by their asker, a name that a process draws when it begins, and anew every hour, so that a server
//! knows by their age which seats nobody will come back to. Machines that are started several times from one image of a
//! running one have it in common, and with it seats and numbers. So each step has a mark of its own too, and who finds
//! that another has taken his turn draws a new name.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::StoreError;
use crate::HoldId;
use crate::error::{Error, Retry};

/// For how long an asker takes turns.
const ASKS_FOR: Duration = Duration::from_secs(3_600);

/// The seats of one process.
pub(super) struct Turns {
    seats: Mutex<Seats>,
    /// How many steps are made on one seat.
    steps_max: u32,
}

/// The seats of one asker.
struct Seats {
    asker: HoldId,
    since: Instant,
    /// Those that nobody is on, and the number of the next step on each.
    free: Vec<(u32, u32)>,
    /// The first that there is not yet.
    next: u32,
}

/// A step's turn.
pub(super) struct Turn<'t> {
    turns: &'t Turns,
    pub(super) asker: HoldId,
    pub(super) seat: u32,
    pub(super) number: u32,
    /// What tells the step from any other of the same turn.
    pub(super) mark: u64,
    /// Whether the step was sent before. What is then refused is noted too: the first attempt, which may yet come, must
    /// not be granted behind the caller's back.
    pub(super) is_again: bool,
}

impl Turns {
    pub(super) fn new(steps_max: u32) -> Result<Self, StoreError> {
        Ok(Self { seats: Mutex::new(Seats::new(Instant::now())?), steps_max })
    }

    /// The next turn on a free seat.
    pub(super) fn take(&self) -> Result<Turn<'_>, StoreError> {
        let mark = getrandom::u64().map_err(|error| no_randomness(Error::Randomness { detail: error.to_string() }))?;
        let (asker, (seat, number)) = self.seats.lock().take(Instant::now())?;
        Ok(Turn { turns: self, asker, seat, number, mark, is_again: false })
    }
}

impl Seats {
    fn new(since: Instant) -> Result<Self, StoreError> {
        Ok(Self { asker: HoldId::random().map_err(no_randomness)?, since, free: Vec::new(), next: 0 })
    }

    fn take(&mut self, now: Instant) -> Result<(HoldId, (u32, u32)), StoreError> {
        if now.duration_since(self.since) >= ASKS_FOR {
            *self = Self::new(now)?;
        }
        let taken = self.free.pop().unwrap_or_else(|| {
            self.next = self.next.wrapping_add(1);
            (self.next, 1)
        });
        Ok((self.asker, taken))
    }
}

impl Turn<'_> {
    /// Another turn for the step, where somebody else has taken this one: of a new asker, as are all that follow.
    pub(super) fn anew(self) -> Result<Self, StoreError> {
        let mut seats = self.turns.seats.lock();
        // Unless another step has found the same before.
        if seats.asker == self.asker {
            *seats = Seats::new(Instant::now())?;
        }
        drop(seats);
        self.turns.take()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut seats = self.turns.seats.lock();
        if seats.asker == self.asker && self.number < self.turns.steps_max {
            seats.free.push((self.seat, self.number + 1));
        }
    }
}

fn no_randomness(error: Error) -> StoreError {
    StoreError::Failed { detail: error.to_string(), retry: Retry::Safe }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(turn: &Turn<'_>) -> (HoldId, u32, u32) {
        (turn.asker, turn.seat, turn.number)
    }

    #[test]
    fn steps_at_once_have_seats_of_their_own_and_one_after_the_other_has_the_next_number() {
        let turns = Turns::new(u32::MAX).unwrap();
        let (first, second) = (turns.take().unwrap(), turns.take().unwrap());
        assert_ne!(first.seat, second.seat);
        assert_ne!(first.mark, second.mark);
        let (asker, seat, number) = place(&first);
        drop(first);
        assert_eq!(place(&turns.take().unwrap()), (asker, seat, number + 1));
    }

    #[test]
    fn a_seat_is_left_after_its_last_step() {
        let turns = Turns::new(3).unwrap();
        let taken = || place(&turns.take().unwrap());
        let (asker, seat, _) = taken();
        assert_eq!([taken(), taken()], [(asker, seat, 2), (asker, seat, 3)]);
        let (same, other, number) = taken();
        assert_eq!((same, number), (asker, 1));
        assert_ne!(other, seat);
    }

    #[test]
    fn an_asker_is_left_after_an_hour_with_all_its_seats() {
        let began = Instant::now();
        let mut seats = Seats::new(began).unwrap();
        let (asker, (seat, number)) = seats.take(began).unwrap();
        seats.free.push((seat, number + 1));
        let last = began + ASKS_FOR - Duration::from_millis(1);
        assert_eq!(seats.take(last).unwrap(), (asker, (seat, 2)));
        seats.free.push((seat, 3));
        let (next, (_, number)) = seats.take(began + ASKS_FOR).unwrap();
        assert_ne!(next, asker);
        assert_eq!(number, 1);
        assert!(seats.free.is_empty());
    }

    #[test]
    fn whoever_finds_his_turn_taken_draws_one_new_asker_for_all() {
        let turns = Turns::new(u32::MAX).unwrap();
        let (first, second, third) = (turns.take().unwrap(), turns.take().unwrap(), turns.take().unwrap());
        let asker = first.asker;
        let (first, second) = (first.anew().unwrap(), second.anew().unwrap());
        assert_ne!(first.asker, asker);
        assert_eq!(first.asker, second.asker);
        assert_ne!(first.seat, second.seat);
        let seats = [first.seat, second.seat];
        // A step that was under way does not bring its seat along.
        drop(third);
        let next = turns.take().unwrap();
        assert_eq!(next.asker, first.asker);
        assert!(!seats.contains(&next.seat));
        assert_eq!(next.number, 1);
    }
}
