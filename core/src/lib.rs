//! Embedded quota enforcement: *may this caller do this now, and what is left?*
//!
//! A backend links Quotum in-process, gives it a plans file and a store, and asks [`Quota`] on every
//! request. [`blocking::Quota`] is the same for synchronous callers.
//!
//! | to learn about | read |
//! | --- | --- |
//! | asking and answering | [`Quota`], [`Decision`], [`Denial`], [`Usage`] |
//! | what plans can say | [`Plans`], [`Plan`], [`QuotaLimit`], [`Rate`], [`FeatureValue`] |
//! | who is on which plan | [`Subscription`], [`Status`], [`Overrides`] |
//! | when a quota starts afresh | [`Period`] |
//! | from a token to a subject | [`token`], [`token::Verifier`] |
//! | how fast a key may ask | [`rate`], [`rate::RateTable`] |
//! | answering over HTTP | [`http`], [`http::Mapping`] |
#![cfg_attr(feature = "tower", doc = "| admitting requests in axum and hyper | [`tower`], [`tower::QuotaLayer`] |")]
//! | where counters last | [`store`], [`store::Store`] |
//! | a store in a database of your own | [`store::Map`], [`store::MapStore`] |
//! | turning the clock in a test | [`ManualClock`] |
#![cfg_attr(feature = "faults", doc = "| a store that fails in a test | [`store::Faults`], [`store::FaultRule`] |")]
//!
//! The flow of a request is one file, `admission.rs`.

#![forbid(unsafe_code)]

mod admin;
mod admission;
mod aside;
pub mod blocking;
mod builder;
mod caller;
mod charging;
mod clock;
mod debt;
mod decision;
pub mod diagnosis;
mod engine;
mod error;
mod event;
mod eviction;
mod feed;
mod flight;
mod fork;
pub mod http;
mod lease;
mod lookup;
#[cfg(feature = "metrics")]
mod metrics;
mod observer;
mod owned_request;
mod plan;
mod planted;
mod policy;
mod quota;
pub mod rate;
mod recall;
mod record;
mod request;
mod reservation;
mod scope;
mod standing;
pub mod store;
mod subject;
mod subscription;
mod sync;
pub mod token;
#[cfg(feature = "tower")]
pub mod tower;
mod usage;

pub use jiff::Timestamp;

#[cfg(feature = "conformance")]
#[doc(hidden)]
pub use aside::simulated::{Work, collect_aside, take_aside};
pub use builder::Builder;
pub use clock::{Clock, ManualClock, SystemClock};
pub use decision::{Decision, Denial, QuotaState, Reason, Usage};
pub use error::{Error, Kind, Retry};
pub use event::{Event, EventName, EventQuery};
pub use observer::LoggedEvents;
pub use owned_request::OwnedRequest;
pub use plan::{
    CatalogStatus, EXACT_UP_TO, FeatureValue, InvalidLimit, Leasing, Limit, Plan, Plans, PlansError, PlansOrigin,
    Price, Problem, QuotaLimit, Rate, RateLimit, UNITS_MAX, WhenLapsed,
};
#[cfg(planted)]
#[doc(hidden)]
pub use planted::bugs::{PLANTED_BUGS, plant};
pub use policy::Enforcement;
pub use quota::Quota;
pub use request::Request;
pub use reservation::{Reservation, Settlement};
pub use scope::ScopeState;
pub use subject::Subject;
pub use subscription::{Overrides, Status, Subscription};
pub use usage::hold::HoldId;
pub use usage::period::{Period, Window};

/// The README's lines of Rust, compiled and run with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The guide's examples, likewise.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide.md")]
struct Guide;
