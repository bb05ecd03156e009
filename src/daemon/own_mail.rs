//! becalm's own mail, where it comes by: known by its code, and neither judged nor counted.

use std::time::Duration;

use crate::engine::Transaction;
use crate::time::Timestamp;
use crate::window::Recent;

use super::shared::Shared;

/// From the writing of a mail to its coming by. It is handed in at once, and a submission server that is on another
/// machine may keep it for a while.
const FRESH: Duration = Duration::from_secs(3600);

/// Ids that came by within that time; alerts are few, notices at most 10,000 a minute by configuration and 60 by default.
const IDS: usize = 16_384;

/// Ids of own mail that has come by: a code serves once.
pub struct OwnMail(Recent);

impl Default for OwnMail {
    fn default() -> Self {
        Self(Recent::new(IDS))
    }
}

impl Shared {
    /// Did this becalm, or another with its key, write this message, for this recipient, a moment ago?
    pub fn is_own_mail(&self, tx: &Transaction, now: Timestamp) -> bool {
        let Some(mark) = tx.own_mark().and_then(|value| self.marker.load().verify_own(value)) else {
            return false;
        };
        let fresh = now.since(mark.at) <= FRESH && mark.at.since(now) <= FRESH;
        let same =
            tx.message_id() == Some(mark.message_id.as_bytes()) && self.engine.is_for(tx, &mark.to, now);
        fresh
            && same
            && self.own_mail.0.first_in(self.engine.key_of(mark.message_id.as_bytes()), now, 2 * FRESH)
    }
}
