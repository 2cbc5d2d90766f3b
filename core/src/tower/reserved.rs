//! Reserved: a reservation on its way to the handler that commits it.

use std::sync::Arc;

use crate::reservation::Reservation;
use crate::sync::Mutex;

/// What a layer has reserved for a request, among its extensions: see
/// [`OwnedRequest::reserve`](crate::OwnedRequest::reserve).
///
/// Extensions are clonable and a reservation is not, so all clones share one. If nobody takes it, it is
/// released with the last of them: when the request is dropped, whether the handler has returned, failed or
/// been cancelled.
///
/// ```
/// use quotum::Error;
/// use quotum::tower::Reserved;
///
/// async fn handler(reserved: Reserved) -> Result<(), Error> {
///     let reservation = reserved.take();
///     // … the work, which tells what it cost …
///     if let Some(reservation) = reservation {
///         reservation.commit(&[("compute_minutes", 12)]).await?;
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Reserved(Arc<Mutex<Option<Reservation>>>);

impl Reserved {
    pub(super) fn new(reservation: Reservation) -> Self {
        Self(Arc::new(Mutex::new(Some(reservation))))
    }

    /// The reservation; `None` for all but the first who ask.
    #[must_use = "dropping a reservation releases what it holds"]
    pub fn take(&self) -> Option<Reservation> {
        self.0.lock().take()
    }
}
