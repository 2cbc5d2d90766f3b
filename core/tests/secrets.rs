//! Nothing that is printed, logged or told contains a token or a pepper, whatever goes wrong.
//!
//! Alone in its process, because it listens to every event of `tracing`, of every thread and at every level.

#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use pollster::block_on;
use quotum::blocking::Quota;
use quotum::store::{Call, Layer, Layered, SqliteOptions, Step, Store, StoreError, StoreFuture};
use quotum::token::{Identity, Pepper, Secret, VerifyError, blocking_verifier};
use quotum::{EventQuery, LoggedEvents, Plans, Request};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const PLANS: &str = "default_plan = 'free'\n[plans.free]\nquotas = { jobs = '3/total' }\nrates = { api = '5/minute' }";

/// What must be found nowhere: tokens of every fate, and the pepper.
const SECRETS: [&str; 6] = [
    "key-of-ana-7f3a9c",
    "key-of-nobody-7f3a9c",
    "key-that-panics-7f3a9c",
    "guessed-7f3a9c",
    "malformed-7f3a9c\u{1}",
    "a-pepper-of-many-bytes-7f3a9c",
];

/// Writes down every field of every span and event.
#[derive(Clone, Default)]
struct Everything(Arc<Mutex<String>>);

impl Everything {
    fn note(&self, what: impl Debug) {
        writeln!(self.0.lock().unwrap(), "{what:?}").unwrap();
    }
}

impl Visit for Everything {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        writeln!(self.0.lock().unwrap(), "{field} {value:?}").unwrap();
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut self.clone());
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Refuses to keep identities and to forget them.
#[derive(Debug)]
struct Broken;

impl Layer for Broken {
    fn around<'a, T: Send + 'a>(&'a self, _: Call, step: Step, inner: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        match step {
            Step::PutIdentity | Step::ForgetIdentities => {
                Box::pin(std::future::ready(Err(StoreError::Busy { waited: std::time::Duration::ZERO })))
            }
            _ => inner,
        }
    }
}

fn verify(token: &str) -> Result<Option<Identity>, VerifyError> {
    match token {
        "key-of-ana-7f3a9c" => Ok(Some(Identity::of("ana"))),
        "key-of-nobody-7f3a9c" => Err(VerifyError::unavailable(format!("GET /introspect?token={token} timed out"))),
        // What a host's panic says is the host's own: it is not repeated.
        "key-that-panics-7f3a9c" => std::panic::resume_unwind(Box::new(token.to_owned())),
        _ => Ok(None),
    }
}

#[test]
fn no_token_and_no_pepper_is_ever_told() {
    let everything = Everything::default();
    tracing::subscriber::set_global_default(everything.clone()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quota.db");
    for broken in [false, true] {
        let mut store: Arc<dyn Store> = Arc::new(SqliteOptions::at(&file).open().unwrap());
        if broken {
            store = Arc::new(Layered::new(store, Broken));
        }
        let told = everything.clone();
        let builder = Quota::builder()
            .plans(Plans::from_toml(PLANS).unwrap())
            .verifier(blocking_verifier(verify))
            .pepper(Pepper::new("a-pepper-of-many-bytes-7f3a9c").unwrap())
            .tokens_in_store(true)
            .log_events(LoggedEvents::All)
            .on_event(move |event| told.note(event));
        everything.note(&builder);
        let quota = builder.open_on(store).unwrap();
        for token in &SECRETS[..5] {
            for request in [Request::with_token(token).costs(&[("jobs", 1)]), Request::with_token(token).rate("api")] {
                everything.note(&request);
                for _ in 0..4 {
                    everything.note(quota.admit(&request));
                    everything.note(block_on(quota.to_async().admit(&request)));
                }
                everything.note(quota.try_admit(&request));
            }
            everything.note(quota.authenticate(token).map_err(|error| error.to_string()));
            everything.note(quota.forget_token(token).map_err(|error| error.to_string()));
            everything.note(Secret::from(*token));
        }
        everything.note(quota.forget_subject("ana"));
        everything.note(quota.events(&EventQuery { limit: 1_000, ..EventQuery::all() }));
        everything.note(quota.token_stats());
        everything.note(&quota);
        everything.note(quota.to_async());
        #[cfg(feature = "metrics")]
        everything.note(quota.metrics());
        #[cfg(feature = "tower")]
        over_http(&quota, &everything);
        drop(quota);
    }
    let text = everything.0.lock().unwrap().clone();
    assert!(text.len() > 10_000 && text.contains("quota_exhausted") && text.contains("unauthenticated"), "{text}");
    let bytes = std::fs::read(&file).unwrap();
    for secret in SECRETS {
        let secret = secret.trim_end_matches('\u{1}');
        let line = text.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} was told");
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret} lies in the file");
    }
}

#[cfg(feature = "tower")]
fn over_http(quota: &Quota, everything: &Everything) {
    use http::{Request, Response};
    use quotum::OwnedRequest;
    use quotum::tower::{QuotaLayer, token_of};
    use tower::{Layer, ServiceExt, service_fn};

    let by_token = |parts: &http::request::Parts| {
        Some(OwnedRequest::with_token(token_of(&parts.headers).unwrap_or_default()).rate("api"))
    };
    let handler =
        service_fn(|_: Request<()>| async { Ok::<_, std::convert::Infallible>(Response::new(String::new())) });
    let service = QuotaLayer::new(quota.to_async(), by_token).layer(handler);
    for token in &SECRETS[..4] {
        everything.note(OwnedRequest::with_token(token).rate("api").cost("jobs", 1));
        let request = Request::get("/").header("x-api-key", *token).body(()).unwrap();
        everything.note(block_on(service.clone().oneshot(request)));
    }
    everything.note(&service);
}
