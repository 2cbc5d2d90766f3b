//! The schema of a plans file: from a tree of values to [`Plans`], noting every problem on the way.
//!
//! What a key may hold is said here and nowhere else.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::document::{Entry, Node, Value};
use super::error::Problem;
use super::leasing::Leasing;
use super::limit::{InvalidLimit, QuotaLimit, UNITS_MAX};
use super::plan::{FeatureValue, Plan, Plans, Price, WhenLapsed};
use super::rate::Rate;
use crate::rate::Algorithm;
use crate::usage::period::Windows;

/// The longest name of a plan, metric, feature or scope, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// The longest trial or grace, in days: a hundred years.
const DAYS_MAX: u32 = 36_500;

/// The largest `rate_multiplier`.
const MULTIPLIER_MAX: u32 = 1_000;

pub(super) fn read_plans(document: &Node) -> Result<Plans, Vec<Problem>> {
    let mut problems = Problems::default();
    let plans = read_file(document, &mut problems);
    problems.list.sort_by_key(|problem| problem.line);
    match plans {
        Some(plans) if problems.list.is_empty() => Ok(plans),
        _ => Err(problems.list),
    }
}

fn read_file(document: &Node, problems: &mut Problems) -> Option<Plans> {
    let keys = ["default_plan", "zone", "grace_days", "when_lapsed", "rates", "plans"];
    let mut file = Table::open(document, String::new(), &keys, problems)?;

    let zone = file.take("zone", problems, read_zone);
    let (zone_name, zone) = zone.unwrap_or_else(|| ("UTC".to_owned(), TimeZone::UTC));
    let grace_days = file.take("grace_days", problems, read_days).unwrap_or(0);
    let when_lapsed = file.take("when_lapsed", problems, read_when_lapsed).unwrap_or_default();
    let rates = shared(file.take_names("rates", problems, |_, node, key, problems| read_rate(node, key, problems)));
    let named_default = file.take_required("default_plan", "the id of a plan", problems, read_text);
    let plans = file.take_required("plans", "a table of plans", problems, |node, key, problems| {
        named(node, key, problems, read_plan).filter(|plans| !plans.is_empty()).or_else(|| {
            problems.note(node.line, key, "found no usable plan, expected at least one".to_owned());
            None
        })
    });
    let mut plans: Vec<Arc<Plan>> = plans?.into_values().map(Arc::new).collect();
    plans.sort_by_key(|plan| plan.rank);

    check_ranks(&plans, document, problems);
    check_feature_kinds(&plans, document, problems);
    let named_default = named_default?;
    let Some(default_plan) = plans.iter().find(|plan| *plan.id == *named_default).cloned() else {
        let known: Vec<&str> = plans.iter().map(|plan| &*plan.id).collect();
        let (line, _) = line_of(document, &["default_plan"]);
        let message = format!("found {named_default:?}, expected the id of a plan: {}", known.join(", "));
        problems.note(line, "default_plan", message);
        return None;
    };
    for plan in &plans {
        check_multiplied_rates(&rates, plan, document, problems);
        check_metrics(plan, "allow_degraded", &plan.allow_degraded, document, problems);
        check_metrics(plan, "lease", &plan.lease, document, problems);
    }
    Some(Plans { default_plan, zone, zone_name, grace_days, when_lapsed, rates, windows: Windows::default(), plans })
}

