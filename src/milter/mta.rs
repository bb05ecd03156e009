//! The MTA's side of the protocol, for demonstration, benchmark and tests: sans-IO, like the other side.
//!
//! A [`Script`] holds what an MTA would send, cut into flights: everything up to a command that is answered
//! goes out in one write, then the MTA waits. [`Mta::receive`] reads the answer as strictly as it can: what
//! Postfix would silently take for the answer to something else is an error here.

mod answer;

use memchr::memchr;

pub use self::answer::{Change, MtaError, MtaReply, Verdict};

use super::command::{Client, ClientAddress, Kind};
use super::frame::{self, MAX_BODY};
use super::negotiate::{Agreed, Offer, action, protocol};

/// How an MTA introduces itself and which macros it would send by itself.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its protocol version.
    pub version: u32,
    /// What it lets a filter do.
    pub actions: u32,
    /// What it understands.
    pub protocol: u32,
    /// Macros by stage, as in `milter_connect_macros` and so on.
    pub macros: [&'static str; STAGES],
    /// Macros go out for steps that the filter suppressed, and where there are none.
    pub macros_always: bool,
    /// A body goes out whole with the end of the message if it fits.
    pub body_at_end: bool,
}

/// Stages with a macro list: connect, HELO, MAIL, RCPT, DATA, end of message, end of header.
const STAGES: usize = 7;

impl Profile {
    /// Postfix 3.7 with its default macros.
    pub fn postfix() -> Self {
        Self {
            version: 6,
            actions: 0x1ff,
            protocol: 0x1f_ffff,
            macros: [
                "j {daemon_name} {daemon_addr} v _",
                "{tls_version} {cipher} {cipher_bits} {cert_subject} {cert_issuer}",
                "i {auth_type} {auth_authen} {auth_author} {mail_addr} {mail_host} {mail_mailer}",
                "i {rcpt_addr} {rcpt_host} {rcpt_mailer}",
                "i",
                "i",
                "i",
            ],
            macros_always: true,
            body_at_end: false,
        }
    }

    /// Postfix with `milter_protocol` set to an older version: 2, 3 or 4.
    pub fn postfix_version(version: u32) -> Self {
        let protocol = match version {
            0..=2 => 0x7f,
            3 => 0x17f,
            4 | 5 => 0x37f,
            _ => return Self::postfix(),
        };
        Self { version, protocol, actions: 0x3f, ..Self::postfix() }
    }

    /// Sendmail 8.17, built with larger frames.
    pub fn sendmail() -> Self {
        Self {
            protocol: 0x1f_ffff | protocol::SIZE_256K | protocol::SIZE_1M,
            macros: [
                "j _ {daemon_name} {if_name} {if_addr}",
                "{tls_version} {cipher} {cipher_bits} {cert_subject} {cert_issuer}",
                "i {auth_type} {auth_authen} {auth_ssf} {auth_author} {mail_mailer} {mail_host} {mail_addr}",
                "{rcpt_mailer} {rcpt_host} {rcpt_addr}",
                "",
                "{msg_id}",
                "",
            ],
            macros_always: false,
            body_at_end: true,
            ..Self::postfix()
        }
    }
}

/// One message's envelope.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// Known from the second recipient on.
    pub queue_id: &'a [u8],
    /// The authenticated user, if any.
    pub auth_user: Option<&'a [u8]>,
    /// As the client wrote it.
    pub sender: &'a [u8],
    /// As the client wrote them.
    pub recipients: &'a [&'a [u8]],
}

/// One message's content.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// As for the envelope.
    pub queue_id: &'a [u8],
    /// Names and values.
    pub headers: &'a [(&'a [u8], &'a [u8])],
    /// Lines end with CRLF.
    pub body: &'a [u8],
}

/// What an MTA sends, with the places where it waits. Reuse it: its memory stays.
#[derive(Clone, Debug, Default)]
pub struct Script {
    bytes: Vec<u8>,
    waits: Vec<(usize, Kind)>,
}

