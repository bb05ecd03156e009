//! Which conversation a message belongs to.
//!
//! Any id that is known, the newest first; then the GUID of the Thread-Index; then, for a reply, the base
//! subject on that list within a day. A message that answers something unseen starts the conversation it
//! names, so that the next answer to it joins.

use std::time::Duration;

use smallvec::SmallVec;

use super::keys::{Keys, Role};
use crate::mail::Head;
use crate::time::Timestamp;
use crate::window::{Cache, CacheStats};

/// Echoes of a storm come hours later, slow ones days later; after a week nobody answers any more.
const ID_MEMORY: Duration = Duration::from_secs(7 * 24 * 3600);

/// A subject without any id is weak evidence: two people write "Lunch" every week.
const SUBJECT_MEMORY: Duration = Duration::from_secs(24 * 3600);

/// What a message says of its conversation, as keys.
pub(super) struct Traces {
    /// Of its own Message-ID, unless it has none or Postfix made it up.
    pub message_id: Option<u64>,
    parents: SmallVec<[u64; 8]>,
    thread_index: Option<u64>,
    /// Of its base subject, unless that is empty.
    subject: Option<u64>,
    replies_by_subject: bool,
}

impl Traces {
    pub fn read(head: &Head, queue_id: Option<&[u8]>, keys: &Keys) -> Self {
        let subject = head.subject();
        Self {
            message_id: head.message_id(queue_id).map(|id| keys.bytes(Role::MessageId, id)),
            parents: head.parent_ids().iter().map(|id| keys.bytes(Role::MessageId, id)).collect(),
            thread_index: head.thread_index().map(|guid| keys.bytes(Role::ThreadIndex, &guid)),
            replies_by_subject: subject.reply,
            subject: (!subject.base.is_empty()).then(|| keys.bytes(Role::Subject, subject.base.as_bytes())),
        }
    }

    /// Can [`Threads::join`] do without a fallback?
    pub fn name_a_thread(&self) -> bool {
        self.message_id.is_some() && self.subject.is_some()
    }

    /// The ids that belong to its thread, beside its own.
    pub fn others(&self) -> impl Iterator<Item = u64> {
        self.parents.iter().chain(&self.thread_index).copied()
    }
}

/// A thread, before it is told apart by list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Thread {
    pub key: u64,
    pub reply: bool,
    /// The key of its subject on the list.
    pub subject: Option<u64>,
}

/// The memory of ids and subjects: bounded, the oldest goes first.
pub(super) struct Threads(Cache<u64>);

impl Threads {
    pub fn new(capacity: usize) -> Self {
        Self(Cache::new(capacity))
    }

    pub fn stats(&self) -> CacheStats {
        self.0.stats()
    }

    /// The thread that an id is known to belong to.
    pub fn of(&self, id: u64, now: Timestamp) -> Option<u64> {
        self.0.get(id, now, ID_MEMORY)
    }

    /// Finds the thread of a message to a list (`list_key` 0: to none) and remembers every trace of it.
    /// `fallback` names a new thread that has no Message-ID.
    pub fn join(&self, traces: &Traces, list_key: u64, fallback: u64, keys: &Keys, now: Timestamp) -> Thread {
        let subject_key = traces.subject.map(|subject| keys.combine(Role::Subject, &[list_key, subject]));
        let thread = self.find(traces, subject_key, fallback, now);

        self.note(traces.message_id.into_iter().chain(traces.others()), subject_key, thread.key, now);
        Thread { subject: subject_key, ..thread }
    }

    /// Remembers every trace of a message: its ids, and its subject on the list it went to.
    pub fn note(&self, ids: impl Iterator<Item = u64>, subject: Option<u64>, thread: u64, at: Timestamp) {
        for id in ids {
            // What is known stays where it is: a message never moves another's conversation.
            self.0.update(id, at, ID_MEMORY, |known| known.unwrap_or(thread));
        }
        if let Some(subject) = subject {
            self.0.update(subject, at, SUBJECT_MEMORY, |known| known.unwrap_or(thread));
        }
    }

    /// Shows everything that is remembered: key, time and thread.
    pub fn each(&self, now: Timestamp, show: impl FnMut(u64, Timestamp, u64)) {
        self.0.each(now, ID_MEMORY, show);
    }

    /// Puts back what was remembered at some time.
    pub fn put_back(&self, key: u64, thread: u64, at: Timestamp) {
        self.0.put_back(key, thread, at);
    }

    fn find(&self, traces: &Traces, subject_key: Option<u64>, fallback: u64, now: Timestamp) -> Thread {
        let by_id = |id: &u64| self.0.get(*id, now, ID_MEMORY);
        let joined =
            traces.parents.iter().find_map(by_id).or_else(|| traces.thread_index.iter().find_map(by_id));
        let replies = traces.replies_by_subject || !traces.parents.is_empty();
        let own = traces.message_id.unwrap_or(fallback);
        if let Some(key) = joined {
            // A first message finds its own Thread-Index: on its second list, in its second part.
            return Thread { key, reply: replies || key != own, subject: None };
        }
        if !replies {
            return Thread { key: own, reply: false, subject: None };
        }
        let by_subject = subject_key
            .filter(|_| traces.replies_by_subject)
            .and_then(|subject| self.0.get(subject, now, SUBJECT_MEMORY));
        // An answer to something unseen: the oldest id it names stands for it, or else its subject.
        let unseen = traces.parents.last().copied().or(traces.thread_index).or(subject_key);
        Thread { key: by_subject.or(unseen).unwrap_or(fallback), reply: true, subject: None }
    }
}
