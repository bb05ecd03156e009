//! What the filter answers.

use super::frame;
use super::negotiate::{Agreed, action};

/// The decision at DATA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AtData {
    /// Ordinary mail: accepted here, no header is ever sent.
    Accept,
    /// The headers decide: the answer comes at the end of the message.
    ReadHeaders,
    /// Decided by the envelope alone.
    Answer(FinalReply),
}

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinalReply {
    /// Delivered, with the changes that were made.
    Accept,
    /// 550 5.7.1 in the MTA's own words.
    Reject,
    /// 451 4.7.1 in the MTA's own words.
    TempFail,
    /// The client is told 250, and the message is thrown away.
    Discard,
    /// A refusal in our words.
    Code(SmtpReply),
}

impl FinalReply {
    /// Appends the frame.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Accept => frame::put(out, b'a', &[]),
            Self::Reject => frame::put(out, b'r', &[]),
            Self::TempFail => frame::put(out, b't', &[]),
            Self::Discard => frame::put(out, b'd', &[]),
            // The NUL is needed: Postfix 3.7 logs whatever its buffer held before up to the next one.
            Self::Code(reply) => frame::put(out, b'y', &[&reply.text, b"\0"]),
        }
    }
}

/// A reply line that Postfix and Sendmail accept: anything else becomes a 451 and costs the filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpReply {
    /// `550 5.7.1 text`, with `%` doubled (Sendmail takes the line as a format string).
    text: Box<[u8]>,
}

/// Why a reply cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    /// Not between 400 and 599.
    #[error("{0} is not a refusal: 400 to 599")]
    Code(u16),
    /// Not `class.subject.detail` (RFC 3463) with the class of the code.
    #[error("an enhanced status code must be {class}.x.y, digits, to go with the reply code")]
    Enhanced {
        /// The first digit of the code.
        class: u8,
    },
}

/// The longest reply line without CRLF (RFC 5321, 4.5.3.1.5: 512 octets with it).
const MAX_LINE: usize = 510;

impl SmtpReply {
    /// `code` 400 to 599; `enhanced` as in RFC 3463, of the same class (`5.7.1`).
    ///
    /// The text is made to fit: what is not printable ASCII becomes `?`, and what is beyond 510 bytes of line
    /// is cut. So a text from a template with an address in it cannot fail.
    ///
    /// # Errors
    /// A code that is no refusal, or an enhanced code that does not go with it.
    pub fn new(code: u16, enhanced: &str, text: &str) -> Result<Self, BadReply> {
        if !(400..=599).contains(&code) {
            return Err(BadReply::Code(code));
        }
        let class = if code < 500 { 4 } else { 5 };
        if !fits(enhanced, class) {
            return Err(BadReply::Enhanced { class });
        }
        let mut line = format!("{code} {enhanced} ").into_bytes();
        // The limit is of what the client sees, so it counts before `%` is doubled.
        let room = MAX_LINE.saturating_sub(line.len());
        for byte in printable(text.as_bytes()).take(room) {
            line.push(byte);
            if byte == b'%' {
                line.push(byte);
            }
        }
        Ok(Self { text: line.into_boxed_slice() })
    }
}

/// `class.subject.detail`, subject and detail of one to three digits.
fn fits(enhanced: &str, class: u8) -> bool {
    let mut parts = enhanced.split('.');
    let number = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    parts.next().is_some_and(|part| part.as_bytes() == [b'0' + class])
        && parts.next().is_some_and(number)
        && parts.next().is_some_and(number)
        && parts.next().is_none()
}

/// One byte for each character; no controls, nothing beyond ASCII.
fn printable(text: &[u8]) -> impl Iterator<Item = u8> {
    text.iter()
        // The other bytes of a UTF-8 character: its first becomes the `?`.
        .filter(|byte| !(0x80..0xc0).contains(*byte))
        .map(|byte| if matches!(byte, b' '..=b'~') { *byte } else { b'?' })
}

/// Changes to the message, made at its end and only valid there. They are dropped unless the message is
/// accepted.
///
/// Each method returns whether the change was made; it is not where the MTA did not offer the action, where
/// it would break the message, or beyond 256 KiB of changes.
#[derive(Debug)]
pub struct Changes<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    agreed: Agreed,
    /// `R` commands of this message.
    recipients: u32,
    /// Reason, sent last: after `q`, Postfix reads only the final reply for sure.
    quarantine: Option<Vec<u8>>,
}

