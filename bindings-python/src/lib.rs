//! The Python module `quotum._native`: converts, calls the core, converts back.

mod answer;
mod argument;
mod bell;
mod clock;
mod decision;
mod diagnosis;
mod engine;
mod error;
mod event;
mod feature;
mod fork;
mod host;
mod http;
mod identity;
mod json;
mod options;
mod plan;
mod rate;
mod reservation;
mod store;
mod subject;
mod subscription;
mod usage;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::answer::Answer;
    #[pymodule_export]
    use crate::clock::ManualClock;
    #[pymodule_export]
    use crate::decision::{Decision, Denial, QuotaState};
    #[pymodule_export]
    use crate::engine::{AsyncQuota, Engine, Quota};
    #[pymodule_export]
    use crate::event::Event;
    #[pymodule_export]
    use crate::http::{HttpAnswer, Mapping, client_address, token_of};
    #[pymodule_export]
    use crate::identity::Identity;
    #[pymodule_export]
    use crate::plan::{CatalogStatus, Plan, Plans};
    #[pymodule_export]
    use crate::rate::{RateDecision, RateState};
    #[pymodule_export]
    use crate::reservation::{AsyncReservation, Held, Reservation, Settlement};
    #[pymodule_export]
    use crate::store::check_store;
    #[pymodule_export]
    use crate::subject::{AsyncSubject, Handle, Subject};
    #[pymodule_export]
    use crate::subscription::{Census, Subscriber, Subscription};
    #[pymodule_export]
    use crate::usage::Usage;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        crate::diagnosis::listen();
        crate::fork::watch(module.py())
    }
}
