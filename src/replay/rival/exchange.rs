//! Exchange Online's reply-all storm protection.

use std::collections::VecDeque;
use std::time::Duration;

use super::Post;
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
    /// Counts a post, and says whether it is let through.
    pub fn lets_through(&mut self, post: &Post) -> bool {
        if !post.reply || post.audience < RECIPIENTS {
            return true;
        }
        let conversation = self.conversations.entry(post.conversation);
        if let Some(from) = conversation.blocked {
            if post.now < from {
                return true;
            }
            if post.now < from.after(BLOCK) {
                return false;
            }
            *conversation = Conversation::default();
        }
        conversation.answers.push_back(post.now);
        while conversation.answers.pop_front_if(|oldest| post.now.since(*oldest) >= WINDOW).is_some() {}
        if conversation.answers.len() >= REPLIES {
            conversation.blocked = Some(post.now.after(LAG));
            conversation.answers.clear();
        }
        true
    }
}
