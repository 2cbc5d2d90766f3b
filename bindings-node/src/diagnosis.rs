//! Diagnoses: what the core warns its operator of, told to a function of the package's.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use quotum::diagnosis::{self, Diagnosis};
use serde_json::json;

use crate::bell::Bell;

/// The function that is told, as the package has numbered it.
const FUNCTION: u32 = 0;

static BELLS: Mutex<Vec<Weak<Bell>>> = Mutex::new(Vec::new());

/// Has the core's warnings told by this bell, if none that was there before is.
pub(crate) fn listen(bell: &Arc<Bell>) {
    BELLS.lock().push(Arc::downgrade(bell));
    // From the second time on, it listens already.
    let _listens = diagnosis::listen(tell);
}

fn tell(Diagnosis { is_error, text, .. }: Diagnosis) -> bool {
    let mut bells = BELLS.lock();
    // A bell that nobody hears any more may be held by what has not ended yet.
    bells.retain(|bell| bell.upgrade().is_some_and(|bell| !bell.is_over()));
    let first = bells.first().and_then(Weak::upgrade);
    drop(bells);
    if let Some(bell) = first {
        bell.tell(FUNCTION, json!({ "isError": is_error, "text": text }).to_string());
    }
    true
}
