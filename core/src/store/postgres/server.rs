//! The threads that talk to the server.
//!
//! The library's callers have any executor or none, so the connections live on a small runtime of the store's own,
//! and answers come back through channels. Who goes away does not take with him what was sent: it was sent whole, and
//! the server makes all of it or nothing.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures_channel::oneshot;
use jiff::Timestamp;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Config, Row};

use super::connections::{Connections, Terms, first};
use super::statement::Statement;
use super::tls::Encryption;
use crate::error::Retry;
use crate::fork::PerProcess;
use crate::store::combining::Combiner;
use crate::store::{Charge, Charged, StoreError, StoreFuture};

/// How many threads talk to the server. They only send and receive.
const THREADS: usize = 2;

/// The server, as each process talks to it: connections and threads are its own.
pub(super) struct Server(PerProcess<Own, StoreError>);

/// A pool of connections, and the runtime that they live on.
struct Own {
    connections: Arc<Connections>,
    combiner: Arc<Combiner>,
    /// Taken when the store is dropped.
    runtime: Option<Runtime>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("connections", &self.connections).finish()
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
            let connections = Arc::clone(&own.connections);
            let (answer, answered) = oneshot::channel();
            own.threads()?.spawn(async move {
                let made = connections.make(&statement, &|| !answer.is_canceled()).await;
                // Where the caller is gone, nobody is told.
                let _gone = answer.send(made.and_then(read));
            });
            answered.await.unwrap_or_else(|_| Err(stopped()))
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
                own.threads()?.spawn(lead.take(Arc::clone(&own.connections)));
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
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("quotum-postgres")
            .enable_all()
            .build()
            .map_err(|error| StoreError::Failed { detail: error.to_string(), retry: Retry::Safe })?;
        Ok(Self {
            connections: Arc::new(Connections::new(config, encryption, terms)?),
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
