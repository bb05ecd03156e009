//! Facts + now → verdict + events.
//!
//! The engine is what every session shares: the tables of counters, the memory of conversations, and the
//! present [`World`]. It reads no clock and does no I/O; ordinary mail takes no lock in it.
//!
//! ```text
//! begin ─▶ recipient … ─▶ at_data ─ no ─▶ (accepted: nothing more is asked)
//!                             │ watched
//!                             ▼
//!                          header … ─▶ judge ─▶ Decision: action, events
//! ```

mod by_hand;
mod copies;
mod gatherings;
mod image;
mod judging;
mod keys;
mod near;
mod recipients;
mod remember;
mod spellings;
mod thread;
mod transaction;
mod verdict;
mod world;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use smallvec::SmallVec;

pub use by_hand::{Done, Refusal};
pub use copies::Copies;
pub use judging::Share;
pub use keys::{KeyHasher, Keys, Role};
pub use near::Near;
pub use transaction::Transaction;
pub use verdict::Action;
pub use world::{Exempt, Parts, StateRegistry, Watch, WatchedList, World};

use crate::directory::snapshot::List;
use crate::journal::event::Event;
use crate::journal::record::{self, Judged, Known, Record};
use crate::mail::AddressBuf;
use crate::storm::detector::Detector;
use crate::storm::limits::{Exceeded, RateError};
use crate::storm::policy::{Mode, Policy};
use crate::storm::state::{Phase, StormFigures};
use crate::time::Timestamp;
use crate::window::{Cache, CacheStats, Recent, SetStats, Table, TableStats};
use by_hand::Closed;
use gatherings::Gatherings;
use judging::{PartMemo, RetryMemo};
use near::Followed;
use thread::Threads;

/// Sizes of the tables; all memory is taken at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Conversations followed at once; about 560 bytes each.
    pub conversations: usize,
    /// Recipient addresses counted at once; about 300 bytes each.
    pub recipients: usize,
    /// Pairs of list and author that are known to each other; 8 bytes each.
    pub known_authors: usize,
    /// Message-IDs, Thread-Indexes and subjects remembered; about 24 bytes each.
    pub message_ids: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { conversations: 65_536, recipients: 131_072, known_authors: 1_048_576, message_ids: 262_144 }
    }
}

/// Everything that judges, shared by all sessions.
pub struct Engine {
    keys: Keys,
    world: ArcSwap<World>,
    /// Worlds so far.
    worlds: AtomicU64,
    states: Arc<StateRegistry>,
    detector: Detector,
    recipients: Table,
    origins: Recent,
    reported: Recent,
    threads: Threads,
    parts: Cache<PartMemo>,
    retries: Cache<RetryMemo>,
    by_hand: Closed,
    gatherings: Gatherings,
    followed: Followed,
    observing: AtomicBool,
}

/// What is to be done with a watched message, and why.
#[derive(Debug)]
pub struct Decision {
    /// To be done.
    pub action: Action,
    /// What would be done if every list were enforced.
    pub would: Action,
    /// Why.
    pub reason: Reason,
    /// The list that decided, or the first one named.
    pub list: Option<String>,
    /// Its key.
    pub list_key: Option<u64>,
    /// The storm that the message belongs to.
    pub storm: Option<String>,
    /// Keyed hash of its conversation, where it goes to many recipients and no list.
    pub conversation: Option<u64>,
    /// Mailboxes that the message reaches, its earlier parts included.
    pub audience: u64,
    /// The copies that are to be counted for it.
    pub copies: Copies,
    /// Who wrote it, as a canonical address.
    pub author: Option<String>,
    /// What sort of message it is.
    pub kind: Kind,
    /// A list, a digest or a newsletter sent it on; discussion lists mark every post so.
    pub redistributed: bool,
    /// It asks every recipient for a receipt: on a large list that alone makes a storm.
    pub wants_receipts: bool,
    /// Is a list among its recipients whose mode is not observe? Then the message is marked.
    pub enforced: bool,
    /// What happened on the way.
    pub events: SmallVec<[Event; 2]>,
    /// What the message wrote: to be kept, unless it is empty.
    pub record: Judged,
}

/// What sort of message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It begins a conversation.
    New,
    /// It answers one.
    Reply,
    /// A program sent it.
    Automatic,
}

impl Kind {
    /// For logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Reply => "reply",
            Self::Automatic => "automatic",
        }
    }
}

/// Why a decision fell as it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing speaks against it.
    Calm,
    /// The author or the client is exempt.
    Exempt,
    /// Too fast for calm.
    Suspicion {
        /// When it would be released.
        until: Timestamp,
    },
    /// Automatic mail above its budget.
    Automatic,
    /// Part of a storm.
    Storm,
    /// Above a rate limit.
    Limit(Exceeded),
}

