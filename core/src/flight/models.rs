//! Callers that join, leave and panic, in whichever order a model checker can think of. A lost wake
//! shows as a deadlock.

#![allow(clippy::unwrap_used)]

use std::future::poll_fn;
use std::sync::Mutex as Plain;
use std::sync::atomic::{AtomicUsize, Ordering};

use shuttle::future::{block_on, yield_now};
use shuttle::{check_pct, check_random, thread};

use super::*;

type Answer = Result<u32, StoreError>;

/// Of each kind.
const SCHEDULES: usize = 2_000;

/// Work that somebody else ends: pending until `done`, waking whoever polled it last.
#[derive(Default)]
struct Elsewhere(Plain<(bool, Option<Waker>)>);

impl Elsewhere {
    async fn answer(&self) -> Answer {
        poll_fn(|context| {
            let mut state = self.0.lock().unwrap();
            if state.0 {
                return Poll::Ready(Ok(7));
            }
            state.1 = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn end(&self) {
        let waker = {
            let mut state = self.0.lock().unwrap();
            state.0 = true;
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

fn check(model: fn()) {
    check_random(model, SCHEDULES);
    check_pct(model, SCHEDULES, 3);
}

/// Three callers join a call that another thread ends; `leaving` of them are polled once and go.
fn callers(leaving: usize) {
    let flight = Arc::new(Flight::<u32, StoreError>::new());
    let work = Arc::new(Elsewhere::default());
    let calls = Arc::new(AtomicUsize::new(0));
    // Keeps the call under way until everybody has joined it.
    let join = |flight: &Flight<u32, StoreError>, work: &Arc<Elsewhere>, calls: &Arc<AtomicUsize>| {
        let (work, calls) = (Arc::clone(work), Arc::clone(calls));
        flight.join(Wait::Yield, move || {
            calls.fetch_add(1, Ordering::Relaxed);
            async move {
                yield_now().await;
                work.answer().await
            }
            .boxed()
        })
    };
    let joined: Vec<_> = (0..3).map(|_| join(&flight, &work, &calls)).collect();
    let threads: Vec<_> = joined
        .into_iter()
        .enumerate()
        .map(|(number, mut caller)| {
            thread::spawn(move || {
                if number < leaving {
                    block_on(poll_fn(|context| {
                        let _left = caller.poll_unpin(context);
                        Poll::Ready(())
                    }));
                } else {
                    assert_eq!(block_on(caller), Ok(7));
                }
            })
        })
        .collect();
    let ender = thread::spawn(move || work.end());
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    ender.join().unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
fn all_callers_get_the_answer_of_one_call() {
    check(|| callers(0));
}

#[test]
fn callers_that_leave_take_no_wake_with_them() {
    check(|| callers(1));
    check(|| callers(2));
}

#[test]
fn callers_that_come_and_go_at_any_time_each_get_an_answer() {
    check(|| {
        let flight = Arc::new(Flight::<u32, StoreError>::new());
        let threads: Vec<_> = (0..3)
            .map(|number| {
                let flight = Arc::clone(&flight);
                thread::spawn(move || {
                    let work = || async {
                        yield_now().await;
                        Ok(7)
                    };
                    let mut caller = flight.join(Wait::Yield, || work().boxed());
                    if number == 0 {
                        block_on(poll_fn(|context| {
                            let _left = caller.poll_unpin(context);
                            Poll::Ready(())
                        }));
                        return;
                    }
                    assert_eq!(block_on(caller), Ok(7));
                })
            })
            .collect();
        flight.abandon();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_panic_reaches_every_caller() {
    check(|| {
        let flight = Flight::<u32, StoreError>::new();
        let work = || async {
            yield_now().await;
            // Unlike `panic!`, prints nothing, ten thousand times.
            std::panic::resume_unwind(Box::new(()))
        };
        let joined: Vec<_> = (0..2).map(|_| flight.join(Wait::Yield, || work().boxed())).collect();
        let threads: Vec<_> =
            joined.into_iter().map(|caller| thread::spawn(move || assert!(block_on(caller).is_err()))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
