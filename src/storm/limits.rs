//! Rate limits in copies, per author and for the organisation.

use std::time::Duration;

/// One rate: `copies` at once (the burst), refilled evenly over `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Copies; 1 to u32::MAX.
    pub copies: std::num::NonZeroU32,
    /// The time in which an empty bucket fills. `per` in nanoseconds must fit a u64.
    pub per: Duration,
}

/// The rate limits; each is off unless set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitSettings {
    /// Copies of watched mail that one author may cause.
    pub author: Option<Rate>,
    /// Copies of watched mail that the whole organisation may cause.
    pub organisation: Option<Rate>,
    /// What happens to a message above a limit: `Observe`, `Hold`, `Reject` or `Defer`.
    pub mode: crate::storm::policy::Mode,
}
