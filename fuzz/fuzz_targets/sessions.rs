//! A conversation of any bytes, cut anywhere: the filter is told the same and the peer gets the same replies as
//! when everything comes at once; replies are whole frames, and as many as were due at the most.
//!
//! Input: a count, that many sizes of chunks (used in turn), a byte that chooses a greeting, the bytes.
#![no_main]

use becalm::milter::frame::{self, MAX_BODY};
use becalm::milter::{
    AtData, Changes, Client, Filter, FinalReply, MAX_REPLIES, Macros, ProtocolError, Session, SessionLimits,
    SmtpReply, State,
};
use libfuzzer_sys::fuzz_target;

/// Negotiation and client, so that the fuzzer need not find them first: Postfix, version 2, nothing offered.
const GREETINGS: [&[u8]; 4] = [
    b"",
    b"\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff\0\0\0\x04Ch\0U",
    b"\0\0\0\x0dO\0\0\0\x02\0\0\0\x3f\0\0\0\x7f\0\0\0\x04Ch\0U",
    b"\0\0\0\x0dO\0\0\0\x06\0\0\0\0\0\0\0\0\0\0\0\x04Ch\0U",
];

fuzz_target!(|data: &[u8]| {
    let Some((count, rest)) = data.split_first() else { return };
    let Some((sizes, rest)) = rest.split_at_checked(usize::from(*count % 16)) else { return };
    let Some((greeting, rest)) = rest.split_first() else { return };
    let bytes = [GREETINGS[usize::from(*greeting) % GREETINGS.len()], rest].concat();

    let whole = run(&bytes, &[]);
    check(&bytes, &whole);
    assert_eq!(run(&bytes, sizes), whole);
    assert_eq!(run(&bytes, &[0]), whole);
});

#[derive(Debug, PartialEq)]
struct Outcome {
    calls: Vec<Call>,
    replies: Vec<u8>,
    error: Option<ProtocolError>,
    state: State,
}

/// Feeds chunks of `sizes` plus one, in turn; everything at once if there are none.
fn run(bytes: &[u8], sizes: &[u8]) -> Outcome {
    let mut session = Session::new(SessionLimits::default());
    let mut filter = Recorder::default();
    let mut outcome = Outcome { calls: Vec::new(), replies: Vec::new(), error: None, state: State::Start };
    let mut sizes = sizes.iter().cycle();
    let (mut start, mut end) = (0, 0);
    while end < bytes.len() {
        end = sizes.next().map_or(bytes.len(), |size| (end + 1 + usize::from(*size)).min(bytes.len()));
        loop {
            let mut out = Vec::new();
            match session.feed(&bytes[start..end], &mut filter, &mut out) {
                Ok(consumed) => start += consumed,
                Err(error) => outcome.error = Some(error),
            }
            assert!(out.len() <= MAX_REPLIES + 256 * 1024 + 1024, "{} bytes of replies", out.len());
            let more = out.len() >= MAX_REPLIES;
            outcome.replies.extend(out);
            if !more {
                break;
            }
        }
    }
    outcome.state = session.state();
    session.end(&mut filter);
    assert!(session.closed());
    outcome.calls = filter.calls;
    outcome
}

