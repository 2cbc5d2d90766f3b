//! `replay`: what would these limits do to my real traffic?
//!
//! Takes a plans file and a traffic file, enforces the plans on every request in the order of time, and
//! reports who would have been denied what, when, and how long a decision took. No time passes: a
//! manual clock is set to the time of each request.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod chart;
mod deal;
mod enforce;
mod page;
mod rows;
mod table;
mod tally;
mod traffic;
mod wording;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use crate::deal::Deal;
use crate::enforce::Scene;
use crate::traffic::{Format, Malformed, Mapping, Traffic};

/// What would these limits do to my real traffic?
///
/// Enforces a plans file on a traffic file in the order of time, and reports who would have been denied
/// what, and when.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// The traffic: an Apache or nginx log, CSV with a line of names, or JSON lines
    traffic: PathBuf,

    /// The plans file, TOML or JSON
    #[arg(long, value_name = "FILE")]
    plans: PathBuf,

    /// A second plans file, reported beside the first
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,

    /// How the traffic is written; by its name (.csv, .jsonl, else log) if not said
    #[arg(long)]
    format: Option<Format>,

    /// The field that names the subject, or line%N to deal the requests to N made-up subjects in turn
    /// [default: ip in logs, subject elsewhere]
    #[arg(long, value_name = "FIELD")]
    subject: Option<String>,

    /// The field that holds the time [default: time]
    #[arg(long, value_name = "FIELD")]
    time: Option<String>,

    /// What a request costs: METRIC=UNITS, METRIC=FIELD or a sum of them; once for each metric
    #[arg(long = "cost", value_name = "METRIC=SUM", default_value = "requests=1")]
    costs: Vec<String>,

    /// The scope whose rate each request counts on, for its subject; without it, rates are not enforced
    #[arg(long, value_name = "SCOPE")]
    rate: Option<String>,

    /// The field that names the subject's plan; a change of it is a change of plan
    #[arg(long, value_name = "FIELD", conflicts_with = "deal")]
    plan: Option<String>,

    /// Deal new subjects to plans, such as free=80,pro=20: of every 100 in turn, the first 80 to free
    #[arg(long, value_name = "PLAN=SHARE,…")]
    deal: Option<Deal>,

    /// The store to enforce on, such as sqlite:quota.db or memory: [default: a new SQLite file]
    #[arg(long, value_name = "URL", conflicts_with = "compare")]
    store: Option<String>,

    /// What to do with a line that cannot be read
    #[arg(long, default_value = "skip")]
    malformed: Malformed,

    /// Also write the report as one self-contained page
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  replay --plans plans.toml access.log
  replay --plans plans.toml --cost requests=1 --cost bytes=bytes --report report.html access.log
  replay --plans plans.toml --time TIMESTAMP --subject line%200 \\
         --cost tokens=ContextTokens+GeneratedTokens calls.csv
  replay --plans plans.toml --rate api access.log
  replay --plans today.toml --compare tomorrow.toml --plan tier requests.jsonl

Fields of a log line: ip, user, time, method, path, status, bytes, referer, agent.";

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("replay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let format = arguments.format.unwrap_or_else(|| Format::of(&arguments.traffic));
    let (subject, time) = (arguments.subject.as_deref(), arguments.time.as_deref());
    let mapping = Mapping::new(format, subject, time, arguments.plan.as_deref(), &arguments.costs)?;
    let traffic = Traffic::read(&arguments.traffic, format, &mapping, arguments.malformed)?;

    let (rate, deal) = (arguments.rate.as_deref(), arguments.deal.as_ref());
    let scene = Scene { traffic: &traffic, metrics: mapping.metrics(), rate, deal };
    let mut tallies = vec![scene.enforce(&arguments.plans, arguments.store.as_deref())?];
    if let Some(other) = &arguments.compare {
        tallies.push(scene.enforce(other, None)?);
    }

    table::print(&arguments.traffic, &traffic, &tallies);
    if let Some(report) = &arguments.report {
        let page = page::render(&arguments.traffic, &traffic, &tallies);
        std::fs::write(report, page).with_context(|| format!("{} cannot be written", report.display()))?;
        println!("\nThe same as a page, with charts: {}", report.display());
    }
    Ok(())
}
