//! The verifications under way: one per token, and not too many.

#[cfg(all(test, shuttle))]
mod models;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::digest::TokenDigest;
use super::error::VerifyError;
use super::identity::Authenticated;
use crate::flight::{Joined, UnderWay};
use crate::store::Wait;
use crate::sync::Mutex;

pub(crate) type Verified = Result<Authenticated, VerifyError>;

/// Verifications under way, by token. Tasks have their own, as in a [`Flight`](crate::flight::Flight).
pub(crate) struct Verifications {
    /// One lock for all: beside the call of a verifier, waiting for it is nothing.
    under_way: Mutex<Calls>,
    calls_max: usize,
}

type Key = (TokenDigest, Wait);

#[derive(Default)]
struct Calls {
    /// Each with its number, by which one that ends knows its own entry from a later one's.
    by_token: HashMap<Key, (u64, Weak<UnderWay<Verified>>)>,
    /// How many run: those that nobody may join any more too.
    running: usize,
    started: u64,
}

impl Verifications {
    pub(crate) fn at_most(calls_max: usize) -> Arc<Self> {
        Arc::new(Self { under_way: Mutex::default(), calls_max })
    }

    /// The verification of a token that is under way, or one that is started now, if there is room.
    pub(crate) fn join(
        self: &Arc<Self>,
        key: Key,
        start: impl FnOnce() -> BoxFuture<'static, Verified>,
    ) -> Result<Joined<Verified>, VerifyError> {
        let mut calls = self.under_way.lock();
        if let Some(joined) = calls.by_token.get(&key).and_then(|(_, call)| UnderWay::join(call)) {
            return Ok(joined);
        }
        if calls.running >= self.calls_max {
            return Err(VerifyError::Crowded { calls_max: self.calls_max });
        }
        let work = start();
        calls.running += 1;
        calls.started += 1;
        let number = calls.started;
        let place = Place { verifications: Arc::clone(self), key, number };
        let joined = UnderWay::start(
            async move {
                let _place = place;
                work.await
            }
            .boxed(),
        );
        calls.by_token.insert(key, (number, joined.call()));
        Ok(joined)
    }

    /// Lets nobody join the verifications of this token that are under way.
    pub(crate) fn abandon(&self, digest: TokenDigest) {
        let mut calls = self.under_way.lock();
        for wait in [Wait::Block, Wait::Yield] {
            calls.by_token.remove(&(digest, wait));
        }
    }

    /// Lets nobody join any verification that is under way.
    pub(crate) fn abandon_all(&self) {
        self.under_way.lock().by_token.clear();
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> (usize, usize) {
        let calls = self.under_way.lock();
        (calls.running, calls.by_token.len())
    }
}

impl fmt::Debug for Verifications {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifications").field("running", &self.under_way.lock().running).finish_non_exhaustive()
    }
}

/// A running verification's place among the others, given up however it ends: by an answer, by a panic,
/// or because all who waited have left.
struct Place {
    verifications: Arc<Verifications>,
    key: Key,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut calls = self.verifications.under_way.lock();
        calls.running -= 1;
        if calls.by_token.get(&self.key).is_some_and(|(number, _)| *number == self.number) {
            calls.by_token.remove(&self.key);
        }
    }
}
