//! What operators do with a list: close it for a time, or end its storm.
//!
//! An end by hand forgives: storms declared by then are over without a cooling, and posts of that time count no
//! more. A closure is a storm that lasts until its time, or keeps a storm that is open anyway for at least that
//! long. Reports of both can be joined in any order, and more than once: of two closures the later one holds.

use std::time::Duration;

use super::ListState;
use crate::sync::Ordering;
use crate::time::Timestamp;

/// A closure, at most: a list that is to stay closed needs another policy, not a storm. Fits the seconds of a word.
pub const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// A word: milliseconds since 1970 (42 bits, until 2109), seconds from then on (22 bits, 48 days).
const SPAN_BITS: u32 = 22;
const MOST_SECONDS: u64 = (1 << SPAN_BITS) - 1;

/// A closure of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closure {
    /// From when on; a storm that was opened by hand has begun then.
    pub at: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

impl Closure {
    pub(super) fn of(word: u64) -> Self {
        let at = Timestamp::from_millis(word >> SPAN_BITS);
        Self { at, until: at.after(Duration::from_secs(word & MOST_SECONDS)) }
    }

    fn word(self) -> u64 {
        let at = self.at.as_millis().min(u64::MAX >> SPAN_BITS);
        let seconds = self.until.since(self.at).min(LONGEST).as_millis().div_ceil(1000) as u64;
        at << SPAN_BITS | seconds.min(MOST_SECONDS)
    }
}

impl ListState {
    /// Closes the list for `span` from `now` on, never for less than it is closed already. True: a storm was opened
    /// for it, by this caller.
    pub fn close_by_hand(&self, now: Timestamp, span: Duration) -> bool {
        let opened = self.open(now);
        let storm = self.storm_since.load(Ordering::Acquire);
        let at = match self.closure() {
            // The same closure, made longer.
            Some(standing) => standing.at,
            None if opened => Timestamp::from_millis(storm),
            // Later than the storm that is open: this one was declared by the rule.
            None => now.max(Timestamp::from_millis(storm.saturating_add(1))),
        };
        self.join_closure(Closure { at, until: now.after(span) });
        opened
    }

    /// Ends everything that was declared by `now`. Returns the start of the storm to the one caller who ended it.
    pub fn forgive(&self, now: Timestamp) -> Option<Timestamp> {
        let since = self.storm_since.load(Ordering::Acquire);
        let at = now.max(Timestamp::from_millis(since));
        self.join_forgiven(at).then(|| Timestamp::from_millis(since))
    }

    /// Until when posts count no more, and storms are over without a cooling; the epoch: never.
    pub fn forgiven(&self) -> Timestamp {
        Timestamp::from_millis(self.forgiven.load(Ordering::Acquire))
    }

    /// The closure that is in force, or has just run out.
    pub fn closure(&self) -> Option<Closure> {
        let closure = Closure::of(self.closed_by_hand.load(Ordering::Acquire));
        (closure.at.as_millis() > self.ended.load(Ordering::Acquire)).then_some(closure)
    }

    /// A closure that was heard of.
    pub fn join_closure(&self, closure: Closure) {
        self.closed_by_hand.fetch_max(closure.word(), Ordering::AcqRel);
    }

    /// Everything up to `at` is forgiven. True for the one caller who ended a storm by it.
    pub fn join_forgiven(&self, at: Timestamp) -> bool {
        // Before the storm is closed, so that nobody sees the list cooling in between.
        self.forgiven.fetch_max(at.as_millis(), Ordering::AcqRel);
        let cooling = self.cooling_until.load(Ordering::Acquire);
        let ended = self.end(at, Timestamp::default());
        if self.ended.load(Ordering::Acquire) <= at.as_millis() {
            // Or it would be in force again after the next storm that has none of its own. Lost against a later one.
            let _ = self.cooling_until.compare_exchange(cooling, 0, Ordering::AcqRel, Ordering::Acquire);
        }
        ended
    }

    /// Is a conversation closed that the rule closed until `until`, which is as long as the list would cool? Not if
    /// that was forgiven since.
    pub(in crate::storm) fn keeps_closed(&self, until: Timestamp, now: Timestamp, cooling: Duration) -> bool {
        until > now && until > self.forgiven().after(cooling)
    }

