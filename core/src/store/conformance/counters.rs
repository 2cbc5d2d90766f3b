//! Rules about charges and counters.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

use pollster::block_on;

use super::{Broken, Case, NOW_S, at_once, changed, charge, key, time};
use crate::plan::{Limit, UNITS_MAX};
use crate::store::{Adjust, Balance, Charge, CounterKey, Crossing};
use crate::subscription::Subscription;
use crate::usage::period::Period;

pub(super) async fn a_charge_that_fits_is_counted(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    for (amount, total) in [(1, 1), (4, 5), (2, 7)] {
        let charged = case.store.charge(case.call(), &[charge(&key, amount, 10)], None).await?;
        expect_eq!(charged.granted(), true, "granted");
        expect_eq!(charged.balances, [Balance::of(total)], "the balance after");
        expect_eq!(case.used(&key).await?, Some(total), "the balance read");
    }
    Ok(())
}

pub(super) async fn the_last_unit_can_be_used_and_no_further_one(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    expect_eq!(case.charge(&[charge(&key, 9, 10)]).await?, true, "nine of ten");
    expect_eq!(case.charge(&[charge(&key, 1, 10)]).await?, true, "the tenth");
    expect_eq!(case.charge(&[charge(&key, 1, 10)]).await?, false, "the eleventh");
    expect_eq!(case.used(&key).await?, Some(10), "used");
    Ok(())
}

pub(super) async fn a_refused_charge_changes_nothing(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    expect_eq!(case.charge(&[charge(&key, 3, 10)]).await?, true, "three of ten");
    for (amount, limit) in [(8, 10), (11, 10), (UNITS_MAX, 10), (UNITS_MAX, UNITS_MAX), (1, 0)] {
        let charged = case.store.charge(case.call(), &[charge(&key, amount, limit)], None).await?;
        expect_eq!(charged.granted(), false, format!("{amount} of {limit}"));
        expect_eq!(charged.balances, [Balance::of(3)], "the balance told");
        expect_eq!(case.used(&key).await?, Some(3), "the balance kept");
    }
    Ok(())
}

pub(super) async fn several_charges_are_all_made_or_none(case: &Case) -> Result<(), Broken> {
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

pub(super) async fn a_counter_listed_twice_is_charged_twice(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    let twice = |each| [charge(&key, each, 10), charge(&key, each, 10)];
    expect_eq!(case.charge(&twice(3)).await?, true, "twice three");
    expect_eq!(case.used(&key).await?, Some(6), "after twice three");
    expect_eq!(case.charge(&twice(3)).await?, false, "twice three again");
    expect_eq!(case.used(&key).await?, Some(6), "after the refusal");
    Ok(())
}

pub(super) async fn counters_differ_by_every_part_of_their_key(case: &Case) -> Result<(), Broken> {
    let one = key("ana", "jobs");
    let others = [
        key("anna", "jobs"),
        key("ana", "job"),
        key("an", "ajobs"),
        CounterKey { period: Period::BillingMonth, ..one.clone() },
        CounterKey { start_s: NOW_S + 1, ..one.clone() },
        CounterKey { start_s: -NOW_S, ..one.clone() },
    ];
    expect_eq!(case.charge(&[charge(&one, 5, 9)]).await?, true, "the first counter");
    for (number, other) in others.iter().enumerate() {
        expect_eq!(case.used(other).await?, Some(0), format!("counter {number} before"));
        expect_eq!(case.charge(&[charge(other, 5, 9)]).await?, true, format!("counter {number}"));
    }
    expect_eq!(case.used(&one).await?, Some(5), "the first counter after");
    Ok(())
}

pub(super) async fn a_limit_lowered_below_usage_refuses_and_keeps_the_count(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    expect_eq!(case.charge(&[charge(&key, 50, 100)]).await?, true, "fifty of a hundred");
    expect_eq!(case.charge(&[charge(&key, 1, 10)]).await?, false, "one more of ten");
    expect_eq!(case.used(&key).await?, Some(50), "used");
    Ok(())
}

pub(super) async fn an_unlimited_counter_counts_up_to_the_largest_number(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "calls");
    let unlimited = |amount| Charge { key: key.clone(), amount, limit: Limit::Unlimited };
    expect_eq!(case.charge(&[unlimited(UNITS_MAX - 1)]).await?, true, "all but one");
    expect_eq!(case.charge(&[unlimited(2)]).await?, false, "two more");
    expect_eq!(case.charge(&[unlimited(1)]).await?, true, "one more");
    expect_eq!(case.used(&key).await?, Some(UNITS_MAX), "used");
    Ok(())
}

