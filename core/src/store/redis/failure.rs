//! What an error of the server, or of the way to it, means.

use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::Retry;
use crate::store::StoreError;
use crate::store::effect::Effect;

/// Whether the server has refused before it began, so that the same step may be made again as it is, after a while.
pub(super) fn is_not_begun(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, BusyLoading, ClusterDown, MasterDown, Moved, TryAgain};
    matches!(
        error.kind(),
        ErrorKind::Server(Ask | BusyLoading | ClusterDown | MasterDown | Moved | TryAgain)
            | ErrorKind::ClusterConnectionNotFound
    )
}

/// Whether the server does not know the script, which is then sent whole.
pub(super) fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Whether nothing was made because somebody else has taken the step's turn.
pub(super) fn is_taken(error: &RedisError) -> bool {
    error.code() == Some("TAKEN")
}

/// Whether the server was a primary and is not any more.
pub(super) fn is_replica(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) || error.code() == Some("READONLY")
}

/// Whether nobody knows if the server had the step before the connection was lost.
pub(super) fn is_lost(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse)
}

/// What the failure of a step that was sent means for the caller.
pub(super) fn failure(error: &RedisError, effect: Effect) -> StoreError {
    let detail = text(error);
    if is_replica(error) {
        let detail =
            format!("this server is a replica and takes no changes, as after a failover: ask again ({detail})");
        return StoreError::Failed { detail, retry: Retry::Safe };
    }
    if is_not_begun(error) {
        return StoreError::Failed { detail, retry: Retry::Safe };
    }
    if is_lost(error) {
        return StoreError::Failed { detail, retry: effect.retry_if_lost() };
    }
    match error.code() {
        Some("OOM") => {
            let detail = format!("the server's memory is full: raise its maxmemory ({detail})");
            StoreError::Failed { detail, retry: Retry::Safe }
        }
        Some("MISCONF" | "NOREPLICAS" | "BUSY" | "LOADING") => StoreError::Failed { detail, retry: Retry::Safe },
        Some("WRONGTYPE") => StoreError::Foreign { name: "a key of the prefix".to_owned() },
        _ => StoreError::Failed { detail, retry: Retry::Never },
    }
}

/// What it means that there was no connection: nothing was sent.
pub(super) fn unconnected(error: &RedisError) -> StoreError {
    StoreError::Failed { detail: format!("no connection: {}", text(error)), retry: Retry::Safe }
}

/// What it means that no connection was made in time.
pub(super) fn unreached(after: Duration) -> StoreError {
    let detail = format!("no connection: the server did not answer within {} ms", after.as_millis());
    StoreError::Failed { detail, retry: Retry::Safe }
}

/// What it means that a step was not answered in time.
pub(super) const fn unanswered(after: Duration, effect: Effect) -> StoreError {
    StoreError::TimedOut { after, retry: effect.retry_if_lost() }
}

/// What is found to be unreadable in an answer.
pub(super) fn damaged(what: &str, detail: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged { name: "the store".to_owned(), detail: format!("{what} cannot be read: {detail}") }
}

/// A step that one script cannot make.
pub(super) fn several_accounts(first: &str, other: &str) -> StoreError {
    let detail = format!(
        "one step is on the counters of one account, this is on those of {first:?} and of {other:?}: make one for each"
    );
    StoreError::Failed { detail, retry: Retry::Never }
}

pub(super) fn text(error: &RedisError) -> String {
    let text = error.to_string();
    match error.code() {
        Some(code) if !text.contains(code) => format!("{text} ({code})"),
        _ => text,
    }
}
