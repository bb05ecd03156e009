//! The entries of a ring as data, to be kept and put back.

use std::time::Duration;

use smallvec::SmallVec;

use super::super::word::View;
use super::{CELLS, Cells, Costs, Ring, USED_BITS, USED_MASK};
use crate::sync::Ordering;
use crate::time::Timestamp;
use crate::window::KeyTag;

/// The words of entries and of their costs, in no particular order. What their bits mean is the window's own
/// affair: see [`LAYOUT`](crate::window::LAYOUT).
pub type Entries = SmallVec<[(u64, u64); CELLS]>;

/// No window is longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

impl<const K: usize> Ring<K> {
    /// The entries that may still count at `now`.
    pub fn entries(&self, tag: KeyTag, now: Timestamp) -> Entries {
        self.cells.entries(tag, now, Some(&self.costs))
    }

    /// Puts entries into a ring that is empty, those aside that lie ahead of `now`: the clock was set back. Nobody
    /// else may use it meanwhile.
    pub fn put_back(&self, tag: KeyTag, entries: &[(u64, u64)], now: Timestamp) {
        self.cells.put_back(tag, entries, now, Some(&self.costs));
    }
}

impl<const K: usize> Cells<K> {
    pub(in crate::window) fn entries(
        &self,
        tag: KeyTag,
        now: Timestamp,
        costs: Option<&Costs<K>>,
    ) -> Entries {
        let view = View::new(tag, now, LONGEST);
        // Acquire: what was published before is seen. What is written meanwhile may be missing; whoever keeps the
        // image keeps the events from before it was made on.
        self.published.load(Ordering::Acquire);
        let cells = self.cells.iter().enumerate().map(|(index, cell)| {
            let cost = costs.and_then(|costs| costs.costs.get(index));
            (cell.load(Ordering::Relaxed), cost.map_or(0, |cost| cost.load(Ordering::Relaxed)))
        });
        cells.filter(|(word, _)| view.is_alive(*word)).collect()
    }

    pub(in crate::window) fn put_back(
        &self,
        tag: KeyTag,
        entries: &[(u64, u64)],
        now: Timestamp,
        costs: Option<&Costs<K>>,
    ) {
        let view = View::new(tag, now, LONGEST);
        let sound = entries.iter().filter(|(word, _)| view.is_alive(*word) && view.age(*word) >= 0);
        let mut used = 0;
        for (index, ((word, cost), cell)) in sound.zip(&self.cells).enumerate() {
            used = index + 1;
            cell.store(*word, Ordering::Relaxed);
            if let Some(place) = costs.and_then(|costs| costs.costs.get(index)) {
                place.store(*cost, Ordering::Relaxed);
            }
        }
        // At least as many as there were before: `used` never falls. A new version: no sum holds any longer.
        let before = self.published.load(Ordering::Acquire);
        let used = (before & USED_MASK).max(used as u64);
        let after = (before & !USED_MASK).wrapping_add(1 << USED_BITS) | used;
        // Release: as in `publish`.
        self.published.store(after, Ordering::Release);
    }
}
