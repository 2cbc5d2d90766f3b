//! How much was used: periods, the counters kept in them, and the holds on those.

pub(crate) mod counter;
pub(crate) mod demand;
pub(crate) mod denial_cache;
pub(crate) mod hold;
pub(crate) mod lease;
pub(crate) mod period;
pub(crate) mod usage_cache;
