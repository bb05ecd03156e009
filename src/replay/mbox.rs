//! An mbox taken apart, as it streams by: bytes in, header blocks out. Its memory is one buffer, and
//! where the lines of one header block end, whatever comes.
//!
//! ```text
//! loop { read into room(); filled(n); while let Some(message) = next() { … } }
//! ```
//!
//! A message begins with a line `From SENDER TIME` whose time can be read, after an empty line, at the beginning,
//! or where the headers of another are expected to go on: that one was cut short. Where the time cannot be read, or
//! there is none, it begins one after an empty line or at the beginning, if a header field follows: prose has none.
//! Bodies are passed over.
//!
//! `Content-Length` (mboxcl, mboxcl2) says where a body ends whose `From ` lines nobody quoted. It is wrong as often
//! as mail was changed on its way, so it is believed where a message begins there or the mbox ends; and of a line
//! that would begin a message before that place only as far as the buffer reaches.

use memchr::memmem::Finder;

use super::date;
use crate::time::Timestamp;

/// The longest header block that is kept of a message: Postfix's `header_size_limit`. What is beyond it Postfix
/// takes for the body, and so does this.
pub const MAX_HEAD: usize = 102_400;

/// The longest `From ` line: longer ones are text. An address has at most 320 bytes and a time fewer than 40.
const MAX_FROM_LINE: usize = 1024;

/// The longest name of a field after a `From ` line without a time: known ones have at most 40 bytes.
const MAX_NAME: usize = 128;

/// So far a `From ` line and what is read to understand it reach.
const MAX_BEGINNING: usize = MAX_FROM_LINE + MAX_NAME;

/// Bytes in the buffer: a message's headers and as much to read at once.
const BUFFER: usize = 256 * 1024;

/// Room for ends of lines that is kept from message to message.
pub(super) const KEPT_LINES: usize = 256;

/// Bytes before the place where the search goes on, so that an empty line before it is seen.
const BEFORE: usize = 2;

/// Bytes of ends of lines between a body's end by its length and the next message: two, as `\r\n`.
const GAP: usize = 4;

/// How a message begins.
const FROM: &[u8] = b"From ";

/// A message of an mbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The envelope sender of the `From ` line.
    pub sender: &'a [u8],
    /// The arrival time of the `From ` line; none where that cannot be read.
    pub at: Option<Timestamp>,
    /// The header block without the empty line after it; at most [`MAX_HEAD`] bytes.
    pub head: &'a [u8],
    /// Where its lines end, each with its end of line, but for the last perhaps.
    pub lines: &'a [u32],
    /// Was it longer?
    pub cut: bool,
}

/// Takes an mbox apart.
pub struct Splitter {
    buffer: Vec<u8>,
    /// What is still to be looked at.
    begin: usize,
    end: usize,
    /// Where in `begin..end` the search goes on; what lies before has been searched.
    searched: usize,
    place: Place,
    finished: bool,
    /// Of the message that begins at `begin`: where in its `From ` line the sender is, and the time.
    from: Option<FromLine>,
    /// Of the header that is being read: where its lines end.
    lines: Vec<u32>,
    /// ... and its `Content-Length`.
    body_length: Option<usize>,
    /// By it, the body ends here, in terms of `buffer`; that may be far beyond its end.
    body_end: Option<usize>,
    /// Has a message been found?
    found: bool,
    stray: u64,
    finder: Finder<'static>,
}

/// What a `From ` line says.
#[derive(Clone, Copy)]
struct FromLine {
    sender: (usize, usize),
    at: Option<Timestamp>,
}

impl FromLine {
    fn read(line: &[u8]) -> Option<Self> {
        let (sender, at) = date::from_line(line)?;
        let blanks = line.get(FROM.len()..)?.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        Some(Self { sender: (FROM.len() + blanks, sender.len()), at: Some(at) })
    }

