//! The engine from outside: messages in, decisions out, at a time of the test's choosing.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::directory::snapshot::{ListId, Snapshot};
use crate::mail::AddressRules;
use crate::storm::limits::LimitSettings;
use crate::storm::policy::{Mode, Thresholds};

mod absurd;
mod audience;
mod by_hand;
mod conversations;
mod copies;
mod gatherings;
mod limits;
mod many;
mod memory;
mod near;
mod people;
mod storms;
mod unknown_lists;
mod verdicts;

const START: Timestamp = Timestamp::from_millis(1_479_112_140_000);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// A storm ends when its last attempt is older than this.
const QUIET: Duration = Duration::from_secs(2 * 3600);
const DAY: Duration = Duration::from_secs(86_400);

/// The list of most tests.
const ALL: &str = "all@example.org";

/// Everything about a site, to be changed before it is built or reloaded.
#[derive(Clone)]
struct Setup {
    lists: Vec<List>,
    policies: HashMap<String, Policy>,
    /// For lists without one of their own, and for messages to many recipients.
    policy: Policy,
    exempt: Exempt,
    limits: LimitSettings,
    capacity: Capacity,
    /// How long the lists have been there.
    age: Duration,
}

fn list(address: &str, members: u64) -> List {
    List {
        address: address.to_owned(),
        names: Vec::new(),
        members,
        class: None,
        origin: "test".to_owned(),
        contains: Vec::new(),
        pattern: address.contains('*'),
    }
}

/// The rule's own numbers, enforced by the hold queue.
fn holding() -> Policy {
    Policy { mode: Mode::Hold, ..Policy::default() }
}

/// Two newcomers within the hour are a storm, whatever they cost.
fn touchy(mode: Mode) -> Policy {
    let thresholds = Thresholds { free: 1, storm_min: 2, max: 2, ..Thresholds::default() };
    Policy { thresholds, mode, ..Policy::default() }
}

/// Lists with history, enforced.
fn setup(lists: &[(&str, u64)]) -> Setup {
    Setup {
        lists: lists.iter().map(|(address, members)| list(address, *members)).collect(),
        policies: HashMap::new(),
        policy: holding(),
        exempt: Exempt::default(),
        limits: LimitSettings::default(),
        capacity: Capacity { conversations: 256, recipients: 256, known_authors: 4096, message_ids: 4096 },
        age: 60 * DAY,
    }
}

impl Setup {
    fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    fn policy_of(mut self, list: &str, policy: Policy) -> Self {
        self.policies.insert(list.to_owned(), policy);
        self
    }

    fn parts(&self) -> Parts {
        let rules = AddressRules {
            myorigin: "example.org".to_owned(),
            recipient_delimiter: [b'+'].into(),
            ..AddressRules::default()
        };
        Parts {
            snapshot: Arc::new(Snapshot::of(self.lists.clone(), rules)),
            default_policy: self.policy.clone(),
            exempt: self.exempt.clone(),
            watch: Watch::default(),
            limits: self.limits,
        }
    }

    fn policies(&self) -> impl Fn(&List) -> Policy {
        |list| self.policies.get(&list.address).unwrap_or(&self.policy).clone()
    }

    fn build(&self) -> Site {
        let born = Timestamp::from_millis(START.as_millis() - self.age.as_millis() as u64);
        let engine = Engine::new([7; 16], self.capacity, self.parts(), self.policies(), born).unwrap();
        Site { engine, now: START, letters: Cell::new(0) }
    }
}

/// An engine and the time.
struct Site {
    engine: Engine,
    now: Timestamp,
    /// Each letter without an id of its own gets the next number.
    letters: Cell<u32>,
}

impl Site {
    fn wait(&mut self, span: Duration) {
        self.now = self.now.after(span);
    }

    fn reload(&self, setup: &Setup) {
        self.engine.set_world(setup.parts(), setup.policies(), self.now).unwrap();
    }

