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
    fails: bool,
}

impl Server {
    fn made(&self, charges: &[Charge], if_plain: bool) -> Result<Charged, StoreError> {
        self.trips.fetch_add(1, Ordering::Relaxed);
        if self.fails {
            return Err(StoreError::Failed { detail: "cut".to_owned(), retry: Retry::OutcomeUnknown });
        }
        let mut balances = self.balances.lock();
        let mut place = balances.iter().copied();
        let read = |_: &CounterKey| Ok::<_, Infallible>(place.next().unwrap());
        let Ok(charged) = charge_all(charges, read, Balance::charged);
        if charged.granted() && (charged.crossed.is_empty() || !if_plain) {
            balances.copy_from_slice(&charged.balances);
            return Ok(charged);
        }
        Ok(Charged { outcome: Outcome::Refused, ..charged })
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
    let server = Arc::new(Server { fails: true, ..Server::default() });
    let answers = charged_at_once(&server, &vec![charges([1, 1], [100, 100]); 10]);
    assert_eq!(server.trips.load(Ordering::Relaxed), 2);
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap_err().retry() == Retry::OutcomeUnknown));
}

#[test]
fn at_a_full_counter_nobody_is_sent_who_was_there_when_that_was_found() {
    let server = Arc::new(Server::default());
    let answers = charged_at_once(&server, &vec![charges([3, 1], [10, 100]); 100]);
    let granted = answers.iter().filter(|answer| answer.as_ref().unwrap().granted()).count();
    assert_eq!(granted, 3);
    assert_eq!(server.trips.load(Ordering::Relaxed), 5, "the first, the others' sum, two of them and the next");
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
