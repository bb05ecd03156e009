//! The helper's socket: systemd's, or its own.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::Mode;

/// The socket that systemd passed; without one, `path`, mode 0600, owned by `user`.
pub(super) fn open(path: &Path, user: u32) -> io::Result<UnixListener> {
    let mut passed = listenfd::ListenFd::from_env();
    let listener = match passed.take_unix_listener(0)? {
        Some(listener) => listener,
        None => bind(path, user)?,
    };
    listener.set_nonblocking(false)?;
    Ok(listener)
}

fn bind(path: &Path, user: u32) -> io::Result<UnixListener> {
    // Nobody may put something else in its place between one line here and the next.
    let directory = path.parent().unwrap_or(Path::new("/"));
    let about = std::fs::metadata(directory)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", directory.display())))?;
    if about.uid() != 0 || about.mode() & 0o022 != 0 {
        let why = format!("{} must be root's, and writable by nobody else", directory.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    if let Ok(there) = std::fs::symlink_metadata(path) {
        if !there.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is not a socket"));
        }
        if UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another helper listens there"));
        }
        std::fs::remove_file(path)?;
    }
    // The process is young and has one thread: nothing else makes files meanwhile.
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = bound?;
    std::os::unix::fs::chown(path, Some(user), None)?;
    Ok(listener)
}
