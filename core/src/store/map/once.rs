//! Steps that must not be made twice.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::keys::Key;
use super::transaction::{Transaction, damaged};
use crate::HoldId;
use crate::store::{Balance, Charged, CounterKey, Once, StoreError};

/// A step that was made under an idempotency key.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    arguments: String,
    at: Timestamp,
    made: Vec<(CounterKey, Balance)>,
    /// The hold that it was, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hold: Option<String>,
    kept_until_ms: i64,
}

impl Transaction<'_> {
    /// What became of a step that was made before.
    pub(super) fn recall(&mut self, once: Option<&Once>) -> Result<Option<Charged>, StoreError> {
        let Some(once) = once else { return Ok(None) };
        let Some(step) = self.get::<Made>(&place(once), "a step")? else { return Ok(None) };
        if step.kept_until_ms <= self.now.as_millisecond() {
            return Ok(None);
        }
        let hold = step.hold.map(|id| id.parse::<HoldId>().map_err(|error| damaged("a step", &error))).transpose()?;
        // What expired or was released has charged nothing, so there is nothing to do twice.
        if let Some(id) = hold
            && !self.held(id)?.is_some_and(|held| held.stands(self.now))
        {
            return Ok(None);
        }
        Ok(Some(match step.arguments == hex(once) {
            true => Charged::repeated(step.at, step.made, hold),
            false => Charged::conflict(),
        }))
    }

    pub(super) fn remember<'k>(
        &mut self,
        once: Option<&Once>,
        keys: impl Iterator<Item = &'k CounterKey>,
        balances: &[Balance],
        hold: Option<HoldId>,
    ) -> Result<(), StoreError> {
        let Some(once) = once else { return Ok(()) };
        let made = keys.cloned().zip(balances.iter().copied()).collect();
        let (hold, kept_until_ms) = (hold.map(|id| id.to_string()), once.kept_until.as_millisecond());
        self.put(&place(once), &Made { arguments: hex(once), at: self.now, made, hold, kept_until_ms })?;
        self.look_later(&place(once), kept_until_ms)
    }
}

fn place(once: &Once) -> Key {
    Key::of("step").text(&once.subject).text(&once.key)
}

/// The fingerprint of a step's arguments.
fn hex(once: &Once) -> String {
    once.arguments.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}
