//! The words of the API. The command line prints these very types with `--json`; the reference
//! (`docs/api.md`) has their fields with the comments that stand here.

mod requests;
mod service;

use serde::{Deserialize, Serialize};

pub use self::requests::{
    Act, Decision, EndStorm, Ids, MAX_ACTS, Nothing, Observe, ProbeTicket, PublicQuery, Request, Selection,
    StartProbe, StartStorm, TryWay, WhichAudit, WhichTimeline,
};
pub use self::service::{
    Alive, AuditLog, ErrorInfo, Failure, Missed, Observing, Pulse, Readiness, RouteInfo, Routes, Tried,
    TriedPlace,
};

use crate::telemetry::counters::Counts;

/// The daemon's answer, as the command line prints it with `--json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// To `status`.
    Status(Box<Status>),
    /// To `lists`.
    Lists(Lists),
    /// To `storms`.
    Storms(Storms),
    /// To `quarantine`.
    Quarantine(Quarantine),
    /// To `act`.
    Acted(Acted),
    /// To decisions about storms.
    ByHand(ByHand),
    /// To `observe`.
    Observing(Observing),
}

/// What was done with a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ByHand {
    /// The list; none: a storm among many recipients was ended.
    pub list: Option<String>,
    /// The storm that was opened or ended, or is open anyway.
    pub storm: Option<String>,
    /// Until when it is closed, RFC 3339; none: it is open.
    pub until: Option<String>,
    /// What an operator should know.
    pub notes: Vec<String>,
}

/// How the daemon is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// becalm's version.
    pub version: String,
    /// This node's name.
    pub node: String,
    /// The time by the daemon's clock, RFC 3339.
    pub now: String,
    /// When it started, RFC 3339.
    pub started: String,
    /// Its process.
    #[serde(default)]
    pub pid: u32,
    /// 1, and one more with each takeover.
    #[serde(default)]
    pub generation: u64,
    /// The one that it took over from, while that one still has sessions.
    pub before: Option<Predecessor>,
    /// The one that took over from it.
    pub after: Option<Successor>,
    /// Everything is put to observe.
    pub observing: bool,
    /// It takes no new sessions any more.
    pub draining: bool,
    /// It refuses watched mail for now: it will have ended before long.
    #[serde(default)]
    pub refusing: bool,
    /// The configuration file in force; none: defaults.
    pub config: Option<String>,
    /// The last reload: `ok`, or why it changed nothing; none: there was none.
    pub reload: Option<String>,
    /// Whether its process can write to its own folders alone: `full`, `partial`, or `none` and why.
    #[serde(default)]
    pub sandbox: String,
    /// Where it listens.
    pub listening: Vec<String>,
    /// Milter connections now.
    pub connections: usize,
    /// Milter connections at most.
    pub max_connections: usize,
    /// Counts since the start.
    pub counts: Counts,
    /// Lines of this process's log that are lost: nobody took them in time.
    #[serde(default)]
    pub log_lines_lost: u64,
    /// Seconds since the last message's DATA, or since the start where none has come.
    #[serde(default)]
    pub last_message_s: u64,
    /// Lists known.
    pub lists: usize,
    /// Lists in a storm now.
    pub storms: usize,
    /// Lists cooling after one.
    pub cooling: usize,
    /// Sources of the directory.
    pub sources: Vec<Source>,
    /// The bounded tables.
    pub tables: Vec<TableUse>,
    /// What is remembered only until the process ends.
    pub memory_only: bool,
    /// What outlives it.
    pub journal: Journal,
    /// Held mail.
    pub quarantine: QuarantineState,
    /// The ways that alerts go.
    #[serde(default)]
    pub alerts: Vec<WayState>,
}

/// A way that alerts go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayState {
    /// Its name.
    pub way: String,
    /// Alerts that wait to be delivered.
    pub waiting: u64,
    /// Alerts that were dropped because too many waited, since the start.
    pub dropped: u64,
    /// Why the last attempt failed; none: it did not, or there was none.
    pub failing: Option<String>,
}

/// A becalm that was taken over and finishes its sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predecessor {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// When it was taken over, RFC 3339.
    pub since: String,
    /// Its milter connections, those of others before it included.
    pub sessions: usize,
    /// It refuses watched mail for now, to be sent to the one that took over.
    pub refusing: bool,
}

/// The becalm that took over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Successor {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// When it took over, RFC 3339.
    pub since: String,
}

/// The journal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Journal {
    /// Its folder; none: the configuration turns it off.
    pub folder: Option<String>,
    /// `ok`, `degraded`, `off`, or `handed over` (another becalm writes it now).
    pub state: String,
    /// Why it is degraded.
    pub why: Option<String>,
    /// Since when, RFC 3339.
    pub since: Option<String>,
    /// Events that are safe on the disk, since the start.
    pub written: u64,
    /// Events that are not there yet.
    pub waiting: u64,
    /// Events that were dropped, since the start: the disk was full, failed, or too slow.
    pub dropped: u64,
    /// For how long some have been waiting, in milliseconds.
    pub lag_ms: u64,
    /// Files with events.
    pub segments: u64,
    /// Their size, in bytes.
    pub bytes: u64,
    /// When the last checkpoint was made, RFC 3339; none: not since the start.
    pub checkpoint: Option<String>,
    /// What was read at the start.
    pub recalled: Recalled,
}

