//! Servers for tests: each test starts its own, in a temporary folder, and stops it when it is done.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, dead_code)]
#![allow(unreachable_pub, unused_imports)]

#[cfg(feature = "postgres")]
mod pooler;
#[cfg(feature = "postgres")]
mod postgres;
mod proxy;
#[cfg(feature = "redis")]
mod redis;

#[cfg(feature = "postgres")]
pub use self::pooler::{Pooler, SESSIONS};
#[cfg(feature = "postgres")]
pub use self::postgres::Postgres;
pub use self::proxy::{Cut, Proxy, Upstream};
#[cfg(feature = "redis")]
pub use self::redis::{Redis, RedisCluster, free_port};
