//! What the journal keeps: what each judged message wrote, the storms that began and ended, and images of what the
//! engine knows. Numbers and keyed hashes; no address, no subject.
//!
//! An [`Event`](super::event::Event) is for people. A record is for the engine: applied to a fresh one, in any
//! order and more than once, it brings back what was known.

use std::time::Duration;

use smallvec::SmallVec;

use crate::time::Timestamp;

/// One entry of the journal.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A message was judged.
    Judged(Judged),
    /// A storm was declared.
    Opened(Opened),
    /// A storm has ended.
    Ended(Ended),
    /// An author became known to a list: his mail was released.
    Known(Known),
    /// An operator closed something, or ended a storm.
    ByHand(ByHand),
    /// A message that had passed was put on hold when a storm came of its conversation.
    ClawedBack(ClawedBack),
    /// A piece of a checkpoint.
    Piece(Box<Piece>),
}

/// What a judged message wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// When.
    pub at: Timestamp,
    /// Its author.
    pub author: u64,
    /// Its Message-ID; 0: none that can be used.
    pub message: u64,
    /// Client and envelope sender, if further parts may follow; 0: none.
    pub origin: u64,
    /// The set of its recipients.
    pub digest: u64,
    /// The other ids that belong to its thread.
    pub ids: SmallVec<[u64; 4]>,
    /// What it wrote for each of its lists.
    pub shares: SmallVec<[Share; 1]>,
    /// What its parts come to so far.
    pub parts: Option<Parts>,
}

impl Judged {
    /// Does it write nothing at all? Then it need not be kept.
    pub fn is_empty(&self) -> bool {
        self.shares.is_empty() && self.parts.is_none()
    }
}

/// What a message wrote for one list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// The list; 0: none, but many recipients.
    pub list: u64,
    /// Its thread; 0: it joined none.
    pub thread: u64,
    /// Its subject on that list; 0: none.
    pub subject: u64,
    /// What it left behind, as flags: see the constants of this type.
    pub flags: u8,
    /// Mailboxes that it reached.
    pub audience: u64,
    /// The window that was in force, in seconds.
    pub window: u32,
    /// How long an author stays known, in minutes.
    pub known_for: u32,
    /// Until when its conversation was closed; the epoch: it was not.
    pub closed_until: Timestamp,
    /// Since when there was a storm on the list; the epoch: there was none.
    pub storm: Timestamp,
    /// Messages and copies held, messages and copies delivered, in that storm; this one counted.
    pub figures: [u64; 4],
    /// What is remembered in case the message comes again; none: nothing.
    pub verdict: Option<Verdict>,
}

impl Share {
    /// It began its conversation.
    pub const STARTER: u8 = 1;
    /// It was counted in its conversation.
    pub const IN_CONVERSATION: u8 = 2;
    /// It was counted among the list's newcomers.
    pub const ON_LIST: u8 = 4;
    /// It was counted as automatic mail.
    pub const AUTOMATIC: u8 = 8;
    /// It passed: its author is known from it.
    pub const KNOWN: u8 = 16;
    /// A storm, or the cooling after one, stopped it.
    pub const ATTEMPT: u8 = 32;
    /// A rate limit stopped it.
    pub const LIMITED: u8 = 64;
    /// Its author was new to the list.
    pub const NEWCOMER: u8 = 128;

    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Sets a flag if `on`.
    pub fn set(&mut self, flag: u8, on: bool) {
        self.flags |= if on { flag } else { 0 };
    }
}

/// What a message came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// It passed.
    #[default]
    Pass,
    /// It was too fast.
    Suspicion {
        /// When it would be released.
        until: Timestamp,
    },
    /// It was automatic mail above its budget.
    Automatic,
    /// It was part of a storm.
    Storm,
}

/// What the parts of a message come to so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Mailboxes that they reach.
    pub audience: u64,
    /// The worst verdict.
    pub worst: Verdict,
    /// The list of that verdict; 0: none.
    pub list: u64,
}

/// A storm was declared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The list; 0: none.
    pub list: u64,
    /// When; this names the storm.
    pub since: Timestamp,
    /// The last four digits of its name.
    pub digits: u16,
    /// What tripped, by its number.
    pub trigger: u8,
    /// Mailboxes that a message reaches.
    pub members: u64,
    /// Newcomers in the conversation, authors in it, newcomers on the list.
    pub counts: [u32; 3],
    /// Copies that the counted posts cost.
    pub copies: u64,
    /// The conversation, where there is no list; 0: there is one, or it is not known.
    pub conversation: u64,
}