/// What was read from the journal at the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recalled {
    /// Pieces of the checkpoint, and events since.
    pub records: u64,
    /// Of these, events since.
    pub events: u64,
    /// Places with damage, which were passed over.
    pub damaged: u64,
    /// Bytes that a crash tore off.
    pub torn: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What was odd.
    pub remarks: Vec<String>,
}

/// Held mail, in sum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuarantineState {
    /// Messages.
    pub held: u64,
    /// The copies they stand for.
    pub copies: u64,
    /// Their bytes; estimated for the latest.
    pub bytes: u64,
    /// Those that will go by themselves.
    pub waiting: u64,
    /// Since when the oldest is held, RFC 3339.
    pub oldest: Option<String>,
    /// For how long that has been, in seconds.
    #[serde(default)]
    pub oldest_age_s: Option<u64>,
    /// Messages at most.
    pub max_count: u64,
    /// Bytes at most.
    pub max_bytes: u64,
    /// At this age they are returned, in seconds.
    pub max_age_s: u64,
    /// Why nothing more is held: `max_count`, `max_bytes`, `disk`.
    pub full: Option<String>,
    /// Free bytes on the disk of Postfix's queue.
    pub free_bytes: Option<u64>,
    /// Messages on hold that are not becalm's.
    pub others: u64,
    /// When the hold queue was last looked at, RFC 3339.
    pub reconciled: Option<String>,
    /// The helpers, one for each Postfix.
    pub helpers: Vec<HelperState>,
}

/// A helper, as the daemon last met it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HelperState {
    /// Its socket.
    pub socket: String,
    /// `ok`, `down`, `not asked yet`.
    pub state: String,
    /// Since when it is down, RFC 3339.
    pub since: Option<String>,
    /// Why.
    pub error: Option<String>,
    /// The version of its Postfix.
    pub postfix: Option<String>,
}

/// A source of the directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// A file, or the configuration.
    pub name: String,
    /// Lists it names.
    pub lists: u64,
    /// Members it names.
    pub members: u64,
    /// When it was read, RFC 3339.
    pub read_at: String,
    /// Age of what was read, in seconds.
    pub age_s: u64,
    /// Why its last good content is still in use.
    pub stale: Option<String>,
    /// What was odd about it.
    pub warnings: Vec<String>,
}

/// Occupancy of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableUse {
    /// What it keeps.
    pub name: String,
    /// Places taken.
    pub occupied: usize,
    /// Places.
    pub capacity: usize,
    /// Entries that had to go for others.
    pub evictions: u64,
    /// Entries that found no place.
    pub refused: u64,
    /// Memory; taken at start, but for storms without a list, which take it as they come.
    pub bytes: usize,
}

/// The lists, the largest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lists {
    /// Each list.
    pub lists: Vec<ListInfo>,
}

/// A list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListInfo {
    /// Its address.
    pub address: String,
    /// Other addresses that lead to it and nowhere else.
    #[serde(default)]
    pub names: Vec<String>,
    /// Mailboxes it reaches.
    pub members: u64,
    /// Its class.
    pub class: Option<String>,
    /// What is done with a storm's mail.
    pub mode: String,
    /// A list for emergencies.
    pub never_hold: bool,
    /// Where it came from.
    pub origin: String,
    /// `calm`, `storm` or `cooling`.
    pub phase: String,
    /// What an operator should know: it has no history yet, its tests are limited.
    pub note: Option<String>,
}

/// Storms and suspicions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Storms {
    /// Lists that are in a storm or cool after one.
    pub open: Vec<OpenList>,
    /// Storms since the start, the latest first.
    pub storms: Vec<StormRecord>,
    /// Messages under suspicion that wait, the latest first; at most 1,000.
    pub suspicions: Vec<HeldInfo>,
}

/// A list that is not calm, or a storm among many recipients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenList {
    /// The list's address; none: many recipients.
    pub list: Option<String>,
    /// Mailboxes it reaches.
    pub members: u64,
    /// `storm` or `cooling`.
    pub phase: String,
    /// The storm's name.
    pub storm: Option<String>,
    /// Since when there is a storm, or until when the list cools; RFC 3339.
    pub time: String,
    /// Until when an operator wants it closed at least, RFC 3339.
    pub closed_until: Option<String>,
    /// The last message that was stopped.
    pub last_attempt: String,
    /// Messages stopped; where `mode` is `observe`, those that would have been, and passed.
    pub held: u64,
    /// Their copies.
    pub copies_held: u64,
    /// Messages that the rule let pass.
    pub delivered: u64,
    /// Their copies.
    #[serde(default)]
    pub copies_delivered: u64,
    /// What is done with its mail; `observe` too where the list, or at present any, is never held.
    #[serde(default)]
    pub mode: String,
}