/// What holds for every conversation.
fn check(bytes: &[u8], outcome: &Outcome) {
    let mut replies = outcome.replies.as_slice();
    let mut finals = 0_usize;
    while let Some((reply, size)) = frame::split(replies, MAX_BODY).expect("well-formed") {
        match reply.command {
            b'c' | b'a' | b'r' | b't' | b'd' => assert_eq!(reply.body, b""),
            b'y' => assert!(reply.body.starts_with(b"550 5.7.1 ") && reply.body.ends_with(b"\0")),
            b'O' => assert!(reply.body.len() >= 12),
            b'i' | b'm' | b'q' | b'-' => assert!(reply.body.ends_with(b"\0")),
            other => panic!("reply {other:#04x}"),
        }
        finals += usize::from(!matches!(reply.command, b'i' | b'm' | b'q' | b'-'));
        replies = &replies[size..];
    }
    assert_eq!(replies, b"", "a reply that is not whole");
    assert!(finals <= bytes.len() / 5, "more replies than commands");

    let (mut client, mut message, mut reading) = (false, false, false);
    for call in &outcome.calls {
        match call {
            Call::Connect => assert!(!std::mem::replace(&mut client, true)),
            Call::Disconnect => {
                assert!(!message, "the message is over first");
                assert!(std::mem::replace(&mut client, false));
            }
            Call::Helo => assert!(client && !message),
            Call::Mail(_) => assert!(client && !std::mem::replace(&mut message, true)),
            Call::Recipient(_) => {
                assert!(message);
                reading = false;
            }
            Call::Data(reads) => {
                assert!(message);
                reading = *reads;
            }
            Call::Header(..) => assert!(reading),
            Call::End => assert!(std::mem::replace(&mut reading, false)),
            Call::Abort => {
                assert!(std::mem::replace(&mut message, false));
                reading = false;
            }
        }
    }
    assert!(!client && !message);
}

#[derive(Debug, PartialEq)]
enum Call {
    Connect,
    Helo,
    Mail(Vec<u8>),
    Recipient(Vec<u8>),
    Data(bool),
    Header(Vec<u8>, Vec<u8>),
    End,
    Abort,
    Disconnect,
}

/// Writes down what it is told, and answers by the last byte of sender, recipient or header.
#[derive(Default)]
struct Recorder {
    calls: Vec<Call>,
    recipients: Vec<Vec<u8>>,
    last: u8,
}

impl Recorder {
    fn heard(&mut self, text: &[u8]) {
        self.last = text.last().copied().unwrap_or_default();
    }

    fn answer(&self) -> FinalReply {
        match self.last % 5 {
            0 => FinalReply::Accept,
            1 => FinalReply::Reject,
            2 => FinalReply::TempFail,
            3 => FinalReply::Discard,
            _ => {
                let text = String::from_utf8_lossy(self.recipients.last().map_or(b"", Vec::as_slice));
                FinalReply::Code(SmtpReply::new(550, "5.7.1", &text).expect("code and class fit"))
            }
        }
    }
}

impl Filter for Recorder {
    fn connect(&mut self, _client: Client<'_>) {
        self.calls.push(Call::Connect);
    }

    fn helo(&mut self, _name: &[u8]) {
        self.calls.push(Call::Helo);
    }

    fn mail(&mut self, sender: &[u8], _macros: &Macros) {
        self.heard(sender);
        self.recipients.clear();
        self.calls.push(Call::Mail(sender.to_vec()));
    }

    fn recipient(&mut self, recipient: &[u8]) {
        self.heard(recipient);
        self.recipients.push(recipient.to_vec());
        self.calls.push(Call::Recipient(recipient.to_vec()));
    }

    fn data(&mut self, _macros: &Macros) -> AtData {
        let answer = match self.last % 3 {
            0 => AtData::Accept,
            1 => AtData::ReadHeaders,
            _ => AtData::Answer(self.answer()),
        };
        self.calls.push(Call::Data(answer == AtData::ReadHeaders));
        answer
    }

    fn header(&mut self, name: &[u8], value: &[u8]) {
        self.heard(value);
        self.calls.push(Call::Header(name.to_vec(), value.to_vec()));
    }

    fn end_of_message(&mut self, macros: &Macros, changes: &mut Changes<'_>) -> FinalReply {
        changes.prepend_header(b"X-Becalm", macros.queue_id().unwrap_or(b"none"));
        changes.delete_header(b"X-Becalm", u32::from(self.last));
        changes.quarantine(macros.auth_user().unwrap_or_default());
        for recipient in &self.recipients {
            changes.delete_recipient(recipient);
        }
        self.calls.push(Call::End);
        self.answer()
    }

    fn abort(&mut self) {
        self.calls.push(Call::Abort);
    }

    fn disconnect(&mut self) {
        self.calls.push(Call::Disconnect);
    }
}
