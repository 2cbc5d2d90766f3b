//! What an error of SQLite means.

use std::time::Duration;

use rusqlite::ErrorCode;

use crate::error::Retry;
use crate::store::StoreError;

/// Whether another process is using the file just now.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// What a failure of SQLite means for the caller.
pub(super) fn failure(error: rusqlite::Error) -> StoreError {
    let detail = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { waited: Duration::ZERO },
        Some(ErrorCode::DiskFull) => StoreError::Full { detail },
        Some(ErrorCode::ReadOnly) => StoreError::ReadOnly { detail },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Damaged { name: "the database".to_owned(), detail }
        }
        // A write or a sync that failed may have reached the disk or not.
        Some(ErrorCode::SystemIoFailure) => StoreError::Failed { detail, retry: Retry::OutcomeUnknown },
        _ => StoreError::Failed { detail, retry: Retry::Never },
    }
}

/// What is found to be unreadable in a file that SQLite itself can read.
pub(super) fn damaged(what: &str, detail: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged { name: "the database".to_owned(), detail: format!("{what} cannot be read: {detail}") }
}
