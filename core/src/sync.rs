//! Locks and threads of the code that is modelled: `parking_lot`'s and the system's, or in a model the
//! checker's own, which tries other threads at every step. Both locks wear `parking_lot`'s interface.

use std::sync::PoisonError;
#[cfg(not(shuttle))]
pub(crate) use std::thread::ThreadId;
use std::time::Duration;

#[cfg(not(shuttle))]
pub(crate) use parking_lot::Mutex;
#[cfg(shuttle)]
pub(crate) use shuttle::thread::ThreadId;

#[cfg(shuttle)]
pub(crate) use self::checked::Mutex;

/// A lock with a condition that threads of our own wait for, for as long as they live.
///
/// The system's, and not `parking_lot`'s: that one keeps a list of all who wait, in which a forked child would find
/// threads that it does not have.
#[derive(Debug, Default)]
pub(crate) struct Monitor<T> {
    state: std::sync::Mutex<T>,
    changed: std::sync::Condvar,
}

impl<T> Monitor<T> {
    pub(crate) const fn new(state: T) -> Self {
        Self { state: std::sync::Mutex::new(state), changed: std::sync::Condvar::new() }
    }

    pub(crate) fn lock(&self) -> MonitorGuard<'_, T> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn notify_one(&self) {
        self.changed.notify_one();
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn wait<'m>(&self, guard: MonitorGuard<'m, T>) -> MonitorGuard<'m, T> {
        self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wait_for<'m>(&self, guard: MonitorGuard<'m, T>, time: Duration) -> MonitorGuard<'m, T> {
        self.changed.wait_timeout(guard, time).unwrap_or_else(PoisonError::into_inner).0
    }
}

pub(crate) type MonitorGuard<'m, T> = std::sync::MutexGuard<'m, T>;

pub(crate) fn current_thread() -> ThreadId {
    #[cfg(not(shuttle))]
    use std::thread;

    #[cfg(shuttle)]
    use shuttle::thread;

    thread::current().id()
}

#[cfg(shuttle)]
mod checked {
    use std::sync::PoisonError;

    use shuttle::sync::MutexGuard;

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}
