//! A folder with one message a file, sorted by time at the cost of 16 bytes a message.
//!
//! The first walk reads each message's time and writes its path to a nameless temporary file; what is kept and
//! sorted is the time and where in that file the path is. The second reads the messages in their order.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions, ReadDir};
use std::io::{BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{Arrived, Skip, Skipped, Source};
use crate::replay::date;
use crate::replay::header::{self, Arrival};
use crate::replay::mbox::MAX_HEAD;
use crate::time::Timestamp;

/// Folders in folders; each that is being read is one open file.
const MAX_DEPTH: usize = 32;

/// The longest path that the system takes (PATH_MAX).
const MAX_PATH: usize = 4096;

/// Read at once from a file: most messages' headers.
const CHUNK: usize = 16 * 1024;

/// How messages lie in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Every file is a message.
    Files,
    /// Every file in a folder `cur` or `new`, as in a Maildir and its subfolders; anything else is none.
    Maildir,
}

/// A folder's messages by time.
pub struct FolderSource {
    arrival: Option<Arrival>,
    /// Time in milliseconds, and where the path is: 16 bytes a message.
    messages: std::vec::IntoIter<(u64, u64)>,
    paths: File,
    buffer: Vec<u8>,
    skipped: Skipped,
}

impl FolderSource {
    /// Walks the folder. Symbolic links are not followed.
    ///
    /// # Errors
    /// The folder itself cannot be read, or the temporary file not be made or written; a Maildir without `cur` and `new`.
    pub fn open(folder: &Path, layout: Layout, arrival: Option<Arrival>) -> std::io::Result<Self> {
        let mut walk = Walk {
            layout,
            arrival,
            found: false,
            messages: Vec::new(),
            paths: BufWriter::new(tempfile::tempfile()?),
            written: 0,
            buffer: Vec::new(),
            skipped: Skipped::default(),
        };
        walk.walk(folder)?;
        if !walk.found {
            let none = "there is no folder `cur` or `new` in it, as in a Maildir: read it with --folder";
            return Err(std::io::Error::new(std::io::ErrorKind::NotFound, none));
        }
        let Walk { mut messages, paths, buffer, skipped, .. } = walk;
        messages.sort_unstable();
        let paths = paths.into_inner().map_err(|error| error.into_error())?;
        Ok(Self { arrival, messages: messages.into_iter(), paths, buffer, skipped })
    }
}

impl Source for FolderSource {
    fn next(&mut self, message: &mut Arrived) -> std::io::Result<bool> {
        for (_, place) in self.messages.by_ref() {
            let path = path_at(&self.paths, place)?;
            // It may have gone meanwhile, or become another.
            if read_head(&path, &mut self.buffer).is_err() {
                self.skipped.count(Skip::Unreadable);
                continue;
            }
            if let Some(found) = examine(&self.buffer, self.arrival, &mut self.skipped) {
                if found.cut {
                    self.skipped.count_cut();
                }
                message.reset();
                message.at = found.at;
                message.sender.extend_from_slice(found.sender);
                message.head.extend_from_slice(found.head);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn skipped(&self) -> &Skipped {
        &self.skipped
    }
}

/// The first walk.
struct Walk {
    layout: Layout,
    arrival: Option<Arrival>,
    /// A folder that is for messages.
    found: bool,
    messages: Vec<(u64, u64)>,
    paths: BufWriter<File>,
    written: u64,
    buffer: Vec<u8>,
    skipped: Skipped,
}

impl Walk {
    fn walk(&mut self, folder: &Path) -> std::io::Result<()> {
        let mut open: Vec<(ReadDir, bool)> = vec![(std::fs::read_dir(folder)?, self.is_for_messages(folder))];
        while let Some((entries, messages)) = open.last_mut() {
            let messages = *messages;
            let Some(entry) = entries.next() else {
                open.pop();
                continue;
            };
            let Ok((path, kind)) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))) else {
                self.skipped.count(Skip::Unreadable);
                continue;
            };
            if kind.is_dir() {
                if open.len() >= MAX_DEPTH {
                    self.skipped.count(Skip::TooDeep);
                } else if let Ok(entries) = std::fs::read_dir(&path) {
                    open.push((entries, self.is_for_messages(&path)));
                } else {
                    self.skipped.count(Skip::Unreadable);
                }
            } else if !messages {
                // A Maildir's indexes and flags.
            } else if kind.is_file() {
                self.file(&path)?;
            } else {
                self.skipped.count(Skip::NoFile);
            }
        }
        Ok(())
    }

