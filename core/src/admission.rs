//! The flow of a request, top to bottom: subject, subscription, plan, features, quota, decision.
//!
//! Each stage lives in a module of its own; this file only strings them together. Whether a caller is
//! synchronous or a task makes one difference, which it hands on to the store as [`Wait`].

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use crate::clock::{Clock, Ratchet};
use crate::decision::{Decision, Denial, QuotaState, Reason, Usage};
use crate::error::{Error, Kind};
use crate::plan::catalog::Catalog;
use crate::plan::{FeatureValue, Plan, Plans, QuotaLimit, UNITS_MAX, upgrade};
use crate::record::{Changes, Fetched, Record, Records};
use crate::standing::Standing;
use crate::store::{Balance, Call, Charge, Charged, CounterKey, Refund, Store, Wait, charge_all};
use crate::subscription::Subscription;
use crate::usage::period::{Period, Window};

/// The longest id of a subject, in bytes.
const SUBJECT_BYTES_MAX: usize = 256;

/// What a plan grants of a metric that it does not name.
const NOTHING: [QuotaLimit; 1] = [QuotaLimit::Limited { units: 0, period: Period::Total }];

#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ratchet: Ratchet,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) records: Records,
    pub(crate) changes: Changes,
    pub(crate) subscription_ttl: Duration,
}

/// What a request means to do with the quotas it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Use them.
    Charge,
    /// Only look.
    Look,
}

/// A caller whose subject, subscription and plan are known.
struct Caller {
    call: Call,
    record: Arc<Record>,
    plans: Arc<Plans>,
    standing: Arc<Standing>,
}

/// Forgets what is known of a subject when it goes out of scope.
struct Forget<'a> {
    admission: &'a Admission,
    subject: &'a str,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        // First the count, so that a read under way is either not kept or cleared here.
        self.admission.changes.note();
        self.admission.records.of(self.subject).clear();
    }
}

/// Units of a metric that a request asks for.
struct Cost {
    metric: Arc<str>,
    amount: u64,
}

/// One quota that a cost touches.
struct Touched {
    metric: Arc<str>,
    amount: u64,
    limit: QuotaLimit,
    window: Option<Window>,
}

impl Admission {
    /// `consume` and `check`.
    pub(crate) async fn admit(
        &self,
        wait: Wait,
        purpose: Purpose,
        subject: &str,
        costs: &[(&str, u64)],
    ) -> Result<Decision, Error> {
        let call = self.call(wait);
        let plans = self.catalog.plans(call).await?;
        let mut caller = self.caller(call, plans, subject).await?;
        let costs = costs_of(&caller.plans, costs)?;
        if purpose == Purpose::Charge && caller.standing.trial_to_start {
            // A denied request leaves nothing behind, so it must not start the trial either.
            let decision = self.decide(&caller, Purpose::Look, &costs).await?;
            if !decision.allowed {
                return Ok(decision);
            }
            caller = self.start_trial(&caller).await?;
        }
        self.decide(&caller, purpose, &costs).await
    }

    /// Weighs the costs against the caller's quotas, and charges them if that is the purpose.
    async fn decide(&self, caller: &Caller, purpose: Purpose, costs: &[Cost]) -> Result<Decision, Error> {
        if let Some(denial) = caller.refusal() {
            return self.deny(caller, Vec::new(), denial, costs).await;
        }
        let touched = caller.touched(costs);
        let charges: Vec<Charge> = touched.iter().filter_map(|quota| quota.charge(caller)).collect();
        let charged = match purpose {
            _ if charges.is_empty() => Charged { granted: true, balances: Vec::new() },
            Purpose::Charge => self.store.charge(caller.call, &charges).await?,
            Purpose::Look => self.look(caller.call, &charges).await?,
        };
        let states = states_of(&touched, &charged.balances);
        if charged.granted {
            return Ok(caller.allow(states));
        }
        match tightest(&touched, &states) {
            Some(denial) => self.deny(caller, states, denial, costs).await,
            None => Err(store_lied("it refused charges that fit within their limits")),
        }
    }

    /// Gives units back to the periods that `now` lies in.
    pub(crate) async fn refund(
        &self,
        wait: Wait,
        subject: &str,
        costs: &[(&str, u64)],
    ) -> Result<Vec<QuotaState>, Error> {
        let call = self.call(wait);
        let plans = self.catalog.plans(call).await?;
        let caller = self.caller(call, plans, subject).await?;
        let costs = costs_of(&caller.plans, costs)?;
        let touched = caller.touched(&costs);
        let refunds: Vec<Refund> = touched
            .iter()
            .filter_map(|quota| quota.key(&caller).map(|key| Refund { key, amount: quota.amount }))
            .collect();
        let balances = self.store.refund(call, &refunds).await?;
        Ok(states_of(&touched, &balances))
    }

