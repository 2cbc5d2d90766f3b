//! What can go wrong in a store.

use std::time::Duration;

use thiserror::Error;

use crate::error::Retry;

/// Why a store could not answer. Each variant's text says what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Other processes kept the store busy. Ask again, or give the store a longer time to wait.
    #[error("the store was busy for {} ms: nothing was done, ask again", waited.as_millis())]
    Busy {
        /// How long was waited.
        waited: Duration,
    },

    /// The store did not answer in time.
    #[error("the store did not answer within {} ms: {}", after.as_millis(), match retry {
        Retry::OutcomeUnknown => "it may or may not have done what it was asked",
        _ => "nothing was done, ask again",
    })]
    TimedOut {
        /// How long the caller was willing to wait.
        after: Duration,
        /// Whether the call may be made again.
        retry: Retry,
    },

    /// The store has failed several times in a row, and is not asked for a while. Nothing was done. Mend the
    /// cause; the store is then asked again by itself.
    #[error("the store is not asked for another {} ms, after it failed repeatedly: {cause}", retry_after.as_millis())]
    Unavailable {
        /// How it failed last.
        cause: String,
        /// How soon it may be asked again.
        retry_after: Duration,
    },

    /// The disk is full. Make room; the store then goes on by itself.
    #[error("the disk is full: nothing was written, make room on it ({detail})")]
    Full {
        /// What the store said.
        detail: String,
    },

    /// The file or its folder cannot be written. Correct the permissions.
    #[error("the store is read-only: correct the permissions of the file and its folder ({detail})")]
    ReadOnly {
        /// What the store said.
        detail: String,
    },

    /// The store cannot be opened. Correct its address or its permissions.
    #[error("{name} cannot be opened: {detail}")]
    CannotOpen {
        /// What was to be opened.
        name: String,
        /// What stood in the way, and what to do.
        detail: String,
    },

    /// The data is damaged. Nothing was changed or recreated: restore the file from a copy.
    #[error("{name} is damaged, restore it from a copy: {detail}")]
    Damaged {
        /// What is damaged.
        name: String,
        /// What was found.
        detail: String,
    },

    /// The file belongs to another program. Choose another file.
    #[error("{name} holds the data of another program: choose another file")]
    Foreign {
        /// The file.
        name: String,
    },

    /// The file was written by a newer Quotum. Update this one; nothing was changed.
    #[error("{name} has schema version {found}, this library knows up to {known}: update the library")]
    NewerSchema {
        /// The file.
        name: String,
        /// The version of the file.
        found: i64,
        /// The newest version that this library knows.
        known: i64,
    },

    /// The host keeps this itself ([`Sourced`](crate::store::Sourced)). Change it where it is kept; nothing was done.
    #[error("{what} is kept by the host: change it there")]
    KeptByHost {
        /// What was to be changed.
        what: String,
    },

    /// An earlier call met damage, or failed in a way that left its outcome unknown, and the store has
    /// refused all work since. Nothing was done. Find the cause, then open the store again.
    #[error("the store has stopped, open it again once the cause is mended: {cause}")]
    Stopped {
        /// The failure.
        cause: String,
    },

    /// The store was reached and failed in another way.
    #[error("the store failed: {detail}")]
    Failed {
        /// What the store said.
        detail: String,
        /// Whether the call may be made again.
        retry: Retry,
    },
}

impl StoreError {
    /// Whether the same call may be made again.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Busy { .. } | Self::Full { .. } | Self::Unavailable { .. } => Retry::Safe,
            Self::Failed { retry, .. } | Self::TimedOut { retry, .. } => *retry,
            _ => Retry::Never,
        }
    }
}
