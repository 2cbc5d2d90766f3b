//! Rules about leases.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pollster::block_on;

use super::{Broken, Case, NOW_S, at_once, changed, charge, key, time};
use crate::plan::Limit;
use crate::store::{Adjust, Adjustment, Balance, Charge, CounterKey, Lease, Settle, Settled};
use crate::usage::hold::HoldId;

/// A lease for a minute, named by a number, of blocks worth having from eight units.
fn lease(number: u64, charges: &[Charge]) -> Lease {
    Lease {
        id: id(number),
        settle: None,
        charges: charges.to_vec(),
        least: 8,
        expires_at: time(NOW_S + 60),
        kept_until: time(NOW_S + 600),
    }
}

fn id(number: u64) -> HoldId {
    HoldId::from_bytes(u128::from(number).to_be_bytes())
}

fn settle(number: u64, used: u64) -> Settle {
    Settle { id: id(number), used: vec![(Arc::from("tokens"), used)] }
}

/// Used, held, leased, and in how many leases.
fn figures(balances: &[Balance]) -> Vec<(u64, u64, u64, u32)> {
    balances.iter().map(|balance| (balance.used, balance.held, balance.leased, balance.leases)).collect()
}

async fn found(case: &Case, seconds: i64, keys: &[CounterKey]) -> Result<Vec<(u64, u64, u64, u32)>, Broken> {
    Ok(figures(&case.store.balances(case.later(seconds), keys).await?))
}

pub(super) async fn a_block_is_at_most_half_an_even_share_of_what_is_left(case: &Case) -> Result<(), Broken> {
    let tokens = key("ana", "tokens");
    expect_eq!(case.charge(&[charge(&tokens, 2_000, 10_000)]).await?, true, "a charge");
    let wanted = [charge(&tokens, 10_000, 10_000)];
    let first = case.store.lease(case.call(), &lease(1, &wanted)).await?;
    expect_eq!((first.amount, figures(&first.balances)), (4_000, vec![(2_000, 4_000, 4_000, 1)]), "the first");
    let second = case.store.lease(case.call(), &lease(2, &wanted)).await?;
    expect_eq!((second.amount, figures(&second.balances)), (1_000, vec![(2_000, 5_000, 5_000, 2)]), "the second");
    let third = case.store.lease(case.call(), &lease(3, &[charge(&tokens, 99, 10_000)])).await?;
    expect_eq!((third.amount, third.settled), (99, None), "no more than is wanted");
    expect_eq!(found(case, 0, &[tokens]).await?, [(2_000, 5_099, 5_099, 3)], "as read");
    Ok(())
}

pub(super) async fn a_block_too_small_to_be_worth_it_is_not_made(case: &Case) -> Result<(), Broken> {
    let tokens = key("ana", "tokens");
    let few = case.store.lease(case.call(), &lease(1, &[charge(&tokens, 15, 15)])).await?;
    expect_eq!((few.amount, figures(&few.balances)), (0, vec![(0, 0, 0, 0)]), "seven of fifteen");
    let settled = case.store.settle(case.call(), &settle(1, 0)).await?;
    expect_eq!(settled, Settled::Unknown, "what was not made is not kept");
    let enough = case.store.lease(case.call(), &lease(1, &[charge(&tokens, 16, 16)])).await?;
    expect_eq!(enough.amount, 8, "eight of sixteen");
    Ok(())
}

pub(super) async fn a_block_is_made_on_every_counter_or_none(case: &Case) -> Result<(), Broken> {
    let (month, day) = (key("ana", "tokens"), CounterKey { period: crate::Period::Day, ..key("ana", "tokens") });
    let unlimited = Charge { limit: Limit::Unlimited, ..charge(&key("acme", "tokens"), 1_000, 0) };
    let wanted = [charge(&month, 1_000, 10_000), charge(&day, 1_000, 100), unlimited.clone()];
    let leased = case.store.lease(case.call(), &lease(1, &wanted)).await?;
    let fifty = (0, 50, 50, 1);
    expect_eq!((leased.amount, figures(&leased.balances)), (50, vec![fifty; 3]), "as much as the day has");
    let none = [charge(&month, 1_000, 10_000), charge(&key("acme", "messages"), 1_000, 3), unlimited];
    let leased = case.store.lease(case.call(), &lease(2, &none)).await?;
    expect_eq!((leased.amount, figures(&leased.balances)), (0, vec![fifty, (0, 0, 0, 0), fifty]), "none at all");
    Ok(())
}

