//! The cells of one slot: the last entries of one window, written and counted without a lock.
//!
//! A cell is one word: time (30 bits, seconds), tag of the key (13), newcomer (1), author (20). It is *alive* for
//! a reader if it carries the reader's tag and is younger than his window; every other cell is free. An entry
//! goes into the first free cell by compare-and-swap, or into the cell of the oldest entry where none is free.
//! The first-free rule keeps the few entries of a quiet slot in its first cache line, and makes writers of the
//! same moment meet in the same cell, where the loser looks again and sees the winner: one author who writes
//! twice at once gets one cell, so that distinct authors are counted by counting cells, and no claimed but
//! unwritten cell ever hides an entry.
//!
//! **What is promised.** A tally counts nobody else's entries but by a collision of tags, and undercounts at most
//! by the writers in flight. Of writers at the same moment at least one sees all of them: each, once its cell is
//! written, adds one to `published`, and these additions have an order. Whoever finds that another came between
//! its look at the cells and its own addition looks again; the addition before it happened before that second
//! look. So the last of them sees everybody.
//!
//! One author can get two cells only if two threads disagree on which cells are free, which takes an entry that
//! expires between their two clock readings (or a window that was changed, or a cell freed in this way a moment ago).
//! At least one of the two sees it, by the same argument, and whoever sees it frees the higher cell; until then such an
//! author counts as two.
//!
//! **The sum.** Adding up 30 cells takes longer than everything else together. So whoever has done it notes the
//! result beside `published`, stamped with its value. While the stamp holds, a look only searches for its author.

pub(super) mod glance;
pub(super) mod image;

use std::array::from_fn;
use std::time::Duration;

use super::word::{Copies, Cost, Seeker, Sum, View, newcomer};
use super::{AuthorTag, Entry, KeyTag, Tally};
use crate::sync::{AtomicU64, Ordering};
use crate::time::Timestamp;

/// Cells of a ring: with the two words that sum them up they fill four cache lines. The rule needs 20 authors
/// countable while some writers are in flight.
pub const CELLS: usize = 30;

/// The entries of one list: `K` cells (at most 63) and their costs.
#[derive(Debug)]
pub struct Ring<const K: usize = CELLS> {
    cells: Cells<K>,
    costs: Costs<K>,
}

impl Ring {
    /// An empty ring of [`CELLS`] cells.
    pub fn new() -> Self {
        Self::sized()
    }
}

impl Default for Ring {
    fn default() -> Self {
        Self::new()
    }
}

impl<const K: usize> Ring<K> {
    /// An empty ring of `K` cells, as in `Ring::<7>::sized()`.
    pub fn sized() -> Self {
        Self { cells: Cells::new(), costs: Costs::new() }
    }

    pub(super) fn parts(&self) -> (&Cells<K>, Option<&Costs<K>>) {
        (&self.cells, Some(&self.costs))
    }

    /// Counts an attempt. One entry per author and window: a repeat neither adds nor refreshes, and only reads.
    /// Returns the tally including this attempt.
    #[inline]
    pub fn record(&self, tag: KeyTag, entry: Entry, now: Timestamp, window: Duration) -> Tally {
        self.cells.record(View::new(tag, now, window), entry, Some(&self.costs))
    }

    /// Always adds (automatic mail: messages are counted, not authors). Returns how many entries are in the
    /// window, this one included; at most `K`.
    pub fn push(&self, tag: KeyTag, cost: u32, now: Timestamp, window: Duration) -> u32 {
        self.cells.push(View::new(tag, now, window), cost, Some(&self.costs))
    }

    /// What the window holds; `repeat` is false.
    #[inline]
    pub fn tally(&self, tag: KeyTag, now: Timestamp, window: Duration) -> Tally {
        self.cells.tally(View::new(tag, now, window), Some(&self.costs))
    }

    /// Whether this author has an entry in the window.
    pub fn contains(&self, tag: KeyTag, author: AuthorTag, now: Timestamp, window: Duration) -> bool {
        self.cells.contains(View::new(tag, now, window), author)
    }
}

