//! The engine of a process: a child that was forked makes its own when it is first asked.

use std::convert::Infallible;
use std::ops::Deref;
use std::sync::Arc;

use crate::admission::Admission;
use crate::fork::PerProcess;

/// An engine, in whichever process it is asked.
#[derive(Debug, Clone)]
pub(crate) struct Engine(Arc<PerProcess<Admission, Infallible>>);

impl Engine {
    /// `make` makes that of a child process.
    pub(crate) fn new(own: Arc<Admission>, make: impl Fn() -> Arc<Admission> + Send + Sync + 'static) -> Self {
        Self(Arc::new(PerProcess::new(own, move |_| Ok(make()))))
    }
}

impl Deref for Engine {
    type Target = Arc<Admission>;

    fn deref(&self) -> &Arc<Admission> {
        let Ok(own) = self.0.here();
        own
    }
}