/// A storm has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The list; 0: none.
    pub list: u64,
    /// When the storm had been declared.
    pub since: Timestamp,
    /// When it was found to be over.
    pub at: Timestamp,
    /// Until when the list is on guard.
    pub cooling_until: Timestamp,
    /// Messages and copies held, messages and copies delivered.
    pub figures: [u64; 4],
    /// The conversation, where there is no list; 0: there is one.
    pub conversation: u64,
}

/// An author is known to a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The list and the author.
    pub key: u64,
    /// From when on.
    pub at: Timestamp,
    /// For how long without another post, in minutes.
    pub known_for: u32,
}

/// What an operator did with a list or one of its conversations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByHand {
    /// The list; 0: none, but a conversation among many recipients.
    pub list: u64,
    /// When. For a list in a storm that was opened by it, when that began.
    pub at: Timestamp,
    /// Until when it is closed; the epoch: all that came by `at` is forgiven.
    pub until: Timestamp,
    /// The message that the conversation was named by; 0: the whole list.
    pub message: u64,
    /// Its thread; 0: the whole list. Without a list, the conversation.
    pub thread: u64,
}

/// A message was clawed back: only its queue id says so once becalm was started again, for its mark says that it passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClawedBack {
    /// When.
    pub at: Timestamp,
    /// Name of the storm.
    pub storm: String,
    /// Postfix's queue id; empty: none of the storm's is on hold any more.
    pub queue_id: String,
    /// The copies that were still to be made of it.
    pub copies: u64,
    /// Messages of this storm that were clawed back by then, and their copies.
    pub sums: [u64; 2],
}

/// A piece of what the engine knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Words of the memory of known authors.
    Known(Words),
    /// Words of the memory of clients and senders.
    Origins(Words),
    /// A conversation.
    Conversation(Slot),
    /// A list.
    List(ListImage),
    /// Ids, Thread-Indexes and subjects: key, time, thread.
    Threads(Vec<(u64, Timestamp, u64)>),
    /// Messages that may come again: key, time, verdict, and whether a rate limit stopped it.
    Retries(Vec<(u64, Timestamp, Verdict, bool)>),
    /// Messages of which further parts may come.
    Parts(Vec<(u64, Timestamp, Parts)>),
    /// A closure by hand that is in force, or the last act of forgiveness.
    ByHand(ByHand),
    /// A storm among many recipients without a list.
    Gathering(GatheringImage),
}

/// Words of a set-associative table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// The layout of the words.
    pub layout: u8,
    /// How many sets the table had.
    pub sets: u64,
    /// Set and word.
    pub words: Vec<(u32, u64)>,
}

/// Words of entries and of their costs.
pub type Entries = Vec<(u64, u64)>;

/// A slot of the table of conversations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// The layout of the words.
    pub layout: u8,
    /// How many sets the table had.
    pub sets: u64,
    /// The slot's set.
    pub set: u32,
    /// Its word, and its marks: closed, starter.
    pub words: [u64; 3],
    /// Its entries.
    pub entries: Entries,
}

/// The state of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListImage {
    /// The layout of the entries.
    pub layout: u8,
    /// The list.
    pub list: u64,
    /// First seen; storm; ended storm; last attempt; cooling until.
    pub times: [Timestamp; 5],
    /// Messages and copies held, messages and copies delivered.
    pub figures: [u64; 4],
    /// Newcomers.
    pub newcomers: Entries,
    /// Automatic mail.
    pub automatic: Entries,
}

/// What is remembered of a storm among many recipients without a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatheringImage {
    /// The conversation.
    pub conversation: u64,
    /// Mailboxes that its largest message reached.
    pub members: u64,
    /// Storm; ended storm; last attempt; forgiven until.
    pub times: [Timestamp; 4],
    /// Messages and copies held, messages and copies delivered.
    pub figures: [u64; 4],
}

/// A span in whole seconds, rounded up.
pub fn seconds(span: Duration) -> u32 {
    u32::try_from(span.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

/// A span in whole minutes, rounded up.
pub fn minutes(span: Duration) -> u32 {
    u32::try_from(span.as_millis().div_ceil(60_000)).unwrap_or(u32::MAX)
}
