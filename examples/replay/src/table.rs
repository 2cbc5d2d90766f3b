//! The report as tables in a terminal.

use std::path::Path;

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use jiff::Timestamp;

use crate::tally::{Counts, Tally};
use crate::traffic::Traffic;

/// A line above the header and one below it.
const LINES: TableStyle = TableStyle::new()
    .top_border(LineStyle::none().fill('─').junction('─'))
    .header_separator(LineStyle::none().fill('─').junction('─'));

/// How many subjects and first hits are listed.
const ROWS: usize = 10;

pub(crate) fn print(file: &Path, traffic: &Traffic, tallies: &[Tally]) {
    println!("{}", headline(file, traffic, tallies));
    for bad in &traffic.bad_lines_shown {
        println!("  line {} was skipped: {}", bad.number, bad.why);
    }
    if traffic.bad_lines > traffic.bad_lines_shown.len() as u64 {
        println!("  … {} lines were skipped in all", number(traffic.bad_lines));
    }
    for tally in tallies {
        println!("\n{}", summary(tally));
        println!("\nBy plan\n{}", by_plan(tally));
        if tally.counts.denied > 0 {
            println!("\nWhich limits denied\n{}", by_limit(tally));
            println!("\nWho hit which limit first\n{}", first_hits(tally));
        }
        println!("\nBusiest subjects\n{}", busiest(tally));
    }
    if let [first, second] = tallies {
        println!("\nSide by side\n{}", side_by_side(first, second));
    }
}

/// The traffic in a sentence.
pub(crate) fn headline(file: &Path, traffic: &Traffic, tallies: &[Tally]) -> String {
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    let subjects = tallies.first().map_or(0, |tally| tally.subjects.len() as u64);
    let span = tallies.first().map(|tally| format!(", {} to {}", minute(tally.begin), minute(tally.end)));
    let skipped = match traffic.bad_lines {
        0 => String::new(),
        count => format!("; {} could not be read", counted(count, "line")),
    };
    let requests = counted(traffic.requests.len() as u64, "request");
    format!("{name}: {requests} of {}{}{skipped}", counted(subjects, "subject"), span.unwrap_or_default())
}

/// What one plans file did, in a sentence or two.
pub(crate) fn summary(tally: &Tally) -> String {
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
        "{}: {} allowed, {} denied ({}). {} of {} hit a limit.{free}\nUnits: {}.\nA decision took {} (p50), {} (p99), {} (p99.9).",
        tally.name,
        number(allowed),
        number(denied),
        percent(denied, tally.counts.all()),
        number(tally.subjects_denied()),
        counted(tally.subjects.len() as u64, "subject"),
        units.join("; "),
        micros(tally.latency_us(0.5)),
        micros(tally.latency_us(0.99)),
        micros(tally.latency_us(0.999)),
    )
}

fn by_plan(tally: &Tally) -> Table {
    let mut table = new(&["plan", "subjects", "hit a limit", "requests", "allowed", "denied", "denied %"], 1);
    for (plan, of) in &tally.plans {
        table.add_row([
            plan.to_string(),
            number(of.subjects),
            number(of.subjects_denied),
            number(of.counts.all()),
            number(of.counts.allowed),
            number(of.counts.denied),
            percent(of.counts.denied, of.counts.all()),
        ]);
    }
    table
}

fn by_limit(tally: &Tally) -> Table {
    let mut table = new(&["plan", "limit", "reason", "first at", "would help", "subjects", "denied"], 5);
    for ((plan, limit), of) in &tally.limits {
        table.add_row([
            plan.to_string(),
            limit.clone(),
            of.reason.to_owned(),
            minute(of.first),
            of.upgrade_to.as_deref().unwrap_or("-").to_owned(),
            number(of.subjects),
            number(of.denied),
        ]);
    }
    table
}

fn first_hits(tally: &Tally) -> Table {
    let mut table = new(&["at", "subject", "plan", "limit", "denied in all"], 4);
    let hits = tally.first_hits();
    for hit in hits.iter().take(ROWS) {
        table.add_row([
            minute(hit.at),
            hit.subject.to_owned(),
            hit.plan.to_owned(),
            hit.limit.to_owned(),
            number(hit.denied),
        ]);
    }
    if let Some(more) = hits.len().checked_sub(ROWS).filter(|more| *more > 0) {
        table.add_row([format!("… {} more", number(more as u64))]);
    }
    table
}

fn busiest(tally: &Tally) -> Table {
    let mut table = new(&["subject", "plan", "requests", "allowed", "denied", "denied %"], 2);
    for (subject, of) in tally.busiest(ROWS) {
        table.add_row([
            subject.to_owned(),
            of.plan.to_string(),
            number(of.counts.all()),
            number(of.counts.allowed),
            number(of.counts.denied),
            percent(of.counts.denied, of.counts.all()),
        ]);
    }
    table
}

fn side_by_side(first: &Tally, second: &Tally) -> Table {
    let mut table = new(&["", &first.name, &second.name], 1);
    for (label, value) in comparison() {
        table.add_row([label.to_owned(), value(first), value(second)]);
    }
    table
}

type Value = fn(&Tally) -> String;

/// What is compared between two plans files.
pub(crate) fn comparison() -> [(&'static str, Value); 6] {
    [
        ("requests allowed", |tally| number(tally.counts.allowed)),
        ("requests denied", |tally| number(tally.counts.denied)),
        ("denied %", |tally| percent(tally.counts.denied, tally.counts.all())),
        ("subjects that hit a limit", |tally| number(tally.subjects_denied())),
        ("units granted", |tally| {
            let units = tally.units.iter().map(|(metric, units)| format!("{metric} {}", number(units.allowed)));
            units.collect::<Vec<_>>().join(", ")
        }),
        ("a decision, p99", |tally| micros(tally.latency_us(0.99))),
    ]
}

/// A table whose columns from `numbers_from` on are numbers.
fn new(header: &[&str], numbers_from: usize) -> Table {
    let mut table = Table::new();
    table.load_style(LINES).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.iter().copied());
    for column in table.column_iter_mut().skip(numbers_from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
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

fn counted(count: u64, what: &str) -> String {
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
