//! A look at the cells that leaves nothing behind: for figures, never for a judgement.

use std::time::Duration;

use super::super::word::View;
use super::{Cells, Costs, Ring};
use crate::sync::Ordering;
use crate::time::Timestamp;
use crate::window::{KeyTag, Tally};

/// What a window holds, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Glance {
    /// The entries; `repeat` is false.
    pub tally: Tally,
    /// The age of the oldest of them, in whole seconds; zero where there is none.
    pub oldest: Duration,
}

impl<const K: usize> Ring<K> {
    /// What the window holds. Unlike [`Ring::tally`] it does not note the sum for the next who looks: nobody who
    /// judges is disturbed.
    pub fn glance(&self, tag: KeyTag, now: Timestamp, window: Duration) -> Glance {
        self.cells.glance(View::new(tag, now, window), Some(&self.costs))
    }
}

impl<const K: usize> Cells<K> {
    pub(in crate::window) fn glance(&self, view: View, costs: Option<&Costs<K>>) -> Glance {
        let tally = self.add_up(view, None, costs).tally();
        // Relaxed: `add_up` has seen what was published; an entry that comes or goes in between makes a figure
        // for people one second older or younger.
        let words = self.cells.iter().map(|cell| cell.load(Ordering::Relaxed));
        let oldest = words.filter(|word| view.is_alive(*word)).map(|word| view.age(word)).max();
        Glance { tally, oldest: Duration::from_secs(oldest.map_or(0, |age| age.max(0).cast_unsigned())) }
    }
}
