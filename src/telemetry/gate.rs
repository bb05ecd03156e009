//! Keeps a storm from flooding the log.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::time::Timestamp;

/// Lets through a number of lines a minute and counts the rest.
pub struct Gate {
    per_minute: u32,
    /// The minute in the high half, lines of that minute in the low half.
    state: AtomicU64,
    suppressed: AtomicU64,
}

impl Gate {
    /// At most `per_minute` lines in a minute of the clock.
    pub const fn new(per_minute: u32) -> Self {
        Self { per_minute, state: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// May this line be written?
    pub fn admits(&self, now: Timestamp) -> bool {
        let minute = (now.as_secs() / 60) & u64::from(u32::MAX);
        // Relaxed: the gate orders nothing but itself.
        let update = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
            let lines = if state >> 32 == minute { state & u64::from(u32::MAX) } else { 0 };
            (lines < u64::from(self.per_minute)).then_some(minute << 32 | (lines + 1))
        });
        if update.is_err() {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
        }
        update.is_ok()
    }

    /// How many lines were kept back since the last call.
    pub fn take_suppressed(&self) -> u64 {
        self.suppressed.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admits_so_many_lines_a_minute_and_counts_the_rest() {
        let gate = Gate::new(2);
        let at = |secs: u64| Timestamp::from_millis(secs * 1000);
        assert_eq!([at(60), at(61), at(119)].map(|now| gate.admits(now)), [true, true, false]);
        assert!(gate.admits(at(120)));
        assert_eq!(gate.take_suppressed(), 1);
        assert_eq!(gate.take_suppressed(), 0);
    }
}
