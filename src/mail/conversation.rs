//! Which conversation a message belongs to: ids out of Message-ID, References and In-Reply-To however broken
//! they are, and Outlook's Thread-Index.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use smallvec::SmallVec;

use super::bytes;

/// Most ids that one message names as its parents: as many as the longest thread that a client writes out
/// whole (45 seen), the newest and the oldest kept where there are more.
pub const MAX_PARENT_IDS: usize = 50;

/// Longest id: the longest line that RFC 5322 allows.
pub(super) const MAX_ID: usize = 998;

/// Shortest id. What is shorter (`<>`, `<@>`, `<0>`) is no id but a placeholder, and would join strangers.
const MIN_ID: usize = 5;

/// Bytes of ids kept of one message. 50 ordinary ids are 4 KiB; a hostile header of long ones keeps its newest.
const MAX_IDS_BYTES: usize = 32 * 1024;

/// Room that is kept from message to message.
const KEPT_CAPACITY: usize = 2 * 1024;

/// Ids taken from In-Reply-To. RFC 5322 expects one; free text may name a few.
const MAX_IN_REPLY_TO: usize = 4;

/// Tokens looked at in one field, so that a header of thousands of bad ids costs no more than a good one.
const MAX_TOKENS: usize = 500;

/// The ids that a message answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Ids {
    text: Vec<u8>,
    /// Newest first, the oldest last.
    references: SmallVec<[(usize, usize); 12]>,
    in_reply_to: SmallVec<[(usize, usize); MAX_IN_REPLY_TO]>,
}

impl Ids {
    pub fn clear(&mut self) {
        self.text.clear();
        self.text.shrink_to(KEPT_CAPACITY);
        self.references.clear();
        self.references.shrink_to_fit();
        self.in_reply_to.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.references.is_empty() && self.in_reply_to.is_empty()
    }

    /// Takes in the value of one References field: its newest ids, and its oldest.
    pub fn references(&mut self, value: &[u8]) {
        let oldest = brackets(value).next().and_then(normal);
        let mut found = SmallVec::<[Id<'_>; 12]>::new();
        if oldest.is_some() {
            for id in brackets_back(value).take(MAX_TOKENS).filter_map(normal) {
                if found.len() + 1 >= MAX_PARENT_IDS {
                    break;
                }
                if !found.contains(&id) {
                    found.push(id);
                }
            }
            found.extend(oldest);
        } else {
            found.extend(bare(value).into_iter().rev());
        }
        for id in found {
            if self.references.len() >= MAX_PARENT_IDS || self.known(&self.references, &id) {
                continue;
            }
            if let Some(place) = self.store(&id) {
                self.references.push(place);
            }
        }
    }

    /// Takes in the value of one In-Reply-To field.
    pub fn in_reply_to(&mut self, value: &[u8]) {
        let tokens: SmallVec<[&[u8]; 4]> = brackets(value).take(MAX_TOKENS).collect();
        // `Message from Jo <jo@example.org> of Monday <id@example.org>`: the first is no id.
        let prose = tokens.len() > 1 && has_prose(value);
        let mut found: SmallVec<[Id<'_>; 4]> = tokens
            .into_iter()
            .filter(|token| !prose || !looks_like_mailbox(token))
            .filter_map(normal)
            .collect();
        if found.is_empty() {
            found = bare(value);
        }
        for id in found {
            if self.in_reply_to.len() >= MAX_IN_REPLY_TO || self.known(&self.in_reply_to, &id) {
                continue;
            }
            if let Some(place) = self.store(&id) {
                self.in_reply_to.push(place);
            }
        }
    }

    /// References from the newest, then In-Reply-To; none twice.
    pub fn parents(&self) -> SmallVec<[&[u8]; 16]> {
        let mut parents: SmallVec<[&[u8]; 16]> =
            self.references.iter().filter_map(|&place| self.get(place)).collect();
        let answered: SmallVec<[&[u8]; MAX_IN_REPLY_TO]> = self
            .in_reply_to
            .iter()
            .filter_map(|&place| self.get(place))
            .filter(|id| !parents.contains(id))
            .collect();
        // Room for them is made before the oldest, which tells the conversation's first message.
        let excess = (parents.len() + answered.len()).saturating_sub(MAX_PARENT_IDS);
        let last = parents.len().saturating_sub(1);
        parents.drain(last.saturating_sub(excess)..last);
        parents.extend(answered);
        parents
    }

    fn get(&self, (start, end): (usize, usize)) -> Option<&[u8]> {
        self.text.get(start..end)
    }

    fn known(&self, places: &[(usize, usize)], id: &[u8]) -> bool {
        places.iter().any(|&place| self.get(place) == Some(id))
    }

    fn store(&mut self, id: &[u8]) -> Option<(usize, usize)> {
        let start = self.text.len();
        if start + id.len() > MAX_IDS_BYTES {
            return None;
        }
        self.text.extend_from_slice(id);
        Some((start, self.text.len()))
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.text.capacity() + self.references.capacity() * size_of::<(usize, usize)>()
    }
}

type Id<'a> = Cow<'a, [u8]>;

/// The id in the value of a Message-ID field, without brackets and blanks.
pub(super) fn message_id(value: &[u8]) -> Option<Id<'_>> {
    brackets(value).next().map_or_else(|| normal(value), normal)
}

/// Whether Postfix made `id` up for the message it calls `queue_id` (cleanup(8):
/// `yyyymmddhhmmss.QUEUEID@myhostname`).
pub(super) fn is_made_up(id: &[u8], queue_id: &[u8]) -> bool {
    let Some((time, rest)) = id.split_at_checked(14) else { return false };
    time.iter().all(u8::is_ascii_digit)
        && rest
            .strip_prefix(b".")
            .and_then(|rest| rest.strip_prefix(queue_id))
            .is_some_and(|rest| rest.starts_with(b"@"))
}

/// What Outlook's Thread-Index says (MS-OXOMSG 2.2.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ThreadIndex {
    /// The same in the whole conversation.
    pub guid: [u8; 16],
    /// Whether blocks of replies follow the header block.
    pub answers: bool,
}

