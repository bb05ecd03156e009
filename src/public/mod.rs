//! What everybody may know: which lists are paused, since when, and until about when. No address, no storm's name,
//! no number that an outsider could use; a list has the name that the configuration gives it for the public, or
//! none.
//!
//! ```text
//! the daemon ──▶ Paused lists ──▶ Notice (a template's sentences, the zone's times) ──▶ HTML, text, JSON
//! ```

mod accept;
mod render;
mod template;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

pub use accept::preferred;
pub use render::Format;
pub use template::{BadTemplate, Template, Templates};

use crate::time::Timestamp;

/// An end is told to five minutes: it is a guess, and moves with every further attempt.
const ROUND: Duration = Duration::from_secs(300);

/// Lists that are named; beyond these their number is told. A page that everybody fetches stays small.
const MAX_NAMED: usize = 100;

/// A list, or a conversation among many recipients, whose storm has its mail stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paused {
    /// As everybody knows it; none: it goes without a name.
    pub name: Option<String>,
    /// No list: a conversation among many recipients.
    pub conversation: bool,
    /// Since when.
    pub since: Timestamp,
    /// When it ends if nobody adds to it.
    pub ends: Timestamp,
}

/// What everybody may know, in one language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicStatus {
    /// As of then, RFC 3339.
    pub updated: String,
    /// The language of the sentences (BCP 47).
    pub language: String,
    /// Lists to which replies to all are paused: the latest first, 100 at most.
    pub lists: Vec<PublicList>,
    /// So many more are paused.
    pub more: u64,
    /// The same for people, a sentence each: what holds for all lists.
    pub messages: Vec<String>,
}

/// A list to which replies to all are paused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicList {
    /// `public_name` of the configuration; none: it has none.
    pub name: Option<String>,
    /// RFC 3339.
    pub paused_since: String,
    /// About when it ends if nobody adds to it, RFC 3339, to five minutes.
    pub expected_end: String,
    /// The same for people, a sentence each.
    pub messages: Vec<String>,
}

impl PublicStatus {
    /// As of `now`, with the sentences of `template` and times of `zone`.
    pub fn new(mut paused: Vec<Paused>, template: &Template, zone: &TimeZone, now: Timestamp) -> Self {
        paused.sort_by(|a, b| b.since.cmp(&a.since).then_with(|| a.name.cmp(&b.name)));
        let more = paused.len().saturating_sub(MAX_NAMED);
        paused.truncate(MAX_NAMED);
        let when = template::Times { template, zone, now };
        let mut messages = vec![match paused.len() {
            0 => template.calm.clone(),
            _ => template.unaffected.clone(),
        }];
        if !paused.is_empty() {
            messages.push(template.advice.clone());
        }
        let lists = paused.into_iter().map(|list| {
            let end = rounded_up(list.ends.max(now));
            let since = when.say(list.since);
            let paused = match &list.name {
                Some(name) => template::fill(&template.paused, &[("list", name), ("since", &since)]),
                None if list.conversation => template::fill(template.conversation(), &[("since", &since)]),
                None => template::fill(&template.paused_unnamed, &[("since", &since)]),
            };
            let ends = template::fill(&template.ends, &[("end", &when.say(end))]);
            PublicList {
                name: list.name,
                paused_since: list.since.rfc3339(),
                expected_end: end.rfc3339(),
                messages: vec![paused, ends],
            }
        });
        let lists: Vec<_> = lists.collect();
        if more > 0 {
            messages.insert(0, template::fill(&template.more, &[("count", &more.to_string())]));
        }
        Self {
            updated: now.rfc3339(),
            language: template.language.clone(),
            lists,
            more: more as u64,
            messages,
        }
    }
}

/// To the next five minutes: what is promised is not too early.
fn rounded_up(time: Timestamp) -> Timestamp {
    let round = ROUND.as_millis() as u64;
    Timestamp::from_millis(time.as_millis().div_ceil(round).saturating_mul(round))
}
