//! Combining: of one process's charges of the same counters one is on its way at a time, and those that arrive
//! meanwhile travel as one, by their sums.
//!
//! Many who change one row wait for each other on the server, each with a connection of its own, and the more there
//! are the slower it gets. Together they are one change of that row, and its cost is shared.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures_channel::oneshot;
use jiff::Timestamp;
use parking_lot::Mutex;

use super::{Balance, Charge, Charged, CounterKey, Outcome, StoreError, charge_all};
use crate::error::Retry;
use crate::plan::Limit;

/// Whether anybody still waits for what is about to be sent.
pub(super) type IsWanted<'w> = dyn Fn() -> bool + Sync + 'w;

/// A server that charges are sent to.
pub(super) trait Charges: Send + Sync + 'static {
    /// Charges counters, all or none. Sums of several charges only where they reach no threshold either: then no order
    /// of the charges would have come to anything else.
    fn charge(
        &self,
        now: Timestamp,
        charges: &[Charge],
        are_sums: bool,
        is_wanted: &IsWanted<'_>,
    ) -> impl Future<Output = Result<Charged, StoreError>> + Send;
}

/// The counters and limits of a charge: those of equal ones can be added up.
type Counters = Vec<(CounterKey, Limit)>;

/// A charge that nobody has sent yet, and who waits for it.
struct Waiting {
    now: Timestamp,
    charges: Vec<Charge>,
    answer: oneshot::Sender<Result<Charged, StoreError>>,
}

impl Waiting {
    fn is_wanted(&self) -> bool {
        !self.answer.is_canceled()
    }
}

/// What comes of a charge. Nothing, where the threads that were to send it have ended.
pub(super) type Answer = oneshot::Receiver<Result<Charged, StoreError>>;

/// The charges that wait for one of the same counters to return. Where none is on its way, there is no queue.
#[derive(Default)]
pub(super) struct Combiner(Mutex<HashMap<Counters, VecDeque<Waiting>>>);

impl fmt::Debug for Combiner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Combiner").field("on_their_way", &self.0.lock().len()).finish()
    }
}

impl Combiner {
    /// Queues a charge. The first of its counters is given the lead, which is then to be taken.
    pub(super) fn join(self: &Arc<Self>, now: Timestamp, charges: &[Charge]) -> (Answer, Option<Lead>) {
        let counters: Counters = charges.iter().map(|charge| (charge.key.clone(), charge.limit)).collect();
        let (answer, answered) = oneshot::channel();
        let first = Waiting { now, charges: charges.to_vec(), answer };
        let mut queues = self.0.lock();
        match queues.entry(counters) {
            Entry::Occupied(mut queue) => {
                queue.get_mut().push_back(first);
                (answered, None)
            }
            Entry::Vacant(place) => {
                let counters = place.key().clone();
                place.insert(VecDeque::new());
                (answered, Some(Lead { combiner: Arc::clone(self), counters, first: Some(first), is_over: false }))
            }
        }
    }
}

/// The task of sending one charge, and then those that have come meanwhile, until none has.
pub(super) struct Lead {
    combiner: Arc<Combiner>,
    counters: Counters,
    first: Option<Waiting>,
    /// Whether the queue has ended. Another one of the same counters is another lead's.
    is_over: bool,
}

impl Lead {
    pub(super) async fn take(mut self, server: Arc<impl Charges>) {
        let mut group: VecDeque<Waiting> = self.first.take().into_iter().collect();
        let mut known = None;
        while !group.is_empty() {
            known = send(group, known, &*server).await;
            group = self.next();
        }
    }

    /// Those who wait still. Where there are none, the queue ends.
    fn next(&mut self) -> VecDeque<Waiting> {
        let mut queues = self.combiner.0.lock();
        let mut group = queues.get_mut(&self.counters).map(std::mem::take).unwrap_or_default();
        // Nothing was sent for who has gone away.
        group.retain(Waiting::is_wanted);
        if group.is_empty() {
            queues.remove(&self.counters);
            self.is_over = true;
        }
        group
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        // Where the task was ended before its time, nobody must wait for it.
        if !self.is_over {
            let queue = self.combiner.0.lock().remove(&self.counters);
            // Not under the lock: this wakes whoever waits.
            drop(queue);
        }
    }
}

