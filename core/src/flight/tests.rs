//! Callers that join, leave, stall and panic, step by step.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use super::*;

type Answer = Result<u32, StoreError>;

/// Polls a caller once.
fn poll(caller: &mut Joined<Answer>, waker: &Waker) -> Poll<Answer> {
    caller.poll_unpin(&mut Context::from_waker(waker))
}

/// Counts how often it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn woken() -> (Arc<Woken>, Waker) {
    let woken = Arc::new(Woken::default());
    (Arc::clone(&woken), Waker::from(woken))
}

#[test]
fn callers_of_one_call_get_its_answer() {
    let flight = Flight::new();
    let (answer, answered) = oneshot::channel();
    let mut first = flight.join(Wait::Yield, || async { Ok(answered.await.unwrap()) }.boxed());
    let mut second = flight.join(Wait::Yield, || unreachable!("a second call was started"));
    let (calls, waker) = woken();
    assert!(poll(&mut first, &waker).is_pending());
    assert!(poll(&mut second, &waker).is_pending());
    answer.send(7).unwrap();
    assert!(calls.0.load(Ordering::Relaxed) >= 2, "both callers were woken");
    assert_eq!(poll(&mut second, &waker), Poll::Ready(Ok(7)));
    assert_eq!(poll(&mut first, &waker), Poll::Ready(Ok(7)));
}

#[test]
fn a_caller_that_is_never_polled_again_stalls_nobody() {
    let flight = Flight::new();
    let (answer, answered) = oneshot::channel();
    let mut other = flight.join(Wait::Yield, || async { Ok(answered.await.unwrap()) }.boxed());
    let mut stalled = flight.join(Wait::Yield, || unreachable!());
    let (calls, waker) = woken();
    assert!(poll(&mut other, &waker).is_pending());
    assert!(poll(&mut stalled, Waker::noop()).is_pending());
    answer.send(7).unwrap();
    assert_eq!(calls.0.load(Ordering::Relaxed), 1);
    assert_eq!(poll(&mut other, &waker), Poll::Ready(Ok(7)));
}

#[test]
fn a_call_that_all_callers_have_left_is_dropped_and_a_later_one_starts_anew() {
    let flight = Flight::<u32, StoreError>::new();
    let held = Arc::new(());
    let inside = Arc::clone(&held);
    let mut caller = flight.join(Wait::Yield, || {
        let work = async move {
            let _inside = inside;
            pending().await
        };
        work.boxed()
    });
    assert!(poll(&mut caller, Waker::noop()).is_pending());
    drop(caller);
    assert_eq!(Arc::strong_count(&held), 1);
    let mut later = flight.join(Wait::Yield, || async { Ok(8) }.boxed());
    assert_eq!(poll(&mut later, Waker::noop()), Poll::Ready(Ok(8)));
}

#[test]
fn a_panic_fails_every_caller() {
    let flight = Flight::<u32, StoreError>::new();
    let mut first = flight.join(Wait::Block, || async { panic!("a store's own fault") }.boxed());
    let mut second = flight.join(Wait::Block, || unreachable!());
    for caller in [&mut first, &mut second] {
        let answer = poll(caller, Waker::noop());
        assert!(matches!(answer, Poll::Ready(Err(StoreError::Failed { .. }))), "{answer:?}");
    }
}

#[test]
fn a_task_does_not_drive_a_call_that_may_block() {
    let flight = Flight::<u32, StoreError>::new();
    let _blocking = flight.join(Wait::Block, || async { Ok(1) }.boxed());
    let mut task = flight.join(Wait::Yield, || async { Ok(2) }.boxed());
    assert_eq!(poll(&mut task, Waker::noop()), Poll::Ready(Ok(2)));
}

#[test]
fn an_abandoned_call_is_joined_by_nobody_and_still_answers() {
    let flight = Flight::<u32, StoreError>::new();
    let mut before = flight.join(Wait::Block, || async { Ok(1) }.boxed());
    flight.abandon();
    let mut after = flight.join(Wait::Block, || async { Ok(2) }.boxed());
    assert_eq!(poll(&mut after, Waker::noop()), Poll::Ready(Ok(2)));
    assert_eq!(poll(&mut before, Waker::noop()), Poll::Ready(Ok(1)));
}

#[test]
fn a_call_that_wakes_itself_is_driven_to_its_end_by_either_caller() {
    let flight = Flight::new();
    let polls = Cell::new(0);
    let work = poll_fn(move |context| {
        polls.set(polls.get() + 1);
        context.waker().wake_by_ref();
        if polls.get() < 3 { Poll::Pending } else { Poll::Ready(Ok(3)) }
    });
    let mut first = flight.join(Wait::Yield, || work.boxed());
    let mut second = flight.join(Wait::Yield, || unreachable!());
    assert!(poll(&mut first, Waker::noop()).is_pending());
    assert!(poll(&mut second, Waker::noop()).is_pending());
    assert_eq!(poll(&mut first, Waker::noop()), Poll::Ready(Ok(3)));
}