pub(super) async fn a_settled_block_charges_what_was_used_and_gives_the_rest_back(case: &Case) -> Result<(), Broken> {
    let keys = [key("ana", "tokens"), CounterKey { period: crate::Period::Day, ..key("ana", "tokens") }];
    case.store.lease(case.call(), &lease(1, &keys.clone().map(|key| charge(&key, 100, 1_000)))).await?;
    let settled = case.store.settle(case.later(1), &settle(1, 30)).await?;
    let Settled::Now(receipt) = settled else { return Err(Broken(format!("{settled:?}"))) };
    let parts: Vec<_> = receipt.parts.iter().map(|part| (part.held, part.used, part.overage)).collect();
    expect_eq!(parts, [(100, 30, 0), (100, 30, 0)], "the receipt: held, used, overage");
    expect_eq!(found(case, 1, &keys).await?, [(30, 0, 0, 0), (30, 0, 0, 0)], "the balances");
    let again = case.store.settle(case.later(2), &settle(1, 50)).await?;
    expect_eq!(again, Settled::Before(receipt), "settled again");
    Ok(())
}

pub(super) async fn a_block_that_expires_is_charged_on_every_counter(case: &Case) -> Result<(), Broken> {
    let keys = [key("ana", "tokens"), key("acme", "tokens")];
    let [first, second] = &keys;
    case.store.lease(case.call(), &lease(1, &keys.clone().map(|key| charge(&key, 100, 1_000)))).await?;
    expect_eq!(found(case, 59, &keys).await?, [(0, 100, 100, 1); 2], "before it expires");
    expect_eq!(found(case, 60, &keys).await?, [(100, 0, 0, 0); 2], "as read when it has expired");
    for key in [first, second] {
        let charged = case.store.charge(case.later(60), &[charge(key, 900, 1_000)], None).await?;
        expect_eq!((charged.granted(), figures(&charged.balances)), (true, vec![(1_000, 0, 0, 0)]), "the rest");
        let charged = case.store.charge(case.later(60), &[charge(key, 1, 1_000)], None).await?;
        expect_eq!(charged.granted(), false, "one more");
    }
    let late = case.store.settle(case.later(61), &settle(1, 5)).await?;
    expect_eq!(late, Settled::Expired(time(NOW_S + 60)), "settled too late");
    expect_eq!(found(case, 61, &keys).await?, [(1_000, 0, 0, 0); 2], "which changes nothing");
    Ok(())
}

pub(super) async fn one_block_is_settled_and_the_next_made_in_one_step(case: &Case) -> Result<(), Broken> {
    let tokens = key("ana", "tokens");
    let wanted = [charge(&tokens, 1_000, 2_000)];
    case.store.lease(case.call(), &lease(1, &wanted)).await?;
    // Settled first: the second block is sized as if the first were not there.
    let next = Lease { settle: Some(settle(1, 400)), ..lease(2, &wanted) };
    let renewed = case.store.lease(case.later(1), &next).await?;
    let is_settled = matches!(&renewed.settled, Some(Settled::Now(_)));
    expect_eq!((is_settled, renewed.amount), (true, 800), "settled, and half of what is left");
    expect_eq!(figures(&renewed.balances), [(400, 800, 800, 1)], "the balance");
    // Also where no other is made.
    let last = Lease { settle: Some(settle(2, 800)), ..lease(3, &[charge(&tokens, 1_000, 1_205)]) };
    let renewed = case.store.lease(case.later(2), &last).await?;
    let is_settled = matches!(&renewed.settled, Some(Settled::Now(_)));
    expect_eq!((is_settled, renewed.amount), (true, 0), "settled, and none made");
    expect_eq!(figures(&renewed.balances), [(1_200, 0, 0, 0)], "the balance in the end");
    // Settled too late, it was charged; another is made all the same.
    case.store.lease(case.call(), &lease(4, &wanted)).await?;
    let late = Lease { settle: Some(settle(4, 1)), expires_at: time(NOW_S + 200), ..lease(5, &wanted) };
    let renewed = case.store.lease(case.later(100), &late).await?;
    expect_eq!(renewed.settled, Some(Settled::Expired(time(NOW_S + 60))), "expired");
    expect_eq!((renewed.amount, figures(&renewed.balances)), (200, vec![(1_600, 200, 200, 1)]), "and made");
    Ok(())
}

pub(super) async fn a_block_is_made_once_under_its_name(case: &Case) -> Result<(), Broken> {
    let tokens = key("ana", "tokens");
    let wanted = [charge(&tokens, 100, 1_000)];
    case.store.lease(case.call(), &lease(1, &wanted)).await?;
    let next = Lease { settle: Some(settle(1, 40)), ..lease(2, &wanted) };
    let first = case.store.lease(case.later(1), &next).await?;
    expect_eq!(case.charge(&[charge(&tokens, 5, 1_000)]).await?, true, "a charge in between");
    let again = case.store.lease(case.later(2), &next).await?;
    expect_eq!((again.amount, &again.balances), (first.amount, &first.balances), "answered the same");
    let is_settled = matches!(&again.settled, Some(Settled::Before(_)));
    expect_eq!(is_settled, true, "settled before");
    expect_eq!(found(case, 2, &[tokens]).await?, [(45, 100, 100, 1)], "made once");
    Ok(())
}

