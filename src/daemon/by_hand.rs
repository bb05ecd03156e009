//! What operators do with storms: ends one, closes a list. Who may is what the admin socket allows; nothing is done
//! that cannot be written down first.

use std::time::Duration;

use tracing::{error, warn};

use super::Daemon;
use super::answer::unwritten;
use crate::admin::api::{ByHand, Decision};
use crate::admin::backend::{Refusal, Who};
use crate::engine::{Done, Refusal as No};
use crate::quarantine::ledger::Held;
use crate::storm::policy::Mode;
use crate::storm::state::Phase;
use crate::time::Timestamp;

impl Daemon {
    /// Does what is asked for.
    pub(super) fn by_hand(&self, decision: &Decision, who: &Who) -> Result<ByHand, Refusal> {
        let shared = &self.shared;
        let now = shared.clock.now();
        self.audit.note(now, who, decision).map_err(unwritten)?;
        let (act, done) = match decision {
            Decision::EndStorm(end) => ("end", shared.engine.end_by_hand(&end.which, now)),
            Decision::Close(start) => {
                let (conversation, span) = (start.conversation.as_deref(), Duration::from_secs(start.for_s));
                ("start", shared.engine.close_by_hand(&start.list, conversation, span, now))
            }
        };
        let outcome = done.map(|done| {
            // First what happened, then why: applied in another order they come to the same.
            shared.publish(&done.events);
            shared.memory.keep_at_once(done.record.clone());
            self.told(&done, decision, now)
        });
        let noted = outcome.as_ref().map_err(ToString::to_string);
        let (list, storm) = match &outcome {
            Ok(done) => (done.list.as_deref().unwrap_or("-"), done.storm.as_deref().unwrap_or("-")),
            Err(_) => ("-", "-"),
        };
        let refused = noted.as_ref().err().map_or("-", String::as_str);
        warn!(%who, act, list, storm, refused, "an operator decides about a storm");
        if let Err(error) = self.audit.note(shared.clock.now(), who, &noted) {
            error!(%error, "the outcome of an operator's act is not in the audit log");
        }
        outcome.map_err(|no| refusal(&no))
    }

    fn told(&self, done: &Done, decision: &Decision, now: Timestamp) -> ByHand {
        let mut notes = Vec::new();
        let mut note = |text: &str| notes.push(text.to_owned());
        if done.until.is_none() {
            let address = done.list.as_ref().map(|list| &list.address);
            let of_it = |item: &Held| match address {
                Some(address) => item.list.as_ref() == Some(address),
                None => item.storm == done.storm,
            };
            let held = self.shared.ledger.select(None, 0, of_it).total;
            if held > 0 {
                let to = if address.is_some() { "to it" } else { "of it" };
                note(&format!(
                    "{held} messages {to} stay on hold: `becalm quarantine` releases or returns them"
                ));
            }
            if done.storm.is_none() {
                note("there was no storm: its cooling and what was closed by hand are over");
            }
        } else if let Some(list) = &done.list {
            if self.shared.engine.is_observing() {
                note("everything is put to observe: nothing is held (`becalm observe off`)");
            } else if list.policy.mode == Mode::Observe {
                note("the list is only observed: nothing is held (its mode says so)");
            }
            let whole = matches!(decision, Decision::Close(start) if start.conversation.is_none());
            if whole && list.members > list.policy.thresholds.budget {
                note("every message to this list is dear: known authors wait too, not only newcomers");
            }
            if whole && done.events.is_empty() && matches!(list.state.phase(now), Phase::Storm { .. }) {
                note(
                    "it was closed already: the later time holds, and a storm of the rule's lasts until it is quiet",
                );
            }
        }
        ByHand {
            list: done.list.as_ref().map(|list| list.address.clone()),
            storm: done.storm.clone(),
            until: done.until.map(Timestamp::rfc3339),
            notes,
        }
    }
}

/// For whoever asked.
fn refusal(no: &No) -> Refusal {
    let message = no.to_string();
    match no {
        No::NoList(_) => Refusal::absent("no_such_list", message),
        No::NoStorm(_) => Refusal::absent("no_such_storm", message),
        No::NeverHeld(_) => Refusal::request("never_held", message),
        No::Span => Refusal::request("bad_span", message),
        No::MessageId => Refusal::request("bad_message_id", message),
        No::TooMany => Refusal::request("too_many", message),
    }
}
