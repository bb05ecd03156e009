//! A load for any milter, by a peer that behaves like Postfix.
//!
//! ```text
//! mail (encoded for what the filter agreed to) ─▶ conversation (sans-IO) ─▶ worker: poll ─▶ wire ─▶ the filter
//! schedule (when a message is due) ──────────────────────────────────────▶ worker ─▶ outcome: counts, latencies
//! ```
//!
//! As Postfix does: macros before each command, everything up to a command that is answered in one go, through a
//! buffer of Postfix's size, ABORT after each message, several messages in a session, QUIT at its end. What a
//! filter does that Postfix would not make sense of is an error here.
//!
//! The load shares the machine with the filter, so it must cost little: mail is encoded beforehand and copied,
//! and a thread looks after many connections. [`process`] says what the filter costs, [`bare`] has filters that
//! do nothing, to measure against.

pub mod bare;
mod conversation;
mod mail;
mod outcome;
pub mod process;
mod schedule;
pub mod spread;
mod wire;
mod worker;

use std::io;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock::Stopwatch;
use crate::milter::Kind;
use crate::milter::mta::{Mta, MtaError, Profile};
use crate::milter::negotiate::Agreed;

pub use self::conversation::Trouble;
pub use self::mail::{Mix, Post, Posts, Shape};
pub use self::outcome::{Fate, Outcome};
pub use self::schedule::{End, Schedule};
pub use self::wire::Address;

use self::mail::Mail;
use self::wire::Wire;
use self::worker::{Shared, Worker};

/// How the mail is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Connections at once, at least 1.
    pub connections: usize,
    /// Messages before a connection is closed and another one opened, at least 1.
    pub messages_per_session: u64,
    /// Messages a second, above 0; `None`: each connection sends the next message when the last is answered.
    pub rate: Option<f64>,
    /// How much.
    pub end: End,
}

