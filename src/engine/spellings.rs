//! Spellings of addresses: most mail comes from the same people and goes to the same mailboxes again and again,
//! written in the same way, and what was found out about an address need not be found out anew.

use std::sync::atomic::{AtomicU64, Ordering};

/// Spellings that are remembered: 16 bytes each, half a MiB in all. A site with more mailboxes in use than this
/// is not served worse than without.
const SPELLINGS: usize = 32_768;

/// Places where one may stand.
const WAYS: usize = 4;

/// From the keyed hash of an address as it was sent to the key of what it names: a recipient, or an author.
/// Belongs to one directory: another may have other lists, and read addresses otherwise.
pub struct Spellings(Box<[Set]>);

/// One cache line.
#[derive(Default)]
#[repr(align(64))]
struct Set([Spelling; WAYS]);

/// Two words that are written one by one. They go together if the first is the hash, mixed with the second.
#[derive(Default)]
struct Spelling {
    mixed: AtomicU64,
    key: AtomicU64,
}

impl Spellings {
    /// None yet.
    pub fn new() -> Self {
        Self((0..SPELLINGS / WAYS).map(|_| Set::default()).collect())
    }

    /// The key, if this spelling is remembered.
    #[inline]
    pub fn key(&self, hash: u64) -> Option<u64> {
        // All four before anything is decided: nobody, the processor neither, can guess in which one stands.
        let mut found = 0;
        for spelling in self.set(hash)? {
            // Relaxed, here and below: a torn pair is told by its mix, and nothing else hangs on these words.
            let key = spelling.key.load(Ordering::Relaxed);
            let is_own = spelling.mixed.load(Ordering::Relaxed) ^ key == hash;
            found |= if is_own { key } else { 0 };
        }
        (found != 0).then_some(found)
    }

    /// Remembers it: in an empty place of its set, or in that of any other.
    pub fn put(&self, hash: u64, key: u64) {
        let Some(set) = self.set(hash) else { return };
        let empty = set.iter().position(|spelling| spelling.key.load(Ordering::Relaxed) == 0);
        // The low bits name the set.
        let way = empty.unwrap_or((hash >> 32) as usize % WAYS);
        if let Some(spelling) = set.get(way) {
            spelling.mixed.store(hash ^ key, Ordering::Relaxed);
            spelling.key.store(key, Ordering::Relaxed);
        }
    }

    #[inline]
    fn set(&self, hash: u64) -> Option<&[Spelling; WAYS]> {
        self.0.get(hash as usize % (SPELLINGS / WAYS)).map(|set| &set.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes of one set that all contend for one place of it when it is full.
    fn rivals() -> impl Iterator<Item = u64> {
        (1..).map(|n| n << 40 | 7)
    }

    #[test]
    fn a_full_set_makes_room_and_nobody_is_taken_for_another() {
        let spellings = Spellings::new();
        assert_eq!(spellings.key(0), None, "an empty place belongs to nobody");
        let hashes: Vec<u64> = rivals().take(WAYS + 1).collect();
        for (number, hash) in hashes.iter().enumerate() {
            assert_eq!(spellings.key(*hash), None);
            spellings.put(*hash, 70 + number as u64);
            assert_eq!(spellings.key(*hash), Some(70 + number as u64));
        }
        let left = hashes.iter().filter(|hash| spellings.key(**hash).is_some()).count();
        assert_eq!(left, WAYS, "one made room");
    }

    #[test]
    fn a_pair_of_two_writers_is_nobodys() {
        let spellings = Spellings::new();
        let hashes: Vec<u64> = rivals().take(2).collect();
        let (one, other) = (hashes[0], hashes[1]);
        spellings.put(one, 70);
        // Another thread has written the first of its two words.
        spellings.set(other).unwrap()[0].mixed.store(other ^ 71, Ordering::Relaxed);
        assert_eq!((spellings.key(one), spellings.key(other)), (None, None));
    }
}
