//! Revocations that the store has not been told of: what it keeps of those tokens is not believed meanwhile.
//!
//! They are told to it when it answers again, as long as this process lives.

use std::sync::Arc;

use crate::event::Event;
use crate::store::Forgotten;
use crate::sync::Mutex;
use crate::token::{Identity, TokenDigest};

/// How many are remembered. Beyond that, nothing is believed that the store keeps.
const UNTOLD_MAX: usize = 1_000;

/// The revocations that the store does not know of, so far as this process knows.
#[derive(Debug, Default)]
pub(crate) struct Untold(Mutex<Arc<Revocations>>);

/// Revocations, as of one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Revocations {
    told_not: Vec<Revocation>,
    /// There were too many once, so that nobody knows any more which they all were.
    too_many: bool,
}

/// One revocation, and the event that tells of it.
#[derive(Debug, Clone)]
pub(crate) struct Revocation {
    pub(crate) which: Forgotten,
    pub(crate) event: Event,
}

impl Untold {
    /// Notes a revocation before the store is told: it may fail, or the caller may go away meanwhile.
    pub(crate) fn add(&self, which: &Forgotten, event: &Event) {
        let mut revocations = self.0.lock();
        let revocations = Arc::make_mut(&mut revocations);
        revocations.told_not.retain(|known| known.which != *which);
        if revocations.told_not.len() < UNTOLD_MAX {
            revocations.told_not.push(Revocation { which: which.clone(), event: event.clone() });
        } else if !revocations.too_many {
            revocations.too_many = true;
            tracing::error!(
                target: "quotum", UNTOLD_MAX,
                "the store was not told of too many revocations: this process verifies every token itself from now on"
            );
        }
    }

    /// Notes that the store knows.
    pub(crate) fn told(&self, which: &Forgotten) {
        let mut revocations = self.0.lock();
        Arc::make_mut(&mut revocations).told_not.retain(|known| known.which != *which);
    }

    /// Those that there are now. Whoever asks the store takes them before: they may be told while it answers.
    pub(crate) fn now(&self) -> Arc<Revocations> {
        Arc::clone(&self.0.lock())
    }
}

impl Revocations {
    /// Whether the store need be asked about a token at all.
    pub(crate) fn believe_of(&self, digest: &TokenDigest) -> bool {
        let revoked = |known: &Revocation| matches!(&known.which, Forgotten::Token(token) if token == digest);
        !self.too_many && !self.told_not.iter().any(revoked)
    }

    /// Whether what the store keeps of a token may be believed.
    pub(crate) fn believe(&self, identity: &Identity) -> bool {
        let revoked =
            |known: &Revocation| matches!(&known.which, Forgotten::Subject(subject) if *subject == identity.subject);
        !self.told_not.iter().any(revoked)
    }

    /// Each of them, to tell the store.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Revocation> {
        self.told_not.iter()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::event::EventName;

    #[test]
    fn of_too_many_revocations_none_is_forgotten() {
        let untold = Untold::default();
        let event = Event::new(EventName::TokenForgotten, Timestamp::UNIX_EPOCH);
        let digest = |number: usize| TokenDigest::of(&format!("token-{number}"));
        for number in 0..UNTOLD_MAX {
            for _ in 0..2 {
                untold.add(&Forgotten::Token(digest(number)), &event);
            }
        }
        assert_eq!(untold.now().iter().count(), UNTOLD_MAX, "each is one");
        let another = TokenDigest::of("another");
        assert!(!untold.now().believe_of(&digest(0)) && untold.now().believe_of(&another));

        untold.add(&Forgotten::Token(another), &event);
        assert_eq!(untold.now().iter().count(), UNTOLD_MAX, "memory is bounded");
        for number in 0..UNTOLD_MAX {
            untold.told(&Forgotten::Token(digest(number)));
        }
        assert!(!untold.now().believe_of(&another) && !untold.now().believe_of(&digest(0)));
    }
}
