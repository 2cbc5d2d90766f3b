//! Administration: every change is made in the name of who makes it, and is in the audit log.

use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};
use quotum::rate::RateKey;
use quotum::store::{Subscriber, SubscriberQuery};
use quotum::tower::QuotaLayer;
use quotum::{Decision, Enforcement, Error, Event, EventQuery, Status, Subscription};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::asks;
use crate::platform::Platform;
use crate::refusal::Refusal;

/// How many users or events a page has.
const PAGE: usize = 100;

pub(crate) fn router(platform: &Platform) -> Router<Platform> {
    Router::new()
        .route("/v1/admin/users", get(users))
        .route("/v1/admin/users/{id}", get(user))
        .route("/v1/admin/users/{id}", delete(remove))
        .route("/v1/admin/users/{id}/plan", post(change_plan))
        .route("/v1/admin/users/{id}/suspend", post(suspend))
        .route("/v1/admin/users/{id}/resume", post(resume))
        .route("/v1/admin/users/{id}/clear-rate-limits", post(clear_rates))
        .route("/v1/admin/stats", get(stats))
        .route("/v1/admin/audit", get(audit))
        .route("/v1/admin/enforcement", post(enforce))
        .layer(QuotaLayer::new(platform.quota.clone(), asks::by_admin))
}

/// The administrator who makes a request, by the id that the audit log shows.
pub(crate) struct Admin(String);

impl<S: Sync> FromRequestParts<S> for Admin {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let identity = parts.extensions.get::<Decision>().and_then(|decision| decision.identity.as_ref());
        let admin = identity.filter(|identity| identity.attributes.get("role").is_some_and(|role| role == "admin"));
        let refusal = || Refusal::new(StatusCode::FORBIDDEN, "this is for administrators");
        admin.map(|identity| Self(identity.subject.to_string())).ok_or_else(refusal)
    }
}

fn failed(platform: &Platform) -> impl Fn(Error) -> Refusal {
    let platform = platform.clone();
    move |error| match error {
        // Here it is the administrator who has misspelt something, and who may know what there is.
        Error::Unknown { .. } | Error::InvalidArgument { .. } => {
            Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string())
        }
        error => Refusal::failed(&platform, &error),
    }
}

#[derive(Deserialize)]
struct Search {
    containing: Option<String>,
    plan: Option<String>,
    status: Option<Status>,
    after: Option<String>,
}

async fn users(
    _: Admin,
    State(platform): State<Platform>,
    Query(search): Query<Search>,
) -> Result<Json<Vec<Subscriber>>, Refusal> {
    let Search { containing, plan, status, after } = search;
    let after = after.map(Into::into);
    let query = SubscriberQuery { after, containing, plan, status, limit: PAGE, ..SubscriberQuery::all() };
    platform.quota.subscribers(&query).await.map(Json).map_err(failed(&platform))
}

async fn user(_: Admin, State(platform): State<Platform>, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    let subscription = subscription_of(&platform, &id).await?;
    let usage = platform.quota.usage(&id).await.map_err(failed(&platform))?;
    Ok(Json(json!({ "user": id, "subscription": subscription, "usage": usage })))
}

async fn subscription_of(platform: &Platform, id: &str) -> Result<Subscription, Refusal> {
    let found = platform.quota.subscription(id).await.map_err(failed(platform))?;
    found.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "there is no such user"))
}

#[derive(Deserialize)]
struct NewPlan {
    plan: String,
    #[serde(default)]
    interval: Interval,
}

/// What is paid for at once.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Interval {
    #[default]
    Monthly,
    Annual,
}

impl Interval {
    /// A month or a year by the calendar, not thirty days.
    fn end(self, from: Timestamp) -> Option<Timestamp> {
        let span: Span = match self {
            Self::Monthly => 1.month(),
            Self::Annual => 1.year(),
        };
        Some(from.to_zoned(TimeZone::UTC).checked_add(span).ok()?.timestamp())
    }
}

