//! What every store must do, as tests: run them on a store of your own.
//!
//! Each rule gets a new, empty store from the factory. A rule says what it expected and what it found;
//! it does not panic, so that other languages can report it.
//!
//! ```
//! use std::sync::Arc;
//! use quotum::store::{MemoryStore, conformance};
//!
//! conformance::run(|| Arc::new(MemoryStore::new())).assert_passed();
//! ```

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

use jiff::Timestamp;
use pollster::block_on;

use super::{Balance, Call, Charge, CounterKey, Refund, Store, StoreError, Wait};
use crate::plan::{Limit, Plans, UNITS_MAX};
use crate::subscription::{Status, Subscription};
use crate::usage::period::Period;

/// What came of running the rules on a store.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// How each rule ended, in order.
    pub outcomes: Vec<Outcome>,
}

/// How one rule ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// The rule, as a statement.
    pub rule: &'static str,
    /// What was broken, if it was.
    pub result: Result<(), String>,
}

impl Report {
    /// The rules that the store breaks, with what was found.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.outcomes.iter().filter_map(|outcome| Some((outcome.rule, outcome.result.as_ref().err()?.as_str())))
    }

    /// For tests: ends the test where a rule is broken.
    ///
    /// # Panics
    ///
    /// With every broken rule, if there are any.
    #[expect(clippy::panic, reason = "this is how a test fails")]
    pub fn assert_passed(&self) {
        let failures: Vec<String> = self.failures().map(|(rule, found)| format!("{rule}: {found}")).collect();
        if !failures.is_empty() {
            panic!("{} of {} rules are broken:\n{}", failures.len(), self.outcomes.len(), failures.join("\n"));
        }
    }
}

/// Runs every rule, each on a new store that `make_store` returns.
pub fn run(make_store: impl Fn() -> Arc<dyn Store>) -> Report {
    let mut outcomes = Vec::new();
    for (rule, check) in RULES {
        for wait in [Wait::Block, Wait::Yield] {
            let case = Case { store: make_store(), wait };
            let result = block_on(check(&case)).map_err(|broken| format!("{broken} ({wait:?})"));
            outcomes.push(Outcome { rule, result });
        }
    }
    Report { outcomes }
}

type Check<'s> = Pin<Box<dyn Future<Output = Result<(), Broken>> + 's>>;

/// Lists rules by their function's name.
macro_rules! rules {
    ($($rule:ident),+ $(,)?) => {
        const RULES: &[(&str, for<'s> fn(&'s Case) -> Check<'s>)] =
            &[$((stringify!($rule), |case| Box::pin($rule(case)))),+];
    };
}

rules![
    a_new_store_is_empty,
    plans_read_back_equal_and_their_version_rises,
    subscriptions_read_back_equal,
    a_put_subscription_replaces_the_one_before,
    an_added_subscription_never_replaces_one,
    a_charge_that_fits_is_counted,
    the_last_unit_can_be_used_and_no_further_one,
    a_refused_charge_changes_nothing,
    several_charges_are_all_made_or_none,
    a_counter_listed_twice_is_charged_twice,
    counters_differ_by_every_part_of_their_key,
    a_limit_lowered_below_usage_refuses_and_keeps_the_count,
    an_unlimited_counter_counts_up_to_the_largest_number,
    a_refund_gives_back_and_stops_at_zero,
    balances_come_in_the_order_of_the_keys,
    any_text_is_kept_as_it_is,
    counters_of_old_short_periods_are_forgotten_and_recent_ones_kept,
    concurrent_charges_grant_exactly_the_limit,
    concurrent_lists_of_charges_in_any_order_grant_exactly_the_limit,
    a_charge_whose_caller_goes_away_is_made_whole_or_not_at_all,
    empty_lists_are_answered,
];

/// A rule that is broken: what was expected and what was found.
#[derive(Debug)]
struct Broken(String);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        Self(format!("unexpected error: {error}"))
    }
}

/// Ends a rule unless two values are equal.
macro_rules! expect_eq {
    ($found:expr, $expected:expr, $what:expr) => {
        match (&$found, &$expected) {
            (found, expected) if found == expected => {}
            (found, expected) => return Err(Broken(format!("{}: expected {expected:?}, found {found:?}", $what))),
        }
    };
}

