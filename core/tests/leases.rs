//! Leased quotas: granted from memory, never beyond the limit, and nothing lost that can be returned.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quotum::blocking::Quota;
use quotum::store::{Call, CounterKey, Layer, Layered, MemoryStore, Step, Store, StoreFuture, Wait};
use quotum::{Clock, Limit, ManualClock, Period, Plans, QuotaState, Reason, Request, Subscription};

/// Counts the steps of a store that charge.
#[derive(Debug, Default)]
struct Counting {
    charges: AtomicU64,
    leases: AtomicU64,
    settles: AtomicU64,
}

#[derive(Debug, Clone, Default)]
struct Counted(Arc<Counting>);

impl Layer for Counted {
    fn around<'a, T: Send + 'a>(&'a self, _: Call, step: Step, inner: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        let counter = match step {
            Step::Charge => &self.0.charges,
            Step::Lease => &self.0.leases,
            Step::Settle => &self.0.settles,
            _ => return inner,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        inner
    }
}

impl Counting {
    fn charges(&self) -> u64 {
        self.charges.load(Ordering::Relaxed)
    }
}

const PLANS: &str = r#"
    default_plan = "free"
    [plans.free]
    quotas = { tokens = "10000/month", jobs = "1000/day", calls = ["5000/day", "20000/month"] }
    lease = { tokens = {}, jobs = {}, calls = { max = 400, ttl_s = 30 } }
    [plans.team]
    rank = 1
    quotas = { tokens = "50000/month" }
    member_quotas = { tokens = "2000/month" }
    lease = { tokens = {} }
"#;

/// Engines on one store in memory, with a clock of their own.
struct Shop {
    store: Arc<dyn Store>,
    steps: Arc<Counting>,
    clock: Arc<ManualClock>,
}

impl Shop {
    fn new() -> Self {
        let steps = Counted::default();
        let counting = Arc::clone(&steps.0);
        Self {
            store: Arc::new(Layered::new(Arc::new(MemoryStore::new()), steps)),
            steps: counting,
            clock: Arc::new(ManualClock::at("2026-03-10T12:00:00Z".parse().unwrap())),
        }
    }

    /// Lets time pass, as fast as it does.
    fn tick(&self) {
        std::thread::sleep(Duration::from_millis(20));
        self.clock.advance(Duration::from_millis(20));
    }

    fn engine(&self) -> Quota {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).clock(clock).open_on(Arc::clone(&self.store)).unwrap()
    }
}

/// Waits until something holds, for ten seconds at the most.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The state of one metric, as an engine sees it.
fn state(quota: &Quota, subject: &str, metric: &str) -> QuotaState {
    let usage = quota.usage(subject).unwrap();
    usage.quotas.into_iter().find(|state| *state.metric == *metric).unwrap()
}

/// Consumes until units are granted from a block, and returns how many were consumed by then.
fn until_leased(shop: &Shop, quota: &Quota, subject: &str, metric: &str) -> u64 {
    let mut consumed = 0;
    until("a block is leased", || {
        let before = shop.steps.charges();
        assert!(quota.consume(subject, &[(metric, 1)]).unwrap().allowed);
        consumed += 1;
        shop.steps.charges() == before
    });
    consumed
}

fn used(quota: &Quota, subject: &str, metric: &str) -> u64 {
    state(quota, subject, metric).used
}

