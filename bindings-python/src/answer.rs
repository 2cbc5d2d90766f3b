//! Answers: what a verb comes to. A synchronous caller waits for it, a task awaits it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning, PyStopIteration, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use quotum::Error;

use crate::bell::Alarm;
use crate::error::raise;
use crate::fork::detached;

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

/// Waits for the core, while other threads may run Python. A signal ends the wait: what the core was asked to do may
/// then be done, whole or not at all.
pub(crate) fn wait_for<T: Send>(py: Python<'_>, work: impl Future<Output = Result<T, Error>> + Send) -> PyResult<T> {
    let mut work = pin!(work);
    let waker = Waker::from(Arc::new(Parked(std::thread::current())));
    loop {
        let polled = detached(py, || {
            let polled = work.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_pending() {
                std::thread::park_timeout(SIGNALS_SEEN_EVERY);
            }
            polled
        });
        if let Poll::Ready(answer) = polled {
            return answer.map_err(|error| raise(py, error));
        }
        py.check_signals()?;
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
    /// And what wakes the task that awaits it, once it does.
    Asking(Work, Option<Arc<Alarm>>),
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
    pub(crate) fn asked<T: Told>(work: impl Future<Output = Result<T, Error>> + Send + 'static) -> Self {
        let work = async move {
            let found = work.await?;
            Ok(Box::new(move |py: Python<'_>| found.told(py)) as Box<Tell>)
        };
        Self::new(State::Asking(Box::pin(work), None))
    }

    /// Goes on: the future to wait for, or the end.
    fn step<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let state = std::mem::replace(&mut *self.state.lock(), State::Over);
        match state {
            State::Known(answer) => self.end(py, answer),
            State::Asking(work, alarm) => self.ask(py, work, alarm.unwrap_or_default()),
            State::Over => Err(PyRuntimeError::new_err("this answer was awaited before: it is awaited once")),
        }
    }

    fn ask<'py>(&self, py: Python<'py>, mut work: Work, alarm: Arc<Alarm>) -> PyResult<Bound<'py, PyAny>> {
        let waker = Waker::from(Arc::clone(&alarm));
        loop {
            let polled = detached(py, || work.as_mut().poll(&mut Context::from_waker(&waker)));
            if let Poll::Ready(found) = polled {
                let answer = found.map_err(|error| raise(py, error)).and_then(|tell| tell(py));
                return self.end(py, answer);
            }
            if let Some(sleeper) = alarm.sleeper(py)? {
                *self.state.lock() = State::Asking(work, Some(alarm));
                // As `await sleeper` would: its iterator marks it as awaited, and is not needed again.
                return sleeper.call_method0("__await__")?.call_method0("__next__");
            }
        }
    }

    fn end<'py>(&self, py: Python<'py>, answer: PyResult<Py<PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let answer = answer?;
        if self.is_entered.load(Ordering::Relaxed) {
            self.entered.get_or_init(|| answer.clone_ref(py));
        }
        Err(PyStopIteration::new_err((answer,)))
    }

    /// Lets go of what was asked. What was begun is done whole or not at all.
    fn abandon(&self, py: Python<'_>) {
        let state = std::mem::replace(&mut *self.state.lock(), State::Over);
        if let State::Asking(work, _) = state {
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
    #[pyo3(signature = (error, /, *_more))]
    fn throw(&self, py: Python<'_>, error: Bound<'_, PyAny>, _more: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.abandon(py);
        Err(PyErr::from_value(error))
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
            State::Asking(..) => "<Answer, to be awaited>",
            State::Over => "<Answer, awaited>",
        }
    }
}

impl Drop for Answer {
    /// Warns of what was asked and never awaited, as of any coroutine.
    fn drop(&mut self) {
        let State::Asking(_, alarm) = self.state.get_mut() else { return };
        let was_awaited = alarm.is_some();
        Python::try_attach(|py| {
            self.abandon(py);
            let category = py.get_type::<PyRuntimeWarning>();
            let text = c"an answer of AsyncQuota was never awaited: nothing was asked";
            if !was_awaited && let Err(error) = PyErr::warn(py, &category, text, 1) {
                error.write_unraisable(py, None);
            }
        });
    }
}
