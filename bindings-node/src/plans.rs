//! Plans, as values of the package's: checked here, and kept there as JSON.

use futures_channel::oneshot;
use napi::bindgen_prelude::Either;
use napi_derive::napi;
use quotum::store::StoreError;
use quotum::{Error, Plan, Plans, Retry};
use serde::Serialize;

use crate::home::Home;
use crate::outcome::Outcome;
use crate::task::{Tasks, work};
use crate::wire::Source;

/// Plans, as the package is told of them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'p> {
    /// The plans file that reads back as these.
    json: String,
    plans: Vec<&'p Plan>,
    default_plan: &'p str,
}

impl<'p> From<&'p Plans> for Told<'p> {
    fn from(plans: &'p Plans) -> Self {
        Self {
            json: plans.to_json(),
            plans: plans.iter().map(|plan| &**plan).collect(),
            default_plan: &plans.default_plan().id,
        }
    }
}

/// Reads plans on a thread of its own: no event loop is to wait for a disk.
pub(crate) async fn read_aside(source: Source) -> Result<Plans, Error> {
    let failed = |detail: String| StoreError::Failed { detail, retry: Retry::Safe };
    let (told, read) = oneshot::channel();
    std::thread::Builder::new()
        .name("quotum-plans".to_owned())
        .spawn(move || drop(told.send(source.read())))
        .map_err(|error| failed(format!("no thread could be started to read the plans: {error}")))?;
    read.await.map_err(|_| failed("the thread that read the plans has died".to_owned()))?
}

/// Reads plans from a text in TOML or JSON: an outcome.
#[napi(catch_unwind)]
pub(crate) fn parse_plans(text: String, is_toml: bool) -> String {
    let plans = if is_toml { Plans::from_toml(&text) } else { Plans::from_json(&text) };
    Outcome::of(plans.as_ref().map(Told::from).map_err(|error| Error::from(error.clone()))).into()
}

/// Reads a plans file: the number of a task.
#[napi(catch_unwind)]
pub(crate) fn read_plans(home: u32, path: String) -> napi::Result<Either<u32, String>> {
    let read = read_aside(Source::Path(path.into()));
    Ok(Tasks::begin(&*Home::of(home)?, work(read, |_, plans| Outcome::value(&Told::from(&plans)))).into())
}
