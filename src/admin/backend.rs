//! What the HTTP side needs of a daemon. It knows no other side of it.

use std::fmt;
use std::net::SocketAddr;

use tokio::sync::broadcast;

use super::api::{
    Act, Acted, AuditLog, ByHand, Decision, Lists, Nears, Observing, ProbeTicket, PublicQuery, Pulse,
    Quarantine, Selection, StartProbe, Status, Storms, Timeline, Tried,
};
use crate::journal::event::Event;
use crate::telemetry::metrics::Exposition;

/// A running daemon. Its answers may take a moment, and may read or write files, but where it is said otherwise:
/// they are not asked for where that would keep the runtime waiting.
pub trait Backend: Send + Sync + 'static {
    /// How is it?
    fn status(&self) -> Status;

    /// Which lists does it know?
    fn lists(&self) -> Lists;

    /// Which storms and suspicions are there?
    fn storms(&self) -> Storms;

    /// What is near a storm, and none?
    fn near(&self) -> Nears;

    /// What were the last so many minutes like? None: all that are kept.
    ///
    /// # Errors
    /// More minutes than are kept, or none.
    fn timeline(&self, minutes: Option<usize>) -> Result<Timeline, Refusal>;

    /// Which messages are held?
    ///
    /// # Errors
    /// A selection that makes no sense.
    fn quarantine(&self, select: &Selection) -> Result<Quarantine, Refusal>;

    /// Its metrics, as Prometheus reads them.
    fn metrics(&self, exposition: Exposition) -> String;

    /// Releases or returns held messages, and writes down who did.
    ///
    /// # Errors
    /// Nothing was done: it cannot be written down.
    fn act(&self, act: Act, ids: &[String], who: &Who) -> Result<Acted, Refusal>;

    /// Ends a storm, closes a list, and writes down who did.
    ///
    /// # Errors
    /// Nothing was done: there is no such list or storm, or it cannot be written down.
    fn decide(&self, decision: &Decision, who: &Who) -> Result<ByHand, Refusal>;

    /// Makes a token by which a probe of a list is recognised.
    ///
    /// # Errors
    /// What cannot be an address; too many probes at once.
    fn probe(&self, start: &StartProbe) -> Result<ProbeTicket, Refusal>;

    /// The status for everyone. `accept`: the reader's `Accept-Language`.
    ///
    /// # Errors
    /// `query` asks for a language that there is not.
    fn public(&self, query: &PublicQuery, accept: Option<&str>) -> Result<Page, Refusal>;

    /// Throws the emergency switch, and writes down who did.
    ///
    /// # Errors
    /// It stands as it stood.
    fn observe(&self, on: bool, who: &Who) -> Result<Observing, Refusal>;

    /// Sends a test alert by the way of this name, and writes down who wanted it. Takes as long as the way does.
    ///
    /// # Errors
    /// There is no such way; another test is under way; it cannot be written down.
    fn try_way(&self, way: &str, who: &Who) -> Result<Tried, Refusal>;

    /// The latest so many of what operators did.
    ///
    /// # Errors
    /// The log cannot be read, or not so much of it.
    fn audit(&self, limit: Option<usize>) -> Result<AuditLog, Refusal>;

    /// The figures of this moment.
    fn pulse(&self) -> Pulse;

    /// Events from now on.
    fn feed(&self) -> broadcast::Receiver<Event>;

    /// Why it takes no milter sessions: `starting`, `draining`, `no_listeners`. Answers at once.
    fn unready(&self) -> Vec<&'static str>;
}

/// A text with its type and language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `Content-Language`.
    pub language: String,
    /// What it says.
    pub text: String,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// On the unix socket: a user of this machine, as the kernel says.
    User(u32),
    /// On TCP: whoever has the token, and from where.
    Token(SocketAddr),
}

/// For the log of the daemon.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "user {user}"),
            Self::Token(peer) => write!(f, "token, from {peer}"),
        }
    }
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Whose fault it is.
    pub fault: Fault,
    /// For programs: a word that stays the same.
    pub code: &'static str,
    /// For a person.
    pub message: String,
}

/// Whose fault a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request makes no sense.
    Request,
    /// It is about something that is not there.
    Absent,
    /// becalm itself cannot.
    Ours,
}

impl Refusal {
    /// A request that makes no sense.
    pub fn request(code: &'static str, message: impl Into<String>) -> Self {
        Self { fault: Fault::Request, code, message: message.into() }
    }

    /// A request about something that is not there.
    pub fn absent(code: &'static str, message: impl Into<String>) -> Self {
        Self { fault: Fault::Absent, code, message: message.into() }
    }

    /// Something that becalm cannot do.
    pub fn ours(code: &'static str, message: impl Into<String>) -> Self {
        Self { fault: Fault::Ours, code, message: message.into() }
    }
}
