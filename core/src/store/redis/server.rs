//! The server, or the cluster, and the threads that talk to it.
//!
//! The library's callers have any executor or none, so the connections live on a small runtime of the store's own, and
//! answers come back through channels. Who goes away does not take with him what was sent: it was sent whole, and
//! the server makes all of it or nothing.

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
use super::failure::{failure, is_lost, is_not_begun, is_taken, is_unknown_script, unanswered, unconnected, unreached};
use super::script::Step;
use crate::error::Retry;
use crate::store::combining::IsWanted;
use crate::store::effect::Effect;
use crate::store::turns::{Turn, Turns};
use crate::store::{StoreError, StoreFuture, StoreTime};

/// How many threads talk to the server. They only send and receive.
const THREADS: usize = 2;

/// How long to wait before a step is made again that the server has refused to begin, at the most.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// For how long the last steps of a process on an account are remembered. At least for a quarter of an hour: so long goes
/// a system on sending what was written to a connection, and a server may stand still with what it was sent before.
const SEATS_KEPT_MIN: Duration = Duration::from_secs(900);
const SEATS_KEPT_MAX: Duration = Duration::from_secs(3_600);

const YEAR: Duration = Duration::from_secs(365 * 86_400);

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
    next: AtomicUsize,
    turns: Turns,
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
    pub(super) fn new(way: Way, terms: Terms) -> Result<Self, StoreError> {
        // A seat is written over where it lies: there is nothing to be gained by leaving it.
        let turns = Turns::new(u32::MAX)?;
        Ok(Self { way, next: AtomicUsize::new(0), turns, terms, mends: AtomicBool::new(false) })
    }

    pub(super) const fn is_cluster(&self) -> bool {
        matches!(self.way, Way::Cluster { .. })
    }

    /// How long the server is to remember the last steps without a key, in milliseconds: nobody waits for the answer to one
    /// as long.
    pub(super) fn seats_kept_ms(&self) -> i64 {
        let kept = self.terms.response_timeout.saturating_mul(2).clamp(SEATS_KEPT_MIN, SEATS_KEPT_MAX);
        i64::try_from(kept.as_millis()).unwrap_or(i64::MAX)
    }

    /// Makes a step, whoever waits for it.
    pub(super) async fn make(&self, step: &Step) -> Result<Value, StoreError> {
        self.make_if_wanted(step, &|| true).await
    }

    /// Makes a step, again and again until it is known what came of it: one that the server has refused to begin; and
    /// one whose answer was lost, where the server knows it when it comes again. Not when its time is over, which begins
    /// when it has a connection, nor when nobody wants to know.
    pub(super) async fn make_if_wanted(&self, step: &Step, is_wanted: &IsWanted<'_>) -> Result<Value, StoreError> {
        let mut turn = (step.effect == Effect::InTurn).then(|| self.turns.take()).transpose()?;
        let (mut with_text, mut pause) = (false, Duration::from_millis(2));
        // How it was lost, once it was. What comes after that says nothing of what came of it.
        let (mut ends_at, mut lost) = (None, None);
        loop {
            let command = step.as_command(with_text, self.terms.time == StoreTime::Server, turn.as_ref());
            let failed = match self.send(&command, step.effect, &mut ends_at).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) if is_unknown_script(&error) && !with_text => {
                    with_text = true;
                    continue;
                }
                Ok(Err(error)) if is_taken(&error) => match lost {
                    None => {
                        turn = turn.map(Turn::anew).transpose()?;
                        continue;
                    }
                    // Who has taken the turn meanwhile is all that the server knows.
                    Some(lost) => return Err(lost),
                },
                Ok(Err(error)) if is_lost(&error) && step.effect.may_come_again() => {
                    turn.iter_mut().for_each(|turn| turn.is_again = true);
                    let failed = failure(&error, step.effect);
                    lost = lost.or_else(|| step.effect.is_in_doubt().then(|| failed.clone()));
                    failed
                }
                Ok(Err(error)) if lost.is_some() || is_not_begun(&error) => failure(&error, step.effect),
                Ok(Err(error)) => return Err(failure(&error, step.effect)),
                // Only who does not know what he has done waits for a connection.
                Err(error) if lost.is_none() => return Err(error),
                Err(error) => error,
            };
            let is_over = ends_at.is_some_and(|ends_at| Instant::now() + pause >= ends_at);
            if is_over || !is_wanted() {
                return Err(lost.unwrap_or(failed));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Sends a command once. `ends_at` is when its time is over, which begins with the first connection. The outer error
    /// says that there is no connection, or no answer in time.
    async fn send(
        &self,
        command: &redis::Cmd,
        effect: Effect,
        ends_at: &mut Option<Instant>,
    ) -> Result<Result<Value, redis::RedisError>, StoreError> {
        match &self.way {
            Way::Single(connections) => {
                let next = self.next.fetch_add(1, Ordering::Relaxed) % connections.len().max(1);
                let Some(connection) = connections.get(next) else { return Err(unreached(Duration::ZERO)) };
                let live = self.reached(*ends_at, connection.live(&self.terms)).await?;
                live.send(command, self.left(ends_at), &self.terms, effect).await
            }
            Way::Cluster { client, current } => {
                let mut connection = self.reached(*ends_at, self.cluster(client, current)).await?;
                match tokio::time::timeout(self.left(ends_at), command.query_async(&mut connection)).await {
                    Ok(answer) => Ok(answer),
                    Err(_) => Err(unanswered(self.terms.response_timeout, effect)),
                }
            }
        }
    }

    /// A connection, as soon as there is one: at first within the time to connect, and then within what is left.
    async fn reached<T>(
        &self,
        ends_at: Option<Instant>,
        connecting: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let left = |ends_at: Instant| ends_at.saturating_duration_since(Instant::now());
        let limit = ends_at.map_or(self.terms.connect_timeout, left);
        let reached = tokio::time::timeout(limit, connecting).await.map_err(|_| unreached(limit))??;
        // What comes too late is not sent: the server may have forgotten the first attempt by then.
        if ends_at.is_some_and(|ends_at| left(ends_at).is_zero()) { Err(unreached(limit)) } else { Ok(reached) }
    }

    /// The time that is left for an answer, of which the first attempt has all.
    fn left(&self, ends_at: &mut Option<Instant>) -> Duration {
        let now = Instant::now();
        // A year is as good as any number of them.
        let ends_at = ends_at.get_or_insert(now + self.terms.response_timeout.min(YEAR));
        ends_at.saturating_duration_since(now)
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
        let answer = match self.send(&redis::cmd("INFO"), Effect::None, &mut None).await? {
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
