//! Shared rates: what each window owed, and when.

use serde::{Deserialize, Serialize};

use super::keys::Key;
use super::transaction::Transaction;
use crate::store::{Paced, SharedRate, StoreError, pace_all};

#[derive(Debug, Serialize, Deserialize)]
struct Counted {
    at_ms: i64,
    debts_ns: Vec<u64>,
    /// By when nothing is owed any more.
    kept_until_ms: i64,
}

impl Transaction<'_> {
    pub(super) fn pace(&mut self, rate: &SharedRate) -> Result<Paced, StoreError> {
        let name: String = rate.name.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let place = Key::of("rate").text(&name);
        if rate.windows.is_empty() {
            self.delete(&place);
            return Ok(Paced { allowed: true, debts_ns: Vec::new() });
        }
        let known: Option<Counted> = self.get(&place, "a rate")?;
        let now_ms = self.now.as_millisecond();
        let (known_ms, debts_ns) = known.as_ref().map_or((now_ms, &[][..]), |known| (known.at_ms, &*known.debts_ns));
        // A clock that goes back gives nothing back.
        let at_ms = known_ms.max(now_ms);
        let paced = pace_all(&rate.windows, debts_ns, at_ms.abs_diff(known_ms));
        let longest_ns = paced.debts_ns.iter().copied().max().unwrap_or(0);
        if longest_ns == 0 {
            if known.is_some() {
                self.delete(&place);
            }
        } else if paced.allowed {
            let kept_until_ms = at_ms.saturating_add_unsigned(longest_ns / 1_000_000 + 1);
            self.put(&place, &Counted { at_ms, debts_ns: paced.debts_ns.clone(), kept_until_ms })?;
            if known.is_none() {
                self.look_later(&place, kept_until_ms)?;
            }
        }
        Ok(paced)
    }
}
