//! Plans: what each one grants, where they come from, and which one to suggest.

pub(crate) mod catalog;
mod document;
mod error;
mod file;
mod leasing;
mod limit;
#[expect(clippy::module_inception, reason = "the type Plan lives in the file that bears its name")]
mod plan;
mod rate;
mod schema;
pub(crate) mod upgrade;

pub use catalog::{CatalogStatus, PlansOrigin};
pub use error::{PlansError, Problem};
pub use leasing::{EXACT_UP_TO, Leasing};
pub use limit::{InvalidLimit, Limit, QuotaLimit, UNITS_MAX};
pub use plan::{FeatureValue, Plan, Plans, Price, WhenLapsed};
pub use rate::{Rate, RateLimit};