/// Changes the plan from now on. Billing months go on as they began, and what was used in this one stays used.
async fn change_plan(
    Admin(actor): Admin,
    State(platform): State<Platform>,
    Path(id): Path<String>,
    Json(to): Json<NewPlan>,
) -> Result<Json<Subscription>, Refusal> {
    let before = subscription_of(&platform, &id).await?;
    let now = platform.now();
    let mut subscription = Subscription::active(&to.plan, now);
    let paid = to.plan != *platform.default_plan;
    subscription.expires_at = to.interval.end(now).filter(|_| paid);
    subscription.anchor = before.anchor.or(Some(now));
    subscription.overrides = before.overrides;
    subscribed(&platform, &actor, &id, subscription).await
}

async fn subscribed(
    platform: &Platform,
    actor: &str,
    id: &str,
    subscription: Subscription,
) -> Result<Json<Subscription>, Refusal> {
    platform.acting_as(actor).subscribe(id, subscription.clone()).await.map_err(failed(platform))?;
    Ok(Json(subscription))
}

async fn suspend(
    Admin(actor): Admin,
    State(platform): State<Platform>,
    Path(id): Path<String>,
) -> Result<Json<Subscription>, Refusal> {
    turn(&platform, &actor, &id, Status::Paused).await
}

async fn resume(
    Admin(actor): Admin,
    State(platform): State<Platform>,
    Path(id): Path<String>,
) -> Result<Json<Subscription>, Refusal> {
    turn(&platform, &actor, &id, Status::Active).await
}

async fn turn(platform: &Platform, actor: &str, id: &str, status: Status) -> Result<Json<Subscription>, Refusal> {
    let mut subscription = subscription_of(platform, id).await?;
    subscription.status = status;
    subscription.since = platform.now();
    subscribed(platform, actor, id, subscription).await
}

/// A soft delete: nobody comes in any more, and what was used stays on record.
async fn remove(
    Admin(actor): Admin,
    State(platform): State<Platform>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let _there_is = subscription_of(&platform, &id).await?;
    platform.users.remove(&id);
    let quota = platform.acting_as(&actor);
    quota.forget_subject(&id).await.map_err(failed(&platform))?;
    quota.cancel(&id).await.map_err(failed(&platform))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn clear_rates(
    Admin(actor): Admin,
    State(platform): State<Platform>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    platform.acting_as(&actor).clear_rates(RateKey::from(&*id)).await.map_err(failed(&platform))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Users by plan and state.
async fn stats(_: Admin, State(platform): State<Platform>) -> Result<Json<Value>, Refusal> {
    let census = platform.quota.census().await.map_err(failed(&platform))?;
    Ok(Json(json!({ "users": census, "tokens": platform.quota.token_stats() })))
}

#[derive(Deserialize)]
struct AuditOf {
    user: Option<String>,
}

async fn audit(
    _: Admin,
    State(platform): State<Platform>,
    Query(of): Query<AuditOf>,
) -> Result<Json<Vec<Event>>, Refusal> {
    let subject = of.user.map(Into::into);
    let query = EventQuery { subject, newest_first: true, limit: PAGE, ..EventQuery::changes() };
    platform.quota.events(&query).await.map(Json).map_err(failed(&platform))
}

#[derive(Deserialize)]
struct NewEnforcement {
    mode: Enforcement,
    metric: Option<String>,
}

/// The kill switch: off, or in shadow, of everything or of one metric.
async fn enforce(
    Admin(actor): Admin,
    State(platform): State<Platform>,
    Json(to): Json<NewEnforcement>,
) -> Result<StatusCode, Refusal> {
    let quota = platform.acting_as(&actor);
    quota.set_enforcement(to.metric.as_deref(), to.mode).await.map_err(failed(&platform))?;
    Ok(StatusCode::NO_CONTENT)
}
