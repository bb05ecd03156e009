//! One connection's part in the protocol: what goes out next, and what an answer means. No I/O.

use super::mail::{Flights, Letter, Mail};
use super::outcome::Fate;
use crate::milter::Kind;
use crate::milter::mta::{Change, Mta, MtaError, MtaReply, Verdict};

/// What a filter says that ends the load.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It breaks the protocol.
    #[error("the filter breaks the milter protocol: {0}")]
    Protocol(#[from] MtaError),
    /// It agrees to something else than in the session before.
    #[error("the filter negotiates otherwise from one session to the next")]
    Fickle,
    /// It decides on all mail of a session before there is any.
    #[error(
        "the filter answers {verdict} to {}, for all mail of the session: nothing is left to measure; \
         --client names another SMTP client", name(*after)
    )]
    Settled {
        /// Its answer.
        verdict: String,
        /// To what.
        after: Kind,
    },
    /// The answer has no end.
    #[error("the filter's answer to {} is longer than {MAX_ANSWER} bytes", name(*after))]
    Endless {
        /// To what.
        after: Kind,
    },
}

/// The longest answer, in bytes: room for a new body as large as mail is.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// As an operator knows the commands.
pub(super) const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Negotiate => "the negotiation",
        Kind::Connect => "the connection of a client",
        Kind::Helo => "HELO",
        Kind::Mail => "MAIL",
        Kind::Recipient => "RCPT",
        Kind::Data => "DATA",
        Kind::Header => "a header field",
        Kind::EndOfHeaders => "the end of the header",
        Kind::Body => "the body",
        Kind::EndOfMessage => "the end of the message",
        Kind::Unknown => "an unknown command",
        Kind::Abort | Kind::Macros | Kind::Quit | Kind::QuitNewConnection => "nothing",
    }
}

/// Where the conversation stands after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is more to send, or to wait for.
    On,
    /// A message can be sent.
    Ready,
    /// The message is settled; another one can be sent.
    Settled(Fate),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Negotiation,
    Opening,
    /// Between two messages.
    Between,
    Envelope,
    Content,
    Closing,
}

/// One connection.
pub(super) struct Conversation<'m> {
    mta: &'m Mta,
    mail: &'m Mail,
    /// The filter's whole answer to the negotiation, as it was when the mail was encoded.
    agreed: &'m [u8],
    stage: Stage,
    /// Not gone out yet from `sent` on.
    out: Vec<u8>,
    sent: usize,
    /// Where in `out` an answer is waited for, and for what; the last may be for none.
    ends: Vec<(usize, Option<Kind>)>,
    at: usize,
    input: Vec<u8>,
    /// Progress was promised since the command went out.
    promised: bool,
    letter: Option<&'m Letter>,
    number: u64,
    /// Of this message.
    refused: usize,
    /// All recipients but the last were refused for now.
    deferred: bool,
    /// Since they were last taken.
    pub(super) round_trips: u64,
    pub(super) headers_read: u64,
    pub(super) recipients_refused: u64,
}

impl<'m> Conversation<'m> {
    /// Nothing is open yet.
    pub(super) fn new(mta: &'m Mta, mail: &'m Mail, agreed: &'m [u8]) -> Self {
        Self {
            mta,
            mail,
            agreed,
            stage: Stage::Closing,
            out: Vec::new(),
            sent: 0,
            ends: Vec::new(),
            at: 0,
            input: Vec::new(),
            promised: false,
            letter: None,
            number: 0,
            refused: 0,
            deferred: false,
            round_trips: 0,
            headers_read: 0,
            recipients_refused: 0,
        }
    }

    /// On a new connection.
    pub(super) fn open(&mut self) {
        self.out.clear();
        self.out.extend_from_slice(&self.mta.negotiate());
        self.sent = 0;
        self.ends.clear();
        self.ends.push((self.out.len(), Some(Kind::Negotiate)));
        self.at = 0;
        self.input.clear();
        self.promised = false;
        self.stage = Stage::Negotiation;
    }

    /// The next message, after [`Step::Ready`] or [`Step::Settled`].
    pub(super) fn begin(&mut self, letter: &'m Letter, number: u64) {
        self.letter = Some(letter);
        self.number = number;
        self.refused = 0;
        self.deferred = true;
        self.stage = Stage::Envelope;
        self.put(&letter.envelope);
        // Where nobody waits for an answer to the envelope, its end is that of the content.
        self.skip_silence();
    }