    fn is_for_messages(&mut self, folder: &Path) -> bool {
        let name = folder.file_name().unwrap_or_default();
        let is_for_them = self.layout == Layout::Files || name == "cur" || name == "new";
        self.found |= is_for_them;
        is_for_them
    }

    fn file(&mut self, path: &Path) -> std::io::Result<()> {
        if read_head(path, &mut self.buffer).is_err() {
            self.skipped.count(Skip::Unreadable);
            return Ok(());
        }
        if let Some(found) = examine(&self.buffer, self.arrival, &mut self.skipped) {
            let bytes = path.as_os_str().as_bytes();
            self.messages.push((found.at.as_millis(), self.written));
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
            self.paths.write_all(&length)?;
            self.paths.write_all(bytes)?;
            self.written += (length.len() + bytes.len()) as u64;
        }
        Ok(())
    }
}

struct Found<'a> {
    at: Timestamp,
    sender: &'a [u8],
    head: &'a [u8],
    cut: bool,
}

/// What the beginning of a file says.
fn examine<'a>(text: &'a [u8], arrival: Option<Arrival>, skipped: &mut Skipped) -> Option<Found<'a>> {
    // Some keep the mbox line on top.
    let line = memchr::memchr(b'\n', text).and_then(|end| text.get(..end)).unwrap_or_default();
    let from = date::from_line(line);
    let text = if from.is_some() { text.get(line.len() + 1..).unwrap_or_default() } else { text };
    let end = head_end(text);
    let head = text.get(..end.unwrap_or(text.len()).min(MAX_HEAD)).unwrap_or_default();
    if header::fields(head).next().is_none() {
        skipped.count(Skip::NoFields);
        return None;
    }
    let by_field = if arrival == Some(Arrival::FromLine) { None } else { header::arrival(head, arrival) };
    let from_line = from.map(|(_, at)| at).filter(|_| matches!(arrival, None | Some(Arrival::FromLine)));
    let Some(at) = by_field.or(from_line) else {
        skipped.count(Skip::NoArrival);
        return None;
    };
    let sender = from.map_or(&b""[..], |(sender, _)| super::envelope_sender(sender));
    Some(Found { at, sender, head, cut: end.is_none() && text.len() > MAX_HEAD })
}

/// Where the empty line after the headers begins.
fn head_end(text: &[u8]) -> Option<usize> {
    let mut line = 0;
    loop {
        let rest = text.get(line..)?;
        let end = memchr::memchr(b'\n', rest)?;
        if matches!(rest.get(..end), Some(b"" | b"\r")) {
            return Some(line);
        }
        line += end + 1;
    }
}

/// Reads until the headers are there; of more than are kept, a little more, so that it is seen.
fn read_head(path: &Path, buffer: &mut Vec<u8>) -> std::io::Result<()> {
    // A file at the walk may be a pipe by now: opening that would wait for its writer for ever.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    buffer.clear();
    while buffer.len() <= MAX_HEAD {
        let searched = buffer.len().saturating_sub(3);
        let read = (&file).take(CHUNK as u64).read_to_end(buffer)?;
        let new = buffer.get(searched..).unwrap_or_default();
        let ends = |end: &[u8]| memchr::memmem::find(new, end).is_some();
        if read < CHUNK || ends(b"\n\n") || ends(b"\n\r\n") {
            break;
        }
    }
    Ok(())
}

fn path_at(paths: &File, place: u64) -> std::io::Result<PathBuf> {
    let mut length = [0; 4];
    paths.read_exact_at(&mut length, place)?;
    let length = (u32::from_le_bytes(length) as usize).min(MAX_PATH * MAX_DEPTH);
    let mut path = vec![0; length];
    paths.read_exact_at(&mut path, place + 4)?;
    Ok(PathBuf::from(OsStr::from_bytes(&path)))
}
