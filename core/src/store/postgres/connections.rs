//! Connections to the server, and how a statement is made on them until it is known what came of it.

use std::fmt;
use std::time::{Duration, Instant};

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Timeouts};
use jiff::Timestamp;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Config, Error, Row};

use super::counter;
use super::failure::{
    damaged, failure, is_anothers_turn, is_lost, is_past_its_turn, is_to_be_repeated, is_unprepared, unanswered,
    unconnected,
};
use super::statement::{Statement, TurnValues};
use super::tls::Encryption;
use crate::error::Retry;
use crate::store::combining::{Charges, IsWanted};
use crate::store::effect::Effect;
use crate::store::turns::{Turn, Turns};
use crate::store::{Charge, Charged, StoreError, StoreTime};

/// How long to wait before a step is sent again whose answer was lost, at the most. The first time is at once.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// How long it takes at the most until a connection that was given up is closed.
const CLOSED_WITHIN: Duration = Duration::from_millis(100);

/// After how many steps a seat is left. The server keeps every earlier state of its row for as long as somebody has a
/// transaction open that may look at it, such as a backup, and goes through all of them to find the last.
const STEPS_ON_A_SEAT: u32 = 1_000;

/// A pool of connections.
pub(super) struct Connections {
    pool: Pool,
    turns: Turns,
    encryption: Encryption,
    terms: Terms,
}

/// How the server is talked to.
#[derive(Clone)]
pub(super) struct Terms {
    /// The schema's name as SQL has it.
    pub(super) schema: String,
    pub(super) time: StoreTime,
    pub(super) connections_max: usize,
    pub(super) connect_timeout: Duration,
    pub(super) statement_timeout: Duration,
    /// Whether each connection keeps the statements that it has made, for the next time.
    pub(super) prepares: bool,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("schema", &self.terms.schema).field("pool", &self.pool.status()).finish()
    }
}

impl Connections {
    pub(super) fn new(config: Config, encryption: Encryption, terms: Terms) -> Result<Self, StoreError> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(config, encryption.clone(), recycling);
        let pool = Pool::builder(manager)
            .max_size(terms.connections_max)
            .timeouts(Timeouts {
                wait: Some(terms.statement_timeout),
                create: Some(terms.connect_timeout),
                recycle: Some(terms.connect_timeout),
            })
            .runtime(deadpool_postgres::Runtime::Tokio1)
            .build()
            .map_err(|error| StoreError::Failed { detail: error.to_string(), retry: Retry::Safe })?;
        Ok(Self { pool, turns: Turns::new(STEPS_ON_A_SEAT)?, encryption, terms })
    }

    /// Makes a statement, again and again until it is known what came of it: one that the server undid for the sake of
    /// another; and one whose answer was lost, where the server knows it when it comes again. Not when its time is over,
    /// which begins when it has a connection, nor when nobody wants to know.
    pub(super) async fn make(&self, statement: &Statement, is_wanted: &IsWanted<'_>) -> Result<Vec<Row>, StoreError> {
        let text = statement.text(&self.terms.schema, self.terms.time);
        let mut connection = Some(self.connection().await?);
        if !is_wanted() {
            return Err(unsent());
        }
        let mut time = Time::begin(self.terms.statement_timeout);
        let mut turn = (statement.effect == Effect::InTurn).then(|| self.turns.take()).transpose()?;
        // How it was lost, once it was. What comes after that says nothing of what came of it.
        let mut lost = None;
        loop {
            let attempt = match connection.take() {
                Some(connection) => self.attempt(connection, statement, &text, turn.as_ref(), &time).await,
                // What would be sent too late could not be waited for.
                None => match tokio::time::timeout(time.left(), self.connection()).await {
                    Ok(Ok(connection)) => self.attempt(connection, statement, &text, turn.as_ref(), &time).await,
                    Ok(Err(error)) => Err(Failed::Finally(error)),
                    Err(_) => Err(Failed::Finally(StoreError::Busy { waited: time.began.elapsed() })),
                },
            };
            let failed = match attempt {
                Ok(rows) => return Ok(rows),
                Err(Failed::Lost(error)) if statement.effect.may_come_again() => {
                    turn.iter_mut().for_each(|turn| turn.is_again = true);
                    lost = lost.or_else(|| statement.effect.is_in_doubt().then(|| error.clone()));
                    error
                }
                Err(Failed::Undone(error)) => error,
                Err(Failed::Taken) => match lost {
                    None => {
                        turn = turn.map(Turn::anew).transpose()?;
                        continue;
                    }
                    // Who has taken the turn meanwhile is all that the server knows.
                    Some(lost) => return Err(lost),
                },
                Err(Failed::Lost(error) | Failed::Finally(error)) if lost.is_none() => return Err(error),
                Err(Failed::Lost(error) | Failed::Finally(error)) => error,
            };
            if !is_wanted() || !time.rest().await {
                return Err(lost.unwrap_or_else(|| time.told(failed)));
            }
        }
    }

    /// Sends a statement once.
    async fn attempt(
        &self,
        connection: Object,
        statement: &Statement,
        text: &str,
        turn: Option<&Turn<'_>>,
        time: &Time,
    ) -> Result<Vec<Row>, Failed> {
        let turn_values = turn.map(TurnValues::of);
        let values = statement.values(self.terms.time, turn_values.as_ref());
        let Ok(outcome) = tokio::time::timeout(time.left(), self.query(&connection, text, &values)).await else {
            abandon(connection, self.encryption.clone());
            return Err(Failed::Finally(unanswered(self.terms.statement_timeout, statement.effect)));
        };
        let error = match outcome {
            Ok(rows) => return Ok(rows),
            Err(error) => error,
        };
        let failed = failure(&error, statement.effect);
        if is_lost(&error) || (self.terms.prepares && is_unprepared(&error)) {
            drop(Object::take(connection));
        }
        // An attempt whose answer was lost may have been made while this one waited for the same counters: that is seen
        // when it comes again. A first attempt has nobody before it but another process.
        let is_made = turn.is_some_and(|turn| turn.is_again) && is_past_its_turn(&error);
        Err(if is_lost(&error) {
            Failed::Lost(failed)
        } else if is_anothers_turn(&error) || (!is_made && is_past_its_turn(&error)) {
            Failed::Taken
        } else if is_made || is_to_be_repeated(&error) || (self.terms.prepares && is_unprepared(&error)) {
            Failed::Undone(failed)
        } else {
            Failed::Finally(failed)
        })
    }

    async fn query(
        &self,
        connection: &Object,
        text: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        if !self.terms.prepares {
            return connection.query_typed(text, values).await;
        }
        let (values, types): (Vec<_>, Vec<_>) = values.iter().cloned().unzip();
        let prepared = connection.prepare_typed_cached(text, &types).await?;
        connection.query(&prepared, &values).await
    }

    async fn connection(&self) -> Result<Object, StoreError> {
        self.pool.get().await.map_err(|error| unconnected(&error, self.terms.connect_timeout))
    }
}

