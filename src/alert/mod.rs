//! Tells people what becalm sees: alerts to operators, once per event and not once per message, and notices to the
//! authors whose mail waits.
//!
//! ```text
//! storms begin and end ──▶ watch ── Alert ──▶ post ──▶ way: webhook, command, mail     a thread and a bounded
//! once a second: facts ──▶   │                  ▲                                     queue for each way
//! a held message ────────▶ notice ── Notice ────┘
//! ```
//!
//! [`watch`], [`notice`], [`letter`] and [`settings`] decide and do no I/O; [`post`] and [`way`] deliver. Nothing here
//! is ever waited for by a verdict.

pub mod letter;
pub mod notice;
pub mod post;
pub mod settings;
pub mod watch;
pub mod way;

use serde::{Deserialize, Serialize};

use crate::journal::event::rfc3339;
use crate::time::Timestamp;

/// What an alert is about; the names are those of `events` in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A storm was declared.
    StormStarted,
    /// An open storm has grown tenfold since the last alert about it.
    StormGrowing,
    /// A storm is over.
    StormEnded,
    /// Held mail has reached half of a limit, or a limit.
    Held,
    /// A source of the directory cannot be read, or is not believed.
    Directory,
    /// Mail passes without being judged, or no mail comes any more.
    Unjudged,
    /// The journal or a helper does not work.
    Degraded,
    /// Many different people suddenly write to an address that no source knows.
    PossibleList,
    /// Something that was alerted of has an end.
    Recovered,
    /// Somebody wants to know whether alerts arrive.
    Test,
}

impl Kind {
    /// Those that a way can be limited to.
    pub const ALL: [Self; 9] = [
        Self::StormStarted,
        Self::StormGrowing,
        Self::StormEnded,
        Self::Held,
        Self::Directory,
        Self::Unjudged,
        Self::Degraded,
        Self::PossibleList,
        Self::Recovered,
    ];

    /// As the configuration and the JSON object name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StormStarted => "storm_started",
            Self::StormGrowing => "storm_growing",
            Self::StormEnded => "storm_ended",
            Self::Held => "held",
            Self::Directory => "directory",
            Self::Unjudged => "unjudged",
            Self::Degraded => "degraded",
            Self::PossibleList => "possible_list",
            Self::Recovered => "recovered",
            Self::Test => "test",
        }
    }
}

/// How urgent it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look today.
    Warning,
    /// Somebody should look now.
    Critical,
}

impl Severity {
    /// As in the JSON object.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One alert. As JSON this is what webhooks and commands get: every key is always there, null where it says nothing;
/// keys may be added, none changes its meaning while `v` is 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// Version of this object.
    pub v: u8,
    /// The same for every attempt to deliver it, different for every alert.
    pub id: String,
    /// What it is about.
    pub event: Kind,
    /// Of `recovered`: what has an end.
    pub recovers: Option<Kind>,
    /// How urgent it is.
    pub severity: Severity,
    /// When it happened.
    #[serde(serialize_with = "rfc3339")]
    pub at: Timestamp,
    /// The node that tells.
    pub node: String,
    /// One line.
    pub title: String,
    /// Some lines for a person; the first is the title.
    pub text: String,
    /// The storm.
    pub storm: Option<String>,
    /// The list, or the address that looks like one.
    pub list: Option<String>,
    /// Mailboxes that a message to the list reaches.
    pub members: Option<u64>,
    /// False: the list is only observed, and nothing was held.
    pub enforced: Option<bool>,
    /// Messages held (or that would have been).
    pub held: Option<u64>,
    /// The copies they stand for.
    pub copies_held: Option<u64>,
    /// Messages that passed while the storm was open.
    pub delivered: Option<u64>,
    /// The limit, the source, the helper or whatever else it is about.
    pub about: Option<String>,
}

impl Alert {
    /// One with nothing but what every alert has.
    pub fn new(event: Kind, severity: Severity, at: Timestamp, node: &str, id: String) -> Self {
        Self {
            v: 1,
            id,
            event,
            recovers: None,
            severity,
            at,
            node: node.to_owned(),
            title: String::new(),
            text: String::new(),
            storm: None,
            list: None,
            members: None,
            enforced: None,
            held: None,
            copies_held: None,
            delivered: None,
            about: None,
        }
    }

    /// For `becalm alert test`.
    pub fn test(at: Timestamp, node: &str) -> Self {
        let id = format!("{node}-test-{:x}", at.as_millis());
        Self::new(Kind::Test, Severity::Info, at, node, id)
            .says("becalm: a test alert", "Somebody ran `becalm alert test`. Nothing has happened.")
    }

    /// With words: the title, and what comes after it.
    pub(crate) fn says(mut self, title: &str, more: &str) -> Self {
        self.title = title.to_owned();
        self.text = if more.is_empty() { title.to_owned() } else { format!("{title}\n{more}") };
        self
    }
}
