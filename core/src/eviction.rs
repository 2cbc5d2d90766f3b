//! Evictions: how many live entries lost their place in a full cache, told now and then.
//!
//! A flood evicts as often as it asks. So that telling of it is no flood too, each cache is told of at most once a
//! minute, with the count since the last time.

use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;

use crate::admission::Admission;
use crate::event::{Event, EventName};
use crate::store::Call;

/// How long a cache is not told of again.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// What was told of each cache: the windows of rates, and tokens.
#[derive(Debug, Default)]
pub(crate) struct Evictions(Mutex<[Told; 2]>);

#[derive(Debug, Default)]
struct Told {
    /// How many evictions there had been in all.
    count: u64,
    /// When, in monotonic time.
    at: Option<Duration>,
}

impl Told {
    /// How many evictions are to be told of now, of so many in all.
    fn take(&mut self, count: u64, now: Duration) -> Option<u64> {
        let told_lately = self.at.is_some_and(|at| now.saturating_sub(at) < TOLD_EVERY);
        if told_lately || count <= self.count {
            return None;
        }
        let new = count - self.count;
        *self = Self { count, at: Some(now) };
        Some(new)
    }
}

impl Admission {
    /// Tells of the entries that have lost their place, if it is time to.
    pub(crate) fn tell_evictions(&self, call: Call) {
        let now = call.monotonic(&*self.clock);
        let of_tokens = self.tokens.as_ref().map_or(0, |tokens| tokens.cache().stats().evictions);
        let caches = [("rates", self.rates.evictions()), ("tokens", of_tokens)];
        for (index, (cache, count)) in caches.into_iter().enumerate() {
            let evicted = self.evictions.0.lock().get_mut(index).and_then(|told| told.take(count, now));
            if let Some(evicted) = evicted {
                let detail = Some(json!({ "cache": cache, "evicted": evicted }));
                self.observer.tell(Event { detail, ..Event::new(EventName::CacheEvicted, call.now) });
            }
        }
    }
}
