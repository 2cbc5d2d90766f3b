//! Stores of the host's own: a JavaScript object with transactions, and the conformance suite to try it with.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_channel::oneshot;
use napi::bindgen_prelude::Either;
use napi_derive::napi;
use quotum::Retry;
use quotum::store::{Map, MapEntry, MapStore, MapTransaction, MemoryStore, Store, StoreError, conformance};
use serde_json::json;

use crate::bell::{Answer, Argument, Unanswered};
use crate::home::Home;
use crate::host::Function;
use crate::outcome::Outcome;
use crate::task::{Tasks, work};

/// The store that an object of the host's is, by the function that calls its methods.
pub(crate) fn store_of(function: Function) -> Arc<dyn Store> {
    // One that hangs must not keep who asks longer than the timeout.
    Arc::new(MapStore::over(Arc::new(HostMap(function))).aside())
}

/// Calls a method of the store or of one of its transactions by name. It is never called in the event loop's own thread.
struct HostMap(Function);

impl fmt::Debug for HostMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostMap(..)")
    }
}

impl HostMap {
    fn call(
        &self,
        retry: Retry,
        method: &str,
        transaction: f64,
        arguments: impl IntoIterator<Item = Argument>,
    ) -> Result<Answer, StoreError> {
        let all = [Argument::Text(method.to_owned()), Argument::Number(transaction)].into_iter().chain(arguments);
        self.0.call_and_wait(all.collect()).map_err(|Unanswered { detail, is_conflict }| match is_conflict {
            true => StoreError::Busy { waited: Duration::ZERO },
            false => StoreError::Failed { detail, retry },
        })
    }
}

fn unexpected(method: &str) -> StoreError {
    StoreError::Failed { detail: format!("the store's `{method}` returned something else"), retry: Retry::Safe }
}

fn bytes(bytes: &[u8]) -> Argument {
    Argument::Bytes(bytes.to_vec())
}

impl Map for HostMap {
    fn begin(&self) -> Result<Box<dyn MapTransaction + '_>, StoreError> {
        let begun = self.call(Retry::Safe, "begin", 0.0, [])?;
        let Answer::Json(number) = begun else { return Err(unexpected("begin")) };
        let number = number.parse().map_err(|_| unexpected("begin"))?;
        Ok(Box::new(HostTransaction { map: self, number, is_over: false }))
    }
}

struct HostTransaction<'m> {
    map: &'m HostMap,
    number: f64,
    is_over: bool,
}

impl MapTransaction for HostTransaction<'_> {
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.map.call(Retry::Safe, "get", self.number, [bytes(key)])? {
            Answer::Bytes(value) => Ok(value),
            _ => Err(unexpected("get")),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "nobody scans that many")]
    fn scan(&mut self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<MapEntry>, StoreError> {
        let arguments = [bytes(start), bytes(end), Argument::Number(limit as f64)];
        match self.map.call(Retry::Safe, "scan", self.number, arguments)? {
            Answer::Entries(entries) => Ok(entries),
            _ => Err(unexpected("scan")),
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.map.call(Retry::Safe, "put", self.number, [bytes(key), bytes(value)]).map(drop)
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.map.call(Retry::Safe, "delete", self.number, [bytes(key)]).map(drop)
    }

    fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        self.is_over = true;
        self.map.call(Retry::OutcomeUnknown, "commit", self.number, []).map(drop)
    }
}

impl Drop for HostTransaction<'_> {
    /// Has what was not committed undone.
    fn drop(&mut self) {
        if !self.is_over {
            let _undone = self.map.call(Retry::Never, "rollback", self.number, []);
        }
    }
}

/// Runs every rule of the conformance suite, each on a new and empty store, whose function `make` returns the number of:
/// the number of a task, which comes to the rules, each with what was broken of it.
#[napi(catch_unwind)]
pub(crate) fn check_store(home: u32, make: u32) -> napi::Result<Either<u32, String>> {
    let home = Home::of(home)?;
    let (factory, stores) = (Function::new(&home, make), home.bell.clone());
    let (told, checked) = oneshot::channel();
    let run = move || {
        let make = || match factory.call_and_wait(Vec::new()) {
            Ok(Answer::Json(number)) => match number.parse() {
                Ok(number) => store_of(Function::at(Arc::clone(&stores), number)),
                Err(_) => Arc::new(MemoryStore::new()),
            },
            // The package has kept why. Any store does: what it is found to do is not told.
            _ => Arc::new(MemoryStore::new()) as Arc<dyn Store>,
        };
        drop(told.send(conformance::run(make)));
    };
    let thread = std::thread::Builder::new().name("quotum-conformance".to_owned()).spawn(run);
    let checked = async move {
        let failed = |detail: String| StoreError::Failed { detail, retry: Retry::Safe };
        thread.map_err(|error| failed(format!("no thread could be started: {error}")))?;
        Ok(checked.await.map_err(|_| failed("the suite has panicked".to_owned()))?)
    };
    let tell = |_: &Home, report: conformance::Report| {
        let outcome = |outcome: conformance::Outcome| json!({ "rule": outcome.rule, "broken": outcome.result.err() });
        Outcome::value(&report.outcomes.into_iter().map(outcome).collect::<Vec<_>>())
    };
    Ok(Tasks::begin(&home, work(checked, tell)).into())
}
