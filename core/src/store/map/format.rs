//! The format of the map: a number, so that no library reads what it does not know.

use super::keys::Key;
use super::transaction::Transaction;
use crate::store::StoreError;

/// Of what [the module](super) says of keys and values. Raised when that changes.
const FORMAT: i64 = 1;

impl Transaction<'_> {
    /// Refuses a map that a newer library has written, and marks one that is new.
    pub(super) fn check_format(&mut self) -> Result<(), StoreError> {
        let place = Key::of("format");
        match self.get(&place, "its format")? {
            Some(FORMAT) => Ok(()),
            Some(found) => Err(StoreError::NewerSchema { name: "the map".to_owned(), found, known: FORMAT }),
            None => self.put(&place, &FORMAT),
        }
    }
}
