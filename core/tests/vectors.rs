//! The shared vectors of `vectors/*.json`, run on a memory store and on a SQLite file. Python and Node run
//! the same files; `vectors/README.md` says what every key means.

#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

#[path = "vectors/bench.rs"]
mod bench;
#[path = "vectors/matching.rs"]
mod matching;
#[path = "vectors/verbs.rs"]
mod verbs;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use quotum::Period;
use serde_json::Value;

use crate::bench::{Bench, Kept};
use crate::matching::{mismatch, mismatch_of_error};

/// The keys of a step that are not its verb.
const BESIDE_THE_VERB: [&str; 6] = ["engine", "as", "by", "times", "expect", "expect_error"];

/// The keys of a vector.
const OF_A_VECTOR: [&str; 5] = ["name", "plans", "now", "settings", "steps"];

struct Vector {
    file: String,
    name: String,
    plans: Value,
    now: String,
    settings: Value,
    steps: Vec<Value>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

/// Every vector of every file, in the order of the files' names.
fn vectors() -> Vec<Vector> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect();
    files.sort();
    files.iter().flat_map(|path| read(path)).collect()
}

fn read(path: &Path) -> Vec<Vector> {
    let file = path.file_name().unwrap().to_string_lossy().into_owned();
    let text = std::fs::read_to_string(path).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    let vector = |vector: &Value| {
        let name = vector["name"].as_str().unwrap_or_else(|| panic!("{file}: a vector without a name")).to_owned();
        for key in vector.as_object().unwrap().keys() {
            assert!(OF_A_VECTOR.contains(&key.as_str()), "{file}, {name:?}: unknown key {key:?}");
        }
        let or_files = |key: &str| vector.get(key).or_else(|| document.get(key)).cloned();
        Vector {
            plans: or_files("plans").unwrap_or_else(|| panic!("{file}, {name:?}: no plans")),
            now: or_files("now").map_or("2026-03-10T15:00:00Z".into(), |now| now.as_str().unwrap().to_owned()),
            settings: or_files("settings").unwrap_or_default(),
            steps: vector["steps"].as_array().unwrap().clone(),
            file: file.clone(),
            name,
        }
    };
    document["vectors"].as_array().unwrap_or_else(|| panic!("{file}: no vectors")).iter().map(vector).collect()
}

/// Runs one vector; the message of the first step that does not answer as expected.
fn run(vector: &Vector, kept: Kept) -> Result<(), String> {
    let mut bench = Bench::new(&vector.plans, &vector.now, &vector.settings, kept);
    // What an engine does aside is done between two steps, so that a vector is the same in every run.
    quotum::collect_aside();
    for (index, step) in vector.steps.iter().enumerate() {
        quotum::take_aside().into_iter().for_each(|work| work());
        let at = || format!("{}, {:?}, on {kept:?}, step {}:\n  {step}", vector.file, vector.name, index + 1);
        let verb = verb_of(step).map_err(|message| format!("{}\n  {message}", at()))?;
        for time in 1..=step["times"].as_u64().unwrap_or(1) {
            let told = |message: String| format!("{} (time {time})\n  {message}", at());
            let answer = verbs::call(&mut bench, verb, &step[verb], step).map_err(told)?;
            check(step, &answer).map_err(told)?;
        }
    }
    Ok(())
}

/// The one key of a step that says what is done.
fn verb_of(step: &Value) -> Result<&str, String> {
    let keys = step.as_object().ok_or("a step is an object")?.keys().map(String::as_str);
    let verbs: Vec<&str> = keys.filter(|key| !BESIDE_THE_VERB.contains(key)).collect();
    match verbs[..] {
        [verb] => Ok(verb),
        _ => Err(format!("expected one verb, found {verbs:?}")),
    }
}

/// Compares what a step answered with what it expects: without an expectation, that it went well.
fn check(step: &Value, answer: &Result<Value, Value>) -> Result<(), String> {
    match (step.get("expect"), step.get("expect_error"), answer) {
        (Some(_), Some(_), _) => Err("expected either `expect` or `expect_error`".to_owned()),
        (_, Some(expected), Err(error)) => mismatch_of_error(expected, error),
        (_, Some(expected), Ok(found)) => Err(format!("expected the error {expected}\n  found {found}")),
        (_, None, Err(error)) => Err(format!("found the error {error}")),
        (Some(expected), None, Ok(found)) => mismatch(expected, found),
        (None, None, Ok(found)) if found.get("allowed") == Some(&Value::Bool(false)) => {
            Err(format!("expected it to be allowed\n  found {found}"))
        }
        (None, None, Ok(_)) => Ok(()),
    }
}

#[test]
fn every_vector_holds_on_every_store() {
    let vectors = vectors();
    let mut failures = Vec::new();
    for vector in &vectors {
        for kept in [Kept::InMemory, Kept::InSqlite] {
            failures.extend(run(vector, kept).err());
        }
    }
    assert!(failures.is_empty(), "{} failures\n\n{}\n", failures.len(), failures.join("\n\n"));
    assert!(bench::LEASES.load(Ordering::Relaxed) > 0, "no vector has leased anything");
}

#[test]
fn vectors_have_names_of_their_own_and_expect_something() {
    let mut names = BTreeSet::new();
    for vector in vectors() {
        assert!(names.insert(vector.name.clone()), "two vectors {:?}", vector.name);
        let expects = vector.steps.iter().any(|step| step.get("expect").or(step.get("expect_error")).is_some());
        assert!(expects, "{}, {:?} expects nothing", vector.file, vector.name);
    }
    assert!(names.len() >= 60, "{} vectors", names.len());
}

/// The vectors are the contract between three languages: what none of them uses is promised in none.
#[test]
fn the_vectors_cover_every_verb_reason_period_and_error() {
    let vectors = vectors();
    let verbs: BTreeSet<&str> = vectors.iter().flat_map(|v| &v.steps).map(|step| verb_of(step).unwrap()).collect();
    let missing: Vec<&&str> = verbs::ALL.iter().filter(|verb| !verbs.contains(*verb)).collect();
    assert!(missing.is_empty(), "no vector uses {missing:?}");

    let mut expected = BTreeSet::new();
    vectors.iter().flat_map(|v| &v.steps).for_each(|step| gather(step, &mut expected));
    let reasons = [
        "quota_exhausted",
        "never_fits",
        "feature_not_in_plan",
        "feature_value_exceeded",
        "trial_expired",
        "subscription_inactive",
        "rate_limited",
        "unauthenticated",
        "store_unavailable",
    ];
    for reason in reasons {
        assert!(expected.contains(&format!("reason {reason}")), "no vector expects {reason}");
    }
    for period in Period::ALL {
        assert!(expected.contains(&format!("period {period}")), "no vector expects a quota of a {period}");
    }
    for kind in ["invalid_argument", "unknown", "plans", "conflict", "hold_expired", "hold_unknown", "verify", "store"]
    {
        assert!(expected.contains(&format!("kind {kind}")), "no vector expects the error {kind}");
    }
}

/// Gathers the words that a step expects under the keys that say what is covered.
fn gather(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if let ("reason" | "period" | "kind", Value::String(word)) = (key.as_str(), value) {
                    into.insert(format!("{key} {word}"));
                }
                gather(value, into);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| gather(item, into)),
        _ => {}
    }
}
