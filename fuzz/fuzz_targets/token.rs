//! Any tokens and any sequence of operations: the cache says what a plain list of its entries says, or,
//! where it is full, less.

#![no_main]

use std::collections::HashMap;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use quotum::Timestamp;
use quotum::token::{Authenticated, Begun, Identity, Pepper, TokenCacheOptions, TokenDigest};

const TTL: Duration = Duration::from_secs(60);
const REFUSAL_TTL: Duration = Duration::from_secs(10);

#[derive(Debug, Arbitrary)]
enum Step {
    Begin,
    Keep { token: String, subject: u8, expires_in_s: Option<u8> },
    Refuse { token: String },
    Look { token: String },
    Forget { token: String },
    ForgetSubject { subject: u8 },
    Advance { by_s: u8 },
}

#[derive(Debug, Arbitrary)]
struct Case {
    small: bool,
    peppered: bool,
    steps: Vec<Step>,
}

struct Entry {
    answer: Authenticated,
    until: Duration,
}

fuzz_target!(|case: Case| {
    let caps = if case.small { 1 } else { 1_000_000 };
    let cache =
        TokenCacheOptions::new().identities_max(caps).refusals_max(caps).ttl(TTL).refusal_ttl(REFUSAL_TTL).build();
    let pepper = case.peppered.then(|| Pepper::new([7; 32]).unwrap());
    let digest = |token: &str| pepper.as_ref().map_or_else(|| TokenDigest::of(token), |pepper| pepper.digest(token));
    let name = |subject: u8| format!("subject-{}", subject % 4);

    let mut model: HashMap<String, Entry> = HashMap::new();
    let mut clock = Duration::ZERO;
    let mut begun: (Begun, Duration, bool) = (cache.begin(clock), clock, true);
    for step in case.steps {
        let now = Timestamp::UNIX_EPOCH + clock;
        match step {
            Step::Begin => begun = (cache.begin(clock), clock, true),
            Step::Keep { token, subject, expires_in_s } => {
                let mut identity = Identity::of(name(subject));
                if let Some(expires_in_s) = expires_in_s {
                    identity = identity.expiring_at(now + Duration::from_secs(expires_in_s.into()));
                }
                let identity = cache.keep(begun.0, digest(&token), identity);
                if begun.2 {
                    model.insert(token, Entry { answer: Authenticated::Known(identity), until: begun.1 + TTL });
                }
            }
            Step::Refuse { token } => {
                cache.keep_refusal(begun.0, digest(&token));
                if begun.2 {
                    model.insert(token, Entry { answer: Authenticated::Refused, until: begun.1 + REFUSAL_TTL });
                }
            }
            Step::Look { token } => {
                let found = cache.lookup(&digest(&token), now, clock);
                let known = model.get(&token).filter(|entry| {
                    let identity = entry.answer.clone().identity();
                    clock < entry.until && !identity.is_some_and(|identity| identity.has_expired(now))
                });
                let expected = known.map(|entry| entry.answer.clone());
                if !(case.small && found.is_none()) {
                    assert_eq!(found, expected);
                }
            }
            Step::Forget { token } => {
                cache.forget(&digest(&token));
                model.remove(&token);
                begun.2 = false;
            }
            Step::ForgetSubject { subject } => {
                cache.forget_subject(&name(subject));
                let theirs = |entry: &Entry| {
                    entry.answer.clone().identity().is_some_and(|identity| *identity.subject == *name(subject))
                };
                model.retain(|_, entry| !theirs(entry));
                begun.2 = false;
            }
            Step::Advance { by_s } => clock += Duration::from_secs(by_s.into()),
        }
        assert!(!case.small || cache.len() <= 2 * 64);
    }
});
