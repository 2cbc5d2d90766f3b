//! A token that is revoked while it is being verified, in whichever order a model checker can think of.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering};

use shuttle::future::{block_on, yield_now};
use shuttle::{check_pct, check_random, thread};

use super::*;
use crate::clock::ManualClock;
use crate::store::Wait;
use crate::token::{Identity, TokenCacheOptions, async_verifier};

/// Of each kind.
const SCHEDULES: usize = 500;

/// Two requests race a revocation. None after it is let in.
fn model(forget: fn(&Tokens)) {
    let revoked = Arc::new(AtomicBool::new(false));
    let verifier = {
        let revoked = Arc::clone(&revoked);
        async_verifier(move |_| {
            let revoked = Arc::clone(&revoked);
            async move {
                let valid = !revoked.load(Ordering::SeqCst);
                yield_now().await;
                Ok(valid.then(|| Identity::of("ana")))
            }
        })
    };
    let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
    let tokens = Tokens::new(Arc::new(verifier), TokenCacheOptions::new().build(), None, clock, CALLS_MAX, None);
    let call = Call::new(Timestamp::UNIX_EPOCH, Wait::Yield);
    let requests: Vec<_> = (0..2)
        .map(|_| {
            let tokens = Arc::clone(&tokens);
            thread::spawn(move || block_on(tokens.authenticate(call, "token")).is_ok())
        })
        .collect();
    revoked.store(true, Ordering::SeqCst);
    forget(&tokens);
    assert_eq!(block_on(tokens.authenticate(call, "token")), Ok(Authenticated::Refused));
    assert!(requests.into_iter().all(|request| request.join().unwrap()));
    assert_eq!(tokens.recall(call.now, "token"), Ok(Authenticated::Refused));
    assert_eq!(tokens.under_way.len(), (0, 0));
}

fn check(model: fn()) {
    check_random(model, SCHEDULES);
    check_pct(model, SCHEDULES, 3);
}

#[test]
fn a_revoked_token_lets_nobody_in() {
    check(|| model(|tokens| tokens.forget(TokenDigest::of("token"))));
}

#[test]
fn a_token_of_a_revoked_subject_lets_nobody_in() {
    check(|| model(|tokens| tokens.forget_subject("ana")));
}
