//! The mapping: which fields of a record are the subject, the time, the plan and the costs.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use quotum::UNITS_MAX;

use super::log::FIELDS;
use super::record::Record;
use super::{Format, Request, time};

/// The longest subject that the engine takes, in bytes.
const SUBJECT_BYTES_MAX: usize = 256;

#[derive(Debug)]
pub(crate) struct Mapping {
    subject: Subject,
    time: String,
    plan: Option<String>,
    costs: Vec<Cost>,
}

#[derive(Debug)]
enum Subject {
    Field(String),
    /// The file names nobody: requests are dealt to so many made-up subjects in turn.
    Dealt(usize),
}

/// `METRIC=TERM+TERM…`
#[derive(Debug)]
struct Cost {
    metric: String,
    terms: Vec<Term>,
}

#[derive(Debug)]
enum Term {
    Units(u64),
    Field(String),
}

impl Mapping {
    pub(crate) fn new(
        format: Format,
        subject: Option<&str>,
        time: Option<&str>,
        plan: Option<&str>,
        costs: &[String],
    ) -> Result<Self> {
        let log = format == Format::Log;
        let named = |given: Option<&str>, in_logs: &str, otherwise: &str| {
            given.unwrap_or(if log { in_logs } else { otherwise }).to_owned()
        };
        let costs: Result<Vec<Cost>> = costs.iter().map(|cost| Cost::parse(cost)).collect();
        let mapping = Self {
            subject: Subject::parse(&named(subject, "ip", "subject"))?,
            time: named(time, "time", "time"),
            plan: plan.map(str::to_owned),
            costs: costs?,
        };
        if log {
            mapping.check(&FIELDS)?;
        }
        Ok(mapping)
    }

    /// The metrics that requests cost, in the order of [`Request::amounts`].
    pub(crate) fn metrics(&self) -> Vec<&str> {
        self.costs.iter().map(|cost| cost.metric.as_str()).collect()
    }

    /// Refuses a mapping that names a field which no record has.
    pub(crate) fn check(&self, known: &[&str]) -> Result<()> {
        let subject = match &self.subject {
            Subject::Field(name) => Some(name),
            Subject::Dealt(_) => None,
        };
        let terms = self.costs.iter().flat_map(|cost| &cost.terms);
        let costs = terms.filter_map(|term| if let Term::Field(name) = term { Some(name) } else { None });
        let plan = self.plan.as_ref();
        for name in subject.into_iter().chain([&self.time]).chain(plan).chain(costs) {
            if !known.contains(&name.as_str()) {
                bail!(
                    "there is no field {name:?}; there are: {}; name one with --subject, --time, --plan or --cost",
                    known.join(", ")
                );
            }
        }
        Ok(())
    }

    /// The request of a record, `so_far` requests having come before it.
    pub(crate) fn request(&self, record: &Record, so_far: usize, names: &mut HashSet<Arc<str>>) -> Result<Request> {
        let subject = match &self.subject {
            Subject::Field(name) => field(record, name)?,
            Subject::Dealt(count) => Cow::Owned(format!("subject-{}", so_far % count)),
        };
        if subject.len() > SUBJECT_BYTES_MAX {
            bail!("the subject has {} bytes, expected {SUBJECT_BYTES_MAX} at the most", subject.len());
        }
        let plan = self.plan.as_ref().and_then(|name| record.field(name)).filter(|plan| !plan.is_empty());
        Ok(Request {
            time: time::parse(&field(record, &self.time)?)?,
            subject: once(names, &subject),
            plan: plan.map(|plan| once(names, &plan)),
            amounts: self.costs.iter().map(|cost| cost.amount(record)).collect::<Result<_>>()?,
        })
    }
}

impl Subject {
    fn parse(text: &str) -> Result<Self> {
        match text.split_once('%') {
            None => Ok(Self::Field(text.to_owned())),
            Some(("line", count)) => match count.parse() {
                Ok(count) if count > 0 => Ok(Self::Dealt(count)),
                _ => bail!("--subject: found {text:?}, expected line%N with N from 1"),
            },
            Some(_) => bail!("--subject: found {text:?}, expected a field or line%N"),
        }
    }
}

impl Cost {
    fn parse(text: &str) -> Result<Self> {
        let refuse = || format!("--cost: found {text:?}, expected METRIC=UNITS or METRIC=FIELD+FIELD");
        let (metric, sum) = text.split_once('=').with_context(refuse)?;
        let term = |term: &str| term.parse().map_or_else(|_| Term::Field(term.to_owned()), Term::Units);
        let terms: Vec<Term> = sum.split('+').map(|part| term(part.trim())).collect();
        let empty = |term: &Term| matches!(term, Term::Field(name) if name.is_empty());
        if metric.is_empty() || terms.iter().any(empty) {
            bail!(refuse());
        }
        Ok(Self { metric: metric.to_owned(), terms })
    }

    fn amount(&self, record: &Record) -> Result<u64> {
        let mut amount = 0_u64;
        for term in &self.terms {
            let units = match term {
                Term::Units(units) => *units,
                Term::Field(name) => {
                    let text = field(record, name)?;
                    let expected = || format!("field {name:?}: found {text:?}, expected a whole number of units");
                    text.trim().parse().with_context(expected)?
                }
            };
            amount = amount.saturating_add(units);
        }
        if amount > UNITS_MAX {
            bail!("{}: found {amount} units, expected {UNITS_MAX} at the most", self.metric);
        }
        Ok(amount)
    }
}

fn field<'r>(record: &'r Record, name: &str) -> Result<Cow<'r, str>> {
    let text = record.field(name).filter(|text| !text.is_empty());
    text.with_context(|| format!("there is no field {name:?}, or nothing in it"))
}

fn once(names: &mut HashSet<Arc<str>>, name: &str) -> Arc<str> {
    if let Some(known) = names.get(name) {
        return Arc::clone(known);
    }
    let name: Arc<str> = name.into();
    names.insert(Arc::clone(&name));
    name
}
