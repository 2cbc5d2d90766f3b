use std::convert::Infallible;
use std::future::{Future, Ready, pending, ready};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use ::http::request::Parts;
use ::http::{Request, Response, StatusCode};
use ::tower::util::BoxCloneService;
use ::tower::{Layer, Service, ServiceExt, service_fn};
use pollster::block_on;

use super::*;
use crate::http::{Mapping, TrustedHops};
use crate::store::{Call, Layered, MemoryStore, Step, Store, StoreError, StoreFuture};
use crate::token::{Identity, VerifyError, blocking_verifier};
use crate::{Decision, Enforcement, ManualClock, OwnedRequest, Plans, Quota, Reason, Retry};

const PLANS: &str = "default_plan = 'free'
rates = { login = '2/minute' }
[plans.free]
quotas = { searches = '2/day', minutes = '100/month' }
rates = { api = '3/minute' }
features = { excel = false }
[plans.pro]
rank = 1
quotas = { searches = '100/day' }
features = { excel = true }";

fn open_on(store: Arc<dyn Store>) -> Quota {
    let verifier = blocking_verifier(|token| match token.strip_prefix("key-of-") {
        Some("nobody") => Err(VerifyError::unavailable("ldap-3.internal is down")),
        subject => Ok(subject.map(|subject| Identity::of(subject).with_attribute("role", "tester"))),
    });
    let clock = Arc::new(ManualClock::at("2026-03-10T23:59:00Z".parse().unwrap()));
    let builder = Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).clock(clock).verifier(verifier);
    block_on(builder.open_on(store)).unwrap()
}

fn open() -> Quota {
    open_on(Arc::new(MemoryStore::new()))
}

/// Answers with whom it was called for, and counts how often it was.
#[derive(Debug, Clone, Default)]
struct Handler(Arc<AtomicUsize>);

