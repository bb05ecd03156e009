//! How near a list or a conversation without a storm is to one: read from the counters, written nowhere.

use std::time::Duration;

use super::{Detector, LIST_TAG, ListShare, Phase, Scope, Thresholds, Trigger, spark};
use crate::time::Timestamp;
use crate::window::Glance;

/// The test that is nearest to its threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nearness {
    /// Which test.
    pub test: Trigger,
    /// People it has counted within the window.
    pub people: u32,
    /// So many are a storm.
    pub threshold: u32,
    /// Copies that the counted posts cost, of one post by each author.
    pub copies: u64,
    /// How long ago the oldest of them was.
    pub oldest: Duration,
}

impl Nearness {
    /// Is it half of what trips, or more?
    pub fn is_near(&self) -> bool {
        self.people > 0 && self.people.saturating_mul(2) >= self.threshold
    }

    /// How near, for comparison.
    pub fn is_nearer_than(&self, other: &Self) -> bool {
        u64::from(self.people) * u64::from(other.threshold)
            > u64::from(other.people) * u64::from(self.threshold)
    }

    /// Copies of the posts so far, and of an hour at the pace they came at: what it would come to if nobody, and no
    /// filter, stopped it.
    pub fn projected(&self) -> u64 {
        // Two posts of the same second are no pace: at least a minute is divided by.
        let seconds = self.oldest.as_secs().max(60);
        let hour = u128::from(self.copies) * 3600 / u128::from(seconds);
        self.copies.saturating_add(u64::try_from(hour).unwrap_or(u64::MAX))
    }
}

impl Detector {
    /// The newcomers of a list, in all its conversations together. None: a storm is open, or nothing counts.
    pub fn nearness_of_list(&self, list: ListShare<'_>, now: Timestamp, t: &Thresholds) -> Option<Nearness> {
        if !newcomers_count(list, now, t) {
            return None;
        }
        let trips = Scope::list(t, list.members).storm;
        let (test, threshold) = match list.state.phase(now) {
            Phase::Storm { .. } => return None,
            Phase::Cooling { .. } => (Trigger::Rekindled, spark(t).min(trips)),
            Phase::Calm => (Trigger::ListNewcomers, trips),
        };
        let window = list.state.counted(now, t.window)?;
        let Glance { tally, oldest } = list.state.newcomers.glance(LIST_TAG, now, window);
        Some(Nearness { test, people: tally.newcomers, threshold, copies: tally.copies, oldest })
    }

    /// The people of a conversation whose messages reach `audience`. None: it is not remembered, a storm is open, or
    /// nothing counts.
    pub fn nearness_of_conversation(
        &self,
        conversation: u64,
        audience: u64,
        list: Option<ListShare<'_>>,
        now: Timestamp,
        t: &Thresholds,
    ) -> Option<Nearness> {
        let window = match list {
            Some(list) if matches!(list.state.phase(now), Phase::Storm { .. }) => return None,
            Some(list) => list.state.counted(now, t.window)?,
            None => t.window,
        };
        let slot = self.conversations.find(conversation)?;
        if list.is_none() && slot.closed_until() > now {
            return None;
        }
        let Glance { tally, oldest } = slot.glance(now, window);
        let of = |test, people, threshold| Nearness { test, people, threshold, copies: tally.copies, oldest };
        let authors = of(Trigger::ConversationAuthors, tally.authors, t.max);
        if list.is_some_and(|list| !newcomers_count(list, now, t)) {
            return Some(authors);
        }
        let trips = Scope::conversation(t, audience).storm;
        let newcomers = of(Trigger::ConversationNewcomers, tally.newcomers, trips);
        Some(if authors.is_nearer_than(&newcomers) { authors } else { newcomers })
    }
}

/// As the rule has it.
fn newcomers_count(list: ListShare<'_>, now: Timestamp, t: &Thresholds) -> bool {
    now.since(list.state.since()) >= t.history || list.members > t.budget
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projection_goes_on_at_the_pace_so_far() {
        let near = |copies, seconds| Nearness {
            test: Trigger::ListNewcomers,
            people: 5,
            threshold: 10,
            copies,
            oldest: Duration::from_secs(seconds),
        };
        assert_eq!(near(5_000, 600).projected(), 35_000);
        assert_eq!(near(5_000, 0).projected(), 305_000, "at once is not infinitely fast");
        assert_eq!(near(u64::MAX, 0).projected(), u64::MAX);
        assert!(near(1, 1).is_near());
        assert!(!Nearness { people: 4, ..near(1, 1) }.is_near());
        assert!(!Nearness { people: 0, threshold: 0, ..near(1, 1) }.is_near());
        assert!(Nearness { people: 4, threshold: 7, ..near(1, 1) }.is_nearer_than(&near(1, 1)));
    }
}
