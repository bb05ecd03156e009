//! A new becalm in the place of one that runs, without a message that fails.
//!
//! ```text
//! old (takes connections)                        new: configuration, directory and tables are good
//!    │ ◀──────────────────────── hello ───────────────┤
//!  tells the new one from here on what it judges      │
//!  ends its journal                                   │
//!    ├── offer: the listening sockets ──────────────▶ │ reads the journal, goes on with it
//!    │ ◀──────────────────────── accepting ───────────┤ takes connections
//!  takes no more                                      │
//!    ├── stopped ───────────────────────────────────▶ │ admin socket, ready
//!    │ ◀─── what is judged here and there ──────────▶ │
//!  serves its sessions for a while, then refuses      │
//!  watched mail (421), ends with its last session     │
//! ```
//!
//! At every moment one of them holds the listening sockets and takes connections from them. When the new one dies,
//! however late, the old one takes back what it gave; when the old one dies, the new one goes on alone. A
//! connection that waits in a socket's queue is taken by either.
//!
//! `wire` is what they say, `link` how they stay in touch, `claim` the new one's side, `handover` the old one's.

mod claim;
mod handover;
mod link;
mod wire;

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

pub use claim::{Taken, TakeoverError, claim};
pub use handover::{Claim, serve};
pub use link::{Link, Peer, Peers};
pub use wire::Message;

use super::shared::Shared;
use crate::admin::api::{Predecessor, Successor};
use crate::journal::event::Event;
use crate::journal::record::Record;
use crate::time::Timestamp;

/// For the old one to stop accepting. It does so at once, unless it hangs; then it takes no connections either.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// The socket for takeovers: beside the admin socket, `admin.sock` and `admin.takeover`.
pub fn socket_path(admin: &Path) -> PathBuf {
    admin.with_extension("takeover")
}

/// Whether the other end of a connection is root, or the user of this process; else the user that it is.
fn is_trusted(stream: &UnixStream) -> Result<(), u32> {
    // Only a socket that is not connected has no such user: nobody.
    let user = rustix::net::sockopt::socket_peercred(stream).map_or(u32::MAX, |peer| peer.uid.as_raw());
    let own = rustix::process::geteuid().as_raw();
    if user == 0 || user == own { Ok(()) } else { Err(user) }
}

/// Those who were before this process, and who come after it.
pub struct Kin {
    generation: u64,
    passed: bool,
    /// The one that this one took over from, until it ends.
    before: watch::Sender<Option<Predecessor>>,
    before_peer: Mutex<Option<Arc<Peer>>>,
    /// The one that took over from this one.
    after: Mutex<Option<Successor>>,
}

impl Kin {
    /// For a process that took over, or the first of its line. `passed`: its sockets came from systemd.
    pub fn new(taken: Option<&Taken>, passed: bool, now: Timestamp) -> Self {
        let before = taken.map(|taken| Predecessor {
            pid: taken.pid,
            version: taken.version.clone(),
            since: now.rfc3339(),
            sessions: 0,
            refusing: false,
        });
        Self {
            generation: taken.map_or(1, |taken| taken.generation),
            passed,
            before: watch::Sender::new(before),
            before_peer: Mutex::default(),
            after: Mutex::default(),
        }
    }

    /// 1, and one more with each takeover.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Did the sockets come from systemd?
    pub fn sockets_passed(&self) -> bool {
        self.passed
    }

    /// For `becalm status`.
    pub fn before(&self) -> Option<Predecessor> {
        self.before.borrow().clone()
    }

    /// For `becalm status`.
    pub fn after(&self) -> Option<Successor> {
        self.after.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another took over, or (none) is dead.
    pub fn set_after(&self, after: Option<Successor>) {
        *self.after.lock().unwrap_or_else(PoisonError::into_inner) = after;
    }

    /// Sessions of those before this one.
    pub fn sessions_before(&self) -> usize {
        self.before.borrow().as_ref().map_or(0, |before| before.sessions)
    }

    /// Waits until nobody before this one judges any more: what they judge reaches others by this process alone.
    pub async fn wait_until_alone(&self) {
        let mut before = self.before.subscribe();
        // The sender is this very value: it cannot be gone.
        let _ = before.wait_for(|before| before.as_ref().is_none_or(|before| before.refusing)).await;
    }

    /// The one before need not stand in for this one any more: it ends in order, or has been taken over itself.
    pub fn settle(&self) {
        let peer = self.before_peer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if peer.is_some_and(|peer| !peer.say(Message::Settled {})) {
            warn!("the becalm before this one does not read");
        }
    }

    /// Tells the old one to stop accepting, and waits until it has.
    ///
    /// # Errors
    /// It has given up waiting and goes on: this process is to end.
    pub async fn confirm(self: &Arc<Self>, mut link: Link) -> Result<(), TakeoverError> {
        *self.before_peer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&link.peer));
        link.peer.say(Message::Accepting {});
        let stopped = async {
            loop {
                match link.messages.recv().await {
                    Some(Message::Stopped {}) => return Ok(true),
                    Some(Message::Refused { why }) => return Err(TakeoverError::TakenBack(why)),
                    Some(_) => {}
                    None => return Ok(false),
                }
            }
        };
        match tokio::time::timeout(STOP_PATIENCE, stopped).await {
            Ok(Err(error)) => {
                self.forget_before();
                return Err(error);
            }
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => warn!("the becalm before this one has ended at once: its sessions are lost"),
            Err(_) => warn!("the becalm before this one does not answer; this one goes on without it"),
        }
        let kin = Arc::clone(self);
        tokio::spawn(async move { kin.follow(link).await });
        Ok(())
    }

    /// Hears of the one before until it ends.
    async fn follow(&self, mut link: Link) {
        while let Some(message) = link.messages.recv().await {
            if let Message::Sessions { open, refusing } = message {
                self.before.send_modify(|before| {
                    if let Some(before) = before {
                        (before.sessions, before.refusing) = (open, refusing);
                    }
                });
            }
        }
        if let Some(before) = self.forget_before() {
            info!(pid = before.pid, "the becalm before this one has ended");
        }
    }

    fn forget_before(&self) -> Option<Predecessor> {
        self.before_peer.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.before.send_replace(None)
    }
}

impl Shared {
    /// Takes in what another becalm on this machine judged: as if it had been judged here, but told to nobody twice.
    pub fn learn(&self, record: Record, from: &Peer) {
        self.engine.apply(&record, self.clock.now());
        if let Some(Event::StormStarted { list, storm, .. }) = &self.recall(&record) {
            self.ledger.keep_held(list.as_deref(), storm);
        }
        self.memory.keep_from(record, from);
    }
}
