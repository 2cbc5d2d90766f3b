//! Tokens that are unknown, malformed, expired, revoked or secret, and verifiers that fail.

#![allow(clippy::unwrap_used)]

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::future::join_all;
use parking_lot::Mutex;
use pollster::block_on;

use super::*;
use crate::clock::ManualClock;
use crate::error::Retry;
use crate::store::Wait;
use crate::token::{Identity, TokenCacheOptions, TokenCacheStats, VerifyError, async_verifier, blocking_verifier};

type Found = Result<Option<Identity>, VerifyError>;

/// Tokens on a clock that stands still.
struct Bench {
    tokens: Arc<Tokens>,
    clock: Arc<ManualClock>,
    calls: Arc<AtomicUsize>,
}

impl Bench {
    fn new(verify: impl Fn(&str) -> Found + Send + Sync + 'static) -> Self {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        Self::on(
            calls,
            blocking_verifier(move |token| {
                counted.fetch_add(1, Ordering::SeqCst);
                verify(token)
            }),
        )
    }

    fn on(calls: Arc<AtomicUsize>, verifier: impl Verifier) -> Self {
        let clock = Arc::new(ManualClock::at("2026-03-01T12:00:00Z".parse().unwrap()));
        let cache = TokenCacheOptions::new().refusals_max(640).build();
        let tokens =
            Tokens::new(Arc::new(verifier), cache, None, Arc::clone(&clock) as Arc<dyn Clock>, CALLS_MAX, None);
        Self { tokens, clock, calls }
    }

    fn call(&self, wait: Wait) -> Call {
        Call::new(self.clock.wall(), wait)
    }

    fn ask(&self, token: &str) -> Result<Authenticated, Error> {
        block_on(self.tokens.authenticate(self.call(Wait::Block), token))
    }

    fn subject(&self, token: &str) -> Option<String> {
        self.ask(token).unwrap().identity().map(|identity| identity.subject.to_string())
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

/// A verifier that knows keys such as `key-of-ana`.
fn by_name(token: &str) -> Found {
    Ok(token.strip_prefix("key-of-").map(Identity::of))
}

#[test]
fn a_token_is_verified_once_and_then_remembered() {
    let bench = Bench::new(by_name);
    assert_eq!(bench.subject("key-of-ana").as_deref(), Some("ana"));
    assert_eq!(bench.subject("key-of-ana").as_deref(), Some("ana"));
    assert_eq!(bench.subject("no key"), None);
    assert_eq!(bench.subject("no key"), None);
    assert_eq!(bench.calls(), 2);
    let stats = bench.tokens.cache().stats();
    assert_eq!(stats, TokenCacheStats { hits: 1, negative_hits: 1, misses: 2, evictions: 0 });
}

#[test]
fn malformed_tokens_are_refused_without_a_call() {
    let bench = Bench::new(|_| Ok(Some(Identity::of("anybody"))));
    let long = "x".repeat(TOKEN_BYTES_MAX + 1);
    let huge = "x".repeat(1 << 20);
    for token in ["", &long, &huge, "nul\0", "line\nfeed", "c1\u{85}", "delete\u{7f}"] {
        assert_eq!(bench.subject(token), None, "{:?}", token.get(..10));
    }
    assert_eq!(bench.calls(), 0);
    assert!(bench.tokens.cache().is_empty());
    assert!(bench.subject(&"x".repeat(TOKEN_BYTES_MAX)).is_some());
}

#[test]
fn tokens_that_begin_alike_speak_for_different_subjects() {
    let bench = Bench::new(|token| Ok(token.rsplit('.').next().map(Identity::of)));
    let header = "e".repeat(200);
    assert_eq!(bench.subject(&format!("{header}.ana")).as_deref(), Some("ana"));
    assert_eq!(bench.subject(&format!("{header}.bob")).as_deref(), Some("bob"));
}

#[test]
fn a_flood_of_unknown_tokens_leaves_good_entries_and_stays_bounded() {
    let bench = Bench::new(by_name);
    for name in 0..100 {
        assert!(bench.subject(&format!("key-of-{name}")).is_some());
    }
    for stranger in 0..20_000 {
        assert_eq!(bench.subject(&format!("stranger-{stranger}")), None);
    }
    assert!(bench.tokens.cache().len() <= 100 + 640, "{}", bench.tokens.cache().len());
    let calls = bench.calls();
    for name in 0..100 {
        assert_eq!(bench.subject(&format!("key-of-{name}")), Some(name.to_string()));
    }
    assert_eq!(bench.calls(), calls);
}

#[test]
fn a_thousand_threads_that_miss_one_token_make_one_call() {
    let bench = Bench::new(|token| {
        thread::sleep(Duration::from_millis(50));
        by_name(token)
    });
    let together = Barrier::new(1_000);
    thread::scope(|scope| {
        for _ in 0..1_000 {
            scope.spawn(|| {
                together.wait();
                assert_eq!(bench.subject("key-of-ana").as_deref(), Some("ana"));
            });
        }
    });
    assert_eq!(bench.calls(), 1);
    assert_eq!(bench.tokens.under_way.len(), (0, 0));
}

#[test]
fn a_thousand_tasks_that_miss_one_token_make_one_call() {
    let bench = Bench::new(|token| {
        thread::sleep(Duration::from_millis(50));
        by_name(token)
    });
    let task = || bench.tokens.authenticate(bench.call(Wait::Yield), "key-of-ana");
    let answers = block_on(join_all((0..1_000).map(|_| task())));
    assert!(answers.into_iter().all(|answer| &*answer.unwrap().identity().unwrap().subject == "ana"));
    assert_eq!(bench.calls(), 1);
}

#[test]
fn a_blocking_verifier_leaves_the_thread_of_a_task_alone() {
    let verifier = blocking_verifier(|_| Ok(thread::current().name().map(Identity::of)));
    let bench = Bench::on(Arc::default(), verifier);
    let here = thread::current().name().unwrap().to_owned();
    let task = block_on(bench.tokens.authenticate(bench.call(Wait::Yield), "a")).unwrap().identity().unwrap();
    assert_ne!(*task.subject, *here);
    assert_eq!(bench.subject("b"), Some(here));
}

#[test]
fn a_token_is_refused_from_its_expiry_however_long_the_cache_lives() {
    let bench = Bench::new(|_| Ok(Some(Identity::of("ana").expiring_at("2026-03-01T12:00:10Z".parse().unwrap()))));
    assert!(bench.subject("token").is_some());
    bench.clock.advance(Duration::from_millis(9_999));
    assert!(bench.subject("token").is_some());
    assert_eq!(bench.calls(), 1);
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(bench.subject("token"), None);
    assert_eq!(bench.calls(), 2, "what had expired was not remembered as known");
}

#[test]
fn an_identity_is_verified_anew_after_its_time_to_live_and_a_refusal_sooner() {
    let bench = Bench::new(by_name);
    bench.subject("key-of-ana");
    bench.subject("no key");
    bench.clock.advance(Duration::from_secs(10));
    bench.subject("key-of-ana");
    bench.subject("no key");
    assert_eq!(bench.calls(), 3);
    bench.clock.advance(Duration::from_secs(50));
    bench.subject("key-of-ana");
    assert_eq!(bench.calls(), 4);
}

#[test]
fn a_revoked_token_is_asked_for_again_at_once() {
    let bench = Bench::new(by_name);
    for forget in
        [(|tokens| tokens.forget(TokenDigest::of("key-of-ana"))) as fn(&Tokens), |tokens| tokens.forget_subject("ana")]
    {
        bench.subject("key-of-ana");
        bench.subject("key-of-bob");
        let calls = bench.calls();
        forget(&bench.tokens);
        bench.subject("key-of-ana");
        bench.subject("key-of-bob");
        assert_eq!(bench.calls(), calls + 1);
    }
}

/// A verifier whose first answer is given by hand, and whose others are refusals.
fn answered_by_hand() -> (Bench, oneshot::Sender<Found>) {
    let (answer, answered) = oneshot::channel();
    let answered = Mutex::new(Some(answered));
    let verifier = async_verifier(move |_| {
        let answered = answered.lock().take();
        async move {
            match answered {
                Some(answered) => answered.await.unwrap(),
                None => Ok(None),
            }
        }
    });
    (Bench::on(Arc::default(), verifier), answer)
}

#[test]
fn what_was_verified_before_a_revocation_is_neither_kept_nor_joined() {
    for forget in [(|tokens| tokens.forget(TokenDigest::of("t"))) as fn(&Tokens), |tokens| tokens.forget_subject("ana")]
    {
        let (bench, answer) = answered_by_hand();
        let mut before = Box::pin(bench.tokens.authenticate(bench.call(Wait::Yield), "t"));
        assert!(before.poll_unpin(&mut Context::from_waker(Waker::noop())).is_pending());
        forget(&bench.tokens);
        assert_eq!(block_on(bench.tokens.authenticate(bench.call(Wait::Yield), "t")), Ok(Authenticated::Refused));
        answer.send(Ok(Some(Identity::of("ana")))).unwrap();
        assert!(block_on(before).unwrap().identity().is_some());
        assert_eq!(bench.subject("t"), None);
    }
}

#[test]
fn a_verification_that_all_callers_have_left_gives_up_its_place() {
    let (bench, answer) = answered_by_hand();
    let mut caller = Box::pin(bench.tokens.authenticate(bench.call(Wait::Yield), "t"));
    assert!(caller.poll_unpin(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(bench.tokens.under_way.len(), (1, 1));
    drop(caller);
    assert_eq!(bench.tokens.under_way.len(), (0, 0));
    assert!(answer.is_canceled());
}

#[test]
fn unknown_tokens_make_no_more_calls_at_once_than_they_may() {
    let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
    let verifier = Arc::new(async_verifier(|_| std::future::pending()));
    let tokens = Tokens::new(verifier, TokenCacheOptions::new().build(), None, clock, 2, None);
    let call = Call::new(Timestamp::UNIX_EPOCH, Wait::Yield);
    let mut context = Context::from_waker(Waker::noop());
    let mut ask = |token: &'static str| {
        let mut asked = Box::pin(tokens.authenticate(call, token));
        (asked.poll_unpin(&mut context), asked)
    };
    let waiting = ["a", "b", "b"].map(&mut ask);
    assert!(waiting.iter().all(|(polled, _)| polled.is_pending()));
    let (refused, _) = ask("c");
    let error = Error::Verify(VerifyError::Crowded { calls_max: 2 });
    assert_eq!(error.retry(), Retry::Safe);
    assert_eq!(refused, std::task::Poll::Ready(Err(error)));
    drop(waiting);
    assert!(ask("c").0.is_pending());
}

#[test]
fn an_error_is_not_remembered_and_does_not_repeat_the_token() {
    let failing = Arc::new(AtomicUsize::new(1));
    let left = Arc::clone(&failing);
    let bench = Bench::new(move |token| {
        if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(VerifyError::unavailable(format!("GET /introspect?token={token} timed out")));
        }
        by_name(token)
    });
    let error = bench.ask("key-of-ana").unwrap_err();
    assert_eq!(error.to_string(), "the token could not be verified: GET /introspect?token=[token] timed out");
    assert_eq!(error.retry(), Retry::Safe);
    assert_eq!(bench.subject("key-of-ana").as_deref(), Some("ana"));
}

#[test]
fn a_verifier_that_panics_is_an_error_for_all_who_wait() {
    let bench = Bench::new(|_| panic!("a verifier's own fault"));
    for wait in [Wait::Block, Wait::Yield] {
        let callers = (0..10).map(|_| bench.tokens.authenticate(bench.call(wait), "token"));
        for answer in block_on(join_all(callers)) {
            assert!(matches!(answer, Err(Error::Verify(_))), "{answer:?}");
        }
        assert_eq!(bench.tokens.under_way.len(), (0, 0));
    }
}

#[test]
fn a_subject_that_cannot_be_is_the_verifiers_fault() {
    for subject in [String::new(), "x".repeat(257)] {
        let bench = Bench::new(move |_| Ok(Some(Identity::of(subject.as_str()))));
        let error = bench.ask("token").unwrap_err();
        assert!(error.to_string().starts_with("the verifier is at fault: it named a subject of "), "{error}");
        assert_eq!(error.retry(), Retry::Never);
        assert!(bench.tokens.cache().is_empty());
    }
}

#[test]
fn neither_a_token_nor_a_pepper_is_ever_printed() {
    let (token, key) = ("key-of-ana", "a pepper of many bytes");
    let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
    let pepper = Pepper::new(key).unwrap();
    let cache = TokenCacheOptions::new().build();
    let tokens = Tokens::new(Arc::new(blocking_verifier(by_name)), cache, Some(pepper.clone()), clock, CALLS_MAX, None);
    let answer = block_on(tokens.authenticate(Call::new(Timestamp::UNIX_EPOCH, Wait::Block), token)).unwrap();
    let printed = format!("{tokens:?} {answer:?} {pepper:?} {:?} {:?}", Secret::from(token), pepper.digest(token));
    assert!(!printed.contains(token) && !printed.contains(key), "{printed}");
}
