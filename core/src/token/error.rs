//! What can go wrong in verifying a token. A token that is not valid is not an error.

use thiserror::Error;

use crate::error::Retry;
use crate::flight::Unfinished;

/// Why it is not known whether a token is valid. Never cached: the next request asks again.
///
/// ```
/// use quotum::token::VerifyError;
///
/// let error = VerifyError::unavailable("the identity provider timed out");
/// assert_eq!(error.to_string(), "the token could not be verified: the identity provider timed out");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The verifier could not tell now. Ask again; if it lasts, see to what the verifier needs.
    #[error("the token could not be verified: {detail}")]
    Unavailable {
        /// What stood in the way.
        detail: String,
    },

    /// The verifier is at fault: it panicked, or named a subject that cannot be. Correct it.
    #[error("the verifier is at fault: {detail}")]
    Faulty {
        /// What it did.
        detail: String,
    },

    /// As many tokens as may be are being verified already, most often because of a flood of unknown
    /// ones. Ask again later.
    #[error("{calls_max} tokens are being verified already: ask again later")]
    Crowded {
        /// How many may be verified at once.
        calls_max: usize,
    },
}

impl VerifyError {
    /// The verifier could not tell now.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::Unavailable { detail: detail.into() }
    }

    /// Whether the same token may be given again.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Unavailable { .. } | Self::Crowded { .. } => Retry::Safe,
            Self::Faulty { .. } => Retry::Never,
        }
    }

    /// The same error without the token, which an error of a verifier's own may repeat: in the URL of a
    /// request that failed, say.
    pub(super) fn redacted(mut self, token: &str) -> Self {
        if let Self::Unavailable { detail } | Self::Faulty { detail } = &mut self
            && detail.contains(token)
        {
            *detail = detail.replace(token, "[token]");
        }
        self
    }
}

impl From<Unfinished> for VerifyError {
    fn from(Unfinished { detail, retry }: Unfinished) -> Self {
        match retry {
            Retry::Never => Self::Faulty { detail },
            Retry::Safe | Retry::OutcomeUnknown => Self::Unavailable { detail },
        }
    }
}
