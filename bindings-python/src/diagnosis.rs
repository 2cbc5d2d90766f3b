//! Diagnoses: what the core warns its operator of, told to Python's `logging`.
//!
//! The events of requests are the listener's, see `Quota.open`; these are about the engine itself, such as plans that
//! cannot be refreshed. They are few. Whoever warns may hold a lock of the core's, and so must not wait for the
//! interpreter: a thread of its own tells them.

use std::fmt::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use parking_lot::Mutex;
use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, Subscriber};
use tracing::{Event, Level, Metadata};

use crate::interpreter::attached;

/// How many may wait to be told. What comes beyond that is dropped.
const QUEUE_MAX: usize = 256;

/// Tells warnings and errors of the core's, and nothing else.
struct Diagnoses {
    /// The thread that tells them, by the process that has started it: a child of a fork does not have it.
    teller: Mutex<Option<(u32, SyncSender<Diagnosis>)>>,
}

struct Diagnosis {
    /// As `logging` counts: 30 for a warning, 40 for an error.
    level: u8,
    text: String,
}

/// Has the core's warnings told to the logger "quotum".
pub(crate) fn listen() {
    // Another copy of this module may listen already.
    let _listens = tracing::subscriber::set_global_default(Diagnoses { teller: Mutex::new(None) });
}

impl Diagnoses {
    fn is_told(metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= Level::WARN && metadata.target() == "quotum"
    }

    fn tell(&self, diagnosis: Diagnosis) {
        // A child may find it locked by a thread that it does not have.
        let Some(mut teller) = self.teller.try_lock() else { return };
        let process = std::process::id();
        let started = teller.take().filter(|(by, _)| *by == process).or_else(|| Some((process, start().ok()?)));
        if let Some((_, queue)) = &started {
            let _dropped = queue.try_send(diagnosis);
        }
        *teller = started;
    }
}

fn start() -> std::io::Result<SyncSender<Diagnosis>> {
    let (queue, told) = sync_channel(QUEUE_MAX);
    std::thread::Builder::new().name("quotum-logging".to_owned()).spawn(move || tell_all(&told))?;
    Ok(queue)
}

fn tell_all(diagnoses: &Receiver<Diagnosis>) {
    while let Ok(Diagnosis { level, text }) = diagnoses.recv() {
        let told = attached(|py| {
            let logger = py.import("logging")?.call_method1("getLogger", ("quotum",))?;
            logger.call_method1("log", (level, "%s", text)).map(drop)
        });
        match told {
            Some(Ok(())) => {}
            // A handler's own mistake.
            Some(Err(error)) => _ = attached(|py| error.write_unraisable(py, None)),
            None => return,
        }
    }
}

impl Subscriber for Diagnoses {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Events of requests then cost nothing.
        if Self::is_told(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        Self::is_told(metadata)
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let level = if *event.metadata().level() == Level::ERROR { 40 } else { 30 };
        self.tell(Diagnosis { level, text: format!("{}{}", text.message, text.fields) });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A message, and its fields after it.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a text does not fail.
        let _written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, "; {name}={value:?}"),
        };
    }
}