pub(super) async fn a_refund_gives_back_and_stops_at_zero(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    let after = case.adjust(&key, Adjust::Refund(5)).await?;
    expect_eq!(after, Some(Balance::of(0)), "of a counter that was never charged");
    expect_eq!(case.charge(&[charge(&key, 7, 10)]).await?, true, "seven of ten");
    expect_eq!(case.adjust(&key, Adjust::Refund(4)).await?, Some(Balance::of(3)), "four of seven");
    expect_eq!(case.charge(&[charge(&key, 4, 10)]).await?, true, "the four again");
    expect_eq!(case.adjust(&key, Adjust::Refund(UNITS_MAX)).await?, Some(Balance::of(0)), "too many");
    expect_eq!(case.used(&key).await?, Some(0), "used");
    Ok(())
}

pub(super) async fn a_bonus_raises_the_limit_of_its_counter_alone(case: &Case) -> Result<(), Broken> {
    let (key, other) = (key("ana", "jobs"), key("bob", "jobs"));
    let after = case.adjust(&key, Adjust::Grant(3)).await?;
    expect_eq!(after.map(|balance| balance.bonus), Some(3), "the bonus");
    expect_eq!(case.charge(&[charge(&key, 14, 10)]).await?, false, "one too many");
    expect_eq!(case.charge(&[charge(&key, 13, 10)]).await?, true, "limit and bonus");
    expect_eq!(case.charge(&[charge(&other, 11, 10)]).await?, false, "of another counter");
    expect_eq!(
        case.adjust(&key, Adjust::Grant(UNITS_MAX)).await?.map(|balance| balance.bonus),
        Some(UNITS_MAX),
        "most"
    );
    expect_eq!(case.charge(&[charge(&key, UNITS_MAX - 13, 10)]).await?, true, "to the largest number");
    expect_eq!(case.charge(&[charge(&key, 1, 10)]).await?, false, "beyond it");
    Ok(())
}

pub(super) async fn what_is_recorded_counts_as_far_as_it_fits_and_then_as_overage(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    for (amount, used, overage) in [(6, 6, 0), (6, 10, 2), (5, 10, 7)] {
        let found = case.adjust(&key, Adjust::Record(amount, Limit::Units(10))).await?;
        expect_eq!(found.map(|balance| (balance.used, balance.overage)), Some((used, overage)), amount);
    }
    let recorded = case.adjust(&key, Adjust::Record(UNITS_MAX, Limit::Units(10))).await?;
    expect_eq!(recorded.map(|balance| balance.overage), Some(UNITS_MAX), "no more than can be counted");
    Ok(())
}

pub(super) async fn a_refund_takes_overage_first(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    case.adjust(&key, Adjust::Record(15, Limit::Units(10))).await?;
    for (amount, used, overage) in [(3, 10, 2), (3, 9, 0), (3, 6, 0)] {
        let found = case.adjust(&key, Adjust::Refund(amount)).await?;
        expect_eq!(found.map(|balance| (balance.used, balance.overage)), Some((used, overage)), amount);
    }
    Ok(())
}

