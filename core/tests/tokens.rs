//! Tokens through the engine: who is let in, what is remembered, and what a revocation undoes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quotum::blocking::Quota;
use quotum::http::Mapping;
use quotum::store::{Call, Layer, Layered, MemoryStore, Step, Store, StoreError, StoreFuture};
use quotum::token::{
    Authenticated, Identity, Pepper, TokenCacheOptions, VerifyError, async_verifier, blocking_verifier,
};
use quotum::{Enforcement, Error, EventName, EventQuery, ManualClock, Plans, Reason, Request};

const PLANS: &str = "default_plan = 'free'\n[plans.free]\nquotas = { jobs = '3/day' }";

/// A backend whose API keys are `key-of-<subject>`, and that counts how often it is asked.
struct Backend {
    clock: Arc<ManualClock>,
    asked: Arc<AtomicU64>,
}

impl Backend {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at("2026-03-10T15:00:00Z".parse().unwrap()));
        Self { clock, asked: Arc::default() }
    }

    fn open(&self, store: &Arc<dyn Store>, in_store: bool) -> Quota {
        let asked = Arc::clone(&self.asked);
        let verifier = blocking_verifier(move |token| {
            asked.fetch_add(1, Ordering::SeqCst);
            match token.strip_prefix("key-of-") {
                Some("nobody") => Err(VerifyError::unavailable("the directory is down")),
                subject => Ok(subject.map(Identity::of)),
            }
        });
        Quota::builder()
            .plans(Plans::from_toml(PLANS).unwrap())
            .clock(self.clock.clone())
            .verifier(verifier)
            .pepper(Pepper::new("a pepper of sixteen bytes").unwrap())
            .token_cache(TokenCacheOptions::new().ttl(Duration::from_secs(60)))
            .tokens_in_store(in_store)
            .open_on(Arc::clone(store))
            .unwrap()
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

#[test]
fn a_request_with_a_token_is_charged_to_whom_it_speaks_for() {
    let backend = Backend::new();
    let quota = backend.open(&memory(), false);
    for _ in 0..3 {
        let decision = quota.admit(&Request::with_token("key-of-ana").costs(&[("jobs", 1)])).unwrap();
        assert_eq!((decision.allowed, decision.subject.as_deref()), (true, Some("ana")));
    }
    let denied = quota.admit(&Request::with_token("key-of-ana").costs(&[("jobs", 1)])).unwrap().denied.unwrap();
    assert_eq!(denied.reason, Reason::QuotaExhausted);
    assert!(quota.admit(&Request::with_token("key-of-bob").costs(&[("jobs", 3)])).unwrap().allowed);
    assert_eq!(backend.asked(), 2, "once for each token");
}

#[test]
fn a_token_that_speaks_for_nobody_is_denied_even_in_shadow() {
    let backend = Backend::new();
    let quota = backend.open(&memory(), false);
    quota.set_enforcement(None, Enforcement::Shadow).unwrap();
    for token in ["", "stolen", "key-of-ana\0", &"x".repeat(1 << 20)] {
        let decision = quota.admit(&Request::with_token(token).costs(&[("jobs", 1)])).unwrap();
        assert_eq!(decision.denied.unwrap().reason, Reason::Unauthenticated, "{token:.10?}");
        assert_eq!(decision.subject, None);
    }
    assert_eq!(backend.asked(), 1, "what is malformed is not verified");
}

#[test]
fn a_verifier_that_fails_is_an_error_and_lets_nobody_in() {
    let backend = Backend::new();
    let quota = backend.open(&memory(), false);
    let error = quota.admit(&Request::with_token("key-of-nobody").costs(&[("jobs", 1)])).unwrap_err();
    assert!(matches!(error, Error::Verify(_)), "{error}");
    assert!(!format!("{error} {error:?}").contains("key-of-nobody"));
}

#[test]
fn a_token_without_a_verifier_is_a_mistake() {
    let quota = Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).open("memory:").unwrap();
    let error = quota.admit(&Request::with_token("secret").costs(&[("jobs", 1)])).unwrap_err();
    assert!(error.to_string().contains("verifier"), "{error}");
    assert!(!format!("{error:?}").contains("secret"));
}

