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
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Config, Error, Row};

use super::failure::{failure, is_to_be_repeated, unanswered, unconnected};
use super::statement::Statement;
use super::tls::Encryption;
use crate::error::Retry;
use crate::fork::PerProcess;
use crate::store::{StoreError, StoreFuture, StoreTime};

/// How often a statement is made that the server undoes for the sake of another.
const ATTEMPTS_MAX: u32 = 20;

/// How many threads talk to the server. They only send and receive.
const THREADS: usize = 2;

/// The server, as each process talks to it: connections and threads are its own.
pub(super) struct Server(PerProcess<Own, StoreError>);

/// A pool of connections, and the runtime that they live on.
struct Own {
    pool: Arc<Connections>,
    /// Taken when the store is dropped.
    runtime: Option<Runtime>,
}

struct Connections {
    pool: Pool,
    encryption: Encryption,
    schema: String,
    time: StoreTime,
    connect_timeout: Duration,
    statement_timeout: Duration,
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
        self.ask(statement, |rows| {
            let missing = || super::failure::damaged("an answer", &"it has no row");
            read(rows.first().ok_or_else(missing)?)
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
        let Terms { schema, time, connect_timeout, statement_timeout, .. } = terms;
        Ok(Self {
            pool: Arc::new(Connections { pool, encryption, schema, time, connect_timeout, statement_timeout }),
            runtime: Some(runtime),
        })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let stopped = || StoreError::Stopped { cause: "the threads of the store have ended".to_owned() };
        let (answer, answered) = oneshot::channel();
        let runtime = self.runtime.as_ref().ok_or_else(stopped)?;
        runtime.spawn(async move {
            // Where the caller is gone, nobody is told.
            let _gone = answer.send(work.await);
        });
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }
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
    async fn make(&self, statement: &Statement) -> Result<Vec<Row>, StoreError> {
        let since = Instant::now();
        let text = statement.text(&self.schema, self.time);
        let values = statement.values(self.time);
        let mut attempt = 0;
        loop {
            attempt += 1;
            let connection = self.connection().await?;
            let outcome =
                match tokio::time::timeout(self.statement_timeout, connection.query_typed(&text, &values)).await {
                    Ok(outcome) => outcome,
                    Err(_) => {
                        abandon(connection, self.encryption.clone());
                        return Err(unanswered(self.statement_timeout, statement.writes));
                    }
                };
            match outcome {
                Ok(rows) => return Ok(rows),
                Err(error) if is_to_be_repeated(&error) && attempt < ATTEMPTS_MAX => {
                    drop(connection);
                    tokio::time::sleep(Duration::from_millis(attempt.into())).await;
                }
                Err(error) if is_to_be_repeated(&error) => return Err(StoreError::Busy { waited: since.elapsed() }),
                Err(error) => return Err(self.failed(connection, &error, statement.writes)),
            }
        }
    }

    async fn connection(&self) -> Result<Object, StoreError> {
        self.pool.get().await.map_err(|error| unconnected(&error, self.connect_timeout))
    }

    /// What a failure means; the connection goes with it unless the server itself has answered.
    fn failed(&self, connection: Object, error: &Error, writes: bool) -> StoreError {
        if error.as_db_error().is_none() {
            drop(Object::take(connection));
        }
        failure(error, writes)
    }
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