/// The costs of the cells, and their sum.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Costs<const K: usize> {
    sum: AtomicU64,
    costs: [AtomicU64; K],
}

impl<const K: usize> Costs<K> {
    /// Costs of nothing.
    fn new() -> Self {
        Self { sum: AtomicU64::new(0), costs: from_fn(|_| AtomicU64::new(0)) }
    }

    /// The cost of `entry` in cell `index`, as far as it is there.
    fn of(&self, index: usize, entry: u64) -> u64 {
        // Relaxed: the word says itself which entry it belongs to.
        self.costs.get(index).map_or(0, |cost| Cost::of(entry, cost.load(Ordering::Relaxed)))
    }
}

/// Each failed attempt is an entry of another writer. Who fails this often in a row has seen more than twice a
/// ring's worth of others come in while he tried: his entry is counted in his own tally and left out.
const ATTEMPTS: usize = 64;

/// The low bits of `published`: how many cells were ever in use at once. The rest counts the entries.
const USED_BITS: u32 = 6;
const USED_MASK: u64 = (1 << USED_BITS) - 1;

/// Words of a cache line, and cells of the first, which begins with the two words about them all.
const LINE: usize = 8;
const FIRST: usize = LINE - 2;

/// In this order, so that few authors are found in the cache line of the sum.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Cells<const K: usize> {
    published: AtomicU64,
    sum: AtomicU64,
    cells: [AtomicU64; K],
}

impl<const K: usize> Cells<K> {
    /// Empty cells.
    pub(super) fn new() -> Self {
        const { assert!(K > 0 && K as u64 <= USED_MASK) };
        Self { published: AtomicU64::new(0), sum: AtomicU64::new(0), cells: from_fn(|_| AtomicU64::new(0)) }
    }

    /// Has the processor fetch what most looks need.
    #[inline]
    pub(super) fn fetch(&self) {
        std::hint::black_box(self.published.load(Ordering::Relaxed));
    }

    #[inline]
    pub(super) fn record(&self, view: View, entry: Entry, costs: Option<&Costs<K>>) -> Tally {
        let look = self.look(view, Some(entry.author), costs);
        if look.own != 0 {
            return look.repeat();
        }
        self.add(view, look, Mine::of(view, entry), costs)
    }

    /// [`Cells::record`] for those who care for new authors only: nothing if this one is there already.
    #[inline]
    pub(super) fn enter(&self, view: View, entry: Entry, costs: Option<&Costs<K>>) -> Option<Tally> {
        // Acquire: as in `look`. The sum is asked for a new author only.
        let published = self.published.load(Ordering::Acquire);
        if self.has(entry.author, view, published) {
            return None;
        }
        Some(self.enter_anew(view, published, entry, costs)).filter(|tally| !tally.repeat)
    }

    /// Of an author who was not there.
    #[inline(never)]
    fn enter_anew(&self, view: View, published: u64, entry: Entry, costs: Option<&Costs<K>>) -> Tally {
        let look = self.sum(view, published, costs);
        let look = look.unwrap_or_else(|| self.add_up(view, Some(entry.author), costs));
        self.add(view, look, Mine::of(view, entry), costs)
    }

    /// Whether the author is seen at a glance: among the first cells, in the cache line of `published`. Who is not
    /// may be there all the same.
    #[inline]
    pub(super) fn shows(&self, view: View, author: AuthorTag) -> bool {
        self.first_line(view.seeking(author))
    }

    #[inline]
    fn first_line(&self, seeker: Seeker) -> bool {
        // Relaxed: see `has`.
        self.cells
            .iter()
            .take(FIRST)
            .fold(0, |found, cell| found + seeker.finds(cell.load(Ordering::Relaxed)))
            != 0
    }

    pub(super) fn push(&self, view: View, cost: u32, costs: Option<&Costs<K>>) -> u32 {
        let mine = Mine { entry: view.entry(AuthorTag(0), false), author: None, cost };
        self.add(view, self.look(view, None, costs), mine, costs).authors
    }

    #[inline]
    pub(super) fn tally(&self, view: View, costs: Option<&Costs<K>>) -> Tally {
        self.look(view, None, costs).tally()
    }