#[test]
fn a_request_does_not_print_its_token() {
    assert!(!format!("{:?}", Request::with_token("secret")).contains("secret"));
}

#[test]
fn a_revoked_token_is_verified_anew_here_at_once_and_elsewhere_within_the_interval() {
    for by_subject in [false, true] {
        let (backend, store) = (Backend::new(), memory());
        let (here, there) = (backend.open(&store, true), backend.open(&store, true));
        let revoke = |quota: &Quota| match by_subject {
            true => quota.acting_as("ops").forget_subject("ana").unwrap(),
            false => quota.acting_as("ops").forget_token("key-of-ana").unwrap(),
        };
        for quota in [&here, &there] {
            assert!(matches!(quota.authenticate("key-of-ana").unwrap(), Authenticated::Known(_)));
        }
        assert_eq!(backend.asked(), 1, "the second process finds it in the store");
        revoke(&here);
        let _ = here.authenticate("key-of-ana").unwrap();
        assert_eq!(backend.asked(), 2, "at once, and not from the store");
        backend.clock.advance(Duration::from_secs(2));
        let _ = there.authenticate("key-of-ana").unwrap();
        assert!(backend.asked() >= 2);
        assert_eq!(there.token_stats().unwrap().hits, 0, "what it remembered is forgotten");
        let audit = here.events(&EventQuery::changes()).unwrap();
        assert_eq!(audit.len(), 1);
        assert_eq!((audit[0].name, audit[0].actor.as_deref()), (EventName::TokenForgotten, Some("ops")));
        assert!(!format!("{audit:?}").contains("key-of-ana"));
    }
}

/// A store that cannot be told of revocations while the flag is up.
#[derive(Debug, Default)]
struct Deaf(AtomicBool);

impl Layer for Deaf {
    fn around<'a, T: Send + 'a>(&'a self, _: Call, step: Step, inner: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        match step == Step::ForgetIdentities && self.0.load(Ordering::SeqCst) {
            true => Box::pin(std::future::ready(Err(StoreError::Busy { waited: Duration::ZERO }))),
            false => inner,
        }
    }
}

/// A revocation that the store did not hear of must hold here all the same, whatever the store still keeps.
#[test]
fn a_revocation_holds_here_though_the_store_fails_and_elsewhere_once_it_does_not() {
    for (in_store, by_subject) in [(true, false), (true, true), (false, false), (false, true)] {
        let backend = Backend::new();
        let layered = Arc::new(Layered::new(memory(), Deaf::default()));
        let store: Arc<dyn Store> = layered.clone();
        let (here, there) = (backend.open(&store, in_store), backend.open(&store, in_store));
        let known = |quota: &Quota, token| matches!(quota.authenticate(token).unwrap(), Authenticated::Known(_));
        let revoke = || match by_subject {
            true => here.acting_as("ops").forget_subject("ana"),
            false => here.acting_as("ops").forget_token("key-of-ana"),
        };
        assert!(known(&here, "key-of-ana") && known(&here, "key-of-bob") && known(&there, "key-of-ana"));
        let asked = backend.asked();
        layered.layer().0.store(true, Ordering::SeqCst);
        assert!(matches!(revoke(), Err(Error::Store(_))));
        assert!(known(&here, "key-of-ana"));
        assert_eq!(backend.asked(), asked + 1, "verified, and not found in the store: {in_store} {by_subject}");
        assert!(known(&here, "key-of-bob"));
        assert_eq!(backend.asked(), asked + 1, "of nobody else");
        assert!(matches!(revoke(), Err(Error::Store(_))));
        assert!(known(&here, "key-of-ana"));
        assert_eq!(backend.asked(), asked + 2, "what was verified since is not believed either");

        layered.layer().0.store(false, Ordering::SeqCst);
        backend.clock.advance(Duration::from_secs(2));
        assert!(known(&here, "key-of-bob"), "a request tells the store");
        backend.clock.advance(Duration::from_secs(2));
        let hits = there.token_stats().unwrap().hits;
        assert!(known(&there, "key-of-ana"));
        assert_eq!(there.token_stats().unwrap().hits, hits, "what the other process remembered is forgotten");
        let audit = here.events(&EventQuery::changes()).unwrap();
        assert_eq!((audit.len(), audit[0].actor.as_deref()), (1, Some("ops")), "told once");
    }
}

