//! The program, run as a user runs it, on every store that several processes can share.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../../core/tests/servers/mod.rs"]
mod servers;

use std::process::Command;

fn run(store: &str, arguments: &[&str]) -> String {
    let program = env!("CARGO_BIN_EXE_fleet");
    let output = Command::new(program).args(["--store", store, "--processes", "3"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Processes use up a leased quota together, and an exact one.
fn use_up(store: &str) {
    let told = run(store, &["--limit", "20000"]);
    assert!(told.contains("20000 of 20000 granted, 20000 used"), "{told}");
    let told = run(store, &["--limit", "2000", "--exact"]);
    assert!(told.contains("2000 of 2000 granted, 2000 used"), "{told}");
}

#[test]
fn processes_use_up_a_quota_together_in_one_file() {
    let folder = tempfile::tempdir().unwrap();
    use_up(&format!("sqlite:{}?synchronous=normal", folder.path().join("fleet.db").display()));
}

#[cfg(feature = "postgres")]
#[test]
fn processes_use_up_a_quota_together_on_postgres() {
    let server = servers::Postgres::start_hasty();
    use_up(&server.url());
}

#[cfg(feature = "redis")]
#[test]
fn processes_use_up_a_quota_together_on_redis() {
    let server = servers::Redis::start();
    use_up(&server.url());
}
