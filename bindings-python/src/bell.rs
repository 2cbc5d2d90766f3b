//! Bells: wake what waits in an event loop, from whatever thread.
//!
//! A thread of the core's that has found an answer must not wait for the interpreter's lock, which the loop may hold
//! for milliseconds: a thread of the bell's does, once for all that have been woken meanwhile.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::interpreter::attached;

/// A future of an event loop's that is done when its sleeper is to be woken.
type Sleeper = Py<PyAny>;

/// The bell of one event loop.
#[pyclass(frozen)]
struct Bell {
    sleepers: Mutex<Sender<Sleeper>>,
}

/// Bells by loop. A loop that ends takes its bell with it.
fn bells(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static BELLS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let bells =
        BELLS.get_or_try_init(py, || py.import("weakref")?.getattr("WeakKeyDictionary")?.call0().map(Bound::unbind))?;
    Ok(bells.bind(py))
}

/// The event loop that runs on this thread, if one does.
pub(crate) fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static RUNNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    RUNNING.import(py, "asyncio", "get_running_loop")?.call0()
}

fn bell_of(event_loop: &Bound<'_, PyAny>) -> PyResult<Py<Bell>> {
    let py = event_loop.py();
    let bells = bells(py)?;
    if let Ok(bell) = bells.get_item(event_loop) {
        return Ok(bell.cast_into::<Bell>()?.unbind());
    }
    let (sleepers, woken) = channel();
    let weak = py.import("weakref")?.call_method1("ref", (event_loop,))?.unbind();
    let ring = move || ring(&woken, &weak);
    std::thread::Builder::new().name("quotum-asyncio".to_owned()).spawn(ring)?;
    let bell = Py::new(py, Bell { sleepers: Mutex::new(sleepers) })?;
    bells.set_item(event_loop, &bell)?;
    Ok(bell)
}

/// Wakes whoever has been woken, until nobody can be any more.
fn ring(woken: &Receiver<Sleeper>, event_loop: &Py<PyAny>) {
    while let Ok(first) = woken.recv() {
        let rung = attached(|py| {
            let sleepers: Vec<Sleeper> = std::iter::once(first).chain(woken.try_iter()).collect();
            let event_loop = event_loop.bind(py).call0()?;
            if event_loop.is_none() {
                return Ok(());
            }
            let wake = wrap_pyfunction!(wake_all, py)?;
            event_loop.call_method1("call_soon_threadsafe", (wake, sleepers)).map(drop)
        });
        match rung {
            // A loop that was closed has nobody to wake.
            Some(Ok(()) | Err(_)) => {}
            // The interpreter ends.
            None => return,
        }
    }
}

#[pyfunction]
fn wake_all(sleepers: Vec<Bound<'_, PyAny>>) -> PyResult<()> {
    for sleeper in sleepers {
        // It may have been cancelled meanwhile.
        if !sleeper.call_method0("done")?.is_truthy()? {
            sleeper.call_method1("set_result", (sleeper.py().None(),))?;
        }
    }
    Ok(())
}

/// What a future of the core's is polled with: it wakes the task that waits for it.
#[derive(Default)]
pub(crate) struct Alarm(Mutex<Signal>);

#[derive(Default)]
struct Signal {
    /// Whether it was rung since the last time that somebody began to wait.
    rang: bool,
    sleeper: Option<(Sender<Sleeper>, Sleeper)>,
}

impl Alarm {
    /// What a task that polled is to wait for: a future of its loop's. `None` where there is nothing to wait for any
    /// more.
    pub(crate) fn sleeper<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let event_loop = running_loop(py)?;
        let sleepers = bell_of(&event_loop)?.get().sleepers.lock().clone();
        let sleeper = event_loop.call_method0("create_future")?;
        let mut signal = self.0.lock();
        if std::mem::take(&mut signal.rang) {
            return Ok(None);
        }
        signal.sleeper = Some((sleepers, sleeper.clone().unbind()));
        Ok(Some(sleeper))
    }
}

impl std::task::Wake for Alarm {
    fn wake(self: Arc<Self>) {
        let mut signal = self.0.lock();
        signal.rang = true;
        let sleeper = signal.sleeper.take();
        if let Some((bell, sleeper)) = sleeper {
            signal.rang = false;
            drop(signal);
            // A bell that is gone has nobody to wake.
            let _gone = bell.send(sleeper);
        }
    }
}
