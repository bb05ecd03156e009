//! One milter connection: bytes in, session, engine, bytes out. The only place that knows both the protocol
//! and the judgement, and translates between them.

mod notice;
mod passing;
mod probing;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tracing::{debug, info, warn};

use super::shared::Shared;
use super::watchdog::Bark;
use crate::engine::{Action, Copies, Decision, Reason, Transaction};
use crate::milter::{
    AtData, Changes, Client, ClientAddress, Filter, FinalReply, MAX_REPLIES, Macros, ProtocolError, Session,
    SessionLimits, SmtpReply,
};
use crate::quarantine::ledger::Held;
use crate::quarantine::mark::{self, Mark};
use crate::telemetry::latency::Desk;
use crate::time::Timestamp;
use probing::Probing;

/// A session reads this much at a time: an envelope of 500 recipients fits.
const READ_BYTES: usize = 32 * 1024;

/// Buffers that grew beyond this for one large message are given back after it.
const KEEP_BYTES: usize = 64 * 1024;

/// What a client is told whose message cannot be held either.
const HOLD_IS_FULL: &str = "Too many replies to this list; try again later";

/// Header fields named like ours that are taken off. One is somebody's forwarded copy, more are a game: each costs
/// cleanup(8) a look at the whole header, and the code of none of them is right.
const MAX_FOREIGN_MARKS: u32 = 100;

/// How long a session may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Between messages. Postfix keeps the connection for as long as its client stays.
    pub idle: Duration,
    /// Within a message, between packets: Postfix is silent while its client sends the text.
    pub message: Duration,
    /// For the rest of a packet that has begun, and for a reply to be taken.
    pub packet: Duration,
}

/// Why a session ended early.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The peer does not speak the milter protocol as it should.
    #[error("{0}")]
    Protocol(#[from] ProtocolError),
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The peer said nothing for too long, or did not read its replies.
    #[error("the peer was silent for more than {0:?}")]
    Timeout(Duration),
}

/// Serves one connection to its end.
pub async fn serve<S>(mut stream: S, shared: Arc<Shared>) -> Result<(), SessionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut handler = Handler::new(Arc::clone(&shared));
    let mut session = Session::new(SessionLimits::default());
    let ended = converse(&mut stream, &mut session, &mut handler, &shared).await;
    session.end(&mut handler);
    ended
}

async fn converse<S>(
    stream: &mut S,
    session: &mut Session,
    handler: &mut Handler,
    shared: &Shared,
) -> Result<(), SessionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let patience = shared.patience();
    let mut watchdog = shared.watchdogs.watchdog();
    let mut input = Vec::with_capacity(READ_BYTES);
    let mut output = Vec::with_capacity(1024);
    // When the rest of a packet that has begun is due, however many pieces it comes in.
    let mut rest_due = None;
    while !session.closed() && !shared.watchdogs.is_stopped() {
        let in_message = session.state().in_message();
        let silence = match rest_due {
            Some(_) => patience.packet,
            None if in_message => patience.message,
            None => patience.idle,
        };
        watchdog.set(rest_due.unwrap_or_else(|| watchdog.due_in(silence)));
        // Room for a good part of a packet; the session takes whole packets away, so that no more than the
        // longest of them ever waits here.
        if input.capacity() - input.len() < 1024 {
            input.reserve(READ_BYTES);
        }
        let read = tokio::select! {
            biased;
            read = stream.read_buf(&mut input) => read?,
            bark = watchdog.bark() => return barked(bark, silence),
        };
        if read == 0 {
            return Ok(());
        }
        let (now, arrived) = shared.clock.start();
        handler.arrived = now;
        let before = input.len();
        loop {
            let fed = session.feed(&input, handler, &mut output);
            if !output.is_empty() {
                // Before an error is looked at: what was answered is still good.
                watchdog.set(watchdog.due_in(patience.packet));
                tokio::select! {
                    biased;
                    written = stream.write_all(&output) => written?,
                    bark = watchdog.bark() => return barked(bark, patience.packet),
                }
            }
            // One reading of the clock for all that came at once.
            let ordinary = std::mem::take(&mut handler.ordinary);
            if ordinary > 0 {
                shared.latency.note(handler.desk, arrived.elapsed(), ordinary);
            }
            let answered = output.len();
            output.clear();
            output.shrink_to(KEEP_BYTES);
            input.drain(..fed?);
            // A peer that does not wait for replies is answered in portions.
            if answered < MAX_REPLIES {
                break;
            }
        }
        let same_packet = input.len() == before;
        rest_due = match rest_due {
            _ if input.is_empty() => None,
            Some(due) if same_packet => Some(due),
            _ => Some(watchdog.due_in(patience.packet)),
        };
        if input.is_empty() && input.capacity() > KEEP_BYTES {
            input.shrink_to(READ_BYTES);
        }
    }
    Ok(())
}

