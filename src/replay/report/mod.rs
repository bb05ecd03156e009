//! What a replay found, as data: the views (text, JSON, HTML) only read it.
//!
//! Every collection in it is bounded, however long the mail: what is beyond is counted in [`Report::left_out`].

pub mod html;
pub mod words;

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::journal::event::rfc3339;
use crate::time::Timestamp;

/// What one policy would have made of the mail. Its JSON is one object.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Whose rule: `becalm`, or the name of another.
    pub policy: String,
    /// Messages read and played.
    pub messages: u64,
    /// Of these, messages to a list, or to so many recipients that they are watched.
    pub list_messages: u64,
    /// Conversations among them, each list's for itself.
    pub conversations: u64,
    /// In order of their beginning; at most [`MAX_EPISODES`].
    pub storms: Vec<StormReport>,
    /// Times of suspicion, in order of their beginning; at most [`MAX_EPISODES`].
    pub suspicions: Vec<SuspicionReport>,
    /// Peaks of half the threshold or more that did not trip; at most [`MAX_EPISODES`].
    pub near_storms: Vec<NearStorm>,
    /// Lists that had mail, the busiest first; at most [`MAX_LISTS`].
    pub lists: Vec<ListReport>,
    /// Held on suspicion and released by themselves.
    pub messages_delayed: u64,
    /// Of the delays of those messages, the one that 99 of 100 do not exceed: seconds; 0 where none was delayed.
    pub delay_p99_s: f64,
    /// The longest of these delays, in seconds.
    pub delay_max_s: f64,
    /// Stopped and not released by themselves.
    pub messages_held_for_good: u64,
    /// The same by what the policy does with them: `hold`, `defer`, `reject`, `discard`, `strip`. A client whose
    /// message is deferred tries again: how often and when is not played. Empty for rules that are not becalm's.
    pub stopped_by_action: BTreeMap<String, u64>,
    /// Of `messages_held_for_good`, those that a rate limit stopped, and no storm.
    pub messages_over_limit: u64,
    /// Is it becalm's rule? Others have no near-storms, peaks and quietest thresholds.
    #[serde(skip)]
    pub is_becalms: bool,
    /// Mailboxes reached by what was let through.
    pub copies_with: u64,
    /// Mailboxes that everything would have reached without a filter.
    pub copies_without: u64,
    /// The first and the last message's time; none without mail.
    #[serde(serialize_with = "optional_rfc3339")]
    pub first: Option<Timestamp>,
    /// See `first`.
    #[serde(serialize_with = "optional_rfc3339")]
    pub last: Option<Timestamp>,
    /// Messages that came so late in their mbox that they were played at the latest time seen.
    pub out_of_order: u64,
    /// What was not played, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Messages that were played without the rest of their headers, which were longer than Postfix takes.
    pub headers_cut: u64,
    /// Of the whole mail first, then of each storm (see [`Timeline::storm`]).
    pub timelines: Vec<Timeline>,
    /// Storms, suspicions, near-storms and lists that were found but are not in the report, all together.
    pub left_out: u64,
}

/// Of so many messages one may come out of order; where more do, the mail is in no order of arrival.
const DISORDER: u64 = 100;

impl Report {
    /// Where so much was out of order that the result is none: that, and what to do, in two sentences.
    pub fn disorder(&self) -> Option<[String; 2]> {
        let is_disordered = self.out_of_order.saturating_mul(DISORDER) > self.messages;
        is_disordered.then(|| {
            let (late, all) = (words::count(self.out_of_order), words::many(self.messages, "message", "messages"));
            [
                format!(
                    "The order of the mail is wrong: {late} of {all} came so late that they were played at another \
                     time than their own. The result cannot be trusted."
                ),
                "An mbox must have the oldest first; a folder with one message a file is sorted: give it with --folder."
                    .to_owned(),
            ]
        })
    }

    /// Where there was nothing to play: that, and why, in two sentences.
    pub fn nothing(&self) -> Option<[String; 2]> {
        if self.messages > 0 {
            return None;
        }
        let reasons: Vec<String> = self
            .skipped
            .iter()
            .map(|(reason, count)| format!("{}, {reason}", words::count(*count)))
            .collect();
        Some(if reasons.is_empty() {
            ["There was no mail", "No message was found."].map(str::to_owned)
        } else {
            ["No message could be read and played".to_owned(), format!("Not played: {}.", reasons.join("; "))]
        })
    }

    /// What was played without the rest of its headers, in a sentence.
    pub fn cut(&self) -> Option<String> {
        (self.headers_cut > 0).then(|| {
            format!(
                "{} had more than 102,400 bytes of headers: played without the rest.",
                words::many(self.headers_cut, "message", "messages")
            )
        })
    }
}

/// Storms, suspicions and near-storms that a report holds, of each.
pub const MAX_EPISODES: usize = 1_000;

/// Lists that a report holds.
pub const MAX_LISTS: usize = 10_000;

