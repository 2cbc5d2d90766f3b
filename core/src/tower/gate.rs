//! The gate: asks the engine for one request, and says what its answer means for it.

use ::http::request::Parts;

use super::reserved::Reserved;
use crate::error::{Error, Retry};
use crate::http::{Answer, Mapping};
use crate::owned_request::OwnedRequest;
use crate::quota::Quota;

/// What all requests of a service share.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) quota: Quota,
    pub(super) mapping: Mapping,
}

impl Gate {
    /// The fields to be sent with the response, or the whole response in place of it. What the handler is to
    /// know of the decision is put among the extensions.
    pub(super) async fn admit(&self, asked: &OwnedRequest, parts: &mut Parts) -> Answer {
        match asked.admit(&self.quota).await {
            Ok((decision, reservation)) => {
                let answer = self.mapping.answer(&decision, self.quota.now());
                parts.extensions.insert(decision);
                if let Some(reservation) = reservation {
                    parts.extensions.insert(Reserved::new(reservation));
                }
                answer
            }
            Err(error) => {
                self.tell(&error);
                self.mapping.answer_error(&error, self.quota.now())
            }
        }
    }

    /// Mistakes are for the operator to mend; the others may be a client's doing, or pass.
    fn tell(&self, error: &Error) {
        match error {
            Error::Conflict { .. } | Error::InvalidArgument { argument: "idempotency_key" | "subject", .. } => {
                tracing::debug!(target: "quotum", %error, "a request was refused");
            }
            _ if error.retry() == Retry::Never => {
                tracing::error!(target: "quotum", %error, "a request could not be decided");
            }
            _ => tracing::warn!(target: "quotum", %error, "a request could not be decided"),
        }
    }
}
