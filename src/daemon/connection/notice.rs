//! Which held messages' authors may get a notice.

use super::Handler;
use crate::alert::notice::Candidate;
use crate::engine::{Action, Decision, Kind, Reason};
use crate::time::Timestamp;

impl Handler {
    /// The author of a message that waits in a storm may get a notice.
    pub(super) fn offer_notice(&self, decision: &Decision, now: Timestamp) {
        let held = decision.action == Action::Hold && decision.reason == Reason::Storm;
        if !held || decision.kind == Kind::Automatic || !self.shared.held_letters.are_wanted() {
            return;
        }
        let (Some(list), Some(storm)) = (&decision.list, &decision.storm) else { return };
        let sender = self.tx.sender();
        let sender = sender.strip_prefix(b"<").and_then(|rest| rest.strip_suffix(b">")).unwrap_or(sender);
        let Ok(sender) = std::str::from_utf8(sender) else { return };
        let members = self.shared.engine.list_named(list.as_bytes(), now).map_or(0, |list| list.members);
        let id = self.tx.message_id().map(|id| String::from_utf8_lossy(id).into_owned());
        self.shared.held_letters.offer(Candidate {
            sender: sender.to_owned(),
            storm: storm.clone(),
            list: list.clone(),
            members,
            message_id: id,
        });
    }
}
