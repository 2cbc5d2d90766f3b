//! A session: one connection and how it does a batch of work in one transaction.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::batch::{Batch, Job};
use super::failure::{failure, is_busy};
use crate::error::Retry;
use crate::store::StoreError;

/// How long to wait before asking for a busy file again, at the least and at the most.
const TURN_US_MIN: u64 = 20;
const TURN_US_MAX: u64 = 1000;

/// After how long a wait the time between two attempts has halved.
const EAGER_AFTER_US: u64 = 10000;

/// What a session's transactions do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

#[derive(Debug)]
pub(super) struct Session {
    connection: Connection,
    access: Access,
    patience: Patience,
    /// Why no more work is done, once there was damage or a failure that left its outcome unknown.
    /// Shared by the sessions of a store.
    stopped: Arc<OnceLock<String>>,
}

impl Session {
    pub(super) fn new(connection: Connection, access: Access, patience: Patience) -> Self {
        Self { connection, access, patience, stopped: Arc::default() }
    }

    /// The same, which stops when the other sessions of its store do.
    pub(super) fn sharing(self, stopped: &Arc<OnceLock<String>>) -> Self {
        Self { stopped: Arc::clone(stopped), ..self }
    }

    pub(super) fn stopped(&self) -> Arc<OnceLock<String>> {
        Arc::clone(&self.stopped)
    }

    /// Whether the connection may be closed by a child process that has inherited it: it is between transactions, and
    /// will leave the file's log alone.
    pub(super) fn let_go(&self) -> bool {
        let quietly = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        self.connection.is_autocommit() && quietly == Ok(true)
    }

    /// Whether no more work is done.
    pub(super) fn has_stopped(&self) -> bool {
        self.stopped.get().is_some()
    }

    /// Does all jobs in one transaction, or none of them.
    pub(super) fn run(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        if let Some(cause) = self.stopped.get() {
            return Err(StoreError::Stopped { cause: cause.clone() });
        }
        let outcome = self.transact(jobs).map_err(|error| match (self.access, error) {
            // What failed to be read changed nothing.
            (Access::Read, StoreError::Failed { detail, .. }) => StoreError::Failed { detail, retry: Retry::Safe },
            (_, error) => error,
        });
        if let Err(error @ (StoreError::Damaged { .. } | StoreError::Failed { retry: Retry::OutcomeUnknown, .. })) =
            &outcome
        {
            let _first = self.stopped.set(error.to_string());
        }
        outcome
    }

    fn transact(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        let connection = &self.connection;
        let begin = match self.access {
            Access::Read => "BEGIN",
            Access::Write => "BEGIN IMMEDIATE",
        };
        self.patience.until_free(|| execute(connection, begin))?;
        let undo = Undo { connection };
        let mut batch = Batch::new(connection);
        for job in jobs {
            job.run(&mut batch)?;
        }
        batch.write()?;
        execute(connection, "COMMIT").map_err(failure)?;
        drop(undo);
        Ok(())
    }
}

/// Undoes a transaction that is still open when it goes out of scope, by an error or a panic.
struct Undo<'c> {
    connection: &'c Connection,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if !self.connection.is_autocommit() {
            // Where this fails too, the next transaction cannot begin, and says why.
            let _failed = self.connection.execute_batch("ROLLBACK");
        }
    }
}

fn execute(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.execute(()).map(drop)
}

/// How long, and in what steps, to wait for a file that another process is writing.
///
/// SQLite's own handler asks less and less often the longer it waits, and so starves whoever has
/// waited most. Here it is the other way round: whoever has waited longest asks most often, and
/// whoever has just had a contended file lets the others ask first.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    timeout: Duration,
    random: u64,
    /// Whether the file was busy the last time.
    contended: bool,
}

impl Patience {
    pub(super) fn new(timeout: Duration) -> Self {
        use std::hash::{BuildHasher, RandomState};
        // Processes that wait for each other must not wait in step.
        Self { timeout, random: RandomState::new().hash_one(std::process::id()) | 1, contended: false }
    }

