//! What operators do: close a list or one of its conversations for a time, end a storm.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::keys::{KeyHasher, Keys, Role};
use super::remember::{LONGEST_CLOSURE, trigger_name};
use super::world::WatchedList;
use super::{Engine, storm_name};
use crate::journal::event::Event;
use crate::journal::record::{ByHand, Record};
use crate::storm::detector::{Transition, Trigger};
use crate::storm::state::{Closure, LONGEST, Phase};
use crate::time::Timestamp;

/// Conversations closed by hand at a time: each takes an operator a command.
const MOST_CONVERSATIONS: usize = 1024;

/// A line of mail, which is as much as is read of a Message-ID.
const LONGEST_ID: usize = 998;

/// What was done.
pub struct Done {
    /// The list; none: a storm among many recipients was ended.
    pub list: Option<Arc<WatchedList>>,
    /// The storm that was opened, kept open or ended.
    pub storm: Option<String>,
    /// Until when it is closed.
    pub until: Option<Timestamp>,
    /// What happened by it.
    pub events: Vec<Event>,
    /// To be kept.
    pub record: Record,
}

/// Why nothing was done.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such list.
    #[error("{0} is no list that becalm knows (`becalm lists` shows them)")]
    NoList(String),
    /// No such storm is open.
    #[error("{0} is neither a list nor a storm that is open (`becalm storms` shows them)")]
    NoStorm(String),
    /// A list for emergencies.
    #[error("{0} is a list for emergencies (never_hold): its mail is never held")]
    NeverHeld(String),
    /// No time, or too much of it.
    #[error("a list is closed for a second at least, and for 30 days at most")]
    Span,
    /// Not a Message-ID.
    #[error("a conversation is named by the Message-ID of one of its messages: name@host, at most 998 bytes")]
    MessageId,
    /// Too many conversations are closed.
    #[error("{MOST_CONVERSATIONS} conversations are closed by hand already: close the list")]
    TooMany,
}

impl Engine {
    /// Ends a storm, or a list's cooling, named by the storm or by the list; conversations of the list that were
    /// closed are open again, and what was counted so far counts no more.
    ///
    /// # Errors
    /// There is none.
    pub fn end_by_hand(&self, which: &str, now: Timestamp) -> Result<Done, Refusal> {
        if let Some(done) = self.end_gathering(which, now) {
            return Ok(done);
        }
        let named = |list: &Arc<WatchedList>| storm_name(list, now).is_some_and(|name| name == which);
        let by_storm = self.world.load().lists().into_iter().find(named);
        let list = by_storm.or_else(|| self.list_named(which.as_bytes(), now));
        let list = list.ok_or_else(|| Refusal::NoStorm(which.to_owned()))?;
        let storm = storm_name(&list, now);
        let ended = list.state.forgive(now);
        let forgiven = list.state.forgiven();
        self.by_hand.forgive(list.key, forgiven);
        let event = ended.and_then(|since| self.event(Transition::Ended { since }, Some(&list), None, now));
        let record = Record::ByHand(ByHand { list: list.key, at: forgiven, ..ByHand::default() });
        Ok(Done { list: Some(list), storm, until: None, events: event.into_iter().collect(), record })
    }

    fn end_gathering(&self, storm: &str, now: Timestamp) -> Option<Done> {
        let all = self.gatherings.all();
        let gathering = all.iter().find(|gathering| gathering.storm().as_deref() == Some(storm))?;
        let since = gathering.state.forgive(now);
        let forgiven = gathering.state.forgiven();
        self.gatherings.note_forgiven(forgiven);
        let event = since.and_then(|since| gathering.ended(Transition::Ended { since }, now));
        let record = ByHand { at: forgiven, thread: gathering.key, ..ByHand::default() };
        Some(Done {
            list: None,
            storm: Some(storm.to_owned()),
            until: None,
            events: event.into_iter().collect(),
            record: Record::ByHand(record),
        })
    }

    /// Closes a list for newcomers (one whose messages are dear: for everybody), or one of its conversations for
    /// everybody. `conversation`: the Message-ID of one of its messages.
    ///
    /// # Errors
    /// It is not to be closed, or not known.
    pub fn close_by_hand(
        &self,
        list: &str,
        conversation: Option<&str>,
        span: Duration,
        now: Timestamp,
    ) -> Result<Done, Refusal> {
        let list = self.list_named(list.as_bytes(), now).ok_or_else(|| Refusal::NoList(list.to_owned()))?;
        if list.policy.never_hold {
            return Err(Refusal::NeverHeld(list.address.clone()));
        }
        if span < Duration::from_secs(1) || span > LONGEST {
            return Err(Refusal::Span);
        }
        if let Some(id) = conversation {
            return self.close_conversation(list, id, span, now);
        }
        let opened = list.state.close_by_hand(now, span);
        let storm = storm_name(&list, now);
        let events = match (&storm, opened) {
            (Some(storm), true) => vec![Event::StormStarted {
                storm: storm.clone(),
                list: Some(list.address.clone()),
                members: list.members,
                trigger: trigger_name(Trigger::ByHand),
                newcomers: 0,
                authors: 0,
                list_newcomers: 0,
                copies: 0,
                at: now,
            }],
            _ => Vec::new(),
        };
        let Closure { at, until } = list.state.closure().unwrap_or_default();
        let record = Record::ByHand(ByHand { list: list.key, at, until, ..ByHand::default() });
        Ok(Done { list: Some(list), storm, until: Some(until), events, record })
    }