fn barked(bark: Bark, patience: Duration) -> Result<(), SessionError> {
    match bark {
        Bark::Late => Err(SessionError::Timeout(patience)),
        Bark::Stop => Ok(()),
    }
}

/// The engine's view of one session.
struct Handler {
    shared: Arc<Shared>,
    tx: Transaction,
    /// When what is being read came in.
    arrived: Timestamp,
    /// When the present message began.
    began: Timestamp,
    /// The present message is counted.
    counted: bool,
    /// A watched message whose end has not been seen.
    unfinished: bool,
    /// Ordinary messages whose reply is not written yet.
    ordinary: u64,
    /// Where it is noted how long they waited.
    desk: Desk,
    /// The present message is a probe, and goes by the engine.
    probing: Option<Box<Probing>>,
}

impl Handler {
    fn new(shared: Arc<Shared>) -> Self {
        let tx = shared.engine.session(None);
        let desk = shared.latency.desk();
        Self {
            shared,
            tx,
            arrived: Timestamp::default(),
            began: Timestamp::default(),
            counted: false,
            unfinished: false,
            ordinary: 0,
            desk,
            probing: None,
        }
    }

    /// The one place that decides what becomes of a message when becalm itself fails: it passes, and
    /// everybody hears of it.
    fn fail_open(&self, queue_id: &str, what: &str) -> FinalReply {
        self.shared.counters.failed_open.add_one();
        warn!(queue_id, what, "becalm failed on this message and let it pass");
        FinalReply::Accept
    }

    fn judge(&self, queue_id: &str, now: Timestamp) -> Option<Decision> {
        let id = (!queue_id.is_empty()).then_some(queue_id.as_bytes());
        // A bug in the judgement must cost a judgement, not a message. The engine's state is atomics and
        // caches behind locks that recover from poisoning.
        std::panic::catch_unwind(AssertUnwindSafe(|| self.shared.engine.judge(&self.tx, id, now))).ok()
    }

    /// Carries a decision out. None: the peer did not offer what it takes.
    fn carry_out(
        &self,
        decision: &Decision,
        queue_id: &str,
        now: Timestamp,
        changes: &mut Changes<'_>,
    ) -> Option<FinalReply> {
        if decision.action != Action::Accept || (decision.enforced && !self.shared.engine.is_observing()) {
            // From the last to the first, or the numbers would shift.
            for index in (1..=self.tx.foreign_marks().min(MAX_FOREIGN_MARKS)).rev() {
                changes.delete_header(mark::HEADER.as_bytes(), index);
            }
            let mark = Mark {
                queue_id: queue_id.to_owned(),
                verdict: decision.action.name().to_owned(),
                reason: decision.reason.name().to_owned(),
                storm: decision.storm.clone().unwrap_or_default(),
                at: now,
                copies: decision.audience,
                until: decision.reason.until(),
                list: decision.list_key.or(decision.conversation),
            };
            let value = self.shared.marker.load().value(&mark);
            let is_marked = changes.prepend_header(mark::HEADER.as_bytes(), value.as_bytes());
            // Nobody could release what is on hold without it.
            if !is_marked && decision.action == Action::Hold {
                return None;
            }
        }
        match &decision.action {
            Action::Accept => Some(FinalReply::Accept),
            Action::Hold => {
                let reason =
                    format!("becalm: {}", decision.storm.as_deref().unwrap_or(decision.reason.name()));
                changes.quarantine(reason.as_bytes()).then_some(FinalReply::Accept)
            }
            Action::Strip { recipients } => recipients
                .iter()
                .all(|recipient| changes.delete_recipient(recipient))
                .then_some(FinalReply::Accept),
            Action::Defer { text } => SmtpReply::new(451, "4.7.1", text).ok().map(FinalReply::Code),
            Action::Reject { text } => SmtpReply::new(550, "5.7.1", text).ok().map(FinalReply::Code),
            Action::Discard => Some(FinalReply::Discard),
        }
    }

