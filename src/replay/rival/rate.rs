//! A plain rate limit: so many messages to a list, or copies of them, within a time of a given length.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::judge::{Declared, Posting, Ruling, Verdict};
use super::MAX_MESSAGES;
use super::memory::Memory;
use crate::time::Timestamp;

/// Lists that are followed at once.
const LISTS: usize = 100_000;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Messages.
    Messages,
    /// Mailboxes that they reach.
    Copies,
}

/// The rule and what it has let through lately.
#[derive(Debug)]
pub struct RateLimit {
    most: u64,
    per: Duration,
    unit: Unit,
    lists: Memory<Lately>,
}

/// What was let through within the time, oldest first, and its sum.
#[derive(Debug, Default)]
struct Lately {
    passed: VecDeque<(Timestamp, u64)>,
    sum: u64,
}

impl RateLimit {
    /// At most `most` in any time as long as `per`.
    pub fn new(most: u64, per: Duration, unit: Unit) -> Self {
        Self { most, per, unit, lists: Memory::new(LISTS) }
    }

    /// Counts a posting and judges it.
    pub fn judge(&mut self, posting: &Posting) -> Ruling {
        let now = posting.at;
        let lately = self.lists.entry(posting.list as u64);
        while let Some((_, cost)) = lately.passed.pop_front_if(|(at, _)| now.since(*at) >= self.per) {
            lately.sum = lately.sum.saturating_sub(cost);
        }
        let cost = match self.unit {
            Unit::Messages => 1,
            Unit::Copies => posting.members,
        };
        // A message that alone costs more than the limit passes where nothing else did: else nobody could ever
        // write to such a list.
        let first = lately.passed.is_empty();
        if !first && lately.sum.saturating_add(cost) > self.most {
            let storm = Declared { trigger: "rate", until: now.after(self.per), whole_list: true };
            return Ruling { verdict: Verdict::Hold, storm: Some(storm) };
        }
        // More pass only where a message costs next to nothing.
        if (lately.passed.len() as u64) < MAX_MESSAGES {
            lately.passed.push_back((now, cost));
            lately.sum = lately.sum.saturating_add(cost);
        }
        Ruling::PASS
    }
}