    /// The window in which posts count: `window`, but nothing of what was forgiven. None: nothing counts in the very
    /// second of that act, for entries know their second only.
    pub(in crate::storm) fn counted(&self, now: Timestamp, window: Duration) -> Option<Duration> {
        let forgiven = self.forgiven();
        // Ahead of now: the clock was set back. Then there is no telling what was forgiven.
        if forgiven == Timestamp::default() || forgiven > now {
            return Some(window);
        }
        match now.as_secs().saturating_sub(forgiven.as_secs()) {
            0 => None,
            seconds => Some(window.min(Duration::from_secs(seconds))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm::state::{Phase, StormFigures};

    const HOUR: Duration = Duration::from_secs(3600);

    const fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    #[test]
    fn closed_for_the_time_given_and_no_longer() {
        let list = ListState::new(at(1));
        assert!(list.close_by_hand(at(1000), HOUR));
        assert_eq!(list.phase(at(1001)), Phase::Storm { since: at(1000) });
        list.remember_attempt(at(4500));
        assert_eq!(list.close_if_quiet(at(4599), Duration::ZERO, HOUR), None);
        assert!(!list.close_by_hand(at(1100), HOUR), "open already");
        assert!(!list.close_by_hand(at(1100), Duration::from_secs(1)), "never shorter");
        assert_eq!(list.close_if_quiet(at(4699), Duration::ZERO, HOUR), None, "it was made longer");
        // Somebody tried a moment ago: the time is over all the same, and there is no cooling.
        assert_eq!(list.close_if_quiet(at(4700), HOUR, HOUR), Some(at(1000)));
        assert_eq!(list.phase(at(4700)), Phase::Calm);
        assert_eq!(list.closure(), None);
    }

    #[test]
    fn a_storm_of_the_rule_is_kept_open_and_ends_by_its_rule() {
        let list = ListState::new(at(1));
        assert!(list.open(at(1000)));
        assert!(!list.close_by_hand(at(1000), 2 * HOUR));
        assert_eq!(list.close_if_quiet(at(8199), HOUR, HOUR), None, "quiet, but closed by hand");
        list.remember_attempt(at(8100));
        assert_eq!(list.close_if_quiet(at(8300), HOUR, HOUR), None, "not quiet");
        assert_eq!(list.close_if_quiet(at(11_701), HOUR, HOUR), Some(at(1000)));
        assert_eq!(list.phase(at(11_702)), Phase::Cooling { until: at(15_300) });
    }

    #[test]
    fn what_is_forgiven_is_over_whatever_is_heard_of_it_later() {
        let list = ListState::new(at(1));
        assert!(list.open(at(1000)));
        list.close_by_hand(at(1001), HOUR);
        assert_eq!(list.forgive(at(2000)), Some(at(1000)));
        assert_eq!(list.forgive(at(2000)), None, "once");
        assert_eq!(list.phase(at(2000)), Phase::Calm);
        // Its end, its beginning and its closure come late.
        list.end(at(1000), at(90_000));
        list.join_storm(at(1000), at(1900), &StormFigures::default());
        list.join_closure(Closure { at: at(1001), until: at(90_000) });
        assert_eq!((list.phase(at(2001)), list.closure()), (Phase::Calm, None));
        assert_eq!(list.counted(at(2000), HOUR), None);
        assert_eq!(list.counted(at(2001), HOUR), Some(Duration::from_secs(1)));
        assert_eq!(list.counted(at(9000), HOUR), Some(HOUR));
        assert_eq!(list.counted(at(1500), HOUR), Some(HOUR), "the clock was set back");
        // The next storm is one like any other.
        assert!(list.open(at(2001)));
        assert_eq!(list.close_if_quiet(at(6000), HOUR, HOUR), Some(at(2001)));
        assert!(matches!(list.phase(at(6001)), Phase::Cooling { .. }));
        assert_eq!(list.forgive(at(6002)), None);
        assert_eq!(list.phase(at(6002)), Phase::Calm, "a cooling can be ended too");
    }
}
