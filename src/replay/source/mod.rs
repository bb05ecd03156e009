//! Where the mail of a replay comes from: the only part of it that reads files.
//!
//! ```text
//! mbox ──── splitter ─ a bounded reorder buffer ─┐
//! folder ── 16 bytes a message, sorted ──────────┼─▶ Merged: one message after the other, by time
//! scenario ──────────────────────────────────────┘
//! ```

mod folder;
mod invented;
mod mbox;

use std::collections::BTreeMap;

pub use self::folder::{FolderSource, Layout};
pub use self::invented::ScenarioSource;
pub use self::mbox::MboxSource;

use super::mbox::KEPT_LINES;
use super::run::Mail;
use crate::time::Timestamp;

/// A message that a source gives, with memory of its own that is used again and again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// When it arrived.
    pub at: Timestamp,
    /// The envelope sender, as far as the place where it was found tells it.
    pub sender: Vec<u8>,
    /// The list it went to, where that is known.
    pub list: Option<Vec<u8>>,
    /// Its header block.
    pub head: Vec<u8>,
    /// See [`Mail::lines`].
    pub lines: Vec<u32>,
}

/// Room for headers that is kept from message to message.
const KEPT_CAPACITY: usize = 8 * 1024;

impl Arrived {
    /// Nothing of the message before it is left, nor the memory that a large one took: what a source does not tell is
    /// not told by another's.
    fn reset(&mut self) {
        self.at = Timestamp::default();
        self.sender.clear();
        self.list = None;
        self.head.clear();
        self.head.shrink_to(KEPT_CAPACITY);
        self.lines.clear();
        self.lines.shrink_to(KEPT_LINES);
    }

    /// What its headers take.
    fn bytes(&self) -> usize {
        self.head.len() + size_of_val(self.lines.as_slice())
    }

    /// For a run.
    pub fn mail(&self) -> Mail<'_> {
        Mail {
            at: self.at,
            sender: &self.sender,
            list: self.list.as_deref(),
            head: &self.head,
            lines: &self.lines,
        }
    }
}

/// Mail in order of time, as far as that can be had.
pub trait Source {
    /// Puts the next message into `message`; false if there is none.
    ///
    /// # Errors
    /// The source itself cannot be read any further. What is wrong with single messages is counted.
    fn next(&mut self, message: &mut Arrived) -> std::io::Result<bool>;

    /// What was not played so far, by reason.
    fn skipped(&self) -> &Skipped;
}

/// What was not played, and why; and what was not played as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    by_reason: BTreeMap<Skip, u64>,
    cut: u64,
}

/// Why something was not played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skip {
    /// A message without a time that could be read.
    NoArrival,
    /// A file or a message without header fields.
    NoFields,
    /// An mbox without a byte.
    Empty,
    /// A file that is no mbox.
    NoMbox,
    /// An mbox with something else before its first message.
    Stray,
    /// A file or folder that could not be read.
    Unreadable,
    /// A source that broke off.
    Broken,
    /// A symbolic link, a socket, a device.
    NoFile,
    /// Folders in folders in folders.
    TooDeep,
}

impl Skip {
    /// For the report.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoArrival => "no time of arrival",
            Self::NoFields => "no header fields",
            Self::Empty => "an empty file",
            Self::NoMbox => "not an mbox: no `From ` line",
            Self::Stray => "text before the first message of an mbox",
            Self::Unreadable => "could not be read",
            Self::Broken => "the rest of an mbox or folder could not be read",
            Self::NoFile => "not a regular file",
            Self::TooDeep => "folders nested too deeply",
        }
    }
}

impl Skipped {
    /// Counts one.
    pub fn count(&mut self, why: Skip) {
        *self.by_reason.entry(why).or_default() += 1;
    }

    /// Counts a message whose headers were longer than Postfix takes: it was played without the rest.
    pub fn count_cut(&mut self) {
        self.cut += 1;
    }

    /// Adds those of another.
    pub fn add(&mut self, other: &Self) {
        for (why, count) in &other.by_reason {
            *self.by_reason.entry(*why).or_default() += count;
        }
        self.cut += other.cut;
    }

    /// How many for one reason.
    pub fn of(&self, why: Skip) -> u64 {
        self.by_reason.get(&why).copied().unwrap_or_default()
    }

    /// How many were cut.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// For a report.
    pub fn by_reason(&self) -> BTreeMap<String, u64> {
        self.by_reason.iter().map(|(why, count)| (why.reason().to_owned(), *count)).collect()
    }
}

/// The sender of a `From ` line; empty where a mail delivery agent wrote the null sender in its way.
fn envelope_sender(sender: &[u8]) -> &[u8] {
    if sender.eq_ignore_ascii_case(b"MAILER-DAEMON") { b"" } else { sender }
}

/// Several sources as one, by time. One that breaks off ends there, and the others go on.
pub struct Merged {
    sources: Vec<(Box<dyn Source>, Option<Arrived>)>,
    /// Why sources broke off: at most one reason for each.
    broken: Vec<std::io::Error>,
}

impl Merged {
    /// Reads the first message of each.
    ///
    /// # Errors
    /// See [`Source::next`]: what cannot be read from the beginning was named wrongly.
    pub fn new(sources: Vec<Box<dyn Source>>) -> std::io::Result<Self> {
        let sources = sources.into_iter().map(|mut source| {
            let mut first = Arrived::default();
            let pending = source.next(&mut first)?.then_some(first);
            Ok((source, pending))
        });
        Ok(Self { sources: sources.collect::<std::io::Result<_>>()?, broken: Vec::new() })
    }

    /// Puts the earliest message into `message`; false after the last one.
    pub fn next(&mut self, message: &mut Arrived) -> bool {
        let earliest = self
            .sources
            .iter()
            .enumerate()
            .filter_map(|(index, (_, pending))| Some((pending.as_ref()?.at, index)))
            .min();
        let Some((source, pending)) = earliest.and_then(|(_, index)| self.sources.get_mut(index)) else {
            return false;
        };
        let Some(first) = pending else { return false };
        std::mem::swap(first, message);
        match source.next(first) {
            Ok(true) => {}
            Ok(false) => *pending = None,
            Err(error) => {
                *pending = None;
                self.broken.push(error);
            }
        }
        true
    }

    /// Why sources could not be read to their ends.
    pub fn broken(&self) -> &[std::io::Error] {
        &self.broken
    }

    /// What none of them played.
    pub fn skipped(&self) -> Skipped {
        let mut all = Skipped::default();
        for (source, _) in &self.sources {
            all.add(source.skipped());
        }
        self.broken.iter().for_each(|_| all.count(Skip::Broken));
        all
    }
}

#[cfg(test)]
mod tests;