    /// The end of the session: what is unsent then is the last.
    pub(super) fn close(&mut self) {
        self.out.extend_from_slice(&self.mail.quit);
        self.stage = Stage::Closing;
    }

    /// What should go out now.
    pub(super) fn unsent(&self) -> &[u8] {
        let end = match (self.stage, self.ends.get(self.at)) {
            (Stage::Closing, _) => self.out.len(),
            // What nobody waits for goes out with what follows.
            (Stage::Between, _) | (_, None | Some((_, None))) => self.sent,
            (_, Some((end, Some(_)))) => *end,
        };
        self.out.get(self.sent..end).unwrap_or_default()
    }

    /// So many bytes of that are gone.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes).min(self.out.len());
    }

    /// What an answer is waited for.
    pub(super) fn due(&self) -> Option<Kind> {
        match self.stage {
            Stage::Between | Stage::Closing => None,
            _ => self.ends.get(self.at).and_then(|(_, due)| *due),
        }
    }

    /// An answer has begun, or was promised, and is not there yet.
    pub(super) fn is_midway(&self) -> bool {
        self.promised || !self.input.is_empty()
    }

    /// What came.
    ///
    /// # Errors
    /// What ends the load.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<Step, Trouble> {
        if self.stage == Stage::Negotiation {
            return self.on_negotiated(bytes);
        }
        // What comes before the command is out is the answer to nothing.
        let due = self.due().filter(|_| self.unsent().is_empty());
        let mut input = std::mem::take(&mut self.input);
        // Most answers come whole.
        let whole = if input.is_empty() {
            bytes
        } else {
            input.extend_from_slice(bytes);
            &input
        };
        let step = match self.mta.receive(whole, due)? {
            Some(reply) => self.on_reply(due.unwrap_or(Kind::EndOfMessage), &reply)?,
            None => {
                if input.is_empty() {
                    input.extend_from_slice(bytes);
                }
                // Read once: of a flood of them, each would be read again with all that follow.
                let promises = promises(&input);
                self.promised |= promises > 0;
                input.drain(..promises);
                if input.len() > MAX_ANSWER {
                    return Err(Trouble::Endless { after: due.unwrap_or(Kind::EndOfMessage) });
                }
                self.input = input;
                return Ok(Step::On);
            }
        };
        input.clear();
        self.input = input;
        self.promised = false;
        Ok(step)
    }

    fn on_negotiated(&mut self, bytes: &[u8]) -> Result<Step, Trouble> {
        self.input.extend_from_slice(bytes);
        if self.input.len() < self.agreed.len() && self.agreed.starts_with(&self.input) {
            return Ok(Step::On);
        }
        if self.input != self.agreed {
            return Err(Trouble::Fickle);
        }
        self.input.clear();
        self.stage = Stage::Opening;
        let mail = self.mail;
        self.put(&mail.opening);
        Ok(if self.due().is_some() { Step::On } else { self.ready() })
    }

    fn ready(&mut self) -> Step {
        self.stage = Stage::Between;
        Step::Ready
    }

    fn on_reply(&mut self, due: Kind, reply: &MtaReply<'_>) -> Result<Step, Trouble> {
        if self.stage == Stage::Opening {
            // "Accept" here is for all mail of the session, as are refusals.
            if !matches!(reply.verdict, Verdict::Continue | Verdict::Skip) {
                return Err(Trouble::Settled { verdict: words(reply.verdict), after: due });
            }
        } else {
            self.round_trips += 1;
        }
        let fate = match reply.verdict {
            Verdict::Continue => None,
            Verdict::Skip => {
                self.skip(due);
                None
            }
            Verdict::Accept => {
                let held = reply.changes.iter().any(|change| matches!(change, Change::Quarantine(_)));
                Some(if held { Fate::Held } else { Fate::Accepted })
            }
            Verdict::Discard => Some(Fate::Discarded),
            refusal => {
                let for_now = matches!(refusal, Verdict::TempFail | Verdict::Code([b'4', ..]));
                match due {
                    Kind::Recipient => self.refuse(for_now),
                    _ => Some(if for_now { Fate::Deferred } else { Fate::Rejected }),
                }
            }
        };
        if let Some(fate) = fate {
            return Ok(self.settle(fate));
        }
        self.at += 1;
        self.skip_silence();
        if self.due().is_some() {
            return Ok(Step::On);
        }
        Ok(match self.stage {
            Stage::Opening => self.ready(),
            // Who says "continue" to the last lets the message pass.
            _ if due == Kind::EndOfMessage => {
                let held = reply.changes.iter().any(|change| matches!(change, Change::Quarantine(_)));
                self.settle(if held { Fate::Held } else { Fate::Accepted })
            }
            _ => Step::On,
        })
    }

    /// A recipient is refused; the message goes on if there is another one.
    fn refuse(&mut self, for_now: bool) -> Option<Fate> {
        self.recipients_refused += 1;
        self.refused += 1;
        self.deferred &= for_now;
        let all = self.letter.is_some_and(|letter| self.refused >= letter.recipients);
        all.then_some(if self.deferred { Fate::Deferred } else { Fate::Rejected })
    }

    fn settle(&mut self, fate: Fate) -> Step {
        // The rest of the message is not sent. ABORT follows on each, a success too.
        self.out.clear();
        self.sent = 0;
        self.out.extend_from_slice(&self.mail.abort);
        self.ends.clear();
        self.at = 0;
        self.stage = Stage::Between;
        Step::Settled(fate)
    }

    /// After "skip": no more of this kind.
    fn skip(&mut self, kind: Kind) {
        while self.ends.get(self.at + 1).is_some_and(|(_, due)| *due == Some(kind)) {
            self.at += 1;
        }
        if let Some((end, _)) = self.ends.get(self.at) {
            self.sent = *end;
        }
    }

    /// When the envelope is through, the content follows.
    fn skip_silence(&mut self) {
        let through = !matches!(self.ends.get(self.at), Some((_, Some(_))));
        if let (Stage::Envelope, true, Some(letter)) = (self.stage, through, self.letter) {
            self.stage = Stage::Content;
            self.headers_read += 1;
            let mail = self.mail;
            self.put(mail.content(letter));
        }
    }

    /// Puts flights behind what has not gone out yet.
    fn put(&mut self, flights: &'m Flights) {
        self.out.drain(..self.sent);
        self.sent = 0;
        let base = self.out.len();
        let author = self.letter.map_or(0, |letter| letter.author);
        flights.put(self.number, author, &mut self.out);
        self.ends.clear();
        self.ends.extend(flights.ends.iter().map(|(end, due)| (base + end, *due)));
        self.at = 0;
    }
}

