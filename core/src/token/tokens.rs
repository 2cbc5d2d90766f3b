//! From a token to an identity: the cache, else the verifier, once for however many wait.

#[cfg(all(test, shuttle))]
mod models;
#[cfg(all(test, not(shuttle)))]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;

use super::cache::TokenCache;
use super::digest::{Pepper, Secret, TokenDigest};
use super::identity::Authenticated;
use super::untold::Untold;
use super::verifications::{Verifications, Verified};
use super::verifier::Verifier;
use crate::clock::Clock;
use crate::error::Error;
use crate::store::{Call, KeptIdentity, Store};

/// The longest token, in bytes: twice what HTTP servers take as a header.
const TOKEN_BYTES_MAX: usize = 16 * 1_024;

/// How many tokens may be verified at once, unless the host says otherwise.
pub(crate) const CALLS_MAX: usize = 1_000;

pub(crate) struct Tokens {
    verifier: Arc<dyn Verifier>,
    cache: TokenCache,
    pepper: Option<Pepper>,
    clock: Arc<dyn Clock>,
    under_way: Arc<Verifications>,
    second: Option<SecondLevel>,
    /// What was revoked here and the store has not been told.
    pub(crate) untold: Untold,
}

/// The store as a second level of the cache, so that a process which starts finds it warm.
#[derive(Debug)]
pub(crate) struct SecondLevel {
    pub(crate) store: Arc<dyn Store>,
    /// The last change that this process has followed: see [`Store::put_identity`].
    pub(crate) followed: Arc<AtomicU64>,
}

impl SecondLevel {
    /// What the store remembers. It only saves a verification, so what it fails to tell is verified.
    async fn find(&self, call: Call, digest: &TokenDigest) -> Option<KeptIdentity> {
        self.store.identity(call, digest).await.ok().flatten()
    }

    async fn keep(&self, call: Call, digest: &TokenDigest, kept: &KeptIdentity, followed: u64) {
        if let Err(error) = self.store.put_identity(call, digest, kept, followed).await {
            tracing::warn!(target: "quotum", %error, "an identity was not kept in the store");
        }
    }
}

impl Tokens {
    pub(crate) fn new(
        verifier: Arc<dyn Verifier>,
        cache: TokenCache,
        pepper: Option<Pepper>,
        clock: Arc<dyn Clock>,
        calls_max: usize,
        second: Option<SecondLevel>,
    ) -> Arc<Self> {
        let (under_way, untold) = (Verifications::at_most(calls_max), Untold::default());
        Arc::new(Self { verifier, cache, pepper, clock, under_way, second, untold })
    }

    /// What a token amounts to. With an error, nobody knows.
    pub(crate) async fn authenticate(self: &Arc<Self>, call: Call, token: &str) -> Result<Authenticated, Error> {
        match self.recall(call.now, token) {
            Ok(known) => Ok(known),
            Err(digest) => Ok(self.verify_once(call, digest, token).await?),
        }
    }

    /// What a token is known to amount to without asking anybody, or the digest to ask under.
    pub(crate) fn recall(&self, now: Timestamp, token: &str) -> Result<Authenticated, TokenDigest> {
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return Ok(Authenticated::Refused);
        }
        let digest = self.digest(token);
        match self.cache.lookup(&digest, now, self.clock.monotonic()) {
            Some(known) => Ok(known),
            // Only now: a token that the cache knows was once let through here.
            None if token.chars().any(char::is_control) => Ok(Authenticated::Refused),
            None => Err(digest),
        }
    }

    /// Makes the next request with this token ask the verifier.
    pub(crate) fn forget(&self, digest: TokenDigest) {
        self.cache.forget(&digest);
        self.under_way.abandon(digest);
    }

    /// Makes the next request with any of this subject's tokens ask the verifier.
    pub(crate) fn forget_subject(&self, subject: &str) {
        self.cache.forget_subject(subject);
        // Whom a verification under way will find is not known yet.
        self.under_way.abandon_all();
    }

    pub(crate) const fn cache(&self) -> &TokenCache {
        &self.cache
    }

    /// How the token is called in caches and in the store.
    pub(crate) fn digest(&self, token: &str) -> TokenDigest {
        self.pepper.as_ref().map_or_else(|| TokenDigest::of(token), |pepper| pepper.digest(token))
    }

    async fn verify_once(self: &Arc<Self>, call: Call, digest: TokenDigest, token: &str) -> Verified {
        let start = || {
            let (tokens, token) = (Arc::clone(self), Secret::from(token));
            async move { tokens.verify(call, digest, token).await }.boxed()
        };
        self.under_way.join((digest, call.wait), start)?.await
    }

    async fn verify(&self, call: Call, digest: TokenDigest, token: Secret) -> Verified {
        let begun = self.cache.begin(self.clock.monotonic());
        // Another verification may have ended since the look-up.
        if let Some(known) = self.cache.peek(&digest, call.now, self.clock.monotonic()) {
            return Ok(known);
        }
        let followed = self.second.as_ref().map_or(0, |second| second.followed.load(Ordering::Acquire));
        let untold = self.untold.now();
        if let Some(second) = self.second.as_ref().filter(|_| untold.believe_of(&digest))
            && let Some(kept) = second.find(call, &digest).await
            && untold.believe(&kept.identity)
            && !kept.identity.has_expired(call.now)
        {
            let left = Duration::try_from(kept.until.duration_since(call.now)).unwrap_or_default();
            return Ok(Authenticated::Known(self.cache.keep(begun.kept_at_most(left), digest, kept.identity)));
        }
        let found = self.verifier.verify(call, &token).await.map_err(|error| error.redacted(&token))?;
        let now = self.clock.wall().max(call.now);
        let Some(identity) = found.filter(|identity| !identity.has_expired(now)) else {
            self.cache.keep_refusal(begun, digest);
            return Ok(Authenticated::Refused);
        };
        identity.check()?;
        if let Some(second) = &self.second {
            let until = call.now.checked_add(self.cache.ttl()).unwrap_or(Timestamp::MAX);
            let until = identity.expires_at.map_or(until, |at| until.min(at));
            second.keep(call, &digest, &KeptIdentity { identity: identity.clone(), until }, followed).await;
        }
        Ok(Authenticated::Known(self.cache.keep(begun, digest, identity)))
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("verifier", &self.verifier)
            .field("cache", &self.cache)
            .field("under_way", &self.under_way)
            .finish_non_exhaustive()
    }
}
