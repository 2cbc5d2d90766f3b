//! Rules about shared rates.

use pollster::block_on;

use super::{Broken, Case, at_once};
use crate::store::{Fingerprint, SharedRate, SharedWindow};

/// A second, in nanoseconds.
const S: u64 = 1_000_000_000;

/// A cost of so many units on ten at once, one a second, and on six at once, one in ten seconds.
fn rate(name: &str, cost: u64) -> SharedRate {
    let window = |unit_s: u64, burst: u64| SharedWindow { cost_ns: cost * unit_s * S, full_ns: burst * unit_s * S };
    SharedRate { name: Fingerprint::of(&[name.as_bytes()]), windows: vec![window(1, 10), window(10, 6)] }
}

async fn paced(case: &Case, seconds: i64, rate: &SharedRate) -> Result<(bool, Vec<u64>), Broken> {
    let paced = case.store.rate(case.later(seconds), rate).await?;
    Ok((paced.allowed, paced.debts_ns))
}

pub(super) async fn a_cost_is_taken_from_every_window_or_from_none(case: &Case) -> Result<(), Broken> {
    expect_eq!(paced(case, 0, &rate("ana", 4)).await?, (true, vec![4 * S, 40 * S]), "four");
    expect_eq!(paced(case, 0, &rate("ana", 3)).await?, (false, vec![4 * S, 40 * S]), "three, of which two are left");
    expect_eq!(paced(case, 0, &rate("ana", 2)).await?, (true, vec![6 * S, 60 * S]), "two");
    expect_eq!(paced(case, 0, &rate("bob", 6)).await?, (true, vec![6 * S, 60 * S]), "another key");
    expect_eq!(paced(case, 0, &rate("bob", 0)).await?, (true, vec![6 * S, 60 * S]), "a look");
    Ok(())
}

pub(super) async fn what_was_taken_comes_back_with_time(case: &Case) -> Result<(), Broken> {
    paced(case, 0, &rate("ana", 6)).await?;
    expect_eq!(paced(case, 9, &rate("ana", 1)).await?, (false, vec![0, 51 * S]), "a second too early");
    expect_eq!(paced(case, 10, &rate("ana", 1)).await?, (true, vec![S, 60 * S]), "in time");
    expect_eq!(paced(case, 100_000, &rate("ana", 6)).await?, (true, vec![6 * S, 60 * S]), "long after");
    expect_eq!(paced(case, 100_000, &rate("ana", 1)).await?.0, false, "no more than the burst");
    Ok(())
}

pub(super) async fn a_clock_that_goes_back_gives_nothing_back(case: &Case) -> Result<(), Broken> {
    paced(case, 100, &rate("ana", 6)).await?;
    expect_eq!(paced(case, 50, &rate("ana", 1)).await?, (false, vec![6 * S, 60 * S]), "before");
    expect_eq!(paced(case, 110, &rate("ana", 1)).await?, (true, vec![S, 60 * S]), "after");
    Ok(())
}

pub(super) async fn a_rate_without_windows_is_forgotten(case: &Case) -> Result<(), Broken> {
    paced(case, 0, &rate("ana", 6)).await?;
    let forget = SharedRate { windows: Vec::new(), ..rate("ana", 0) };
    expect_eq!(paced(case, 0, &forget).await?, (true, Vec::new()), "forgotten");
    expect_eq!(paced(case, 0, &rate("ana", 6)).await?.0, true, "the whole burst again");
    Ok(())
}

pub(super) async fn windows_that_have_changed_owe_no_more_than_they_can(case: &Case) -> Result<(), Broken> {
    paced(case, 0, &rate("ana", 6)).await?;
    let smaller = SharedRate { windows: vec![SharedWindow { cost_ns: S, full_ns: 5 * S }], ..rate("ana", 0) };
    expect_eq!(paced(case, 0, &smaller).await?, (false, vec![5 * S]), "all that the window can owe");
    expect_eq!(paced(case, 1, &smaller).await?, (false, vec![5 * S]), "a second later, of six that were owed");
    expect_eq!(paced(case, 2, &smaller).await?, (true, vec![5 * S]), "when one fits");
    let largest = (1 << 53) - 1;
    let long = SharedRate { windows: vec![SharedWindow { cost_ns: largest, full_ns: largest }], ..rate("bob", 0) };
    expect_eq!(paced(case, 0, &long).await?, (true, vec![largest]), "the longest debt");
    expect_eq!(paced(case, 1, &long).await?, (false, vec![largest - S]), "a second after that");
    Ok(())
}

pub(super) async fn of_many_who_ask_at_once_as_many_pass_as_may(case: &Case) -> Result<(), Broken> {
    let window = SharedWindow { cost_ns: S, full_ns: 100 * S };
    let rate = SharedRate { windows: vec![window], ..rate("ana", 0) };
    let passed = at_once(|_, _| Ok(block_on(case.store.rate(case.call(), &rate))?.allowed))?;
    expect_eq!(passed, 100, "passed");
    Ok(())
}
