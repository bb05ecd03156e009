//! Replies that pass, and may be wanted back when their conversation becomes a storm.

use super::Handler;
use crate::engine::{Action, Decision, Kind, Reason};
use crate::journal::event::Event;
use crate::journal::record::Judged;
use crate::quarantine::passed::{Place, Reply};
use crate::storm::policy::Mode;
use crate::time::Timestamp;

impl Handler {
    /// The conversations that a message belongs to. None where it also goes to a list whose mail is never held.
    pub(super) fn places(&self, judged: &Judged) -> Vec<Place> {
        let world = self.shared.engine.world();
        let protected = judged
            .shares
            .iter()
            .any(|share| world.list_by_key(share.list).is_some_and(|list| list.policy.never_hold));
        let places = judged.shares.iter().filter(|share| share.thread != 0 && !protected);
        places.map(|share| Place { list: share.list, thread: share.thread }).collect()
    }

    /// A storm that this message declared wants back what has passed of its conversation.
    pub(super) fn want_back(&self, events: &[Event], places: &[Place], now: Timestamp) {
        let engine = &self.shared.engine;
        for event in events {
            let Event::StormStarted { storm, list: Some(list), .. } = event else { continue };
            let Some(list) = engine.list_named(list.as_bytes(), now) else { continue };
            if list.policy.mode != Mode::Hold || engine.is_observing() {
                continue;
            }
            for place in places.iter().filter(|place| place.list == list.key) {
                self.shared.passed.claw_back(*place, storm, now);
            }
        }
    }

    /// A reply that passes may be wanted back: its queue id is noted, if it carries a mark by which the helper knows
    /// it, and nothing exempts it.
    pub(super) fn remember_passed(
        &self,
        decision: &Decision,
        places: Vec<Place>,
        queue_id: &str,
        now: Timestamp,
    ) {
        let passes = decision.action == Action::Accept && decision.reason != Reason::Exempt;
        let marked = decision.enforced && !self.shared.engine.is_observing();
        if !passes || !marked || decision.kind == Kind::New || places.is_empty() {
            return;
        }
        self.shared.passed.note(Reply {
            queue_id: queue_id.to_owned(),
            places,
            list: decision.list.clone(),
            author: decision.author.clone(),
            copies: decision.audience,
            at: now,
        });
    }

    /// Where suspicions are let pass, their mail reaches the list at once: its author is somebody who writes to it, as
    /// he is when a suspicion that was held is released.
    pub(super) fn know_suspect(&self, decision: &Decision) {
        let passes = decision.action == Action::Accept && decision.enforced;
        if passes
            && matches!(decision.reason, Reason::Suspicion { .. })
            && !self.shared.engine.is_observing()
            && let (Some(list), Some(author)) = (&decision.list, &decision.author)
        {
            self.shared.make_known(list, author);
        }
    }
}
