//! The words of all sets as data, to be kept and put back.

use super::{Set, Sets, WAYS};
use crate::sync::Ordering;

impl Sets {
    /// How many sets there are: a power of two.
    pub(in crate::window) fn count(&self) -> usize {
        self.0.len()
    }

    /// Every word in use, with the numbers of its set and way.
    pub(in crate::window) fn words(&self) -> impl Iterator<Item = (usize, usize, u64)> {
        self.0.iter().enumerate().flat_map(|(number, set)| {
            // Relaxed: a word is whole, and says itself whose it is.
            let words = set.0.iter().enumerate().map(|(way, word)| (way, word.load(Ordering::Relaxed)));
            words.filter(|(_, word)| *word != 0).map(move |(way, word)| (number, way, word))
        })
    }

    /// The sets in which a word is looked for that stood in set `number` of `count`. In a larger table that may be
    /// several, since a word does not hold all of its key: it is then put in each of them, and the table is as full
    /// as it was. None: there never was such a set.
    pub(in crate::window) fn heirs(
        &self,
        number: usize,
        count: usize,
    ) -> impl Iterator<Item = (usize, &Set)> {
        let sets = self.count();
        let sound = count.is_power_of_two() && number < count;
        let (first, step) = (number & (sets - 1), count.max(1));
        (first..sets).step_by(step).take(if sound { sets } else { 0 }).map(|index| (index, &self.0[index]))
    }
}

impl Set {
    /// Puts a word back: in place of its like, as `join` makes one of the two; else in place of the least recent
    /// one, unless that is more recent. Returns the way.
    pub(in crate::window) fn put_back(
        &self,
        word: u64,
        is_like: impl Fn(u64) -> bool,
        is_older: impl Fn(u64, u64) -> bool,
        join: impl Fn(u64, u64) -> u64,
    ) -> Option<usize> {
        // Each failed attempt is another thread's success in this set; there are not as many threads as this.
        for _ in 0..256 * WAYS {
            let (way, old, new) = match self.find(&is_like, &is_older) {
                super::Found::Own { way, word: old } => (way, old, join(old, word)),
                super::Found::Least { word: old, .. } if old != 0 && !is_older(old, word) => return None,
                super::Found::Least { way, word: old } => (way, old, word),
            };
            if new == old || self.swap(way, old, new) {
                return Some(way);
            }
        }
        None
    }
}
