//! The mail that the load generator sends: drawn with a fixed seed, encoded before anything is measured.

use becalm::milter::mta::{Content, Envelope, Mta, Script};
use becalm::milter::{Client, ClientAddress, Kind};
use memchr::memmem;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Mailboxes that ordinary mail goes to, and people who write.
const MAILBOXES: u32 = 10_000;
const SENDERS: u32 = 1_000;

/// Different people who write to one mailbox. Below the number that makes becalm ask whether it is a list.
const CORRESPONDENTS: u32 = 12;

/// Stand for digits that differ from message to message.
const MESSAGE_DIGITS: &[u8] = b"MMMMMMMMMM";
const AUTHOR_DIGITS: &[u8] = b"AAAA";

/// Messages encoded for each number of recipients: enough to name most mailboxes.
const SINGLE: usize = 16_384;
const LARGE: usize = 64;
const TO_LIST: usize = SENDERS as usize;

/// The list that storms; `becalm.toml` in `filters.rs` knows it.
pub const STORM_LIST: &str = "everybody@example.org";

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinds {
    /// To so many mailboxes of the 10,000.
    Ordinary { recipients: usize },
    /// Replies of one conversation to a list.
    Replies,
}

/// Bytes with the places where an answer must come before the next are sent. The last piece may need none.
#[derive(Clone, Debug, Default)]
pub struct Flights {
    bytes: Vec<u8>,
    ends: Vec<(usize, Option<Kind>)>,
}

impl Flights {
    fn of(script: &Script) -> Self {
        let mut flights = Self::default();
        for flight in script.flights() {
            flights.bytes.extend_from_slice(flight.bytes);
            flights.ends.push((flights.bytes.len(), flight.due));
        }
        flights
    }

    /// The pieces, each with the command whose answer is due after it.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<Kind>)> {
        let mut start = 0;
        self.ends.iter().map(move |(end, due)| {
            let piece = &self.bytes[start..*end];
            start = *end;
            (piece, *due)
        })
    }
}

/// Everything a connection sends, in the form that was negotiated with one filter.
#[derive(Clone)]
pub struct Mail {
    /// What follows the negotiation.
    pub connection: Flights,
    /// The envelopes, to be sent in turns.
    pub envelopes: Vec<(u32, Flights)>,
    /// Headers and body, the same for all but for some digits.
    pub content: Patched,
    /// After each message.
    pub abort: Vec<u8>,
    /// After the last.
    pub quit: Vec<u8>,
}

impl Mail {
    /// Encodes it all.
    pub fn encode(mta: &Mta, kinds: Kinds) -> Self {
        let mut script = Script::new();
        let address = ClientAddress::Ip(std::net::Ipv4Addr::new(192, 0, 2, 1).into());
        mta.connection(&Client { host: b"client.example.net", address }, b"client.example.net", &mut script);
        let connection = Flights::of(&script);
        script.clear();
        mta.abort(&mut script);
        let abort = script.bytes().to_vec();
        script.clear();
        mta.quit(&mut script);
        let quit = script.bytes().to_vec();
        Self { connection, envelopes: envelopes(mta, kinds), content: content(mta, kinds), abort, quit }
    }
}

fn envelopes(mta: &Mta, kinds: Kinds) -> Vec<(u32, Flights)> {
    let mut random = ChaCha8Rng::seed_from_u64(kinds.recipients() as u64);
    let count = match kinds {
        Kinds::Replies => TO_LIST,
        Kinds::Ordinary { recipients: 1 } => SINGLE,
        Kinds::Ordinary { .. } => LARGE,
    };
    let mut script = Script::new();
    let encode = |number| {
        let (sender, recipients) = match kinds {
            Kinds::Replies => (number as u32, vec![format!("<{STORM_LIST}>")]),
            Kinds::Ordinary { recipients } => {
                let first = random.random_range(0..MAILBOXES);
                // Everybody writes to somebody, but not to everybody.
                let sender = (first + random.random_range(0..CORRESPONDENTS)) % SENDERS;
                let mailboxes: Vec<_> = std::iter::once(first)
                    .chain(std::iter::repeat_with(|| random.random_range(0..MAILBOXES)))
                    .map(|mailbox| format!("<First.Last{mailbox:05}@example.org>"))
                    .take(recipients)
                    .collect();
                (sender, mailboxes)
            }
        };
        let recipients: Vec<_> = recipients.iter().map(String::as_bytes).collect();
        let sender_address = format!("<{}>", author_address(&format!("{sender:04}")));
        script.clear();
        mta.envelope(
            &Envelope {
                queue_id: QUEUE_ID,
                auth_user: None,
                sender: sender_address.as_bytes(),
                recipients: &recipients,
            },
            &mut script,
        );
        (sender, Flights::of(&script))
    };
    (0..count).map(encode).collect()
}

