//! Tokens: from what a request carries to whom it speaks for.
//!
//! A token is verified by the host's own [`Verifier`], once for however many requests wait for it, and
//! remembered in a [`TokenCache`] under the digest of the *whole* token. Nothing here stores, logs or
//! prints a token, and nothing here reads what a token says: a JWT and an API key are both only bytes.

mod cache;
mod digest;
mod error;
mod identity;
mod tokens;
mod untold;
mod verifications;
mod verifier;

pub use self::cache::{Begun, TokenCache, TokenCacheOptions, TokenCacheStats};
pub use self::digest::{Pepper, Secret, TokenDigest};
pub use self::error::VerifyError;
pub use self::identity::{Authenticated, Identity};
pub(crate) use self::tokens::{CALLS_MAX, SecondLevel, Tokens};
pub use self::verifier::{Verifier, VerifyFuture, async_verifier, blocking_verifier};
