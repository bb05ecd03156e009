//! The slots of a table as data, to be kept and put back.

use super::{Key, Rings, Table, granule, used};
use crate::sync::Ordering;
use crate::time::Timestamp;
use crate::window::{Entries, KeyTag};

/// A slot as data. What the bits of its words mean is the window's own affair: see
/// [`LAYOUT`](crate::window::LAYOUT).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotImage {
    /// The number of its set.
    pub set: u32,
    /// Its word there.
    pub word: u64,
    /// Until when it is closed.
    pub closed: u64,
    /// Who began the conversation.
    pub starter: u64,
    /// Its entries.
    pub entries: Entries,
}

/// Slots idle for longer are not kept: no conversation is remembered beyond a week.
const KEPT_GRANULES: u64 = 8 * 86_400 / super::GRANULE_SECS;

/// Nothing is closed for longer than 31 days.
const LONGEST_GRANULES: u64 = 31 * 86_400 / super::GRANULE_SECS;

impl<const K: usize> Table<K> {
    /// How many sets there are: what [`Table::put_back`] must be told of where a slot stood.
    pub fn sets(&self) -> usize {
        self.sets.count()
    }

    /// Every slot that was used within eight days, or is closed.
    pub fn slots(&self, now: Timestamp) -> impl Iterator<Item = SlotImage> {
        let words = self.sets.words();
        let words = words.filter(move |(_, _, word)| used(*word) + KEPT_GRANULES > granule(now));
        words.map(move |(set, way, word)| {
            let place = self.place_of(set, way);
            let tag = KeyTag::from_bits(Key::bits_of(word));
            let entries = match &self.rings {
                Rings::Plain(cells) => cells[place].entries(tag, now, None),
                Rings::WithCosts(rings) => {
                    let (cells, costs) = rings[place].parts();
                    cells.entries(tag, now, costs)
                }
            };
            let marks = &self.marks[place];
            SlotImage {
                set: set as u32,
                word,
                // Acquire: as in `Marks`. Each word says whose it is.
                closed: marks.closed.load(Ordering::Acquire),
                starter: marks.starter.load(Ordering::Acquire),
                entries,
            }
        })
    }

    /// Puts a slot back that stood in a table of `sets` sets, unless it is closed for longer than anything is: then
    /// the clock was set back. Nobody else may use the table meanwhile.
    pub fn put_back(&self, sets: usize, slot: &SlotImage, now: Timestamp) {
        let bits = Key::bits_of(slot.word);
        if bits == 0 || used(slot.word) > granule(now) + LONGEST_GRANULES {
            return;
        }
        let tag = KeyTag::from_bits(bits);
        let like = |word: u64| Key::bits_of(word) == bits;
        for (number, set) in self.sets.heirs(slot.set as usize, sets) {
            let Some(way) = set.put_back(slot.word, like, |a, b| used(a) < used(b), u64::max) else {
                continue;
            };
            let place = self.place_of(number, way);
            match &self.rings {
                Rings::Plain(cells) => cells[place].put_back(tag, &slot.entries, now, None),
                Rings::WithCosts(rings) => rings[place].put_back(tag, &slot.entries, now),
            }
            self.marks[place].closed.store(slot.closed, Ordering::Release);
            self.marks[place].starter.store(slot.starter, Ordering::Release);
        }
    }
}

impl Key {
    /// The bits of the key that stand in a word.
    fn bits_of(word: u64) -> u64 {
        word & (u64::MAX >> super::GRANULE_BITS)
    }
}