    /// Repeats `attempt` as long as the file is busy and patience lasts.
    pub(super) fn until_free<T>(&mut self, mut attempt: impl FnMut() -> rusqlite::Result<T>) -> Result<T, StoreError> {
        if std::mem::take(&mut self.contended) {
            let turn = self.turn(Duration::ZERO);
            std::thread::sleep(turn);
        }
        let mut since = None;
        loop {
            let error = match attempt() {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if !is_busy(&error) {
                return Err(failure(error));
            }
            self.contended = true;
            let waited = since.get_or_insert_with(Instant::now).elapsed();
            if waited >= self.timeout {
                return Err(StoreError::Busy { waited });
            }
            let turn = self.turn(waited);
            std::thread::sleep(turn);
        }
    }

    /// The length of the next wait, shorter the longer it has been, and random, by Marsaglia's xorshift
    /// ([*Xorshift RNGs*, 2003]).
    ///
    /// [*Xorshift RNGs*, 2003]: https://doi.org/10.18637/jss.v008.i14
    fn turn(&mut self, waited: Duration) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let waited_us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        let longest_us = (TURN_US_MAX / (1 + waited_us / EAGER_AFTER_US)).max(TURN_US_MIN);
        Duration::from_micros(TURN_US_MIN + self.random % longest_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::SqliteOptions;
    use crate::store::sqlite::lane::Lane;
    use crate::store::{Charge, CounterKey, Wait};
    use crate::{Limit, Period, Timestamp};

    fn session() -> (tempfile::TempDir, Session) {
        let folder = tempfile::tempdir().unwrap();
        let session = SqliteOptions::at(folder.path().join("quota.db")).open_session().unwrap();
        (folder, session)
    }

    fn charge(lane: &Lane, subject: &str) -> Result<(), StoreError> {
        let key = CounterKey::of(subject, "jobs", Period::Total, 0);
        let charges = [Charge { key, amount: 1, limit: Limit::Units(1) }];
        pollster::block_on(lane.run(Wait::Block, move |batch| batch.charge(Timestamp::UNIX_EPOCH, &charges, None)))
            .map(|charged| assert!(charged.granted()))
    }

    #[test]
    fn a_full_disk_denies_and_the_store_goes_on_when_there_is_room() {
        let (_folder, session) = session();
        let pages = |session: &Session, most: i64| {
            session.connection.query_row(&format!("PRAGMA max_page_count = {most}"), (), |row| row.get::<_, i64>(0))
        };
        pages(&session, 6).unwrap();
        let lane = Lane::new("test", session);
        let full = (0..10_000).find_map(|number| Some((number, charge(&lane, &number.to_string()).err()?)));
        let (number, error) = full.unwrap();
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
        assert_eq!(error.retry(), Retry::Safe);

        pollster::block_on(lane.run(Wait::Block, |batch| {
            batch.connection.execute_batch("ROLLBACK; PRAGMA max_page_count = 1000; BEGIN IMMEDIATE").map_err(failure)
        }))
        .unwrap();
        charge(&lane, &number.to_string()).unwrap();
    }

    #[test]
    fn on_a_full_disk_an_engine_denies_for_the_store_and_never_for_the_quota() {
        use crate::blocking::Quota;
        use crate::http::Mapping;
        use crate::{Plans, Reason};

        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteOptions::at(folder.path().join("quota.db")).open().unwrap());
        let pages = |most: i64| {
            let limit = format!("ROLLBACK; PRAGMA max_page_count = {most}; BEGIN IMMEDIATE");
            let set = store
                .lanes
                .here()
                .unwrap()
                .writer
                .run(Wait::Block, move |batch| batch.connection.execute_batch(&limit).map_err(failure));
            pollster::block_on(set).unwrap();
        };
        let plans = "default_plan = 'free'\n[plans.free]\nquotas = { jobs = '1/total' }";
        let quota = Quota::builder().plans(Plans::from_toml(plans).unwrap()).open_on(Arc::clone(&store) as _).unwrap();
        let subject = |number: u64| format!("subject-{number}");
        let consume = |number| quota.consume(&subject(number), &[("jobs", 1)]).unwrap();
        assert!(consume(0).allowed);
        pages(1);
        let (granted, decision) =
            (1..10_000).map(|number| (number, consume(number))).find(|(_, decision)| !decision.allowed).unwrap();
        let answer = Mapping::new().answer(&decision, Timestamp::UNIX_EPOCH);
        let denial = decision.denied.unwrap();
        assert_eq!(denial.reason, Reason::StoreUnavailable);
        assert!(denial.cause.as_ref().unwrap().starts_with("the disk is full: nothing was written"), "{denial:?}");
        assert_eq!(answer.denied.unwrap().status, 503);
        // What takes no room is answered still, also who has used all.
        assert_eq!(quota.usage(&subject(granted)).unwrap().quotas.first().unwrap().used, 0);
        assert_eq!(consume(0).denied.unwrap().reason, Reason::QuotaExhausted);
        pages(1_000);
        assert!(consume(granted).allowed, "it goes on when there is room");
        assert!(consume(granted + 1).allowed);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_called_read_only() {
        let (_folder, session) = session();
        session.connection.pragma_update(None, "query_only", true).unwrap();
        let error = charge(&Lane::new("test", session), "ana").unwrap_err();
        assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
        assert!(error.to_string().contains("correct the permissions"), "{error}");
    }

    #[test]
    fn the_longer_one_waits_the_more_often_one_asks() {
        let mut patience = Patience::new(Duration::from_secs(1));
        let mut longest =
            |waited_ms| (0..2_000).map(|_| patience.turn(Duration::from_millis(waited_ms))).max().unwrap_or_default();
        let (new, old, oldest) = (longest(0), longest(50), longest(3_000));
        assert!(new > old && old > oldest, "{new:?} {old:?} {oldest:?}");
        assert!(oldest <= Duration::from_micros(2 * TURN_US_MIN));
    }
}
