//! Rules about holds.

use std::sync::Arc;

use pollster::block_on;

use super::{Broken, Case, NOW_S, at_once, changed, charge, key, time};
use crate::plan::Limit;
use crate::store::{Adjust, Adjustment, Balance, Charge, CounterKey, Hold, Outcome, Settle, Settled};
use crate::usage::hold::HoldId;

/// A hold for a minute, named by a number.
fn hold(number: u64, charges: &[Charge]) -> Hold {
    Hold {
        id: id(number),
        once: None,
        charges: charges.to_vec(),
        expires_at: time(NOW_S + 60),
        kept_until: time(NOW_S + 600),
    }
}

fn id(number: u64) -> HoldId {
    HoldId::from_bytes(u128::from(number).to_be_bytes())
}

fn settle(number: u64, used: &[(&str, u64)]) -> Settle {
    let used = used.iter().map(|(metric, amount)| (Arc::from(*metric), *amount)).collect();
    Settle { id: id(number), used }
}

fn holding(used: u64, held: u64) -> Option<Balance> {
    Some(Balance { held, ..Balance::of(used) })
}

/// The balance without what was told of it.
async fn untold(case: &Case, key: &CounterKey) -> Result<Option<Balance>, Broken> {
    Ok(case.balance(key).await?.map(|balance| Balance { told: 0, ..balance }))
}

pub(super) async fn a_hold_keeps_others_from_its_units(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "tokens");
    let held = case.store.hold(case.call(), &hold(1, &[charge(&key, 6, 10)])).await?;
    expect_eq!((held.outcome, held.balances), (Outcome::Granted, vec![Balance { held: 6, ..Balance::of(0) }]), "held");
    expect_eq!(case.charge(&[charge(&key, 5, 10)]).await?, false, "a charge of five");
    let second = case.store.hold(case.call(), &hold(2, &[charge(&key, 5, 10)])).await?;
    expect_eq!(second.outcome, Outcome::Refused, "a hold of five");
    expect_eq!(case.charge(&[charge(&key, 4, 10)]).await?, true, "a charge of four");
    expect_eq!(untold(case, &key).await?, holding(4, 6), "the balance");
    Ok(())
}

pub(super) async fn a_hold_takes_part_in_all_or_none(case: &Case) -> Result<(), Broken> {
    let (tokens, messages) = (key("ana", "tokens"), key("team", "messages"));
    let held = case.store.hold(case.call(), &hold(1, &[charge(&tokens, 6, 10), charge(&messages, 2, 1)])).await?;
    expect_eq!(held.outcome, Outcome::Refused, "the second does not fit");
    expect_eq!(case.balance(&tokens).await?, holding(0, 0), "the first");
    expect_eq!(
        case.store.settle(case.call(), &settle(1, &[])).await?,
        Settled::Unknown,
        "what was refused is not kept"
    );
    Ok(())
}

pub(super) async fn a_settled_hold_charges_what_was_used_and_gives_the_rest_back(case: &Case) -> Result<(), Broken> {
    let (month, day) = (key("ana", "tokens"), CounterKey { period: crate::Period::Day, ..key("ana", "tokens") });
    case.store.hold(case.call(), &hold(1, &[charge(&month, 6, 10), charge(&day, 6, 8)])).await?;
    let settled = case.store.settle(case.call(), &settle(1, &[("tokens", 2)])).await?;
    let Settled::Now(receipt) = settled else { return Err(Broken(format!("{settled:?}"))) };
    let mut parts: Vec<_> = receipt.parts.iter().map(|part| (part.key.clone(), part.held, part.used)).collect();
    parts.sort();
    let mut expected = vec![(month.clone(), 6, 2), (day.clone(), 6, 2)];
    expected.sort();
    expect_eq!((receipt.at, parts), (time(NOW_S), expected), "the receipt");
    for key in [&month, &day] {
        expect_eq!(case.balance(key).await?, holding(2, 0), "the balance");
    }
    Ok(())
}

pub(super) async fn a_metric_that_is_not_listed_is_charged_as_held(case: &Case) -> Result<(), Broken> {
    let (tokens, messages) = (key("ana", "tokens"), key("ana", "messages"));
    case.store.hold(case.call(), &hold(1, &[charge(&tokens, 60, 100), charge(&messages, 1, 5)])).await?;
    case.store.settle(case.call(), &settle(1, &[("tokens", 0), ("others", 7)])).await?;
    expect_eq!(case.balance(&tokens).await?, holding(0, 0), "listed");
    expect_eq!(case.balance(&messages).await?, holding(1, 0), "not listed");
    Ok(())
}

