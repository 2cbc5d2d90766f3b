//! Servers for tests: each test starts its own, in a temporary folder, and stops it when it is done.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub)]

mod postgres;

pub use self::postgres::Postgres;
