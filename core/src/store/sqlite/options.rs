//! How an SQLite store is opened.

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::SqliteStore;
use super::failure::failure;
use super::schema;
use super::session::{Access, Patience, Session};
use crate::error::Error;
use crate::store::StoreError;

/// How many prepared statements a connection keeps: more than this store has.
pub(super) const STATEMENTS_MAX: usize = 64;

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When it is on the disk (`synchronous=FULL`): what was acknowledged survives a power failure.
    #[default]
    Full,
    /// When the operating system has it (`synchronous=NORMAL`): what was acknowledged survives a
    /// crash of the process. A power failure may lose the last moments, but never the file.
    Normal,
}

/// How to open an SQLite store.
///
/// ```no_run
/// use std::time::Duration;
/// use quotum::store::{Durability, SqliteOptions};
///
/// let store = SqliteOptions::at("quota.db")
///     .durability(Durability::Normal)
///     .busy_timeout(Duration::from_secs(2))
///     .open()?;
/// # Ok::<(), quotum::store::StoreError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "options do nothing until they open a store"]
pub struct SqliteOptions {
    path: PathBuf,
    durability: Durability,
    busy_timeout: Duration,
    check_on_open: bool,
}

impl SqliteOptions {
    /// The store in the file at `path`, which is made where there is none.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            durability: Durability::Full,
            busy_timeout: Duration::from_secs(5),
            check_on_open: true,
        }
    }

    /// Reads a URL such as `sqlite:quota.db?synchronous=normal&busy_timeout_ms=2000`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a URL without a path or with a setting that is not known.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        let refuse = || {
            Error::argument(
                "url",
                format!("{url:?}"),
                "`sqlite:` and the path of a file, with ?synchronous=full or normal and &busy_timeout_ms= if wanted",
            )
        };
        let rest = url.strip_prefix("sqlite:").ok_or_else(refuse)?;
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (path, settings) = rest.split_once('?').unwrap_or((rest, ""));
        if path.is_empty() || path.starts_with(':') {
            return Err(refuse());
        }
        let mut options = Self::at(path);
        for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
            options = match setting.split_once('=').ok_or_else(refuse)? {
                ("synchronous", "full") => options.durability(Durability::Full),
                ("synchronous", "normal") => options.durability(Durability::Normal),
                ("busy_timeout_ms", value) => {
                    options.busy_timeout(Duration::from_millis(value.parse().map_err(|_| refuse())?))
                }
                _ => return Err(refuse()),
            };
        }
        Ok(options)
    }

    /// When a write counts as done; [`Durability::Full`] by default.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How long to wait for a file that other processes keep busy; 5 seconds by default. A caller that
    /// comes while another waits may wait for that one's time and its own.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// Whether to read the whole file for damage before it is used, which takes about a second for a
    /// gigabyte; true by default.
    pub fn check_on_open(mut self, check: bool) -> Self {
        self.check_on_open = check;
        self
    }

    /// Opens the store.
    ///
    /// # Errors
    ///
    /// [`StoreError::CannotOpen`] for a path that cannot be opened; [`StoreError::Damaged`],
    /// [`StoreError::Foreign`] or [`StoreError::NewerSchema`] for a file that must not be used, which
    /// is left as it is; [`StoreError::ReadOnly`] for one that may not be written; [`StoreError::Busy`] where
    /// other processes keep it busy.
    pub fn open(&self) -> Result<SqliteStore, StoreError> {
        let writer = self.open_session()?;
        let reader = self.open_reading()?.sharing(&writer.stopped());
        Ok(SqliteStore::new(self.for_children(), writer, reader))
    }

    /// How a child process opens the file, wherever it goes: its parent has read it for damage.
    fn for_children(&self) -> Self {
        let path = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        Self { path, check_on_open: false, ..self.clone() }
    }

    /// Opens the session that reads the file, which is one of ours.
    pub(super) fn open_reading(&self) -> Result<Session, StoreError> {
        let reader = self.connect()?;
        // The longest that SQLite can wait: 24 days.
        let longest = Duration::from_millis(i32::MAX.unsigned_abs().into());
        reader.busy_timeout(self.busy_timeout.min(longest)).map_err(failure)?;
        reader.pragma_update(None, "query_only", true).map_err(failure)?;
        Ok(Session::new(reader, Access::Read, Patience::new(self.busy_timeout)))
    }

    /// Opens, checks and migrates the file, and returns the session that writes to it.
    pub(super) fn open_session(&self) -> Result<Session, StoreError> {
        self.open_writer().map_err(|error| schema::name_file(error, &self.path))
    }

    fn open_writer(&self) -> Result<Session, StoreError> {
        let mut patience = Patience::new(self.busy_timeout);
        schema::check_length(&self.path)?;
        let mut connection = self.connect()?;
        schema::check_writable(&connection)?;
        schema::check_ours(&connection, &self.path, &mut patience)?;
        patience.until_free(|| self.use_log(&connection))?;
        schema::migrate(&mut connection, &mut patience)?;
        if self.check_on_open {
            schema::check_whole(&connection, &self.path, &mut patience)?;
        }
        let synchronous = match self.durability {
            Durability::Full => "FULL",
            Durability::Normal => "NORMAL",
        };
        patience.until_free(|| connection.pragma_update(None, "synchronous", synchronous))?;
        // Where a plain sync does not reach the disk (macOS), the one that does.
        let full = self.durability == Durability::Full;
        patience.until_free(|| connection.pragma_update(None, "fullfsync", full))?;
        Ok(Session::new(connection, Access::Write, patience))
    }

    fn connect(&self) -> Result<Connection, StoreError> {
        let cannot = |detail: String| StoreError::CannotOpen { name: self.path.display().to_string(), detail };
        if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
            return Err(cannot(format!("there is no folder {}, make it first", folder.display())));
        }
        if self.path.is_dir() {
            return Err(cannot("it is a folder, name a file in it".to_owned()));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(|error| cannot(error.to_string()))?;
        #[cfg(all(test, feature = "conformance"))]
        let connection = super::statements::noting(connection);
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        connection
            .execute_batch("PRAGMA busy_timeout = 0; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON")
            .map_err(failure)?;
        Ok(connection)
    }

    /// Switches the file to a write-ahead log, which it stays on.
    fn use_log(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if mode == "wal" {
            return Ok(());
        }
        Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
            Some(format!(
                "{} cannot have a write-ahead log (it has {mode}): put it on a local disk",
                self.path.display()
            )),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Wait;
    use crate::store::sqlite::batch::Batch;
    use crate::store::sqlite::lane::Lane;

    /// A setting that is a number, as the lane's own connection has it.
    fn setting(lane: &Lane, name: &'static str) -> i64 {
        let read = move |connection: &Connection| connection.pragma_query_value(None, name, |row| row.get(0));
        pollster::block_on(lane.run(Wait::Block, move |batch| read(batch.connection).map_err(failure))).unwrap()
    }

    /// `FULL` is 2 and `NORMAL` 1: without the first, what was acknowledged may be lost when the power fails.
    #[test]
    fn writes_are_as_durable_as_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("quota.db");
        let url = |settings: &str| SqliteOptions::from_url(&format!("sqlite:{}{settings}", file.display())).unwrap();
        let options = [
            (SqliteOptions::at(&file), 2),
            (url(""), 2),
            (url("?synchronous=full"), 2),
            (SqliteOptions::at(&file).durability(Durability::Full), 2),
            (SqliteOptions::at(&file).durability(Durability::Normal), 1),
            (url("?synchronous=normal"), 1),
        ];
        for (options, synchronous) in options {
            let store = options.open().unwrap();
            let store = store.lanes.here().unwrap();
            assert_eq!(setting(&store.writer, "synchronous"), synchronous, "{options:?}");
            assert_eq!(setting(&store.writer, "fullfsync"), i64::from(synchronous == 2), "{options:?}");
        }
    }

    #[test]
    fn the_file_has_a_log_and_is_read_by_a_connection_that_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteOptions::at(folder.path().join("quota.db")).open().unwrap();
        let mode = |batch: &mut Batch<'_>| {
            batch.connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).map_err(failure)
        };
        let store = store.lanes.here().unwrap();
        for (lane, query_only) in [(&store.writer, 0), (&store.reader, 1)] {
            assert_eq!(pollster::block_on(lane.run(Wait::Block, mode)), Ok("wal".to_owned()));
            assert_eq!(setting(lane, "query_only"), query_only);
            assert_eq!(setting(lane, "trusted_schema"), 0);
            assert_eq!(setting(lane, "cell_size_check"), 1);
        }
        let write = |batch: &mut Batch<'_>| batch.connection.execute_batch("DELETE FROM counter").map_err(failure);
        let refused = pollster::block_on(store.reader.run(Wait::Block, write));
        assert!(matches!(refused, Err(StoreError::ReadOnly { .. })), "{refused:?}");
    }
}
