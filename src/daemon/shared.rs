//! What all sessions of a daemon share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, broadcast};
use tracing::{info, warn};

use super::alerts::HeldLetters;
use super::connection::Patience;
use super::memory::Memory;
use super::own_mail::OwnMail;
use super::probe::Probes;
use super::storms::StormBook;
use super::watchdog::Watchdogs;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::journal::event::Event;
use crate::journal::record::Record;
use crate::quarantine::ledger::Ledger;
use crate::quarantine::mark::Marker;
use crate::quarantine::passed::Passed;
use crate::telemetry::counters::Counters;
use crate::telemetry::gate::Gate;
use crate::telemetry::latency::Latency;
use crate::time::Timestamp;

/// Lines about single messages in a minute; beyond that a storm is told in sums.
const VERDICT_LINES_A_MINUTE: u32 = 60;

/// Past storms that `becalm storms` can still show.
const PAST_STORMS: usize = 1000;

/// Events that a listener may be behind; a slower one misses the oldest, and is told how many.
const FEED: usize = 1024;

/// One per daemon, behind an `Arc`.
pub struct Shared {
    /// Judges.
    pub engine: Engine,
    /// The time that is judged by.
    pub clock: Clock,
    /// Signs headers.
    pub marker: Arc<ArcSwap<Marker>>,
    /// What is on hold, as far as this process knows.
    pub ledger: Ledger,
    /// Replies that passed a short while ago.
    pub passed: Passed,
    /// Storms, open and past.
    pub storms: StormBook,
    /// Probes that were begun.
    pub probes: Probes,
    /// What outlives the process.
    pub memory: Memory,
    /// Messages whose authors may get a notice.
    pub held_letters: HeldLetters,
    /// becalm's own mail that came by.
    pub own_mail: OwnMail,
    /// What was counted.
    pub counters: Counters,
    /// How long ordinary messages waited for becalm.
    pub latency: Latency,
    /// Limits the lines about single messages.
    pub verdict_lines: Gate,
    /// Limits the lines about peers that misbehave.
    pub peer_lines: Gate,
    /// Ends sessions: those that are silent, or all.
    pub watchdogs: Arc<Watchdogs>,
    /// When the last message came, in seconds of the clock; at first, when becalm started.
    last_message: AtomicU64,
    patience: ArcSwap<Patience>,
    max_connections: AtomicUsize,
    connections: AtomicUsize,
    draining: AtomicBool,
    refusing: AtomicBool,
    left: Notify,
    feed: broadcast::Sender<Event>,
}

impl Shared {
    /// For an engine that runs by `clock`.
    pub fn new(
        engine: Engine,
        clock: Clock,
        marker: Marker,
        patience: Patience,
        max_connections: usize,
    ) -> Self {
        Self {
            engine,
            last_message: AtomicU64::new(clock.now().as_secs()),
            clock,
            marker: Arc::new(ArcSwap::from_pointee(marker)),
            ledger: Ledger::default(),
            passed: Passed::default(),
            storms: StormBook::new(PAST_STORMS),
            probes: Probes::default(),
            memory: Memory::default(),
            held_letters: HeldLetters::default(),
            own_mail: OwnMail::default(),
            latency: Latency::default(),
            counters: Counters::default(),
            verdict_lines: Gate::new(VERDICT_LINES_A_MINUTE),
            peer_lines: Gate::new(VERDICT_LINES_A_MINUTE),
            watchdogs: Arc::default(),
            patience: ArcSwap::from_pointee(patience),
            max_connections: AtomicUsize::new(max_connections),
            connections: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            left: Notify::new(),
            feed: broadcast::Sender::new(FEED),
        }
    }

    /// How long sessions may take.
    pub fn patience(&self) -> Patience {
        **self.patience.load()
    }

    /// New limits, for sessions that begin from now on.
    pub fn set_limits(&self, patience: Patience, max_connections: usize) {
        self.patience.store(Arc::new(patience));
        self.max_connections.store(max_connections, Ordering::Relaxed);
    }

