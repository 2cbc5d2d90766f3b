//! Handles: what JavaScript holds on to, by number. None is given twice, so that whoever keeps one too long finds nothing, and
//! not what is somebody else's by now.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

pub(crate) struct Handles<T> {
    held: RefCell<BTreeMap<u32, T>>,
    last: Cell<u32>,
}

impl<T> Default for Handles<T> {
    fn default() -> Self {
        Self { held: RefCell::default(), last: Cell::new(0) }
    }
}

impl<T> Handles<T> {
    /// The number under which it is held from now on.
    pub(crate) fn insert(&self, value: T) -> u32 {
        let mut held = self.held.borrow_mut();
        // After four thousand million, those that are held are left out.
        let number = loop {
            let number = self.last.get().wrapping_add(1);
            self.last.set(number);
            if !held.contains_key(&number) {
                break number;
            }
        };
        held.insert(number, value);
        number
    }

    /// Puts it back where it was taken from, unless it was removed meanwhile.
    pub(crate) fn replace(&self, number: u32, value: T) -> Option<T> {
        match self.held.borrow_mut().get_mut(&number) {
            Some(place) => {
                *place = value;
                None
            }
            None => Some(value),
        }
    }

    /// Does something with what is held.
    pub(crate) fn with<R>(&self, number: u32, act: impl FnOnce(&T) -> R) -> Option<R> {
        self.held.borrow().get(&number).map(act)
    }

    /// The same, to change it.
    pub(crate) fn with_mut<R>(&self, number: u32, act: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.held.borrow_mut().get_mut(&number).map(act)
    }

    /// What was held, which is not any more.
    pub(crate) fn remove(&self, number: u32) -> Option<T> {
        self.held.borrow_mut().remove(&number)
    }

    /// All that is held and `is_wanted`.
    pub(crate) fn remove_all(&self, mut is_wanted: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut held = self.held.borrow_mut();
        let numbers: Vec<u32> = held.iter().filter(|(_, value)| is_wanted(value)).map(|(number, _)| *number).collect();
        numbers.iter().filter_map(|number| held.remove(number)).collect()
    }
}
