//! Accounts: registering, logging in, and what a user sees of its plan.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use quotum::{Decision, Plan, Subscription, Usage};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::platform::Platform;
use crate::refusal::Refusal;

#[derive(Deserialize)]
pub(crate) struct Credentials {
    email: String,
    password: String,
}

impl Credentials {
    /// An address in two spellings is one user.
    fn id(&self) -> Result<String, Refusal> {
        let id = self.email.trim().to_lowercase();
        let fits = (3..=200).contains(&id.len()) && id.contains('@') && !id.contains(char::is_control);
        let refusal = || Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "that is no e-mail address");
        if fits { Ok(id) } else { Err(refusal()) }
    }
}

/// The subject that a layer has let in.
pub(crate) fn subject_of(decision: &Decision) -> Result<Arc<str>, Refusal> {
    let nobody = || Refusal::new(StatusCode::UNAUTHORIZED, "nobody is logged in");
    decision.subject.clone().ok_or_else(nobody)
}

fn broken(error: &anyhow::Error) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
}

pub(crate) async fn register(
    State(platform): State<Platform>,
    Json(credentials): Json<Credentials>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let id = credentials.id()?;
    let key = platform.users.register(&id, &credentials.password).map_err(|error| broken(&error))?;
    let key = key.ok_or_else(|| Refusal::new(StatusCode::CONFLICT, "this address is registered already"))?;
    subscribe(&platform, &id).await.inspect_err(|_| _ = platform.users.remove(&id))?;
    let token = platform.users.log_in(&id, &credentials.password).map_err(|error| broken(&error))?;
    Ok((StatusCode::CREATED, Json(json!({ "user": id, "api_key": key, "token": token }))))
}

/// Everybody would have the default plan without a subscription. With one, billing months begin when the user
/// came, and the lists of administrators show it. Who comes again keeps what there is.
async fn subscribe(platform: &Platform, id: &str) -> Result<(), Refusal> {
    let failed = |error| Refusal::failed(platform, &error);
    if platform.quota.subscription(id).await.map_err(failed)?.is_some() {
        return Ok(());
    }
    let now = platform.now();
    let mut subscription = Subscription::active(&platform.default_plan, now);
    subscription.anchor = Some(now);
    platform.acting_as("registration").subscribe(id, subscription).await.map_err(failed)
}

pub(crate) async fn log_in(
    State(platform): State<Platform>,
    Json(credentials): Json<Credentials>,
) -> Result<Json<Value>, Refusal> {
    let id = credentials.id()?;
    let token = platform.users.log_in(&id, &credentials.password).map_err(|error| broken(&error))?;
    let token = token.ok_or_else(|| Refusal::new(StatusCode::UNAUTHORIZED, "wrong address or password"))?;
    Ok(Json(json!({ "user": id, "token": token })))
}

pub(crate) async fn plans(State(platform): State<Platform>) -> Result<Json<Vec<Arc<Plan>>>, Refusal> {
    platform.quota.plans().await.map(Json).map_err(|error| Refusal::failed(&platform, &error))
}

pub(crate) async fn subscription(
    State(platform): State<Platform>,
    Extension(decision): Extension<Decision>,
) -> Result<Json<Value>, Refusal> {
    let subject = subject_of(&decision)?;
    let subscription =
        platform.quota.subscription(&subject).await.map_err(|error| Refusal::failed(&platform, &error))?;
    Ok(Json(json!({ "user": subject, "plan": decision.plan, "subscription": subscription })))
}

pub(crate) async fn usage(
    State(platform): State<Platform>,
    Extension(decision): Extension<Decision>,
) -> Result<Json<Usage>, Refusal> {
    let subject = subject_of(&decision)?;
    platform.quota.usage(&subject).await.map(Json).map_err(|error| Refusal::failed(&platform, &error))
}
