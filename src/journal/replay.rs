//! Reading the journal at start: the newest checkpoint that is whole, then the segments since.

use std::io;
use std::path::{Path, PathBuf};

use super::codec::{self, DecodeError};
use super::frame::{Frames, HEADER, Header, HeaderError, Kind};
use super::record::Record;
use super::stamp::{Followed, Stamp};
use super::store::{Contents, Store};
use super::{checkpoint, frame};
use crate::time::Timestamp;

/// Remarks that are kept; the rest is counted with the damage.
const MOST_REMARKS: usize = 20;

/// The journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A later version of becalm wrote a file of it.
    #[error(
        "{path} was written by a later version of becalm (format {version}, this one knows {}); start that version, \
         or move the folder away to begin anew. Nothing in it was touched",
        frame::VERSION
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u16,
    },
    /// The folder cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The folder, or a file in it.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Records that were applied, those of the checkpoint included.
    pub records: u64,
    /// Of these, records from segments.
    pub events: u64,
    /// Places with damage that were passed over, and records that make no sense.
    pub damaged: u64,
    /// Bytes at the ends of segments that a crash or a power loss tore off.
    pub torn: u64,
    /// The checkpoint that was used.
    pub checkpoint: Option<u64>,
    /// What an operator may want to know.
    pub remarks: Vec<String>,
    /// What there is, for the writer.
    pub segments: Vec<SegmentInfo>,
    /// All the files that were there.
    pub contents: Contents,
}

/// A segment that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number.
    pub number: u64,
    /// When it was begun.
    pub at: Timestamp,
    /// Its size.
    pub bytes: u64,
}

/// Reads the journal and hands over every record of `key`'s (see [`Header::key`]) that is to be applied, in order.
/// Nothing is changed on the disk.
///
/// # Errors
/// See [`ReplayError`]; then nothing was handed over. A file that is damaged is no error: what can be read of it is.
pub fn replay(store: &Store, key: u64, mut apply: impl FnMut(Record)) -> Result<Replayed, ReplayError> {
    let failed = |source| ReplayError::Io { path: store.folder().to_owned(), source };
    let contents = match store.contents() {
        Ok(contents) => contents,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Contents::default(),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Replayed { contents, ..Replayed::default() };
    // All headers first: where one cannot be understood, nothing is applied and nothing written.
    let checkpoints = found.contents.checkpoints.clone();
    let segments = found.contents.segments.clone();
    for path in checkpoints.iter().map(|number| store.checkpoint(*number)) {
        // One that is damaged is not used below.
        let _ = header_of(&path)?;
    }
    let mut headers = Vec::new();
    for number in segments {
        headers.push((number, header_of(&store.segment(number))?));
    }

    for number in checkpoints.iter().rev() {
        if found.checkpoint.is_none() {
            found.take_checkpoint(store, *number, key, &mut apply);
        }
    }
    let first = found.checkpoint.unwrap_or(0);
    let mut followed = Followed::at_start();
    for (number, header) in headers {
        found.take_segment(store, number, header, key, number >= first, &mut followed, &mut apply);
    }
    Ok(found)
}

/// A file's header, as far as it can be read.
fn header_of(path: &Path) -> Result<Result<Header, HeaderError>, ReplayError> {
    let failed = |source| ReplayError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::with_capacity(HEADER);
    let mut file = io::Read::take(std::fs::File::open(path).map_err(failed)?, HEADER as u64);
    io::Read::read_to_end(&mut file, &mut bytes).map_err(failed)?;
    match Header::decode(&bytes) {
        Err(HeaderError::Newer(version)) => Err(ReplayError::Newer { path: path.to_owned(), version }),
        header => Ok(header),
    }
}

impl Replayed {
    fn take_checkpoint(&mut self, store: &Store, number: u64, key: u64, apply: &mut impl FnMut(Record)) {
        let path = store.checkpoint(number);
        let bytes = match store.read(&path) {
            Ok(bytes) => bytes,
            Err(error) => return self.damage(format!("{}: {error}", path.display())),
        };
        match checkpoint::verify(&bytes) {
            None => self.damage(format!("{}: it is not whole; an earlier one is used", path.display())),
            Some(header) if header.key != key => self.remark(other_key(&path)),
            Some(header) => {
                for payload in checkpoint::payloads(&header, &bytes) {
                    self.take(payload, apply);
                }
                self.checkpoint = Some(number);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the file, whether it is wanted, and where it goes")]
    fn take_segment(
        &mut self,
        store: &Store,
        number: u64,
        header: Result<Header, HeaderError>,
        key: u64,
        wanted: bool,
        followed: &mut Followed,
        apply: &mut impl FnMut(Record),
    ) {
        let path = store.segment(number);
        let size = std::fs::metadata(&path).map_or(0, |file| file.len());
        let at = header.as_ref().map_or_else(|_| Timestamp::default(), |header| header.at);
        self.segments.push(SegmentInfo { number, at, bytes: size });
        if !wanted {
            return;
        }
        let header = match header {
            Ok(header) if header.kind == Kind::Segment && header.key == key => header,
            Ok(header) if header.key != key => return self.remark(other_key(&path)),
            // The process ended before it had anything to write.
            Err(HeaderError::Short) => {
                self.torn += size;
                return;
            }
            Ok(_) => return self.damage(format!("{}: it is no segment", path.display())),
            Err(error) => return self.damage(format!("{}: {error}", path.display())),
        };
        let bytes = match store.read(&path) {
            Ok(bytes) => bytes,
            Err(error) => return self.damage(format!("{}: {error}", path.display())),
        };
        let mut frames = Frames::new(&header, bytes.get(HEADER..).unwrap_or_default());
        for frame in frames.by_ref() {
            let sequence = header.sequence.saturating_add(u64::from(frame.index));
            if followed.admits(Stamp { node: &header.node, boot: header.boot, sequence }) {
                self.events += u64::from(self.take(frame.payload, apply));
            }
        }
        if frames.damaged > 0 {
            let places = frames.damaged;
            self.damaged += places;
            self.remark(format!("{}: damaged in {places} places, which were passed over", path.display()));
        }
        self.torn += frames.torn() as u64;
    }

    /// True if it was a record.
    fn take(&mut self, payload: &[u8], apply: &mut impl FnMut(Record)) -> bool {
        match codec::decode(payload) {
            Ok(record) => {
                self.records += 1;
                apply(record);
                return true;
            }
            // A later version of the same format: what it adds is not needed to understand the rest.
            Err(DecodeError::UnknownKind(_)) => {}
            Err(error @ (DecodeError::Short | DecodeError::Senseless)) => self.damage(error.to_string()),
        }
        false
    }

    fn damage(&mut self, remark: String) {
        self.damaged += 1;
        self.remark(remark);
    }

    fn remark(&mut self, remark: String) {
        if self.remarks.len() < MOST_REMARKS {
            self.remarks.push(remark);
        }
    }
}

fn other_key(path: &Path) -> String {
    format!(
        "{}: it was written with another key (the file `key` in the state directory), and tells nothing under this one",
        path.display()
    )
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
