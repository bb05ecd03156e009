//! Postfix's queue directory, as root sees it. Its files are Postfix's: nothing is followed, nothing is waited for.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::quarantine::mark;
use crate::quarantine::queue_file::{self, Malformed, QueueFile, ReadAt};
use crate::quarantine::queue_id::QueueId;

/// Queue directories are nested as deep as Postfix's `hash_queue_depth`, five at most where ids are long.
const MAX_DEPTH: usize = 5;

/// Messages in one list. At 100 bytes each they take 100 MB before it ends; a queue of more has other troubles.
const MAX_HELD: usize = 1_000_000;

/// What is in the hold queue.
#[derive(Default)]
pub(super) struct Found {
    /// Long queue ids and their files, the oldest first.
    pub(super) ids: Vec<(QueueId, PathBuf)>,
    /// Files that are named otherwise.
    pub(super) others: u64,
}

/// Reads the hold queue.
pub(super) fn held(queue: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    walk(&queue.join("hold"), 0, &mut found)?;
    // Their digits are in the order of ASCII, and the time comes first.
    found.ids.sort_unstable();
    Ok(found)
}

fn walk(directory: &Path, depth: usize, found: &mut Found) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.len() == 1 && depth < MAX_DEPTH && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), depth + 1, found)?;
        } else if found.ids.len() >= MAX_HELD {
            found.others += 1;
        } else {
            match QueueId::parse(&name) {
                Ok(id) => found.ids.push((id, entry.path())),
                Err(_) => found.others += 1,
            }
        }
    }
    Ok(())
}

/// A message in one queue.
pub(super) fn find(queue: &Path, name: &str, id: &QueueId) -> Option<Message> {
    id.places().find_map(|place| open(&queue.join(name).join(place)))
}

/// A message's file. None: it is not there, or no complete message.
pub(super) fn open(path: &Path) -> Option<Message> {
    // Neither a link out of the queue nor a pipe that nobody writes to.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path).ok()?;
    let about = file.metadata().ok()?;
    // cleanup(8) sets the bit when the message is complete.
    (about.is_file() && about.mode() & 0o100 != 0).then_some(Message(file))
}

/// A message's file.
pub(super) struct Message(File);

impl Message {
    /// What it says.
    pub(super) fn read(&self) -> Result<QueueFile, Malformed> {
        queue_file::read(self, mark::HEADER)
    }
}

impl ReadAt for Message {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Option<usize> {
        loop {
            match self.0.read_at(into, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read.ok(),
            }
        }
    }
}
