//! The rows of the report's tables, which the terminal and the page show alike.

use crate::tally::Tally;
use crate::wording::{micros, minute, number, percent};

/// A table: its header, from which column on it holds numbers, and its rows.
pub(crate) struct Rows {
    pub(crate) header: Vec<String>,
    pub(crate) numbers_from: usize,
    pub(crate) rows: Vec<Vec<String>>,
    /// How many more rows there would be.
    pub(crate) more: usize,
}

impl Rows {
    fn new(header: &[&str], numbers_from: usize, rows: Vec<Vec<String>>) -> Self {
        Self { header: header.iter().map(|&name| name.to_owned()).collect(), numbers_from, rows, more: 0 }
    }
}

pub(crate) fn by_plan(tally: &Tally) -> Rows {
    let row = |(plan, of): (&str, crate::tally::PlanTally)| {
        vec![
            plan.to_owned(),
            number(of.subjects),
            number(of.subjects_denied),
            number(of.counts.all()),
            number(of.counts.allowed),
            number(of.counts.denied),
            percent(of.counts.denied, of.counts.all()),
        ]
    };
    let header = ["Plan", "Subjects", "Of them denied", "Requests", "Allowed", "Denied", "Denied %"];
    Rows::new(&header, 1, tally.plans().into_iter().map(row).collect())
}

pub(crate) fn by_limit(tally: &Tally) -> Rows {
    let rows = tally.limits.iter().map(|(limit, of)| {
        vec![
            limit.plan.to_string(),
            limit.text.clone(),
            limit.reason.to_string(),
            minute(of.first),
            of.would_help().to_owned(),
            number(of.subjects),
            number(of.denied),
        ]
    });
    let header = ["Plan", "Limit", "Reason", "First at", "Would help", "Subjects", "Denied"];
    Rows::new(&header, 5, rows.collect())
}

pub(crate) fn first_hits(tally: &Tally, count: usize) -> Rows {
    let hits = tally.first_hits();
    let rows = hits.iter().take(count).map(|hit| {
        vec![
            minute(hit.at),
            hit.subject.to_owned(),
            hit.limit.plan.to_string(),
            if hit.limit.text.is_empty() { hit.limit.reason.to_string() } else { hit.limit.text.clone() },
            number(hit.denied),
        ]
    });
    let rows = rows.collect();
    let more = hits.len().saturating_sub(count);
    Rows { more, ..Rows::new(&["At", "Subject", "Plan", "Limit", "Denied in all"], 4, rows) }
}

pub(crate) fn busiest(tally: &Tally, count: usize) -> Rows {
    let rows = tally.busiest(count).into_iter().map(|(subject, plan, counts)| {
        vec![
            subject.to_owned(),
            plan.to_owned(),
            number(counts.all()),
            number(counts.allowed),
            number(counts.denied),
            percent(counts.denied, counts.all()),
        ]
    });
    Rows::new(&["Subject", "Plan", "Requests", "Allowed", "Denied", "Denied %"], 2, rows.collect())
}

/// Two plans files compared.
pub(crate) fn side_by_side(first: &Tally, second: &Tally) -> Rows {
    type Value = fn(&Tally) -> String;
    let lines: [(&str, Value); 6] = [
        ("requests allowed", |tally| number(tally.counts.allowed)),
        ("requests denied", |tally| number(tally.counts.denied)),
        ("denied %", |tally| percent(tally.counts.denied, tally.counts.all())),
        ("subjects that were denied", |tally| number(tally.subjects_denied())),
        ("units granted", |tally| {
            let units = tally.units.iter().map(|(metric, units)| format!("{metric} {}", number(units.allowed)));
            units.collect::<Vec<_>>().join(", ")
        }),
        ("a decision, p99", |tally| micros(tally.latency_us(0.99))),
    ];
    let row = |(label, value): (&str, Value)| vec![label.to_owned(), value(first), value(second)];
    Rows::new(&["", &first.name, &second.name], 1, lines.into_iter().map(row).collect())
}
