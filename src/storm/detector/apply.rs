//! The same write as [`Detector::observe`](super::Detector::observe) without judging: what was judged elsewhere,
//! by an earlier run or by another node, is counted as it was counted there.

use std::time::Duration;

use super::super::state::{LIST_TAG, ListState, StormFigures};
use super::{Author, Detector};
use crate::time::Timestamp;
use crate::window::{Entry, SlotImage};

/// What a post left behind in counters and states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// Its author was noted as who began the conversation.
    pub starter: bool,
    /// It was counted in its conversation.
    pub in_conversation: bool,
    /// It was counted among the list's newcomers.
    pub on_list: bool,
    /// It was counted as automatic mail.
    pub automatic: bool,
    /// It passed: its author is known from it.
    pub known: bool,
    /// It was stopped by a storm, or by the cooling after one.
    pub attempt: bool,
    /// Until when its conversation was closed by it; the epoch: it was not.
    pub closed_until: Timestamp,
    /// Since when there was a storm on the list, this post counted; the epoch: there was none.
    pub storm: Timestamp,
    /// The figures of that storm, this post counted.
    pub figures: StormFigures,
}

/// A post that was judged elsewhere.
#[derive(Clone, Copy)]
pub struct Past<'a> {
    /// What is remembered of the list, or of the storm of a conversation without list; none where that is nothing.
    pub list: Option<&'a ListState>,
    /// Who wrote it.
    pub author: Author,
    /// Keyed hash of the list and the thread.
    pub conversation: u64,
    /// Mailboxes that it reached.
    pub audience: u64,
    /// The author was not known to the list.
    pub newcomer: bool,
    /// When.
    pub at: Timestamp,
    /// The window that was in force.
    pub window: Duration,
    /// How long an author stays known.
    pub known_for: Duration,
    /// What it left behind.
    pub writes: Writes,
}

impl Detector {
    /// Writes what was written elsewhere. A second time changes nothing, but for automatic mail, which has no
    /// author to be known by: there it counts again.
    pub fn apply(&self, past: &Past<'_>) {
        let Past { at, window, writes, .. } = *past;
        let cost = u32::try_from(past.audience).unwrap_or(u32::MAX);
        let entry = Entry { author: past.author.tag, newcomer: past.newcomer, cost };
        let touched = writes.starter || writes.in_conversation || writes.closed_until > Timestamp::default();
        if touched && let Some(slot) = self.conversations.slot(past.conversation, at) {
            if writes.starter {
                slot.set_starter(past.author.tag);
            }
            if writes.in_conversation {
                slot.record(entry, at, window);
            }
            if writes.closed_until > Timestamp::default() {
                slot.close_until(writes.closed_until);
            }
        }
        if writes.known {
            self.known.record(past.author.known_key, at, past.known_for);
        }
        let Some(list) = past.list else { return };
        list.seen(at);
        if writes.on_list {
            list.newcomers.record(LIST_TAG, entry, at, window);
        }
        if writes.automatic {
            list.automatic.push(LIST_TAG, cost, at, window);
        }
        if writes.attempt {
            list.remember_attempt(at);
        }
        if writes.storm > Timestamp::default() {
            list.join_storm(writes.storm, writes.storm.min(at), &writes.figures);
        }
    }

    /// How many sets the table of conversations has, and every slot of it that is worth keeping.
    pub fn slots(&self, now: Timestamp) -> (usize, impl Iterator<Item = SlotImage>) {
        (self.conversations.sets(), self.conversations.slots(now))
    }

    /// Puts a conversation back. For a start: nobody may count meanwhile.
    pub fn put_back_slot(&self, sets: usize, slot: &SlotImage, now: Timestamp) {
        self.conversations.put_back(sets, slot, now);
    }

    /// How many sets the memory of known authors has, and every word of it that is younger than `span`.
    pub fn known_words(&self, now: Timestamp, span: Duration) -> (usize, impl Iterator<Item = (u32, u64)>) {
        (self.known.sets(), self.known.words(now, span))
    }

    /// Puts a known author back.
    pub fn put_back_known(&self, sets: usize, set: u32, word: u64) {
        self.known.put_back(sets, set, word);
    }
}
