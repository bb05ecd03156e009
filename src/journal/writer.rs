//! The thread that writes: takes what was handed over, writes and syncs it a few times a second, begins new
//! segments, makes checkpoints, drops what is old, and finds its way back when the disk failed.
//!
//! ```text
//! writing ── a write or a sync fails ──▶ broken: records are dropped and counted
//!    ▲                                      │ every two seconds: a new segment, then a checkpoint, since what was
//!    └────────── the checkpoint is safe ────┘ dropped is in no segment
//! ```

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::{info, warn};

use super::checkpoint;
use super::codec;
use super::frame::{Framer, HEADER, Header, Kind};
use super::health::Health;
use super::outbox::{Inbox, Outbox};
use super::record::Record;
use super::replay::{Replayed, SegmentInfo};
use super::store::{Contents, Store};
use crate::time::Timestamp;

/// Between two rounds: with a disk that needs less than three quarters of a second for a sync, what was known a
/// second ago survives a power loss.
const ROUND: Duration = Duration::from_millis(250);

/// Records written between two syncs: at 10,000 a second a round has fewer.
const BATCH: usize = 8192;

/// Rounds of a batch each before other duties get their turn.
const BATCHES: usize = 8;

/// A segment is followed by the next when it has grown to this, or is an hour old.
const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
const SEGMENT_AGE: Duration = Duration::from_secs(3600);

/// A checkpoint is made when so many records would have to be read at a start, or some have for so long.
const CHECKPOINT_RECORDS: u64 = 200_000;
const CHECKPOINT_AGE: Duration = Duration::from_secs(15 * 60);

/// The first one: soon, so that the history of lists that are new begins.
const FIRST_CHECKPOINT: Duration = Duration::from_secs(60);

/// The disk is tried again after this.
const RETRY: Duration = Duration::from_secs(2);

/// More files make a start slow, however small they are: a process that is restarted all the time leaves one each
/// time.
const MOST_SEGMENTS: usize = 4096;

/// What a writer needs to know.
pub struct Setup {
    /// The folder.
    pub store: Store,
    /// This node's name.
    pub node: String,
    /// This run's random number.
    pub boot: u64,
    /// See [`Header::key`].
    pub key: u64,
    /// See [`JournalSettings`](super::settings::JournalSettings).
    pub retention: Duration,
    /// Bytes of all segments.
    pub size: u64,
    /// Tells the time.
    pub now: Box<dyn Fn() -> Timestamp + Send>,
    /// Hands over all that is known, record by record, until one is refused.
    pub image: Arc<Image>,
}

/// See [`Setup::image`].
pub type Image = dyn Fn(&mut dyn FnMut(Record) -> io::Result<()>) -> io::Result<()> + Send + Sync;

/// The running writer.
pub struct Writer {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    done: Receiver<()>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    checkpoint_wanted: AtomicBool,
}

impl Writer {
    /// Begins to write. `replayed`: what was read at this start, or none where the folder could not be read: then
    /// what it may hold is left alone.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(
        setup: Setup,
        outbox: &Outbox,
        inbox: Inbox,
        replayed: Option<&Replayed>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (finished, done) = sync_channel(1);
        let mut work = Work::new(setup, inbox, replayed);
        let seen = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("becalm-journal".to_owned()).spawn(move || {
            loop {
                // Before the round, so that what was handed over before the stop is written in it.
                let stop = seen.stop.load(Ordering::Acquire);
                let wanted = seen.checkpoint_wanted.swap(false, Ordering::AcqRel);
                let abandoned = work.round(wanted);
                if stop || abandoned {
                    break;
                }
                std::thread::park_timeout(ROUND);
            }
            work.end();
            let _ = finished.send(());
        })?;
        outbox.set_writer(thread.thread().clone());
        Ok(Self { shared, thread, done })
    }

    /// Asks for a checkpoint before its time: there are new lists.
    pub fn checkpoint_soon(&self) {
        self.shared.checkpoint_wanted.store(true, Ordering::Release);
    }

    /// Writes what was handed over and ends, within `patience` if the disk does its part. True: it is all safe, or
    /// counted as dropped.
    pub fn close(&self, patience: Duration) -> bool {
        self.shared.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.done.recv_timeout(patience).is_ok()
    }
}

