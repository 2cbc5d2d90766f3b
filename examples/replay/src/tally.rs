//! The tally: what came of every request, added up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use jiff::Timestamp;
use quotum::{Decision, Denial};

use crate::traffic::Request;

/// Into how many stretches the time of the traffic is divided.
const STRETCHES: usize = 72;

/// What one plans file did to the traffic.
pub(crate) struct Tally {
    /// The plans file's name.
    pub(crate) name: String,
    pub(crate) begin: Timestamp,
    pub(crate) end: Timestamp,
    pub(crate) counts: Counts,
    /// Requests that cost nothing and were not asked about.
    pub(crate) free_of_charge: u64,
    pub(crate) plans: BTreeMap<Arc<str>, PlanTally>,
    /// By plan and limit.
    pub(crate) limits: BTreeMap<(Arc<str>, String), LimitTally>,
    /// Units granted and units denied, by metric.
    pub(crate) units: Vec<(String, Counts)>,
    pub(crate) subjects: HashMap<Arc<str>, SubjectTally>,
    pub(crate) stretches: Vec<Counts>,
    /// How long a decision took, in nanoseconds.
    pub(crate) latency_ns: Histogram<u64>,
}

/// How many were allowed and how many denied.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) allowed: u64,
    pub(crate) denied: u64,
}

impl Counts {
    pub(crate) fn all(self) -> u64 {
        self.allowed + self.denied
    }

    fn add(&mut self, allowed: bool, amount: u64) {
        let side = if allowed { &mut self.allowed } else { &mut self.denied };
        *side = side.saturating_add(amount);
    }
}

#[derive(Default)]
pub(crate) struct PlanTally {
    pub(crate) counts: Counts,
    pub(crate) subjects: u64,
    pub(crate) subjects_denied: u64,
}

pub(crate) struct LimitTally {
    pub(crate) reason: &'static str,
    pub(crate) denied: u64,
    pub(crate) subjects: u64,
    pub(crate) first: Timestamp,
    /// The plan that was suggested most lately.
    pub(crate) upgrade_to: Option<Arc<str>>,
}

pub(crate) struct SubjectTally {
    pub(crate) plan: Arc<str>,
    pub(crate) counts: Counts,
    /// Each limit the subject has hit, when first, and how often.
    pub(crate) hits: BTreeMap<String, (Timestamp, u64)>,
}

impl Tally {
    pub(crate) fn new(name: String, metrics: &[&str], begin: Timestamp, end: Timestamp) -> Result<Self> {
        // Up to a minute, to three digits.
        let latency_ns = Histogram::new_with_max(60_000_000_000, 3)?;
        Ok(Self {
            name,
            begin,
            end,
            counts: Counts::default(),
            free_of_charge: 0,
            plans: BTreeMap::new(),
            limits: BTreeMap::new(),
            units: metrics.iter().map(|&metric| (metric.to_owned(), Counts::default())).collect(),
            subjects: HashMap::new(),
            stretches: vec![Counts::default(); STRETCHES],
            latency_ns,
        })
    }

    pub(crate) fn count(&mut self, request: &Request, costs: &[(&str, u64)], decision: &Decision, took: Duration) {
        let allowed = decision.allowed;
        self.latency_ns.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        self.counts.add(allowed, 1);
        for (metric, amount) in costs {
            if let Some((_, units)) = self.units.iter_mut().find(|(name, _)| name == metric) {
                units.add(allowed, *amount);
            }
        }
        let stretch = self.stretch_of(request.time);
        if let Some(stretch) = self.stretches.get_mut(stretch) {
            stretch.add(allowed, 1);
        }
        self.count_subject(request, decision);
    }

    fn count_subject(&mut self, request: &Request, decision: &Decision) {
        let plan = self.plans.entry(Arc::clone(&decision.plan)).or_default();
        plan.counts.add(decision.allowed, 1);
        let subject = self.subjects.entry(Arc::clone(&request.subject)).or_insert_with(|| {
            plan.subjects += 1;
            SubjectTally { plan: Arc::clone(&decision.plan), counts: Counts::default(), hits: BTreeMap::new() }
        });
        subject.counts.add(decision.allowed, 1);
        let Some(denial) = &decision.denied else { return };
        if subject.counts.denied == 1 {
            plan.subjects_denied += 1;
        }
        let limit = limit_of(denial);
        let hit = subject.hits.entry(limit.clone()).or_insert((request.time, 0));
        hit.1 += 1;
        let tally = self.limits.entry((Arc::clone(&decision.plan), limit)).or_insert_with(|| LimitTally {
            reason: denial.reason.as_str(),
            denied: 0,
            subjects: 0,
            first: request.time,
            upgrade_to: None,
        });
        tally.denied += 1;
        tally.subjects += u64::from(hit.1 == 1);
        tally.upgrade_to.clone_from(&denial.upgrade_to);
    }

    fn stretch_of(&self, time: Timestamp) -> usize {
        let whole_ms = (self.end.as_millisecond() - self.begin.as_millisecond()).max(1);
        let into_ms = time.as_millisecond() - self.begin.as_millisecond();
        let stretch = i128::from(into_ms) * STRETCHES as i128 / i128::from(whole_ms);
        usize::try_from(stretch).unwrap_or(0).min(STRETCHES - 1)
    }

    /// The subjects that asked most, busiest first.
    pub(crate) fn busiest(&self, count: usize) -> Vec<(&str, &SubjectTally)> {
        let mut subjects: Vec<_> = self.subjects.iter().map(|(name, tally)| (&**name, tally)).collect();
        subjects.sort_by(|a, b| b.1.counts.all().cmp(&a.1.counts.all()).then(a.0.cmp(b.0)));
        subjects.truncate(count);
        subjects
    }

    /// Who hit which limit when, in the order of time.
    pub(crate) fn first_hits(&self) -> Vec<FirstHit<'_>> {
        let mut hits: Vec<FirstHit<'_>> = self
            .subjects
            .iter()
            .flat_map(|(subject, tally)| {
                tally.hits.iter().map(move |(limit, (at, denied))| FirstHit {
                    at: *at,
                    subject,
                    plan: &tally.plan,
                    limit,
                    denied: *denied,
                })
            })
            .collect();
        hits.sort_by(|a, b| a.at.cmp(&b.at).then(a.subject.cmp(b.subject)));
        hits
    }

    /// A quantile of the decisions' time, in microseconds.
    pub(crate) fn latency_us(&self, quantile: f64) -> f64 {
        Duration::from_nanos(self.latency_ns.value_at_quantile(quantile)).as_secs_f64() * 1e6
    }

    pub(crate) fn subjects_denied(&self) -> u64 {
        self.plans.values().map(|plan| plan.subjects_denied).sum()
    }
}

/// The moment at which a subject first hit a limit.
pub(crate) struct FirstHit<'t> {
    pub(crate) at: Timestamp,
    pub(crate) subject: &'t str,
    pub(crate) plan: &'t str,
    pub(crate) limit: &'t str,
    /// How often it was denied by that limit in all.
    pub(crate) denied: u64,
}

/// The limit that denied, as the plans file writes it; another reason by its name.
fn limit_of(denial: &Denial) -> String {
    match (&denial.metric, denial.limit, denial.period) {
        (Some(metric), Some(limit), Some(period)) => format!("{metric} {limit}/{period}"),
        _ => denial.reason.as_str().to_owned(),
    }
}
