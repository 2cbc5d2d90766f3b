//! Rules about plans and subscriptions.

use std::sync::Arc;

use jiff::Timestamp;
use pollster::block_on;

use super::{Broken, Case, NOW_S, at_once, changed, key, time};
use crate::plan::Plans;
use crate::store::{Census, Subscriber, SubscriberQuery};
use crate::subscription::{Status, Subscription};

pub(super) async fn a_new_store_is_empty(case: &Case) -> Result<(), Broken> {
    expect_eq!(case.store.plans(case.call()).await?, None, "plans");
    expect_eq!(case.store.subscription(case.call(), "ana").await?, None, "subscription");
    expect_eq!(case.used(&key("ana", "jobs")).await?, Some(0), "used");
    Ok(())
}

pub(super) async fn plans_read_back_equal_and_their_version_rises(case: &Case) -> Result<(), Broken> {
    let mut last = 0;
    for units in [5, 7] {
        let text = format!(
            r#"
            default_plan = "free"
            zone = "America/Sao_Paulo"
            grace_days = 3
            when_lapsed = "deny"
            [plans.free]
            name = "Grátis"
            names = {{ en = "Free" }}
            quotas = {{ jobs = ["{units}/day", "100/billing_month"], exports = "unlimited", calls = "unlimited/year" }}
            rates = {{ api = ["10/minute burst 3", "100/15 minutes"], all = {{ limits = "5/second", shared = true }}, login = {{ limits = "5/hour", algorithm = "fixed_window" }} }}
            rate_multiplier = 2
            member_quotas = {{ jobs = "2/day" }}
            allow_degraded = {{ jobs = 3 }}
            lease = {{ jobs = {{ max = 50, ttl_s = 3 }} }}
            features = {{ excel = false, days = 30, priority = "low" }}
            [plans.pro]
            rank = 1
            visible = false
            trial_days = 14
            prices = {{ monthly = "BRL 297.00" }}
            stripe_prices = {{ monthly = "price_1" }}
            "#
        );
        let plans = Plans::from_toml(&text).map_err(|error| Broken(error.to_string()))?;
        let version = case.store.put_plans(case.call(), &plans, &changed()).await?;
        expect_eq!(version > last, true, "the version rises");
        last = version;
        let stored = case.store.plans(case.call()).await?;
        expect_eq!(stored.as_ref().map(|stored| stored.version), Some(version), "version");
        expect_eq!(stored.map(|stored| stored.plans), Some(plans), "plans");
    }
    Ok(())
}

pub(super) async fn subscriptions_read_back_equal(case: &Case) -> Result<(), Broken> {
    for status in [Status::Trialing, Status::Active, Status::PastDue, Status::Paused, Status::Canceled] {
        let mut bare = Subscription::active("pro", time(NOW_S));
        bare.status = status;
        let mut full = bare.clone();
        full.trial_ends_at = Timestamp::from_millisecond(NOW_S * 1_000 + 1).ok();
        full.expires_at = Some(time(-1));
        full.anchor = Some(time(NOW_S - 86_400));
        full.zone = Some("Asia/Kathmandu".to_owned());
        full.overrides.features.insert("excel".to_owned(), true.into());
        full.overrides.features.insert("days".to_owned(), 90.into());
        full.overrides.features.insert("priority".to_owned(), "high".into());
        for (name, written) in [("bare", bare), ("full", full)] {
            case.store.put_subscription(case.call(), name, &written, &changed()).await?;
            expect_eq!(case.store.subscription(case.call(), name).await?, Some(written), name);
        }
    }
    Ok(())
}

pub(super) async fn a_put_subscription_replaces_the_one_before(case: &Case) -> Result<(), Broken> {
    for plan in ["free", "pro"] {
        let written = Subscription::active(plan, time(NOW_S));
        case.store.put_subscription(case.call(), "ana", &written, &changed()).await?;
        expect_eq!(case.store.subscription(case.call(), "ana").await?, Some(written), plan);
    }
    expect_eq!(case.store.subscription(case.call(), "an").await?, None, "another subject");
    Ok(())
}