fn read_plan(id: &str, node: &Node, path: &str, problems: &mut Problems) -> Option<Plan> {
    let keys = [
        "name",
        "names",
        "description",
        "rank",
        "visible",
        "version",
        "trial_days",
        "grace_days",
        "prices",
        "stripe_prices",
        "features",
        "quotas",
        "member_quotas",
        "allow_degraded",
        "lease",
        "rates",
        "rate_multiplier",
    ];
    let mut table = Table::open(node, path.to_owned(), &keys, problems)?;
    Some(Plan {
        id: id.into(),
        name: table.take("name", problems, read_text).unwrap_or_else(|| id.to_owned()),
        names: table.take_names("names", problems, |_, node, key, problems| read_text(node, key, problems)),
        description: table.take("description", problems, read_text),
        rank: table
            .take("rank", problems, |node, key, problems| read_u32(node, key, 0..=u32::MAX, problems))
            .unwrap_or(0),
        visible: table.take("visible", problems, read_bool).unwrap_or(true),
        version: table
            .take("version", problems, |node, key, problems| read_u32(node, key, 0..=u32::MAX, problems))
            .unwrap_or(1),
        trial_days: table.take("trial_days", problems, read_days).unwrap_or(0),
        grace_days: table.take("grace_days", problems, read_days),
        prices: table.take_names("prices", problems, |_, node, key, problems| read_price(node, key, problems)),
        stripe_prices: table
            .take_names("stripe_prices", problems, |_, node, key, problems| read_text(node, key, problems)),
        features: shared(
            table.take_names("features", problems, |_, node, key, problems| read_feature(node, key, problems)),
        ),
        quotas: shared(table.take_names("quotas", problems, |_, node, key, problems| read_quotas(node, key, problems))),
        member_quotas: shared(
            table.take_names("member_quotas", problems, |_, node, key, problems| read_quotas(node, key, problems)),
        ),
        allow_degraded: shared(
            table.take_names("allow_degraded", problems, |_, node, key, problems| read_units(node, key, problems)),
        ),
        lease: shared(table.take_names("lease", problems, |_, node, key, problems| read_leasing(node, key, problems))),
        rates: shared(table.take_names("rates", problems, |_, node, key, problems| read_rate(node, key, problems))),
        rate_multiplier: table.take("rate_multiplier", problems, read_multiplier).unwrap_or(1),
    })
}

/// A rate that its algorithm can keep may be too large for it once it is multiplied.
fn check_multiplied_rates(shared: &BTreeMap<Arc<str>, Rate>, plan: &Plan, document: &Node, problems: &mut Problems) {
    for (scope, rate) in shared.iter().chain(&plan.rates) {
        if let Err(error) = rate.check_times(plan.rate_multiplier) {
            let (line, _) = line_of(document, &["plans", &plan.id, "rate_multiplier"]);
            let key = format!("plans.{}.rate_multiplier", plan.id);
            problems.note(line, &key, format!("{error}, in the rate {scope:?}"));
        }
    }
}

/// What is said of metrics must be of such that the plan has.
fn check_metrics<T>(plan: &Plan, table: &str, said: &BTreeMap<Arc<str>, T>, document: &Node, problems: &mut Problems) {
    for metric in said.keys() {
        if !plan.quotas.contains_key(metric) && !plan.member_quotas.contains_key(metric) {
            let (line, _) = line_of(document, &["plans", &plan.id, table, metric]);
            let known: Vec<&str> = plan.quotas.keys().chain(plan.member_quotas.keys()).map(|name| &**name).collect();
            let message = format!("found {metric:?}, expected a metric of the plan's quotas: {}", known.join(", "));
            problems.note(line, &format!("plans.{}.{table}.{metric}", plan.id), message);
        }
    }
}

/// Upgrades are suggested by rank, so no two plans may share one.
fn check_ranks(plans: &[Arc<Plan>], document: &Node, problems: &mut Problems) {
    for pair in plans.windows(2) {
        let [first, second] = pair else { continue };
        let key = format!("plans.{}.rank", second.id);
        // A rank that could not be read has been told already.
        let unread = |plan: &Plan| problems.list.iter().any(|problem| problem.key == format!("plans.{}.rank", plan.id));
        if first.rank != second.rank || unread(first) || unread(second) {
            continue;
        }
        let (line, written) = line_of(document, &["plans", &second.id, "rank"]);
        let found = if written { second.rank.to_string() } else { "no rank, which means 0".to_owned() };
        let message = format!("found {found}, as plan {:?} has; expected a rank of its own, cheapest first", first.id);
        problems.note(line, &key, message);
    }
}

