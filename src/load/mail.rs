//! The mail that is sent: drawn with a fixed seed, encoded before anything is measured.
//!
//! What differs from message to message (queue id, Message-ID, author) is a row of digits that is overwritten in
//! the bytes that go out; everything else is copied as it is.

use std::net::IpAddr;

use memchr::memmem;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::milter::mta::{Content, Envelope, Mta, Script};
use crate::milter::{Client, ClientAddress, Kind};

/// Mailboxes that ordinary mail goes to, and people who write.
const MAILBOXES: u32 = 10_000;
const SENDERS: u32 = 1_000;

/// Different people who write to one mailbox: few, as in life. A mailbox with many looks like a list.
const CORRESPONDENTS: u32 = 12;

/// Envelopes that are encoded: enough to name most mailboxes when each has one recipient, and when they have more,
/// as many as have that many recipients in all (some 100 bytes each), but not fewer than make a mix.
const ENVELOPES: usize = 16_384;
const FEWEST_ENVELOPES: usize = 64;

/// In mixed mail, one message of so many is a reply to the list.
const REPLY_EVERY: usize = 10;

/// Digits of a message's number, and of an author's.
const NUMBER: usize = 16;
const AUTHOR: usize = 4;

/// Stand for the digits. Bytes that no text of ours has, and more of them than any length field can have.
const NUMBER_PLACE: [u8; NUMBER] = [1; NUMBER];
const AUTHOR_PLACE: [u8; AUTHOR] = [2; AUTHOR];

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mix {
    /// Mail between people.
    Ordinary,
    /// Replies of one conversation to a list, each by another author.
    Storm,
    /// Nine ordinary messages to one reply.
    Mixed,
}

/// What the mail is like.
#[derive(Clone, Debug)]
pub struct Shape {
    /// What is sent.
    pub mix: Mix,
    /// Recipients of an ordinary message; a reply goes to the list alone. 1 to [`Shape::MAX_RECIPIENTS`].
    pub recipients: usize,
    /// Header fields, [`Shape::MIN_HEADERS`] to [`Shape::MAX_HEADERS`].
    pub headers: usize,
    /// Bytes of header, names, colons and line ends included; what the fields do not have by themselves is filled
    /// up. 0 to [`Shape::MAX_HEADER_BYTES`].
    pub header_bytes: usize,
    /// Bytes of body, 0 to [`Shape::MAX_BODY`].
    pub body: usize,
    /// The list of the replies.
    pub list: String,
    /// The domain of ordinary mail's recipients.
    pub domain: String,
    /// The SMTP client that the filter is told of.
    pub client: IpAddr,
}

impl Shape {
    /// Postfix takes 1,000 in a transaction (`smtpd_recipient_limit`); others can be told to take more.
    pub const MAX_RECIPIENTS: usize = 10_000;
    /// A reply has seven fields that make it one, and one is needed that can be filled up.
    pub const MIN_HEADERS: usize = 8;
    /// More than any mail has that is no attack.
    pub const MAX_HEADERS: usize = 1_000;
    /// Postfix's `header_size_limit`.
    pub const MAX_HEADER_BYTES: usize = 102_400;
    /// Far above Postfix's `message_size_limit` of 10 MB. Each connection that sends it has a copy in memory.
    pub const MAX_BODY: usize = 100_000_000;
}

impl Default for Shape {
    /// As most mail is: one recipient, 20 fields, 2 KB.
    fn default() -> Self {
        Self {
            mix: Mix::Ordinary,
            recipients: 1,
            headers: 20,
            header_bytes: 0,
            body: 2_048,
            list: "everybody@example.org".to_owned(),
            domain: "example.org".to_owned(),
            client: IpAddr::from([192, 0, 2, 1]),
        }
    }
}

/// Bytes with the places where an answer must come before the next are sent. The last piece may need none.
#[derive(Clone, Debug, Default)]
pub(super) struct Flights {
    /// All of them.
    pub(super) bytes: Vec<u8>,
    /// Where each ends, with the command that is answered then.
    pub(super) ends: Vec<(usize, Option<Kind>)>,
    numbers: Vec<usize>,
    authors: Vec<usize>,
}

