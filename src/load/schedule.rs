//! When messages are due at a fixed rate.
//!
//! A message's latency counts from the moment it was due, not from the moment it could be sent: while a filter
//! stands still, the messages that would have come meanwhile wait as well, and that is part of what it costs.
//! A load that leaves them out ("coordinated omission") finds one slow message where there were hundreds.

use std::time::Duration;

/// What is due before the end may still be sent for so long after it. Or what was due a moment before it, while the
/// sender slept or every connection was busy, would count as too much for the filter.
const GRACE: Duration = Duration::from_millis(100);

/// One sender's share of a fixed rate: of all messages, numbered from 0, every `lanes`-th.
#[derive(Clone, Debug)]
pub struct Schedule {
    rate: f64,
    lane: u64,
    lanes: u64,
    /// Messages of this lane that were taken.
    taken: u64,
    end: End,
}

/// Where a load ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    /// Messages that are due later, or would at no fixed rate begin later, are not sent.
    After(Duration),
    /// So many messages.
    Messages(u64),
}

impl Schedule {
    /// `rate`: of all lanes together, messages a second, above 0. `lane`: from 0, below `lanes`.
    pub fn new(rate: f64, lane: u64, lanes: u64, end: End) -> Self {
        Self { rate, lane, lanes: lanes.max(1), taken: 0, end }
    }

    /// When the next message is due, counted from the start; `None` if there is none.
    pub fn next_due(&self) -> Option<Duration> {
        self.due(self.taken)
    }

    /// Takes the next message if it is due, and says since when.
    pub fn take(&mut self, now: Duration) -> Option<Duration> {
        let due = self.next_due().filter(|due| *due <= now && !self.is_over(now))?;
        self.taken = self.taken.saturating_add(1);
        Some(due)
    }

    /// Nothing more is sent, whatever was due.
    pub fn is_over(&self, now: Duration) -> bool {
        self.ends_after().is_some_and(|end| now >= end.saturating_add(GRACE))
    }

    /// Where the load ends, if that is a time.
    pub fn ends_after(&self) -> Option<Duration> {
        match self.end {
            End::After(end) => Some(end),
            End::Messages(_) => None,
        }
    }

    /// Messages that were due before `now` and that nobody took, as numbers of messages with the time that they
    /// had waited by then. Long queues are given in steps.
    pub fn missed(&self, now: Duration) -> impl Iterator<Item = (u64, Duration)> {
        // Finer than any quantile that is reported.
        const STEPS: u64 = 10_000;
        let all = self.due_by(now).saturating_sub(self.taken);
        let size = all.div_ceil(STEPS).max(1);
        (0..all.div_ceil(size)).filter_map(move |step| {
            let first = step * size;
            let due = self.due(self.taken.saturating_add(first))?;
            Some((size.min(all - first), now.saturating_sub(due)))
        })
    }

    /// Messages of this lane that were due before `now`.
    fn due_by(&self, now: Duration) -> u64 {
        let of_all = |before: f64| ((before - self.lane as f64) / self.lanes as f64).ceil().max(0.0) as u64;
        match self.end {
            End::After(end) => of_all(now.min(end).as_secs_f64() * self.rate),
            End::Messages(count) => of_all((count as f64).min(now.as_secs_f64() * self.rate)),
        }
    }