/// Why a load ended early.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The filter takes no connection.
    #[error("cannot connect to {address}: {}", explained(source))]
    Connect {
        /// Where.
        address: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The filter closed the connection.
    #[error("the filter closed the connection{}", instead(*after))]
    HungUp {
        /// The command whose answer was due.
        after: Option<Kind>,
    },
    /// The filter does not answer.
    #[error("the filter hangs: no answer to {} within {patience:?}", after.map_or("a connection", conversation::name))]
    Silent {
        /// The command whose answer was due.
        after: Option<Kind>,
        /// How long was waited.
        patience: Duration,
    },
    /// The filter begins an answer, or promises one, and never ends it.
    #[error("the filter stalls: its answer to {} was promised, and is not there after {limit:?}", after.map_or("nothing", conversation::name))]
    Stalls {
        /// The command whose answer was due.
        after: Option<Kind>,
        /// How long was waited.
        limit: Duration,
    },
    /// The filter answers what it may not.
    #[error(transparent)]
    Trouble(#[from] Trouble),
    /// The system refused something.
    #[error("the load cannot go on: {0}")]
    System(#[source] io::Error),
}

impl Failure {
    fn connect(address: &Address, source: io::Error) -> Self {
        Self::Connect { address: address.to_string(), source }
    }
}

/// What it should have done.
fn instead(after: Option<Kind>) -> String {
    match after {
        None => String::new(),
        Some(Kind::Negotiate) => {
            " instead of answering the negotiation; does it take as many connections?".to_owned()
        }
        Some(kind) => format!(" instead of answering {}", conversation::name(kind)),
    }
}

/// What is likely behind it.
fn explained(error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "; there is no such socket: does the filter run?",
        io::ErrorKind::ConnectionRefused => "; nobody listens there: does the filter run?",
        io::ErrorKind::PermissionDenied => {
            "; run as a user who may use the socket (as root, or in its group)"
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "; the filter takes no connections",
        _ => "",
    };
    format!("{error}{hint}")
}

/// Sends mail of one shape to one filter, again and again.
#[derive(Debug)]
pub struct Generator {
    address: Address,
    mta: Mta,
    mail: Mail,
    /// The filter's answer to the negotiation.
    agreed: Vec<u8>,
    peer: Option<u32>,
    patience: Duration,
    /// The next message's number.
    next: AtomicU64,
}

impl Generator {
    /// Learns what the filter wants, and encodes the mail accordingly. A filter that is silent for `patience` has
    /// failed.
    ///
    /// Messages are numbered from `first` on. No number may be used twice for one filter, or a message would be
    /// taken for a retry; they have 16 digits.
    ///
    /// # Errors
    /// When the filter cannot be reached, or does not negotiate as a filter must.
    pub fn new(
        address: Address,
        profile: Profile,
        shape: &Shape,
        patience: Duration,
        first: u64,
    ) -> Result<Self, Failure> {
        let mut mta = Mta::new(profile);
        let mut wire =
            Wire::connect(&address, patience).map_err(|source| Failure::connect(&address, source))?;
        let agreed = negotiate(&mut wire, &mut mta, patience)?;
        let mail = Mail::encode(&mta, shape);
        // A filter that is gone by now is found out about later.
        let _ = wire.write(&mail.quit);
        Ok(Self { address, mta, mail, agreed, peer: wire.peer(), patience, next: AtomicU64::new(first) })
    }

    /// What was agreed.
    pub fn agreed(&self) -> Agreed {
        self.mta.agreed()
    }

    /// The process that listens at a unix socket.
    pub fn peer(&self) -> Option<u32> {
        self.peer
    }

    /// Sends as `load` says. Meanwhile, some times a second, `tick` is called with the time since the start and
    /// the messages that were begun.
    ///
    /// The outcome is there after a failure too.
    pub fn run(&self, load: Load, mut tick: impl FnMut(Duration, u64)) -> (Outcome, Option<Failure>) {
        const TICK: Duration = Duration::from_millis(100);
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let lanes = load.connections.clamp(1, cores);
        let first = self.next.load(Ordering::Relaxed);
        let shared =
            Shared { watch: Stopwatch::start(), begun: AtomicU64::new(0), failed: AtomicBool::new(false) };
        let (sender, receiver) = channel();
        std::thread::scope(|scope| {
            for lane in 0..lanes {
                let (sender, shared) = (sender.clone(), &shared);
                scope.spawn(move || {
                    let ran = match Worker::new(self, load, shared, lane, lanes) {
                        Ok(worker) => worker.run(),
                        Err(failure) => {
                            // Relaxed: nothing else is read because of it.
                            shared.failed.store(true, Ordering::Relaxed);
                            (Outcome::default(), Some(failure))
                        }
                    };
                    // The receiver outlives the threads.
                    let _ = sender.send(ran);
                });
            }
            drop(sender);
            let mut all = Outcome::default();
            let mut failure = None;
            loop {
                match receiver.recv_timeout(TICK) {
                    Ok((outcome, failed)) => {
                        all.add(&outcome);
                        failure = failure.or(failed);
                    }
                    Err(RecvTimeoutError::Timeout) => {
                        let begun = self.next.load(Ordering::Relaxed).saturating_sub(first);
                        tick(shared.watch.elapsed(), begun);
                    }
                    Err(RecvTimeoutError::Disconnected) => return (all, failure),
                }
            }
        })
    }

    /// Relaxed: each number once is all that is asked.
    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// The first exchange; returns the filter's answer as it came.
fn negotiate(wire: &mut Wire, mta: &mut Mta, patience: Duration) -> Result<Vec<u8>, Failure> {
    let after = Some(Kind::Negotiate);
    // A new socket has room for these few bytes.
    wire.write(&mta.negotiate()).map_err(Failure::System)?;
    let watch = Stopwatch::start();
    let mut agreed = Vec::new();
    // One frame; what is longer is refused when its length has come.
    let mut buffer = [0; 4096];
    loop {
        let left = patience.saturating_sub(watch.elapsed());
        let timeout = Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos() as _ };
        let mut descriptors = [PollFd::from_borrowed_fd(wire.as_fd(), PollFlags::IN)];
        match poll(&mut descriptors, Some(&timeout)) {
            Ok(0) => return Err(Failure::Silent { after, patience }),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Failure::System(error.into())),
        }
        match wire.read(&mut buffer).map_err(Failure::System)? {
            None => continue,
            Some(0) => return Err(Failure::HungUp { after }),
            Some(read) => agreed.extend_from_slice(buffer.get(..read).unwrap_or_default()),
        }
        let answer = mta.on_negotiated(&agreed).map_err(|error: MtaError| Trouble::from(error))?;
        if answer.is_some() {
            return Ok(agreed);
        }
    }
}

#[cfg(test)]
mod tests;
