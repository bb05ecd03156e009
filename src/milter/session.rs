//! One connection of an MTA: bytes in, calls of a [`Filter`] and bytes out. No clock, no socket.

use super::command::{Client, Command, Kind, MacroList, Macros, first_string};
use super::frame::{self, Frame, MAX_BODY, ProtocolError};
use super::negotiate::Agreed;
use super::reply::{AtData, Changes, FinalReply};

/// What decides about mail. Whatever the peer does, each `connect` is followed by one `disconnect`, each
/// `mail` by one `abort` before the next `mail`, and headers come only after [`AtData::ReadHeaders`]; for a
/// connection that breaks, [`Session::end`] sees to it.
pub trait Filter {
    /// An SMTP client connected.
    fn connect(&mut self, client: Client<'_>);

    /// HELO or EHLO; not sent by an MTA that can leave it out.
    fn helo(&mut self, _name: &[u8]) {}

    /// A message begins. `sender`: exactly as sent, with or without `<>`, empty or `<>` for the null sender.
    /// The authenticated user is known by now; the queue id may not be.
    fn mail(&mut self, sender: &[u8], macros: &Macros);

    /// One more recipient: exactly as sent.
    fn recipient(&mut self, recipient: &[u8]);

    /// The same for several that came at once.
    fn recipients(&mut self, recipients: &[&[u8]]) {
        for recipient in recipients {
            self.recipient(recipient);
        }
    }

    /// All recipients are known. Asked again where DATA failed for other reasons, or recipients came after
    /// it; a refusal is final for this message and not asked for again.
    fn data(&mut self, macros: &Macros) -> AtData;

    /// One field of the header, after [`AtData::ReadHeaders`].
    fn header(&mut self, name: &[u8], value: &[u8]);

    /// The end of the message, after [`AtData::ReadHeaders`].
    fn end_of_message(&mut self, macros: &Macros, changes: &mut Changes<'_>) -> FinalReply;

    /// The message is over, delivered or not; what is known of the client stays. Called once for each `mail`.
    fn abort(&mut self);

    /// The SMTP client is gone; another may follow.
    fn disconnect(&mut self) {}
}

/// Where a conversation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing was said yet.
    Start,
    /// Agreed; no SMTP client.
    Negotiated,
    /// An SMTP client, between messages.
    Connected,
    /// In a message: sender and recipients come in.
    Envelope,
    /// DATA was let through; the header is to be read.
    Data,
    /// The header comes in.
    Headers,
    /// After the header.
    Body,
    /// Decided before the end of the message; the decision stands for the rest of it.
    Answered,
    /// The end of the message was answered.
    Done,
    /// The MTA said goodbye, or broke the protocol.
    Closed,
}

impl State {
    /// The transition table: what an MTA may send in each state.
    ///
    /// Looser than libmilter, where Postfix and Sendmail are: RCPT and DATA after a failed DATA (libmilter
    /// swallows that DATA, and the MTA waits for a reply in vain); a new message or HELO without ABORT, as
    /// Sendmail does after a message; content without DATA, as before version 4; a new client without goodbye.
    #[inline]
    const fn accepts(self) -> u32 {
        use Kind::*;
        const ALWAYS: u32 = Macros.bit() | Unknown.bit() | Abort.bit() | Quit.bit() | QuitNewConnection.bit();
        const ANEW: u32 = ALWAYS | Helo.bit() | Mail.bit();
        const CONTENT: u32 = Header.bit() | EndOfHeaders.bit() | Body.bit() | EndOfMessage.bit();
        match self {
            Self::Start => Negotiate.bit() | Quit.bit(),
            Self::Negotiated => ALWAYS | Connect.bit(),
            Self::Connected => ANEW | Connect.bit(),
            Self::Envelope | Self::Data | Self::Answered => ANEW | Recipient.bit() | Data.bit() | CONTENT,
            Self::Headers => ANEW | CONTENT,
            Self::Body => ANEW | Body.bit() | EndOfMessage.bit(),
            Self::Done => ANEW | Connect.bit(),
            Self::Closed => 0,
        }
    }

