//! The thread that writes: takes what was handed over, writes and syncs it a few times a second, begins new
//! segments, makes checkpoints, drops what is old, and finds its way back when the disk failed.
//!
//! ```text
//! writing ── a write or a sync fails ──▶ broken: records are dropped and counted
//!    ▲                                      │ every two seconds: a new segment, then a checkpoint, since what was
//!    └────────── the checkpoint is safe ────┘ dropped is in no segment
//! ```

mod upkeep;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::warn;

use super::checkpoint::Image;
use super::codec;
use super::frame::{Framer, HEADER, Kind};
use super::health::SLOW;
use super::outbox::{Inbox, Outbox};
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

/// The first one: soon, so that the history of lists that are new begins.
const FIRST_CHECKPOINT: Duration = Duration::from_secs(60);

/// The disk is tried again after this.
const RETRY: Duration = Duration::from_secs(2);

/// What a writer needs to know.
pub struct Setup {
    /// The folder.
    pub store: Store,
    /// This node's name.
    pub node: String,
    /// This run's random number.
    pub boot: u64,
    /// See [`Header::key`](super::frame::Header::key).
    pub key: u64,
    /// See [`JournalSettings`](super::settings::JournalSettings).
    pub retention: Duration,
    /// Bytes of all segments.
    pub size: u64,
    /// Tells the time.
    pub now: Box<dyn Fn() -> Timestamp + Send>,
    /// What a checkpoint holds.
    pub image: Arc<Image>,
}

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
        let begun = now;
        let now = (self.setup.now)();
        if now.since(begun) > SLOW {
            warn!(took = ?now.since(begun), "the journal's disk is slow");
        }
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
        let header = self.header(Kind::Segment, number, now);
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
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
