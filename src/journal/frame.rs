//! How records lie in a file, so that each proves itself.
//!
//! ```text
//! file    header (128 bytes), frames
//! header  "becalm journal\n\0"  version u16  kind u16  node (64, zero-padded)  boot u64  key u64  number u64
//!         first sequence u64  time u64  crc32 of all before
//! frame   0xBE 0xCA  length u16  index u32  crc32 of length, index and payload, begun with the file's own  payload
//! ```
//!
//! Numbers are little-endian. The code begins with the file's: a frame that was another file's (blocks that a power
//! loss left on the disk) is none here. Whatever is torn, overwritten or zero is passed over up to the next frame
//! that proves itself; nothing else is ever taken for one.

use crate::time::Timestamp;

/// Of header, frames and records. A file with a higher one is left alone.
pub const VERSION: u16 = 1;

/// Bytes of a header.
pub const HEADER: usize = 128;

/// Bytes of a frame before its payload.
pub const FRAME: usize = 12;

const MAGIC: &[u8; 16] = b"becalm journal\n\0";
const MARK: [u8; 2] = [0xbe, 0xca];
const NODE: usize = 64;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Events, in the order in which they happened.
    Segment,
    /// All of what was known when it was made.
    Checkpoint,
}

/// Who wrote a file, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Of which kind.
    pub kind: Kind,
    /// The node's name; at most 63 bytes of it.
    pub node: String,
    /// The run of becalm on it: a random number.
    pub boot: u64,
    /// A keyed hash of a constant: tells which key the records' hashes were made with.
    pub key: u64,
    /// The file's number. For a checkpoint: that of the first segment which is not in it.
    pub number: u64,
    /// The sequence number of its first record.
    pub sequence: u64,
    /// When it was begun.
    pub at: Timestamp,
}

/// Why a file is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It is shorter than a header: the process ended while it began it.
    #[error("it ends within its header")]
    Short,
    /// It is damaged, or none of becalm's.
    #[error("its header is damaged, or it is no journal of becalm's")]
    Damaged,
    /// A later version wrote it.
    #[error("it was written by a later version of becalm (format {0}, this one knows {VERSION})")]
    Newer(u16),
}

impl Header {
    /// As bytes.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        let kind: u16 = match self.kind {
            Kind::Segment => 1,
            Kind::Checkpoint => 2,
        };
        bytes.extend_from_slice(&kind.to_le_bytes());
        let mut node = [0; NODE];
        for (place, byte) in node.iter_mut().zip(self.node.bytes().take(NODE - 1)) {
            *place = byte;
        }
        bytes.extend_from_slice(&node);
        for number in [self.boot, self.key, self.number, self.sequence, self.at.as_millis()] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        let mut header = [0; HEADER];
        for (place, byte) in header.iter_mut().zip(bytes) {
            *place = byte;
        }
        header
    }

    /// From the beginning of a file.
    ///
    /// # Errors
    /// See [`HeaderError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let header = bytes.first_chunk::<HEADER>().ok_or(HeaderError::Short)?;
        let number = |at: usize| {
            header.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes)
        };
        let short = |at: usize| {
            header.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_le_bytes)
        };
        if header.get(..16) != Some(MAGIC.as_slice()) {
            return Err(HeaderError::Damaged);
        }
        let (covered, code) = header.split_at(CODE_AT);
        if code.first_chunk() != Some(&crc32fast::hash(covered).to_le_bytes()) {
            return Err(HeaderError::Damaged);
        }
        match short(16) {
            Some(version) if version > VERSION => return Err(HeaderError::Newer(version)),
            Some(VERSION) => {}
            _ => return Err(HeaderError::Damaged),
        }
        let read = || {
            let kind = match short(18)? {
                1 => Kind::Segment,
                2 => Kind::Checkpoint,
                _ => return None,
            };
            let node = header.get(20..20 + NODE)?;
            let node = node.iter().copied().take_while(|byte| *byte != 0).collect();
            Some(Self {
                kind,
                node: String::from_utf8(node).ok()?,
                boot: number(84)?,
                key: number(92)?,
                number: number(100)?,
                sequence: number(108)?,
                at: Timestamp::from_millis(number(116)?),
            })
        };
        read().ok_or(HeaderError::Damaged)
    }

    /// What the codes of this file's frames begin with.
    fn seed(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.boot.to_le_bytes());
        hasher.update(&self.number.to_le_bytes());
        hasher.finalize()
    }
}

