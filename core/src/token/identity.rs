//! Identities: whom a token speaks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::VerifyError;
use crate::subscription::SUBJECT_BYTES_MAX;

/// Whom a token speaks for, as the verifier has found.
///
/// ```
/// use quotum::token::Identity;
///
/// let identity = Identity::of("user-42")
///     .expiring_at("2026-03-01T12:00:00Z".parse()?)
///     .with_attribute("role", "admin");
/// assert_eq!(&*identity.subject, "user-42");
/// assert_eq!(identity.attributes["role"], "admin");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Identity {
    /// Who is metered, an id of 1 to 256 bytes.
    pub subject: Arc<str>,
    /// When the token ceases to be valid, if it does by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// What else the host wants to know of the caller. Not the token itself: attributes are printed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

impl Identity {
    /// A subject whose token does not expire by itself.
    #[must_use]
    pub fn of(subject: impl Into<Arc<str>>) -> Self {
        Self { subject: subject.into(), expires_at: None, attributes: BTreeMap::new() }
    }

    /// The same, with a token that expires: it is refused from then on, however long caches live.
    #[must_use]
    pub fn expiring_at(mut self, at: Timestamp) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// The same, with one more attribute.
    #[must_use]
    pub fn with_attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }

    /// Whether the token has expired at `now`.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    pub(super) fn check(&self) -> Result<(), VerifyError> {
        let bytes = self.subject.len();
        if (1..=SUBJECT_BYTES_MAX).contains(&bytes) {
            return Ok(());
        }
        let detail = format!("it named a subject of {bytes} bytes, expected 1 to {SUBJECT_BYTES_MAX}");
        Err(VerifyError::Faulty { detail })
    }
}

/// What a token amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Authenticated {
    /// It speaks for somebody.
    Known(Arc<Identity>),
    /// It is malformed, unknown, revoked or expired.
    Refused,
}

impl Authenticated {
    /// The identity, if the token speaks for somebody.
    ///
    /// ```
    /// use quotum::token::Authenticated;
    ///
    /// assert_eq!(Authenticated::Refused.identity(), None);
    /// ```
    #[must_use]
    pub fn identity(self) -> Option<Arc<Identity>> {
        match self {
            Self::Known(identity) => Some(identity),
            Self::Refused => None,
        }
    }
}
