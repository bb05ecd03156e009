//! Records as bytes.
//!
//! A record begins with a byte that names its kind; numbers are LEB128, hashes eight bytes little-endian, flags and
//! kinds a byte. What follows the last field known here is passed over: a later version may add fields at the end
//! of a record, and kinds. Anything else it changes under another number in the file's header
//! ([`super::frame::VERSION`]).

use super::record::{
    ByHand, ClawedBack, Ended, Entries, GatheringImage, Judged, Known, ListImage, Opened, Parts, Piece,
    Record, Share, Slot, Verdict, Words,
};
use crate::time::Timestamp;

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end within it.
    #[error("the record is cut short")]
    Short,
    /// A count or a kind within it is none that becalm writes.
    #[error("the record makes no sense")]
    Senseless,
    /// A kind of record that this version does not know.
    #[error("the record is of kind {0}, which this version does not know")]
    UnknownKind(u8),
}

const JUDGED: u8 = 1;
const OPENED: u8 = 2;
const ENDED: u8 = 3;
const KNOWN: u8 = 4;
const BY_HAND: u8 = 5;
const CLAWED_BACK: u8 = 6;
const PIECE_KNOWN: u8 = 16;
const PIECE_ORIGINS: u8 = 17;
const PIECE_CONVERSATION: u8 = 18;
const PIECE_LIST: u8 = 19;
const PIECE_THREADS: u8 = 20;
const PIECE_RETRIES: u8 = 21;
const PIECE_PARTS: u8 = 22;
const PIECE_BY_HAND: u8 = 23;
const PIECE_GATHERING: u8 = 24;

/// A message has at most 51 ids besides its own, and is judged for 256 lists: see `mail` and `engine`.
const MOST_IDS: u64 = 64;
const MOST_SHARES: u64 = 300;
/// A frame has no room for more.
const MOST_ITEMS: u64 = 65_535;
/// Bytes of a queue id, or of a storm's name: theirs are below 40.
const MOST_BYTES: u64 = 255;
/// Cells of a ring.
const MOST_ENTRIES: u64 = 63;

/// Appends a record to `out`.
pub fn encode(record: &Record, out: &mut Vec<u8>) {
    let mut to = Sink(out);
    match record {
        Record::Judged(judged) => put_judged(&mut to, judged),
        Record::Opened(opened) => {
            to.byte(OPENED);
            to.hash(opened.list);
            to.time(opened.since);
            to.number(u64::from(opened.digits));
            to.byte(opened.trigger);
            to.number(opened.members);
            opened.counts.iter().for_each(|count| to.number(u64::from(*count)));
            to.number(opened.copies);
            to.hash(opened.conversation);
        }
        Record::Ended(ended) => {
            to.byte(ENDED);
            to.hash(ended.list);
            [ended.since, ended.at, ended.cooling_until].iter().for_each(|time| to.time(*time));
            ended.figures.iter().for_each(|figure| to.number(*figure));
            to.hash(ended.conversation);
        }
        Record::Known(known) => {
            to.byte(KNOWN);
            to.hash(known.key);
            to.time(known.at);
            to.number(u64::from(known.known_for));
        }
        Record::ByHand(done) => put_by_hand(&mut to, BY_HAND, done),
        Record::ClawedBack(clawed) => {
            to.byte(CLAWED_BACK);
            to.time(clawed.at);
            to.text(&clawed.storm);
            to.text(&clawed.queue_id);
            [clawed.copies].iter().chain(&clawed.sums).for_each(|number| to.number(*number));
        }
        Record::Piece(piece) => put_piece(&mut to, piece),
    }
}

/// Reads a record.
///
/// # Errors
/// The bytes are none that [`encode`] makes. Never for what a later version of the same format adds at the end of a
/// record.
pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    let mut from = Source(bytes);
    Ok(match from.byte()? {
        JUDGED => Record::Judged(take_judged(&mut from)?),
        OPENED => Record::Opened(Opened {
            list: from.hash()?,
            since: from.time()?,
            digits: from.small()?,
            trigger: from.byte()?,
            members: from.number()?,
            counts: [from.small()?, from.small()?, from.small()?],
            copies: from.number()?,
            conversation: from.added_hash()?,
        }),
        ENDED => Record::Ended(Ended {
            list: from.hash()?,
            since: from.time()?,
            at: from.time()?,
            cooling_until: from.time()?,
            figures: from.figures()?,
            conversation: from.added_hash()?,
        }),
        KNOWN => Record::Known(Known { key: from.hash()?, at: from.time()?, known_for: from.small()? }),
        BY_HAND => Record::ByHand(take_by_hand(&mut from)?),
        CLAWED_BACK => Record::ClawedBack(ClawedBack {
            at: from.time()?,
            storm: from.text()?,
            queue_id: from.text()?,
            copies: from.number()?,
            sums: [from.number()?, from.number()?],
        }),
        kind @ PIECE_KNOWN..=PIECE_GATHERING => Record::Piece(Box::new(take_piece(kind, &mut from)?)),
        kind => return Err(DecodeError::UnknownKind(kind)),
    })
}

