//! What is remembered of one list: its newcomers, its automatic mail, and whether a storm is open.

mod by_hand;
mod join;

use std::time::Duration;

pub use by_hand::{Closure, LONGEST};
pub use join::StateImage;

use crate::sync::{AtomicU64, Ordering};
use crate::time::Timestamp;
use crate::window::{KeyTag, Ring};

/// The state of a list, shared by every session. All fields are atomics: nobody waits for anybody.
///
/// A storm that is open has `storm_since` set; the one compare-and-swap on it elects who announces the start
/// and the end. Orderings are acquire and release on `storm_since`, so that who sees a storm opened or closed
/// also sees the times that go with it.
pub struct ListState {
    /// Newcomers' posts to the list, in any conversation.
    pub(super) newcomers: Ring,
    /// Automatic mail to the list.
    pub(super) automatic: Ring,
    storm_since: AtomicU64,
    last_attempt: AtomicU64,
    cooling_until: AtomicU64,
    /// The latest storm that has ended: what is heard of it, or of one before it, opens nothing any more.
    ended: AtomicU64,
    /// The latest closure by hand: a word of [`Closure`]'s.
    closed_by_hand: AtomicU64,
    /// Everything up to then is forgiven.
    forgiven: AtomicU64,
    /// When this list was first seen; its history begins here.
    since: AtomicU64,
    /// Of the present storm, or of the last one.
    tally: StormTally,
}

/// What a storm has done so far.
#[derive(Default)]
struct StormTally {
    held: AtomicU64,
    copies_held: AtomicU64,
    delivered: AtomicU64,
    copies_delivered: AtomicU64,
}

impl StormTally {
    fn clear(&self) {
        for cell in [&self.held, &self.copies_held, &self.delivered, &self.copies_delivered] {
            cell.store(0, Ordering::Relaxed);
        }
    }
}

/// Is the list calm, in a storm, or on guard after one?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Ordinary days.
    Calm,
    /// A storm is open.
    Storm {
        /// When it was declared.
        since: Timestamp,
    },
    /// The time after a storm, in which a small spark is enough.
    Cooling {
        /// When the list is calm again.
        until: Timestamp,
    },
}

/// Figures of a storm, for events and the admin socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StormFigures {
    /// Messages that the storm's rule stopped since it was declared (whatever the mode did with them).
    pub held: u64,
    /// The copies that these would have cost.
    pub copies_held: u64,
    /// Messages that passed since it was declared.
    pub delivered: u64,
    /// Their copies.
    pub copies_delivered: u64,
}

/// The rings of a list belong to it alone and are never recycled: one tag serves all.
pub(super) const LIST_TAG: KeyTag = KeyTag::new(0);

impl ListState {
    /// A list first seen at `since`.
    pub fn new(since: Timestamp) -> Self {
        Self {
            newcomers: Ring::new(),
            automatic: Ring::new(),
            storm_since: AtomicU64::new(0),
            last_attempt: AtomicU64::new(0),
            cooling_until: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            closed_by_hand: AtomicU64::new(0),
            forgiven: AtomicU64::new(0),
            since: AtomicU64::new(since.as_millis()),
            tally: StormTally::default(),
        }
    }

    /// When the list was first seen.
    pub fn since(&self) -> Timestamp {
        // Relaxed, here and where it is set: it only ever moves back, and orders nothing.
        Timestamp::from_millis(self.since.load(Ordering::Relaxed))
    }

    /// Until when the list is on guard after its last storm.
    pub fn cooling_until(&self) -> Timestamp {
        Timestamp::from_millis(self.cooling_until.load(Ordering::Acquire))
    }

    /// The phase as of `now`, as the last post or tick left it.
    pub fn phase(&self, now: Timestamp) -> Phase {
        // Acquire: pairs with the release in `open` and `close`.
        match self.storm_since.load(Ordering::Acquire) {
            0 => {
                let until = self.cooling_until();
                let forgiven = self.forgiven.load(Ordering::Acquire) >= self.ended.load(Ordering::Acquire);
                if until > now && !forgiven { Phase::Cooling { until } } else { Phase::Calm }
            }
            since => Phase::Storm { since: Timestamp::from_millis(since) },
        }
    }

