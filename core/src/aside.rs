//! Work aside: what no caller waits for, done on short-lived threads of its own.
//!
//! A simulation that must replay exactly has threads neither started nor scheduled for it: it collects such
//! work, and does it itself when its seed says so.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Does work on a thread of its own.
pub(crate) fn aside(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    #[cfg(feature = "conformance")]
    let Some(work) = simulated::collect(Box::new(work)) else { return Ok(()) };
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// Whether this thread collects such work, and does it when its seed says so.
pub(crate) fn is_simulated() -> bool {
    #[cfg(feature = "conformance")]
    return simulated::is_collecting();
    #[cfg(not(feature = "conformance"))]
    false
}

/// Lowers the flag that work is under way when it goes out of scope, by a panic too.
pub(crate) struct Finally<'f>(pub(crate) &'f AtomicBool);

impl Drop for Finally<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(feature = "conformance")]
pub(crate) mod simulated {
    use std::cell::RefCell;
    use std::mem;

    /// Work that was to be done aside.
    pub type Work = Box<dyn FnOnce() + Send>;

    thread_local! {
        static COLLECTED: RefCell<Option<Vec<Work>>> = const { RefCell::new(None) };
    }

    /// From now on, what this thread would have done aside is collected for [`take_aside`].
    pub fn collect_aside() {
        COLLECTED.with_borrow_mut(|collected| *collected = Some(Vec::new()));
    }

    /// What was collected since the last time.
    #[must_use]
    pub fn take_aside() -> Vec<Work> {
        COLLECTED.with_borrow_mut(|collected| collected.as_mut().map(mem::take).unwrap_or_default())
    }

    pub(super) fn is_collecting() -> bool {
        COLLECTED.with_borrow(Option::is_some)
    }

    /// The work, if this thread does not collect it.
    pub(super) fn collect(work: Work) -> Option<Work> {
        COLLECTED.with_borrow_mut(|collected| match collected {
            Some(collected) => {
                collected.push(work);
                None
            }
            None => Some(work),
        })
    }
}
