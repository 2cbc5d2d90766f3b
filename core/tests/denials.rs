//! What is answered from memory: denials that stay denials, and account pages; and everything that must
//! make the engine ask the store again.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quotum::blocking::Quota;
use quotum::store::{Call, Layer, Layered, MemoryStore, Step, Store, StoreFuture};
use quotum::{Enforcement, ManualClock, Overrides, Plans, Reason, Subscription};

const PLANS: &str = r#"
default_plan = "free"
[plans.free]
quotas = { jobs = "3/day", calls = "5/month", storage = "10/total" }
[plans.team]
rank = 1
quotas = { jobs = "4/day" }
member_quotas = { jobs = "3/day" }
"#;

#[derive(Debug, Default)]
struct Asked(AtomicU64);

impl Layer for Asked {
    fn around<'a, T: Send + 'a>(&'a self, _: Call, step: Step, inner: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        if matches!(step, Step::Charge | Step::Hold | Step::Balances) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
        inner
    }
}

struct Bench {
    store: Arc<Layered<Asked>>,
    clock: Arc<ManualClock>,
}

impl Bench {
    fn new() -> Self {
        let store = Arc::new(Layered::new(Arc::new(MemoryStore::new()), Asked::default()));
        Self { store, clock: Arc::new(ManualClock::at("2026-03-10T15:00:00Z".parse().unwrap())) }
    }

    fn open(&self) -> Quota {
        let builder = Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).clock(self.clock.clone());
        builder.open_on(Arc::clone(&self.store) as Arc<dyn Store>).unwrap()
    }

    /// How often the store was asked for counters while `act` ran.
    fn asked(&self, act: impl FnOnce()) -> u64 {
        let before = self.store.layer().0.load(Ordering::SeqCst);
        act();
        self.store.layer().0.load(Ordering::SeqCst) - before
    }
}

#[track_caller]
fn denied(quota: &Quota, subject: &str) {
    let decision = quota.consume(subject, &[("jobs", 1)]).unwrap();
    assert_eq!(decision.denied.unwrap().reason, Reason::QuotaExhausted);
}

#[track_caller]
fn allowed(quota: &Quota, subject: &str) {
    assert!(quota.consume(subject, &[("jobs", 1)]).unwrap().allowed);
}

fn exhaust(quota: &Quota, subject: &str) {
    for _ in 0..3 {
        allowed(quota, subject);
    }
    denied(quota, subject);
}

#[test]
fn a_denial_is_repeated_without_asking_the_store() {
    let bench = Bench::new();
    let quota = bench.open();
    exhaust(&quota, "ana");
    let first = quota.consume("ana", &[("jobs", 1)]).unwrap();
    let asked = bench.asked(|| {
        for _ in 0..100 {
            assert_eq!(quota.consume("ana", &[("jobs", 1)]).unwrap(), first);
            assert_eq!(quota.check("ana", &[("jobs", 1)]).unwrap(), first);
            assert!(quota.reserve("ana", &[("jobs", 1)], Duration::from_secs(9)).unwrap().is_err());
        }
    });
    assert_eq!(asked, 0);
    allowed(&quota, "bob");
    assert!(quota.consume("ana", &[("calls", 1)]).unwrap().allowed, "other costs are weighed anew");
}

#[test]
fn a_denial_ends_with_the_period() {
    let bench = Bench::new();
    let quota = bench.open();
    exhaust(&quota, "ana");
    bench.clock.advance(Duration::from_secs(9 * 3_600 - 1));
    denied(&quota, "ana");
    bench.clock.advance(Duration::from_secs(1));
    allowed(&quota, "ana");
}

#[test]
fn what_is_in_memory_ends_with_the_period_though_no_time_passes() {
    let bench = Bench::new();
    let quota = bench.open();
    exhaust(&quota, "ana");
    let used = || quota.usage("ana").unwrap().quotas.iter().map(|state| state.used).max();
    assert_eq!(used(), Some(3));
    bench.clock.set_wall("2026-03-11T00:00:00Z".parse().unwrap());
    assert_eq!(used(), Some(0), "the wall clock was set");
    allowed(&quota, "ana");
}

/// Who asks for ever other amounts must not fill the memory.
#[test]
fn of_the_denials_of_one_subject_the_last_few_are_remembered() {
    let bench = Bench::new();
    let quota = bench.open();
    exhaust(&quota, "ana");
    let ask = |units| bench.asked(|| assert!(!quota.consume("ana", &[("jobs", units)]).unwrap().allowed));
    for units in 1..=100 {
        ask(units);
    }
    for units in 97..=100 {
        assert_eq!(ask(units), 0, "{units}");
    }
    assert!(ask(50) > 0);
}

