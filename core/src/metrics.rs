//! Metrics, as Prometheus reads them ([OpenMetrics text]). Labels never carry a subject.
//!
//! [OpenMetrics text]: https://prometheus.io/docs/specs/om/open_metrics_spec/

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::admission::Admission;
use crate::decision::{Decision, Reason};

/// From a lookup in memory to a disk that takes its time, in seconds.
const BUCKETS_S: [f64; 12] = [1e-7, 2.5e-7, 5e-7, 1e-6, 2.5e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    verb: &'static str,
    outcome: &'static str,
    reason: &'static str,
    plan: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PathLabels {
    path: &'static str,
}

/// A counter of decisions, found by where its labels lie.
struct Known {
    labels: DecisionLabels,
    counter: Counter,
}

impl Known {
    fn is_of(&self, labels: &DecisionLabels) -> bool {
        let same = |one: &'static str, other: &'static str| std::ptr::eq(one, other);
        Arc::ptr_eq(&self.labels.plan, &labels.plan)
            && same(self.labels.verb, labels.verb)
            && same(self.labels.outcome, labels.outcome)
            && same(self.labels.reason, labels.reason)
    }
}

/// How many counters are found so. Plans that are read anew lie elsewhere, and take the places of those before.
const KNOWN_MAX: usize = 64;

pub(crate) struct Metrics {
    registry: Registry,
    decisions: Family<DecisionLabels, Counter>,
    /// Counters of decisions that were made before. A family finds one by hashing and comparing its labels, which would
    /// take a fifth of a decision in memory.
    known: RwLock<Vec<Known>>,
    in_memory: Histogram,
    in_store: Histogram,
    degraded: Counter,
    store_errors: Counter,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("quotum");
        let decisions = Family::default();
        registry.register("decisions", "Decisions made", decisions.clone());
        let duration = Family::new_with_constructor((|| Histogram::new(BUCKETS_S)) as fn() -> Histogram);
        let help = "How long decisions took, by whether the store was asked";
        registry.register_with_unit("decision_duration", help, Unit::Seconds, duration.clone());
        let took = |path| duration.get_or_create(&PathLabels { path }).clone();
        let (in_memory, in_store) = (took("memory"), took("store"));
        let degraded = Counter::default();
        registry.register("degraded_grants", "Requests allowed although the store could not answer", degraded.clone());
        let store_errors = Counter::default();
        registry.register("store_errors", "Decisions that the store could not answer", store_errors.clone());
        Self { registry, decisions, known: RwLock::default(), in_memory, in_store, degraded, store_errors }
    }

    pub(crate) fn decided(&self, verb: &'static str, decision: &Decision, took: Option<Duration>) {
        let denial = decision.denied.as_ref().or(decision.would_deny.as_ref());
        let outcome = match decision {
            Decision { allowed: false, .. } => "denied",
            Decision { degraded: true, .. } => "degraded",
            Decision { would_deny: Some(_), .. } => "shadow",
            _ => "allowed",
        };
        let labels = DecisionLabels {
            verb,
            outcome,
            reason: denial.map_or("", |denial| denial.reason.as_str()),
            plan: decision.plan.clone().unwrap_or_default(),
        };
        self.count(labels);
        if let Some(took) = took {
            let durations = if decision.trace.asked_store { &self.in_store } else { &self.in_memory };
            durations.observe(took.as_secs_f64());
        }
        if decision.is_degraded_grant() {
            self.degraded.inc();
        }
        if decision.degraded || denial.is_some_and(|denial| denial.reason == Reason::StoreUnavailable) {
            self.store_errors.inc();
        }
    }

    fn count(&self, labels: DecisionLabels) {
        if let Some(known) = self.known.read().iter().find(|known| known.is_of(&labels)) {
            known.counter.inc();
            return;
        }
        let counter = self.decisions.get_or_create(&labels).clone();
        counter.inc();
        let mut known = self.known.write();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.push(Known { labels, counter });
    }
}

impl Admission {
    /// Everything that there is to measure, as text.
    pub(crate) fn metrics_text(&self) -> String {
        let mut page = String::new();
        // Writing to a string does not fail.
        let _infallible = text::encode_registry(&mut page, &self.observer.metrics.registry);
        let mut line = |kind: &str, name: &str, help: &str, value: u64| {
            let total = if kind == "counter" { "_total" } else { "" };
            page.push_str(&format!(
                "# HELP quotum_{name} {help}.\n# TYPE quotum_{name} {kind}\nquotum_{name}{total} {value}\n"
            ));
        };
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        line("gauge", "subject_records", "Subjects kept in memory", count(self.records.len()));
        line("counter", "rate_evictions", "Live windows of rates folded into others", self.rates.evictions());
        line("gauge", "rate_table_bytes", "Memory of the table of rates", count(self.rates.memory_bytes()));
        line("counter", "events_dropped", "Events dropped because the queue was full", self.observer.dropped());
        line("gauge", "debtors", "Subjects with units still to be charged", count(self.debts.len()));
        let leases = self.desk.open();
        let (lost, stranded) = self.desk.counts();
        line("gauge", "leased_units", "Units left in leased blocks", leases.left);
        let help = "Units in blocks of other processes, of the same counters, as the store has told last";
        line("gauge", "stranded_units", help, leases.stranded);
        line("gauge", "lessees", "Subjects and accounts with leased blocks", count(leases.owners));
        line("counter", "lease_units_lost", "Units charged in blocks that were settled too late", lost);
        line("counter", "stranded_denials", "Denials while other processes had leased units", stranded);
        if let Some(tokens) = &self.tokens {
            let stats = tokens.cache().stats();
            line("counter", "token_cache_hits", "Tokens found in the cache", stats.hits);
            line("counter", "token_cache_negative_hits", "Refused tokens found in the cache", stats.negative_hits);
            line("counter", "token_cache_misses", "Tokens that the cache did not know", stats.misses);
            line("counter", "token_cache_evictions", "Tokens dropped from the full cache", stats.evictions);
        }
        page.push_str("# EOF\n");
        page
    }
}
