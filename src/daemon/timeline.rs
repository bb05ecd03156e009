//! The last six hours, minute by minute: what the dashboard draws.
//!
//! The supervisor looks at the counters once a tick and adds what has come since its last look to the present
//! minute. No session knows of it. Forgotten with the process.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Daemon;
use crate::admin::api::{Mark, MarkKind, Near, Nears, StormRecord, Timeline};
use crate::storm::state::Phase;
use crate::telemetry::counters::Counts;
use crate::time::Timestamp;

/// Six hours: a storm and what led to it. 48 bytes each.
const MINUTES: usize = 360;

const MINUTE: Duration = Duration::from_secs(60);

/// Marks in one reply, the latest; more cannot be told apart in a picture.
const MAX_MARKS: usize = 200;

/// Near-storms in one reply, the nearest; more than anybody reads.
const MAX_NEAR: usize = 200;

/// The minutes so far.
#[derive(Default)]
pub(super) struct Minutes(Mutex<Ring>);

#[derive(Default)]
struct Ring {
    /// Minutes since 1970 of the last one.
    last: u64,
    minutes: VecDeque<Minute>,
    seen: Counts,
}

#[derive(Clone, Copy, Default)]
struct Minute {
    messages: u64,
    watched: u64,
    held: u64,
    copies_passed: u64,
    copies_prevented: u64,
    storms: u64,
}

impl Minutes {
    /// Adds what was counted since the last call. `storms`: lists in a storm at this moment.
    fn sample(&self, now: Timestamp, counts: Counts, storms: usize) {
        let mut ring = self.ring();
        ring.go_to(now);
        let seen = std::mem::replace(&mut ring.seen, counts.clone());
        let Some(minute) = ring.minutes.back_mut() else { return };
        let add =
            |sum: &mut u64, now: u64, before: u64| *sum = sum.saturating_add(now.saturating_sub(before));
        add(&mut minute.messages, counts.messages, seen.messages);
        add(&mut minute.watched, counts.watched, seen.watched);
        add(&mut minute.held, counts.held, seen.held);
        add(&mut minute.copies_passed, counts.copies_passed, seen.copies_passed);
        add(&mut minute.copies_prevented, counts.copies_prevented, seen.copies_prevented);
        minute.storms = minute.storms.max(storms as u64);
    }

    fn tell(&self, now: Timestamp, marks: Vec<Mark>) -> Timeline {
        let ring = self.ring();
        let first = (ring.last + 1).saturating_sub(ring.minutes.len() as u64);
        let column = |of: fn(&Minute) -> u64| ring.minutes.iter().map(of).collect();
        Timeline {
            now: now.rfc3339(),
            from: Timestamp::default().after(MINUTE * u32::try_from(first).unwrap_or(u32::MAX)).rfc3339(),
            step_s: MINUTE.as_secs(),
            messages: column(|minute| minute.messages),
            watched: column(|minute| minute.watched),
            held: column(|minute| minute.held),
            copies_passed: column(|minute| minute.copies_passed),
            copies_prevented: column(|minute| minute.copies_prevented),
            storms: column(|minute| minute.storms),
            marks,
        }
    }

    /// A test or a panic elsewhere leaves whole numbers behind.
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// Makes the minute of `now` the last one; those in between were without mail. A clock that was set back counts
    /// on in the last one.
    fn go_to(&mut self, now: Timestamp) {
        let minute = now.as_secs() / MINUTE.as_secs();
        let ahead = if self.minutes.is_empty() { 1 } else { minute.saturating_sub(self.last) };
        for _ in 0..ahead.min(MINUTES as u64) {
            if self.minutes.len() >= MINUTES {
                self.minutes.pop_front();
            }
            self.minutes.push_back(Minute::default());
        }
        if ahead > 0 {
            self.last = minute;
        }
    }
}

impl Daemon {
    /// Once a tick.
    pub(super) fn sample_minute(&self) {
        let now = self.shared.clock.now();
        let storms = self.shared.engine.storms(now);
        let open = storms.iter().filter(|storm| matches!(storm.phase, Phase::Storm { .. })).count();
        self.minutes.sample(now, self.shared.counters.read(), open);
    }

    /// The last six hours.
    pub(super) fn timeline(&self) -> Timeline {
        let now = self.shared.clock.now();
        let since = now.as_millis().saturating_sub((MINUTE * MINUTES as u32).as_millis() as u64);
        let since = Timestamp::from_millis(since).rfc3339();
        let mut marks = marks(&self.shared.storms.list(), &since);
        let started = self.started.rfc3339();
        if started >= since {
            marks.push(Mark { at: started, kind: MarkKind::Started, storm: None, list: None });
        }
        // RFC 3339 in UTC sorts as it is written.
        marks.sort_by(|a, b| a.at.cmp(&b.at));
        marks.drain(..marks.len().saturating_sub(MAX_MARKS));
        self.minutes.tell(now, marks)
    }

