//! Responses: answers in the types of `http`.

use ::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use ::http::{Response, StatusCode};

use crate::http::{Answer, Denied};

/// The response to a denied request; `None` for one that is allowed.
///
/// ```
/// use http::{Response, StatusCode};
/// use quotum::{Error, Timestamp, http::Mapping, tower::denied_response};
///
/// let answer = Mapping::new().answer_error(&Error::NoPlans, Timestamp::now());
/// let response: Option<Response<String>> = denied_response(&answer);
/// assert_eq!(response.map(|response| response.status()), Some(StatusCode::INTERNAL_SERVER_ERROR));
/// ```
#[must_use]
pub fn denied_response<R: From<String>>(answer: &Answer) -> Option<Response<R>> {
    let Denied { status, content_type, body } = answer.denied.as_ref()?;
    let mut response = Response::new(R::from(body.clone()));
    // A mapping takes no other statuses than these.
    *response.status_mut() = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    add_fields(response.headers_mut(), answer);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    Some(response)
}

/// Adds an answer's fields to those of a response.
///
/// Layers within layers each tell of their own limits: `RateLimit` and `RateLimit-Policy` are lists, to which
/// this one's are added. Of other fields, those that are there already are kept: they tell of the limits that
/// are next to the handler.
pub fn add_fields(headers: &mut HeaderMap, answer: &Answer) {
    for (name, value) in &answer.fields {
        // Every value is printable ASCII.
        let Ok(value) = HeaderValue::from_str(value) else { continue };
        let name = HeaderName::from_static(name);
        if name.as_str().starts_with("ratelimit") {
            headers.append(name, value);
        } else {
            headers.entry(name).or_insert(value);
        }
    }
}