/// Sends charges of the same counters, in the order in which they came: together as many as can be seen to pass, by what
/// the counters are known to have held before, and alone who would reach a threshold or be refused. Returns what the
/// counters are known to hold then.
async fn send(
    mut group: VecDeque<Waiting>,
    mut known: Option<Vec<Balance>>,
    server: &impl Charges,
) -> Option<Vec<Balance>> {
    // Whoever is in the group was there in time to be refused by what the server tells from now on.
    let mut is_told = false;
    // Where others charge meanwhile, less is left than was known.
    let mut together_max = usize::MAX;
    loop {
        group.retain(Waiting::is_wanted);
        if let Some(balances) = known.as_deref().filter(|_| is_told) {
            refuse_first(&mut group, balances);
        }
        if group.is_empty() {
            return known;
        }
        let passing = known.as_deref().map_or(0, |balances| passing(balances, &group));
        let together = passing.min(together_max).max(1);
        let now = group.iter().take(together).map(|waiting| waiting.now).max().unwrap_or_default();
        let is_wanted = || group.iter().take(together).any(Waiting::is_wanted);
        match server.charge(now, &sums(&group, together), together > 1, &is_wanted).await {
            Ok(charged) if together == 1 => {
                // Who went alone although all was known was at the threshold: there is another distance to go.
                if known.replace(charged.balances.clone()).is_some() {
                    together_max = usize::MAX;
                }
                is_told = true;
                if let Some(first) = group.pop_front() {
                    tell(first.answer, Ok(charged));
                }
            }
            Ok(Charged { outcome: Outcome::Granted, balances, .. }) => {
                (known, is_told, together_max) = (Some(balances.clone()), true, usize::MAX);
                share_out(group.drain(..together), balances);
            }
            // The first goes alone, which tells how the counters stand.
            Ok(_) => (known, together_max) = (None, together / 2),
            Err(error) => {
                let is_over = is_wanted();
                group.drain(..together).for_each(|waiting| tell(waiting.answer, Err(error.clone())));
                if is_over {
                    // The others would only wait as long again, one after the other.
                    group.into_iter().for_each(|waiting| tell(waiting.answer, Err(unsent(error.clone()))));
                    return known;
                }
            }
        }
    }
}

/// How many of a group pass one after the other without reaching a threshold, where the counters hold this.
fn passing(balances: &[Balance], group: &VecDeque<Waiting>) -> usize {
    let mut balances = balances.to_vec();
    let passes = |waiting: &&Waiting| {
        let charged = charged_at(&balances, &waiting.charges);
        let passes = charged.granted() && charged.crossed.is_empty();
        balances = charged.balances;
        passes
    };
    group.iter().take_while(passes).count()
}

/// Refuses the first of a group, as long as they do not fit counters which hold this.
fn refuse_first(group: &mut VecDeque<Waiting>, balances: &[Balance]) {
    while let Some(first) = group.pop_front() {
        let charged = charged_at(balances, &first.charges);
        if charged.granted() {
            return group.push_front(first);
        }
        tell(first.answer, Ok(charged));
    }
}

fn charged_at(balances: &[Balance], charges: &[Charge]) -> Charged {
    let mut read = balances.iter().copied();
    let next = |_: &CounterKey| Ok::<_, Infallible>(read.next().unwrap_or_default());
    let Ok(charged) = charge_all(charges, next, Balance::charged);
    charged
}

/// What each counter is charged with by the first so many of a group.
fn sums(group: &VecDeque<Waiting>, many: usize) -> Vec<Charge> {
    let mut charges = group.iter().take(many).map(|waiting| &waiting.charges);
    let mut sums = charges.next().cloned().unwrap_or_default();
    for charges in charges {
        for (sum, charge) in sums.iter_mut().zip(charges) {
            sum.amount = sum.amount.saturating_add(charge.amount);
        }
    }
    sums
}

/// Tells each what the counters held after his own charge and before the next one's.
fn share_out(group: impl DoubleEndedIterator<Item = Waiting>, mut balances: Vec<Balance>) {
    for Waiting { charges, answer, .. } in group.rev() {
        let after = balances.clone();
        for (balance, charge) in balances.iter_mut().zip(&charges) {
            balance.used = balance.used.saturating_sub(charge.amount);
        }
        tell(answer, Ok(Charged::new(Outcome::Granted, after)));
    }
}

fn tell(answer: oneshot::Sender<Result<Charged, StoreError>>, charged: Result<Charged, StoreError>) {
    // Where the caller is gone, nobody is told.
    let _gone = answer.send(charged);
}

/// The failure of another charge, for one that was not sent.
fn unsent(error: StoreError) -> StoreError {
    match error {
        StoreError::TimedOut { after, .. } => StoreError::TimedOut { after, retry: Retry::Safe },
        StoreError::Failed { detail, retry: Retry::OutcomeUnknown } => {
            StoreError::Failed { detail, retry: Retry::Safe }
        }
        error => error,
    }
}

#[cfg(test)]
mod tests;
