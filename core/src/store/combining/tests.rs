#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};

use pollster::block_on;
use proptest::prelude::*;

use super::*;
use crate::Period;
use crate::store::charge_all;

/// A server with two counters.
#[derive(Default)]
struct Server {
    balances: Mutex<[Balance; 2]>,
    trips: AtomicU32,
    /// From which trip on it fails.
    fails_from: Option<u32>,
    /// What other processes charge between two trips.
    others: u64,
    /// Before which trip they hand back all that was used.
    emptied_at: Option<u32>,
}

impl Server {
    fn made(&self, charges: &[Charge], if_plain: bool) -> Result<Charged, StoreError> {
        let trip = self.trips.fetch_add(1, Ordering::Relaxed);
        if self.fails_from.is_some_and(|first| first <= trip) {
            return Err(StoreError::Failed { detail: "cut".to_owned(), retry: Retry::OutcomeUnknown });
        }
        let mut balances = self.balances.lock();
        balances.iter_mut().for_each(|balance| balance.used += self.others);
        if self.emptied_at == Some(trip) {
            *balances = Default::default();
        }
        let mut place = balances.iter().copied();
        let read = |_: &CounterKey| Ok::<_, Infallible>(place.next().unwrap());
        let Ok(charged) = charge_all(charges, read, Balance::charged);
        if charged.granted() && (charged.crossed.is_empty() || !if_plain) {
            balances.copy_from_slice(&charged.balances);
            return Ok(charged);
        }
        // As PostgreSQL, which tells nothing of counters then.
        let balances = if if_plain { Vec::new() } else { charged.balances };
        Ok(Charged::new(Outcome::Refused, balances))
    }
}

impl Charges for Server {
    async fn charge(
        &self,
        _: Timestamp,
        charges: &[Charge],
        are_sums: bool,
        _: &IsWanted<'_>,
    ) -> Result<Charged, StoreError> {
        self.made(charges, are_sums)
    }
}

fn charges(amounts: [u64; 2], limits: [u64; 2]) -> Vec<Charge> {
    let of = |(period, (amount, limit))| Charge {
        key: CounterKey::of("ana", "jobs", period, 0),
        amount,
        limit: Limit::Units(limit),
    };
    [Period::Day, Period::Month].into_iter().zip(amounts.into_iter().zip(limits)).map(of).collect()
}

fn granted(answer: &Result<Charged, StoreError>) -> bool {
    answer.as_ref().unwrap().granted()
}

/// Has everybody charge at once, and returns what came of it, in the order in which they came.
fn charged_at_once(server: &Arc<Server>, all: &[Vec<Charge>]) -> Vec<Result<Charged, StoreError>> {
    let combiner = Arc::new(Combiner::default());
    let mut answers = Vec::new();
    let mut leads = Vec::new();
    for charges in all {
        let (answer, lead) = combiner.join(Timestamp::UNIX_EPOCH, charges);
        answers.push(answer);
        leads.extend(lead);
    }
    for lead in leads {
        block_on(lead.take(Arc::clone(server)));
    }
    assert!(combiner.0.lock().is_empty(), "a queue was left");
    answers.into_iter().map(|answer| block_on(answer).unwrap()).collect()
}

#[test]
fn those_who_come_while_one_is_on_its_way_travel_as_one() {
    let server = Arc::new(Server::default());
    let answers = charged_at_once(&server, &vec![charges([2, 3], [10_000, 20_000]); 100]);
    assert_eq!(server.trips.load(Ordering::Relaxed), 2);
    for (place, answer) in (1..).zip(&answers) {
        assert_eq!(answer.as_ref().unwrap().balances, [Balance::of(2 * place), Balance::of(3 * place)]);
    }
}

#[test]
fn other_limits_and_other_counters_travel_by_themselves() {
    let server = Arc::new(Server::default());
    let mut all = vec![charges([1, 1], [100, 100]); 2];
    all.extend(vec![charges([1, 1], [100, 99]); 2]);
    charged_at_once(&server, &all);
    assert_eq!(server.trips.load(Ordering::Relaxed), 4, "two firsts, and one more behind each");
}

#[test]
fn one_failure_is_everybodys_and_is_waited_for_once() {
    let server = Arc::new(Server { fails_from: Some(1), ..Server::default() });
    let answers = charged_at_once(&server, &vec![charges([1, 1], [100, 100]); 10]);
    assert_eq!(server.trips.load(Ordering::Relaxed), 2);
    assert!(answers[0].as_ref().unwrap().granted());
    assert!(answers[1..].iter().all(|answer| answer.as_ref().unwrap_err().retry() == Retry::OutcomeUnknown));
}

#[test]
fn who_was_not_sent_because_others_have_failed_knows_that_he_was_not() {
    let server = Arc::new(Server { fails_from: Some(0), ..Server::default() });
    let answers = charged_at_once(&server, &vec![charges([1, 1], [100, 100]); 10]);
    assert_eq!(server.trips.load(Ordering::Relaxed), 2);
    for (place, answer) in answers.iter().enumerate() {
        let expected = if place < 2 { Retry::OutcomeUnknown } else { Retry::Safe };
        assert_eq!(answer.as_ref().unwrap_err().retry(), expected, "{place}");
    }
}

