//! Verbs: what an engine can be asked to do, and with what, once for all.

use napi::bindgen_prelude::Either;
use napi_derive::napi;
use quotum::store::SubscriberQuery;
use quotum::{Enforcement, Error, Event, EventName, EventQuery, Overrides, Quota, Settlement, Status};
use serde::{Deserialize, Serialize};

use crate::bell::Bell;
use crate::ending::end;
use crate::home::{Home, Of};
use crate::outcome::{Failure, Outcome, closed};
use crate::rate::Limited;
use crate::request::Asked;
use crate::task::{Begun, Tasks, Work, work};
use crate::wire::{Costs, Key, Source, Subscribed};

/// What an engine is asked.
#[derive(Deserialize)]
#[serde(tag = "verb", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Ask {
    Admit(Asked),
    /// Settles what this home has reserved, or what has this name.
    Commit {
        number: Option<u32>,
        id: Option<String>,
        actual: Costs,
    },
    Release {
        number: Option<u32>,
        id: Option<String>,
    },
    Detach {
        number: u32,
    },
    Refund {
        subject: String,
        costs: Costs,
    },
    GiveBack {
        subject: String,
        costs: Costs,
    },
    Grant {
        subject: String,
        costs: Costs,
    },
    ResetUsage {
        subject: String,
        metric: String,
    },
    Usage {
        subject: String,
    },
    Feature {
        subject: String,
        name: String,
    },
    Rate {
        scope: String,
        key: Key,
        cost: u64,
    },
    RefundRate {
        scope: String,
        key: Key,
        units: u64,
    },
    ClearRates {
        key: Key,
    },
    Plans,
    SetPlans {
        plans: Source,
    },
    ClearCatalog,
    CatalogStatus,
    Subscription {
        subject: String,
    },
    Subscribe {
        subject: String,
        subscription: Subscribed,
    },
    Cancel {
        subject: String,
    },
    SetOverrides {
        subject: String,
        overrides: Overrides,
    },
    SetEnforcement {
        mode: Enforcement,
        metric: Option<String>,
    },
    Subscribers {
        after: Option<String>,
        containing: Option<String>,
        plan: Option<String>,
        status: Option<Status>,
        account: Option<String>,
        limit: usize,
    },
    Census,
    Events {
        #[serde(default)]
        after: u64,
        subject: Option<String>,
        name: Option<EventName>,
        #[serde(default)]
        changes_only: bool,
        #[serde(default)]
        newest_first: bool,
        limit: usize,
    },
    ForgetToken {
        token: String,
    },
    ForgetSubject {
        subject: String,
    },
    ActingAs {
        actor: String,
    },
    Subject {
        id: String,
    },
    Now,
    EventsDropped,
    TokenStats,
    Metrics,
    Close,
}

/// What a reservation has come to, with units by metric.
#[derive(Serialize)]
struct Settled {
    at: quotum::Timestamp,
    repeated: bool,
    consumed: std::collections::BTreeMap<String, u64>,
    overage: std::collections::BTreeMap<String, u64>,
}

impl From<Settlement> for Settled {
    fn from(settlement: Settlement) -> Self {
        let by_metric = |units: &dyn Fn(&str) -> u64| {
            settlement.parts.iter().map(|part| (part.key.metric.to_string(), units(&part.key.metric))).collect()
        };
        Self {
            at: settlement.at,
            repeated: settlement.repeated,
            consumed: by_metric(&|metric| settlement.consumed(metric)),
            overage: by_metric(&|metric| settlement.overage(metric)),
        }
    }
}

/// An event, and its place in the store's log.
#[derive(Serialize)]
struct Logged {
    sequence: u64,
    #[serde(flatten)]
    event: Event,
}

impl From<Event> for Logged {
    fn from(event: Event) -> Self {
        Self { sequence: event.sequence, event }
    }
}

/// Work whose finding is told as it is.
fn told<T, F>(found: F) -> Begin
where
    T: Serialize + Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    Begin::Work(work(found, |_, found| Outcome::value(&found)))
}

/// What a verb comes to, to begin with.
enum Begin {
    Done(Outcome),
    Work(Work),
}

fn done<T: Serialize>(result: Result<T, Error>) -> Begin {
    Begin::Done(Outcome::of(result))
}

impl Ask {
    fn begin(self, home: &Home, engine: u32) -> Begun {
        if let Self::Admit(asked) = self {
            return asked.begin(home, engine);
        }
        let begin = match home.engine(engine) {
            Some(engine) => self.work(home, engine),
            // Closing twice is no mistake.
            None if matches!(self, Self::Close) => done(Ok(())),
            None => {
                self.let_go(home);
                Begin::Done(closed())
            }
        };
        match begin {
            Begin::Done(outcome) => Begun::Done(outcome),
            Begin::Work(work) => Tasks::begin(home, work),
        }
    }

    /// Lets go of a reservation that was made while its engine was being closed.
    fn let_go(self, home: &Home) {
        let (Self::Commit { number, .. } | Self::Release { number, .. }) = self else { return };
        if let Some(open) = number.and_then(|number| home.reservations.remove(number)) {
            end(open);
        }
    }

