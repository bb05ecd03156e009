//! Probes of operators: answered with what becalm knows of a list, or judged as mail where they are addressed to
//! others too.

use tracing::info;

use super::Handler;
use crate::daemon::answer::mode_name;
use crate::daemon::probe::Probe;
use crate::milter::{Filter, FinalReply, SmtpReply};

/// A probe, as far as it has come; what is needed where it turns out to be mail after all.
pub(super) struct Probing {
    pub(super) probe: Probe,
    pub(super) sender: Vec<u8>,
    pub(super) user: Option<Vec<u8>>,
    /// Its list was among the recipients.
    pub(super) addressed: bool,
}

impl Handler {
    /// It goes to others too: it is mail, whoever sends it, and is judged as such from the beginning.
    pub(super) fn is_no_probe(&mut self) {
        let Some(probing) = self.probing.take() else { return };
        let Probing { probe, sender, user, addressed } = *probing;
        self.shared.engine.begin(&mut self.tx, &sender, user.as_deref(), self.began);
        if addressed {
            self.recipient(probe.list().as_bytes());
        }
    }

    /// What an operator wants to know who probes a list. It is no message: nothing is counted.
    pub(super) fn tell(&self, probe: &Probe) -> FinalReply {
        let engine = &self.shared.engine;
        let list = engine.list_named(probe.list().as_bytes(), self.began);
        let known = list.map(|list| {
            let mode = match (list.policy.never_hold, engine.is_observing()) {
                (true, _) => "never held",
                (false, true) => "observe (everything is)",
                (false, false) => mode_name(list.policy.mode),
            };
            let marker = self.shared.marker.load();
            let (node, address, members) = (marker.node(), &list.address, list.members);
            format!("node={node}; list={address}; members={members}; mode={mode}")
        });
        info!(list = probe.list(), known = known.is_some(), "a probe came by");
        let text = probe.answer(known.as_deref());
        let reply = SmtpReply::new(550, "5.7.1", &text);
        FinalReply::Code(reply.expect("550 is a refusal, and 5.7.1 of its class"))
    }
}
