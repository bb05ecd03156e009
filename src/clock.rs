//! The only reader of time. Everything below the daemon takes a [`Timestamp`] as an argument.
#![expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::time::Timestamp;

/// Where `now` comes from.
///
/// The system's clock is read once, at start; from there time is monotonic, so that a step of the wall clock
/// (NTP, an administrator) neither ends a storm nor prolongs one.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Monotonic { started: Instant, at: Timestamp, factor: u32 },
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The wall clock at this moment, monotonic from here on.
    pub fn system() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self::scaled(Timestamp::default().after(wall), 1)
    }

    /// Starts at `at` and runs `factor` times as fast as real time (1 to 1,000,000): a demonstration plays a
    /// day in minutes.
    pub fn scaled(at: Timestamp, factor: u32) -> Self {
        Self(Source::Monotonic { started: Instant::now(), at, factor: factor.clamp(1, 1_000_000) })
    }

    /// Stands at `at` until [`Clock::set`] moves it: for replays and tests.
    pub fn manual(at: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(at.as_millis()))))
    }

    /// The present time of this clock.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::Monotonic { started, at, factor } => at.after(started.elapsed().saturating_mul(*factor)),
            // Relaxed: the clock orders nothing but itself.
            Source::Manual(millis) => Timestamp::from_millis(millis.load(Ordering::Relaxed)),
        }
    }

    /// Moves a manual clock to `now`; it never goes back. Other clocks are left alone.
    pub fn set(&self, now: Timestamp) {
        if let Source::Manual(millis) = &self.0 {
            millis.fetch_max(now.as_millis(), Ordering::Relaxed);
        }
    }
}

/// A stopwatch for measurements that are reported, never judged by: real time, whatever the clock's factor.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Real time since the start.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_stands_still_and_never_goes_back() {
        let clock = Clock::manual(Timestamp::from_millis(5));
        clock.set(Timestamp::from_millis(9));
        clock.set(Timestamp::from_millis(7));
        assert_eq!(clock.clone().now(), Timestamp::from_millis(9));
    }
}