impl ThreadIndex {
    /// Reads base64 of 6 bytes of time, 16 of GUID, and 5 for each reply.
    pub fn parse(value: &[u8]) -> Option<Self> {
        /// Decodes to 24 bytes: the header block of 22 and a little of what follows.
        const DIGITS: usize = 32;
        let mut digits: SmallVec<[u8; DIGITS]> = value
            .iter()
            .copied()
            .filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=')
            .take(DIGITS)
            .collect();
        // A lone digit at the end carries no byte.
        if digits.len() % 4 == 1 {
            digits.pop();
        }
        let mut block = [0; 24];
        let length = LENIENT.decode_slice(&digits, &mut block).ok()?;
        let guid: [u8; 16] = *block.get(..length)?.get(6..)?.first_chunk()?;
        (guid != [0; 16]).then_some(Self { guid, answers: length > 22 })
    }
}

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// What stands in `<…>`, first to last. `<a <b>` holds `b`.
fn brackets(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = value;
    std::iter::from_fn(move || {
        loop {
            let close = memchr::memchr(b'>', rest)?;
            let (inside, after) = rest.split_at(close);
            rest = after.get(1..)?;
            if let Some(open) = memchr::memrchr(b'<', inside) {
                return inside.get(open + 1..);
            }
        }
    })
}

/// The same, last to first.
fn brackets_back(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = value;
    std::iter::from_fn(move || {
        loop {
            let open = memchr::memrchr(b'<', rest)?;
            let (before, token) = rest.split_at(open);
            rest = before;
            if let Some(close) = memchr::memchr(b'>', token) {
                return token.get(1..close);
            }
        }
    })
}

/// An id without brackets, blanks and control characters; `None` if it is none.
fn normal(token: &[u8]) -> Option<Id<'_>> {
    // Blanks are the space and control characters.
    let left_out = |byte: u8| (byte <= b' ') | (byte == 0x7f) | (byte == b'<') | (byte == b'>');
    // Nearly all ids are kept whole.
    let id = if token.len() <= MAX_ID && !bytes::any(token, left_out) {
        Cow::Borrowed(token)
    } else {
        Cow::Owned(token.iter().copied().filter(|byte| !left_out(*byte)).take(MAX_ID + 1).collect())
    };
    (MIN_ID..=MAX_ID).contains(&id.len()).then_some(id)
}

/// Ids without brackets. Prose is none: either every word has an `@`, or one word alone has a digit.
fn bare(value: &[u8]) -> SmallVec<[Id<'_>; 4]> {
    let words = || {
        value
            .split(|byte| byte.is_ascii_whitespace() || matches!(byte, b',' | b';' | b'"'))
            .filter(|word| !word.is_empty())
            .take(MAX_PARENT_IDS)
    };
    let alone = words().nth(1).is_none();
    let id = |word: &[u8]| word.contains(&b'@') || (alone && word.iter().any(u8::is_ascii_digit));
    if words().all(id) { words().filter_map(normal).collect() } else { SmallVec::new() }
}

/// Whether words stand outside the brackets.
fn has_prose(value: &[u8]) -> bool {
    let mut inside = false;
    value.iter().any(|byte| {
        match byte {
            b'<' => inside = true,
            b'>' => inside = false,
            _ => {}
        }
        !inside && byte.is_ascii_alphabetic()
    })
}

/// Generated ids have digits in front of the `@`, and people's addresses rarely.
fn looks_like_mailbox(token: &[u8]) -> bool {
    let at = memchr::memchr(b'@', token).unwrap_or(0);
    !token.iter().take(at).any(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests;