/// All changes to one message, in bytes. The longest are deletions of fields that came in from outside: about
/// 20 bytes for a field of 10, and Postfix allows 102,400 bytes of header (`header_size_limit`).
const MAX_CHANGES: usize = 256 * 1024;
/// A field we add, in bytes: ours are far shorter, and Sendmail refuses more than 32 KiB of header.
const MAX_FIELD: usize = 4096;
/// Where a field is inserted. Postfix (3.7.11, seen) and Sendmail count the header's fields from 0 here.
const FIRST: u32 = 0;
/// Reason for the hold queue, in bytes: it ends up in one line of a log.
const MAX_REASON: usize = 250;

impl<'a> Changes<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, agreed: Agreed, recipients: u32) -> Self {
        Self { start: out.len(), out, agreed, recipients, quarantine: None }
    }

    /// Puts a field before all others of the header, the MTA's own `Received` too: whoever looks for it finds it at
    /// once, however long the header is. Delete fields first, or their numbers shift. `value` may be folded: LF, then
    /// a space or a tab.
    pub fn prepend_header(&mut self, name: &[u8], value: &[u8]) -> bool {
        if name.len() + value.len() > MAX_FIELD || !is_field_name(name) || !is_field_value(value) {
            return false;
        }
        self.change(action::ADD_HEADERS, b'i', &[&FIRST.to_be_bytes(), name, b"\0", value, b"\0"])
    }

    /// Deletes the `index`-th field of this name, from 1. Delete the last one first: then it does not matter
    /// whether a deletion shifts the numbers of those after it.
    pub fn delete_header(&mut self, name: &[u8], index: u32) -> bool {
        if index == 0 || name.len() > MAX_FIELD || !is_field_name(name) {
            return false;
        }
        self.change(action::CHANGE_HEADERS, b'm', &[&index.to_be_bytes(), name, b"\0\0"])
    }

    /// Puts the message into the MTA's hold queue. The last reason wins.
    pub fn quarantine(&mut self, reason: &[u8]) -> bool {
        let offered = self.agreed.actions & action::QUARANTINE != 0;
        if offered {
            let is_plain =
                reason.len() <= MAX_REASON && reason.iter().all(|byte| matches!(byte, b' '..=b'~'));
            self.quarantine = Some(match is_plain {
                true => reason.to_vec(),
                false => printable(reason).take(MAX_REASON).collect(),
            });
        }
        offered
    }

    /// Takes a recipient off the message. `raw` must be the bytes that the recipient came with: Postfix
    /// compares them exactly and says nothing where none match.
    ///
    /// The last recipient stays (as many deletions as recipients): Postfix would answer 250 and throw the
    /// message away. Where one recipient was named twice, delete it twice, or the count is off.
    pub fn delete_recipient(&mut self, raw: &[u8]) -> bool {
        if self.recipients <= 1 || raw.contains(&0) {
            return false;
        }
        let done = self.change(action::DELETE_RECIPIENTS, b'-', &[raw, b"\0"]);
        self.recipients -= u32::from(done);
        done
    }

    /// Takes all changes back: the message goes on as it came.
    pub fn take_back(&mut self) {
        self.out.truncate(self.start);
        self.quarantine = None;
    }

    fn change(&mut self, needed: u32, command: u8, body: &[&[u8]]) -> bool {
        let size: usize = body.iter().map(|part| part.len()).sum();
        let used = self.out.len() - self.start;
        if self.agreed.actions & needed == 0 || used.saturating_add(size) > MAX_CHANGES {
            return false;
        }
        frame::put(self.out, command, body);
        true
    }

    /// Appends quarantine and final reply, or drops all changes where the message is not accepted.
    pub(super) fn finish(self, reply: &FinalReply) {
        if *reply == FinalReply::Accept {
            if let Some(reason) = &self.quarantine {
                frame::put(self.out, b'q', &[reason, b"\0"]);
            }
        } else {
            self.out.truncate(self.start);
        }
        reply.put(self.out);
    }
}

/// RFC 5322, 3.6.8: printable ASCII without the colon.
fn is_field_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| matches!(byte, b'!'..=b'~') && *byte != b':')
}

