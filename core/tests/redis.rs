//! The Redis store on a real server.

#![cfg(feature = "redis")]