    /// What is near a storm and none.
    pub(super) fn nears(&self) -> Nears {
        let now = self.shared.clock.now();
        let near = self.shared.engine.near(now);
        let total = near.len();
        let told = near.into_iter().take(MAX_NEAR).map(|near| {
            let since = now.as_millis().saturating_sub(near.nearness.oldest.as_millis() as u64);
            Near {
                list: near.list,
                members: near.members,
                conversation: near.conversation.map(|key| format!("{key:016x}")),
                test: near.test.to_owned(),
                people: near.nearness.people,
                threshold: near.nearness.threshold,
                since: Timestamp::from_millis(since).rfc3339(),
                copies: near.nearness.copies,
                projected_copies: near.nearness.projected(),
            }
        });
        Nears { now: now.rfc3339(), near: told.collect(), total }
    }
}

fn marks(storms: &[StormRecord], since: &str) -> Vec<Mark> {
    let mark = |at: &str, kind, record: &StormRecord| {
        (at >= since).then(|| Mark {
            at: at.to_owned(),
            kind,
            storm: Some(record.storm.clone()),
            list: record.list.clone(),
        })
    };
    let both = |record: &StormRecord| {
        let ended = record.ended.as_deref().and_then(|at| mark(at, MarkKind::StormEnded, record));
        [mark(&record.started, MarkKind::StormStarted, record), ended]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
    };
    storms.iter().flat_map(both).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_479_112_140_000 + seconds * 1000)
    }

    fn counts(messages: u64, held: u64) -> Counts {
        Counts { messages, held, ..Counts::default() }
    }

    #[test]
    fn what_has_come_since_the_last_look_goes_to_the_present_minute() {
        let minutes = Minutes::default();
        minutes.sample(at(0), counts(5, 0), 0);
        minutes.sample(at(30), counts(7, 1), 2);
        minutes.sample(at(59), counts(7, 1), 1);
        minutes.sample(at(60), counts(10, 1), 0);
        // Nobody looked for two minutes.
        minutes.sample(at(190), counts(11, 4), 0);
        // The clock was set back.
        minutes.sample(at(10), counts(12, 4), 0);
        let told = minutes.tell(at(190), Vec::new());
        assert_eq!(told.messages, [7, 3, 0, 2]);
        assert_eq!(told.held, [1, 0, 0, 3]);
        assert_eq!(told.storms, [2, 0, 0, 0]);
        assert_eq!((told.from.as_str(), told.step_s), ("2016-11-14T08:29:00Z", 60));
    }

    #[test]
    fn six_hours_are_kept_and_no_more() {
        let minutes = Minutes::default();
        for minute in 0..400 {
            minutes.sample(at(minute * 60), counts(minute, 0), 0);
        }
        let told = minutes.tell(at(0), Vec::new());
        assert_eq!((told.messages.len(), told.messages.iter().sum::<u64>()), (MINUTES, 360));
        assert_eq!(told.from, at(40 * 60).rfc3339());
        // A day without a look (a machine asleep) is six hours of nothing.
        minutes.sample(at(100_000), counts(500, 0), 0);
        let told = minutes.tell(at(0), Vec::new());
        assert_eq!((told.messages.len(), told.messages.iter().sum::<u64>()), (MINUTES, 101));
    }

    #[test]
    fn storms_are_marked_where_they_began_and_ended() {
        let record = |started: &str, ended: Option<&str>| StormRecord {
            storm: "s".to_owned(),
            list: None,
            members: 1,
            trigger: "by_hand".to_owned(),
            started: started.to_owned(),
            ended: ended.map(str::to_owned),
            held: 0,
            copies_held: 0,
            delivered: 0,
        };
        let storms = [
            record("2016-11-14T01:00:00Z", Some("2016-11-14T08:00:00Z")),
            record("2016-11-14T09:00:00Z", None),
            record("2016-11-14T00:00:00Z", Some("2016-11-14T01:00:00Z")),
        ];
        let marks = marks(&storms, "2016-11-14T04:00:00Z");
        let told: Vec<_> = marks.iter().map(|mark| (mark.at.as_str(), mark.kind)).collect();
        assert_eq!(
            told,
            [
                ("2016-11-14T08:00:00Z", MarkKind::StormEnded),
                ("2016-11-14T09:00:00Z", MarkKind::StormStarted)
            ]
        );
    }
}
