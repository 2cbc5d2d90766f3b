//! What `try_admit` asks a store that answers at once, and what it leaves to those who can wait.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use pollster::block_on;
use quotum::store::{Layered, MemoryStore, Timeout};
use quotum::token::{Identity, Secret, async_verifier};
use quotum::{Plans, Quota, Request};

const PLANS: &str = r#"
    default_plan = "free"
    [plans.free]
    quotas = { jobs = "3/total" }
    rates = { api = "2/minute" }
"#;

#[test]
fn what_the_memory_store_holds_is_told_at_once_and_never_more_than_there_is() {
    let plans = Plans::from_toml("default_plan = 'free'\n[plans.free]\nquotas = { jobs = '1000/total' }").unwrap();
    let quota = Quota::builder().plans(plans);
    let quota = block_on(quota.open("memory:")).unwrap();
    let granted = AtomicU64::new(0);
    let ask = || {
        let mut waits = 0_u32;
        loop {
            match quota.try_admit(&Request::by("ana").costs(&[("jobs", 1)])) {
                Some(Ok(decision)) if decision.allowed => _ = granted.fetch_add(1, Ordering::Relaxed),
                Some(decision) => break assert!(!decision.unwrap().allowed),
                // Another thread is asking for the same subject for the first time.
                None => waits += 1,
            }
            assert!(waits < 1_000_000, "nobody answers");
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(ask);
        }
    });
    assert_eq!(granted.into_inner(), 1_000);
    let usage = block_on(quota.usage("ana")).unwrap();
    assert_eq!((usage.quotas[0].used, usage.quotas[0].remaining), (1_000, Some(0)));
    let once = || quota.try_admit(&Request::by("bob").costs(&[("jobs", 7)]).once("order")).unwrap().unwrap();
    assert_eq!((once().repeated, once().repeated), (false, true));
}

#[test]
fn what_must_be_waited_for_is_not_told_at_once_and_charges_nothing() {
    let plans = Plans::from_toml(PLANS);
    let asked = Arc::new(AtomicU64::new(0));
    let asking = Arc::clone(&asked);
    let verifier = async_verifier(move |token: Secret| {
        asking.fetch_add(1, Ordering::Relaxed);
        async move {
            // Ready when it is polled again.
            let mut is_ready = false;
            std::future::poll_fn(|task| {
                task.waker().wake_by_ref();
                if std::mem::replace(&mut is_ready, true) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            Ok(Some(Identity::of(&*token)))
        }
    });
    let quota = Quota::builder().plans(plans.unwrap()).verifier(verifier);
    let quota = block_on(quota.open("memory:")).unwrap();
    let used = || block_on(quota.usage("ana")).unwrap().quotas[0].used;
    let by_token = Request::with_token("ana").costs(&[("jobs", 1)]);
    assert!(quota.try_admit(&by_token).is_none());
    assert_eq!((used(), asked.load(Ordering::Relaxed)), (0, 0), "nor is anybody asked");
    assert!(block_on(quota.authenticate("ana")).unwrap().identity().is_some());
    assert!(quota.try_admit(&by_token).unwrap().unwrap().allowed);
    // A rate would be counted twice.
    let with_rate = Request::by("ana").rate("api").costs(&[("jobs", 1)]);
    for _ in 0..5 {
        assert!(quota.try_admit(&with_rate).is_none());
    }
    assert_eq!(block_on(quota.admit(&with_rate)).unwrap().rates[0].window.remaining, 1);
    assert_eq!(used(), 2);

    let layered = Layered::new(Arc::new(MemoryStore::new()), Timeout::after(Duration::from_secs(5)));
    let quota = block_on(Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).open_on(Arc::new(layered))).unwrap();
    assert!(quota.try_admit(&Request::by("ana").costs(&[("jobs", 1)])).is_none(), "a layer may take its time");
}
