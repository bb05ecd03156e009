//! What is held, why, since when and until when. Postfix's hold queue is the truth about what is held; this is the
//! memory of why, set right from the queue again and again ([`Ledger::reconcile`]), and all of it can be had back
//! from the queue: the marks of the messages say what they are.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::mark::Mark;
use crate::time::Timestamp;

/// Held messages that are remembered, about 400 bytes each: more than `[quarantine] max_count` may be. What is
/// beyond it stays on hold, and comes in when others have gone.
const MOST: usize = 110_000;

/// Messages that would have been held; the oldest is forgotten first.
const MOST_OBSERVED: usize = 2_000;

/// Queue ids that are remembered after they left: a release and the administrator's second thoughts lie minutes or
/// hours apart.
const MOST_LEFT: usize = 20_000;

/// So long after the verdict a message may still be on its way into the hold queue. One that takes longer is taken
/// in when it is there.
const ON_ITS_WAY: Duration = Duration::from_secs(10);

/// Taken for a message whose size is not known yet, where none is known.
const USUAL_SIZE: u64 = 20_000;

/// A message that was held, or would have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Postfix's queue id; empty where the peer did not tell it.
    pub queue_id: String,
    /// The list.
    pub list: Option<String>,
    /// Who wrote it.
    pub author: Option<String>,
    /// Why, as in the header; [`BY_HAND`] for what becalm had let pass.
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

