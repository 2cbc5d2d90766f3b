//! A host that keeps its users' plans in tables of its own.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, mpsc};
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
        self.insert(subject, Subscription::active(plan, Timestamp::UNIX_EPOCH));
    }

    fn put_in(&self, account: &str, subject: &str, plan: &str) {
        self.insert(subject, Subscription::active(plan, Timestamp::UNIX_EPOCH).in_account(account));
    }

    fn insert(&self, subject: &str, subscription: Subscription) {
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
    open_under(PLANS, users)
}

fn open_under(plans: &str, users: &Arc<Users>) -> (Quota, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
    let users = Arc::clone(users);
    let store = Sourced::around(Arc::new(MemoryStore::new())).subscriptions(move |subject| {
        let users = Arc::clone(&users);
        async move { users.read(&subject) }
    });
    let plans = Plans::from_toml(plans).unwrap();
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

const TEAMS: &str = "default_plan = 'free'
[plans.free]
quotas = { jobs = '1000000/day' }
member_quotas = { jobs = '900000/day' }
[plans.leased]
rank = 1
quotas = { jobs = '1000000/day' }
member_quotas = { jobs = '900000/day' }
lease = { jobs = {} }";

/// What comes of something that must not take for ever, and would without an end.
fn in_time<T: Send + 'static>(what: &str, act: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || done.send(act()));
    is_done.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// As `coalesce(team_id, id) AS account` has it.
#[test]
fn who_is_an_account_of_its_own_in_the_hosts_table_is_in_none() {
    let users = Arc::new(Users::default());
    for plan in ["free", "leased"] {
        users.put_in(plan, plan, plan);
        users.put_in(plan, "bob", "free");
        let (quota, _) = open_under(TEAMS, &users);
        let (usage, bobs) = in_time(plan, move || {
            for _ in 0..100 {
                assert!(quota.consume(plan, &[("jobs", 1)]).unwrap().allowed);
                assert!(quota.consume("bob", &[("jobs", 1)]).unwrap().allowed);
            }
            (quota.usage(plan).unwrap(), quota.usage("bob").unwrap())
        });
        assert_eq!((&*usage.plan, usage.account.as_deref(), usage.status), (plan, None, Some(Status::Active)));
        assert_eq!(usage.quotas.iter().map(|state| state.used).collect::<Vec<_>>(), [200], "{usage:?}");
        assert_eq!((&*bobs.plan, bobs.account.as_deref()), (plan, Some(plan)), "{bobs:?}");
    }
}

/// A member may be put into an account that its table names as its own.
#[test]
fn who_is_an_account_of_its_own_in_the_hosts_table_has_members_here_too() {
    let users = Arc::new(Users::default());
    users.put_in("acme", "acme", "pro");
    let (quota, _) = open(&users);
    quota.subscribe("eve", Subscription::active("free", Timestamp::UNIX_EPOCH).in_account("acme")).unwrap();
    assert!(quota.consume("eve", &[("jobs", 9)]).unwrap().allowed);
    assert!(!quota.consume("acme", &[("jobs", 1)]).unwrap().allowed, "they are acme's that eve has used");
}

#[test]
fn two_who_are_each_others_accounts_never_wait_for_each_other() {
    let users = Arc::new(Users::default());
    for (one, other) in [("ana", "bob"), ("bob", "ana")] {
        users.put_in(other, one, "free");
    }
    for plans in [TEAMS.to_owned(), TEAMS.replace("'free'", "'leased'")] {
        let quota = Arc::new(open_under(&plans, &users).0);
        let workers = ["ana", "bob"].map(|subject| {
            let quota = Arc::clone(&quota);
            move || (0..20_000).filter(|_| quota.consume(subject, &[("jobs", 1)]).unwrap().allowed).count()
        });
        let granted = in_time("both at once", || {
            let threads = workers.map(std::thread::spawn);
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(granted, [20_000; 2], "{plans}");
    }
}