    /// Of a line without a time that could be read: its first word is the sender.
    fn without_time(line: &[u8]) -> Self {
        let rest = line.get(FROM.len()..).unwrap_or_default();
        let blanks = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let word = rest.iter().skip(blanks).take_while(|byte| !byte.is_ascii_whitespace()).count();
        Self { sender: (FROM.len() + blanks, word), at: None }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before everything.
    Beginning,
    /// In a body, or in what is no mbox.
    Body,
    /// At the begin of a `From ` line that has been read.
    Message,
}

impl Default for Splitter {
    fn default() -> Self {
        Self::new()
    }
}

impl Splitter {
    /// Takes its memory.
    pub fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER],
            begin: 0,
            end: 0,
            searched: 0,
            place: Place::Beginning,
            finished: false,
            from: None,
            lines: Vec::new(),
            body_length: None,
            body_end: None,
            found: false,
            stray: 0,
            finder: Finder::new(b"\nFrom "),
        }
    }

    /// Room for more bytes, never empty where [`Self::next`] has just answered `None`.
    pub fn room(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.begin..self.end, 0);
        self.end -= self.begin;
        self.searched = self.searched.saturating_sub(self.begin);
        self.body_end = self.body_end.and_then(|end| end.checked_sub(self.begin));
        self.begin = 0;
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// So many bytes were put into the room; 0: that was all.
    pub fn filled(&mut self, bytes: usize) {
        self.finished = bytes == 0;
        self.end = self.end.saturating_add(bytes).min(self.buffer.len());
    }

    /// Bytes before the first message, that belong to none; known to a few bytes where there is no message.
    pub fn stray(&self) -> u64 {
        self.stray
    }

    /// The next message that has come whole. `None`: more bytes are needed, or, after the last, that was all.
    #[expect(clippy::should_implement_trait, reason = "a message borrows the buffer")]
    pub fn next(&mut self) -> Option<Message<'_>> {
        if self.place == Place::Beginning {
            if self.pending().len() < FROM.len() && !self.finished {
                return None;
            }
            self.place = Place::Body;
            if self.pending().starts_with(FROM) {
                match self.line_at(self.begin) {
                    Line::Message(from) => {
                        self.from = Some(from);
                        self.place = Place::Message;
                    }
                    Line::Text => {}
                    Line::Unknown => {
                        self.place = Place::Beginning;
                        return None;
                    }
                }
            }
            self.searched = self.begin;
        }
        if self.place == Place::Body && !self.find_message() {
            return None;
        }
        self.take_message()
    }

    fn pending(&self) -> &[u8] {
        self.buffer.get(self.begin..self.end).unwrap_or_default()
    }

    /// Goes on to the next `From ` line, and drops what lies before it.
    fn find_message(&mut self) -> bool {
        loop {
            let text = self.buffer.get(self.searched..self.end).unwrap_or_default();
            let Some(found) = self.finder.find(text) else {
                // A part of it may be at the very end.
                let keep = FROM.len() + BEFORE;
                self.searched = self.end.saturating_sub(FROM.len()).max(self.searched);
                self.drop_until(self.end.saturating_sub(keep).max(self.begin));
                return false;
            };
            let at = self.searched + found + 1;
            let before = self.buffer.get(self.begin..at).unwrap_or_default();
            let after_empty =
                before.ends_with(b"\n\n") || before.ends_with(b"\n\r\n") || matches!(before, b"\n" | b"\r\n");
            let line = if after_empty || self.body_ends_before(at) { self.line_at(at) } else { Line::Text };
            let end = if matches!(line, Line::Message(_)) { self.true_end(at) } else { BodyEnd::Wrong };
            match (line, end) {
                (Line::Text, _) => self.searched = at,
                (Line::Message(_), BodyEnd::At(end)) => self.searched = end,
                (Line::Message(from), BodyEnd::Wrong) => {
                    self.drop_until(at);
                    self.from = Some(from);
                    self.body_end = None;
                    self.place = Place::Message;
                    return true;
                }
                (Line::Unknown, _) | (_, BodyEnd::Unknown) => {
                    self.searched = at - 1;
                    self.drop_until((at - 1).saturating_sub(BEFORE).max(self.begin));
                    return false;
                }
            }
        }
    }

    /// Whether by its length the body ends right before `at`, but for ends of lines.
    fn body_ends_before(&self, at: usize) -> bool {
        let after = self.body_end.and_then(|end| self.buffer.get(end..at));
        after.is_some_and(|after| after.len() <= GAP && is_blank(after))
    }

    /// Whether the message that seems to begin at `at` is but text of this one, as its length says.
    fn true_end(&self, at: usize) -> BodyEnd {
        let Some(end) = self.body_end.filter(|end| *end > at) else { return BodyEnd::Wrong };
        let begin = (at - 1).saturating_sub(BEFORE).max(self.begin);
        if end.saturating_add(GAP + MAX_BEGINNING) > begin + self.buffer.len() {
            return BodyEnd::Wrong;
        }
        let after = self.buffer.get(..self.end).and_then(|text| text.get(end..));
        let Some(after) = after else { return if self.finished { BodyEnd::Wrong } else { BodyEnd::Unknown } };
        let gap = after.iter().take(GAP).take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        match after.get(gap..).unwrap_or_default() {
            [] if self.finished => BodyEnd::At(self.end),
            rest if rest.len() < FROM.len() && !self.finished => BodyEnd::Unknown,
            rest if rest.starts_with(FROM) && self.buffer.get(end + gap - 1) == Some(&b'\n') => {
                match self.line_at(end + gap) {
                    // The search looks for the end of line before it.
                    Line::Message(_) => BodyEnd::At((end + gap - 1).max(at)),
                    Line::Text => BodyEnd::Wrong,
                    Line::Unknown => BodyEnd::Unknown,
                }
            }
            _ => BodyEnd::Wrong,
        }
    }

    fn drop_until(&mut self, at: usize) {
        if !self.found {
            self.stray = self.stray.saturating_add(at.saturating_sub(self.begin) as u64);
        }
        self.begin = at;
    }

    /// What the line is that begins here.
    fn line_at(&self, at: usize) -> Line {
        let text = self.buffer.get(at..self.end).unwrap_or_default();
        let bounded = text.get(..MAX_FROM_LINE).unwrap_or(text);
        let end = match memchr::memchr(b'\n', bounded) {
            Some(end) => end,
            None if bounded.len() < text.len() => return Line::Text,
            None if self.finished => text.len(),
            None => return Line::Unknown,
        };
        let line = text.get(..end).unwrap_or_default();
        if let Some(from) = FromLine::read(line) {
            return Line::Message(from);
        }
        match begins_field(text.get(end + 1..).unwrap_or_default()) {
            Some(true) => Line::Message(FromLine::without_time(line)),
            None if !self.finished => Line::Unknown,
            _ => Line::Text,
        }
    }

    /// Where a header block ends that begins `first` bytes after `begin`. `Err`: not in its first [`MAX_HEAD`] bytes, or not
    /// in those that have come; so far the search has come, at the begin of a line. Its lines and a `Content-Length` on
    /// the way are noted.
    fn head_end(&mut self, first: usize) -> Result<HeadEnd, usize> {
        let head = self.buffer.get(self.begin + first..self.end).unwrap_or_default();
        let head = head.get(..MAX_HEAD).unwrap_or(head);
        let mut line = self.searched.saturating_sub(self.begin + first);
        // Unless the search goes on.
        if line == 0 {
            self.lines.clear();
            self.lines.shrink_to(KEPT_LINES);
        }
        loop {
            let rest = head.get(line..).unwrap_or_default();
            let Some(end) = memchr::memchr(b'\n', rest) else {
                let last = self.finished && is_from_line(rest);
                return if last { Ok(HeadEnd::Message(line)) } else { Err(line) };
            };
            match rest.get(..end).unwrap_or_default() {
                b"" | b"\r" => return Ok(HeadEnd::Empty(line)),
                text if is_from_line(text) => return Ok(HeadEnd::Message(line)),
                text => {
                    self.body_length = self.body_length.or_else(|| content_length(text));
                    line += end + 1;
                    self.lines.push(line as u32);
                }
            }
        }
    }

    /// The message that begins at `begin`, if its headers are all there.
    fn take_message(&mut self) -> Option<Message<'_>> {
        let FromLine { sender: (offset, length_of_sender), at } = self.from?;
        let text = self.buffer.get(self.begin..self.end)?;
        let first = memchr::memchr(b'\n', text).map_or(text.len(), |end| end + 1);
        let there = text.len() - first;
        // Where it ends, whether it goes on there with a body, and whether there was more of it.
        let (length, place, cut) = match self.head_end(first) {
            Ok(HeadEnd::Empty(at)) => (at, Place::Body, false),
            Ok(HeadEnd::Message(at)) => (at, Place::Message, false),
            Err(_) if MAX_HEAD < there => (MAX_HEAD, Place::Body, true),
            Err(_) if self.finished => (there, Place::Body, false),
            Err(searched) => {
                self.searched = self.begin + first + searched;
                return None;
            }
        };
        if self.lines.last().map_or(0, |end| *end as usize) < length {
            self.lines.push(length as u32);
        }
        let from = self.begin..self.begin + first;
        let whole = from.end..from.end + length;
        // Of a header that was cut, nobody knows where the body begins.
        let body = self
            .buffer
            .get(whole.end..self.end)
            .and_then(empty_line)
            .filter(|_| place == Place::Body && !cut);
        self.body_end = body
            .zip(self.body_length.take())
            .map(|(empty, length)| (whole.end + empty).saturating_add(length));
        // The end of the last line may begin the empty line that the next message needs before it.
        self.begin =
            if place == Place::Body { whole.end.saturating_sub(1).max(from.start) } else { whole.end };
        if self.finished && whole.end == self.end {
            self.begin = self.end;
        }
        self.searched = self.begin;
        self.place = place;
        self.found = true;
        self.from = match place {
            Place::Message => {
                let line = self.buffer.get(whole.end..self.end)?;
                FromLine::read(line.get(..memchr::memchr(b'\n', line).unwrap_or(line.len()))?)
            }
            _ => None,
        };
        let sender = self.buffer.get(from)?.get(offset..)?.get(..length_of_sender)?;
        Some(Message { sender, at, head: self.buffer.get(whole)?, lines: &self.lines, cut })
    }
}

