//! The tables of steps that must not be made twice, and of holds.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::batch::Batch;
use super::counter::{signed, units_of};
use super::failure::{damaged, failure};
use crate::HoldId;
use crate::plan::Limit;
use crate::store::{
    Balance, Charge, Charged, CounterKey, Hold, Once, Part, Receipt, Settle, Settled, StoreError, settle_one,
};

/// How many rows that are too old are deleted for each one that is added, so that none needs a sweep.
const DELETED_AT_ONCE: i64 = 4;

/// SQL that is true of a hold that has charged something or still may, at the time `?1`.
macro_rules! hold_stands {
    () => {
        "(hold.kept_until_ms > ?1
          AND (hold.has_charged OR (hold.receipt IS NULL AND NOT hold.expired AND hold.expires_ms > ?1)))"
    };
}

impl Batch<'_> {
    /// What became of a step that was made before.
    pub(super) fn recall(&self, now: Timestamp, once: Option<&Once>) -> Result<Option<Charged>, StoreError> {
        let Some(once) = once else { return Ok(None) };
        // What expired or was released has charged nothing, so there is nothing to do twice.
        let row: Option<([u8; 16], EarlierRow)> = self
            .connection
            .prepare_cached(concat!(
                "SELECT step.arguments, step.at_ms, step.made, step.hold FROM step LEFT JOIN hold ON hold.id = step.hold
                 WHERE step.subject = ?2 AND step.key = ?3 AND step.kept_until_ms > ?1
                 AND (step.hold IS NULL OR ",
                hold_stands!(),
                ")"
            ))
            .and_then(|mut select| {
                let place = (now.as_millisecond(), &*once.subject, &*once.key);
                let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, (row.get(1)?, row.get(2)?, row.get(3)?)));
                select.query_row(place, read).optional()
            })
            .map_err(failure)?;
        match row {
            Some((arguments, _)) if arguments != once.arguments.to_bytes() => Ok(Some(Charged::conflict())),
            Some((_, made)) => earlier(made).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn remember<'k>(
        &self,
        now: Timestamp,
        once: Option<&Once>,
        keys: impl Iterator<Item = &'k CounterKey>,
        balances: &[Balance],
        hold: Option<HoldId>,
    ) -> Result<(), StoreError> {
        let Some(once) = once else { return Ok(()) };
        let made: Vec<(&CounterKey, &Balance)> = keys.zip(balances).collect();
        forget(
            self.connection,
            now,
            "DELETE FROM step WHERE (subject, key) IN
            (SELECT subject, key FROM step WHERE kept_until_ms <= ?1 ORDER BY kept_until_ms LIMIT ?2)",
        )?;
        let values = (
            &*once.subject,
            &*once.key,
            once.arguments.to_bytes(),
            now.as_millisecond(),
            json(&made)?,
            hold.map(HoldId::to_bytes),
            once.kept_until.as_millisecond(),
        );
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO step (subject, key, arguments, at_ms, made, hold, kept_until_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )
            .and_then(|mut insert| insert.execute(values))
            .map(drop)
            .map_err(failure)
    }

    pub(super) fn hold(&mut self, now: Timestamp, hold: &Hold) -> Result<Charged, StoreError> {
        if let Some(earlier) = self.recall(now, hold.once.as_ref())? {
            return Ok(earlier);
        }
        if let Some(earlier) = self.recall_hold(now, hold.id)? {
            return Ok(earlier);
        }
        // One that was forgotten under this name may still hold what nobody has looked at since it expired.
        self.give_back(hold.id.to_bytes())?;
        let charged = self.add(now, &hold.charges, Balance::holding)?;
        if charged.granted() {
            self.open(now, hold, &charged.balances)?;
        }
        Ok(charged)
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

    fn open(&mut self, now: Timestamp, hold: &Hold, balances: &[Balance]) -> Result<(), StoreError> {
        let keys = || hold.charges.iter().map(|charge| &charge.key);
        self.remember(now, hold.once.as_ref(), keys(), balances, Some(hold.id))?;
        let made: Vec<(&CounterKey, &Balance)> = keys().zip(balances).collect();
        self.forget_holds(now)?;
        let row = (
            hold.id.to_bytes(),
            now.as_millisecond(),
            json(&made)?,
            hold.expires_at.as_millisecond(),
            hold.kept_until.as_millisecond(),
        );
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO hold (id, at_ms, made, expires_ms, kept_until_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )
            .and_then(|mut insert| insert.execute(row))
            .map_err(failure)?;
        for charge in &hold.charges {
            let key = &charge.key;
            let row = (
                hold.id.to_bytes(),
                &*key.subject,
                &*key.metric,
                key.period.as_str(),
                key.start_s,
                signed(charge.amount),
                charge.limit.units().map(signed),
                hold.expires_at.as_millisecond(),
            );
            self.connection
                .prepare_cached(
                    "INSERT INTO hold_part (hold, subject, metric, period, start_s, amount, units, expires_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )
                .and_then(|mut insert| insert.execute(row))
                .map_err(failure)?;
        }
        Ok(())
    }

    /// Deletes some of the holds that are too old, and gives back what those of them have set aside whose
    /// counters nobody has looked at since they expired.
    fn forget_holds(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let old: Vec<[u8; 16]> = self
            .connection
            .prepare_cached("SELECT id FROM hold WHERE kept_until_ms <= ?1 ORDER BY kept_until_ms LIMIT ?2")
            .and_then(|mut select| {
                select.query_map((now.as_millisecond(), DELETED_AT_ONCE), |row| row.get(0))?.collect()
            })
            .map_err(failure)?;
        for id in old {
            self.give_back(id)?;
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
        for charge in self.take_parts(id)? {
            let before = self.balance(now, &charge.key)?;
            let part = settle_one(&charge, &settle.used, before);
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
            self.give_back(id)?;
            self.connection
                .prepare_cached("UPDATE hold SET expired = 1 WHERE id = ?1")
                .and_then(|mut update| update.execute((id,)))
                .map_err(failure)?;
        }
        Ok(())
    }

    /// Gives everything back that a hold has set aside.
    fn give_back(&mut self, id: [u8; 16]) -> Result<(), StoreError> {
        for charge in self.take_parts(id)? {
            let before = self.load(&charge.key)?;
            self.put(&charge.key, before.unheld(charge.amount));
        }
        Ok(())
    }

    /// What a hold has set aside, which it then no longer has.
    fn take_parts(&self, id: [u8; 16]) -> Result<Vec<Charge>, StoreError> {
        let rows: Vec<PartRow> = self
            .connection
            .prepare_cached("SELECT subject, metric, period, start_s, amount, units FROM hold_part WHERE hold = ?1")
            .and_then(|mut select| {
                let read = |row: &rusqlite::Row<'_>| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
                };
                select.query_map((id,), read)?.collect()
            })
            .map_err(failure)?;
        self.connection
            .prepare_cached("DELETE FROM hold_part WHERE hold = ?1")
            .and_then(|mut delete| delete.execute((id,)))
            .map_err(failure)?;
        rows.into_iter().map(charge_of).collect()
    }
}

/// What was made before: when, what, and of which hold.
type EarlierRow = (i64, String, Option<[u8; 16]>);

fn earlier((at_ms, made, hold): EarlierRow) -> Result<Charged, StoreError> {
    let at = Timestamp::from_millisecond(at_ms).map_err(|error| damaged("a step", &error))?;
    Ok(Charged::repeated(at, read_json(&made, "a step")?, hold.map(HoldId::from_bytes)))
}

/// A row of `hold_part`, without its hold: the counter, how much is held, and its limit.
type PartRow = (String, String, String, i64, i64, Option<i64>);

fn charge_of((subject, metric, period, start_s, amount, units): PartRow) -> Result<Charge, StoreError> {
    let refuse = || damaged("a hold", &format!("it holds {amount} of {units:?} units"));
    let period = period.parse().map_err(|error| damaged("a hold", &error))?;
    let limit = units.map(|units| units_of(units).ok_or_else(refuse)).transpose()?;
    let key = CounterKey { subject: subject.into(), metric: Arc::from(metric), period, start_s };
    let limit = limit.map_or(Limit::Unlimited, Limit::Units);
    Ok(Charge { key, amount: units_of(amount).ok_or_else(refuse)?, limit })
}

fn forget(connection: &Connection, now: Timestamp, delete: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached(delete)
        .and_then(|mut delete| delete.execute((now.as_millisecond(), DELETED_AT_ONCE)))
        .map(drop)
        .map_err(failure)
}

fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| damaged("a row", &error))
}

fn read_json<T: serde::de::DeserializeOwned>(text: &str, what: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| damaged(what, &error))
}

fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}
