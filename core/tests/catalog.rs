//! The catalog and the subjects' records as caches: how long they serve, what they do when the store
//! fails, and how few times they ask it.

#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pollster::block_on;
use quotum::blocking::Quota;
use quotum::store::{Call, Layer, Layered, MemoryStore, Step, Store, StoreError, StoreFuture, Wait};
use quotum::{Error, Event, EventName, ManualClock, Plans, PlansOrigin, Reason, Retry, Subscription, Timestamp};

/// A memory store that counts what it is asked, and can be made to fail or to hang.
type Watched = Layered<Watch>;

#[derive(Debug)]
struct Watch {
    plans_asked: AtomicU64,
    plans_answered: AtomicU64,
    subscriptions_asked: AtomicU64,
    subscriptions_read: AtomicU64,
    failing: AtomicBool,
    panicking: AtomicBool,
    /// Whether the gate is only for plans.
    plans_only: AtomicBool,
    /// Whether a question is answered only when it is polled a second time.
    pause: AtomicBool,
    gate: Mutex<bool>,
    opened: Condvar,
}

fn watched() -> Arc<Watched> {
    let watch = Watch {
        plans_asked: AtomicU64::new(0),
        plans_answered: AtomicU64::new(0),
        subscriptions_asked: AtomicU64::new(0),
        subscriptions_read: AtomicU64::new(0),
        failing: AtomicBool::new(false),
        panicking: AtomicBool::new(false),
        plans_only: AtomicBool::new(false),
        pause: AtomicBool::new(false),
        gate: Mutex::new(true),
        opened: Condvar::new(),
    };
    Arc::new(Layered::new(Arc::new(MemoryStore::new()), watch))
}

impl Watch {
    fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    fn shut(&self) {
        *self.gate.lock() = false;
    }

    fn open(&self) {
        *self.gate.lock() = true;
        self.opened.notify_all();
    }

    fn pass(&self) -> Result<(), StoreError> {
        assert!(!self.panicking.load(Ordering::SeqCst), "planted");
        let mut gate = self.gate.lock();
        self.opened.wait_while(&mut gate, |open| !*open);
        match self.failing.load(Ordering::SeqCst) {
            true => Err(StoreError::Failed { detail: "the server is gone".into(), retry: Retry::Safe }),
            false => Ok(()),
        }
    }
}

impl Layer for Watch {
    fn around<'a, T: Send + 'a>(&'a self, _: Call, step: Step, inner: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        match step {
            Step::Plans => {
                self.plans_asked.fetch_add(1, Ordering::SeqCst);
                Box::pin(async move {
                    // Read first, so that what waits at the gate is out of date when it comes through.
                    let plans = inner.await;
                    let passed = self.pass();
                    self.plans_answered.fetch_add(1, Ordering::SeqCst);
                    passed?;
                    plans
                })
            }
            Step::Subscription => {
                self.subscriptions_asked.fetch_add(1, Ordering::SeqCst);
                Box::pin(async move {
                    let mut paused = self.pause.load(Ordering::SeqCst);
                    std::future::poll_fn(|_| match std::mem::take(&mut paused) {
                        true => Poll::Pending,
                        false => Poll::Ready(()),
                    })
                    .await;
                    let subscription = inner.await;
                    self.subscriptions_read.fetch_add(1, Ordering::SeqCst);
                    if !self.plans_only.load(Ordering::SeqCst) {
                        self.pass()?;
                    }
                    subscription
                })
            }
            _ => inner,
        }
    }
}

/// A change that another process makes.
fn changed() -> Event {
    Event::new(EventName::SubscriptionChanged, Timestamp::UNIX_EPOCH)
}

const TTL: Duration = Duration::from_secs(300);

fn plans(units: u64) -> Plans {
    let text =
        format!("default_plan = 'free'\n[plans.free]\nquotas = {{ jobs = '{units}/day' }}\n[plans.pro]\nrank = 1");
    Plans::from_toml(&text).unwrap()
}

