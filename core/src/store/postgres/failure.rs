//! What an error of the server, or of the way to it, means.

use std::error::Error as _;
use std::time::Duration;

use deadpool_postgres::{PoolError, TimeoutType};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::error::Retry;
use crate::store::StoreError;
use crate::store::effect::Effect;

/// What `quotum.take_turn` raises.
const PAST_ITS_TURN: &str = "QT001";

/// What `quotum.decided_before` raises.
const ANOTHERS_TURN: &str = "QT002";

/// Whether the statement was undone for the sake of another, and is simply to be made again.
pub(super) fn is_to_be_repeated(error: &Error) -> bool {
    matches!(error.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED))
}

/// Whether a statement was undone because a step of the same turn, or of a later one on its seat, was made before.
pub(super) fn is_past_its_turn(error: &Error) -> bool {
    error.code().is_some_and(|code| code.code() == PAST_ITS_TURN)
}

/// Whether a statement that came again has found another step than its own in its place.
pub(super) fn is_anothers_turn(error: &Error) -> bool {
    error.code().is_some_and(|code| code.code() == ANOTHERS_TURN)
}

/// Whether a connection has lost what was prepared on it, so that nothing was done.
pub(super) fn is_unprepared(error: &Error) -> bool {
    // The second is of a statement whose result has another type than when it was prepared.
    matches!(error.code(), Some(&SqlState::INVALID_SQL_STATEMENT_NAME | &SqlState::FEATURE_NOT_SUPPORTED))
}

/// Whether nobody knows if a statement that was sent was made: the connection was lost, a session was ended, maybe
/// after its transaction was committed and before that was told, or a pooler has lost the server.
pub(super) fn is_lost(error: &Error) -> bool {
    let Some(told) = error.as_db_error() else {
        return error.is_closed() || error.source().is_some_and(|cause| cause.is::<std::io::Error>());
    };
    match *told.code() {
        SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN => true,
        // PgBouncer's word for whatever happened to it. The server's, where it goes on, is that a statement was wrong.
        SqlState::PROTOCOL_VIOLATION => told.severity() == "FATAL",
        _ => false,
    }
}

/// What the failure of a statement that was sent means for the caller.
pub(super) fn failure(error: &Error, effect: Effect) -> StoreError {
    let detail = text(error);
    let Some(code) = error.code().filter(|_| !is_lost(error)) else {
        return StoreError::Failed { detail, retry: effect.retry_if_lost() };
    };
    match *code {
        SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED | SqlState::LOCK_NOT_AVAILABLE => {
            StoreError::Busy { waited: Duration::ZERO }
        }
        SqlState::DISK_FULL => StoreError::Full { detail },
        SqlState::READ_ONLY_SQL_TRANSACTION | SqlState::INSUFFICIENT_PRIVILEGE => StoreError::ReadOnly { detail },
        SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => {
            StoreError::Damaged { name: "the database".to_owned(), detail }
        }
        SqlState::IO_ERROR => StoreError::Failed { detail, retry: effect.retry_if_lost() },
        SqlState::QUERY_CANCELED
        | SqlState::CANNOT_CONNECT_NOW
        | SqlState::TOO_MANY_CONNECTIONS
        | SqlState::OUT_OF_MEMORY => StoreError::Failed { detail, retry: Retry::Safe },
        _ => StoreError::Failed { detail, retry: Retry::Never },
    }
}

/// What it means that there was no connection: nothing was sent.
pub(super) fn unconnected(error: &PoolError, waited: Duration) -> StoreError {
    let detail = match error {
        PoolError::Timeout(TimeoutType::Wait) => return StoreError::Busy { waited },
        PoolError::Timeout(_) => format!("the server did not answer within {} ms", waited.as_millis()),
        PoolError::Backend(error) => text(error),
        error => error.to_string(),
    };
    StoreError::Failed { detail: format!("no connection: {detail}"), retry: Retry::Safe }
}

/// What it means that a statement was not answered in time.
pub(super) const fn unanswered(after: Duration, effect: Effect) -> StoreError {
    StoreError::TimedOut { after, retry: effect.retry_if_lost() }
}

/// What is found to be unreadable in a row.
pub(super) fn damaged(what: &str, detail: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged { name: "the database".to_owned(), detail: format!("{what} cannot be read: {detail}") }
}

/// The error with its causes, which alone say what has happened.
pub(super) fn text(error: &Error) -> String {
    if let Some(told) = error.as_db_error() {
        return format!("{} ({})", told.message(), told.code().code());
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
