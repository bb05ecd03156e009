//! The headers of one message, as they arrive, reduced to what becalm asks about.

use smallvec::SmallVec;

use super::automatic::{self, Automatic, Evidence, Marks};
use super::bytes;
use super::conversation::{self, Ids, ThreadIndex};
use super::field::Field;
use super::subject::{self, Subject};

/// Bytes kept of an address header. A `From` of 8 KiB holds more names than any client writes, and only the
/// first counts.
const MAX_ADDRESSES: usize = 8 * 1024;

/// Bytes read of a `Subject`: RFC 2047 makes 250 bytes of UTF-8 into fewer than 1,000.
const MAX_SUBJECT: usize = 4 * 1024;

/// Bytes kept of it when it is decoded: one that is no text becomes three.
const MAX_CLEAN_SUBJECT: usize = 3 * MAX_SUBJECT;

/// Bytes kept of a `Content-Type`; what matters comes first, boundaries and the like after.
const MAX_CONTENT_TYPE: usize = 2 * 1024;

/// Bytes kept of the mark of becalm's own mail.
const MAX_OWN: usize = 1280;

/// Room that is kept from message to message. During one, the kept values come to at most 41 KiB and the ids
/// beside them to 32 KiB.
const KEPT_CAPACITY: usize = 4 * 1024;

/// The headers of one message, bounded whatever arrives: of the fields that are kept as text only the first of
/// each name, and of that a bounded part; at most [`MAX_PARENT_IDS`](super::MAX_PARENT_IDS) ids; the rest as
/// marks.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The kept values, one after the other.
    text: Vec<u8>,
    /// Where in `text` each [`Kept`] field lies; `None`: it has not come.
    kept: [Option<(usize, usize)>; Kept::COUNT],
    /// The first subject, decoded and cleaned.
    subject: Option<String>,
    ids: Ids,
    thread: Option<ThreadIndex>,
    marks: Marks,
    becalm_headers: u32,
}

/// A field that is kept as text.
#[derive(Clone, Copy)]
enum Kept {
    From,
    ReplyTo,
    OriginalFrom,
    ContentType,
    MessageId,
    Own,
}

impl Kept {
    const COUNT: usize = 6;
}

impl Head {
    /// No headers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the message and gives back what a large one took.
    pub fn clear(&mut self) {
        self.text.clear();
        self.text.shrink_to(KEPT_CAPACITY);
        self.kept = Default::default();
        self.subject = None;
        self.ids.clear();
        self.thread = None;
        self.marks = Marks::default();
        self.becalm_headers = 0;
    }