    pub(super) fn contains(&self, view: View, author: AuthorTag) -> bool {
        self.look(view, Some(author), None).own != 0
    }

    /// What is there: by the sum if it holds, else by adding up, which is noted.
    #[inline]
    fn look(&self, view: View, author: Option<AuthorTag>, costs: Option<&Costs<K>>) -> Look {
        // Acquire: pairs with the Release half of the additions in `publish`. Whatever was published before this
        // value is seen in the cells.
        let published = self.published.load(Ordering::Acquire);
        match self.sum(view, published, costs) {
            Some(mut look) => {
                look.own = author.map_or(0, |author| usize::from(self.has(author, view, published)));
                look
            }
            None => {
                let look = self.add_up(view, author, costs);
                self.note(view, look.published, &look, costs);
                look
            }
        }
    }

    /// Whether the author has an entry among the published ones, or one that is about to be: either counts, or will,
    /// and he has no second one to make. Those beyond the line in which `used` ends are met by `place`.
    #[inline]
    fn has(&self, author: AuthorTag, view: View, published: u64) -> bool {
        let used = (published & USED_MASK) as usize;
        let seeker = view.seeking(author);
        if self.first_line(seeker) {
            return true;
        }
        // All cells of a line before anything is decided: who is in them cannot be foretold, and a wrong guess costs
        // the processor more than to compare them all.
        let end = (used + LINE - FIRST).next_multiple_of(LINE) - (LINE - FIRST);
        let others = self.cells.get(FIRST..end.min(K));
        others.unwrap_or_default().chunks(LINE).any(|line| {
            // Relaxed: `published` orders the cells.
            line.iter().fold(0, |found, cell| found + seeker.finds(cell.load(Ordering::Relaxed))) != 0
        })
    }

    #[inline]
    fn sum(&self, view: View, published: u64, costs: Option<&Costs<K>>) -> Option<Look> {
        // Relaxed: the stamp says what the sum is of.
        let version = published >> USED_BITS;
        let (end, entries, newcomers) = Sum::unpack(view, version, self.sum.load(Ordering::Relaxed))?;
        let copies = match costs {
            Some(costs) => Copies::unpack(view, version, costs.sum.load(Ordering::Relaxed))?,
            None => 0,
        };
        Some(Look { published, end, entries, newcomers, copies, own: 0 })
    }

    fn note(&self, view: View, published: u64, look: &Look, costs: Option<&Costs<K>>) {
        let version = published >> USED_BITS;
        self.sum.store(Sum::pack(view, version, look.end, look.entries, look.newcomers), Ordering::Relaxed);
        if let Some(costs) = costs {
            costs.sum.store(Copies::pack(view, version, look.copies), Ordering::Relaxed);
        }
    }

    /// Looks at all the cells that may be alive.
    #[inline(never)]
    fn add_up(&self, view: View, author: Option<AuthorTag>, costs: Option<&Costs<K>>) -> Look {
        // Acquire: as in `look`.
        let mut look = Look { published: self.published.load(Ordering::Acquire), ..Look::default() };
        let used = (look.published & USED_MASK) as usize;
        let seeker = author.map(|author| view.seeking(author));
        let mut oldest = 0;
        for (index, cell) in self.cells.iter().enumerate() {
            // Relaxed: `published` orders the cells.
            let word = cell.load(Ordering::Relaxed);
            if view.is_alive(word) {
                look.insert(word, costs.map_or(0, |costs| costs.of(index, word)));
                look.own += seeker.map_or(0, |seeker| seeker.finds(word) as usize);
                oldest = view.age(word).max(oldest);
            } else if index >= used {
                // Beyond `used` there are only the entries of writers who have not published yet. Each went for
                // the first free cell.
                break;
            }
        }
        look.end = view.end(oldest);
        look
    }

