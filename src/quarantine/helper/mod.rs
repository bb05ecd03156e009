//! The helper: the one part of becalm that runs as root. It acts upon the hold queue of one Postfix, for the
//! daemon alone, and only upon messages that carry becalm's mark.
//!
//! ```text
//! daemon ──unix socket, 0600──▶ peer's user ─▶ request: five verbs, long queue ids
//!                                                  ▼
//!                          queue file: its mark verified with the site's key, at the act
//!                                                  ▼
//!                          postsuper -H|-f|-h - (the id on standard input), then postqueue -i ID
//! ```
//!
//! There is no shell, no environment, no path from the daemon; the programs are those of Postfix's own
//! `command_directory`. One message is acted upon at a time, so that they leave in the order of the requests. The
//! queue is never flushed: `postqueue -i` names the one message that was released.

mod instance;
mod queue;
mod socket;

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{debug, info, warn};

use super::keyfile;
use super::mark::{self, Mark, Marker};
use super::protocol::{HeldMail, Hello, MAX_REQUEST, Reason, Refusal, Reply, Request, VERSION};
use super::queue_file::QueueFile;
use super::queue_id::QueueId;
use crate::account;
use crate::clock::Clock;
use crate::telemetry::gate::Gate;
use crate::time::Timestamp;
use instance::Instance;

/// The daemon has one connection, and another while it starts anew. More are a mistake.
const MAX_CONNECTIONS: usize = 8;

/// A peer that says nothing for so long has gone; the daemon asks at least once in this time, or connects again.
const IDLE: Duration = Duration::from_secs(600);

/// For a peer to take what it asked for.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// Log lines about what was refused, in a minute; beyond that they are counted.
const REFUSALS_A_MINUTE: u32 = 60;

/// What the helper is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Postfix's configuration directory: absolute, and nobody's but root's.
    pub config_directory: PathBuf,
    /// The socket to bind where systemd passes none; its directory is nobody's but root's.
    pub socket: PathBuf,
    /// The user that the daemon runs as: the only one beside root who may ask.
    pub user: String,
    /// The file with the site's key; 32 bytes, written by the daemon.
    pub key: PathBuf,
}

/// Cannot start.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// postsuper works for root alone.
    #[error("the helper acts upon Postfix's queue: it must run as root")]
    NotRoot,
    /// The user of the daemon is not known here.
    #[error("{source}; create the user, or name the daemon's with --user")]
    User {
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Postfix's configuration or programs.
    #[error(transparent)]
    Postfix(#[from] instance::InstanceError),
    /// The socket cannot be had.
    #[error("cannot listen on {path}: {source}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// A helper whose socket is open.
pub struct Helper {
    listener: UnixListener,
    site: Arc<Site>,
}

/// What all its connections share.
struct Site {
    instance: Instance,
    key: PathBuf,
    user: u32,
    clock: Clock,
    /// Held for as long as one act takes: there is one at a time.
    acting: Mutex<()>,
    refusals: Gate,
}

impl Helper {
    /// Looks at Postfix, and takes systemd's socket or binds its own.
    ///
    /// # Errors
    /// Without root, for an unknown user, or where Postfix's files are not as they must be.
    pub fn start(settings: &Settings) -> Result<Self, HelperError> {
        if !rustix::process::geteuid().is_root() {
            return Err(HelperError::NotRoot);
        }
        let user = account::user_id(&settings.user).map_err(|source| HelperError::User { source })?;
        let instance = Instance::find(&settings.config_directory)?;
        let listener = socket::open(&settings.socket, user)
            .map_err(|source| HelperError::Socket { path: settings.socket.clone(), source })?;
        let site = Site {
            instance,
            key: settings.key.clone(),
            user,
            clock: Clock::system(),
            acting: Mutex::new(()),
            refusals: Gate::new(REFUSALS_A_MINUTE),
        };
        Ok(Self { listener, site: Arc::new(site) })
    }

    /// Postfix's version and queue directory, for the log.
    pub fn postfix(&self) -> (&str, String) {
        (&self.site.instance.version, self.site.instance.queue.display().to_string())
    }

    /// Are queue ids long? Otherwise it will refuse every act.
    pub fn long_queue_ids(&self) -> bool {
        self.site.instance.long_queue_ids
    }

    /// Serves for ever. What is being done when the process is ended is done by Postfix's program, whole.
    pub fn serve(self) -> io::Result<()> {
        let places = Arc::new(());
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "cannot take a connection");
                    // Out of descriptors: connections that end give some back.
                    std::thread::sleep(Duration::from_millis(200));
                    continue;
                }
            };
            let place = Arc::clone(&places);
            // One of the references is this function's own.
            let full = Arc::strong_count(&places) > MAX_CONNECTIONS + 1;
            let site = Arc::clone(&self.site);
            let spawned = std::thread::Builder::new().name("becalm-helper".to_owned()).spawn(move || {
                let _place = place;
                if let Err(error) = site.converse(&stream, full) {
                    debug!(%error, "a connection ended");
                }
            });
            if let Err(error) = spawned {
                warn!(%error, "cannot serve a connection");
            }
        }
    }
}

