//! Answers: what a verb comes to. A synchronous caller waits for it, a task awaits it.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyRuntimeWarning, PyStopIteration, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use quotum::Error;

use crate::bell::Alarm;
use crate::error::raise;
use crate::fork::detached;
use crate::interrupt::interrupted;

/// How often a caller who waits looks whether the process was sent a signal, such as Ctrl-C.
const SIGNALS_SEEN_EVERY: Duration = Duration::from_millis(100);

/// What the core has found, as Python is told of it.
pub(crate) trait Told: Send + 'static {
    fn told(self, py: Python<'_>) -> PyResult<Py<PyAny>>;
}

impl Told for () {
    fn told(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(py.None())
    }
}

impl Told for u64 {
    fn told(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.into_pyobject(py)?.into_any().unbind())
    }
}

/// How an engine's callers get their answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By waiting for them.
    Blocking,
    /// By awaiting them.
    Asyncio,
}

impl Kind {
    /// Asks the core: the answer, or what is awaited for it.
    pub(crate) fn ask<'py, T: Told>(
        self,
        py: Python<'py>,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Blocking => Ok(wait_for(py, work)?.told(py)?.into_bound(py)),
            Self::Asyncio => Ok(Bound::new(py, Answer::asked(work))?.into_any()),
        }
    }

    /// An answer that is known already.
    pub(crate) fn answer<'py>(self, py: Python<'py>, known: Result<impl Told, Error>) -> PyResult<Bound<'py, PyAny>> {
        let told = known.map_err(|error| raise(py, error)).and_then(|known| known.told(py));
        match self {
            Self::Blocking => Ok(told?.into_bound(py)),
            Self::Asyncio => Ok(Bound::new(py, Answer::known(told))?.into_any()),
        }
    }
}

/// Waits for the core, while other threads may run Python. A signal ends the wait: what the core was asked to do may
/// then be done, whole or not at all.
fn wait_for<T: Send>(py: Python<'_>, work: impl Future<Output = Result<T, Error>> + Send) -> PyResult<T> {
    let mut work = Box::pin(work);
    let waker = Waker::from(Arc::new(Parked(std::thread::current())));
    loop {
        let polled = detached(py, || {
            let polled = work.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_pending() {
                std::thread::park_timeout(SIGNALS_SEEN_EVERY);
            }
            polled
        });
        let signal = match interrupted() {
            Some(interrupt) => Err(interrupt),
            None => py.check_signals(),
        };
        match (polled, signal) {
            (Poll::Ready(answer), Ok(())) => return answer.map_err(|error| raise(py, error)),
            (Poll::Pending, Ok(())) => {}
            (_, Err(interrupt)) => {
                detached(py, || drop(work));
                return Err(interrupt);
            }
        }
    }
}

struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

type Work = Pin<Box<dyn Future<Output = Result<Box<Tell>, Error>> + Send>>;
type Tell = dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send;

/// What a verb of AsyncQuota returns: await it, once. What can be answered from memory is decided when the verb is called;
/// anything else is done while it is awaited. Where the answer is a reservation or an engine, `async with` is an
/// await too.
#[pyclass(frozen, module = "quotum")]
pub(crate) struct Answer {
    state: Mutex<State>,
    /// Whether it is awaited by an `async with`, and what that has entered.
    is_entered: AtomicBool,
    entered: OnceLock<Py<PyAny>>,
}

enum State {
    Known(PyResult<Py<PyAny>>),
    /// To be asked for when it is first awaited.
    Unasked(Work),
    /// Asked for, with what wakes the task that awaits it, and what that task waits for.
    Asking(Work, Arc<Alarm>, Py<PyAny>),
    /// A task polls just now.
    Polled,
    Over,
}

impl Answer {
    fn new(state: State) -> Self {
        Self { state: Mutex::new(state), is_entered: AtomicBool::new(false), entered: OnceLock::new() }
    }

    /// One that is known already.
    pub(crate) fn known(answer: PyResult<Py<PyAny>>) -> Self {
        Self::new(State::Known(answer))
    }

