//! The table that keeps all rates: fixed memory, no sweeper, no allocation in a decision.

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ahash::RandomState;

use super::decision::{RateDecision, RateState};
use super::key::RateKey;
use super::meter::{DEBT_NS_MAX, Fit, Meter};
use super::set::{Set, Tag, WAYS};
use super::state::State;
use crate::error::Error;
use crate::plan::{Rate, RateLimit};
use crate::sync::Mutex;

/// A set-associative table of rates, by scope and key.
///
/// Each window of each key takes one cell while it is not fully replenished. All windows of a key and
/// scope lie in one set of nine cells, under one lock, and are decided together: all or nothing.
///
/// Memory is allocated once, at construction. When more cells of a set are live than it has, the one
/// that is replenished soonest is *folded*: it leaves its debt to the set, and every key of that set
/// without a cell starts from there. So crowding makes callers share an allowance, and never gives one
/// of them a fresh one, whatever keys an attacker makes up. Keys are hashed with a secret of the table's
/// own ([aHash]), so nobody can choose whom to crowd.
///
/// Times are durations since any origin, of a clock that does not go back, such as
/// [`Clock::monotonic`](crate::Clock::monotonic), for up to 34 years. Threads may arrive with them a
/// little out of order: that admits nothing twice. (Only a key without a cell of its own may get as much
/// as comes back in the time by which a thread was late.)
///
/// [aHash]: https://github.com/tkaitchuck/aHash
pub struct RateTable {
    sets: Box<[Line]>,
    hasher: RandomState,
    evictions: AtomicU64,
}

/// Where a [`RateTable`] keeps the states of one key in one scope. Means nothing to another table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RatePlace(u64);

/// Hides the hash: it would help to find keys that collide.
impl fmt::Debug for RatePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RatePlace")
    }
}

/// A set begins a pair of cache lines, which processors fetch together.
#[derive(Default)]
#[repr(align(128))]
struct Line(Mutex<Set>);

/// One window of the rate that is being decided.
struct Window {
    limit: RateLimit,
    meter: Meter,
    tag: Tag,
    place: Option<usize>,
    state: State,
    fit: Fit,
}

/// The largest table: of more, one process has no use.
const CELLS_MAX: usize = 1_000_000_000;

impl RateTable {
    /// A table of at least so many cells, 14.2 bytes each, and at least nine.
    ///
    /// Twice as many cells as there are live windows at once keep evictions below one in a hundred.
    ///
    /// # Panics
    ///
    /// As any allocation does, when there is no such memory.
    #[must_use]
    pub fn with_capacity(cells: usize) -> Self {
        let sets = cells.div_ceil(WAYS).max(1);
        let mut lines = Vec::new();
        lines.resize_with(sets, Line::default);
        Self { sets: lines.into_boxed_slice(), hasher: RandomState::new(), evictions: AtomicU64::new(0) }
    }

    /// Refuses a table that there is no memory for.
    pub(crate) fn check_capacity(cells: usize) -> Result<(), Error> {
        let fits = cells <= CELLS_MAX && Vec::<Line>::new().try_reserve_exact(cells.div_ceil(WAYS)).is_ok();
        let refuse = || Error::argument("rates_max", cells, format!("at most {CELLS_MAX}, 14.2 bytes of memory each"));
        if fits { Ok(()) } else { Err(refuse()) }
    }

    /// Takes `cost` units from every window of `rate`, multiplied, if all of them have as many.
    ///
    /// A cost of 0 is always allowed and takes nothing. A limit that has changed since the key's last
    /// decision is applied to what the key used under the old one: a time to come back for GCRA, a
    /// count for the windows. A window of another length starts anew.
    #[must_use]
    pub fn decide(
        &self,
        scope: &str,
        key: RateKey<'_>,
        rate: &Rate,
        multiplier: u32,
        cost: u64,
        now: Duration,
    ) -> RateDecision {
        self.decide_at(self.place(scope, key), rate, multiplier, cost, now)
    }