    /// Everything that a subject's account page shows.
    pub(crate) async fn usage(&self, wait: Wait, subject: &str) -> Result<Usage, Error> {
        let call = self.call(wait);
        let plans = self.catalog.plans(call).await?;
        let caller = self.caller(call, plans, subject).await?;
        let standing = &caller.standing;
        let every: Vec<Cost> =
            standing.plan.quotas.keys().map(|metric| Cost { metric: Arc::clone(metric), amount: 1 }).collect();
        let touched = caller.touched(&every);
        let keys: Vec<CounterKey> = touched.iter().filter_map(|quota| quota.key(&caller)).collect();
        let balances = self.store.balances(call, &keys).await?;
        Ok(Usage {
            subject: Arc::clone(&caller.record.subject),
            plan: Arc::clone(&standing.plan.id),
            plan_name: standing.plan.name.clone(),
            plan_version: standing.plan.version,
            status: standing.status,
            refused: standing.refused.map(|(reason, _)| reason),
            trial_ends_at: standing.trial_ends_at,
            expires_at: standing.expires_at,
            quotas: states_of(&touched, &balances),
        })
    }

    /// The value of a feature in the subject's plan; `None` where the plan does not name it.
    pub(crate) async fn feature(&self, wait: Wait, subject: &str, name: &str) -> Result<Option<FeatureValue>, Error> {
        let call = self.call(wait);
        let plans = self.catalog.plans(call).await?;
        let caller = self.caller(call, plans, subject).await?;
        caller.plans.feature(name)?;
        let granted = caller.standing.refused.is_none();
        Ok(caller.standing.plan.features.get(name).filter(|_| granted).cloned())
    }

    /// Decides on a feature: that it be there, or that it grant a value.
    pub(crate) async fn require(
        &self,
        wait: Wait,
        subject: &str,
        name: &str,
        requested: Option<FeatureValue>,
    ) -> Result<Decision, Error> {
        let call = self.call(wait);
        let plans = self.catalog.plans(call).await?;
        let caller = self.caller(call, plans, subject).await?;
        let feature = Arc::clone(match &requested {
            Some(requested) => caller.plans.check_feature("value", name, requested)?,
            None => caller.plans.feature(name)?,
        });
        let denial = caller.refusal().or_else(|| {
            let granted = caller.standing.plan.features.get(&feature);
            let missing = granted.is_none_or(|granted| !granted.is_present());
            let reason = if missing { Reason::FeatureNotInPlan } else { Reason::FeatureValueExceeded };
            let denied = !upgrade::grants(&caller.standing.plan, &feature, requested.as_ref());
            denied.then(|| Denial { feature_granted: granted.cloned(), ..Denial::because(reason) })
        });
        let Some(denial) = denial else { return Ok(caller.allow(Vec::new())) };
        let upgrade_to = caller
            .upgrades()
            .find(|plan| upgrade::grants(plan, &feature, requested.as_ref()))
            .map(|plan| Arc::clone(&plan.id));
        Ok(caller
            .denied(Vec::new(), Denial { feature: Some(feature), feature_requested: requested, upgrade_to, ..denial }))
    }

    /// The plans in force.
    pub(crate) async fn plans(&self, wait: Wait) -> Result<Arc<Plans>, Error> {
        self.catalog.plans(self.call(wait)).await
    }

    pub(crate) async fn set_plans(&self, wait: Wait, plans: &Plans) -> Result<u64, Error> {
        let call = self.call(wait);
        match self.store.put_plans(call, plans).await {
            Ok(version) => {
                self.catalog.install(plans.clone(), version, call.now);
                Ok(version)
            }
            Err(error) => {
                // The outcome may be unknown.
                self.catalog.clear();
                Err(error.into())
            }
        }
    }

    pub(crate) async fn subscription(&self, wait: Wait, subject: &str) -> Result<Option<Subscription>, Error> {
        check_subject(subject)?;
        Ok(self.store.subscription(self.call(wait), subject).await?)
    }

    /// Puts a subscription in force: at once in this process, within the lifetime of a cached one in
    /// others.
    pub(crate) async fn subscribe(&self, wait: Wait, subject: &str, subscription: Subscription) -> Result<(), Error> {
        check_subject(subject)?;
        let call = self.call(wait);
        let mut plans = self.catalog.plans(call).await?;
        if plans.get(&subscription.plan).is_err() {
            plans = self.catalog.newer(call).await?;
        }
        subscription.check(&plans)?;
        let plan = plans.get(&subscription.plan)?;
        let subscription = subscription.kept_under(plan);
        // Also where the outcome is unknown: what was known is no longer sure.
        let _forgotten = Forget { admission: self, subject };
        self.store.put_subscription(call, subject, &subscription).await?;
        Ok(())
    }

