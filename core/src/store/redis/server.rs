//! The server, or the cluster, and the threads that talk to it.
//!
//! The library's callers have any executor or none, so the connections live on a small runtime of the store's own, and
//! answers come back through channels. Who goes away does not take his step with him: it was sent whole, and the server
//! makes all of it or nothing.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use redis::Value;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Mutex;

use super::connection::Connection;
use super::failure::{failure, is_not_begun, is_unknown_script, unanswered, unconnected, unreached};
use super::script::Step;
use crate::error::Retry;
use crate::store::{StoreError, StoreFuture, StoreTime};

/// How many threads talk to the server. They only send and receive.
const THREADS: usize = 2;

/// How long to wait before a step is made again that the server has refused to begin, at the most.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// How the server is talked to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) connect_timeout: Duration,
    pub(super) response_timeout: Duration,
    pub(super) time: StoreTime,
}

/// A server or a cluster.
pub(super) enum Way {
    /// Connections in turn; each takes any number of steps at once.
    Single(Vec<Connection>),
    Cluster {
        client: Box<ClusterClient>,
        current: Mutex<Option<ClusterConnection>>,
    },
}

/// What a store talks to, shared with its threads.
pub(super) struct Server {
    way: Way,
    turn: AtomicUsize,
    terms: Terms,
    /// Whether this process is moving what others have left in outboxes.
    mends: AtomicBool,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("is_cluster", &self.is_cluster()).field("terms", &self.terms).finish()
    }
}

impl Server {
    pub(super) const fn new(way: Way, terms: Terms) -> Self {
        Self { way, turn: AtomicUsize::new(0), terms, mends: AtomicBool::new(false) }
    }

    pub(super) const fn is_cluster(&self) -> bool {
        matches!(self.way, Way::Cluster { .. })
    }

    /// Makes a step. One that the server has refused to begin is made again until the time for an answer is over.
    pub(super) async fn make(&self, step: &Step) -> Result<Value, StoreError> {
        let (began, mut with_text, mut pause) = (Instant::now(), false, Duration::from_millis(2));
        loop {
            let command = step.as_command(with_text, self.terms.time == StoreTime::Server);
            let error = match self.send(&command, step.writes).await? {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if is_unknown_script(&error) && !with_text {
                with_text = true;
                continue;
            }
            // A cluster's slot that is being moved, a server that is starting.
            if !is_not_begun(&error) || began.elapsed() + pause > self.terms.response_timeout {
                return Err(failure(&error, step.writes));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Sends a command once. The outer error says that there is no connection, or no answer in time.
    async fn send(&self, command: &redis::Cmd, writes: bool) -> Result<Result<Value, redis::RedisError>, StoreError> {
        let limit = self.terms.response_timeout;
        match &self.way {
            Way::Single(connections) => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) % connections.len().max(1);
                let Some(connection) = connections.get(turn) else { return Err(unreached(Duration::ZERO)) };
                connection.send(command, writes, &self.terms).await
            }
            Way::Cluster { client, current } => {
                let mut connection = self.cluster(client, current).await?;
                match tokio::time::timeout(limit, command.query_async(&mut connection)).await {
                    Ok(answer) => Ok(answer),
                    Err(_) => Err(unanswered(limit, writes)),
                }
            }
        }
    }

    /// The way to all nodes of the cluster. It mends itself, once it was made.
    async fn cluster(
        &self,
        client: &ClusterClient,
        current: &Mutex<Option<ClusterConnection>>,
    ) -> Result<ClusterConnection, StoreError> {
        let mut current = current.lock().await;
        if let Some(connection) = &*current {
            return Ok(connection.clone());
        }
        let connecting = tokio::time::timeout(self.terms.connect_timeout, client.get_async_connection()).await;
        let connection =
            connecting.map_err(|_| unreached(self.terms.connect_timeout))?.map_err(|error| unconnected(&error))?;
        *current = Some(connection.clone());
        Ok(connection)
    }

    /// Begins some work on a cluster that nobody waits for, unless the last is still under way. On the store's threads.
    pub(super) fn mend_beside(self: &Arc<Self>, work: impl Future<Output = Result<(), StoreError>> + Send + 'static) {
        if self.is_cluster() && !self.mends.swap(true, Ordering::AcqRel) {
            let server = Arc::clone(self);
            tokio::spawn(async move {
                // What cannot be done now is done at the next reading.
                let _later = work.await;
                server.mends.store(false, Ordering::Release);
            });
        }
    }

    /// What the server, or each node of the cluster, says of itself.
    pub(super) async fn describe(&self) -> Result<Result<Vec<String>, redis::RedisError>, StoreError> {
        let answer = match self.send(&redis::cmd("INFO"), false).await? {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(error)),
        };
        let mut texts = Vec::new();
        collect_texts(answer, &mut texts);
        Ok(Ok(texts))
    }
}

fn collect_texts(value: Value, texts: &mut Vec<String>) {
    match value {
        Value::BulkString(bytes) => texts.push(String::from_utf8_lossy(&bytes).into_owned()),
        Value::VerbatimString { text, .. } => texts.push(text),
        Value::Array(values) => values.into_iter().for_each(|value| collect_texts(value, texts)),
        Value::Map(values) => values.into_iter().for_each(|(_, value)| collect_texts(value, texts)),
        _ => {}
    }
}

/// The store's own threads.
pub(super) struct Threads {
    /// Taken when the store is dropped.
    runtime: Option<Runtime>,
}

impl Threads {
    pub(super) fn start() -> Result<Self, StoreError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("quotum-redis")
            .enable_all()
            .build()
            .map_err(|error| StoreError::Failed { detail: error.to_string(), retry: Retry::Safe })?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Does something on the store's own threads, from the first poll on, and to its end whoever waits for it.
    pub(super) fn run<'a, T: Send + 'static>(
        &'a self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> StoreFuture<'a, T> {
        Box::pin(async move {
            let stopped = || StoreError::Stopped { cause: "the threads of the store have ended".to_owned() };
            let (answer, answered) = oneshot::channel();
            let runtime = self.runtime.as_ref().ok_or_else(stopped)?;
            runtime.spawn(async move {
                // Where the caller is gone, nobody is told.
                let _gone = answer.send(work.await);
            });
            answered.await.unwrap_or_else(|_| Err(stopped()))
        })
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").finish_non_exhaustive()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // At once: whoever drops the store may be a task, which must not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The server with what is made on it.
pub(super) type Shared = Arc<Server>;
