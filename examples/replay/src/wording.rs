//! How the report words numbers, times and what came of it all.

use std::path::Path;

use jiff::Timestamp;

use crate::tally::{Counts, Tally};
use crate::traffic::Traffic;

/// The traffic in a sentence.
pub(crate) fn headline(file: &Path, traffic: &Traffic) -> String {
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    let requests = counted(traffic.requests.len() as u64, "request");
    let subjects = counted(traffic.subjects(), "subject");
    let span = match (traffic.requests.first(), traffic.requests.last()) {
        (Some(first), Some(last)) => format!(", {} to {} UTC", minute(first.time), minute(last.time)),
        _ => String::new(),
    };
    let skipped = match traffic.bad_lines {
        0 => String::new(),
        count => format!("; {} could not be read", counted(count, "line")),
    };
    format!("{name}: {requests} of {subjects}{span}{skipped}")
}

/// What one plans file did, in a few sentences.
pub(crate) fn summary(tally: &Tally, subjects: u64) -> String {
    let Counts { allowed, denied } = tally.counts;
    let units: Vec<String> = tally
        .units
        .iter()
        .map(|(metric, units)| format!("{metric}: {} granted, {} denied", number(units.allowed), number(units.denied)))
        .collect();
    let free = match tally.free_of_charge {
        0 => String::new(),
        count => format!(" {} cost nothing and were not asked about.", counted(count, "request")),
    };
    format!(
        "{}: {} allowed, {} denied ({}). {} of {} were denied something.{free}\nUnits: {}.\nA decision took {} (p50), {} (p99), {} (p99.9).",
        tally.name,
        number(allowed),
        number(denied),
        percent(denied, tally.counts.all()),
        number(tally.subjects_denied()),
        counted(subjects, "subject"),
        units.join("; "),
        micros(tally.latency_us(0.5)),
        micros(tally.latency_us(0.99)),
        micros(tally.latency_us(0.999)),
    )
}

/// A number with its thousands apart.
pub(crate) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut spaced = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            spaced.push(',');
        }
        spaced.push(digit);
    }
    spaced
}

pub(crate) fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", number(count), if count == 1 { "" } else { "s" })
}

#[expect(clippy::cast_precision_loss, reason = "a percentage is shown to a tenth")]
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.1} %", part as f64 * 100.0 / whole as f64) }
}

pub(crate) fn micros(us: f64) -> String {
    if us < 1_000.0 { format!("{us:.1} µs") } else { format!("{:.2} ms", us / 1_000.0) }
}

pub(crate) fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M").to_string()
}
