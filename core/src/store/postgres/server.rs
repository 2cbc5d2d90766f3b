//! The server, and the threads that talk to it.
//!
//! The library's callers have any executor or none, so the connections live on a small runtime of the store's own,
//! and answers come back through channels. Who goes away does not take his statement with him: it was sent whole, and
//! the server makes all of it or nothing.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Timeouts};
use futures_channel::oneshot;
use jiff::Timestamp;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Config, Error, Row};

use super::counter;
use super::failure::{damaged, failure, is_lost, is_past_its_turn, is_to_be_repeated, unanswered, unconnected};
use super::statement::Statement;
use super::tls::Encryption;
use super::turns::Turns;
use crate::error::Retry;
use crate::fork::PerProcess;
use crate::store::combining::{Charges, Combiner};
use crate::store::effect::Effect;
use crate::store::{Balance, Charge, Charged, StoreError, StoreFuture, StoreTime};

/// How often a statement is made that the server undoes for the sake of another.
const ATTEMPTS_MAX: u32 = 20;

/// How long to wait before a step is sent again whose answer was lost, at the most. The first time is at once.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// How many threads talk to the server. They only send and receive.
const THREADS: usize = 2;

/// The server, as each process talks to it: connections and threads are its own.
pub(super) struct Server(PerProcess<Own, StoreError>);

/// A pool of connections, and the runtime that they live on.
struct Own {
    pool: Arc<Connections>,
    combiner: Arc<Combiner>,
    /// Taken when the store is dropped.
    runtime: Option<Runtime>,
}

pub(super) struct Connections {
    pool: Pool,
    turns: Turns,
    encryption: Encryption,
    schema: String,
    time: StoreTime,
    connect_timeout: Duration,
    statement_timeout: Duration,
    prepares: bool,
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

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("schema", &self.pool.schema).field("pool", &self.pool.pool.status()).finish()
    }
}

impl Server {
    /// Starts the threads; connections are made as they are needed.
    pub(super) fn new(config: Config, encryption: Encryption, terms: Terms) -> Result<Self, StoreError> {
        let start = move || Own::start(config.clone(), encryption.clone(), terms.clone()).map(Arc::new);
        Ok(Self(PerProcess::new(start()?, move |_| start())))
    }

    /// Does something on the store's own threads, from the first poll on, and to its end whoever waits for it.
    pub(super) fn on_own_threads<'a, T: Send + 'static>(
        &'a self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> StoreFuture<'a, T> {
        Box::pin(async move { self.0.here()?.run(work).await })
    }

    /// Makes a statement, and reads what comes back.
    pub(super) fn ask<'a, T: Send + 'static>(
        &'a self,
        statement: Statement,
        read: impl FnOnce(Vec<Row>) -> Result<T, StoreError> + Send + 'static,
    ) -> StoreFuture<'a, T> {
        Box::pin(async move {
            let own = self.0.here()?;
            let connections = Arc::clone(&own.pool);
            own.run(async move { read(connections.make(&statement).await?) }).await
        })
    }

    /// Makes a statement that answers with one row.
    pub(super) fn ask_one<'a, T: Send + 'static>(
        &'a self,
        statement: Statement,
        read: impl FnOnce(&Row) -> Result<T, StoreError> + Send + 'static,
    ) -> StoreFuture<'a, T> {
        self.ask(statement, |rows| read(first(&rows)?))
    }

    /// Charges counters, together with others of this process who charge the same ones.
    pub(super) fn charge<'a>(&'a self, now: Timestamp, charges: &'a [Charge]) -> StoreFuture<'a, Charged> {
        Box::pin(async move {
            let own = self.0.here()?;
            let (answer, lead) = own.combiner.join(now, charges);
            if let Some(lead) = lead {
                own.threads()?.spawn(lead.take(Arc::clone(&own.pool)));
            }
            answer.await.unwrap_or_else(|_| Err(stopped()))
        })
    }

    /// Makes a statement of which only the doing matters.
    pub(super) fn tell(&self, statement: Statement) -> StoreFuture<'_, ()> {
        self.ask(statement, |_| Ok(()))
    }
}

impl Own {
    fn start(config: Config, encryption: Encryption, terms: Terms) -> Result<Self, StoreError> {
        let failed = |error: &dyn fmt::Display| StoreError::Failed { detail: error.to_string(), retry: Retry::Safe };
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("quotum-postgres")
            .enable_all()
            .build()
            .map_err(|error| failed(&error))?;
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
            .map_err(|error| failed(&error))?;
        let Terms { schema, time, connect_timeout, statement_timeout, prepares, .. } = terms;
        Ok(Self {
            pool: Arc::new(Connections {
                pool,
                turns: Turns::new()?,
                encryption,
                schema,
                time,
                connect_timeout,
                statement_timeout,
                prepares,
            }),
            combiner: Arc::default(),
            runtime: Some(runtime),
        })
    }