impl Handler {
    fn calls(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Service<Request<()>> for Handler {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        self.0.fetch_add(1, Ordering::SeqCst);
        let decision = request.extensions().get::<Decision>();
        let subject = decision.and_then(|decision| decision.subject.as_deref()).unwrap_or("nobody");
        let role = decision.and_then(|decision| decision.identity.as_ref()?.attributes.get("role").cloned());
        let mut response = Response::new(format!("for {subject}{}", role.unwrap_or_default()));
        if request.uri().path() == "/missing" {
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
        ready(Ok(response))
    }
}

fn get(path: &str) -> Request<()> {
    Request::get(path).body(()).unwrap()
}

fn with_key(key: &str) -> Request<()> {
    Request::get("/").header("x-api-key", key).body(()).unwrap()
}

fn ask<S>(service: &S, request: Request<()>) -> Response<String>
where
    S: Service<Request<()>, Response = Response<String>, Error = Infallible> + Clone,
{
    block_on(service.clone().oneshot(request)).unwrap_or_else(|never| match never {})
}

fn field<'r>(response: &'r Response<String>, name: &str) -> &'r str {
    response.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

fn held_and_used(quota: &Quota, subject: &str) -> (u64, u64) {
    let usage = block_on(quota.usage(subject)).unwrap();
    let minutes = usage.quotas.iter().find(|state| &*state.metric == "minutes").unwrap();
    (minutes.held, minutes.used)
}

/// A dropped reservation is released on a thread of its own.
fn wait_until_nothing_is_held(quota: &Quota, subject: &str) {
    let begun = Instant::now();
    while held_and_used(quota, subject) != (0, 0) {
        assert!(begun.elapsed() < Duration::from_secs(10), "the reservation was not released");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_allowed_request_reaches_the_handler_with_its_decision_and_is_told_what_is_left() {
    let handler = Handler::default();
    let layer = QuotaLayer::new(open(), |_: &Parts| Some(OwnedRequest::by("ana").rate("api").cost("searches", 1)));
    let service = layer.layer(handler.clone());

    let response = ask(&service, get("/missing"));
    assert_eq!((response.status(), response.body().as_str()), (StatusCode::NOT_FOUND, "for ana"));
    assert_eq!(field(&response, "ratelimit"), "\"api/60s\";r=2;t=20, \"searches/day\";r=1;t=60");
    assert_eq!(handler.calls(), 1);
}

#[test]
fn a_denied_request_never_reaches_the_handler() {
    let handler = Handler::default();
    let mapping = Mapping::new().status(Reason::QuotaExhausted, 402).unwrap();
    let layer = QuotaLayer::new(open(), |_: &Parts| Some(OwnedRequest::by("ana").cost("searches", 2))).mapping(mapping);
    let service = layer.layer(handler.clone());

    assert_eq!(ask(&service, get("/")).status(), StatusCode::OK);
    let denied = ask(&service, get("/"));
    assert_eq!((denied.status(), handler.calls()), (StatusCode::PAYMENT_REQUIRED, 1));
    assert_eq!(field(&denied, "content-type"), "application/problem+json");
    assert_eq!(field(&denied, "retry-after"), "60");
    assert!(denied.body().contains("\"upgrade_to\":\"pro\""), "{}", denied.body());
}

#[test]
fn a_request_that_asks_for_nothing_passes_as_it_came() {
    let service = QuotaLayer::new(open(), |_: &Parts| None).layer(Handler::default());
    let response = ask(&service, get("/health"));
    assert_eq!((response.body().as_str(), response.headers().len()), ("for nobody", 0));
}

#[test]
fn a_token_lets_in_whom_it_speaks_for_and_nobody_else() {
    let handler = Handler::default();
    let by_token = |parts: &Parts| Some(OwnedRequest::with_token(token_of(&parts.headers).unwrap_or_default()));
    let service = QuotaLayer::new(open(), by_token).layer(handler.clone());

    assert_eq!(ask(&service, with_key("key-of-ana")).body(), "for anatester");
    for refused in [get("/"), with_key("guessed")] {
        let response = ask(&service, refused);
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(field(&response, "www-authenticate").starts_with("Bearer"));
    }
    assert_eq!(handler.calls(), 1);
}

#[test]
fn switching_the_quotas_off_lets_nobody_in_who_is_not_known() {
    let quota = open();
    let by_token = |parts: &Parts| {
        let token = token_of(&parts.headers).unwrap_or_default();
        Some(OwnedRequest::with_token(token).rate("api").feature("excel").cost("searches", 99))
    };
    let service = QuotaLayer::new(quota.clone(), by_token).layer(Handler::default());
    assert_eq!(ask(&service, with_key("key-of-ana")).status(), StatusCode::FORBIDDEN);
    for mode in [Enforcement::Off, Enforcement::Shadow] {
        block_on(quota.set_enforcement(None, mode)).unwrap();
        assert_eq!(ask(&service, with_key("guessed")).status(), StatusCode::UNAUTHORIZED, "{mode}");
        assert_eq!(ask(&service, with_key("key-of-ana")).body(), "for anatester", "{mode}");
    }
}

#[test]
fn only_a_token_that_was_given_is_called_invalid() {
    let by_token = |parts: &Parts| Some(OwnedRequest::with_token(token_of(&parts.headers).unwrap_or_default()));
    let service = QuotaLayer::new(open(), by_token).layer(Handler::default());
    let without = Request::get("/").body(()).unwrap();
    for (request, challenge, detail) in [
        (with_key("guessed"), "Bearer error=\"invalid_token\"", "the token is not valid"),
        (without, "Bearer", "the request has no token"),
    ] {
        let response = ask(&service, request);
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()["www-authenticate"], challenge);
        assert!(response.body().contains(detail), "{}", response.body());
    }
}

#[test]
fn a_request_by_anyone_is_limited_by_its_address() {
    let handler = Handler::default();
    let by_address = |parts: &Parts| {
        let peer = "10.0.0.1".parse().unwrap();
        Some(OwnedRequest::by_anyone().rate_for(
            "login",
            TrustedHops::new(1).key(peer, forwarded_for(&parts.headers)),
            1,
        ))
    };
    let service = QuotaLayer::new(open(), by_address).layer(handler.clone());
    let from = |line: &str| ask(&service, Request::post("/login").header("x-forwarded-for", line).body(()).unwrap());

    assert_eq!(from("203.0.113.7").status(), StatusCode::OK);
    assert_eq!(from("1.2.3.4, 203.0.113.7").status(), StatusCode::OK);
    let denied = from("5.6.7.8, 203.0.113.7");
    assert_eq!((denied.status(), field(&denied, "retry-after")), (StatusCode::TOO_MANY_REQUESTS, "30"));
    assert_eq!(field(&denied, "ratelimit-policy"), "\"login/60s\";q=2;w=60");
    assert_eq!(from("203.0.113.8").status(), StatusCode::OK);
    assert_eq!(handler.calls(), 3);
}

#[test]
fn nobody_who_is_not_known_can_be_asked_for_more_than_a_rate_for_a_key() {
    let anyone = OwnedRequest::by_anyone;
    let address = || std::net::IpAddr::from([203, 0, 113, 7]).into();
    for request in [
        anyone(),
        anyone().rate("login"),
        anyone().cost("searches", 1),
        anyone().rate_for("login", address(), 1).cost("searches", 1),
        anyone().rate_for("login", address(), 1).feature("excel"),
        anyone().rate_for("logon", address(), 1),
    ] {
        let handler = Handler::default();
        let service = QuotaLayer::new(open(), move |_: &Parts| Some(request.clone())).layer(handler.clone());
        assert_eq!((ask(&service, get("/")).status(), handler.calls()), (StatusCode::INTERNAL_SERVER_ERROR, 0));
    }
}

#[test]
fn a_mistake_is_an_answer_that_leaks_nothing() {
    let handler = Handler::default();
    let layer = QuotaLayer::new(open(), |_: &Parts| Some(OwnedRequest::by("ana").cost("serches", 1)));
    let response = ask(&layer.layer(handler.clone()), get("/"));
    assert_eq!((response.status(), handler.calls()), (StatusCode::INTERNAL_SERVER_ERROR, 0));
    assert!(!response.body().contains("searches"), "{}", response.body());
}

#[test]
fn a_verifier_that_is_down_is_503_and_lets_nobody_in() {
    let handler = Handler::default();
    let by_token = |parts: &Parts| Some(OwnedRequest::with_token(token_of(&parts.headers).unwrap_or_default()));
    let response = ask(&QuotaLayer::new(open(), by_token).layer(handler.clone()), with_key("key-of-nobody"));
    assert_eq!((response.status(), handler.calls()), (StatusCode::SERVICE_UNAVAILABLE, 0));
    assert!(!response.body().contains("ldap"), "{}", response.body());
}

#[derive(Debug)]
struct Switch(Arc<AtomicBool>);

impl crate::store::Layer for Switch {
    fn around<'a, T: Send + 'a>(&'a self, _: Call, _: Step, inner: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        match self.0.load(Ordering::SeqCst) {
            true => Box::pin(ready(Err(StoreError::Failed { detail: "db-7 is down".to_owned(), retry: Retry::Safe }))),
            false => inner,
        }
    }
}

#[test]
fn a_store_that_is_down_is_503_until_it_is_back() {
    let (handler, down) = (Handler::default(), Arc::new(AtomicBool::new(false)));
    let quota = open_on(Arc::new(Layered::new(Arc::new(MemoryStore::new()), Switch(Arc::clone(&down)))));
    let layer = QuotaLayer::new(quota, |_: &Parts| Some(OwnedRequest::by("ana").cost("searches", 1)));
    let service = layer.layer(handler.clone());

    down.store(true, Ordering::SeqCst);
    let response = ask(&service, get("/"));
    assert_eq!((response.status(), handler.calls()), (StatusCode::SERVICE_UNAVAILABLE, 0));
    assert_eq!(field(&response, "retry-after"), "5");
    assert!(!response.body().contains("db-7"), "{}", response.body());

    down.store(false, Ordering::SeqCst);
    assert_eq!(ask(&service, get("/")).status(), StatusCode::OK);
}

#[test]
fn one_key_charges_once_and_is_refused_for_another_request() {
    let ask_once = |parts: &Parts| {
        let cost = if parts.uri.path() == "/two" { 2 } else { 1 };
        Some(OwnedRequest::by("ana").cost("searches", cost).once("order-7"))
    };
    let handler = Handler::default();
    let service = QuotaLayer::new(open(), ask_once).layer(handler.clone());
    for _ in 0..3 {
        assert_eq!(ask(&service, get("/one")).status(), StatusCode::OK);
    }
    assert_eq!(ask(&service, get("/two")).status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(handler.calls(), 3);
}

/// Ready for one call each time it was polled, and clones are not ready.
#[derive(Debug, Default)]
struct Strict {
    ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Service<Request<()>> for Strict {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without being polled ready");
        ready(Ok(Response::new(String::new())))
    }
}

#[test]
fn the_service_that_is_called_is_the_one_that_was_ready() {
    let ask = |parts: &Parts| (parts.uri.path() != "/health").then(|| OwnedRequest::by("ana").cost("searches", 1));
    let mut service = QuotaLayer::new(open(), ask).layer(Strict::default());
    block_on(async {
        for (path, status) in [("/", 200), ("/health", 200), ("/", 200), ("/", 429), ("/health", 200)] {
            let response = service.ready().await.unwrap().call(get(path)).await.unwrap();
            assert_eq!(response.status().as_u16(), status, "{path}");
        }
    });
}

#[test]
fn a_service_that_is_not_ready_holds_requests_back() {
    #[derive(Clone)]
    struct Never;
    impl Service<Request<()>> for Never {
        type Response = Response<String>;
        type Error = Infallible;
        type Future = Ready<Result<Response<String>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Pending
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            unreachable!("it is never ready")
        }
    }
    let mut service = QuotaLayer::new(open(), |_: &Parts| None).layer(Never);
    assert!(service.poll_ready(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[test]
fn nothing_is_charged_for_a_request_that_is_dropped_before_it_is_polled() {
    let quota = open();
    let layer = QuotaLayer::new(quota.clone(), |_: &Parts| Some(OwnedRequest::by("ana").cost("minutes", 1)));
    drop(layer.layer(Handler::default()).call(get("/")));
    assert_eq!(held_and_used(&quota, "ana"), (0, 0));
}

fn reserving(quota: &Quota) -> QuotaLayer<impl Fn(&Parts) -> Option<OwnedRequest> + use<>> {
    QuotaLayer::new(quota.clone(), |parts: &Parts| {
        let token = token_of(&parts.headers).unwrap_or("key-of-ana");
        Some(OwnedRequest::with_token(token).rate("api").cost("minutes", 60).reserve(Duration::from_secs(60)))
    })
}

#[test]
fn a_handler_commits_what_was_really_used() {
    let quota = open();
    let service = reserving(&quota).layer(service_fn(|request: Request<()>| async move {
        let reserved = request.extensions().get::<Reserved>().unwrap();
        let reservation = reserved.take().unwrap();
        assert!(reserved.take().is_none());
        let settlement = reservation.commit(&[("minutes", 12)]).await.unwrap();
        Ok::<_, Infallible>(Response::new(settlement.consumed("minutes").to_string()))
    }));
    let response = ask(&service, get("/"));
    assert_eq!(response.body(), "12");
    assert_eq!(field(&response, "ratelimit").split(';').next(), Some("\"api/60s\""), "rate and quota are both told");
    assert!(field(&response, "ratelimit").contains("\"minutes/month\";r=40"));
    assert_eq!(held_and_used(&quota, "ana"), (0, 12));
}

#[test]
fn a_reservation_that_nobody_takes_is_released() {
    let quota = open();
    let service = reserving(&quota).layer(Handler::default());
    assert_eq!(ask(&service, get("/")).body(), "for anatester");
    wait_until_nothing_is_held(&quota, "ana");
}

#[test]
fn a_handler_that_fails_or_panics_releases_what_was_reserved_for_it() {
    let quota = open();
    let failing = service_fn(|request: Request<()>| async move {
        let _reserved = request.extensions().get::<Reserved>().unwrap().take();
        Err::<Response<String>, _>("out of luck")
    });
    assert_eq!(block_on(reserving(&quota).layer(failing).oneshot(get("/"))).unwrap_err(), "out of luck");
    wait_until_nothing_is_held(&quota, "ana");

    let panicking = service_fn(|request: Request<()>| async move {
        let _reserved = request.extensions().get::<Reserved>().unwrap().take();
        match request.uri().path() {
            "/" => panic!("a handler's own fault"),
            _ => Ok::<_, Infallible>(Response::new(String::new())),
        }
    });
    let service = reserving(&quota).layer(panicking);
    let handled = std::panic::catch_unwind(AssertUnwindSafe(|| ask(&service, get("/"))));
    assert!(handled.is_err());
    wait_until_nothing_is_held(&quota, "ana");
    assert_eq!(ask(&service, get("/other")).status(), StatusCode::OK);
}

#[test]
fn a_client_that_goes_away_releases_what_was_reserved_for_it() {
    let quota = open();
    let stuck = service_fn(|request: Request<()>| async move {
        let _reserved = request.extensions().get::<Reserved>().unwrap().take();
        pending::<Result<Response<String>, Infallible>>().await
    });
    let mut call = reserving(&quota).layer(stuck).oneshot(get("/"));
    let mut polled = Box::pin(&mut call);
    let begun = Instant::now();
    while held_and_used(&quota, "ana") != (60, 0) {
        assert!(polled.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(begun.elapsed() < Duration::from_secs(10), "nothing was reserved");
        std::thread::yield_now();
    }
    drop(call);
    wait_until_nothing_is_held(&quota, "ana");
}

#[test]
fn a_reservation_that_does_not_fit_never_reaches_the_handler() {
    let (quota, handler) = (open(), Handler::default());
    let held = block_on(quota.reserve("ana", &[("minutes", 50)], Duration::from_secs(60))).unwrap().unwrap();
    let service = reserving(&quota).layer(handler.clone());
    let denied = ask(&service, get("/"));
    assert_eq!((denied.status(), handler.calls()), (StatusCode::TOO_MANY_REQUESTS, 0));
    assert!(field(&denied, "ratelimit").contains("\"minutes/month\";r=50"));
    assert_eq!(ask(&service, with_key("guessed")).status(), StatusCode::UNAUTHORIZED);
    drop(held);
}

#[test]
fn a_reservation_passes_where_quotas_are_off() {
    let quota = open();
    block_on(quota.set_enforcement(None, Enforcement::Off)).unwrap();
    let service = reserving(&quota).layer(service_fn(|request: Request<()>| async move {
        let reservation = request.extensions().get::<Reserved>().unwrap().take().unwrap();
        reservation.commit(&[("minutes", 12)]).await.unwrap();
        Ok::<_, Infallible>(Response::new("done".to_owned()))
    }));
    assert_eq!(ask(&service, get("/")).body(), "done");
    assert_eq!(held_and_used(&quota, "ana"), (0, 0));
}

#[test]
fn layers_within_layers_each_tell_of_their_own_limits() {
    let quota = open();
    let outer = QuotaLayer::new(quota.clone(), |_: &Parts| Some(OwnedRequest::by("ana").rate("api")));
    let inner = QuotaLayer::new(quota, |parts: &Parts| {
        let subject = parts.extensions.get::<Decision>()?.subject.clone()?;
        Some(OwnedRequest::by(subject).cost("searches", 1))
    });
    let service: BoxCloneService<Request<()>, Response<String>, Infallible> =
        BoxCloneService::new(outer.layer(inner.layer(Handler::default())));
    let response = ask(&service, get("/"));
    let told: Vec<_> = response.headers().get_all("ratelimit").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(told, ["\"searches/day\";r=1;t=60", "\"api/60s\";r=2;t=20"]);
}
