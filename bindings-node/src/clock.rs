//! Clocks for tests, which stand still until they are told to move. Times are in milliseconds since 1970.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use napi::bindgen_prelude::{Error, Result};
use napi_derive::napi;
use quotum::{Clock, ManualClock};

use crate::home::Home;

/// The package checks times before it hands them on.
fn time(ms: i64) -> Result<Timestamp> {
    Timestamp::from_millisecond(ms).map_err(|error| Error::from_reason(error.to_string()))
}

fn clock(home: u32, number: u32) -> Result<Arc<ManualClock>> {
    let clock = Home::of(home)?.clocks.with(number, Arc::clone);
    clock.ok_or_else(|| Error::from_reason("there is no such clock"))
}

#[napi(catch_unwind)]
pub(crate) fn make_clock(home: u32, now: i64) -> Result<u32> {
    let clock = Arc::new(ManualClock::at(time(now)?));
    Ok(Home::of(home)?.clocks.insert(clock))
}

#[napi(catch_unwind)]
pub(crate) fn clock_now(home: u32, number: u32) -> Result<i64> {
    Ok(clock(home, number)?.wall().as_millisecond())
}

#[napi(catch_unwind)]
pub(crate) fn advance(home: u32, number: u32, ms: i64) -> Result<()> {
    clock(home, number)?.advance(Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
    Ok(())
}

#[napi(catch_unwind)]
pub(crate) fn set_wall(home: u32, number: u32, now: i64) -> Result<()> {
    clock(home, number)?.set_wall(time(now)?);
    Ok(())
}
