//! The platform over HTTP: what a client sees from its first request to its first denial and beyond, and
//! that the faults of the code that Quotum replaced cannot come back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod app;
mod client;
mod faults;
mod journey;
