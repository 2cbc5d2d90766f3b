//! Enforces one plans file on the traffic, and tallies what came of it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use quotum::blocking::Quota;
use quotum::{ManualClock, Plans, Subscription};

use crate::deal::Deal;
use crate::tally::Tally;
use crate::traffic::{Request, Traffic};

/// The traffic, and how its subjects come by their plans.
pub(crate) struct Scene<'t> {
    pub(crate) traffic: &'t Traffic,
    pub(crate) metrics: Vec<&'t str>,
    pub(crate) rate: Option<&'t str>,
    pub(crate) deal: Option<&'t Deal>,
}

impl Scene<'_> {
    /// Enforces the plans on `store`, or on a new SQLite file that is removed afterwards.
    pub(crate) fn enforce(&self, plans: &Path, store: Option<&str>) -> Result<Tally> {
        let scratch = tempfile::tempdir()?;
        let url = store.map_or_else(|| format!("sqlite:{}", scratch.path().join("quota.db").display()), str::to_owned);
        let requests = &self.traffic.requests;
        let begin = requests.first().map_or(Timestamp::UNIX_EPOCH, |request| request.time);
        let clock = Arc::new(ManualClock::at(begin));
        let name = plans.display().to_string();
        let plans = Plans::read(plans)?;
        for plan in self.traffic.plans().into_iter().chain(self.deal.into_iter().flat_map(Deal::plans)) {
            plans.get(plan).with_context(|| name.clone())?;
        }
        let default_plan = Arc::clone(&plans.default_plan().id);
        let quota = Quota::builder()
            .plans(plans)
            .clock(clock.clone())
            // Time jumps from request to request, and nobody else changes a plan meanwhile.
            .subscription_ttl(Duration::MAX)
            .catalog_ttl(Duration::MAX)
            .feed_interval(Duration::MAX)
            .records_max(1_000_000)
            .open(&url)?;

        let end = requests.last().map_or(begin, |request| request.time);
        let mut tally = Tally::new(name, &self.metrics, begin, end)?;
        let mut seen: HashMap<Arc<str>, Seen> = HashMap::new();
        let progress = progress(requests.len());
        for request in progress.wrap_iter(requests.iter()) {
            // Rates count by the time that passes, quotas by the time of day.
            let passed = request.time.duration_since(quotum::Clock::wall(&*clock));
            clock.advance(Duration::try_from(passed).unwrap_or_default());
            self.follow_plan(&quota, &default_plan, request, &mut seen)?;
            let costs: Vec<(&str, u64)> = self
                .metrics
                .iter()
                .copied()
                .zip(request.amounts.iter().copied())
                .filter(|(_, units)| *units > 0)
                .collect();
            if costs.is_empty() {
                tally.free_of_charge += 1;
                continue;
            }
            let begin = Instant::now();
            let asked = quotum::Request::by(&request.subject).costs(&costs);
            let asked = self.rate.map_or_else(|| asked.clone(), |scope| asked.clone().rate(scope));
            let decision = quota.admit(&asked).with_context(|| tally.name.clone())?;
            if let Some(cause) = decision.denied.as_ref().and_then(|denial| denial.cause.as_ref()) {
                bail!("{}: {cause}", tally.name);
            }
            tally.count(request, &costs, &decision, begin.elapsed());
        }
        progress.finish_and_clear();
        Ok(tally)
    }

    /// Subscribes a subject to its plan when it is new, or when the traffic says that its plan changed.
    /// Billing periods are counted from its first request.
    fn follow_plan(
        &self,
        quota: &Quota,
        default_plan: &Arc<str>,
        request: &Request,
        seen: &mut HashMap<Arc<str>, Seen>,
    ) -> Result<()> {
        let dealt = || self.deal.and_then(|deal| deal.plan(seen.len())).map_or_else(|| default_plan.clone(), Arc::from);
        let known = seen.get(&request.subject);
        let plan = match (&request.plan, known) {
            (Some(plan), _) => Arc::clone(plan),
            (None, Some(known)) => Arc::clone(&known.plan),
            (None, None) => dealt(),
        };
        // A new subject is on the default plan by itself, and starts its trial with its first request.
        let before = known.map_or(default_plan, |known| &known.plan);
        let first = known.map_or(request.time, |known| known.first);
        if plan != *before {
            let mut subscription = Subscription::active(&plan, request.time);
            subscription.anchor = Some(first);
            quota.subscribe(&request.subject, subscription)?;
        }
        seen.insert(Arc::clone(&request.subject), Seen { plan, first });
        Ok(())
    }
}

/// A subject that has made a request: the plan it was last on, and when it came.
struct Seen {
    plan: Arc<str>,
    first: Timestamp,
}

fn progress(requests: usize) -> ProgressBar {
    let progress = ProgressBar::new(requests as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} requests, {eta} to go") {
        progress.set_style(style);
    }
    progress
}