impl Flights {
    fn of(script: &Script) -> Self {
        let mut flights = Self::default();
        for flight in script.flights() {
            flights.bytes.extend_from_slice(flight.bytes);
            flights.ends.push((flights.bytes.len(), flight.due));
        }
        flights.numbers = memmem::find_iter(&flights.bytes, &NUMBER_PLACE).collect();
        flights.authors = memmem::find_iter(&flights.bytes, &AUTHOR_PLACE).collect();
        flights
    }

    /// Appends them, with the digits of this message.
    pub(super) fn put(&self, number: u64, author: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let Some(out) = out.get_mut(start..) else { return };
        let number = digits::<NUMBER>(number);
        let author = digits::<AUTHOR>(u64::from(author));
        for place in &self.numbers {
            if let Some(place) = out.get_mut(*place..place.saturating_add(NUMBER)) {
                place.copy_from_slice(&number);
            }
        }
        for place in &self.authors {
            if let Some(place) = out.get_mut(*place..place.saturating_add(AUTHOR)) {
                place.copy_from_slice(&author);
            }
        }
    }
}

/// The last `N` digits.
fn digits<const N: usize>(mut number: u64) -> [u8; N] {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    digits
}

/// One envelope.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    /// Who wrote it.
    pub(super) author: u32,
    /// It goes to the list.
    pub(super) is_reply: bool,
    /// How many it goes to.
    pub(super) recipients: usize,
    /// What is sent.
    pub(super) envelope: Flights,
}

/// Everything a connection sends, in the form that was negotiated with one filter.
#[derive(Clone, Debug)]
pub(super) struct Mail {
    /// What follows the negotiation.
    pub(super) opening: Flights,
    /// To be sent in turns; at least one.
    pub(super) letters: Vec<Letter>,
    ordinary: Flights,
    reply: Flights,
    /// After each message.
    pub(super) abort: Vec<u8>,
    /// After the last.
    pub(super) quit: Vec<u8>,
}

impl Mail {
    /// Encodes it all.
    pub(super) fn encode(mta: &Mta, shape: &Shape) -> Self {
        let mut script = Script::new();
        let address = ClientAddress::Ip(shape.client);
        mta.connection(&Client { host: b"client.example.net", address }, b"client.example.net", &mut script);
        let opening = Flights::of(&script);
        script.clear();
        mta.abort(&mut script);
        let abort = script.bytes().to_vec();
        script.clear();
        mta.quit(&mut script);
        let quit = script.bytes().to_vec();
        Self {
            opening,
            letters: letters(mta, shape),
            ordinary: content(mta, shape, false),
            reply: content(mta, shape, true),
            abort,
            quit,
        }
    }

    /// Header and body that go with an envelope.
    pub(super) fn content(&self, letter: &Letter) -> &Flights {
        if letter.is_reply { &self.reply } else { &self.ordinary }
    }
}

fn letters(mta: &Mta, shape: &Shape) -> Vec<Letter> {
    let mut script = Script::new();
    let queue_id = queue_id();
    let encode = |envelope: PostEnvelope| {
        let to: Vec<_> = envelope.to.iter().map(|to| format!("<{to}>")).collect();
        let to: Vec<_> = to.iter().map(String::as_bytes).collect();
        let sender = format!("<{}>", envelope.sender());
        let (queue_id, sender) = (queue_id.as_slice(), sender.as_bytes());
        script.clear();
        mta.envelope(&Envelope { queue_id, auth_user: None, sender, recipients: &to }, &mut script);
        let PostEnvelope { author, is_reply, .. } = envelope;
        Letter { author, is_reply, recipients: to.len(), envelope: Flights::of(&script) }
    };
    envelopes(shape).into_iter().map(encode).collect()
}

/// Who writes to whom.
#[derive(Clone, Debug)]
struct PostEnvelope {
    author: u32,
    is_reply: bool,
    to: Vec<String>,
}

impl PostEnvelope {
    fn sender(&self) -> String {
        author_address(&format!("{:04}", self.author), self.is_reply)
    }
}