fn open(store: &Arc<Watched>) -> (Quota, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at("2026-03-10T15:00:00Z".parse().unwrap()));
    let builder = Quota::builder().plans(plans(1)).clock(clock.clone()).catalog_ttl(TTL).subscription_ttl(TTL / 10);
    (builder.open_on(store.clone()).unwrap(), clock)
}

fn limit(quota: &Quota) -> Option<u64> {
    quota.check("ana", &[("jobs", 1)]).unwrap().quotas.first()?.limit.units()
}

/// Waits for what another thread is about to do.
fn eventually(mut done: impl FnMut() -> bool) {
    for _ in 0..5_000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(done(), "it did not happen within ten seconds");
}

#[test]
fn plans_come_from_the_file_until_the_store_has_some() {
    let store = watched();
    let (quota, _) = open(&store);
    assert_eq!((limit(&quota), quota.catalog_status().unwrap().origin), (Some(1), PlansOrigin::File));
    assert_eq!(quota.set_plans(&plans(7)).unwrap(), 1);
    assert_eq!(limit(&quota), Some(7), "at once in the process that set them");
    let status = quota.catalog_status().unwrap();
    assert_eq!((status.origin, status.version, status.last_error), (PlansOrigin::Store, 1, None));
}

#[test]
fn plans_are_served_from_memory_until_they_are_stale_and_while_one_refresh_runs() {
    let store = watched();
    let (quota, clock) = open(&store);
    let asked = || store.layer().plans_asked.load(Ordering::SeqCst);
    assert_eq!(asked(), 1);
    for _ in 0..1_000 {
        assert_eq!(limit(&quota), Some(1));
    }
    assert_eq!(asked(), 1);

    // Another process puts new plans; this one serves what it has, and asks once, off the request path.
    block_on(store.put_plans(Call::new(Timestamp::UNIX_EPOCH, Wait::Block), &plans(9), &changed())).unwrap();
    assert_eq!(limit(&quota), Some(1));
    clock.advance(TTL);
    quota.clone().usage("ana").unwrap();
    eventually(|| limit(&quota) == Some(9));
    assert_eq!(asked(), 2);
}

#[test]
fn a_request_never_waits_for_a_refresh_that_hangs() {
    let store = watched();
    let (quota, clock) = open(&store);
    assert_eq!(limit(&quota), Some(1));
    store.layer().shut();
    clock.advance(TTL / 10 - Duration::from_secs(1));
    quota.clear_catalog();
    store.layer().open();
    assert_eq!(limit(&quota), Some(1));
    store.layer().shut();
    clock.advance(TTL);
    store.layer().subscriptions_asked.store(0, Ordering::SeqCst);
    // The subscription is stale too, so look at what needs only plans.
    let before = store.layer().plans_asked.load(Ordering::SeqCst);
    for _ in 0..100 {
        assert_eq!(quota.plans().unwrap().len(), 2);
    }
    eventually(|| store.layer().plans_asked.load(Ordering::SeqCst) == before + 1);
    store.layer().open();
    eventually(|| quota.catalog_status().unwrap().loaded_at == quotum::Clock::wall(&*clock));
}

#[test]
fn when_the_store_fails_the_last_good_plans_serve_and_the_status_says_so() {
    let store = watched();
    let (quota, clock) = open(&store);
    quota.set_plans(&plans(5)).unwrap();
    assert_eq!(limit(&quota), Some(5));
    store.layer().fail(true);
    clock.advance(TTL);
    assert_eq!(quota.plans().unwrap().len(), 2);
    eventually(|| quota.catalog_status().unwrap().last_error.is_some());
    let status = quota.catalog_status().unwrap();
    assert_eq!((status.origin, status.version), (PlansOrigin::Store, 1), "not the file's");
    assert_eq!(status.last_error.as_deref(), Some("the store failed: the server is gone"));
    quota.clear_catalog();
    assert_eq!(quota.plans().unwrap().len(), 2, "even when told to load them anew");

    // Soon after it is back, all is well again.
    store.layer().fail(false);
    clock.advance(Duration::from_secs(6));
    eventually(|| {
        let _plans = quota.plans();
        quota.catalog_status().unwrap().last_error.is_none()
    });
    assert_eq!(limit(&quota), Some(5));
}

