//! Policy: whether what is decided is enforced. Switched at run time, by whoever operates the backend.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::event::Event;

/// What becomes of a denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enforcement {
    /// The request is denied.
    #[default]
    Enforce,
    /// The request is let pass, and the decision says in `would_deny` why it would not have been. Counters
    /// are charged as if it were enforced: with what fits, and with nothing else.
    Shadow,
    /// Nothing is decided and nothing is counted.
    Off,
}

impl Enforcement {
    const ALL: [Self; 3] = [Self::Enforce, Self::Shadow, Self::Off];

    /// The word used in logs, stores and other languages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for Enforcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Enforcement {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = || Self::ALL.map(Self::as_str).join(", ");
        let found = Self::ALL.into_iter().find(|mode| mode.as_str() == text);
        found.ok_or_else(|| Error::argument("enforcement", format!("{text:?}"), known()))
    }
}

/// The modes in force: one for everything, and those of single metrics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Modes {
    everywhere: Enforcement,
    metrics: BTreeMap<Arc<str>, Enforcement>,
}

impl Modes {
    pub(crate) fn everywhere(&self) -> Enforcement {
        self.everywhere
    }

    /// The mode of a metric: its own, or everything's. What is off everywhere is off.
    pub(crate) fn of(&self, metric: &str) -> Enforcement {
        match self.everywhere {
            Enforcement::Off => Enforcement::Off,
            everywhere => self.metrics.get(metric).copied().unwrap_or(everywhere),
        }
    }
}

/// The modes, as they are switched.
#[derive(Debug, Default)]
pub(crate) struct Switchboard(RwLock<Arc<Modes>>);

impl Switchboard {
    pub(crate) fn starting(everywhere: Enforcement) -> Self {
        Self(RwLock::new(Arc::new(Modes { everywhere, metrics: BTreeMap::new() })))
    }

    /// The modes, for as long as they are looked at, during which nobody can switch.
    pub(crate) fn read(&self) -> impl Deref<Target = Arc<Modes>> {
        self.0.read()
    }

    pub(crate) fn modes(&self) -> Arc<Modes> {
        Arc::clone(&self.0.read())
    }

    pub(crate) fn switch(&self, metric: Option<Arc<str>>, mode: Enforcement) {
        let mut modes = self.0.write();
        let modes = Arc::make_mut(&mut modes);
        match metric {
            Some(metric) => drop(modes.metrics.insert(metric, mode)),
            None => modes.everywhere = mode,
        }
    }

    /// Switches as an event of the log says that somebody did.
    pub(crate) fn follow(&self, event: &Event) {
        let mode = event.detail.as_ref().and_then(|detail| detail.as_str()).and_then(|word| word.parse().ok());
        match mode {
            Some(mode) => self.switch(event.metric.clone(), mode),
            None => tracing::warn!(target: "quotum", ?event, "an unknown enforcement was not followed"),
        }
    }
}
