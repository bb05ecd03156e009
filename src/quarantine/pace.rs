//! How fast suspicions that calmed are let go: in copies, since these are what mailboxes and servers must take.

use crate::time::Timestamp;

/// Milliseconds in which an empty bucket fills.
const MINUTE: u64 = 60_000;

/// A bucket of copies that fills within a minute. A message that is larger than the bucket needs a full one, and
/// empties it: one in a minute goes, whatever its size.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    per_minute: u64,
    /// In copies times milliseconds of a minute, so that nothing is lost to rounding.
    level: u64,
    at: Timestamp,
}

impl Pace {
    /// `per_minute` copies; at least 1, at most 2^40. The bucket is full.
    pub fn new(per_minute: u64, now: Timestamp) -> Self {
        let empty = Self::empty(per_minute, now);
        Self { level: empty.per_minute.saturating_mul(MINUTE), ..empty }
    }

    /// The same with nothing in the bucket: for one who goes on where another has just let mail go.
    pub fn empty(per_minute: u64, now: Timestamp) -> Self {
        Self { per_minute: per_minute.clamp(1, 1 << 40), level: 0, at: now }
    }

    /// Another rate; what is in the bucket stays.
    pub fn set(&mut self, per_minute: u64) {
        self.per_minute = per_minute.clamp(1, 1 << 40);
        self.level = self.level.min(self.per_minute.saturating_mul(MINUTE));
    }

    /// May a message of so many copies go now? Then it is charged.
    pub fn admits(&mut self, copies: u64, now: Timestamp) -> bool {
        let passed = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        let full = self.per_minute.saturating_mul(MINUTE);
        self.level = self.level.saturating_add(passed.saturating_mul(self.per_minute)).min(full);
        self.at = self.at.max(now);
        let price = copies.saturating_mul(MINUTE).min(full);
        match self.level.checked_sub(price) {
            Some(rest) => {
                self.level = rest;
                true
            }
            None => false,
        }
    }

    /// It did not go after all.
    pub fn give_back(&mut self, copies: u64) {
        let full = self.per_minute.saturating_mul(MINUTE);
        self.level = self.level.saturating_add(copies.saturating_mul(MINUTE).min(full)).min(full);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of so many copies that go within `minutes`, asked every second.
    fn gone(per_minute: u64, copies: u64, minutes: u64) -> u64 {
        let mut pace = Pace::new(per_minute, Timestamp::default());
        (0..minutes * 60)
            .map(|second| {
                let now = Timestamp::from_millis(second * 1000);
                std::iter::repeat_with(|| pace.admits(copies, now)).take_while(|goes| *goes).count() as u64
            })
            .sum()
    }

    #[test]
    fn copies_a_minute_and_one_message_a_minute_at_least() {
        // A full bucket at first, then what flows in.
        assert_eq!(gone(1000, 10, 3), 100 + 298);
        assert_eq!(gone(1000, 840_000, 10), 10);
        assert_eq!(gone(1, 840_000, 10), 10);
        assert_eq!(gone(u64::MAX, 1, 0), 0);
    }

    #[test]
    fn what_is_given_back_can_be_used_again() {
        let mut pace = Pace::empty(10, Timestamp::default());
        assert!(!pace.admits(1, Timestamp::default()));
        let now = Timestamp::from_millis(60_000);
        assert!(pace.admits(50, now) && !pace.admits(1, now));
        pace.give_back(50);
        assert!(pace.admits(10, now) && !pace.admits(1, now));
        pace.set(5);
        assert!(pace.admits(5, Timestamp::from_millis(120_000)));
    }
}
