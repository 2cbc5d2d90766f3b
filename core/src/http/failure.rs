//! Failures: what a client is told where no decision could be made.
//!
//! Whatever an error says is the operator's: a client learns whether to come back, and what it did wrong
//! itself.

use jiff::Timestamp;
use serde::Serialize;

use super::{Answer, Denied, Mapping, phrase};
use crate::decision::{Decision, Denial, Reason};
use crate::error::Error;

/// How soon a token may be given again that could not be verified, in seconds.
const VERIFY_RETRY_AFTER_S: &str = "5";

#[derive(Serialize)]
struct FailureDocument<'f> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'static str>,
    status: u16,
    detail: &'f str,
}

impl Mapping {
    /// What to tell the client where an error kept the engine from deciding at `now`. It is never to be let
    /// pass.
    ///
    /// | error | status |
    /// | --- | --- |
    /// | the store or the verifier could not answer | that of `store_unavailable`: 503 |
    /// | an idempotency key was used for something else | 422 |
    /// | an idempotency key or a subject that no request can have | 400 |
    /// | anything else: a mistake of the backend's | 500 |
    ///
    /// The body of a 500 says nothing of the error, so log it.
    ///
    /// ```
    /// use quotum::{Error, Timestamp, http::Mapping};
    ///
    /// let denied = Mapping::new().answer_error(&Error::NoPlans, Timestamp::now()).denied;
    /// assert_eq!(denied.map(|denied| denied.status), Some(500));
    /// ```
    pub fn answer_error(&self, error: &Error, now: Timestamp) -> Answer {
        match error {
            Error::Store(error) => self.answer(&Decision::deny(None, Denial::unanswered(error)), now),
            Error::Verify(_) => {
                let status = self.status_of(Reason::StoreUnavailable);
                let fields = vec![("retry-after", VERIFY_RETRY_AFTER_S.to_owned())];
                Answer { fields, denied: Some(failure(status, "the token cannot be verified at the moment")) }
            }
            Error::Conflict { .. } => told(422, "the idempotency key was used before for another request"),
            // Both are often taken from a header.
            Error::InvalidArgument { argument: "idempotency_key" | "subject", .. } => told(400, &error.to_string()),
            _ => told(500, "the request cannot be decided"),
        }
    }
}

fn told(status: u16, detail: &str) -> Answer {
    Answer { fields: Vec::new(), denied: Some(failure(status, detail)) }
}

fn failure(status: u16, detail: &str) -> Denied {
    let document = FailureDocument { kind: "about:blank", title: phrase(status), status, detail };
    let body = serde_json::to_string(&document).unwrap_or_else(|_| "{}".to_owned());
    Denied { status, content_type: "application/problem+json", body }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Retry;
    use crate::store::StoreError;
    use crate::token::VerifyError;

    fn answer(error: Error) -> (Answer, u16, String) {
        let answer = Mapping::new().answer_error(&error, Timestamp::UNIX_EPOCH);
        let denied = answer.denied.clone().unwrap();
        (answer, denied.status, denied.body)
    }

    #[test]
    fn a_store_and_a_verifier_that_fail_are_worth_another_try_and_are_not_named() {
        let store = StoreError::Failed { detail: "db-7.internal refused".to_owned(), retry: Retry::Safe };
        for error in [Error::Store(store), Error::Verify(VerifyError::unavailable("db-7.internal refused"))] {
            let (answer, status, body) = answer(error);
            assert_eq!((status, answer.field("retry-after")), (503, Some("5")));
            assert!(!body.contains("internal"), "{body}");
        }
    }

    #[test]
    fn a_mistake_of_the_backend_tells_the_client_nothing() {
        let unknown = Error::unknown(crate::Kind::Metric, "serches", ["searches"]);
        for error in [unknown, Error::NoPlans, Error::argument("cost", 0, "from 1 to 9 units")] {
            let (answer, status, body) = answer(error);
            assert_eq!((status, answer.fields.len()), (500, 0));
            let expected = "{\"type\":\"about:blank\",\"title\":\"Internal Server Error\",\"status\":500,\
                            \"detail\":\"the request cannot be decided\"}";
            assert_eq!(body, expected);
        }
    }

    #[test]
    fn a_client_is_told_of_its_own_mistakes() {
        let (_, status, body) = answer(Error::Conflict { key: "order-7".to_owned() });
        assert_eq!(status, 422);
        assert!(!body.contains("order-7"), "{body}");
        for argument in ["idempotency_key", "subject"] {
            let (_, status, body) = answer(Error::argument(argument, "300 bytes", "1 to 256 bytes"));
            assert_eq!(status, 400);
            assert!(body.contains("1 to 256 bytes"), "{body}");
        }
    }
}