    /// Takes in one header field: its name without the colon, its value with folds as LF (or CRLF), with or
    /// without leading blanks.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let Some(field) = Field::named(bytes::trimmed(name)) else { return };
        let value = bytes::trimmed(value);
        match field {
            Field::From => self.keep(Kept::From, value, MAX_ADDRESSES),
            Field::ReplyTo => self.keep(Kept::ReplyTo, value, MAX_ADDRESSES),
            Field::OriginalFrom => self.keep(Kept::OriginalFrom, value, MAX_ADDRESSES),
            Field::Subject => self.keep_subject(value),
            Field::ContentType => self.keep(Kept::ContentType, value, MAX_CONTENT_TYPE),
            Field::MessageId => {
                if let Some(id) = conversation::message_id(value) {
                    self.keep(Kept::MessageId, &id, conversation::MAX_ID);
                }
            }
            Field::References => self.ids.references(value),
            Field::InReplyTo => self.ids.in_reply_to(value),
            Field::ThreadIndex => self.thread = self.thread.or_else(|| ThreadIndex::parse(value)),
            Field::Mark => self.becalm_headers = self.becalm_headers.saturating_add(1),
            Field::OwnMark => self.keep(Kept::Own, value, MAX_OWN),
            Field::Sign(sign) => self.marks.see(sign, value),
        }
    }

    /// The Message-ID without brackets and blanks. `None`: absent, unusable, or made up by this site's Postfix
    /// (`<yyyymmddhhmmss.QUEUEID@host>`, cleanup(8)), for then a retry would have another.
    pub fn message_id(&self, queue_id: Option<&[u8]>) -> Option<&[u8]> {
        let id = self.value(Kept::MessageId)?;
        let made_up = queue_id.is_some_and(|queue_id| conversation::is_made_up(id, queue_id));
        (!made_up).then_some(id)
    }

    /// The ids this message answers, likeliest first: References from the newest, then In-Reply-To. Without
    /// brackets and blanks, none twice, at most [`MAX_PARENT_IDS`](super::MAX_PARENT_IDS).
    pub fn parent_ids(&self) -> SmallVec<[&[u8]; 16]> {
        self.ids.parents()
    }

    /// The conversation as Outlook names it: the GUID of Thread-Index.
    pub fn thread_index(&self) -> Option<[u8; 16]> {
        self.thread.map(|thread| thread.guid)
    }

    /// The subject, decoded, with its prefixes told apart.
    pub fn subject(&self) -> Subject<'_> {
        Subject::parse(self.clean_subject())
    }

    /// Whether a machine wrote this by itself, and what. `null_sender`: the envelope sender is `<>`.
    pub fn automatic(&self, null_sender: bool) -> Option<Automatic> {
        automatic::judge(&Evidence {
            marks: self.marks,
            null_sender,
            content_type: self.value(Kept::ContentType).unwrap_or_default(),
            from: self.value(Kept::From),
            subject: self.clean_subject(),
            answers: !self.ids.is_empty() || self.thread.is_some_and(|thread| thread.answers),
        })
    }

    /// Whether a list or a mass mailer passed this on: a nested list, a digest, a newsletter; many discussion
    /// lists mark every post so.
    pub fn redistributed(&self) -> bool {
        self.marks.redistributed
    }

    /// Whether the message asks its readers' machines for receipts.
    pub fn wants_receipt(&self) -> bool {
        self.marks.wants_receipt
    }

    /// How many `X-Becalm` fields came in from outside.
    pub fn becalm_headers(&self) -> u32 {
        self.becalm_headers
    }

    /// The first `X-Becalm-Own` field, which mail of becalm's own carries. Whoever forges one writes what he likes.
    pub fn own_mark(&self) -> Option<&str> {
        std::str::from_utf8(self.value(Kept::Own)?).ok()
    }

    pub(super) fn from(&self) -> Option<&[u8]> {
        self.value(Kept::From)
    }

    pub(super) fn reply_to(&self) -> Option<&[u8]> {
        self.value(Kept::ReplyTo)
    }

    pub(super) fn original_from(&self) -> Option<&[u8]> {
        self.value(Kept::OriginalFrom)
    }

    /// Keeps at most `limit` bytes of the first field of its name.
    fn keep(&mut self, field: Kept, value: &[u8], limit: usize) {
        let Some(place @ None) = self.kept.get_mut(field as usize) else { return };
        let start = self.text.len();
        self.text.extend_from_slice(value.get(..limit).unwrap_or(value));
        *place = Some((start, self.text.len()));
    }

    /// Keeps the first subject; it is asked for more than once.
    fn keep_subject(&mut self, value: &[u8]) {
        if self.subject.is_none() {
            let mut clean = subject::clean(value.get(..MAX_SUBJECT).unwrap_or(value));
            clean.truncate(clean.floor_char_boundary(MAX_CLEAN_SUBJECT));
            clean.shrink_to(MAX_CLEAN_SUBJECT);
            self.subject = Some(clean);
        }
    }

    fn clean_subject(&self) -> &str {
        self.subject.as_deref().unwrap_or_default()
    }

    fn value(&self, field: Kept) -> Option<&[u8]> {
        let (start, end) = (*self.kept.get(field as usize)?)?;
        self.text.get(start..end)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.text.capacity() + self.ids.bytes() + self.subject.as_ref().map_or(0, String::capacity)
    }
}

#[cfg(test)]
mod tests;
