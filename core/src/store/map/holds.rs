//! Holds and leases: each with what it has set aside, and an entry beside every counter on which it has.
//!
//! A counter's entries are in the order in which they expire. Whoever meets one that has expired resolves the hold on
//! all its counters.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::keys::{Key, number_of, text_of};
use super::transaction::{Transaction, damaged, read, unless_damaged};
use crate::HoldId;
use crate::plan::{Limit, UNITS_MAX};
use crate::store::{
    Balance, Charge, Charged, CounterKey, Hold, Lease, Leased, Receipt, Settle, Settled, StoreError, lease_all,
    settle_one,
};
use crate::usage::hold::Kind;

/// A hold or a lease, open or resolved.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Held {
    kind: Kind,
    at: Timestamp,
    parts: Vec<SetAside>,
    expires_ms: i64,
    kept_until_ms: i64,
    /// Whether somebody has met it after it had expired, by whose clock it has for everybody.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    expired: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    receipt: Option<Receipt>,
}

/// Units of one counter that were set aside.
#[derive(Debug, Serialize, Deserialize)]
struct SetAside {
    key: CounterKey,
    amount: u64,
    /// How many units the counter may reach, unless it is unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    /// What the counter then held.
    made: Balance,
}

impl SetAside {
    fn charge(&self) -> Charge {
        let limit = self.limit.map_or(Limit::Unlimited, Limit::Units);
        Charge { key: self.key.clone(), amount: self.amount, limit }
    }
}

/// The entry beside a counter: enough to end it there, whatever became of the hold.
#[derive(Debug, Serialize, Deserialize)]
struct Beside {
    kind: Kind,
    amount: u64,
}

/// What is kept of a hold or a lease, whatever it has set aside.
struct Terms {
    id: HoldId,
    kind: Kind,
    expires_at: Timestamp,
    kept_until: Timestamp,
}

impl Held {
    /// Whether it has charged something, or still may.
    pub(super) fn stands(&self, now: Timestamp) -> bool {
        let is_open = !self.expired && now.as_millisecond() < self.expires_ms;
        now.as_millisecond() < self.kept_until_ms && self.receipt.as_ref().map_or(is_open, Receipt::has_charged)
    }

    /// Whether its units are still set aside.
    const fn is_unresolved(&self) -> bool {
        !self.expired && self.receipt.is_none()
    }

    fn made(&self) -> Vec<(CounterKey, Balance)> {
        self.parts.iter().map(|part| (part.key.clone(), part.made)).collect()
    }
}

