//! How much was used: periods and the counters kept in them.

pub(crate) mod counter;
pub(crate) mod period;
