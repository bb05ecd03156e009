//! The asking side, for the command line. Blocking: a command asks once and ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::api::{Reply, Request};

/// A reply to `lists` of a very large site has some megabytes; more than this is no reply of becalm's.
const MAX_REPLY: u64 = 256 * 1024 * 1024;

/// A daemon that is alive answers at once, or within a directory's reload.
const PATIENCE: Duration = Duration::from_secs(10);

/// Could not ask.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No daemon listens there, or this user may not ask.
    #[error("cannot ask becalm on {socket}: {source}; is it running, and may this user use the socket?")]
    Connect {
        /// The admin socket.
        socket: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// It hung up or took too long.
    #[error("becalm did not answer: {0}")]
    Io(#[from] std::io::Error),
    /// Not a reply of this version.
    #[error("becalm's answer makes no sense: {0}; do command and daemon have the same version?")]
    Garbled(#[from] serde_json::Error),
    /// The daemon says no.
    #[error("{0}")]
    Refused(String),
}

/// An act upon held mail waits for the helper.
const PATIENCE_FOR_ACTS: Duration = Duration::from_secs(100);

/// Asks the daemon behind `socket`.
pub fn ask(socket: &Path, request: &Request) -> Result<Reply, AskError> {
    let connect = |source| AskError::Connect { socket: socket.to_owned(), source };
    let mut stream = UnixStream::connect(socket).map_err(connect)?;
    let patience = if matches!(request, Request::Act { .. }) { PATIENCE_FOR_ACTS } else { PATIENCE };
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    // A daemon that refuses this user does not wait for the question, but says why.
    let asked = stream.write_all(&line);
    let mut reply = String::new();
    let answered = BufReader::new(stream.take(MAX_REPLY)).read_line(&mut reply);
    if reply.is_empty() {
        asked?;
        answered?;
    }
    match serde_json::from_str(&reply)? {
        Reply::Error { message } => Err(AskError::Refused(message)),
        reply => Ok(reply),
    }
}
