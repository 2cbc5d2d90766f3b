//! Rules about steps that must not be made twice.

use std::sync::Arc;

use pollster::block_on;

use super::{Broken, Case, NOW_S, at_once, changed, charge, key, time};
use crate::plan::Limit;
use crate::store::{Adjust, Adjustment, Charge, Fingerprint, Hold, Once, Outcome, Settle};
use crate::usage::hold::HoldId;

fn once(subject: &str, name: &str, arguments: &str) -> Once {
    Once {
        subject: Arc::from(subject),
        key: Arc::from(name),
        arguments: Fingerprint::of(&[arguments.as_bytes()]),
        kept_until: time(NOW_S + 100),
    }
}

pub(super) async fn a_step_under_a_key_is_made_once_and_answered_the_same(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    let charges = [charge(&key, 3, 10)];
    let first = case.store.charge(case.call(), &charges, Some(&once("ana", "k", "3"))).await?;
    expect_eq!(first.outcome, Outcome::Granted, "the first time");
    expect_eq!(case.charge(&[charge(&key, 2, 10)]).await?, true, "something else");
    for seconds in [0, 50, 99] {
        let again = case.store.charge(case.later(seconds), &charges, Some(&once("ana", "k", "3"))).await?;
        expect_eq!(again.outcome, Outcome::Repeated(time(NOW_S)), format!("{seconds} s later"));
        expect_eq!(again.balances, first.balances, "the balances of the first time");
    }
    expect_eq!(case.used(&key).await?, Some(5), "used");
    Ok(())
}

pub(super) async fn a_key_with_other_arguments_is_a_conflict_and_changes_nothing(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    case.store.charge(case.call(), &[charge(&key, 3, 10)], Some(&once("ana", "k", "3"))).await?;
    let other = case.store.charge(case.call(), &[charge(&key, 4, 10)], Some(&once("ana", "k", "4"))).await?;
    expect_eq!(other.outcome, Outcome::Conflict, "with other arguments");
    expect_eq!(case.used(&key).await?, Some(3), "used");
    Ok(())
}

pub(super) async fn a_key_is_its_subjects_own(case: &Case) -> Result<(), Broken> {
    for subject in ["ana", "bob", "an", "ana\0k"] {
        let charges = [charge(&key(subject, "jobs"), 1, 10)];
        let charged = case.store.charge(case.call(), &charges, Some(&once(subject, "k", "1"))).await?;
        expect_eq!(charged.outcome, Outcome::Granted, subject);
    }
    Ok(())
}

pub(super) async fn a_refused_step_is_decided_anew(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    let refused = case.store.charge(case.call(), &[charge(&key, 3, 2)], Some(&once("ana", "k", "3"))).await?;
    expect_eq!(refused.outcome, Outcome::Refused, "of two");
    let granted = case.store.charge(case.call(), &[charge(&key, 3, 10)], Some(&once("ana", "k", "3"))).await?;
    expect_eq!(granted.outcome, Outcome::Granted, "of ten");
    Ok(())
}

pub(super) async fn a_step_is_forgotten_after_its_time(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    for (seconds, expected) in [(0, Outcome::Granted), (99, Outcome::Repeated(time(NOW_S))), (100, Outcome::Granted)] {
        let mut once = once("ana", "k", "1");
        once.kept_until = time(NOW_S + 100 + seconds);
        let charged = case.store.charge(case.later(seconds), &[charge(&key, 1, 10)], Some(&once)).await?;
        expect_eq!(charged.outcome, expected, format!("after {seconds} s"));
    }
    expect_eq!(case.used(&key).await?, Some(2), "used");
    Ok(())
}

pub(super) async fn an_adjustment_under_a_key_is_made_once(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    for _ in 0..3 {
        let grant = [Adjustment { key: key.clone(), by: Adjust::Grant(5) }];
        let adjusted = case.store.adjust(case.call(), &grant, Some(&once("ana", "k", "5")), &changed()).await?;
        expect_eq!(adjusted.balances.first().map(|balance| balance.bonus), Some(5), "the bonus told");
    }
    expect_eq!(case.balance(&key).await?.map(|balance| balance.bonus), Some(5), "the bonus kept");
    Ok(())
}

pub(super) async fn of_many_with_one_key_one_charges(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "jobs");
    let granted = at_once(|_, round| {
        let once = once("ana", &format!("k{round}"), "1");
        let charged = block_on(case.store.charge(case.call(), &[charge(&key, 1, 1_000)], Some(&once)))?;
        Ok(charged.outcome == Outcome::Granted)
    })?;
    expect_eq!(granted, 30, "charged");
    expect_eq!(case.used(&key).await?, Some(30), "used");
    Ok(())
}

