//! Charges that have no idempotency key: sent together where they are of the same counters, and known by a key of their
//! own for as long as their answer may be lost.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::counter;
use super::failure::damaged;
use super::names::Names;
use super::script::{CHARGE, Step};
use super::server::Server;
use crate::HoldId;
use crate::store::combining::Charges;
use crate::store::{Balance, Charge, Charged, Outcome, StoreError};

/// What charges are sent to, and under which names.
pub(super) struct Charger {
    pub(super) server: Arc<Server>,
    pub(super) names: Arc<Names>,
}

impl Charger {
    async fn send(&self, now: Timestamp, charges: &[Charge], are_sums: bool) -> Result<Charged, StoreError> {
        let Some(payer) = counter::payer(charges.iter().map(|charge| &charge.key))? else {
            return Ok(Charged::new(Outcome::Granted, Vec::new()));
        };
        let step = Step::of(&CHARGE, now, self.names.account(&payer));
        let step = in_moment(step, &self.names, &payer, self.server.moment())?.with(if are_sums { "1" } else { "0" });
        counter::charged(self.server.make(&counter::with_charges(step, charges)).await?)
    }
}

impl Charges for Charger {
    async fn charge(&self, now: Timestamp, charges: &[Charge]) -> Result<Charged, StoreError> {
        self.send(now, charges, false).await
    }

    async fn charge_sums(&self, now: Timestamp, sums: &[Charge]) -> Result<Option<Vec<Balance>>, StoreError> {
        let Charged { outcome, balances, .. } = self.send(now, sums, true).await?;
        Ok((outcome == Outcome::Granted).then_some(balances))
    }
}

/// A step without a key as one that is known when it comes again. The name it is known by is its last key, so far.
pub(super) fn in_moment(step: Step, names: &Names, payer: &str, moment: Duration) -> Result<Step, StoreError> {
    let id = HoldId::random().map_err(|error| damaged("randomness", &error))?;
    Ok(counter::with_moment(step, moment).on(names.moment(payer, id)).once())
}
