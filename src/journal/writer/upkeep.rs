//! What the writer does besides writing: new segments, checkpoints, and doing away with what is old.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::{info, warn};

use super::super::checkpoint;
use super::super::frame::{Header, Kind};
use super::{Making, RETRY, State, Work};
use crate::time::Timestamp;

/// A segment is followed by the next when it has grown to this, or is an hour old.
const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
const SEGMENT_AGE: Duration = Duration::from_secs(3600);

/// A checkpoint is made when so many records would have to be read at a start, or some have for so long.
const CHECKPOINT_RECORDS: u64 = 200_000;
const CHECKPOINT_AGE: Duration = Duration::from_secs(15 * 60);

/// More files make a start slow, however small they are: a process that is restarted all the time leaves one each
/// time.
const MOST_SEGMENTS: usize = 4096;

impl Work {
    /// Everything but writing: new segments, checkpoints, old files.
    pub(super) fn tend(&mut self, now: Timestamp) {
        self.finish_checkpoint(now);
        let State::Open(segment) = &self.state else { return };
        let worth = self.records > 0 || self.incomplete || self.wanted;
        let due = (now >= self.next_checkpoint && worth) || self.records >= CHECKPOINT_RECORDS;
        let checkpoint = due && self.making.is_none();
        let empty = segment.framer.frames() == 0;
        let full = segment.info.bytes >= SEGMENT_BYTES || now.since(segment.info.at) >= SEGMENT_AGE;
        if !empty && (full || checkpoint) {
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
        let header = self.header(Kind::Checkpoint, number, now);
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

    /// Of the next file.
    pub(super) fn header(&self, kind: Kind, number: u64, now: Timestamp) -> Header {
        Header {
            kind,
            node: self.setup.node.clone(),
            boot: self.setup.boot,
            key: self.setup.key,
            number,
            sequence: self.sequence,
            at: now,
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
                let is_due = self.incomplete || self.wanted;
                self.next_checkpoint = if is_due { now } else { now.after(CHECKPOINT_AGE) };
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
        let health = &self.inbox.health;
        health.segments.store(self.segments.len() as u64 + u64::from(current > 0), Ordering::Relaxed);
        health.bytes.store(total + current, Ordering::Relaxed);
    }
}
