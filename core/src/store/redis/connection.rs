//! One connection to a server, made when it is needed and made anew when it was lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, PushInfo, RedisError, Value};
use tokio::sync::Mutex;

use super::failure::{is_lost, is_replica, unanswered, unconnected, unreached};
use super::server::Terms;
use crate::store::StoreError;
use crate::store::effect::Effect;

pub(super) struct Connection {
    client: Client,
    current: Mutex<Option<Live>>,
}

/// A connection that is there.
#[derive(Clone)]
pub(super) struct Live {
    connection: MultiplexedConnection,
    /// Whether the server has hung up. Who finds this before he has sent anything loses nothing.
    is_over: Arc<AtomicBool>,
}

impl Connection {
    pub(super) fn new(client: Client) -> Self {
        Self { client, current: Mutex::new(None) }
    }

    /// The way to the server, made if there is none.
    pub(super) async fn live(&self, terms: &Terms) -> Result<Live, StoreError> {
        let mut current = self.current.lock().await;
        if let Some(live) = current.as_ref().filter(|live| !live.is_over.load(Ordering::Acquire)) {
            return Ok(live.clone());
        }
        let connecting = async {
            match self.connect().await {
                // Who is hung up on while he introduces himself has lost nothing: once is no reason to give up.
                Err(error) if error.is_connection_dropped() && !error.is_connection_refusal() => self.connect().await,
                outcome => outcome,
            }
        };
        let live = tokio::time::timeout(terms.connect_timeout, connecting)
            .await
            .map_err(|_| unreached(terms.connect_timeout))?
            .map_err(|error| unconnected(&error))?;
        *current = Some(live.clone());
        Ok(live)
    }

    async fn connect(&self) -> Result<Live, RedisError> {
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let hears = move |push: PushInfo| -> Result<(), redis::aio::SendError> {
            if push.kind == redis::PushKind::Disconnection {
                told.store(true, Ordering::Release);
            }
            Ok(())
        };
        // Timeouts are ours, which know what they mean for the caller.
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None).set_push_sender(hears);
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Live { connection, is_over })
    }
}

impl Live {
    /// Sends a command once, and waits for so long. The outer error says that there was no answer in time.
    pub(super) async fn send(
        mut self,
        command: &Cmd,
        limit: Duration,
        terms: &Terms,
        effect: Effect,
    ) -> Result<Result<Value, RedisError>, StoreError> {
        let asked = command.query_async(&mut self.connection);
        let Ok(answer) = tokio::time::timeout(limit, asked).await else {
            // A server that is gone without a word would be waited for again and again.
            self.is_over.store(true, Ordering::Release);
            return Err(unanswered(terms.response_timeout, effect));
        };
        if let Err(error) = &answer {
            // The name of what has become a replica may stand for the new primary by now.
            if is_replica(error) || is_lost(error) {
                self.is_over.store(true, Ordering::Release);
            }
        }
        Ok(answer)
    }
}
