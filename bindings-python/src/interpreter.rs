//! The interpreter, as threads of the core's call it: a listener, a store or a verifier of the host's.
//!
//! A thread that is in Python while the interpreter ends is ended by it, wherever it is, which Rust cannot bear. So before
//! that end no thread goes there any more, and those that are there are waited for.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// How long the end of the interpreter waits for functions of the host's.
const WAITED_AT_MOST: Duration = Duration::from_secs(10);

/// How often it is looked whether they are done.
const LOOKED_EVERY: Duration = Duration::from_micros(200);

static INSIDE: AtomicUsize = AtomicUsize::new(0);
static ENDS: AtomicBool = AtomicBool::new(false);

/// Does something with Python; `None` where the interpreter ends.
pub(crate) fn attached<T>(act: impl FnOnce(Python<'_>) -> T) -> Option<T> {
    INSIDE.fetch_add(1, Ordering::SeqCst);
    let _inside = Inside;
    if ENDS.load(Ordering::SeqCst) {
        return None;
    }
    Python::try_attach(act)
}

struct Inside;

impl Drop for Inside {
    fn drop(&mut self) {
        // A child of a fork has begun to count anew.
        let left = |inside: usize| Some(inside.saturating_sub(1));
        let _before = INSIDE.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left);
    }
}

/// A child of a fork has none of its parent's other threads.
pub(crate) fn begin_anew() {
    INSIDE.store(0, Ordering::SeqCst);
}

/// Let no thread of the core's call Python any more, and wait for those that do.
#[pyfunction]
pub(crate) fn end_calls(py: Python<'_>) {
    ENDS.store(true, Ordering::SeqCst);
    py.detach(|| {
        let began = Instant::now();
        while INSIDE.load(Ordering::SeqCst) > 0 && began.elapsed() < WAITED_AT_MOST {
            std::thread::sleep(LOOKED_EVERY);
        }
    });
}