    /// Whether a message has begun and is not over.
    pub const fn in_message(self) -> bool {
        matches!(self, Self::Envelope | Self::Data | Self::Headers | Self::Body | Self::Answered | Self::Done)
    }

    /// Whether the filter asked for the header of the present message.
    pub const fn watched(self) -> bool {
        matches!(self, Self::Data | Self::Headers | Self::Body)
    }

    const fn has_client(self) -> bool {
        matches!(self, Self::Connected) || self.in_message()
    }
}

/// What a peer may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// The longest body of a frame, in bytes (default and maximum 65,536). The read buffer must hold 5 more.
    pub frame_body: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { frame_body: MAX_BODY }
    }
}

/// [`Session::feed`] stops after this many bytes of replies and must be called again. An MTA waits for each
/// reply, so only one that does not can reach it; it bounds what such a peer makes us keep.
pub const MAX_REPLIES: usize = 64 * 1024;

/// The frame of macros for a recipient, with none in it.
const NO_MACROS: &[u8; 6] = b"\0\0\0\x02DR";

/// So many recipients are given to the filter at once, at most.
const LOT: usize = 32;

/// One connection of an MTA.
///
/// Idle, it owns no memory but the queue id and the user of the last message.
#[derive(Debug)]
pub struct Session {
    limits: SessionLimits,
    state: State,
    agreed: Agreed,
    macros: Macros,
    /// The macros belong to a message whose MAIL has not come yet.
    macros_ahead: bool,
    /// `R` commands of the present message.
    recipients: u32,
    /// What was answered in [`State::Answered`].
    answer: Option<FinalReply>,
}

impl Session {
    /// A connection that was just accepted.
    pub fn new(limits: SessionLimits) -> Self {
        let limits = SessionLimits { frame_body: limits.frame_body.min(MAX_BODY) };
        Self {
            limits,
            state: State::Start,
            agreed: Agreed::default(),
            macros: Macros::default(),
            macros_ahead: false,
            recipients: 0,
            answer: None,
        }
    }

    /// Reads all whole frames of `input`, calls the filter, appends the replies that are due to `out`, and
    /// returns the bytes consumed. The rest of `input` is to be offered again with what follows it.
    ///
    /// Whole frames are left only after `Q`, or where this call appended [`MAX_REPLIES`] bytes: then write
    /// them and call again before reading.
    ///
    /// # Errors
    /// The peer broke the protocol; the filter was told that its client is gone. The replies in `out` are
    /// still good, the connection is not.
    pub fn feed(
        &mut self,
        input: &[u8],
        filter: &mut impl Filter,
        out: &mut Vec<u8>,
    ) -> Result<usize, ProtocolError> {
        let full = out.len().saturating_add(MAX_REPLIES);
        let mut rest = input;
        while self.state != State::Closed && out.len() < full {
            if self.state == State::Envelope && !self.agreed.expects_reply(Kind::Recipient) {
                rest = self.take_recipients(rest, filter);
            }
            match self.next(rest, filter, out) {
                Ok(Some(after)) => rest = after,
                Ok(None) => break,
                Err(error) => {
                    self.end(filter);
                    return Err(error);
                }
            }
        }
        Ok(input.len() - rest.len())
    }

    /// The connection is over, however it ended: tells the filter what is over with it. Does nothing after a
    /// goodbye.
    pub fn end(&mut self, filter: &mut impl Filter) {
        self.end_client(filter);
        self.state = State::Closed;
    }

    /// Where the conversation stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the MTA said goodbye or broke the protocol: nothing more is read.
    pub fn closed(&self) -> bool {
        self.state == State::Closed
    }

    /// What was agreed; all zero before that.
    pub fn agreed(&self) -> Agreed {
        self.agreed
    }

