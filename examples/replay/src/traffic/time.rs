//! The times that traffic files hold.

use anyhow::{Result, bail};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

/// From this number on, a number is milliseconds since 1970: as seconds it would be the year 5138.
const MILLISECONDS_FROM: i64 = 100_000_000_000;

/// Reads a time: RFC 3339, a date and time without a zone (taken for UTC), that of a web server's log,
/// or seconds or milliseconds since 1970.
pub(crate) fn parse(text: &str) -> Result<Timestamp> {
    let text = text.trim();
    if let Ok(number) = text.parse::<i64>() {
        let milliseconds = number.abs() >= MILLISECONDS_FROM;
        return Ok(if milliseconds { Timestamp::from_millisecond(number)? } else { Timestamp::from_second(number)? });
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(time) = text.parse::<DateTime>() {
        return Ok(TimeZone::UTC.to_timestamp(time)?);
    }
    match strtime::parse("%d/%b/%Y:%H:%M:%S %z", text).and_then(|time| time.to_timestamp()) {
        Ok(time) => Ok(time),
        Err(_) => bail!("found {text:?}, expected a time such as 2026-01-31T09:00:00Z"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_notation_names_the_same_instant() {
        for text in [
            "2015-05-17T10:05:03Z",
            "2015-05-17T12:05:03+02:00",
            "2015-05-17 10:05:03",
            "2015-05-17 10:05:03.0000000",
            "17/May/2015:12:05:03 +0200",
            "1431857103",
            "1431857103000",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), "2015-05-17T10:05:03Z", "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "yesterday", "2015-13-01 00:00:00", "31/Foo/2015:10:05:03 +0000", "99999999999999999999"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
