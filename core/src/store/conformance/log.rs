//! Rules about the log.

use std::sync::Arc;

use super::{Broken, Case, NOW_S, charge, key, time};
use crate::decision::Reason;
use crate::event::{Event, EventName, EventQuery};
use crate::plan::Plans;
use crate::store::{Adjust, Adjustment};
use crate::subscription::Subscription;

fn event(name: EventName, subject: Option<&str>) -> Event {
    Event { subject: subject.map(Arc::from), ..Event::new(name, time(NOW_S)) }
}

async fn names(case: &Case, query: &EventQuery) -> Result<Vec<EventName>, Broken> {
    Ok(case.store.events(case.call(), query).await?.iter().map(|event| event.name).collect())
}

pub(super) async fn changes_are_logged_in_the_step_that_makes_them(case: &Case) -> Result<(), Broken> {
    use EventName::{EnforcementChanged, PlanChanged, SubscriptionChanged, UsageAdjusted};
    let plans = Plans::from_toml("default_plan = 'free'\n[plans.free]").map_err(|error| Broken(error.to_string()))?;
    let subscription = Subscription::active("free", time(NOW_S));
    let store = &case.store;
    store.put_plans(case.call(), &plans, &event(PlanChanged, None)).await?;
    store.put_subscription(case.call(), "ana", &subscription, &event(SubscriptionChanged, Some("ana"))).await?;
    let swapped = event(SubscriptionChanged, Some("bob"));
    store.swap_subscription(case.call(), "bob", None, &subscription, &swapped).await?;
    let grant = [Adjustment { key: key("ana", "jobs"), by: Adjust::Grant(1) }];
    store.adjust(case.call(), &grant, None, &event(UsageAdjusted, Some("ana"))).await?;
    store.record(case.call(), &[event(EnforcementChanged, None)]).await?;
    let found = names(case, &EventQuery::changes()).await?;
    let expected = [PlanChanged, SubscriptionChanged, SubscriptionChanged, UsageAdjusted, EnforcementChanged];
    expect_eq!(found, expected, "the changes");
    Ok(())
}

pub(super) async fn a_step_that_changes_nothing_logs_nothing(case: &Case) -> Result<(), Broken> {
    let subscription = Subscription::active("free", time(NOW_S));
    let changed = event(EventName::SubscriptionChanged, Some("ana"));
    let store = &case.store;
    store.swap_subscription(case.call(), "ana", Some(&subscription), &subscription, &changed).await?;
    let refund = [Adjustment { key: key("ana", "jobs"), by: Adjust::Refund(1) }];
    store.adjust(case.call(), &refund, None, &event(EventName::UsageAdjusted, Some("ana"))).await?;
    case.charge(&[charge(&key("ana", "jobs"), 1, 1)]).await?;
    expect_eq!(names(case, &EventQuery::all()).await?, [], "the log");
    Ok(())
}

pub(super) async fn events_read_back_equal_and_in_order(case: &Case) -> Result<(), Broken> {
    let full = Event {
        account: Some("acme".into()),
        actor: Some("ops@example.com".into()),
        source: Some("one".into()),
        plan: Some("pro".into()),
        reason: Some(Reason::QuotaExhausted),
        metric: Some("jobs".into()),
        period: Some(crate::Period::BillingMonth),
        used: Some(10),
        limit: Some(crate::UNITS_MAX),
        remaining: Some(0),
        resets_at: Some(time(NOW_S + 5)),
        upgrade_to: Some("max".into()),
        duration_us: Some(7),
        detail: Some(serde_json::json!({ "a": [1, null, "x\u{0}"] })),
        ..event(EventName::QuotaExhausted, Some("ana"))
    };
    let written = [event(EventName::UsageAdjusted, None), full, event(EventName::CacheEvicted, Some("\u{1f600}"))];
    for event in &written {
        case.store.record(case.call(), std::slice::from_ref(event)).await?;
    }
    let read = case.store.events(case.call(), &EventQuery::all()).await?;
    let rising = read.iter().zip(read.iter().skip(1)).all(|(one, next)| one.sequence < next.sequence);
    expect_eq!(rising && read.iter().all(|event| event.sequence > 0), true, "their places rise");
    let read: Vec<Event> = read.into_iter().map(|event| Event { sequence: 0, ..event }).collect();
    expect_eq!(read, written, "the events");
    Ok(())
}

pub(super) async fn events_are_found_by_what_is_asked_for(case: &Case) -> Result<(), Broken> {
    use EventName::{QuotaExhausted, RateLimited, UsageAdjusted};
    let written = [
        event(UsageAdjusted, Some("ana")),
        event(QuotaExhausted, Some("ana")),
        event(UsageAdjusted, Some("bob")),
        event(RateLimited, None),
    ];
    case.store.record(case.call(), &written).await?;
    let all = case.store.events(case.call(), &EventQuery::all()).await?;
    let places: Vec<u64> = all.iter().map(|event| event.sequence).collect();
    let query = EventQuery::all;
    let queries = [
        (query(), vec![0, 1, 2, 3]),
        (EventQuery { newest_first: true, ..query() }, vec![3, 2, 1, 0]),
        (EventQuery { limit: 2, ..query() }, vec![0, 1]),
        (EventQuery { newest_first: true, limit: 1, ..query() }, vec![3]),
        (EventQuery { after: places.get(1).copied().unwrap_or(0), ..query() }, vec![2, 3]),
        (EventQuery { after: u64::MAX, ..query() }, vec![]),
        (EventQuery { subject: Some("ana".into()), ..query() }, vec![0, 1]),
        (EventQuery { name: Some(UsageAdjusted), ..query() }, vec![0, 2]),
        (EventQuery { name: Some(UsageAdjusted), subject: Some("bob".into()), ..query() }, vec![2]),
        (EventQuery::changes(), vec![0, 2]),
        (EventQuery { newest_first: true, limit: 1, ..EventQuery::changes() }, vec![2]),
    ];
    for (query, expected) in queries {
        let found = case.store.events(case.call(), &query).await?;
        let found: Vec<_> =
            found.iter().map(|event| places.iter().position(|place| *place == event.sequence)).collect();
        let expected: Vec<_> = expected.into_iter().map(Some).collect();
        expect_eq!(found, expected, format!("{query:?}"));
    }
    Ok(())
}

pub(super) async fn recorded_events_are_no_changes(case: &Case) -> Result<(), Broken> {
    let many: Vec<Event> = (0..500).map(|_| event(EventName::RateLimited, Some("ana"))).collect();
    case.store.record(case.call(), &many).await?;
    case.store.record(case.call(), &[event(EventName::UsageAdjusted, None)]).await?;
    expect_eq!(names(case, &EventQuery::changes()).await?, [EventName::UsageAdjusted], "the changes");
    Ok(())
}
