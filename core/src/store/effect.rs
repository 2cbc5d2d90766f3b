//! Whether a step may be sent to a server again when its answer was lost.

use crate::error::Retry;

/// What a step changes on a server that it reaches a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing that matters: it reads, or does the same however often it comes.
    None,
    /// Nothing: the server knows it by its name, and says what came of it.
    Once,
    /// As much as the first time.
    Each,
}

impl Effect {
    /// Whether it may be sent again by whoever does not know that it was made.
    pub(super) const fn may_come_again(self) -> bool {
        matches!(self, Self::None | Self::Once)
    }

    /// Whether it matters what came of an attempt whose answer was lost.
    pub(super) const fn is_in_doubt(self) -> bool {
        !matches!(self, Self::None)
    }

    /// What the caller may do where nobody knows whether it was made.
    pub(super) const fn retry_if_lost(self) -> Retry {
        match self {
            Self::None => Retry::Safe,
            Self::Once | Self::Each => Retry::OutcomeUnknown,
        }
    }
}
