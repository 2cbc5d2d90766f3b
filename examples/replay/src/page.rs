//! The report as one page that needs nothing beside it: no script, no font, no network.

use std::fmt::Write;
use std::path::Path;

use crate::chart::{self, Bar};
use crate::rows::{self, Rows};
use crate::tally::{Counts, Tally};
use crate::traffic::Traffic;
use crate::wording::{counted, headline, micros, number, percent};

/// How many subjects are charted and how many first hits listed.
const SUBJECTS: usize = 12;
const HITS: usize = 40;

const STYLE: &str = "
:root { --ink:#1c2430; --soft:#5c6675; --line:#e3e7ee; --paper:#fff; --ground:#f5f7fa; --allowed:#3b82c4; --denied:#e0603f; --neutral:#7b8aa3; }
@media (prefers-color-scheme: dark) { :root { --ink:#e8ecf2; --soft:#9aa5b5; --line:#2c3542; --paper:#171d26; --ground:#10151c; --allowed:#5aa2e0; --denied:#f07f5f; --neutral:#8b9ab3; } }
* { box-sizing: border-box; }
body { margin:0; background:var(--ground); color:var(--ink); font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif; }
header, main, footer { max-width:1180px; margin:0 auto; padding:0 24px; }
header { padding-top:36px; }
h1 { font-size:26px; margin:0 0 4px; letter-spacing:-.01em; }
h2 { font-size:19px; margin:36px 0 12px; }
h3 { font-size:14px; margin:0 0 10px; color:var(--soft); font-weight:600; }
p.lead { color:var(--soft); margin:0 0 8px; }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(150px,1fr)); gap:12px; margin:14px 0; }
.tile, .card { background:var(--paper); border:1px solid var(--line); border-radius:10px; padding:14px 16px; }
.tile b { display:block; font-size:24px; letter-spacing:-.02em; }
.tile span { color:var(--soft); font-size:13px; }
.tile.bad b { color:var(--denied); }
.cards { display:grid; grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr)); gap:12px; }
.card { margin-bottom:12px; overflow-x:auto; }
.cards .card { margin-bottom:0; }
svg { display:block; width:100%; height:auto; }
.allowed { fill:var(--allowed); } .denied { fill:var(--denied); } .neutral { fill:var(--neutral); }
.grid { stroke:var(--line); } .hover { fill:transparent; } g:hover > .hover { fill:var(--line); }
.tick { fill:var(--soft); font-size:11px; } .label { fill:var(--ink); font-size:12px; }
.key i { display:inline-block; width:10px; height:10px; border-radius:2px; margin:0 5px 0 14px; }
table { border-collapse:collapse; width:100%; font-size:14px; }
th { text-align:left; color:var(--soft); font-weight:600; font-size:13px; }
th, td { padding:6px 14px 6px 0; border-bottom:1px solid var(--line); white-space:nowrap; }
td.n, th.n { text-align:right; font-variant-numeric:tabular-nums; }
tr:last-child td { border-bottom:0; }
.none { color:var(--soft); }
footer { color:var(--soft); font-size:13px; padding:28px 24px 40px; }
";

pub(crate) fn render(file: &Path, traffic: &Traffic, tallies: &[Tally]) -> String {
    let headline = headline(file, traffic);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>{0}</title>\n<style>{STYLE}</style>\n<header><h1>What would these limits do?</h1><p class=\"lead\">{0}</p></header>\n<main>\n",
        escape(&headline)
    );
    if let [first, second] = tallies {
        let _ = write!(
            page,
            "<h2>Side by side</h2><div class=\"card\">{}</div>",
            table(&rows::side_by_side(first, second))
        );
    }
    // One scale for all, so that two plans files can be compared at a glance.
    let highest = tallies.iter().flat_map(|tally| &tally.stretches).map(|stretch| stretch.all()).max().unwrap_or(1);
    for tally in tallies {
        section(&mut page, tally, traffic.subjects(), highest);
    }
    page.push_str(&skipped(traffic));
    page.push_str(
        "</main>\n<footer>Every request was decided in the order of time by Quotum, on a clock that stood at the request's own time. Times are UTC. Rates are enforced where a scope was named. Point at a chart for its figures.</footer>\n</html>\n",
    );
    page
}

