//! About the service itself: its routes and refusals, its health, its events, and who used it.

use serde::{Deserialize, Serialize};

use crate::telemetry::counters::Counts;

/// The emergency switch was thrown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observing {
    /// Everything is put to observe.
    pub observing: bool,
    /// What an operator should know.
    pub notes: Vec<String>,
}

/// A test alert was sent by one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// The alert's id, as receivers see it.
    pub id: String,
    /// What became of it: once, or for each recipient of a mail.
    pub results: Vec<TriedPlace>,
}

/// What became of a test alert at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriedPlace {
    /// Where it went; of a URL only the server, for the path may be a secret.
    pub to: String,
    /// Why it was not delivered; none: it was.
    pub error: Option<String>,
}

/// What operators did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AuditLog {
    /// The latest first, each as it stands in the file: `at`, `user`, and `uid` or (over TCP) `peer`; then `act`
    /// with `asked` or `done`, or `storms` with what was decided or what came of it.
    pub entries: Vec<serde_json::Value>,
    /// Lines among them that are no entries.
    pub damaged: usize,
}

/// Figures of the event stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulse {
    /// The time by the daemon's clock, RFC 3339.
    pub now: String,
    /// Counts since the start.
    pub counts: Counts,
    /// Held messages.
    pub held: u64,
    /// Milter connections now.
    pub connections: usize,
    /// Lists in a storm now.
    pub storms: usize,
}

impl Pulse {
    /// Has nothing happened but the passing of time?
    pub fn same_but_for_time(&self, other: &Self) -> bool {
        let Self { now: _, counts, held, connections, storms } = other;
        (&self.counts, self.held, self.connections, self.storms) == (counts, *held, *connections, *storms)
    }
}

/// Events that were left out of the event stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// So many.
    pub count: u64,
}

/// The process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// It does.
    pub alive: bool,
}

/// Does it serve?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// It takes milter sessions.
    pub ready: bool,
    /// Why not: `starting`, `draining`, `no_listeners`.
    pub reasons: Vec<String>,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routes {
    /// Each route.
    pub routes: Vec<RouteInfo>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteInfo {
    /// `GET` to look, `POST` to act.
    pub method: String,
    /// Its path.
    pub path: String,
    /// Who may: `open` (everybody who can connect), `read`, `act`.
    pub access: String,
    /// What it is for.
    pub about: String,
    /// The type of its query, or of its body.
    pub takes: String,
    /// The type of its answer.
    pub answers: String,
}

/// Every refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was wrong.
    pub error: ErrorInfo,
}

/// What was wrong with a request, or went wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorInfo {
    /// For programs: a word that stays the same.
    pub code: String,
    /// For a person.
    pub message: String,
}
