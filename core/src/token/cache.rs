//! The token cache: what tokens amount to, for a while.
//!
//! Two bounded lists, least recently used first to go: identities, and refusals. They are apart so that a
//! flood of unknown tokens crowds out other refusals only. The cache verifies nothing and reads no clock.

use std::fmt;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lru::LruCache;
use serde::Serialize;

use super::digest::TokenDigest;
use super::identity::{Authenticated, Identity};
use crate::record::Changes;
use crate::sync::Mutex;

/// How many parts the cache is split into, so that two tokens seldom wait for one lock.
const SHARDS: usize = 64;

/// How large a [`TokenCache`] is and how long it remembers.
///
/// ```
/// use std::time::Duration;
/// use quotum::token::TokenCacheOptions;
///
/// let cache = TokenCacheOptions::new().identities_max(5_000).ttl(Duration::from_secs(300)).build();
/// assert!(cache.is_empty());
/// ```
#[derive(Debug, Clone)]
#[must_use = "options do nothing until they build a cache"]
pub struct TokenCacheOptions {
    identities_max: usize,
    refusals_max: usize,
    ttl: Duration,
    refusal_ttl: Duration,
}

impl TokenCacheOptions {
    /// 100,000 identities for a minute and 10,000 refusals for ten seconds.
    pub const fn new() -> Self {
        Self {
            identities_max: 100_000,
            refusals_max: 10_000,
            ttl: Duration::from_secs(60),
            refusal_ttl: Duration::from_secs(10),
        }
    }

    /// How many identities are kept at the most: rounded up to a multiple of 64.
    pub const fn identities_max(mut self, count: usize) -> Self {
        self.identities_max = count;
        self
    }

    /// How many refusals are kept at the most: rounded up to a multiple of 64.
    pub const fn refusals_max(mut self, count: usize) -> Self {
        self.refusals_max = count;
        self
    }

    /// How long an identity is kept; a token that expires sooner is forgotten sooner.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// How long a refusal is kept. Short: a key that was made just now should soon be let in.
    pub const fn refusal_ttl(mut self, ttl: Duration) -> Self {
        self.refusal_ttl = ttl;
        self
    }

    /// The cache, empty. Memory is taken as it fills.
    pub fn build(self) -> TokenCache {
        let each_max = |count: usize| count.div_ceil(SHARDS).max(1);
        TokenCache {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::new())).collect(),
            identities_each_max: each_max(self.identities_max),
            refusals_each_max: each_max(self.refusals_max),
            ttl: self.ttl,
            refusal_ttl: self.refusal_ttl,
            changes: Changes::default(),
        }
    }
}

impl Default for TokenCacheOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// What tokens amount to, by their digests: bounded, sharded, and forgetful on demand.
///
/// `now` is the time of day, by which tokens expire; `monotonic` is the time since any fixed origin, by
/// which entries age.
///
/// ```
/// use std::time::Duration;
/// use quotum::Timestamp;
/// use quotum::token::{Authenticated, Identity, TokenCacheOptions, TokenDigest};
///
/// let cache = TokenCacheOptions::new().build();
/// let (digest, now, monotonic) = (TokenDigest::of("key-of-ana"), Timestamp::UNIX_EPOCH, Duration::ZERO);
/// assert_eq!(cache.lookup(&digest, now, monotonic), None);
///
/// let begun = cache.begin(monotonic); // before the token is verified
/// let ana = cache.keep(begun, digest, Identity::of("ana"));
/// assert_eq!(cache.lookup(&digest, now, monotonic), Some(Authenticated::Known(ana)));
///
/// cache.forget_subject("ana");
/// assert_eq!(cache.lookup(&digest, now, monotonic), None);
/// ```
pub struct TokenCache {
    shards: Box<[Mutex<Shard>]>,
    identities_each_max: usize,
    refusals_each_max: usize,
    ttl: Duration,
    refusal_ttl: Duration,
    changes: Changes,
}

/// That a verification has begun, and when: see [`TokenCache::begin`].
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    changes: u64,
    monotonic: Duration,
    /// What is found is kept for so long at the most.
    at_most: Duration,
}

impl Begun {
    /// The same, of something that is to be kept for so long at the most.
    pub(super) fn kept_at_most(self, at_most: Duration) -> Self {
        Self { at_most, ..self }
    }
}

/// How a [`TokenCache`] has done since it was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct TokenCacheStats {
    /// Look-ups that found an identity.
    pub hits: u64,
    /// Look-ups that found a refusal.
    pub negative_hits: u64,
    /// Look-ups that found nothing, or what had expired.
    pub misses: u64,
    /// Identities and refusals dropped to make room for others.
    pub evictions: u64,
}

struct Shard {
    identities: LruCache<TokenDigest, Kept, RandomState>,
    /// Until when each is kept, in monotonic time.
    refusals: LruCache<TokenDigest, Duration, RandomState>,
    /// Counted under the lock that every look-up takes anyway, where it costs nothing.
    stats: TokenCacheStats,
}

struct Kept {
    identity: Arc<Identity>,
    until: Duration,
    /// Here too, so that a look-up need not read the identity.
    expires_at: Option<Timestamp>,
}