pub(super) async fn a_reset_forgets_what_was_used_and_keeps_the_rest(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    case.adjust(&key, Adjust::Grant(3)).await?;
    case.adjust(&key, Adjust::Record(20, Limit::Units(10))).await?;
    let found = case.adjust(&key, Adjust::Reset).await?;
    let found = found.map(|balance| (balance.used, balance.overage, balance.bonus));
    expect_eq!(found, Some((0, 0, 3)), "used, overage, bonus");
    expect_eq!(case.charge(&[charge(&key, 13, 10)]).await?, true, "all of it again");
    Ok(())
}

pub(super) async fn each_threshold_is_told_once_in_the_life_of_a_counter(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    let mut told = Vec::new();
    for (amount, back) in [(7, 0), (1, 2), (2, 0), (2, 4), (3, 0), (1, 0)] {
        let charged = case.store.charge(case.call(), &[charge(&key, amount, 10)], None).await?;
        told.push(charged.crossed.iter().map(|&Crossing { index, percent }| (index, percent)).collect::<Vec<_>>());
        if back > 0 {
            case.adjust(&key, Adjust::Refund(back)).await?;
        }
    }
    // Used: 7, 8 then 6, 8, 10 then 6, 9, 10.
    let expected = [vec![], vec![(0, 80)], vec![], vec![(0, 100)], vec![], vec![]];
    expect_eq!(told, expected, "the thresholds told");
    let both = [charge(&super::key("bob", "a"), 1, 9), charge(&super::key("bob", "b"), 9, 9)];
    let charged = case.store.charge(case.call(), &both, None).await?;
    expect_eq!(charged.crossed, [Crossing { index: 1, percent: 100 }], "only the highest of several");
    Ok(())
}

pub(super) async fn balances_come_in_the_order_of_the_keys(case: &Case) -> Result<(), Broken> {
    let keys = ["c", "a", "b", "a"].map(|name| key(name, "jobs"));
    for (name, amount) in [("a", 1), ("b", 2), ("c", 3)] {
        expect_eq!(case.charge(&[charge(&key(name, "jobs"), amount, 9)]).await?, true, name);
    }
    let found = case.store.balances(case.call(), &keys).await?;
    expect_eq!(found, [3, 1, 2, 1].map(Balance::of), "balances");
    Ok(())
}

pub(super) async fn any_text_is_kept_as_it_is(case: &Case) -> Result<(), Broken> {
    let long = "x".repeat(256);
    let texts = ["'; DROP TABLE counter; --", "a\"b", "ação", "\u{1f600}", "a\0b", "a", "A", " a", "a ", "%", &long];
    for (number, text) in texts.iter().enumerate() {
        let amount = number as u64 + 1;
        expect_eq!(case.charge(&[charge(&key(text, "jobs"), amount, 99)]).await?, true, text);
        let written = Subscription::active(text, time(NOW_S));
        case.store.put_subscription(case.call(), text, &written, &changed()).await?;
    }
    for (number, text) in texts.iter().enumerate() {
        expect_eq!(case.used(&key(text, "jobs")).await?, Some(number as u64 + 1), text);
        let read = case.store.subscription(case.call(), text).await?;
        expect_eq!(read.map(|subscription| subscription.plan).as_deref(), Some(*text), text);
    }
    Ok(())
}

