//! Keys whose slots were found before, one by one or many at once.

use std::hint::black_box;
use std::time::Duration;

use super::{Key, Table, granule};
use crate::sync::Ordering;
use crate::time::Timestamp;
use crate::window::word::View;
use crate::window::{Entry, KeyTag, Tally};

/// Keys whose memory is asked for at once in [`Table::observe_all`]: about as many as the processor can wait for.
pub const LOT: usize = 32;

/// A key that is to be counted, and where its slot was found the last time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sought {
    /// The key.
    pub key: u64,
    /// Where it was; the default is that nobody knows.
    pub hint: Hint,
}

/// The way in which a key's slot was found (3 bits), and a stamp of that moment (10 bits).
///
/// The stamp is another as soon as 64 s begin or a key gives way to another one. While it is the table's own, the
/// word of the slot need not be looked at: it is the key's still, and as recent as it can be. A hint may be out of date
/// all the same: an old stamp comes round after hundreds of such changes, and a key may give way to another one of the
/// same lot. Nothing is counted for another key then, since the cells say whose they are. But an author who is found
/// in the slot that was left is not counted in a new one, and the slot looks idle for 64 s longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hint(u16);

impl Hint {
    const WAY_BITS: u32 = 3;
    const STAMPS: u64 = (1 << 10) - 1;

    /// From [`Hint::bits`].
    #[inline]
    pub fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// 13 bits.
    #[inline]
    pub fn bits(self) -> u16 {
        self.0
    }

    /// Of the granule of 64 s and the keys that gave way so far. Never 0: a hint that is 0 is none.
    fn stamp(granule: u64, evictions: u64) -> u16 {
        // A message may be older than the granule that others are in: one step of time must not be as long as one
        // eviction, or the two would make up for each other.
        const STEP: u64 = 397;
        (granule.wrapping_mul(STEP).wrapping_add(evictions) % Self::STAMPS + 1) as u16
    }

    #[inline]
    fn new(way: usize, stamp: u16) -> Self {
        Self(stamp << Self::WAY_BITS | way as u16)
    }

    #[inline]
    fn way(self, stamp: u16) -> Option<usize> {
        (self.0 >> Self::WAY_BITS == stamp).then_some(usize::from(self.0) & ((1 << Self::WAY_BITS) - 1))
    }
}

impl<const K: usize> Table<K> {
    /// [`Table::observe`] for a key whose slot was found before. Its hint is made new if it is not good any more.
    #[inline]
    pub fn observe_sought(
        &self,
        sought: &mut Sought,
        entry: Entry,
        now: Timestamp,
        window: Duration,
    ) -> Option<Tally> {
        let own = Key::new(sought.key);
        let granule = granule(now);
        let stamp = self.stamp(granule);
        let view = View::new(own.tag(), now, window);
        if let Some(way) = sought.hint.way(stamp) {
            let (index, _) = self.sets.set(own.0);
            return match self.ring(self.place_of(index, way)).0.shows(view, entry.author) {
                true => None,
                false => self.observe_anew(sought.key, entry, now, window),
            };
        }
        let (index, way) = self.place(own, granule, now)?;
        sought.hint = Hint::new(way, stamp);
        let (cells, costs) = self.ring(self.place_of(index, way));
        cells.enter(view, entry, costs)
    }

    /// What hints are stamped with at this time.
    #[inline]
    fn stamp(&self, granule: u64) -> u16 {
        // Relaxed: whoever reads it late takes a key that has just given way for one that is about to.
        Hint::stamp(granule, self.evictions.load(Ordering::Relaxed))
    }

    /// [`Table::observe`] for many keys. The table is larger than the processor's caches: to ask for the memory of
    /// several slots before any of them is used takes a fraction of the time. True: some hints are new.
    pub fn observe_all(&self, sought: &mut [Sought], entry: Entry, now: Timestamp, window: Duration) -> bool {
        let view = View::new(KeyTag::from_bits(0), now, window);
        let granule = granule(now);
        let stamp = self.stamp(granule);
        let mut found = false;
        for sought in sought.chunks_mut(LOT) {
            let mut own = [Key(0); LOT];
            let mut places = [None; LOT];
            let mut strange = false;
            // Loops of few instructions each: the processor looks only so far ahead for memory to ask for.
            for ((own, place), sought) in own.iter_mut().zip(&mut places).zip(&*sought) {
                *own = Key::new(sought.key);
                let (index, set) = self.sets.set(own.0);
                *place = sought.hint.way(stamp).map(|way| self.place_of(index, way));
                if place.is_none() {
                    black_box(set.load(0));
                    strange = true;
                }
            }
            if strange {
                for ((place, own), sought) in places.iter_mut().zip(&own).zip(&mut *sought) {
                    if place.is_none()
                        && let Some((index, way)) = self.place(*own, granule, now)
                    {
                        *place = Some(self.place_of(index, way));
                        sought.hint = Hint::new(way, stamp);
                        found = true;
                    }
                }
            }
            for place in places.iter().flatten() {
                self.ring(*place).0.fetch();
            }
            for ((place, own), sought) in places.iter().zip(&own).zip(&*sought) {
                // No place: it was refused one.
                let Some(place) = place else { continue };
                if !self.ring(*place).0.shows(view.of(own.tag()), entry.author) {
                    self.observe_anew(sought.key, entry, now, window);
                }
            }
        }
        found
    }

    /// For an author who is new, or one of many: about as seldom as it is long.
    #[inline(never)]
    fn observe_anew(&self, key: u64, entry: Entry, now: Timestamp, window: Duration) -> Option<Tally> {
        self.observe(key, entry, now, window)
    }
}
