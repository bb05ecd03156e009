//! What was let pass a short while ago, by conversation: when a storm is declared, the messages that led to it may
//! still be in Postfix's queue, and are clawed back from there.
//!
//! A verdict only appends here; the helper is asked by the keeper's thread ([`Passed::next`]).

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::time::Timestamp;

/// Messages that are remembered, about 200 bytes each. A storm is declared within tens of messages of its
/// conversation; thousands come to all watched lists together in [`MEMORY`] where a hundred lists are busy.
const MOST: usize = 4_096;

/// For so long after it passed a message can be clawed back. What has been in the queue for longer waits for a
/// destination that is down, and is no part of what just began.
const MEMORY: Duration = Duration::from_secs(15 * 60);

/// A message whose verdict fell before the storm's may be noted after it.
const LATE: Duration = Duration::from_secs(10);

/// Conversations that were clawed back lately, for those latecomers: each is a storm that was declared.
const MOST_STORMS: usize = 64;

/// Postfix writes a message's file to its end after the verdict: so long it may not be there yet.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

/// A list, by its keyed hash (0: none, but many recipients), and the thread on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The list.
    pub list: u64,
    /// The thread.
    pub thread: u64,
}

/// A reply that was let pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Postfix's queue id.
    pub queue_id: String,
    /// The conversations that it belongs to: one for each of its lists.
    pub places: Vec<Place>,
    /// The list that would be named for it.
    pub list: Option<String>,
    /// Who wrote it.
    pub author: Option<String>,
    /// Mailboxes that it reaches.
    pub copies: u64,
    /// When it passed.
    pub at: Timestamp,
}

/// A reply that is to be put on hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The reply.
    pub reply: Reply,
    /// The storm.
    pub storm: String,
}

/// Bounded, shared by all sessions and the keeper.
#[derive(Default)]
pub struct Passed {
    book: Mutex<Book>,
    /// Something is wanted.
    wake: Condvar,
}

#[derive(Default)]
struct Book {
    replies: VecDeque<Reply>,
    storms: VecDeque<(Place, String, Timestamp)>,
    wanted: VecDeque<Wanted>,
}

impl Passed {
    /// Remembers a reply that was let pass.
    pub fn note(&self, reply: Reply) {
        let mut book = self.book();
        let late = |(place, _, at): &&(Place, String, Timestamp)| {
            reply.at.since(*at) <= LATE && reply.places.contains(place)
        };
        if let Some((_, storm, _)) = book.storms.iter().rev().find(late) {
            let storm = storm.clone();
            book.want(Wanted { reply, storm });
            self.wake.notify_all();
            return;
        }
        if book.replies.len() >= MOST {
            book.replies.pop_front();
        }
        book.replies.push_back(reply);
    }

    /// A storm was declared in a conversation: the replies of it that passed lately are wanted back. Returns how
    /// many there are.
    pub fn claw_back(&self, place: Place, storm: &str, now: Timestamp) -> usize {
        let mut book = self.book();
        if book.storms.len() >= MOST_STORMS {
            book.storms.pop_front();
        }
        book.storms.push_back((place, storm.to_owned(), now));
        let (wanted, others): (VecDeque<Reply>, VecDeque<Reply>) = std::mem::take(&mut book.replies)
            .into_iter()
            .filter(|reply| now.since(reply.at) <= MEMORY)
            .partition(|reply| reply.places.contains(&place));
        book.replies = others;
        let count = wanted.len();
        // The latest first: the least of it is delivered.
        for reply in wanted.into_iter().rev() {
            book.want(Wanted { reply, storm: storm.to_owned() });
        }
        self.wake.notify_all();
        count
    }

    /// The next reply that is to be put on hold.
    pub fn next(&self) -> Option<Wanted> {
        self.book().wanted.pop_front()
    }

    /// The helper could not be asked, or has not found it: another time, unless there is no point any more.
    pub fn again(&self, wanted: Wanted, found: bool, now: Timestamp) -> bool {
        let patience = if found { MEMORY } else { ON_ITS_WAY };
        let worth_it = now.since(wanted.reply.at) <= patience;
        if worth_it {
            self.book().want(wanted);
        }
        worth_it
    }