/// A feature that is a number in one plan and a switch in another could not be compared with a request.
fn check_feature_kinds(plans: &[Arc<Plan>], document: &Node, problems: &mut Problems) {
    let mut seen: BTreeMap<&str, (&'static str, &str)> = BTreeMap::new();
    for plan in plans {
        for (name, value) in &plan.features {
            let Some(kind) = value.kind() else { continue };
            let (first_kind, first_plan) = *seen.entry(name).or_insert((kind, &plan.id));
            if kind != first_kind {
                let (line, _) = line_of(document, &["plans", &plan.id, "features", name]);
                let message = format!("found {value}, expected {first_kind} as in plan {first_plan:?}");
                problems.note(line, &format!("plans.{}.features.{name}", plan.id), message);
            }
        }
    }
}

fn read_text(node: &Node, key: &str, problems: &mut Problems) -> Option<String> {
    match &node.value {
        Value::Text(text) if !text.trim().is_empty() => Some(text.clone()),
        _ => problems.expected(node, key, "a text"),
    }
}

fn read_bool(node: &Node, key: &str, problems: &mut Problems) -> Option<bool> {
    match node.value {
        Value::Bool(value) => Some(value),
        _ => problems.expected(node, key, "true or false"),
    }
}

fn read_u32(node: &Node, key: &str, range: RangeInclusive<u32>, problems: &mut Problems) -> Option<u32> {
    let found = match node.value {
        Value::Integer(value) => u32::try_from(value).ok().filter(|value| range.contains(value)),
        _ => None,
    };
    let (least, most) = range.into_inner();
    found.or_else(|| problems.expected(node, key, &format!("a whole number from {least} to {most}")))
}

fn read_units(node: &Node, key: &str, problems: &mut Problems) -> Option<u64> {
    let units = match node.value {
        Value::Integer(value) => u64::try_from(value).ok().filter(|units| *units <= UNITS_MAX),
        _ => None,
    };
    units.or_else(|| problems.expected(node, key, &format!("a whole number from 0 to {UNITS_MAX}")))
}

fn read_leasing(node: &Node, key: &str, problems: &mut Problems) -> Option<Leasing> {
    match &node.value {
        Value::Text(text) if text == "auto" => Some(Leasing::Auto),
        Value::Text(text) if text == "off" => Some(Leasing::Off),
        Value::Table(_) => {
            let mut table = Table::open(node, key.to_owned(), &["max", "ttl_s"], problems)?;
            let Leasing::Blocks { max, ttl_s } = Leasing::BLOCKS else { return None };
            let max = table.take("max", problems, read_units).unwrap_or(max);
            let ttl =
                |node: &Node, key: &str, problems: &mut Problems| read_u32(node, key, 1..=Leasing::TTL_S_MAX, problems);
            Some(Leasing::Blocks { max, ttl_s: table.take("ttl_s", problems, ttl).unwrap_or(ttl_s) })
        }
        _ => problems.expected(node, key, "\"auto\", \"off\" or a table such as { max = 500, ttl_s = 30 }"),
    }
}

fn read_days(node: &Node, key: &str, problems: &mut Problems) -> Option<u32> {
    read_u32(node, key, 0..=DAYS_MAX, problems)
}

fn read_zone(node: &Node, key: &str, problems: &mut Problems) -> Option<(String, TimeZone)> {
    let found = match &node.value {
        Value::Text(name) => TimeZone::get(name).ok().map(|zone| (name.clone(), zone)),
        _ => None,
    };
    found.or_else(|| problems.expected(node, key, "an IANA time zone such as \"America/Sao_Paulo\" or \"UTC\""))
}

fn read_when_lapsed(node: &Node, key: &str, problems: &mut Problems) -> Option<WhenLapsed> {
    match &node.value {
        Value::Text(text) if text == "default_plan" => Some(WhenLapsed::DefaultPlan),
        Value::Text(text) if text == "deny" => Some(WhenLapsed::Deny),
        _ => problems.expected(node, key, "\"default_plan\" or \"deny\""),
    }
}

fn read_price(node: &Node, key: &str, problems: &mut Problems) -> Option<Price> {
    let price = match &node.value {
        Value::Text(text) => text.split_once(' ').filter(|(currency, amount)| {
            let (whole, cents) = amount.split_once('.').unwrap_or((amount, "0"));
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            currency.len() == 3
                && currency.bytes().all(|byte| byte.is_ascii_uppercase())
                && digits(whole)
                && digits(cents)
        }),
        _ => None,
    };
    match price {
        Some((currency, amount)) => Some(Price { currency: currency.to_owned(), amount: amount.to_owned() }),
        None => problems.expected(node, key, "a currency and an amount such as \"BRL 297.00\""),
    }
}

fn read_feature(node: &Node, key: &str, problems: &mut Problems) -> Option<FeatureValue> {
    let value = match &node.value {
        Value::Bool(on) => Some(FeatureValue::Switch(*on)),
        Value::Integer(most) => u64::try_from(*most).ok().filter(|most| *most <= UNITS_MAX).map(FeatureValue::Ceiling),
        Value::Text(word) if !word.trim().is_empty() => Some(FeatureValue::Text(word.clone())),
        _ => None,
    };
    let expected = format!("true, false, a whole number from 0 to {UNITS_MAX} or a text");
    value.or_else(|| problems.expected(node, key, &expected))
}

fn read_quotas(node: &Node, key: &str, problems: &mut Problems) -> Option<Vec<QuotaLimit>> {
    let limits: Vec<QuotaLimit> = read_limits(node, key, problems)?;
    match QuotaLimit::check_together(&limits) {
        Ok(()) => Some(limits),
        Err(error) => problems.refuse(node, key, &error.to_string()),
    }
}

/// A limit, a list of them, or a table that says by which algorithm, and where, they are counted.
fn read_rate(node: &Node, key: &str, problems: &mut Problems) -> Option<Rate> {
    let (limits, algorithm, is_shared) = match &node.value {
        Value::Text(text) if text == "unlimited" => return Some(Rate::unlimited()),
        Value::Table(_) => {
            let mut table = Table::open(node, key.to_owned(), &["limits", "algorithm", "shared"], problems)?;
            let limits = table.take_required("limits", "a rate such as \"10/minute\"", problems, read_limits)?;
            let algorithm = table.take("algorithm", problems, read_algorithm).unwrap_or_default();
            (limits, algorithm, table.take("shared", problems, read_bool).unwrap_or(false))
        }
        _ => (read_limits(node, key, problems)?, Algorithm::default(), false),
    };
    let rate = Rate::new(algorithm, limits).and_then(|rate| if is_shared { rate.in_store() } else { Ok(rate) });
    rate.map_or_else(|error| problems.refuse(node, key, &error.to_string()), Some)
}

fn read_algorithm(node: &Node, key: &str, problems: &mut Problems) -> Option<Algorithm> {
    match &node.value {
        Value::Text(text) => {
            text.parse().map_or_else(|error: InvalidLimit| problems.refuse(node, key, &error.to_string()), Some)
        }
        _ => problems.expected(node, key, Algorithm::EXPECTED),
    }
}

fn read_multiplier(node: &Node, key: &str, problems: &mut Problems) -> Option<u32> {
    read_u32(node, key, 1..=MULTIPLIER_MAX, problems)
}

/// One limit, or a list of them.
fn read_limits<L: FromStr<Err = InvalidLimit>>(node: &Node, key: &str, problems: &mut Problems) -> Option<Vec<L>> {
    let items = match &node.value {
        Value::List(items) if !items.is_empty() => items.iter().collect(),
        _ => vec![node],
    };
    let mut limits = Vec::with_capacity(items.len());
    for item in items {
        match &item.value {
            Value::Text(text) => match text.parse::<L>() {
                Ok(limit) => limits.push(limit),
                Err(error) => return problems.refuse(item, key, &error.to_string()),
            },
            _ => return problems.expected(item, key, "a limit such as \"50/month\", or a list of them"),
        }
    }
    Some(limits)
}

/// Reads a table whose keys the file's author chose.
fn named<T>(
    node: &Node,
    path: &str,
    problems: &mut Problems,
    mut read: impl FnMut(&str, &Node, &str, &mut Problems) -> Option<T>,
) -> Option<BTreeMap<String, T>> {
    let Value::Table(entries) = &node.value else {
        return problems.expected(node, path, "a table");
    };
    let mut named = BTreeMap::new();
    for (index, Entry { line, key, node }) in entries.iter().enumerate() {
        let path = join(path, key);
        if !is_name(key) {
            let message = format!(
                "found the name {key:?}, expected up to {NAME_BYTES_MAX} letters, digits and the signs _ - . :"
            );
            problems.note(*line, &path, message);
        } else if entries.iter().take(index).any(|entry| entry.key == *key) {
            problems.note(*line, &path, "found this key a second time, expected it once".to_owned());
        } else if let Some(value) = read(key, node, &path, problems) {
            named.insert(key.clone(), value);
        }
    }
    Some(named)
}

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(allowed)
}