    fn report(&self, decision: Decision, queue_id: String, now: Timestamp) {
        let shared = &self.shared;
        let counters = &shared.counters;
        let counter = match decision.action {
            Action::Accept if decision.would != Action::Accept => &counters.observed,
            Action::Accept => &counters.passed,
            Action::Hold => &counters.held,
            Action::Strip { .. } => &counters.stripped,
            Action::Defer { .. } => &counters.deferred,
            Action::Reject { .. } => &counters.rejected,
            Action::Discard => &counters.discarded,
        };
        counter.add_one();
        counters.copies_passed.add(decision.copies.passed);
        counters.copies_observed.add(decision.copies.observed);
        counters.copies_prevented.add(decision.copies.prevented);

        let list = decision.list.as_deref().unwrap_or("-");
        let (action, would, reason) = (decision.action.name(), decision.would.name(), decision.reason.name());
        let (copies, kind) = (decision.audience, decision.kind.name());
        let (redistributed, receipts) = (decision.redistributed, decision.wants_receipts);
        if decision.would == Action::Accept {
            debug!(queue_id, list, kind, reason, copies, redistributed, receipts, "passed");
            return;
        }
        if shared.verdict_lines.admits(now) {
            let storm = decision.storm.as_deref().unwrap_or("-");
            match decision.reason {
                Reason::Suspicion { until } => {
                    let until = until.rfc3339();
                    info!(queue_id, list, kind, action, would, reason, copies, until, "too fast for calm");
                }
                _ if decision.action == Action::Accept => {
                    info!(queue_id, list, kind, action, would, reason, copies, storm, "would be stopped");
                }
                _ => info!(queue_id, list, kind, action, would, reason, copies, storm, "stopped"),
            }
        }
        if decision.would == Action::Hold || decision.action == Action::Hold {
            shared.ledger.note(Held {
                queue_id,
                conversation: decision.conversation.filter(|_| decision.list.is_none()),
                list: decision.list,
                author: decision.author,
                reason,
                storm: decision.storm,
                copies,
                since: now,
                until: decision.reason.until(),
                held: decision.action == Action::Hold,
                size: None,
                trouble: None,
            });
        }
    }
}

/// To a watched message that comes when this process is about to end, and may not live to see its end. Postfix
/// hangs up after a 421: the client's next session is with the becalm that comes after this one.
fn come_again() -> FinalReply {
    let reply = SmtpReply::new(421, "4.3.2", "The mail filter is being restarted, please try again");
    FinalReply::Code(reply.expect("421 is a refusal, and 4.3.2 of its class"))
}

impl Filter for Handler {
    fn connect(&mut self, client: Client<'_>) {
        let client = match client.address {
            ClientAddress::Ip(ip) => Some(ip),
            _ => None,
        };
        self.tx = self.shared.engine.session(client);
    }

    fn mail(&mut self, sender: &[u8], macros: &Macros) {
        self.began = self.arrived;
        self.counted = false;
        let user = macros.auth_user();
        self.probing = self.shared.probes.take(sender, self.began).map(|probe| {
            let user = user.map(<[u8]>::to_vec);
            Box::new(Probing { probe, sender: sender.to_vec(), user, addressed: false })
        });
        if self.probing.is_none() {
            self.shared.engine.begin(&mut self.tx, sender, user, self.began);
        }
    }

