//! Refusals: the answer where it is no, always a problem document.

use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use axum::response::IntoResponse;
use quotum::http::Answer;
use quotum::tower::denied_response;
use quotum::{Decision, Error};
use serde_json::{Value, json};

use crate::platform::Platform;

/// What a handler answers in place of what was asked for.
#[derive(Debug)]
pub(crate) struct Refusal(Box<Response<Body>>);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        *self.0
    }
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, detail: &str) -> Self {
        let title = status.canonical_reason();
        let problem = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
        let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
        Self(Box::new((status, content_type, problem.to_string()).into_response()))
    }

    fn answer(answer: &Answer) -> Self {
        let otherwise = || StatusCode::INTERNAL_SERVER_ERROR.into_response();
        Self(Box::new(denied_response(answer).unwrap_or_else(otherwise)))
    }

    /// What the clients of this platform have always been told: where they stand, and where to buy more.
    pub(crate) fn denied(platform: &Platform, decision: &Decision) -> Self {
        let mut answer = platform.mapping.answer(decision, platform.now());
        if let (Some(denied), Some(denial)) = (&mut answer.denied, &decision.denied)
            && let Ok(Value::Object(mut problem)) = serde_json::from_str(&denied.body)
        {
            problem.insert("current".to_owned(), json!(denial.used));
            let upgrade = denial.upgrade_to.as_ref().map(|plan| format!("/v1/plans?upgrade_to={plan}"));
            problem.insert("upgrade_url".to_owned(), json!(upgrade));
            denied.body = Value::from(problem).to_string();
        }
        Self::answer(&answer)
    }

    pub(crate) fn failed(platform: &Platform, error: &Error) -> Self {
        let answer = platform.mapping.answer_error(error, platform.now());
        Self::answer(&answer)
    }
}

/// The decision if it allows, or else the answer.
pub(crate) fn allowed(platform: &Platform, decision: Result<Decision, Error>) -> Result<Decision, Refusal> {
    match decision {
        Ok(decision) if decision.allowed => Ok(decision),
        Ok(decision) => Err(Refusal::denied(platform, &decision)),
        Err(error) => Err(Refusal::failed(platform, &error)),
    }
}
