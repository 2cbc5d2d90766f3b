//! The schema of the file, and whether a file may be used at all.
//!
//! A file that is damaged, foreign or newer than this library is refused as it is: nothing in it is
//! changed, and nothing is ever recreated in its place.

use std::path::Path;

use rusqlite::Connection;

use super::failure::failure;
use super::session::Patience;
use crate::store::StoreError;

/// "Quot", in the header of the file ([`application_id`]).
///
/// [`application_id`]: https://www.sqlite.org/pragma.html#pragma_application_id
const APPLICATION_ID: i64 = 0x5175_6f74;

/// What turns version `i` of the schema into version `i + 1`. Never edited once released.
const MIGRATIONS: [&str; 2] = [
    "
    CREATE TABLE plans (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        version INTEGER NOT NULL,
        document TEXT NOT NULL
    ) STRICT;

    CREATE TABLE subscription (
        subject TEXT NOT NULL PRIMARY KEY,
        plan TEXT NOT NULL,
        status TEXT NOT NULL,
        since_ms INTEGER NOT NULL,
        trial_ends_ms INTEGER,
        expires_ms INTEGER,
        anchor_ms INTEGER,
        zone TEXT,
        overrides TEXT
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE counter (
        subject TEXT NOT NULL,
        metric TEXT NOT NULL,
        period TEXT NOT NULL,
        start_s INTEGER NOT NULL,
        used INTEGER NOT NULL CHECK (used BETWEEN 0 AND 9007199254740991),
        PRIMARY KEY (subject, metric, period, start_s)
    ) STRICT, WITHOUT ROWID;
",
    "
    ALTER TABLE counter ADD COLUMN held INTEGER NOT NULL DEFAULT 0 CHECK (held BETWEEN 0 AND 9007199254740991);
    ALTER TABLE counter ADD COLUMN leased INTEGER NOT NULL DEFAULT 0 CHECK (leased BETWEEN 0 AND 9007199254740991);
    ALTER TABLE counter ADD COLUMN leases INTEGER NOT NULL DEFAULT 0 CHECK (leases BETWEEN 0 AND 4294967295);
    ALTER TABLE counter ADD COLUMN bonus INTEGER NOT NULL DEFAULT 0 CHECK (bonus BETWEEN 0 AND 9007199254740991);
    ALTER TABLE counter ADD COLUMN overage INTEGER NOT NULL DEFAULT 0 CHECK (overage BETWEEN 0 AND 9007199254740991);
    ALTER TABLE counter ADD COLUMN told INTEGER NOT NULL DEFAULT 0 CHECK (told BETWEEN 0 AND 100);
    CREATE INDEX counter_by_age ON counter (period, start_s)
        WHERE period IN ('minute', 'hour', 'day', 'billing_day');

    ALTER TABLE subscription ADD COLUMN account TEXT;
    CREATE INDEX subscription_by_account ON subscription (account) WHERE account IS NOT NULL;

    CREATE TABLE step (
        subject TEXT NOT NULL,
        key TEXT NOT NULL,
        arguments BLOB NOT NULL,
        at_ms INTEGER NOT NULL,
        made TEXT NOT NULL,
        hold BLOB,
        kept_until_ms INTEGER NOT NULL,
        PRIMARY KEY (subject, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX step_by_end ON step (kept_until_ms);

    CREATE TABLE hold (
        id BLOB NOT NULL PRIMARY KEY,
        is_lease INTEGER NOT NULL,
        amount INTEGER,
        at_ms INTEGER NOT NULL,
        made TEXT NOT NULL,
        expires_ms INTEGER NOT NULL,
        expired INTEGER NOT NULL DEFAULT 0,
        receipt TEXT,
        has_charged INTEGER NOT NULL DEFAULT 0,
        kept_until_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX hold_by_end ON hold (kept_until_ms);

    CREATE TABLE hold_part (
        hold BLOB NOT NULL,
        is_lease INTEGER NOT NULL,
        subject TEXT NOT NULL,
        metric TEXT NOT NULL,
        period TEXT NOT NULL,
        start_s INTEGER NOT NULL,
        amount INTEGER NOT NULL CHECK (amount BETWEEN 0 AND 9007199254740991),
        units INTEGER,
        expires_ms INTEGER NOT NULL,
        PRIMARY KEY (hold, subject, metric, period, start_s)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX hold_part_by_counter ON hold_part (subject, metric, period, start_s, expires_ms);

    CREATE TABLE rate (
        name BLOB NOT NULL PRIMARY KEY,
        at_ms INTEGER NOT NULL,
        debts TEXT NOT NULL,
        over_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX rate_by_end ON rate (over_ms);

    CREATE TABLE identity (
        token BLOB NOT NULL PRIMARY KEY,
        subject TEXT NOT NULL,
        identity TEXT NOT NULL,
        kept_until_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX identity_by_subject ON identity (subject);
    CREATE INDEX identity_by_end ON identity (kept_until_ms);

    CREATE TABLE event (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        at_ms INTEGER NOT NULL,
        name TEXT NOT NULL,
        subject TEXT,
        is_change INTEGER NOT NULL,
        event TEXT NOT NULL
    ) STRICT;
    CREATE INDEX event_by_subject ON event (subject, sequence) WHERE subject IS NOT NULL;
    CREATE INDEX event_that_changed ON event (sequence) WHERE is_change;
    CREATE INDEX event_by_age ON event (at_ms) WHERE NOT is_change;
",
];

/// The newest schema that this library knows.
const NEWEST: i64 = MIGRATIONS.len() as i64;

/// The smallest page of a database, in bytes; every page's size is a multiple of it.
const PAGE_BYTES_MIN: u64 = 512;

/// Refuses a file that was cut off in the middle of a page, which SQLite would fill up with zeros, and
/// one that is not there although its log is: it would be taken for new, and the log thrown away.
pub(super) fn check_length(path: &Path) -> Result<(), StoreError> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    if length(Path::new(&log)) > 0 && length(path) == 0 {
        return Err(damaged(path, "the file is missing or empty, but its write-ahead log is not"));
    }
    if !length(path).is_multiple_of(PAGE_BYTES_MIN) {
        return Err(damaged(path, &format!("its {} bytes end in the middle of a page", length(path))));
    }
    Ok(())
}

/// Refuses a file that may not be written, which SQLite would open all the same, to refuse every write to it.
pub(super) fn check_writable(connection: &Connection) -> Result<(), StoreError> {
    match connection.is_readonly(rusqlite::MAIN_DB).map_err(failure)? {
        true => Err(StoreError::ReadOnly { detail: "the file may not be written".to_owned() }),
        false => Ok(()),
    }
}

/// Refuses a file that is not ours. Reads only.
pub(super) fn check_ours(connection: &Connection, path: &Path, patience: &mut Patience) -> Result<(), StoreError> {
    let header = || {
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
        Ok((pragma(connection, "application_id")?, pragma(connection, "user_version")?, tables))
    };
    let (application_id, found, tables) = patience.until_free(header)?;
    let unused = application_id == 0 && found == 0 && tables == 0;
    if application_id != APPLICATION_ID && !unused {
        return Err(StoreError::Foreign { name: path.display().to_string() });
    }
    if !(0..=NEWEST).contains(&found) {
        return Err(StoreError::NewerSchema { name: path.display().to_string(), found, known: NEWEST });
    }
    Ok(())
}

/// Brings the schema up to date. Of several processes that do so at once, one does.
pub(super) fn migrate(connection: &mut Connection, patience: &mut Patience) -> Result<(), StoreError> {
    patience.until_free(|| {
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let found = pragma(&transaction, "user_version")?;
        let missing = MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(usize::MAX));
        for migration in missing.clone() {
            transaction.execute_batch(migration)?;
        }
        if missing.len() > 0 {
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", NEWEST)?;
        }
        transaction.commit()
    })
}

/// Refuses a file with damage inside, by [`quick_check`].
///
/// [`quick_check`]: https://www.sqlite.org/pragma.html#pragma_quick_check
pub(super) fn check_whole(connection: &Connection, path: &Path, patience: &mut Patience) -> Result<(), StoreError> {
    let check = || connection.query_row("PRAGMA quick_check(1)", (), |row| row.get::<_, String>(0));
    let found = patience.until_free(check)?;
    if found == "ok" { Ok(()) } else { Err(damaged(path, &found)) }
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

fn damaged(path: &Path, detail: &str) -> StoreError {
    StoreError::Damaged { name: path.display().to_string(), detail: detail.to_owned() }
}

/// The same error, with the file's name.
pub(super) fn name_file(error: StoreError, path: &Path) -> StoreError {
    match error {
        StoreError::Damaged { detail, .. } => damaged(path, &detail),
        StoreError::ReadOnly { detail } => StoreError::ReadOnly { detail: format!("{}: {detail}", path.display()) },
        error => error,
    }
}
