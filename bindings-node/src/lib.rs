//! The Node addon: converts, calls the core, converts back.
//!
//! The package's TypeScript, in `lib/`, is its only caller. What it asks and is told goes as JSON, but for decisions in
//! memory (`decide.rs`), which are asked for many times a second.

// What is exported to Node is not, to a test, and would be used by nobody.
#![cfg_attr(test, allow(dead_code))]

mod bell;
mod clock;
mod decide;
mod diagnosis;
mod ending;
mod handles;
mod home;
mod host;
mod http;
mod names;
mod numbers;
mod opening;
mod outcome;
mod plans;
mod rate;
mod raw;
mod request;
mod store;
mod task;
mod verb;
mod wire;
