//! Charts as SVG: drawn for one page, with its colours, and with every figure in a tooltip.

use std::fmt::Write;

use crate::page::escape;

use crate::tally::{Counts, Tally};
use crate::wording::{micros, minute, number, percent};

/// The width of a chart across the page, and of one across half of it, in about the page's pixels.
const WIDE: f64 = 1_100.0;
const HALF: f64 = 530.0;

/// Requests over time, allowed below and denied above. `highest` is the scale's top.
pub(crate) fn over_time(tally: &Tally, highest: u64) -> String {
    const HEIGHT: f64 = 210.0;
    const LEFT: f64 = 44.0;
    const BOTTOM: f64 = 22.0;
    let plot = HEIGHT - BOTTOM - 8.0;
    let scale = |count: u64| plot * real(count) / real(highest.max(1));
    let count = tally.stretches.len().max(1) as u64;
    let step = (WIDE - LEFT) / real(count);
    let whole = tally.end.duration_since(tally.begin);
    let mut svg = open(WIDE, HEIGHT, "Requests over time, allowed and denied");
    // The middle only where it is a whole number of requests.
    let parts = if highest.is_multiple_of(2) { &[0, 1, 2][..] } else { &[0, 2] };
    for &part in parts {
        let y = HEIGHT - BOTTOM - plot * real(part) / 2.0;
        let _ = write!(
            svg,
            r#"<line class="grid" x1="{LEFT}" x2="{WIDE}" y1="{y:.1}" y2="{y:.1}"/><text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            LEFT - 6.0,
            y + 4.0,
            number(highest * part / 2),
        );
    }
    for (index, stretch) in tally.stretches.iter().enumerate() {
        let x = LEFT + step * real(index as u64);
        let begin = tally.begin + whole.mul_f64(real(index as u64) / real(count));
        let Counts { allowed, denied } = *stretch;
        let (low, high) = (scale(allowed), scale(denied));
        let bottom = HEIGHT - BOTTOM;
        let _ = write!(
            svg,
            r#"<g><title>from {}: {} allowed, {} denied</title><rect class="hover" x="{x:.1}" y="8" width="{step:.1}" height="{plot:.1}"/><rect class="allowed" x="{:.1}" y="{:.1}" width="{:.1}" height="{low:.1}"/><rect class="denied" x="{:.1}" y="{:.1}" width="{:.1}" height="{high:.1}"/></g>"#,
            minute(begin),
            number(allowed),
            number(denied),
            x + 1.0,
            bottom - low,
            step - 2.0,
            x + 1.0,
            bottom - low - high,
            step - 2.0,
        );
    }
    for (part, anchor) in [(0, "start"), (1, "middle"), (2, "end")] {
        let x = LEFT + (WIDE - LEFT) * real(part) / 2.0;
        let time = minute(tally.begin + whole.mul_f64(real(part) / 2.0));
        let _ = write!(
            svg,
            r#"<text class="tick" x="{x:.1}" y="{:.1}" text-anchor="{anchor}">{time}</text>"#,
            HEIGHT - 5.0
        );
    }
    svg.push_str("</svg>");
    svg
}

/// One bar of a bar chart.
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) counts: Counts,
    pub(crate) note: String,
}

/// Horizontal bars, allowed first and denied after.
pub(crate) fn bars(title: &str, bars: &[Bar]) -> String {
    const ROW: f64 = 26.0;
    const LEFT: f64 = 130.0;
    const RIGHT: f64 = 140.0;
    let highest = bars.iter().map(|bar| bar.counts.all()).max().unwrap_or(1).max(1);
    let scale = |count: u64| (HALF - LEFT - RIGHT) * real(count) / real(highest);
    let mut svg = open(HALF, ROW * real(bars.len() as u64), title);
    for (index, bar) in bars.iter().enumerate() {
        let y = ROW * real(index as u64);
        let (low, high) = (scale(bar.counts.allowed), scale(bar.counts.denied));
        let label = escape(&shortened(&bar.label, 20));
        let _ = write!(
            svg,
            r#"<g><title>{}: {} allowed, {} denied</title><text class="label" x="{:.1}" y="{:.1}" text-anchor="end">{label}</text><rect class="allowed" x="{LEFT}" y="{:.1}" width="{low:.1}" height="16"/><rect class="denied" x="{:.1}" y="{:.1}" width="{high:.1}" height="16"/><text class="tick" x="{:.1}" y="{:.1}">{}</text></g>"#,
            escape(&bar.label),
            number(bar.counts.allowed),
            number(bar.counts.denied),
            LEFT - 8.0,
            y + 17.0,
            y + 5.0,
            LEFT + low,
            y + 5.0,
            LEFT + low + high + 8.0,
            y + 17.0,
            escape(&bar.note),
        );
    }
    svg.push_str("</svg>");
    svg
}

/// How long decisions took: the share of them in each doubling of time.
pub(crate) fn latency(tally: &Tally) -> String {
    const HEIGHT: f64 = 160.0;
    const BOTTOM: f64 = 22.0;
    let all = tally.latency_ns.len().max(1);
    let mut columns: Vec<(u64, u64, u64)> = Vec::new();
    let mut low_ns = 250_u64;
    while low_ns < tally.latency_ns.max().saturating_add(1) {
        let high_ns = low_ns * 2;
        let from_ns = if columns.is_empty() { 0 } else { low_ns };
        let count = tally.latency_ns.count_between(from_ns, high_ns - 1);
        if count > 0 || !columns.is_empty() {
            columns.push((from_ns, high_ns, count));
        }
        low_ns = high_ns;
    }
    let highest = columns.iter().map(|(.., count)| *count).max().unwrap_or(1).max(1);
    let step = WIDE / real(columns.len().max(1) as u64);
    let mut svg = open(WIDE, HEIGHT, "How long decisions took");
    for (index, (_, high_ns, count)) in columns.iter().enumerate() {
        let x = step * real(index as u64);
        let height = (HEIGHT - BOTTOM - 8.0) * real(*count) / real(highest);
        let below = micros(real(*high_ns) / 1_000.0);
        let _ = write!(
            svg,
            r#"<g><title>under {below}: {} decisions, {}</title><rect class="neutral" x="{:.1}" y="{:.1}" width="{:.1}" height="{height:.1}"/><text class="tick" x="{:.1}" y="{:.1}" text-anchor="middle">&lt; {below}</text></g>"#,
            number(*count),
            percent(*count, all),
            x + 2.0,
            HEIGHT - BOTTOM - height,
            step - 4.0,
            x + step / 2.0,
            HEIGHT - 6.0,
        );
    }
    svg.push_str("</svg>");
    svg
}

fn open(width: f64, height: f64, title: &str) -> String {
    format!(r#"<svg viewBox="0 0 {width} {height}" role="img" aria-label="{}">"#, escape(title))
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a chart needs no more than its pixels")]
fn real(count: u64) -> f64 {
    count as f64
}
