//! Periods: which stretch of time an instant belongs to.
//!
//! Pure arithmetic on timestamps, zones and anchors; it reads no clock. A period's start is part of
//! the counter's key, so a new period is a new counter and nothing is ever reset.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::plan::InvalidLimit;

/// How often a quota starts afresh.
///
/// Calendar periods begin where a wall calendar in the plans file's `zone` says so: days at local
/// midnight, weeks on Monday ([ISO 8601]), months on the 1st, years on 1 January. Minutes and hours
/// are those of UTC in every zone, so a clock change neither repeats nor skips one.
///
/// Billing periods are counted from the subscription's anchor, at the anchor's local time of day.
/// An anchor on the 29th to 31st falls on the last day of a shorter month and returns to its own day
/// afterwards. Without an anchor they are the calendar periods of the same length.
///
/// ```
/// use quotum::{Period, Timestamp};
/// use jiff::tz::TimeZone;
///
/// let anchor: Timestamp = "2025-01-31T09:00:00Z".parse()?;
/// let window = Period::BillingMonth.window("2025-03-10T00:00:00Z".parse()?, &TimeZone::UTC, Some(anchor));
/// assert_eq!(window.start.to_string(), "2025-02-28T09:00:00Z");
/// assert_eq!(window.end.unwrap().to_string(), "2025-03-31T09:00:00Z");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [ISO 8601]: https://www.iso.org/iso-8601-date-and-time-format.html
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Period {
    /// 60 seconds, aligned to UTC.
    Minute,
    /// 3,600 seconds, aligned to UTC.
    Hour,
    /// From local midnight to local midnight: 23 to 25 hours where the clocks change.
    Day,
    /// Seven local days, from Monday.
    Week,
    /// A local calendar month, from the 1st.
    Month,
    /// A local calendar year, from 1 January.
    Year,
    /// One day, from the subscription's anchor.
    BillingDay,
    /// Seven days, from the subscription's anchor.
    BillingWeek,
    /// One month, from the subscription's anchor.
    BillingMonth,
    /// One year, from the subscription's anchor; a 29 February falls on the 28th in common years.
    BillingYear,
    /// The period that never ends: for levels such as storage or seats.
    Total,
}

/// How long the counters of a subject that does not come back are kept at the least.
const KEPT_IDLE: SignedDuration = SignedDuration::from_hours(24 * 400);

/// The stretch of time that one period covers: `start` belongs to it, `end` to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// The first instant, a whole second.
    pub start: Timestamp,
    /// The first instant of the next window; `None` for [`Period::Total`].
    pub end: Option<Timestamp>,
}

impl Window {
    /// Whether `at` lies in this window.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && self.end.is_none_or(|end| at < end)
    }
}

impl Period {
    /// Every period, shortest first.
    pub const ALL: [Self; 11] = [
        Self::Minute,
        Self::Hour,
        Self::Day,
        Self::BillingDay,
        Self::Week,
        Self::BillingWeek,
        Self::Month,
        Self::BillingMonth,
        Self::Year,
        Self::BillingYear,
        Self::Total,
    ];

    /// The word used in plans files, stores and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
            Self::BillingDay => "billing_day",
            Self::BillingWeek => "billing_week",
            Self::BillingMonth => "billing_month",
            Self::BillingYear => "billing_year",
            Self::Total => "total",
        }
    }

    /// The window that `at` belongs to, in `zone`, with the subscription's billing `anchor`.
    ///
    /// Every instant belongs to exactly one window of a period. The anchor counts in whole seconds.
    #[must_use]
    pub fn window(self, at: Timestamp, zone: &TimeZone, anchor: Option<Timestamp>) -> Window {
        match self.boundaries(zone, anchor) {
            Some(boundaries) => boundaries.around(at),
            None => Window { start: Timestamp::UNIX_EPOCH, end: None },
        }
    }

    /// How long a store keeps a counter after its window began, once the subject has a newer one of the
    /// metric and period: short periods would otherwise fill the store, and longer ones are a subject's
    /// history. `None` keeps it for ever. A subject that has no newer one is kept as [`kept_idle_for`] says.
    ///
    /// [`kept_idle_for`]: Self::kept_idle_for
    ///
    /// Far longer than any two processes' clocks disagree: a process that is behind must still find
    /// the counter of the window it believes in, or it would grant that window twice. For the same
    /// reason the three newest windows of a subject's metric and period are kept however old they are.
    #[must_use]
    pub const fn kept_for(self) -> Option<SignedDuration> {
        match self {
            Self::Minute | Self::Hour => Some(SignedDuration::from_hours(48)),
            Self::Day | Self::BillingDay => Some(SignedDuration::from_hours(24 * 400)),
            _ => None,
        }
    }

    /// How long a store keeps a counter after its window began, though its subject never comes back: 400 days,
    /// or as long as [`kept_for`] if that is longer. `None` keeps it for ever.
    ///
    /// Measured by the clock of whoever comes, which may be wrong by far more than two that are set are apart.
    ///
    /// [`kept_for`]: Self::kept_for
    #[must_use]
    pub const fn kept_idle_for(self) -> Option<SignedDuration> {
        match self.kept_for() {
            Some(kept) if kept.as_secs() < KEPT_IDLE.as_secs() => Some(KEPT_IDLE),
            kept => kept,
        }
    }

    /// Where the windows of this period begin; `None` for the one that never ends.
    fn boundaries(self, zone: &TimeZone, anchor: Option<Timestamp>) -> Option<Boundaries<'_>> {
        let anchored = |step, calendar| match anchor {
            Some(anchor) => {
                let whole = Timestamp::from_second(anchor.as_second()).unwrap_or(anchor);
                Step::Anchored(step, zone.to_datetime(whole))
            }
            None => calendar,
        };
        let step = match self {
            Self::Minute => Step::Seconds(60),
            Self::Hour => Step::Seconds(3_600),
            Self::Day => Step::Day,
            Self::Week => Step::Week,
            Self::Month => Step::Month,
            Self::Year => Step::Year,
            Self::BillingDay => anchored(Stride::Days(1), Step::Day),
            Self::BillingWeek => anchored(Stride::Days(7), Step::Week),
            Self::BillingMonth => anchored(Stride::Months(1), Step::Month),
            Self::BillingYear => anchored(Stride::Months(12), Step::Year),
            Self::Total => return None,
        };
        Some(Boundaries { step, zone })
    }
}

