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

/// Two words that are written one by one. They go together if the first is the hash, mixed with the second. The bits
/// of the hash that name the set need not be told by it: there stands, mixed in, a hint of where the key leads to.
#[derive(Default)]
struct Spelling {
    mixed: AtomicU64,
    key: AtomicU64,
}

/// The bits of a hint, as many as name a set.
const HINT: u64 = (SPELLINGS / WAYS - 1) as u64;

impl Spellings {
    /// None yet.
    pub fn new() -> Self {
        Self((0..SPELLINGS / WAYS).map(|_| Set::default()).collect())
    }

    /// The key, if this spelling is remembered.
    #[inline]
    pub fn key(&self, hash: u64) -> Option<u64> {
        self.find(hash).map(|(key, _)| key)
    }

    /// The key, if this spelling is remembered, and the hint that was noted with it; 0: none was.
    #[inline]
    pub fn find(&self, hash: u64) -> Option<(u64, u16)> {
        // All four before anything is decided: nobody, the processor neither, can guess in which one stands.
        let mut found = (0, 0);
        for spelling in self.set(hash)? {
            // Relaxed, here and below: a torn pair is told by its mix, and nothing else hangs on these words.
            let key = spelling.key.load(Ordering::Relaxed);
            let hint = spelling.mixed.load(Ordering::Relaxed) ^ key ^ hash;
            found = if hint <= HINT { (key, hint) } else { found };
        }
        (found.0 != 0).then_some((found.0, found.1 as u16))
    }

    /// Has the processor fetch what a look-up needs.
    #[inline]
    pub fn fetch(&self, hash: u64) {
        if let Some([first, ..]) = self.set(hash) {
            std::hint::black_box(first.key.load(Ordering::Relaxed));
        }
    }

    /// Notes a hint with a spelling, if it is remembered with this key still.
    pub fn note(&self, hash: u64, key: u64, hint: u16) {
        let new = hash ^ key ^ u64::from(hint) & HINT;
        for spelling in self.set(hash).into_iter().flatten() {
            let old = spelling.mixed.load(Ordering::Relaxed);
            if (old ^ new) <= HINT && old != new && spelling.key.load(Ordering::Relaxed) == key {
                // If it fails, the place is another spelling's by now.
                let _ = spelling.mixed.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
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
    fn a_hint_stays_with_its_spelling_and_tells_nobody_elses() {
        let spellings = Spellings::new();
        let hashes: Vec<u64> = rivals().take(2).collect();
        for (number, hash) in hashes.iter().enumerate() {
            spellings.put(*hash, 70 + number as u64);
        }
        assert_eq!(spellings.find(hashes[0]), Some((70, 0)));
        spellings.note(hashes[0], 70, 0x1234);
        spellings.note(hashes[1], 70, 0x0bad);
        assert_eq!(spellings.find(hashes[0]), Some((70, 0x1234)));
        assert_eq!(spellings.find(hashes[1]), Some((71, 0)), "its key is another");
        spellings.note(hashes[0], 70, u16::MAX);
        assert_eq!(spellings.find(hashes[0]), Some((70, 0x1fff)), "no more than there is room for");
        assert_eq!(spellings.find(hashes[1]), Some((71, 0)));
    }

    #[test]
    fn a_pair_of_two_writers_is_nobodys() {
        let spellings = Spellings::new();
        let hashes: Vec<u64> = rivals().take(2).collect();
        let (one, other) = (hashes[0], hashes[1]);
        // Keys are hashes: two of them differ in more than the bits of a hint.
        let keys = [70 << 32, 71 << 32];
        spellings.put(one, keys[0]);
        // Another thread has written the first of its two words.
        spellings.set(other).unwrap()[0].mixed.store(other ^ keys[1], Ordering::Relaxed);
        assert_eq!((spellings.key(one), spellings.key(other)), (None, None));
    }
}
