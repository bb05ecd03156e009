//! Decides what is worth an alert: from events as they happen, and from a look at the facts once a second.
//!
//! ```text
//! a condition:  good ── bad for `lasting` ──▶ raised: an alert ── good for `lasting` ──▶ lowered: recovered
//!               raised again no sooner than `REPEAT` after it was raised before
//! a storm:      started ── ten times as much ──▶ growing (at most `MOST_GROWING` times) … ──▶ ended
//! ```
//!
//! Storms that were open before this process are known without having been alerted of: they grow and end, and do
//! not start again.

mod condition;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::condition::Raised;
use self::condition::{Change, Condition, Look};
use self::words::copies;
use super::{Alert, Kind, Severity};
use crate::journal::event::Event;
use crate::time::Timestamp;

/// The same trouble is alerted of no more often than this, however often it comes and goes.
const REPEAT: Duration = Duration::from_secs(10 * 60);

/// Of mail that passes unjudged one at a time, a sum an hour is told.
const UNJUDGED_EVERY: Duration = Duration::from_secs(3600);

/// Watched messages without an end are looked at over this time ...
const ENDS_WITHIN: Duration = Duration::from_secs(10 * 60);

/// ... and are worth an alert from so many on, if they are a quarter of all: clients hang up, and other filters
/// refuse mail, on every day.
const MANY_WITHOUT_END: u64 = 20;

/// Alerts that one storm is growing: at ten times as much each, six make a million times.
const MOST_GROWING: u32 = 6;

/// A storm begins with some ten messages; fewer are no measure of growth.
const FIRST_MEASURE: u64 = 10;

/// Storms that are remembered. Open storms are a handful; the oldest goes.
const MOST_STORMS: usize = 1000;

/// Conditions that are remembered: sources, helpers and limits are a few dozen.
const MOST_CONDITIONS: usize = 1024;

/// Addresses that may be lists, told of in an hour. One busy day makes many mailboxes look like lists; whoever got so many
/// alerts knows that the directory is not whole.
const MOST_POSSIBLE: u32 = 10;

/// See [`MOST_POSSIBLE`].
const POSSIBLE_WITHIN: Duration = Duration::from_secs(3600);

/// Held mail: half of a limit raises, this much lowers.
const CALM_AGAIN_PER_CENT: u64 = 40;

/// What is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Storms that are open.
    pub storms: Vec<StormNow>,
    /// How much of each limit of held mail is taken.
    pub room: Vec<Room>,
    /// Why nothing more is held: the limit's name.
    pub full: Option<&'static str>,
    /// Messages on hold.
    pub held: u64,
    /// Sources of the directory, and why each is stale.
    pub sources: Vec<(String, Option<String>)>,
    /// Why the journal is not whole; none: it is, or it is turned off.
    pub journal: Option<String>,
    /// Helpers by their sockets, and why each cannot be asked; none where that is not known yet.
    pub helpers: Vec<(String, Option<String>)>,
    /// Messages since the start.
    pub messages: u64,
    /// Watched messages since the start.
    pub watched: u64,
    /// Messages that passed because becalm failed, since the start.
    pub failed_open: u64,
    /// Watched messages that were aborted before their end, since the start.
    pub unfinished: u64,
}

/// An open storm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StormNow {
    /// Its name.
    pub storm: String,
    /// Its list; none: many recipients.
    pub list: Option<String>,
    /// Mailboxes that it reaches.
    pub members: u64,
    /// Is its mail really held?
    pub enforced: bool,
    /// Messages stopped.
    pub held: u64,
    /// Their copies.
    pub copies_held: u64,
}

/// How much of a limit is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// The setting, or `disk`.
    pub limit: &'static str,
    /// Of the limit; of a disk's room, 50 where the half is gone that lies above what Postfix needs.
    pub per_cent: u64,
    /// For a person: `5 of 10 messages`.
    pub detail: String,
}

/// How much a storm was when it was told of last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Growth {
    messages: u64,
    copies: u64,
    told: u32,
}

impl Growth {
    fn from(held: u64, copies_held: u64, members: u64, told: u32) -> Self {
        let copies = copies_held.max(members.saturating_mul(FIRST_MEASURE));
        Self { messages: held.max(FIRST_MEASURE), copies, told }
    }
}