/// The store under test, and how it is called.
struct Case {
    store: Arc<dyn Store>,
    wait: Wait,
}

impl Case {
    fn call(&self) -> Call {
        Call::new(time(NOW_S), self.wait)
    }

    async fn charge(&self, charges: &[Charge]) -> Result<bool, StoreError> {
        Ok(self.store.charge(self.call(), charges).await?.granted)
    }

    async fn used(&self, key: &CounterKey) -> Result<Option<u64>, StoreError> {
        let balances = self.store.balances(self.call(), std::slice::from_ref(key)).await?;
        Ok(balances.first().map(|balance| balance.used))
    }
}

/// 2026-03-01T00:00:00Z.
const NOW_S: i64 = 1_772_323_200;

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn key(subject: &str, metric: &str) -> CounterKey {
    CounterKey { subject: subject.into(), metric: metric.into(), period: Period::Month, start_s: NOW_S }
}

fn charge(key: &CounterKey, amount: u64, limit: u64) -> Charge {
    Charge { key: key.clone(), amount, limit: Limit::Units(limit) }
}

async fn a_new_store_is_empty(case: &Case) -> Result<(), Broken> {
    expect_eq!(case.store.plans(case.call()).await?, None, "plans");
    expect_eq!(case.store.subscription(case.call(), "ana").await?, None, "subscription");
    expect_eq!(case.used(&key("ana", "jobs")).await?, Some(0), "used");
    Ok(())
}

async fn plans_read_back_equal_and_their_version_rises(case: &Case) -> Result<(), Broken> {
    let mut last = 0;
    for units in [5, 7] {
        let text = format!(
            r#"
            default_plan = "free"
            zone = "America/Sao_Paulo"
            grace_days = 3
            when_lapsed = "deny"
            [plans.free]
            name = "Grátis"
            names = {{ en = "Free" }}
            quotas = {{ jobs = ["{units}/day", "100/billing_month"], exports = "unlimited", calls = "unlimited/year" }}
            rates = {{ api = ["10/minute burst 3", "100/15 minutes"], login = {{ limits = "5/hour", algorithm = "fixed_window" }} }}
            rate_multiplier = 2
            features = {{ excel = false, days = 30, priority = "low" }}
            [plans.pro]
            rank = 1
            visible = false
            trial_days = 14
            prices = {{ monthly = "BRL 297.00" }}
            stripe_prices = {{ monthly = "price_1" }}
            "#
        );
        let plans = Plans::from_toml(&text).map_err(|error| Broken(error.to_string()))?;
        let version = case.store.put_plans(case.call(), &plans).await?;
        expect_eq!(version > last, true, "the version rises");
        last = version;
        let stored = case.store.plans(case.call()).await?;
        expect_eq!(stored.as_ref().map(|stored| stored.version), Some(version), "version");
        expect_eq!(stored.map(|stored| stored.plans), Some(plans), "plans");
    }
    Ok(())
}

async fn subscriptions_read_back_equal(case: &Case) -> Result<(), Broken> {
    for status in [Status::Trialing, Status::Active, Status::PastDue, Status::Paused, Status::Canceled] {
        let mut bare = Subscription::active("pro", time(NOW_S));
        bare.status = status;
        let mut full = bare.clone();
        full.trial_ends_at = Timestamp::from_millisecond(NOW_S * 1_000 + 1).ok();
        full.expires_at = Some(time(-1));
        full.anchor = Some(time(NOW_S - 86_400));
        full.zone = Some("Asia/Kathmandu".to_owned());
        full.overrides.features.insert("excel".to_owned(), true.into());
        full.overrides.features.insert("days".to_owned(), 90.into());
        full.overrides.features.insert("priority".to_owned(), "high".into());
        for (name, written) in [("bare", bare), ("full", full)] {
            case.store.put_subscription(case.call(), name, &written).await?;
            expect_eq!(case.store.subscription(case.call(), name).await?, Some(written), name);
        }
    }
    Ok(())
}

