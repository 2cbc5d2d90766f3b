//! The token cache by itself: its bounds, its order and its memory of what was forgotten.

#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use quotum::Timestamp;
use quotum::token::{Authenticated, Identity, TokenCache, TokenCacheOptions, TokenDigest};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const START: Duration = Duration::ZERO;

fn keep(cache: &TokenCache, token: &str) {
    cache.keep(cache.begin(START), TokenDigest::of(token), Identity::of(token));
}

fn knows(cache: &TokenCache, token: &str) -> bool {
    matches!(cache.lookup(&TokenDigest::of(token), NOW, START), Some(Authenticated::Known(_)))
}

#[test]
fn the_cache_stays_under_both_caps_and_the_least_used_go_first() {
    let cache = TokenCacheOptions::new().identities_max(128).refusals_max(64).build();
    keep(&cache, "kept");
    for stranger in 0..10_000 {
        keep(&cache, &format!("stranger-{stranger}"));
        cache.keep_refusal(cache.begin(START), TokenDigest::of(&format!("refused-{stranger}")));
        assert!(knows(&cache, "kept"));
    }
    assert!(cache.len() <= 128 + 64, "{}", cache.len());
    assert_eq!(cache.stats().evictions, 20_001 - u64::try_from(cache.len()).unwrap());
}

#[test]
fn an_identity_replaces_a_refusal_and_the_other_way_round() {
    let cache = TokenCacheOptions::new().build();
    let digest = TokenDigest::of("token");
    cache.keep_refusal(cache.begin(START), digest);
    keep(&cache, "token");
    assert!(knows(&cache, "token"));
    cache.keep_refusal(cache.begin(START), digest);
    assert_eq!(cache.lookup(&digest, NOW, START), Some(Authenticated::Refused));
    assert_eq!(cache.len(), 1);
}

#[test]
fn what_has_expired_is_dropped_when_it_is_met() {
    let cache = TokenCacheOptions::new().ttl(Duration::from_secs(60)).build();
    let digest = TokenDigest::of("token");
    keep(&cache, "token");
    assert_eq!(cache.lookup(&digest, NOW, Duration::from_secs(60)), None);
    assert!(cache.is_empty());

    let expires_at = NOW + Duration::from_secs(5);
    cache.keep(cache.begin(START), digest, Identity::of("ana").expiring_at(expires_at));
    assert_eq!(cache.lookup(&digest, expires_at, START), None);
    assert!(cache.is_empty());
}

#[test]
fn the_time_to_live_counts_from_when_the_verification_began() {
    let cache = TokenCacheOptions::new().ttl(Duration::from_secs(60)).build();
    let digest = TokenDigest::of("token");
    let begun = cache.begin(Duration::from_secs(100));
    cache.keep(begun, digest, Identity::of("ana"));
    assert!(cache.lookup(&digest, NOW, Duration::from_millis(159_999)).is_some());
    assert!(cache.lookup(&digest, NOW, Duration::from_secs(160)).is_none());
}

#[test]
fn what_a_verification_finds_after_something_was_forgotten_is_not_kept() {
    let cache = TokenCacheOptions::new().build();
    let digest = TokenDigest::of("token");
    for forget in [(|cache, digest| TokenCache::forget(cache, digest)) as fn(&TokenCache, &TokenDigest), |cache, _| {
        cache.forget_subject("ana");
    }] {
        let begun = cache.begin(START);
        forget(&cache, &digest);
        cache.keep(begun, digest, Identity::of("ana"));
        cache.keep_refusal(begun, digest);
        assert!(cache.is_empty());
    }
}

#[test]
fn forgetting_a_subject_forgets_all_its_tokens_and_no_others() {
    let cache = TokenCacheOptions::new().build();
    for number in 0..500 {
        let subject = if number % 5 == 0 { "ana" } else { "bob" };
        cache.keep(cache.begin(START), TokenDigest::of(&number.to_string()), Identity::of(subject));
    }
    cache.forget_subject("ana");
    assert_eq!(cache.len(), 400);
    assert!((0..500).all(|number| knows(&cache, &number.to_string()) == (number % 5 != 0)));
}

#[test]
fn an_identity_survives_a_round_trip_through_json() {
    let identity = Identity::of("ana").expiring_at(NOW).with_attribute("role", "admin");
    let json = serde_json::to_string(&identity).unwrap();
    assert_eq!(json, r#"{"subject":"ana","expires_at":"1970-01-01T00:00:00Z","attributes":{"role":"admin"}}"#);
    assert_eq!(serde_json::from_str::<Identity>(&json).unwrap(), identity);
}