/// What was told of, as it outlives the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memo {
    storms: BTreeMap<String, Growth>,
    raised: BTreeMap<String, Raised>,
}

/// Decides. One per daemon.
#[derive(Debug)]
pub struct Watch {
    node: String,
    lasting: Duration,
    silence: Duration,
    serial: u64,
    storms: BTreeMap<String, Growth>,
    conditions: BTreeMap<String, Condition>,
    coverage: Option<Coverage>,
    /// Possible lists that were told of, and since when they are counted.
    possible: (u32, Timestamp),
    changed: bool,
}

/// What the counters were.
#[derive(Clone, Copy, Debug)]
struct Coverage {
    messages: u64,
    last_message: Timestamp,
    failed_open_told: u64,
    failed_open_next: Timestamp,
    window: Timestamp,
    watched: u64,
    unfinished: u64,
    unfinished_next: Timestamp,
}

impl Watch {
    /// For the node of this name.
    pub fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            lasting: Duration::ZERO,
            silence: Duration::ZERO,
            serial: 0,
            storms: BTreeMap::new(),
            conditions: BTreeMap::new(),
            coverage: None,
            possible: (0, Timestamp::default()),
            changed: false,
        }
    }

    /// How long a trouble must last, and how long without mail is one (zero: none).
    pub fn set(&mut self, lasting: Duration, silence: Duration) {
        (self.lasting, self.silence) = (lasting, silence);
    }

    /// What an earlier process had told of.
    pub fn recall(&mut self, memo: Memo) {
        for (storm, growth) in memo.storms {
            self.storms.entry(storm).or_insert(growth);
        }
        for (key, raised) in memo.raised {
            self.conditions.entry(key).or_insert_with(|| Condition::recalled(raised));
        }
    }

    /// What is to outlive this process, if it has changed since the last call.
    pub fn memo(&mut self) -> Option<Memo> {
        std::mem::take(&mut self.changed).then(|| Memo {
            storms: self.storms.clone(),
            raised: self
                .conditions
                .iter()
                .filter_map(|(key, condition)| Some((key.clone(), condition.raised()?)))
                .collect(),
        })
    }

    /// Something happened. `enforced`: mail of that list is really held.
    pub fn event(&mut self, event: &Event, enforced: bool) -> Option<Alert> {
        match event {
            Event::StormStarted { storm, list, members, trigger, authors, copies: cost, at, .. } => {
                if self.storms.contains_key(storm) {
                    return None;
                }
                self.note_storm(storm, Growth::from(0, 0, *members, 0));
                let mut alert = self.alert(Kind::StormStarted, Severity::Critical, *at);
                let name = named(list);
                let title = format!("storm on {name} ({} mailboxes)", copies(*members));
                let done = match enforced {
                    true => "Its replies are stopped from now on.",
                    false => "It is only observed: its mail is delivered.",
                };
                let more = format!(
                    "{} copies so far, {authors} authors; tripped by {trigger}.\n{done}\nbecalm storms show {storm}",
                    copies(*cost)
                );
                alert = alert.says(&title, &more);
                alert.members = Some(*members);
                Some(Alert {
                    storm: Some(storm.clone()),
                    list: list.clone(),
                    enforced: Some(enforced),
                    ..alert
                })
            }
            Event::StormEnded { storm, list, held, copies_held, delivered, since, at } => {
                self.changed |= self.storms.remove(storm).is_some();
                let alert = self.alert(Kind::StormEnded, Severity::Info, *at);
                let minutes = at.since(*since).as_secs().div_ceil(60);
                let (stopped, then) = match enforced {
                    true => {
                        ("stopped", "What is on hold of it waits for you: becalm quarantine list --storm")
                    }
                    false => ("would have been stopped", "becalm storms show"),
                };
                let more = format!(
                    "After {minutes} minutes. {held} messages ({} copies) {stopped}, {delivered} passed.\n{then} {storm}",
                    copies(*copies_held)
                );
                let alert = alert.says(&format!("the storm on {} is over", named(list)), &more);
                Some(Alert {
                    storm: Some(storm.clone()),
                    list: list.clone(),
                    enforced: Some(enforced),
                    held: Some(*held),
                    copies_held: Some(*copies_held),
                    delivered: Some(*delivered),
                    ..alert
                })
            }
            // Part of a storm that was told of; how far it grows is told too.
            Event::ClawedBack { .. } => None,
            Event::PossibleList { address, authors, at } => self.possible_list(address, *authors, *at),
        }
    }

    fn possible_list(&mut self, address: &str, authors: u32, at: Timestamp) -> Option<Alert> {
        let (told, since) = &mut self.possible;
        if at.since(*since) >= POSSIBLE_WITHIN {
            (*told, *since) = (0, at);
        }
        *told = told.saturating_add(1);
        let more = match *told {
            1..MOST_POSSIBLE => "",
            MOST_POSSIBLE => {
                "\nThere are many of these: more within the hour are in becalm's log and no alerts."
            }
            _ => return None,
        };
        let alert = self.alert(Kind::PossibleList, Severity::Info, at).says(
            &format!("is {address} a list?"),
            &format!("{authors} different people suddenly write to it. If it is one, name it in [[list]] with its members.{more}"),
        );
        Some(Alert { list: Some(address.to_owned()), ..alert })
    }

    /// Looks at the facts.
    pub fn look(&mut self, facts: &Facts, now: Timestamp) -> Vec<Alert> {
        let mut alerts = Vec::new();
        for storm in &facts.storms {
            alerts.extend(self.growth(storm, now));
        }
        let mut seen = BTreeSet::new();
        let lasting = self.lasting;
        for room in &facts.room {
            let look = Look::within(room.per_cent >= 50, room.per_cent < CALM_AGAIN_PER_CENT);
            let key = format!("held/{}", room.limit);
            let what = words::half(room);
            alerts.extend(self.condition(&mut seen, key, look, Duration::ZERO, now, what, facts.held));
        }
        let full = Look::of(facts.full.is_some());
        let what = words::full(facts.full);
        alerts.extend(self.condition(
            &mut seen,
            "held/full".to_owned(),
            full,
            Duration::ZERO,
            now,
            what,
            facts.held,
        ));
        for (name, why) in &facts.sources {
            let look = Look::of(why.is_some());
            let what = words::stale(name, why.as_deref());
            alerts.extend(self.condition(&mut seen, format!("source/{name}"), look, lasting, now, what, 0));
        }
        let what = words::journal(facts.journal.as_deref());
        let look = Look::of(facts.journal.is_some());
        alerts.extend(self.condition(&mut seen, "journal".to_owned(), look, lasting, now, what, 0));
        for (socket, why) in &facts.helpers {
            let look = Look::of(why.is_some());
            let what = words::helper(socket, why.as_deref());
            alerts.extend(self.condition(&mut seen, format!("helper/{socket}"), look, lasting, now, what, 0));
        }
        alerts.extend(self.coverage(facts, now, &mut seen));
        if self.conditions.len() > MOST_CONDITIONS {
            // What is not there any more has no end that could be told.
            self.conditions.retain(|key, _| seen.contains(key));
        }
        alerts
    }

    fn growth(&mut self, storm: &StormNow, now: Timestamp) -> Option<Alert> {
        let Some(&last) = self.storms.get(&storm.storm) else {
            self.note_storm(&storm.storm, Growth::from(storm.held, storm.copies_held, storm.members, 0));
            return None;
        };
        let tenfold = storm.held >= last.messages.saturating_mul(10)
            || storm.copies_held >= last.copies.saturating_mul(10);
        if !tenfold || last.told >= MOST_GROWING {
            return None;
        }
        self.note_storm(
            &storm.storm,
            Growth::from(storm.held, storm.copies_held, storm.members, last.told + 1),
        );
        let stopped = if storm.enforced { "stopped" } else { "would have been stopped" };
        let alert = self.alert(Kind::StormGrowing, Severity::Critical, now).says(
            &format!("the storm on {} grows: {} messages {stopped}", named(&storm.list), storm.held),
            &format!("{} copies. becalm storms show {}", copies(storm.copies_held), storm.storm),
        );
        Some(Alert {
            storm: Some(storm.storm.clone()),
            list: storm.list.clone(),
            members: Some(storm.members),
            enforced: Some(storm.enforced),
            held: Some(storm.held),
            copies_held: Some(storm.copies_held),
            ..alert
        })
    }

    /// Mail that passes by: one message at a time, or all of it.
    fn coverage(&mut self, facts: &Facts, now: Timestamp, seen: &mut BTreeSet<String>) -> Vec<Alert> {
        let mut alerts = Vec::new();
        let mut coverage = self.coverage.unwrap_or(Coverage {
            messages: facts.messages,
            last_message: now,
            failed_open_told: 0,
            failed_open_next: now,
            window: now,
            watched: facts.watched,
            unfinished: facts.unfinished,
            unfinished_next: now,
        });
        if facts.messages > coverage.messages {
            (coverage.messages, coverage.last_message) = (facts.messages, now);
        }
        let failed = facts.failed_open.saturating_sub(coverage.failed_open_told);
        if failed > 0 && now >= coverage.failed_open_next {
            coverage.failed_open_told = facts.failed_open;
            coverage.failed_open_next = now.after(UNJUDGED_EVERY);
            let alert = self.alert(Kind::Unjudged, Severity::Critical, now);
            alerts.push(words::failed_open(alert, failed));
        }
        if now.since(coverage.window) >= ENDS_WITHIN {
            (coverage.window, coverage.watched, coverage.unfinished) = (now, facts.watched, facts.unfinished);
        }
        let without_end = facts.unfinished.saturating_sub(coverage.unfinished);
        let watched = facts.watched.saturating_sub(coverage.watched);
        if without_end >= MANY_WITHOUT_END
            && without_end.saturating_mul(4) >= watched
            && now >= coverage.unfinished_next
        {
            coverage.unfinished_next = now.after(UNJUDGED_EVERY);
            let alert = self.alert(Kind::Unjudged, Severity::Warning, now);
            alerts.push(words::without_end(alert, without_end, watched));
        }
        let silent = self.silence > Duration::ZERO
            && coverage.messages > 0
            && now.since(coverage.last_message) >= self.silence;
        self.coverage = Some(coverage);
        let what = words::silence(now.since(coverage.last_message));
        let look = Look::of(silent);
        alerts.extend(self.condition(seen, "silence".to_owned(), look, Duration::ZERO, now, what, 0));
        alerts
    }

    #[expect(clippy::too_many_arguments, reason = "a condition is its key, how it is, and its words")]
    fn condition(
        &mut self,
        seen: &mut BTreeSet<String>,
        key: String,
        look: Look,
        lasting: Duration,
        now: Timestamp,
        words: words::Condition,
        held: u64,
    ) -> Option<Alert> {
        let change = self.conditions.entry(key.clone()).or_default().look(look, words.kind, lasting, now);
        seen.insert(key);
        let mut alert = match change? {
            Change::Raised => self.alert(words.kind, words.severity, now).says(&words.title, &words.more),
            Change::Lowered { of, since } => {
                let minutes = now.since(since).as_secs().div_ceil(60);
                let mut alert = self
                    .alert(Kind::Recovered, Severity::Info, now)
                    .says(&words.good, &format!("After {minutes} minutes."));
                alert.recovers = Some(of);
                alert
            }
        };
        self.changed = true;
        alert.about = Some(words.about);
        alert.held = (words.kind == Kind::Held).then_some(held);
        Some(alert)
    }

    fn note_storm(&mut self, storm: &str, growth: Growth) {
        self.changed = true;
        self.storms.insert(storm.to_owned(), growth);
        while self.storms.len() > MOST_STORMS {
            // Names begin with the time.
            self.storms.pop_first();
        }
    }

    fn alert(&mut self, kind: Kind, severity: Severity, at: Timestamp) -> Alert {
        self.serial = self.serial.saturating_add(1);
        let id = format!("{}-{:x}-{}", self.node, at.as_millis(), self.serial);
        Alert::new(kind, severity, at, &self.node, id)
    }
}

/// A storm's list, for people.
fn named(list: &Option<String>) -> &str {
    list.as_deref().unwrap_or("many recipients")
}

#[cfg(test)]
mod tests;