impl Reason {
    /// When a suspicion would be released; none for everything else.
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Suspicion { until } => Some(*until),
            _ => None,
        }
    }

    /// For logs and counters.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Exempt => "exempt",
            Self::Suspicion { .. } => "suspicion",
            Self::Automatic => "automatic",
            Self::Storm => "storm",
            Self::Limit(_) => "limit",
        }
    }
}

/// A list that is not calm, or a storm among many recipients, for the admin socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenStorm {
    /// The list's address; none: many recipients.
    pub list: Option<String>,
    /// Mailboxes it reaches.
    pub members: u64,
    /// Storm or cooling.
    pub phase: Phase,
    /// The storm's name; none while cooling.
    pub storm: Option<String>,
    /// What is done with its mail.
    pub mode: Mode,
    /// It is never held, whatever the mode.
    pub never_hold: bool,
    /// Until when an operator wants it closed at least.
    pub closed_until: Option<Timestamp>,
    /// Does somebody stop its mail: is it enforced, and no list for emergencies?
    pub enforced: bool,
    /// When the storm ends if nobody adds to it; none while cooling.
    pub ends: Option<Timestamp>,
    /// The last post that was stopped.
    pub last_attempt: Timestamp,
    /// Of the present storm, or of the one that the list cools from.
    pub figures: StormFigures,
}

/// Occupancy of every table.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    /// Conversations.
    pub conversations: TableStats,
    /// Recipients of all mail.
    pub recipients: TableStats,
    /// Authors known to lists.
    pub known_authors: SetStats,
    /// Ids and subjects.
    pub message_ids: CacheStats,
    /// Storms among many recipients that are remembered; those beyond have no name. Its memory grows with them.
    pub storms_without_a_list: TableStats,
}

impl Engine {
    /// Allocates all tables and takes its first world.
    ///
    /// # Errors
    /// A rate that cannot be kept.
    pub fn new(
        secret: [u8; 16],
        capacity: Capacity,
        parts: Parts,
        policy: impl Fn(&List) -> Policy,
        now: Timestamp,
    ) -> Result<Self, RateError> {
        let keys = Keys::new(secret);
        let states = Arc::new(StateRegistry::default());
        let world = World::new(parts, policy, &keys, &states, None, now)?;
        // Retries and parts live for minutes; a sixteenth of the ids' memory holds them.
        let short_lived = (capacity.message_ids / 16).max(1024);
        Ok(Self {
            world: ArcSwap::from_pointee(world),
            worlds: AtomicU64::new(1),
            states,
            detector: Detector::new(capacity.conversations, capacity.known_authors),
            recipients: Table::new(capacity.recipients, false),
            origins: Recent::new(short_lived),
            reported: Recent::new(short_lived),
            threads: Threads::new(capacity.message_ids),
            parts: Cache::new(short_lived),
            retries: Cache::new(short_lived),
            by_hand: Closed::default(),
            gatherings: Gatherings::default(),
            followed: Followed::default(),
            observing: AtomicBool::new(false),
            keys,
        })
    }

    /// The world as it is now.
    pub fn world(&self) -> Arc<World> {
        self.world.load_full()
    }

