//! Probes: an operator's proof that mail to a list comes by here.
//!
//! ```text
//! becalm probe ──▶ admin side: a token ──▶ MAIL FROM:<becalm-probe-TOKEN@…> RCPT TO:<LIST> DATA ──▶ Postfix ──▶ here
//!      ▲                                                                                                 │
//!      └──────────────────────── 550 becalm probe PROOF: covered; … ◀────────────────────────────────────┘
//! ```
//!
//! A token is random, for one list, for two minutes, and for one message; this process keeps it, so there is nothing
//! to forge. A sender that looks like one and is none is ordinary mail. The proof comes back in the answer only: no
//! other server that repeats what it is told can give it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use memchr::memmem;
use subtle::ConstantTimeEq as _;

use super::site;
use crate::admin::api::{ProbeTicket, StartProbe};
use crate::admin::backend::Refusal;
use crate::time::Timestamp;

/// A probe takes a second; greeting delays take half a minute.
const VALID: Duration = Duration::from_secs(120);

/// Probes that are under way at once: operators are few.
const MAX_WAITING: usize = 64;

/// In front of the token, in the local part of the envelope sender.
const PREFIX: &str = "becalm-probe-";

/// Random bytes of a token: 96 bits, as many as fit into a local part beside a name.
const TOKEN_BYTES: usize = 12;

/// Random bytes of a proof.
const PROOF_BYTES: usize = 8;

/// RFC 5321, 4.5.3.1.3, with room for what some software sends.
const MAX_ADDRESS: usize = 320;

/// Probes that were begun and have not come yet.
#[derive(Default)]
pub struct Probes {
    waiting: Mutex<Vec<Waiting>>,
    /// Their number: all other mail looks at this alone.
    count: AtomicUsize,
}

struct Waiting {
    token: String,
    probe: Probe,
    until: Timestamp,
}

/// A probe that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    list: String,
    proof: String,
}

impl Probes {
    /// A token for a list.
    ///
    /// # Errors
    /// What cannot be an address, or too many probes at once.
    pub fn begin(&self, start: &StartProbe, node: &str, now: Timestamp) -> Result<ProbeTicket, Refusal> {
        let list = start.list.trim();
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>');
        if list.is_empty() || list.len() > MAX_ADDRESS || list.chars().any(odd) {
            return Err(Refusal::request("bad_list", "this is no address"));
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|waiting| waiting.until > now);
        if waiting.len() >= MAX_WAITING {
            let message = format!("{MAX_WAITING} probes are under way; try again in two minutes");
            return Err(Refusal::request("too_many_probes", message));
        }
        let (token, proof) = (hex(&site::random::<TOKEN_BYTES>()), hex(&site::random::<PROOF_BYTES>()));
        let until = now.after(VALID);
        let probe = Probe { list: list.to_owned(), proof: proof.clone() };
        waiting.push(Waiting { token: token.clone(), probe, until });
        // Relaxed: who has the token asked for it, and sends it after this.
        self.count.store(waiting.len(), Ordering::Relaxed);
        let local_part = format!("{PREFIX}{token}");
        Ok(ProbeTicket { local_part, proof, until: until.rfc3339(), node: node.to_owned() })
    }

    /// The probe whose token stands in an envelope sender; it is used up by that.
    #[inline]
    pub fn take(&self, sender: &[u8], now: Timestamp) -> Option<Probe> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.look_up(sender, now)
    }

    fn look_up(&self, sender: &[u8], now: Timestamp) -> Option<Probe> {
        let at = memmem::find(sender, PREFIX.as_bytes())?.saturating_add(PREFIX.len());
        let token = sender.get(at..at.saturating_add(2 * TOKEN_BYTES))?;
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|waiting| waiting.until > now);
        let found = waiting.iter().position(|waiting| bool::from(waiting.token.as_bytes().ct_eq(token)));
        let probe = found.map(|index| waiting.swap_remove(index).probe);
        self.count.store(waiting.len(), Ordering::Relaxed);
        probe
    }
}

impl Probe {
    /// Is the recipient, as it was sent, the one that the token is for?
    pub fn is_for(&self, recipient: &[u8]) -> bool {
        let bare = recipient.strip_prefix(b"<").and_then(|rest| rest.strip_suffix(b">")).unwrap_or(recipient);
        bare.eq_ignore_ascii_case(self.list.as_bytes())
    }

    /// The list, as it was asked about.
    pub fn list(&self) -> &str {
        &self.list
    }

    /// The reply's text. `known`: what becalm knows of the list, if it is one.
    pub fn answer(&self, known: Option<&str>) -> String {
        let proof = &self.proof;
        match known {
            Some(known) => format!("becalm probe {proof}: covered; {known}"),
            None => format!("becalm probe {proof}: seen, but not known as a list"),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "all@example.org";

    fn begin(probes: &Probes, at: u64) -> Result<ProbeTicket, Refusal> {
        probes.begin(&StartProbe { list: LIST.to_owned() }, "mx1", Timestamp::from_millis(at))
    }

    #[test]
    fn a_token_is_for_one_message_and_two_minutes() {
        let probes = Probes::default();
        let ticket = begin(&probes, 0).unwrap();
        let sender = format!("<postmaster+{}@example.org>", ticket.local_part);
        let at = |millis| Timestamp::from_millis(millis);
        assert_eq!(probes.take(b"<someone@example.org>", at(1)), None);
        let mut forged = sender.clone().into_bytes();
        forged[30] = if forged[30] == b'0' { b'1' } else { b'0' };
        assert_eq!(probes.take(&forged, at(1)), None);
        let probe = probes.take(sender.as_bytes(), at(119_999)).unwrap();
        assert_eq!(probes.take(sender.as_bytes(), at(119_999)), None, "used up");
        assert!(probe.is_for(b"<ALL@example.org>") && probe.is_for(b"all@example.org"));
        assert!(!probe.is_for(b"<all@example.net>"));
        assert_eq!(
            probe.answer(None),
            format!("becalm probe {}: seen, but not known as a list", ticket.proof)
        );
        let late = begin(&probes, 0).unwrap();
        assert_eq!(probes.take(late.local_part.as_bytes(), at(120_000)), None, "expired");
    }

    #[test]
    fn what_a_token_may_be_for_and_how_many_there_are() {
        let probes = Probes::default();
        for list in ["", "a b@x", "<a@x>", "a@x\r\nRSET", &"x".repeat(321)] {
            let refused = probes.begin(&StartProbe { list: list.to_owned() }, "mx1", Timestamp::default());
            assert_eq!(refused.unwrap_err().code, "bad_list");
        }
        assert!((0..MAX_WAITING).all(|_| begin(&probes, 0).is_ok()));
        assert_eq!(begin(&probes, 119_999).unwrap_err().code, "too_many_probes");
        assert!(begin(&probes, 120_000).is_ok());
    }
}
