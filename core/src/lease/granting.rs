//! Granting from leased blocks: on the path of a request, in memory.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::MutexGuard;
use smallvec::SmallVec;

use super::by_owner;
use super::pool::Pool;
use crate::admission::Admission;
use crate::caller::Caller;
use crate::decision::{Decision, QuotaState};
use crate::policy::{Enforcement, Modes};
use crate::record::Record;
use crate::request::{Purpose, Request};
use crate::store::{Balance, CounterKey, StoreError};
use crate::usage::demand::{Cost, Touched, Touches, keys_of, states_from, states_of};
use crate::usage::hold::HoldId;

type Locked<'c> = MutexGuard<'c, Option<Box<Vec<Pool>>>>;

/// Units that a request can have, all of them or none, kept for it by the locks of their owners.
pub(crate) struct Granting<'c> {
    caller: &'c Caller,
    touched: Touches<'c>,
    own: Locked<'c>,
    account: Option<Locked<'c>>,
    /// From which pool and block each amount is taken, with whether it is the account's.
    picks: SmallVec<[Pick; 2]>,
    now: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Pick {
    of_account: bool,
    pool: usize,
    block: usize,
    amount: u64,
}

impl Admission {
    /// The units that a request asks for, where they can be granted from leased blocks.
    pub(crate) fn leased<'c>(
        &self,
        caller: &'c Caller,
        modes: &Modes,
        request: &Request<'_>,
        costs: &'c [Cost],
    ) -> Option<Granting<'c>> {
        let exact = request.purpose == Purpose::Look || request.idempotency_key.is_some();
        if exact || costs.iter().any(|cost| modes.of(&cost.metric) == Enforcement::Shadow) {
            return None;
        }
        let (own, account) = locked(&caller.record, caller.account.as_ref());
        if own.is_none() && account.as_ref().is_none_or(|account| account.is_none()) {
            return None;
        }
        let (touched, now) = (caller.touched(costs), caller.call.monotonic(&*self.clock));
        let mut picks = SmallVec::new();
        for quotas in by_owner(&touched) {
            let Some(first) = quotas.iter().find(|quota| quota.limit.period().is_some()) else { continue };
            let of_account = is_of_account(caller, first);
            let pools = if of_account { account.as_ref()?.as_ref()? } else { own.as_ref()? };
            let (pool, found) = pools.iter().enumerate().find(|(_, pool)| pool.metric == *first.metric)?;
            picks.push(Pick { of_account, pool, block: found.offer(quotas, first.amount, now)?, amount: first.amount });
        }
        Some(Granting { caller, touched, own, account, picks, now })
    }

    /// Notes what was charged in the store, and what the counters then held, so that a block is leased where that is
    /// worth it.
    pub(crate) fn note_charged(&self, caller: &Caller, touched: &[Touched<'_>], told: &[Balance]) {
        let now = caller.call.monotonic(&*self.clock);
        let mut told = told;
        for quotas in by_owner(touched) {
            let counted = quotas.iter().filter(|quota| quota.limit.period().is_some()).count();
            let (own, others) = told.split_at(counted.min(told.len()));
            told = others;
            let Some((terms, first)) = self.desk.terms(&caller.standing.plan, quotas).zip(quotas.first()) else {
                continue;
            };
            let record = record_of(caller, first);
            let mut locked = record.pools.0.lock();
            let pools = locked.get_or_insert_default();
            let place = pools.iter().position(|pool| pool.metric == *first.metric).unwrap_or_else(|| {
                pools.push(Pool::new(first.metric, terms, quotas));
                pools.len() - 1
            });
            let call = pools.get_mut(place).is_some_and(|pool| pool.charged(quotas, own, terms, now));
            drop(locked);
            if call {
                self.desk.call(record);
            }
        }
    }

    /// Has others return what they have leased of quotas that a request was denied for.
    pub(crate) fn recall_from_others(&self, caller: &Caller, touched: &[Touched<'_>], states: &[QuotaState]) {
        let now = caller.call.monotonic(&*self.clock);
        let mut stranded = 0;
        for (quota, _) in
            touched.iter().zip(states).filter(|(quota, state)| state.stranded > 0 && quota.amount > state.room())
        {
            stranded += 1;
            let record = record_of(caller, quota);
            let mut pools = record.pools.0.lock();
            let known = pools.as_mut().and_then(|pools| pools.iter_mut().find(|pool| pool.metric == *quota.metric));
            let recalled = match known {
                Some(pool) => pool.recall_soon(now),
                None => {
                    let owned: Touches<'_> = std::iter::once(quota.clone()).collect();
                    let Some(terms) = self.desk.terms(&caller.standing.plan, &owned) else { continue };
                    let mut pool = Pool::new(quota.metric, terms, &owned);
                    let recalled = pool.recall_soon(now);
                    pools.get_or_insert_default().push(pool);
                    recalled
                }
            };
            drop(pools);
            if recalled {
                self.desk.call(record);
            }
        }
        self.desk.denied_while_leased(stranded);
    }

    /// What the counters hold by the store, with what this process has of its own blocks: what it has used counts
    /// as used, and what it has left as free. With how many units those have left.
    pub(crate) async fn balances_with_own(
        &self,
        caller: &Caller,
        keys: &[CounterKey],
    ) -> Result<Vec<(Balance, u64)>, StoreError> {
        let before = own_blocks(caller);
        let told = self.store.balances(caller.call, keys).await?;
        // Only blocks that were open before and after are surely part of what the store has told.
        let after = own_blocks(caller);
        let among: Vec<HoldId> = before.into_iter().filter(|id| after.contains(id)).collect();
        Ok(with_own(caller, keys.iter(), &told, &among))
    }

    /// How quotas stand that were charged in the store just now.
    pub(crate) fn states_with_own(
        &self,
        caller: &Caller,
        touched: &[Touched<'_>],
        told: &[Balance],
    ) -> Vec<QuotaState> {
        let among = own_blocks(caller);
        if among.is_empty() {
            return states_of(touched, told);
        }
        let keys = keys_of(touched);
        states_from(touched, with_own(caller, keys.iter(), told, &among))
    }
}

/// What the store has told of counters, with these of the process's own blocks taken apart.
fn with_own<'k>(
    caller: &Caller,
    keys: impl Iterator<Item = &'k CounterKey>,
    told: &[Balance],
    among: &[HoldId],
) -> Vec<(Balance, u64)> {
    let with_own = |(key, told): (&CounterKey, &Balance)| {
        records_of(caller).fold((*told, 0), |known, record| {
            let pools = record.pools.0.lock();
            pools.iter().flat_map(|pools| pools.iter()).fold(known, |(balance, left), pool| {
                let (balance, own) = pool.own(key, balance, among);
                (balance, left + own)
            })
        })
    };
    keys.zip(told).map(with_own).collect()
}

impl Granting<'_> {
    /// Takes the units, and says how the quotas then stand.
    pub(crate) fn take(mut self, admission: &Admission) -> Decision {
        let mut called: SmallVec<[bool; 2]> = SmallVec::from_elem(false, 2);
        for Pick { of_account, pool, block, amount } in &self.picks {
            let pools = if *of_account { self.account.as_mut() } else { Some(&mut self.own) };
            let found = pools.and_then(|pools| pools.as_mut()?.get_mut(*pool));
            let call = found.is_some_and(|pool| pool.take(*block, *amount, self.now));
            if let Some(called) = called.get_mut(usize::from(*of_account)) {
                *called |= call;
            }
        }
        let states = self.states();
        let Self { caller, .. } = self;
        drop((self.own, self.account));
        for (called, record) in called.iter().zip([Some(&caller.record), caller.account.as_ref()]) {
            if let (true, Some(record)) = (*called, record) {
                admission.desk.call(record);
            }
        }
        caller.allow(states)
    }

    fn states(&self) -> Vec<QuotaState> {
        let mut states = Vec::with_capacity(self.touched.len());
        let mut picks = self.picks.iter();
        for quotas in by_owner(&self.touched) {
            let counted = quotas.iter().any(|quota| quota.limit.period().is_some());
            let pick = if counted { picks.next() } else { None };
            let pool = pick.and_then(|pick| {
                let pools = if pick.of_account { self.account.as_ref()? } else { &self.own };
                pools.as_ref()?.get(pick.pool)
            });
            let mut balances = pool.map(Pool::balances).unwrap_or_default().into_iter();
            let left = pool.map_or(0, Pool::left);
            for quota in quotas {
                let counted = quota.limit.period().and_then(|_| balances.next());
                states.push(QuotaState::new(
                    quota,
                    counted.unwrap_or_default(),
                    if counted.is_some() { left } else { 0 },
                ));
            }
        }
        states
    }
}