    /// A place for one more session, or none when all are taken. The place is free again when it is dropped.
    pub fn place(self: &Arc<Self>) -> Option<Place> {
        let max = self.max_connections.load(Ordering::Relaxed);
        self.connections
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| (taken < max).then_some(taken + 1))
            .ok()
            .map(|_| Place(Arc::clone(self)))
    }

    /// Sessions at this moment.
    pub fn sessions(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// The most sessions at a time.
    pub fn max_connections(&self) -> usize {
        self.max_connections.load(Ordering::Relaxed)
    }

    /// A message came at `now`.
    pub fn note_message(&self, now: Timestamp) {
        let now = now.as_secs();
        // Relaxed: a figure for people. Written once a second, and else only read: sessions do not take the line
        // from each other for every message.
        if self.last_message.load(Ordering::Relaxed) != now {
            self.last_message.store(now, Ordering::Relaxed);
        }
    }

    /// The time since the last message, or since the start where none has come; to the second.
    pub fn since_last_message(&self, now: Timestamp) -> Duration {
        Duration::from_secs(now.as_secs().saturating_sub(self.last_message.load(Ordering::Relaxed)))
    }

    /// Says what happened, and keeps it for `becalm storms`.
    pub fn publish(&self, events: &[Event]) {
        for event in events {
            self.storms.apply(event);
            if let Some(record) = self.engine.record_of(event) {
                self.memory.keep_at_once(record);
            }
            match event {
                Event::StormStarted {
                    storm,
                    list,
                    members,
                    trigger,
                    newcomers,
                    authors,
                    list_newcomers,
                    copies,
                    ..
                } => {
                    self.counters.storms_started.add_one();
                    self.keep_held(list.as_deref(), storm);
                    let list = list.as_deref().unwrap_or("-");
                    warn!(storm, list, members, trigger, newcomers, authors, list_newcomers, copies, "storm");
                }
                Event::StormEnded { storm, list, held, copies_held, delivered, .. } => {
                    let list = list.as_deref().unwrap_or("-");
                    warn!(storm, list, held, copies_held, delivered, "the storm is over");
                }
                Event::ClawedBack { storm, list, messages, copies, .. } => {
                    let list = list.as_deref().unwrap_or("-");
                    warn!(storm, list, messages, copies, "clawed back from Postfix's queue");
                }
                Event::PossibleList { address, authors, .. } => {
                    self.counters.possible_lists.add_one();
                    warn!(address, authors, "is this a list? many different people suddenly write to it");
                }
            }
            // An error says that nobody listens.
            let _ = self.feed.send(event.clone());
        }
    }

    /// What was under suspicion is part of a storm from now on, and stays where it is.
    pub(super) fn keep_held(&self, list: Option<&str>, storm: &str) {
        match list {
            Some(list) => self.ledger.keep_held(list, storm),
            None => {
                if let Some(conversation) = self.engine.conversation_of(storm) {
                    self.ledger.keep_gathering_held(conversation, storm);
                }
            }
        }
    }

    /// Takes in what was told to people by an earlier becalm, or by another.
    pub(super) fn recall(&self, record: &Record) -> Option<Event> {
        if let Record::ClawedBack(clawed) = record
            && !clawed.queue_id.is_empty()
        {
            self.ledger.recall_clawed_back(&clawed.queue_id, &clawed.storm, clawed.copies);
        }
        let event = self.engine.event_of(record)?;
        self.storms.apply(&event);
        Some(event)
    }

    /// The events from now on.
    pub fn feed(&self) -> broadcast::Receiver<Event> {
        self.feed.subscribe()
    }

    /// Makes an author known to a list: mail of his was released.
    pub fn make_known(&self, list: &str, author: &str) {
        self.memory.keep(self.engine.make_known(list, author, self.clock.now()));
    }

    /// Once a tick: what was kept out of the log, as sums.
    pub fn report_suppressed(&self) {
        for (gate, about) in [(&self.verdict_lines, "verdicts"), (&self.peer_lines, "peers")] {
            let lines = gate.take_suppressed();
            if lines > 0 {
                info!(lines, about, "lines left out of the log");
            }
        }
    }

    /// Waits until the last session has ended.
    pub async fn wait_until_empty(&self) {
        loop {
            // Registered before the count is read, or the last session could end in between, unheard.
            let left = self.left.notified();
            if self.sessions() == 0 {
                return;
            }
            left.await;
        }
    }

    /// No new sessions from now on. Those that are there go on, even between messages: Postfix keeps MAIL and
    /// RCPT back until DATA, so that a session that looks idle may have a message begun.
    pub fn begin_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Watched messages are refused from now on, to be sent to the becalm that comes after this one.
    pub fn begin_refusing(&self) {
        self.refusing.store(true, Ordering::Release);
    }

    /// Are watched messages refused?
    pub fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Acquire)
    }

    /// All as before: the becalm that was to come after this one is dead.
    pub fn end_draining(&self) {
        self.refusing.store(false, Ordering::Release);
        self.draining.store(false, Ordering::Release);
    }

    /// Is the daemon about to stop?
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// A session's place among the connections.
pub struct Place(Arc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
        self.0.left.notify_waiters();
    }
}
