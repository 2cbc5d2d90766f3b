//! Layers: timeouts, breakers and planted faults around any store.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parking_lot::Mutex;
use pollster::block_on;
use quotum::store::{
    BreakerOptions, Call, CircuitBreaker, Fault, FaultRule, Faults, Layer, Layered, MemoryStore, Step, Store,
    StoreError, StoreFuture, Timeout, Wait, conformance,
};
use quotum::{Event, EventName, EventQuery, ManualClock, Retry, SystemClock, Timestamp};

const PATIENCE: Duration = Duration::from_secs(60);

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

fn breaker() -> CircuitBreaker {
    CircuitBreaker::new(BreakerOptions::default(), Arc::new(SystemClock::new()))
}

#[test]
fn a_store_conforms_behind_a_timeout() {
    conformance::run(|| Arc::new(Layered::new(memory(), Timeout::after(PATIENCE)))).assert_passed();
    conformance::run(|| Arc::new(Layered::new(memory(), Timeout::after(Duration::MAX)))).assert_passed();
}

#[test]
fn a_store_conforms_behind_a_breaker() {
    conformance::run(|| Arc::new(Layered::new(memory(), breaker()))).assert_passed();
}

#[test]
fn a_store_conforms_behind_faults_that_are_none() {
    conformance::run(|| Arc::new(Layered::new(memory(), Faults::seeded(1)))).assert_passed();
}

#[test]
fn a_slow_store_conforms_behind_all_layers() {
    let slow = || {
        let faults = Faults::seeded(7);
        faults.plant(FaultRule::new(Fault::Delay { polls: 3 }).per_mille(500));
        Arc::new(Layered::new(memory(), faults))
    };
    let guarded = || Arc::new(Layered::new(slow(), Timeout::after(PATIENCE)));
    conformance::run(|| Arc::new(Layered::new(guarded(), breaker()))).assert_passed();
}

const SHORT: Duration = Duration::from_millis(30);

fn call() -> Call {
    Call::new(Timestamp::UNIX_EPOCH, Wait::Yield)
}

type Faulty = Layered<Faults>;

fn faulty() -> Arc<Faulty> {
    Arc::new(Layered::new(memory(), Faults::seeded(1)))
}

fn read(store: &dyn Store) -> Result<(), StoreError> {
    block_on(store.plans(call())).map(drop)
}

fn write(store: &dyn Store) -> Result<(), StoreError> {
    block_on(store.record(call(), &[Event::new(EventName::PlanChanged, Timestamp::UNIX_EPOCH)]))
}

fn written(store: &dyn Store) -> usize {
    block_on(store.events(call(), &EventQuery::changes())).unwrap().len()
}

#[test]
fn a_step_that_hangs_ends_in_time_and_says_whether_it_may_be_made_again() {
    let faults = faulty();
    let store = Layered::new(faults.clone(), Timeout::after(SHORT));
    faults.layer().break_all(Fault::Hang);
    let begin = Instant::now();
    assert_eq!(read(&store), Err(StoreError::TimedOut { after: SHORT, retry: Retry::Safe }));
    assert!(begin.elapsed() >= SHORT);
    let lost = write(&store).unwrap_err();
    assert_eq!(lost, StoreError::TimedOut { after: SHORT, retry: Retry::OutcomeUnknown });
    assert_eq!(lost.retry(), Retry::OutcomeUnknown);
    assert_eq!(
        lost.to_string(),
        "the store did not answer within 30 ms: it may or may not have done what it was asked"
    );
    faults.layer().heal();
    assert_eq!(read(&store), Ok(()));
    assert_eq!(written(&store), 0);
    faults.layer().break_all(Fault::HangAfter);
    assert_eq!(write(&store).unwrap_err().retry(), Retry::OutcomeUnknown);
    faults.layer().heal();
    assert_eq!(written(&store), 1, "it was done, and nobody was told");
}

#[test]
fn many_steps_that_hang_end_together() {
    let faults = faulty();
    let store = Layered::new(faults.clone(), Timeout::after(SHORT));
    faults.layer().break_all(Fault::Hang);
    let begin = Instant::now();
    let outcomes = block_on(join_all((0..500).map(|_| store.plans(call()))));
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(StoreError::TimedOut { .. }))));
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(faults.layer().counts().hung, 500);
}

#[test]
fn the_longest_timeout_ends_nothing() {
    let faults = faulty();
    let store = Layered::new(faults.clone(), Timeout::after(Duration::MAX));
    faults.layer().break_all(Fault::Hang);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| read(&store));
        std::thread::sleep(SHORT * 3);
        assert!(!waiting.is_finished());
        faults.layer().heal();
        assert_eq!(waiting.join().unwrap(), Ok(()));
    });
}

/// Panics before it has made a future.
#[derive(Debug)]
struct PanicsAtOnce;

impl Layer for PanicsAtOnce {
    fn around<'a, T: Send + 'a>(&'a self, _: Call, _: Step, _: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        panic!("planted");
    }
}

