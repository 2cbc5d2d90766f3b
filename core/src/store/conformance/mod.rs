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

/// Ends a rule unless two values are equal.
macro_rules! expect_eq {
    ($found:expr, $expected:expr, $what:expr) => {
        match (&$found, &$expected) {
            (found, expected) if found == expected => {}
            (found, expected) => return Err(Broken(format!("{}: expected {expected:?}, found {found:?}", $what))),
        }
    };
}

mod catalog;
mod counters;
mod holds;
mod identities;
mod leases;
mod log;
mod once;
mod rates;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use pollster::block_on;

use super::{Adjust, Adjustment, Balance, Call, Charge, CounterKey, Store, StoreError, Wait};
use crate::event::{Event, EventName};
use crate::plan::Limit;
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
    ($($module:ident: $($rule:ident),+ $(,)?;)+) => {
        const RULES: &[(&str, for<'s> fn(&'s Case) -> Check<'s>)] =
            &[$($((stringify!($rule), |case| Box::pin($module::$rule(case)))),+),+];
    };
}

rules![
    catalog:
        a_new_store_is_empty,
        plans_read_back_equal_and_their_version_rises,
        subscriptions_read_back_equal,
        a_put_subscription_replaces_the_one_before,
        a_swapped_subscription_replaces_only_what_was_expected,
        of_many_who_swap_at_once_one_does,
        subscribers_are_listed_in_order_and_in_pages,
        subscribers_are_counted_by_plan_and_state;
    counters:
        a_charge_that_fits_is_counted,
        the_last_unit_can_be_used_and_no_further_one,
        a_refused_charge_changes_nothing,
        several_charges_are_all_made_or_none,
        a_counter_listed_twice_is_charged_twice,
        counters_differ_by_every_part_of_their_key,
        a_limit_lowered_below_usage_refuses_and_keeps_the_count,
        an_unlimited_counter_counts_up_to_the_largest_number,
        a_refund_gives_back_and_stops_at_zero,
        a_bonus_raises_the_limit_of_its_counter_alone,
        what_is_recorded_counts_as_far_as_it_fits_and_then_as_overage,
        a_refund_takes_overage_first,
        a_reset_forgets_what_was_used_and_keeps_the_rest,
        each_threshold_is_told_once_in_the_life_of_a_counter,
        balances_come_in_the_order_of_the_keys,
        any_text_is_kept_as_it_is,
        counters_of_old_short_periods_are_forgotten_and_recent_ones_kept,
        a_clock_that_is_years_ahead_takes_nobodys_present_counter,
        concurrent_charges_grant_exactly_the_limit,
        concurrent_lists_of_charges_in_any_order_grant_exactly_the_limit,
        refunds_and_charges_at_once_lose_nothing,
        resets_and_charges_at_once_stay_within_the_limit,
        a_charge_whose_caller_goes_away_is_made_whole_or_not_at_all,
        empty_lists_are_answered;
    once:
        a_step_under_a_key_is_made_once_and_answered_the_same,
        a_key_with_other_arguments_is_a_conflict_and_changes_nothing,
        a_key_is_its_subjects_own,
        a_refused_step_is_decided_anew,
        a_step_is_forgotten_after_its_time,
        an_adjustment_under_a_key_is_made_once,
        of_many_with_one_key_one_charges,
        a_hold_under_a_key_is_made_once_whatever_its_name,
        a_hold_that_charged_nothing_is_made_anew_under_its_key,
        a_hold_is_not_made_for_what_was_charged_under_its_key;
    holds:
        a_hold_keeps_others_from_its_units,
        a_hold_takes_part_in_all_or_none,
        a_settled_hold_charges_what_was_used_and_gives_the_rest_back,
        a_metric_that_is_not_listed_is_charged_as_held,
        more_than_was_held_takes_what_is_left_and_then_is_overage,
        a_hold_is_settled_once_and_its_receipt_repeated,
        an_expired_hold_gives_its_units_back_on_every_counter,
        settling_finds_the_room_that_expired_holds_have_left,
        a_hold_made_anew_under_a_forgotten_name_is_its_own,
        a_hold_settled_too_late_changes_nothing,
        a_hold_that_has_expired_for_one_caller_has_for_one_whose_clock_is_behind,
        an_unknown_hold_is_unknown,
        a_hold_is_made_once_under_its_name,
        a_hold_that_charged_nothing_is_made_anew_under_its_name,
        a_reset_leaves_holds_alone,
        of_many_who_settle_at_once_one_does,
        holds_and_charges_at_once_stay_within_the_limit,
        of_many_who_meet_expired_holds_each_unit_goes_to_one,
        a_hold_that_expires_while_it_is_settled_does_one_of_the_two;
    leases:
        a_block_is_at_most_half_an_even_share_of_what_is_left,
        a_block_too_small_to_be_worth_it_is_not_made,
        a_block_is_made_on_every_counter_or_none,
        a_settled_block_charges_what_was_used_and_gives_the_rest_back,
        a_block_that_expires_is_charged_on_every_counter,
        one_block_is_settled_and_the_next_made_in_one_step,
        a_block_is_made_once_under_its_name,
        a_reset_leaves_blocks_alone,
        a_threshold_that_is_reached_by_a_block_is_told_when_it_is_settled,
        blocks_holds_and_charges_at_once_use_exactly_the_limit,
        a_block_that_expires_while_it_is_settled_does_one_of_the_two;
    rates:
        a_cost_is_taken_from_every_window_or_from_none,
        what_was_taken_comes_back_with_time,
        a_clock_that_goes_back_gives_nothing_back,
        a_rate_without_windows_is_forgotten,
        windows_that_have_changed_owe_no_more_than_they_can,
        of_many_who_ask_at_once_as_many_pass_as_may;
    identities:
        an_identity_is_kept_until_its_time,
        identities_are_forgotten_by_token_and_by_subject,
        an_identity_found_before_a_revocation_is_not_kept_after_it;
    log:
        changes_are_logged_in_the_step_that_makes_them,
        a_step_that_changes_nothing_logs_nothing,
        events_read_back_equal_and_in_order,
        events_are_found_by_what_is_asked_for,
        recorded_events_are_no_changes;
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

/// The store under test, and how it is called.
struct Case {
    store: Arc<dyn Store>,
    wait: Wait,
}

impl Case {
    fn call(&self) -> Call {
        Call::new(time(NOW_S), self.wait)
    }

    /// A call made so many seconds later.
    fn later(&self, seconds: i64) -> Call {
        Call::new(time(NOW_S + seconds), self.wait)
    }

    async fn charge(&self, charges: &[Charge]) -> Result<bool, StoreError> {
        Ok(self.store.charge(self.call(), charges, None).await?.granted())
    }

    async fn adjust(&self, key: &CounterKey, by: Adjust) -> Result<Option<Balance>, StoreError> {
        let adjustments = [Adjustment { key: key.clone(), by }];
        let adjusted = self.store.adjust(self.call(), &adjustments, None, &changed()).await?;
        Ok(adjusted.balances.first().copied())
    }

    async fn balance(&self, key: &CounterKey) -> Result<Option<Balance>, StoreError> {
        Ok(self.store.balances(self.call(), std::slice::from_ref(key)).await?.first().copied())
    }

    async fn used(&self, key: &CounterKey) -> Result<Option<u64>, StoreError> {
        Ok(self.balance(key).await?.map(|balance| balance.used))
    }
}

/// 2026-03-01T00:00:00Z.
const NOW_S: i64 = 1_772_323_200;

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn key(subject: &str, metric: &str) -> CounterKey {
    CounterKey::of(subject, metric, Period::Month, NOW_S).in_account("acme")
}

fn charge(key: &CounterKey, amount: u64, limit: u64) -> Charge {
    Charge { key: key.clone(), amount, limit: Limit::Units(limit) }
}

/// A change that nobody in particular makes.
fn changed() -> Event {
    Event::new(EventName::UsageAdjusted, time(NOW_S))
}

/// Does something from eight threads, thirty times each, and counts how often it was done.
fn at_once(act: impl Fn(usize, usize) -> Result<bool, StoreError> + Sync) -> Result<u64, Broken> {
    let done = AtomicU64::new(0);
    let hammer = |thread: usize| -> Result<(), StoreError> {
        for round in 0..30 {
            if act(thread, round)? {
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|thread| scope.spawn(move || hammer(thread))).collect();
        let joined = threads.into_iter().map(|thread| thread.join().map_err(|_| Broken("a thread died".to_owned())));
        joined.into_iter().try_for_each(|outcome| Ok(outcome??))
    })
    .map(|()| done.load(Ordering::Relaxed))
}