/// A hold for a minute under a key, by another name each time.
fn hold(number: u64, once: Once, charges: &[Charge]) -> Hold {
    Hold {
        id: HoldId::from_bytes(u128::from(number).to_be_bytes()),
        once: Some(once),
        charges: charges.to_vec(),
        expires_at: time(NOW_S + 60),
        kept_until: time(NOW_S + 600),
    }
}

pub(super) async fn a_hold_under_a_key_is_made_once_whatever_its_name(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "tokens");
    let charges = [charge(&key, 6, 10)];
    let first = hold(1, once("ana", "k", "6"), &charges);
    let made = case.store.hold(case.call(), &first).await?;
    expect_eq!((made.outcome, made.hold), (Outcome::Granted, None), "the first time");
    for number in [1, 2, 3] {
        let again = case.store.hold(case.later(30), &hold(number, once("ana", "k", "6"), &charges)).await?;
        expect_eq!(again.outcome, Outcome::Repeated(time(NOW_S)), "again");
        expect_eq!((again.hold, again.balances), (Some(first.id), made.balances.clone()), "the hold of the first time");
    }
    let other = case.store.hold(case.call(), &hold(4, once("ana", "k", "7"), &charges)).await?;
    expect_eq!(other.outcome, Outcome::Conflict, "another hold under the key");
    let other = case.store.charge(case.call(), &charges, Some(&once("ana", "k", "charge"))).await?;
    expect_eq!(other.outcome, Outcome::Conflict, "a charge under the key");
    expect_eq!(case.balance(&key).await?.map(|balance| (balance.used, balance.held)), Some((0, 6)), "the balance");
    // Settled, it has charged, and stays what the key stands for.
    case.store.settle(case.call(), &Settle { id: first.id, used: Vec::new() }).await?;
    let again = case.store.hold(case.later(90), &hold(5, once("ana", "k", "6"), &charges)).await?;
    expect_eq!((again.outcome, again.hold), (Outcome::Repeated(time(NOW_S)), Some(first.id)), "after it was settled");
    expect_eq!(case.used(&key).await?, Some(6), "used");
    Ok(())
}

pub(super) async fn a_hold_that_charged_nothing_is_made_anew_under_its_key(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "tokens");
    let charges = [charge(&key, 6, 10)];
    let anew = |number, seconds: i64| Hold {
        expires_at: time(NOW_S + seconds + 60),
        ..hold(number, Once { kept_until: time(NOW_S + 600), ..once("ana", "k", "6") }, &charges)
    };
    // Released, and made anew; expired, and made anew.
    case.store.hold(case.call(), &anew(1, 0)).await?;
    case.store.settle(case.call(), &Settle { id: anew(1, 0).id, used: vec![(Arc::from("tokens"), 0)] }).await?;
    for (number, seconds) in [(2, 1), (3, 70)] {
        let held = case.store.hold(case.later(seconds), &anew(number, seconds)).await?;
        expect_eq!((held.outcome, held.hold), (Outcome::Granted, None), format!("{seconds} s later"));
    }
    // Expired again, the key is free for something else.
    let charged = case.store.charge(case.later(140), &charges, Some(&once("ana", "k", "charge"))).await?;
    expect_eq!(charged.outcome, Outcome::Granted, "a charge under the key");
    Ok(())
}

pub(super) async fn a_hold_is_not_made_for_what_was_charged_under_its_key(case: &Case) -> Result<(), Broken> {
    let key = key("ana", "tokens");
    let record = [Adjustment { key: key.clone(), by: Adjust::Record(6, Limit::Units(10)) }];
    case.store.adjust(case.call(), &record, Some(&once("ana", "k", "6")), &changed()).await?;
    let held = case.store.hold(case.later(1), &hold(1, once("ana", "k", "6"), &[charge(&key, 6, 10)])).await?;
    expect_eq!((held.outcome, held.hold), (Outcome::Repeated(time(NOW_S)), None), "a hold under the key");
    // Nor the other way round.
    case.store.hold(case.later(1), &hold(2, once("ana", "l", "2"), &[charge(&key, 2, 10)])).await?;
    let adjusted = case.store.adjust(case.later(2), &record, Some(&once("ana", "l", "2")), &changed()).await?;
    expect_eq!(adjusted.outcome, Outcome::Repeated(time(NOW_S + 1)), "an adjustment under a hold's key");
    expect_eq!(case.balance(&key).await?.map(|balance| (balance.used, balance.held)), Some((6, 2)), "the balance");
    Ok(())
}
