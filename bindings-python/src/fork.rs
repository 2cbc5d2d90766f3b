//! Forks: a child must not be made while another thread is inside the core, whose locks it would find locked for ever.
//!
//! Without the interpreter's lock, threads are only ever inside the core in a *section*. Before a fork, new sections
//! wait and those under way are waited for, but not for ever. A function of the host's is called outside of them.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::interpreter::begin_anew;

/// How long a fork waits for other threads at the most.
const WAITED_AT_MOST: Duration = Duration::from_secs(10);

/// How often it is looked whether the others are done.
const LOOKED_EVERY: Duration = Duration::from_micros(50);

static SECTIONS: AtomicUsize = AtomicUsize::new(0);
static FORKS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Sections that this thread is in: more than one where the core has called a function of the host's, which has
    /// called the core.
    static WITHIN: Cell<usize> = const { Cell::new(0) };
}

/// Does something in the core while other threads may run Python.
pub(crate) fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    py.detach(|| {
        let _section = Section::enter();
        work()
    })
}

/// Does something out of the sections that this thread is in: calls a function of the host's, which may take its time,
/// or fork. Whatever the core was about then, a child has its own of.
pub(crate) fn outside<T>(act: impl FnOnce() -> T) -> T {
    let within = WITHIN.replace(0);
    SECTIONS.fetch_sub(within, Ordering::SeqCst);
    let answer = act();
    for _ in 0..within {
        std::mem::forget(Section::enter());
    }
    answer
}

struct Section;

impl Section {
    fn enter() -> Self {
        let within = WITHIN.get();
        loop {
            SECTIONS.fetch_add(1, Ordering::SeqCst);
            // One that is inside another is waited for as part of it.
            if within > 0 || FORKS.load(Ordering::SeqCst) == 0 {
                break;
            }
            SECTIONS.fetch_sub(1, Ordering::SeqCst);
            while FORKS.load(Ordering::SeqCst) > 0 {
                std::thread::sleep(LOOKED_EVERY);
            }
        }
        WITHIN.set(within + 1);
        Self
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        WITHIN.set(WITHIN.get().saturating_sub(1));
        SECTIONS.fetch_sub(1, Ordering::SeqCst);
    }
}

#[pyfunction]
fn before_fork(py: Python<'_>) {
    py.detach(|| {
        FORKS.fetch_add(1, Ordering::SeqCst);
        let began = Instant::now();
        while SECTIONS.load(Ordering::SeqCst) > WITHIN.get() && began.elapsed() < WAITED_AT_MOST {
            std::thread::sleep(LOOKED_EVERY);
        }
    });
}

#[pyfunction]
fn after_fork_in_parent() {
    FORKS.fetch_sub(1, Ordering::SeqCst);
}

#[pyfunction]
fn after_fork_in_child() {
    // It has none of its parent's other threads.
    SECTIONS.store(WITHIN.get(), Ordering::SeqCst);
    FORKS.store(0, Ordering::SeqCst);
    begin_anew();
}

/// Has the interpreter tell of its forks, where there are any.
pub(crate) fn watch(py: Python<'_>) -> PyResult<()> {
    let os = py.import("os")?;
    if !os.hasattr("register_at_fork")? {
        return Ok(());
    }
    let hooks = PyDict::new(py);
    hooks.set_item("before", wrap_pyfunction!(before_fork, py)?)?;
    hooks.set_item("after_in_parent", wrap_pyfunction!(after_fork_in_parent, py)?)?;
    hooks.set_item("after_in_child", wrap_pyfunction!(after_fork_in_child, py)?)?;
    os.call_method("register_at_fork", (), Some(&hooks)).map(drop)
}