impl TokenCache {
    /// What the token with this digest amounts to, if it is known still.
    pub fn lookup(&self, digest: &TokenDigest, now: Timestamp, monotonic: Duration) -> Option<Authenticated> {
        let mut shard = self.shard(digest)?.lock();
        let found = shard.find(digest, now, monotonic);
        let count = match &found {
            Some(Authenticated::Known(_)) => &mut shard.stats.hits,
            Some(Authenticated::Refused) => &mut shard.stats.negative_hits,
            None => &mut shard.stats.misses,
        };
        *count += 1;
        found
    }

    /// Notes that the verification of a token begins now. What it finds is kept only if nothing was
    /// forgotten meanwhile: it may have read what was then revoked.
    #[must_use]
    pub fn begin(&self, monotonic: Duration) -> Begun {
        Begun { changes: self.changes.count(), monotonic, at_most: Duration::MAX }
    }

    /// Keeps what a verification has found.
    pub fn keep(&self, begun: Begun, digest: TokenDigest, identity: Identity) -> Arc<Identity> {
        let identity = Arc::new(identity);
        let until = begun.monotonic.saturating_add(self.ttl.min(begun.at_most));
        let kept = Kept { identity: Arc::clone(&identity), until, expires_at: identity.expires_at };
        self.put(begun, &digest, |shard| {
            shard.refusals.pop(&digest);
            shard.identities.put(digest, kept);
            shard.identities.len() > self.identities_each_max && shard.identities.pop_lru().is_some()
        });
        identity
    }

    /// Keeps that a verification has found the token not to be valid.
    pub fn keep_refusal(&self, begun: Begun, digest: TokenDigest) {
        let until = begun.monotonic.saturating_add(self.refusal_ttl);
        self.put(begun, &digest, |shard| {
            shard.identities.pop(&digest);
            shard.refusals.put(digest, until);
            shard.refusals.len() > self.refusals_each_max && shard.refusals.pop_lru().is_some()
        });
    }

    /// Forgets one token, and whatever a verification of it that has begun will find.
    pub fn forget(&self, digest: &TokenDigest) {
        // First the count, so that what is being kept is either not kept or forgotten here.
        self.changes.note();
        if let Some(shard) = self.shard(digest) {
            let mut shard = shard.lock();
            shard.identities.pop(digest);
            shard.refusals.pop(digest);
        }
    }

    /// Forgets every token that speaks for `subject`. Reads the whole cache, one part at a time.
    pub fn forget_subject(&self, subject: &str) {
        self.changes.note();
        for shard in &self.shards {
            let mut shard = shard.lock();
            let theirs =
                |(digest, kept): (&TokenDigest, &Kept)| (*kept.identity.subject == *subject).then_some(*digest);
            let digests: Vec<TokenDigest> = shard.identities.iter().filter_map(theirs).collect();
            for digest in digests {
                shard.identities.pop(&digest);
            }
        }
    }

    /// How long an identity is kept.
    pub(super) const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// How many identities and refusals are kept, those that have expired unnoticed included.
    #[must_use]
    pub fn len(&self) -> usize {
        let len = |shard: &Shard| shard.identities.len() + shard.refusals.len();
        self.shards.iter().map(|shard| len(&shard.lock())).sum()
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How the cache has done.
    #[must_use]
    pub fn stats(&self) -> TokenCacheStats {
        self.shards.iter().fold(TokenCacheStats::default(), |sum, shard| {
            let stats = shard.lock().stats;
            TokenCacheStats {
                hits: sum.hits + stats.hits,
                negative_hits: sum.negative_hits + stats.negative_hits,
                misses: sum.misses + stats.misses,
                evictions: sum.evictions + stats.evictions,
            }
        })
    }

    /// What is known of the token, without counting the question.
    pub(super) fn peek(&self, digest: &TokenDigest, now: Timestamp, monotonic: Duration) -> Option<Authenticated> {
        self.shard(digest)?.lock().find(digest, now, monotonic)
    }

    /// Puts something into a shard unless it is out of date. `put` says whether it dropped another entry.
    fn put(&self, begun: Begun, digest: &TokenDigest, put: impl FnOnce(&mut Shard) -> bool) {
        let Some(shard) = self.shard(digest) else { return };
        let mut shard = shard.lock();
        if begun.changes == self.changes.count() {
            let evicted = put(&mut shard);
            shard.stats.evictions += u64::from(evicted);
        }
    }

    /// By the last byte, as maps go by the first ones. Who finds tokens that share a part crowds out his
    /// own refusals.
    fn shard(&self, digest: &TokenDigest) -> Option<&Mutex<Shard>> {
        let [.., last] = digest.as_bytes();
        self.shards.get(usize::from(*last) % SHARDS)
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache").field("len", &self.len()).field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Shard {
    /// Its maps hash with keys of this process, so that nobody can choose tokens that collide.
    fn new() -> Self {
        Self {
            identities: LruCache::unbounded_with_hasher(RandomState::new()),
            refusals: LruCache::unbounded_with_hasher(RandomState::new()),
            stats: TokenCacheStats::default(),
        }
    }

    fn find(&mut self, digest: &TokenDigest, now: Timestamp, monotonic: Duration) -> Option<Authenticated> {
        if let Some(kept) = self.identities.get(digest) {
            if monotonic < kept.until && kept.expires_at.is_none_or(|at| now < at) {
                return Some(Authenticated::Known(Arc::clone(&kept.identity)));
            }
            self.identities.pop(digest);
        } else if let Some(until) = self.refusals.get(digest) {
            if monotonic < *until {
                return Some(Authenticated::Refused);
            }
            self.refusals.pop(digest);
        }
        None
    }
}
