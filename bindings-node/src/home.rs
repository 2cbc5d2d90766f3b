//! Homes: what one copy of the package, in one thread of JavaScript, has of the core's.
//!
//! A thread may have several, where a test runner loads the package anew. The package numbers its home, and its home
//! numbers engines, reservations and whatever else the package holds on to.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use napi::bindgen_prelude::{Error, Function, Result};
use napi_derive::napi;
use quotum::{ManualClock, Quota, Reservation, Subject};
use slab::Slab;

use crate::bell::Bell;
use crate::ending::end;
use crate::names::Names;
use crate::raw::Numbers;
use crate::task::Tasks;

pub(crate) struct Home {
    pub(crate) bell: Arc<Bell>,
    pub(crate) tasks: Tasks,
    pub(crate) numbers: Numbers,
    pub(crate) names: RefCell<Names>,
    pub(crate) engines: RefCell<Slab<Quota>>,
    pub(crate) subjects: RefCell<Slab<Subject>>,
    pub(crate) reservations: RefCell<Slab<Reservation>>,
    pub(crate) clocks: RefCell<Slab<Arc<ManualClock>>>,
}

thread_local! {
    static HOMES: RefCell<Vec<Rc<Home>>> = const { RefCell::new(Vec::new()) };
}

impl Home {
    /// The home of this number.
    pub(crate) fn of(number: u32) -> Result<Rc<Self>> {
        let found = HOMES.with_borrow(|homes| homes.get(number as usize).cloned());
        found.ok_or_else(|| Error::from_reason("this thread has no such home"))
    }

    /// Does something with an engine; `None` for one that was closed.
    pub(crate) fn engine<T>(&self, number: u32, act: impl FnOnce(&Quota) -> T) -> Option<T> {
        self.engines.borrow().get(number as usize).map(act)
    }
}

impl Drop for Home {
    /// At the end of a thread, which nobody is to wait for.
    fn drop(&mut self) {
        self.bell.end();
        let (engines, subjects, reservations) = (self.engines.take(), self.subjects.take(), self.reservations.take());
        end((self.tasks.take(), reservations, subjects, engines));
    }
}

/// Makes a home. `wake` is called when tasks can go on or functions are to be called; `numbers` is how decisions in
/// memory are asked for and told.
#[napi(catch_unwind)]
pub(crate) fn settle_in(wake: Function<'_, (), ()>, numbers: Numbers) -> Result<u32> {
    let home = Home {
        bell: Bell::new(&wake)?,
        tasks: Tasks::default(),
        numbers,
        names: RefCell::default(),
        engines: RefCell::default(),
        subjects: RefCell::default(),
        reservations: RefCell::default(),
        clocks: RefCell::default(),
    };
    crate::diagnosis::listen(&home.bell);
    HOMES.with_borrow_mut(|homes| {
        homes.push(Rc::new(home));
        Ok(u32::try_from(homes.len() - 1).unwrap_or(u32::MAX))
    })
}

/// Lets go of an engine that the package does not hold on to any more.
#[napi(catch_unwind)]
pub(crate) fn drop_engine(home: u32, number: u32) -> Result<()> {
    let engine = Home::of(home)?.engines.borrow_mut().try_remove(number as usize);
    if let Some(engine) = engine {
        end(engine);
    }
    Ok(())
}

/// The same for a handle to a subject.
#[napi(catch_unwind)]
pub(crate) fn drop_subject(home: u32, number: u32) -> Result<()> {
    let subject = Home::of(home)?.subjects.borrow_mut().try_remove(number as usize);
    if let Some(subject) = subject {
        end(subject);
    }
    Ok(())
}

/// The same for a reservation: what it holds is given back.
#[napi(catch_unwind)]
pub(crate) fn drop_reservation(home: u32, number: u32) -> Result<()> {
    let reservation = Home::of(home)?.reservations.borrow_mut().try_remove(number as usize);
    if let Some(reservation) = reservation {
        end(reservation);
    }
    Ok(())
}

/// The same for a clock. An engine that goes by it keeps it.
#[napi(catch_unwind)]
pub(crate) fn drop_clock(home: u32, number: u32) -> Result<()> {
    drop(Home::of(home)?.clocks.borrow_mut().try_remove(number as usize));
    Ok(())
}

/// At the end of the process, when no event loop runs any more: every engine charges and returns what is owed and leased,
/// and ends.
#[napi(catch_unwind)]
pub(crate) fn move_out(home: u32) -> Result<()> {
    let home = Home::of(home)?;
    // Whoever waits for a function of the host's would do so for ever.
    home.bell.end();
    drop((home.tasks.take(), home.reservations.take(), home.subjects.take()));
    let engines = home.engines.take();
    for (_, engine) in engines {
        let quota = engine.to_blocking();
        drop(engine);
        // What could not be done is told as an event of its own.
        let _closed = quota.close();
    }
    Ok(())
}