    fn due(&self, taken: u64) -> Option<Duration> {
        let number = taken.saturating_mul(self.lanes).saturating_add(self.lane);
        // Exact up to 2^53 messages, which no rate reaches.
        let due = Duration::try_from_secs_f64(number as f64 / self.rate).ok()?;
        match self.end {
            End::After(end) => (due < end).then_some(due),
            End::Messages(count) => (number < count).then_some(due),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// One connection, a clock that is moved by hand, and a filter that takes 10 ms for a message but stands
    /// still from 1.0 s to 2.0 s. Returns the latencies, and how many messages were missed at 3.0 s.
    fn play(rate: f64, from_due: bool) -> (Vec<u64>, u64) {
        let mut schedule = Schedule::new(rate, 0, 1, End::After(ms(3_000)));
        let mut clock = ms(0);
        let mut latencies = Vec::new();
        while let Some(due) = schedule.next_due() {
            clock = clock.max(due);
            if clock >= ms(3_000) {
                break;
            }
            let due = schedule.take(clock).unwrap();
            let start = clock;
            clock += ms(10);
            if clock > ms(1_000) && start < ms(2_000) {
                clock = clock.max(ms(2_000));
            }
            latencies.push(clock.saturating_sub(if from_due { due } else { start }).as_millis() as u64);
        }
        (latencies, schedule.missed(ms(3_000)).map(|(messages, _)| messages).sum())
    }

    #[test]
    fn messages_that_were_due_while_the_filter_stood_still_count_as_waiting() {
        let (latencies, missed) = play(10.0, true);
        assert_eq!(missed, 0);
        let expected: Vec<u64> = std::iter::repeat_n(10, 10)
            // Due at 1.0 s, answered at 2.0 s; due at 1.1 s, answered at 2.01 s; and so on.
            .chain([1_000, 910, 820, 730, 640, 550, 460, 370, 280, 190, 100])
            // Due at 2.1 s, started at 2.1 s.
            .chain(std::iter::repeat_n(10, 9))
            .collect();
        assert_eq!(latencies, expected);
        // What a load that omits them would have said.
        let (omitted, _) = play(10.0, false);
        assert_eq!(omitted.iter().filter(|latency| **latency > 10).collect::<Vec<_>>(), [&1_000]);
    }

    #[test]
    fn what_a_filter_that_is_too_slow_never_got_is_counted_with_its_waiting() {
        // 100 a second, 10 ms each, and a second of no answer: 99 messages are left over.
        let (latencies, missed) = play(100.0, true);
        assert_eq!((latencies.len(), missed), (201, 99));
        let schedule = Schedule { taken: 1, ..Schedule::new(2.0, 0, 1, End::After(ms(2_000))) };
        assert_eq!(
            schedule.missed(ms(1_600)).collect::<Vec<_>>(),
            [(1, ms(1_100)), (1, ms(600)), (1, ms(100))]
        );
        let long = Schedule::new(1e6, 0, 1, End::After(Duration::from_secs(3_600)));
        let steps: Vec<_> = long.missed(Duration::from_secs(3_600)).collect();
        assert_eq!(steps.len(), 10_000);
        assert_eq!(steps.iter().map(|(messages, _)| messages).sum::<u64>(), 3_600_000_000);
    }

    #[test]
    fn what_was_due_just_before_the_end_is_sent_just_after_it() {
        let schedule = Schedule { taken: 9, ..Schedule::new(10.0, 0, 1, End::After(ms(1_000))) };
        let mut late = schedule.clone();
        assert_eq!((late.take(ms(1_001)), late.take(ms(1_001))), (Some(ms(900)), None));
        assert_eq!(late.missed(ms(1_001)).count(), 0);
        let mut too_late = schedule;
        assert_eq!((too_late.is_over(ms(1_099)), too_late.is_over(ms(1_100))), (false, true));
        assert_eq!(too_late.take(ms(1_100)), None);
        assert_eq!(too_late.missed(ms(1_100)).collect::<Vec<_>>(), [(1, ms(200))]);
    }

    #[test]
    fn lanes_share_the_messages() {
        let lane = |lane| {
            let mut schedule = Schedule::new(4.0, lane, 3, End::Messages(8));
            std::iter::from_fn(move || schedule.take(ms(10_000)))
                .map(|due| due.as_millis())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            [lane(0), lane(1), lane(2)],
            [vec![0, 750, 1_500], vec![250, 1_000, 1_750], vec![500, 1_250]]
        );
        let mut early = Schedule::new(4.0, 1, 3, End::Messages(8));
        assert_eq!((early.take(ms(249)), early.next_due()), (None, Some(ms(250))));
        assert_eq!(early.take(ms(250)), Some(ms(250)));
        let ended = Schedule::new(4.0, 0, 1, End::Messages(0));
        assert_eq!((ended.next_due(), ended.missed(ms(9_000)).count()), (None, 0));
    }
}
