//! What a host hands in (a store, a verifier, a callback) may ask the engine in turn. It must never wait for
//! itself.

#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use quotum::blocking::Quota;
use quotum::store::{Call, Layer, Layered, MemoryStore, Step, StoreFuture};
use quotum::token::{Authenticated, Identity, VerifyError, blocking_verifier};
use quotum::{Error, Plans, Reason};

const PATIENCE: Duration = Duration::from_secs(10);

fn plans() -> Plans {
    Plans::from_toml("default_plan = 'free'\n[plans.free]\nquotas = { jobs = '10/total' }").unwrap()
}

/// What the work comes to, on a thread that may be left behind.
fn within_patience<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(work()));
    let answer = told.recv_timeout(PATIENCE);
    assert!(answer.is_ok(), "it waits for itself");
    answer.unwrap()
}

/// Asks the engine, once, on the way to one of the store's steps.
#[derive(Default)]
struct Asking {
    on: Mutex<Option<Step>>,
    engine: OnceLock<Quota>,
    ask: OnceLock<fn(&Quota) -> String>,
    answer: Mutex<Option<String>>,
}

impl std::fmt::Debug for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asking")
    }
}

impl Layer for Asking {
    fn around<'a, T: Send + 'a>(&'a self, _: Call, step: Step, inner: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        Box::pin(async move {
            let meant = self.on.lock().unwrap().take_if(|on| *on == step).is_some();
            if let (true, Some(engine), Some(ask)) = (meant, self.engine.get(), self.ask.get()) {
                let answer = ask(engine);
                *self.answer.lock().unwrap() = Some(answer);
            }
            inner.await
        })
    }
}

/// The reason of ana's request, and what was answered to the one that the store made on its way.
fn asked_within(step: Step, ask: fn(&Quota) -> String) -> (Option<Reason>, Option<String>) {
    let store = Arc::new(Layered::new(Arc::new(MemoryStore::new()), Asking::default()));
    let quota = Quota::builder().plans(plans()).open_on(store.clone()).unwrap();
    let layer = store.layer();
    assert!(layer.engine.set(quota.clone()).is_ok());
    layer.ask.set(ask).unwrap();
    *layer.on.lock().unwrap() = Some(step);
    let decision = quota.consume("ana", &[("jobs", 1)]).unwrap();
    let answer = layer.answer.lock().unwrap().clone();
    (decision.denied.map(|denial| denial.reason), answer)
}

fn reason_of(quota: &Quota, subject: &str) -> String {
    match quota.consume(subject, &[("jobs", 1)]).unwrap().denied {
        Some(denial) => denial.to_string(),
        None => "allowed".to_owned(),
    }
}

#[test]
fn a_store_that_asks_for_the_subject_it_is_asked_for_is_told_so() {
    let (outer, inner) = within_patience(|| asked_within(Step::Subscription, |quota| reason_of(quota, "ana")));
    assert_eq!(outer, None);
    let inner = inner.unwrap();
    assert!(inner.contains("it asks the engine for what the engine is asking it"), "{inner}");
}

#[test]
fn a_store_may_ask_for_other_subjects_on_its_way() {
    for step in [Step::Subscription, Step::Charge] {
        let (outer, inner) = within_patience(move || asked_within(step, |quota| reason_of(quota, "bob")));
        assert_eq!((outer, inner.as_deref()), (None, Some("allowed")), "{step:?}");
    }
    let (outer, inner) = within_patience(|| asked_within(Step::Charge, |quota| reason_of(quota, "ana")));
    assert_eq!((outer, inner.as_deref()), (None, Some("allowed")), "for the same subject, once it is known");
}

#[test]
fn a_verifier_that_asks_for_the_token_it_verifies_is_told_so() {
    static ENGINE: OnceLock<Quota> = OnceLock::new();
    let verifier = blocking_verifier(|token: &str| {
        let engine = ENGINE.get().unwrap();
        match token {
            "outer" => match engine.authenticate("inner") {
                Ok(Authenticated::Known(known)) => Ok(Some(Identity::of(format!("friend of {}", known.subject)))),
                answer => Err(VerifyError::unavailable(format!("{answer:?}"))),
            },
            "inner" => Ok(Some(Identity::of("ana"))),
            _ => match engine.authenticate(token) {
                Err(error) => Err(VerifyError::unavailable(error.to_string())),
                Ok(_) => Ok(None),
            },
        }
    });
    let quota = Quota::builder().plans(plans()).verifier(verifier).open("memory:").unwrap();
    assert!(ENGINE.set(quota.clone()).is_ok());
    let engine = quota.clone();
    let error = within_patience(move || engine.authenticate("itself")).unwrap_err();
    assert!(matches!(error, Error::Verify(_)), "{error}");
    assert!(error.to_string().contains("it asks the engine for what the engine is asking it"), "{error}");
    let known = within_patience(move || quota.authenticate("outer")).unwrap();
    assert!(matches!(known, Authenticated::Known(known) if &*known.subject == "friend of ana"));
}

#[test]
fn a_callback_may_consume_and_drop_the_engine() {
    static ENGINE: Mutex<Option<Quota>> = Mutex::new(None);
    static CONSUMED: AtomicBool = AtomicBool::new(false);
    let callback = |_: &quotum::Event| {
        let engine = ENGINE.lock().unwrap().take();
        if let Some(engine) = engine {
            CONSUMED.store(engine.consume("bob", &[("jobs", 1)]).unwrap().allowed, Ordering::SeqCst);
            drop(engine);
        }
    };
    let quota = Quota::builder().plans(plans()).on_event(callback).open("memory:").unwrap();
    *ENGINE.lock().unwrap() = Some(quota.clone());
    within_patience(move || {
        assert!(quota.consume("ana", &[("jobs", 1)]).unwrap().allowed);
        drop(quota);
        while !CONSUMED.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
    });
}
