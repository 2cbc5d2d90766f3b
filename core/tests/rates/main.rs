//! Rates against a naive log of what was granted, and against the bugs of others.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs, unreachable_pub)]
// The locks of a model checker do not work outside of it.
#![cfg(not(shuttle))]

mod log;
mod model;
mod peers;
mod threads;