pub(super) async fn a_swapped_subscription_replaces_only_what_was_expected(case: &Case) -> Result<(), Broken> {
    let [first, second, third] = [1, 2, 3].map(|after| Subscription::active("free", time(NOW_S + after)));
    let swap = async |from: Option<&Subscription>, to: &Subscription| {
        case.store.swap_subscription(case.call(), "ana", from, to, &changed()).await
    };
    expect_eq!(swap(Some(&second), &first).await?, None, "of a subject that has none");
    expect_eq!(swap(None, &first).await?.as_ref(), Some(&first), "none by the first");
    expect_eq!(swap(None, &second).await?.as_ref(), Some(&first), "none by the second");
    expect_eq!(swap(Some(&second), &third).await?.as_ref(), Some(&first), "the second by the third");
    expect_eq!(swap(Some(&first), &second).await?.as_ref(), Some(&second), "the first by the second");
    expect_eq!(case.store.subscription(case.call(), "ana").await?, Some(second), "what is kept");
    Ok(())
}

pub(super) async fn of_many_who_swap_at_once_one_does(case: &Case) -> Result<(), Broken> {
    let swapped = at_once(|thread, round| {
        let own = Subscription::active("free", time(NOW_S + (thread * 100 + round) as i64));
        let subject = format!("ana-{round}");
        let kept = block_on(case.store.swap_subscription(case.call(), &subject, None, &own, &changed()))?;
        Ok(kept == Some(own))
    })?;
    expect_eq!(swapped, 30, "one for each subject");
    Ok(())
}

pub(super) async fn subscribers_are_listed_in_order_and_in_pages(case: &Case) -> Result<(), Broken> {
    for (subject, plan, account) in
        [("carl", "pro", None), ("ana", "free", Some("acme")), ("b%b", "pro", Some("acme")), ("dora", "free", None)]
    {
        let mut written = Subscription::active(plan, time(NOW_S));
        written.account = account.map(str::to_owned);
        case.store.put_subscription(case.call(), subject, &written, &changed()).await?;
    }
    let all = SubscriberQuery::all();
    let queries = [
        (all.clone(), "ana b%b carl dora"),
        (SubscriberQuery { limit: 2, ..all.clone() }, "ana b%b"),
        (SubscriberQuery { after: Some(Arc::from("b%b")), ..all.clone() }, "carl dora"),
        (SubscriberQuery { after: Some(Arc::from("b%b")), limit: 1, ..all.clone() }, "carl"),
        (SubscriberQuery { plan: Some("pro".to_owned()), ..all.clone() }, "b%b carl"),
        (SubscriberQuery { status: Some(Status::Active), ..all.clone() }, "ana b%b carl dora"),
        (SubscriberQuery { status: Some(Status::Paused), ..all.clone() }, ""),
        (SubscriberQuery { account: Some("acme".to_owned()), ..all.clone() }, "ana b%b"),
        (SubscriberQuery { containing: Some("a".to_owned()), ..all.clone() }, "ana carl dora"),
        (SubscriberQuery { containing: Some("%".to_owned()), ..all.clone() }, "b%b"),
        (SubscriberQuery { containing: Some("A".to_owned()), ..all.clone() }, ""),
        (SubscriberQuery { limit: 0, ..all }, ""),
    ];
    for (query, expected) in queries {
        let found = case.store.subscribers(case.call(), &query).await?;
        let subjects: Vec<&str> = found.iter().map(|subscriber| &*subscriber.subject).collect();
        expect_eq!(subjects.join(" "), expected, format!("{query:?}"));
        for Subscriber { subject, subscription } in found {
            expect_eq!(case.store.subscription(case.call(), &subject).await?, Some(subscription), subject);
        }
    }
    Ok(())
}

pub(super) async fn subscribers_are_counted_by_plan_and_state(case: &Case) -> Result<(), Broken> {
    expect_eq!(case.store.census(case.call()).await?, [], "of nobody");
    let statuses = [Status::Active, Status::Paused, Status::Active];
    for (number, status) in statuses.into_iter().enumerate() {
        for plan in ["free", "pro"] {
            let mut written = Subscription::active(plan, time(NOW_S));
            written.status = status;
            case.store.put_subscription(case.call(), &format!("{plan}-{number}"), &written, &changed()).await?;
        }
    }
    let line = |plan: &str, status, subjects| Census { plan: plan.to_owned(), status, subjects };
    let mut expected = Vec::new();
    for plan in ["free", "pro"] {
        expected.extend([line(plan, Status::Active, 2), line(plan, Status::Paused, 1)]);
    }
    expect_eq!(case.store.census(case.call()).await?, expected, "the census");
    Ok(())
}
