//! What is asked, and what is wanted done.

use serde::{Deserialize, Serialize};

use crate::public::Format;

/// What the command line asks for. Each is one route of the API, see [`crate::admin::client`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// How is the daemon?
    Status {},
    /// Which lists does it know?
    Lists {},
    /// Which storms and suspicions are there?
    Storms {},
    /// End a storm, or close a list.
    Decide(Decision),
    /// Which messages are held?
    Quarantine {
        /// Of these; without any, all.
        select: Selection,
    },
    /// Throw the emergency switch.
    Observe(Observe),
    /// Do something with held messages.
    Act {
        /// What.
        act: Act,
        /// With which: queue ids, at most [`MAX_ACTS`].
        ids: Vec<String>,
    },
}

/// What an operator decides about a storm. The audit log has it in these words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Decision {
    /// End a storm, or a list's cooling.
    EndStorm(EndStorm),
    /// Close a list for newcomers, or one of its conversations for everybody.
    Close(StartStorm),
}

/// Which storm is to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndStorm {
    /// The storm's name, or the list.
    pub which: String,
}

/// Which list is to be probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartProbe {
    /// Its address, as the probe's RCPT will name it.
    pub list: String,
}

/// What a probe says, and is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeTicket {
    /// The envelope sender's local part, or the end of it.
    pub local_part: String,
    /// What stands in the answer, if it comes from this daemon.
    pub proof: String,
    /// Until when it is good, for one message; RFC 3339.
    pub until: String,
    /// The node that will know it.
    pub node: String,
}

/// Which public status is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PublicQuery {
    /// The language; none: by `Accept-Language`.
    pub lang: Option<String>,
    /// `html`, `text` or `json`; none: HTML, and JSON on `/public.json`.
    pub format: Option<Format>,
}

/// What is to be closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartStorm {
    /// The list.
    pub list: String,
    /// The Message-ID of a message of the conversation; none: the whole list.
    #[serde(default)]
    pub conversation: Option<String>,
    /// For so many seconds; 1 to 30 days.
    pub for_s: u64,
    /// For the audit log.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Held messages that something is to be done with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ids {
    /// Queue ids, at most 50.
    pub ids: Vec<String>,
}

/// The emergency switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observe {
    /// true: no mail is touched. false: each list is in its own mode.
    pub on: bool,
}

/// Which way of alerts is to be tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TryWay {
    /// Its name.
    pub way: String,
}

/// How much of the audit log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WhichAudit {
    /// So many entries: 1 to 1,000. Without it 100.
    pub limit: Option<usize>,
}

/// How much of the timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WhichTimeline {
    /// So many of the latest minutes: 1 to 360. Without it all that are kept.
    pub minutes: Option<usize>,
}

/// A route that takes no parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Messages in one request to act: as long as the helper takes for them, the operator's command waits.
pub const MAX_ACTS: usize = 50;

/// What an operator can do with a held message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Let it go to its recipients.
    Release,
    /// Give it back to its sender.
    Return,
}

impl Act {
    /// For logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Return => "return",
        }
    }
}

/// Picks held messages: those that fit everything that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// One of these queue ids, divided by commas; empty: any.
    #[serde(deserialize_with = "divided_by_commas")]
    pub ids: Vec<String>,
    /// Of this storm.
    pub storm: Option<String>,
    /// To this list.
    pub list: Option<String>,
    /// By this author.
    pub author: Option<String>,
    /// Held for this reason: `suspicion`, `storm`, `automatic`, `limit`, `by_hand`, `clawed_back`.
    pub reason: Option<String>,
    /// Held for at least so many seconds.
    pub older_than_s: Option<u64>,
    /// So many at most: 1 to 5,000. Without it 1,000.
    pub limit: Option<usize>,
    /// Those that come after: what the answer before named as `next`.
    pub after: Option<String>,
}

/// Words in one parameter of a query.
fn divided_by_commas<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect())
}