#[test]
fn a_store_that_fails_from_the_start_leaves_the_file() {
    let store = watched();
    store.layer().fail(true);
    let (quota, clock) = open(&store);
    let status = quota.catalog_status().unwrap();
    assert_eq!((status.origin, status.last_error.is_some()), (PlansOrigin::File, true));
    store.layer().fail(false);
    quota.set_plans(&plans(3)).unwrap();
    clock.advance(Duration::from_secs(6));
    assert_eq!(limit(&quota), Some(3));
}

#[test]
fn without_plans_anywhere_no_engine_opens() {
    assert_eq!(Quota::builder().open("memory:").unwrap_err(), Error::NoPlans);
    let store = watched();
    store.layer().fail(true);
    assert!(matches!(Quota::builder().open_on(store).unwrap_err(), Error::Store(_)));
}

#[test]
fn a_plans_file_is_read_anew_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plans.json");
    std::fs::write(&file, plans(1).to_json()).unwrap();
    let quota = Quota::builder().plans_file(&file).open("memory:").unwrap();
    assert_eq!(limit(&quota), Some(1));
    std::fs::write(&file, plans(2).to_json()).unwrap();
    quota.clear_catalog();
    assert_eq!(limit(&quota), Some(2));
    std::fs::write(&file, "{\"default_plan\": \"gold\"}").unwrap();
    quota.clear_catalog();
    assert_eq!(limit(&quota), Some(2));
    let error = quota.catalog_status().unwrap().last_error.unwrap();
    assert!(error.contains("plans.json:1: plans: found nothing, expected a table of plans"), "{error}");
    let broken = Quota::builder().plans_file(&file).open("memory:").unwrap_err();
    assert!(matches!(broken, Error::Plans(_)), "{broken}");
}

#[test]
fn a_subscription_is_asked_for_once_until_it_is_stale() {
    let store = watched();
    let (quota, clock) = open(&store);
    let asked = || store.layer().subscriptions_asked.load(Ordering::SeqCst);
    for _ in 0..100 {
        limit(&quota);
    }
    assert_eq!(asked(), 1);
    // Another process changes the plan: seen when the time to live is over.
    let now = quotum::Clock::wall(&*clock);
    let call = Call::new(now, Wait::Block);
    block_on(store.put_subscription(call, "ana", &Subscription::active("pro", now), &changed())).unwrap();
    assert_eq!(quota.check("ana", &[("jobs", 1)]).unwrap().plan.as_deref(), Some("free"));
    clock.advance(TTL / 10);
    assert_eq!(quota.check("ana", &[("jobs", 1)]).unwrap().plan.as_deref(), Some("pro"));
    assert_eq!(asked(), 2);
    // A change in this process is seen at once.
    quota.subscribe("ana", Subscription::active("free", now)).unwrap();
    assert_eq!(quota.check("ana", &[("jobs", 1)]).unwrap().plan.as_deref(), Some("free"));
    quota.forget_subject("ana").unwrap();
    limit(&quota);
    assert_eq!(asked(), 4);
}

#[test]
fn of_many_first_requests_of_one_subject_one_asks_the_store() {
    let store = watched();
    let (quota, _) = open(&store);
    store.layer().shut();
    std::thread::scope(|scope| {
        let requests: Vec<_> = (0..32).map(|_| scope.spawn(|| limit(&quota))).collect();
        eventually(|| store.layer().subscriptions_asked.load(Ordering::SeqCst) == 1);
        std::thread::sleep(Duration::from_millis(20));
        store.layer().open();
        for request in requests {
            assert_eq!(request.join().unwrap(), Some(1));
        }
    });
    assert_eq!(store.layer().subscriptions_asked.load(Ordering::SeqCst), 1);
}

