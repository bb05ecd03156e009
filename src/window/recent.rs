//! What was seen, and when: one word an entry, in sets of eight.

mod image;

use std::time::Duration;

use super::sets::{Found, Sets};
use super::{age, ahead, mix, units};
use crate::sync::{AtomicU64, Ordering};
use crate::time::Timestamp;

/// Hashes seen a short time ago.
///
/// A word is the time (32 bits of seconds since 1970, until 2106) and 32 bits of the hash; a hash that was never
/// seen is taken for one that was with a probability of at most 8 / 2³². The least recent of a set makes room.
#[derive(Debug)]
pub struct Recent {
    sets: Sets,
    evictions: AtomicU64,
    /// The latest second in which anything was seen: where that is long ago, nothing need be looked for.
    latest: AtomicU64,
}

/// How full a [`Recent`] or [`Known`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetStats {
    /// Entries there is room for.
    pub capacity: usize,
    /// Entries there are, expired ones included.
    pub occupied: usize,
    /// Entries that gave way to another, expired ones included.
    pub evictions: u64,
    /// Memory of it all.
    pub bytes: usize,
}

impl Recent {
    /// Room for `capacity` entries, rounded up to a power of two; 8 to 33 million.
    pub fn new(capacity: usize) -> Self {
        Self { sets: Sets::new(capacity), evictions: AtomicU64::new(0), latest: AtomicU64::new(0) }
    }

    /// Remembers that `hash` was seen at `now`.
    pub fn insert(&self, hash: u64, now: Timestamp) {
        self.touch(hash, now, None);
    }

    /// Whether `hash` was seen less than `within` before `now` (whole seconds).
    #[inline]
    pub fn contains(&self, hash: u64, now: Timestamp, within: Duration) -> bool {
        // Relaxed: seen as late as the words themselves. Their times, and this, are seconds in the same place.
        if !is_fresh(self.latest.load(Ordering::Relaxed) << 32, now, within) {
            return false;
        }
        let hash = mix(hash);
        let (_, set) = self.sets.set(hash);
        set.own(|word| is_of(word, hash)).is_some_and(|(_, word)| is_fresh(word, now, within))
    }

    /// Remembers that `hash` was seen, unless it was within `within`: true for exactly one of all callers in
    /// that time, whatever they do at once. (Where it had to make room for others, once more.)
    pub fn first_in(&self, hash: u64, now: Timestamp, within: Duration) -> bool {
        self.touch(hash, now, Some(within))
    }

    /// How full it is. Reads it all.
    pub fn stats(&self) -> SetStats {
        stats(&self.sets, &self.evictions)
    }

    /// Something is seen at this second.
    fn is_as_late_as(&self, second: u64) {
        // Mostly read: nobody takes the line from those who look.
        if self.latest.load(Ordering::Relaxed) < second {
            self.latest.fetch_max(second, Ordering::Relaxed);
        }
    }

    /// Sets the time of `hash` to `now` unless it is younger than `unless`; true if it did.
    fn touch(&self, hash: u64, now: Timestamp, unless: Option<Duration>) -> bool {
        let hash = mix(hash);
        let (_, set) = self.sets.set(hash);
        let now_secs = seconds(now);
        self.is_as_late_as(now_secs);
        // Each failed attempt is another thread's success in this set.
        loop {
            let (way, word, own) = match set.find(|word| is_of(word, hash), |a, b| a >> 32 < b >> 32) {
                Found::Own { way, word } => (way, word, true),
                Found::Least { way, word } => (way, word, false),
            };
            if own && unless.map_or(word >> 32 >= now_secs, |within| is_fresh(word, now, within)) {
                return false;
            }
            // Never back in time, see `sets`.
            let new = now_secs.max(word >> 32) << 32 | tag(hash);
            if set.swap(way, word, new) {
                if !own && word != 0 {
                    // Relaxed: a figure for people.
                    self.evictions.fetch_add(1, Ordering::Relaxed);
                }
                return true;
            }
        }
    }
}

fn seconds(now: Timestamp) -> u64 {
    now.as_secs().min(u64::from(u32::MAX))
}

/// The upper half of the hash (the lower names the set), never 0.
fn tag(hash: u64) -> u64 {
    (hash >> 32).max(1)
}

fn is_of(word: u64, hash: u64) -> bool {
    word & u64::from(u32::MAX) == tag(hash)
}

