//! Slots by key, in a fixed number of places.
//!
//! The word of a place in its set: time of last use (26 bits of 64 s since 1970, so until 2106) and 38 bits of
//! the key; 22 other bits of it name the set. Two keys share a place by mistake with a probability of at most
//! 8 / 2³⁸ a look-up. The time moves at most once in 64 s, so that finding a slot in use only reads, and it says
//! who is idle longest. A slot that is pinned has its time in the future: one compare-and-swap decides between
//! who pins it and who would take it.

pub(super) mod image;
pub(super) mod lot;

use std::time::Duration;

use super::cells::{CELLS, Cells, Costs, Ring};
use super::sets::{Found, Set, Sets};
use super::word::View;
use super::{AuthorTag, Entry, Glance, KeyTag, Tally, mix};
use crate::sync::{AtomicU64, Ordering};
use crate::time::Timestamp;

/// Counters for many keys: fixed capacity, sets of eight, no lock.
///
/// All memory is there from the start: 280 bytes a slot, 536 with costs. A key that finds its set full
/// takes the place of the slot idle longest (to 64 s); if it comes back to the same place in time, it finds again
/// what it left. A slot closed beyond `now` is pinned: it stays.
#[derive(Debug)]
pub struct Table<const K: usize = CELLS> {
    sets: Sets,
    rings: Rings<K>,
    marks: Box<[Marks]>,
    evictions: AtomicU64,
    refused: AtomicU64,
}

/// The costs of a slot lie behind its cells, on the same page.
#[derive(Debug)]
enum Rings<const K: usize> {
    Plain(Box<[Cells<K>]>),
    WithCosts(Box<[Ring<K>]>),
}

/// How full a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Slots there are.
    pub capacity: usize,
    /// Slots that were ever taken; they are never given back, only taken over.
    pub occupied: usize,
    /// Keys that gave way to another key.
    pub evictions: u64,
    /// Keys that found no slot: their set was pinned.
    pub refused: u64,
    /// Memory of it all.
    pub bytes: usize,
}

impl Table {
    /// A table of `capacity` slots (rounded up to a power of two; 8 to 33 million) of [`CELLS`] cells.
    /// Without `costs` a tally's `copies` is 0.
    pub fn new(capacity: usize, costs: bool) -> Self {
        Self::sized(capacity, costs)
    }
}

impl<const K: usize> Table<K> {
    /// The same with `K` cells a slot, as in `Table::<7>::sized(1024, false)`.
    pub fn sized(capacity: usize, with_costs: bool) -> Self {
        let sets = Sets::new(capacity);
        let capacity = sets.capacity();
        Self {
            rings: if with_costs {
                Rings::WithCosts((0..capacity).map(|_| Ring::sized()).collect())
            } else {
                Rings::Plain((0..capacity).map(|_| Cells::new()).collect())
            },
            marks: (0..capacity).map(|_| Marks::new()).collect(),
            sets,
            evictions: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Finds or claims the slot of `key`. `None`: every slot of the set is pinned, which is counted.
    ///
    /// A slot closed until some time is pinned until then and at most 128 s longer.
    #[inline]
    pub fn slot(&self, key: u64, now: Timestamp) -> Option<Slot<'_, K>> {
        let key = Key::new(key);
        let (index, way) = self.place(key, granule(now), now)?;
        Some(Slot { table: self, key, place: self.place_of(index, way) })
    }

    /// The number of the key's set, and its way there.
    #[inline]
    fn place(&self, key: Key, granule: u64, now: Timestamp) -> Option<(usize, usize)> {
        let (index, set) = self.sets.set(key.0);
        let way = match set.own(|word| key.owns(word)) {
            Some((way, word)) => {
                if used(word) < granule {
                    // Lost against another: then the slot is in use, or somebody else's by now. Whatever is
                    // recorded in it carries this key's tag.
                    set.swap(way, word, key.word(granule));
                }
                way
            }
            None => self.claim(set, key, now)?,
        };
        Some((index, way))
    }

    /// Finds the slot of `key`; does not count as use.
    #[inline]
    pub fn find(&self, key: u64) -> Option<Slot<'_, K>> {
        let key = Key::new(key);
        let (index, set) = self.sets.set(key.0);
        let (way, _) = set.own(|word| key.owns(word))?;
        Some(Slot { table: self, key, place: self.place_of(index, way) })
    }

    /// Counts an attempt as [`Slot::record`] does, in the slot of `key`: what a recipient goes through whose author is new
    /// to it. `None`: this author is in the window already, or there is no slot.
    #[inline]
    pub fn observe(&self, key: u64, entry: Entry, now: Timestamp, window: Duration) -> Option<Tally> {
        let slot = self.slot(key, now)?;
        let (cells, costs) = slot.ring();
        cells.enter(slot.view(now, window), entry, costs)
    }

