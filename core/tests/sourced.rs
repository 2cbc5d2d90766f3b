//! A host that keeps its users' plans in tables of its own.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quotum::blocking::Quota;
use quotum::store::{MemoryStore, Sourced, StoreError, StoredPlans};
use quotum::{Error, ManualClock, Plans, Retry, Status, Subscription, Timestamp};

const PLANS: &str = "default_plan = 'free'
[plans.free]
trial_days = 7
quotas = { jobs = '1/day' }
[plans.pro]
rank = 1
quotas = { jobs = '9/day' }";

/// The host's table of users, and how it fails.
#[derive(Default)]
struct Users {
    subscriptions: Mutex<HashMap<String, Subscription>>,
    failing: Mutex<Option<String>>,
}

impl Users {
    fn put(&self, subject: &str, plan: &str) {
        let subscription = Subscription::active(plan, Timestamp::UNIX_EPOCH);
        self.subscriptions.lock().unwrap().insert(subject.to_owned(), subscription);
    }

    fn read(&self, subject: &str) -> Result<Option<Subscription>, String> {
        match &*self.failing.lock().unwrap() {
            Some(failure) => Err(failure.clone()),
            None => Ok(self.subscriptions.lock().unwrap().get(subject).cloned()),
        }
    }
}

fn open(users: &Arc<Users>) -> (Quota, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
    let users = Arc::clone(users);
    let store = Sourced::around(Arc::new(MemoryStore::new())).subscriptions(move |subject| {
        let users = Arc::clone(&users);
        async move { users.read(&subject) }
    });
    let plans = Plans::from_toml(PLANS).unwrap();
    let quota = Quota::builder().plans(plans).clock(Arc::clone(&clock) as _).open_on(Arc::new(store)).unwrap();
    (quota, clock)
}

#[test]
fn a_change_in_the_hosts_table_is_seen_when_the_subject_is_forgotten_or_its_time_is_over() {
    let users = Arc::new(Users::default());
    users.put("ana", "free");
    let (quota, clock) = open(&users);
    assert!(!quota.check("ana", &[("jobs", 5)]).unwrap().allowed);
    users.put("ana", "pro");
    assert!(!quota.check("ana", &[("jobs", 5)]).unwrap().allowed, "what is known is believed for a while");
    quota.forget_subject("ana").unwrap();
    assert!(quota.check("ana", &[("jobs", 5)]).unwrap().allowed);
    users.put("ana", "free");
    clock.advance(Duration::from_secs(31));
    assert!(!quota.check("ana", &[("jobs", 5)]).unwrap().allowed);
}

#[test]
fn who_the_host_knows_is_changed_there_and_everybody_else_here() {
    let users = Arc::new(Users::default());
    users.put("ana", "pro");
    let (quota, _) = open(&users);
    let pro = || Subscription::active("pro", Timestamp::UNIX_EPOCH);
    let refused = |error: Error| {
        let Error::Store(StoreError::KeptByHost { what }) = &error else { panic!("{error:?}") };
        assert_eq!((what.as_str(), error.retry()), ("the subscription of \"ana\"", Retry::Never));
    };
    refused(quota.subscribe("ana", pro()).unwrap_err());
    refused(quota.cancel("ana").unwrap_err());
    assert_eq!(quota.subscription("ana").unwrap(), Some(pro()));
    quota.subscribe("bob", pro()).unwrap();
    assert_eq!(quota.cancel("bob").unwrap().status, Status::Canceled);
    // The default plan's trial is kept in the store that is around.
    assert!(quota.consume("eve", &[("jobs", 1)]).unwrap().allowed);
    assert_eq!(quota.subscription("eve").unwrap().unwrap().status, Status::Trialing);
}

#[test]
fn a_table_that_cannot_be_read_is_told_and_who_is_known_goes_on() {
    let users = Arc::new(Users::default());
    users.put("ana", "pro");
    let (quota, clock) = open(&users);
    assert!(quota.check("ana", &[("jobs", 5)]).unwrap().allowed);
    *users.failing.lock().unwrap() = Some("the table is locked".to_owned());
    clock.advance(Duration::from_secs(31));
    assert!(quota.check("ana", &[("jobs", 5)]).unwrap().allowed, "as it was known last");
    let error = quota.subscription("bob").unwrap_err();
    assert!(error.to_string().contains("a subscription of the host's cannot be read: the table is locked"), "{error}");
    assert_eq!(error.retry(), Retry::Safe);
}

#[test]
fn the_hosts_plans_are_read_and_only_changed_there() {
    let version = Arc::new(Mutex::new((1, "9/day")));
    let told = Arc::clone(&version);
    let store = Sourced::around(Arc::new(MemoryStore::new())).plans(move || {
        let (version, jobs) = *told.lock().unwrap();
        let text = format!("default_plan = 'free'\n[plans.free]\nquotas = {{ jobs = '{jobs}' }}");
        async move { Ok::<_, Infallible>(Some(StoredPlans { version, plans: Plans::from_toml(&text).unwrap() })) }
    });
    let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
    let quota = Quota::builder().clock(Arc::clone(&clock) as _).open_on(Arc::new(store)).unwrap();
    assert!(quota.check("ana", &[("jobs", 9)]).unwrap().allowed);
    let error = quota.set_plans(&Plans::from_toml(PLANS).unwrap()).unwrap_err();
    let expected = "the catalog of plans is kept by the host: change it there";
    assert!(error.to_string().contains(expected), "{error}");
    *version.lock().unwrap() = (2, "3/day");
    clock.advance(Duration::from_secs(301));
    // They are read off the request path.
    while quota.check("ana", &[("jobs", 9)]).unwrap().allowed {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_function_that_may_block_is_called_on_the_thread_of_who_may_wait_and_of_no_task() {
    let called_on = Arc::new(Mutex::new(Vec::new()));
    let source = {
        let called_on = Arc::clone(&called_on);
        move |subject: &str| {
            called_on.lock().unwrap().push(std::thread::current().id());
            Ok::<_, Infallible>((subject == "ana").then(|| Subscription::active("pro", Timestamp::UNIX_EPOCH)))
        }
    };
    let store = Sourced::around(Arc::new(MemoryStore::new())).blocking_subscriptions(source);
    let quota = Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).open_on(Arc::new(store)).unwrap();
    assert!(quota.check("ana", &[("jobs", 5)]).unwrap().allowed);
    quota.forget_subject("ana").unwrap();
    assert!(pollster::block_on(quota.to_async().check("ana", &[("jobs", 5)])).unwrap().allowed);
    let here = std::thread::current().id();
    let called_here: Vec<bool> = called_on.lock().unwrap().iter().map(|thread| *thread == here).collect();
    assert_eq!(called_here, [true, false]);
}

#[test]
fn a_function_that_may_block_gives_the_plans() {
    let source = || Ok::<_, String>(Some(StoredPlans { version: 1, plans: Plans::from_toml(PLANS).unwrap() }));
    let store = Sourced::around(Arc::new(MemoryStore::new())).blocking_plans(source);
    let quota = Quota::builder().open_on(Arc::new(store)).unwrap();
    assert_eq!(quota.plans().unwrap().len(), 2);
    let failing = || Err::<Option<StoredPlans>, _>("the table is gone");
    let store = Sourced::around(Arc::new(MemoryStore::new())).blocking_plans(failing);
    let refused = Quota::builder().open_on(Arc::new(store)).unwrap_err().to_string();
    assert!(refused.contains("the plans of the host's cannot be read: the table is gone"), "{refused}");
}
