//! Pre-forking servers: a parent opens an engine, uses it, and forks workers. They drop what they inherit and work on,
//! and the parent is not disturbed.

#![cfg(all(unix, feature = "sqlite", feature = "postgres", feature = "redis"))]
#![allow(unsafe_code, reason = "there is no safe way to fork")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod servers;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use pollster::block_on;
use quotum::store::{Call, Layer, Layered, SqliteOptions, Step, Store, StoreFuture};
use quotum::{Decision, EventName, Plans, Quota, Subscription, Timestamp, blocking};
use servers::{Postgres, Redis};

/// How many workers are forked.
const CHILDREN: u64 = 4;

/// A child that has not ended by then hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the plans allow, and for what each process asks.
const JOBS: u64 = 300;
const UNITS: u64 = 20_000;
const JOBS_EACH: u64 = 80;
const UNITS_EACH: u64 = 1_000;

const PLANS: &str = "default_plan = 'free'
    [plans.free]
    quotas = { jobs = '300/total', units = '20000/month', pages = '1000/month' }
    lease = { units = { max = 400, ttl_s = 30 } }
    [plans.pro]
    rank = 1
    features = { export = true }";

/// One test at a time: what another one's threads hold would be inherited too.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Either engine: both must work in a child.
enum Engine {
    Blocking(blocking::Quota),
    Async(Quota),
}

impl Engine {
    fn open(store: Arc<dyn Store>, is_async: bool) -> Self {
        let plans = Plans::from_toml(PLANS).unwrap();
        let interval = Duration::from_millis(200);
        if is_async {
            let builder = Quota::builder().plans(plans).feed_interval(interval);
            Self::Async(block_on(builder.open_on(store)).unwrap())
        } else {
            let builder = blocking::Quota::builder().plans(plans).feed_interval(interval);
            Self::Blocking(builder.open_on(store).unwrap())
        }
    }

    fn consume(&self, metric: &str) -> Decision {
        match self {
            Self::Blocking(quota) => quota.consume("ana", &[(metric, 1)]).unwrap(),
            Self::Async(quota) => block_on(quota.consume("ana", &[(metric, 1)])).unwrap(),
        }
    }

    /// Whether a unit was granted from a leased block.
    fn consume_leased(&self) -> bool {
        let (costs, ana) = ([("units", 1)], quotum::Request::by("ana"));
        let recalled = match self {
            Self::Blocking(quota) => quota.try_admit(&ana.costs(&costs)),
            Self::Async(quota) => quota.try_admit(&ana.costs(&costs)),
        };
        recalled.is_some_and(|decision| decision.unwrap().allowed)
    }

    fn reserve_pages(&self, pages: u64) -> Option<Reserved> {
        let (costs, minute) = ([("pages", pages)], Duration::from_secs(60));
        Some(match self {
            Self::Blocking(quota) => Reserved::Blocking(quota.reserve("ana", &costs, minute).unwrap().unwrap()),
            Self::Async(quota) => Reserved::Async(block_on(quota.reserve("ana", &costs, minute)).unwrap().unwrap()),
        })
    }

    /// Reserves two pages more than it then commits.
    fn use_pages(&self, pages: u64) {
        self.reserve_pages(pages + 2).unwrap().commit(pages);
    }

    fn may_export(&self, subject: &str) -> bool {
        match self {
            Self::Blocking(quota) => quota.feature(subject, "export").unwrap().is_some(),
            Self::Async(quota) => block_on(quota.feature(subject, "export")).unwrap().is_some(),
        }
    }

    fn subscribe(&self, subject: &str) {
        let pro = Subscription::active("pro", Timestamp::UNIX_EPOCH);
        match self {
            Self::Blocking(quota) => quota.subscribe(subject, pro).unwrap(),
            Self::Async(quota) => block_on(quota.subscribe(subject, pro)).unwrap(),
        }
    }

    fn used(&self, metric: &str) -> u64 {
        let usage = match self {
            Self::Blocking(quota) => quota.usage("ana"),
            Self::Async(quota) => block_on(quota.usage("ana")),
        };
        let usage = usage.unwrap();
        usage.quotas.iter().find(|state| *state.metric == *metric).unwrap().used
    }

    fn close(self) {
        match self {
            Self::Blocking(quota) => quota.close().unwrap(),
            Self::Async(quota) => block_on(quota.close()).unwrap(),
        }
    }

