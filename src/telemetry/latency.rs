//! How long ordinary mail waits for becalm: a histogram that sessions write to without waiting for each other.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Upper ends of the buckets, in nanoseconds: from what a free processor takes to what a client notices.
pub const BOUNDS: [u64; 14] = [
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    50_000_000,
    250_000_000,
    1_000_000_000,
];

/// Sessions that write at the same moment seldom share a cache line with so many; 2 KiB in all.
const SHARDS: usize = 16;

/// Durations, by bucket.
#[derive(Default)]
pub struct Latency {
    shards: [Shard; SHARDS],
    next: AtomicUsize,
}

/// Two cache lines: one for the usual durations, and one for the long ones and the sum.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    counts: [AtomicU64; BOUNDS.len() + 1],
    /// Nanoseconds: enough for 584 years of waiting.
    sum: AtomicU64,
}

/// Where a session writes.
#[derive(Clone, Copy, Debug)]
pub struct Desk(usize);

/// What was written so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durations {
    /// Durations in each bucket (not in those below it), the last one above all [`BOUNDS`].
    pub counts: [u64; BOUNDS.len() + 1],
    /// All of them added up, in seconds.
    pub sum: f64,
}

impl Latency {
    /// A place to write for a session.
    pub fn desk(&self) -> Desk {
        // Relaxed: any place will do.
        Desk(self.next.fetch_add(1, Ordering::Relaxed) % SHARDS)
    }

    /// `messages` took this long each.
    #[inline]
    pub fn note(&self, desk: Desk, took: Duration, messages: u64) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| nanos <= *bound).unwrap_or(BOUNDS.len());
        let Some(shard) = self.shards.get(desk.0) else { return };
        // Relaxed: figures. Whoever reads in between finds a message in the buckets and not yet in the sum.
        if let Some(count) = shard.counts.get(bucket) {
            count.fetch_add(messages, Ordering::Relaxed);
        }
        shard.sum.fetch_add(nanos.saturating_mul(messages), Ordering::Relaxed);
    }

    /// Reads it.
    pub fn read(&self) -> Durations {
        let mut all = Durations::default();
        for shard in &self.shards {
            for (all, count) in all.counts.iter_mut().zip(&shard.counts) {
                *all = all.saturating_add(count.load(Ordering::Relaxed));
            }
            all.sum += shard.sum.load(Ordering::Relaxed) as f64 / 1e9;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_that_reaches_it() {
        let latency = Latency::default();
        let desk = latency.desk();
        for nanos in [0, 5_000, 5_001, 1_000_000_000, 1_000_000_001] {
            latency.note(desk, Duration::from_nanos(nanos), 1);
        }
        latency.note(latency.desk(), Duration::from_millis(1), 3);
        let read = latency.read();
        let mut expected = [0; BOUNDS.len() + 1];
        (expected[0], expected[1], expected[7], expected[13], expected[14]) = (2, 1, 3, 1, 1);
        assert_eq!(read.counts, expected);
        assert!((read.sum - 2.003_010_002).abs() < 1e-9, "{}", read.sum);
    }

    #[test]
    fn no_note_of_many_sessions_is_lost() {
        let latency = Latency::default();
        std::thread::scope(|scope| {
            for _ in 0..SHARDS + 3 {
                scope.spawn(|| {
                    let desk = latency.desk();
                    (0..1000).for_each(|nanos| latency.note(desk, Duration::from_nanos(nanos), 1));
                });
            }
        });
        assert_eq!(latency.read().counts[0], 1000 * (SHARDS as u64 + 3));
    }

    #[test]
    fn the_bounds_rise() {
        assert!(BOUNDS.is_sorted_by(|a, b| a < b));
        assert_eq!(size_of::<Shard>(), 128);
    }
}
