//! The words of a slot: what its bits mean, and who may read them.

use std::time::Duration;

use super::{AuthorTag, KeyTag, ahead, units};
use crate::time::Timestamp;

// An entry: time (30 bits, seconds), tag of the key (13), newcomer (1), author (20).
const NEWCOMER_SHIFT: u32 = 20;
const TAG_SHIFT: u32 = 21;
const TIME_SHIFT: u32 = 34;
const TIME_BITS: u32 = 30;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
/// Author and newcomer.
const WHO_MASK: u64 = (1 << TAG_SHIFT) - 1;
const TAG_MASK: u64 = ((1 << 13) - 1) << TAG_SHIFT;

/// Who looks, when, and how far back.
#[derive(Clone, Copy)]
pub(super) struct View {
    /// The time and the tag in their places in a word, and ones below: the latest word there can be now.
    latest: u64,
    /// The window in the place of the time. Positive.
    window: i64,
}

impl View {
    #[inline]
    pub(super) fn new(tag: KeyTag, now: Timestamp, window: Duration) -> Self {
        let window = i64::from(units(window, 1000, (1 << (TIME_BITS - 1)) - 1));
        Self {
            latest: now.as_secs() << TIME_SHIFT | u64::from(tag.0) << TAG_SHIFT | WHO_MASK,
            window: window << TIME_SHIFT,
        }
    }

    /// The same view of another key's cells.
    #[inline]
    pub(super) fn of(self, tag: KeyTag) -> Self {
        Self { latest: self.latest & !TAG_MASK | u64::from(tag.0) << TAG_SHIFT, ..self }
    }

    /// The entry of `author`, made now.
    pub(super) fn entry(self, author: AuthorTag, newcomer: bool) -> u64 {
        self.latest & !WHO_MASK | u64::from(newcomer) << NEWCOMER_SHIFT | u64::from(author.get())
    }

    /// How many seconds ago `entry`, which has this view's tag, was written; below zero if that lies ahead. The
    /// time is at the top of the word, so that it turns like the hand of a clock (every 34 years) and never runs
    /// out.
    #[inline]
    pub(super) fn age(self, entry: u64) -> i64 {
        self.latest.wrapping_sub(entry).cast_signed() >> TIME_SHIFT
    }

    /// Whether `entry` carries this view's tag and is younger than its window.
    #[inline]
    pub(super) fn is_alive(self, entry: u64) -> bool {
        let age = self.latest.wrapping_sub(entry);
        // Nothing is borrowed from the tag: the bits below it are all ones in `latest`.
        (age & TAG_MASK == 0) & (age.cast_signed() < self.window)
    }

    /// Who looks for the entries of one author.
    #[inline]
    pub(super) fn seeking(self, author: AuthorTag) -> Seeker {
        // Half a turn of the clock more than the window: an entry from ahead of now is alive, too.
        let span = (self.window >> TIME_SHIFT) as u64 + (1 << (TIME_BITS - 1));
        let oldest = self.latest.wrapping_sub((self.window - (1 << TIME_SHIFT)).cast_unsigned());
        Seeker { oldest: oldest & !WHO_MASK | 1 << NEWCOMER_SHIFT | u64::from(author.get()), span }
    }

    /// The second at which an entry that is `age` seconds old now will be gone, on the face of the 34 years.
    #[inline]
    pub(super) fn end(self, age: i64) -> u32 {
        let now = (self.latest >> TIME_SHIFT) as u32;
        let left = (self.window >> TIME_SHIFT).wrapping_sub(age) as u32;
        now.wrapping_add(left) & TIME_MASK as u32
    }

    /// How old an entry is now that will be gone at that second: the reverse of [`View::end`].
    #[inline]
    pub(super) fn age_of_end(self, end: u32) -> i64 {
        (self.window >> TIME_SHIFT) - i64::from(ahead::<TIME_BITS>(end, (self.latest >> TIME_SHIFT) as u32))
    }

    /// Whether `entry` carries this view's tag and was written so many seconds ago.
    #[inline]
    pub(super) fn is_as_old(self, entry: u64, age: i64) -> bool {
        let then = self.latest.wrapping_sub((age << TIME_SHIFT).cast_unsigned());
        (entry ^ then) >> TAG_SHIFT == 0
    }