    /// Where the slot of a way of a set lies. First the first ways of all sets, then the second ones, and so on: keys
    /// that take a part of the table only fill its beginning, and touch so many pages less.
    #[inline]
    fn place_of(&self, set: usize, way: usize) -> usize {
        way * self.sets.count() + set
    }

    #[inline]
    fn ring(&self, place: usize) -> (&Cells<K>, Option<&Costs<K>>) {
        match &self.rings {
            Rings::Plain(cells) => (&cells[place], None),
            Rings::WithCosts(rings) => rings[place].parts(),
        }
    }

    /// How full the table is. Reads all sets (8 bytes a slot).
    pub fn stats(&self) -> TableStats {
        let capacity = self.sets.capacity();
        let rings = match &self.rings {
            Rings::Plain(cells) => size_of_val(&**cells),
            Rings::WithCosts(rings) => size_of_val(&**rings),
        };
        TableStats {
            capacity,
            occupied: self.sets.occupied(),
            // Relaxed: figures for people.
            evictions: self.evictions.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            bytes: size_of::<Self>() + capacity * size_of::<AtomicU64>() + rings + size_of_val(&*self.marks),
        }
    }

    /// Takes the least recently used way of the set for `key`.
    #[inline(never)]
    fn claim(&self, set: &Set, key: Key, now: Timestamp) -> Option<usize> {
        // A failed attempt is another thread's success in this set. The bound keeps a thread from waiting for
        // ever on a set that many others fight for; far more of them than there are threads.
        for _ in 0..256 {
            match set.find(|word| key.owns(word), |a, b| used(a) < used(b)) {
                Found::Own { way, .. } => return Some(way),
                // One granule ahead is another thread's clock, not a pin.
                Found::Least { word, .. } if word != 0 && used(word) > granule(now) + 1 => break,
                Found::Least { way, word } => {
                    let at = if word == 0 { granule(now) } else { granule(now).max(used(word)) };
                    if set.swap(way, word, key.word(at)) {
                        if word != 0 {
                            self.evictions.fetch_add(1, Ordering::Relaxed);
                        }
                        return Some(way);
                    }
                }
            }
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// The slot of one key.
///
/// It may be taken for another key at any time unless it is pinned. What is written through an old handle
/// carries the old key's tag and is nobody's.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a, const K: usize = CELLS> {
    table: &'a Table<K>,
    key: Key,
    place: usize,
}

impl<const K: usize> Slot<'_, K> {
    /// Counts an attempt: see [`Ring::record`](super::Ring::record).
    #[inline]
    pub fn record(&self, entry: Entry, now: Timestamp, window: Duration) -> Tally {
        let (cells, costs) = self.ring();
        cells.record(self.view(now, window), entry, costs)
    }

    /// What the window holds; `repeat` is false.
    #[inline]
    pub fn tally(&self, now: Timestamp, window: Duration) -> Tally {
        let (cells, costs) = self.ring();
        cells.tally(self.view(now, window), costs)
    }

    /// What the window holds, without a trace: see [`Ring::glance`](super::Ring::glance).
    pub fn glance(&self, now: Timestamp, window: Duration) -> Glance {
        let (cells, costs) = self.ring();
        cells.glance(self.view(now, window), costs)
    }

    /// Whether this author has an entry in the window.
    pub fn contains(&self, author: AuthorTag, now: Timestamp, window: Duration) -> bool {
        self.ring().0.contains(self.view(now, window), author)
    }

    /// Who began the conversation, if that was seen.
    pub fn starter(&self) -> Option<AuthorTag> {
        self.marks().starter(self.key)
    }

    /// Says who began the conversation; only the first to say so counts.
    pub fn set_starter(&self, author: AuthorTag) {
        self.marks().set_starter(self.key, author, || self.is_owned());
    }

    /// The time until which the conversation is closed; the epoch if it never was.
    pub fn closed_until(&self) -> Timestamp {
        self.marks().closed_until(self.key)
    }

    /// Closes the conversation until `until`, never for less than it is, and pins the slot for as long.
    /// False: the slot has been taken for another key in the meantime, and nothing is closed.
    pub fn close_until(&self, until: Timestamp) -> bool {
        self.marks().close_until(self.key, until, || self.is_owned());
        let (_, set) = self.table.sets.set(self.key.0);
        let way = self.way();
        // Rounded up, and one more for the granule's tolerance in `claim`.
        let pin = (granule(until) + 2).min(GRANULES);
        loop {
            let word = set.load(way);
            if !self.key.owns(word) {
                return false;
            }
            if used(word) >= pin || set.swap(way, word, self.key.word(pin)) {
                return true;
            }
        }
    }

    fn way(&self) -> usize {
        self.place / self.table.sets.count()
    }

    fn is_owned(&self) -> bool {
        let (_, set) = self.table.sets.set(self.key.0);
        self.key.owns(set.load(self.way()))
    }

    #[inline]
    fn view(&self, now: Timestamp, window: Duration) -> View {
        View::new(self.key.tag(), now, window)
    }

    #[inline]
    fn ring(&self) -> (&Cells<K>, Option<&Costs<K>>) {
        self.table.ring(self.place)
    }

    fn marks(&self) -> &Marks {
        &self.table.marks[self.place]
    }
}

/// A key, spread over all bits: the low 22 name the set, the high 38 stand in its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key(u64);

const GRANULE_SECS: u64 = 64;
const GRANULE_BITS: u32 = 26;
const GRANULES: u64 = (1 << GRANULE_BITS) - 1;

impl Key {
    #[inline]
    fn new(key: u64) -> Self {
        let mixed = mix(key);
        // A place never used is 0; the high bits of a key never are.
        Self(if mixed >> GRANULE_BITS == 0 { mixed | 1 << GRANULE_BITS } else { mixed })
    }

