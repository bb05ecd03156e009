//! What is held, why, since when and until when. Postfix's hold queue is the truth about what is held; this is the
//! memory of why, set right from the queue again and again ([`Ledger::reconcile`]), and all of it can be had back
//! from the queue: the marks of the messages say what they are.

mod reconcile;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::mark::Mark;
use crate::time::Timestamp;
pub use reconcile::Reconciled;

/// Held messages that are remembered, about 400 bytes each: more than `[quarantine] max_count` may be. What is
/// beyond it stays on hold, and comes in when others have gone.
const MOST: usize = 110_000;

/// Messages that are looked at while the ledger is locked: a verdict waits for a millisecond at most.
const PORTION: usize = 1_000;

/// Messages that would have been held; the oldest is forgotten first.
const MOST_OBSERVED: usize = 2_000;

/// Queue ids that are remembered after they left: a release and the administrator's second thoughts lie minutes or
/// hours apart. A restart forgets them, on purpose: it would take a record in the journal for each message that is
/// released, for the sake of one that was let go, not delivered yet (or `postsuper -h` would not find it), put back by
/// hand, and met by a restart. That one goes by its mark again. Who wants mail to stay says so to becalm, not to Postfix:
/// a list that is closed by hand is journalled, and cancels the timers of its suspicions.
const MOST_LEFT: usize = 20_000;

/// Messages on hold that were clawed back; about 150 bytes each. As many as are remembered for it when they pass.
const MOST_CLAWED_BACK: usize = 4_096;

/// Taken for a message whose size is not known yet, where none is known.
const USUAL_SIZE: u64 = 20_000;

/// A message that was held, or would have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Postfix's queue id; empty where the peer did not tell it.
    pub queue_id: String,
    /// The list.
    pub list: Option<String>,
    /// Keyed hash of its conversation, where there is no list; none: it is not known.
    pub conversation: Option<u64>,
    /// Who wrote it.
    pub author: Option<String>,
    /// Why, as in the header; [`BY_HAND`] or [`CLAWED_BACK`] for what becalm had let pass.
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
    /// Bytes, once the queue was looked at.
    pub size: Option<u64>,
    /// Why becalm does not act upon it by itself any more.
    pub trouble: Option<String>,
}

/// The reason of messages that becalm accepted and somebody has put on hold since.
pub const BY_HAND: &str = "by_hand";

/// The reason of messages that becalm accepted and put on hold when a storm came of their conversation.
pub const CLAWED_BACK: &str = "clawed_back";

/// A message in the hold queue, as its mark says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InQueue {
    /// Its mark, verified.
    pub mark: Mark,
    /// The list among its recipients.
    pub list: Option<String>,
    /// Its envelope sender; empty: the null sender.
    pub sender: String,
    /// Bytes.
    pub size: u64,
}

/// A place among held messages, the oldest first. It holds even where the message itself has gone meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// When it was held.
    pub since: Timestamp,
    /// Its queue id: those of one moment need an order too.
    pub queue_id: String,
}

impl Position {
    /// Of a message.
    pub fn of(item: &Held) -> Self {
        Self { since: item.since, queue_id: item.queue_id.clone() }
    }
}

/// Some of the held messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// The oldest first.
    pub items: Vec<Held>,
    /// Are there more behind them?
    pub more: bool,
    /// How many there are in all, those before and behind included.
    pub total: u64,
    /// Their copies.
    pub copies: u64,
}

/// How much may be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages.
    pub count: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Why nothing more is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// As many messages as may be.
    Count,
    /// As many bytes.
    Bytes,
    /// The queue's disk is nearly full.
    Disk,
}

impl Full {
    /// For logs and status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "max_count",
            Self::Bytes => "max_bytes",
            Self::Disk => "disk",
        }
    }
}

/// What is held in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages.
    pub count: usize,
    /// The copies they stand for.
    pub copies: u64,
    /// Their bytes; estimated for those that came since the queue was last looked at.
    pub bytes: u64,
    /// Those that will go by themselves.
    pub waiting: usize,
    /// Since when the oldest is held.
    pub oldest: Option<Timestamp>,
}

