//! A platform that runs jobs for its users, with Quotum in place of the quota code that it once had.
//!
//! | file | what |
//! | --- | --- |
//! | `asks.rs` | what each request asks the quotas for, before a handler sees it |
//! | `routes.rs` | which path is whose, and which layer stands before it |
//! | `accounts.rs`, `jobs.rs`, `storage.rs`, `admin.rs` | the handlers |
//! | `refusal.rs` | the answer where it is no |
//! | `users.rs` | users, sessions and API keys: a table in memory, and the verifier of tokens |
//! | `platform.rs` | what the handlers share |

#![forbid(unsafe_code)]

mod accounts;
mod admin;
mod asks;
mod jobs;
mod platform;
mod refusal;
mod routes;
mod storage;
mod users;

pub use platform::{Platform, Settings, StoreChoice};
pub use routes::router;