    /// When the latest storm was declared that has ended; the epoch: none has.
    pub fn last_ended(&self) -> Timestamp {
        Timestamp::from_millis(self.ended.load(Ordering::Acquire))
    }

    /// The last post that the storm or its cooling stopped.
    pub fn last_attempt(&self) -> Timestamp {
        Timestamp::from_millis(self.last_attempt.load(Ordering::Acquire))
    }

    /// The figures of the present storm, or of the last one.
    pub fn figures(&self) -> StormFigures {
        // Relaxed: figures for a report; they order nothing.
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        StormFigures {
            held: read(&self.tally.held),
            copies_held: read(&self.tally.copies_held),
            delivered: read(&self.tally.delivered),
            copies_delivered: read(&self.tally.copies_delivered),
        }
    }

    /// Declares a storm. True for the one caller who did.
    pub(super) fn open(&self, now: Timestamp) -> bool {
        // Before the storm can be seen, or a tick might close it at once.
        self.remember_attempt(now);
        // Later than any that has ended, whatever the clock says: a storm is known by when it began.
        let since = now.as_millis().max(self.ended.load(Ordering::Acquire).saturating_add(1));
        // Release on success: who sees the storm sees its last attempt. 0 would mean "no storm".
        let opened = self.storm_since.compare_exchange(0, since, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if opened {
            self.tally.clear();
        }
        opened
    }

    /// Closes a storm whose last attempt is older than `quiet`, or whose time is over, if it was opened by hand.
    /// Returns the start of the storm to the one caller who closed it.
    pub(super) fn close_if_quiet(
        &self,
        now: Timestamp,
        quiet: Duration,
        cooling: Duration,
    ) -> Option<Timestamp> {
        let since = self.storm_since.load(Ordering::Acquire);
        let last = self.last_attempt();
        let closure = self.closure();
        if since == 0 || closure.is_some_and(|closure| now < closure.until) {
            return None;
        }
        // For the time that was asked for: whoever goes on meets the rule, which has counted all the while.
        let by_hand = closure.is_some_and(|closure| closure.at.as_millis() == since);
        if !by_hand && now.since(last) <= quiet {
            return None;
        }
        if !by_hand {
            let until = last.after(quiet).after(cooling);
            // Before the storm is closed, so that nobody sees the list calm in between.
            self.cooling_until.fetch_max(until.as_millis(), Ordering::AcqRel);
        }
        self.ended.fetch_max(since, Ordering::AcqRel);
        self.storm_since
            .compare_exchange(since, 0, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
            .then(|| Timestamp::from_millis(since))
    }

    /// When the open storm ends if nobody adds to it, by the rule of `close_if_quiet`; none: none is open.
    pub fn ends(&self, quiet: Duration) -> Option<Timestamp> {
        let since = self.storm_since.load(Ordering::Acquire);
        let quiet_at = self.last_attempt().after(quiet);
        let ends = match self.closure() {
            Some(closure) if closure.at.as_millis() == since => closure.until,
            Some(closure) => closure.until.max(quiet_at),
            None => quiet_at,
        };
        (since != 0).then_some(ends)
    }

    /// A post that the storm or its cooling stopped.
    pub(super) fn remember_attempt(&self, now: Timestamp) {
        self.last_attempt.fetch_max(now.as_millis(), Ordering::AcqRel);
    }

    /// Adds a message to the storm's figures.
    pub(super) fn count(&self, stopped: bool, copies: u64) {
        let (messages, cost) = if stopped {
            (&self.tally.held, &self.tally.copies_held)
        } else {
            (&self.tally.delivered, &self.tally.copies_delivered)
        };
        messages.fetch_add(1, Ordering::Relaxed);
        // Capped, so that it takes four billion of the largest messages to wrap the sum.
        cost.fetch_add(copies.min(u64::from(u32::MAX)), Ordering::Relaxed);
    }
}
