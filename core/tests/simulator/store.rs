//! The store as one engine sees it: a faulty way to it, and at its end a witness of every step that is made.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use quotum::store::{
    Adjustment, Balance, Call, Census, Charge, Charged, CounterKey, Forgotten, Hold, KeptIdentity, Layer, Lease,
    Leased, MemoryStore, Once, Paced, Settle, Settled, SharedRate, Step, Store, StoreError, StoreFuture, StoredPlans,
    Subscriber, SubscriberQuery, Wait,
};
use quotum::token::TokenDigest;
use quotum::{Event, EventQuery, Plans, Retry, Subscription};

use crate::auditor::Auditor;
use crate::dice::Dice;

thread_local! {
    /// The operation whose task is polled; 0 for work that is done aside.
    static OPERATION: Cell<u64> = const { Cell::new(0) };
}

/// Has every step that is made by `work` be this operation's.
pub(crate) fn as_operation<T>(operation: u64, work: impl FnOnce() -> T) -> T {
    OPERATION.set(operation);
    let outcome = work();
    OPERATION.set(0);
    outcome
}

/// How well an engine's way to the store does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// Now and then something goes wrong.
    Flaky,
    /// Nothing is answered.
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Refuse,
    LoseRequest,
    LoseReply,
    Delay(u64),
    DelayReply(u64),
    Hang,
    HangReply,
}

#[derive(Debug)]
struct Way {
    dice: Dice,
    mood: Mood,
    heals: u64,
    hanging: Vec<Waker>,
}

/// A way to the store on which requests and replies are lost, late or stuck.
#[derive(Clone)]
pub(crate) struct Faulty {
    way: Arc<Mutex<Way>>,
    auditor: Arc<Mutex<Auditor>>,
    engine: usize,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl Faulty {
    pub(crate) fn new(dice: Dice, auditor: Arc<Mutex<Auditor>>, engine: usize) -> Self {
        let way = Way { dice, mood: Mood::Well, heals: 0, hanging: Vec::new() };
        Self { way: Arc::new(Mutex::new(way)), auditor, engine }
    }

    fn way(&self) -> MutexGuard<'_, Way> {
        self.way.lock().unwrap()
    }

    pub(crate) fn be(&self, mood: Mood) {
        let mut way = self.way();
        way.mood = mood;
        if mood == Mood::Well {
            way.heals += 1;
            let hanging = std::mem::take(&mut way.hanging);
            drop(way);
            hanging.into_iter().for_each(Waker::wake);
        }
    }

    pub(crate) fn mood(&self) -> Mood {
        self.way().mood
    }

    fn draw(&self, call: Call) -> (Fault, u64) {
        let Way { dice, mood, heals, .. } = &mut *self.way();
        // Who waits on this thread would wait for ever.
        let late = call.wait == Wait::Yield;
        let fault = match mood {
            Mood::Well => Fault::None,
            Mood::Flaky => match dice.below(if late { 24 } else { 14 }) {
                0 => Fault::Refuse,
                1 => Fault::LoseRequest,
                2 | 3 => Fault::LoseReply,
                14..18 => Fault::Delay(dice.between(1, 4)),
                18..22 => Fault::DelayReply(dice.between(1, 4)),
                22 => Fault::Hang,
                23 => Fault::HangReply,
                _ => Fault::None,
            },
            Mood::Dead => match dice.below(if late { 8 } else { 6 }) {
                0 => Fault::LoseRequest,
                1 => Fault::LoseReply,
                6 => Fault::Hang,
                7 => Fault::HangReply,
                _ => Fault::Refuse,
            },
        };
        (fault, *heals)
    }

    async fn healed(&self, heals: u64) {
        poll_fn(|context| {
            let mut way = self.way();
            if way.heals > heals {
                return Poll::Ready(());
            }
            way.hanging.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Layer for Faulty {
    fn around<'a, T: Send + 'a>(&'a self, call: Call, step: Step, inner: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        Box::pin(async move {
            self.auditor.lock().unwrap().heard(self.engine, OPERATION.get(), step, call.now);
            let (fault, heals) = self.draw(call);
            let unknown = if step.writes() { Retry::OutcomeUnknown } else { Retry::Safe };
            if fault != Fault::None {
                self.auditor.lock().unwrap().faulted(OPERATION.get());
            }
            match fault {
                Fault::None => inner.await,
                Fault::Refuse => Err(failed("nothing was done", Retry::Safe)),
                Fault::LoseRequest => Err(failed("the request was lost", unknown)),
                Fault::LoseReply => {
                    let _lost = inner.await;
                    Err(failed("the reply was lost", unknown))
                }
                Fault::Delay(polls) => {
                    delayed(polls).await;
                    inner.await
                }
                Fault::DelayReply(polls) => {
                    let reply = inner.await;
                    delayed(polls).await;
                    reply
                }
                Fault::Hang => {
                    self.healed(heals).await;
                    inner.await
                }
                Fault::HangReply => {
                    let reply = inner.await;
                    self.healed(heals).await;
                    reply
                }
            }
        })
    }
}

fn failed(detail: &str, retry: Retry) -> StoreError {
    StoreError::Failed { detail: detail.to_owned(), retry }
}

/// Is not ready so many times, and asks to be polled again each time.
async fn delayed(polls: u64) {
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

/// The store that all engines share, with the auditor looking on.
pub(crate) struct Witness {
    store: Arc<MemoryStore>,
    auditor: Arc<Mutex<Auditor>>,
    engine: usize,
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl Witness {
    pub(crate) fn new(store: Arc<MemoryStore>, auditor: Arc<Mutex<Auditor>>, engine: usize) -> Self {
        Self { store, auditor, engine }
    }

    fn auditor(&self) -> MutexGuard<'_, Auditor> {
        self.auditor.lock().unwrap()
    }
}

impl Store for Witness {
    fn plans(&self, call: Call) -> StoreFuture<'_, Option<StoredPlans>> {
        self.store.plans(call)
    }

    fn put_plans<'a>(&'a self, call: Call, plans: &'a Plans, event: &'a Event) -> StoreFuture<'a, u64> {
        Box::pin(async move {
            let version = self.store.put_plans(call, plans, event).await?;
            self.auditor().plans_put(plans, version);
            Ok(version)
        })
    }