pub(super) async fn more_than_was_held_takes_what_is_left_and_then_is_overage(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "tokens");
    case.store.hold(case.call(), &hold(1, &[charge(&key, 3, 10)])).await?;
    case.store.hold(case.call(), &hold(2, &[charge(&key, 3, 10)])).await?;
    let settled = case.store.settle(case.call(), &settle(1, &[("tokens", 20)])).await?;
    let Settled::Now(receipt) = settled else { return Err(Broken(format!("{settled:?}"))) };
    let parts: Vec<_> = receipt.parts.iter().map(|part| (part.held, part.used, part.overage)).collect();
    expect_eq!(parts, [(3, 7, 13)], "held, used, overage");
    let expected = Some(Balance { overage: 13, held: 3, ..Balance::of(7) });
    expect_eq!(untold(case, &key).await?, expected, "the balance, with the other hold untouched");
    Ok(())
}

pub(super) async fn a_hold_is_settled_once_and_its_receipt_repeated(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "tokens");
    case.store.hold(case.call(), &hold(1, &[charge(&key, 6, 10)])).await?;
    let settled = case.store.settle(case.call(), &settle(1, &[("tokens", 2)])).await?;
    let Settled::Now(receipt) = settled else { return Err(Broken(format!("{settled:?}"))) };
    for (seconds, used) in [(0, 2), (1, 6), (70, 0), (599, 9)] {
        let again = case.store.settle(case.later(seconds), &settle(1, &[("tokens", used)])).await?;
        expect_eq!(again, Settled::Before(receipt.clone()), format!("{seconds} s later, with {used}"));
    }
    expect_eq!(case.used(&key).await?, Some(2), "used");
    Ok(())
}

pub(super) async fn an_expired_hold_gives_its_units_back_on_every_counter(case: &Case) -> Result<(), Broken> {
    let keys = [key("ana", "tokens"), key("team", "tokens")];
    let charges = keys.clone().map(|key| charge(&key, 10, 10));
    case.store.hold(case.call(), &hold(1, &charges)).await?;
    let ones = keys.clone().map(|key| charge(&key, 1, 10));
    let early = case.store.charge(case.later(59), &ones, None).await?;
    expect_eq!(early.outcome, Outcome::Refused, "before it expires");
    let read = case.store.balances(case.later(60), &keys).await?;
    expect_eq!(read, [Balance::of(0), Balance::of(0)], "as read when it has expired");
    let [first, second] = &ones;
    for one in [first, second] {
        let charged = case.store.charge(case.later(60), std::slice::from_ref(one), None).await?;
        expect_eq!((charged.outcome, charged.balances), (Outcome::Granted, vec![Balance::of(1)]), "one unit");
    }
    Ok(())
}

pub(super) async fn settling_finds_the_room_that_expired_holds_have_left(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "tokens");
    let longer = Hold { expires_at: time(NOW_S + 90), ..hold(1, &[charge(&key, 4, 10)]) };
    case.store.hold(case.call(), &longer).await?;
    case.store.hold(case.call(), &hold(2, &[charge(&key, 6, 10)])).await?;
    // The second has expired, and nobody has touched the counter since.
    let settled = case.store.settle(case.later(60), &settle(1, &[("tokens", 9)])).await?;
    let Settled::Now(receipt) = settled else { return Err(Broken(format!("{settled:?}"))) };
    let parts: Vec<_> = receipt.parts.iter().map(|part| (part.used, part.overage, part.balance.held)).collect();
    expect_eq!(parts, [(9, 0, 0)], "used, overage, held");
    Ok(())
}

pub(super) async fn a_hold_made_anew_under_a_forgotten_name_is_its_own(case: &Case) -> Result<(), Broken> {
    let (first, second) = (key("ana", "tokens"), key("bob", "tokens"));
    case.store.hold(case.call(), &hold(1, &[charge(&first, 5, 10)])).await?;
    let anew = |seconds| Hold {
        expires_at: time(NOW_S + seconds + 60),
        kept_until: time(NOW_S + seconds + 600),
        ..hold(1, &[charge(&second, 5, 10)])
    };
    let held = case.store.hold(case.later(600), &anew(600)).await?;
    expect_eq!(held.outcome, Outcome::Granted, "made anew");
    // Whoever meets what the first has left behind must not take it for the second.
    case.store.charge(case.later(601), &[charge(&first, 10, 10)], None).await?;
    let found = case.store.balances(case.later(601), &[first, second]).await?;
    let found: Vec<_> = found.iter().map(|balance| (balance.used, balance.held)).collect();
    expect_eq!(found, [(10, 0), (0, 5)], "used and held");
    let settled = case.store.settle(case.later(602), &settle(1, &[])).await?;
    expect_eq!(matches!(settled, Settled::Now(_)), true, "the second is settled");
    Ok(())
}

