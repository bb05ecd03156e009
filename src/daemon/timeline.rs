//! The last six hours, minute by minute: what the dashboard draws.
//!
//! The supervisor looks at the counters once a tick and adds what has come since its last look to the present
//! minute. No session knows of it. Forgotten with the process.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Daemon;
use crate::admin::api::{Mark, MarkKind, Near, Nears, StormRecord, Timeline};
use crate::admin::backend::Refusal;
use crate::clock::Stopwatch;
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

/// Whoever asks again within this time what is near gets the same answer: it is read from the rings of all lists, and a
/// thousand open dashboards must not cost more than one.
const SAME_NEARS: Duration = Duration::from_secs(1);

/// What was near a moment ago.
#[derive(Default)]
pub(super) struct NearsKept(Mutex<Option<(Stopwatch, Nears)>>);

impl NearsKept {
    /// What is kept while it is fresh, or what `look` finds. Others who ask meanwhile wait for the same.
    fn or(&self, look: impl FnOnce() -> Nears) -> Nears {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, nears)) = &*kept
            && at.elapsed() < SAME_NEARS
        {
            return nears.clone();
        }
        let nears = look();
        *kept = Some((Stopwatch::start(), nears.clone()));
        nears
    }
}

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

    /// The last `most` of them.
    fn tell(&self, now: Timestamp, marks: Vec<Mark>, most: usize) -> Timeline {
        let ring = self.ring();
        let told = ring.minutes.len().min(most);
        let first = (ring.last + 1).saturating_sub(told as u64);
        let skipped = ring.minutes.len() - told;
        let column = |of: fn(&Minute) -> u64| ring.minutes.iter().skip(skipped).map(of).collect();
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

    /// The last so many minutes: six hours, where it is not said how many.
    pub(super) fn timeline(&self, minutes: Option<usize>) -> Result<Timeline, Refusal> {
        let most = minutes.unwrap_or(MINUTES);
        if !(1..=MINUTES).contains(&most) {
            let message = format!("minutes is {most}; allowed: 1 to {MINUTES}");
            return Err(Refusal::request("bad_minutes", message));
        }
        let now = self.shared.clock.now();
        let since = now.as_millis().saturating_sub(MINUTE.as_millis() as u64 * most as u64);
        let since = Timestamp::from_millis(since).rfc3339();
        let mut marks = marks(&self.shared.storms.list(), &since);
        let started = self.started.rfc3339();
        if started >= since {
            marks.push(Mark { at: started, kind: MarkKind::Started, storm: None, list: None });
        }
        // RFC 3339 in UTC sorts as it is written.
        marks.sort_by(|a, b| a.at.cmp(&b.at));
        marks.drain(..marks.len().saturating_sub(MAX_MARKS));
        Ok(self.minutes.tell(now, marks, most))
    }

    /// What is near a storm and none, as of a second ago at most.
    pub(super) fn nears(&self) -> Nears {
        self.nears_kept.or(|| self.look_for_nears())
    }

    fn look_for_nears(&self) -> Nears {
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
        let told = minutes.tell(at(190), Vec::new(), MINUTES);
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
        let told = minutes.tell(at(0), Vec::new(), MINUTES);
        assert_eq!((told.messages.len(), told.messages.iter().sum::<u64>()), (MINUTES, 360));
        assert_eq!(told.from, at(40 * 60).rfc3339());
        // Less of it, where less is asked for.
        let told = minutes.tell(at(0), Vec::new(), 3);
        assert_eq!((told.messages, told.from), (vec![1, 1, 1], at(397 * 60).rfc3339()));
        // The dashboard's first view is of an hour, and a small part of its 100 KB on the busiest day.
        let busy = Minutes::default();
        for minute in 0..400 {
            let so_far = minute * 1_000_000_000;
            let counts = Counts {
                watched: so_far,
                copies_passed: so_far,
                copies_prevented: so_far,
                ..counts(so_far, so_far)
            };
            busy.sample(at(minute * 60), counts, 200);
        }
        let bytes = |most| serde_json::to_vec(&busy.tell(at(0), Vec::new(), most)).unwrap().len();
        assert!(bytes(60) < 5_000 && bytes(MINUTES) > 20_000, "{} of {}", bytes(60), bytes(MINUTES));
        // A day without a look (a machine asleep) is six hours of nothing.
        minutes.sample(at(100_000), counts(500, 0), 0);
        let told = minutes.tell(at(0), Vec::new(), MINUTES);
        assert_eq!((told.messages.len(), told.messages.iter().sum::<u64>()), (MINUTES, 101));
    }

    #[test]
    fn what_is_near_is_looked_for_once_a_second_whoever_asks() {
        let kept = NearsKept::default();
        let looked = std::sync::atomic::AtomicUsize::new(0);
        let ask = || {
            kept.or(|| {
                let count = looked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Nears { now: String::new(), near: Vec::new(), total: count }
            })
        };
        let clock = Stopwatch::start();
        let answers: Vec<usize> = std::thread::scope(|scope| {
            let asking: Vec<_> =
                (0..50).map(|_| scope.spawn(|| (0..20).map(|_| ask().total).max())).collect();
            asking.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(answers.len(), 50);
        // One look a second, on however slow a machine.
        let seconds = usize::try_from(clock.elapsed().as_secs()).unwrap();
        let so_far = looked.load(std::sync::atomic::Ordering::Relaxed);
        assert!(so_far <= seconds + 1, "{so_far} in {seconds} s");
        *kept.0.lock().unwrap() = None;
        assert_eq!(ask().total, so_far, "and another one when it is old");
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
            clawed_back: 0,
            copies_clawed_back: 0,
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