/// The windows of now in one zone, without an anchor: most requests ask for the same ones, and a calendar
/// takes longer to consult than all the rest of a decision.
#[derive(Debug, Default)]
pub(crate) struct Windows([RwLock<Option<Window>>; Period::ALL.len()]);

impl Windows {
    /// The window that `at` belongs to in `zone`, which is always the same one.
    pub(crate) fn at(&self, period: Period, at: Timestamp, zone: &TimeZone) -> Window {
        let Some(slot) = self.0.get(period as usize) else { return period.window(at, zone, None) };
        if let Some(window) = slot.read().filter(|window| window.contains(at)) {
            return window;
        }
        let window = period.window(at, zone, None);
        *slot.write() = Some(window);
        window
    }
}

/// What is remembered is no part of the value.
impl Clone for Windows {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Windows {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Period {
    type Err = InvalidLimit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|period| period.as_str() == text).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|period| period.as_str()).collect();
            InvalidLimit::new(text, format!("a period: {}", known.join(", ")))
        })
    }
}

/// The rising sequence of instants at which the windows of one period begin, numbered by integers.
///
/// An instant's window is found by guessing its number from the local date and then stepping to the
/// window that really holds it. The guess alone is not enough: where clocks fall back across
/// midnight, a local date comes twice.
struct Boundaries<'z> {
    step: Step,
    zone: &'z TimeZone,
}

#[derive(Clone, Copy)]
enum Step {
    Seconds(i64),
    Day,
    Week,
    Month,
    Year,
    Anchored(Stride, DateTime),
}

#[derive(Clone, Copy)]
enum Stride {
    Days(i64),
    Months(i64),
}

impl Boundaries<'_> {
    fn around(&self, at: Timestamp) -> Window {
        let mut number = self.guess(at);
        while self.begin(number).is_some_and(|begin| at < begin) {
            number -= 1;
        }
        while self.begin(number + 1).is_some_and(|next| next <= at) {
            number += 1;
        }
        Window {
            start: self.begin(number).unwrap_or(Timestamp::MIN),
            end: Some(self.begin(number + 1).unwrap_or(Timestamp::MAX)),
        }
    }

    fn guess(&self, at: Timestamp) -> i64 {
        let local = || self.zone.to_datetime(at);
        match self.step {
            Step::Seconds(length) => at.as_second().div_euclid(length),
            Step::Day => day_number(local().date()),
            Step::Week => week_number(local().date()),
            Step::Month => month_number(local().date()),
            Step::Year => i64::from(local().year()),
            Step::Anchored(Stride::Days(days), anchor) => {
                (day_number(local().date()) - day_number(anchor.date())).div_euclid(days)
            }
            Step::Anchored(Stride::Months(months), anchor) => {
                (month_number(local().date()) - month_number(anchor.date())).div_euclid(months)
            }
        }
    }

    /// When window `number` begins; `None` beyond the years that a timestamp can hold.
    fn begin(&self, number: i64) -> Option<Timestamp> {
        let local = match self.step {
            Step::Seconds(length) => return Timestamp::from_second(number.checked_mul(length)?).ok(),
            Step::Day => midnight(date_of_day(number)?),
            Step::Week => midnight(date_of_day(number.checked_mul(7)?.checked_add(FIRST_MONDAY)?)?),
            Step::Month => midnight(date_of_month(number)?),
            Step::Year => midnight(Date::new(i16::try_from(number).ok()?, 1, 1).ok()?),
            Step::Anchored(Stride::Days(days), anchor) => {
                anchor.checked_add(Span::new().try_days(number.checked_mul(days)?).ok()?).ok()?
            }
            // Always from the anchor itself, so that a short month shortens nothing after it.
            Step::Anchored(Stride::Months(months), anchor) => {
                anchor.checked_add(Span::new().try_months(number.checked_mul(months)?).ok()?).ok()?
            }
        };
        self.zone.to_timestamp(local).ok()
    }
}

/// Monday, 29 December 1969, in days from 1 January 1970.
const FIRST_MONDAY: i64 = -3;

const EPOCH: Date = Date::constant(1970, 1, 1);

fn midnight(date: Date) -> DateTime {
    date.at(0, 0, 0, 0)
}

fn day_number(date: Date) -> i64 {
    date.duration_since(EPOCH).as_hours() / 24
}

fn date_of_day(number: i64) -> Option<Date> {
    EPOCH.checked_add(Span::new().try_days(number).ok()?).ok()
}

fn week_number(date: Date) -> i64 {
    (day_number(date) - FIRST_MONDAY).div_euclid(7)
}

fn month_number(date: Date) -> i64 {
    i64::from(date.year()) * 12 + i64::from(date.month()) - 1
}

fn date_of_month(number: i64) -> Option<Date> {
    let year = i16::try_from(number.div_euclid(12)).ok()?;
    let month = i8::try_from(number.rem_euclid(12)).ok()? + 1;
    Date::new(year, month, 1).ok()
}