#[test]
fn a_store_that_panics_is_one_that_fails() {
    let faults = faulty();
    faults.layer().break_all(Fault::Panic);
    let stores: [Arc<dyn Store>; 2] = [faults.clone(), Arc::new(Layered::new(memory(), PanicsAtOnce))];
    for store in stores {
        let store = Layered::new(store, Timeout::after(PATIENCE));
        let panicked = |retry| Err(StoreError::Failed { detail: "it panicked".to_owned(), retry });
        assert_eq!(read(&store), panicked(Retry::Safe));
        assert_eq!(write(&store), panicked(Retry::OutcomeUnknown));
    }
}

/// A breaker by a manual clock, around a store with faults.
fn guarded() -> (Arc<Faulty>, Layered<CircuitBreaker>, Arc<ManualClock>) {
    let (faults, clock) = (faulty(), Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)));
    let store = Layered::new(faults.clone(), CircuitBreaker::new(BreakerOptions::default(), clock.clone()));
    (faults, store, clock)
}

fn asked(faults: &Faulty) -> u64 {
    let counts = faults.layer().counts();
    counts.passed + counts.refused + counts.replies_lost + counts.hung
}

/// How soon an open breaker says that it may be asked again.
fn refused(outcome: Result<(), StoreError>) -> Duration {
    match outcome {
        Err(StoreError::Unavailable { retry_after, cause }) => {
            assert_eq!(cause, "the store failed: a planted fault, nothing was done");
            retry_after
        }
        other => panic!("not refused: {other:?}"),
    }
}

fn fail(faults: &Faulty, store: &dyn Store, times: u64) {
    faults.layer().break_all(Fault::Refuse);
    for _ in 0..times {
        assert!(matches!(read(store), Err(StoreError::Failed { .. })));
    }
}

#[test]
fn failures_in_a_row_open_a_breaker_and_then_nothing_reaches_the_store() {
    let (faults, store, clock) = guarded();
    for _ in 0..3 {
        fail(&faults, &store, 4);
        faults.layer().heal();
        read(&store).unwrap();
    }
    assert!(!store.layer().is_open());
    fail(&faults, &store, 5);
    assert!(store.layer().is_open());
    faults.layer().heal();
    let before = asked(&faults);
    assert_eq!(refused(read(&store)), Duration::from_secs(1));
    clock.advance(Duration::from_millis(400));
    let error = write(&store).unwrap_err();
    assert_eq!((error.retry(), refused(Err(error))), (Retry::Safe, Duration::from_millis(600)));
    assert_eq!(asked(&faults), before);

    clock.advance(Duration::from_millis(600));
    read(&store).unwrap();
    assert!(!store.layer().is_open());
    assert_eq!(asked(&faults), before + 1);
}

#[test]
fn each_probe_that_fails_doubles_the_cool_down_up_to_its_longest() {
    let (faults, store, clock) = guarded();
    fail(&faults, &store, 5);
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        let cool_down = Duration::from_secs(seconds);
        assert_eq!(refused(read(&store)), cool_down);
        clock.advance(cool_down);
        fail(&faults, &store, 1);
    }
    clock.advance(Duration::from_secs(30));
    faults.layer().heal();
    read(&store).unwrap();
    // And then it is patient again.
    fail(&faults, &store, 5);
    assert_eq!(refused(read(&store)), Duration::from_secs(1));
}

fn poll<T>(future: &mut StoreFuture<'_, T>) -> Poll<Result<T, StoreError>> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn one_probe_at_a_time_is_let_through() {
    let (faults, store, clock) = guarded();
    fail(&faults, &store, 5);
    clock.advance(Duration::from_secs(1));
    faults.layer().break_all(Fault::Hang);
    let before = asked(&faults);
    let mut probe = store.plans(call());
    assert!(poll(&mut probe).is_pending());
    for _ in 0..10 {
        assert_eq!(refused(read(&store)), Duration::from_secs(1));
    }
    assert_eq!(asked(&faults), before + 1);
    faults.layer().heal();
    assert_eq!(poll(&mut probe), Poll::Ready(Ok(None)));
    read(&store).unwrap();
}

#[test]
fn a_probe_whose_caller_goes_away_makes_room_for_another() {
    let (faults, store, clock) = guarded();
    fail(&faults, &store, 5);
    clock.advance(Duration::from_secs(1));
    faults.layer().break_all(Fault::Hang);
    let mut probe = store.plans(call());
    assert!(poll(&mut probe).is_pending());
    drop(probe);
    faults.layer().heal();
    read(&store).unwrap();
    assert!(!store.layer().is_open());
}

#[test]
fn a_probe_that_hangs_is_given_up_and_its_answer_no_longer_counts() {
    let (faults, store, clock) = guarded();
    fail(&faults, &store, 5);
    clock.advance(Duration::from_secs(1));
    faults.layer().break_all(Fault::HangAfter);
    let mut probe = store.plans(call());
    assert!(poll(&mut probe).is_pending());
    clock.advance(Duration::from_secs(30));
    fail(&faults, &store, 1);
    faults.layer().heal();
    assert_eq!(poll(&mut probe), Poll::Ready(Ok(None)));
    assert!(store.layer().is_open(), "what it says is old");
    assert_eq!(refused(read(&store)), Duration::from_secs(2));
}