    /// Subject, subscription and plan: from the record, or from the store when it is not known.
    async fn caller(&self, call: Call, plans: Arc<Plans>, subject: &str) -> Result<Caller, Error> {
        check_subject(subject)?;
        let record = self.records.of(subject);
        match self.standing(call, &record, &plans).await {
            // Another process may have put the plan since, and the subject on it.
            Err(Error::Unknown { kind: Kind::Plan, .. }) => {
                let plans = self.catalog.newer(call).await?;
                let standing = self.standing(call, &record, &plans).await?;
                Ok(Caller { call, record, plans, standing })
            }
            standing => Ok(Caller { call, record, plans, standing: standing? }),
        }
    }

    async fn standing(&self, call: Call, record: &Record, plans: &Arc<Plans>) -> Result<Arc<Standing>, Error> {
        if let Some(standing) = record.standing(plans, call.now, self.clock.monotonic())? {
            return Ok(standing);
        }
        let start = || {
            let (store, subject) = (Arc::clone(&self.store), Arc::clone(&record.subject));
            let stale_from = self.clock.monotonic().saturating_add(self.subscription_ttl);
            let changes = self.changes.count();
            let fetch = async move {
                let subscription = store.subscription(call, &subject).await?;
                Ok(Fetched { subscription, stale_from, changes })
            };
            fetch.boxed()
        };
        let fetched = record.loading.join(call.wait, start).await?;
        record.keep(fetched, &self.changes, plans, call.now)
    }

    /// Starts the default plan's trial, unless the subject has got a subscription meanwhile.
    async fn start_trial(&self, caller: &Caller) -> Result<Caller, Error> {
        let default = caller.plans.default_plan();
        let trial = Subscription::trial(&default.id, caller.call.now).kept_under(default);
        let _forgotten = Forget { admission: self, subject: &caller.record.subject };
        let subscription = self.store.add_subscription(caller.call, &caller.record.subject, &trial).await?;
        let standing = Arc::new(Standing::of(Some(&subscription), &caller.plans, caller.call.now)?);
        Ok(Caller { call: caller.call, record: Arc::clone(&caller.record), plans: Arc::clone(&caller.plans), standing })
    }

    /// Whether charges would be made, with the balances as they are.
    async fn look(&self, call: Call, charges: &[Charge]) -> Result<Charged, Error> {
        let keys: Vec<CounterKey> = charges.iter().map(|charge| charge.key.clone()).collect();
        let balances = self.store.balances(call, &keys).await?;
        let mut read = balances.iter().copied();
        let weighed = charge_all(charges, |_| read.next().ok_or_else(|| store_lied("it left out balances")))?;
        Ok(Charged { granted: weighed.granted, balances })
    }

