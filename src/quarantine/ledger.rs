//! What is held, why, since when and until when: as far as this process knows. Postfix's hold queue is the
//! truth about what is held; this is the memory of why.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::time::Timestamp;

/// Messages that are remembered; the oldest is forgotten first. About 400 bytes each.
const MOST: usize = 20_000;

/// A message that was held, or would have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Postfix's queue id; empty where the peer did not tell it.
    pub queue_id: String,
    /// The list.
    pub list: Option<String>,
    /// Who wrote it.
    pub author: Option<String>,
    /// Why, as in the header.
    pub reason: &'static str,
    /// The storm it belongs to.
    pub storm: Option<String>,
    /// Mailboxes that it would have reached.
    pub copies: u64,
    /// When it was held.
    pub since: Timestamp,
    /// When a suspicion would let it go; none for what stays until an operator acts.
    pub until: Option<Timestamp>,
    /// False where the list is only observed: the message was delivered.
    pub held: bool,
}

/// Bounded, in order of arrival.
#[derive(Default)]
pub struct Ledger(Mutex<Book>);

#[derive(Default)]
struct Book {
    next: u64,
    items: BTreeMap<u64, Held>,
}

impl Ledger {
    /// Remembers a message that was put on hold, or would have been.
    pub fn note(&self, item: Held) {
        let mut book = self.book();
        let number = book.next;
        book.next += 1;
        book.items.insert(number, item);
        while book.items.len() > MOST {
            book.items.pop_first();
        }
    }

    /// A storm cancels the timers of its list's suspicions.
    pub fn keep_held(&self, list: &str) {
        for item in self.book().items.values_mut() {
            if item.list.as_deref() == Some(list) {
                item.until = None;
            }
        }
    }

    /// The latest `most` items that `wanted` picks, the latest first.
    pub fn latest(&self, most: usize, wanted: impl Fn(&Held) -> bool) -> Vec<Held> {
        self.book().items.values().rev().filter(|item| wanted(item)).take(most).cloned().collect()
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(queue_id: &str, list: &str, until: Option<Timestamp>) -> Held {
        Held {
            queue_id: queue_id.to_owned(),
            list: Some(list.to_owned()),
            author: None,
            reason: "suspicion",
            storm: None,
            copies: 1,
            since: Timestamp::default(),
            until,
            held: true,
        }
    }

    #[test]
    fn a_storm_cancels_the_timers_of_its_list() {
        let ledger = Ledger::default();
        let soon = Some(Timestamp::from_millis(5));
        ledger.note(held("A", "all@example.org", soon));
        ledger.note(held("B", "dev@example.org", soon));
        ledger.keep_held("all@example.org");
        let timers: Vec<_> =
            ledger.latest(9, |_| true).into_iter().map(|item| (item.queue_id, item.until)).collect();
        assert_eq!(timers, [("B".to_owned(), soon), ("A".to_owned(), None)]);
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let ledger = Ledger::default();
        for number in 0..=MOST {
            ledger.note(held(&number.to_string(), "all@example.org", None));
        }
        let all = ledger.latest(usize::MAX, |_| true);
        assert_eq!(all.len(), MOST);
        assert_eq!(all.last().map(|item| item.queue_id.as_str()), Some("1"));
    }
}
