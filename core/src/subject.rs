//! Handles: subjects that are asked about often, with what is known of them at hand.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::admission::Admission;
use crate::caller::{Asking, check_subject};
use crate::error::Error;
use crate::fork::Bound;
use crate::record::{Record, Records};
use crate::request::{Request, Who};

/// A subject that is asked about often: for a connection that stays open, or a worker that serves one tenant.
///
/// What it is asked is decided as for the subject's name, only faster, because what is known of the subject
/// need not be looked up. It may be kept for as long as one likes, and shared between threads.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use quotum::{Plans, blocking::Quota};
///
/// let plans = Plans::from_toml(r#"
///     default_plan = "free"
///     [plans.free]
///     quotas = { messages = "100/day" }
///     rates = { api = "10/minute" }
/// "#)?;
/// let quota = Quota::builder().plans(plans).open("memory:")?;
///
/// let ana = quota.subject("ana")?;
/// let costs = [("messages", 1)];
/// assert!(quota.admit(&ana.request().rate("api").costs(&costs))?.allowed);
/// # Ok(())
/// # }
/// ```
pub struct Subject {
    engine: Bound<Admission>,
    id: Arc<str>,
    record: RwLock<Arc<Record>>,
}

impl Subject {
    pub(crate) fn of(engine: &Arc<Admission>, id: &str) -> Result<Self, Error> {
        check_subject(id)?;
        let record = engine.records.of(id);
        let (engine, id) = (Bound::new(Arc::clone(engine)), Arc::clone(&record.subject));
        Ok(Self { engine, id, record: RwLock::new(record) })
    }

    /// Whose handle it is.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A request by this subject, as [`Request::by`] its name.
    pub const fn request(&self) -> Request<'_> {
        Request::asked_by(Who::Held(self))
    }

    /// As what an engine knows the subject: one that the handle is not of knows only its name.
    pub(crate) fn asking(&self, engine: &Admission) -> Asking<'_> {
        if std::ptr::eq(&**self.engine, engine) { Asking::Held(self) } else { Asking::Named(&self.id) }
    }

    /// What is known of the subject, looked up again if it was dropped since.
    pub(crate) fn record(&self, records: &Records) -> Arc<Record> {
        let record = Arc::clone(&self.record.read());
        if !record.is_dropped() {
            return record;
        }
        let record = records.of(&self.id);
        *self.record.write() = Arc::clone(&record);
        record
    }
}

impl Clone for Subject {
    fn clone(&self) -> Self {
        let record = RwLock::new(Arc::clone(&self.record.read()));
        Self { engine: self.engine.clone(), id: Arc::clone(&self.id), record }
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subject").field(&self.id).finish()
    }
}