    /// Writes an entry, unless its author turns up in the meantime, and counts.
    #[inline(never)]
    fn add(&self, view: View, mut look: Look, mine: Mine, costs: Option<&Costs<K>>) -> Tally {
        let Mine { entry, author, cost } = mine;
        for _ in 0..ATTEMPTS {
            if look.own != 0 {
                return look.repeat();
            }
            let Some(place) = self.place(view, author, &look) else {
                look = self.add_up(view, author, costs);
                continue;
            };
            let is_full = view.is_alive(place.word);
            if is_full && view.age(place.word) < 0 {
                // This event is older than all in there.
                break;
            }
            let old_cost = costs.filter(|_| is_full).map_or(0, |costs| costs.of(place.index, place.word));
            // Relaxed: what orders cells between threads is `published`; a cell alone needs its own coherence only.
            let cell = &self.cells[place.index];
            if cell.compare_exchange(place.word, entry, Ordering::Relaxed, Ordering::Relaxed).is_err() {
                look = self.add_up(view, author, costs);
                continue;
            }
            if let Some(costs) = costs {
                self.put_cost(costs, place.index, entry, cost);
            }
            let before = self.publish(place.index, look.published);
            if before == look.published {
                if is_full {
                    look.forget(place.word, old_cost);
                    look.end = view.end(place.next_age);
                }
                look.insert(entry, u64::from(cost));
                look.end = View::earlier(look.end, view.end(0));
                self.note(view, before.wrapping_add(1 << USED_BITS), &look, costs);
                return look.tally();
            }
            look = self.add_up(view, author, costs);
            if look.own > 1 {
                self.free_second(view, author);
                look = self.add_up(view, author, costs);
            }
            if author.is_some() && look.own == 0 {
                // Others have filled the ring since, and this entry was the oldest.
                look.insert(entry, u64::from(cost));
            }
            return look.tally();
        }
        if look.own != 0 {
            return look.repeat();
        }
        look.insert(entry, u64::from(cost));
        look.tally()
    }

    /// Where an entry made now goes: the first free cell, or that of the oldest entry if none is free. `None`: the
    /// author is there by now.
    fn place(&self, view: View, author: Option<AuthorTag>, look: &Look) -> Option<Place> {
        let seeker = author.map_or(Seeker::NOBODY, |author| view.seeking(author));
        // All of them published: nobody is on his way to the cells that `has` leaves out.
        let is_full = look.entries >= K as u64 && look.published & USED_MASK == K as u64;
        if is_full && let Some(place) = self.place_in_crowd(view, seeker, view.age_of_end(look.end)) {
            return Some(place);
        }
        // What was seen is what the exchange will ask for.
        let mut words = [0; K];
        let mut own = 0;
        // Ages with the numbers of their cells, so that one comparison finds the oldest: among equals the lowest cell.
        let (mut oldest, mut next) = (i64::MIN, i64::MIN);
        for (index, (cell, seen)) in self.cells.iter().zip(&mut words).enumerate() {
            let word = cell.load(Ordering::Relaxed);
            if !view.is_alive(word) {
                return (own == 0).then_some(Place { index, word, next_age: 0 });
            }
            *seen = word;
            own |= seeker.finds(word);
            let aged = view.age(word) << USED_BITS | (USED_MASK as usize - index) as i64;
            next = next.max(aged.min(oldest));
            oldest = oldest.max(aged);
        }
        let index = USED_MASK as usize - (oldest & USED_MASK as i64) as usize;
        let word = *words.get(index).filter(|_| own == 0)?;
        // In a ring of one cell there is no next.
        Some(Place { index, word, next_age: (next >> USED_BITS).max(0) })
    }

    /// The same in a full ring whose oldest entry, of that age, was made this second or the last: then many write, and
    /// most entries are of this second. Two that are as old as the oldest say it all: the first makes room, and the
    /// other one is the oldest then. `None`: there are no two, or the author is there by now.
    fn place_in_crowd(&self, view: View, seeker: Seeker, age: i64) -> Option<Place> {
        if !(0..=1).contains(&age) {
            return None;
        }
        let mut oldest = None;
        for (index, cell) in self.cells.iter().enumerate() {
            let word = cell.load(Ordering::Relaxed);
            if seeker.finds(word) != 0 {
                return None;
            }
            if view.is_as_old(word, age) {
                if oldest.is_some() {
                    return oldest;
                }
                oldest = Some(Place { index, word, next_age: age });
            }
        }
        None
    }