fn put_judged(to: &mut Sink<'_>, judged: &Judged) {
    to.byte(JUDGED);
    to.time(judged.at);
    [judged.author, judged.message, judged.origin, judged.digest].iter().for_each(|hash| to.hash(*hash));
    to.number(judged.ids.len() as u64);
    judged.ids.iter().for_each(|id| to.hash(*id));
    to.number(judged.shares.len() as u64);
    judged.shares.iter().for_each(|share| put_share(to, share));
    match &judged.parts {
        None => to.byte(0),
        Some(parts) => {
            to.byte(1);
            put_parts(to, parts);
        }
    }
}

fn take_judged(from: &mut Source<'_>) -> Result<Judged, DecodeError> {
    let mut judged = Judged {
        at: from.time()?,
        author: from.hash()?,
        message: from.hash()?,
        origin: from.hash()?,
        digest: from.hash()?,
        ..Judged::default()
    };
    for _ in 0..from.count(MOST_IDS)? {
        judged.ids.push(from.hash()?);
    }
    for _ in 0..from.count(MOST_SHARES)? {
        judged.shares.push(take_share(from)?);
    }
    if from.byte()? != 0 {
        judged.parts = Some(take_parts(from)?);
    }
    Ok(judged)
}

/// Bits of a share's second byte: which of its fields follow.
const HAS_THREAD: u8 = 1;
const HAS_SUBJECT: u8 = 2;
const HAS_CLOSED: u8 = 4;
const HAS_STORM: u8 = 8;
const HAS_VERDICT: u8 = 16;

fn put_share(to: &mut Sink<'_>, share: &Share) {
    let there = [
        (HAS_THREAD, share.thread != 0),
        (HAS_SUBJECT, share.subject != 0),
        (HAS_CLOSED, share.closed_until != Timestamp::default()),
        (HAS_STORM, share.storm != Timestamp::default()),
        (HAS_VERDICT, share.verdict.is_some()),
    ];
    to.byte(share.flags);
    to.byte(there.iter().map(|(bit, there)| if *there { *bit } else { 0 }).sum());
    to.hash(share.list);
    to.number(share.audience);
    to.number(u64::from(share.window));
    to.number(u64::from(share.known_for));
    if share.thread != 0 {
        to.hash(share.thread);
    }
    if share.subject != 0 {
        to.hash(share.subject);
    }
    if share.closed_until != Timestamp::default() {
        to.time(share.closed_until);
    }
    if share.storm != Timestamp::default() {
        to.time(share.storm);
        share.figures.iter().for_each(|figure| to.number(*figure));
    }
    if let Some(verdict) = share.verdict {
        put_verdict(to, verdict);
    }
}

fn take_share(from: &mut Source<'_>) -> Result<Share, DecodeError> {
    let flags = from.byte()?;
    let there = from.byte()?;
    let has = |bit| there & bit != 0;
    let mut share = Share {
        flags,
        list: from.hash()?,
        audience: from.number()?,
        window: from.small()?,
        known_for: from.small()?,
        ..Share::default()
    };
    if has(HAS_THREAD) {
        share.thread = from.hash()?;
    }
    if has(HAS_SUBJECT) {
        share.subject = from.hash()?;
    }
    if has(HAS_CLOSED) {
        share.closed_until = from.time()?;
    }
    if has(HAS_STORM) {
        share.storm = from.time()?;
        let figures = from.figures()?;
        // A storm of no time is none, whatever damage says: it would not be written like this.
        if share.storm != Timestamp::default() {
            share.figures = figures;
        }
    }
    if has(HAS_VERDICT) {
        share.verdict = Some(take_verdict(from)?);
    }
    Ok(share)
}

