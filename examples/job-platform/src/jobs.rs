//! Jobs: made, run and removed. What they cost is charged, committed and given back at the same places.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use quotum::tower::Reserved;
use quotum::{Decision, Request, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::accounts::subject_of;
use crate::asks::RUN_MINUTES_MAX;
use crate::platform::Platform;
use crate::refusal::{Refusal, allowed};

/// The model that every plan may use. Others need the feature.
const STANDARD_MODEL: &str = "standard";

/// All jobs, by number.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    last: u64,
    jobs: BTreeMap<u64, Job>,
}

#[derive(Debug)]
struct Job {
    owner: Arc<str>,
    storage_mb: u64,
    /// When the first of the periods ends that it was charged to; none where it was not charged.
    charged_until: Option<Timestamp>,
    state: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    Queued,
    Running,
    Done,
}

impl Jobs {
    fn add(&mut self, job: Job) -> u64 {
        self.last += 1;
        self.jobs.insert(self.last, job);
        self.last
    }

    /// A job, if it is this owner's and in this state; from now on it is in another one.
    fn advance(&mut self, id: u64, owner: &str, from: Stage, to: Stage) -> Result<(), Refusal> {
        let job = self.jobs.get_mut(&id).filter(|job| *job.owner == *owner).ok_or_else(unknown)?;
        if job.state != from {
            return Err(Refusal::new(StatusCode::CONFLICT, "the job has been run already"));
        }
        job.state = to;
        Ok(())
    }

    /// Takes a job away that is not running. Whoever gets it gives back what it holds: nobody does so twice.
    fn take(&mut self, id: u64, owner: &str) -> Result<Job, Refusal> {
        let job = self.jobs.get(&id).filter(|job| *job.owner == *owner).ok_or_else(unknown)?;
        if job.state == Stage::Running {
            return Err(Refusal::new(StatusCode::CONFLICT, "the job is running"));
        }
        self.jobs.remove(&id).ok_or_else(unknown)
    }
}

fn unknown() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "you have no such job")
}

#[derive(Deserialize)]
pub(crate) struct NewJob {
    model: Option<String>,
    #[serde(default)]
    storage_mb: u64,
}

/// One decision on everything that a job needs: all of it is charged, or nothing.
pub(crate) async fn create(
    State(platform): State<Platform>,
    Extension(decision): Extension<Decision>,
    Json(job): Json<NewJob>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let owner = subject_of(&decision)?;
    let mut costs = vec![("jobs", 1), ("api_calls", 1)];
    costs.extend((job.storage_mb > 0).then_some(("storage_mb", job.storage_mb)));
    let mut request = Request::by(&owner).costs(&costs);
    if job.model.is_some_and(|model| model != STANDARD_MODEL) {
        request = request.feature("custom_models");
    }
    let decision = allowed(&platform, platform.quota.admit(&request).await)?;
    let jobs = decision.quotas.iter().filter(|state| &*state.metric == "jobs");
    let charged_until = jobs.filter_map(|state| state.resets_at).min();
    let job = Job { owner, storage_mb: job.storage_mb, charged_until, state: Stage::Queued };
    let id = platform.jobs.lock().add(job);
    Ok((StatusCode::CREATED, Json(json!({ "id": id, "state": Stage::Queued, "quotas": decision.quotas }))))
}

/// A job that never ran costs nothing in the month that it was made in: a refund goes to the month of now, which
/// a job of an earlier one was never charged to. What it has stored is free again in any case.
pub(crate) async fn remove(
    State(platform): State<Platform>,
    Extension(decision): Extension<Decision>,
    Path(id): Path<u64>,
) -> Result<StatusCode, Refusal> {
    let owner = subject_of(&decision)?;
    let job = platform.jobs.lock().take(id, &owner)?;
    let failed = |error| Refusal::failed(&platform, &error);
    let charged_now = job.charged_until.is_some_and(|until| platform.now() < until);
    if job.state == Stage::Queued && charged_now {
        platform.quota.refund(&owner, &[("jobs", 1)]).await.map_err(failed)?;
    }
    if job.storage_mb > 0 {
        platform.quota.give_back(&owner, &[("storage_mb", job.storage_mb)]).await.map_err(failed)?;
    }
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
pub(crate) struct Run {
    /// How long the work turns out to take: the example does none.
    minutes: u64,
}

/// Runs a job on minutes that are reserved, and pays for those it took.
pub(crate) async fn run(
    State(platform): State<Platform>,
    Extension(decision): Extension<Decision>,
    Extension(reserved): Extension<Reserved>,
    Path(id): Path<u64>,
    Json(run): Json<Run>,
) -> Result<Json<Value>, Refusal> {
    let owner = subject_of(&decision)?;
    if run.minutes > RUN_MINUTES_MAX {
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "a job may run for an hour"));
    }
    let reservation = reserved.take().ok_or_else(unknown)?;
    platform.jobs.lock().advance(id, &owner, Stage::Queued, Stage::Running)?;
    let shared = platform.clone();
    // On a task of its own: a client that goes away must not leave a job running for ever.
    let work = tokio::spawn(async move {
        let settled = reservation.commit(&[("compute_minutes", run.minutes)]).await;
        let outcome = if settled.is_ok() { Stage::Done } else { Stage::Queued };
        let advanced = shared.jobs.lock().advance(id, &owner, Stage::Running, outcome);
        advanced.map(|()| settled)
    });
    let stopped = |_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the platform is being stopped");
    let settled = work.await.map_err(stopped)??;
    let settlement = settled.map_err(|error| Refusal::failed(&platform, &error))?;
    Ok(Json(json!({ "id": id, "state": Stage::Done, "minutes": settlement.consumed("compute_minutes") })))
}
