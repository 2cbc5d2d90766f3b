//! The answer of a rate: allowed or not, and how each window stands.

use std::time::Duration;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::plan::{Rate, RateLimit};

/// What a rate answers. A denied request took nothing, from any window.
///
/// ```
/// use std::time::Duration;
/// use quotum::rate::RateTable;
///
/// let table = RateTable::with_capacity(1_000);
/// let decision = table.decide("api", "user-42".into(), &"10/minute".parse()?, 1, 4, Duration::ZERO);
/// let [minute] = decision.windows() else { unreachable!("the rate has one limit") };
/// assert_eq!((decision.allowed, minute.remaining), (true, 6));
/// assert_eq!(minute.reset_after, Duration::from_secs(24));
/// # Ok::<(), quotum::InvalidLimit>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateDecision {
    /// Whether the cost was taken, or would be.
    pub allowed: bool,
    /// Whether the cost is above what a window holds unused, so that waiting does not help.
    pub never_fits: bool,
    /// How long until the same cost would be allowed, if nothing else is; `None` if it is, or never will.
    pub retry_after: Option<Duration>,
    states: [RateState; Rate::WINDOWS_MAX],
    len: usize,
    /// The window that holds longest, if the cost is denied.
    pub(super) denied_by: Option<usize>,
}

/// How one window of a rate stands, after the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RateState {
    /// The limit, multiplied.
    pub limit: RateLimit,
    /// The most units that this window would still allow now.
    pub remaining: u64,
    /// How long until the window is as good as unused.
    #[serde(rename = "reset_after_ms", serialize_with = "as_ms", deserialize_with = "of_ms")]
    pub reset_after: Duration,
}

impl RateDecision {
    #[inline]
    pub(super) fn new(allowed: bool) -> Self {
        let none = RateState {
            limit: RateLimit { units: 0, window_s: 0, burst: 0 },
            remaining: 0,
            reset_after: Duration::ZERO,
        };
        Self {
            allowed,
            never_fits: false,
            retry_after: None,
            states: [none; Rate::WINDOWS_MAX],
            len: 0,
            denied_by: None,
        }
    }

    /// A cost where there is nothing to take it from, now or ever.
    pub(crate) fn never() -> Self {
        Self { never_fits: true, ..Self::new(false) }
    }

    #[inline]
    pub(super) fn push(&mut self, state: RateState) {
        if let Some(place) = self.states.get_mut(self.len) {
            *place = state;
            self.len += 1;
        }
    }

    /// Each window, in the order of the rate's limits.
    #[must_use]
    pub fn windows(&self) -> &[RateState] {
        self.states.get(..self.len).unwrap_or_default()
    }

    /// The window that denies: of several, the one that does so longest.
    #[must_use]
    pub fn denied_by(&self) -> Option<&RateState> {
        self.windows().get(self.denied_by?)
    }
}

/// Times are in whole milliseconds, rounded up.
impl Serialize for RateDecision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("RateDecision", 4)?;
        fields.serialize_field("allowed", &self.allowed)?;
        fields.serialize_field("never_fits", &self.never_fits)?;
        fields.serialize_field("retry_after_ms", &self.retry_after.map(whole_ms))?;
        fields.serialize_field("windows", self.windows())?;
        fields.end()
    }
}

fn as_ms<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(whole_ms(*duration))
}

fn of_ms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

/// Rounded up: who waits that long must not be too early.
fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