fn put_verdict(to: &mut Sink<'_>, verdict: Verdict) {
    match verdict {
        Verdict::Pass => to.byte(0),
        Verdict::Suspicion { until } => {
            to.byte(1);
            to.time(until);
        }
        Verdict::Automatic => to.byte(2),
        Verdict::Storm => to.byte(3),
    }
}

fn take_verdict(from: &mut Source<'_>) -> Result<Verdict, DecodeError> {
    Ok(match from.byte()? {
        0 => Verdict::Pass,
        1 => Verdict::Suspicion { until: from.time()? },
        2 => Verdict::Automatic,
        3 => Verdict::Storm,
        _ => return Err(DecodeError::Senseless),
    })
}

fn put_parts(to: &mut Sink<'_>, parts: &Parts) {
    to.number(parts.audience);
    to.hash(parts.list);
    put_verdict(to, parts.worst);
}

fn take_parts(from: &mut Source<'_>) -> Result<Parts, DecodeError> {
    Ok(Parts { audience: from.number()?, list: from.hash()?, worst: take_verdict(from)? })
}

fn put_piece(to: &mut Sink<'_>, piece: &Piece) {
    match piece {
        Piece::Known(words) => put_words(to, PIECE_KNOWN, words),
        Piece::Origins(words) => put_words(to, PIECE_ORIGINS, words),
        Piece::Conversation(slot) => {
            to.byte(PIECE_CONVERSATION);
            to.byte(slot.layout);
            to.number(slot.sets);
            to.number(u64::from(slot.set));
            slot.words.iter().for_each(|word| to.hash(*word));
            put_entries(to, &slot.entries);
        }
        Piece::List(list) => {
            to.byte(PIECE_LIST);
            to.byte(list.layout);
            to.hash(list.list);
            list.times.iter().for_each(|time| to.time(*time));
            list.figures.iter().for_each(|figure| to.number(*figure));
            put_entries(to, &list.newcomers);
            put_entries(to, &list.automatic);
        }
        Piece::Threads(threads) => {
            to.byte(PIECE_THREADS);
            to.number(threads.len() as u64);
            for (key, at, thread) in threads {
                to.hash(*key);
                to.time(*at);
                to.hash(*thread);
            }
        }
        Piece::Retries(retries) => {
            to.byte(PIECE_RETRIES);
            to.number(retries.len() as u64);
            for (key, at, verdict, limited) in retries {
                to.hash(*key);
                to.time(*at);
                to.byte(u8::from(*limited));
                put_verdict(to, *verdict);
            }
        }
        Piece::ByHand(done) => put_by_hand(to, PIECE_BY_HAND, done),
        Piece::Gathering(gathering) => {
            to.byte(PIECE_GATHERING);
            to.hash(gathering.conversation);
            to.number(gathering.members);
            gathering.times.iter().for_each(|time| to.time(*time));
            gathering.figures.iter().for_each(|figure| to.number(*figure));
        }
        Piece::Parts(parts) => {
            to.byte(PIECE_PARTS);
            to.number(parts.len() as u64);
            for (key, at, parts) in parts {
                to.hash(*key);
                to.time(*at);
                put_parts(to, parts);
            }
        }
    }
}

fn take_piece(kind: u8, from: &mut Source<'_>) -> Result<Piece, DecodeError> {
    Ok(match kind {
        PIECE_KNOWN => Piece::Known(take_words(from)?),
        PIECE_ORIGINS => Piece::Origins(take_words(from)?),
        PIECE_CONVERSATION => Piece::Conversation(Slot {
            layout: from.byte()?,
            sets: from.number()?,
            set: from.small()?,
            words: [from.hash()?, from.hash()?, from.hash()?],
            entries: take_entries(from)?,
        }),
        PIECE_LIST => Piece::List(ListImage {
            layout: from.byte()?,
            list: from.hash()?,
            times: [from.time()?, from.time()?, from.time()?, from.time()?, from.time()?],
            figures: from.figures()?,
            newcomers: take_entries(from)?,
            automatic: take_entries(from)?,
        }),
        PIECE_THREADS => Piece::Threads(from.many(|from| Ok((from.hash()?, from.time()?, from.hash()?)))?),
        PIECE_RETRIES => Piece::Retries(from.many(|from| {
            let (key, at, limited) = (from.hash()?, from.time()?, from.byte()? != 0);
            Ok((key, at, take_verdict(from)?, limited))
        })?),
        PIECE_BY_HAND => Piece::ByHand(take_by_hand(from)?),
        PIECE_GATHERING => Piece::Gathering(GatheringImage {
            conversation: from.hash()?,
            members: from.number()?,
            times: [from.time()?, from.time()?, from.time()?, from.time()?],
            figures: from.figures()?,
        }),
        PIECE_PARTS => Piece::Parts(from.many(|from| Ok((from.hash()?, from.time()?, take_parts(from)?)))?),
        kind => return Err(DecodeError::UnknownKind(kind)),
    })
}

