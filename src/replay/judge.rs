//! The seam for other rules: what a run tells a rule of each message, and what the rule says.

use crate::time::Timestamp;

/// One list's share of a message. A message to several lists comes once for each, one after the other, and the
/// strictest verdict is the whole message's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posting {
    /// When it arrived; never before the one that came before.
    pub at: Timestamp,
    /// Number of the message, from 0; the same for all its shares.
    pub message: u64,
    /// Number of the list, from 0 and without gaps: the first list that had mail is 0. Messages to many
    /// recipients and no list have a number of their own, one for all.
    pub list: usize,
    /// Mailboxes the list reaches; without a list, as `audience`.
    pub members: u64,
    /// Mailboxes that the whole message reaches.
    pub audience: u64,
    /// The conversation on this list: a hash.
    pub conversation: u64,
    /// Who wrote it: a hash, the same on every list.
    pub author: u64,
    /// Does it answer, or begin?
    pub reply: bool,
    /// Sent by a program.
    pub automatic: bool,
    /// Was its author new to the list, as becalm sees it?
    pub newcomer: bool,
}

/// What a rule says of a posting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// What becomes of the message.
    pub verdict: Verdict,
    /// A storm that this posting set off. While the same list and conversation have one open, another is the
    /// same one, prolonged.
    pub storm: Option<Declared>,
}

/// A storm that a rule declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    /// What tripped, as a word of the report.
    pub trigger: &'static str,
    /// Until when the rule keeps it open.
    pub until: Timestamp,
    /// Is the whole list stopped, or the conversation alone?
    pub whole_list: bool,
}

/// What becomes of a message; the stricter the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Delivered at once.
    Pass,
    /// Delivered then.
    HoldUntil(Timestamp),
    /// Held, or refused.
    Hold,
}

impl Ruling {
    /// Delivered, and nothing more to say.
    pub const PASS: Self = Self { verdict: Verdict::Pass, storm: None };
}

/// A rule that is played beside becalm's. Its memory must be bounded; it reads no clock.
pub trait Judge {
    /// Its name in the report.
    fn name(&self) -> String;

    /// Judges a posting, and counts it.
    fn judge(&mut self, posting: &Posting) -> Ruling;
}