fn envelopes(shape: &Shape) -> Vec<PostEnvelope> {
    let recipients = shape.recipients.clamp(1, Shape::MAX_RECIPIENTS);
    let mut random = ChaCha8Rng::seed_from_u64(recipients as u64);
    let count = match shape.mix {
        Mix::Storm => SENDERS as usize,
        _ => (ENVELOPES / recipients).max(FEWEST_ENVELOPES),
    };
    let draw = |number: usize| {
        let reply = match shape.mix {
            Mix::Ordinary => None,
            Mix::Storm => Some(number),
            Mix::Mixed => number.is_multiple_of(REPLY_EVERY).then_some(number / REPLY_EVERY),
        };
        if let Some(reply) = reply {
            let author = (reply % SENDERS as usize) as u32;
            return PostEnvelope { author, is_reply: true, to: vec![shape.list.clone()] };
        }
        let first = random.random_range(0..MAILBOXES);
        // Everybody writes to somebody, but not to everybody.
        let author = (first + random.random_range(0..CORRESPONDENTS)) % SENDERS;
        let to = std::iter::once(first)
            .chain(std::iter::repeat_with(|| random.random_range(0..MAILBOXES)))
            .map(|mailbox| format!("First.Last{mailbox:05}@{}", shape.domain))
            .take(recipients);
        PostEnvelope { author, is_reply: false, to: to.collect() }
    };
    (0..count).map(draw).collect()
}

/// The same mail, for SMTP.
#[derive(Clone, Debug)]
pub struct Posts {
    envelopes: Vec<PostEnvelope>,
    ordinary: String,
    reply: String,
}

/// One message, for SMTP. Lines end with LF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post<'a> {
    /// Without `<>`.
    pub sender: String,
    /// Without `<>`.
    pub recipients: Vec<&'a str>,
    /// Header and body.
    pub text: String,
}

impl Posts {
    /// Of this shape.
    pub fn new(shape: &Shape) -> Self {
        let text = |is_reply| {
            let mut text = String::new();
            for (name, value) in header(shape, is_reply) {
                text.extend([&name, ": ", &value, "\n"]);
            }
            text + "\n" + &String::from_utf8_lossy(&body(shape.body)).replace("\r\n", "\n")
        };
        Self { envelopes: envelopes(shape), ordinary: text(false), reply: text(true) }
    }

    /// Message `number`; the envelopes are taken in turns.
    pub fn get(&self, number: u64) -> Post<'_> {
        let turn = number % self.envelopes.len().max(1) as u64;
        let Some(envelope) = self.envelopes.get(turn as usize) else {
            return Post { sender: String::new(), recipients: Vec::new(), text: String::new() };
        };
        let text = if envelope.is_reply { &self.reply } else { &self.ordinary };
        let text = text
            .replace(&*String::from_utf8_lossy(&NUMBER_PLACE), &format!("{number:016}"))
            .replace(&*String::from_utf8_lossy(&AUTHOR_PLACE), &format!("{:04}", envelope.author));
        let recipients = envelope.to.iter().map(String::as_str).collect();
        Post { sender: envelope.sender(), recipients, text }
    }
}

/// Long, as `enable_long_queue_ids` makes them, and another one for each message.
fn queue_id() -> Vec<u8> {
    [b"4", NUMBER_PLACE.as_slice()].concat()
}

/// Who replies to the list writes no ordinary mail: a filter may look closer at everything by such a sender.
fn author_address(digits: &str, is_reply: bool) -> String {
    let name = if is_reply { "Replier" } else { "Author" };
    format!("Some.{name}{digits}@mail.example.net")
}

fn content(mta: &Mta, shape: &Shape, is_reply: bool) -> Flights {
    let headers = header(shape, is_reply);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let body = body(shape.body);
    let mut script = Script::new();
    let queue_id = queue_id();
    mta.content(&Content { queue_id: &queue_id, headers: &headers, body: &body }, &mut script);
    Flights::of(&script)
}