/// A refresh that has read the old plans must not put them back after `set_plans` has returned.
#[test]
fn a_refresh_under_way_does_not_undo_a_change_of_plans() {
    let store = watched();
    let (quota, clock) = open(&store);
    for units in 2..30 {
        clock.advance(TTL);
        store.layer().shut();
        let before = store.layer().plans_asked.load(Ordering::SeqCst);
        eventually(|| {
            quota.plans().unwrap();
            store.layer().plans_asked.load(Ordering::SeqCst) > before
        });
        let refresh = std::thread::spawn({
            let store = store.clone();
            move || store.layer().open()
        });
        quota.set_plans(&plans(units)).unwrap();
        refresh.join().unwrap();
        for _ in 0..5 {
            assert_eq!(limit(&quota), Some(units));
            std::thread::sleep(Duration::from_micros(200));
        }
        // The next round's gate is not for this round's refresh.
        eventually(|| {
            store.layer().plans_answered.load(Ordering::SeqCst) == store.layer().plans_asked.load(Ordering::SeqCst)
        });
        assert_eq!(limit(&quota), Some(units));
    }
}

/// A subscription that was read before a change must not be kept after it.
#[test]
fn a_subscription_being_read_does_not_undo_a_change_of_it() {
    let store = watched();
    let (quota, clock) = open(&store);
    for round in 0..30 {
        let subject = format!("subject-{round}");
        store.layer().shut();
        let before = store.layer().subscriptions_read.load(Ordering::SeqCst);
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| quota.check(&subject, &[("jobs", 1)]).unwrap().plan);
            eventually(|| store.layer().subscriptions_read.load(Ordering::SeqCst) > before);
            quota.subscribe(&subject, Subscription::active("pro", quotum::Clock::wall(&*clock))).unwrap();
            store.layer().open();
            assert_eq!(reading.join().unwrap().as_deref(), Some("free"), "it was read before the change");
        });
        assert_eq!(quota.check(&subject, &[("jobs", 1)]).unwrap().plan.as_deref(), Some("pro"));
    }
}

/// While a plan that nobody knows has the plans loaded anew, others are served.
#[test]
fn an_unknown_plan_holds_nobody_else_up() {
    let store = watched();
    let (quota, clock) = open(&store);
    let now = quotum::Clock::wall(&*clock);
    block_on(store.put_subscription(
        Call::new(now, Wait::Block),
        "eve",
        &Subscription::active("lead", now),
        &changed(),
    ))
    .unwrap();
    assert_eq!(limit(&quota), Some(1));
    assert!(quota.check("eve", &[("jobs", 1)]).is_err());
    clock.advance(Duration::from_secs(2));
    store.layer().plans_only.store(true, Ordering::SeqCst);
    store.layer().shut();
    let before = store.layer().plans_asked.load(Ordering::SeqCst);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| quota.check("eve", &[("jobs", 1)]));
        eventually(|| store.layer().plans_asked.load(Ordering::SeqCst) > before);
        assert_eq!(limit(&quota), Some(1));
        store.layer().open();
        assert!(waiting.join().unwrap().is_err());
    });
}

/// A store of the host's own may panic: whoever waits for its answer is told.
#[test]
fn a_store_that_panics_leaves_nobody_waiting() {
    let store = watched();
    let (quota, _) = open(&store);
    store.layer().panicking.store(true, Ordering::SeqCst);
    let denial = quota.check("ana", &[("jobs", 1)]).unwrap().denied.unwrap();
    assert_eq!(denial.cause.as_deref(), Some("the store failed: it panicked"));
    store.layer().panicking.store(false, Ordering::SeqCst);
    assert_eq!(limit(&quota), Some(1));
}

