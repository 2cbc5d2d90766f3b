//! What is forgotten, and when: one index of all that is kept for a time.
//!
//! An entry says when to look at what it names, not when to drop it: what is kept longer by then is looked at again
//! later. So what is kept anew need not find its entry, and no entry keeps anything from going.

use serde::Deserialize;

use super::keys::{Key, text_of};
use super::transaction::{Transaction, unless_damaged};
use crate::store::StoreError;

/// How many entries are looked at for each one that is added, so that none needs a sweep.
const LOOKED_AT: usize = 4;

/// What is kept until a time, whatever else it says.
#[derive(Deserialize)]
struct Kept {
    kept_until_ms: i64,
}

impl Transaction<'_> {
    /// Has somebody look at what is kept under `key` when its time is over.
    pub(super) fn look_later(&mut self, key: &Key, at_ms: i64) -> Result<(), StoreError> {
        self.forgets += LOOKED_AT;
        self.put(&Key::of("end").number(at_ms).key(key), &true)
    }

    /// Looks at some of what may be too old, and drops what is.
    pub(super) fn forget(&mut self) -> Result<(), StoreError> {
        let (all, now) = (Key::of("end"), Key::of("end").number(self.now.as_millisecond()));
        for (entry, _) in self.scan(all.as_bytes(), &now.end(), self.forgets)? {
            self.delete(&entry);
            let named = entry.parts().and_then(|parts| parts.get(2).cloned()).map(Key::from_bytes);
            let Some(named) = named else { continue };
            if let Some(later_ms) = self.look(&named)? {
                self.put(&Key::of("end").number(later_ms).key(&named), &true)?;
            }
        }
        Ok(())
    }

    /// Drops what a key names, or says when to look at it again. What cannot be read stays.
    fn look(&mut self, named: &Key) -> Result<Option<i64>, StoreError> {
        let parts = named.parts().unwrap_or_default();
        let parts: Vec<&str> = parts.iter().filter_map(|part| text_of(part)).collect();
        match *parts {
            ["event", _] => self.delete(named),
            ["hold", id] => return self.forget_hold(named, id),
            [table, ..] => {
                let Some(kept) = unless_damaged(self.get::<Kept>(named, "what is kept"))?.flatten() else {
                    return Ok(None);
                };
                if self.now.as_millisecond() < kept.kept_until_ms {
                    return Ok(Some(kept.kept_until_ms));
                }
                match (table, &*parts) {
                    ("identity", [_, token]) => self.forget_identity(named, token)?,
                    _ => self.delete(named),
                }
            }
            [] => {}
        }
        Ok(None)
    }
}
