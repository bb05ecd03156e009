//! Exchange Online's reply-all storm protection.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::judge::{Declared, Posting, Ruling, Verdict};
use super::memory::Memory;
use crate::time::Timestamp;

/// Answers in one conversation that are a storm.
const REPLIES: usize = 10;

/// An answer to fewer does not count, and is not refused.
const RECIPIENTS: u64 = 2_500;

/// The time within which they are counted.
const WINDOW: Duration = Duration::from_secs(60 * 60);

/// How long answers are refused.
const BLOCK: Duration = Duration::from_secs(6 * 60 * 60);

/// From the tenth answer to the first that is refused: its many servers have to hear of it. Its maker says no
/// number; administrators report "a few minutes".
const LAG: Duration = Duration::from_secs(3 * 60);

/// Conversations that are followed at once, about 150 bytes each.
const CONVERSATIONS: usize = 65_536;

/// The rule and what it has counted.
#[derive(Debug)]
pub struct ExchangeOnline {
    conversations: Memory<Conversation>,
}

#[derive(Debug, Default)]
struct Conversation {
    /// The last answers, at most [`REPLIES`].
    answers: VecDeque<Timestamp>,
    /// Refused from here on, for [`BLOCK`].
    blocked: Option<Timestamp>,
}

impl Default for ExchangeOnline {
    fn default() -> Self {
        Self { conversations: Memory::new(CONVERSATIONS) }
    }
}

impl ExchangeOnline {
    /// Counts a posting and judges it.
    pub fn judge(&mut self, posting: &Posting) -> Ruling {
        if !posting.reply || posting.audience < RECIPIENTS {
            return Ruling::PASS;
        }
        let now = posting.at;
        let conversation = self.conversations.entry(posting.conversation);
        if let Some(from) = conversation.blocked {
            if now < from {
                return Ruling::PASS;
            }
            if now < from.after(BLOCK) {
                return Ruling { verdict: Verdict::Hold, storm: None };
            }
            *conversation = Conversation::default();
        }
        conversation.answers.push_back(now);
        while conversation.answers.pop_front_if(|oldest| now.since(*oldest) >= WINDOW).is_some() {}
        if conversation.answers.len() < REPLIES {
            return Ruling::PASS;
        }
        let from = now.after(LAG);
        conversation.blocked = Some(from);
        conversation.answers.clear();
        let storm = Declared { trigger: "replies", until: from.after(BLOCK), whole_list: false };
        Ruling { verdict: Verdict::Pass, storm: Some(storm) }
    }
}