/// A process that has not yet seen the new plans must not refuse whom another has put on one of them.
#[test]
fn a_subject_on_a_plan_put_by_another_process_has_the_plans_loaded_anew() {
    let store = watched();
    let clock = Arc::new(ManualClock::at("2026-03-10T15:00:00Z".parse().unwrap()));
    // It does not hear of the change in any other way.
    let builder = Quota::builder().plans(plans(1)).clock(clock.clone()).feed_interval(Duration::from_secs(3_600));
    let here = builder.open_on(store.clone()).unwrap();
    let (elsewhere, _) = open(&store);
    let more = plans(1).to_json().replace(r#""pro":{"#, r#""gold":{"rank":2,"quotas":{"jobs":"70/day"}},"pro":{"#);
    elsewhere.set_plans(&Plans::from_json(&more).unwrap()).unwrap();
    let now = quotum::Clock::wall(&*clock);
    elsewhere.subscribe("ana", Subscription::active("gold", now)).unwrap();
    clock.advance(Duration::from_secs(1));
    assert_eq!(limit(&here), Some(70));
    assert!(here.consume("bob", &[("jobs", 1)]).unwrap().allowed);

    // A plan that nobody knows asks the store once a second at the most.
    let asked = store.layer().plans_asked.load(Ordering::SeqCst);
    block_on(store.put_subscription(
        Call::new(now, Wait::Block),
        "eve",
        &Subscription::active("lead", now),
        &changed(),
    ))
    .unwrap();
    for _ in 0..50 {
        let error = here.check("eve", &[("jobs", 1)]).unwrap_err();
        assert!(matches!(error, Error::Unknown { .. }), "{error}");
    }
    assert!(store.layer().plans_asked.load(Ordering::SeqCst) <= asked + 1);
}

/// A task that has asked the store and is not polled again holds nobody up.
#[test]
fn a_task_that_is_never_polled_again_stalls_no_other() {
    let store = watched();
    let (quota, _) = open(&store);
    let tasks = quota.to_async();
    let mut context = Context::from_waker(Waker::noop());
    store.layer().pause.store(true, Ordering::SeqCst);
    let mut forgotten = Box::pin(tasks.check("ana", &[("jobs", 1)]));
    assert!(forgotten.as_mut().poll(&mut context).is_pending());
    store.layer().pause.store(false, Ordering::SeqCst);
    assert_eq!(limit(&quota), Some(1));
    assert!(block_on(tasks.check("ana", &[("jobs", 1)])).unwrap().allowed);
    drop(forgotten);
}

#[test]
fn a_store_that_fails_is_told_apart_from_every_other_denial() {
    let store = watched();
    let (quota, _) = open(&store);
    store.layer().fail(true);
    let denial = quota.consume("ana", &[("jobs", 1)]).unwrap().denied.unwrap();
    assert_eq!(denial.reason, Reason::StoreUnavailable);
    assert_eq!(denial.cause.as_deref(), Some("the store failed: the server is gone"));
    assert_eq!(quota.usage("ana").unwrap_err().retry(), Retry::Safe, "where there is no decision, it is an error");
    store.layer().fail(false);
    assert!(quota.consume("ana", &[("jobs", 1)]).unwrap().allowed, "nothing was charged by the failure");
}

/// A store whose answers about plans, once it is made so, are given only when they are polled a second time.
#[derive(Debug, Default)]
struct LateAnswers {
    late: AtomicBool,
    failing: AtomicBool,
}

impl Layer for LateAnswers {
    fn around<'a, T: Send + 'a>(&'a self, _: Call, step: Step, inner: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        let about_plans = matches!(step, Step::Plans | Step::PutPlans);
        if about_plans && self.failing.load(Ordering::SeqCst) {
            let detail = "the server is gone".to_owned();
            return Box::pin(std::future::ready(Err(StoreError::Failed { detail, retry: Retry::Safe })));
        }
        let late = self.late.load(Ordering::SeqCst) && about_plans;
        Box::pin(async move {
            let answer = inner.await;
            let mut pending = late;
            std::future::poll_fn(|_| if std::mem::take(&mut pending) { Poll::Pending } else { Poll::Ready(()) }).await;
            answer
        })
    }
}

/// The simulator found it in its seven millionth operation: the answer to `set_plans` came while the plans of
/// another process, put later, were being loaded. As the load had begun before the answer, it was thrown away,
/// and the older plans served until they were stale.
#[test]
fn a_late_answer_to_a_change_of_plans_does_not_undo_a_later_change() {
    let memory = Arc::new(MemoryStore::new());
    let store = Arc::new(Layered::new(memory.clone(), LateAnswers::default()));
    let clock = Arc::new(ManualClock::at("2026-03-10T15:00:00Z".parse().unwrap()));
    let quota = block_on(quotum::Quota::builder().plans(plans(1)).clock(clock.clone()).open_on(store.clone())).unwrap();
    store.layer().late.store(true, Ordering::SeqCst);
    let waker = &mut Context::from_waker(Waker::noop());

    let ours = plans(2);
    let mut change = Box::pin(quota.set_plans(&ours));
    assert!(change.as_mut().poll(waker).is_pending(), "made, and not answered yet");
    let (call, event) =
        (Call::new(Timestamp::UNIX_EPOCH, Wait::Block), Event::new(EventName::PlanChanged, Timestamp::UNIX_EPOCH));
    block_on(memory.put_plans(call, &plans(3), &event)).unwrap();
    clock.advance(Duration::from_secs(10));
    let mut follow = Box::pin(quota.check("ana", &[("jobs", 1)]));
    assert!(follow.as_mut().poll(waker).is_pending(), "the later plans are being loaded");
    assert!(matches!(change.as_mut().poll(waker), Poll::Ready(Ok(1))));
    assert!(follow.as_mut().poll(waker).is_ready());

    store.layer().late.store(false, Ordering::SeqCst);
    let decision = block_on(quota.check("ana", &[("jobs", 1)])).unwrap();
    assert_eq!(decision.quotas.first().unwrap().limit.units(), Some(3));
}

/// The simulator found this too: plans that were read before another process put later ones
/// came in after those could not be loaded, and were taken for current until they were stale.
#[test]
fn plans_that_were_read_before_a_change_are_read_again_though_the_change_could_not_be_loaded() {
    let memory = Arc::new(MemoryStore::new());
    let (call, event) =
        (Call::new(Timestamp::UNIX_EPOCH, Wait::Block), Event::new(EventName::PlanChanged, Timestamp::UNIX_EPOCH));
    let put = |units| block_on(memory.put_plans(call, &plans(units), &event)).unwrap();
    put(1);
    let store = Arc::new(Layered::new(memory.clone(), LateAnswers::default()));
    let clock = Arc::new(ManualClock::at("2026-03-10T15:00:00Z".parse().unwrap()));
    let quota = block_on(quotum::Quota::builder().clock(clock.clone()).open_on(store.clone())).unwrap();
    let limit = || block_on(quota.check("ana", &[("jobs", 1)])).unwrap().quotas[0].limit.units();
    assert_eq!(limit(), Some(1));

    put(2);
    store.layer().late.store(true, Ordering::SeqCst);
    quota.clear_catalog();
    let mut read_before = Box::pin(quota.plans());
    let waker = &mut Context::from_waker(Waker::noop());
    assert!(read_before.as_mut().poll(waker).is_pending());
    store.layer().late.store(false, Ordering::SeqCst);

    put(3);
    store.layer().failing.store(true, Ordering::SeqCst);
    clock.advance(Duration::from_secs(10));
    assert_eq!(limit(), Some(1), "the change was seen, and could not be loaded");
    store.layer().failing.store(false, Ordering::SeqCst);
    assert!(read_before.as_mut().poll(waker).is_ready());

    eventually(|| limit() == Some(3));
}