#[test]
fn a_busy_subject_is_granted_from_memory_and_everything_is_counted() {
    let shop = Shop::new();
    let quota = shop.engine();
    for unit in 1..=3_000 {
        let decision = quota.consume("ana", &[("tokens", 1)]).unwrap();
        assert!(decision.allowed, "{unit}");
        assert_eq!(decision.quotas[0].limit, Limit::Units(10_000));
        // A block that the store has made, and of which this process has not heard yet, seems to be another's.
        let QuotaState { used, remaining, stranded, .. } = decision.quotas[0];
        assert_eq!((used, remaining), (unit, Some(10_000 - unit - stranded)), "{unit}");
        if unit % 100 == 0 {
            shop.clock.advance(Duration::from_millis(50));
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    assert!(shop.steps.charges() < 1_000, "{:?}", shop.steps);
    assert_eq!(used(&quota, "ana", "tokens"), 3_000, "what is not settled yet counts here");
    let other = shop.engine();
    let seen = state(&other, "ana", "tokens");
    assert!(seen.stranded > 0 && seen.leased == seen.stranded, "{seen:?}");
    assert!(seen.used + seen.stranded >= 3_000, "{seen:?}");
    quota.close().unwrap();
    shop.clock.advance(Duration::from_secs(2));
    let seen = state(&other, "ana", "tokens");
    assert_eq!((seen.used, seen.held, seen.leased, seen.stranded), (3_000, 0, 0, 0), "returned at the end");
}

#[cfg(feature = "metrics")]
#[test]
fn metrics_show_what_is_leased_here_and_what_by_others() {
    let shop = Shop::new();
    let (here, there) = (shop.engine(), shop.engine());
    let gauge = |name: &str| -> u64 {
        let page = here.metrics();
        let found = page.lines().find_map(|line| line.strip_prefix(&format!("quotum_{name} "))).unwrap();
        found.parse().unwrap()
    };
    until_leased(&shop, &there, "ana", "tokens");
    until_leased(&shop, &here, "ana", "tokens");
    until("both are as usage shows them", || {
        // What was told is as old as the newest block.
        shop.tick();
        assert!(here.consume("ana", &[("tokens", 1)]).unwrap().allowed);
        let QuotaState { leased, stranded, .. } = state(&here, "ana", "tokens");
        stranded > 0 && (gauge("leased_units"), gauge("stranded_units")) == (leased - stranded, stranded)
    });
    there.close().unwrap();
    until("the store has told that nothing is stranded any more", || {
        shop.tick();
        here.consume("ana", &[("tokens", 1)]).unwrap().allowed && gauge("stranded_units") == 0
    });
}

#[test]
fn a_leased_quota_ends_exactly_at_its_limit() {
    let shop = Shop::new();
    let quota = shop.engine();
    let mut granted = 0;
    let denied = loop {
        let decision = quota.consume("ana", &[("tokens", 7)]).unwrap();
        if !decision.allowed {
            break decision;
        }
        granted += 7;
        if granted % 700 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    assert_eq!(granted, 9_996);
    assert_eq!(denied.denied.unwrap().reason, Reason::QuotaExhausted);
    assert!(quota.consume("ana", &[("tokens", 4)]).unwrap().allowed);
    assert!(!quota.consume("ana", &[("tokens", 1)]).unwrap().allowed);
    assert_eq!(used(&quota, "ana", "tokens"), 10_000);
    assert!(shop.steps.leases.load(Ordering::Relaxed) > 0);
    assert!(shop.steps.charges() < 1_400, "{:?}", shop.steps);
}

#[test]
fn limits_of_up_to_a_thousand_are_exact() {
    let shop = Shop::new();
    let quota = shop.engine();
    for _ in 0..1_000 {
        assert!(quota.consume("ana", &[("jobs", 1)]).unwrap().allowed);
    }
    assert!(!quota.consume("ana", &[("jobs", 1)]).unwrap().allowed);
    assert_eq!((shop.steps.leases.load(Ordering::Relaxed), shop.steps.charges()), (0, 1_001));
}

#[test]
fn engines_that_share_a_quota_never_grant_more_than_the_limit() {
    let shop = Shop::new();
    let engines: Vec<Quota> = (0..4).map(|_| shop.engine()).collect();
    let granted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for quota in &engines {
            let granted = &granted;
            scope.spawn(move || {
                let mut denials = 0;
                while denials < 3 {
                    match quota.consume("ana", &[("tokens", 1)]).unwrap().allowed {
                        true => drop(granted.fetch_add(1, Ordering::Relaxed)),
                        false => denials += 1,
                    }
                }
            });
        }
    });
    let at_first = granted.load(Ordering::Relaxed);
    assert!(at_first <= 10_000, "{at_first}");
    assert!(at_first >= 9_900, "{at_first}: more than one in a hundred is stranded");
    // Once all have returned what they had, the rest can be used.
    let [first, others @ ..] = &engines[..] else { unreachable!() };
    shop.clock.advance(Duration::from_secs(6));
    for quota in others {
        drop(quota.clone().close());
    }
    until("the rest is granted", || {
        while first.consume("ana", &[("tokens", 1)]).unwrap().allowed {
            granted.fetch_add(1, Ordering::Relaxed);
        }
        shop.clock.advance(Duration::from_secs(1));
        granted.load(Ordering::Relaxed) == 10_000
    });
    assert_eq!(used(first, "ana", "tokens"), 10_000);
}

#[test]
fn a_block_that_nobody_takes_from_is_returned() {
    let shop = Shop::new();
    let (quota, other) = (shop.engine(), shop.engine());
    let consumed = until_leased(&shop, &quota, "ana", "tokens");
    assert!(state(&other, "ana", "tokens").stranded > 0);
    shop.clock.advance(Duration::from_millis(5_100));
    until("the block is returned", || {
        shop.tick();
        let seen = state(&other, "ana", "tokens");
        (seen.used, seen.stranded) == (consumed, 0)
    });
}

#[test]
fn who_is_denied_what_others_have_leased_gets_it_when_they_hear_of_it() {
    let shop = Shop::new();
    let (quota, other) = (shop.engine(), shop.engine());
    let consumed = until_leased(&shop, &quota, "ana", "tokens");
    let rest = 10_000 - consumed;
    let denied = other.consume("ana", &[("tokens", rest)]).unwrap();
    assert!(!denied.allowed && denied.quotas[0].stranded > 0, "{denied:?}");
    until("what was leased is returned", || {
        shop.tick();
        other.consume("ana", &[("tokens", rest)]).unwrap().allowed
    });
    assert_eq!(used(&other, "ana", "tokens"), 10_000);
    assert!(!quota.consume("ana", &[("tokens", 1)]).unwrap().allowed);
}

#[test]
fn what_a_process_has_leased_itself_is_no_reason_to_deny() {
    let shop = Shop::new();
    let quota = shop.engine();
    let consumed = until_leased(&shop, &quota, "ana", "tokens");
    let rest = 10_000 - consumed;
    assert!(quota.check("ana", &[("tokens", rest)]).unwrap().allowed);
    assert!(!quota.check("ana", &[("tokens", rest + 1)]).unwrap().allowed);
    let reservation = quota.reserve("ana", &[("tokens", rest)], Duration::from_secs(60)).unwrap().unwrap();
    reservation.commit(&[("tokens", rest - 10)]).unwrap();
    assert_eq!(used(&quota, "ana", "tokens"), 9_990);

    let bob = until_leased(&shop, &quota, "bob", "tokens");
    assert!(quota.consume("bob", &[("tokens", 10_000 - bob)]).unwrap().allowed);
    assert_eq!(used(&quota, "bob", "tokens"), 10_000);
}

#[test]
fn a_block_of_one_period_is_not_used_in_the_next() {
    let shop = Shop::new();
    let quota = shop.engine();
    let before_the_end = "2026-03-31T23:59:58Z".parse().unwrap();
    shop.clock.set_wall(before_the_end);
    let in_march = until_leased(&shop, &quota, "ana", "tokens");
    shop.clock.advance(Duration::from_secs(2));
    let first = quota.consume("ana", &[("tokens", 1)]).unwrap();
    assert_eq!((first.quotas[0].used, first.quotas[0].remaining), (1, Some(9_999)), "in April");
    let in_april = 1 + until_leased(&shop, &quota, "ana", "tokens");
    assert_eq!(used(&quota, "ana", "tokens"), in_april);
    quota.close().unwrap();
    let march = CounterKey::of("ana", "tokens", Period::Month, 1_772_323_200);
    let april = CounterKey::of("ana", "tokens", Period::Month, 1_775_001_600);
    let call = Call::new(shop.clock.wall(), Wait::Block);
    let balances = pollster::block_on(shop.store.balances(call, &[march, april])).unwrap();
    let found: Vec<_> = balances.iter().map(|balance| (balance.used, balance.held)).collect();
    assert_eq!(found, [(in_march, 0), (in_april, 0)]);
}

#[test]
fn a_changed_plan_is_in_force_although_units_were_leased_under_the_old_one() {
    let shop = Shop::new();
    let quota = shop.engine();
    let consumed = until_leased(&shop, &quota, "ana", "tokens");
    let plans = PLANS.replace("tokens = \"10000/month\"", "tokens = \"1500/month\"");
    quota.set_plans(&Plans::from_toml(&plans).unwrap()).unwrap();
    let mut granted = consumed;
    while quota.consume("ana", &[("tokens", 1)]).unwrap().allowed {
        granted += 1;
    }
    assert_eq!(granted, 1_500);
    assert_eq!(used(&quota, "ana", "tokens"), 1_500);
}

#[test]
fn units_from_a_block_can_be_refunded_and_reset() {
    let shop = Shop::new();
    let quota = shop.engine();
    let consumed = until_leased(&shop, &quota, "ana", "tokens");
    for _ in 0..30 {
        let _granted = quota.consume("ana", &[("tokens", 1)]).unwrap();
    }
    let states = quota.refund("ana", &[("tokens", 25)]).unwrap();
    assert_eq!(states[0].used, consumed + 5);
    assert_eq!(used(&quota, "ana", "tokens"), consumed + 5);
    until_leased(&shop, &quota, "bob", "tokens");
    quota.reset_usage("bob", "tokens").unwrap();
    assert_eq!(used(&quota, "bob", "tokens"), 0);
}

#[test]
fn members_take_from_their_own_blocks_and_their_accounts_all_or_nothing() {
    let shop = Shop::new();
    let quota = shop.engine();
    quota.subscribe("acme", Subscription::active("team", shop.clock.wall())).unwrap();
    for member in ["ana", "bob"] {
        quota.subscribe(member, Subscription::active("team", shop.clock.wall()).in_account("acme")).unwrap();
    }
    let mut granted = [0; 2];
    for round in 0..5_000 {
        for (member, granted) in ["ana", "bob"].iter().zip(&mut granted) {
            *granted += u64::from(quota.consume(member, &[("tokens", 1)]).unwrap().allowed);
        }
        if round % 100 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert_eq!(granted, [2_000, 2_000], "each has its own limit");
    assert!(shop.steps.charges() < 3_000, "{:?}", shop.steps);
    assert_eq!(used(&quota, "acme", "tokens"), 4_000, "the account has one for both");
    let own = |member: &str| {
        let usage = quota.usage(member).unwrap();
        usage.quotas.iter().map(|state| (state.shared, state.used)).collect::<Vec<_>>()
    };
    assert_eq!(own("ana"), [(true, 4_000), (false, 2_000)]);
}

#[test]
fn requests_under_a_key_are_made_once_and_in_the_store() {
    let shop = Shop::new();
    let quota = shop.engine();
    let consumed = until_leased(&shop, &quota, "ana", "tokens");
    for _ in 0..3 {
        assert!(quota.consume_once("ana", &[("tokens", 5)], "order-1").unwrap().allowed);
    }
    assert_eq!(used(&quota, "ana", "tokens"), consumed + 5);
}

#[test]
fn a_request_that_a_rate_denies_takes_nothing_from_a_block() {
    let shop = Shop::new();
    let plans = format!("{PLANS}\n    [plans.free.rates]\n    api = \"50/minute\"");
    let quota = Quota::builder().plans(Plans::from_toml(&plans).unwrap()).open_on(Arc::clone(&shop.store)).unwrap();
    let consumed = until_leased(&shop, &quota, "ana", "tokens");
    let mut paced = 0;
    for _ in 0..200 {
        let request = Request::by("ana").rate("api").costs(&[("tokens", 1)]);
        paced += u64::from(quota.admit(&request).unwrap().allowed);
    }
    assert!((50..=51).contains(&paced), "{paced}");
    assert_eq!(used(&quota, "ana", "tokens"), consumed + paced);
}
