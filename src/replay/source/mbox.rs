//! An mbox, streamed. Its messages are nearly in order of time; a bounded buffer brings them into it.

use std::collections::VecDeque;
use std::io::Read;
use std::time::Duration;

use super::{Arrived, Skip, Skipped, Source};
use crate::replay::header::{self, Arrival};
use crate::replay::mbox::{Message, Splitter};
use crate::time::Timestamp;

/// Messages in the reorder buffer. Mail is filed within minutes of its arrival; not even a busy server takes more
/// to its lists meanwhile. One that comes later still is played at the latest time seen, and counted.
const REORDER: usize = 1024;

/// No server tries for longer (Postfix's `maximal_queue_lifetime`): what is filed as it arrives comes no later than this.
const LONGEST_DELAY: Duration = Duration::from_secs(5 * 86_400);

/// Bytes of headers, and of where their lines end, in the reorder buffer: as many large messages as may be there at once.
const REORDER_BYTES: usize = 16 * 1024 * 1024;

/// Reads an mbox from a file or a pipe, in constant memory.
pub struct MboxSource<R> {
    reader: R,
    arrival: Option<Arrival>,
    splitter: Splitter,
    finished: bool,
    /// Why nothing more can be read; told when all that was read is out.
    failed: Option<std::io::Error>,
    empty: bool,
    found: bool,
    remarked: bool,
    /// In order of time, and where that is the same as they came: when, and in which place.
    queue: VecDeque<(Timestamp, usize)>,
    places: Vec<Arrived>,
    free: Vec<usize>,
    bytes: usize,
    /// Messages that came into the buffer.
    taken: u64,
    /// None of them was older than one before it by more than [`LONGEST_DELAY`].
    in_order: bool,
    skipped: Skipped,
}

impl<R: Read> MboxSource<R> {
    /// Messages arrived when `arrival` says so; by itself, when their `From ` lines say, and where those do not, their
    /// fields.
    pub fn new(reader: R, arrival: Option<Arrival>) -> Self {
        Self {
            reader,
            arrival,
            splitter: Splitter::new(),
            finished: false,
            failed: None,
            empty: true,
            found: false,
            remarked: false,
            queue: VecDeque::with_capacity(REORDER),
            places: Vec::new(),
            free: Vec::new(),
            bytes: 0,
            taken: 0,
            in_order: true,
            skipped: Skipped::default(),
        }
    }

    /// Need the first message wait for nothing more? Where a whole buffer was in order, the rest most likely is: it does
    /// with fewer messages, and those stay in the processor's caches.
    fn is_settled(&self) -> bool {
        let ends = self.queue.front().zip(self.queue.back());
        self.in_order
            && self.taken >= REORDER as u64
            && ends.is_some_and(|((first, _), (last, _))| last.since(*first) > LONGEST_DELAY)
    }

    /// Fills the reorder buffer.
    fn fill(&mut self) {
        while self.queue.len() < REORDER && self.bytes < REORDER_BYTES && !self.is_settled() {
            if let Some(message) = self.splitter.next() {
                self.found = true;
                let Some(at) = time_of(&message, self.arrival, &mut self.skipped) else { continue };
                let place = self.free.pop().unwrap_or(self.places.len());
                if self.places.len() <= place {
                    self.places.push(Arrived::default());
                }
                let Some(arrived) = self.places.get_mut(place) else { continue };
                arrived.at = at;
                arrived.sender.extend_from_slice(super::envelope_sender(message.sender));
                arrived.head.extend_from_slice(message.head);
                arrived.lines.extend_from_slice(message.lines);
                self.bytes += arrived.bytes();
                self.taken += 1;
                self.enqueue(at, place);
            } else if self.finished {
                self.remark();
                return;
            } else {
                let read = match self.reader.read(self.splitter.room()) {
                    Ok(read) => read,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(error) => {
                        self.failed = Some(error);
                        0
                    }
                };
                self.splitter.filled(read);
                self.finished = read == 0;
                self.empty &= self.finished;
            }
        }
    }

    /// Behind all that came before or at the same time.
    fn enqueue(&mut self, at: Timestamp, place: usize) {
        let turn = match self.queue.back() {
            Some((last, _)) if *last > at => {
                self.in_order &= last.since(at) <= LONGEST_DELAY;
                self.queue.partition_point(|(other, _)| *other <= at)
            }
            // Nearly always.
            _ => self.queue.len(),
        };
        self.queue.insert(turn, (at, place));
    }

    /// What can only be told at the end, once.
    fn remark(&mut self) {
        if std::mem::replace(&mut self.remarked, true) {
            return;
        }
        if !self.found && self.failed.is_none() {
            self.skipped.count(if self.empty { Skip::Empty } else { Skip::NoMbox });
        } else if self.splitter.stray() > 0 {
            self.skipped.count(Skip::Stray);
        }
    }
}

impl<R: Read> Source for MboxSource<R> {
    fn next(&mut self, message: &mut Arrived) -> std::io::Result<bool> {
        self.fill();
        let Some((_, place)) = self.queue.pop_front() else {
            return self.failed.take().map_or(Ok(false), Err);
        };
        let Some(first) = self.places.get_mut(place) else { return Ok(false) };
        self.bytes -= first.bytes();
        std::mem::swap(first, message);
        first.reset();
        self.free.push(place);
        Ok(true)
    }

    fn skipped(&self) -> &Skipped {
        &self.skipped
    }
}

fn time_of(message: &Message<'_>, arrival: Option<Arrival>, skipped: &mut Skipped) -> Option<Timestamp> {
    if header::fields(message.head).next().is_none() {
        skipped.count(Skip::NoFields);
        return None;
    }
    if message.cut {
        skipped.count_cut();
    }
    let at = match arrival {
        None => message.at.or_else(|| header::arrival(message.head, None)),
        Some(Arrival::FromLine) => message.at,
        field => header::arrival(message.head, field),
    };
    if at.is_none() {
        skipped.count(Skip::NoArrival);
    }
    at
}