    /// Until when a list that is in a storm is closed by hand at least.
    pub(super) fn closed_by_hand(list: &WatchedList, now: Timestamp) -> Option<Timestamp> {
        let in_storm = matches!(list.state.phase(now), Phase::Storm { .. });
        let closure = list.state.closure().filter(|closure| in_storm && closure.until > now);
        closure.map(|closure| closure.until)
    }

    /// What was done elsewhere, by an earlier run or by another node.
    pub(super) fn apply_by_hand(&self, done: &ByHand, now: Timestamp) {
        let at = done.at.min(now);
        let until = done.until.min(now.after(LONGEST_CLOSURE));
        if done.list == 0 {
            return self.forgive_gathering(done.thread, at, now);
        }
        let list = self.states.state(done.list, at);
        if done.until == Timestamp::default() {
            list.join_forgiven(at);
            self.by_hand.forgive(done.list, at);
        } else if done.thread == 0 {
            // Not earlier than it was: a storm is told to be by hand by when it began.
            list.join_closure(Closure { at: done.at, until });
        } else {
            self.threads.note(std::iter::once(done.message), None, done.thread, at);
            if at > list.forgiven() {
                self.by_hand.close(&self.keys, &ByHand { at, until, ..*done }, now);
            }
        }
    }

    fn close_conversation(
        &self,
        list: Arc<WatchedList>,
        id: &str,
        span: Duration,
        now: Timestamp,
    ) -> Result<Done, Refusal> {
        let id = id.trim().trim_start_matches('<').trim_end_matches('>');
        let sensible = id.len() <= LONGEST_ID && !id.chars().any(|c| c.is_whitespace() || c.is_control());
        if !sensible || !id.contains('@') {
            return Err(Refusal::MessageId);
        }
        let message = self.keys.bytes(Role::MessageId, id.as_bytes());
        // What nobody has seen yet is known by this id from now on.
        let thread = self.threads.of(message, now).unwrap_or(message);
        self.threads.note(std::iter::once(message), None, thread, now);
        let until = now.after(span);
        // After what was forgiven a moment ago.
        let at = now.max(Timestamp::from_millis(list.state.forgiven().as_millis().saturating_add(1)));
        let done = ByHand { list: list.key, at, until, message, thread };
        if !self.by_hand.close(&self.keys, &done, now) {
            return Err(Refusal::TooMany);
        }
        Ok(Done {
            storm: storm_name(&list, now),
            list: Some(list),
            until: Some(until),
            events: Vec::new(),
            record: Record::ByHand(done),
        })
    }
}

/// The conversations that are closed by hand, by their keys. Read with every watched message, written by hand.
#[derive(Default)]
pub(super) struct Closed(ArcSwap<HashMap<u64, ByHand, BuildHasherDefault<KeyHasher>>>);

impl Closed {
    /// Is this conversation closed?
    pub fn covers(&self, conversation: u64, now: Timestamp) -> bool {
        self.0.load().get(&conversation).is_some_and(|closed| closed.until > now)
    }

    /// All of them, for a checkpoint.
    pub fn all(&self, now: Timestamp) -> Vec<ByHand> {
        self.0.load().values().filter(|closed| closed.until > now).copied().collect()
    }

    /// Never for less than it is closed already. False: there are too many.
    fn close(&self, keys: &Keys, done: &ByHand, now: Timestamp) -> bool {
        let key = keys.combine(Role::Conversation, &[done.list, done.thread]);
        let mut fits = true;
        self.0.rcu(|closed| {
            let mut closed = HashMap::clone(closed);
            closed.retain(|_, closed| closed.until > now);
            fits = closed.len() < MOST_CONVERSATIONS || closed.contains_key(&key);
            if fits {
                let entry = closed.entry(key).or_insert(*done);
                entry.at = entry.at.max(done.at);
                entry.until = entry.until.max(done.until);
            }
            closed
        });
        fits
    }

    /// Opens those of a list that were closed by `at`.
    fn forgive(&self, list: u64, at: Timestamp) {
        if self.0.load().is_empty() {
            return;
        }
        self.0.rcu(|closed| {
            let mut closed = HashMap::clone(closed);
            closed.retain(|_, closed| closed.list != list || closed.at > at);
            closed
        });
    }
}
