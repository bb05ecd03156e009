//! The side of the one who takes over.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::link::Link;
use super::wire::{self, Frame, Message, OLDEST, PROTOCOL};
use super::{is_trusted, socket_path};
use crate::admin::api::{Reply, Request};
use crate::admin::client::{self, AskError};
use crate::config::Config;
use crate::daemon::listen::{Listener, Sockets};
use crate::daemon::shared::Shared;
use crate::journal::record::Record;

/// The old one writes its journal to the end before it answers: five seconds at most, then it lets go all the same.
const PATIENCE: Duration = Duration::from_secs(20);

/// Everything that is known: a record for each conversation (16,777,216 at most), and far fewer others.
const MOST_RECORDS: usize = 20_000_000;

/// Why it cannot take over. The one that runs goes on, and nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// A becalm runs that does not listen where it should.
    #[error(
        "becalm {version} runs, but takes no takeovers ({source}: {path}): it is too old, or could not make that \
         socket (see its log). It goes on; to replace it, stop it and start this one"
    )]
    TooOld {
        /// The version of the one that runs.
        version: String,
        /// Where it should listen.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// This user may not connect there.
    #[error(
        "cannot ask the running becalm on {path} to hand over: {source}; run this one as the same user, or as root"
    )]
    Connect {
        /// Where it listens.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Somebody else listens there.
    #[error(
        "user {user} listens on {path}, which is neither this user nor root: nothing is taken from there"
    )]
    Stranger {
        /// Where.
        path: PathBuf,
        /// Who.
        user: u32,
    },
    /// The old one says no.
    #[error("the running becalm does not hand over: {0}")]
    Refused(String),
    /// It answers something else.
    #[error("the running becalm does not answer as it should ({0}); it goes on, and this one ends")]
    Garbled(String),
    /// It changed its mind when this one took connections already.
    #[error("the running becalm gave up waiting for this one: {0}")]
    TakenBack(String),
}

/// What the old one handed over. When it is dropped before [`Taken::link`], the old one goes on.
pub struct Taken {
    /// The old one's process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// This one's generation.
    pub generation: u64,
    /// Its sockets, by name.
    sockets: Vec<(String, OwnedFd)>,
    passed: bool,
    image: Vec<Record>,
    stream: UnixStream,
}

/// Asks the running becalm for its sockets and its journal. None: there is no becalm that runs.
///
/// # Errors
/// See [`TakeoverError`]: this process should end, the old one goes on.
pub fn claim(config: &Config, key: u64) -> Result<Option<Taken>, TakeoverError> {
    let path = socket_path(&config.admin.socket);
    let stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(error) if is_absent(&error) => return absent(config, path, error),
        Err(source) => return Err(TakeoverError::Connect { path, source }),
    };
    if let Err(user) = is_trusted(&stream) {
        return Err(TakeoverError::Stranger { path, user });
    }
    let journal = config.journal.enabled.then(|| config.journal_folder());
    match ask(stream, key, journal) {
        Ok(Some(taken)) => {
            info!(pid = taken.pid, version = taken.version, "taking over from the becalm that runs");
            Ok(Some(taken))
        }
        Ok(None) => {
            warn!("the becalm that was to be taken over has ended meanwhile: starting without it");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn absent(config: &Config, path: PathBuf, source: io::Error) -> Result<Option<Taken>, TakeoverError> {
    let version = match client::ask(&config.admin.socket, &Request::Status {}) {
        Ok(Reply::Status(status)) => Some(status.version),
        Err(AskError::Connect { .. }) => None,
        // Somebody answers, in words of another version.
        Ok(_) | Err(_) => Some("of another version".to_owned()),
    };
    match version {
        Some(version) => Err(TakeoverError::TooOld { version, path, source }),
        None => {
            info!(path = %path.display(), "no becalm runs there: starting without taking over");
            Ok(None)
        }
    }
}

/// None: it ended before it handed anything over.
fn ask(mut stream: UnixStream, key: u64, journal: Option<PathBuf>) -> Result<Option<Taken>, TakeoverError> {
    let hello = Message::Hello {
        protocol: PROTOCOL,
        oldest: OLDEST,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        key,
        journal,
    };
    let prepared =
        stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
    // One that refuses this user does not wait for the question.
    let asked = prepared.and_then(|()| wire::send_with(&mut stream, &hello, &[]));
    let answer = match wire::receive_with(&mut stream) {
        Ok(Some(answer)) => answer,
        Ok(None) => return Ok(None),
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(TakeoverError::Garbled(asked.err().unwrap_or(error).to_string())),
    };
    match answer {
        (
            Frame::Message(Message::Offer {
                version, pid, generation, sockets: names, passed, image, ..
            }),
            sockets,
        ) => {
            if names.len() != sockets.len() {
                let (names, sockets) = (names.len(), sockets.len());
                return Err(TakeoverError::Garbled(format!("{names} sockets are named, {sockets} came")));
            }
            let sockets = names.into_iter().zip(sockets).collect();
            let generation = generation.saturating_add(1);
            let image = match image {
                true => read_image(&mut stream).map_err(|error| TakeoverError::Garbled(error.to_string()))?,
                false => Vec::new(),
            };
            Ok(Some(Taken { pid, version, generation, sockets, passed, image, stream }))
        }
        (Frame::Message(Message::Refused { why }), _) => Err(TakeoverError::Refused(why)),
        (other, _) => Err(TakeoverError::Garbled(format!("{other:?}"))),
    }
}

/// All that the old one knows.
fn read_image(stream: &mut UnixStream) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    while records.len() < MOST_RECORDS {
        match wire::read(stream)? {
            Some(Frame::Record(record)) => records.extend(record),
            Some(Frame::Message(Message::Whole {})) => return Ok(records),
            Some(Frame::Message(_)) => {}
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
    Err(io::Error::other("it knows more than any becalm can"))
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
    )
}

impl Taken {
    /// Its sockets, once.
    ///
    /// # Errors
    /// What it handed over is none.
    pub fn take_sockets(&mut self) -> Result<Sockets, TakeoverError> {
        let listeners = std::mem::take(&mut self.sockets)
            .into_iter()
            .map(|(name, socket)| Listener::from_descriptor(socket, name))
            .collect::<io::Result<_>>()
            .map_err(|error| TakeoverError::Garbled(error.to_string()))?;
        Ok(Sockets { listeners, passed: self.passed })
    }

    /// What it knows beyond what is in the journal, once.
    pub fn take_image(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.image)
    }

    /// From now on both learn what the other judges.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn link(self, shared: &Arc<Shared>) -> io::Result<Link> {
        let (peer, outgoing) = shared.memory.peers().add();
        Link::start(self.stream, peer, outgoing, shared)
    }
}