impl Site {
    fn converse(&self, stream: &UnixStream, full: bool) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(WRITE_PATIENCE))?;
        stream.set_read_timeout(Some(IDLE))?;
        let mut writer = BufWriter::new(stream);
        let peer = rustix::net::sockopt::socket_peercred(stream)?.uid.as_raw();
        if peer != 0 && peer != self.user {
            let message = format!("user {peer} may not ask: only the daemon's user ({}) and root", self.user);
            return say(&mut writer, &self.refuse(Reason::Peer, message));
        }
        if full {
            let message = format!("more than {MAX_CONNECTIONS} connections");
            return say(&mut writer, &self.refuse(Reason::Busy, message));
        }
        say(&mut writer, &Reply::Hello(self.hello()))?;
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.by_ref().take(MAX_REQUEST as u64).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(());
            }
            if line.pop_if(|last| *last == b'\n').is_none() {
                // The rest of a line that is too long would be taken for another request.
                let message = format!("a request is a line of less than {MAX_REQUEST} bytes");
                return say(&mut writer, &self.refuse(Reason::BadRequest, message));
            }
            match Request::parse(&line) {
                Ok(Request::List) => self.list(&mut writer)?,
                Ok(request) => say(&mut writer, &self.act(&request))?,
                Err(Refusal { reason, message }) => say(&mut writer, &self.refuse(reason, message))?,
            }
        }
    }

    fn hello(&self) -> Hello {
        let instance = &self.instance;
        Hello {
            version: VERSION,
            postfix: instance.version.clone(),
            queue_directory: instance.queue.display().to_string(),
            long_queue_ids: instance.long_queue_ids,
            min_free: instance.min_free,
        }
    }

    fn list(&self, writer: &mut impl Write) -> io::Result<()> {
        if !self.instance.long_queue_ids {
            // Nothing of ours would be found: that must not look like an empty queue.
            let message = "enable_long_queue_ids = no in main.cf: held mail cannot be told apart safely; \
                           set it to yes, reload Postfix, and restart becalm helper";
            return say(writer, &self.refuse(Reason::ShortId, message.to_owned()));
        }
        let marker = match self.marker() {
            Ok(marker) => marker,
            Err(Refusal { reason, message }) => return say(writer, &self.refuse(reason, message)),
        };
        let (mut listed, mut others) = (0, 0);
        let ids = match queue::held(&self.instance.queue) {
            Ok(found) => {
                others += found.others;
                found.ids
            }
            Err(error) => {
                let message = format!("cannot read the hold queue: {error}");
                return say(writer, &self.refuse(Reason::Failed, message));
            }
        };
        for (id, path) in ids {
            // What was released meanwhile is neither.
            let Some(file) = queue::open(&path) else { continue };
            let Ok(file) = file.read() else {
                others += 1;
                continue;
            };
            match verified(&marker, &file, &id) {
                Ok((mark, _)) => {
                    listed += 1;
                    let QueueFile { sender, recipients, size, .. } = file;
                    let item = HeldMail { id: id.to_string(), mark, sender, recipients, size };
                    writer.write_all(&Reply::Held(item).line())?;
                }
                Err(_) => others += 1,
            }
        }
        say(writer, &Reply::End { listed, others })
    }

    fn act(&self, request: &Request) -> Reply {
        let _one_at_a_time = self.acting();
        match self.try_to_act(request) {
            Ok((id, said, waits)) => {
                info!(queue_id = %id, said = said.join(", "), waits, "done");
                Reply::Done { id: id.to_string(), said, waits }
            }
            Err(Refusal { reason, message }) => self.refuse(reason, message),
        }
    }

    fn try_to_act<'r>(
        &self,
        request: &'r Request,
    ) -> Result<(&'r QueueId, Vec<String>, Option<String>), Refusal> {
        let (id, verb) = match request {
            Request::Hold(id) => (id, instance::HOLD),
            Request::Release(id) => (id, instance::RELEASE),
            Request::Return(id) | Request::Expire(id, _) => (id, instance::RETURN),
            Request::List => return Err(refusal(Reason::BadRequest, "list is no act")),
        };
        if !self.instance.long_queue_ids {
            return Err(refusal(
                Reason::ShortId,
                "this Postfix gives short queue ids again and again: set enable_long_queue_ids = yes",
            ));
        }
        self.instance.supports(verb)?;
        let marker = self.marker()?;
        let file = verb.queues.iter().find_map(|queue| queue::find(&self.instance.queue, queue, id));
        let Some(file) = file else {
            let message = format!("no message {id} in {}", verb.queues.join(", "));
            return Err(refusal(Reason::NotFound, message));
        };
        let content = file.read().map_err(|error| refusal(Reason::NotOurs, format!("{id}: {error}")))?;
        let (_, mark) = verified(&marker, &content, id)?;
        if matches!(request, Request::Return(_) | Request::Expire(..)) && content.sender.is_empty() {
            return Err(refusal(
                Reason::NoSender,
                format!(
                    "{id} has no sender to be returned to: release it, or delete it with `postsuper -d {id}`"
                ),
            ));
        }
        if let Request::Expire(_, seconds) = request {
            let age = self.clock.now().since(mark.at).as_secs();
            if age < *seconds {
                return Err(refusal(Reason::TooYoung, format!("{id} is {age} s old, not {seconds}")));
            }
        }
        let said = self.instance.postsuper(verb, id)?;
        let waits = if verb.leaves { self.instance.deliver(id).err() } else { None };
        Ok((id, said, waits))
    }

    /// With the keys as they are now: the daemon may have made the first after the helper was started, and an
    /// operator another.
    fn marker(&self) -> Result<Marker, Refusal> {
        match keyfile::read_ring(&self.key) {
            // The name of the node is for marks that are made.
            Ok(ring) => Ok(ring.marker("", self.clock.now())),
            Err(error) => {
                let message = format!("cannot read the key {}: {error}", self.key.display());
                Err(refusal(Reason::NoKey, message))
            }
        }
    }

    fn refuse(&self, reason: Reason, message: String) -> Reply {
        let now: Timestamp = self.clock.now();
        if self.refusals.admits(now) {
            let more = self.refusals.take_suppressed();
            warn!(?reason, message, more, "refused");
        }
        Reply::Refused(refusal(reason, message))
    }

    fn acting(&self) -> MutexGuard<'_, ()> {
        self.acting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The message's mark, as text and read, if this site made it for this very message.
fn verified(marker: &Marker, file: &QueueFile, id: &QueueId) -> Result<(String, Mark), Refusal> {
    let ours = file.marks.iter().find_map(|text| {
        let mark = marker.verify(text).filter(|mark| mark.queue_id == id.as_str())?;
        Some((text.clone(), mark))
    });
    ours.ok_or_else(|| match file.marks.first() {
        Some(_) => refusal(
            Reason::Forged,
            format!("the {} field of {id} was not made by this becalm for this message", mark::HEADER),
        ),
        None => refusal(Reason::NotOurs, format!("{id} carries no {} field", mark::HEADER)),
    })
}

fn refusal(reason: Reason, message: impl Into<String>) -> Refusal {
    Refusal { reason, message: message.into() }
}

fn say(writer: &mut impl Write, reply: &Reply) -> io::Result<()> {
    writer.write_all(&reply.line())?;
    writer.flush()
}