    fn threads(&self) -> Result<&Runtime, StoreError> {
        self.runtime.as_ref().ok_or_else(stopped)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.threads()?.spawn(async move {
            // Where the caller is gone, nobody is told.
            let _gone = answer.send(work.await);
        });
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }
}

fn stopped() -> StoreError {
    StoreError::Stopped { cause: "the threads of the store have ended".to_owned() }
}

impl Drop for Own {
    fn drop(&mut self) {
        // At once: whoever drops the store may be a task, which must not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Connections {
    /// Makes a statement. One that the server undid for the sake of another is made again, and so is one whose answer
    /// was lost, where the server knows it when it comes again: until it is known what came of it, or its time is over.
    async fn make(&self, statement: &Statement) -> Result<Vec<Row>, StoreError> {
        let since = Instant::now();
        let text = statement.text(&self.schema, self.time);
        let mut turn = statement.turn(&self.turns);
        let (mut attempt, mut pause) = (0, Duration::ZERO);
        // How it was lost, once it was.
        let mut lost = None;
        loop {
            let connection = match self.connection().await {
                Ok(connection) => connection,
                Err(_) if lost.is_some() && rested(&mut pause, since, self.statement_timeout).await => continue,
                Err(error) => return Err(lost.unwrap_or(error)),
            };
            let values = statement.values(self.time, turn.as_ref());
            let left = self.statement_timeout.saturating_sub(since.elapsed());
            let Ok(outcome) = tokio::time::timeout(left, self.query(&connection, &text, &values)).await else {
                abandon(connection, self.encryption.clone());
                return Err(unanswered(self.statement_timeout, statement.effect));
            };
            let error = match outcome {
                Ok(rows) => return Ok(rows),
                Err(error) => error,
            };
            if is_lost(&error) {
                drop(Object::take(connection));
                let failure = failure(&error, statement.effect);
                if !statement.effect.may_come_again() || !rested(&mut pause, since, self.statement_timeout).await {
                    return Err(failure);
                }
                // What only reads was not begun, as far as anybody can tell.
                lost = (statement.effect == Effect::Once).then_some(failure);
                turn.iter_mut().for_each(|turn| turn.is_again = true);
                continue;
            }
            attempt += 1;
            // Made by an attempt whose answer was lost, while this one waited for the same counters.
            let is_known = turn.as_ref().is_some_and(|turn| turn.is_again) && is_past_its_turn(&error);
            if !is_to_be_repeated(&error) && !is_known {
                return Err(failure(&error, statement.effect));
            }
            if attempt >= ATTEMPTS_MAX {
                return Err(StoreError::Busy { waited: since.elapsed() });
            }
            drop(connection);
            tokio::time::sleep(Duration::from_millis(attempt.into())).await;
        }
    }

    async fn query(
        &self,
        connection: &Object,
        text: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        if !self.prepares {
            return connection.query_typed(text, values).await;
        }
        let (values, types): (Vec<_>, Vec<_>) = values.iter().cloned().unzip();
        let prepared = connection.prepare_typed_cached(text, &types).await?;
        connection.query(&prepared, &values).await
    }

    async fn connection(&self) -> Result<Object, StoreError> {
        self.pool.get().await.map_err(|error| unconnected(&error, self.connect_timeout))
    }
}

impl Charges for Connections {
    async fn charge(&self, now: Timestamp, charges: &[Charge]) -> Result<Charged, StoreError> {
        let rows = self.make(&counter::charging(now, charges, None, false)?).await?;
        counter::charged(first(&rows)?)
    }

    async fn charge_sums(&self, now: Timestamp, sums: &[Charge]) -> Result<Option<Vec<Balance>>, StoreError> {
        let rows = self.make(&counter::charging(now, sums, None, true)?).await?;
        counter::charged_sums(first(&rows)?)
    }
}

/// The row of an answer that has one.
fn first(rows: &[Row]) -> Result<&Row, StoreError> {
    rows.first().ok_or_else(|| damaged("an answer", &"it has no row"))
}

/// Rests before a step is sent again, a little longer each time. Not where its time would be over then.
async fn rested(pause: &mut Duration, since: Instant, limit: Duration) -> bool {
    if since.elapsed() + *pause >= limit {
        return false;
    }
    tokio::time::sleep(*pause).await;
    *pause = (*pause * 2).clamp(Duration::from_millis(2), PAUSE_MAX);
    true
}

/// Asks the server to give up what a connection is waiting for, and the connection with it.
fn abandon(connection: Object, encryption: Encryption) {
    let token = connection.cancel_token();
    drop(Object::take(connection));
    tokio::spawn(async move {
        // Where it cannot be asked, it goes on by itself until it finds that nobody listens.
        let _gone = tokio::time::timeout(Duration::from_secs(5), token.cancel_query(encryption)).await;
    });
}
