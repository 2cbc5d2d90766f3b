//! Faults: a store that fails as it is told to, for tests of how a backend, or an engine, bears it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use parking_lot::Mutex;

use super::{Layer, Step};
use crate::error::Retry;
use crate::store::{Call, StoreError, StoreFuture};

/// What goes wrong with a step.
///
/// That a step is made twice is not among them: a layer has one future, to be polled once. Ask twice instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing is done, and the error says so: a server that refuses connections.
    Refuse,
    /// It is done and the answer is lost: an error that says that the outcome is unknown.
    LoseReply,
    /// It is done after being polled so many times more: a slow server.
    Delay {
        /// How many times it is not ready.
        polls: u32,
    },
    /// Nothing is done until the store is healed: a server that hangs.
    Hang,
    /// It is done, and the answer comes when the store is healed: a server that hangs afterwards.
    HangAfter,
    /// Nothing is done, and the store panics.
    Panic,
}

/// When a fault happens. Of the rules that match a step, the first happens.
///
/// ```
/// use quotum::store::{Fault, FaultRule, Step};
///
/// let one_charge_in_ten = FaultRule::new(Fault::LoseReply).on(&[Step::Charge]).per_mille(100);
/// let the_third_step = FaultRule::new(Fault::Panic).after(2).times(1);
/// ```
#[derive(Debug, Clone)]
pub struct FaultRule {
    fault: Fault,
    /// Empty: on every step.
    steps: Vec<Step>,
    per_mille: u32,
    skipped: u64,
    left: u64,
}

impl FaultRule {
    /// On every step, always.
    #[must_use]
    pub const fn new(fault: Fault) -> Self {
        Self { fault, steps: Vec::new(), per_mille: 1_000, skipped: 0, left: u64::MAX }
    }

    /// Only on these steps.
    #[must_use]
    pub fn on(self, steps: &[Step]) -> Self {
        Self { steps: steps.to_vec(), ..self }
    }

    /// Only with this chance, in thousandths.
    #[must_use]
    pub fn per_mille(self, per_mille: u32) -> Self {
        Self { per_mille, ..self }
    }

    /// Only after so many steps that it could have happened to.
    #[must_use]
    pub fn after(self, steps: u64) -> Self {
        Self { skipped: steps, ..self }
    }

    /// Only so many times.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { left: times, ..self }
    }

    /// Whether it happens to this step.
    fn happens(&mut self, step: Step, dice: &mut Dice) -> bool {
        if self.left == 0 || !(self.steps.is_empty() || self.steps.contains(&step)) {
            return false;
        }
        if self.skipped > 0 {
            self.skipped -= 1;
            return false;
        }
        let happens = self.per_mille >= 1_000 || dice.roll() % 1_000 < u64::from(self.per_mille);
        self.left -= u64::from(happens);
        happens
    }
}

/// How often what was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct FaultCounts {
    /// Steps that nothing happened to.
    pub passed: u64,
    /// [`Fault::Refuse`].
    pub refused: u64,
    /// [`Fault::LoseReply`].
    pub replies_lost: u64,
    /// [`Fault::Delay`].
    pub delayed: u64,
    /// [`Fault::Hang`].
    pub hung: u64,
    /// [`Fault::HangAfter`].
    pub hung_after: u64,
    /// [`Fault::Panic`].
    pub panicked: u64,
}

/// Makes a store fail as it is told to, at run time. The same seed and the same steps make the same faults.
///
/// ```
/// use std::sync::Arc;
/// use quotum::store::{Fault, Faults, Layered, MemoryStore};
/// use quotum::{Plans, Reason, blocking::Quota};
///
/// let store = Arc::new(Layered::new(Arc::new(MemoryStore::new()), Faults::seeded(1)));
/// let plans = Plans::from_toml("default_plan = 'free'\n[plans.free]\nquotas = { jobs = '2/day' }")?;
/// let quota = Quota::builder().plans(plans).open_on(store.clone())?;
///
/// store.layer().break_all(Fault::Refuse);
/// let denial = quota.consume("ana", &[("jobs", 1)])?.denied.ok_or("it is denied")?;
/// assert_eq!(denial.reason, Reason::StoreUnavailable);
///
/// store.layer().heal();
/// assert!(quota.consume("ana", &[("jobs", 1)])?.allowed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Faults {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    dice: Dice,
    rules: Vec<FaultRule>,
    counts: FaultCounts,
    /// How many times it was healed: what hung before the last time goes on.
    heals: u64,
    waiting: BTreeMap<u64, Waker>,
    waited: u64,
}