/// Bounded, in order of arrival.
#[derive(Default)]
pub struct Ledger(Mutex<Book>);

#[derive(Default)]
struct Book {
    next: u64,
    held: BTreeMap<u64, Held>,
    observed: BTreeMap<u64, Held>,
    by_id: HashMap<String, u64>,
    /// Queue ids that left the hold queue, the oldest first: who is there again was put there by hand.
    left: HashSet<String>,
    left_order: VecDeque<String>,
    /// Clawed back, by queue id: the storm, and the copies that were still to be made. Their marks say that they passed.
    clawed_back: HashMap<String, (String, u64)>,
    /// Held messages that go by themselves, in the order in which they do.
    timers: BTreeSet<(Timestamp, u64)>,
    /// Held messages, the oldest first.
    by_age: BTreeMap<Position, u64>,
    /// The sum of their copies: wider than a copy's count, so that what was added can be taken off again.
    copies: u128,
    /// Of the held messages whose size is known: how many, and the sum.
    sized: u64,
    bytes: u64,
    limits: Option<Limits>,
    disk_full: bool,
}

impl Ledger {
    /// Remembers a message that was put on hold, or would have been.
    pub fn note(&self, item: Held) {
        let mut book = self.book();
        if item.held {
            if let (CLAWED_BACK, Some(storm)) = (item.reason, &item.storm) {
                book.note_clawed_back(&item.queue_id, storm, item.copies);
            }
            book.insert(item);
            return;
        }
        let number = book.number();
        book.observed.insert(number, item);
        while book.observed.len() > MOST_OBSERVED {
            book.observed.pop_first();
        }
    }

    /// A message was clawed back by an earlier becalm: when it is met in the queue, it is told by that.
    pub fn recall_clawed_back(&self, queue_id: &str, storm: &str, copies: u64) {
        let mut book = self.book();
        book.note_clawed_back(queue_id, storm, copies);
        if let Some(item) = book.remove(queue_id) {
            book.insert(item);
        }
    }

    /// What was clawed back and is on hold, as far as that is known: queue id, storm, copies.
    pub fn clawed_back(&self) -> Vec<(String, String, u64)> {
        let book = self.book();
        let all = book.clawed_back.iter();
        all.map(|(queue_id, (storm, copies))| (queue_id.clone(), storm.clone(), *copies)).collect()
    }

    /// A storm cancels the timers of its list's suspicions, which are part of it from now on.
    pub fn keep_held(&self, list: &str, storm: &str) {
        self.cancel(|item| (item.list.as_deref() == Some(list)).then(|| Some(storm.to_owned())));
    }

    /// A storm among many recipients cancels the timers of its conversation's suspicions. Of those whose conversation
    /// is not known each may be one: they wait for an operator, under no storm's name.
    pub fn keep_gathering_held(&self, conversation: u64, storm: &str) {
        self.cancel(|item| match (&item.list, item.conversation) {
            (None, Some(known)) => (known == conversation).then(|| Some(storm.to_owned())),
            (None, None) => Some(None),
            (Some(_), _) => None,
        });
    }

    /// Cancels the timers of those that `storm_of` knows to belong to a storm, whatever its name.
    fn cancel(&self, storm_of: impl Fn(&Held) -> Option<Option<String>>) {
        let mut book = self.book();
        let Book { held, observed, timers, .. } = &mut *book;
        let keep = |item: &mut Held| {
            let Some(storm) = item.until.and_then(|_| storm_of(item)) else { return false };
            item.until = None;
            item.storm = storm;
            true
        };
        // Only those that wait are looked at: they are few where much is held.
        timers.retain(|(_, number)| !held.get_mut(number).is_some_and(keep));
        for item in observed.values_mut() {
            keep(item);
        }
    }

    /// The message that is to be released next, if its time has come.
    pub fn due(&self, now: Timestamp) -> Option<Held> {
        let book = self.book();
        let (until, number) = book.timers.first()?;
        if *until > now { None } else { book.held.get(number).cloned() }
    }

