//! The one lock of the module, so that a model checker can stand in for it (`--cfg shuttle`).

#[cfg(not(shuttle))]
pub(super) use parking_lot::Mutex;

#[cfg(shuttle)]
pub(super) use checked::Mutex;

#[cfg(shuttle)]
mod checked {
    use std::sync::PoisonError;

    use shuttle::sync::MutexGuard;

    /// `shuttle`'s mutex with the face of `parking_lot`'s: it is never poisoned.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}
