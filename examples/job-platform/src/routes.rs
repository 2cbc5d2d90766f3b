//! Routes: which path is whose, and which layer stands before it.

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::{delete, get, post};
use quotum::tower::QuotaLayer;

use crate::platform::Platform;
use crate::{accounts, admin, asks, jobs, storage};

/// Everything that the platform serves.
pub fn router(platform: Platform) -> Router {
    let (quota, hops) = (platform.quota.clone(), platform.hops);
    let login = QuotaLayer::new(quota.clone(), asks::by_address("login", hops));
    let register = QuotaLayer::new(quota.clone(), asks::by_address("register", hops));
    let user = QuotaLayer::new(quota.clone(), asks::by_user);
    let job = QuotaLayer::new(quota.clone(), asks::job);
    let run = QuotaLayer::new(quota.clone(), asks::run);
    let call = QuotaLayer::new(quota, asks::call);

    let public = Router::new()
        .route("/v1/register", post(accounts::register).layer(register))
        .route("/v1/login", post(accounts::log_in).layer(login))
        .route("/v1/plans", get(accounts::plans))
        .route("/metrics", get(metrics));
    // Who has used up the day's calls can still see so, and make room.
    let users = Router::new()
        .route("/v1/subscription/me", get(accounts::subscription))
        .route("/v1/usage", get(accounts::usage))
        .route("/v1/jobs", post(jobs::create).layer(job))
        .route("/v1/jobs/{id}", delete(jobs::remove))
        .route("/v1/jobs/{id}/run", post(jobs::run).layer(run))
        .route("/v1/storage", post(storage::put).layer(call))
        .route("/v1/storage/{name}", delete(storage::remove))
        .layer(user);
    public.merge(users).merge(admin::router(&platform)).with_state(platform)
}

async fn metrics(State(platform): State<Platform>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], platform.quota.metrics())
}
