//! Whether a step may be sent to a server again when its answer was lost.

use crate::error::Retry;

/// What a step changes on a server that it reaches a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing that matters: it reads, or does the same however often it comes.
    None,
    /// Nothing: the server knows it by a name among its values, and says what came of it.
    Named,
    /// Nothing: it has no name, and the server knows it by the turn that it comes with.
    InTurn,
    /// As much as the first time.
    Each,
}

impl Effect {
    /// Whether it may be sent again by whoever does not know that it was made.
    pub(super) const fn may_come_again(self) -> bool {
        !matches!(self, Self::Each)
    }

    /// Whether it matters what came of an attempt whose answer was lost.
    pub(super) const fn is_in_doubt(self) -> bool {
        !matches!(self, Self::None)
    }

    /// What the caller may do where nobody knows whether it was made.
    pub(super) const fn retry_if_lost(self) -> Retry {
        if self.is_in_doubt() { Retry::OutcomeUnknown } else { Retry::Safe }
    }
}
