//! The async engine: every verb, on tasks of one thread and without a runtime, answers as the blocking
//! engine does.

#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use futures_util::future::join_all;
use pollster::block_on;
use quotum::{ManualClock, Plans, Quota, Subscription, Timestamp};

const PLANS: &str = r#"
default_plan = "free"
[plans.free]
trial_days = 7
features = { excel = false, days = 7 }
quotas = { jobs = "100/day", calls = "5/month" }
[plans.pro]
rank = 1
features = { excel = true, days = 30 }
quotas = { jobs = "1000/day", calls = "50/month" }
"#;

fn open(folder: &tempfile::TempDir, plans_file: bool) -> Quota {
    let now: Timestamp = "2026-03-10T15:00:00Z".parse().unwrap();
    let mut builder = Quota::builder().clock(Arc::new(ManualClock::at(now)));
    if plans_file {
        let file = folder.path().join("plans.toml");
        std::fs::write(&file, PLANS).unwrap();
        builder = builder.plans_file(file);
    } else {
        builder = builder.plans(Plans::from_toml(PLANS).unwrap());
    }
    block_on(builder.open(&format!("sqlite:{}", folder.path().join("quota.db").display()))).unwrap()
}

#[test]
fn every_verb_works_from_a_task() {
    let folder = tempfile::tempdir().unwrap();
    let quota = open(&folder, true);
    block_on(async {
        assert!(quota.check("ana", &[("jobs", 60)]).await.unwrap().allowed);
        assert!(quota.consume("ana", &[("jobs", 60), ("calls", 1)]).await.unwrap().allowed);
        assert!(!quota.consume("ana", &[("jobs", 60)]).await.unwrap().allowed);
        assert_eq!(quota.refund("ana", &[("jobs", 20)]).await.unwrap().first().unwrap().used, 40);
        assert!(quota.consume("ana", &[("jobs", 60)]).await.unwrap().allowed);
        assert!(!quota.require("ana", "excel").await.unwrap().allowed);
        assert!(!quota.require_value("ana", "days", 30).await.unwrap().allowed);
        let trial = quota.subscription("ana").await.unwrap().unwrap();
        quota.subscribe("ana", Subscription::active("pro", trial.since)).await.unwrap();
        assert!(quota.require_value("ana", "days", 30).await.unwrap().allowed);
        assert_eq!(quota.feature("ana", "days").await.unwrap(), Some(30.into()));
        let usage = quota.usage("ana").await.unwrap();
        assert_eq!((&*usage.plan, usage.quotas.iter().map(|state| state.used).max()), ("pro", Some(100)));
        assert_eq!(quota.plans().await.unwrap().len(), 2);
        let cheap = PLANS.replace("100/day", "7/day");
        assert_eq!(quota.set_plans(&Plans::from_toml(&cheap).unwrap()).await.unwrap(), 1);
        quota.forget_subject("ana").await.unwrap();
        quota.clear_catalog();
        assert_eq!(quota.check("bob", &[("jobs", 1)]).await.unwrap().quota("jobs").unwrap().remaining, Some(7));
    });
}

#[test]
fn a_thousand_tasks_of_one_thread_grant_exactly_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let quota = open(&folder, false);
    let decisions = block_on(join_all((0..1_000).map(|_| quota.consume("ana", &[("jobs", 1)]))));
    assert_eq!(decisions.into_iter().filter(|decision| decision.as_ref().unwrap().allowed).count(), 100);
    assert_eq!(block_on(quota.usage("ana")).unwrap().quotas.iter().map(|state| state.used).max(), Some(100));
}
