//! Traffic files: web server logs, CSV and JSON lines, read into requests in the order of time.

mod log;
mod mapping;
mod record;
mod time;

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;

pub(crate) use self::mapping::Mapping;
use self::record::Record;

/// How a traffic file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Apache and nginx logs, common or combined.
    Log,
    /// Comma-separated values under a line of names.
    Csv,
    /// One JSON object a line.
    Jsonl,
}

/// What to do with a line that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Malformed {
    /// Count it, show it, and go on.
    Skip,
    /// Refuse the file.
    Refuse,
}

/// One request of the traffic.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) time: Timestamp,
    pub(crate) subject: Arc<str>,
    /// The plan that the file says the subject is on, if it says.
    pub(crate) plan: Option<Arc<str>>,
    /// Units of each metric of the mapping, in its order.
    pub(crate) amounts: Vec<u64>,
}

/// A line that could not be read.
#[derive(Debug)]
pub(crate) struct BadLine {
    pub(crate) number: u64,
    pub(crate) why: String,
}

/// A traffic file, read.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// By time; requests of the same instant in the order of the file.
    pub(crate) requests: Vec<Request>,
    /// How many subjects there are.
    subjects: u64,
    /// How many lines could not be read.
    pub(crate) bad_lines: u64,
    /// The first of them.
    pub(crate) bad_lines_shown: Vec<BadLine>,
}

/// How many bad lines are shown.
const BAD_LINES_SHOWN: usize = 5;

impl Traffic {
    /// How many subjects made these requests.
    pub(crate) fn subjects(&self) -> u64 {
        self.subjects
    }

    /// The plans that the traffic names.
    pub(crate) fn plans(&self) -> BTreeSet<&str> {
        self.requests.iter().filter_map(|request| request.plan.as_deref()).collect()
    }

    pub(crate) fn read(path: &Path, format: Format, mapping: &Mapping, malformed: Malformed) -> Result<Self> {
        let name = path.display();
        let file = File::open(path).with_context(|| format!("{name} cannot be opened"))?;
        let mut reader = Reader { mapping, malformed, names: HashSet::new(), traffic: Self::default() };
        match format {
            Format::Log => reader.lines(file, Record::from_log),
            Format::Jsonl => reader.lines(file, Record::from_json),
            Format::Csv => reader.table(file),
        }
        .with_context(|| format!("{name} (read as {format:?})"))?;
        let mut traffic = reader.traffic;
        if traffic.requests.is_empty() {
            let first = traffic.bad_lines_shown.first();
            let why = first.map(|bad| format!(": line {}: {}", bad.number, bad.why)).unwrap_or_default();
            bail!("{name}: no request could be read as {format:?}{why}; name another --format or mapping");
        }
        traffic.subjects = traffic.requests.iter().map(|request| &request.subject).collect::<HashSet<_>>().len() as u64;
        traffic.requests.sort_by_key(|request| request.time);
        Ok(traffic)
    }
}

impl Format {
    /// The format that the name of a file suggests.
    pub(crate) fn of(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("csv") => Self::Csv,
            Some("jsonl" | "ndjson" | "json") => Self::Jsonl,
            _ => Self::Log,
        }
    }
}

struct Reader<'m> {
    mapping: &'m Mapping,
    malformed: Malformed,
    /// Every subject and plan once, because most come again.
    names: HashSet<Arc<str>>,
    traffic: Traffic,
}

impl Reader<'_> {
    fn lines(&mut self, file: impl Read, parse: impl Fn(&str) -> Result<Record>) -> Result<()> {
        let mut file = BufReader::new(file);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            if file.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let text = String::from_utf8_lossy(&line);
            if !text.trim().is_empty() {
                self.take(number, parse(text.trim_end_matches(['\r', '\n'])))?;
            }
        }
        Ok(())
    }

    fn table(&mut self, file: impl Read) -> Result<()> {
        let mut table = csv::Reader::from_reader(file);
        let names = Arc::new(table.headers()?.clone());
        self.mapping.check(&names.iter().collect::<Vec<_>>())?;
        let mut row = csv::StringRecord::new();
        loop {
            let number = table.position().line();
            let record = match table.read_record(&mut row) {
                Ok(false) => return Ok(()),
                Ok(true) => Ok(Record::from_row(&names, row.clone())),
                Err(error) if error.is_io_error() => return Err(error.into()),
                Err(error) => Err(error.into()),
            };
            self.take(number, record)?;
        }
    }

    fn take(&mut self, number: u64, record: Result<Record>) -> Result<()> {
        let so_far = self.traffic.requests.len();
        match record.and_then(|record| self.mapping.request(&record, so_far, &mut self.names)) {
            Ok(request) => self.traffic.requests.push(request),
            Err(error) if self.malformed == Malformed::Refuse => return Err(error.context(format!("line {number}"))),
            Err(error) => {
                self.traffic.bad_lines += 1;
                if self.traffic.bad_lines_shown.len() < BAD_LINES_SHOWN {
                    self.traffic.bad_lines_shown.push(BadLine { number, why: format!("{error:#}") });
                }
            }
        }
        Ok(())
    }
}