/// Counts what a store is asked about tokens.
#[derive(Debug, Default)]
struct Counted {
    found: AtomicU64,
    put: AtomicU64,
}

impl Layer for Counted {
    fn around<'a, T: Send + 'a>(&'a self, _: Call, step: Step, inner: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        match step {
            Step::Identity => self.found.fetch_add(1, Ordering::SeqCst),
            Step::PutIdentity => self.put.fetch_add(1, Ordering::SeqCst),
            _ => 0,
        };
        inner
    }
}

impl Counted {
    fn counts(&self) -> (u64, u64) {
        (self.found.load(Ordering::SeqCst), self.put.load(Ordering::SeqCst))
    }
}

/// Floods must not reach the store behind the cache any more than the verifier.
#[test]
fn the_store_is_asked_about_tokens_as_seldom_as_the_verifier() {
    let backend = Backend::new();
    let layered = Arc::new(Layered::new(memory(), Counted::default()));
    let store: Arc<dyn Store> = layered.clone();
    let quota = backend.open(&store, true);
    for malformed in ["", "key-of-ana\0", "key-of-ana\n", &"x".repeat(1 << 20)] {
        assert!(matches!(quota.authenticate(malformed).unwrap(), Authenticated::Refused), "{malformed:.10?}");
    }
    assert_eq!((layered.layer().counts(), backend.asked()), ((0, 0), 0));

    for _ in 0..2 {
        let _ = quota.authenticate("guessed").unwrap();
    }
    assert_eq!((layered.layer().counts(), backend.asked()), ((1, 0), 1));

    let together = std::sync::Barrier::new(1_000);
    std::thread::scope(|scope| {
        for _ in 0..1_000 {
            scope.spawn(|| {
                together.wait();
                assert!(matches!(quota.authenticate("key-of-ana").unwrap(), Authenticated::Known(_)));
            });
        }
    });
    assert_eq!((layered.layer().counts(), backend.asked()), ((2, 1), 2));

    for stranger in 0..20_000 {
        let _ = quota.authenticate(&format!("stranger-{stranger}")).unwrap();
    }
    assert_eq!((layered.layer().counts(), backend.asked()), ((20_002, 1), 20_002), "what is refused is not kept");
}

#[test]
fn no_more_tokens_are_verified_at_once_than_may_be() {
    let verifier = async_verifier(|_| std::future::pending());
    let builder = Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).verifier(verifier);
    let tasks = builder.verifications_max(2).open("memory:").unwrap().to_async();
    let mut context = Context::from_waker(Waker::noop());
    let mut ask = |token: &'static str| {
        let mut asked = Box::pin(tasks.authenticate(token));
        (asked.as_mut().poll(&mut context), asked)
    };
    let waiting = ["a", "b", "b"].map(&mut ask);
    assert!(waiting.iter().all(|(polled, _)| polled.is_pending()));
    let (Poll::Ready(Err(error)), _) = ask("c") else { panic!("a third token") };
    assert!(matches!(error, Error::Verify(VerifyError::Crowded { calls_max: 2 })), "{error}");
    let answer = Mapping::new().answer_error(&error, "2026-03-10T15:00:00Z".parse().unwrap());
    assert_eq!(answer.denied.unwrap().status, 503);
}