/// What the thread works with.
struct Work {
    setup: Setup,
    inbox: Inbox,
    state: State,
    lock: Option<File>,
    /// What was in the folder when it was read; none: it could not be.
    known: Option<Contents>,
    segments: VecDeque<SegmentInfo>,
    /// The numbers of the latest checkpoints, at most two.
    checkpoints: VecDeque<u64>,
    next: u64,
    sequence: u64,
    buffer: Vec<u8>,
    /// Records since the last checkpoint.
    records: u64,
    making: Option<Making>,
    /// Records are missing from the segments: only a checkpoint makes the journal whole again.
    incomplete: bool,
    /// Records that had been dropped when it was looked last.
    dropped: u64,
    /// A checkpoint is to be made, whether there are records or not.
    wanted: bool,
    next_checkpoint: Timestamp,
}

enum State {
    Open(Segment),
    Broken { retry_at: Timestamp },
}

struct Segment {
    file: File,
    framer: Framer,
    info: SegmentInfo,
}

struct Making {
    number: u64,
    thread: JoinHandle<io::Result<u64>>,
}

impl Work {
    fn new(setup: Setup, inbox: Inbox, replayed: Option<&Replayed>) -> Self {
        let now = (setup.now)();
        let segments: VecDeque<SegmentInfo> =
            replayed.map(|found| found.segments.iter().copied().collect()).unwrap_or_default();
        let contents = replayed.map(|found| found.contents.clone());
        let known = contents.clone().unwrap_or_default();
        let last = known.segments.iter().chain(&known.checkpoints).max().copied().unwrap_or(0);
        // Only one that was found whole is worth the segments before it.
        let checkpoints: VecDeque<u64> = replayed.and_then(|found| found.checkpoint).into_iter().collect();
        let fresh = checkpoints.is_empty();
        let unread = replayed.map_or(0, |found| found.events);
        Self {
            state: State::Broken { retry_at: now },
            lock: None,
            known: contents,
            segments,
            checkpoints,
            next: last.saturating_add(1),
            sequence: 0,
            buffer: Vec::new(),
            records: unread,
            making: None,
            incomplete: false,
            dropped: 0,
            wanted: true,
            next_checkpoint: if fresh { now } else { now.after(FIRST_CHECKPOINT) },
            setup,
            inbox,
        }
    }

    /// Writes what there is. True: nobody is left who could hand anything over.
    fn round(&mut self, checkpoint_wanted: bool) -> bool {
        let now = (self.setup.now)();
        let health = Arc::clone(&self.inbox.health);
        health.busy_since.store(now.as_millis().max(1), Ordering::Release);
        if let State::Broken { retry_at } = self.state
            && retry_at <= now
        {
            self.open(now);
        }
        let mut abandoned = false;
        for _ in 0..BATCHES {
            let (taken, gone) = self.take();
            abandoned = gone;
            if taken < BATCH {
                break;
            }
        }
        self.wanted |= checkpoint_wanted;
        self.next_checkpoint = if checkpoint_wanted { now } else { self.next_checkpoint };
        self.notice_drops(now);
        self.tend(now);
        let now = (self.setup.now)();
        if matches!(self.state, State::Open(_)) {
            health.synced.store(now.as_millis(), Ordering::Release);
        }
        health.busy_since.store(0, Ordering::Release);
        abandoned
    }

    /// Writes and syncs at most a batch. How many records it took, and whether there will never be another.
    fn take(&mut self) -> (usize, bool) {
        self.buffer.clear();
        let mut taken = 0_usize;
        let mut lost = 0_u64;
        let mut gone = false;
        while taken < BATCH {
            let record = match self.inbox.receiver.try_recv() {
                Ok(record) => record,
                Err(error) => {
                    gone = error == std::sync::mpsc::TryRecvError::Disconnected;
                    break;
                }
            };
            taken += 1;
            match &mut self.state {
                State::Open(segment) => {
                    let framed = segment.framer.frame(&mut self.buffer, |out| codec::encode(&record, out));
                    lost += u64::from(!framed);
                }
                State::Broken { .. } => lost += 1,
            }
        }
        let framed = taken as u64 - lost;
        let mut written = 0;
        if let State::Open(segment) = &mut self.state
            && framed > 0
        {
            match segment.file.write_all(&self.buffer).and_then(|()| segment.file.sync_data()) {
                Ok(()) => {
                    written = framed;
                    segment.info.bytes += self.buffer.len() as u64;
                    self.sequence += framed;
                    self.records += framed;
                }
                Err(error) => {
                    lost += framed;
                    // Whether it is on the disk or not, its number is used up.
                    self.sequence += framed;
                    let path = self.setup.store.segment(segment.info.number);
                    self.fail(&format!("cannot write {}: {error}", path.display()));
                }
            }
        }
        let health = &self.inbox.health;
        health.written.fetch_add(written, Ordering::Release);
        health.dropped.fetch_add(lost, Ordering::Release);
        self.dropped += lost;
        self.incomplete |= lost > 0;
        (taken, gone)
    }

