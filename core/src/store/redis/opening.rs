//! Whether a server may be used at all.

use redis::ErrorKind;

use super::failure::text;
use super::names::Names;
use super::reply::number;
use super::script::{OPEN, Step};
use super::server::Server;
use crate::error::Retry;
use crate::store::StoreError;

/// The layout of the keys under a prefix that this library knows.
const LAYOUT: i64 = 1;

/// The oldest server that has all that the scripts need.
const MAJOR_MIN: u32 = 7;

/// Checks the server, and notes the layout of its keys where there is none.
pub(super) async fn prepare(server: &Server, names: &Names, name: &str) -> Result<(), StoreError> {
    let cannot = |detail: String| StoreError::CannotOpen { name: name.to_owned(), detail };
    let unreached = |error: StoreError| match error {
        StoreError::Failed { detail, .. } => cannot(advice(&detail)),
        other => cannot(format!("{other}: correct its address, or start the server")),
    };
    match server.describe().await.map_err(unreached)? {
        Ok(nodes) => nodes.iter().try_for_each(|node| check(node, server.is_cluster())).map_err(cannot)?,
        Err(error) => return Err(cannot(refused(&error))),
    }
    let step = Step::of(&OPEN, jiff::Timestamp::UNIX_EPOCH, vec![names.of("layout")]).with_number(LAYOUT);
    let found = server.make(&step).await.map_err(|error| match error {
        StoreError::Failed { detail, retry: Retry::Never } => {
            cannot(format!("{detail}: let the user run scripts on keys of the prefix"))
        }
        other => other,
    })?;
    let foreign = |_| StoreError::Foreign { name: format!("the prefix of {name}") };
    match number("the layout", &found).map_err(foreign)? {
        LAYOUT => Ok(()),
        found => Err(StoreError::NewerSchema { name: name.to_owned(), found, known: LAYOUT }),
    }
}

/// What stands against using a server that describes itself so.
fn check(node: &str, as_cluster: bool) -> Result<(), String> {
    let field = |name: &str| {
        node.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim).unwrap_or_default()
    };
    let version = field("redis_version");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < MAJOR_MIN) {
        return Err(format!("its version is {version}: update it to {MAJOR_MIN} or newer"));
    }
    let policy = field("maxmemory_policy");
    if !matches!(policy, "" | "noeviction") {
        return Err(format!(
            "it would drop counters when its memory is full, and so grant units twice: \
             set maxmemory-policy to noeviction, it is {policy}"
        ));
    }
    if field("role") == "slave" {
        return Err("it is a replica and takes no changes: give the address of the primary".to_owned());
    }
    match (field("cluster_enabled"), as_cluster) {
        ("1", false) => Err("it is a node of a cluster: add `cluster=true` to the URL".to_owned()),
        ("0", true) => Err("it is no node of a cluster: leave `cluster=true` out of the URL".to_owned()),
        _ => Ok(()),
    }
}

/// Why there is no connection, and what to do.
fn advice(detail: &str) -> String {
    let has = |text: &str| detail.contains(text);
    let what = if has("WRONGPASS") || has("invalid password") || has("NOAUTH") || has("uthenticat") {
        "correct the user's name and password"
    } else if has("ertificate") {
        "name the authority that has signed its certificate with `ca=file.pem` in the URL"
    } else {
        "correct its address, or start the server"
    };
    format!("{detail}: {what}")
}

/// Why the server does not say what it is, and what to do.
fn refused(error: &redis::RedisError) -> String {
    let detail = text(error);
    match error.kind() {
        ErrorKind::Server(redis::ServerErrorKind::NoPerm) => {
            format!("{detail}: let the user run INFO, and scripts on keys of the prefix")
        }
        _ if error.code() == Some("NOAUTH") => format!("{detail}: give the user's name and password in the URL"),
        _ => advice(&detail),
    }
}
