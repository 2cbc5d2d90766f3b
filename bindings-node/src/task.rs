//! Tasks: what the core was asked and cannot answer from memory. They are polled in the event loop's own thread, which no
//! poll holds up: the core does what takes long elsewhere.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use napi::bindgen_prelude::{Either, Result};
use napi_derive::napi;
use quotum::Error;

use crate::bell::Alarm;
use crate::ending::end;
use crate::handles::Handles;
use crate::home::Home;
use crate::outcome::{Outcome, panicked};

/// What the core has found, as the package is told of it.
pub(crate) type Tell = Box<dyn FnOnce(&Home) -> Outcome + Send>;
pub(crate) type Work = Pin<Box<dyn Future<Output = Tell> + Send>>;

/// Work that tells what it finds.
pub(crate) fn work<T: Send + 'static>(
    found: impl Future<Output = std::result::Result<T, Error>> + Send + 'static,
    tell: impl FnOnce(&Home, T) -> Outcome + Send + 'static,
) -> Work {
    Box::pin(async move {
        let found = found.await;
        Box::new(move |home: &Home| match found {
            Ok(found) => tell(home, found),
            Err(error) => Outcome::error(&error),
        }) as Tell
    })
}

/// The tasks of one home. One that is being polled is out of its place.
#[derive(Default)]
pub(crate) struct Tasks(Handles<Option<Work>>);

/// What has become of work that was begun.
pub(crate) enum Begun {
    Done(Outcome),
    /// To be told of when it is done, by this number.
    Pending(u32),
}

impl Tasks {
    pub(crate) fn take(&self) -> impl Send + 'static {
        self.0.remove_all(|_| true)
    }

    /// Begins work, which may be done at once.
    pub(crate) fn begin(home: &Home, work: Work) -> Begun {
        match Self::try_now(home, work, |work| work) {
            Ok(tell) => Begun::Done(tell(home)),
            Err(task) => Begun::Pending(task),
        }
    }

    /// What comes of something, if it does at once. Otherwise it becomes a task, as the work that `wait` makes of it.
    pub(crate) fn try_now<T>(
        home: &Home,
        mut asked: Pin<Box<dyn Future<Output = T> + Send>>,
        wait: impl FnOnce(Pin<Box<dyn Future<Output = T> + Send>>) -> Work,
    ) -> std::result::Result<T, u32> {
        let task = home.tasks.0.insert(None);
        let polled = asked.as_mut().poll(&mut Context::from_waker(&waker(home, task)));
        match polled {
            Poll::Ready(found) => {
                home.tasks.0.remove(task);
                Ok(found)
            }
            Poll::Pending => {
                home.tasks.0.replace(task, Some(wait(asked)));
                Err(task)
            }
        }
    }

    /// Goes on with a task that was woken; its outcome, if it is done.
    fn resume(home: &Home, task: u32) -> Option<Outcome> {
        // It may have been cancelled, or be done, and woken nevertheless.
        let mut work = home.tasks.0.with_mut(task, Option::take)??;
        let waker = waker(home, task);
        let polled = std::panic::AssertUnwindSafe(|| match work.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(tell) => Some(tell(home)),
            Poll::Pending => None,
        });
        let outcome = std::panic::catch_unwind(polled).unwrap_or_else(|_| Some(panicked()));
        if outcome.is_some() {
            home.tasks.0.remove(task);
        } else if let Some(cancelled) = home.tasks.0.replace(task, Some(work)) {
            end(cancelled);
        }
        outcome
    }
}

fn waker(home: &Home, task: u32) -> Waker {
    Waker::from(Arc::new(Alarm { bell: Arc::clone(&home.bell), task }))
}

/// Tasks that are done: the number of each, and its outcome.
#[napi(catch_unwind)]
pub(crate) fn settled(home: u32) -> Result<Vec<Either<u32, String>>> {
    let home = Home::of(home)?;
    let mut settled = Vec::new();
    for task in home.bell.woken() {
        if let Some(outcome) = Tasks::resume(&home, task) {
            settled.extend([Either::A(task), Either::B(outcome.into())]);
        }
    }
    Ok(settled)
}

/// Whether there is more to do. Where there is not, the home is called when there is.
#[napi(catch_unwind)]
pub(crate) fn has_more(home: u32) -> Result<bool> {
    Ok(Home::of(home)?.bell.has_more())
}

/// Lets go of a task. What was begun is done whole or not at all.
#[napi(catch_unwind)]
pub(crate) fn cancel(home: u32, task: u32) -> Result<()> {
    let work = Home::of(home)?.tasks.0.remove(task);
    if let Some(work) = work {
        end(work);
    }
    Ok(())
}

impl From<Begun> for Either<u32, String> {
    fn from(begun: Begun) -> Self {
        match begun {
            Begun::Done(outcome) => Self::B(outcome.into()),
            Begun::Pending(task) => Self::A(task),
        }
    }
}