/// What there is to a body's `Content-Length`.
enum BodyEnd {
    /// There, or just before the end of line there, the body ends.
    At(usize),
    /// It is wrong, not there, or ends too far away to tell.
    Wrong,
    /// More must have come.
    Unknown,
}

/// What a line that begins with `From ` is.
enum Line {
    Message(FromLine),
    Text,
    /// Its end has not come yet.
    Unknown,
}

enum HeadEnd {
    /// An empty line begins here.
    Empty(usize),
    /// Another message begins here.
    Message(usize),
}

/// The value of a `Content-Length` field, if the line is one.
fn content_length(line: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    // Most lines are told apart by their first letter.
    if !matches!(line, [b'C' | b'c', ..]) || !line.get(..NAME.len())?.eq_ignore_ascii_case(NAME) {
        return None;
    }
    std::str::from_utf8(line.get(NAME.len()..)?.trim_ascii()).ok()?.parse().ok()
}

/// The length of the empty line at the begin.
fn empty_line(text: &[u8]) -> Option<usize> {
    match text {
        [b'\n', ..] => Some(1),
        [b'\r', b'\n', ..] => Some(2),
        _ => None,
    }
}

fn is_blank(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
}

/// Does a header field begin here, and no URL? `None`: what has come does not tell.
fn begins_field(text: &[u8]) -> Option<bool> {
    let name =
        text.iter().take(MAX_NAME).take_while(|byte| byte.is_ascii_graphic() && **byte != b':').count();
    match text.get(name..).unwrap_or_default() {
        [] | [b':'] | [b':', b'/'] => None,
        [b':', b'/', b'/', ..] => Some(false),
        [first, ..] => Some(name > 0 && *first == b':'),
    }
}

/// Does this line, among the headers of another, begin a message?
fn is_from_line(line: &[u8]) -> bool {
    line.starts_with(FROM) && date::from_line(line).is_some()
}

#[cfg(test)]
mod tests;
