//! Clawing back: what passed of a conversation before it became a storm, and is still in Postfix's queue, is put on
//! hold there.

use std::collections::BTreeMap;

use tracing::{debug, warn};

use super::{ACTS_A_ROUND, Failure, Keeper, Rounds};
use crate::journal::event::Event;
use crate::journal::record::{ClawedBack, Record};
use crate::quarantine::ledger::{CLAWED_BACK, Held};
use crate::quarantine::passed::{Wanted, spared};
use crate::quarantine::protocol::{Reason, Request};
use crate::quarantine::queue_id::QueueId;
use crate::time::Timestamp;

/// Queue ids and copies of what was clawed back.
type Clawed = Vec<(String, u64)>;

impl Keeper {
    /// Has the helper put on hold what is wanted back, and tells what came of it.
    pub(super) fn claw_back(&self, rounds: &Rounds<'_>) {
        let shared = &self.shared;
        let mut done: BTreeMap<(String, Option<String>), Clawed> = BTreeMap::new();
        let mut later = Vec::new();
        for _ in 0..ACTS_A_ROUND {
            let mut links = self.links();
            if rounds.are_over() {
                break;
            }
            let Some(wanted) = shared.passed.next() else { break };
            if let Some(full) = shared.ledger.full() {
                let (queue_id, limit) = (&wanted.reply.queue_id, full.name());
                warn!(queue_id, limit, "not clawed back: nothing more may be held");
                continue;
            }
            let now = shared.clock.now();
            let queue_id = match QueueId::parse(&wanted.reply.queue_id) {
                Ok(queue_id) => queue_id,
                Err(error) => {
                    self.say_not_clawed_back(&wanted, &error.to_string(), now);
                    continue;
                }
            };
            match links.act(&Request::Hold(queue_id), false, now) {
                Ok(answer) => {
                    let to_go = answer.recipients.unwrap_or_default();
                    let copies = spared(wanted.reply.copies, to_go.left, to_go.reached);
                    let key = (wanted.storm.clone(), wanted.reply.list.clone());
                    done.entry(key).or_default().push((wanted.reply.queue_id.clone(), copies));
                    self.note_clawed_back(wanted, copies);
                }
                // Delivered, most likely; or Postfix has not written it to its end.
                Err(Failure::Refused(refusal)) if refusal.reason == Reason::NotFound => {
                    later.push((wanted, false));
                }
                Err(Failure::Refused(refusal)) => {
                    self.say_not_clawed_back(&wanted, &refusal.message, now);
                }
                Err(Failure::Down(_)) => {
                    later.push((wanted, true));
                    if !links.is_any_ready(now) {
                        break;
                    }
                }
            }
        }
        let now = shared.clock.now();
        for (wanted, found) in later {
            let queue_id = wanted.reply.queue_id.clone();
            if !shared.passed.again(wanted, found, now) {
                debug!(queue_id, found, "not clawed back: it has left the queue, or it is too late");
            }
        }
        for ((storm, list), clawed) in done {
            let (mut messages, mut copies) = shared.storms.clawed_back(&storm);
            for (queue_id, spared) in clawed {
                (messages, copies) = (messages.saturating_add(1), copies.saturating_add(spared));
                let (storm, sums) = (storm.clone(), [messages, copies]);
                let record = ClawedBack { at: now, storm, queue_id, copies: spared, sums };
                shared.memory.keep(Record::ClawedBack(record));
            }
            shared.publish(&[Event::ClawedBack { storm, list, messages, copies, at: now }]);
        }
    }

    /// It goes where it was sent.
    fn say_not_clawed_back(&self, wanted: &Wanted, reason: &str, now: Timestamp) {
        if self.shared.verdict_lines.admits(now) {
            let (queue_id, storm) = (&wanted.reply.queue_id, &wanted.storm);
            warn!(queue_id, storm, reason, "not clawed back");
        }
    }

    fn note_clawed_back(&self, wanted: Wanted, copies: u64) {
        let shared = &self.shared;
        shared.counters.clawed_back.add_one();
        shared.counters.copies_clawed_back.add(copies);
        let reply = wanted.reply;
        shared.ledger.note(Held {
            queue_id: reply.queue_id,
            list: reply.list,
            conversation: None,
            author: reply.author,
            reason: CLAWED_BACK,
            storm: Some(wanted.storm),
            copies,
            since: shared.clock.now(),
            until: None,
            held: true,
            size: None,
            trouble: None,
        });
    }
}
