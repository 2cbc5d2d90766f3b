//! Names: metrics, scopes and plans, by numbers that both sides know, so that they need not be written anew for every
//! decision.

use std::collections::HashMap;
use std::sync::Arc;

use napi::bindgen_prelude::Result;
use napi_derive::napi;
use quotum::{Decision, RateLimit};

use crate::home::Home;

/// How many names there may be, of all plans that there ever were. What else is asked for and told is written out.
const NAMES_MAX: usize = 4_096;

/// How many of the names that were told last are known by where they are in memory.
const PLACES: usize = 64;

#[derive(Default)]
pub(crate) struct Names {
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
    /// Plans are long in memory, so that a name is mostly found again in its place.
    places: Vec<Option<(Arc<str>, u32)>>,
    words: Vec<(&'static str, u32)>,
    limits: Vec<(RateLimit, u32)>,
}

impl Names {
    pub(crate) fn get(&self, number: usize) -> Option<&Arc<str>> {
        self.names.get(number)
    }

    /// Numbers the metrics and scopes of a decision: names that a client makes up are in none.
    pub(crate) fn learn(&mut self, decision: &Decision) {
        for quota in &decision.quotas {
            self.number(&quota.metric);
        }
        for rate in &decision.rates {
            self.number(&rate.scope);
        }
    }

    /// Numbers a scope that the plans know.
    pub(crate) fn learn_scope(&mut self, scope: &str) {
        self.intern(scope);
    }

    /// The number of a name; `None` where there are too many.
    pub(crate) fn number(&mut self, name: &Arc<str>) -> Option<u32> {
        if self.places.is_empty() {
            self.places.resize(PLACES, None);
        }
        // Names lie at multiples of 8 bytes, and some of them side by side.
        let place = name.as_ptr().addr() / 16 % PLACES;
        if let Some(Some((known, number))) = self.places.get(place)
            && Arc::ptr_eq(known, name)
        {
            return Some(*number);
        }
        let number = self.intern(name)?;
        if let Some(place) = self.places.get_mut(place) {
            *place = Some((Arc::clone(name), number));
        }
        Some(number)
    }

    /// The number of one of the few words that the core has.
    pub(crate) fn number_of_word(&mut self, word: &'static str) -> Option<u32> {
        if let Some((_, number)) = self.words.iter().find(|(known, _)| std::ptr::eq(*known, word)) {
            return Some(*number);
        }
        let number = self.intern(word)?;
        self.words.push((word, number));
        Some(number)
    }

    /// The number of a rate's limit, as plans write it.
    pub(crate) fn number_of_limit(&mut self, limit: RateLimit) -> Option<u32> {
        if let Some((_, number)) = self.limits.iter().find(|(known, _)| *known == limit) {
            return Some(*number);
        }
        let number = self.intern(&limit.to_string())?;
        if self.limits.len() < PLACES {
            self.limits.push((limit, number));
        }
        Some(number)
    }

    fn intern(&mut self, name: &str) -> Option<u32> {
        if let Some(number) = self.numbers.get(name) {
            return Some(*number);
        }
        let number = u32::try_from(self.names.len()).ok().filter(|_| self.names.len() < NAMES_MAX)?;
        let name: Arc<str> = name.into();
        self.names.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        Some(number)
    }
}

/// The number of a name; none where no decision has had it.
#[napi(catch_unwind)]
pub(crate) fn number_of(home: u32, name: String) -> Result<Option<u32>> {
    Ok(Home::of(home)?.names.borrow().numbers.get(name.as_str()).copied())
}

/// The name of a number.
#[napi(catch_unwind)]
pub(crate) fn name_of(home: u32, number: u32) -> Result<Option<String>> {
    Ok(Home::of(home)?.names.borrow().get(number as usize).map(|name| (**name).to_owned()))
}