const QUEUE_ID: &[u8] = b"4XkTzq2Jw9z1xyz";

fn author_address(digits: &str) -> String {
    format!("Some.Author{digits}@mail.example.net")
}

impl Kinds {
    fn recipients(self) -> usize {
        match self {
            Self::Ordinary { recipients } => recipients,
            Self::Replies => 1,
        }
    }
}

/// 20 header fields and 2 KB of body.
fn content(mta: &Mta, kinds: Kinds) -> Patched {
    let (author, message) = (String::from_utf8_lossy(AUTHOR_DIGITS), String::from_utf8_lossy(MESSAGE_DIGITS));
    let from = format!("\"Some Author\" <{}>", author_address(&author));
    let id = format!("<{message}.4711@mail.example.net>");
    let to = match kinds {
        Kinds::Replies => STORM_LIST,
        Kinds::Ordinary { .. } => "undisclosed-recipients:;",
    };
    let received = "from client.example.net (client.example.net [192.0.2.1])\n\tby mx.example.org (Postfix) \
                    with ESMTPS id 4XkTzq2Jw9z1xyz\n\tfor <someone@example.org>; Tue, 3 Mar 2026 10:11:12 +0000";
    let root = "<root.0815@mail.example.org>";
    let mut headers: Vec<(&str, &str)> = vec![
        ("Received", received),
        ("Received", received),
        ("Received", received),
        (
            "DKIM-Signature",
            "v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.net; s=s1;\n\th=from:to:subject; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\n\tb=dzdVyOfAKCdLXdJOc9G2q8LoXSlEniSbav+yuU4zGeeruD00lszZVoG4ZHRNiYzR",
        ),
        ("From", &from),
        ("To", to),
        ("Message-ID", &id),
        ("Date", "Tue, 3 Mar 2026 10:11:12 +0000"),
        ("MIME-Version", "1.0"),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Transfer-Encoding", "8bit"),
        ("User-Agent", "Mozilla Thunderbird"),
        ("Content-Language", "en-GB"),
        ("X-Spam-Status", "No, score=-1.9 required=5.0 tests=BAYES_00,DKIM_SIGNED"),
        ("X-Virus-Scanned", "clamav-milter 1.0.7 at mx.example.org"),
        ("X-Originating-IP", "192.0.2.1"),
        ("Organization", "Example, Ltd."),
    ];
    if kinds == Kinds::Replies {
        headers.push(("Subject", "Re: Test, please ignore"));
        headers.push(("In-Reply-To", root));
        headers.push(("References", root));
    } else {
        headers.push(("Subject", "Minutes of last week's meeting"));
        headers.push(("Sender", "office@mail.example.net"));
        headers.push(("X-Mailer", "none"));
    }
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let body = b"Please take me off this list. And everybody: do not reply to all.\r\n".repeat(30);
    let mut script = Script::new();
    mta.content(&Content { queue_id: QUEUE_ID, headers: &headers, body: &body }, &mut script);
    Patched::new(Flights::of(&script))
}

/// Content whose message and author are filled in.
#[derive(Clone)]
pub struct Patched {
    flights: Flights,
    message: usize,
    author: usize,
}

impl Patched {
    fn new(flights: Flights) -> Self {
        let find = |digits| memmem::find(&flights.bytes, digits).expect("the content has these digits");
        Self { message: find(MESSAGE_DIGITS), author: find(AUTHOR_DIGITS), flights }
    }

    /// The content of message `number` by `author`.
    pub fn fill(&mut self, number: u64, author: u32) -> &Flights {
        put_digits(&mut self.flights.bytes[self.message..][..MESSAGE_DIGITS.len()], number);
        put_digits(&mut self.flights.bytes[self.author..][..AUTHOR_DIGITS.len()], u64::from(author));
        &self.flights
    }
}

fn put_digits(places: &mut [u8], mut number: u64) {
    for place in places.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}