#[cfg(feature = "sqlite")]
#[test]
fn a_restart_finds_identities_in_the_store_and_keeps_them_no_longer_than_before() {
    use quotum::store::SqliteOptions;

    let folder = tempfile::tempdir().unwrap();
    let open = || -> Arc<dyn Store> { Arc::new(SqliteOptions::at(folder.path().join("quota.db")).open().unwrap()) };
    let backend = Backend::new();
    let _ = backend.open(&open(), true).authenticate("key-of-ana").unwrap();
    backend.clock.advance(Duration::from_secs(50));

    let quota = backend.open(&open(), true);
    let _ = quota.authenticate("key-of-ana").unwrap();
    assert_eq!(backend.asked(), 1, "it was warm");
    backend.clock.advance(Duration::from_secs(9));
    let _ = quota.authenticate("key-of-ana").unwrap();
    assert_eq!(backend.asked(), 1);
    backend.clock.advance(Duration::from_secs(1));
    let _ = quota.authenticate("key-of-ana").unwrap();
    assert_eq!(backend.asked(), 2, "a minute after it was verified");

    drop(quota);
    let bytes = std::fs::read(folder.path().join("quota.db")).unwrap();
    assert!(!bytes.windows(10).any(|window| window == b"key-of-ana"), "no token lies in the file");
}

#[test]
fn switching_quotas_off_lets_nobody_in_and_still_tells_who_asks() {
    let backend = Backend::new();
    let quota = backend.open(&memory(), false);
    quota.set_enforcement(None, Enforcement::Off).unwrap();

    let refused = quota.admit(&Request::with_token("guessed")).unwrap();
    assert_eq!(refused.denied.unwrap().reason, Reason::Unauthenticated);
    let known = quota.admit(&Request::with_token("key-of-ana").costs(&[("jobs", 99)])).unwrap();
    assert_eq!((known.allowed, known.subject.as_deref()), (true, Some("ana")));
    assert_eq!(&*known.identity.unwrap().subject, "ana");
    assert_eq!(quota.consume("bob", &[("jobs", 99)]).unwrap().subject.as_deref(), Some("bob"));
}

#[test]
fn a_request_by_anyone_is_counted_among_the_decisions() {
    let plans = "default_plan = 'free'\nrates = { login = '1/minute' }\n[plans.free]\nfeatures = { excel = true }\n\
        [plans.pro]\nrank = 1\nrates = { bulk = '9/minute' }";
    let denied = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&denied);
    let quota = Quota::builder()
        .plans(Plans::from_toml(plans).unwrap())
        .on_event(move |event| {
            seen.fetch_add(u64::from(event.name == EventName::RateLimited), Ordering::SeqCst);
        })
        .open("memory:")
        .unwrap();
    let address: std::net::IpAddr = "203.0.113.7".parse().unwrap();
    let login = Request::by_anyone().rate_for("login", address.into(), 1);
    assert!(quota.admit(&login).unwrap().allowed);
    for mode in [Enforcement::Shadow, Enforcement::Off] {
        quota.set_enforcement(None, mode).unwrap();
        assert!(!quota.admit(&login).unwrap().allowed, "switching the quotas to {mode} opens no login");
    }
    quota.set_enforcement(None, Enforcement::Enforce).unwrap();
    let limited = quota.admit(&login).unwrap();
    assert_eq!((limited.allowed, limited.subject, limited.rates.len()), (false, None, 1));
    let bulk = quota.admit(&Request::by_anyone().rate_for("bulk", address.into(), 1)).unwrap().denied.unwrap();
    assert_eq!((bulk.reason, bulk.scope.as_deref(), bulk.limit), (Reason::NeverFits, Some("bulk"), Some(0)));
    for mistake in [Request::by_anyone(), login.clone().feature("excel"), Request::by_anyone().rate("login")] {
        assert!(quota.admit(&mistake).is_err());
    }
    // Dropping the engine waits until every event was handed over.
    drop(quota);
    assert!(denied.load(Ordering::SeqCst) >= 1);
}

#[test]
fn no_token_at_all_speaks_for_nobody_also_where_none_could_be_verified() {
    let quota = Quota::builder().plans(Plans::from_toml("default_plan = 'free'\n[plans.free]").unwrap());
    let quota = quota.open("memory:").unwrap();
    let denied = quota.admit(&Request::with_token("")).unwrap().denied.unwrap();
    assert_eq!((denied.reason, denied.cause.as_deref()), (Reason::Unauthenticated, Some("the request has no token")));
    assert!(quota.admit(&Request::with_token("key-of-ana")).is_err(), "the builder was given no verifier");
}
