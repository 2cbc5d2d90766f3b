//! Homes: what one copy of the package, in one thread of JavaScript, has of the core's.
//!
//! A thread may have several, where a test runner loads the package anew. The package numbers its home, and its home
//! numbers engines, reservations and whatever else the package holds on to.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use napi::bindgen_prelude::{Error, Function, Result};
use napi_derive::napi;
use quotum::{ManualClock, Quota, Reservation, Subject};

use crate::bell::Bell;
use crate::ending::end;
use crate::handles::Handles;
use crate::names::Names;
use crate::raw::Numbers;
use crate::task::Tasks;

pub(crate) struct Home {
    pub(crate) bell: Arc<Bell>,
    pub(crate) tasks: Tasks,
    pub(crate) numbers: Numbers,
    pub(crate) names: RefCell<Names>,
    pub(crate) engines: Handles<Of<Quota>>,
    pub(crate) subjects: Handles<Of<Subject>>,
    pub(crate) reservations: Handles<Of<Reservation>>,
    pub(crate) clocks: Handles<Arc<ManualClock>>,
    openings: Cell<u64>,
}

/// Something of an engine's, which ends with it.
pub(crate) struct Of<T> {
    pub(crate) value: T,
    /// Which opening it comes from: one engine may act for several.
    pub(crate) opening: u64,
}

impl<T> Of<T> {
    pub(crate) const fn new(value: T, opening: u64) -> Self {
        Self { value, opening }
    }
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

    /// A number for what an engine that was just opened will hand out.
    pub(crate) fn next_opening(&self) -> u64 {
        self.openings.set(self.openings.get() + 1);
        self.openings.get()
    }

    /// An engine, and which opening it comes from; `None` for one that was closed.
    pub(crate) fn engine(&self, number: u32) -> Option<Of<Quota>> {
        self.engines.with(number, |engine| Of::new(engine.value.clone(), engine.opening))
    }

    /// Everything of one opening, or of all.
    fn remove(&self, opening: Option<u64>) -> Held {
        let is_of = |other: u64| opening.is_none_or(|opening| opening == other);
        Held {
            reservations: self.reservations.remove_all(|of| is_of(of.opening)),
            subjects: self.subjects.remove_all(|of| is_of(of.opening)),
            engines: self.engines.remove_all(|of| is_of(of.opening)),
        }
    }

    /// Lets go of all that there is of an opening: what is reserved and not settled is given back.
    pub(crate) fn close(&self, opening: u64) {
        end(self.remove(Some(opening)));
    }
}

/// What a home has of engines. Those end last.
struct Held {
    reservations: Vec<Of<Reservation>>,
    subjects: Vec<Of<Subject>>,
    engines: Vec<Of<Quota>>,
}

impl Drop for Home {
    /// At the end of a thread, which nobody is to wait for.
    fn drop(&mut self) {
        self.bell.end();
        end((self.tasks.take(), self.remove(None)));
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
        engines: Handles::default(),
        subjects: Handles::default(),
        reservations: Handles::default(),
        clocks: Handles::default(),
        openings: Cell::new(0),
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
    let engine = Home::of(home)?.engines.remove(number);
    if let Some(engine) = engine {
        end(engine);
    }
    Ok(())
}

/// The same for a handle to a subject.
#[napi(catch_unwind)]
pub(crate) fn drop_subject(home: u32, number: u32) -> Result<()> {
    let subject = Home::of(home)?.subjects.remove(number);
    if let Some(subject) = subject {
        end(subject);
    }
    Ok(())
}

/// The same for a reservation: what it holds is given back.
#[napi(catch_unwind)]
pub(crate) fn drop_reservation(home: u32, number: u32) -> Result<()> {
    let reservation = Home::of(home)?.reservations.remove(number);
    if let Some(reservation) = reservation {
        end(reservation);
    }
    Ok(())
}

/// The same for a clock. An engine that goes by it keeps it.
#[napi(catch_unwind)]
pub(crate) fn drop_clock(home: u32, number: u32) -> Result<()> {
    drop(Home::of(home)?.clocks.remove(number));
    Ok(())
}

/// At the end of the process, when no event loop runs any more: every engine charges and returns what is owed and leased,
/// and ends.
#[napi(catch_unwind)]
pub(crate) fn move_out(home: u32) -> Result<()> {
    let home = Home::of(home)?;
    // Whoever waits for a function of the host's would do so for ever.
    home.bell.end();
    let Held { reservations, subjects, engines } = home.remove(None);
    drop((home.tasks.take(), reservations, subjects));
    let mut closed = BTreeSet::new();
    for Of { value, opening } in engines {
        // Those who act for somebody are the same engine.
        if closed.insert(opening) {
            // What could not be done is told as an event of its own.
            let _closed = value.to_blocking().close();
        }
    }
    Ok(())
}