#[test]
fn every_change_that_could_let_a_request_pass_ends_its_denial_at_once() {
    type Change = (&'static str, fn(&Quota));
    let changes: [Change; 9] = [
        ("refund", |quota| drop(quota.refund("ana", &[("jobs", 1)]).unwrap())),
        ("grant", |quota| drop(quota.grant("ana", &[("jobs", 1)]).unwrap())),
        ("reset", |quota| drop(quota.reset_usage("ana", "jobs").unwrap())),
        ("subscribe", |quota| {
            quota.subscribe("ana", Subscription::active("team", "2026-03-01T00:00:00Z".parse().unwrap())).unwrap();
        }),
        ("override", |quota| {
            let mut overrides = Overrides::default();
            overrides.quotas.insert("jobs".to_owned(), vec!["9/day".parse().unwrap()]);
            let _ = quota.set_overrides("ana", overrides).unwrap();
        }),
        ("plans", |quota| {
            let _ = quota.set_plans(&Plans::from_toml(&PLANS.replace("3/day", "9/day")).unwrap()).unwrap();
        }),
        ("shadow", |quota| quota.set_enforcement(None, Enforcement::Shadow).unwrap()),
        ("shadow of the metric", |quota| quota.set_enforcement(Some("jobs"), Enforcement::Shadow).unwrap()),
        ("off", |quota| quota.set_enforcement(Some("jobs"), Enforcement::Off).unwrap()),
    ];
    for (name, change) in changes {
        let bench = Bench::new();
        let (here, there) = (bench.open(), bench.open());
        exhaust(&here, "ana");
        denied(&there, "ana");
        change(&here);
        assert!(here.consume("ana", &[("jobs", 1)]).unwrap().allowed, "{name}, in the same process");
        let _ = here.refund("ana", &[("jobs", 1)]);
        // Another process is told by the log, within two intervals.
        bench.clock.advance(Duration::from_secs(2));
        assert!(there.consume("ana", &[("jobs", 1)]).unwrap().allowed, "{name}, in another process");
    }
}

#[test]
fn a_denial_for_want_of_held_units_lasts_a_second_at_the_most() {
    let bench = Bench::new();
    let (here, there) = (bench.open(), bench.open());
    let reservation = here.reserve("ana", &[("jobs", 3)], Duration::from_secs(60)).unwrap().unwrap();
    denied(&there, "ana");
    let _ = reservation.release().unwrap();
    denied(&there, "ana");
    bench.clock.advance(Duration::from_secs(1));
    allowed(&there, "ana");
}

#[test]
fn units_given_back_end_the_denials_of_the_same_process_at_once() {
    let bench = Bench::new();
    let quota = bench.open();
    let reservation = quota.reserve("ana", &[("jobs", 3)], Duration::from_secs(60)).unwrap().unwrap();
    denied(&quota, "ana");
    let _ = reservation.commit(&[("jobs", 1)]).unwrap();
    allowed(&quota, "ana");
}

#[test]
fn what_one_member_gives_back_ends_the_denials_of_the_others() {
    let bench = Bench::new();
    let quota = bench.open();
    let now = "2026-03-01T00:00:00Z".parse().unwrap();
    quota.subscribe("acme", Subscription::active("team", now)).unwrap();
    for member in ["ana", "bob"] {
        quota.subscribe(member, Subscription::active("free", now).in_account("acme")).unwrap();
    }
    for member in ["ana", "ana", "bob", "bob"] {
        allowed(&quota, member);
    }
    for member in ["ana", "bob"] {
        denied(&quota, member);
    }
    let _ = quota.refund("bob", &[("jobs", 1)]).unwrap();
    allowed(&quota, "ana");
}

#[test]
fn usage_is_read_once_a_second_and_shows_what_this_process_charges_at_once() {
    let bench = Bench::new();
    let (here, there) = (bench.open(), bench.open());
    let used = |quota: &Quota| quota.usage("ana").unwrap().quotas.iter().map(|state| state.used).collect::<Vec<_>>();
    assert_eq!(used(&here), [0, 0, 0]);
    assert_eq!(bench.asked(|| assert_eq!(used(&here), [0, 0, 0])), 0, "from memory");
    allowed(&here, "ana");
    assert_eq!(used(&here), [0, 1, 0]);
    allowed(&there, "ana");
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(used(&here), [0, 2, 0], "what another process has charged is seen after a second");
    bench.clock.advance(Duration::from_secs(9 * 3_600));
    assert_eq!(used(&here), [0, 0, 0], "the next day");
}

#[test]
fn unlimited_quotas_and_features_never_ask_for_counters() {
    let bench = Bench::new();
    let plans = "default_plan = 'free'\n[plans.free]\nfeatures = { excel = true }\nquotas = { jobs = 'unlimited' }";
    let quota = Quota::builder().plans(Plans::from_toml(plans).unwrap()).clock(bench.clock.clone());
    let quota = quota.open_on(Arc::clone(&bench.store) as Arc<dyn Store>).unwrap();
    let asked = bench.asked(|| {
        allowed(&quota, "ana");
        assert!(quota.require("ana", "excel").unwrap().allowed);
    });
    assert_eq!(asked, 0);
}
