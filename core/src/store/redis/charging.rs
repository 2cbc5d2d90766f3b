//! Charges that have no idempotency key: sent together where they are of the same counters.

use std::sync::Arc;

use jiff::Timestamp;

use super::counter;
use super::names::Names;
use super::script::{CHARGE, Step};
use super::server::Server;
use crate::store::combining::{Charges, IsWanted};
use crate::store::{Charge, Charged, Outcome, StoreError};

/// What charges are sent to, and under which names.
pub(super) struct Charger {
    pub(super) server: Arc<Server>,
    pub(super) names: Arc<Names>,
}

impl Charges for Charger {
    async fn charge(
        &self,
        now: Timestamp,
        charges: &[Charge],
        are_sums: bool,
        is_wanted: &IsWanted<'_>,
    ) -> Result<Charged, StoreError> {
        let Some(payer) = counter::payer(charges.iter().map(|charge| &charge.key))? else {
            return Ok(Charged::new(Outcome::Granted, Vec::new()));
        };
        let step = Step::of(&CHARGE, now, self.names.account(&payer));
        let step = step.in_turn(self.names.turns(&payer));
        let step = step.with_number(self.server.seats_kept_ms()).with(if are_sums { "1" } else { "0" });
        counter::charged(self.server.make_if_wanted(&counter::with_charges(step, charges), is_wanted).await?)
    }
}
