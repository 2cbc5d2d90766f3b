//! Requests with one token that come, leave and are revoked, in whichever order a model checker can
//! think of.

#![allow(clippy::unwrap_used)]

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use shuttle::future::{block_on, yield_now};
use shuttle::{check_pct, check_random, thread};

use super::*;

/// Of each kind.
const SCHEDULES: usize = 2_000;

const CALLERS: usize = 3;

/// Callers join one after another, in threads of their own; the first `leaving` of them are polled once.
/// `meanwhile` happens at any time.
fn model(leaving: usize, meanwhile: fn(&Verifications, TokenDigest)) {
    let verifications = Verifications::at_most(CALLERS);
    let running = Arc::new(AtomicUsize::new(0));
    let digest = TokenDigest::of("token");
    let callers: Vec<_> = (0..CALLERS)
        .map(|number| {
            let (verifications, running) = (Arc::clone(&verifications), Arc::clone(&running));
            thread::spawn(move || {
                let start = || {
                    let work = async move {
                        running.fetch_add(1, Ordering::Relaxed);
                        yield_now().await;
                        Ok(Authenticated::Refused)
                    };
                    work.boxed()
                };
                let mut joined = verifications.join((digest, Wait::Yield), start).unwrap();
                if number < leaving {
                    block_on(poll_fn(|context| {
                        let _left = joined.poll_unpin(context);
                        Poll::Ready(())
                    }));
                } else {
                    assert_eq!(block_on(joined), Ok(Authenticated::Refused));
                }
            })
        })
        .collect();
    meanwhile(&verifications, digest);
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    assert!((1..=CALLERS).contains(&running.load(Ordering::Relaxed)));
    assert_eq!(verifications.len(), (0, 0), "running, to be joined");
}

fn check(model: fn()) {
    check_random(model, SCHEDULES);
    check_pct(model, SCHEDULES, 3);
}

#[test]
fn every_verification_gives_up_its_place() {
    check(|| model(0, |_, _| ()));
    check(|| model(2, |_, _| ()));
}

#[test]
fn one_that_was_abandoned_leaves_a_later_one_of_its_token_alone() {
    check(|| model(1, Verifications::abandon));
    check(|| model(1, |verifications, _| verifications.abandon_all()));
}
