//! Sets of eight words in a cache line each: where a key is looked for, and who makes room for whom.
//!
//! A word says whose it is and how recent. Its owner may make it more recent; a key that has no word takes over
//! the least recent one. Both are one compare-and-swap of the whole word.
//!
//! **A key never gets two words**, though threads do not agree on what they see: no swap ever makes a word less
//! recent (a newcomer with a late clock takes over the time he finds), and the least recent word of a set, the
//! lower index first, is the only one that may be taken. Suppose two threads took different words a and b for
//! the same key, and neither saw the other. Each left alone the word that the other took, because it saw it more
//! recent than the one it took itself. Each took exactly what it had seen, so of each word the taker saw the
//! last state before the taking, and the other saw that or an earlier one, no more recent. Then a is more recent
//! than b and b more recent than a. This leans on the order of changes of each single word and on nothing else,
//! so all accesses can be relaxed.

mod image;

use crate::sync::{AtomicU64, Ordering};

/// Words of a set: 64 bytes.
pub(super) const WAYS: usize = 8;

/// More sets than this cannot be told apart by the bits of a hash that name a set (22, so 33 million words of
/// 8 bytes; a configuration that asks for more gets this many).
const MAX_SETS: usize = 1 << 22;

/// A set-associative array of words.
#[derive(Debug)]
pub(super) struct Sets(Box<[Set]>);

#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Set([AtomicU64; WAYS]);

/// Where a key may stand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found {
    /// The key's own word.
    Own { way: usize, word: u64 },
    /// The key has none. This is the least recent word (0: never used).
    Least { way: usize, word: u64 },
}

impl Sets {
    /// Sets for at least `words` words, rounded up to a power of two; one set at least.
    pub(super) fn new(words: usize) -> Self {
        let sets = words.div_ceil(WAYS).clamp(1, MAX_SETS).next_power_of_two();
        Self((0..sets).map(|_| Set(std::array::from_fn(|_| AtomicU64::new(0)))).collect())
    }

    /// Words in all sets.
    pub(super) fn capacity(&self) -> usize {
        self.0.len() * WAYS
    }

    /// The number and the set of a hash; its low 22 bits name it.
    #[inline]
    pub(super) fn set(&self, hash: u64) -> (usize, &Set) {
        let index = hash as usize & (self.0.len() - 1);
        (index, &self.0[index])
    }

    /// Words that are in use. Reads them all: for statistics.
    pub(super) fn occupied(&self) -> usize {
        // Relaxed: a figure for people.
        self.0.iter().flat_map(|set| &set.0).filter(|word| word.load(Ordering::Relaxed) != 0).count()
    }
}

impl Set {
    /// The key's word. `is_own` says no to 0, a word never used.
    ///
    /// Looks at all eight and decides once: nobody can guess which way a key stands in, the processor neither,
    /// and its wrong guess costs more than the loads.
    #[inline]
    pub(super) fn own(&self, is_own: impl Fn(u64) -> bool) -> Option<(usize, u64)> {
        let mut own = 0_u32;
        for word in self.0.iter().rev() {
            // Relaxed, here and below: see the module's comment.
            own = own << 1 | u32::from(is_own(word.load(Ordering::Relaxed)));
        }
        let way = own.trailing_zeros() as usize;
        // It may have been taken since.
        let word = self.0.get(way)?.load(Ordering::Relaxed);
        is_own(word).then_some((way, word))
    }

    /// The key's word, or the one that it may take. `is_older(a, b)`: a is less recent than b; both are in use.
    #[inline]
    pub(super) fn find(&self, is_own: impl Fn(u64) -> bool, is_older: impl Fn(u64, u64) -> bool) -> Found {
        let mut least = (0, u64::MAX);
        for (way, word) in self.0.iter().enumerate() {
            let word = word.load(Ordering::Relaxed);
            if word != 0 && is_own(word) {
                return Found::Own { way, word };
            }
            if way == 0 || least.1 != 0 && (word == 0 || is_older(word, least.1)) {
                least = (way, word);
            }
        }
        Found::Least { way: least.0, word: least.1 }
    }

    /// The word of a way.
    #[inline]
    pub(super) fn load(&self, way: usize) -> u64 {
        self.0.get(way).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Puts `new` in the place of `old`; false if it is not there any more.
    #[inline]
    pub(super) fn swap(&self, way: usize, old: u64, new: u64) -> bool {
        let Some(word) = self.0.get(way) else { return false };
        word.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}
