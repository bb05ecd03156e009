//! From the verdict to the writer: a channel of fixed size that nobody ever waits for.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::Thread;

use super::health::Health;
use super::record::Record;
use crate::time::Timestamp;

/// Records on their way to the disk. In a storm of 100 messages a second the disk may stand still for minutes
/// before one is dropped; about 330 bytes each, taken at the start.
pub const CAPACITY: usize = 16_384;

/// The side of those who judge; shared by all threads.
#[derive(Debug)]
pub struct Outbox {
    /// None: nothing is kept.
    sender: Option<SyncSender<Record>>,
    health: Arc<Health>,
    writer: OnceLock<Thread>,
}

/// The writer's side.
#[derive(Debug)]
pub struct Inbox {
    pub(super) receiver: Receiver<Record>,
    pub(super) health: Arc<Health>,
}

impl Outbox {
    /// With room for [`CAPACITY`] records.
    pub fn new() -> (Self, Inbox) {
        Self::sized(CAPACITY)
    }

    /// With room for `capacity` records.
    pub fn sized(capacity: usize) -> (Self, Inbox) {
        let (sender, receiver) = sync_channel(capacity);
        let health = Arc::new(Health::default());
        let outbox = Self { sender: Some(sender), health: Arc::clone(&health), writer: OnceLock::new() };
        (outbox, Inbox { receiver, health })
    }

    /// One that keeps nothing and counts nothing.
    pub fn closed() -> Self {
        Self { sender: None, health: Arc::default(), writer: OnceLock::new() }
    }

    /// The same, where something is to be kept and cannot be.
    pub fn broken(why: String, now: Timestamp) -> Self {
        let outbox = Self::closed();
        outbox.health.report(why, now);
        outbox
    }

    /// Is anything kept, or to be kept as soon as the disk can?
    pub fn is_open(&self) -> bool {
        self.sender.is_some()
    }

    /// Hands a record over. Never waits, takes no lock, allocates nothing: where there is no room, the record is
    /// dropped and counted. The receiver never sleeps in the channel, so nobody is woken either.
    #[inline]
    pub fn push(&self, record: Record) {
        let Some(sender) = &self.sender else { return };
        // Relaxed: figures. `offered` first, so that it is never less than what became of them.
        self.health.offered.fetch_add(1, Ordering::Relaxed);
        match sender.try_send(record) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.health.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Hands over a record that should not wait for the writer's next round, such as the beginning of a storm.
    pub fn push_at_once(&self, record: Record) {
        self.push(record);
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// How the journal is.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    pub(super) fn set_writer(&self, writer: Thread) {
        // The first stays: there is one writer.
        let _ = self.writer.set(writer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::Known;

    #[test]
    fn what_finds_no_room_is_dropped_and_counted_and_nobody_waits() {
        let (outbox, inbox) = Outbox::sized(3);
        for key in 0..10 {
            outbox.push(Record::Known(Known { key, ..Known::default() }));
        }
        let health = outbox.health();
        let read = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        assert_eq!((read(&health.offered), read(&health.dropped), health.waiting()), (10, 7, 3));
        let kept: Vec<Record> = inbox.receiver.try_iter().collect();
        assert_eq!(kept.len(), 3, "the oldest");
        drop(inbox);
        outbox.push(Record::Known(Known::default()));
        assert_eq!(read(&health.dropped), 8);
    }

    #[test]
    fn without_a_journal_nothing_is_counted() {
        let outbox = Outbox::closed();
        outbox.push_at_once(Record::Known(Known::default()));
        assert_eq!(outbox.health().offered.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_record_is_no_larger_than_the_memory_it_is_said_to_take() {
        assert!(size_of::<Record>() <= 640, "{}", size_of::<Record>());
    }
}
