//! Locks and threads of the code that is modelled: `parking_lot`'s and the system's, or in a model the
//! checker's own, which tries other threads at every step. Both locks wear `parking_lot`'s interface.

#[cfg(not(shuttle))]
pub(crate) use std::thread::ThreadId;

#[cfg(not(shuttle))]
pub(crate) use parking_lot::Mutex;
#[cfg(shuttle)]
pub(crate) use shuttle::thread::ThreadId;

#[cfg(shuttle)]
pub(crate) use self::checked::Mutex;

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