async fn a_put_subscription_replaces_the_one_before(case: &Case) -> Result<(), Broken> {
    for plan in ["free", "pro"] {
        let written = Subscription::active(plan, time(NOW_S));
        case.store.put_subscription(case.call(), "ana", &written).await?;
        expect_eq!(case.store.subscription(case.call(), "ana").await?, Some(written), plan);
    }
    expect_eq!(case.store.subscription(case.call(), "an").await?, None, "another subject");
    Ok(())
}

async fn an_added_subscription_never_replaces_one(case: &Case) -> Result<(), Broken> {
    let (first, second) = (Subscription::trial("free", time(NOW_S)), Subscription::trial("free", time(NOW_S + 9)));
    expect_eq!(case.store.add_subscription(case.call(), "ana", &first).await?, first, "the first");
    expect_eq!(case.store.add_subscription(case.call(), "ana", &second).await?, first, "the second");
    expect_eq!(case.store.subscription(case.call(), "ana").await?, Some(first), "what is kept");
    Ok(())
}

async fn a_charge_that_fits_is_counted(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    for (amount, total) in [(1, 1), (4, 5), (2, 7)] {
        let charged = case.store.charge(case.call(), &[charge(&key, amount, 10)]).await?;
        expect_eq!(charged.granted, true, "granted");
        expect_eq!(charged.balances, [Balance::of(total)], "the balance after");
        expect_eq!(case.used(&key).await?, Some(total), "the balance read");
    }
    Ok(())
}

async fn the_last_unit_can_be_used_and_no_further_one(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    expect_eq!(case.charge(&[charge(&key, 9, 10)]).await?, true, "nine of ten");
    expect_eq!(case.charge(&[charge(&key, 1, 10)]).await?, true, "the tenth");
    expect_eq!(case.charge(&[charge(&key, 1, 10)]).await?, false, "the eleventh");
    expect_eq!(case.used(&key).await?, Some(10), "used");
    Ok(())
}

async fn a_refused_charge_changes_nothing(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    expect_eq!(case.charge(&[charge(&key, 3, 10)]).await?, true, "three of ten");
    for (amount, limit) in [(8, 10), (11, 10), (UNITS_MAX, 10), (UNITS_MAX, UNITS_MAX), (1, 0)] {
        let charged = case.store.charge(case.call(), &[charge(&key, amount, limit)]).await?;
        expect_eq!(charged.granted, false, format!("{amount} of {limit}"));
        expect_eq!(charged.balances, [Balance::of(3)], "the balance told");
        expect_eq!(case.used(&key).await?, Some(3), "the balance kept");
    }
    Ok(())
}

async fn several_charges_are_all_made_or_none(case: &Case) -> Result<(), Broken> {
    let keys = [key("ana", "jobs"), key("ana", "tokens"), key("team", "jobs")];
    let limits = [10, 100, 20];
    let all = |amounts: [u64; 3]| -> Vec<Charge> {
        let parts = keys.iter().zip(amounts).zip(limits);
        parts.map(|((key, amount), limit)| charge(key, amount, limit)).collect()
    };
    expect_eq!(case.charge(&all([1, 50, 1])).await?, true, "all fit");
    for (amounts, which) in [([10, 1, 1], "first"), ([1, 51, 1], "second"), ([1, 1, 20], "third")] {
        expect_eq!(case.charge(&all(amounts)).await?, false, format!("the {which} does not fit"));
        let found = case.store.balances(case.call(), &keys).await?;
        expect_eq!(found, [1, 50, 1].map(Balance::of), format!("after the {which} did not fit"));
    }
    expect_eq!(case.charge(&all([9, 50, 19])).await?, true, "all fit to the last unit");
    Ok(())
}

async fn a_counter_listed_twice_is_charged_twice(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    let twice = |each| [charge(&key, each, 10), charge(&key, each, 10)];
    expect_eq!(case.charge(&twice(3)).await?, true, "twice three");
    expect_eq!(case.used(&key).await?, Some(6), "after twice three");
    expect_eq!(case.charge(&twice(3)).await?, false, "twice three again");
    expect_eq!(case.used(&key).await?, Some(6), "after the refusal");
    Ok(())
}

