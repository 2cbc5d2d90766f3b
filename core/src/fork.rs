//! Forks: what belongs to the process that made it, and not to a child that has inherited a copy.
//!
//! A child has none of its parent's threads, shares its sockets, and finds every lock as it was at the fork, for ever.
//! So it uses nothing that it has inherited: engines and stores are [`PerProcess`], made anew in a child that asks.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// Remembers in which process it was made. Asking costs one load.
#[derive(Clone)]
pub(crate) struct Born(forkguard::Guard);

impl Born {
    pub(crate) fn here() -> Self {
        Self(forkguard::Guard::default())
    }

    /// Whether this process is the one, and no child of it.
    pub(crate) fn is_here(&self) -> bool {
        // A copy, because the guard tells of a fork only once.
        !self.0.clone().detected_fork()
    }
}

impl fmt::Debug for Born {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_here() { "Born(here)" } else { "Born(in a parent process)" })
    }
}

/// Something of the process that has made it. A child that drops its copy leaks it: what it would end, close or give
/// back is its parent's.
pub(crate) struct Bound<T> {
    value: Arc<T>,
    born: Born,
}

impl<T> Bound<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self { value, born: Born::here() }
    }

    /// Whether it is this process's own.
    pub(crate) fn is_here(&self) -> bool {
        self.born.is_here()
    }
}

impl<T> Deref for Bound<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.value
    }
}

impl<T> Clone for Bound<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), born: self.born.clone() }
    }
}

impl<T> Drop for Bound<T> {
    fn drop(&mut self) {
        if !self.is_here() {
            // One reference more than will ever be dropped.
            std::mem::forget(Arc::clone(&self.value));
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Bound<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A child must not touch what may be locked for ever.
        if self.is_here() { self.value.fmt(f) } else { self.born.fmt(f) }
    }
}

/// One value for each process: a child makes its own when it first asks, and leaves the one that it has inherited as it
/// is. Nothing of a parent is locked for that.
pub(crate) struct PerProcess<T, E> {
    first: Made<T>,
    make: Box<Make<T, E>>,
}

/// Makes a child's value; it is given the parent's, of which nobody but this process's own threads may be waited for.
type Make<T, E> = dyn Fn(&Arc<T>) -> Result<Arc<T>, E> + Send + Sync;

/// The value of one process, and of its child in this one's copy of the memory.
struct Made<T> {
    value: Bound<T>,
    inherited: OnceLock<Box<Self>>,
}

impl<T> Made<T> {
    const fn new(value: Bound<T>) -> Self {
        Self { value, inherited: OnceLock::new() }
    }
}

impl<T, E> PerProcess<T, E> {
    pub(crate) fn new(value: Arc<T>, make: impl Fn(&Arc<T>) -> Result<Arc<T>, E> + Send + Sync + 'static) -> Self {
        Self { first: Made::new(Bound::new(value)), make: Box::new(make) }
    }

    /// This process's own. In the process that has made the first, one load.
    pub(crate) fn here(&self) -> Result<&Arc<T>, E> {
        let mut made = &self.first;
        while !made.value.is_here() {
            made = match made.inherited.get() {
                Some(made) => made,
                None => {
                    // Not within the lock of the cell, which a child of this one would find locked for ever.
                    let own = Box::new(Made::new(Bound::new((self.make)(&made.value)?)));
                    made.inherited.get_or_init(|| own)
                }
            };
        }
        Ok(&made.value)
    }
}

impl<T, E> fmt::Debug for PerProcess<T, E>
where
    T: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut made = &self.first;
        while let Some(next) = made.inherited.get() {
            made = next;
        }
        made.value.fmt(f)
    }
}