/// Lines of text, so many bytes.
fn body(bytes: usize) -> Vec<u8> {
    let line = b"Please take me off this list. And everybody: do not reply to all.\r\n";
    let mut body: Vec<u8> = line.iter().copied().cycle().take(bytes).collect();
    // The last line ends as lines do.
    if let Some(end) = body.last_chunk_mut::<2>() {
        *end = *b"\r\n";
    }
    body
}

/// As many header fields as asked for, as long as asked for.
fn header(shape: &Shape, is_reply: bool) -> Vec<(String, String)> {
    const RECEIVED: &str = "from client.example.net (client.example.net [192.0.2.1])\n\tby mx.example.org \
        (Postfix) with ESMTPS id 4XkTzq2Jw9z1xyz\n\tfor <someone@example.org>; Tue, 3 Mar 2026 10:11:12 +0000";
    const SIGNATURE: &str = "v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.net; s=s1;\n\
        \th=from:to:subject; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\n\
        \tb=dzdVyOfAKCdLXdJOc9G2q8LoXSlEniSbav+yuU4zGeeruD00lszZVoG4ZHRNiYzR";
    const ROOT: &str = "<root.0815@mail.example.org>";
    let author = String::from_utf8_lossy(&AUTHOR_PLACE).into_owned();
    let number = String::from_utf8_lossy(&NUMBER_PLACE).into_owned();
    let from = format!("\"Some Author\" <{}>", author_address(&author, is_reply));
    let id = format!("<{number}.4711@mail.example.net>");
    let to = if is_reply { shape.list.as_str() } else { "undisclosed-recipients:;" };
    let subject = if is_reply { "Re: Test, please ignore" } else { "Minutes of last week's meeting" };
    let mut fields = vec![
        ("From", from.as_str()),
        ("To", to),
        ("Message-ID", &id),
        ("Date", "Tue, 3 Mar 2026 10:11:12 +0000"),
        ("Subject", subject),
    ];
    if is_reply {
        fields.extend([("In-Reply-To", ROOT), ("References", ROOT)]);
    }
    let needed = fields.len();
    fields.extend([
        ("Received", RECEIVED),
        ("Received", RECEIVED),
        ("DKIM-Signature", SIGNATURE),
        ("MIME-Version", "1.0"),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Transfer-Encoding", "8bit"),
        ("User-Agent", "Mozilla Thunderbird"),
        ("Received", RECEIVED),
        ("Content-Language", "en-GB"),
        ("X-Spam-Status", "No, score=-1.9 required=5.0 tests=BAYES_00,DKIM_SIGNED"),
        ("X-Virus-Scanned", "clamav-milter 1.0.7 at mx.example.org"),
        ("X-Originating-IP", "192.0.2.1"),
        ("Organization", "Example, Ltd."),
        ("Sender", "office@mail.example.net"),
        ("X-Mailer", "none"),
    ]);
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let more = (0..).map(|number| (format!("X-Field-{number}"), "value".to_owned()));
    let wanted = shape.headers.clamp(Shape::MIN_HEADERS, Shape::MAX_HEADERS);
    let mut header: Vec<_> = fields.iter().map(owned).chain(more).take(wanted).collect();
    fill_up(&mut header, needed, shape.header_bytes.min(Shape::MAX_HEADER_BYTES));
    header
}

/// Makes the fields after the first `needed` longer, each by as much, until there are `bytes` in all.
fn fill_up(header: &mut [(String, String)], needed: usize, bytes: usize) {
    let size: usize = header.iter().map(|(name, value)| name.len() + value.len() + ": \r\n".len()).sum();
    let mut missing = bytes.saturating_sub(size);
    let Some(fields) = header.get_mut(needed..) else { return };
    let mut left = fields.len();
    for (_, value) in fields {
        let own = missing.div_ceil(left.max(1));
        // Folded, as lines of that length must be (RFC 5322, 2.1.1).
        value.extend("\n\tabcdefghijklmnopqrstuvwxyz".chars().cycle().take(own));
        // A fold needs something after it.
        if value.ends_with(['\n', '\t']) {
            value.truncate(value.trim_end().len());
            value.push_str(if own > 1 { "xx" } else { "x" });
        }
        missing -= own;
        left -= 1;
    }
}

#[cfg(test)]
mod tests;
