//! Diagnoses: what the engine warns its operator of, for a program that has no subscriber of [`tracing`]'s.
//!
//! The events of requests are the listener's, see [`Builder::on_event`](crate::Builder::on_event); these are about the
//! engine itself, such as plans that cannot be refreshed. They are few. Whoever warns may hold a lock, and so must not
//! wait for whoever is told: a thread of its own tells.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, Subscriber};
use tracing::{Event, Level, Metadata};

/// How many may wait to be told. What comes beyond that is dropped.
const QUEUE_MAX: usize = 256;

/// One thing that the operator should look after.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnosis {
    /// Whether it is an error, and not only a warning.
    pub is_error: bool,
    /// What is wrong.
    pub text: String,
}

/// Has warnings and errors of every engine in this process told to `tell`, on a thread that is started when there is
/// one to tell; in a child of a fork, on one of its own. Once `tell` returns false, no more are told.
///
/// Returns whether they will be: not where the program has a subscriber of `tracing`'s already.
///
/// ```
/// assert!(quotum::diagnosis::listen(|diagnosis| {
///     eprintln!("quotum: {}", diagnosis.text);
///     true
/// }));
/// assert!(!quotum::diagnosis::listen(|_| true));
/// ```
pub fn listen(tell: impl Fn(Diagnosis) -> bool + Send + Sync + 'static) -> bool {
    tracing::subscriber::set_global_default(Diagnoses { tell: Arc::new(tell), teller: Mutex::new(None) }).is_ok()
}

type Tell = dyn Fn(Diagnosis) -> bool + Send + Sync;

/// Tells warnings and errors of the core's, and nothing else.
struct Diagnoses {
    tell: Arc<Tell>,
    /// The thread that tells them, by the process that has started it: a child of a fork does not have it.
    teller: Mutex<Option<(u32, SyncSender<Diagnosis>)>>,
}

impl Diagnoses {
    fn is_told(metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= Level::WARN && metadata.target() == "quotum"
    }

    fn tell(&self, diagnosis: Diagnosis) {
        // A child may find it locked by a thread that it does not have.
        let Some(mut teller) = self.teller.try_lock() else { return };
        let process = std::process::id();
        let started = teller.take().filter(|(by, _)| *by == process);
        let started = started.or_else(|| Some((process, start(Arc::clone(&self.tell)).ok()?)));
        if let Some((_, queue)) = &started {
            let _dropped = queue.try_send(diagnosis);
        }
        *teller = started;
    }
}

fn start(tell: Arc<Tell>) -> std::io::Result<SyncSender<Diagnosis>> {
    let (queue, told) = sync_channel(QUEUE_MAX);
    std::thread::Builder::new().name("quotum-diagnoses".to_owned()).spawn(move || tell_all(&told, &*tell))?;
    Ok(queue)
}

fn tell_all(diagnoses: &Receiver<Diagnosis>, tell: &Tell) {
    while let Ok(diagnosis) = diagnoses.recv() {
        if !tell(diagnosis) {
            return;
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
        let is_error = *event.metadata().level() == Level::ERROR;
        self.tell(Diagnosis { is_error, text: format!("{}{}", text.message, text.fields) });
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