pub(super) async fn a_reset_leaves_blocks_alone(case: &Case) -> Result<(), Broken> {
    let tokens = key("ana", "tokens");
    expect_eq!(case.charge(&[charge(&tokens, 300, 1_000)]).await?, true, "a charge");
    case.store.lease(case.call(), &lease(1, &[charge(&tokens, 100, 1_000)])).await?;
    let reset = [Adjustment { key: tokens.clone(), by: Adjust::Reset }];
    case.store.adjust(case.call(), &reset, None, &changed()).await?;
    expect_eq!(found(case, 0, std::slice::from_ref(&tokens)).await?, [(0, 100, 100, 1)], "after the reset");
    case.store.settle(case.call(), &settle(1, 60)).await?;
    expect_eq!(found(case, 0, &[tokens]).await?, [(60, 0, 0, 0)], "after it was settled");
    Ok(())
}

pub(super) async fn a_threshold_that_is_reached_by_a_block_is_told_when_it_is_settled(
    case: &Case,
) -> Result<(), Broken> {
    let tokens = key("ana", "tokens");
    case.charge(&[charge(&tokens, 750, 1_000)]).await?;
    case.store.lease(case.call(), &lease(1, &[charge(&tokens, 100, 1_000)])).await?;
    let settled = case.store.settle(case.call(), &settle(1, 60)).await?;
    let Settled::Now(receipt) = settled else { return Err(Broken(format!("{settled:?}"))) };
    let told: Vec<_> = receipt.parts.iter().map(|part| part.crossed).collect();
    expect_eq!(told, [Some(80)], "the threshold");
    Ok(())
}

pub(super) async fn blocks_holds_and_charges_at_once_use_exactly_the_limit(case: &Case) -> Result<(), Broken> {
    let keys = [key("ana", "tokens"), key("acme", "tokens")];
    let all = |amount| keys.clone().map(|key| charge(&key, amount, 3_000));
    let used = AtomicU64::new(0);
    at_once(|thread, round| {
        let number = (thread * 100 + round) as u64;
        if thread % 2 == 0 {
            let charged = block_on(case.store.charge(case.call(), &all(3), None))?.granted();
            used.fetch_add(if charged { 3 } else { 0 }, Ordering::Relaxed);
            return Ok(charged);
        }
        // Each settles its block before last, so that two are open at a time.
        let before = number.checked_sub(2).filter(|_| round > 1).map(|before| settle(before, 8));
        let leased = block_on(case.store.lease(case.call(), &Lease { settle: before, ..lease(number, &all(20)) }))?;
        if let Some(Settled::Now(receipt)) = &leased.settled {
            used.fetch_add(receipt.parts.first().map_or(0, |part| part.used), Ordering::Relaxed);
        }
        Ok(leased.amount > 0)
    })?;
    let mut open = Vec::new();
    for number in 0..800 {
        if let Settled::Now(receipt) = case.store.settle(case.call(), &settle(number, 0)).await? {
            open.push(receipt);
        }
    }
    while case.store.charge(case.call(), &all(1), None).await?.granted() {
        used.fetch_add(1, Ordering::Relaxed);
    }
    expect_eq!(used.into_inner(), 3_000, "used");
    expect_eq!(found(case, 0, &keys).await?, [(3_000, 0, 0, 0); 2], "the balances");
    Ok(())
}

pub(super) async fn a_block_that_expires_while_it_is_settled_does_one_of_the_two(case: &Case) -> Result<(), Broken> {
    let keys = |round: usize| ["tokens", "messages"].map(|metric| key(&format!("ana-{round}"), metric));
    for round in 0..30 {
        let charges = keys(round).map(|key| charge(&key, 10, 100));
        case.store.lease(case.call(), &lease(round as u64, &charges)).await?;
    }
    let settled = at_once(|thread, round| {
        // Half of them settle in time, and half meet what has expired by their clock.
        if thread % 2 == 0 {
            let four = ["tokens", "messages"].map(|metric| (Arc::from(metric), 4));
            let settle = Settle { id: id(round as u64), used: four.to_vec() };
            return Ok(matches!(block_on(case.store.settle(case.call(), &settle))?, Settled::Now(_)));
        }
        let ones = keys(round).map(|key| charge(&key, 1, 10));
        block_on(case.store.charge(case.later(60), &ones, None)).map(|_| false)
    })?;
    let mut in_time = 0;
    for round in 0..30 {
        let found = case.store.balances(case.later(60), &keys(round)).await?;
        let [first, second] = found[..] else { return Err(Broken(format!("{found:?}"))) };
        expect_eq!((first.used, first.held, first.leases), (second.used, second.held, second.leases), "both counters");
        expect_eq!(first.held, 0, "held");
        in_time += u64::from(first.used != 10);
    }
    expect_eq!(in_time, settled, "settled in time");
    Ok(())
}