#[test]
fn what_fails_late_does_not_open_a_breaker_that_has_closed() {
    let faults = faulty();
    let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
    let timed = Arc::new(Layered::new(faults.clone(), Timeout::after(SHORT)));
    let store = Layered::new(timed, CircuitBreaker::new(BreakerOptions::default(), clock.clone()));
    faults.layer().break_all(Fault::Hang);
    let mut late: Vec<_> = (0..20).map(|_| store.plans(call())).collect();
    assert!(late.iter_mut().all(|step| poll(step).is_pending()));
    fail(&faults, &store, 5);
    clock.advance(Duration::from_secs(1));
    // Healed of what happens to new steps only: nothing wakes what hangs.
    faults.layer().break_all(Fault::Delay { polls: 0 });
    read(&store).unwrap();
    std::thread::sleep(SHORT);
    assert!(late.iter_mut().all(|step| matches!(poll(step), Poll::Ready(Err(StoreError::TimedOut { .. })))));
    assert!(!store.layer().is_open());
}

/// Says the same to everybody.
#[derive(Debug)]
struct Says(Mutex<StoreError>);

impl Layer for Says {
    fn around<'a, T: Send + 'a>(&'a self, _: Call, _: Step, _: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        Box::pin(async { Err(self.0.lock().clone()) })
    }
}

#[test]
fn what_a_healthy_store_says_opens_no_breaker() {
    let detail = || "as the test wants it".to_owned();
    let cases = [
        (StoreError::Full { detail: detail() }, false),
        (StoreError::ReadOnly { detail: detail() }, false),
        (StoreError::Damaged { name: detail(), detail: detail() }, false),
        (StoreError::Stopped { cause: detail() }, false),
        (StoreError::Busy { waited: SHORT }, true),
        (StoreError::TimedOut { after: SHORT, retry: Retry::Safe }, true),
        (StoreError::CannotOpen { name: detail(), detail: detail() }, true),
        (StoreError::Failed { detail: detail(), retry: Retry::Never }, true),
    ];
    for (error, opens) in cases {
        let says = Arc::new(Layered::new(memory(), Says(Mutex::new(error.clone()))));
        let store = Layered::new(says, breaker());
        for _ in 0..5 {
            assert_eq!(read(&store), Err(error.clone()));
        }
        assert_eq!(store.layer().is_open(), opens, "{error}");
    }
}

#[test]
fn of_many_threads_one_probes() {
    let (faults, store, clock) = guarded();
    for _ in 0..50 {
        fail(&faults, &store, 5);
        let before = asked(&faults);
        clock.advance(Duration::from_secs(1));
        let reached = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let failed = matches!(read(&store), Err(StoreError::Failed { .. }));
                    reached.fetch_add(u64::from(failed), Ordering::Relaxed);
                });
            }
        });
        assert_eq!((asked(&faults) - before, reached.into_inner()), (1, 1));
        faults.layer().heal();
        clock.advance(Duration::from_secs(2));
        read(&store).unwrap();
    }
}

#[test]
fn the_same_seed_makes_the_same_faults() {
    let outcomes = |seed| {
        let store = Layered::new(memory(), Faults::seeded(seed));
        store.layer().plant(FaultRule::new(Fault::Refuse).on(&[Step::Plans]).per_mille(200));
        store.layer().plant(FaultRule::new(Fault::LoseReply).per_mille(300));
        let outcomes: Vec<_> = (0..400).map(|_| (read(&store).is_ok(), write(&store).is_ok())).collect();
        (outcomes, store.layer().counts())
    };
    assert_eq!(outcomes(7), outcomes(7));
    let (_, counts) = outcomes(7);
    assert_eq!(counts.passed + counts.refused + counts.replies_lost, 800);
    assert!((40..120).contains(&counts.refused) && (150..300).contains(&counts.replies_lost), "{counts:?}");
    assert_ne!(outcomes(7), outcomes(8));
}

#[test]
fn rules_happen_where_they_say_and_the_first_wins() {
    let store = Layered::new(memory(), Faults::seeded(1));
    store.layer().plant(FaultRule::new(Fault::LoseReply).on(&[Step::Record]).after(1).times(2));
    store.layer().plant(FaultRule::new(Fault::Refuse).on(&[Step::Record]).after(1).times(1));
    let retries: Vec<_> = (0..6).map(|_| write(&store).err().map(|error| error.retry())).collect();
    let (lost, refused) = (Some(Retry::OutcomeUnknown), Some(Retry::Safe));
    assert_eq!(retries, [None, lost, lost, refused, None, None]);
    assert_eq!(written(&store), 5, "what was refused was not done");
    read(&store).unwrap();
}

#[test]
fn a_delayed_step_is_made_after_so_many_polls() {
    let store = faulty();
    store.layer().break_all(Fault::Delay { polls: 3 });
    let mut step = pin!(store.plans(call()));
    for _ in 0..3 {
        assert!(poll(&mut step).is_pending());
    }
    assert_eq!(poll(&mut step), Poll::Ready(Ok(None)));
}
