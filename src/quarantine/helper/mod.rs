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
use std::time::{Duration, SystemTime};

use tracing::{debug, info, warn};

use super::keyfile;
use super::mark::{self, Mark, Marker};
use super::protocol::{HeldMail, Hello, MAX_REQUEST, Reason, Recipients, Refusal, Reply, Request, VERSION};
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
    config: PathBuf,
    /// With the time of the main.cf that it was read from.
    instance: Mutex<(Option<SystemTime>, Arc<Instance>)>,
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
        let written = instance::written(&settings.config_directory);
        let instance = Mutex::new((written, Arc::new(Instance::find(&settings.config_directory)?)));
        let listener = socket::open(&settings.socket, user)
            .map_err(|source| HelperError::Socket { path: settings.socket.clone(), source })?;
        let site = Site {
            config: settings.config_directory.clone(),
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
    pub fn postfix(&self) -> (String, String) {
        let instance = self.site.instance();
        (instance.version.clone(), instance.queue.display().to_string())
    }

    /// Are queue ids long? Otherwise it will refuse every act.
    pub fn long_queue_ids(&self) -> bool {
        self.site.instance().long_queue_ids
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
        let instance = self.instance();
        Hello {
            version: VERSION,
            postfix: instance.version.clone(),
            queue_directory: instance.queue.display().to_string(),
            long_queue_ids: instance.long_queue_ids,
            min_free: instance.min_free,
        }
    }

    fn list(&self, writer: &mut impl Write) -> io::Result<()> {
        let instance = self.instance();
        if !instance.long_queue_ids {
            // Nothing of ours would be found: that must not look like an empty queue.
            let message = "enable_long_queue_ids = no in main.cf: held mail cannot be told apart safely; \
                           set it to yes, and reload Postfix";
            return say(writer, &self.refuse(Reason::ShortId, message.to_owned()));
        }
        let marker = match self.marker() {
            Ok(marker) => marker,
            Err(Refusal { reason, message }) => return say(writer, &self.refuse(reason, message)),
        };
        let (mut listed, mut others) = (0, 0);
        let ids = match queue::held(&instance.queue) {
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
            // A list with a hole would look as if somebody had released what is in it.
            let unknown = |error: &dyn std::fmt::Display| {
                self.refuse(Reason::Failed, format!("cannot read {id} in the hold queue: {error}"))
            };
            let file = match queue::open(&path) {
                Ok(Some(file)) => file,
                // What was released meanwhile is neither.
                Ok(None) => continue,
                Err(error) => return say(writer, &unknown(&error)),
            };
            let file = match file.read() {
                Ok(file) => file,
                Err(error) if error.is_unreadable() => return say(writer, &unknown(&error)),
                Err(_) => {
                    others += 1;
                    continue;
                }
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
            Ok(Done { id, said, waits, recipients }) => {
                info!(queue_id = %id, said = said.join(", "), waits, "done");
                Reply::Done { id: id.to_string(), said, waits, recipients }
            }
            Err(Refusal { reason, message }) => self.refuse(reason, message),
        }
    }

    fn try_to_act<'r>(&self, request: &'r Request) -> Result<Done<'r>, Refusal> {
        let (id, verb) = match request {
            Request::Hold(id) => (id, instance::HOLD),
            Request::Release(id) => (id, instance::RELEASE),
            Request::Return(id) | Request::Expire(id, _) => (id, instance::RETURN),
            Request::List => return Err(refusal(Reason::BadRequest, "list is no act")),
        };
        let instance = self.instance();
        if !instance.long_queue_ids {
            return Err(refusal(
                Reason::ShortId,
                "this Postfix gives short queue ids again and again: set enable_long_queue_ids = yes",
            ));
        }
        instance.supports(verb)?;
        let marker = self.marker()?;
        let file = queue::find(&instance.queue, verb.queues, id)
            .map_err(|error| refusal(Reason::Failed, format!("cannot open {id}: {error}")))?;
        let Some(file) = file else {
            let message = format!("no message {id} in {}", verb.queues.join(", "));
            return Err(refusal(Reason::NotFound, message));
        };
        let content = file.read().map_err(|error| {
            let reason = if error.is_unreadable() { Reason::Failed } else { Reason::NotOurs };
            refusal(reason, format!("{id}: {error}"))
        })?;
        let (_, mark) = verified(&marker, &content, id)?;
        let unknown = |error| refusal(Reason::Failed, format!("{id}: {error}"));
        if matches!(request, Request::Hold(_)) {
            let said = instance.postsuper(verb, id)?;
            // The same file, wherever it is now.
            let recipients = file.recipients().map_err(unknown)?;
            if recipients.left == 0 && !file.is_being_delivered() {
                // It was about to be removed. With nobody to deliver it to, the queue manager does that now.
                instance.postsuper(instance::RELEASE, id)?;
                return Err(refusal(Reason::NotFound, format!("all its recipients have {id}")));
            }
            return Ok(Done { id, said, waits: None, recipients: Some(recipients) });
        }
        let recipients = file.recipients().map_err(unknown)?;
        if mark.verdict != "hold" || recipients.reached > 0 {
            return self.act_on_begun(request, id, &file, recipients);
        }
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
        let said = instance.postsuper(verb, id)?;
        let waits = if verb.leaves { instance.deliver(id).err() } else { None };
        Ok(Done { id, said, waits, recipients: None })
    }

    /// Acts upon a message that was put on hold when its delivery may have begun.
    ///
    /// What Postfix does then (read in its source, and seen with 3.7.11): the file leaves the queue at once, delivery
    /// agents that have it open finish and mark their recipients in it as done, and the others find no file and
    /// deliver nothing. But the queue manager still has those others in its memory, and gives them to agents for as
    /// long as its rate and concurrency limits take. Were the file to come back under the same queue id before that
    /// is over, it would be delivered from two memories at once: to somebody twice, or removed before the end.
    /// Nobody can ask the queue manager whether it is over. So such a message comes back by `postsuper -r`, as a new
    /// message with another queue id and those recipients that are left: what the queue manager remembers of the old
    /// one leads nowhere, for ever. A copy for `always_bcc` and the like is made again; no recipient is.
    fn act_on_begun<'r>(
        &self,
        request: &Request,
        id: &'r QueueId,
        file: &queue::Message,
        recipients: Recipients,
    ) -> Result<Done<'r>, Refusal> {
        if !matches!(request, Request::Release(_)) {
            return Err(refusal(
                Reason::Begun,
                format!(
                    "{id} was on its way when it was put on hold, {} of its recipients have it: release it, or \
                     delete it with `postsuper -d {id}`",
                    recipients.reached
                ),
            ));
        }
        if file.is_being_delivered() {
            let message = format!("{id} is still being delivered to somebody: try again in a minute");
            return Err(refusal(Reason::Failed, message));
        }
        let (verb, waits) = match recipients.left {
            // For the queue manager to remove.
            0 => (instance::RELEASE, None),
            _ => (
                instance::REQUEUE,
                Some("pickup(8) takes it up within a minute, under another id".to_owned()),
            ),
        };
        let said = self.instance().postsuper(verb, id)?;
        Ok(Done { id, said, waits, recipients: None })
    }

    /// Postfix as its main.cf says now: it may have been changed since.
    fn instance(&self) -> Arc<Instance> {
        let mut known = self.instance.lock().unwrap_or_else(PoisonError::into_inner);
        let written = instance::written(&self.config);
        if written != known.0 {
            known.0 = written;
            match Instance::find(&self.config) {
                Ok(instance) => {
                    info!(long_queue_ids = instance.long_queue_ids, "main.cf was read anew");
                    known.1 = Arc::new(instance);
                }
                Err(error) => warn!(%error, "main.cf has changed and cannot be read: it counts as it was"),
            }
        }
        Arc::clone(&known.1)
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
            match reason {
                // It was delivered or deleted meanwhile.
                Reason::NotFound => info!(message, more, "refused"),
                _ => warn!(?reason, message, more, "refused"),
            }
        }
        Reply::Refused(refusal(reason, message))
    }

    fn acting(&self) -> MutexGuard<'_, ()> {
        self.acting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was done.
struct Done<'r> {
    id: &'r QueueId,
    said: Vec<String>,
    waits: Option<String>,
    recipients: Option<Recipients>,
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
