//! Rates: how fast a key may ask. In memory, bounded, and lost when the process ends; or shared, in the store.
//!
//! [`RateTable`] decides a [`Rate`](crate::Rate) for a key, in all of its windows at once. It knows
//! nothing of plans, subjects or stores, and takes the time as an argument:
//!
//! ```
//! use std::net::IpAddr;
//! use std::time::Duration;
//! use quotum::Rate;
//! use quotum::rate::{RateKey, RateTable};
//!
//! let table = RateTable::with_capacity(10_000);
//! let rate: Rate = "2/minute".parse()?;
//! let caller: IpAddr = "203.0.113.7".parse()?;
//! let ask = |now| table.decide("login", RateKey::from(caller), &rate, 1, 1, now);
//!
//! assert!(ask(Duration::ZERO).allowed);
//! assert!(ask(Duration::ZERO).allowed);
//! let denied = ask(Duration::from_secs(1));
//! assert_eq!(denied.retry_after, Some(Duration::from_secs(29)));
//! assert!(ask(Duration::from_secs(30)).allowed);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | file | says |
//! | --- | --- |
//! | `algorithm.rs` | which algorithms there are, and what each can keep |
//! | `state.rs` | what is remembered of one window, in 64 bits |
//! | `meter.rs` | whether a cost fits a state; pure arithmetic |
//! | `key.rs` | who is asking |
//! | `set.rs` | which states share a place, and which of them has to go |
//! | `table.rs` | finds the set, and decides all windows under its lock |
//! | `decision.rs` | the answer |
//! | `shared.rs` | the same for rates that are counted in the store |

mod algorithm;
mod decision;
mod key;
mod meter;
mod set;
pub(crate) mod shared;
mod state;
mod table;

pub use algorithm::Algorithm;
pub use decision::{RateDecision, RateState};
pub(crate) use key::OwnedKey;
pub use key::RateKey;
pub use table::{RatePlace, RateTable};