    fn subscription<'a>(&'a self, call: Call, subject: &'a str) -> StoreFuture<'a, Option<Subscription>> {
        self.store.subscription(call, subject)
    }

    fn put_subscription<'a>(
        &'a self,
        call: Call,
        subject: &'a str,
        subscription: &'a Subscription,
        event: &'a Event,
    ) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            self.store.put_subscription(call, subject, subscription, event).await?;
            self.auditor().subscription_put(OPERATION.get(), subject, subscription);
            Ok(())
        })
    }

    fn swap_subscription<'a>(
        &'a self,
        call: Call,
        subject: &'a str,
        from: Option<&'a Subscription>,
        to: &'a Subscription,
        event: &'a Event,
    ) -> StoreFuture<'a, Option<Subscription>> {
        Box::pin(async move {
            let kept = self.store.swap_subscription(call, subject, from, to, event).await?;
            self.auditor().subscription_swapped(OPERATION.get(), subject, from, to, kept.as_ref());
            Ok(kept)
        })
    }

    fn subscribers<'a>(&'a self, call: Call, query: &'a SubscriberQuery) -> StoreFuture<'a, Vec<Subscriber>> {
        self.store.subscribers(call, query)
    }

    fn census(&self, call: Call) -> StoreFuture<'_, Vec<Census>> {
        self.store.census(call)
    }

    fn charge<'a>(&'a self, call: Call, charges: &'a [Charge], once: Option<&'a Once>) -> StoreFuture<'a, Charged> {
        Box::pin(async move {
            let charged = self.store.charge(call, charges, once).await?;
            self.auditor().charged(OPERATION.get(), call.now, charges, once, &charged);
            Ok(charged)
        })
    }

    fn hold<'a>(&'a self, call: Call, hold: &'a Hold) -> StoreFuture<'a, Charged> {
        Box::pin(async move {
            let charged = self.store.hold(call, hold).await?;
            self.auditor().held(OPERATION.get(), call.now, hold, &charged);
            Ok(charged)
        })
    }

    fn rate<'a>(&'a self, call: Call, rate: &'a SharedRate) -> StoreFuture<'a, Paced> {
        self.store.rate(call, rate)
    }

    fn lease<'a>(&'a self, call: Call, lease: &'a Lease) -> StoreFuture<'a, Leased> {
        self.store.lease(call, lease)
    }

    fn settle<'a>(&'a self, call: Call, settle: &'a Settle) -> StoreFuture<'a, Settled> {
        Box::pin(async move {
            let settled = self.store.settle(call, settle).await?;
            self.auditor().settled(OPERATION.get(), call.now, settle, &settled);
            Ok(settled)
        })
    }

    fn balances<'a>(&'a self, call: Call, keys: &'a [CounterKey]) -> StoreFuture<'a, Vec<Balance>> {
        Box::pin(async move {
            let balances = self.store.balances(call, keys).await?;
            self.auditor().looked(OPERATION.get(), call.now, keys, &balances);
            Ok(balances)
        })
    }

    fn adjust<'a>(
        &'a self,
        call: Call,
        adjustments: &'a [Adjustment],
        once: Option<&'a Once>,
        event: &'a Event,
    ) -> StoreFuture<'a, Charged> {
        Box::pin(async move {
            let charged = self.store.adjust(call, adjustments, once, event).await?;
            self.auditor().adjusted(self.engine, OPERATION.get(), call.now, adjustments, once, event, &charged);
            Ok(charged)
        })
    }

    fn identity<'a>(&'a self, call: Call, token: &'a TokenDigest) -> StoreFuture<'a, Option<KeptIdentity>> {
        self.store.identity(call, token)
    }

    fn put_identity<'a>(
        &'a self,
        call: Call,
        token: &'a TokenDigest,
        kept: &'a KeptIdentity,
        followed: u64,
    ) -> StoreFuture<'a, ()> {
        self.store.put_identity(call, token, kept, followed)
    }

    fn forget_identities<'a>(&'a self, call: Call, which: &'a Forgotten, event: &'a Event) -> StoreFuture<'a, ()> {
        self.store.forget_identities(call, which, event)
    }

    fn record<'a>(&'a self, call: Call, events: &'a [Event]) -> StoreFuture<'a, ()> {
        self.store.record(call, events)
    }

    fn events<'a>(&'a self, call: Call, query: &'a EventQuery) -> StoreFuture<'a, Vec<Event>> {
        self.store.events(call, query)
    }
}
