//! Demand: which counters a request touches, and what it asks of each.
//!
//! Pure: the plan, the windows and the balances are brought by the caller.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::decision::{Denial, QuotaState, Reason};
use crate::error::Error;
use crate::plan::{Plan, Plans, QuotaLimit, UNITS_MAX};
use crate::planted::planted;
use crate::store::{Balance, Charge, CounterKey};
use crate::usage::period::{Period, Window};

/// What a plan grants of a metric that it does not name.
const NOTHING: [QuotaLimit; 1] = [QuotaLimit::Limited { units: 0, period: Period::Total }];

/// Units of a metric that a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) metric: Arc<str>,
    pub(crate) amount: u64,
}

/// What one request asks for. Most ask for one metric or two, which then need no memory of their own.
pub(crate) type Costs = SmallVec<[Cost; 2]>;

/// Checks what a caller has passed as costs: known metrics, each once, each with an amount from `least`.
pub(crate) fn costs_of(plans: &Plans, costs: &[(&str, u64)], least: u64) -> Result<Costs, Error> {
    let mut checked = Costs::with_capacity(costs.len());
    for &(metric, amount) in costs {
        let metric = Arc::clone(plans.metric(metric)?);
        if !(least..=UNITS_MAX).contains(&amount) {
            let expected = format!("from {least} to {UNITS_MAX} units");
            return Err(Error::argument("costs", format!("{amount} {metric}"), expected));
        }
        if checked.iter().any(|cost| cost.metric == metric) {
            let expected = "each metric once, with the sum of its units";
            return Err(Error::argument("costs", format!("{metric} twice"), expected));
        }
        checked.push(Cost { metric, amount });
    }
    Ok(checked)
}

/// Refuses a request that asks for nothing.
pub(crate) fn some_costs_of(plans: &Plans, costs: &[(&str, u64)]) -> Result<Costs, Error> {
    if costs.is_empty() {
        return Err(Error::argument("costs", "none", "at least one metric and its units"));
    }
    costs_of(plans, costs, 1)
}

/// Whose counters a subject's units are counted on.
#[derive(Debug, Clone)]
pub(crate) struct Owners {
    /// The subject itself.
    pub(crate) subject: Arc<str>,
    /// The account that it is a member of.
    pub(crate) account: Option<Arc<str>>,
}

impl Owners {
    /// The account that an owner of counters is a member of.
    pub(crate) fn account_of(&self, owner: &Arc<str>) -> Option<&Arc<str>> {
        self.account.as_ref().filter(|account| *account != owner)
    }

    /// Every limit that a plan has for a metric, with the owner of its counter.
    ///
    /// A member's units count on the account's counters, and where the plan has limits for each member,
    /// on its own counters too.
    pub(crate) fn limits<'p>(
        &'p self,
        plan: &'p Plan,
        metric: &str,
    ) -> impl Iterator<Item = (&'p Arc<str>, QuotaLimit)> {
        let shared = plan.quotas.get(metric).map_or([].as_slice(), Vec::as_slice);
        let account = self.account.as_ref().filter(|_| !planted!("account_not_charged"));
        let owner = account.unwrap_or(&self.subject);
        let member = self.account.is_some() && !planted!("member_limits_ignored");
        let each = plan.member_quotas.get(metric).filter(|_| member);
        let each = each.map_or([].as_slice(), Vec::as_slice);
        let nothing = if shared.is_empty() && each.is_empty() { NOTHING.as_slice() } else { &[] };
        let of = |owner: &'p Arc<str>, limits: &'p [QuotaLimit]| limits.iter().map(move |limit| (owner, *limit));
        of(owner, shared).chain(of(&self.subject, each)).chain(of(owner, nothing))
    }
}

/// The quotas that one request touches: often two, of a day and a month.
pub(crate) type Touches<'c> = SmallVec<[Touched<'c>; 2]>;

/// One quota that a cost touches.
#[derive(Debug, Clone)]
pub(crate) struct Touched<'c> {
    pub(crate) owner: &'c Arc<str>,
    pub(crate) metric: &'c Arc<str>,
    pub(crate) amount: u64,
    pub(crate) limit: QuotaLimit,
    pub(crate) window: Option<Window>,
    /// Whether the members of an account share it.
    pub(crate) shared: bool,
    /// The account whose member the owner is.
    pub(crate) account: Option<&'c Arc<str>>,
}

impl<'c> Touched<'c> {
    /// Every quota that the costs touch under a plan, with its window.
    pub(crate) fn by(
        costs: &'c [Cost],
        plan: &'c Plan,
        owners: &'c Owners,
        mut window: impl FnMut(Period) -> Window,
    ) -> Touches<'c> {
        let mut touched = Touches::new();
        for Cost { metric, amount } in costs {
            for (owner, limit) in owners.limits(plan, metric) {
                touched.push(Self {
                    owner,
                    metric,
                    amount: *amount,
                    limit,
                    window: limit.period().map(&mut window),
                    shared: owners.account.as_ref() == Some(owner),
                    account: owners.account_of(owner),
                });
            }
        }
        touched
    }

    /// The counter of this quota; none where nothing is counted.
    pub(crate) fn key(&self) -> Option<CounterKey> {
        let (period, window) = (self.limit.period()?, self.window?);
        let key = CounterKey::new(Arc::clone(self.owner), Arc::clone(self.metric), period, window);
        Some(CounterKey { account: self.account.cloned(), ..key })
    }

    pub(crate) fn charge(&self) -> Option<Charge> {
        self.key().map(|key| Charge { key, amount: self.amount, limit: self.limit.limit() })
    }
}

/// The counters that are touched, in the order in which balances are expected.
pub(crate) fn keys_of(touched: &[Touched<'_>]) -> Vec<CounterKey> {
    touched.iter().filter_map(Touched::key).collect()
}

/// The state of every touched quota, from the balances of those that are counted.
pub(crate) fn states_of(touched: &[Touched<'_>], balances: &[Balance]) -> Vec<QuotaState> {
    states_from(touched, balances.iter().map(|balance| (*balance, 0)))
}

/// The same, with how many units are left in blocks that this process has leased.
pub(crate) fn states_from(touched: &[Touched<'_>], known: impl IntoIterator<Item = (Balance, u64)>) -> Vec<QuotaState> {
    let mut known = known.into_iter();
    let state = |quota: &Touched<'_>| {
        let (balance, own) = quota.limit.period().and_then(|_| known.next()).unwrap_or_default();
        QuotaState::new(quota, balance, own)
    };
    touched.iter().map(state).collect()
}

/// The quotas that the amounts do not fit into.
pub(crate) fn full<'t, 'c>(
    touched: &'t [Touched<'c>],
    states: &'t [QuotaState],
) -> impl Iterator<Item = (&'t Touched<'c>, &'t QuotaState)> {
    touched.iter().zip(states).filter(|(quota, state)| quota.limit.period().is_some() && quota.amount > state.room())
}

/// The denial that says most: a quota that can never hold the amount, or else the one that starts
/// afresh last, because before that, asking again is in vain.
pub(crate) fn tightest<'t, 'c: 't>(full: impl Iterator<Item = (&'t Touched<'c>, &'t QuotaState)>) -> Option<Denial> {
    let denials = full.map(|(quota, state)| (Denial::of_quota(state, quota.amount), state.resets_at));
    let weight = |(denial, resets_at): &(Denial, Option<jiff::Timestamp>)| {
        (denial.reason == Reason::NeverFits, resets_at.is_none(), *resets_at)
    };
    denials.max_by_key(weight).map(|(denial, _)| denial)
}