fn shared<T>(named: BTreeMap<String, T>) -> BTreeMap<Arc<str>, T> {
    named.into_iter().map(|(name, value)| (name.into(), value)).collect()
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The line of the deepest of `keys` that the document has, and whether it has them all.
fn line_of(document: &Node, keys: &[&str]) -> (usize, bool) {
    let mut node = document;
    let mut line = document.line;
    for key in keys {
        let Value::Table(entries) = &node.value else { return (line, false) };
        let Some(entry) = entries.iter().find(|entry| entry.key == *key) else { return (line, false) };
        node = &entry.node;
        line = entry.line;
    }
    (line, true)
}

/// A table whose keys the schema knows.
struct Table<'d> {
    entries: Vec<&'d Entry>,
    line: usize,
    path: String,
}

impl<'d> Table<'d> {
    fn open(node: &'d Node, path: String, known: &[&str], problems: &mut Problems) -> Option<Self> {
        let Value::Table(entries) = &node.value else {
            return problems.expected(node, &path, "a table");
        };
        let mut kept: Vec<&Entry> = Vec::with_capacity(entries.len());
        for entry in entries {
            let key = join(&path, &entry.key);
            if !known.contains(&entry.key.as_str()) {
                problems.note(entry.line, &key, format!("found an unknown key, expected one of: {}", known.join(", ")));
            } else if kept.iter().any(|other| other.key == entry.key) {
                problems.note(entry.line, &key, "found this key a second time, expected it once".to_owned());
            } else {
                kept.push(entry);
            }
        }
        Some(Self { entries: kept, line: node.line, path })
    }