fn section(page: &mut String, tally: &Tally, subjects: u64, highest: u64) {
    let Counts { allowed, denied } = tally.counts;
    let _ = write!(page, "<h2>{}</h2><div class=\"tiles\">", escape(&tally.name));
    let tiles = [
        ("", number(tally.counts.all()), "requests decided".to_owned()),
        ("", number(allowed), "allowed".to_owned()),
        ("bad", number(denied), format!("denied, {}", percent(denied, tally.counts.all()))),
        ("", number(tally.subjects_denied()), format!("of {} were denied something", counted(subjects, "subject"))),
        (
            "",
            micros(tally.latency_us(0.5)),
            format!("a decision; p99 {}, p99.9 {}", micros(tally.latency_us(0.99)), micros(tally.latency_us(0.999))),
        ),
    ];
    for (class, figure, what) in tiles {
        let _ = write!(page, "<div class=\"tile {class}\"><b>{figure}</b><span>{what}</span></div>");
    }
    page.push_str("</div>");

    let key = "<span class=\"key\"><i class=\"allowed\" style=\"background:var(--allowed)\"></i>allowed<i style=\"background:var(--denied)\"></i>denied</span>";
    card(page, &format!("Requests over time {key}"), &chart::over_time(tally, highest));
    page.push_str("<div class=\"cards\">");
    card(page, "By plan", &chart::bars("Requests by plan", &plan_bars(tally)));
    card(page, "Busiest subjects", &chart::bars("Requests of the busiest subjects", &subject_bars(tally)));
    page.push_str("</div><p></p>");
    card(page, "Which limits denied", &table(&rows::by_limit(tally)));
    card(page, "Who hit which limit first", &table(&rows::first_hits(tally, HITS)));
    card(page, "How long a decision took", &chart::latency(tally));
}

fn card(page: &mut String, title: &str, content: &str) {
    let _ = write!(page, "<section class=\"card\"><h3>{title}</h3>{content}</section>");
}

fn plan_bars(tally: &Tally) -> Vec<Bar> {
    let bar = |(plan, of): (&str, crate::tally::PlanTally)| Bar {
        label: plan.to_owned(),
        counts: of.counts,
        note: format!("{}, {} denied", number(of.counts.all()), percent(of.counts.denied, of.counts.all())),
    };
    tally.plans().into_iter().map(bar).collect()
}

fn subject_bars(tally: &Tally) -> Vec<Bar> {
    let bar = |(subject, _, counts): (&str, &str, Counts)| Bar {
        label: subject.to_owned(),
        counts,
        note: format!("{}, {} denied", number(counts.all()), number(counts.denied)),
    };
    tally.busiest(SUBJECTS).into_iter().map(bar).collect()
}

fn skipped(traffic: &Traffic) -> String {
    if traffic.bad_lines == 0 {
        return String::new();
    }
    let line = |bad: &crate::traffic::BadLine| format!("<li>line {}: {}</li>", number(bad.number), escape(&bad.why));
    let shown: String = traffic.bad_lines_shown.iter().map(line).collect();
    let more = if traffic.bad_lines > traffic.bad_lines_shown.len() as u64 { "<li>…</li>" } else { "" };
    format!(
        "<h2>Lines that could not be read: {}</h2><section class=\"card\"><ul>{shown}{more}</ul></section>",
        number(traffic.bad_lines)
    )
}

fn table(rows: &Rows) -> String {
    if rows.rows.is_empty() {
        return "<p class=\"none\">None.</p>".to_owned();
    }
    let cell = |tag: &str, column: usize, text: &str| {
        let class = if column >= rows.numbers_from { " class=\"n\"" } else { "" };
        format!("<{tag}{class}>{}</{tag}>", escape(text))
    };
    let row = |tag: &str, cells: &[String]| {
        let cells: String = cells.iter().enumerate().map(|(column, text)| cell(tag, column, text)).collect();
        format!("<tr>{cells}</tr>")
    };
    let body: String = rows.rows.iter().map(|cells| row("td", cells)).collect();
    let more = match rows.more {
        0 => String::new(),
        more => format!("<p class=\"none\">… and {} more.</p>", number(more as u64)),
    };
    format!("<table>{}{body}</table>{more}", row("th", &rows.header))
}

/// Text as it may stand in HTML: a subject's name can be anything.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            sign => escaped.push(sign),
        }
    }
    escaped
}