async fn counters_differ_by_every_part_of_their_key(case: &Case) -> Result<(), Broken> {
    let one = key("ana", "jobs");
    let others = [
        key("anna", "jobs"),
        key("ana", "job"),
        key("an", "ajobs"),
        CounterKey { period: Period::BillingMonth, ..one.clone() },
        CounterKey { start_s: NOW_S + 1, ..one.clone() },
        CounterKey { start_s: -NOW_S, ..one.clone() },
    ];
    expect_eq!(case.charge(&[charge(&one, 5, 5)]).await?, true, "the first counter");
    for (number, other) in others.iter().enumerate() {
        expect_eq!(case.used(other).await?, Some(0), format!("counter {number} before"));
        expect_eq!(case.charge(&[charge(other, 5, 5)]).await?, true, format!("counter {number}"));
    }
    expect_eq!(case.used(&one).await?, Some(5), "the first counter after");
    Ok(())
}

async fn a_limit_lowered_below_usage_refuses_and_keeps_the_count(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    expect_eq!(case.charge(&[charge(&key, 50, 100)]).await?, true, "fifty of a hundred");
    expect_eq!(case.charge(&[charge(&key, 1, 10)]).await?, false, "one more of ten");
    expect_eq!(case.used(&key).await?, Some(50), "used");
    Ok(())
}

async fn an_unlimited_counter_counts_up_to_the_largest_number(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "calls");
    let unlimited = |amount| Charge { key: key.clone(), amount, limit: Limit::Unlimited };
    expect_eq!(case.charge(&[unlimited(UNITS_MAX - 1)]).await?, true, "all but one");
    expect_eq!(case.charge(&[unlimited(2)]).await?, false, "two more");
    expect_eq!(case.charge(&[unlimited(1)]).await?, true, "one more");
    expect_eq!(case.used(&key).await?, Some(UNITS_MAX), "used");
    Ok(())
}

async fn a_refund_gives_back_and_stops_at_zero(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    let refund = |amount| [Refund { key: key.clone(), amount }];
    let after = case.store.refund(case.call(), &refund(5)).await?;
    expect_eq!(after, [Balance::of(0)], "of a counter that was never charged");
    expect_eq!(case.charge(&[charge(&key, 10, 10)]).await?, true, "all ten");
    expect_eq!(case.store.refund(case.call(), &refund(4)).await?, [Balance::of(6)], "four of ten");
    expect_eq!(case.charge(&[charge(&key, 4, 10)]).await?, true, "the four again");
    expect_eq!(case.store.refund(case.call(), &refund(UNITS_MAX)).await?, [Balance::of(0)], "too many");
    expect_eq!(case.used(&key).await?, Some(0), "used");
    Ok(())
}

async fn balances_come_in_the_order_of_the_keys(case: &Case) -> Result<(), Broken> {
    let keys = ["c", "a", "b", "a"].map(|name| key(name, "jobs"));
    for (name, amount) in [("a", 1), ("b", 2), ("c", 3)] {
        expect_eq!(case.charge(&[charge(&key(name, "jobs"), amount, 9)]).await?, true, name);
    }
    let found = case.store.balances(case.call(), &keys).await?;
    expect_eq!(found, [3, 1, 2, 1].map(Balance::of), "balances");
    Ok(())
}

async fn any_text_is_kept_as_it_is(case: &Case) -> Result<(), Broken> {
    let long = "x".repeat(256);
    let texts = ["'; DROP TABLE counter; --", "a\"b", "ação", "\u{1f600}", "a\0b", "a", "A", " a", "a ", "%", &long];
    for (number, text) in texts.iter().enumerate() {
        let amount = number as u64 + 1;
        expect_eq!(case.charge(&[charge(&key(text, "jobs"), amount, 99)]).await?, true, text);
        let written = Subscription::active(text, time(NOW_S));
        case.store.put_subscription(case.call(), text, &written).await?;
    }
    for (number, text) in texts.iter().enumerate() {
        expect_eq!(case.used(&key(text, "jobs")).await?, Some(number as u64 + 1), text);
        let read = case.store.subscription(case.call(), text).await?;
        expect_eq!(read.map(|subscription| subscription.plan).as_deref(), Some(*text), text);
    }
    Ok(())
}