#[test]
fn a_thousand_who_reach_a_threshold_go_before_it_at_it_and_behind_it() {
    let server = Arc::new(Server::default());
    let mut all = vec![charges([1, 1], [1_000, 100_000]); 1_001];
    // One that never fits, in the midst of others that do.
    all[300] = charges([5_000, 1], [1_000, 100_000]);
    let answers = charged_at_once(&server, &all);
    let crossed: Vec<(usize, u8)> = (0..)
        .zip(&answers)
        .flat_map(|(place, answer)| answer.as_ref().unwrap().crossed.iter().map(move |found| (place, found.percent)))
        .collect();
    assert_eq!(crossed, [(800, 80), (1_000, 100)], "the 800th and the last that was granted");
    let refused: Vec<usize> =
        (0..).zip(&answers).filter(|(_, answer)| !granted(answer)).map(|(place, _)| place).collect();
    assert_eq!(refused, [300]);
    assert_eq!(
        server.trips.load(Ordering::Relaxed),
        6,
        "around the first, the one that never fits, and two thresholds"
    );
}

#[test]
fn others_who_charge_meanwhile_cost_a_few_trips_more() {
    for others in [1, 3, 10] {
        let server = Arc::new(Server { others, ..Server::default() });
        let answers = charged_at_once(&server, &vec![charges([1, 1], [1_100, 100_000]); 1_000]);
        let all = u64::try_from(answers.iter().filter(|answer| granted(answer)).count()).unwrap();
        let (trips, used) = (server.trips.load(Ordering::Relaxed), server.balances.lock()[0].used);
        println!("{others} by others between two trips: {trips} trips, {all} granted");
        assert_eq!(used, all + others * u64::from(trips));
        assert!(trips <= 50, "{trips} trips");
        // In order: where one was refused, nobody behind him was granted as much.
        assert!(answers.is_sorted_by_key(|answer| !granted(answer)));
    }
}

#[test]
fn at_a_full_counter_nobody_is_sent_who_was_there_when_that_was_found() {
    let server = Arc::new(Server::default());
    let answers = charged_at_once(&server, &vec![charges([3, 1], [10, 100]); 100]);
    assert_eq!(answers.iter().filter(|answer| granted(answer)).count(), 3);
    assert_eq!(server.trips.load(Ordering::Relaxed), 3, "each by itself, because the third reaches a threshold");
}

#[test]
fn nobody_is_refused_by_what_was_told_to_those_before_him() {
    let full = Mutex::new([Balance::of(10), Balance::of(10)]);
    let server = Arc::new(Server { balances: full, emptied_at: Some(1), ..Server::default() });
    let answers = charged_at_once(&server, &vec![charges([1, 1], [10, 100]); 2]);
    assert_eq!(answers.iter().map(granted).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn who_has_gone_away_before_he_was_sent_is_not_charged() {
    let (server, combiner) = (Arc::new(Server::default()), Arc::new(Combiner::default()));
    let [first, second, third] =
        [1, 2, 4].map(|amount| combiner.join(Timestamp::UNIX_EPOCH, &charges([amount, amount], [100, 100])));
    drop(second);
    block_on(first.1.unwrap().take(Arc::clone(&server)));
    assert!(block_on(third.0).unwrap().unwrap().granted());
    assert_eq!(server.balances.lock()[0].used, 5);
}

#[test]
fn nobody_waits_for_a_lead_that_was_ended() {
    let (server, combiner) = (Arc::new(Server::default()), Arc::new(Combiner::default()));
    let join = || combiner.join(Timestamp::UNIX_EPOCH, &charges([1, 1], [100, 100]));
    let ((first, lead), (second, _)) = (join(), join());
    drop(lead);
    assert!(block_on(first).is_err() && block_on(second).is_err());
    let (third, lead) = join();
    block_on(lead.unwrap().take(server));
    assert!(block_on(third).unwrap().unwrap().granted());
}

proptest! {
    /// Travelling together is no other than one after the other: who passes, what each is told, which thresholds.
    #[test]
    fn together_is_as_one_after_the_other(
        amounts in prop::collection::vec([1_u64..40, 1_u64..40], 1..24),
        limits in [1_u64..400, 1_u64..400],
        used in [0_u64..300, 0_u64..300],
    ) {
        let all: Vec<Vec<Charge>> = amounts.into_iter().map(|amounts| charges(amounts, limits)).collect();
        let begin = || Arc::new(Server { balances: Mutex::new(used.map(Balance::of)), ..Server::default() });
        let (together, alone) = (begin(), begin());
        let answers = charged_at_once(&together, &all);
        for (answer, charges) in answers.into_iter().zip(&all) {
            prop_assert_eq!(answer, alone.made(charges, false));
        }
        prop_assert_eq!(*together.balances.lock(), *alone.balances.lock());
    }
}
