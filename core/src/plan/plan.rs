//! Plans: named sets of features, quotas and rates. Values only; `schema.rs` reads them from a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize, Serializer};

use super::leasing::Leasing;
use super::limit::{QuotaLimit, UNITS_MAX};
use super::rate::Rate;
use crate::error::{Error, Kind};
use crate::usage::period::Windows;

/// One plan: what a subject on it may do, and how it is shown and sold.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// The name by which subscriptions refer to it.
    pub id: Arc<str>,
    /// The name shown to people; the id where the file gives none.
    pub name: String,
    /// The name in other languages, by language tag.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<String, String>,
    /// A sentence for the price list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its place in lists and in upgrade suggestions, cheapest first.
    pub rank: u32,
    /// Whether the public listing and upgrade suggestions show it.
    pub visible: bool,
    /// Which edition of the plan this is, for whoever keeps several.
    pub version: u32,
    /// How long a trial of it lasts; 0 where there is none.
    pub trial_days: u32,
    /// How long after its end a subscription still grants; the file's own setting where `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_days: Option<u32>,
    /// What it costs, by billing interval.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub prices: BTreeMap<String, Price>,
    /// Its Stripe price ids, by billing interval.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub stripe_prices: BTreeMap<String, String>,
    /// What it can do, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub features: BTreeMap<Arc<str>, FeatureValue>,
    /// How much it may use, by metric; at most one limit for each period.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub quotas: BTreeMap<Arc<str>, Vec<QuotaLimit>>,
    /// How much each member of an account on this plan may use of what the account has, by metric.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub member_quotas: BTreeMap<Arc<str>, Vec<QuotaLimit>>,
    /// Units that each subject may use of a metric while the store cannot be asked, by metric: charged when
    /// it is back. Of a metric that is not listed, none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub allow_degraded: BTreeMap<Arc<str>, u64>,
    /// Whether units are granted from leased blocks, by metric; of a metric that is not listed, as the engine was
    /// [built](crate::Builder::lease).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub lease: BTreeMap<Arc<str>, Leasing>,
    /// How fast it may ask, by scope, before `rate_multiplier`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rates: BTreeMap<Arc<str>, Rate>,
    /// How many times over each of its rates holds, in units and in burst: 1 to 1,000.
    pub rate_multiplier: u32,
}

/// The value of a feature.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FeatureValue {
    /// On or off.
    Switch(bool),
    /// The most that may be asked for, up to [`UNITS_MAX`](crate::UNITS_MAX).
    Ceiling(u64),
    /// A word; `"unlimited"` is a ceiling that nothing exceeds.
    Text(String),
}

impl FeatureValue {
    /// The word for a ceiling that nothing exceeds.
    pub(crate) const UNLIMITED: &str = "unlimited";

    /// Whether a caller who needs `requested` may have it: a switch that is wanted must be on, a ceiling
    /// must not be exceeded, a text must be the same. `None` where the two are of different kinds.
    #[must_use]
    pub fn grants(&self, requested: &Self) -> Option<bool> {
        match (self, requested) {
            (Self::Switch(has), Self::Switch(wanted)) => Some(*has || !wanted),
            (Self::Ceiling(most), Self::Ceiling(wanted)) => Some(wanted <= most),
            (Self::Text(word), Self::Ceiling(_)) if word == Self::UNLIMITED => Some(true),
            (Self::Text(word), Self::Text(wanted)) => Some(word == wanted),
            _ => None,
        }
    }

    /// Whether the feature is there at all: a switch that is on, a ceiling above zero, any text.
    #[must_use]
    pub fn is_present(&self) -> bool {
        match self {
            Self::Switch(on) => *on,
            Self::Ceiling(most) => *most > 0,
            Self::Text(_) => true,
        }
    }

    /// What kind of value this is, for messages; `None` for `"unlimited"`, which is any ceiling.
    pub(crate) fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Switch(_) => Some("true or false"),
            Self::Ceiling(_) => Some("a whole number"),
            Self::Text(word) if word == Self::UNLIMITED => None,
            Self::Text(_) => Some("a text"),
        }
    }
}

impl fmt::Display for FeatureValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(on) => on.fmt(f),
            Self::Ceiling(most) => most.fmt(f),
            Self::Text(word) => word.fmt(f),
        }
    }
}

impl From<bool> for FeatureValue {
    fn from(on: bool) -> Self {
        Self::Switch(on)
    }
}

impl From<u64> for FeatureValue {
    fn from(most: u64) -> Self {
        Self::Ceiling(most)
    }
}

impl From<&str> for FeatureValue {
    fn from(word: &str) -> Self {
        Self::Text(word.to_owned())
    }
}

impl From<String> for FeatureValue {
    fn from(word: String) -> Self {
        Self::Text(word)
    }
}

/// An amount of money as it is shown, such as `BRL 297.00`. Quotum does not calculate with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// Three capital letters of [ISO 4217](https://www.iso.org/iso-4217-currency-codes.html).
    pub currency: String,
    /// The amount, with the decimals that the file gave it.
    pub amount: String,
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.currency, self.amount)
    }
}