    /// The earlier of two such seconds.
    pub(super) fn earlier(a: u32, b: u32) -> u32 {
        if ahead::<TIME_BITS>(a, b) < 0 { a } else { b }
    }

    #[inline]
    fn is_before(self, end: u32) -> bool {
        ahead::<TIME_BITS>(end, (self.latest >> TIME_SHIFT) as u32) > 0
    }

    /// Who looks how far back at which state of the cells, in 24 bits.
    #[inline]
    fn stamp(self, version: u64) -> u64 {
        let who = (self.latest & TAG_MASK).cast_signed() ^ self.window;
        version.wrapping_add(who.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) & STAMP_MASK
    }
}

/// Who looks for one author: a ring has many cells, and each look at one of them is a handful of instructions.
#[derive(Clone, Copy)]
pub(super) struct Seeker {
    /// His oldest entry that is alive.
    oldest: u64,
    /// How many seconds later the latest can be that there may be, and one more.
    span: u64,
}

impl Seeker {
    /// Finds nothing.
    pub(super) const NOBODY: Self = Self { oldest: 0, span: 0 };

    /// Whether `entry` is alive and by the author: 1 or 0.
    #[inline]
    pub(super) fn finds(self, entry: u64) -> u64 {
        // 0 below the time where tag and author are the same, and nothing is borrowed from it then. Turned, so that
        // the time is below them: what differs in them is larger than any time.
        let since = (entry | 1 << NEWCOMER_SHIFT).wrapping_sub(self.oldest).rotate_left(TIME_BITS);
        u64::from(since < self.span)
    }
}

/// Whether the author of `entry` was a newcomer: 1 or 0.
#[inline]
pub(super) fn newcomer(entry: u64) -> u64 {
    entry >> NEWCOMER_SHIFT & 1
}

/// The cost of an entry: a check of the entry (32 bits) and the cost. A reader that meets a cell and a cost of
/// different entries leaves the cost out.
pub(super) struct Cost;

impl Cost {
    pub(super) fn pack(cost: u32, entry: u64) -> u64 {
        check(entry) << 32 | u64::from(cost)
    }

    /// The cost, or 0 if it is not that of `entry`.
    #[inline]
    pub(super) fn of(entry: u64, word: u64) -> u64 {
        if word >> 32 == check(entry) { word & u64::from(u32::MAX) } else { 0 }
    }
}

/// 32 bits of an entry that change with its time and with its author: an entry and the next one in its cell have
/// the same with a probability of about 1 / 2²⁰.
#[inline]
fn check(entry: u64) -> u64 {
    (entry ^ entry >> 32) & u64::from(u32::MAX)
}

const STAMP_MASK: u64 = (1 << 24) - 1;

/// What a look at all the cells found, kept for the next: 22 bits of a stamp, the second at which the first of
/// the entries will be gone (30), entries (6), newcomers (6). It holds as long as the stamp does and nothing is
/// gone. The stamp takes in the number of entries ever made, so that each new one invalidates it; it comes round
/// after four million, and a writer would have to sleep through exactly that many between a look and its note.
pub(super) struct Sum;

impl Sum {
    pub(super) fn pack(view: View, version: u64, end: u32, entries: u64, newcomers: u64) -> u64 {
        view.stamp(version) << 42 | u64::from(end) << 12 | (entries & 63) << 6 | newcomers & 63
    }

    /// End, entries and newcomers, if this sum holds for `view`.
    #[inline]
    pub(super) fn unpack(view: View, version: u64, word: u64) -> Option<(u32, u64, u64)> {
        let end = (word >> 12 & TIME_MASK) as u32;
        let holds = (word >> 42 ^ view.stamp(version)) & (STAMP_MASK >> 2) == 0 && view.is_before(end);
        holds.then_some((end, word >> 6 & 63, word & 63))
    }
}

/// The sum of the costs, kept in the same way: stamp (24 bits), copies (40: more than 63 costs of 32 bits).
pub(super) struct Copies;

impl Copies {
    pub(super) fn pack(view: View, version: u64, copies: u64) -> u64 {
        view.stamp(version) << 40 | copies & ((1 << 40) - 1)
    }

    #[inline]
    pub(super) fn unpack(view: View, version: u64, word: u64) -> Option<u64> {
        (word >> 40 == view.stamp(version)).then_some(word & ((1 << 40) - 1))
    }
}
