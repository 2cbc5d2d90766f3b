//! Servers for tests: each test starts its own, in a temporary folder, and stops it when it is done.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, dead_code)]
#![allow(unreachable_pub)]

mod postgres;
mod proxy;

pub use self::postgres::Postgres;
#[allow(unused_imports)]
pub use self::proxy::{Cut, Proxy, Upstream};