impl Charges for Connections {
    async fn charge(
        &self,
        now: Timestamp,
        charges: &[Charge],
        are_sums: bool,
        is_wanted: &IsWanted<'_>,
    ) -> Result<Charged, StoreError> {
        let rows = self.make(&counter::charging(now, charges, None, are_sums)?, is_wanted).await?;
        counter::charged(first(&rows)?)
    }
}

/// What becomes of a statement that nobody waits for any more, and that was not sent.
fn unsent() -> StoreError {
    StoreError::Failed { detail: "nobody waits for it".to_owned(), retry: Retry::Safe }
}

/// The row of an answer that has one.
pub(super) fn first(rows: &[Row]) -> Result<&Row, StoreError> {
    rows.first().ok_or_else(|| damaged("an answer", &"it has no row"))
}

/// How an attempt has failed.
enum Failed {
    /// Nobody knows whether it was made.
    Lost(StoreError),
    /// It was undone, and is to be made again.
    Undone(StoreError),
    /// Another process that has the same name has taken its turn.
    Taken,
    /// There is no connection, or no hope.
    Finally(StoreError),
}

/// The time that there is for a statement and its repetitions.
struct Time {
    began: Instant,
    ends_at: Instant,
    pause: Duration,
}

impl Time {
    fn begin(long: Duration) -> Self {
        let began = Instant::now();
        // A year is as good as any number of them.
        let ends_at = began + long.min(Duration::from_secs(365 * 86_400));
        Self { began, ends_at, pause: Duration::ZERO }
    }

    /// The failure, with how long it was waited for.
    fn told(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Busy { .. } => StoreError::Busy { waited: self.began.elapsed() },
            error => error,
        }
    }

    fn left(&self) -> Duration {
        self.ends_at.saturating_duration_since(Instant::now())
    }

    /// Rests before another attempt: not at all at first, then a little longer each time. Whether there is time for one.
    async fn rest(&mut self) -> bool {
        if self.left() <= self.pause {
            return false;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).clamp(Duration::from_millis(2), PAUSE_MAX);
        true
    }
}

/// Asks the server to give up what a connection is waiting for, and the connection with it.
fn abandon(connection: Object, encryption: Encryption) {
    let token = connection.cancel_token();
    drop(Object::take(connection));
    tokio::spawn(async move {
        // Not before the connection is closed, so that a pooler does not know it any more: PgBouncer 1.18 crashes where
        // it passes such a wish on, and whoever had it does not wait for that.
        tokio::time::sleep(CLOSED_WITHIN).await;
        // Where it cannot be asked, it goes on by itself until it finds that nobody listens.
        let _gone = tokio::time::timeout(Duration::from_secs(5), token.cancel_query(encryption)).await;
    });
}