/// How many bytes at the begin only promise progress.
fn promises(input: &[u8]) -> usize {
    const PROMISE: &[u8] = b"\0\0\0\x01p";
    input.chunks(PROMISE.len()).take_while(|frame| *frame == PROMISE).count() * PROMISE.len()
}

fn words(verdict: Verdict<'_>) -> String {
    match verdict {
        Verdict::Continue => "\"continue\"".to_owned(),
        Verdict::Accept => "\"accept\"".to_owned(),
        Verdict::Reject => "\"reject\"".to_owned(),
        Verdict::TempFail => "\"tempfail\"".to_owned(),
        Verdict::Discard => "\"discard\"".to_owned(),
        Verdict::Skip => "\"skip\"".to_owned(),
        Verdict::Code(line) => format!("\"{}\"", String::from_utf8_lossy(line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Shape;
    use crate::milter::mta::Profile;

    #[test]
    fn a_flood_of_promises_is_read_once_and_not_kept() {
        let hello = b"\0\0\0\x0dO\0\0\0\x06\0\0\0\0\0\0\0\0";
        let mut mta = Mta::new(Profile::postfix());
        mta.on_negotiated(hello).unwrap().unwrap();
        let mail = Mail::encode(&mta, &Shape::default());
        let mut talk = Conversation::new(&mta, &mail, hello);
        talk.open();
        talk.wrote(talk.unsent().len());
        assert_eq!(talk.receive(hello).unwrap(), Step::On);
        talk.wrote(talk.unsent().len());
        let flood = b"\0\0\0\x01p".repeat(3277);
        for piece in flood.chunks(1024 + 3) {
            assert_eq!(talk.receive(piece).unwrap(), Step::On);
            assert!(talk.input.len() < 5 && talk.is_midway());
        }
        assert_eq!(talk.due(), Some(Kind::Connect));
        talk.receive(b"\0\0\0\x01c").unwrap();
        assert!(talk.due() == Some(Kind::Helo) && !talk.is_midway());
    }
}
