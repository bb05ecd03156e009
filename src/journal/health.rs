//! How the journal is: counted by those who hand records over and by the writer, read by `becalm status`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::time::Timestamp;

/// A round of writing that takes longer than this means that the disk does not keep up: what is known would be
/// older than a second when the power fails.
pub const SLOW: Duration = Duration::from_secs(2);

/// One per journal; all atomics but the words.
#[derive(Debug, Default)]
pub struct Health {
    /// Records handed over, whatever became of them.
    pub offered: AtomicU64,
    /// Records that were dropped: no room, or no disk.
    pub dropped: AtomicU64,
    /// Records that are safe on the disk.
    pub written: AtomicU64,
    /// Bytes of all segments and checkpoints there are.
    pub bytes: AtomicU64,
    /// Segments there are.
    pub segments: AtomicU64,
    /// When the round of writing began that is under way; 0: none is.
    pub busy_since: AtomicU64,
    /// When all that had been handed over was last safe; 0: never.
    pub synced: AtomicU64,
    /// When the last checkpoint was made; 0: never.
    pub checkpoint: AtomicU64,
    trouble: Mutex<Option<Trouble>>,
}

/// Why the journal is not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// For an operator.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
}

impl Health {
    /// What is wrong at `now`, if anything is.
    pub fn trouble(&self, now: Timestamp) -> Option<Trouble> {
        let told = self.told().clone();
        let busy = Timestamp::from_millis(self.busy_since.load(Ordering::Acquire));
        let stuck = busy > Timestamp::default() && now.since(busy) > SLOW;
        told.or_else(|| {
            stuck.then(|| Trouble {
                why: format!("the disk has not taken a write for {} s", now.since(busy).as_secs()),
                since: busy,
            })
        })
    }

    /// Records that are handed over and neither safe nor dropped yet.
    pub fn waiting(&self) -> u64 {
        // In this order, so that none is counted as waiting that is safe by now.
        let done = self.written.load(Ordering::Acquire) + self.dropped.load(Ordering::Acquire);
        self.offered.load(Ordering::Acquire).saturating_sub(done)
    }

    /// Something is wrong. The time of the first such report stays.
    pub(super) fn report(&self, why: String, now: Timestamp) {
        let mut told = self.told();
        let since = told.as_ref().map_or(now, |trouble| trouble.since);
        *told = Some(Trouble { why, since });
    }

    /// All is well again. Returns what was wrong.
    pub(super) fn healed(&self) -> Option<Trouble> {
        self.told().take()
    }

    fn told(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_does_not_answer_is_told_by_the_clock() {
        let health = Health::default();
        let at = |secs: u64| Timestamp::from_millis(secs * 1000);
        assert_eq!(health.trouble(at(100)), None);
        health.busy_since.store(100_000, Ordering::Release);
        assert_eq!(health.trouble(at(102)), None);
        let trouble = health.trouble(at(107)).expect("it is stuck");
        assert_eq!((trouble.since, trouble.why.contains("7 s")), (at(100), true));
        health.report("full".to_owned(), at(110));
        health.report("still full".to_owned(), at(120));
        assert_eq!(health.trouble(at(130)), Some(Trouble { why: "still full".to_owned(), since: at(110) }));
        health.busy_since.store(0, Ordering::Release);
        assert!(health.healed().is_some());
        assert_eq!(health.trouble(at(130)), None);
    }

    #[test]
    fn what_waits_is_neither_safe_nor_dropped() {
        let health = Health::default();
        health.offered.store(10, Ordering::Release);
        health.written.store(6, Ordering::Release);
        health.dropped.store(1, Ordering::Release);
        assert_eq!(health.waiting(), 3);
    }
}