/// Where the header's code stands: in every version, as its length, its first bytes and the version's number, so that
/// a later version is told from damage.
const CODE_AT: usize = 124;

/// Makes the frames of one file.
#[derive(Clone, Debug)]
pub struct Framer {
    seed: u32,
    index: u32,
}

impl Framer {
    /// For a file with this header, from its first frame on.
    pub fn new(header: &Header) -> Self {
        Self { seed: header.seed(), index: 0 }
    }

    /// Frames made so far.
    pub fn frames(&self) -> u32 {
        self.index
    }

    /// Appends a frame to `out`, with what `payload` appends. False: that was longer than a frame can be, and
    /// nothing is appended.
    pub fn frame(&mut self, out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) -> bool {
        let begin = out.len();
        out.extend_from_slice(&[0; FRAME]);
        payload(out);
        let length = out.len() - begin - FRAME;
        let Ok(short) = u16::try_from(length) else {
            out.truncate(begin);
            return false;
        };
        let (head, payload) = out[begin..].split_at_mut(FRAME);
        let code = code(self.seed, short, self.index, payload);
        let fields = MARK
            .into_iter()
            .chain(short.to_le_bytes())
            .chain(self.index.to_le_bytes())
            .chain(code.to_le_bytes());
        for (place, byte) in head.iter_mut().zip(fields) {
            *place = byte;
        }
        // A file is rotated long before this.
        self.index = self.index.saturating_add(1);
        true
    }
}

fn code(seed: u32, length: u16, index: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&length.to_le_bytes());
    hasher.update(&index.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// Finds the frames of one file.
#[derive(Debug)]
pub struct Frames<'f> {
    seed: u32,
    /// What is still to be read.
    rest: &'f [u8],
    /// Bytes passed over since the last frame.
    passed: usize,
    /// Places with damage: runs of bytes that were passed over, and had a frame after them.
    pub damaged: u64,
}

/// A frame that proved itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'f> {
    /// Its number in the file, from 0.
    pub index: u32,
    /// What it holds.
    pub payload: &'f [u8],
}

impl<'f> Frames<'f> {
    /// In what follows the header.
    pub fn new(header: &Header, bytes: &'f [u8]) -> Self {
        Self { seed: header.seed(), rest: bytes, passed: 0, damaged: 0 }
    }

    /// Bytes at the end that are no frame: it was torn.
    pub fn torn(&self) -> usize {
        self.passed
    }
}

impl<'f> Iterator for Frames<'f> {
    type Item = Frame<'f>;

    fn next(&mut self) -> Option<Frame<'f>> {
        loop {
            if let Some((frame, after)) = frame_at(self.seed, self.rest) {
                self.damaged += u64::from(self.passed > 0);
                self.passed = 0;
                self.rest = after;
                return Some(frame);
            }
            // To the next mark.
            let next = self.rest.get(1..).and_then(|rest| memchr::memmem::find(rest, &MARK)).map(|at| at + 1);
            let skip = next.unwrap_or(self.rest.len());
            self.passed += skip;
            self.rest = self.rest.get(skip..).unwrap_or_default();
            if self.rest.is_empty() {
                return None;
            }
        }
    }
}

/// The frame that begins here, and what follows it.
fn frame_at(seed: u32, bytes: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<FRAME>()?;
    let [a, b, l0, l1, i0, i1, i2, i3, c0, c1, c2, c3] = *head;
    if [a, b] != MARK {
        return None;
    }
    let (length, index) = (u16::from_le_bytes([l0, l1]), u32::from_le_bytes([i0, i1, i2, i3]));
    let (payload, after) = rest.split_at_checked(usize::from(length))?;
    let proven = code(seed, length, index, payload) == u32::from_le_bytes([c0, c1, c2, c3]);
    proven.then_some((Frame { index, payload }, after))
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
