//! Rates, as the package is told of them: how each window stands, with what its limit says.

use quotum::rate::{RateDecision, RateState};
use serde::Serialize;

/// One window.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Window<'s> {
    scope: &'s str,
    /// As plans write it.
    limit: String,
    units: u64,
    burst: u64,
    window_s: u32,
    remaining: u64,
    reset_after_ms: u64,
}

impl<'s> Window<'s> {
    pub(crate) fn of(scope: &'s str, window: &RateState) -> Self {
        Self {
            scope,
            limit: window.limit.to_string(),
            units: window.limit.units,
            burst: window.limit.burst,
            window_s: window.limit.window_s,
            remaining: window.remaining,
            reset_after_ms: whole_ms(window.reset_after),
        }
    }
}

/// What the limiter alone has decided.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Limited<'s> {
    allowed: bool,
    never_fits: bool,
    retry_after_ms: Option<u64>,
    windows: Vec<Window<'s>>,
}

impl<'s> Limited<'s> {
    pub(crate) fn of(scope: &'s str, decision: &RateDecision) -> Self {
        Self {
            allowed: decision.allowed,
            never_fits: decision.never_fits,
            retry_after_ms: decision.retry_after.map(whole_ms),
            windows: decision.windows().iter().map(|window| Window::of(scope, window)).collect(),
        }
    }
}

/// Rounded up: who waits that long must not be too early.
pub(crate) fn whole_ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