    /// Those who judge drop what finds no room: the disk is slower than the mail.
    fn notice_drops(&mut self, now: Timestamp) {
        let dropped = self.inbox.health.dropped.load(Ordering::Acquire);
        let unseen = dropped.saturating_sub(self.dropped);
        if unseen > 0 {
            self.dropped = dropped;
            self.incomplete = true;
            self.next_checkpoint = now;
            let why = format!("the disk is too slow: {unseen} records found no room and were dropped");
            warn!(why, "the journal is degraded until a checkpoint is made");
            self.inbox.health.report(why, now);
        }
    }

    /// A checkpoint that is being made is finished; then the lock is free: whoever waits for the end may begin.
    fn end(self) {
        if let Some(making) = self.making {
            // Its success makes the next start quicker, nothing else.
            let _ = making.thread.join();
        }
    }

    fn fail(&mut self, why: &str) {
        let now = (self.setup.now)();
        if self.inbox.health.trouble(now).is_none_or(|trouble| trouble.why != why) {
            warn!(
                why,
                "the journal is degraded: mail is judged as before, but what is learnt now is lost at a restart"
            );
        }
        self.inbox.health.report(why.to_owned(), now);
        if let State::Open(segment) = &self.state {
            // What it holds is good up to where it failed.
            self.segments.push_back(segment.info);
        }
        self.incomplete = true;
        self.state = State::Broken { retry_at: now.after(RETRY) };
    }

    /// Begins a segment, and takes the lock before the first.
    fn open(&mut self, now: Timestamp) {
        match self.try_open(now) {
            Ok(segment) => {
                let healed = std::mem::replace(&mut self.state, State::Open(segment));
                debug_assert!(matches!(healed, State::Broken { .. }));
                if self.incomplete {
                    self.next_checkpoint = now;
                } else {
                    self.inbox.health.healed();
                }
            }
            Err(error) => self.fail(&format!("{}: {error}", self.setup.store.folder().display())),
        }
    }

    fn try_open(&mut self, now: Timestamp) -> io::Result<Segment> {
        let store = &self.setup.store;
        if self.lock.is_none() {
            let lock = store.lock()?;
            let contents = store.contents()?;
            let known = self.known.get_or_insert_default();
            // What is there and was not read would be lost under the next checkpoint.
            let strange = |there: &[u64], known: &[u64]| there.iter().any(|number| !known.contains(number));
            if strange(&contents.segments, &known.segments)
                || strange(&contents.checkpoints, &known.checkpoints)
            {
                return Err(io::Error::other(
                    "there is a journal that could not be read when becalm started; restart becalm to read it",
                ));
            }
            store.clear(&contents);
            self.lock = Some(lock);
        }
        let number = self.next;
        let header = Header {
            kind: Kind::Segment,
            node: self.setup.node.clone(),
            boot: self.setup.boot,
            key: self.setup.key,
            number,
            sequence: self.sequence,
            at: now,
        };
        let path = store.segment(number);
        let begun = store.create(&path).and_then(|mut file| {
            file.write_all(&header.encode())?;
            file.sync_data()?;
            Ok(file)
        });
        let file = begun.inspect_err(|_| {
            // It holds nothing; one that cannot be removed is passed over at the next start.
            let _ = std::fs::remove_file(&path);
        })?;
        self.next = number.saturating_add(1);
        let info = SegmentInfo { number, at: now, bytes: HEADER as u64 };
        Ok(Segment { file, framer: Framer::new(&header), info })
    }

