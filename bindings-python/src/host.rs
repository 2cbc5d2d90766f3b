//! Functions of the host's: who verifies tokens, who keeps plans and subscriptions, who listens to events.
//!
//! An ordinary function may block: for tasks it is called on a thread of its own. A coroutine function runs in the event
//! loop that asks; whoever asks from elsewhere runs it in the loop in which the engine was opened.

use std::sync::Arc;

use futures_channel::oneshot;
use parking_lot::Mutex;
use pyo3::prelude::*;
use quotum::Plans;
use quotum::store::{Call, Editions, Sourced};
use quotum::token::{
    Identity as Known, Secret, Verifier, VerifyError, VerifyFuture, async_verifier, blocking_verifier,
};

use crate::argument::refused_value;
use crate::bell::running_loop;
use crate::event::Event;
use crate::fork::outside;
use crate::identity::Identity;
use crate::interpreter;
use crate::interrupt::{caught, words};
use crate::subscription::Subscription;

/// A function of the host's.
#[derive(Clone)]
pub(crate) struct Function(Arc<Inner>);

struct Inner {
    function: Py<PyAny>,
    /// The loop in which the engine was opened, of a function that is a coroutine's.
    home: Option<Py<PyAny>>,
    is_coroutine: bool,
}

/// What a function has answered, or the words of what it raised.
type Answered = Result<Py<PyAny>, String>;

impl Function {
    /// One that is called with no event loop, or with one.
    pub(crate) fn of(argument: &str, function: &Bound<'_, PyAny>, in_loop: bool) -> PyResult<Self> {
        let py = function.py();
        if !function.is_callable() {
            return Err(refused_value(argument, function, "a function"));
        }
        let is_coroutine_function = py.import("inspect")?.getattr("iscoroutinefunction")?;
        let is_coroutine = |function: &Bound<'_, PyAny>| is_coroutine_function.call1((function,))?.is_truthy();
        let is_coroutine = is_coroutine(function)? || is_coroutine(&function.getattr("__call__")?)?;
        if is_coroutine && !in_loop {
            let expected = "an ordinary function, because nothing here runs an event loop: use AsyncQuota for this one";
            return Err(refused_value(argument, function, expected));
        }
        let home = if is_coroutine { Some(running_loop(py)?.unbind()) } else { None };
        Ok(Self(Arc::new(Inner { function: function.clone().unbind(), home, is_coroutine })))
    }

    /// Calls an ordinary function, on this thread.
    fn call<A: for<'py> pyo3::call::PyCallArgs<'py> + Send, T>(
        &self,
        arguments: A,
        read: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T>,
    ) -> Result<T, String> {
        attached(|py| read(&self.0.function.bind(py).call1(arguments)?))
    }

    /// Calls a coroutine function, and waits until its task is done, which is cancelled where nobody waits any more.
    async fn run<A: for<'py> pyo3::call::PyCallArgs<'py> + Send>(&self, arguments: A) -> Answered {
        let (told, answered) = oneshot::channel();
        let _task = attached(|py| {
            let coroutine = self.0.function.bind(py).call1(arguments)?;
            let task = match running_loop(py) {
                Ok(event_loop) => event_loop.call_method1("create_task", (coroutine,))?,
                Err(_) => {
                    let home = self.0.home.as_ref().map(|home| home.bind(py));
                    py.import("asyncio")?.call_method1("run_coroutine_threadsafe", (coroutine, home))?
                }
            };
            task.call_method1("add_done_callback", (Done { told: Mutex::new(Some(told)) },))?;
            Ok(Task(task.unbind()))
        })?;
        answered.await.unwrap_or_else(|_| Err("its event loop was closed".to_owned()))
    }
}

