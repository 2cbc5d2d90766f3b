//! Plans, and who is on which.

use std::collections::BTreeMap;

use super::keys::{Key, text_of};
use super::transaction::{Transaction, damaged, read};
use crate::event::Event;
use crate::plan::Plans;
use crate::store::{Census, StoreError, StoredPlans, Subscriber, SubscriberQuery};
use crate::subscription::Subscription;

impl Transaction<'_> {
    pub(super) fn plans(&mut self) -> Result<Option<StoredPlans>, StoreError> {
        let Some(version) = self.get(&plans_version(), "the plans' version")? else { return Ok(None) };
        let document: Option<serde_json::Value> = self.get(&Key::of("plans"), "the plans")?;
        let document = document.ok_or_else(|| damaged("the plans", &"there is only their version"))?;
        let plans = Plans::from_json(&document.to_string()).map_err(|error| damaged("the plans", &error))?;
        Ok(Some(StoredPlans { version, plans }))
    }

    pub(super) fn put_plans(&mut self, plans: &Plans, event: &Event) -> Result<u64, StoreError> {
        let version = self.get(&plans_version(), "the plans' version")?.unwrap_or(0_u64).saturating_add(1);
        let document: serde_json::Value = read(plans.to_json().as_bytes(), "the plans")?;
        self.put(&Key::of("plans"), &document)?;
        self.put(&plans_version(), &version)?;
        self.append(std::slice::from_ref(event))?;
        Ok(version)
    }

    pub(super) fn subscription(&mut self, subject: &str) -> Result<Option<Subscription>, StoreError> {
        self.get(&place(subject), "a subscription")
    }

    pub(super) fn put_subscription(
        &mut self,
        subject: &str,
        subscription: &Subscription,
        event: &Event,
    ) -> Result<(), StoreError> {
        self.put(&place(subject), subscription)?;
        self.append(std::slice::from_ref(event))
    }

    pub(super) fn swap_subscription(
        &mut self,
        subject: &str,
        from: Option<&Subscription>,
        to: &Subscription,
        event: &Event,
    ) -> Result<Option<Subscription>, StoreError> {
        let found = self.subscription(subject)?;
        if found.as_ref() != from {
            return Ok(found);
        }
        self.put_subscription(subject, to, event)?;
        Ok(Some(to.clone()))
    }

    pub(super) fn subscribers(&mut self, query: &SubscriberQuery) -> Result<Vec<Subscriber>, StoreError> {
        let mut found = Vec::new();
        let after =
            query.after.as_ref().map_or_else(|| subscriptions().as_bytes().to_vec(), |after| place(after).end());
        if query.limit > 0 {
            self.walk(&after, &subscriptions().end(), |key, value| {
                let (subject, subscription) = subscriber(key, value)?;
                if query.wants(&subject, &subscription) {
                    found.push(Subscriber { subject: subject.into(), subscription });
                }
                Ok(found.len() < query.limit)
            })?;
        }
        Ok(found)
    }

    pub(super) fn census(&mut self) -> Result<Vec<Census>, StoreError> {
        let mut counts = BTreeMap::new();
        self.walk(subscriptions().as_bytes(), &subscriptions().end(), |key, value| {
            let (_, Subscription { plan, status, .. }) = subscriber(key, value)?;
            *counts.entry((plan, status)).or_insert(0) += 1;
            Ok(true)
        })?;
        Ok(counts.into_iter().map(|((plan, status), subjects)| Census { plan, status, subjects }).collect())
    }
}

fn plans_version() -> Key {
    Key::of("plans_version")
}

fn subscriptions() -> Key {
    Key::of("subscription")
}

fn place(subject: &str) -> Key {
    subscriptions().text(subject)
}

fn subscriber(key: &Key, value: &[u8]) -> Result<(String, Subscription), StoreError> {
    let parts = key.parts().unwrap_or_default();
    let subject = parts.last().and_then(|part| text_of(part));
    let subject = subject.ok_or_else(|| damaged("a subscription", &"its key is none of ours"))?;
    Ok((subject.to_owned(), read(value, "a subscription")?))
}