impl Faults {
    /// A store that is well until it is told otherwise. Chances are drawn from this seed.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        let state = State {
            dice: Dice(seed),
            rules: Vec::new(),
            counts: FaultCounts {
                passed: 0,
                refused: 0,
                replies_lost: 0,
                delayed: 0,
                hung: 0,
                hung_after: 0,
                panicked: 0,
            },
            heals: 0,
            waiting: BTreeMap::new(),
            waited: 0,
        };
        Self { state: Mutex::new(state) }
    }

    /// Has a fault happen where the rule says so, unless an earlier rule happens.
    pub fn plant(&self, rule: FaultRule) {
        self.state.lock().rules.push(rule);
    }

    /// Has this happen to every step, in place of all rules.
    pub fn break_all(&self, fault: Fault) {
        self.state.lock().rules = vec![FaultRule::new(fault)];
    }

    /// Drops all rules, and lets go on what hangs.
    pub fn heal(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.rules.clear();
            state.heals += 1;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_values().for_each(Waker::wake);
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> FaultCounts {
        self.state.lock().counts
    }

    /// What happens to a step, if anything does, and how many times the store had been healed then.
    fn draw(&self, step: Step) -> (Option<Fault>, u64) {
        let State { dice, rules, counts, heals, .. } = &mut *self.state.lock();
        let fault = rules.iter_mut().find_map(|rule| rule.happens(step, dice).then_some(rule.fault));
        let count = match fault {
            None => &mut counts.passed,
            Some(Fault::Refuse) => &mut counts.refused,
            Some(Fault::LoseReply) => &mut counts.replies_lost,
            Some(Fault::Delay { .. }) => &mut counts.delayed,
            Some(Fault::Hang) => &mut counts.hung,
            Some(Fault::HangAfter) => &mut counts.hung_after,
            Some(Fault::Panic) => &mut counts.panicked,
        };
        *count += 1;
        (fault, *heals)
    }

    /// Waits until the store is healed once more.
    async fn healed(&self, heals: u64) {
        let number = {
            let mut state = self.state.lock();
            state.waited += 1;
            state.waited
        };
        let _waiting = Waiting { faults: self, number };
        poll_fn(|context| {
            let mut state = self.state.lock();
            if state.heals > heals {
                return Poll::Ready(());
            }
            state.waiting.insert(number, context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A step that hangs. Going out of scope, it waits no more.
struct Waiting<'f> {
    faults: &'f Faults,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let waker = self.faults.state.lock().waiting.remove(&self.number);
        drop(waker);
    }
}

impl Layer for Faults {
    #[expect(clippy::panic, reason = "to plant one")]
    fn around<'a, T: Send + 'a>(&'a self, _: Call, step: Step, inner: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        Box::pin(async move {
            let (fault, heals) = self.draw(step);
            match fault {
                None => inner.await,
                Some(Fault::Refuse) => Err(planted("nothing was done", Retry::Safe)),
                Some(Fault::LoseReply) => {
                    let _lost = inner.await;
                    Err(planted("its answer was lost", step.retry_if_lost()))
                }
                Some(Fault::Delay { polls }) => {
                    delayed(polls).await;
                    inner.await
                }
                Some(Fault::Hang) => {
                    self.healed(heals).await;
                    inner.await
                }
                Some(Fault::HangAfter) => {
                    let outcome = inner.await;
                    self.healed(heals).await;
                    outcome
                }
                Some(Fault::Panic) => panic!("a planted panic"),
            }
        })
    }
}

fn planted(detail: &str, retry: Retry) -> StoreError {
    StoreError::Failed { detail: format!("a planted fault, {detail}"), retry }
}

/// Is not ready so many times, and asks to be polled again each time.
async fn delayed(polls: u32) {
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same on every machine.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
