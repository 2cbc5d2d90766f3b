//! The tables of holds and leases.

use jiff::Timestamp;
use rusqlite::OptionalExtension;

use super::batch::Batch;
use super::counter::{expired_part, signed, units_of};
use super::failure::{damaged, failure};
use super::ledger::{DELETED_AT_ONCE, earlier, hold_stands, json, read_json};
use crate::HoldId;
use crate::plan::Limit;
use crate::store::{
    Balance, Charge, Charged, CounterKey, Hold, Lease, Leased, Part, Receipt, Settle, Settled, StoreError, lease_all,
    settle_one,
};

/// What is kept of a hold or a lease, whatever it has set aside.
#[derive(Clone, Copy)]
struct Terms {
    id: HoldId,
    is_lease: bool,
    expires_at: Timestamp,
    kept_until: Timestamp,
}

/// Units of one counter that a hold or a lease has set aside.
struct SetAside {
    charge: Charge,
    is_lease: bool,
}

impl Batch<'_> {
    pub(super) fn hold(&mut self, now: Timestamp, hold: &Hold) -> Result<Charged, StoreError> {
        if let Some(earlier) = self.recall(now, hold.once.as_ref())? {
            return Ok(earlier);
        }
        if let Some(earlier) = self.recall_hold(now, hold.id)? {
            return Ok(earlier);
        }
        // One that was forgotten under this name may still hold what nobody has looked at since it expired.
        self.end(hold.id.to_bytes())?;
        let charged = self.add(now, &hold.charges, Balance::holding)?;
        if charged.granted() {
            let keys = hold.charges.iter().map(|charge| &charge.key);
            self.remember(now, hold.once.as_ref(), keys, &charged.balances, Some(hold.id))?;
            let Hold { id, charges, expires_at, kept_until, .. } = hold;
            let terms = Terms { id: *id, is_lease: false, expires_at: *expires_at, kept_until: *kept_until };
            self.open(now, terms, charges, &charged.balances)?;
        }
        Ok(charged)
    }

    pub(super) fn lease(&mut self, now: Timestamp, lease: &Lease) -> Result<Leased, StoreError> {
        let settled = lease.settle.as_ref().map(|settle| self.settle(now, settle)).transpose()?;
        if let Some((amount, balances)) = self.recall_lease(now, lease.id)? {
            return Ok(Leased { settled, amount, balances });
        }
        self.end(lease.id.to_bytes())?;
        let before = lease.charges.iter().map(|charge| self.balance(now, &charge.key));
        let before = before.collect::<Result<_, _>>()?;
        let (amount, balances) = lease_all(&lease.charges, lease.least, before);
        if amount > 0 {
            let charges: Vec<Charge> = lease.charges.iter().map(|charge| Charge { amount, ..charge.clone() }).collect();
            for (charge, balance) in charges.iter().zip(&balances) {
                self.put(&charge.key, *balance);
            }
            let Lease { id, expires_at, kept_until, .. } = *lease;
            self.open(now, Terms { id, is_lease: true, expires_at, kept_until }, &charges, &balances)?;
        }
        Ok(Leased { settled, amount, balances })
    }

    /// How large a lease is that was made before under its name, and what its counters then held.
    fn recall_lease(&self, now: Timestamp, id: HoldId) -> Result<Option<(u64, Vec<Balance>)>, StoreError> {
        let row: Option<(String, Option<i64>)> = self
            .connection
            .prepare_cached("SELECT made, amount FROM hold WHERE id = ?1 AND is_lease AND kept_until_ms > ?2")
            .and_then(|mut select| {
                let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
                select.query_row((id.to_bytes(), now.as_millisecond()), read).optional()
            })
            .map_err(failure)?;
        let Some((made, amount)) = row else { return Ok(None) };
        let made: Vec<(CounterKey, Balance)> = read_json(&made, "a lease")?;
        let amount = amount.and_then(units_of).ok_or_else(|| damaged("a lease", &"it has no size"))?;
        Ok(Some((amount, made.into_iter().map(|(_, balance)| balance).collect())))
    }

    /// What became of a hold that was made before under its name.
    fn recall_hold(&self, now: Timestamp, id: HoldId) -> Result<Option<Charged>, StoreError> {
        self.connection
            .prepare_cached(concat!("SELECT at_ms, made, id FROM hold WHERE id = ?2 AND ", hold_stands!()))
            .and_then(|mut select| {
                let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
                select.query_row((now.as_millisecond(), id.to_bytes()), read).optional()
            })
            .map_err(failure)?
            .map(earlier)
            .transpose()
    }

    fn open(
        &mut self,
        now: Timestamp,
        terms: Terms,
        charges: &[Charge],
        balances: &[Balance],
    ) -> Result<(), StoreError> {
        let made: Vec<(&CounterKey, &Balance)> = charges.iter().map(|charge| &charge.key).zip(balances).collect();
        self.forget_holds(now)?;
        let Terms { id, is_lease, expires_at, kept_until } = terms;
        let (id, expires_ms) = (id.to_bytes(), expires_at.as_millisecond());
        let amount = charges.first().filter(|_| is_lease).map(|charge| signed(charge.amount));
        let (made, kept_until_ms) = (json(&made)?, kept_until.as_millisecond());
        let row = (id, is_lease, amount, now.as_millisecond(), made, expires_ms, kept_until_ms);
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO hold (id, is_lease, amount, at_ms, made, expires_ms, kept_until_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )
            .and_then(|mut insert| insert.execute(row))
            .map_err(failure)?;
        for Charge { key, amount, limit } in charges {
            let (subject, metric, period) = (&*key.subject, &*key.metric, key.period.as_str());
            let (amount, units) = (signed(*amount), limit.units().map(signed));
            let row = (id, is_lease, subject, metric, period, key.start_s, amount, units, expires_ms);
            self.connection
                .prepare_cached(
                    "INSERT INTO hold_part (hold, is_lease, subject, metric, period, start_s, amount, units, expires_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                )
                .and_then(|mut insert| insert.execute(row))
                .map_err(failure)?;
        }
        Ok(())
    }

    /// Deletes some of the holds that are too old, and ends those of them whose counters nobody has looked
    /// at since they expired.
    fn forget_holds(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let old: Vec<[u8; 16]> = self
            .connection
            .prepare_cached("SELECT id FROM hold WHERE kept_until_ms <= ?1 ORDER BY kept_until_ms LIMIT ?2")
            .and_then(|mut select| {
                select.query_map((now.as_millisecond(), DELETED_AT_ONCE), |row| row.get(0))?.collect()
            })
            .map_err(failure)?;
        for id in old {
            self.end(id)?;
            self.connection
                .prepare_cached("DELETE FROM hold WHERE id = ?1")
                .and_then(|mut delete| delete.execute((id,)))
                .map_err(failure)?;
        }
        Ok(())
    }

    pub(super) fn settle(&mut self, now: Timestamp, settle: &Settle) -> Result<Settled, StoreError> {
        let id = settle.id.to_bytes();
        let row: Option<(i64, bool, Option<String>)> = self
            .connection
            .prepare_cached("SELECT expires_ms, expired, receipt FROM hold WHERE id = ?1 AND kept_until_ms > ?2")
            .and_then(|mut select| {
                let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
                select.query_row((id, now.as_millisecond()), read).optional()
            })
            .map_err(failure)?;
        let Some((expires_ms, expired, receipt)) = row else { return Ok(Settled::Unknown) };
        if let Some(receipt) = receipt {
            return read_json(&receipt, "a receipt").map(Settled::Before);
        }
        if expired || expires_ms <= now.as_millisecond() {
            let expired_at = Timestamp::from_millisecond(expires_ms).map_err(|error| damaged("a hold", &error))?;
            return Ok(Settled::Expired(expired_at));
        }
        let mut parts: Vec<Part> = Vec::new();
        for SetAside { charge, is_lease } in self.take_parts(id)? {
            let before = self.balance(now, &charge.key)?;
            let ended = if is_lease { before.unleased(charge.amount) } else { before.unheld(charge.amount) };
            let part = settle_one(&charge, &settle.used, ended);
            self.put(&charge.key, part.balance);
            parts.push(part);
        }
        let receipt = Receipt { at: whole(now), parts };
        let text = json(&receipt)?;
        self.connection
            .prepare_cached("UPDATE hold SET receipt = ?2, has_charged = ?3 WHERE id = ?1")
            .and_then(|mut update| update.execute((id, text, receipt.has_charged())))
            .map_err(failure)?;
        Ok(Settled::Now(receipt))
    }

    /// Resolves every hold on this counter that has expired, on its other counters too.
    pub(super) fn expire_holds(&mut self, now: Timestamp, key: &CounterKey) -> Result<(), StoreError> {
        let expired: Vec<[u8; 16]> = self
            .connection
            .prepare_cached(
                "SELECT hold FROM hold_part
                 WHERE subject = ?1 AND metric = ?2 AND period = ?3 AND start_s = ?4 AND expires_ms <= ?5",
            )
            .and_then(|mut select| {
                let place = (&*key.subject, &*key.metric, key.period.as_str(), key.start_s, now.as_millisecond());
                select.query_map(place, |row| row.get(0))?.collect()
            })
            .map_err(failure)?;
        for id in expired {
            self.end(id)?;
            self.connection
                .prepare_cached("UPDATE hold SET expired = 1 WHERE id = ?1")
                .and_then(|mut update| update.execute((id,)))
                .map_err(failure)?;
        }
        Ok(())
    }

    /// Ends a hold or a lease that has expired.
    fn end(&mut self, id: [u8; 16]) -> Result<(), StoreError> {
        for SetAside { charge, is_lease } in self.take_parts(id)? {
            let before = self.load(&charge.key)?;
            self.put(&charge.key, expired_part(before, charge.amount, is_lease));
        }
        Ok(())
    }

    /// What a hold or a lease has set aside, which it then no longer has.
    fn take_parts(&self, id: [u8; 16]) -> Result<Vec<SetAside>, StoreError> {
        let rows: Vec<PartRow> = self
            .connection
            .prepare_cached(
                "SELECT subject, metric, period, start_s, amount, units, is_lease FROM hold_part WHERE hold = ?1",
            )
            .and_then(|mut select| {
                let read = |row: &rusqlite::Row<'_>| {
                    let place = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
                    Ok((place, row.get(4)?, row.get(5)?, row.get(6)?))
                };
                select.query_map((id,), read)?.collect()
            })
            .map_err(failure)?;
        self.connection
            .prepare_cached("DELETE FROM hold_part WHERE hold = ?1")
            .and_then(|mut delete| delete.execute((id,)))
            .map_err(failure)?;
        rows.into_iter().map(set_aside).collect()
    }
}

/// A row of `hold_part`, without its hold: the counter, how much is set aside, its limit, and whether it is a lease's.
type PartRow = ((String, String, String, i64), i64, Option<i64>, bool);

fn set_aside((place, amount, units, is_lease): PartRow) -> Result<SetAside, StoreError> {
    let refuse = || damaged("a hold", &format!("it holds {amount} of {units:?} units"));
    let (subject, metric, period, start_s) = place;
    let period = period.parse().map_err(|error| damaged("a hold", &error))?;
    let limit = units.map(|units| units_of(units).ok_or_else(refuse)).transpose()?;
    let key = CounterKey::of(subject, metric, period, start_s);
    let limit = limit.map_or(Limit::Unlimited, Limit::Units);
    Ok(SetAside { charge: Charge { key, amount: units_of(amount).ok_or_else(refuse)?, limit }, is_lease })
}

fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}
