//! The token cache beside moka and quick_cache, in turn and in one run: 95 of 100 look-ups find an
//! identity, and all keys are as likely.
//!
//! All three hold the same identities under the same digests and are told, or know, when each expires:
//! quick_cache, which has no notion of time, as part of the value. moka reads a clock of its own; the
//! others are given the time, as in a request that has read it already.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use quotum::Timestamp;
use quotum::token::{Authenticated, Identity, TokenCache, TokenCacheOptions, TokenDigest};
use sha2::{Digest, Sha256};

const TTL: Duration = Duration::from_secs(3_600);
const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const SINCE_START: Duration = Duration::from_secs(1);
const TOKEN_BYTES: usize = 800;

type Moka = moka::sync::Cache<TokenDigest, Arc<Identity>>;
type Quick = quick_cache::sync::Cache<TokenDigest, (Arc<Identity>, Duration)>;

fn token(number: usize) -> String {
    let name = format!(".{number:016x}");
    format!("{}{name}", "e".repeat(TOKEN_BYTES - name.len()))
}

fn name(number: usize) -> Arc<str> {
    format!("user:{number}").into()
}

/// The three caches with the first `entries` of the digests.
fn fill(digests: &[TokenDigest], entries: usize) -> (TokenCache, Moka, Quick) {
    let ours = TokenCacheOptions::new().identities_max(entries * 2).ttl(TTL).build();
    let moka = Moka::builder().max_capacity(entries as u64 * 2).time_to_live(TTL).build();
    let quick = Quick::new(entries * 2);
    for (number, digest) in digests.iter().take(entries).enumerate() {
        let identity = ours.keep(ours.begin(Duration::ZERO), *digest, Identity::of(name(number)));
        moka.insert(*digest, Arc::clone(&identity));
        quick.insert(*digest, (identity, TTL));
    }
    moka.run_pending_tasks();
    (ours, moka, quick)
}

fn ours(cache: &TokenCache, digest: &TokenDigest) -> bool {
    matches!(cache.lookup(digest, NOW, black_box(SINCE_START)), Some(Authenticated::Known(_)))
}

fn quick(cache: &Quick, digest: &TokenDigest) -> bool {
    cache.get(digest).is_some_and(|(_, until)| black_box(SINCE_START) < until)
}

/// Times `iterations` look-ups of keys in no order, the same in every run.
fn time<K>(iterations: u64, keys: &[K], look_up: impl Fn(&K) -> bool) -> Duration {
    let (mut state, mut found) = (0x853c_49e6_748f_ea9b_u64, 0_u64);
    let begin = Instant::now();
    for _ in 0..iterations {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = &keys[usize::try_from(state >> 33).unwrap() % keys.len()];
        found += u64::from(look_up(key));
    }
    let took = begin.elapsed();
    assert!(black_box(found) * 10 >= iterations * 9 || iterations < 1_000, "{found} of {iterations} were resident");
    took
}

fn beside<K>(criterion: &mut Criterion, group: &str, keys: &[K], ours: impl Fn(&K) -> bool, peer: impl Fn(&K) -> bool) {
    let mut group = criterion.benchmark_group(group);
    group.bench_function("quotum", |bencher| bencher.iter_custom(|iterations| time(iterations, keys, &ours)));
    group.bench_function("peer", |bencher| bencher.iter_custom(|iterations| time(iterations, keys, &peer)));
}

fn digests(criterion: &mut Criterion) {
    for (size, entries) in [("10k", 10_000), ("1M", 1_000_000)] {
        let all: Vec<_> = (0..entries * 100 / 95).map(|number| TokenDigest::of(&token(number))).collect();
        let (cache, moka, quick_cache) = fill(&all, entries);
        let look_up = |digest: &TokenDigest| ours(&cache, digest);
        beside(criterion, &format!("digest/{size}/moka"), &all, look_up, |digest| moka.get(digest).is_some());
        let quick_cache = |digest: &TokenDigest| quick(&quick_cache, digest);
        beside(criterion, &format!("digest/{size}/quick-cache"), &all, look_up, quick_cache);
    }
}

fn tokens(criterion: &mut Criterion) {
    let entries = 10_000;
    let tokens: Vec<String> = (0..entries * 100 / 95).map(token).collect();
    let digests: Vec<_> = tokens.iter().map(|token| TokenDigest::of(token)).collect();
    let (cache, moka, quick_cache) = fill(&digests, entries);
    let look_up = |token: &String| ours(&cache, &TokenDigest::of(token));
    beside(criterion, "token/10k/sha256", &tokens, look_up, |token| {
        black_box(Sha256::digest(token));
        true
    });
    beside(criterion, "token/10k/moka", &tokens, look_up, |token| moka.get(&TokenDigest::of(token)).is_some());
    beside(criterion, "token/10k/quick-cache", &tokens, look_up, |token| quick(&quick_cache, &TokenDigest::of(token)));
}

criterion_group! {
    name = caches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = digests, tokens
}
criterion_main!(caches);
