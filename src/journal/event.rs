//! Events: what the engine tells about storms.

use serde::Serialize;

use crate::time::Timestamp;

/// Something that happened once and that somebody will want to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A storm was declared.
    StormStarted {
        /// Name of the storm, as in the header of its mail.
        storm: String,
        /// The list, or none for a message to many recipients.
        list: Option<String>,
        /// Mailboxes it reaches.
        members: u64,
        /// What tripped: `conversation_newcomers`, `conversation_authors`, `list_newcomers`, `rekindled`,
        /// `by_hand`.
        trigger: &'static str,
        /// Newcomers in the conversation within the window.
        newcomers: u32,
        /// Distinct authors in the conversation within the window.
        authors: u32,
        /// Newcomers on the list within the window.
        list_newcomers: u32,
        /// Copies that the counted posts cost within the window: of the conversation or of the list, whichever
        /// is more.
        copies: u64,
        /// When.
        #[serde(serialize_with = "rfc3339")]
        at: Timestamp,
    },
    /// A storm fell quiet; the list is on guard for a while.
    StormEnded {
        /// Name of the storm.
        storm: String,
        /// The list, or none for messages to many recipients.
        list: Option<String>,
        /// Messages that were stopped.
        held: u64,
        /// The copies they would have cost.
        copies_held: u64,
        /// Messages that passed while the storm was open.
        delivered: u64,
        /// When it had been declared.
        #[serde(serialize_with = "rfc3339")]
        since: Timestamp,
        /// When it was found to be over.
        #[serde(serialize_with = "rfc3339")]
        at: Timestamp,
    },
    /// Replies that had passed before their conversation became a storm were found in Postfix's queue, and put on
    /// hold there.
    ClawedBack {
        /// Name of the storm.
        storm: String,
        /// The list, or none for messages to many recipients.
        list: Option<String>,
        /// Messages, of this storm, by now.
        messages: u64,
        /// The copies that were still to be made of them.
        copies: u64,
        /// When.
        #[serde(serialize_with = "rfc3339")]
        at: Timestamp,
    },
    /// Many different people suddenly write to an address that no source knows.
    PossibleList {
        /// The address.
        address: String,
        /// Distinct authors within the window.
        authors: u32,
        /// When.
        #[serde(serialize_with = "rfc3339")]
        at: Timestamp,
    },
}

/// For `serialize_with`: RFC 3339, in UTC.
pub fn rfc3339<S: serde::Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.rfc3339())
}
