//! The tally: what came of every request, added up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use jiff::Timestamp;
use quotum::{Decision, Denial, Reason};

use crate::traffic::Request;

/// Into how many stretches the time of the traffic is divided.
const STRETCHES: usize = 72;

/// What one plans file did to the traffic.
pub(crate) struct Tally {
    /// The plans file.
    pub(crate) name: String,
    pub(crate) begin: Timestamp,
    pub(crate) end: Timestamp,
    pub(crate) counts: Counts,
    /// Requests that cost nothing and were not asked about.
    pub(crate) free_of_charge: u64,
    pub(crate) limits: BTreeMap<Limit, LimitTally>,
    /// Units granted and units denied, by metric.
    pub(crate) units: Vec<(String, Counts)>,
    /// By subject and the plan that decided: a subject that changed its plan stands here twice.
    pub(crate) subjects: BTreeMap<(Arc<str>, Arc<str>), SubjectTally>,
    pub(crate) stretches: Vec<Counts>,
    /// How long a decision took, in nanoseconds.
    pub(crate) latency_ns: Histogram<u64>,
}

/// A limit that denied.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Limit {
    pub(crate) plan: Arc<str>,
    /// As the plans file writes it, such as `searches 50/month`; empty where no quota denied.
    pub(crate) text: String,
    pub(crate) reason: Reason,
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
    pub(crate) denied: u64,
    pub(crate) subjects: u64,
    pub(crate) first: Timestamp,
    /// How often each plan was suggested.
    suggested: BTreeMap<Arc<str>, u64>,
}

impl LimitTally {
    /// The plan that was suggested most often.
    pub(crate) fn would_help(&self) -> &str {
        let most = self.suggested.iter().max_by_key(|(_, times)| **times);
        most.map_or("-", |(plan, _)| plan)
    }
}

#[derive(Default)]
pub(crate) struct SubjectTally {
    pub(crate) counts: Counts,
    /// Each limit the subject has hit, when first, and how often.
    hits: BTreeMap<Limit, (Timestamp, u64)>,
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
            limits: BTreeMap::new(),
            units: metrics.iter().map(|&metric| (metric.to_owned(), Counts::default())).collect(),
            subjects: BTreeMap::new(),
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
        // Without a plan nothing was decided, which ends the replay before it comes here.
        let Some(plan) = &decision.plan else { return };
        let key = (Arc::clone(&request.subject), Arc::clone(plan));
        let subject = self.subjects.entry(key).or_default();
        subject.counts.add(decision.allowed, 1);
        let Some(denial) = &decision.denied else { return };
        let limit = Limit { plan: Arc::clone(plan), text: text_of(denial), reason: denial.reason };
        let hit = subject.hits.entry(limit.clone()).or_insert((request.time, 0));
        hit.1 += 1;
        let new = || LimitTally { denied: 0, subjects: 0, first: request.time, suggested: BTreeMap::new() };
        let tally = self.limits.entry(limit).or_insert_with(new);
        tally.denied += 1;
        tally.subjects += u64::from(hit.1 == 1);
        if let Some(plan) = &denial.upgrade_to {
            *tally.suggested.entry(Arc::clone(plan)).or_default() += 1;
        }
    }

    /// What each plan decided.
    pub(crate) fn plans(&self) -> BTreeMap<&str, PlanTally> {
        let mut plans: BTreeMap<&str, PlanTally> = BTreeMap::new();
        for ((_, plan), subject) in &self.subjects {
            let tally = plans.entry(plan).or_default();
            tally.counts.add(true, subject.counts.allowed);
            tally.counts.add(false, subject.counts.denied);
            tally.subjects += 1;
            tally.subjects_denied += u64::from(subject.counts.denied > 0);
        }
        plans
    }

    fn stretch_of(&self, time: Timestamp) -> usize {
        let whole_ms = (self.end.as_millisecond() - self.begin.as_millisecond()).max(1);
        let into_ms = time.as_millisecond() - self.begin.as_millisecond();
        let stretch = i128::from(into_ms) * STRETCHES as i128 / i128::from(whole_ms);
        usize::try_from(stretch).unwrap_or(0).min(STRETCHES - 1)
    }

    /// The subjects that asked most, each with its plan, busiest first.
    pub(crate) fn busiest(&self, count: usize) -> Vec<(&str, &str, Counts)> {
        let mut subjects: Vec<_> =
            self.subjects.iter().map(|((subject, plan), tally)| (&**subject, &**plan, tally.counts)).collect();
        subjects.sort_by(|a, b| b.2.all().cmp(&a.2.all()).then(a.0.cmp(b.0)));
        subjects.truncate(count);
        subjects
    }

    /// Who hit which limit when, in the order of time.
    pub(crate) fn first_hits(&self) -> Vec<FirstHit<'_>> {
        let mut hits = Vec::new();
        for ((subject, _), tally) in &self.subjects {
            for (limit, (at, denied)) in &tally.hits {
                hits.push(FirstHit { at: *at, subject, limit, denied: *denied });
            }
        }
        hits.sort_by(|a, b| a.at.cmp(&b.at).then(a.subject.cmp(b.subject)));
        hits
    }

    /// A quantile of the decisions' time, in microseconds.
    pub(crate) fn latency_us(&self, quantile: f64) -> f64 {
        Duration::from_nanos(self.latency_ns.value_at_quantile(quantile)).as_secs_f64() * 1e6
    }

    /// How many subjects were denied at least once, on whichever plan.
    pub(crate) fn subjects_denied(&self) -> u64 {
        let denied = self.subjects.iter().filter(|(_, tally)| tally.counts.denied > 0);
        denied.map(|((subject, _), _)| subject).collect::<BTreeSet<_>>().len() as u64
    }
}

/// The moment at which a subject first hit a limit.
pub(crate) struct FirstHit<'t> {
    pub(crate) at: Timestamp,
    pub(crate) subject: &'t str,
    pub(crate) limit: &'t Limit,
    /// How often it was denied by that limit in all.
    pub(crate) denied: u64,
}

/// The limit that denied, as the plans file writes it; of a metric that the plan does not name, that.
fn text_of(denial: &Denial) -> String {
    if let (Some(scope), Some(limit), Some(window_s)) = (&denial.scope, denial.limit, denial.window_s) {
        return format!("{scope} {limit} in {window_s} s");
    }
    match (&denial.metric, denial.limit, denial.period) {
        (Some(metric), Some(0), _) => format!("{metric} not in the plan"),
        (Some(metric), Some(limit), Some(period)) => format!("{metric} {limit}/{period}"),
        _ => String::new(),
    }
}