fn is_fresh(word: u64, now: Timestamp, within: Duration) -> bool {
    seconds(now).saturating_sub(word >> 32) < u64::from(units(within, 1000, u32::MAX))
}

fn stats(sets: &Sets, evictions: &AtomicU64) -> SetStats {
    let capacity = sets.capacity();
    // Relaxed: a figure for people.
    let evictions = evictions.load(Ordering::Relaxed);
    SetStats { capacity, occupied: sets.occupied(), evictions, bytes: capacity * size_of::<AtomicU64>() }
}

/// Who is known to a list: when each author's posts to it began, and the last one. Key: a hash of list and author.
///
/// A word is the minute of the last post (24 bits), of the first (24), and 16 bits of the key; a key never seen
/// is taken for another with a probability of at most 8 / 2¹⁶, one stranger in 8,192, if the table is full. The key
/// whose last post is oldest makes room.
#[derive(Debug)]
pub struct Known {
    sets: Sets,
    evictions: AtomicU64,
}

impl Known {
    /// Room for `capacity` authors (over all lists), rounded up to a power of two; 8 to 33 million.
    pub fn new(capacity: usize) -> Self {
        Self { sets: Sets::new(capacity), evictions: AtomicU64::new(0) }
    }

    /// Whether the last post is younger than `span` and the first at least `after` old. Whole minutes.
    #[inline]
    pub fn known(&self, key: u64, now: Timestamp, after: Duration, span: Duration) -> bool {
        let key = mix(key);
        let (_, set) = self.sets.set(key);
        let Some((_, word)) = set.own(|word| is_known_as(word, key)) else { return false };
        let now = minute(now);
        let old_enough = after.is_zero() || age::<24>(now, first(word)) >= minutes(after);
        old_enough && age::<24>(now, last(word)) < minutes(span)
    }

    /// Remembers a post at `now`. After `span` without one, the first is this one.
    pub fn record(&self, key: u64, now: Timestamp, span: Duration) {
        let minute = minute(now);
        self.update(key, minute, |word| {
            if age::<24>(minute, last(word)) >= minutes(span) { minute } else { first(word) }
        });
    }

    /// How full it is. Reads it all.
    pub fn stats(&self) -> SetStats {
        stats(&self.sets, &self.evictions)
    }

    /// Moves the last post to `at`; the first is what `begin` makes of the key's word, or `at` if it has none.
    fn update(&self, key: u64, at: u32, begin: impl Fn(u64) -> u32) {
        let key = mix(key);
        let (_, set) = self.sets.set(key);
        // Each failed attempt is another thread's success in this set.
        loop {
            let found = set.find(|word| is_known_as(word, key), |a, b| ahead::<24>(last(a), last(b)) < 0);
            let (way, word, begun) = match found {
                Found::Own { way, word } => (way, word, Some(begin(word))),
                Found::Least { way, word } => (way, word, None),
            };
            // Never back in time, see `sets`.
            let is_later = word == 0 || ahead::<24>(at, last(word)) > 0;
            let new = known_word(key, begun.unwrap_or(at), if is_later { at } else { last(word) });
            if new == word {
                return;
            }
            if set.swap(way, word, new) {
                if begun.is_none() && word != 0 {
                    // Relaxed: a figure for people.
                    self.evictions.fetch_add(1, Ordering::Relaxed);
                }
                return;
            }
        }
    }
}

const MINUTE_MASK: u64 = (1 << 24) - 1;

fn minute(now: Timestamp) -> u32 {
    ((now.as_secs() / 60) & MINUTE_MASK) as u32
}

/// In minutes, up to half a turn of their clock face (16 years).
fn minutes(span: Duration) -> u32 {
    units(span, 60_000, (1 << 23) - 1)
}

fn known_word(key: u64, first: u32, last: u32) -> u64 {
    u64::from(last) << 40 | u64::from(first) << 16 | known_tag(key)
}

/// 16 of the upper bits of the key (the lower 22 name the set), never 0.
fn known_tag(key: u64) -> u64 {
    (key >> 48).max(1)
}

fn is_known_as(word: u64, key: u64) -> bool {
    word & u64::from(u16::MAX) == known_tag(key)
}

/// Whether two words stand for the same key, as far as words tell.
fn is_known_as_word(a: u64, b: u64) -> bool {
    (a ^ b) & u64::from(u16::MAX) == 0
}

fn first(word: u64) -> u32 {
    (word >> 16 & MINUTE_MASK) as u32
}

fn last(word: u64) -> u32 {
    (word >> 40) as u32
}
