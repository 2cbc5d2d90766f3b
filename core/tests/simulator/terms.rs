//! Terms: what the plans of a run say, as the auditor knows it, and the plans file that says the same.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::tz::TimeZone;
use jiff::{ToSpan, Unit};
use quotum::{Period, QuotaLimit, Timestamp};

use crate::dice::Dice;

pub(crate) const SUBJECTS: [&str; 6] = ["ana", "bob", "cyd", "acme", "mia", "max"];
/// Those that may be members of the account `acme`.
pub(crate) const MEMBERS: [&str; 2] = ["mia", "max"];
pub(crate) const ACCOUNT: &str = "acme";
pub(crate) const METRICS: [&str; 4] = ["jobs", "tokens", "seats", "pings"];
pub(crate) const PLANS: [&str; 3] = ["free", "pro", "team"];

#[derive(Debug, Clone, Default)]
pub(crate) struct PlanTerms {
    pub(crate) quotas: BTreeMap<&'static str, Vec<QuotaLimit>>,
    pub(crate) members: BTreeMap<&'static str, Vec<QuotaLimit>>,
    pub(crate) degraded: BTreeMap<&'static str, u64>,
}

/// The terms of all plans at a time. Each plan's version is the edition, so that decisions tell it.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) edition: u32,
    pub(crate) deny_when_lapsed: bool,
    pub(crate) plans: BTreeMap<&'static str, PlanTerms>,
}

impl Terms {
    /// Terms around the first ones: some limits higher, some lower.
    pub(crate) fn draw(edition: u32, dice: &mut Dice) -> Self {
        let mut units = |usual: u64| if edition == 1 { usual } else { usual * dice.between(50, 200) / 100 };
        let mut limited = |usual, period| QuotaLimit::Limited { units: units(usual), period };
        let free = PlanTerms {
            quotas: BTreeMap::from([
                ("jobs", vec![limited(5, Period::Day), limited(12, Period::Month)]),
                ("tokens", vec![limited(100, Period::Hour), limited(400, Period::Day)]),
                ("seats", vec![limited(3, Period::Total)]),
                ("pings", vec![QuotaLimit::Metered { period: Period::Month }]),
            ]),
            members: BTreeMap::new(),
            degraded: BTreeMap::from([("jobs", 3), ("tokens", 40)]),
        };
        let pro = PlanTerms {
            quotas: BTreeMap::from([
                ("jobs", vec![limited(20, Period::Day)]),
                ("tokens", vec![limited(1_000, Period::Day)]),
                ("seats", vec![limited(6, Period::Total)]),
                ("pings", vec![QuotaLimit::Unlimited]),
            ]),
            members: BTreeMap::new(),
            degraded: BTreeMap::from([("jobs", 5)]),
        };
        // Its pings are counted for each member alone, and it has no seats.
        let team = PlanTerms {
            quotas: BTreeMap::from([
                ("jobs", vec![limited(15, Period::Day), limited(60, Period::Month)]),
                ("tokens", vec![limited(500, Period::Day)]),
            ]),
            members: BTreeMap::from([
                ("jobs", vec![limited(9, Period::Day)]),
                ("tokens", vec![limited(300, Period::Hour)]),
                ("pings", vec![limited(10, Period::Day)]),
            ]),
            degraded: BTreeMap::from([("jobs", 4), ("tokens", 40)]),
        };
        let deny_when_lapsed = dice.chance(500);
        Self { edition, deny_when_lapsed, plans: BTreeMap::from([("free", free), ("pro", pro), ("team", team)]) }
    }

    /// The plans file.
    pub(crate) fn to_toml(&self, zone: &str) -> String {
        let mut text = format!("default_plan = \"free\"\nzone = \"{zone}\"\n");
        let lapsed = if self.deny_when_lapsed { "deny" } else { "default_plan" };
        writeln!(text, "when_lapsed = \"{lapsed}\"").unwrap();
        for (rank, id) in PLANS.iter().enumerate() {
            let plan = &self.plans[id];
            write!(text, "[plans.{id}]\nversion = {}\nrank = {rank}\n", self.edition).unwrap();
            for (name, quotas) in [("quotas", &plan.quotas), ("member_quotas", &plan.members)] {
                let limits = |limits: &Vec<QuotaLimit>| {
                    let texts: Vec<String> = limits.iter().map(|limit| format!("\"{limit}\"")).collect();
                    texts.join(", ")
                };
                let lines: Vec<String> =
                    quotas.iter().map(|(metric, of)| format!("{metric} = [{}]", limits(of))).collect();
                writeln!(text, "{name} = {{ {} }}", lines.join(", ")).unwrap();
            }
            let degraded: Vec<String> =
                plan.degraded.iter().map(|(metric, most)| format!("{metric} = {most}")).collect();
            writeln!(text, "allow_degraded = {{ {} }}", degraded.join(", ")).unwrap();
        }
        text
    }
}

/// When the window that `at` lies in begins, in seconds, and ends: by the calendar, not by the library.
pub(crate) fn window_of(period: Period, at: Timestamp, zone: &TimeZone) -> (i64, Option<Timestamp>) {
    let local = at.to_zoned(zone.clone());
    let (start, end) = match period {
        Period::Total => return (0, None),
        Period::Hour => {
            let start_s = at.as_second().div_euclid(3_600) * 3_600;
            return (start_s, Some(Timestamp::from_second(start_s + 3_600).unwrap()));
        }
        Period::Day => {
            let start = local.start_of_day().unwrap();
            (start.clone(), local.date().tomorrow().unwrap().to_zoned(zone.clone()).unwrap())
        }
        Period::Month => {
            let first = local.date().first_of_month();
            let next = first.checked_add(1.month()).unwrap();
            (first.to_zoned(zone.clone()).unwrap(), next.to_zoned(zone.clone()).unwrap())
        }
        _ => panic!("no plan of a run has {period}"),
    };
    debug_assert_eq!(start.round(Unit::Second).unwrap(), start);
    (start.timestamp().as_second(), Some(end.timestamp()))
}