    /// Everything but writing: new segments, checkpoints, old files.
    fn tend(&mut self, now: Timestamp) {
        self.finish_checkpoint(now);
        let State::Open(segment) = &self.state else { return };
        let worth = self.records > 0 || self.incomplete || self.wanted;
        let due = (now >= self.next_checkpoint && worth) || self.records >= CHECKPOINT_RECORDS;
        let checkpoint = due && self.making.is_none();
        let empty = segment.framer.frames() == 0;
        let full = segment.info.bytes >= SEGMENT_BYTES || now.since(segment.info.at) >= SEGMENT_AGE;
        if (full && !empty) || (checkpoint && !empty) {
            let info = segment.info;
            match self.try_open(now) {
                Ok(next) => {
                    self.segments.push_back(info);
                    self.state = State::Open(next);
                }
                Err(error) => {
                    return self.fail(&format!("{}: {error}", self.setup.store.folder().display()));
                }
            }
        }
        if checkpoint {
            self.begin_checkpoint(now);
        }
        self.drop_old(now);
    }

    /// All that was written so far is in earlier segments, and was counted before it was handed over: what is made
    /// from here on has it.
    fn begin_checkpoint(&mut self, now: Timestamp) {
        let State::Open(segment) = &self.state else { return };
        let number = segment.info.number;
        let header = Header {
            kind: Kind::Checkpoint,
            node: self.setup.node.clone(),
            boot: self.setup.boot,
            key: self.setup.key,
            number,
            sequence: self.sequence,
            at: now,
        };
        self.records = 0;
        self.wanted = false;
        // What is dropped from here on may not be in it.
        self.incomplete = false;
        let (store, image) = (self.setup.store.clone(), Arc::clone(&self.setup.image));
        // Beside this thread, which goes on writing.
        let thread = std::thread::Builder::new()
            .name("becalm-checkpoint".to_owned())
            .spawn(move || checkpoint::write(&store, &header, image.as_ref()));
        match thread {
            Ok(thread) => self.making = Some(Making { number, thread }),
            Err(error) => self.checkpoint_failed(&error, now),
        }
    }

    fn finish_checkpoint(&mut self, now: Timestamp) {
        let Some(making) = self.making.take_if(|making| making.thread.is_finished()) else { return };
        match making.thread.join().unwrap_or_else(|_| Err(io::Error::other("it panicked"))) {
            Ok(_) => {
                // Nothing was written since the last one: it has been replaced.
                if self.checkpoints.back() != Some(&making.number) {
                    self.checkpoints.push_back(making.number);
                }
                self.inbox.health.checkpoint.store(now.as_millis(), Ordering::Release);
                self.next_checkpoint = if self.incomplete { now } else { now.after(CHECKPOINT_AGE) };
                let open = matches!(self.state, State::Open(_));
                if open
                    && !self.incomplete
                    && let Some(trouble) = self.inbox.health.healed()
                {
                    info!(why = trouble.why, since = trouble.since.rfc3339(), "the journal is whole again");
                }
            }
            Err(error) => self.checkpoint_failed(&error, now),
        }
    }

    fn checkpoint_failed(&mut self, error: &io::Error, now: Timestamp) {
        let why = format!("cannot write a checkpoint in {}: {error}", self.setup.store.folder().display());
        if self.inbox.health.trouble(now).is_none() {
            warn!(why, "the journal is degraded");
        }
        self.inbox.health.report(why, now);
        // Segments go on; but what an earlier one of them lacks is lacking still.
        self.incomplete = true;
        self.next_checkpoint = now.after(RETRY);
    }

    /// Checkpoints but for the last two, and segments that the older of these covers: by age, by size, by number.
    fn drop_old(&mut self, now: Timestamp) {
        let store = &self.setup.store;
        while self.checkpoints.len() > 2 {
            if let Some(number) = self.checkpoints.pop_front() {
                let _ = std::fs::remove_file(store.checkpoint(number));
            }
        }
        let mut total: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        if self.checkpoints.len() == 2
            && let Some(covered) = self.checkpoints.front().copied()
        {
            while let Some(oldest) = self.segments.front().copied() {
                // Its last record is no younger than the segment after it.
                let until = self.segments.get(1).map_or(now, |next| next.at);
                let old = now.since(until) >= self.setup.retention;
                let much = total > self.setup.size || self.segments.len() > MOST_SEGMENTS;
                if oldest.number >= covered || !(old || much) {
                    break;
                }
                // One that cannot be removed is seen again at the next start.
                let _ = std::fs::remove_file(store.segment(oldest.number));
                total -= oldest.bytes;
                self.segments.pop_front();
            }
        }
        let current = match &self.state {
            State::Open(segment) => segment.info.bytes,
            State::Broken { .. } => 0,
        };
        let health: &Health = &self.inbox.health;
        health.segments.store(self.segments.len() as u64 + u64::from(current > 0), Ordering::Relaxed);
        health.bytes.store(total + current, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
