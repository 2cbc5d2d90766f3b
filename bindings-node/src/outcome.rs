//! Outcomes: what the package is told, as JSON: `{"value": …}`, or `{"error": …}` with what a program needs of it.

use quotum::store::StoreError;
use quotum::token::VerifyError;
use quotum::{Error, Retry};
use serde::{Deserialize, Serialize};

/// A text of JSON.
pub(crate) struct Outcome(String);

impl From<Outcome> for String {
    fn from(Outcome(text): Outcome) -> Self {
        text
    }
}

impl Outcome {
    pub(crate) fn value(value: &impl Serialize) -> Self {
        #[derive(Serialize)]
        struct Told<'v, T> {
            value: &'v T,
        }
        match serde_json::to_string(&Told { value }) {
            Ok(text) => Self(text),
            Err(error) => Self::failure(&Failure::new("internal", error.to_string())),
        }
    }

    pub(crate) fn of<T: Serialize>(result: Result<T, Error>) -> Self {
        match result {
            Ok(value) => Self::value(&value),
            Err(error) => Self::error(&error),
        }
    }

    pub(crate) fn error(error: &Error) -> Self {
        Self::failure(&Failure::from(error))
    }

    pub(crate) fn failure(failure: &Failure) -> Self {
        #[derive(Serialize)]
        struct Told<'f> {
            error: &'f Failure,
        }
        Self(serde_json::to_string(&Told { error: failure }).unwrap_or_default())
    }
}

/// What is told where the core has panicked: a defect of its own.
pub(crate) fn panicked() -> Outcome {
    Outcome::failure(&Failure::new("internal", "quotum has failed by a mistake of its own".to_owned()))
}

/// What is told of an engine that was closed.
pub(crate) fn closed() -> Outcome {
    Outcome::failure(&Failure::new("closed", "this engine was closed: open another one".to_owned()))
}

/// What is told of arguments that are refused here.
pub(crate) fn refused(argument: &'static str, found: impl Into<String>, expected: impl Into<String>) -> Error {
    Error::InvalidArgument { argument, found: found.into(), expected: expected.into() }
}

/// An error, as the package has it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Failure {
    code: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    argument: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    known: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl Failure {
    pub(crate) fn new(code: &str, message: String) -> Self {
        Self { code: code.to_owned(), message, ..Self::default() }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let coded = |code: &str| Self::new(code, error.to_string());
        let retry = || Some(word(error.retry()).to_owned());
        match error {
            Error::InvalidArgument { argument, found, expected } => Self {
                argument: Some((*argument).to_owned()),
                found: Some(found.clone()),
                expected: Some(expected.clone()),
                ..coded("invalid_argument")
            },
            Error::Unknown { kind, name, known } => Self {
                kind: Some(kind.to_string()),
                name: Some(name.clone()),
                known: Some(known.clone()),
                ..coded("unknown_name")
            },
            Error::Plans(_) => coded("plans_refused"),
            Error::NoPlans => coded("no_plans"),
            Error::Conflict { key } => Self { name: Some(key.clone()), ..coded("conflict") },
            Error::HoldExpired { .. } => coded("hold_expired"),
            Error::HoldUnknown { .. } => coded("hold_unknown"),
            Error::Store(failed) => {
                let retry_after_ms = match failed {
                    StoreError::Unavailable { retry_after, .. } => u64::try_from(retry_after.as_millis()).ok(),
                    _ => None,
                };
                Self { retry: retry(), retry_after_ms, ..coded("store_failed") }
            }
            Error::Verify(_) => Self { retry: retry(), ..coded("verify_failed") },
            _ => coded("internal"),
        }
    }
}

impl Failure {
    /// The error that it was in the core, as far as it matters to a client, who is told little of it.
    pub(crate) fn into_error(self) -> Error {
        let Self { code, message: detail, .. } = self;
        match code.as_str() {
            "closed" | "store_failed" => {
                let retry_after = self.retry_after_ms.map(std::time::Duration::from_millis);
                match retry_after {
                    Some(retry_after) => StoreError::Unavailable { cause: detail, retry_after }.into(),
                    None => StoreError::Failed { detail, retry: Retry::Safe }.into(),
                }
            }
            "verify_failed" => VerifyError::unavailable(detail).into(),
            "conflict" => Error::Conflict { key: self.name.unwrap_or_default() },
            "no_plans" => Error::NoPlans,
            _ => Error::InvalidArgument {
                argument: match self.argument.as_deref() {
                    Some("subject") => "subject",
                    Some("idempotency_key" | "idempotencyKey") => "idempotency_key",
                    _ => "call",
                },
                found: self.found.unwrap_or(detail),
                expected: self.expected.unwrap_or_default(),
            },
        }
    }
}

const fn word(retry: Retry) -> &'static str {
    match retry {
        Retry::Never => "never",
        Retry::Safe => "safe",
        Retry::OutcomeUnknown => "outcome_unknown",
    }
}