/// What is leased of a caller and of its account. All lock two records in one order: of two subjects, a host's tables may
/// say that each is the other's account.
fn locked<'c>(own: &'c Record, account: Option<&'c Arc<Record>>) -> (Locked<'c>, Option<Locked<'c>>) {
    let lock = |record: &'c Record| record.pools.0.lock();
    match account.map(|account| &**account) {
        Some(account) if std::ptr::from_ref(account) < std::ptr::from_ref(own) => {
            let account = lock(account);
            (lock(own), Some(account))
        }
        account => (lock(own), account.map(lock)),
    }
}

fn is_of_account(caller: &Caller, quota: &Touched<'_>) -> bool {
    caller.account.as_ref().is_some_and(|account| account.subject == *quota.owner)
}

/// The record of a quota's owner.
fn record_of<'c>(caller: &'c Caller, quota: &Touched<'_>) -> &'c Arc<Record> {
    caller.account.as_ref().filter(|_| is_of_account(caller, quota)).unwrap_or(&caller.record)
}

fn records_of(caller: &Caller) -> impl Iterator<Item = &Arc<Record>> {
    std::iter::once(&caller.record).chain(&caller.account)
}

/// The blocks of the caller's owners that are not settled.
fn own_blocks(caller: &Caller) -> Vec<HoldId> {
    let of = |record: &Arc<Record>| -> Vec<HoldId> {
        record.pools.0.lock().iter().flat_map(|pools| pools.iter()).flat_map(Pool::ids).collect()
    };
    records_of(caller).flat_map(of).collect()
}