impl Transaction<'_> {
    pub(super) fn held(&mut self, id: HoldId) -> Result<Option<Held>, StoreError> {
        let held: Option<Held> = self.get(&place(&id.to_string()), "a hold")?;
        let amounts = held.iter().flat_map(|held| &held.parts).map(|part| part.amount);
        match amounts.into_iter().find(|amount| *amount > UNITS_MAX) {
            Some(amount) => Err(damaged("a hold", &format!("it holds {amount} units"))),
            None => Ok(held),
        }
    }

    pub(super) fn hold(&mut self, hold: &Hold) -> Result<Charged, StoreError> {
        if let Some(earlier) = self.recall(hold.once.as_ref())? {
            return Ok(earlier);
        }
        if let Some(held) = self.held(hold.id)?.filter(|held| held.stands(self.now)) {
            return Ok(Charged::repeated(held.at, held.made(), Some(hold.id)));
        }
        self.make_way(hold.id)?;
        let charged = self.add(&hold.charges, Balance::holding)?;
        if charged.granted() {
            let keys = hold.charges.iter().map(|charge| &charge.key);
            self.remember(hold.once.as_ref(), keys, &charged.balances, Some(hold.id))?;
            let Hold { id, charges, expires_at, kept_until, .. } = hold;
            let terms = Terms { id: *id, kind: Kind::Hold, expires_at: *expires_at, kept_until: *kept_until };
            self.open(&terms, charges, &charged.balances)?;
        }
        Ok(charged)
    }

    pub(super) fn lease(&mut self, lease: &Lease) -> Result<Leased, StoreError> {
        let settled = lease.settle.as_ref().map(|settle| self.settle(settle)).transpose()?;
        let now_ms = self.now.as_millisecond();
        let is_kept = |held: &Held| held.kind == Kind::Lease && now_ms < held.kept_until_ms;
        let known = self.held(lease.id)?.filter(is_kept);
        if let Some(known) = known {
            let amount = known.parts.first().map_or(0, |part| part.amount);
            return Ok(Leased { settled, amount, balances: known.parts.iter().map(|part| part.made).collect() });
        }
        self.make_way(lease.id)?;
        let before = lease.charges.iter().map(|charge| self.balance(&charge.key)).collect::<Result<_, _>>()?;
        let (amount, balances) = lease_all(&lease.charges, lease.least, before);
        if amount > 0 {
            let charges: Vec<Charge> = lease.charges.iter().map(|charge| Charge { amount, ..charge.clone() }).collect();
            for (charge, balance) in charges.iter().zip(&balances) {
                self.set(&charge.key, *balance);
            }
            let Lease { id, expires_at, kept_until, .. } = *lease;
            self.open(&Terms { id, kind: Kind::Lease, expires_at, kept_until }, &charges, &balances)?;
        }
        Ok(Leased { settled, amount, balances })
    }

    pub(super) fn settle(&mut self, settle: &Settle) -> Result<Settled, StoreError> {
        let (id, now_ms) = (settle.id.to_string(), self.now.as_millisecond());
        let Some(mut held) = self.held(settle.id)?.filter(|held| now_ms < held.kept_until_ms) else {
            return Ok(Settled::Unknown);
        };
        if let Some(receipt) = held.receipt {
            return Ok(Settled::Before(receipt));
        }
        if held.expired || held.expires_ms <= now_ms {
            let expired_at = Timestamp::from_millisecond(held.expires_ms).map_err(|error| damaged("a hold", &error))?;
            return Ok(Settled::Expired(expired_at));
        }
        let mut parts = Vec::with_capacity(held.parts.len());
        for part in &held.parts {
            self.delete(&beside(&part.key).number(held.expires_ms).text(&id));
            let ended = held.kind.end(part.amount, self.balance(&part.key)?);
            let part = settle_one(&part.charge(), &settle.used, ended);
            self.set(&part.key, part.balance);
            parts.push(part);
        }
        let receipt = Receipt { at: self.now, parts };
        held.receipt = Some(receipt.clone());
        self.put(&place(&id), &held)?;
        Ok(Settled::Now(receipt))
    }

    fn open(&mut self, terms: &Terms, charges: &[Charge], balances: &[Balance]) -> Result<(), StoreError> {
        let (id, kind, expires_ms) = (terms.id.to_string(), terms.kind, terms.expires_at.as_millisecond());
        let mut parts = Vec::with_capacity(charges.len());
        for (Charge { key, amount, limit }, made) in charges.iter().zip(balances) {
            let (key, amount, limit) = (key.clone(), *amount, limit.units());
            self.put(&beside(&key).number(expires_ms).text(&id), &Beside { kind, amount })?;
            self.note_expiry(&key, expires_ms);
            parts.push(SetAside { key, amount, limit, made: *made });
        }
        let kept_until_ms = terms.kept_until.as_millisecond();
        let held = Held { kind, at: self.now, parts, expires_ms, kept_until_ms, expired: false, receipt: None };
        self.put(&place(&id), &held)?;
        self.look_later(&place(&id), kept_until_ms)
    }

    /// Ends a hold that is no longer known under its name, and whose counters nobody may have looked at since it
    /// expired.
    fn make_way(&mut self, id: HoldId) -> Result<(), StoreError> {
        match self.held(id)? {
            Some(held) if held.is_unresolved() => self.end(&id.to_string(), held),
            _ => Ok(()),
        }
    }

    /// Resolves every hold on this counter that has expired, on its other counters too. Returns when the next does.
    pub(super) fn expire(&mut self, key: &CounterKey) -> Result<Option<i64>, StoreError> {
        let (all, now_ms) = (beside(key), self.now.as_millisecond());
        let (mut expired, mut next_ms) = (Vec::new(), None);
        self.walk(all.as_bytes(), &all.end(), |entry, value| {
            let (expires_ms, id) = expiry_of(entry)?;
            if expires_ms > now_ms {
                next_ms = Some(expires_ms);
                return Ok(false);
            }
            expired.push((expires_ms, id, read::<Beside>(value, "what a counter holds")?));
            Ok(true)
        })?;
        for (expires_ms, id, Beside { kind, amount }) in expired {
            match self.get::<Held>(&place(&id), "a hold")? {
                Some(held) if held.expires_ms == expires_ms && held.is_unresolved() => self.end(&id, held)?,
                // Its hold is gone, or another one by now.
                _ => self.end_part(&id, kind, key, amount, expires_ms)?,
            }
        }
        Ok(next_ms)
    }

    /// Ends a hold or a lease that nobody has settled in time, on all its counters.
    fn end(&mut self, id: &str, held: Held) -> Result<(), StoreError> {
        for SetAside { key, amount, .. } in &held.parts {
            self.end_part(id, held.kind, key, *amount, held.expires_ms)?;
        }
        self.put(&place(id), &Held { expired: true, ..held })
    }

    fn end_part(
        &mut self,
        id: &str,
        kind: Kind,
        key: &CounterKey,
        amount: u64,
        expires_ms: i64,
    ) -> Result<(), StoreError> {
        let before = self.load(key)?;
        self.set(key, kind.expire(amount, before));
        self.delete(&beside(key).number(expires_ms).text(id));
        Ok(())
    }

    /// What a counter holds without what has expired, which is not resolved: this only reads.
    pub(super) fn balance_now(&mut self, key: &CounterKey) -> Result<Balance, StoreError> {
        let mut balance = self.load(key)?;
        if balance.held > 0 {
            let (all, end) = (beside(key), beside(key).number(self.now.as_millisecond()).end());
            self.walk(all.as_bytes(), &end, |_, value| {
                let Beside { kind, amount } = read(value, "what a counter holds")?;
                balance = kind.expire(amount, balance);
                Ok(true)
            })?;
        }
        Ok(balance)
    }

    /// Forgets a hold that is too old, and ends it if nobody has looked at its counters since it expired. Returns when
    /// to look again where it is not.
    pub(super) fn forget_hold(&mut self, place: &Key, id: &str) -> Result<Option<i64>, StoreError> {
        let Some(held) = unless_damaged(self.get::<Held>(place, "a hold"))?.flatten() else { return Ok(None) };
        if self.now.as_millisecond() < held.kept_until_ms {
            return Ok(Some(held.kept_until_ms));
        }
        // Where one of its counters is damaged, it stays for whoever mends that.
        for part in &held.parts {
            if unless_damaged(self.load(&part.key))?.is_none() {
                return Ok(None);
            }
        }
        if held.is_unresolved() {
            self.end(id, held)?;
        }
        self.delete(place);
        Ok(None)
    }
}

fn place(id: &str) -> Key {
    Key::of("hold").text(id)
}

/// What the entries of all that is set aside on a counter begin with.
fn beside(key: &CounterKey) -> Key {
    let of = Key::of("open").text(&key.subject).text(&key.metric);
    of.text(key.period.as_str()).number(key.start_s)
}

/// When the hold of such an entry expires, and its name.
fn expiry_of(entry: &Key) -> Result<(i64, String), StoreError> {
    let parts = entry.parts().unwrap_or_default();
    let found = match &*parts {
        [.., expires, id] => number_of(expires).zip(text_of(id)),
        _ => None,
    };
    let (expires_ms, id) = found.ok_or_else(|| damaged("what a counter holds", &"its key is none of ours"))?;
    Ok((expires_ms, id.to_owned()))
}