    /// Frees the second cell of an author who has two.
    fn free_second(&self, view: View, author: Option<AuthorTag>) {
        let seeker = author.map(|author| view.seeking(author));
        let is_own = |word: u64| seeker.is_some_and(|seeker| seeker.finds(word) != 0);
        let words = self.cells.iter().map(|cell| (cell, cell.load(Ordering::Relaxed)));
        if let Some((cell, word)) = words.filter(|(_, word)| is_own(*word)).nth(1) {
            // If it fails, the cell is another entry's already.
            let _ = cell.compare_exchange(word, 0, Ordering::Relaxed, Ordering::Relaxed);
            // No sum that has counted it holds any longer.
            self.published.fetch_add(1 << USED_BITS, Ordering::AcqRel);
        }
    }

    /// Writes the cost of `entry` in cell `index`, unless that cell has been taken for a newer one.
    fn put_cost(&self, costs: &Costs<K>, index: usize, entry: u64, cost: u32) {
        let (Some(cell), Some(place)) = (self.cells.get(index), costs.costs.get(index)) else { return };
        // Acquire: pairs with the Release below. Who sees a newer entry's cost sees that entry, too, and stops.
        let mut old = place.load(Ordering::Acquire);
        while cell.load(Ordering::Relaxed) == entry {
            match place.compare_exchange(old, Cost::pack(cost, entry), Ordering::Release, Ordering::Acquire) {
                Ok(_) => return,
                Err(newer) => old = newer,
            }
        }
    }

    /// Makes the entry in cell `index` count; returns `published` as it was before.
    fn publish(&self, index: usize, seen: u64) -> u64 {
        let least = index as u64 + 1;
        // Acquire and Release: the additions of all writers form one chain. Each sees the cells of those before
        // it (Acquire) and shows its own to those after it and to every `look` (Release).
        if seen & USED_MASK >= least {
            // `used` never falls, so nothing but the count needs to change.
            return self.published.fetch_add(1 << USED_BITS, Ordering::AcqRel);
        }
        let mut before = seen;
        loop {
            let used = (before & USED_MASK).max(least);
            let after = (before & !USED_MASK).wrapping_add(1 << USED_BITS) | used;
            match self.published.compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return before,
                Err(newer) => before = newer,
            }
        }
    }
}

/// An entry to be made.
#[derive(Clone, Copy)]
struct Mine {
    entry: u64,
    author: Option<AuthorTag>,
    cost: u32,
}

impl Mine {
    fn of(view: View, entry: Entry) -> Self {
        Self { entry: view.entry(entry.author, entry.newcomer), author: Some(entry.author), cost: entry.cost }
    }
}

/// A cell that an entry may take.
struct Place {
    index: usize,
    word: u64,
    /// The age of the oldest entry there will be then, where `word` is the oldest there is.
    next_age: i64,
}

/// What is there.
#[derive(Default)]
struct Look {
    published: u64,
    /// When the first of the entries will be gone.
    end: u32,
    /// Cells with the author looked for.
    own: usize,
    entries: u64,
    newcomers: u64,
    copies: u64,
}

impl Look {
    fn insert(&mut self, entry: u64, cost: u64) {
        self.entries += 1;
        self.newcomers += newcomer(entry);
        self.copies += cost;
    }

    fn forget(&mut self, entry: u64, cost: u64) {
        self.entries = self.entries.saturating_sub(1);
        self.newcomers = self.newcomers.saturating_sub(newcomer(entry));
        self.copies = self.copies.saturating_sub(cost);
    }

    /// The tally of an author who is there already, though his entry may be in flight still and not in the sum.
    #[inline]
    fn repeat(&self) -> Tally {
        let tally = self.tally();
        Tally { authors: tally.authors.max(1), repeat: true, ..tally }
    }

    fn tally(&self) -> Tally {
        let (authors, newcomers) = (self.entries as u32, self.newcomers as u32);
        Tally { authors, newcomers, copies: self.copies, repeat: false }
    }
}