pub(super) async fn counters_of_old_short_periods_are_forgotten_and_recent_ones_kept(
    case: &Case,
) -> Result<(), Broken> {
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

/// Twice: a clock that has been wrong for long enough to have three windows of its own is beyond help.
pub(super) async fn a_clock_that_is_years_ahead_takes_nobodys_present_counter(case: &Case) -> Result<(), Broken> {
    let ahead_s = 4 * 365 * 86_400;
    let ahead = case.later(ahead_s);
    for period in [Period::Minute, Period::Day] {
        let of = |subject: &str, start_s| CounterKey { subject: subject.into(), period, start_s, ..key("ana", "jobs") };
        let subjects: Vec<String> = (0..12).map(|number| format!("{period}-{number}")).collect();
        for subject in &subjects {
            expect_eq!(case.charge(&[charge(&of(subject, NOW_S), 1, 1)]).await?, true, "now");
        }
        // For some by a clock that is ahead, who are there now, and for others, who are not.
        for subject in subjects.iter().take(6).cloned().chain((0..6).map(|number| format!("{period}-ahead-{number}"))) {
            for window in 0..2 {
                let charges = [charge(&of(&subject, NOW_S + ahead_s + window * 86_400), 1, 1)];
                expect_eq!(case.store.charge(ahead, &charges, None).await?.granted(), true, "years ahead");
            }
        }
        for subject in &subjects {
            expect_eq!(case.charge(&[charge(&of(subject, NOW_S), 1, 1)]).await?, false, format!("{subject} again"));
        }
    }
    Ok(())
}

pub(super) async fn concurrent_charges_grant_exactly_the_limit(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    let granted = at_once(|_, _| block_on(case.charge(&[charge(&key, 1, 100)])))?;
    expect_eq!(granted, 100, "granted");
    expect_eq!(case.used(&key).await?, Some(100), "used");
    Ok(())
}

pub(super) async fn concurrent_lists_of_charges_in_any_order_grant_exactly_the_limit(
    case: &Case,
) -> Result<(), Broken> {
    let keys = [key("ana", "jobs"), key("bob", "jobs"), key("team", "tokens")];
    let granted = at_once(|thread, _| {
        let mut charges: Vec<Charge> = keys.iter().map(|key| charge(key, 1, 100)).collect();
        charges.rotate_left(thread % 3);
        block_on(case.charge(&charges))
    })?;
    expect_eq!(granted, 100, "granted");
    for key in &keys {
        expect_eq!(case.used(key).await?, Some(100), "used");
    }
    Ok(())
}

pub(super) async fn refunds_and_charges_at_once_lose_nothing(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    let charged = at_once(|_, _| {
        let charged = block_on(case.charge(&[charge(&key, 1, 1_000)]))?;
        let refund = block_on(case.adjust(&key, Adjust::Refund(1)))?;
        Ok(charged && refund.is_some())
    })?;
    expect_eq!(charged, 240, "charged and given back");
    expect_eq!(case.balance(&key).await?, Some(Balance::of(0)), "the balance");
    Ok(())
}

pub(super) async fn resets_and_charges_at_once_stay_within_the_limit(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    let most = AtomicU64::new(0);
    let granted = at_once(|_, round| {
        let after = match round % 10 {
            9 => block_on(case.adjust(&key, Adjust::Reset))?.into_iter().collect(),
            _ => block_on(case.store.charge(case.call(), &[charge(&key, 1, 20)], None))?.balances,
        };
        most.fetch_max(after.iter().map(|balance| balance.used).max().unwrap_or(0), Ordering::Relaxed);
        Ok(round % 10 != 9)
    })?;
    expect_eq!(granted, 216, "asked for");
    expect_eq!(most.into_inner() <= 20, true, "within the limit at any time");
    while case.charge(&[charge(&key, 1, 20)]).await? {}
    expect_eq!(case.used(&key).await?, Some(20), "as many as fit, in the end");
    Ok(())
}

pub(super) async fn a_charge_whose_caller_goes_away_is_made_whole_or_not_at_all(case: &Case) -> Result<(), Broken> {
    let keys = [key("ana", "jobs"), key("team", "jobs")];
    let charges = keys.clone().map(|key| charge(&key, 3, 1_000_000));
    for _ in 0..20 {
        let mut leaving = pin!(case.store.charge(case.call(), &charges, None));
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

pub(super) async fn empty_lists_are_answered(case: &Case) -> Result<(), Broken> {
    expect_eq!(case.store.charge(case.call(), &[], None).await?.granted(), true, "no charges");
    expect_eq!(case.store.balances(case.call(), &[]).await?, [], "no balances");
    expect_eq!(case.store.adjust(case.call(), &[], None, &changed()).await?.balances, [], "no adjustments");
    Ok(())
}
