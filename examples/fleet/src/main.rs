//! Several processes use up one quota together, in one store: what each was granted, how long it took, and what the
//! store says of it in the end.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use comfy_table::Table;
use hdrhistogram::Histogram;
use quotum::blocking::Quota;
use quotum::{Leasing, Plans};

/// Uses up one quota with several processes, in one store.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// The store: sqlite:quota.db, postgres://user@host/database or redis://host:6379.
    #[arg(long, global = true, default_value = "sqlite:fleet.db")]
    store: String,
    /// How many processes.
    #[arg(long, default_value_t = 4)]
    processes: u32,
    /// How many units there are for all of them.
    #[arg(long, global = true, default_value_t = 100_000)]
    limit: u64,
    /// Charge every unit in the store, and lease none.
    #[arg(long, global = true)]
    exact: bool,
    /// Whose quota it is.
    #[arg(long, global = true)]
    subject: Option<String>,
}

#[derive(Subcommand)]
enum Role {
    /// One of the processes.
    #[command(hide = true)]
    Worker,
}

/// What one process was granted, and how long each unit took, in nanoseconds.
struct Share {
    granted: u64,
    median_ns: u64,
    p99_ns: u64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.role {
        Some(Role::Worker) => work(&arguments),
        None => lead(&arguments),
    }
}

fn open(arguments: &Arguments) -> anyhow::Result<Quota> {
    let limit = arguments.limit;
    let plans =
        Plans::from_toml(&format!("default_plan = 'all'\n[plans.all]\nquotas = {{ units = '{limit}/total' }}"))?;
    let leasing = if arguments.exact { Leasing::Off } else { Leasing::Auto };
    Ok(Quota::builder().plans(plans).lease(leasing).open(&arguments.store)?)
}

/// Starts the processes, and tells what became of the quota.
fn lead(arguments: &Arguments) -> anyhow::Result<()> {
    let subject = arguments.subject.clone().unwrap_or_else(|| format!("fleet-{}", std::process::id()));
    // Before any other, so that they find the store ready.
    let quota = open(arguments)?;
    let began = Instant::now();
    let workers = (0..arguments.processes).map(|_| start(arguments, &subject)).collect::<anyhow::Result<Vec<_>>>()?;
    let shares = workers.into_iter().map(share_of).collect::<anyhow::Result<Vec<_>>>()?;
    let took = began.elapsed();

    let mut table = Table::new();
    table.set_header(["process", "granted", "median", "99 %"]);
    for (number, share) in shares.iter().enumerate() {
        table.add_row([(number + 1).to_string(), share.granted.to_string(), time(share.median_ns), time(share.p99_ns)]);
    }
    println!("{table}");
    let granted: u64 = shares.iter().map(|share| share.granted).sum();
    let usage = quota.usage(&subject)?;
    let state = usage.quotas.first().context("the plan has a quota")?;
    let each_ns = took.as_nanos() / u128::from(granted.max(1));
    println!("{granted} of {} granted, {} used by the store: one in {each_ns} ns", arguments.limit, state.used);
    if granted > arguments.limit || state.used != granted {
        bail!("more was granted than there is, or something was not counted");
    }
    Ok(())
}

fn start(arguments: &Arguments, subject: &str) -> anyhow::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([
        "worker",
        "--store",
        &arguments.store,
        "--subject",
        subject,
        "--limit",
        &arguments.limit.to_string(),
    ]);
    if arguments.exact {
        command.arg("--exact");
    }
    Ok(command.stdout(Stdio::piped()).spawn()?)
}

fn share_of(mut worker: Child) -> anyhow::Result<Share> {
    let mut line = String::new();
    BufReader::new(worker.stdout.take().context("the process has no output")?).read_line(&mut line)?;
    if !worker.wait()?.success() {
        bail!("a process has failed");
    }
    let numbers = line.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    let [granted, median_ns, p99_ns] = numbers[..] else { bail!("a process said {line:?}") };
    Ok(Share { granted, median_ns, p99_ns })
}

/// Consumes until nothing more is granted, also of what others return.
fn work(arguments: &Arguments) -> anyhow::Result<()> {
    let quota = open(arguments)?;
    let subject = arguments.subject.as_deref().context("a process needs a subject")?;
    let mut times = Histogram::<u64>::new(3)?;
    let (mut granted, mut last) = (0, Instant::now());
    while last.elapsed() < Duration::from_secs(2) {
        let began = Instant::now();
        if quota.consume(subject, &[("units", 1)])?.allowed {
            granted += 1;
            last = Instant::now();
            times.record(u64::try_from(began.elapsed().as_nanos())?)?;
        } else {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    // What is leased and not used goes back.
    quota.close()?;
    println!("{granted} {} {}", times.value_at_quantile(0.5), times.value_at_quantile(0.99));
    Ok(())
}

fn time(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{ns} ns"),
        10_000..10_000_000 => format!("{} µs", ns / 1_000),
        _ => format!("{} ms", ns / 1_000_000),
    }
}