/// What setting the ledger right came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Messages that somebody else has taken out of the queue.
    pub gone: usize,
    /// Messages that the ledger had never heard of.
    pub taken_in: usize,
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
    /// Held messages that go by themselves, in the order in which they do.
    timers: BTreeSet<(Timestamp, u64)>,
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
            book.insert(item);
            return;
        }
        let number = book.number();
        book.observed.insert(number, item);
        while book.observed.len() > MOST_OBSERVED {
            book.observed.pop_first();
        }
    }

    /// A storm cancels the timers of its list's suspicions, which are part of it from now on, or of those that belong
    /// to no list.
    pub fn keep_held(&self, list: Option<&str>, storm: &str) {
        let mut book = self.book();
        let Book { held, observed, timers, .. } = &mut *book;
        for (number, item) in held.iter_mut().chain(observed.iter_mut()) {
            if item.list.as_deref() == list
                && let Some(until) = item.until.take()
            {
                timers.remove(&(until, *number));
                // Without a list it may be of another conversation: it waits for an operator, under no storm's name.
                item.storm = list.map(|_| storm.to_owned());
            }
        }
    }

    /// The message that is to be released next, if its time has come.
    pub fn due(&self, now: Timestamp) -> Option<Held> {
        let book = self.book();
        let (until, number) = book.timers.first()?;
        if *until > now { None } else { book.held.get(number).cloned() }
    }

    /// Held messages that are at least `age` old, the oldest first; not those that somebody else put on hold, nor
    /// those that make trouble.
    pub fn overdue(&self, age: Duration, now: Timestamp, most: usize) -> Vec<Held> {
        let book = self.book();
        let overdue = book
            .held
            .values()
            .filter(|item| item.reason != BY_HAND && item.trouble.is_none() && now.since(item.since) >= age);
        overdue.take(most).cloned().collect()
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
        let book = self.book();
        let wanted = |(number, item): (&u64, &Held)| wanted(item).then(|| (*number, item.clone()));
        let latest = |items: &BTreeMap<u64, Held>| -> Vec<(u64, Held)> {
            items.iter().rev().filter_map(wanted).take(most).collect()
        };
        let mut items = latest(&book.held);
        items.extend(latest(&book.observed));
        items.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        items.into_iter().take(most).map(|(_, item)| item).collect()
    }

    /// What is held and `wanted`, the oldest first.
    pub fn select(&self, wanted: impl Fn(&Held) -> bool) -> Vec<Held> {
        let mut items: Vec<Held> = self.book().held.values().filter(|item| wanted(item)).cloned().collect();
        items.sort_by_key(|item| item.since);
        items
    }

    /// A held message.
    pub fn get(&self, queue_id: &str) -> Option<Held> {
        let book = self.book();
        book.held.get(book.by_id.get(queue_id)?).cloned()
    }

    /// Sets the ledger right from the hold queue as it was at `looked`. `storm_on` names the storm that is open on a
    /// list: a suspicion that nothing is known of but its mark belongs to it.
    pub fn reconcile(
        &self,
        queue: Vec<InQueue>,
        looked: Timestamp,
        storm_on: impl Fn(&str) -> Option<String>,
    ) -> Reconciled {
        let mut book = self.book();
        let there: HashSet<&str> = queue.iter().map(|message| message.mark.queue_id.as_str()).collect();
        let gone: Vec<String> = book
            .held
            .values()
            .filter(|item| !there.contains(item.queue_id.as_str()) && looked.since(item.since) > ON_ITS_WAY)
            .map(|item| item.queue_id.clone())
            .collect();
        for queue_id in &gone {
            book.remove(queue_id);
            book.note_left(queue_id);
        }
        let storms = Storms::among(&queue);
        let mut taken_in = 0;
        for message in queue {
            if let Some(number) = book.by_id.get(&message.mark.queue_id).copied() {
                book.set_size(number, message.size);
            } else if book.held.len() < MOST {
                let mut item = taken_in_from(message);
                if book.left.contains(&item.queue_id) {
                    // Somebody's own `postsuper -h`, which is not to be undone.
                    item.reason = BY_HAND;
                    item.until = None;
                }
                if item.until.is_some()
                    && let Some(storm) =
                        item.list.as_deref().and_then(&storm_on).or_else(|| storms.after(&item))
                {
                    item.until = None;
                    item.storm = Some(storm);
                }
                book.insert(item);
                taken_in += 1;
            }
        }
        Reconciled { gone: gone.len(), taken_in }
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
            copies: book.held.values().fold(0, |sum, item| sum.saturating_add(item.copies)),
            bytes: book.estimated_bytes(),
            waiting: book.timers.len(),
            oldest: book.held.values().map(|item| item.since).min(),
        }
    }

    /// How much may be held from now on.
    pub fn set_limits(&self, limits: Limits) {
        self.book().limits = Some(limits);
    }

    /// Is the queue's disk nearly full?
    pub fn set_disk_full(&self, full: bool) {
        self.book().disk_full = full;
    }

    /// Whether nothing more is to be held, and why.
    pub fn full(&self) -> Option<Full> {
        let book = self.book();
        let limits = book.limits?;
        if book.disk_full {
            Some(Full::Disk)
        } else if book.held.len() >= limits.count {
            Some(Full::Count)
        } else if book.estimated_bytes() >= limits.bytes {
            Some(Full::Bytes)
        } else {
            None
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

    fn insert(&mut self, item: Held) {
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
        if let Some(size) = item.size {
            self.sized -= 1;
            self.bytes = self.bytes.saturating_sub(size);
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

/// Storms that messages in the queue tell of: by list, when the latest of them was held.
struct Storms(HashMap<Option<String>, (Timestamp, String)>);

impl Storms {
    fn among(queue: &[InQueue]) -> Self {
        let mut storms = HashMap::new();
        for message in queue.iter().filter(|message| message.mark.reason == "storm") {
            let latest =
                storms.entry(message.list.clone()).or_insert_with(|| (message.mark.at, String::new()));
            if message.mark.at >= latest.0 {
                *latest = (message.mark.at, message.mark.storm.clone());
            }
        }
        Self(storms)
    }

    /// The storm that came after a suspicion. It may have been released for long and a later one be meant; then the
    /// message waits for an operator, who can tell.
    fn after(&self, suspicion: &Held) -> Option<String> {
        let (at, storm) = self.0.get(&suspicion.list)?;
        (*at >= suspicion.since).then(|| storm.clone())
    }
}

fn taken_in_from(message: InQueue) -> Held {
    let InQueue { mark, list, sender, size } = message;
    let reason = match (mark.verdict.as_str(), mark.reason.as_str()) {
        ("hold", "suspicion") => "suspicion",
        ("hold", "automatic") => "automatic",
        ("hold", "storm") => "storm",
        ("hold", "limit") => "limit",
        _ => BY_HAND,
    };
    Held {
        queue_id: mark.queue_id,
        list,
        author: Some(sender).filter(|sender| !sender.is_empty()),
        reason,
        storm: Some(mark.storm).filter(|storm| storm != "-"),
        copies: mark.copies,
        since: mark.at,
        until: mark.until.filter(|_| reason == "suspicion"),
        held: true,
        size: Some(size),
        trouble: None,
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