    /// Held messages that are at least `age` old and come after a place, the oldest first; not those that somebody else
    /// put on hold, nor those that make trouble.
    pub fn overdue(&self, age: Duration, now: Timestamp, after: Option<&Position>, most: usize) -> Vec<Held> {
        let book = self.book();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let overdue = book
            .by_age
            .range((from, Bound::Unbounded))
            .filter_map(|(_, number)| book.held.get(number))
            .take_while(|item| now.since(item.since) >= age)
            .filter(|item| item.reason != BY_HAND && item.trouble.is_none());
        overdue.take(most).cloned().collect()
    }

    /// It is not in the hold queue. One that was never seen there may be on its way still: what left was there before.
    pub fn forget(&self, queue_id: &str) -> Option<Held> {
        let mut book = self.book();
        book.forget(queue_id)
    }

    /// It has left the hold queue.
    pub fn remove(&self, queue_id: &str) -> Option<Held> {
        let mut book = self.book();
        let item = book.remove(queue_id)?;
        book.note_left(queue_id);
        Some(item)
    }

    /// A suspicion is to be released later than it was meant to be.
    pub fn postpone(&self, queue_id: &str, until: Timestamp) {
        let mut book = self.book();
        if let Some(item) = book.remove(queue_id) {
            let until = item.until.map(|_| until);
            book.insert(Held { until, ..item });
        }
    }

    /// becalm cannot act upon a message: it stays, and an operator learns why.
    pub fn give_up(&self, queue_id: &str, why: &str) {
        let mut book = self.book();
        if let Some(mut item) = book.remove(queue_id) {
            item.until = None;
            item.trouble = Some(why.to_owned());
            book.insert(item);
        }
    }

    /// The latest `most` items that `wanted` picks, the latest first.
    pub fn latest(&self, most: usize, wanted: impl Fn(&Held) -> bool) -> Vec<Held> {
        let pick = |number: &u64, item: &Held| wanted(item).then(|| (*number, item.clone()));
        let mut items = Vec::new();
        for (number, item) in self.book().observed.iter().rev() {
            items.extend(pick(number, item));
        }
        items.truncate(most);
        let (mut held, mut before) = (Vec::new(), u64::MAX);
        while held.len() < most {
            let book = self.book();
            let lowest = before;
            for (number, item) in book.held.range(..before).rev().take(PORTION) {
                held.extend(pick(number, item));
                before = *number;
            }
            if before == lowest {
                break;
            }
        }
        items.extend(held);
        items.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        items.into_iter().take(most).map(|(_, item)| item).collect()
    }

    /// `most` held messages that are `wanted` and come after a place, and how many there are in all. Looks at all of
    /// them, a portion at a time: what comes or goes meanwhile may be counted or not.
    pub fn select(&self, after: Option<&Position>, most: usize, wanted: impl Fn(&Held) -> bool) -> Selected {
        let mut selected = Selected::default();
        self.walk(|position, item| {
            if !wanted(item) {
                return;
            }
            selected.total += 1;
            selected.copies = selected.copies.saturating_add(item.copies);
            if after.is_some_and(|after| position <= after) {
                return;
            }
            if selected.items.len() < most {
                selected.items.push(item.clone());
            } else {
                selected.more = true;
            }
        });
        selected
    }

    /// A held message.
    pub fn get(&self, queue_id: &str) -> Option<Held> {
        let book = self.book();
        book.held.get(book.by_id.get(queue_id)?).cloned()
    }

    /// How many messages are held.
    pub fn count(&self) -> usize {
        self.book().held.len()
    }

    /// What is held in all.
    pub fn totals(&self) -> Totals {
        let book = self.book();
        Totals {
            count: book.held.len(),
            copies: u64::try_from(book.copies).unwrap_or(u64::MAX),
            bytes: book.estimated_bytes(),
            waiting: book.timers.len(),
            oldest: book.by_age.keys().next().map(|position| position.since),
        }
    }

    /// How much may be held from now on. `None`: as much as the disk takes.
    pub fn set_limits(&self, limits: Option<Limits>) {
        self.book().limits = limits;
    }

