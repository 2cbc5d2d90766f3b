//! A database with any bytes overwritten: it is refused, or it answers, and nothing breaks.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use quotum::blocking::Quota;
use quotum::store::{SqliteOptions, Store};
use quotum::{Error, Plans};

fn quota(store: impl Store) -> Result<Quota, Error> {
    let plans = "default_plan = 'a'\n[plans.a]\ntrial_days = 7\nquotas = { jobs = ['9/day', '90/total'] }";
    Quota::builder().plans(Plans::from_toml(plans)?).open_on(Arc::new(store))
}

static WHOLE: LazyLock<(tempfile::TempDir, Vec<u8>)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("whole.db");
    let quota = quota(SqliteOptions::at(&file).open().unwrap()).unwrap();
    for subject in 0..60 {
        assert!(quota.consume(&format!("subject-{subject}"), &[("jobs", 1)]).unwrap().allowed);
    }
    drop(quota);
    let bytes = std::fs::read(file).unwrap();
    (folder, bytes)
});

fuzz_target!(|edits: Vec<(u16, u8)>| {
    let (folder, whole) = &*WHOLE;
    let mut bytes = whole.clone();
    for (at, value) in edits {
        let at = usize::from(at) % bytes.len();
        bytes[at] = value;
    }
    let file = folder.path().join("damaged.db");
    for end in ["db-wal", "db-shm", "db-journal"] {
        let _ = std::fs::remove_file(file.with_extension(end));
    }
    std::fs::write(&file, bytes).unwrap();
    let Ok(store) = SqliteOptions::at(&file).open() else { return };
    let Ok(quota) = quota(store) else { return };
    for subject in ["subject-1", "subject-59", "new"] {
        match quota.consume(subject, &[("jobs", 1)]) {
            Ok(decision) => assert!(decision.quotas.iter().all(|state| state.used <= 90 || !decision.allowed)),
            Err(Error::Store(_) | Error::Unknown { .. } | Error::InvalidArgument { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
});