impl Serialize for Price {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a subject gets once its subscription has lapsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenLapsed {
    /// The default plan; or nothing where the default plan is a trial, which no one gets twice.
    #[default]
    DefaultPlan,
    /// Nothing: every request is denied as `subscription_inactive`.
    Deny,
}

/// All plans of a plans file, checked and ready to decide by.
#[derive(Debug, Clone, PartialEq)]
pub struct Plans {
    pub(super) default_plan: Arc<Plan>,
    pub(super) zone: TimeZone,
    pub(super) zone_name: String,
    pub(crate) grace_days: u32,
    pub(super) when_lapsed: WhenLapsed,
    /// Of scopes that a plan does not name itself.
    pub(super) rates: BTreeMap<Arc<str>, Rate>,
    /// The windows of now in `zone`.
    pub(crate) windows: Windows,
    /// By rank.
    pub(super) plans: Vec<Arc<Plan>>,
}

impl Plans {
    /// All plans by rank, hidden ones too.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Plan>> {
        self.plans.iter()
    }

    /// The plans that the public may see, by rank.
    pub fn visible(&self) -> impl Iterator<Item = &Arc<Plan>> {
        self.plans.iter().filter(|plan| plan.visible)
    }

    /// The plan of this id.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`], listing the plans there are.
    pub fn get(&self, id: &str) -> Result<&Arc<Plan>, Error> {
        let found = self.plans.iter().find(|plan| &*plan.id == id);
        found.ok_or_else(|| Error::unknown(Kind::Plan, id, self.plans.iter().map(|plan| &plan.id)))
    }

    /// The plan of a subject that has no subscription.
    #[must_use]
    pub fn default_plan(&self) -> &Arc<Plan> {
        &self.default_plan
    }

    /// The zone in which calendar periods begin.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// What a subject gets once its subscription has lapsed.
    #[must_use]
    pub fn when_lapsed(&self) -> WhenLapsed {
        self.when_lapsed
    }

    /// How many days after its end a subscription to `plan` still grants.
    #[must_use]
    pub fn grace_days(&self, plan: &Plan) -> u32 {
        plan.grace_days.unwrap_or(self.grace_days)
    }

    /// The rate of a scope on a plan: the plan's own, or that of all plans. `None` where neither has one.
    #[must_use]
    pub fn rate<'p>(&'p self, plan: &'p Plan, scope: &str) -> Option<&'p Rate> {
        plan.rates.get(scope).or_else(|| self.rates.get(scope))
    }

    /// The rate of a scope where no plan is known, as of an address: that of all plans, or the default
    /// plan's.
    #[must_use]
    pub fn shared_rate(&self, scope: &str) -> Option<&Rate> {
        self.rates.get(scope).or_else(|| self.default_plan.rates.get(scope))
    }

    /// The scope by the name that the plans share.
    pub(crate) fn scope(&self, name: &str) -> Result<&Arc<str>, Error> {
        let found = self.scopes().find(|scope| ***scope == *name);
        found.ok_or_else(|| Error::unknown(Kind::Scope, name, self.scopes().collect::<BTreeSet<_>>()))
    }

    /// Every scope of every plan; some of them several times.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.rates.keys().chain(self.plans.iter().flat_map(|plan| plan.rates.keys()))
    }

    /// The metric by the name that the plans share.
    pub(crate) fn metric(&self, name: &str) -> Result<&Arc<str>, Error> {
        let found = self.metrics().find(|metric| ***metric == *name);
        found.ok_or_else(|| Error::unknown(Kind::Metric, name, self.metrics().collect::<BTreeSet<_>>()))
    }

    /// Every metric of every plan; some of them several times.
    pub(crate) fn metrics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.plans.iter().flat_map(|plan| plan.quotas.keys().chain(plan.member_quotas.keys()))
    }

    /// The feature by the name that the plans share.
    pub(crate) fn feature(&self, name: &str) -> Result<&Arc<str>, Error> {
        self.known(Kind::Feature, name, |plan| &plan.features)
    }

    /// Refuses a value that the feature cannot have: a number for a switch is a mistake, not a denial.
    pub(crate) fn check_feature(
        &self,
        argument: &'static str,
        name: &str,
        value: &FeatureValue,
    ) -> Result<&Arc<str>, Error> {
        let feature = self.feature(name)?;
        let kind = self.plans.iter().find_map(|plan| plan.features.get(feature)?.kind());
        let of_another_kind = value.kind().is_some_and(|own| kind.is_some_and(|kind| kind != own));
        let too_large = matches!(value, FeatureValue::Ceiling(most) if *most > UNITS_MAX);
        if of_another_kind || too_large {
            let kind = kind.filter(|_| of_another_kind);
            let expected =
                kind.map_or_else(|| format!("at most {UNITS_MAX}"), |kind| format!("{kind}, as in the plans"));
            return Err(Error::argument(argument, format!("{value} for {name:?}"), expected));
        }
        Ok(feature)
    }

    fn known<'p, T: 'p>(
        &'p self,
        kind: Kind,
        name: &str,
        of: impl Fn(&Plan) -> &BTreeMap<Arc<str>, T>,
    ) -> Result<&'p Arc<str>, Error> {
        let found = self.plans.iter().find_map(|plan| of(plan).get_key_value(name));
        found.map(|(name, _)| name).ok_or_else(|| {
            let all: BTreeSet<&Arc<str>> = self.plans.iter().flat_map(|plan| of(plan).keys()).collect();
            Error::unknown(kind, name, all)
        })
    }

    /// The plans file, as JSON, that reads back as these plans.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut plans = serde_json::Map::new();
        for plan in &self.plans {
            if let Ok(serde_json::Value::Object(mut fields)) = serde_json::to_value(plan) {
                fields.remove("id");
                plans.insert(plan.id.to_string(), fields.into());
            }
        }
        let file = serde_json::json!({
            "default_plan": self.default_plan.id,
            "zone": self.zone_name,
            "grace_days": self.grace_days,
            "when_lapsed": self.when_lapsed,
            "rates": self.rates,
            "plans": plans,
        });
        file.to_string()
    }
}
