//! The files of the keys, for the daemon, the helper and `becalm key`. They are in a folder that the daemon may
//! write to, and read by root too: nothing is followed, nothing is waited for, and nothing is read without end.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::keys::{Key, Keyring, MAX_RING};

/// Name of the first key's file in the state directory.
pub const KEY_FILE: &str = "key";

/// Where the ring is, for a key at `key`.
pub fn ring_path(key: &Path) -> PathBuf {
    key.with_extension("ring")
}

/// The first key.
///
/// # Errors
/// It is not there, cannot be read, or is no plain file of 32 bytes or more.
pub fn read_key(path: &Path) -> io::Result<Key> {
    let mut key = [0; 32];
    open(path)?.read_exact(&mut key)?;
    Ok(key)
}

/// All keys that a site with its first key at `path` has: the ring's, or, before the first rotation, that one.
///
/// # Errors
/// A file cannot be read, or is not as becalm writes it.
pub fn read_ring(path: &Path) -> io::Result<Keyring> {
    let ring = ring_path(path);
    let file = match open(&ring) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return read_key(path).map(Keyring::first),
        Err(error) => return Err(named(&ring, error)),
    };
    let mut text = String::new();
    file.take(MAX_RING as u64 + 1).read_to_string(&mut text).map_err(|error| named(&ring, error))?;
    if text.len() > MAX_RING {
        return Err(named(&ring, "it is too long"));
    }
    Keyring::parse(&text).map_err(|error| named(&ring, error))
}

/// Makes the first key, unless there is one already: false then. It belongs to whoever owns its folder.
///
/// # Errors
/// It cannot be written.
pub fn make_key(path: &Path, key: &Key) -> io::Result<bool> {
    if path.symlink_metadata().is_ok() {
        return Ok(false);
    }
    let draft = draft(path, key)?;
    // Another becalm may have made one meanwhile: a link never replaces it.
    let linked = std::fs::hard_link(&draft, path);
    std::fs::remove_file(&draft)?;
    match linked {
        Ok(()) => sync_folder(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Puts what `change` makes of the ring in its place, whole or not at all. One at a time.
///
/// # Errors
/// What `change` refuses; a file that cannot be read or written.
pub fn change_ring<E: From<io::Error>>(
    path: &Path,
    change: impl FnOnce(&Keyring) -> Result<Keyring, E>,
) -> Result<Keyring, E> {
    let lock = open(path).map_err(|error| named(path, error))?;
    // Until it is closed; nobody else locks it for longer than this takes.
    lock.lock()?;
    let new = change(&read_ring(path)?)?;
    let ring = ring_path(path);
    let draft = draft(&ring, new.text().as_bytes())?;
    std::fs::rename(&draft, &ring).inspect_err(|_| {
        let _ = std::fs::remove_file(&draft);
    })?;
    sync_folder(&ring)?;
    Ok(new)
}

/// A new name is on the disk.
fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    Ok(file)
}

/// Written whole under another name: a key that was cut short would be a key nobody knows. 0600, and its folder's
/// owner's.
fn draft(path: &Path, content: &[u8]) -> io::Result<PathBuf> {
    let draft = path.with_extension(format!("new-{}", std::process::id()));
    let _ = std::fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let write = |file: &mut File| {
        if let Some(folder) = path.parent() {
            let (owner, own) = (std::fs::metadata(folder)?, file.metadata()?);
            if owner.uid() != own.uid() && own.uid() == 0 {
                std::os::unix::fs::fchown(&*file, Some(owner.uid()), Some(owner.gid()))?;
            }
        }
        file.write_all(content)?;
        file.sync_all()
    };
    write(&mut file).inspect_err(|_| {
        let _ = std::fs::remove_file(&draft);
    })?;
    Ok(draft)
}

fn named(path: &Path, error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn rotated(ring: &Keyring) -> io::Result<Keyring> {
        let at = Timestamp::from_millis;
        ring.rotate([9; 32], at(1000), at(2000)).map_err(io::Error::other)
    }

    #[test]
    fn a_rotation_is_whole_or_has_not_been() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join(KEY_FILE);
        assert!(change_ring(&key, rotated).is_err(), "there is no key yet");
        assert!(make_key(&key, &[1; 32]).unwrap());
        assert!(!make_key(&key, &[2; 32]).unwrap(), "one is there");
        let refused: io::Result<_> = change_ring(&key, |_| Err(io::Error::other("no")));
        assert!(refused.is_err());
        assert_eq!(names(folder.path()), ["key"]);
        let ring = change_ring(&key, rotated).unwrap();
        assert_eq!(names(folder.path()), ["key", "key.ring"]);
        assert_eq!((read_ring(&key).unwrap(), read_key(&key).unwrap()), (ring, [1; 32]));
        let about = std::fs::metadata(ring_path(&key)).unwrap();
        assert_eq!(about.mode() & 0o7777, 0o600);
        // A folder stands where the ring should.
        std::fs::remove_file(ring_path(&key)).unwrap();
        std::fs::create_dir(ring_path(&key)).unwrap();
        assert!(change_ring(&key, rotated).is_err());
        assert_eq!(names(folder.path()), ["key", "key.ring"], "no draft is left");
    }

    /// Whoever may write to the folder must not lead root elsewhere, or keep it waiting.
    #[test]
    fn nothing_is_followed_and_nothing_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join(KEY_FILE);
        make_key(&key, &[1; 32]).unwrap();
        let ring = ring_path(&key);
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "ab".repeat(32)).unwrap();
        std::os::unix::fs::symlink(&secret, &ring).unwrap();
        assert!(read_ring(&key).is_err(), "a link");
        std::fs::remove_file(&ring).unwrap();
        let fifo = std::process::Command::new("mkfifo").arg(&ring).status().unwrap();
        assert!(fifo.success());
        assert!(read_ring(&key).is_err(), "nobody writes to it");
        std::fs::remove_file(&ring).unwrap();
        std::fs::write(&ring, "ab".repeat(MAX_RING)).unwrap();
        assert!(read_ring(&key).unwrap_err().to_string().contains("too long"));
    }
}
