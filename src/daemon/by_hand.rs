//! What operators do with storms: ends one, closes a list. Who may is what the admin socket allows; nothing is done
//! that cannot be written down first.

use std::sync::Arc;
use std::time::Duration;

use tracing::{error, warn};

use super::Daemon;
use crate::admin::api::{ByHand, Reply, Request};
use crate::admin::server::Peer;
use crate::engine::Done;
use crate::storm::policy::Mode;
use crate::storm::state::Phase;
use crate::time::Timestamp;

impl Daemon {
    /// Does what is asked for.
    pub(super) async fn by_hand(self: Arc<Self>, request: Request, peer: Peer) -> Reply {
        // The audit log is on a disk.
        let done = tokio::task::spawn_blocking(move || self.change(&request, peer));
        match done.await {
            Ok(Ok(done)) => Reply::ByHand(done),
            Ok(Err(message)) => Reply::Error { message },
            Err(panic) => Reply::Error { message: format!("becalm failed on this: {panic}") },
        }
    }

    fn change(&self, request: &Request, peer: Peer) -> Result<ByHand, String> {
        let shared = &self.shared;
        let now = shared.clock.now();
        let unwritten = |error| format!("nothing was done, for it cannot be written down: {error}");
        self.audit.note(now, peer.user, request).map_err(unwritten)?;
        let done = match request {
            Request::EndStorm { which } => shared.engine.end_by_hand(which, now),
            Request::Close { list, conversation, for_s, .. } => {
                let span = Duration::from_secs(*for_s);
                shared.engine.close_by_hand(list, conversation.as_deref(), span, now)
            }
            _ => return Err("this does nothing with a storm".to_owned()),
        };
        let outcome = done.map_err(|refusal| refusal.to_string()).map(|done| {
            // First what happened, then why: applied in another order they come to the same.
            shared.publish(&done.events);
            shared.memory.keep_at_once(done.record.clone());
            self.told(&done, request, now)
        });
        let (list, storm) = match &outcome {
            Ok(done) => (done.list.as_str(), done.storm.as_deref().unwrap_or("-")),
            Err(_) => ("-", "-"),
        };
        let refused = outcome.as_ref().err().map_or("-", String::as_str);
        let act = if matches!(request, Request::EndStorm { .. }) { "end" } else { "start" };
        warn!(user = peer.user, act, list, storm, refused, "an operator decides about a storm");
        if let Err(error) = self.audit.note(shared.clock.now(), peer.user, &outcome) {
            error!(%error, "the outcome of an operator's act is not in the audit log");
        }
        outcome
    }

    fn told(&self, done: &Done, request: &Request, now: Timestamp) -> ByHand {
        let list = &done.list;
        let mut notes = Vec::new();
        let mut note = |text: &str| notes.push(text.to_owned());
        if done.until.is_none() {
            let held = self
                .shared
                .ledger
                .select(|item| item.held && item.list.as_ref() == Some(&list.address))
                .len();
            if held > 0 {
                note(&format!(
                    "{held} messages to it stay on hold: `becalm quarantine` releases or returns them"
                ));
            }
            if done.storm.is_none() {
                note("there was no storm: its cooling and what was closed by hand are over");
            }
        } else {
            if self.shared.engine.is_observing() {
                note("everything is put to observe: nothing is held (`becalm observe off`)");
            } else if list.policy.mode == Mode::Observe {
                note("the list is only observed: nothing is held (its mode says so)");
            }
            let whole = matches!(request, Request::Close { conversation: None, .. });
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
            list: list.address.clone(),
            storm: done.storm.clone(),
            until: done.until.map(Timestamp::rfc3339),
            notes,
        }
    }
}
