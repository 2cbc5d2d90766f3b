//! The bell: wakes the event loop, from whatever thread, for tasks that can go on and functions of the host's that are to
//! be called.
//!
//! It rings once for all that has come in meanwhile, and not again before the loop has had a turn for others: answers that
//! come in as fast as they are asked for must not keep it to themselves. It keeps no event loop alive.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Wake;

use futures_channel::oneshot;
use napi::Status;
use napi::bindgen_prelude::Function;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use parking_lot::{Condvar, Mutex};

/// How many tasks go on in one turn of the event loop: who awaits them may ask again at once, so that each costs as
/// much as a decision and all that is done with it.
const TURN_MAX: usize = 16;

/// How many calls that nobody answers may wait for the event loop, before whoever calls waits too.
const UNHEARD_MAX: usize = 1_024;

type Ring = ThreadsafeFunction<(), (), (), Status, false, true, 0>;

/// A call of a function of the host's.
pub(crate) struct HostCall {
    /// By which it is answered; 0 where no answer is wanted.
    pub(crate) id: u32,
    /// Which function, as the package has numbered them.
    pub(crate) function: u32,
    pub(crate) arguments: Vec<Argument>,
}

/// What a function of the host's is given.
pub(crate) enum Argument {
    Text(String),
    Bytes(Vec<u8>),
    Number(f64),
}

/// What a function of the host's has answered: a value in JSON, bytes, or an entry after the other of a map.
pub(crate) enum Answer {
    Json(String),
    Bytes(Option<Vec<u8>>),
    Entries(Vec<(Vec<u8>, Vec<u8>)>),
}

/// Why a function of the host's has not answered.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) detail: String,
    /// Whether it said that another transaction was in the way.
    pub(crate) is_conflict: bool,
}

impl Unanswered {
    fn ended() -> Self {
        Self { detail: "its event loop has ended".to_owned(), is_conflict: false }
    }
}

type Answered = Result<Answer, Unanswered>;

pub(crate) struct Bell {
    ring: Ring,
    state: Mutex<State>,
    heard: Condvar,
}

#[derive(Default)]
struct State {
    /// Whether it was rung, and whoever heard it has not gone back to sleep.
    is_rung: bool,
    /// Whether nobody is there any more to hear it.
    is_over: bool,
    woken: VecDeque<u32>,
    calls: Vec<HostCall>,
    unheard: usize,
    answers: HashMap<u32, oneshot::Sender<Answered>>,
    last_call: u32,
}

impl Bell {
    /// A bell that has `wake` called in the event loop.
    pub(crate) fn new(wake: &Function<'_, (), ()>) -> napi::Result<Arc<Self>> {
        let ring = wake.build_threadsafe_function::<()>().callee_handled::<false>().weak::<true>();
        let ring = ring.build_callback(|_| Ok(()))?;
        Ok(Arc::new(Self { ring, state: Mutex::default(), heard: Condvar::new() }))
    }

    fn ring(&self, state: &mut State) {
        if !std::mem::replace(&mut state.is_rung, true) {
            // A loop that has ended has nobody to wake.
            let _status = self.ring.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }

    /// The tasks that were woken first, of those that were not told of yet: as many as one turn of the event loop is for.
    pub(crate) fn woken(&self) -> Vec<u32> {
        let woken = &mut self.state.lock().woken;
        woken.drain(..woken.len().min(TURN_MAX)).collect()
    }

    /// The calls that have come in since this was asked before.
    pub(crate) fn calls(&self) -> Vec<HostCall> {
        let mut state = self.state.lock();
        state.unheard = 0;
        self.heard.notify_all();
        std::mem::take(&mut state.calls)
    }

    /// Whether more has come in meanwhile. Where nothing has, it rings again when something does.
    pub(crate) fn has_more(&self) -> bool {
        let mut state = self.state.lock();
        state.is_rung = !state.woken.is_empty() || !state.calls.is_empty();
        state.is_rung
    }

    /// Calls a function of the host's. Whoever does not want the answer any more drops what this returns.
    pub(crate) fn call(&self, function: u32, arguments: Vec<Argument>) -> oneshot::Receiver<Answered> {
        let (told, answered) = oneshot::channel();
        let mut state = self.state.lock();
        if state.is_over {
            drop(told.send(Err(Unanswered::ended())));
            return answered;
        }
        // Those that have been answered are gone, however often the number starts anew.
        let id = loop {
            state.last_call = state.last_call.checked_add(1).unwrap_or(1);
            if !state.answers.contains_key(&state.last_call) {
                break state.last_call;
            }
        };
        state.answers.insert(id, told);
        state.calls.push(HostCall { id, function, arguments });
        self.ring(&mut state);
        answered
    }

    /// Calls a function whose answer nobody wants. Where the event loop does not keep up, whoever calls waits.
    pub(crate) fn tell(&self, function: u32, text: String) {
        let mut state = self.state.lock();
        self.heard.wait_while(&mut state, |state| state.unheard >= UNHEARD_MAX && !state.is_over);
        if state.is_over {
            return;
        }
        state.unheard += 1;
        state.calls.push(HostCall { id: 0, function, arguments: vec![Argument::Text(text)] });
        self.ring(&mut state);
    }

    /// The answer to a call.
    pub(crate) fn answer(&self, call: u32, answered: Answered) {
        let told = self.state.lock().answers.remove(&call);
        if let Some(told) = told {
            // Nobody may wait any more.
            drop(told.send(answered));
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state.lock().is_over
    }

    /// Nobody hears it any more: whoever waits for an answer is told so.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        state.is_over = true;
        self.heard.notify_all();
        let (answers, calls) = (std::mem::take(&mut state.answers), std::mem::take(&mut state.calls));
        drop(state);
        for told in answers.into_values() {
            drop(told.send(Err(Unanswered::ended())));
        }
        drop(calls);
    }
}

/// What a call has been answered, or that its event loop has ended.
pub(crate) async fn answered(answer: oneshot::Receiver<Answered>) -> Answered {
    answer.await.unwrap_or_else(|_| Err(Unanswered::ended()))
}

/// Wakes a task of an event loop's.
pub(crate) struct Alarm {
    pub(crate) bell: Arc<Bell>,
    pub(crate) task: u32,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        let mut state = self.bell.state.lock();
        if !state.is_over {
            state.woken.push_back(self.task);
            self.bell.ring(&mut state);
        }
    }
}