    /// Consumes what a process is to, and returns how many jobs and units it was granted.
    fn serve(&self) -> (u64, u64) {
        let (mut jobs, mut units) = (0, 0);
        for number in 0..UNITS_EACH {
            if number < JOBS_EACH {
                jobs += u64::from(self.consume("jobs").allowed);
            }
            units += u64::from(self.consume("units").allowed);
        }
        (jobs, units)
    }
}

/// A reservation of either engine.
enum Reserved {
    Blocking(blocking::Reservation),
    Async(quotum::Reservation),
}

impl Reserved {
    fn commit(self, pages: u64) {
        let actual = [("pages", pages)];
        let settled = match self {
            Self::Blocking(reservation) => reservation.commit(&actual),
            Self::Async(reservation) => block_on(reservation.commit(&actual)),
        };
        let settled = settled.unwrap();
        assert!(!settled.repeated && settled.consumed("pages") == pages, "{settled:?}");
    }
}

/// Forks. The child does this and ends, with what it returns in its file, without returning to the test.
fn fork(notes: &Path, name: &str, child: impl FnOnce() -> String) -> libc::pid_t {
    let (note, part) = (notes.join(name), notes.join(format!("{name}.part")));
    // SAFETY: the child runs code that expects to run in a forked child, and leaves by `_exit`. Of the parent's other
    // threads, the test harness's and the engine's, none is in the middle of anything that the child will use.
    let id = unsafe { libc::fork() };
    assert!(id >= 0, "there is no second process");
    if id == 0 {
        let outcome = catch_unwind(AssertUnwindSafe(child));
        let text = outcome.unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().cloned();
            format!(
                "panicked: {}",
                said.or(panic.downcast_ref::<&str>().map(|&said| said.to_owned())).unwrap_or_default()
            )
        });
        let written = std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, &note));
        // SAFETY: it ends the process at once, which has nothing left to do.
        unsafe { libc::_exit(i32::from(written.is_err())) };
    }
    id
}

