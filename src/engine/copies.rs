//! What a message adds to the copies that were let through and to those that were prevented.

use std::sync::Arc;

use smallvec::SmallVec;

use super::Decision;
use super::judging::{Weighed, audience};
use super::transaction::Transaction;
use super::verdict::Action;
use super::world::WatchedList;

/// Copies of one message, one for each mailbox. Its earlier parts were counted when they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// Let through. None when the message is the repetition of one that was.
    pub passed: u64,
    /// Stopped. None when the message was stopped before and comes again.
    pub prevented: u64,
    /// Of those let through: they would have been stopped if every list were enforced.
    pub observed: u64,
}

impl Copies {
    /// As `decision` says.
    pub(super) fn of(decision: &Decision, tx: &Transaction, weighed: &Weighed) -> Self {
        // What a rate limit stopped may pass when it comes again.
        if weighed.repeated && !weighed.limited {
            return Self::default();
        }
        let passed = match &decision.action {
            Action::Accept => weighed.own,
            Action::Strip { recipients } => tx.reached_without(recipients).min(weighed.own),
            Action::Hold | Action::Defer { .. } | Action::Reject { .. } | Action::Discard => 0,
        };
        let is_observed = decision.action == Action::Accept && decision.would != Action::Accept;
        Self {
            passed,
            prevented: if weighed.came_before { 0 } else { weighed.own.saturating_sub(passed) },
            observed: if is_observed { passed } else { 0 },
        }
    }
}

impl Transaction {
    /// The lists that the message still goes to without these recipients, which are lists.
    pub fn lists_without(&self, stripped: &[Box<[u8]>]) -> SmallVec<[Arc<WatchedList>; 2]> {
        let stays = |list: &Arc<WatchedList>| {
            let mut named = self.lists.iter().filter(|recipient| recipient.list.key == list.key);
            named.any(|recipient| !stripped.contains(&recipient.raw))
        };
        self.distinct_lists().into_iter().filter(stays).collect()
    }

    /// Mailboxes that it still reaches.
    pub fn reached_without(&self, stripped: &[Box<[u8]>]) -> u64 {
        audience(&self.world, self.lists_without(stripped).iter()).saturating_add(self.plain_recipients())
    }
}