    /// One that the core is asked for while it is awaited.
    fn asked<T: Told>(work: impl Future<Output = Result<T, Error>> + Send + 'static) -> Self {
        let work = async move {
            let found = work.await?;
            Ok(Box::new(move |py: Python<'_>| found.told(py)) as Box<Tell>)
        };
        Self::new(State::Unasked(Box::pin(work)))
    }

    /// Goes on: the future to wait for, or the end.
    fn step<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let state = std::mem::replace(&mut *self.state.lock(), State::Polled);
        match state {
            State::Known(answer) => self.end(py, answer),
            State::Unasked(work) => self.ask(py, work, Arc::default()),
            State::Asking(work, alarm, sleeper) => {
                // Woken, and not another task that awaits it too, which would never be.
                if sleeper.bind(py).call_method0("done")?.is_truthy()? {
                    return self.ask(py, work, alarm);
                }
                *self.state.lock() = State::Asking(work, alarm, sleeper);
                Err(PyRuntimeError::new_err("this answer is being awaited already: it is awaited once"))
            }
            State::Polled => Err(PyRuntimeError::new_err("this answer is being awaited already: it is awaited once")),
            State::Over => {
                *self.state.lock() = State::Over;
                Err(PyRuntimeError::new_err("this answer was awaited before: it is awaited once"))
            }
        }
    }

    fn ask<'py>(&self, py: Python<'py>, mut work: Work, alarm: Arc<Alarm>) -> PyResult<Bound<'py, PyAny>> {
        let waker = Waker::from(Arc::clone(&alarm));
        loop {
            let polled = detached(py, || work.as_mut().poll(&mut Context::from_waker(&waker)));
            if let Poll::Ready(found) = polled {
                let answer = match interrupted() {
                    Some(interrupt) => Err(interrupt),
                    None => found.map_err(|error| raise(py, error)).and_then(|tell| tell(py)),
                };
                return self.end(py, answer);
            }
            match alarm.sleeper(py) {
                Ok(None) => {}
                Ok(Some(sleeper)) => {
                    // As `await sleeper` would: its iterator marks it as awaited, and is not needed again.
                    let awaited = sleeper.call_method0("__await__")?.call_method0("__next__");
                    *self.state.lock() = State::Asking(work, alarm, sleeper.unbind());
                    return awaited;
                }
                // Nothing runs that could be waited in.
                Err(error) => {
                    *self.state.lock() = State::Over;
                    detached(py, || drop(work));
                    return Err(error);
                }
            }
        }
    }

    fn end<'py>(&self, py: Python<'py>, answer: PyResult<Py<PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        *self.state.lock() = State::Over;
        let answer = answer?;
        if self.is_entered.load(Ordering::Relaxed) {
            self.entered.get_or_init(|| answer.clone_ref(py));
        }
        Err(PyStopIteration::new_err((answer,)))
    }

    /// Lets go of what was asked. What was begun is done whole or not at all.
    fn abandon(&self, py: Python<'_>) {
        let state = std::mem::replace(&mut *self.state.lock(), State::Over);
        if let State::Unasked(work) | State::Asking(work, ..) = state {
            detached(py, || drop(work));
        }
    }
}

#[pymethods]
impl Answer {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.step(py)
    }

    /// Go on, as an event loop does: nobody else need call it. Raises RuntimeError where it was awaited before.
    #[pyo3(signature = (_value, /))]
    fn send<'py>(&self, py: Python<'py>, _value: &Bound<'_, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.step(py)
    }

    /// Let go of what was asked, and raise the error, as a cancelled task does.
    #[pyo3(signature = (error, /, *more))]
    fn throw(&self, py: Python<'_>, error: Bound<'_, PyAny>, more: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.abandon(py);
        // As of old, the class of an exception may come before it.
        let value = more.get_item(0).ok().filter(|value| value.is_instance_of::<PyBaseException>());
        Err(PyErr::from_value(value.unwrap_or(error)))
    }

    /// Let go of what was asked. What was begun is done whole or not at all.
    fn close(&self, py: Python<'_>) {
        self.abandon(py);
    }

    fn __aenter__(slf: Py<Self>) -> Py<Self> {
        slf.get().is_entered.store(true, Ordering::Relaxed);
        slf
    }

    #[pyo3(signature = (*exception))]
    fn __aexit__<'py>(&self, py: Python<'py>, exception: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        match self.entered.get() {
            Some(entered) => entered.bind(py).call_method1("__aexit__", exception),
            None => Err(PyRuntimeError::new_err("this answer was not entered by `async with`")),
        }
    }

    /// An answer that was not awaited is neither: `if quota.consume(…)` would let everybody pass.
    fn __bool__(&self) -> PyResult<bool> {
        Err(PyTypeError::new_err("an answer that is not awaited is neither true nor false: await it first"))
    }

    #[classmethod]
    #[pyo3(signature = (item, /))]
    fn __class_getitem__(cls: &Bound<'_, PyType>, item: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let alias = cls.py().import("types")?.getattr("GenericAlias")?;
        Ok(alias.call1((cls, item))?.unbind())
    }

    fn __repr__(&self) -> &'static str {
        match &*self.state.lock() {
            State::Known(_) => "<Answer, known>",
            State::Unasked(_) => "<Answer, to be awaited>",
            State::Asking(..) | State::Polled => "<Answer, being awaited>",
            State::Over => "<Answer, awaited>",
        }
    }
}

impl Drop for Answer {
    /// Warns of what was never awaited, as of any coroutine.
    fn drop(&mut self) {
        let text = match self.state.get_mut() {
            State::Known(_) => c"an answer of AsyncQuota was never awaited: what it says was not looked at",
            State::Unasked(_) => c"an answer of AsyncQuota was never awaited: nothing was asked",
            State::Asking(..) => {
                Python::try_attach(|py| self.abandon(py));
                return;
            }
            State::Polled | State::Over => return,
        };
        Python::try_attach(|py| {
            self.abandon(py);
            let category = py.get_type::<PyRuntimeWarning>();
            if let Err(error) = PyErr::warn(py, &category, text, 1) {
                error.write_unraisable(py, None);
            }
        });
    }
}