async fn counters_of_old_short_periods_are_forgotten_and_recent_ones_kept(case: &Case) -> Result<(), Broken> {
    let minute = |start_s| CounterKey { period: Period::Minute, start_s, ..key("ana", "jobs") };
    let month = |start_s| CounterKey { start_s, ..key("ana", "jobs") };
    let kept_s = Period::Minute.kept_for().map_or(0, |kept| kept.as_secs());
    let (old, edge, now) = (minute(NOW_S - kept_s - 60), minute(NOW_S - kept_s), minute(NOW_S));
    let others = [minute(NOW_S - 60), month(NOW_S - 10 * kept_s), CounterKey { subject: "bob".into(), ..old.clone() }];
    for key in [&old, &edge].into_iter().chain(&others) {
        expect_eq!(case.charge(&[charge(key, 1, 1)]).await?, true, format!("{key:?}"));
    }
    expect_eq!(case.charge(&[charge(&now, 1, 1)]).await?, true, "the new counter");
    expect_eq!(case.used(&old).await?, Some(0), "the old counter");
    for key in [&edge, &now].into_iter().chain(&others) {
        expect_eq!(case.used(key).await?, Some(1), format!("{key:?}"));
    }
    Ok(())
}

async fn concurrent_charges_grant_exactly_the_limit(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    let granted = at_once(case, |_| vec![charge(&key, 1, 100)])?;
    expect_eq!(granted, 100, "granted");
    expect_eq!(case.used(&key).await?, Some(100), "used");
    Ok(())
}

async fn concurrent_lists_of_charges_in_any_order_grant_exactly_the_limit(case: &Case) -> Result<(), Broken> {
    let keys = [key("ana", "jobs"), key("bob", "jobs"), key("team", "tokens")];
    let granted = at_once(case, |thread| {
        let mut charges: Vec<Charge> = keys.iter().map(|key| charge(key, 1, 100)).collect();
        charges.rotate_left(thread % 3);
        charges
    })?;
    expect_eq!(granted, 100, "granted");
    for key in &keys {
        expect_eq!(case.used(key).await?, Some(100), "used");
    }
    Ok(())
}

/// Charges from eight threads, thirty times each, and counts the grants.
fn at_once(case: &Case, charges: impl Fn(usize) -> Vec<Charge> + Sync) -> Result<u64, Broken> {
    let granted = AtomicU64::new(0);
    let hammer = |thread: usize| -> Result<(), StoreError> {
        for _ in 0..30 {
            if block_on(case.charge(&charges(thread)))? {
                granted.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|thread| scope.spawn(move || hammer(thread))).collect();
        let joined = threads.into_iter().map(|thread| thread.join().map_err(|_| Broken("a thread died".to_owned())));
        joined.into_iter().try_for_each(|outcome| Ok(outcome??))
    })
    .map(|()| granted.load(Ordering::Relaxed))
}

async fn a_charge_whose_caller_goes_away_is_made_whole_or_not_at_all(case: &Case) -> Result<(), Broken> {
    let keys = [key("ana", "jobs"), key("team", "jobs")];
    let charges = keys.clone().map(|key| charge(&key, 3, 1_000_000));
    for _ in 0..20 {
        let mut leaving = pin!(case.store.charge(case.call(), &charges));
        let _ = leaving.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
    // A later charge of the same counters waits for whatever was under way.
    expect_eq!(case.charge(&charges).await?, true, "the charge after");
    let found = case.store.balances(case.call(), &keys).await?;
    let used: Vec<u64> = found.iter().map(|balance| balance.used).collect();
    expect_eq!(used.first() == used.last(), true, format!("both or neither of {used:?}"));
    expect_eq!(used.iter().all(|used| used % 3 == 0 && (3..=63).contains(used)), true, format!("{used:?}"));
    Ok(())
}

async fn empty_lists_are_answered(case: &Case) -> Result<(), Broken> {
    expect_eq!(case.store.charge(case.call(), &[]).await?.granted, true, "no charges");
    expect_eq!(case.store.balances(case.call(), &[]).await?, [], "no balances");
    expect_eq!(case.store.refund(case.call(), &[]).await?, [], "no refunds");
    Ok(())
}
