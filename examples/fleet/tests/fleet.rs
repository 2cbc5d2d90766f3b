//! The program, run as a user runs it.

#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;

fn run(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}?synchronous=normal", folder.path().join("fleet.db").display());
    let program = env!("CARGO_BIN_EXE_fleet");
    let output = Command::new(program).args(["--store", &store, "--processes", "3"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn processes_use_up_a_leased_quota_together() {
    let told = run(&["--limit", "20000"]);
    assert!(told.contains("20000 of 20000 granted, 20000 used"), "{told}");
}

#[test]
fn processes_use_up_an_exact_quota_together() {
    let told = run(&["--limit", "2000", "--exact"]);
    assert!(told.contains("2000 of 2000 granted, 2000 used"), "{told}");
}
