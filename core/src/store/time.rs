//! Whose clock a store on a server goes by.

/// Whose clock says when holds and leases expire, and what is too old to be kept, in a store that several machines
/// share.
///
/// The clocks of several machines differ. By its own, a machine that is an hour ahead would find every reservation and
/// every lease of the others expired.
///
/// ```
/// assert_eq!(quotum::store::StoreTime::default(), quotum::store::StoreTime::Server);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StoreTime {
    /// The server's. Every time that a step is given is moved by as much as the server's clock differs from the one
    /// that the step was told ([`Call::now`](crate::store::Call)), and every time that it returns is moved back: what
    /// is to expire in a minute does so in a minute, by the one clock that all share.
    ///
    /// When a period begins, and when a subscription ends, is still for the engine's clock to say; events keep the
    /// time that their process told.
    #[default]
    Server,
    /// The one that each step is told: the engine's. For tests with a clock of their own, which the server's would
    /// never follow.
    Told,
}