    /// Waits for at most `patience`, or until something is wanted that was not before.
    pub fn wait(&self, patience: Duration) {
        let book = self.book();
        // Whether it was woken or the time is over: who asks looks.
        let _ = self.wake.wait_timeout(book, patience);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn want(&mut self, wanted: Wanted) {
        if self.wanted.len() < MOST {
            self.wanted.push_back(wanted);
        }
    }
}

/// Copies that were spared when a message was put on hold with recipients `left`, some having been `reached`: all
/// that it stands for where nobody was. Once somebody was, its recipients are the mailboxes, or it cannot be told
/// whether the list is among those that are left: then those are counted as one copy each.
pub fn spared(copies: u64, left: u64, reached: u64) -> u64 {
    match (left, reached) {
        (0, _) => 0,
        (_, 0) => copies.max(1),
        _ => left.min(copies.max(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place = Place { list: 1, thread: 7 };
    const ELSEWHERE: Place = Place { list: 1, thread: 8 };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn reply(queue_id: &str, place: Place, seconds: u64) -> Reply {
        Reply {
            queue_id: queue_id.to_owned(),
            places: vec![place],
            list: None,
            author: None,
            copies: 1,
            at: at(seconds),
        }
    }

    fn wanted(passed: &Passed) -> Vec<String> {
        std::iter::from_fn(|| passed.next()).map(|wanted| wanted.reply.queue_id).collect()
    }

    #[test]
    fn a_storm_wants_its_conversation_back_the_latest_first() {
        let passed = Passed::default();
        passed.note(reply("long ago", HERE, 0));
        passed.note(reply("A", HERE, 1000));
        passed.note(reply("other", ELSEWHERE, 1001));
        passed.note(reply("B", HERE, 1002));
        assert_eq!(passed.claw_back(HERE, "S", at(1003)), 2);
        assert_eq!(wanted(&passed), ["B", "A"]);
        assert_eq!(passed.claw_back(HERE, "S", at(1004)), 0, "once");
        assert_eq!(passed.claw_back(ELSEWHERE, "T", at(1005)), 1);
    }

    #[test]
    fn who_is_noted_late_is_wanted_all_the_same() {
        let passed = Passed::default();
        passed.claw_back(HERE, "S", at(100));
        passed.note(reply("late", HERE, 100));
        passed.note(reply("other", ELSEWHERE, 100));
        passed.note(reply("known", HERE, 200));
        assert_eq!(wanted(&passed), ["late"]);
    }

    #[test]
    fn what_is_not_found_is_looked_for_again_for_a_while() {
        let passed = Passed::default();
        let wanted = Wanted { reply: reply("A", HERE, 100), storm: "S".to_owned() };
        assert!(passed.again(wanted.clone(), false, at(101)));
        assert!(!passed.again(wanted.clone(), false, at(110)), "it is delivered");
        assert!(passed.again(wanted.clone(), true, at(110)), "the helper is missing");
        assert!(!passed.again(wanted, true, at(100 + 3600)));
    }

    #[test]
    fn it_does_not_grow() {
        let passed = Passed::default();
        for n in 0..=MOST {
            passed.note(reply(&n.to_string(), HERE, 100));
        }
        assert_eq!(passed.claw_back(HERE, "S", at(100)), MOST);
        for n in 0..MOST {
            passed.note(reply(&n.to_string(), HERE, 100));
        }
        assert_eq!(wanted(&passed).len(), MOST);
    }

    #[test]
    fn copies_that_are_spared() {
        assert_eq!(spared(840_000, 1, 0), 840_000, "a list that nobody has expanded");
        assert_eq!(spared(2_000, 1_980, 20), 1_980, "expanded by Postfix");
        assert_eq!(spared(840_001, 1, 1), 1, "a list and a person, one of them has it");
        assert_eq!(spared(2_000, 0, 2_000), 0);
        assert_eq!(spared(0, 1, 0), 1);
    }
}