/// No NUL (it ends the string), no CR, and no LF but a fold: nothing that could end the field early.
fn is_field_value(value: &[u8]) -> bool {
    let is_fold = |at: usize| matches!(value.get(at + 1), Some(b' ' | b'\t'));
    memchr::memchr2(0, b'\r', value).is_none() && memchr::memchr_iter(b'\n', value).all(is_fold)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Agreed = Agreed { version: 6, actions: 0x139, protocol: 0 };

    fn line(code: u16, enhanced: &str, text: &str) -> String {
        let reply = SmtpReply::new(code, enhanced, text).unwrap();
        String::from_utf8(reply.text.into_vec()).unwrap()
    }

    fn changes(
        agreed: Agreed,
        recipients: u32,
        reply: &FinalReply,
        make: impl Fn(&mut Changes<'_>),
    ) -> Vec<u8> {
        let mut out = b"before".to_vec();
        let mut changes = Changes::new(&mut out, agreed, recipients);
        make(&mut changes);
        changes.finish(reply);
        out.split_off(6)
    }

    #[test]
    fn replies_are_valid_by_construction() {
        assert_eq!(line(550, "5.7.1", "50% of naïve\r\nusers"), "550 5.7.1 50%% of na?ve??users");
        assert_eq!(line(450, "4.7.100", ""), "450 4.7.100 ");
        let long = line(550, "5.7.1", &"%".repeat(1000));
        assert_eq!(long.len(), 10 + 2 * 500);
        assert_eq!(SmtpReply::new(250, "2.0.0", ""), Err(BadReply::Code(250)));
        assert_eq!(SmtpReply::new(600, "5.0.0", ""), Err(BadReply::Code(600)));
        for enhanced in ["4.7.1", "5.7", "5.7.1.2", "5.7.1234", "5..1", "5.7.x", "", "55.7.1"] {
            assert_eq!(SmtpReply::new(550, enhanced, ""), Err(BadReply::Enhanced { class: 5 }), "{enhanced}");
        }
    }

    #[test]
    fn a_reply_code_ends_with_nul() {
        let mut out = Vec::new();
        FinalReply::Code(SmtpReply::new(550, "5.7.1", "no").unwrap()).put(&mut out);
        assert_eq!(out, b"\0\0\0\x0ey550 5.7.1 no\0");
    }

    #[test]
    fn quarantine_comes_right_before_the_final_reply() {
        let out = changes(ALL, 2, &FinalReply::Accept, |changes| {
            assert!(changes.quarantine(b"a\nstorm"));
            assert!(changes.prepend_header(b"X-A", b"1\n 2"));
            assert!(changes.delete_header(b"X-B", 2));
        });
        assert_eq!(
            out,
            b"\0\0\0\x0ei\0\0\0\0X-A\x001\n 2\0\0\0\0\x0am\0\0\0\x02X-B\0\0\0\0\0\x09qa?storm\0\0\0\0\x01a"
                .as_slice()
        );
    }

    #[test]
    fn a_message_that_is_not_accepted_is_not_changed() {
        let out = changes(ALL, 2, &FinalReply::Reject, |changes| {
            assert!(changes.quarantine(b"storm"));
            assert!(changes.delete_recipient(b"a"));
        });
        assert_eq!(out, b"\0\0\0\x01r");
    }

    #[test]
    fn what_was_not_offered_is_not_done() {
        let out = changes(Agreed { actions: 0, ..ALL }, 9, &FinalReply::Accept, |changes| {
            assert!(!changes.prepend_header(b"X", b"y"));
            assert!(!changes.delete_header(b"X", 1));
            assert!(!changes.quarantine(b"storm"));
            assert!(!changes.delete_recipient(b"a"));
        });
        assert_eq!(out, b"\0\0\0\x01a");
    }

    #[test]
    fn the_last_recipient_stays() {
        let out = changes(ALL, 2, &FinalReply::Accept, |changes| {
            assert!(changes.delete_recipient(b"<A@d>"));
            assert!(!changes.delete_recipient(b"<b@d>"));
        });
        assert_eq!(out, b"\0\0\0\x07-<A@d>\0\0\0\0\x01a");
    }

    #[test]
    fn nothing_breaks_out_of_a_field() {
        changes(ALL, 1, &FinalReply::Accept, |changes| {
            for value in [&b"a\nBcc: x"[..], b"a\n", b"a\r\n b", b"a\0b"] {
                assert!(!changes.prepend_header(b"X", value), "{value:?}");
            }
            for name in [&b""[..], b"X:", b"X Y", b"X\n", b"\xc3\xa9"] {
                assert!(!changes.prepend_header(name, b"v"), "{name:?}");
                assert!(!changes.delete_header(name, 1), "{name:?}");
            }
            assert!(!changes.delete_header(b"X", 0));
        });
    }

    #[test]
    fn changes_are_bounded() {
        let out = changes(ALL, u32::MAX, &FinalReply::Accept, |changes| {
            let made = (0..1_000_000).take_while(|_| changes.delete_recipient(b"0123456789")).count();
            assert!(made > 10_000);
            assert!(changes.quarantine(&[b'x'; 10_000]), "holding must not fail for lack of room");
        });
        assert!(out.len() < MAX_CHANGES + 1000);
    }
}
