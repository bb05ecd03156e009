//! Plays letters to an engine, each at its own time, and keeps count.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::letter::Letter;
use super::scenario::Scenario;
use crate::directory::snapshot::{List, Snapshot};
use crate::engine::{Action, Capacity, Engine, Exempt, Parts, Reason, Watch};
use crate::journal::event::Event;
use crate::mail::AddressRules;
use crate::storm::limits::LimitSettings;
use crate::storm::policy::{Mode, Policy};
use crate::time::Timestamp;

/// The day of every replay that has no date of its own: 14 November 2016, 08:29 UTC.
pub const EPOCH: Timestamp = Timestamp::from_millis(1_479_112_140_000);

/// Authors who know the list wrote to it this long before.
const ACQUAINTANCE: Duration = Duration::from_secs(20 * 86_400);

/// The list has been there for this long.
const LIST_AGE: Duration = Duration::from_secs(60 * 86_400);

/// What came of the letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Letters played.
    pub letters: u64,
    /// Let through at once.
    pub passed: u64,
    /// Held on suspicion and let go after their delay.
    pub delayed: u64,
    /// Held for good: storm mail, and suspicions that a storm overtook.
    pub held: u64,
    /// When storms were declared, since the first letter, and how many letters had been played by then, the
    /// declaring one included.
    pub storms: Vec<(Duration, u64)>,
}

impl Tally {
    /// Let through in all.
    pub fn delivered(&self) -> u64 {
        self.passed + self.delayed
    }
}

/// An engine with one list, and the suspicions that wait.
pub struct Player {
    engine: Engine,
    list: String,
    started: Timestamp,
    waiting: VecDeque<Waiting>,
    tally: Tally,
}

struct Waiting {
    until: Timestamp,
    author: Option<String>,
}

impl Player {
    /// A list of `members` that has had some history by the time of `started`.
    pub fn new(list: &str, members: u64, policy: Policy, capacity: Capacity, started: Timestamp) -> Self {
        let born = Timestamp::from_millis(started.as_millis().saturating_sub(LIST_AGE.as_millis() as u64));
        let assumed = List {
            address: list.to_owned(),
            members,
            class: None,
            origin: "assumed".to_owned(),
            contains: Vec::new(),
            pattern: false,
        };
        let parts = Parts {
            snapshot: Arc::new(Snapshot::of(vec![assumed], AddressRules::default())),
            default_policy: policy.clone(),
            exempt: Exempt::default(),
            watch: Watch {
                many_recipients: 50,
                parts_within: Duration::from_secs(120),
                unknown_list_authors: 20,
                unknown_list_window: Duration::from_secs(3600),
            },
            limits: LimitSettings::default(),
        };
        let engine = Engine::new([7; 16], capacity, parts, |_: &List| policy.clone(), born)
            .expect("no limits are set");
        Self { engine, list: list.to_owned(), started, waiting: VecDeque::new(), tally: Tally::default() }
    }

    /// Plays a scenario from a seed, under `policy` put to hold.
    pub fn play_scenario(scenario: &Scenario, policy: &Policy) -> Tally {
        let policy = Policy { mode: Mode::Hold, ..policy.clone() };
        let capacity =
            Capacity { conversations: 4096, recipients: 1024, known_authors: 65_536, message_ids: 32_768 };
        let mut player = Self::new("all@staff.example", scenario.members, policy, capacity, EPOCH);
        for post in scenario.posts.iter().filter(|post| post.known) {
            player.introduce(&post.letter.sender);
        }
        for post in &scenario.posts {
            player.play(&post.letter);
        }
        player.finish()
    }

    /// Makes an author known to the list from earlier days.
    pub fn introduce(&self, author: &str) {
        let then = self.started.as_millis().saturating_sub(ACQUAINTANCE.as_millis() as u64);
        self.engine.make_known(&self.list, author, Timestamp::from_millis(then));
    }

    /// Plays a letter at its time. True if it was let through at once.
    pub fn play(&mut self, letter: &Letter) -> bool {
        let now = self.started.after(letter.at);
        self.release(now);
        for event in self.engine.tick(now) {
            self.note(&event, letter.at);
        }
        self.tally.letters += 1;
        let mut tx = self.engine.session(None);
        self.engine.begin(&mut tx, letter.sender.as_bytes(), None, now);
        self.engine.recipient(&mut tx, self.list.as_bytes());
        self.engine.at_data(&mut tx);
        for (name, value) in &letter.headers {
            tx.header(name.as_bytes(), value.as_bytes());
        }
        let decision = self.engine.judge(&tx, None, now);
        for event in &decision.events {
            self.note(event, letter.at);
        }
        match (&decision.would, decision.reason) {
            (Action::Accept, _) => {
                self.tally.passed += 1;
                return true;
            }
            (_, Reason::Suspicion { until }) => {
                self.waiting.push_back(Waiting { until, author: decision.author.clone() });
            }
            _ => self.tally.held += 1,
        }
        false
    }

    /// Lets all remaining suspicions go, and returns the counts.
    pub fn finish(mut self) -> Tally {
        self.release(Timestamp::from_millis(u64::MAX));
        self.tally
    }

    /// Suspicions whose time has come; the delay is the same for all, so the first in line is due first.
    fn release(&mut self, now: Timestamp) {
        while let Some(first) = self.waiting.pop_front_if(|first| first.until <= now) {
            self.tally.delayed += 1;
            if let Some(author) = &first.author {
                self.engine.make_known(&self.list, author, first.until);
            }
        }
    }

    fn note(&mut self, event: &Event, at: Duration) {
        if let Event::StormStarted { .. } = event {
            self.tally.storms.push((at, self.tally.letters));
            // A storm cancels the timers: what waits stays held.
            self.tally.held += self.waiting.len() as u64;
            self.waiting.clear();
        }
    }
}
