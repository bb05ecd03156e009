//! The journal's folder: which files there are, and how they are made and done away with.
//!
//! ```text
//! 00000017.segment     events
//! checkpoint-00000019  all of what was known before segment 19
//! lock                 held by the process that writes here
//! *.draft              not finished, to be removed
//! ```
//!
//! A file that becalm does not know is never touched.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

/// A segment has a few MiB, a checkpoint of the default tables at most 60; tables a dozen times as large still fit.
/// Whatever is larger would have to be read into memory at start, and is not.
pub const MAX_FILE: u64 = 1024 * 1024 * 1024;

/// The folder.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

/// The numbers of the files in the folder, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Segments.
    pub segments: Vec<u64>,
    /// Checkpoints.
    pub checkpoints: Vec<u64>,
    /// Bytes of all of them.
    pub bytes: u64,
    drafts: Vec<PathBuf>,
}

impl Store {
    /// The journal in `folder`. Nothing is touched yet.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the folder, if its parent is there, for becalm alone; and takes the lock. It is held until the file is
    /// dropped, or the process ends, however it ends.
    ///
    /// # Errors
    /// The folder cannot be made or written to, or another process holds the lock.
    pub fn lock(&self) -> io::Result<File> {
        match DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let path = self.folder.join("lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(lock),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(io::Error::new(io::ErrorKind::ResourceBusy, "another becalm writes its journal there"))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// What is there.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn contents(&self) -> io::Result<Contents> {
        let mut contents = Contents::default();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let numbers = if let Some(number) = name.strip_suffix(".segment") {
                number.parse().ok().map(|number| (&mut contents.segments, number))
            } else if let Some(number) = name.strip_prefix("checkpoint-") {
                number.parse().ok().map(|number| (&mut contents.checkpoints, number))
            } else {
                None
            };
            if let Some((numbers, number)) = numbers {
                numbers.push(number);
                contents.bytes += entry.metadata().map_or(0, |file| file.len());
            } else if name.ends_with(".draft") {
                contents.drafts.push(entry.path());
            }
        }
        contents.segments.sort_unstable();
        contents.checkpoints.sort_unstable();
        Ok(contents)
    }

    /// Makes an empty file that is not there yet, for becalm alone, and makes sure that it survives a power loss.
    ///
    /// # Errors
    /// It is there, or cannot be made.
    pub fn create(&self, path: &Path) -> io::Result<File> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        self.sync()?;
        Ok(file)
    }

    /// Makes the folder's own entries survive a power loss.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn sync(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    /// A file's whole text.
    ///
    /// # Errors
    /// It cannot be read, or is larger than any of ours.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(io::Error::other("it is larger than any file of the journal"));
        }
        Ok(bytes)
    }

    /// Removes what an earlier process did not finish.
    pub fn clear(&self, contents: &Contents) {
        for draft in &contents.drafts {
            // One that stays is in nobody's way.
            let _ = std::fs::remove_file(draft);
        }
    }

    /// A segment's file.
    pub fn segment(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:08}.segment"))
    }

    /// A checkpoint's file.
    pub fn checkpoint(&self, number: u64) -> PathBuf {
        self.folder.join(format!("checkpoint-{number:08}"))
    }

    /// A checkpoint's file while it is written.
    pub fn draft(&self, number: u64) -> PathBuf {
        self.folder.join(format!("checkpoint-{number:08}.draft"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_made_for_becalm_alone_and_one_process_writes_there() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(&home.path().join("journal"));
        let lock = store.lock().unwrap();
        let mode = std::fs::metadata(store.folder()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let error = store.lock().unwrap_err();
        assert!(error.to_string().contains("another becalm"), "{error}");
        drop(lock);
        store.lock().unwrap();
        let nowhere = Store::new(&home.path().join("no/such"));
        assert_eq!(nowhere.lock().unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn only_its_own_files_are_its_own() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path());
        store.create(&store.segment(3)).unwrap();
        store.create(&store.segment(20)).unwrap();
        store.create(&store.checkpoint(20)).unwrap();
        store.create(&store.draft(21)).unwrap();
        for other in ["notes.txt", "x.segment", "checkpoint-", "lock", "5.segments"] {
            std::fs::write(home.path().join(other), "kept").unwrap();
        }
        assert!(store.create(&store.segment(3)).is_err(), "nothing is overwritten");
        let contents = store.contents().unwrap();
        assert_eq!(
            (contents.segments.as_slice(), contents.checkpoints.as_slice()),
            (&[3, 20][..], &[20][..])
        );
        store.clear(&contents);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 8);
    }
}
