//! Leasing: whether units of a quota are granted from blocks in memory.

use std::fmt;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::limit::UNITS_MAX;

/// Limits up to this many units are always exact: no units of them are leased.
pub const EXACT_UP_TO: u64 = 1_000;

/// Whether a process may lease blocks of a quota's units from the store and grant them from memory.
///
/// A leased quota is never exceeded, but a request may be denied while units are left that other processes have
/// leased; near its limit, and for limits of up to 1,000 units, every charge is made in the store all the same.
/// In a plans file: `"auto"`, `"off"`, or `{ max = 500, ttl_s = 30 }`, each with a default.
///
/// ```
/// use quotum::{Leasing, Plans};
///
/// let plans = Plans::from_toml(r#"
///     default_plan = "free"
///     [plans.free]
///     quotas = { tokens = "1000000/month", exports = "2000/month" }
///     lease = { tokens = { max = 50000 }, exports = "off" }
/// "#)?;
/// let lease = &plans.default_plan().lease;
/// assert_eq!(lease["tokens"], Leasing::Blocks { max: 50_000, ttl_s: 10 });
/// assert_eq!(lease["exports"], Leasing::Off);
/// # Ok::<(), quotum::PlansError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Leasing {
    /// Blocks as large as ten seconds' demand, where the store is slower than memory: `"auto"`.
    #[default]
    Auto,
    /// Every charge is made in the store: `"off"`.
    Off,
    /// Blocks within these bounds, whatever the store.
    Blocks {
        /// The most units of one block.
        max: u64,
        /// For how many seconds a block is leased, 1 to 3,600: the units of a process that dies are charged after
        /// that.
        ttl_s: u32,
    },
}

impl Leasing {
    /// For how many seconds a block is leased where nothing else is said.
    pub(crate) const TTL_S: u32 = 10;

    /// The longest lease, in seconds.
    pub(crate) const TTL_S_MAX: u32 = 3_600;

    /// Blocks of any size, for the usual time.
    pub(crate) const BLOCKS: Self = Self::Blocks { max: UNITS_MAX, ttl_s: Self::TTL_S };
}

impl fmt::Display for Leasing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Off => f.pad("off"),
            Self::Blocks { max, ttl_s } => write!(f, "blocks of up to {max} units for {ttl_s} s"),
        }
    }
}

impl Serialize for Leasing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Off => serializer.serialize_str("off"),
            Self::Blocks { max, ttl_s } => {
                let mut table = serializer.serialize_map(Some(2))?;
                table.serialize_entry("max", max)?;
                table.serialize_entry("ttl_s", ttl_s)?;
                table.end()
            }
        }
    }
}
