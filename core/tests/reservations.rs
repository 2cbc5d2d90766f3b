//! Reservations whose store fails, whose callers go away, or that nobody settles: what was done is not free,
//! and what was not done does not stay held.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use pollster::block_on;
use quotum::blocking::{self, Quota};
use quotum::store::{Fault, FaultRule, Faults, Layered, MemoryStore, Step};
use quotum::{Error, HoldId, ManualClock, Plans, Reason, Reservation, Retry, Settlement};

const PLANS: &str = "default_plan = 'free'\n[plans.free]\nquotas = { jobs = '3/day' }";

/// What is reserved: all there is, so that whatever stays held denies the next.
const ALL: [(&str, u64); 1] = [("jobs", 3)];

const TTL: Duration = Duration::from_secs(600);

struct Backend {
    store: Arc<Layered<Faults>>,
    clock: Arc<ManualClock>,
    quota: Quota,
}

impl Backend {
    fn open() -> Self {
        let store = Arc::new(Layered::new(Arc::new(MemoryStore::new()), Faults::seeded(1)));
        let clock = Arc::new(ManualClock::at("2026-03-10T15:00:00Z".parse().unwrap()));
        let builder = Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).clock(clock.clone());
        let quota = builder.store_timeout(Duration::from_millis(300)).open_on(store.clone()).unwrap();
        Self { store, clock, quota }
    }

    fn reserve(&self, by: By) -> Either {
        match by {
            By::Thread => Either::Thread(self.quota.reserve("ana", &ALL, TTL).unwrap().unwrap()),
            By::Task => Either::Task(block_on(self.quota.to_async().reserve("ana", &ALL, TTL)).unwrap().unwrap()),
        }
    }

    fn break_once(&self, step: Step, fault: Fault) {
        self.store.layer().plant(FaultRule::new(fault).on(&[step]).times(1));
    }

    /// Units used and held.
    fn jobs(&self) -> (u64, u64) {
        let usage = self.quota.usage("ana").unwrap();
        let [state] = &usage.quotas[..] else { panic!("one quota: {usage:?}") };
        (state.used, state.held)
    }

    /// A task's reservation is released on a thread of its own: soon, and long before it would expire, for the
    /// clock stands still.
    #[track_caller]
    fn soon(&self, expected: (u64, u64)) {
        let begun = Instant::now();
        while self.jobs() != expected {
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?} and not {expected:?}", self.jobs());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// That nothing comes later either.
    #[track_caller]
    fn for_good(&self, expected: (u64, u64)) {
        for _ in 0..20 {
            assert_eq!(self.jobs(), expected);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Who reserves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Thread,
    Task,
}

/// A reservation of either engine.
enum Either {
    Thread(blocking::Reservation),
    Task(Reservation),
}

impl Either {
    fn id(&self) -> HoldId {
        match self {
            Self::Thread(reservation) => reservation.id().unwrap(),
            Self::Task(reservation) => reservation.id().unwrap(),
        }
    }

    fn commit(self, units: u64) -> Result<Settlement, Error> {
        match self {
            Self::Thread(reservation) => reservation.commit(&[("jobs", units)]),
            Self::Task(reservation) => block_on(reservation.commit(&[("jobs", units)])),
        }
    }

    fn release(self) -> Result<Settlement, Error> {
        match self {
            Self::Thread(reservation) => reservation.release(),
            Self::Task(reservation) => block_on(reservation.release()),
        }
    }

    fn detach(self) -> Option<HoldId> {
        match self {
            Self::Thread(reservation) => reservation.detach(),
            Self::Task(reservation) => reservation.detach(),
        }
    }
}

const BOTH: [By; 2] = [By::Thread, By::Task];

/// Dropping what was to be committed must not release it: the work is done.
#[test]
fn a_commit_that_fails_leaves_the_units_held_and_can_be_made_by_name() {
    for by in BOTH {
        let faults = [
            (Fault::Refuse, Retry::Safe, false),
            (Fault::Hang, Retry::OutcomeUnknown, false),
            (Fault::LoseReply, Retry::OutcomeUnknown, true),
            (Fault::HangAfter, Retry::OutcomeUnknown, true),
        ];
        for (fault, retry, done) in faults {
            let backend = Backend::open();
            let reservation = backend.reserve(by);
            let id = reservation.id();
            backend.break_once(Step::Settle, fault);
            let error = reservation.commit(2).unwrap_err();
            assert!(matches!(error, Error::Store(_)) && error.retry() == retry, "{by:?} {fault:?}: {error}");
            backend.for_good(if done { (2, 0) } else { (0, 3) });
            let settled = backend.quota.commit(id, &[("jobs", 2)]).unwrap();
            assert_eq!((settled.repeated, settled.consumed("jobs")), (done, 2), "{by:?} {fault:?}");
            assert_eq!(backend.jobs(), (2, 0), "{by:?} {fault:?}: charged once");
        }
    }
}

#[test]
fn a_commit_with_a_mistake_leaves_the_units_held() {
    for by in BOTH {
        let backend = Backend::open();
        let reservation = backend.reserve(by);
        let id = reservation.id();
        assert!(matches!(reservation.commit(u64::MAX), Err(Error::InvalidArgument { .. })));
        backend.for_good((0, 3));
        assert!(backend.quota.commit(id, &[("jobs", 1)]).is_ok());
        assert_eq!(backend.jobs(), (1, 0));
    }
}

/// A client that goes away in the middle of its commit has been served.
#[test]
fn a_commit_that_is_cancelled_is_made_whole_or_stays_held_until_it_expires() {
    for (fault, after) in [(Fault::Hang, (0, 3)), (Fault::HangAfter, (2, 0))] {
        let backend = Backend::open();
        let Either::Task(reservation) = backend.reserve(By::Task) else { panic!("a task's") };
        backend.break_once(Step::Settle, fault);
        let mut commit = Box::pin(reservation.commit(&[("jobs", 2)]));
        assert!(commit.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(commit);
        backend.store.layer().heal();
        backend.for_good(after);
        backend.clock.advance(TTL);
        assert_eq!(backend.jobs(), (after.0, 0), "{fault:?}");
    }
}

#[test]
fn a_reservation_that_is_dropped_is_free_for_the_next() {
    let backend = Backend::open();
    drop(backend.reserve(By::Thread));
    let next = backend.reserve(By::Thread);
    assert!(!backend.quota.check("ana", &[("jobs", 1)]).unwrap().allowed);
    drop(next);
    drop(backend.reserve(By::Task));
    backend.soon((0, 0));
    assert!(backend.quota.consume("ana", &ALL).unwrap().allowed);
}

#[test]
fn a_release_that_fails_once_is_made_by_the_drop() {
    for by in BOTH {
        for (fault, retry) in [(Fault::Refuse, Retry::Safe), (Fault::LoseReply, Retry::OutcomeUnknown)] {
            let backend = Backend::open();
            let reservation = backend.reserve(by);
            backend.break_once(Step::Settle, fault);
            let error = reservation.release().unwrap_err();
            assert_eq!(error.retry(), retry, "{by:?} {fault:?}: {error}");
            backend.soon((0, 0));
            assert!(backend.quota.consume("ana", &ALL).unwrap().allowed);
        }
    }
}

#[test]
fn a_reservation_that_is_detached_stays_held_until_somebody_settles_it_or_it_expires() {
    for by in BOTH {
        let backend = Backend::open();
        let id = backend.reserve(by).detach().unwrap();
        backend.for_good((0, 3));
        assert!(!backend.quota.consume("ana", &[("jobs", 1)]).unwrap().allowed);
        assert_eq!(backend.quota.commit(id, &[("jobs", 1)]).unwrap().consumed("jobs"), 1);
        assert_eq!(backend.jobs(), (1, 0));

        let backend = Backend::open();
        backend.reserve(by).detach().unwrap();
        backend.clock.advance(TTL);
        assert!(backend.quota.consume("ana", &ALL).unwrap().allowed);
    }
}

/// Nobody else knows the name of a hold whose answer was lost: it would deny others until it expires.
#[test]
fn a_hold_whose_answer_is_lost_is_given_back_soon() {
    for by in BOTH {
        let backend = Backend::open();
        backend.break_once(Step::Hold, Fault::LoseReply);
        let reserved = match by {
            By::Thread => backend.quota.reserve("ana", &ALL, TTL).unwrap().map(drop),
            By::Task => block_on(backend.quota.to_async().reserve("ana", &ALL, TTL)).unwrap().map(drop),
        };
        assert_eq!(reserved.unwrap_err().denied.unwrap().reason, Reason::StoreUnavailable);
        backend.soon((0, 0));
        assert!(backend.quota.consume("ana", &ALL).unwrap().allowed, "{by:?}");
    }
}

/// A client that goes away while its units are being set aside never learns under which name.
#[test]
fn a_reservation_whose_caller_goes_away_meanwhile_is_given_back_soon() {
    for fault in [Fault::Hang, Fault::HangAfter, Fault::Delay { polls: 1 }] {
        let backend = Backend::open();
        let tasks = backend.quota.to_async();
        backend.break_once(Step::Hold, fault);
        let mut reserved = Box::pin(tasks.reserve("ana", &ALL, TTL));
        let polled = reserved.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending), "{fault:?}");
        drop(polled);
        drop(reserved);
        backend.store.layer().heal();
        backend.soon((0, 0));
        assert!(backend.quota.consume("ana", &ALL).unwrap().allowed, "{fault:?}");
    }
}

/// Under a key it is not given back: the retry gets it.
#[test]
fn a_reservation_under_a_key_waits_for_its_retry() {
    let backend = Backend::open();
    backend.break_once(Step::Hold, Fault::LoseReply);
    assert!(backend.quota.reserve_once("ana", &ALL, TTL, "key").unwrap().is_err());
    backend.for_good((0, 3));
    let again = backend.quota.reserve_once("ana", &ALL, TTL, "key").unwrap().unwrap();
    assert!(again.decision().repeated);
    assert_eq!(again.commit(&ALL).unwrap().consumed("jobs"), 3);
    assert_eq!(backend.jobs(), (3, 0));
}
