//! Errors of the engine. A denial is not one: it is a [`Decision`](crate::Decision).

use std::fmt;

use jiff::Timestamp;
use thiserror::Error;

use crate::plan::PlansError;
use crate::store::StoreError;
use crate::token::VerifyError;
use crate::usage::hold::HoldId;

/// What can go wrong besides a denial.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument that no call can have. Correct the call; asking again will not help.
    #[error("argument `{argument}`: found {found}, expected {expected}")]
    InvalidArgument {
        /// The argument's name.
        argument: &'static str,
        /// What was given.
        found: String,
        /// What could have been given.
        expected: String,
    },

    /// A name that no plan knows: most often a typing error. It is never taken for "unlimited".
    /// Correct the name, or add it to the plans.
    #[error("unknown {kind} {name:?}; the plans know: {}", known.join(", "))]
    Unknown {
        /// What kind of name.
        kind: Kind,
        /// The name that was asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },

    /// A plans file that was refused. Correct it; the plans in force stay in force.
    #[error(transparent)]
    Plans(#[from] PlansError),

    /// Neither the store nor a plans file has any plans. Give the builder a plans file, or call
    /// `set_plans`.
    #[error("there are no plans: the store holds none and no plans file was given")]
    NoPlans,

    /// An idempotency key, or the name of a reservation, was used before with other arguments. Use one key
    /// for one request.
    #[error("idempotency key {key:?} was used before with other arguments: use a new key for another request")]
    Conflict {
        /// The key.
        key: String,
    },

    /// A reservation was committed or released after its time: its units had been given back, and nothing
    /// was charged. Reserve for longer, or consume what was used.
    #[error("hold_expired: reservation {id} expired at {at}, its units were given back")]
    HoldExpired {
        /// The reservation.
        id: HoldId,
        /// When it expired.
        at: Timestamp,
    },

    /// There is no reservation of this name, or it was resolved so long ago that the store has forgotten it.
    #[error("reservation {id} is not known: it was never made here, or resolved long ago")]
    HoldUnknown {
        /// The name.
        id: HoldId,
    },

    /// The operating system gave no random numbers. Nothing was done.
    #[error("no random numbers are to be had: {detail}")]
    Randomness {
        /// What the system said.
        detail: String,
    },

    /// The store could not answer. [`StoreError`] says what to do about it.
    #[error(transparent)]
    Store(#[from] StoreError),

    /// It is not known whether a token is valid. [`VerifyError`] says what to do about it.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

impl Error {
    pub(crate) fn argument(argument: &'static str, found: impl fmt::Display, expected: impl Into<String>) -> Self {
        Self::InvalidArgument { argument, found: found.to_string(), expected: expected.into() }
    }

    pub(crate) fn unknown(kind: Kind, name: &str, known: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let known = known.into_iter().map(|name| name.as_ref().to_owned()).collect();
        Self::Unknown { kind, name: name.to_owned(), known }
    }

    /// Whether the same call may be made again.
    ///
    /// ```
    /// use quotum::{Error, Retry};
    ///
    /// assert_eq!(Error::NoPlans.retry(), Retry::Never);
    /// ```
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Store(error) => error.retry(),
            Self::Verify(error) => error.retry(),
            _ => Retry::Never,
        }
    }
}

/// What kind of name was not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The id of a plan.
    Plan,
    /// What a quota counts.
    Metric,
    /// A capability of a plan.
    Feature,
    /// What a rate limits.
    Scope,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plan => "plan",
            Self::Metric => "metric",
            Self::Feature => "feature",
            Self::Scope => "scope",
        })
    }
}

/// Whether a failed call may be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same call would fail again.
    Never,
    /// Nothing was done; the same call may be made again.
    Safe,
    /// It may or may not have been done: made again, it may charge twice.
    OutcomeUnknown,
}