    fn recipient(&mut self, recipient: &[u8]) {
        match &mut self.probing {
            Some(probing) if probing.probe.is_for(recipient) => {
                probing.addressed = true;
                return;
            }
            Some(_) => self.is_no_probe(),
            None => {}
        }
        if let Some(event) = self.shared.engine.recipient(&mut self.tx, recipient) {
            self.shared.publish(&[event]);
        }
    }

    fn recipients(&mut self, recipients: &[&[u8]]) {
        if self.probing.is_some() {
            return recipients.iter().for_each(|recipient| self.recipient(recipient));
        }
        let events = self.shared.engine.recipients(&mut self.tx, recipients);
        if !events.is_empty() {
            self.shared.publish(&events);
        }
    }

    fn data(&mut self, _macros: &Macros) -> AtData {
        match self.probing.as_deref() {
            Some(probing) if probing.addressed => return AtData::Answer(self.tell(&probing.probe)),
            Some(_) => self.is_no_probe(),
            None => {}
        }
        self.shared.note_message(self.began);
        // A client whose DATA somebody else refused may say it again.
        let first = !std::mem::replace(&mut self.counted, true);
        if !self.shared.engine.at_data(&mut self.tx) {
            self.shared.counters.ordinary.add(u64::from(first));
            self.ordinary += 1;
            return AtData::Accept;
        }
        self.shared.counters.watched.add(u64::from(first));
        if self.shared.is_refusing() {
            self.shared.counters.deferred.add(u64::from(first));
            return AtData::Answer(come_again());
        }
        self.unfinished = true;
        AtData::ReadHeaders
    }

    fn header(&mut self, name: &[u8], value: &[u8]) {
        self.tx.header(name, value);
    }

    fn end_of_message(&mut self, macros: &Macros, changes: &mut Changes<'_>) -> FinalReply {
        self.unfinished = false;
        let queue_id = String::from_utf8_lossy(macros.queue_id().unwrap_or_default()).into_owned();
        let now = self.shared.clock.now();
        if self.shared.is_own_mail(&self.tx, now) {
            self.shared.counters.own.add_one();
            debug!(queue_id, "becalm's own mail");
            return FinalReply::Accept;
        }
        let Some(mut decision) = self.judge(&queue_id, now) else {
            return self.fail_open(&queue_id, "the judgement panicked");
        };
        // First, whatever comes: a storm is announced once, by the message that declared it.
        self.shared.publish(&decision.events);
        let judged = std::mem::take(&mut decision.record);
        let places = self.places(&judged);
        self.want_back(&decision.events, &places, now);
        self.shared.memory.keep_judged(judged);
        if decision.action == Action::Hold && self.shared.ledger.full().is_some() {
            // Nothing is dropped: the sending server keeps it, and tries again.
            self.shared.counters.hold_full.add_one();
            decision.action = Action::Defer { text: HOLD_IS_FULL.to_owned() };
            decision.would = decision.action.clone();
        }
        match self.carry_out(&decision, &queue_id, now, changes) {
            Some(reply) => {
                self.offer_notice(&decision, now);
                self.know_suspect(&decision);
                self.remember_passed(&decision, places, &queue_id, now);
                self.report(decision, queue_id, now);
                reply
            }
            None => {
                changes.take_back();
                let Copies { passed, prevented, .. } = decision.copies;
                self.shared.counters.copies_passed.add(passed.saturating_add(prevented));
                self.fail_open(&queue_id, "the peer does not offer the action that this verdict needs")
            }
        }
    }

    fn abort(&mut self) {
        if std::mem::take(&mut self.unfinished) {
            self.shared.counters.watched_unfinished.add_one();
        }
        self.probing = None;
        self.counted = false;
        self.tx.reset();
    }
}