    /// Somebody who has written to the list before.
    fn introduce(&self, list: &str, author: &str) {
        let then = Timestamp::from_millis(self.now.as_millis() - (20 * DAY).as_millis() as u64);
        self.engine.make_known(list, author, then);
    }

    fn transaction(&self, letter: &Letter) -> Transaction {
        let mut tx = self.engine.session(letter.client);
        self.engine.begin(
            &mut tx,
            letter.sender.as_bytes(),
            letter.user.as_deref().map(str::as_bytes),
            self.now,
        );
        for recipient in &letter.to {
            self.engine.recipient(&mut tx, recipient.as_bytes());
        }
        tx
    }

    fn is_watched(&self, letter: &Letter) -> bool {
        self.engine.at_data(&mut self.transaction(letter))
    }

    /// Sends a message that is watched, and returns what becomes of it.
    fn send(&self, letter: &Letter) -> Decision {
        let mut tx = self.transaction(letter);
        assert!(self.engine.at_data(&mut tx), "not watched: {letter:?}");
        for (name, value) in &letter.headers {
            tx.header(name.as_bytes(), value.as_bytes());
        }
        if !letter.headers.iter().any(|(name, _)| name == "Message-ID") && letter.numbered {
            self.letters.set(self.letters.get() + 1);
            tx.header(b"Message-ID", format!("<letter-{}@example.org>", self.letters.get()).as_bytes());
        }
        self.engine.judge(&tx, letter.queue_id.as_deref().map(str::as_bytes), self.now)
    }

    /// Two newcomers write to a list under a touchy policy.
    fn open_storm(&self, list: &str) {
        self.send(&Letter::new("spark-1@example.org", list));
        let second = self.send(&Letter::new("spark-2@example.org", list));
        assert_eq!(second.reason, Reason::Storm, "{second:?}");
    }

    fn phase(&self, list: &str) -> Phase {
        let storms = self.engine.storms(self.now);
        storms
            .iter()
            .find(|storm| storm.list.as_deref() == Some(list))
            .map_or(Phase::Calm, |storm| storm.phase)
    }
}

/// A message on its way in.
#[derive(Clone, Debug)]
struct Letter {
    sender: String,
    user: Option<String>,
    client: Option<IpAddr>,
    to: Vec<String>,
    headers: Vec<(String, String)>,
    queue_id: Option<String>,
    numbered: bool,
}

impl Letter {
    /// A new message; `from` is the envelope's and the header's.
    fn new(from: &str, to: &str) -> Self {
        Self {
            sender: from.to_owned(),
            user: None,
            client: None,
            to: vec![to.to_owned()],
            headers: vec![("From".to_owned(), from.to_owned())],
            queue_id: None,
            numbered: true,
        }
    }

    /// The same with other recipients: this many that are no lists.
    fn with_people(mut self, people: std::ops::Range<u32>) -> Self {
        self.to = people.map(|n| format!("person-{n}@example.org")).collect();
        self
    }

    fn and_to(mut self, recipient: &str) -> Self {
        self.to.push(recipient.to_owned());
        self
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn id(self, id: &str) -> Self {
        self.header("Message-ID", &format!("<{id}>"))
    }

    fn re(self, id: &str) -> Self {
        self.header("In-Reply-To", &format!("<{id}>")).header("References", &format!("<{id}>"))
    }

    fn without_id(mut self) -> Self {
        self.numbered = false;
        self
    }

    fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    fn client(mut self, client: &str) -> Self {
        self.client = Some(client.parse().unwrap());
        self
    }
}

/// The n-th of many people nobody knows.
fn stranger(n: u32) -> String {
    format!("stranger-{n}@example.org")
}

fn started(decision: &Decision) -> Option<&'static str> {
    decision.events.iter().find_map(|event| match event {
        Event::StormStarted { trigger, .. } => Some(*trigger),
        _ => None,
    })
}