/// Storms that have a timeline of their own. With [`MAX_BUCKETS`] each, and one of the whole mail, this makes at
/// most 8,448 buckets.
pub const MAX_TIMELINES: usize = 32;

/// Buckets of one timeline: as many as a page can draw.
pub const MAX_BUCKETS: usize = 256;

/// A storm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StormReport {
    /// The list's address; `many recipients` where there was none.
    pub list: String,
    /// Mailboxes the list reaches.
    pub members: u64,
    /// The base subject of the message that tripped it; empty where that has none.
    pub conversation: String,
    /// What tripped: `conversation_newcomers`, `conversation_authors`, `list_newcomers`, `rekindled`; another
    /// rule's own word.
    pub trigger: String,
    /// When it was declared.
    #[serde(serialize_with = "rfc3339")]
    pub started: Timestamp,
    /// When it was found to be over.
    #[serde(serialize_with = "optional_rfc3339")]
    pub ended: Option<Timestamp>,
    /// Let through in the hour before it was declared, by newcomers or in that conversation; and all to the list
    /// that was let through while it was open.
    pub replies_delivered: u64,
    /// Messages stopped while it was open, and suspicions that it overtook.
    pub replies_held: u64,
    /// Mailboxes that `replies_delivered` reached.
    pub copies_delivered: u64,
    /// Mailboxes that `replies_held` would have reached.
    pub copies_held: u64,
}

/// A time in which messages to a list waited.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SuspicionReport {
    /// The list's address.
    pub list: String,
    /// The base subject of the first message that waited.
    pub conversation: String,
    /// When the first message began to wait.
    #[serde(serialize_with = "rfc3339")]
    pub started: Timestamp,
    /// When the last one was released, or the storm declared.
    #[serde(serialize_with = "rfc3339")]
    pub ended: Timestamp,
    /// Messages that waited.
    pub messages: u64,
    /// Did it end in a storm? Then what waited stayed held.
    pub became_storm: bool,
}

/// A peak of half the threshold or more, without a storm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NearStorm {
    /// The list's address.
    pub list: String,
    /// The base subject; none where it is the list's count over all conversations.
    pub conversation: Option<String>,
    /// When it peaked.
    #[serde(serialize_with = "rfc3339")]
    pub at: Timestamp,
    /// People within the window.
    pub peak: u32,
    /// So many would have been a storm.
    pub threshold: u32,
    /// Which test: `conversation_newcomers`, `conversation_authors`, `list_newcomers`.
    pub test: String,
}

/// A list that had mail.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ListReport {
    /// Its address.
    pub address: String,
    /// Mailboxes it reaches.
    pub members: u64,
    /// Messages to it.
    pub messages: u64,
    /// Of these, held for good.
    pub held: u64,
    /// Of these, held on suspicion and released.
    pub delayed: u64,
    /// Storms.
    pub storms: u64,
    /// Near-storms.
    pub near_storms: u64,
    /// Most newcomers within a window in one conversation, held ones counted too.
    pub peak_newcomers: u32,
    /// Most distinct authors within a window in one conversation.
    pub peak_authors: u32,
    /// Most newcomers within a window on the list as a whole.
    pub peak_list_newcomers: u32,
    /// The quietest threshold that would have been silent: the smallest number of people, in place of all three
    /// thresholds of a storm, at which none would have been declared. None where it is beyond what can be set.
    pub quietest: Option<u32>,
}

/// A course, in equal steps of time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timeline {
    /// The place in [`Report::storms`] of the storm it is about: its list, from an hour before it was declared
    /// until a while after its end. None: the whole mail, all lists.
    pub storm: Option<usize>,
    /// When the first bucket begins.
    #[serde(serialize_with = "rfc3339")]
    pub from: Timestamp,
    /// How long each bucket is, in seconds: a minute, or a minute doubled until all fits in [`MAX_BUCKETS`].
    pub step_s: u64,
    /// In order of time, without gaps.
    pub buckets: Vec<Bucket>,
}

/// A step of a timeline: the messages to lists that came within it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// Messages.
    pub replies: u64,
    /// Of these, let through at once.
    pub delivered: u64,
    /// Of these, held on suspicion, and released later or not.
    pub delayed: u64,
    /// Of these, held for good at once.
    pub held: u64,
    /// Mailboxes that were reached, delayed messages at the time of their release.
    pub copies_with: u64,
    /// Mailboxes that would have been reached without a filter.
    pub copies_without: u64,
    /// The worst state within it.
    pub state: State,
}

/// How a list is; the worse the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As on ordinary days.
    #[default]
    Calm,
    /// After a storm.
    Cooling,
    /// Messages wait.
    Suspicion,
    /// A storm is open.
    Storm,
}

/// For `serialize_with`: RFC 3339 in UTC, or null.
fn optional_rfc3339<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => rfc3339(at, serializer),
        None => serializer.serialize_none(),
    }
}
