//! What was seen, as data.

use std::time::Duration;

use super::{
    Known, Recent, age, ahead, first, is_fresh, is_known_as_word, known_word, last, minute, minutes,
};
use crate::time::Timestamp;

impl Recent {
    /// How many sets there are: what [`Recent::put_back`] must be told of where a word stood.
    pub fn sets(&self) -> usize {
        self.sets.count()
    }

    /// The words of hashes seen less than `within` before `now`, with the numbers of their sets.
    pub fn words(&self, now: Timestamp, within: Duration) -> impl Iterator<Item = (u32, u64)> {
        let words = self.sets.words().filter(move |(_, _, word)| is_fresh(*word, now, within));
        words.map(|(set, _, word)| (set as u32, word))
    }

    /// Puts a word back that stood in set `set` of `sets`.
    pub fn put_back(&self, sets: usize, set: u32, word: u64) {
        self.is_as_late_as(word >> 32);
        let like = |other: u64| other as u32 == word as u32;
        for (_, heir) in self.sets.heirs(set as usize, sets) {
            heir.put_back(word, like, |a, b| a >> 32 < b >> 32, u64::max);
        }
    }
}

impl Known {
    /// How many sets there are: what [`Known::put_back`] must be told of where a word stood.
    pub fn sets(&self) -> usize {
        self.sets.count()
    }

    /// The words of authors whose last post is younger than `span`, with the numbers of their sets.
    pub fn words(&self, now: Timestamp, span: Duration) -> impl Iterator<Item = (u32, u64)> {
        let words = self.sets.words();
        let words = words.filter(move |(_, _, word)| age::<24>(minute(now), last(*word)) < minutes(span));
        words.map(|(set, _, word)| (set as u32, word))
    }

    /// Puts a word back that stood in set `set` of `sets`: the first post is the earlier of the two, the last the
    /// later.
    pub fn put_back(&self, sets: usize, set: u32, word: u64) {
        let join = |old: u64, new: u64| {
            let begun = if ahead::<24>(first(new), first(old)) < 0 { first(new) } else { first(old) };
            let ended = if ahead::<24>(last(new), last(old)) > 0 { last(new) } else { last(old) };
            known_word(old << 48, begun, ended)
        };
        let older = |a: u64, b: u64| ahead::<24>(last(a), last(b)) < 0;
        for (_, heir) in self.sets.heirs(set as usize, sets) {
            heir.put_back(word, |other| is_known_as_word(other, word), older, join);
        }
    }
}
