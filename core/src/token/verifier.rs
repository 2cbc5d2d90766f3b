//! Verifiers: the host's own way to find out whom a token speaks for.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt;

use super::digest::Secret;
use super::error::VerifyError;
use super::identity::Identity;
use crate::flight::unblocked;
use crate::store::Call;

/// What a verifier returns: a boxed future, so that any verifier fits behind one trait object.
pub type VerifyFuture<'a> = Pin<Box<dyn Future<Output = Result<Option<Identity>, VerifyError>> + Send + 'a>>;

/// Finds out whom a token speaks for: by its signature, in a table of API keys, at an identity provider.
///
/// A closure becomes one by [`blocking_verifier`] or [`async_verifier`].
pub trait Verifier: fmt::Debug + Send + Sync + 'static {
    /// The identity behind `token`, or `None` for a token that is not valid, which is remembered for a
    /// while too. Where [`Call::wait`] is [`Wait::Yield`](crate::store::Wait::Yield), polling must not
    /// block.
    ///
    /// # Errors
    ///
    /// Where it cannot be told now. Errors are not remembered.
    fn verify<'a>(&'a self, call: Call, token: &'a str) -> VerifyFuture<'a>;
}

/// A verifier that may block, on a database or the network. For tasks it is called on a thread of its
/// own, so that it never holds up an event loop.
///
/// ```
/// use quotum::token::{Identity, blocking_verifier};
///
/// let verifier = blocking_verifier(|token| Ok((token == "key-of-ana").then(|| Identity::of("ana"))));
/// ```
pub fn blocking_verifier<F>(verify: F) -> impl Verifier
where
    F: Fn(&str) -> Result<Option<Identity>, VerifyError> + Send + Sync + 'static,
{
    Blocking(Arc::new(verify))
}

/// A verifier that never blocks.
///
/// Callers of both kinds drive it, so it must not need a runtime that only some of them have.
///
/// ```
/// use quotum::token::{Identity, Secret, async_verifier};
///
/// let verifier = async_verifier(|token: Secret| async move {
///     Ok((&*token == "key-of-ana").then(|| Identity::of("ana")))
/// });
/// ```
pub fn async_verifier<F, Answer>(verify: F) -> impl Verifier
where
    F: Fn(Secret) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = Result<Option<Identity>, VerifyError>> + Send + 'static,
{
    Async(verify)
}

struct Blocking<F>(Arc<F>);

impl<F> Verifier for Blocking<F>
where
    F: Fn(&str) -> Result<Option<Identity>, VerifyError> + Send + Sync + 'static,
{
    fn verify<'a>(&'a self, call: Call, token: &'a str) -> VerifyFuture<'a> {
        let (verify, token) = (Arc::clone(&self.0), Secret::from(token));
        async move { unblocked(call.wait, move || verify(&token)).await? }.boxed()
    }
}

impl<F> fmt::Debug for Blocking<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("blocking_verifier(..)")
    }
}

struct Async<F>(F);

impl<F, Answer> Verifier for Async<F>
where
    F: Fn(Secret) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = Result<Option<Identity>, VerifyError>> + Send + 'static,
{
    fn verify<'a>(&'a self, _call: Call, token: &'a str) -> VerifyFuture<'a> {
        (self.0)(Secret::from(token)).boxed()
    }
}

impl<F> fmt::Debug for Async<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("async_verifier(..)")
    }
}