/// What goes out in one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flight<'a> {
    /// Whole frames.
    pub bytes: &'a [u8],
    /// The command, the last of the frames, whose answer is waited for; `None` if nothing is due.
    pub due: Option<Kind>,
}

impl Script {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything, as if nothing was waited for.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Empties the script.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.waits.clear();
    }

    /// The flights in order. What nobody answers after the last wait is a flight of its own.
    pub fn flights(&self) -> impl Iterator<Item = Flight<'_>> {
        let mut start = 0;
        let waits = self.waits.iter().map(|(end, kind)| (*end, Some(*kind)));
        let last = (self.bytes.len(), None);
        waits.chain([last]).filter_map(move |(end, due)| {
            let bytes = self.bytes.get(start..end)?;
            start = end;
            (due.is_some() || !bytes.is_empty()).then_some(Flight { bytes, due })
        })
    }
}

/// An MTA that talks to one filter.
#[derive(Clone, Debug)]
pub struct Mta {
    profile: Profile,
    agreed: Agreed,
    /// By stage: the macros that go out.
    macros: [Vec<Macro>; STAGES],
}

/// A macro and what it is expanded to.
#[derive(Clone, Debug)]
struct Macro {
    name: Vec<u8>,
    value: Value,
}

#[derive(Clone, Copy, Debug)]
enum Value {
    Fixed(&'static str),
    QueueId,
    AuthUser,
    Sender,
    Recipient,
}

/// What a macro may be expanded to at some step; empty: not known.
#[derive(Clone, Copy, Default)]
struct Values<'a> {
    queue_id: &'a [u8],
    auth_user: &'a [u8],
    sender: &'a [u8],
    recipient: &'a [u8],
}

impl Mta {
    /// An MTA that has not spoken yet.
    pub fn new(profile: Profile) -> Self {
        let macros = profile.macros.map(|list| macro_list(list.as_bytes()));
        Self { profile, agreed: Agreed::default(), macros }
    }

    /// The first bytes of a connection.
    pub fn negotiate(&self) -> Vec<u8> {
        let numbers = [self.profile.version, self.profile.actions, self.profile.protocol];
        let mut out = Vec::new();
        frame::put(&mut out, b'O', &numbers.map(u32::to_be_bytes).each_ref().map(<[u8; 4]>::as_slice));
        out
    }

    /// The filter's answer to [`Mta::negotiate`], all of it; `None` if more must be read. Scripts made before
    /// are no longer valid.
    ///
    /// # Errors
    /// What makes Postfix give the filter up.
    pub fn on_negotiated(&mut self, input: &[u8]) -> Result<Option<Agreed>, MtaError> {
        let Some((frame, size)) = frame::split(input, MAX_BODY)? else { return Ok(None) };
        if frame.command != b'O' {
            return Err(MtaError::Unexpected { reply: frame.command, after: Kind::Negotiate });
        }
        let malformed = MtaError::Malformed { reply: b'O' };
        let Offer { version, actions, protocol } = Offer::parse(frame.body).map_err(|_| malformed)?;
        let mut lists = frame.body.get(12..).unwrap_or_default();
        let agreed = Agreed { version, actions, protocol };
        if version > self.profile.version || actions & !self.profile.actions != 0 {
            return Err(MtaError::NotOffered(agreed));
        }
        // Postfix only warns, but then waits for replies that never come.
        if protocol & !self.profile.protocol != 0 {
            return Err(MtaError::NotOffered(agreed));
        }
        if !lists.is_empty() && actions & action::SET_MACROS == 0 {
            return Err(malformed);
        }
        while let Some((stage, rest)) = lists.split_first_chunk::<4>() {
            let end = memchr(0, rest).ok_or(malformed)?;
            let (list, rest) = rest.split_at_checked(end).ok_or(malformed)?;
            let stage = usize::try_from(u32::from_be_bytes(*stage)).unwrap_or(usize::MAX);
            let kept = self.macros.get_mut(stage).ok_or(malformed)?;
            // An empty list means the default list.
            if !list.is_empty() {
                *kept = macro_list(list);
            }
            lists = rest.get(1..).unwrap_or_default();
        }
        match input.get(size..) {
            None | Some([]) if lists.is_empty() => {}
            _ => return Err(malformed),
        }
        self.agreed = agreed;
        Ok(Some(agreed))
    }