    fn take<T>(
        &mut self,
        key: &str,
        problems: &mut Problems,
        read: impl FnOnce(&Node, &str, &mut Problems) -> Option<T>,
    ) -> Option<T> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        read(&entry.node, &join(&self.path, key), problems)
    }

    fn take_required<T>(
        &mut self,
        key: &str,
        expected: &str,
        problems: &mut Problems,
        read: impl FnOnce(&Node, &str, &mut Problems) -> Option<T>,
    ) -> Option<T> {
        if !self.entries.iter().any(|entry| entry.key == key) {
            problems.note(self.line, &join(&self.path, key), format!("found nothing, expected {expected}"));
        }
        self.take(key, problems, read)
    }

    fn take_names<T>(
        &mut self,
        key: &str,
        problems: &mut Problems,
        read: impl FnMut(&str, &Node, &str, &mut Problems) -> Option<T>,
    ) -> BTreeMap<String, T> {
        self.take(key, problems, |node, path, problems| named(node, path, problems, read)).unwrap_or_default()
    }
}

/// What is wrong with the file so far.
#[derive(Default)]
struct Problems {
    list: Vec<Problem>,
}

impl Problems {
    fn note(&mut self, line: usize, key: &str, message: String) {
        self.list.push(Problem { line, key: key.to_owned(), message });
    }

    /// Notes a problem with a value that is then missing.
    fn refuse<T>(&mut self, node: &Node, key: &str, message: &str) -> Option<T> {
        self.note(node.line, key, message.to_owned());
        None
    }

    fn expected<T>(&mut self, node: &Node, key: &str, expected: &str) -> Option<T> {
        self.refuse(node, key, &format!("found {}, expected {expected}", node.value.describe()))
    }
}
