//! Sets the ledger right from Postfix's hold queue. Verdicts are given meanwhile: the ledger is locked for a portion of
//! the messages at a time.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::{BY_HAND, Book, Held, InQueue, Ledger, MOST, PORTION};
use crate::time::Timestamp;

/// So long after the verdict a message may still be on its way into the hold queue. One that takes longer is taken
/// in when it is there.
const ON_ITS_WAY: Duration = Duration::from_secs(10);

/// What setting the ledger right came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Messages that are no longer in the queue.
    pub gone: usize,
    /// Of these, the ones that were never seen there: Postfix has not put them on hold, or somebody was very quick.
    pub never_seen: Vec<String>,
    /// Messages that the ledger had never heard of.
    pub taken_in: usize,
}

impl Ledger {
    /// Sets the ledger right from the hold queue as it was at `looked`; `is_whole`: all of it was seen. `storm_of` names
    /// the storm that a suspicion belongs to of which nothing is known but its mark: one that is open on its list, or
    /// that was declared while it waited. To be called by one thread, which lets nothing leave the queue meanwhile.
    pub fn reconcile(
        &self,
        queue: Vec<InQueue>,
        is_whole: bool,
        looked: Timestamp,
        storm_of: impl Fn(&Held) -> Option<String>,
    ) -> Reconciled {
        let mut outcome = Reconciled::default();
        if is_whole {
            self.forget_those_gone(&queue, looked, &mut outcome);
        }
        let storms = Storms::among(&queue);
        let mut queue = queue.into_iter();
        loop {
            let portion: Vec<InQueue> = queue.by_ref().take(PORTION).collect();
            if portion.is_empty() {
                return outcome;
            }
            // The storms of those that are new are looked up while nobody waits.
            let mut new: Vec<Held> = self.know_again(portion);
            for item in &mut new {
                if item.until.is_some()
                    && let Some(storm) = storm_of(item).or_else(|| storms.after(item))
                {
                    item.until = None;
                    item.storm = Some(storm);
                }
            }
            let mut book = self.book();
            for item in new {
                // Its verdict may have been noted meanwhile, by which more is known.
                if book.held.len() < MOST && !book.by_id.contains_key(&item.queue_id) {
                    book.insert(item);
                    outcome.taken_in += 1;
                }
            }
        }
    }

    fn forget_those_gone(&self, queue: &[InQueue], looked: Timestamp, outcome: &mut Reconciled) {
        let there: HashSet<&str> = queue.iter().map(|message| message.mark.queue_id.as_str()).collect();
        let mut gone = Vec::new();
        self.walk(|_, item| {
            if !there.contains(item.queue_id.as_str()) && looked.since(item.since) > ON_ITS_WAY {
                gone.push(item.queue_id.clone());
            }
        });
        // Few, and looked at under one lock.
        let mut book = self.book();
        let Book { clawed_back, by_id, .. } = &mut *book;
        clawed_back.retain(|queue_id, _| by_id.contains_key(queue_id) || there.contains(queue_id.as_str()));
        drop(book);
        for portion in gone.chunks(PORTION) {
            let mut book = self.book();
            for queue_id in portion {
                let Some(item) = book.forget(queue_id) else { continue };
                outcome.gone += 1;
                if item.size.is_none() {
                    outcome.never_seen.push(item.queue_id);
                }
            }
        }
    }

    /// Notes the size of those that are known, and returns the others.
    fn know_again(&self, portion: Vec<InQueue>) -> Vec<Held> {
        let mut new = Vec::new();
        let mut book = self.book();
        for message in portion {
            if let Some(number) = book.by_id.get(&message.mark.queue_id).copied() {
                book.set_size(number, message.size);
                continue;
            }
            let mut item = taken_in_from(message);
            if book.left.contains(&item.queue_id) {
                // Somebody's own `postsuper -h`, which is not to be undone.
                item.reason = BY_HAND;
                item.until = None;
            }
            new.push(item);
        }
        new
    }
}

/// Storms that messages in the queue tell of: by list or conversation, when the latest of them was held.
struct Storms(HashMap<(Option<String>, Option<u64>), (Timestamp, String)>);

impl Storms {
    fn among(queue: &[InQueue]) -> Self {
        let mut storms = HashMap::new();
        for message in queue.iter().filter(|message| message.mark.reason == "storm") {
            let place = (message.list.clone(), message.conversation());
            let latest = storms.entry(place).or_insert_with(|| (message.mark.at, String::new()));
            if message.mark.at >= latest.0 {
                *latest = (message.mark.at, message.mark.storm.clone());
            }
        }
        Self(storms)
    }

    /// The storm that came after a suspicion. It may have been released for long and a later one be meant; then the
    /// message waits for an operator, who can tell.
    fn after(&self, suspicion: &Held) -> Option<String> {
        let (at, storm) = self.0.get(&(suspicion.list.clone(), suspicion.conversation))?;
        (*at >= suspicion.since).then(|| storm.clone())
    }
}

impl InQueue {
    /// Where there is no list, the mark names the conversation.
    fn conversation(&self) -> Option<u64> {
        self.mark.list.filter(|_| self.list.is_none())
    }
}

fn taken_in_from(message: InQueue) -> Held {
    let conversation = message.conversation();
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
        conversation,
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
