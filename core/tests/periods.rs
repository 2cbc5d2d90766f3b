//! Periods against reasoning of their own: the civil calendar is computed here by arithmetic on days,
//! without the library that the engine uses.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use jiff::tz::TimeZone;
use proptest::prelude::*;
use quotum::{Period, Timestamp};

/// Zones with something odd: half hours, quarter hours, half-hour summer time, summer time that begins
/// or ends at midnight, dates that came twice (St. John's) or never (Apia), and the far ends.
const ZONES: [&str; 12] = [
    "UTC",
    "America/Sao_Paulo",
    "America/St_Johns",
    "America/Havana",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Europe/London",
];

const DAY_S: i64 = 86_400;

/// Days from 1970-01-01 to a date of the Gregorian calendar
/// ([Hinnant](https://howardhinnant.github.io/date_algorithms.html#days_from_civil)).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

/// Where a window begins and ends, in seconds.
fn window_s(period: Period, at: Timestamp, zone: &TimeZone, anchor: Option<Timestamp>) -> (i64, i64) {
    let window = period.window(at, zone, anchor);
    (window.start.as_second(), window.end.unwrap().as_second())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Years 1901 to 2100, every period and zone, with and without an anchor.
    #[test]
    fn every_instant_belongs_to_exactly_one_window(
        second in -2_177_000_000_i64..4_102_444_800,
        nano in 0_i32..1_000_000_000,
        zone_number in 0..ZONES.len(),
        period_number in 0..Period::ALL.len() - 1,
        anchor_s in proptest::option::of(-2_177_000_000_i64..4_102_444_800),
    ) {
        let period = Period::ALL[period_number];
        let (zone, anchor) = (zone(ZONES[zone_number]), anchor_s.map(at));
        let instant = Timestamp::new(second, nano).unwrap();
        let window = period.window(instant, &zone, anchor);
        let end = window.end.unwrap();
        prop_assert!(window.contains(instant), "{instant} is not in {window:?}");
        // Every other instant of the window names the same window, and its neighbours join it.
        let nano = jiff::SignedDuration::from_nanos(1);
        for inside in [window.start, end - nano, window.start + (end.duration_since(window.start) / 3)] {
            prop_assert_eq!(period.window(inside, &zone, anchor), window, "{}", inside);
        }
        prop_assert_eq!(period.window(end, &zone, anchor).start, end);
        prop_assert_eq!(period.window(window.start - nano, &zone, anchor).end, Some(window.start));
    }

    #[test]
    fn calendar_windows_in_utc_are_those_of_the_gregorian_calendar(
        year in 1_600_i64..2_400, month in 1_i64..=12, day in 1_i64..=28, second in 0_i64..DAY_S,
    ) {
        let midnight = days_from_civil(year, month, day) * DAY_S;
        let instant = at(midnight + second);
        let window = |period| window_s(period, instant, &TimeZone::UTC, None);
        let first = |year, month| days_from_civil(year, month, 1) * DAY_S;
        let next = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        prop_assert_eq!(window(Period::Day), (midnight, midnight + DAY_S));
        prop_assert_eq!(window(Period::Month), (first(year, month), first(next.0, next.1)));
        prop_assert_eq!(window(Period::Year), (first(year, 1), first(year + 1, 1)));
        let hour = midnight + second / 3_600 * 3_600;
        prop_assert_eq!(window(Period::Hour), (hour, hour + 3_600));
        let minute = midnight + second / 60 * 60;
        prop_assert_eq!(window(Period::Minute), (minute, minute + 60));
        // 1970-01-01 was a Thursday.
        let monday = midnight - (midnight / DAY_S + 3).rem_euclid(7) * DAY_S;
        prop_assert_eq!(window(Period::Week), (monday, monday + 7 * DAY_S));
    }
}

/// Four centuries of months from an anchor on every day of a month: each begins on the anchor's day, or
/// on the last day where the month is shorter, and none is skipped or repeated.
#[test]
fn anchored_months_never_skip_or_repeat_a_day_over_400_years() {
    let time_of_day_s = 9 * 3_600 + 30 * 60 + 7;
    for anchor_day in 1..=31 {
        let anchor = at(days_from_civil(2024, 1, anchor_day) * DAY_S + time_of_day_s);
        let begin = |year: i64, month: i64| {
            days_from_civil(year, month, anchor_day.min(days_in_month(year, month))) * DAY_S + time_of_day_s
        };
        let mut months = 0;
        for year in 1_850..2_250 {
            for month in 1..=12 {
                let next = if month == 12 { begin(year + 1, 1) } else { begin(year, month + 1) };
                let expected = (begin(year, month), next);
                for instant in [expected.0, next - 1] {
                    let found = window_s(Period::BillingMonth, at(instant), &TimeZone::UTC, Some(anchor));
                    assert_eq!(found, expected, "anchor on day {anchor_day}, {year}-{month}");
                }
                months += 1;
            }
        }
        assert_eq!(months, 4_800);
    }
}