    /// What was agreed; all zero before that.
    pub fn agreed(&self) -> Agreed {
        self.agreed
    }

    /// Appends connect and HELO.
    pub fn connection(&self, client: &Client<'_>, helo: &[u8], script: &mut Script) {
        let (family, address) = match client.address {
            ClientAddress::Ip(ip) => (if ip.is_ipv4() { b"4" } else { b"6" }, ip.to_string()),
            ClientAddress::Local => (b"L", String::new()),
            ClientAddress::Unknown => (b"U", String::new()),
        };
        let port: &[u8] = if client.address == ClientAddress::Local { &[0, 0] } else { &[0xc3, 0x50] };
        let body: &[&[u8]] = &[client.host, b"\0", family, port, address.as_bytes(), b"\0"];
        let body =
            if client.address == ClientAddress::Unknown { body.get(..3).unwrap_or(body) } else { body };
        self.step(Kind::Connect, Values::default(), body, script);
        self.step(Kind::Helo, Values::default(), &[helo, b"\0"], script);
    }

    /// Appends MAIL, every RCPT, and DATA.
    pub fn envelope(&self, envelope: &Envelope<'_>, script: &mut Script) {
        let mut values = Values {
            auth_user: envelope.auth_user.unwrap_or_default(),
            sender: bare(envelope.sender),
            ..Values::default()
        };
        self.step(Kind::Mail, values, &[envelope.sender, b"\0"], script);
        for recipient in envelope.recipients {
            values.recipient = bare(recipient);
            self.step(Kind::Recipient, values, &[recipient, b"\0"], script);
            // Postfix opens the queue file at the first recipient.
            values.queue_id = envelope.queue_id;
        }
        values.queue_id = envelope.queue_id;
        self.step(Kind::Data, values, &[], script);
    }

    /// Appends header, body and end of message: what follows where DATA was answered with "continue".
    pub fn content(&self, content: &Content<'_>, script: &mut Script) {
        // The longest chunk of body (MILTER_CHUNK_SIZE).
        const CHUNK: usize = 65_535;
        let values = Values { queue_id: content.queue_id, ..Values::default() };
        for (name, value) in content.headers {
            self.step(Kind::Header, values, &[name, b"\0", value, b"\0"], script);
        }
        self.step(Kind::EndOfHeaders, values, &[], script);
        let body = if self.suppressed(Kind::Body) { &[] } else { content.body };
        if self.profile.body_at_end && body.len() <= CHUNK {
            return self.step(Kind::EndOfMessage, values, &[body], script);
        }
        for chunk in body.chunks(CHUNK) {
            self.step(Kind::Body, values, &[chunk], script);
        }
        self.step(Kind::EndOfMessage, values, &[], script);
    }

    /// Appends an unknown SMTP command, unless the filter does not want them.
    pub fn unknown(&self, line: &[u8], script: &mut Script) {
        self.step(Kind::Unknown, Values::default(), &[line, b"\0"], script);
    }

    /// Appends the end of a message: Postfix sends it after each, a success too.
    pub fn abort(&self, script: &mut Script) {
        frame::put(&mut script.bytes, b'A', &[]);
    }

    /// Appends the end of the connection.
    pub fn quit(&self, script: &mut Script) {
        frame::put(&mut script.bytes, b'Q', &[]);
    }