/// Does something with Python, unless the interpreter ends.
fn attached<T>(act: impl FnOnce(Python<'_>) -> PyResult<T>) -> Result<T, String> {
    let ended = || Err("the interpreter ends".to_owned());
    outside(|| interpreter::attached(|py| act(py).map_err(|error| caught(py, error))).unwrap_or_else(ended))
}

/// A task that is cancelled when nobody waits for it any more.
struct Task(Py<PyAny>);

impl Drop for Task {
    fn drop(&mut self) {
        let _cancelled = attached(|py| {
            let task = self.0.bind(py);
            if task.call_method0("done")?.is_truthy()? {
                return Ok(());
            }
            // A future of another thread's loop has none of its own, and is cancelled from anywhere.
            match task.call_method0("get_loop") {
                Ok(event_loop) => event_loop.call_method1("call_soon_threadsafe", (task.getattr("cancel")?,))?,
                Err(_) => task.call_method0("cancel")?,
            };
            Ok(())
        });
    }
}

/// Called when a task is done.
#[pyclass(frozen)]
struct Done {
    told: Mutex<Option<oneshot::Sender<Answered>>>,
}

#[pymethods]
impl Done {
    fn __call__(&self, py: Python<'_>, task: &Bound<'_, PyAny>) {
        let Some(told) = self.told.lock().take() else { return };
        // Nobody may wait any more.
        let _left = told.send(task.call_method0("result").map(Bound::unbind).map_err(|error| words(py, &error)));
    }
}

/// Reads what a function has answered.
fn read<T>(answered: Answered, read: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T>) -> Result<T, String> {
    let answer = answered?;
    attached(|py| read(answer.bind(py)))
}

/// Whom a verifier names: an identity, the id of a subject, or None.
fn identified(answer: &Bound<'_, PyAny>) -> PyResult<Option<Known>> {
    if answer.is_none() {
        return Ok(None);
    }
    if let Ok(identity) = answer.cast::<Identity>() {
        return Ok(Some(identity.get().inner.clone()));
    }
    // What it returned may be the token.
    let named = answer.extract::<String>().map_err(|_| {
        let kind = answer.get_type();
        refused_value("verifier", &kind, "a function that returns a quotum.Identity, the id of a subject, or None")
    })?;
    Ok(Some(Known::of(named)))
}

/// The host's verifier of tokens.
#[derive(Debug)]
pub(crate) struct HostVerifier(Box<dyn Verifier>);

impl HostVerifier {
    pub(crate) fn of(function: Function) -> Self {
        if function.0.is_coroutine {
            return Self(Box::new(async_verifier(move |token: Secret| {
                let function = function.clone();
                async move {
                    let answered = function.run(((*token).to_owned(),)).await;
                    read(answered, identified).map_err(VerifyError::unavailable)
                }
            })));
        }
        let verify = move |token: &str| function.call((token,), identified).map_err(VerifyError::unavailable);
        Self(Box::new(blocking_verifier(verify)))
    }
}

impl Verifier for HostVerifier {
    fn verify<'a>(&'a self, call: Call, token: &'a str) -> VerifyFuture<'a> {
        self.0.verify(call, token)
    }
}

/// Has subscriptions read by a function of the host's.
pub(crate) fn subscriptions(store: Sourced, function: Function) -> Sourced {
    if !function.0.is_coroutine {
        let read = move |subject: &str| function.call((subject,), Subscription::hosted);
        return store.blocking_subscriptions(read);
    }
    store.subscriptions(move |subject| {
        let function = function.clone();
        async move { read(function.run((subject.to_string(),)).await, Subscription::hosted) }
    })
}

/// Has plans read by a function of the host's.
pub(crate) fn plans(store: Sourced, function: Function) -> Sourced {
    let editions = Arc::new(Editions::default());
    if !function.0.is_coroutine {
        let read = move || function.call((), plans_of).map(|plans| editions.number(plans));
        return store.blocking_plans(read);
    }
    store.plans(move || {
        let (function, editions) = (function.clone(), Arc::clone(&editions));
        async move { read(function.run(()).await, plans_of).map(|plans| editions.number(plans)) }
    })
}

fn plans_of(answer: &Bound<'_, PyAny>) -> PyResult<Option<Plans>> {
    if answer.is_none() { Ok(None) } else { crate::plan::Plans::of("plans", answer).map(Some) }
}

/// The host's listener to events. What it raises is told as Python tells of what nobody can catch.
pub(crate) fn listener(
    argument: &str,
    function: &Bound<'_, PyAny>,
) -> PyResult<impl Fn(&quotum::Event) + Send + use<>> {
    let function = Function::of(argument, function, false)?;
    Ok(move |event: &quotum::Event| {
        interpreter::attached(|py| {
            let listener = function.0.function.bind(py);
            if let Err(error) = listener.call1((Event { inner: event.clone() },)) {
                error.write_unraisable(py, Some(listener));
            }
        });
    })
}