    /// Is the queue's disk nearly full?
    pub fn set_disk_full(&self, full: bool) {
        self.book().disk_full = full;
    }

    /// Whether nothing more is to be held, and why.
    pub fn full(&self) -> Option<Full> {
        let book = self.book();
        if book.disk_full {
            return Some(Full::Disk);
        }
        let limits = book.limits?;
        if book.held.len() >= limits.count {
            Some(Full::Count)
        } else if book.estimated_bytes() >= limits.bytes {
            Some(Full::Bytes)
        } else {
            None
        }
    }

    /// Shows each held message, the oldest first. It is unlocked between portions.
    fn walk(&self, mut see: impl FnMut(&Position, &Held)) {
        let mut from = Bound::Unbounded;
        loop {
            let book = self.book();
            let mut last = None;
            for (position, number) in book.by_age.range((from, Bound::Unbounded)).take(PORTION) {
                if let Some(item) = book.held.get(number) {
                    see(position, item);
                }
                last = Some(position);
            }
            let Some(last) = last.cloned() else { return };
            drop(book);
            from = Bound::Excluded(last);
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn note_clawed_back(&mut self, queue_id: &str, storm: &str, copies: u64) {
        if self.clawed_back.len() < MOST_CLAWED_BACK {
            self.clawed_back.insert(queue_id.to_owned(), (storm.to_owned(), copies));
        }
    }

    fn insert(&mut self, mut item: Held) {
        if item.reason == BY_HAND
            && !self.left.contains(&item.queue_id)
            && let Some((storm, copies)) = self.clawed_back.get(&item.queue_id)
        {
            (item.reason, item.storm, item.copies) = (CLAWED_BACK, Some(storm.clone()), *copies);
        }
        self.remove(&item.queue_id);
        while self.held.len() >= MOST {
            let Some(oldest) = self.held.first_key_value().map(|(_, item)| item.queue_id.clone()) else {
                break;
            };
            self.remove(&oldest);
        }
        let number = self.number();
        self.by_id.insert(item.queue_id.clone(), number);
        if let Some(until) = item.until {
            self.timers.insert((until, number));
        }
        self.by_age.insert(Position::of(&item), number);
        self.copies += u128::from(item.copies);
        if let Some(size) = item.size {
            self.sized += 1;
            self.bytes = self.bytes.saturating_add(size);
        }
        self.held.insert(number, item);
    }

    fn remove(&mut self, queue_id: &str) -> Option<Held> {
        let number = self.by_id.remove(queue_id)?;
        let item = self.held.remove(&number)?;
        if let Some(until) = item.until {
            self.timers.remove(&(until, number));
        }
        self.by_age.remove(&Position::of(&item));
        self.copies -= u128::from(item.copies);
        if let Some(size) = item.size {
            self.sized -= 1;
            self.bytes = self.bytes.saturating_sub(size);
        }
        Some(item)
    }

    fn forget(&mut self, queue_id: &str) -> Option<Held> {
        let item = self.remove(queue_id)?;
        if item.size.is_some() {
            self.note_left(queue_id);
        }
        Some(item)
    }

    fn note_left(&mut self, queue_id: &str) {
        if !self.left.insert(queue_id.to_owned()) {
            return;
        }
        self.left_order.push_back(queue_id.to_owned());
        if self.left_order.len() > MOST_LEFT
            && let Some(oldest) = self.left_order.pop_front()
        {
            self.left.remove(&oldest);
        }
    }

    fn set_size(&mut self, number: u64, size: u64) {
        if let Some(item) = self.held.get_mut(&number)
            && item.size.is_none()
        {
            item.size = Some(size);
            self.sized += 1;
            self.bytes = self.bytes.saturating_add(size);
        }
    }

    fn estimated_bytes(&self) -> u64 {
        let usual = self.bytes.checked_div(self.sized).unwrap_or(USUAL_SIZE);
        let unknown = (self.held.len() as u64).saturating_sub(self.sized);
        self.bytes.saturating_add(usual.saturating_mul(unknown))
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
