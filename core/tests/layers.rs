//! Layers: timeouts, breakers and planted faults around any store, and what an engine makes of them.

#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use quotum::SystemClock;
use quotum::store::{
    BreakerOptions, CircuitBreaker, Fault, FaultRule, Faults, Layered, MemoryStore, Store, Timeout, conformance,
};

const PATIENCE: Duration = Duration::from_secs(60);

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

fn breaker() -> CircuitBreaker {
    CircuitBreaker::new(BreakerOptions::default(), Arc::new(SystemClock::new()))
}

#[test]
fn a_store_conforms_behind_a_timeout() {
    conformance::run(|| Arc::new(Layered::new(memory(), Timeout::after(PATIENCE)))).assert_passed();
    conformance::run(|| Arc::new(Layered::new(memory(), Timeout::after(Duration::MAX)))).assert_passed();
}

#[test]
fn a_store_conforms_behind_a_breaker() {
    conformance::run(|| Arc::new(Layered::new(memory(), breaker()))).assert_passed();
}

#[test]
fn a_store_conforms_behind_faults_that_are_none() {
    conformance::run(|| Arc::new(Layered::new(memory(), Faults::seeded(1)))).assert_passed();
}

#[test]
fn a_slow_store_conforms_behind_all_layers() {
    let slow = || {
        let faults = Faults::seeded(7);
        faults.plant(FaultRule::new(Fault::Delay { polls: 3 }).per_mille(500));
        Arc::new(Layered::new(memory(), faults))
    };
    let guarded = || Arc::new(Layered::new(slow(), Timeout::after(PATIENCE)));
    conformance::run(|| Arc::new(Layered::new(guarded(), breaker()))).assert_passed();
}