    #[inline]
    fn bits(self) -> u64 {
        self.0 >> GRANULE_BITS
    }

    #[inline]
    fn owns(self, word: u64) -> bool {
        // A shift where a mask would have to be fetched.
        (word ^ self.bits()) << GRANULE_BITS == 0
    }

    /// The word of this key's place, last used at `granule`.
    #[inline]
    fn word(self, granule: u64) -> u64 {
        granule << (u64::BITS - GRANULE_BITS) | self.bits()
    }

    #[inline]
    fn tag(self) -> KeyTag {
        KeyTag::from_bits(self.bits())
    }
}

/// The tag of the entries of a key.
#[cfg(all(test, not(becalm_loom)))]
pub(super) fn tag_of(key: u64) -> KeyTag {
    Key::new(key).tag()
}

/// When the place of `word` was last used.
#[inline]
fn used(word: u64) -> u64 {
    word >> (u64::BITS - GRANULE_BITS)
}

#[inline]
fn granule(now: Timestamp) -> u64 {
    (now.as_secs() / GRANULE_SECS).min(GRANULES)
}

/// What a slot keeps besides its cells. Each word says whose it is.
#[derive(Debug)]
struct Marks {
    /// Milliseconds since 1970 (42 bits, until 2109), 22 bits of the key.
    closed: AtomicU64,
    /// 38 bits of the key, author (20).
    starter: AtomicU64,
}

const CLOSED_TAG_BITS: u32 = 22;
const CLOSED_TAG_MASK: u64 = (1 << CLOSED_TAG_BITS) - 1;
const AUTHOR_BITS: u32 = 20;

impl Marks {
    fn new() -> Self {
        Self { closed: AtomicU64::new(0), starter: AtomicU64::new(0) }
    }

    // The orderings below, all four words: Acquire on the load pairs with Release of the swap, so that a writer
    // who meets a mark of the slot's next owner also finds, in `is_owned`, that the slot is not his any more.

    fn starter(&self, key: Key) -> Option<AuthorTag> {
        let word = self.starter.load(Ordering::Acquire);
        (word >> AUTHOR_BITS == key.bits()).then(|| AuthorTag::from_bits(word))
    }

    fn set_starter(&self, key: Key, author: AuthorTag, is_owned: impl Fn() -> bool) {
        let mut old = self.starter.load(Ordering::Acquire);
        let new = key.bits() << AUTHOR_BITS | u64::from(author.get());
        while old >> AUTHOR_BITS != key.bits() && is_owned() {
            match self.starter.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(newer) => old = newer,
            }
        }
    }

    fn closed_until(&self, key: Key) -> Timestamp {
        let word = self.closed.load(Ordering::Acquire);
        let is_own = word & CLOSED_TAG_MASK == closed_tag(key);
        Timestamp::from_millis(if is_own { word >> CLOSED_TAG_BITS } else { 0 })
    }

    fn close_until(&self, key: Key, until: Timestamp, is_owned: impl Fn() -> bool) {
        let until = until.as_millis().min(u64::MAX >> CLOSED_TAG_BITS);
        let new = until << CLOSED_TAG_BITS | closed_tag(key);
        let mut old = self.closed.load(Ordering::Acquire);
        let is_later = |old: u64| old & CLOSED_TAG_MASK == closed_tag(key) && old >= new;
        while !is_later(old) && is_owned() {
            match self.closed.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(newer) => old = newer,
            }
        }
    }
}

/// 22 bits of the key, never 0: a mark never set is 0.
fn closed_tag(key: Key) -> u64 {
    key.bits() % CLOSED_TAG_MASK + 1
}
