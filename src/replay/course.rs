//! Courses over time in a bounded number of steps: where more come, two become one.

use super::report::{Bucket, MAX_BUCKETS, State, Timeline};
use crate::time::Timestamp;

/// The shortest step, in milliseconds.
const MINUTE: u64 = 60_000;

/// A course that is being drawn.
#[derive(Clone, Debug)]
pub(super) struct Course {
    from: u64,
    step: u64,
    buckets: Vec<Bucket>,
}

impl Course {
    /// Begins with the minute of `from`.
    pub fn new(from: Timestamp) -> Self {
        Self { from: from.as_millis() / MINUTE * MINUTE, step: MINUTE, buckets: Vec::new() }
    }

    /// The bucket of a time; the first one for times before it.
    pub fn at(&mut self, at: Timestamp) -> &mut Bucket {
        let after = at.as_millis().saturating_sub(self.from);
        while after / self.step >= MAX_BUCKETS as u64 {
            self.halve();
        }
        let index = (after / self.step) as usize;
        if self.buckets.len() <= index {
            self.buckets.resize(index + 1, Bucket::default());
        }
        // The last one, at most: it has just been made.
        let last = self.buckets.len() - 1;
        &mut self.buckets[index.min(last)]
    }

    /// Marks the buckets that a time touches, of those that are there.
    pub fn mark(&mut self, from: Timestamp, until: Timestamp, state: State) {
        let place = |at: Timestamp| (at.as_millis().saturating_sub(self.from) / self.step) as usize;
        if until.as_millis() < self.from {
            return;
        }
        let (first, last) = (place(from), place(until));
        for bucket in self.buckets.iter_mut().take(last.saturating_add(1)).skip(first) {
            bucket.state = bucket.state.max(state);
        }
    }

    /// As it goes into a report.
    pub fn finish(self, storm: Option<usize>) -> Timeline {
        let Self { from, step, buckets } = self;
        Timeline { storm, from: Timestamp::from_millis(from), step_s: step / 1000, buckets }
    }

    fn halve(&mut self) {
        self.step = self.step.saturating_mul(2);
        self.buckets = self
            .buckets
            .chunks(2)
            .map(|pair| pair.iter().fold(Bucket::default(), |sum, bucket| sum.and(bucket)))
            .collect();
    }
}

impl Bucket {
    fn and(self, other: &Self) -> Self {
        Self {
            replies: self.replies.saturating_add(other.replies),
            delivered: self.delivered.saturating_add(other.delivered),
            delayed: self.delayed.saturating_add(other.delayed),
            held: self.held.saturating_add(other.held),
            copies_with: self.copies_with.saturating_add(other.copies_with),
            copies_without: self.copies_without.saturating_add(other.copies_without),
            state: self.state.max(other.state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn steps_grow_so_that_all_fits() {
        let mut course = Course::new(at(90));
        course.at(at(95)).replies += 1;
        course.at(at(125)).replies += 1;
        course.at(at(60 * MAX_BUCKETS as u64 + 60)).replies += 1;
        course.mark(at(0), at(70), State::Storm);
        let timeline = course.finish(None);
        assert_eq!((timeline.from, timeline.step_s), (at(60), 120));
        assert_eq!(timeline.buckets.len(), MAX_BUCKETS / 2 + 1);
        assert_eq!((timeline.buckets[0].replies, timeline.buckets[0].state), (2, State::Storm));
        assert_eq!(timeline.buckets[1].state, State::Calm);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_grows(times in prop::collection::vec(any::<u64>(), 1..50)) {
            let mut course = Course::new(Timestamp::from_millis(times[0]));
            for time in &times {
                course.at(Timestamp::from_millis(*time)).replies += 1;
            }
            prop_assert!(course.buckets.len() <= MAX_BUCKETS);
            prop_assert_eq!(course.buckets.iter().map(|bucket| bucket.replies).sum::<u64>(), times.len() as u64);
        }
    }
}
