//! The report as tables in a terminal.

use std::path::Path;

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

use crate::rows::{self, Rows};
use crate::tally::Tally;
use crate::traffic::Traffic;
use crate::wording::{headline, number, summary};

/// A line above the header and one below it.
const LINES: TableStyle = TableStyle::new()
    .top_border(LineStyle::none().fill('─').junction('─'))
    .header_separator(LineStyle::none().fill('─').junction('─'));

/// How many subjects and first hits are listed.
const ROWS: usize = 10;

pub(crate) fn print(file: &Path, traffic: &Traffic, tallies: &[Tally]) {
    println!("{}", headline(file, traffic));
    for bad in &traffic.bad_lines_shown {
        println!("  line {} was skipped: {}", bad.number, bad.why);
    }
    if traffic.bad_lines > traffic.bad_lines_shown.len() as u64 {
        println!("  … {} lines were skipped in all", number(traffic.bad_lines));
    }
    for tally in tallies {
        println!("\n{}", summary(tally, traffic.subjects()));
        println!("\nBy plan\n{}", table(&rows::by_plan(tally)));
        if tally.counts.denied > 0 {
            println!("\nWhich limits denied\n{}", table(&rows::by_limit(tally)));
            println!("\nWho hit which limit first\n{}", table(&rows::first_hits(tally, ROWS)));
        }
        println!("\nBusiest subjects\n{}", table(&rows::busiest(tally, ROWS)));
    }
    if let [first, second] = tallies {
        println!("\nSide by side\n{}", table(&rows::side_by_side(first, second)));
    }
}

fn table(rows: &Rows) -> Table {
    let mut table = Table::new();
    table.load_style(LINES).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(&rows.header);
    for row in &rows.rows {
        table.add_row(row);
    }
    if rows.more > 0 {
        table.add_row([format!("… {} more", number(rows.more as u64))]);
    }
    for column in table.column_iter_mut().skip(rows.numbers_from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
