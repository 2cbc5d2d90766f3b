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
use super::failure::{failure, is_lost, is_not_begun, is_unknown_script, unanswered, unconnected, unreached};
use super::script::Step;
use crate::error::Retry;
use crate::store::effect::Effect;
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

    /// How long the server is to remember a step whose answer may be lost: nobody waits for it as long.
    pub(super) fn moment(&self) -> Duration {
        self.terms.response_timeout * 2
    }

    /// Makes a step. One that the server has refused to begin is made again, and so is one whose answer was lost, where
    /// the server knows it when it comes again: until it is known what came of it, or its time is over.
    pub(super) async fn make(&self, step: &Step) -> Result<Value, StoreError> {
        let (began, mut with_text, mut pause) = (Instant::now(), false, Duration::from_millis(2));
        // How it was lost, once it was.
        let mut lost = None;
        loop {
            let command = step.as_command(with_text, self.terms.time == StoreTime::Server);
            let left = self.terms.response_timeout.saturating_sub(began.elapsed());
            let failed = match self.send(&command, step.effect, left).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) if is_unknown_script(&error) && !with_text => {
                    with_text = true;
                    continue;
                }
                Ok(Err(error)) => {
                    let failed = failure(&error, step.effect);
                    if is_lost(&error) && step.effect.may_come_again() {
                        lost = Some(failed.clone());
                    } else if !is_not_begun(&error) {
                        return Err(failed);
                    }
                    failed
                }
                // Only who does not know what he has done waits for a connection.
                Err(error) if lost.is_none() || step.effect == Effect::None => return Err(error),
                Err(error) => error,
            };
            if began.elapsed() + pause > self.terms.response_timeout {
                return Err(lost.unwrap_or(failed));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Sends a command once, and waits for so long. The outer error says that there is no connection, or no answer in
    /// time.
    async fn send(
        &self,
        command: &redis::Cmd,
        effect: Effect,
        limit: Duration,
    ) -> Result<Result<Value, redis::RedisError>, StoreError> {
        match &self.way {
            Way::Single(connections) => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) % connections.len().max(1);
                let Some(connection) = connections.get(turn) else { return Err(unreached(Duration::ZERO)) };
                connection.send(command, effect, limit, &self.terms).await
            }
            Way::Cluster { client, current } => {
                let mut connection = self.cluster(client, current).await?;
                match tokio::time::timeout(limit, command.query_async(&mut connection)).await {
                    Ok(answer) => Ok(answer),
                    Err(_) => Err(unanswered(self.terms.response_timeout, effect)),
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
        let answer = match self.send(&redis::cmd("INFO"), Effect::None, self.terms.response_timeout).await? {
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

    /// Begins something on the store's own threads that goes on to its end.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> Result<(), StoreError> {
        self.runtime.as_ref().ok_or_else(stopped)?.spawn(work);
        Ok(())
    }

    /// Does something on the store's own threads, from the first poll on, and to its end whoever waits for it.
    pub(super) fn run<'a, T: Send + 'static>(
        &'a self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> StoreFuture<'a, T> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            self.spawn(async move {
                // Where the caller is gone, nobody is told.
                let _gone = answer.send(work.await);
            })?;
            answered.await.unwrap_or_else(|_| Err(stopped()))
        })
    }
}

pub(super) fn stopped() -> StoreError {
    StoreError::Stopped { cause: "the threads of the store have ended".to_owned() }
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
