//! What the host gives: an ordered map of bytes with transactions.

use std::fmt;

use crate::store::StoreError;

/// An ordered map of bytes with transactions, over which a [`MapStore`](super::MapStore) is a store.
///
/// A transaction is serializable against all others, those of other processes too: once it is committed, all that it
/// has read was so, and all that it has written came to be, at one moment. Whether that is kept by locks, by which
/// others wait, or by looking at the end whether what was read is still so, is the map's own choice.
///
/// Another transaction may have been faster, or waiting for it took too long: [`StoreError::Busy`] says so, from
/// whichever of these functions. Then nothing was done, and the whole step is made again.
///
/// A map in memory, with one lock:
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
/// use quotum::store::{Map, MapEntry, MapStore, MapTransaction, StoreError};
/// use quotum::{Plans, blocking::Quota};
///
/// #[derive(Debug, Default)]
/// struct Locked(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);
///
/// struct Transaction<'m> {
///     entries: MutexGuard<'m, BTreeMap<Vec<u8>, Vec<u8>>>,
///     changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
/// }
///
/// impl Map for Locked {
///     fn begin(&self) -> Result<Box<dyn MapTransaction + '_>, StoreError> {
///         let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
///         Ok(Box::new(Transaction { entries, changes: Vec::new() }))
///     }
/// }
///
/// impl MapTransaction for Transaction<'_> {
///     fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
///         Ok(self.entries.get(key).cloned())
///     }
///
///     fn scan(&mut self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<MapEntry>, StoreError> {
///         let found = self.entries.range(start.to_vec()..end.to_vec()).take(limit);
///         Ok(found.map(|(key, value)| (key.clone(), value.clone())).collect())
///     }
///
///     fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
///         self.changes.push((key.to_vec(), Some(value.to_vec())));
///         Ok(())
///     }
///
///     fn delete(&mut self, key: &[u8]) -> Result<(), StoreError> {
///         self.changes.push((key.to_vec(), None));
///         Ok(())
///     }
///
///     fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
///         for (key, value) in std::mem::take(&mut self.changes) {
///             match value {
///                 Some(value) => self.entries.insert(key, value),
///                 None => self.entries.remove(&key),
///             };
///         }
///         Ok(())
///     }
/// }
///
/// let plans = Plans::from_toml("default_plan = 'free'\n[plans.free]\nquotas = { jobs = '2/day' }")?;
/// let store = MapStore::over(Arc::new(Locked::default()));
/// let quota = Quota::builder().plans(plans).open_on(Arc::new(store))?;
/// assert!(quota.consume("ana", &[("jobs", 2)])?.allowed);
/// assert!(!quota.consume("ana", &[("jobs", 1)])?.allowed);
/// # Ok::<(), quotum::Error>(())
/// ```
pub trait Map: fmt::Debug + Send + Sync + 'static {
    /// Begins a transaction.
    ///
    /// # Errors
    ///
    /// Why none can be begun: [`StoreError::Busy`], or for example [`StoreError::Failed`].
    fn begin(&self) -> Result<Box<dyn MapTransaction + '_>, StoreError>;
}

/// An entry of a [`Map`]: its key and its value.
pub type MapEntry = (Vec<u8>, Vec<u8>);

/// A transaction of a [`Map`]. Dropped without a commit, it has done nothing.
///
/// All that a step reads it reads before it writes, it writes each key at most once, and it does so in the order of the
/// keys: a transaction need not find what it has itself written, and may write it all at the end.
///
/// Most keys have less than 200 bytes; those with the longest subjects and idempotency keys may have 2 KiB. Values are
/// JSON, most of them of a few hundred bytes.
pub trait MapTransaction {
    /// The value of a key.
    ///
    /// # Errors
    ///
    /// Why it cannot be read.
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The first entries, at most `limit`, whose keys are not before `start` and are before `end`, in the order of the
    /// bytes of their keys.
    ///
    /// Serializable means here that also no entry has been added between those that were found.
    ///
    /// # Errors
    ///
    /// Why they cannot be read.
    fn scan(&mut self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<MapEntry>, StoreError>;

    /// Gives a key this value, in place of any it had.
    ///
    /// # Errors
    ///
    /// Why it cannot be written. Nothing is then committed.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError>;

    /// Removes a key, if it is there.
    ///
    /// # Errors
    ///
    /// Why it cannot be removed. Nothing is then committed.
    fn delete(&mut self, key: &[u8]) -> Result<(), StoreError>;

    /// Makes what was written last. Also called where nothing was: what was read must have been so at one moment.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] where another transaction was faster, and any other error for a failure. One whose outcome
    /// is not known, as when the connection was lost, must say so: [`Retry::OutcomeUnknown`](crate::Retry).
    fn commit(self: Box<Self>) -> Result<(), StoreError>;
}
