//! How much was used: periods, the counters kept in them, and the holds on those.

pub(crate) mod counter;
pub(crate) mod demand;
pub(crate) mod hold;
pub(crate) mod period;