pub(super) async fn a_hold_settled_too_late_changes_nothing(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "tokens");
    case.store.hold(case.call(), &hold(1, &[charge(&key, 6, 10)])).await?;
    for (seconds, charged) in [(60, 0), (61, 1), (599, 2)] {
        let late = case.store.settle(case.later(seconds), &settle(1, &[("tokens", 2)])).await?;
        expect_eq!(late, Settled::Expired(time(NOW_S + 60)), format!("{seconds} s later"));
        let balance = case.store.balances(case.later(seconds), std::slice::from_ref(&key)).await?;
        expect_eq!(balance, [Balance::of(charged)], format!("{seconds} s later"));
        case.store.charge(case.later(seconds), &[charge(&key, 1, 10)], None).await?;
    }
    Ok(())
}

/// Its units may be somebody else's by then: were it settled, they would count twice, or the work be free.
pub(super) async fn a_hold_that_has_expired_for_one_caller_has_for_one_whose_clock_is_behind(
    case: &Case,
) -> Result<(), Broken> {
    let keys = [key("ana", "tokens"), key("team", "tokens")];
    case.store.hold(case.call(), &hold(1, &keys.clone().map(|key| charge(&key, 10, 10)))).await?;
    let [first, second] = &keys;
    let charged = case.store.charge(case.later(60), &[charge(first, 1, 10)], None).await?;
    expect_eq!(charged.outcome, Outcome::Granted, "a charge of what has expired");
    for seconds in [30, 0, 59] {
        let late = case.store.settle(case.later(seconds), &settle(1, &[("tokens", 10)])).await?;
        expect_eq!(late, Settled::Expired(time(NOW_S + 60)), format!("settled at {seconds} s"));
    }
    let anew = case.store.charge(case.later(30), &[charge(second, 10, 10)], None).await?;
    expect_eq!(anew.outcome, Outcome::Granted, "the other counter, by the clock that is behind");
    let found = case.store.balances(case.later(61), &keys).await?;
    let found: Vec<_> = found.iter().map(|balance| (balance.used, balance.held, balance.overage)).collect();
    expect_eq!(found, [(1, 0, 0), (10, 0, 0)], "used, held and overage");
    Ok(())
}

pub(super) async fn an_unknown_hold_is_unknown(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "tokens");
    expect_eq!(case.store.settle(case.call(), &settle(1, &[])).await?, Settled::Unknown, "never made");
    case.store.hold(case.call(), &hold(1, &[charge(&key, 6, 10)])).await?;
    expect_eq!(case.store.settle(case.call(), &settle(2, &[])).await?, Settled::Unknown, "another");
    expect_eq!(case.store.settle(case.later(600), &settle(1, &[])).await?, Settled::Unknown, "forgotten");
    Ok(())
}

pub(super) async fn a_hold_is_made_once_under_its_name(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "tokens");
    let first = case.store.hold(case.call(), &hold(1, &[charge(&key, 6, 10)])).await?;
    for seconds in [0, 30, 59] {
        let again = case.store.hold(case.later(seconds), &hold(1, &[charge(&key, 6, 10)])).await?;
        expect_eq!(again.outcome, Outcome::Repeated(time(NOW_S)), format!("{seconds} s later"));
        expect_eq!(again.balances, first.balances, "the balances of the first time");
    }
    case.store.settle(case.later(59), &settle(1, &[("tokens", 2)])).await?;
    let again = case.store.hold(case.later(90), &hold(1, &[charge(&key, 6, 10)])).await?;
    expect_eq!(again.outcome, Outcome::Repeated(time(NOW_S)), "after it has charged");
    Ok(())
}

pub(super) async fn a_hold_that_charged_nothing_is_made_anew_under_its_name(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "tokens");
    let anew = |seconds| Hold {
        expires_at: time(NOW_S + seconds + 60),
        kept_until: time(NOW_S + seconds + 600),
        ..hold(1, &[charge(&key, 6, 10)])
    };
    // Released, and made anew; expired, and made anew; then charged once.
    case.store.hold(case.call(), &anew(0)).await?;
    case.store.settle(case.call(), &settle(1, &[("tokens", 0)])).await?;
    for seconds in [1, 70] {
        let held = case.store.hold(case.later(seconds), &anew(seconds)).await?;
        expect_eq!(held.outcome, Outcome::Granted, format!("{seconds} s later"));
        expect_eq!(held.balances.first().map(|balance| balance.held), Some(6), "held once");
    }
    let settled = case.store.settle(case.later(71), &settle(1, &[])).await?;
    expect_eq!(matches!(settled, Settled::Now(_)), true, "settled");
    let found = case.store.balances(case.later(200), std::slice::from_ref(&key)).await?;
    expect_eq!(found.first().map(|balance| (balance.used, balance.held)), Some((6, 0)), "charged once");
    Ok(())
}

