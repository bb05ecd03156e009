//! Postfix's queue directory, as root sees it. Its files are Postfix's: nothing is followed, nothing is waited for.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::quarantine::mark;
use crate::quarantine::protocol::Recipients;
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

/// A message in one of some queues.
pub(super) fn find(queue: &Path, names: &[&str], id: &QueueId) -> io::Result<Option<Message>> {
    for name in names {
        for place in id.places() {
            if let Some(message) = open(&queue.join(name).join(place))? {
                return Ok(Some(message));
            }
        }
    }
    Ok(None)
}

/// A message's file. None: it is not there, or no complete message. An error says that nobody knows.
pub(super) fn open(path: &Path) -> io::Result<Option<Message>> {
    // Neither a link out of the queue nor a pipe that nobody writes to.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => file,
        // Nothing there, no directory of that name, or a link, a socket, a device: no message of Postfix's.
        Err(error) => match rustix::io::Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Ok(None),
            _ => return Err(error),
        },
    };
    let about = file.metadata()?;
    // cleanup(8) sets the bit when the message is complete.
    Ok((about.is_file() && about.mode() & 0o100 != 0).then_some(Message(file)))
}

/// A message's file.
pub(super) struct Message(File);

impl Message {
    /// What it says.
    pub(super) fn read(&self) -> Result<QueueFile, Malformed> {
        queue_file::read(self, mark::HEADER)
    }

    /// Who is left, and who has it.
    pub(super) fn recipients(&self) -> Result<Recipients, Malformed> {
        let (left, reached) = queue_file::count_recipients(self)?;
        Ok(Recipients { left, reached })
    }

    /// Does a delivery agent work on it? Each locks the file that it delivers (Postfix's `INTERNAL_LOCK`, which is
    /// flock(2) here), for as long as it does.
    pub(super) fn is_being_delivered(&self) -> bool {
        use rustix::fs::{FlockOperation, flock};
        let locked = flock(&self.0, FlockOperation::NonBlockingLockExclusive).is_err();
        // Closing it, a moment from now, would do the same.
        let _ = flock(&self.0, FlockOperation::Unlock);
        locked
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_opened_is_not_taken_for_gone() {
        let folder = tempfile::tempdir().unwrap();
        let id = QueueId::parse("4jXc4x0HtRz1XDct").unwrap();
        assert!(find(folder.path(), &["hold"], &id).unwrap().is_none(), "there is no such directory");
        std::fs::create_dir(folder.path().join("hold")).unwrap();
        let path = folder.path().join("hold").join(id.as_str());
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(find(folder.path(), &["hold"], &id).unwrap().is_none(), "links are not followed");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(find(folder.path(), &["hold"], &id).unwrap().is_none(), "it is not complete");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        assert!(find(folder.path(), &["hold"], &id).unwrap().is_some());
        // A name that is too long for the system is an error as any other.
        assert!(open(&folder.path().join("x".repeat(300))).is_err());
    }
}
