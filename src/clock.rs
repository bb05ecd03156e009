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
    Monotonic {
        started: Instant,
        at: Timestamp,
    },
    /// `skipped`: milliseconds that were passed over.
    Scaled {
        started: Instant,
        at: Timestamp,
        factor: u32,
        skipped: Arc<AtomicU64>,
    },
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The wall clock at this moment, monotonic from here on.
    pub fn system() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(Source::Monotonic { started: Instant::now(), at: Timestamp::default().after(wall) })
    }

    /// Starts at `at` and runs `factor` times as fast as real time (1 to 1,000,000): a demonstration plays a
    /// day in minutes.
    pub fn scaled(at: Timestamp, factor: u32) -> Self {
        let factor = factor.clamp(1, 1_000_000);
        Self(Source::Scaled { started: Instant::now(), at, factor, skipped: Arc::default() })
    }

    /// Stands at `at` until [`Clock::skip`] moves it: for replays and tests.
    pub fn manual(at: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(at.as_millis()))))
    }

    /// The present time of this clock.
    pub fn now(&self) -> Timestamp {
        self.at(Instant::now)
    }

    /// The present time, and a stopwatch that was started at it: one look at the system's clock for both.
    pub fn start(&self) -> (Timestamp, Stopwatch) {
        let instant = Instant::now();
        (self.at(|| instant), Stopwatch(instant))
    }

    fn at(&self, instant: impl FnOnce() -> Instant) -> Timestamp {
        let since = |started| instant().saturating_duration_since(started);
        match &self.0 {
            Source::Monotonic { started, at } => at.after(since(*started)),
            Source::Scaled { started, at, factor, skipped } => at
                .after(since(*started).saturating_mul(*factor))
                .after(Duration::from_millis(skipped.load(Ordering::Relaxed))),
            // Relaxed: the clock orders nothing but itself.
            Source::Manual(millis) => Timestamp::from_millis(millis.load(Ordering::Relaxed)),
        }
    }

    /// Passes over a span of time, on a scaled or manual clock. The system's clock is left alone.
    pub fn skip(&self, span: Duration) {
        if let Source::Manual(millis) | Source::Scaled { skipped: millis, .. } = &self.0 {
            let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            millis.fetch_add(span, Ordering::Relaxed);
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
    fn a_manual_clock_stands_still_until_it_is_moved() {
        let clock = Clock::manual(Timestamp::from_millis(5));
        assert_eq!(clock.now(), Timestamp::from_millis(5));
        clock.clone().skip(Duration::from_millis(4));
        assert_eq!(clock.now(), Timestamp::from_millis(9));
    }

    #[test]
    fn a_scaled_clock_never_goes_back_and_can_pass_time_over() {
        let clock = Clock::scaled(Timestamp::from_millis(1000), 60);
        let before = clock.now();
        clock.skip(Duration::from_secs(3600));
        assert!(clock.now().since(before) >= Duration::from_secs(3600));
    }
}
