//! How a change of counters comes into the log of a cluster, where the two are in different slots.
//!
//! No script can be on both, so there are four steps, each made whole or not at all and each harmless when it is made
//! again:
//!
//! 1. the account is *noted* beside the log as one that is about to have something to tell;
//! 2. the counters are changed, and the event is put into the account's *outbox*, in one script;
//! 3. the event is *moved* into the log, which remembers its name for a week so that it is appended once;
//! 4. it is taken out of the outbox, and what was noted is crossed out.
//!
//! What is promised: a change that was made is in the log before it is acknowledged, as long as the log's node answers.
//! Where it does not, or where the process dies in between, the change stands and its event is in the outbox, noted;
//! whoever reads the log ten seconds later or more, as every engine does all the time, moves it then, beside his reading.
//! An event is never lost unless a node loses what it had acknowledged, and it is logged twice only if it lay in an outbox for
//! more than a week after it was moved.

use redis::Value;

use super::failure::damaged;
use super::log::{kept, on_log};
use super::names::{Names, read, written};
use super::reply::Reply;
use super::script::{MOVE, NOTE, NOTED, OUTBOX, Step};
use super::server::Server;
use crate::store::{Call, StoreError};

/// What is noted of an account that is about to have something in its outbox.
pub(super) fn note(payer: &str, name: &str) -> String {
    format!("{}/{name}", written(payer))
}

fn noted_at(names: &Names) -> String {
    names.of("log:noted")
}

/// Notes it.
pub(super) async fn begin(server: &Server, names: &Names, call: Call, note: &str) -> Result<(), StoreError> {
    let step = Step::reading(&NOTE, call.now, vec![noted_at(names)]).with(note);
    server.make(&step).await.map(drop)
}

/// Moves everything in an account's outbox into the log, and crosses out what was noted.
pub(super) async fn empty(
    server: &Server,
    names: &Names,
    call: Call,
    payer: &str,
    note: &str,
) -> Result<(), StoreError> {
    let outbox = |moved: &[String]| {
        let step = Step::reading(&OUTBOX, call.now, vec![names.outbox(payer)]).with_number(moved.len() as i64);
        moved.iter().fold(step, |step, text| step.with(text.as_bytes()))
    };
    let mut left = texts(server.make(&outbox(&[])).await?)?;
    while !left.is_empty() {
        for text in &left {
            let (name, entry) = kept(names, text)?;
            let step = Step::reading(&MOVE, call.now, vec![names.of(&format!("log:moved:{name}"))]);
            server.make(&entry.append_to(on_log(step, names))).await?;
        }
        left = texts(server.make(&outbox(&left)).await?)?;
    }
    server.make(&Step::command("ZREM", noted_at(names)).with(note)).await.map(drop)
}

/// Moves what others have left behind, as far as their nodes answer.
pub(super) async fn mend(server: &Server, names: &Names, call: Call) -> Result<(), StoreError> {
    let noted = Step::reading(&NOTED, call.now, vec![noted_at(names)]);
    for note in texts(server.make(&noted).await?)? {
        let payer = note.rsplit_once('/').and_then(|(payer, _)| read(payer));
        let payer = payer.ok_or_else(|| damaged("what is noted", &note))?;
        // One whose node is away stays noted, and keeps nobody else from being told.
        let _left = empty(server, names, call, &payer, &note).await;
    }
    Ok(())
}

fn texts(value: Value) -> Result<Vec<String>, StoreError> {
    let mut reply = Reply::of("an outbox", value)?;
    let mut texts = Vec::new();
    while !reply.is_over() {
        texts.push(reply.text()?);
    }
    Ok(texts)
}