fn put_by_hand(to: &mut Sink<'_>, kind: u8, done: &ByHand) {
    to.byte(kind);
    to.hash(done.list);
    to.time(done.at);
    to.time(done.until);
    to.hash(done.message);
    to.hash(done.thread);
}

fn take_by_hand(from: &mut Source<'_>) -> Result<ByHand, DecodeError> {
    Ok(ByHand {
        list: from.hash()?,
        at: from.time()?,
        until: from.time()?,
        message: from.hash()?,
        thread: from.hash()?,
    })
}

fn put_words(to: &mut Sink<'_>, kind: u8, words: &Words) {
    to.byte(kind);
    to.byte(words.layout);
    to.number(words.sets);
    to.number(words.words.len() as u64);
    for (set, word) in &words.words {
        to.number(u64::from(*set));
        to.hash(*word);
    }
}

fn take_words(from: &mut Source<'_>) -> Result<Words, DecodeError> {
    let (layout, sets) = (from.byte()?, from.number()?);
    let words = from.many(|from| Ok((from.small()?, from.hash()?)))?;
    Ok(Words { layout, sets, words })
}

fn put_entries(to: &mut Sink<'_>, entries: &Entries) {
    to.number(entries.len() as u64);
    for (word, cost) in entries {
        to.hash(*word);
        to.hash(*cost);
    }
}

fn take_entries(from: &mut Source<'_>) -> Result<Entries, DecodeError> {
    let mut entries = Entries::new();
    for _ in 0..from.count(MOST_ENTRIES)? {
        entries.push((from.hash()?, from.hash()?));
    }
    Ok(entries)
}

struct Sink<'o>(&'o mut Vec<u8>);

impl Sink<'_> {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn hash(&mut self, hash: u64) {
        self.0.extend_from_slice(&hash.to_le_bytes());
    }

    /// What is too long is cut off: nothing that becalm or Postfix makes is.
    fn text(&mut self, text: &str) {
        let text = &text.as_bytes()[..text.floor_char_boundary(MOST_BYTES as usize)];
        self.number(text.len() as u64);
        self.0.extend_from_slice(text);
    }

    fn time(&mut self, time: Timestamp) {
        self.number(time.as_millis());
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}

struct Source<'b>(&'b [u8]);

impl Source<'_> {
    fn byte(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.0.split_first().ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    fn hash(&mut self) -> Result<u64, DecodeError> {
        let (first, rest) = self.0.split_first_chunk().ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*first))
    }

    fn text(&mut self) -> Result<String, DecodeError> {
        let length = self.count(MOST_BYTES)?;
        let (text, rest) = self.0.split_at_checked(length as usize).ok_or(DecodeError::Short)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).map_err(|_| DecodeError::Senseless)
    }

    /// A field that a later version added at the end of a record; 0: an earlier one wrote it.
    fn added_hash(&mut self) -> Result<u64, DecodeError> {
        if self.0.is_empty() { Ok(0) } else { self.hash() }
    }

    fn time(&mut self) -> Result<Timestamp, DecodeError> {
        self.number().map(Timestamp::from_millis)
    }

    fn number(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::Senseless);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(DecodeError::Senseless)
    }

    fn small<N: TryFrom<u64>>(&mut self) -> Result<N, DecodeError> {
        N::try_from(self.number()?).map_err(|_| DecodeError::Senseless)
    }

    fn count(&mut self, most: u64) -> Result<u64, DecodeError> {
        let count = self.number()?;
        if count <= most { Ok(count) } else { Err(DecodeError::Senseless) }
    }

    fn figures(&mut self) -> Result<[u64; 4], DecodeError> {
        Ok([self.number()?, self.number()?, self.number()?, self.number()?])
    }

    fn many<T>(&mut self, item: impl Fn(&mut Self) -> Result<T, DecodeError>) -> Result<Vec<T>, DecodeError> {
        let count = self.count(MOST_ITEMS)?;
        // Grows with what is really there: a count alone takes no memory.
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
pub(crate) mod tests;
