//! Any instant, zone and anchor: the instant's window holds it, and joins its neighbours.

#![no_main]

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use libfuzzer_sys::fuzz_target;
use quotum::Period;

fuzz_target!(|input: (i64, u8, u16, Option<i64>)| {
    let (second, period, zone, anchor) = input;
    // A year from the ends of time, so that every window has its neighbours.
    let margin = 400 * 86_400;
    let within = |second: i64| {
        let (first, last) = (Timestamp::MIN.as_second() + margin, Timestamp::MAX.as_second() - margin);
        Timestamp::from_second(first + second.rem_euclid(last - first)).unwrap()
    };
    let name = jiff::tz::db().available().nth(usize::from(zone) % 590);
    let zone = name.and_then(|name| TimeZone::get(name.as_str()).ok()).unwrap_or(TimeZone::UTC);
    let (at, anchor) = (within(second), anchor.map(within));
    let period = Period::ALL[usize::from(period) % (Period::ALL.len() - 1)];

    let window = period.window(at, &zone, anchor);
    let end = window.end.unwrap();
    assert!(window.contains(at), "{at} {window:?}");
    assert_eq!(period.window(window.start, &zone, anchor), window);
    assert_eq!(period.window(end, &zone, anchor).start, end);
    assert_eq!(period.window(window.start - SignedDuration::from_nanos(1), &zone, anchor).end, Some(window.start));
});