    /// Reads everything that has come since the flight whose answer is `due`; `None` if more must be read.
    ///
    /// # Errors
    /// Anything that an MTA does not wait for, did not offer or could not make sense of.
    pub fn receive<'i>(&self, input: &'i [u8], due: Option<Kind>) -> Result<Option<MtaReply<'i>>, MtaError> {
        answer::read(self.agreed, input, due)
    }

    /// One command with its macros.
    fn step(&self, kind: Kind, values: Values<'_>, body: &[&[u8]], script: &mut Script) {
        if absent(self.profile.version, kind) {
            return;
        }
        let suppressed = self.suppressed(kind);
        if !suppressed || self.profile.macros_always {
            self.put_macros(kind, values, &mut script.bytes);
        }
        if suppressed {
            return;
        }
        frame::put(&mut script.bytes, kind as u8, body);
        if self.agreed.expects_reply(kind) {
            script.waits.push((script.bytes.len(), kind));
        }
    }

    fn put_macros(&self, kind: Kind, values: Values<'_>, out: &mut Vec<u8>) {
        let stage = match kind {
            Kind::Connect => 0,
            Kind::Helo => 1,
            Kind::Mail => 2,
            Kind::Recipient => 3,
            Kind::Data => 4,
            // Postfix sends those of the end of message with each field and chunk.
            Kind::EndOfMessage | Kind::Header | Kind::Body => 5,
            Kind::EndOfHeaders => 6,
            _ => return,
        };
        let start = out.len();
        frame::put(out, b'D', &[&[kind as u8]]);
        for item in self.macros.get(stage).map_or(&[][..], Vec::as_slice) {
            let value = match item.value {
                Value::Fixed(text) => text.as_bytes(),
                Value::QueueId => values.queue_id,
                Value::AuthUser => values.auth_user,
                Value::Sender => values.sender,
                Value::Recipient => values.recipient,
            };
            if !value.is_empty() {
                for part in [item.name.as_slice(), b"\0", value, b"\0"] {
                    out.extend_from_slice(part);
                }
            }
        }
        let size = out.len() - start - 4;
        if size == 2 && !self.profile.macros_always {
            out.truncate(start);
        } else if let Some(length) = out.get_mut(start..start + 4) {
            length.copy_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
        }
    }

    /// Whether the filter asked not to see this step.
    fn suppressed(&self, kind: Kind) -> bool {
        let bit = match kind {
            Kind::Connect => protocol::NO_CONNECT,
            Kind::Helo => protocol::NO_HELO,
            Kind::Mail => protocol::NO_MAIL,
            Kind::Recipient => protocol::NO_RECIPIENT,
            Kind::Data => protocol::NO_DATA,
            Kind::Header => protocol::NO_HEADERS,
            Kind::EndOfHeaders => protocol::NO_END_OF_HEADERS,
            Kind::Body => protocol::NO_BODY,
            Kind::Unknown => protocol::NO_UNKNOWN,
            _ => 0,
        };
        self.agreed.protocol & bit != 0
    }
}

/// The names of a list, separated by spaces, with what they are expanded to. Unknown ones have no value and
/// are left out.
fn macro_list(list: &[u8]) -> Vec<Macro> {
    let known = |name: &[u8]| {
        Some(match name {
            b"i" => Value::QueueId,
            b"{auth_authen}" | b"{auth_author}" => Value::AuthUser,
            b"{mail_addr}" => Value::Sender,
            b"{rcpt_addr}" => Value::Recipient,
            b"j" | b"{daemon_name}" => Value::Fixed("mx.example.org"),
            b"{daemon_addr}" | b"{if_addr}" => Value::Fixed("192.0.2.25"),
            b"{if_name}" => Value::Fixed("eth0"),
            b"v" => Value::Fixed("Postfix 3.7.11"),
            b"_" => Value::Fixed("client.example.net [192.0.2.1]"),
            b"{mail_host}" | b"{rcpt_host}" => Value::Fixed("mx.example.org"),
            b"{mail_mailer}" | b"{rcpt_mailer}" => Value::Fixed("smtp"),
            _ => return None,
        })
    };
    list.split(|byte| *byte == b' ')
        .filter_map(|name| Some(Macro { name: name.to_vec(), value: known(name)? }))
        .collect()
}

/// Whether this version has no such command: U came with 3, T with 4.
const fn absent(version: u32, kind: Kind) -> bool {
    match kind {
        Kind::Unknown => version < 3,
        Kind::Data => version < 4,
        _ => false,
    }
}

/// An address as macros have it.
fn bare(address: &[u8]) -> &[u8] {
    address.strip_prefix(b"<").and_then(|address| address.strip_suffix(b">")).unwrap_or(address)
}
