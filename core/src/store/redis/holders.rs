//! Whose a hold is: all that is known of one lies in the slot of its account, and it is settled by its id alone.
//!
//! What this process has made it remembers, as far as that has place. Of others' there is a key of its own for each
//! hold that names the account, kept for as long as the hold: written in the hold's own script on a single server, and
//! before it on a cluster, where it lies in another slot.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;
use redis::Value;

use super::failure::damaged;
use super::names::Names;
use super::script::Step;
use super::server::Server;
use crate::HoldId;
use crate::store::StoreError;

/// How many holds are remembered, of which most are settled in a moment.
const HOLDS_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);

#[derive(Debug)]
pub(super) struct Holders {
    known: Mutex<LruCache<HoldId, Arc<str>>>,
}

impl Holders {
    pub(super) fn new() -> Self {
        Self { known: Mutex::new(LruCache::new(HOLDS_MAX)) }
    }

    pub(super) fn note(&self, id: HoldId, payer: &Arc<str>) {
        self.known.lock().put(id, Arc::clone(payer));
    }

    /// The account of a hold; `None` of one that nobody knows.
    pub(super) async fn find(
        &self,
        server: &Server,
        names: &Names,
        id: HoldId,
    ) -> Result<Option<Arc<str>>, StoreError> {
        if let Some(payer) = self.known.lock().get(&id) {
            return Ok(Some(Arc::clone(payer)));
        }
        match server.make(&Step::command("GET", names.pointer(id))).await? {
            Value::BulkString(bytes) => {
                let payer = String::from_utf8(bytes).map_err(|error| damaged("the account of a hold", &error))?;
                Ok(Some(payer.into()))
            }
            _ => Ok(None),
        }
    }
}

/// Lets others find the account of a hold that is about to be made.
pub(super) async fn point(
    server: &Server,
    names: &Names,
    id: HoldId,
    payer: &str,
    kept_ms: i64,
) -> Result<(), StoreError> {
    let step = Step::command("SET", names.pointer(id)).with(payer).with("PX").with_number(kept_ms);
    server.make(&step).await.map(drop)
}