/// Waits until a child has ended well.
fn join(id: libc::pid_t, since: Instant) {
    loop {
        let mut status = 0;
        // SAFETY: it writes to one integer of ours.
        let ended = unsafe { libc::waitpid(id, &raw mut status, libc::WNOHANG) };
        assert!(ended >= 0, "there is no such child");
        if ended == id {
            assert_eq!(status, 0, "how child {id} ended");
            return;
        }
        if since.elapsed() > PATIENCE {
            // SAFETY: the child is ours and was not waited for yet, so its number is no other process's.
            unsafe { libc::kill(id, libc::SIGKILL) };
            panic!("child {id} hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn noted(notes: &Path, name: &str) -> String {
    std::fs::read_to_string(notes.join(name)).unwrap()
}

/// Consumes until a block is leased, and returns how many units were granted.
fn lease(quota: &Engine) -> u64 {
    let (mut granted, since) = (0, Instant::now());
    while !quota.consume_leased() {
        assert!(since.elapsed() < Duration::from_secs(10), "nothing is leased");
        assert!(quota.consume("units").allowed);
        granted += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    granted + 1
}

/// A parent with leases, a reservation and a cache forks, and all serve the same subject.
fn parent_and_children_serve(store: impl Fn() -> Arc<dyn Store>, is_async: bool) {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let notes = folder.path();
    let mut quota = Some(Engine::open(store(), is_async));
    let parent = quota.as_ref().unwrap();
    let granted_before = lease(parent);
    let mut reserved = parent.reserve_pages(10);
    assert!(!parent.may_export("bob"));

    let since = Instant::now();
    let children: Vec<libc::pid_t> = (0..CHILDREN)
        .map(|number| {
            fork(notes, &number.to_string(), || {
                let quota = quota.take().unwrap();
                assert!(!quota.may_export("bob"));
                std::fs::write(notes.join(format!("{number}.ready")), "").unwrap();
                let (jobs, units) = quota.serve();
                quota.use_pages(3);
                eventually("a change is followed", || quota.may_export("bob"));
                // This releases nothing, because it is the parent's.
                drop(reserved.take());
                quota.close();
                format!("{jobs} {units}")
            })
        })
        .collect();
    eventually("the children serve", || (0..CHILDREN).all(|number| notes.join(format!("{number}.ready")).exists()));
    let parent = quota.take().unwrap();
    parent.subscribe("bob");
    let mut granted = vec![parent.serve()];
    children.iter().for_each(|child| join(*child, since));
    granted.extend((0..CHILDREN).map(|number| {
        let note = noted(notes, &number.to_string());
        let (jobs, units) = note.split_once(' ').unwrap_or_default();
        (jobs.parse().unwrap_or_else(|_| panic!("{note}")), units.parse().unwrap_or_else(|_| panic!("{note}")))
    }));
    reserved.take().unwrap().commit(10);
    parent.use_pages(3);
    parent.close();

    let jobs: u64 = granted.iter().map(|(jobs, _)| jobs).sum();
    let units: u64 = granted_before + granted.iter().map(|(_, units)| units).sum::<u64>();
    let after = Engine::open(store(), false);
    let (used_jobs, used_units) = (after.used("jobs"), after.used("units"));
    println!("{jobs} jobs and {units} units granted, {used_jobs} and {used_units} used: {granted:?}");
    assert_eq!((jobs, used_jobs), (JOBS, JOBS));
    assert_eq!(units, used_units);
    assert_eq!(after.used("pages"), 10 + 3 * (CHILDREN + 1));
}

/// Children that never ask the engine anything end: by dropping it, or at once. The parent's threads, leases, sessions
/// and connections are as they were.
fn children_that_ask_nothing_disturb_nobody(store: impl Fn() -> Arc<dyn Store>, is_async: bool) {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let mut quota = Some(Engine::open(store(), is_async));
    let mut granted = lease(quota.as_ref().unwrap());
    let mut reserved = quota.as_ref().unwrap().reserve_pages(10);
    for round in 0..10 {
        let since = Instant::now();
        let child = fork(folder.path(), &round.to_string(), || {
            if round % 2 == 0 {
                drop((quota.take(), reserved.take()));
            }
            "ended".to_owned()
        });
        join(child, since);
        assert_eq!(noted(folder.path(), &round.to_string()), "ended");
        assert!(since.elapsed() < Duration::from_secs(2), "it waited for threads that it does not have");
        let parent = quota.as_ref().unwrap();
        assert!(parent.consume("units").allowed && parent.consume("jobs").allowed);
        granted += 1;
    }
    reserved.take().unwrap().commit(10);
    quota.take().unwrap().close();
    let after = Engine::open(store(), false);
    assert_eq!((after.used("units"), after.used("jobs"), after.used("pages")), (granted, 10, 10));
}

/// Children of children: each is a process of its own.
fn grandchildren_serve(store: impl Fn() -> Arc<dyn Store>) {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (notes, since) = (folder.path(), Instant::now());
    let quota = Engine::open(store(), false);
    assert!(quota.consume("jobs").allowed);
    let child = fork(notes, "child", || {
        assert!(quota.consume("jobs").allowed);
        let grandchild = fork(notes, "grandchild", || quota.consume("jobs").allowed.to_string());
        join(grandchild, since);
        format!("{} {}", noted(notes, "grandchild"), quota.consume("jobs").allowed)
    });
    join(child, since);
    assert_eq!(noted(notes, "child"), "true true");
    assert!(quota.consume("jobs").allowed);
    assert_eq!(quota.used("jobs"), 5);
}

#[test]
fn sqlite() {
    let folder = tempfile::tempdir().unwrap();
    for (number, is_async) in [false, true].into_iter().enumerate() {
        let store = |name: &str| -> Arc<dyn Store> {
            Arc::new(SqliteOptions::at(folder.path().join(format!("{name}-{number}.db"))).open().unwrap())
        };
        parent_and_children_serve(|| store("serve"), is_async);
        children_that_ask_nothing_disturb_nobody(|| store("idle"), is_async);
    }
    grandchildren_serve(|| Arc::new(SqliteOptions::at(folder.path().join("grand.db")).open().unwrap()));
}

#[test]
fn postgres() {
    let server = Postgres::start();
    serves_after_forks(|| {
        let options = server.options();
        move || Arc::new(options.open().unwrap()) as Arc<dyn Store>
    });
}

#[test]
fn redis() {
    let server = Redis::start();
    serves_after_forks(|| {
        let options = server.options();
        move || Arc::new(options.open().unwrap()) as Arc<dyn Store>
    });
}

/// `place` names a new place on a server, at which any number of stores are opened.
fn serves_after_forks<Open: Fn() -> Arc<dyn Store>>(place: impl Fn() -> Open) {
    for is_async in [false, true] {
        parent_and_children_serve(place(), is_async);
        children_that_ask_nothing_disturb_nobody(place(), is_async);
    }
    grandchildren_serve(place());
}

/// SQLite keeps in memory which locks a process has on a file. A child that trusted what it has inherited of that would
/// have none: its parent, on closing the file as the last, would delete the log that the child writes to.
#[test]
fn what_a_child_writes_to_sqlite_is_kept_when_its_parent_closes_the_file() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (notes, since) = (folder.path(), Instant::now());
    let options = SqliteOptions::at(notes.join("quota.db"));
    let quota = Engine::open(Arc::new(options.open().unwrap()), false);
    assert!(quota.consume("jobs").allowed);
    let child = fork(notes, "child", || {
        assert!(quota.consume("jobs").allowed);
        std::fs::write(notes.join("open"), "").unwrap();
        eventually("the parent closes", || notes.join("closed").exists());
        (0..10).filter(|_| quota.consume("jobs").allowed).count().to_string()
    });
    eventually("the child opens the file", || notes.join("open").exists());
    quota.close();
    // Another process comes, and goes as the last one that has a lock.
    let other = Engine::open(Arc::new(options.open().unwrap()), false);
    assert!(other.consume("jobs").allowed);
    other.close();
    std::fs::write(notes.join("closed"), "").unwrap();
    join(child, since);
    assert_eq!(noted(notes, "child"), "10");
    let after = Engine::open(Arc::new(options.open().unwrap()), false);
    assert_eq!(after.used("jobs"), 13);
}

/// Events are delivered in the process that they happen in, by a thread of its own.
#[test]
fn a_child_delivers_its_own_events() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (notes, since) = (folder.path().to_owned(), Instant::now());
    let path = notes.clone();
    let tell = move |event: &quotum::Event| {
        if event.name == EventName::QuotaExhausted {
            std::fs::write(path.join(format!("told-by-{}", std::process::id())), "").unwrap();
        }
    };
    let builder = blocking::Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).on_event(tell);
    let mut quota = Some(builder.open("memory:").unwrap());
    let deny = |quota: &blocking::Quota| {
        while quota.consume("ana", &[("jobs", 100)]).unwrap().allowed {}
    };
    let child = fork(&notes, "child", || {
        let quota = quota.take().unwrap();
        deny(&quota);
        drop(quota);
        std::process::id().to_string()
    });
    join(child, since);
    assert!(notes.join(format!("told-by-{}", noted(&notes, "child"))).exists());
    deny(quota.as_ref().unwrap());
    drop(quota);
    assert!(notes.join(format!("told-by-{}", std::process::id())).exists());
}

/// Has the next charge wait until it is polled for the second time.
#[derive(Debug, Clone, Default)]
struct Pause(Arc<AtomicBool>);

impl Layer for Pause {
    fn around<'a, T: Send + 'a>(&'a self, _: Call, step: Step, inner: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        if step != Step::Charge || !self.0.swap(false, Ordering::Relaxed) {
            return inner;
        }
        let mut was_polled = false;
        let second_poll = std::future::poll_fn(move |_| match std::mem::replace(&mut was_polled, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        });
        Box::pin(async move {
            second_poll.await;
            inner.await
        })
    }
}

/// Such a request finds its parent's engine. It asks for units that are free only if the parent's block is returned,
/// from which the parent grants on.
#[test]
fn a_request_that_ends_in_a_child_does_not_return_its_parents_blocks() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (notes, since) = (folder.path(), Instant::now());
    let options = SqliteOptions::at(notes.join("quota.db"));
    let pause = Pause::default();
    let parent = Engine::open(Arc::new(Layered::new(Arc::new(options.open().unwrap()), pause.clone())), true);
    let mut granted = lease(&parent);
    let Engine::Async(quota) = &parent else { unreachable!() };
    let rest = [("units", UNITS - granted)];
    let mut request = Box::pin(quota.consume("ana", &rest));
    pause.0.store(true, Ordering::Relaxed);
    assert!(request.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let child = fork(notes, "child", || block_on(request.as_mut()).unwrap().allowed.to_string());
    join(child, since);
    drop(request);
    assert_eq!(noted(notes, "child"), "false");
    assert!(parent.consume_leased());
    granted += 1;
    parent.close();
    let after = Engine::open(Arc::new(options.open().unwrap()), false);
    assert_eq!(after.used("units"), granted);
}