    fn work(self, home: &Home, Of { value: quota, opening }: Of<Quota>) -> Begin {
        match self {
            Self::Admit(_) => done::<()>(Ok(())),
            Self::Commit { number, id, actual } => commit(home, quota, number, id, actual),
            Self::Release { number, id } => release(home, quota, number, id),
            Self::Detach { number } => {
                let open = home.reservations.remove(number);
                done(Ok(open.and_then(|open| open.value.detach()).map(|id| id.to_string())))
            }
            Self::Refund { subject, costs } => told(async move { quota.refund(&subject, &costs.borrowed()).await }),
            Self::GiveBack { subject, costs } => {
                told(async move { quota.give_back(&subject, &costs.borrowed()).await })
            }
            Self::Grant { subject, costs } => told(async move { quota.grant(&subject, &costs.borrowed()).await }),
            Self::ResetUsage { subject, metric } => told(async move { quota.reset_usage(&subject, &metric).await }),
            Self::Usage { subject } => told(async move { quota.usage(&subject).await }),
            Self::Feature { subject, name } => told(async move { quota.feature(&subject, &name).await }),
            Self::Rate { scope, key, cost } => {
                let name = scope.clone();
                let found = async move { quota.rate(&scope, key.borrowed()?, cost).await };
                Begin::Work(work(found, move |home, found| {
                    home.names.borrow_mut().learn_scope(&name);
                    Outcome::value(&Limited::of(&name, &found))
                }))
            }
            Self::RefundRate { scope, key, units } => {
                let name = scope.clone();
                let found = async move { quota.refund_rate(&scope, key.borrowed()?, units).await };
                Begin::Work(work(found, move |_, found| Outcome::value(&Limited::of(&name, &found))))
            }
            Self::ClearRates { key } => told(async move { quota.clear_rates(key.borrowed()?).await }),
            Self::Plans => told(async move { quota.plans().await }),
            Self::SetPlans { plans } => set_plans(quota, plans),
            Self::ClearCatalog => {
                quota.clear_catalog();
                done(Ok(()))
            }
            Self::CatalogStatus => done(Ok(quota.catalog_status())),
            Self::Subscription { subject } => told(async move { quota.subscription(&subject).await }),
            Self::Subscribe { subject, subscription } => {
                let subscription = subscription.at(quota.now());
                told(async move { quota.subscribe(&subject, subscription).await })
            }
            Self::Cancel { subject } => told(async move { quota.cancel(&subject).await }),
            Self::SetOverrides { subject, overrides } => {
                told(async move { quota.set_overrides(&subject, overrides).await })
            }
            Self::SetEnforcement { mode, metric } => {
                told(async move { quota.set_enforcement(metric.as_deref(), mode).await })
            }
            Self::Subscribers { after, containing, plan, status, account, limit } => {
                let query = SubscriberQuery { after: after.map(Into::into), containing, plan, status, account, limit };
                told(async move { quota.subscribers(&query).await })
            }
            Self::Census => told(async move { quota.census().await }),
            Self::Events { after, subject, name, changes_only, newest_first, limit } => {
                let subject = subject.map(Into::into);
                let query = EventQuery { after, subject, name, changes_only, newest_first, limit };
                told(async move { Ok(quota.events(&query).await?.into_iter().map(Logged::from).collect::<Vec<_>>()) })
            }
            Self::ForgetToken { token } => told(async move { quota.forget_token(&token).await }),
            Self::ForgetSubject { subject } => told(async move { quota.forget_subject(&subject).await }),
            Self::ActingAs { actor } => done(Ok(home.engines.insert(Of::new(quota.acting_as(&actor), opening)))),
            Self::Subject { id } => {
                done(quota.subject(&id).map(|subject| home.subjects.insert(Of::new(subject, opening))))
            }
            Self::Now => done(Ok(quota.now())),
            Self::EventsDropped => done(Ok(quota.events_dropped())),
            Self::TokenStats => done(Ok(quota.token_stats())),
            Self::Metrics => done(Ok(quota.metrics())),
            Self::Close => {
                home.close(opening);
                told(async move { quota.close().await })
            }
        }
    }
}

fn commit(home: &Home, quota: Quota, number: Option<u32>, id: Option<String>, actual: Costs) -> Begin {
    let open = number.and_then(|number| home.reservations.remove(number)).map(|open| open.value);
    match (open, id) {
        (Some(open), _) => told(async move { open.commit(&actual.borrowed()).await.map(Settled::from) }),
        (None, Some(id)) => told(async move { quota.commit(id.parse()?, &actual.borrowed()).await.map(Settled::from) }),
        (None, None) => Begin::Done(settled_already()),
    }
}

fn release(home: &Home, quota: Quota, number: Option<u32>, id: Option<String>) -> Begin {
    let open = number.and_then(|number| home.reservations.remove(number)).map(|open| open.value);
    match (open, id) {
        (Some(open), _) => told(async move { open.release().await.map(Settled::from) }),
        (None, Some(id)) => told(async move { quota.release(id.parse()?).await.map(Settled::from) }),
        (None, None) => Begin::Done(settled_already()),
    }
}

fn settled_already() -> Outcome {
    let message = "this reservation held nothing, and was settled already".to_owned();
    Outcome::failure(&Failure::new("hold_unknown", message))
}

/// A file is read on a thread of its own: no event loop is to wait for a disk.
fn set_plans(quota: Quota, plans: Source) -> Begin {
    told(async move {
        let plans = crate::plans::read_aside(plans).await?;
        quota.set_plans(&plans).await
    })
}

/// Has an event told to a function of the host's.
pub(crate) fn tell_event(bell: &Bell, function: u32, event: &Event) {
    bell.tell(function, serde_json::to_string(event).unwrap_or_default());
}

/// Asks an engine to do what a text of JSON says: the outcome, or the number of a task.
#[napi(catch_unwind)]
pub(crate) fn ask(home: u32, engine: u32, text: String) -> napi::Result<Either<u32, String>> {
    let home = Home::of(home)?;
    let begun = match serde_json::from_str::<Ask>(&text) {
        Ok(ask) => ask.begin(&home, engine),
        Err(error) => Begun::Done(Outcome::failure(&Failure::new("invalid_argument", error.to_string()))),
    };
    Ok(begun.into())
}
