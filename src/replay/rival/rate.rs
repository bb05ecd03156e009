//! A plain rate limit: so many messages to a list, or copies of them, within a time of a given length.

use std::collections::VecDeque;
use std::time::Duration;

use super::memory::Memory;
use super::{MAX_MESSAGES, Post};
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

    /// Counts a post, and says whether it is let through. Mail to no list is none of its business.
    pub fn lets_through(&mut self, post: &Post) -> bool {
        let Some(list) = post.list else { return true };
        let lately = self.lists.entry(list);
        while let Some((_, cost)) = lately.passed.pop_front_if(|(at, _)| post.now.since(*at) >= self.per) {
            lately.sum = lately.sum.saturating_sub(cost);
        }
        let cost = match self.unit {
            Unit::Messages => 1,
            Unit::Copies => post.audience,
        };
        // A message that alone costs more than the limit passes where nothing else did: else nobody could ever
        // write to such a list.
        let first = lately.passed.is_empty();
        if !first && lately.sum.saturating_add(cost) > self.most {
            return false;
        }
        // Only a list that hardly anybody is on can pass so many by copies; then they cost next to nothing.
        if (lately.passed.len() as u64) < MAX_MESSAGES {
            lately.passed.push_back((post.now, cost));
            lately.sum = lately.sum.saturating_add(cost);
        }
        true
    }
}