    /// Puts a new directory and new settings in force, from the next message on. What the engine remembers
    /// of lists, conversations and authors stays.
    ///
    /// # Errors
    /// A rate that cannot be kept: nothing has changed.
    pub fn set_world(
        &self,
        parts: Parts,
        policy: impl Fn(&List) -> Policy,
        now: Timestamp,
    ) -> Result<(), RateError> {
        let earlier = self.world.load();
        let world = World::new(parts, policy, &self.keys, &self.states, Some(&earlier), now)?;
        self.world.store(Arc::new(world));
        // Release: who sees the new number finds the new world.
        self.worlds.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// The list that an address names, as it was sent.
    pub fn list_named(&self, raw: &[u8], now: Timestamp) -> Option<Arc<WatchedList>> {
        let world = self.world.load();
        let spelling = self.keys.spelling(raw);
        world.recipient(raw, spelling, &mut AddressBuf::new(), &self.keys, now)?.1
    }

    /// Is this address the one and only recipient of a message?
    pub fn is_for(&self, tx: &Transaction, address: &str, now: Timestamp) -> bool {
        let raw = address.as_bytes();
        let spelling = self.keys.spelling(raw);
        let named = tx.world.recipient(raw, spelling, &mut AddressBuf::new(), &self.keys, now);
        tx.recipients == 1 && named.is_some_and(|(key, _)| key == tx.digest)
    }

    /// A keyed hash of some id, for memories outside of the engine.
    pub fn key_of(&self, id: &[u8]) -> u64 {
        self.keys.bytes(Role::Retry, id)
    }

    /// Makes an author known to a list: mail of his was released, or is known from earlier days. Returns what is to
    /// be kept of it.
    pub fn make_known(&self, list: &str, author: &str, at: Timestamp) -> Record {
        let author = self.keys.bytes(Role::Author, author.as_bytes());
        let list_key = self.keys.bytes(Role::Recipient, list.as_bytes());
        let world = self.world.load();
        let listed = world.list_by_name(list_key);
        let list_key = listed.as_ref().map_or(list_key, |list| list.key);
        let known = self.keys.combine(Role::Known, &[list_key, author]);
        let policy = listed.as_ref().map_or(&world.default_policy, |list| &list.policy);
        self.detector.make_known(known, at, policy.thresholds.known_for);
        let known_for = record::minutes(policy.thresholds.known_for);
        Record::Known(Known { key: known, at, known_for })
    }

    /// Everything at once to observe (or back): judged and reported, nothing touched.
    pub fn set_observing(&self, observing: bool) {
        self.observing.store(observing, Ordering::Relaxed);
    }

    /// Is everything put to observe?
    pub fn is_observing(&self) -> bool {
        self.observing.load(Ordering::Relaxed)
    }

    /// The state of a new session.
    pub fn session(&self, client: Option<IpAddr>) -> Transaction {
        let number = self.worlds.load(Ordering::Acquire);
        Transaction::new(self.world(), number, client, &self.keys)
    }

    /// A message begins: its envelope sender and authenticated user, as they were sent.
    pub fn begin(&self, tx: &mut Transaction, sender: &[u8], user: Option<&[u8]>, now: Timestamp) {
        let number = self.worlds.load(Ordering::Acquire);
        // Sessions on all threads share the world: nothing of it is touched that need not be.
        if tx.world_number != number {
            (tx.world, tx.world_number) = (self.world(), number);
        }
        tx.begin(sender, user, &self.keys, now);
    }

    /// All recipients are there: is the message watched? If not, it is none of becalm's business.
    pub fn at_data(&self, tx: &mut Transaction) -> bool {
        let watch = &tx.world.watch;
        if !tx.lists.is_empty() || tx.recipients >= watch.many_recipients {
            self.origins.insert(tx.origin_key, tx.now);
            return true;
        }
        self.origins.contains(tx.origin_key, tx.now, watch.parts_within)
    }

    /// Lets time pass: storms end without mail too.
    pub fn tick(&self, now: Timestamp) -> Vec<Event> {
        let mut events = Vec::new();
        for list in self.world.load().lists() {
            if let Some(ended) = self.detector.tick(&list.state, now, &list.policy.thresholds) {
                events.extend(self.event(ended, Some(&list), None, now));
            }
        }
        self.tick_gatherings(now, &mut events);
        events
    }

    /// Lists that are in a storm or cool after one, and storms among many recipients.
    pub fn storms(&self, now: Timestamp) -> Vec<OpenStorm> {
        let world = self.world.load();
        let on_lists = world.lists().into_iter();
        let mut storms: Vec<OpenStorm> = on_lists
            .filter_map(|list| {
                let phase = list.state.phase(now);
                (phase != Phase::Calm).then(|| OpenStorm {
                    list: Some(list.address.clone()),
                    members: list.members,
                    phase,
                    storm: storm_name(&list, now),
                    mode: list.policy.mode,
                    never_hold: list.policy.never_hold,
                    closed_until: Self::closed_by_hand(&list, now),
                    enforced: list.policy.mode != Mode::Observe && !list.policy.never_hold,
                    ends: list.state.ends(list.policy.thresholds.quiet),
                    last_attempt: list.state.last_attempt(),
                    figures: list.state.figures(),
                })
            })
            .collect();
        storms.extend(self.gatherings.all().iter().filter_map(|gathering| gathering.open_storm(&world)));
        storms
    }

    /// Occupancy of the tables.
    pub fn tables(&self) -> Tables {
        Tables {
            conversations: self.detector.conversations(),
            recipients: self.recipients.stats(),
            known_authors: self.detector.known_authors(),
            message_ids: self.threads.stats(),
            storms_without_a_list: self.gatherings.stats(),
        }
    }
}

/// The name of the storm that is open on a list. Every message of a storm asks for it.
fn storm_name(list: &WatchedList, now: Timestamp) -> Option<String> {
    let Phase::Storm { since } = list.state.phase(now) else { return None };
    if let Some((_, name)) = list.named.load().as_deref().filter(|(named, _)| *named == since) {
        return Some(name.clone());
    }
    let name = name_storm(since, list.key);
    list.named.store(Some(Arc::new((since, name.clone()))));
    Some(name)
}

/// When it began, and four digits that tell storms of the same second apart: short enough to be read out on
/// the telephone.
fn name_storm(since: Timestamp, key: u64) -> String {
    let mut name = since.rfc3339();
    name.retain(|c| !matches!(c, '-' | ':'));
    name.push('-');
    name.extend([12, 8, 4, 0].into_iter().filter_map(|bits| char::from_digit((key >> bits & 15) as u32, 16)));
    name
}
