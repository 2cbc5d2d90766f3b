//! The application under test, on a loopback port and a clock that only the test turns.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use job_platform::{Platform, Settings, StoreChoice, router};
use quotum::http::TrustedHops;
use quotum::store::{Call, Layer, Layered, Step, Store, StoreError, StoreFuture};
use quotum::{Clock, ManualClock, Plans, Retry};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::client::{Answer, send};

const PLANS: &str = include_str!("../../../plans/job-platform.toml");

/// The last day of a month: what is anchored here tells months from thirty days.
pub(crate) const START: &str = "2026-01-31T09:00:00Z";

/// Fails every step of the store while it is down.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outage(Arc<AtomicBool>);

impl Outage {
    pub(crate) fn begin(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(crate) fn end(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Layer for Outage {
    fn around<'a, T: Send + 'a>(&'a self, _: Call, _: Step, inner: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        match self.0.load(Ordering::SeqCst) {
            true => Box::pin(std::future::ready(Err(StoreError::Failed {
                detail: "disk 7 of host db-3 is gone".to_owned(),
                retry: Retry::Safe,
            }))),
            false => inner,
        }
    }
}

pub(crate) struct App {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) outage: Outage,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

/// Somebody who is logged in.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) token: String,
    pub(crate) api_key: String,
}

impl App {
    /// In memory, at `START`.
    pub(crate) async fn start() -> Self {
        Self::start_on(quotum::store::open("memory:").unwrap(), START).await
    }

    pub(crate) async fn start_in(folder: &Path, at: &str) -> Self {
        let url = format!("sqlite:{}", folder.join("platform.db").display());
        Self::start_on(quotum::store::open(&url).unwrap(), at).await
    }

    async fn start_on(store: Arc<dyn Store>, at: &str) -> Self {
        let clock = Arc::new(ManualClock::at(at.parse().unwrap()));
        let outage = Outage::default();
        let store = Arc::new(Layered::new(store, outage.clone()));
        let mut settings = Settings::new(Plans::from_toml(PLANS).unwrap(), StoreChoice::Given(store));
        settings.clock = clock.clone();
        settings.hops = TrustedHops::new(1);
        settings.admins = vec![("root".to_owned(), "token-of-root".to_owned())];
        let platform = Platform::open(settings).await.unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let service = router(platform).into_make_service_with_connect_info::<SocketAddr>();
        let server = axum::serve(listener, service).with_graceful_shutdown(async { _ = stopped.await });
        let served = tokio::spawn(async { server.await.unwrap() });
        Self { clock, outage, address, stop, served }
    }

    /// Answers what is under way, and closes the store.
    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.served.await.unwrap();
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Both clocks go on to this time.
    pub(crate) fn turn_to(&self, at: &str) {
        let left = at.parse::<quotum::Timestamp>().unwrap().duration_since(self.clock.wall());
        self.clock.advance(left.try_into().unwrap());
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, token: &str, body: Value) -> Answer {
        let bearer = format!("Bearer {token}");
        send(self.address, method, path, &[("authorization", &bearer)], &body).await
    }

    pub(crate) async fn as_admin(&self, method: &str, path: &str, body: Value) -> Answer {
        self.ask(method, path, "token-of-root", body).await
    }

    /// Registers from an address of its own, so that tests do not slow each other's users down.
    pub(crate) async fn register(&self, name: &str, from: &str) -> User {
        let id = format!("{name}@example.com");
        let answer = self.post_from("/v1/register", from, json!({ "email": id, "password": "correct horse" })).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        let text = |key: &str| answer.body[key].as_str().unwrap().to_owned();
        User { id, token: text("token"), api_key: text("api_key") }
    }

    /// The same user with a new session, for sessions end after half a day.
    pub(crate) async fn log_in(&self, user: &User, from: &str) -> User {
        let answer = self.post_from("/v1/login", from, json!({ "email": user.id, "password": "correct horse" })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        User { token: answer.body["token"].as_str().unwrap().to_owned(), ..user.clone() }
    }

    /// So many of the same request at once: how often each status came back.
    pub(crate) async fn burst(
        &self,
        times: usize,
        path: &str,
        fields: &[(&str, &str)],
        body: impl Fn(usize) -> Value,
    ) -> BTreeMap<u16, usize> {
        let fields: Vec<(String, String)> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut requests = JoinSet::new();
        for number in 0..times {
            let (address, path, fields, body) = (self.address, path.to_owned(), fields.clone(), body(number));
            requests.spawn(async move {
                let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
                send(address, "POST", &path, &fields, &body).await.status
            });
        }
        let mut statuses = BTreeMap::new();
        for status in requests.join_all().await {
            *statuses.entry(status).or_default() += 1;
        }
        statuses
    }

    pub(crate) async fn post_from(&self, path: &str, from: &str, body: Value) -> Answer {
        send(self.address, "POST", path, &[("x-forwarded-for", from)], &body).await
    }

    pub(crate) async fn put_on(&self, user: &User, plan: &str) {
        let path = format!("/v1/admin/users/{}/plan", user.id);
        let answer = self.as_admin("POST", &path, json!({ "plan": plan })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    pub(crate) async fn new_job(&self, user: &User) -> Answer {
        self.ask("POST", "/v1/jobs", &user.token, json!({})).await
    }

    /// One number of a user's usage.
    pub(crate) async fn usage(&self, user: &User, metric: &str, number: &str) -> u64 {
        let path = format!("/v1/admin/users/{}", user.id);
        let answer = self.as_admin("GET", &path, Value::Null).await;
        let quotas = answer.body["usage"]["quotas"].as_array().unwrap();
        quotas.iter().find(|state| state["metric"] == metric).unwrap()[number].as_u64().unwrap()
    }
}
