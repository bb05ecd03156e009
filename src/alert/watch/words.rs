//! The words of alerts.

use std::time::Duration;

use super::Room;
use crate::alert::{Alert, Kind, Severity};

/// What is said of a condition when it turns bad, and when it is well again.
pub(super) struct Condition {
    pub kind: Kind,
    pub severity: Severity,
    pub about: String,
    pub title: String,
    pub more: String,
    pub good: String,
}

/// A number with thin groups: `840,000`.
pub(super) fn copies(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

pub(super) fn half(room: &Room) -> Condition {
    let (title, good) = match room.limit {
        "disk" => (
            "the disk of Postfix's queue is nearly full".to_owned(),
            "the disk of Postfix's queue has room again".to_owned(),
        ),
        limit => (
            format!("held mail: half of a limit is reached ({limit})"),
            format!("held mail is well below the limit again ({limit})"),
        ),
    };
    Condition {
        kind: Kind::Held,
        severity: Severity::Warning,
        about: room.limit.to_owned(),
        title,
        more: format!(
            "{}. At the limit, new storm mail is refused (4xx); at the greatest age it is returned.\nbecalm quarantine list",
            room.detail
        ),
        good,
    }
}

pub(super) fn full(limit: Option<&str>) -> Condition {
    let limit = limit.unwrap_or_default();
    Condition {
        kind: Kind::Held,
        severity: Severity::Critical,
        about: limit.to_owned(),
        title: format!("nothing more can be held ({limit})"),
        more:
            "New storm mail is refused for now (4xx) until room is made: becalm quarantine release, return."
                .to_owned(),
        good: "mail can be held again".to_owned(),
    }
}

pub(super) fn stale(source: &str, why: Option<&str>) -> Condition {
    Condition {
        kind: Kind::Directory,
        severity: Severity::Warning,
        about: source.to_owned(),
        title: format!("the directory is stale: {source}"),
        more: format!(
            "{}. What was read before stays in force: new lists and members are not known.",
            why.unwrap_or_default()
        ),
        good: format!("the directory is up to date again: {source}"),
    }
}

pub(super) fn journal(why: Option<&str>) -> Condition {
    Condition {
        kind: Kind::Degraded,
        severity: Severity::Warning,
        about: "journal".to_owned(),
        title: "the journal is degraded".to_owned(),
        more: format!(
            "{}. Mail is judged as ever; what is learnt meanwhile may be lost at a restart.",
            why.unwrap_or_default()
        ),
        good: "the journal is whole again".to_owned(),
    }
}

pub(super) fn helper(socket: &str, why: Option<&str>) -> Condition {
    Condition {
        kind: Kind::Degraded,
        severity: Severity::Warning,
        about: socket.to_owned(),
        title: "the helper is down".to_owned(),
        more: format!(
            "{}. Held mail stays on hold: suspicions are not released, and operators cannot act.\nsystemctl status becalm-helper.socket",
            why.unwrap_or_default()
        ),
        good: "the helper is back".to_owned(),
    }
}

pub(super) fn silence(since: Duration) -> Condition {
    let hours = since.as_secs() / 3600;
    let long = if hours > 0 { format!("{hours} hours") } else { format!("{} seconds", since.as_secs()) };
    Condition {
        kind: Kind::Unjudged,
        severity: Severity::Critical,
        about: "silence".to_owned(),
        title: format!("becalm has seen no mail for {long}"),
        more: "Before that there was some. If mail flows, it passes becalm by: becalm check".to_owned(),
        good: "becalm sees mail again".to_owned(),
    }
}

pub(super) fn failed_open(alert: Alert, messages: u64) -> Alert {
    let alert = alert.says(
        &format!("{messages} messages passed unjudged: becalm failed on them"),
        "They were delivered. Their queue ids are in the log (\"becalm failed on this message\").",
    );
    Alert { about: Some("failed_open".to_owned()), ..alert }
}

pub(super) fn without_end(alert: Alert, messages: u64, watched: u64) -> Alert {
    let alert = alert.says(
        &format!("{messages} of {watched} watched messages never came to their end"),
        "Clients hung up, somebody else refused them, or Postfix lost its patience with becalm. See the log of smtpd, and \
         becalm check for the time-outs.",
    );
    Alert { about: Some("watched_unfinished".to_owned()), ..alert }
}
