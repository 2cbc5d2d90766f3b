//! Endings: values whose end may take a while, such as the last that stands for an engine, which no event loop is to
//! wait for.

use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

/// Drops a value on a thread of its own.
pub(crate) fn end(value: impl Send + 'static) {
    static ENDS: OnceLock<Option<Sender<Box<dyn Send>>>> = OnceLock::new();
    let ends = ENDS.get_or_init(|| {
        let (ends, ended) = channel::<Box<dyn Send>>();
        let thread = std::thread::Builder::new().name("quotum-end".to_owned());
        thread.spawn(move || ended.into_iter().for_each(drop)).ok()?;
        Some(ends)
    });
    if let Some(ends) = ends {
        // Where there is no thread to be had, it ends here.
        drop(ends.send(Box::new(value)));
    }
}