#[test]
fn anchored_years_from_a_leap_day_fall_on_the_28th_in_common_years() {
    let anchor = at(days_from_civil(2024, 2, 29) * DAY_S);
    for year in 1_970..2_370 {
        let begin = days_from_civil(year, 2, 28 + i64::from(is_leap(year))) * DAY_S;
        let next = days_from_civil(year + 1, 2, 28 + i64::from(is_leap(year + 1))) * DAY_S;
        for instant in [begin, next - 1] {
            let found = window_s(Period::BillingYear, at(instant), &TimeZone::UTC, Some(anchor));
            assert_eq!(found, (begin, next), "{year}");
        }
    }
}

/// Until 2011 the clocks of Newfoundland fell back at one minute past midnight, to the day before: that
/// day's last hour came twice, with a minute of the next day in between.
#[test]
fn a_date_that_comes_twice_is_one_day() {
    let zone = zone("America/St_Johns");
    // 2010-11-07T00:01 summer time is 02:31 UTC.
    let fall_back = days_from_civil(2010, 11, 7) * DAY_S + 2 * 3_600 + 31 * 60;
    let mut starts: Vec<i64> = Vec::new();
    for minute in -2_000..2_000 {
        let (start, end) = window_s(Period::Day, at(fall_back + minute * 60), &zone, None);
        assert!((start..end).contains(&(fall_back + minute * 60)));
        if starts.last() != Some(&start) {
            starts.push(start);
        }
    }
    assert!(starts.windows(2).all(|pair| pair[0] < pair[1]), "a day came back: {starts:?}");
    let lengths: Vec<i64> = starts.windows(2).map(|pair| (pair[1] - pair[0]) / 3_600).collect();
    // The 5th, the 6th and the 7th, which begins at its first midnight and keeps the hour that came again.
    assert_eq!(lengths, [24, 24, 25]);
}

/// Samoa had no 30 December 2011.
#[test]
fn a_date_that_never_came_has_no_window() {
    let zone = zone("Pacific/Apia");
    let last_of_29th = days_from_civil(2011, 12, 30) * DAY_S + 10 * 3_600 - 1;
    let (start, end) = window_s(Period::Day, at(last_of_29th), &zone, None);
    assert_eq!((end - start, end), (DAY_S, last_of_29th + 1));
    let (start, end) = window_s(Period::Day, at(last_of_29th + 1), &zone, None);
    assert_eq!((start, end - start), (last_of_29th + 1, DAY_S));
}

#[test]
fn days_have_23_and_25_hours_where_the_clocks_change() {
    let zone = zone("Europe/London");
    let length_h = |year, month, day| {
        let noon = days_from_civil(year, month, day) * DAY_S + DAY_S / 2;
        let (start, end) = window_s(Period::Day, at(noon), &zone, None);
        (end - start) / 3_600
    };
    assert_eq!((length_h(2026, 3, 28), length_h(2026, 3, 29), length_h(2026, 10, 25)), (24, 23, 25));
}

#[test]
fn the_ends_of_time_have_windows_too() {
    for period in Period::ALL {
        for zone_name in ZONES {
            for instant in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
                for anchor in [None, Some(Timestamp::MIN), Some(Timestamp::MAX)] {
                    let window = period.window(instant, &zone(zone_name), anchor);
                    let last = instant == Timestamp::MAX && window.end == Some(Timestamp::MAX);
                    assert!(
                        period == Period::Total || last || window.contains(instant),
                        "{period} {instant} {window:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn an_anchors_fraction_of_a_second_moves_no_window() {
    let (whole, more) = (at(1_700_000_000), Timestamp::new(1_700_000_000, 999_999_999).unwrap());
    for period in Period::ALL {
        let of = |anchor| period.window(at(1_772_323_200), &TimeZone::UTC, Some(anchor));
        assert_eq!(of(whole), of(more), "{period}");
    }
}

#[test]
fn a_total_never_ends() {
    let window = Period::Total.window(at(1_772_323_200), &zone("Asia/Kathmandu"), None);
    assert_eq!((window.start, window.end), (Timestamp::UNIX_EPOCH, None));
}