pub(super) async fn a_reset_leaves_holds_alone(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "tokens");
    expect_eq!(case.charge(&[charge(&key, 2, 10)]).await?, true, "two of ten");
    case.store.hold(case.call(), &hold(1, &[charge(&key, 3, 10)])).await?;
    let reset = [Adjustment { key: key.clone(), by: Adjust::Reset }];
    case.store.adjust(case.call(), &reset, None, &changed()).await?;
    expect_eq!(case.balance(&key).await?, holding(0, 3), "after the reset");
    case.store.settle(case.call(), &settle(1, &[])).await?;
    expect_eq!(case.balance(&key).await?, holding(3, 0), "after it was settled");
    Ok(())
}

pub(super) async fn of_many_who_settle_at_once_one_does(case: &Case) -> Result<(), Broken> {
    let keys = [key("ana", "tokens"), key("team", "tokens")];
    for number in 0..30 {
        let charges = keys.clone().map(|key| charge(&key, 10, 1_000));
        case.store.hold(case.call(), &hold(number, &charges)).await?;
    }
    let settled = at_once(|thread, round| {
        let used = if thread % 2 == 0 { 3 } else { 0 };
        let settled = block_on(case.store.settle(case.call(), &settle(round as u64, &[("tokens", used)])))?;
        Ok(matches!(settled, Settled::Now(_)))
    })?;
    expect_eq!(settled, 30, "settled");
    let [first, second] = &keys;
    let (ana, team) = (case.balance(first).await?, case.balance(second).await?);
    expect_eq!(ana, team, "both counters");
    expect_eq!(ana.map(|balance| balance.held), Some(0), "nothing is held");
    Ok(())
}

pub(super) async fn holds_and_charges_at_once_stay_within_the_limit(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "tokens");
    at_once(|thread, round| {
        let number = (thread * 100 + round) as u64;
        if thread % 2 == 0 {
            return block_on(case.charge(&[charge(&key, 1, 100)]));
        }
        let held = block_on(case.store.hold(case.call(), &hold(number, &[charge(&key, 5, 100)])))?;
        let settled = block_on(case.store.settle(case.call(), &settle(number, &[("tokens", 1)])))?;
        Ok(held.granted() == matches!(settled, Settled::Now(_)))
    })?;
    // Small charges fill what larger holds have left.
    while case.charge(&[Charge { key: key.clone(), amount: 1, limit: Limit::Units(100) }]).await? {}
    expect_eq!(untold(case, &key).await?, holding(100, 0), "the balance");
    Ok(())
}

pub(super) async fn of_many_who_meet_expired_holds_each_unit_goes_to_one(case: &Case) -> Result<(), Broken> {
    let keys = [key("ana", "tokens"), key("team", "tokens")];
    for number in 0..10 {
        let charges = keys.clone().map(|key| charge(&key, 10, 100));
        case.store.hold(case.call(), &hold(number, &charges)).await?;
    }
    let [first, second] = &keys;
    let granted = at_once(|thread, _| {
        let key = if thread % 2 == 0 { first } else { second };
        block_on(case.store.charge(case.later(60), &[charge(key, 1, 100)], None)).map(|charged| charged.granted())
    })?;
    expect_eq!(granted, 200, "of a hundred each");
    let found = case.store.balances(case.later(60), &keys).await?;
    let found: Vec<_> = found.iter().map(|balance| (balance.used, balance.held)).collect();
    expect_eq!(found, [(100, 0), (100, 0)], "used and held");
    Ok(())
}

pub(super) async fn a_hold_that_expires_while_it_is_settled_does_one_of_the_two(case: &Case) -> Result<(), Broken> {
    let keys = |round: usize| ["tokens", "messages"].map(|metric| key(&format!("ana-{round}"), metric));
    let all = |round| keys(round).map(|key| charge(&key, 10, 10));
    for round in 0..30 {
        case.store.hold(case.call(), &hold(round as u64, &all(round))).await?;
    }
    let used = at_once(|thread, round| {
        // Half of them settle in time, and half charge what has expired by their clock.
        if thread % 2 == 0 {
            let settled = block_on(case.store.settle(case.call(), &settle(round as u64, &[])))?;
            return Ok(matches!(settled, Settled::Now(_)));
        }
        block_on(case.store.charge(case.later(60), &all(round), None)).map(|charged| charged.granted())
    })?;
    expect_eq!(used, 30, "each settled or expired");
    for round in 0..30 {
        let found = case.store.balances(case.later(60), &keys(round)).await?;
        let found: Vec<_> = found.iter().map(|balance| (balance.used, balance.held, balance.overage)).collect();
        expect_eq!(found, [(10, 0, 0), (10, 0, 0)], "used, held and overage");
    }
    Ok(())
}