    /// A denial, with the cheapest plan that would have let these costs pass.
    async fn deny(
        &self,
        caller: &Caller,
        states: Vec<QuotaState>,
        denial: Denial,
        costs: &[Cost],
    ) -> Result<Decision, Error> {
        let limits = |plan: &Plan, cost: &Cost| plan.quotas.get(&cost.metric).cloned().unwrap_or_default();
        let mut keys: Vec<CounterKey> = Vec::new();
        for (plan, cost) in caller.upgrades().flat_map(|plan| costs.iter().map(move |cost| (plan, cost))) {
            for period in limits(plan, cost).into_iter().filter_map(QuotaLimit::period) {
                let key = caller.key(&cost.metric, period, caller.window(period));
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        // The denial stands whether or not a suggestion can be made.
        let balances = if keys.is_empty() { Ok(Vec::new()) } else { self.store.balances(caller.call, &keys).await };
        let used = |metric: &Arc<str>, period: Period| {
            let mut known = keys.iter().zip(balances.iter().flatten());
            known.find(|(key, _)| key.metric == *metric && key.period == period).map(|(_, balance)| *balance)
        };
        let would_allow = |plan: &Plan| {
            costs.iter().all(|cost| {
                upgrade::allows(plan, &cost.metric, cost.amount, |period| {
                    used(&cost.metric, period).unwrap_or(Balance::of(UNITS_MAX))
                })
            })
        };
        let upgrade_to = caller.upgrades().find(|plan| would_allow(plan)).map(|plan| Arc::clone(&plan.id));
        Ok(caller.denied(states, Denial { upgrade_to, ..denial }))
    }

    fn call(&self, wait: Wait) -> Call {
        Call::new(self.ratchet.wall(&*self.clock), wait)
    }
}

impl Caller {
    /// Why nothing is granted to this caller, if nothing is.
    fn refusal(&self) -> Option<Denial> {
        let (reason, ended_at) = self.standing.refused?;
        Some(Denial { ended_at: Some(ended_at), ..Denial::because(reason) })
    }

    /// Every quota that the costs touch, with its window of now.
    fn touched(&self, costs: &[Cost]) -> Vec<Touched> {
        let quotas = &self.standing.plan.quotas;
        let mut touched = Vec::with_capacity(costs.len());
        for Cost { metric, amount } in costs {
            for &limit in quotas.get(metric).map_or(NOTHING.as_slice(), Vec::as_slice) {
                let window = limit.period().map(|period| self.window(period));
                touched.push(Touched { metric: Arc::clone(metric), amount: *amount, limit, window });
            }
        }
        touched
    }

    fn window(&self, period: Period) -> Window {
        period.window(self.call.now, &self.standing.zone, self.standing.anchor)
    }

    fn key(&self, metric: &Arc<str>, period: Period, window: Window) -> CounterKey {
        CounterKey::new(Arc::clone(&self.record.subject), Arc::clone(metric), period, window)
    }

    /// The plans that could be suggested: dearer ones, or of one that has lapsed, the same one too.
    fn upgrades(&self) -> impl Iterator<Item = &Arc<Plan>> {
        let dearer = u32::from(self.standing.refused.is_none());
        upgrade::candidates(&self.plans, self.standing.plan.rank.saturating_add(dearer))
    }

    fn allow(&self, quotas: Vec<QuotaState>) -> Decision {
        let plan = &self.standing.plan;
        Decision { allowed: true, plan: Arc::clone(&plan.id), plan_version: plan.version, quotas, denied: None }
    }

    fn denied(&self, quotas: Vec<QuotaState>, denial: Denial) -> Decision {
        Decision { allowed: false, denied: Some(Box::new(denial)), ..self.allow(quotas) }
    }
}

impl Touched {
    /// The counter of this quota; none where nothing is counted.
    fn key(&self, caller: &Caller) -> Option<CounterKey> {
        let (period, window) = (self.limit.period()?, self.window?);
        Some(caller.key(&self.metric, period, window))
    }

    fn charge(&self, caller: &Caller) -> Option<Charge> {
        self.key(caller).map(|key| Charge { key, amount: self.amount, limit: self.limit.limit() })
    }
}

/// The state of every touched quota, from the balances of those that are counted.
fn states_of(touched: &[Touched], balances: &[Balance]) -> Vec<QuotaState> {
    let mut balances = balances.iter().copied();
    let state = |quota: &Touched| {
        let counted = quota.limit.period().and_then(|_| balances.next());
        QuotaState::new(Arc::clone(&quota.metric), quota.limit, quota.window, counted.unwrap_or_default())
    };
    touched.iter().map(state).collect()
}

/// The denial that says most: a quota that can never hold the amount, or else the one that starts
/// afresh last, because before that, asking again is in vain.
fn tightest(touched: &[Touched], states: &[QuotaState]) -> Option<Denial> {
    let full = touched.iter().zip(states).filter(|(quota, state)| {
        quota.limit.period().is_some() && !Balance::of(state.used).fits(quota.amount, state.limit)
    });
    let denials = full.map(|(quota, state)| (Denial::of_quota(state, quota.amount), state.resets_at));
    let weight = |(denial, resets_at): &(Denial, Option<jiff::Timestamp>)| {
        (denial.reason == Reason::NeverFits, resets_at.is_none(), *resets_at)
    };
    denials.max_by_key(weight).map(|(denial, _)| denial)
}

fn costs_of(plans: &Plans, costs: &[(&str, u64)]) -> Result<Vec<Cost>, Error> {
    if costs.is_empty() {
        return Err(Error::argument("costs", "none", "at least one metric and its units"));
    }
    let mut checked: Vec<Cost> = Vec::with_capacity(costs.len());
    for &(metric, amount) in costs {
        let metric = Arc::clone(plans.metric(metric)?);
        if !(1..=UNITS_MAX).contains(&amount) {
            return Err(Error::argument("costs", format!("{amount} {metric}"), format!("from 1 to {UNITS_MAX} units")));
        }
        if checked.iter().any(|cost| cost.metric == metric) {
            return Err(Error::argument(
                "costs",
                format!("{metric} twice"),
                "each metric once, with the sum of its units",
            ));
        }
        checked.push(Cost { metric, amount });
    }
    Ok(checked)
}

fn check_subject(subject: &str) -> Result<(), Error> {
    if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX {
        let found = format!("{} bytes", subject.len());
        return Err(Error::argument("subject", found, format!("an id of 1 to {SUBJECT_BYTES_MAX} bytes")));
    }
    Ok(())
}

fn store_lied(what: &str) -> Error {
    Error::Store(crate::store::StoreError::Failed {
        detail: format!("it broke its contract: {what}"),
        retry: crate::error::Retry::Never,
    })
}