impl OpenList {
    /// Its mail passes, whatever the rule says.
    pub fn is_observed(&self) -> bool {
        self.mode == "observe"
    }
}

/// A storm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StormRecord {
    /// Its name, as in the header of its mail.
    pub storm: String,
    /// The list; none: a message to many recipients.
    pub list: Option<String>,
    /// Mailboxes that a message reaches.
    pub members: u64,
    /// What tripped.
    pub trigger: String,
    /// RFC 3339.
    pub started: String,
    /// RFC 3339; none while it lasts.
    pub ended: Option<String>,
    /// Messages stopped, once it has ended; of a list that was only observed, those that would have been, and passed.
    pub held: u64,
    /// Their copies.
    pub copies_held: u64,
    /// Messages passed while it lasted.
    pub delivered: u64,
    /// Messages that had passed before it was declared, and were put on hold in Postfix's queue.
    #[serde(default)]
    pub clawed_back: u64,
    /// Copies of these that were still to be made.
    #[serde(default)]
    pub copies_clawed_back: u64,
}

/// A message that is held, or would be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldInfo {
    /// Postfix's queue id.
    pub queue_id: String,
    /// The list.
    pub list: Option<String>,
    /// Who wrote it.
    pub author: Option<String>,
    /// Why: `suspicion`, `storm`, `automatic`, `limit`, `by_hand`, `clawed_back`.
    pub reason: String,
    /// The storm it belongs to.
    pub storm: Option<String>,
    /// Mailboxes that it would reach.
    pub copies: u64,
    /// Bytes; none until the queue was looked at.
    pub size: Option<u64>,
    /// RFC 3339.
    pub since: String,
    /// When it would go, RFC 3339; none: a storm came of it, it stays.
    pub until: Option<String>,
    /// False: the list is only observed, the message was delivered.
    pub held: bool,
    /// Why becalm does not act upon it by itself any more.
    pub trouble: Option<String>,
}

/// Held messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quarantine {
    /// The oldest first.
    pub messages: Vec<HeldInfo>,
    /// Where there are more: `after` for the next request.
    #[serde(default)]
    pub next: Option<String>,
    /// How many fit, those of other pages included.
    #[serde(default)]
    pub total: u64,
    /// The copies that all of them stand for.
    #[serde(default)]
    pub copies: u64,
}

/// What was done. What is in neither list was not come to: ask again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Acted {
    /// Queue ids of the messages that it was done with.
    pub done: Vec<String>,
    /// The others.
    pub failed: Vec<Failed>,
}

/// A message that nothing was done with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// Its queue id.
    pub id: String,
    /// Why, for a person.
    pub reason: String,
}

/// What is near a storm, and none: half of what trips, or more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nears {
    /// The time by the daemon's clock, RFC 3339.
    pub now: String,
    /// The nearest first; at most 200.
    pub near: Vec<Near>,
    /// How many there are.
    pub total: usize,
}

/// A list or a conversation at half of what trips, or more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Near {
    /// The list; none: a message to many recipients.
    pub list: Option<String>,
    /// Mailboxes that a message reaches.
    pub members: u64,
    /// A name for the conversation that tells it from others (its subject is not kept); none: the list's
    /// conversations together.
    pub conversation: Option<String>,
    /// What is near to tripping: `conversation_newcomers`, `conversation_authors`, `list_newcomers`, `rekindled`.
    pub test: String,
    /// People it counts within the window: newcomers, or (`conversation_authors`) authors of any kind.
    pub people: u32,
    /// So many are a storm.
    pub threshold: u32,
    /// The first of their posts within the window, RFC 3339.
    pub since: String,
    /// Copies that these posts cost so far.
    pub copies: u64,
    /// Copies it would come to within the next hour if it went on at this pace and nobody stopped it.
    pub projected_copies: u64,
}

/// The last six hours at most, minute by minute: one number a minute in each list, the first is the minute of
/// `from`. Known since the start of this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// The time by the daemon's clock, RFC 3339.
    pub now: String,
    /// The beginning of the first minute, RFC 3339.
    pub from: String,
    /// Seconds from one number to the next.
    pub step_s: u64,
    /// Messages.
    pub messages: Vec<u64>,
    /// Of these, messages whose headers were read.
    pub watched: Vec<u64>,
    /// Messages put on hold.
    pub held: Vec<u64>,
    /// Copies of watched messages that were let through.
    pub copies_passed: Vec<u64>,
    /// Copies of watched messages that were stopped.
    pub copies_prevented: Vec<u64>,
    /// Lists in a storm, at most at a time.
    pub storms: Vec<u64>,
    /// What happened, in order of time; the latest 200.
    pub marks: Vec<Mark>,
}

/// Something that happened at one moment of the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When, RFC 3339.
    pub at: String,
    /// What.
    pub kind: MarkKind,
    /// The storm.
    pub storm: Option<String>,
    /// Its list.
    pub list: Option<String>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkKind {
    /// This becalm was started.
    Started,
    /// A storm was declared.
    StormStarted,
    /// A storm was over.
    StormEnded,
}