    /// [`decide`](Self::decide), for a key whose place is known.
    #[must_use]
    pub fn decide_at(&self, place: RatePlace, rate: &Rate, multiplier: u32, cost: u64, now: Duration) -> RateDecision {
        let now_ns = nanoseconds(now);
        let (line, tag) = self.find(place);
        with_windows(rate, multiplier, tag, |windows| {
            let mut set = line.0.lock();
            let allowed = weigh(&set, windows, cost, now_ns);
            let taken = allowed && cost > 0;
            if taken {
                for window in &*windows {
                    let Fit::Now(next) = window.fit else { continue };
                    if set.write(window.place, window.tag, next, |tag| are_among(windows, tag), now_ns) {
                        self.evictions.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            drop(set);
            answer(windows, allowed, taken, now_ns)
        })
    }

    /// What [`decide`](Self::decide) would answer now, without taking anything; the windows stand as they
    /// do before.
    #[must_use]
    pub fn peek(
        &self,
        scope: &str,
        key: RateKey<'_>,
        rate: &Rate,
        multiplier: u32,
        cost: u64,
        now: Duration,
    ) -> RateDecision {
        let now_ns = nanoseconds(now);
        let (line, tag) = self.find(self.place(scope, key));
        with_windows(rate, multiplier, tag, |windows| {
            let allowed = weigh(&line.0.lock(), windows, cost, now_ns);
            answer(windows, allowed, false, now_ns)
        })
    }

    /// Gives `units` that were taken back to every window of `rate`, multiplied, and says how they stand.
    ///
    /// Never more than the whole allowance, and of windows only what the present one has counted. A key that has lost
    /// its cell gets nothing back: what it starts from is the debt of others too.
    pub fn refund(
        &self,
        scope: &str,
        key: RateKey<'_>,
        rate: &Rate,
        multiplier: u32,
        units: u64,
        now: Duration,
    ) -> RateDecision {
        let now_ns = nanoseconds(now);
        let (line, tag) = self.find(self.place(scope, key));
        with_windows(rate, multiplier, tag, |windows| {
            let mut set = line.0.lock();
            for window in &*windows {
                let Some(place) = set.place(window.tag) else { continue };
                let state = window.meter.refund(set.read(Some(place), &window.meter, now_ns), units, now_ns);
                set.write(Some(place), window.tag, state, |_| false, now_ns);
            }
            let allowed = weigh(&set, windows, 0, now_ns);
            drop(set);
            answer(windows, allowed, false, now_ns)
        })
    }

    /// Gives a key its whole allowance back, in the windows of `rate`.
    ///
    /// In a set that is crowded, the key may lose its cell again before it asks, and then starts from the
    /// set's debt as others do.
    pub fn clear(&self, scope: &str, key: RateKey<'_>, rate: &Rate, now: Duration) {
        let now_ns = nanoseconds(now);
        let (line, tag) = self.find(self.place(scope, key));
        with_windows(rate, 1, tag, |windows| {
            let mut set = line.0.lock();
            for window in &*windows {
                if set.clear(window.tag, |tag| are_among(windows, tag), now_ns) {
                    self.evictions.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }

    /// How many live states had to be folded into their set's debt since the table was made. When it
    /// grows steadily, the table is too small, or under attack.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// How many cells the table has.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.sets.len() * WAYS
    }

    /// How many cells are not replenished. Locks every set in turn: about a millisecond for each
    /// hundred thousand cells, so not for every request.
    #[must_use]
    pub fn live(&self, now: Duration) -> usize {
        let now_ns = nanoseconds(now);
        self.sets.iter().map(|line| line.0.lock().live(now_ns)).sum()
    }

    /// The memory that the table holds, all of it from the start.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.sets)
    }

    /// Where the states of a key in a scope are kept: for callers that ask for the same key again and
    /// again, and would hash it each time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use quotum::Rate;
    /// use quotum::rate::RateTable;
    ///
    /// let (table, rate) = (RateTable::with_capacity(1_000), "2/minute".parse::<Rate>()?);
    /// let place = table.place("api", "user-42".into());
    /// assert!(table.decide_at(place, &rate, 1, 2, Duration::ZERO).allowed);
    /// assert!(!table.decide("api", "user-42".into(), &rate, 1, 1, Duration::ZERO).allowed);
    /// # Ok::<(), quotum::InvalidLimit>(())
    /// ```
    #[must_use]
    pub fn place(&self, scope: &str, key: RateKey<'_>) -> RatePlace {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(scope.as_bytes());
        key.hash_into(&mut hasher);
        RatePlace(hasher.finish())
    }

    /// The set of a key, by its hash as a fraction of all, and the hash's lower half as its tag.
    #[expect(clippy::indexing_slicing, reason = "a fraction below one of the length is below the length")]
    #[inline]
    fn find(&self, place: RatePlace) -> (&Line, Tag) {
        let sets = u128::try_from(self.sets.len()).unwrap_or(0);
        let index = usize::try_from((u128::from(place.0) * sets) >> 64).unwrap_or(0);
        let [a, b, c, d, ..] = place.0.to_le_bytes();
        (&self.sets[index], Tag::from_le_bytes([a, b, c, d]))
    }
}

impl fmt::Debug for RateTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (capacity, evictions) = (self.capacity(), self.evictions());
        f.debug_struct("RateTable").field("capacity", &capacity).field("evictions", &evictions).finish_non_exhaustive()
    }
}

/// The tag of one window of a key. A window is known by its length, so that it keeps its state when its
/// units, its burst or its algorithm change. Different lengths never get the same tag: the factor is odd.
fn tag_of(key: Tag, limit: RateLimit) -> Tag {
    key ^ limit.window_s.wrapping_mul(0x9E37_79B1)
}

/// Hands the windows of a rate to what is done with them: as many as it has, on the stack.
#[inline]
fn with_windows<T>(rate: &Rate, multiplier: u32, key: Tag, then: impl FnOnce(&mut [Window]) -> T) -> T {
    let open = |limit: RateLimit| {
        let limit = limit.times(multiplier);
        let meter = Meter::new(rate.algorithm, limit);
        Window { limit, meter, tag: tag_of(key, limit), place: None, state: State::ABSENT, fit: Fit::Never }
    };
    match *rate.limits {
        [] => then(&mut []),
        [one] => then(&mut [open(one)]),
        [one, two] => then(&mut [one, two].map(open)),
        [one, two, three] => then(&mut [one, two, three].map(open)),
        [one, two, three, four, ..] => then(&mut [one, two, three, four].map(open)),
    }
}

fn are_among(windows: &[Window], tag: Tag) -> bool {
    windows.iter().any(|window| window.tag == tag)
}

/// Reads the state of each window, and whether the cost fits it; says whether it fits them all.
#[inline]
fn weigh(set: &Set, windows: &mut [Window], cost: u64, now_ns: u64) -> bool {
    let mut all = true;
    for window in windows {
        window.place = set.place(window.tag);
        window.state = set.read(window.place, &window.meter, now_ns);
        window.fit = window.meter.fit(window.state, cost, now_ns);
        all &= matches!(window.fit, Fit::Now(_));
    }
    all
}

/// The windows stand as after the decision, if it has taken something, and otherwise as before.
#[inline]
fn answer(windows: &[Window], allowed: bool, taken: bool, now_ns: u64) -> RateDecision {
    let mut decision = RateDecision::new(allowed);
    let mut latest_ns = 0;
    for (index, window) in windows.iter().enumerate() {
        let until_ns = match window.fit {
            Fit::Now(_) => 0,
            Fit::At(at_ns) => at_ns,
            Fit::Never => u64::MAX,
        };
        if until_ns > latest_ns {
            (latest_ns, decision.denied_by) = (until_ns, Some(index));
        }
        let state = match window.fit {
            Fit::Now(next) if taken => next,
            _ => window.state,
        };
        decision.push(RateState {
            limit: window.limit,
            remaining: window.meter.remaining(state, now_ns),
            reset_after: Duration::from_nanos(state.until_ns().saturating_sub(now_ns)),
        });
    }
    decision.never_fits = latest_ns == u64::MAX;
    if !allowed && !decision.never_fits {
        decision.retry_after = Some(Duration::from_nanos(latest_ns.saturating_sub(now_ns)));
    }
    decision
}

fn nanoseconds(now: Duration) -> u64 {
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX).min(DEBT_NS_MAX)
}
