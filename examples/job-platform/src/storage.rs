//! Storage: files that fill a level, which goes down again when they are removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use quotum::Decision;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::accounts::subject_of;
use crate::platform::Platform;
use crate::refusal::{Refusal, allowed};

/// The sizes of all files in megabytes, by owner and name.
pub(crate) type Files = BTreeMap<(Arc<str>, String), u64>;

#[derive(Deserialize)]
pub(crate) struct NewFile {
    name: String,
    mb: u64,
}

pub(crate) async fn put(
    State(platform): State<Platform>,
    Extension(decision): Extension<Decision>,
    Json(file): Json<NewFile>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let owner = subject_of(&decision)?;
    if file.mb == 0 {
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "a file has a megabyte or more"));
    }
    let decision = allowed(&platform, platform.quota.consume(&owner, &[("storage_mb", file.mb)]).await)?;
    let key = (Arc::clone(&owner), file.name);
    let replaced = platform.files.lock().insert(key, file.mb);
    // The new file was charged whole, so the old one is given back whole.
    if let Some(mb) = replaced {
        free(&platform, &owner, mb).await?;
    }
    Ok((StatusCode::CREATED, Json(json!({ "quotas": decision.quotas }))))
}

pub(crate) async fn remove(
    State(platform): State<Platform>,
    Extension(decision): Extension<Decision>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    let owner = subject_of(&decision)?;
    let removed = platform.files.lock().remove(&(Arc::clone(&owner), name));
    let mb = removed.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "you have no such file"))?;
    free(&platform, &owner, mb).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn free(platform: &Platform, owner: &str, mb: u64) -> Result<(), Refusal> {
    let freed = platform.quota.give_back(owner, &[("storage_mb", mb)]).await;
    freed.map(drop).map_err(|error| Refusal::failed(platform, &error))
}
