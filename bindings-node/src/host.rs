//! Functions of the host's: who verifies tokens, who keeps plans and subscriptions, who listens to events. They run in the
//! event loop of the home in which the engine was opened.

use std::sync::Arc;

use napi::bindgen_prelude::{Buffer, Either3};
use napi_derive::napi;
use quotum::store::{Editions, Sourced, StoredPlans};
use quotum::token::{Identity, Secret, Verifier, VerifyError, async_verifier};
use quotum::{Plans, Subscription, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::bell::{Answer, Argument, Bell, HostCall, Unanswered, answered};
use crate::home::Home;
use crate::wire::{Source, Subscribed};

/// A function of the host's.
#[derive(Clone)]
pub(crate) struct Function {
    bell: Arc<Bell>,
    number: u32,
}

impl Function {
    pub(crate) fn new(home: &Home, number: u32) -> Self {
        Self { bell: Arc::clone(&home.bell), number }
    }

    pub(crate) const fn at(bell: Arc<Bell>, number: u32) -> Self {
        Self { bell, number }
    }

    /// Calls it: what it has answered, or why it has not.
    async fn call<T: DeserializeOwned>(&self, arguments: Vec<Argument>) -> Result<T, String> {
        match answered(self.bell.call(self.number, arguments)).await {
            Ok(Answer::Json(text)) => serde_json::from_str(&text).map_err(|error| error.to_string()),
            Ok(_) => Err("it answered with bytes".to_owned()),
            Err(Unanswered { detail, .. }) => Err(detail),
        }
    }

    /// Calls it and waits, on a thread that may be held up.
    pub(crate) fn call_and_wait(&self, arguments: Vec<Argument>) -> Result<Answer, Unanswered> {
        pollster::block_on(answered(self.bell.call(self.number, arguments)))
    }
}

/// The host's verifier of tokens.
pub(crate) fn verifier(function: Function) -> impl Verifier {
    async_verifier(move |token: Secret| {
        let function = function.clone();
        async move {
            let found = function.call::<Option<Identity>>(vec![Argument::Text((*token).to_owned())]).await;
            found.map_err(VerifyError::unavailable)
        }
    })
}

/// A subscription as a function of the host's says it: the id of a plan that it is active on, or what it is.
#[derive(Deserialize)]
#[serde(untagged)]
enum Hosted {
    Plan(String),
    Subscription(Box<Subscribed>),
}

/// Has subscriptions read by a function of the host's.
pub(crate) fn subscriptions(store: Sourced, function: Function) -> Sourced {
    store.subscriptions(move |subject| {
        let function = function.clone();
        async move {
            let found = function.call::<Option<Hosted>>(vec![Argument::Text(subject.to_string())]).await?;
            Ok::<_, String>(found.map(|hosted| match hosted {
                Hosted::Plan(plan) => Subscription::active(&plan, Timestamp::UNIX_EPOCH),
                Hosted::Subscription(subscribed) => subscribed.at(Timestamp::UNIX_EPOCH),
            }))
        }
    })
}

/// Has plans read by a function of the host's.
pub(crate) fn plans(store: Sourced, function: Function) -> Sourced {
    let editions = Arc::new(Editions::default());
    store.plans(move || {
        let (function, editions) = (function.clone(), Arc::clone(&editions));
        async move {
            let found = function.call::<Option<Source>>(Vec::new()).await?;
            let plans: Option<Plans> = match found {
                Some(source) => Some(crate::plans::read_aside(source).await.map_err(|error| error.to_string())?),
                None => None,
            };
            Ok::<Option<StoredPlans>, String>(editions.number(plans))
        }
    })
}

/// The host's listener to events.
pub(crate) fn listener(function: Function) -> impl Fn(&quotum::Event) + Send + 'static {
    move |event| crate::verb::tell_event(&function.bell, function.number, event)
}

/// A call of a function of the host's, as the package is told of it.
#[napi(object)]
pub(crate) struct Call {
    /// By which it is answered; 0 where no answer is wanted.
    pub id: u32,
    pub function: u32,
    pub arguments: Vec<Either3<String, Buffer, f64>>,
}

impl From<HostCall> for Call {
    fn from(call: HostCall) -> Self {
        let argument = |argument| match argument {
            Argument::Text(text) => Either3::A(text),
            Argument::Bytes(bytes) => Either3::B(bytes.into()),
            Argument::Number(number) => Either3::C(number),
        };
        Self { id: call.id, function: call.function, arguments: call.arguments.into_iter().map(argument).collect() }
    }
}

/// The functions that are to be called.
#[napi(catch_unwind)]
pub(crate) fn calls(home: u32) -> napi::Result<Vec<Call>> {
    Ok(Home::of(home)?.bell.calls().into_iter().map(Call::from).collect())
}

/// Tells what a function has answered: a value in JSON.
#[napi(catch_unwind)]
pub(crate) fn answer_json(home: u32, call: u32, json: String) -> napi::Result<()> {
    Home::of(home)?.bell.answer(call, Ok(Answer::Json(json)));
    Ok(())
}

/// The same: bytes, or none.
#[napi(catch_unwind)]
pub(crate) fn answer_bytes(home: u32, call: u32, bytes: Option<Buffer>) -> napi::Result<()> {
    Home::of(home)?.bell.answer(call, Ok(Answer::Bytes(bytes.map(|bytes| bytes.to_vec()))));
    Ok(())
}

/// The same: entries of a map, each a key and after it a value.
#[napi(catch_unwind)]
pub(crate) fn answer_entries(home: u32, call: u32, entries: Vec<Buffer>) -> napi::Result<()> {
    let mut bytes = entries.into_iter().map(|bytes| bytes.to_vec());
    let mut pairs = Vec::new();
    while let (Some(key), Some(value)) = (bytes.next(), bytes.next()) {
        pairs.push((key, value));
    }
    Home::of(home)?.bell.answer(call, Ok(Answer::Entries(pairs)));
    Ok(())
}

/// The same: that it failed, or that another transaction was in the way.
#[napi(catch_unwind)]
pub(crate) fn answer_failed(home: u32, call: u32, detail: String, is_conflict: bool) -> napi::Result<()> {
    Home::of(home)?.bell.answer(call, Err(Unanswered { detail, is_conflict }));
    Ok(())
}
