//! What came of a load.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::schedule::Schedule;

/// The longest latency that is told apart: an hour, in nanoseconds.
const SLOWEST: u64 = 3_600_000_000_000;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Accepted, with changes or without.
    Accepted,
    /// Accepted and put on hold.
    Held,
    /// Refused for good.
    Rejected,
    /// Refused for now.
    Deferred,
    /// Accepted, and thrown away.
    Discarded,
}

/// Counts, and latencies.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Messages that were answered to the end.
    pub messages: u64,
    /// Of these: accepted.
    pub accepted: u64,
    /// Accepted and put on hold.
    pub held: u64,
    /// Refused for good, or every recipient of them.
    pub rejected: u64,
    /// Refused for now.
    pub deferred: u64,
    /// Accepted and thrown away.
    pub discarded: u64,
    /// Messages whose header the filter wanted to see.
    pub headers_read: u64,
    /// Recipients that were refused, of messages that went on without them and of others.
    pub recipients_refused: u64,
    /// Sessions that were opened.
    pub sessions: u64,
    /// Answers that were waited for, those of opening a session apart.
    pub round_trips: u64,
    /// At a fixed rate: messages that were due and could not be sent before the end.
    pub unsent: u64,
    /// From the first connection to the last answer.
    pub elapsed: Duration,
    /// In nanoseconds: from the beginning of a message to its fate, and at a fixed rate from the moment that it
    /// was due. A message that opens a session pays for that. Those that were not sent are in it with the time
    /// that they had waited at the end.
    pub latency: Histogram<u64>,
    /// In nanoseconds, at a fixed rate: how late the load itself began messages for which a connection was free.
    /// So much of the latency is not the filter's.
    pub lateness: Histogram<u64>,
}

impl Default for Outcome {
    fn default() -> Self {
        let histogram = || Histogram::new_with_bounds(1, SLOWEST, 3).expect("1 and 3 digits are allowed");
        Self {
            messages: 0,
            accepted: 0,
            held: 0,
            rejected: 0,
            deferred: 0,
            discarded: 0,
            headers_read: 0,
            recipients_refused: 0,
            sessions: 0,
            round_trips: 0,
            unsent: 0,
            elapsed: Duration::ZERO,
            latency: histogram(),
            lateness: histogram(),
        }
    }
}

impl Outcome {
    /// Counts a message.
    pub fn count(&mut self, fate: Fate, latency: Duration) {
        self.messages += 1;
        *match fate {
            Fate::Accepted => &mut self.accepted,
            Fate::Held => &mut self.held,
            Fate::Rejected => &mut self.rejected,
            Fate::Deferred => &mut self.deferred,
            Fate::Discarded => &mut self.discarded,
        } += 1;
        self.latency.saturating_record(nanos(latency));
    }

    /// The end of one sender's share, this long after the start of the load: at a fixed rate, what was due and
    /// not sent is counted.
    pub fn end(&mut self, elapsed: Duration, schedule: Option<&Schedule>) {
        self.elapsed = elapsed;
        let Some(schedule) = schedule else { return };
        // The last message of a fixed rate is due before the end, and may be answered before it too.
        self.elapsed = elapsed.max(schedule.ends_after().unwrap_or_default());
        for (messages, waited) in schedule.missed(self.elapsed) {
            self.unsent += messages;
            self.latency.saturating_record_n(nanos(waited), messages);
        }
    }

    /// A message was begun, though a connection was free, only so long after it was due.
    pub fn count_lateness(&mut self, late: Duration) {
        self.lateness.saturating_record(nanos(late));
    }

    /// Adds another's counts; the longer time is the time of both.
    pub fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.accepted += other.accepted;
        self.held += other.held;
        self.rejected += other.rejected;
        self.deferred += other.deferred;
        self.discarded += other.discarded;
        self.headers_read += other.headers_read;
        self.recipients_refused += other.recipients_refused;
        self.sessions += other.sessions;
        self.round_trips += other.round_trips;
        self.unsent += other.unsent;
        self.elapsed = self.elapsed.max(other.elapsed);
        // Both have the same bounds, so that nothing is lost.
        let _ = self.latency.add(&other.latency);
        let _ = self.lateness.add(&other.lateness);
    }

    /// Messages a second.
    pub fn rate(&self) -> f64 {
        self.messages as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// The latency that this share of the messages did not exceed, in microseconds; 0 without messages.
    pub fn quantile(&self, share: f64) -> f64 {
        self.latency.value_at_quantile(share) as f64 / 1e3
    }

    /// The same of [`Outcome::lateness`]; `None` without a fixed rate.
    pub fn lateness_quantile(&self, share: f64) -> Option<f64> {
        (!self.lateness.is_empty()).then(|| self.lateness.value_at_quantile(share) as f64 / 1e3)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(SLOWEST)
}

#[cfg(test)]
mod tests {
    use super::super::schedule::End;
    use super::*;

    #[test]
    fn counts_add_up() {
        let mut one = Outcome::default();
        let mut other = Outcome { elapsed: Duration::from_secs(2), sessions: 1, ..Outcome::default() };
        for fate in [Fate::Accepted, Fate::Held, Fate::Rejected, Fate::Deferred, Fate::Discarded] {
            one.count(fate, Duration::from_micros(10));
            other.count(fate, Duration::from_micros(20));
        }
        // Ten were due within the first second, and none was sent.
        let unsent = Schedule::new(10.0, 0, 1, End::After(Duration::from_secs(1)));
        other.end(Duration::from_secs(2), Some(&unsent));
        assert_eq!(other.lateness_quantile(0.5), None);
        other.count_lateness(Duration::from_micros(7));
        one.add(&other);
        assert_eq!(one.lateness_quantile(0.99).map(f64::round), Some(7.0));
        assert_eq!((one.messages, one.unsent, one.sessions), (10, 10, 1));
        assert_eq!([one.accepted, one.held, one.rejected, one.deferred, one.discarded], [2; 5]);
        assert_eq!(one.rate(), 5.0);
        assert_eq!((one.quantile(0.25).round(), one.quantile(0.5).round()), (10.0, 20.0));
        assert!((one.quantile(0.99) - 2e6).abs() < 2e3, "{}", one.quantile(0.99));
    }
}