    /// The recipients that stand at the beginning of `input`, with the frames of macros between them: of these a
    /// message may have thousands, and they go the short way, in lots. Returns what follows. What is wrong with it
    /// is [`Session::next`]'s to say.
    fn take_recipients<'i>(&mut self, mut input: &'i [u8], filter: &mut impl Filter) -> &'i [u8] {
        loop {
            let mut lot: [&[u8]; LOT] = [&[]; LOT];
            let mut taken = 0;
            for place in &mut lot {
                // Where nobody asked for macros of recipients, one such frame stands before each of them.
                let frame = match input.split_first_chunk() {
                    Some((first, frame)) if first == NO_MACROS => frame,
                    _ => input,
                };
                let Ok(Some((Frame { command: b'R', body }, size))) =
                    frame::split(frame, self.limits.frame_body)
                else {
                    break;
                };
                let Ok(recipient) = first_string(Kind::Recipient, body) else { break };
                *place = recipient;
                taken += 1;
                input = frame.get(size..).unwrap_or_default();
            }
            let lot = lot.get(..taken).unwrap_or_default();
            if !lot.is_empty() {
                self.give_recipients(lot, filter);
            }
            if lot.len() < LOT {
                return input;
            }
        }
    }

    fn give_recipients(&mut self, lot: &[&[u8]], filter: &mut impl Filter) {
        self.recipients = self.recipients.saturating_add(lot.len() as u32);
        filter.recipients(lot);
    }

    /// One frame; what follows it, or `None` if it is not whole.
    #[inline]
    fn next<'i>(
        &mut self,
        input: &'i [u8],
        filter: &mut impl Filter,
        out: &mut Vec<u8>,
    ) -> Result<Option<&'i [u8]>, ProtocolError> {
        let Some((frame, size)) = frame::split(input, self.limits.frame_body)? else { return Ok(None) };
        self.step(frame, filter, out)?;
        Ok(input.get(size..))
    }

    #[inline]
    fn step(
        &mut self,
        frame: Frame<'_>,
        filter: &mut impl Filter,
        out: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        let (kind, command) = Command::parse(frame)?;
        if self.state.accepts() & kind.bit() == 0 {
            return Err(ProtocolError::Unexpected { command: kind, state: self.state });
        }
        match command {
            Command::Macros(list) => self.on_macros(list),
            Command::Recipient(recipient) => {
                self.on_recipient();
                filter.recipient(recipient);
                self.proceed(kind, out);
            }
            Command::Mail(sender) => {
                self.end_message(filter);
                if !std::mem::take(&mut self.macros_ahead) {
                    // An MTA that sent no macros for this message: the last message's are not its own.
                    self.macros.clear();
                }
                self.recipients = 0;
                self.state = State::Envelope;
                filter.mail(sender, &self.macros);
                self.proceed(kind, out);
            }
            Command::Data => {
                // A refusal stands until the message is over: the client may try DATA again without RSET,
                // and must not count as another attempt.
                if self.state != State::Answered {
                    self.decide(filter);
                }
                self.proceed(kind, out);
            }
            Command::Header { name, value } => {
                if self.reads_content(State::Headers, filter) {
                    filter.header(name, value);
                }
                self.proceed(kind, out);
            }
            // We do not ask for the body; a peer that sends it all the same is let.
            Command::EndOfHeaders | Command::Body(_) => {
                self.reads_content(State::Body, filter);
                self.proceed(kind, out);
            }
            Command::EndOfMessage(_) => {
                if self.reads_content(State::Body, filter) {
                    let mut changes = Changes::new(out, self.agreed, self.recipients);
                    let reply = filter.end_of_message(&self.macros, &mut changes);
                    changes.finish(&reply);
                } else {
                    self.proceed(kind, out);
                }
                self.answer = None;
                self.state = State::Done;
            }
            Command::Abort => {
                self.end_message(filter);
                self.macros.clear();
                self.macros_ahead = false;
            }
            Command::Helo(name) => {
                self.end_message(filter);
                filter.helo(name);
                self.proceed(kind, out);
            }
            Command::Unknown(_) => self.proceed(kind, out),
            Command::Connect(client) => {
                self.end_client(filter);
                self.state = State::Connected;
                filter.connect(client);
                self.proceed(kind, out);
            }
            Command::Negotiate(offer) => {
                self.agreed = Agreed::answer(offer)?;
                self.agreed.put(out);
                self.state = State::Negotiated;
            }
            Command::QuitNewConnection => {
                self.end_client(filter);
                self.state = State::Negotiated;
            }
            Command::Quit => {
                self.end_client(filter);
                self.state = State::Closed;
            }
        }
        Ok(())
    }

    /// Keeps what is wanted. Macros come before their command, for suppressed commands too; those of a
    /// connection are not ours.
    #[inline]
    fn on_macros(&mut self, list: MacroList<'_>) {
        match list.stage {
            Some(Kind::Mail) => {
                self.macros.clear();
                self.macros_ahead = true;
                self.macros.keep(list);
            }
            Some(Kind::Data | Kind::EndOfMessage | Kind::EndOfHeaders) => self.macros.keep(list),
            // These repeat for every recipient, field and chunk.
            Some(Kind::Recipient | Kind::Header | Kind::Body) if self.macros.queue_id().is_none() => {
                self.macros.keep(list);
            }
            _ => {}
        }
    }

    /// A recipient after a DATA that failed elsewhere: the envelope is open again, and DATA asked again.
    #[inline]
    fn on_recipient(&mut self) {
        self.recipients = self.recipients.saturating_add(1);
        if self.state == State::Data || self.answer == Some(FinalReply::Accept) {
            self.answer = None;
            self.state = State::Envelope;
        }
    }

    /// Asks the filter about the envelope.
    fn decide(&mut self, filter: &mut impl Filter) {
        self.answer = match filter.data(&self.macros) {
            AtData::ReadHeaders => None,
            AtData::Accept => Some(FinalReply::Accept),
            AtData::Answer(reply) => Some(reply),
        };
        self.state = if self.answer.is_none() { State::Data } else { State::Answered };
    }

    /// Content has come: moves on to `state` and returns true if the filter wants it. Peers before version 4
    /// send no DATA: the filter is asked at the first piece of content.
    fn reads_content(&mut self, state: State, filter: &mut impl Filter) -> bool {
        if self.state == State::Envelope {
            self.decide(filter);
        }
        let wanted = self.state != State::Answered;
        if wanted {
            self.state = state;
        }
        wanted
    }

    /// The reply to a command that decides nothing by itself: the answer given before if there is one,
    /// "continue" otherwise; nothing where none is due.
    #[inline]
    fn proceed(&self, kind: Kind, out: &mut Vec<u8>) {
        if !self.agreed.expects_reply(kind) {
            return;
        }
        match &self.answer {
            Some(answer) if self.state == State::Answered && repeats_answer(kind) => answer.put(out),
            _ => frame::put(out, b'c', &[]),
        }
    }

    fn end_message(&mut self, filter: &mut impl Filter) {
        if self.state.in_message() {
            filter.abort();
            self.answer = None;
            self.state = State::Connected;
        }
    }

    fn end_client(&mut self, filter: &mut impl Filter) {
        self.end_message(filter);
        self.macros.clear();
        self.macros_ahead = false;
        if self.state.has_client() {
            filter.disconnect();
        }
    }
}

/// Commands that ask what becomes of the message; a late RCPT or an unknown command does not.
const fn repeats_answer(kind: Kind) -> bool {
    matches!(kind, Kind::Data | Kind::Header | Kind::EndOfHeaders | Kind::Body | Kind::EndOfMessage)
}
