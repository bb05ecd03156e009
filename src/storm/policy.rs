//! What an operator can set about judging: thresholds, and what is done with the mail of a storm.

use std::time::Duration;

/// The numbers of the rule. One set serves as the default; a class or a list may have its own.
///
/// M below is the number of members a message reaches; clamp rounds down.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// B: copies that one conversation may cost before it waits (default 300,000). A list with more members
    /// than this is *dear*. 1 to 10^12.
    pub budget: u64,
    /// Messages by newcomers that always pass, whatever they cost: lower clamp of F and LF (default 3). 1 to 20.
    pub free: u32,
    /// Lower clamp of K and LK (default 10). 2 to 20, not below `free`.
    pub storm_min: u32,
    /// Upper clamp of all four, and the number of distinct authors of any kind that is a storm (default 20).
    /// `storm_min` to 20: the rings of the counters keep twenty authors countable, no more.
    pub max: u32,
    /// w: the sliding window (default 60 min). 1 min to 24 h.
    pub window: Duration,
    /// d: how long suspicion holds a message (default 10 min). 0 to 24 h.
    pub delay: Duration,
    /// q: a storm ends when its last attempt is older than this (default 2 h). 1 min to 24 h.
    pub quiet: Duration,
    /// How long a list stays on guard after a storm (default 24 h). 0 to 30 days.
    pub cooling: Duration,
    /// How many times a conversation's budget the whole list has (default 8); but LK is never above K and half of
    /// that. 1 to 1000.
    pub list_factor: u32,
    /// Automatic messages to a list in one window: clamp(B / M, 0, this) (default 5). 0 to 5.
    pub automatic_max: u32,
    /// An author is known to a list once his first post is this old (default 12 h). 0 to 90 days.
    pub known_after: Duration,
    /// ... and his last is no older than this (default 90 days). 1 day to 365 days, above `known_after`.
    pub known_for: Duration,
    /// A list younger than this has no history and is judged by distinct authors alone, unless it is dear
    /// (default 30 days). 0 to 365 days.
    pub history: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        const DAY: u64 = 24 * HOUR;
        Self {
            budget: 300_000,
            free: 3,
            storm_min: 10,
            max: 20,
            window: Duration::from_secs(HOUR),
            delay: Duration::from_secs(10 * MINUTE),
            quiet: Duration::from_secs(2 * HOUR),
            cooling: Duration::from_secs(DAY),
            list_factor: 8,
            automatic_max: 5,
            known_after: Duration::from_secs(12 * HOUR),
            known_for: Duration::from_secs(90 * DAY),
            history: Duration::from_secs(30 * DAY),
        }
    }
}

/// What is done with a message that the rule would stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is touched; what would have been done is reported.
    #[default]
    Observe,
    /// Into Postfix's hold queue.
    Hold,
    /// 5xx: the sender is told at once.
    Reject,
    /// 4xx: the sending server tries again later.
    Defer,
    /// Accepted and thrown away. The only mode that loses mail, and only because the operator said so.
    Discard,
    /// The list is taken off the message; its other recipients get it. Never takes off the last recipient:
    /// then the message is held.
    Strip,
}

/// What is done with a message under suspicion, on a list that is enforced (any mode but observe).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SuspicionAction {
    /// Held for `delay` (the hold queue).
    #[default]
    Hold,
    /// 4xx.
    Defer,
    /// Delivered: only storms are acted on.
    Pass,
}

/// Everything that decides about one list's mail.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The numbers of the rule.
    pub thresholds: Thresholds,
    /// For the mail of a storm.
    pub mode: Mode,
    /// For the mail of a suspicion.
    pub suspicion: SuspicionAction,
    /// A list for emergencies: judged and reported, but never held, refused or dropped.
    pub never_hold: bool,
    /// The reply to a rejected message: text template. `{list}`, `{members}` and `{retry}` (minutes until
    /// another try makes sense) are filled in.
    pub reject_text: String,
    /// The reply to a deferred message: like `reject_text`.
    pub defer_text: String,
    /// The reply to a message above a rate limit, rejected or deferred: like `reject_text`.
    pub limit_text: String,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            thresholds: Thresholds::default(),
            mode: Mode::default(),
            suspicion: SuspicionAction::default(),
            never_hold: false,
            reject_text:
                "Replies to {list} are paused: it reaches {members} people. Please write to the sender alone."
                    .to_owned(),
            defer_text:
                "Replies to {list} are paused: it reaches {members} people. Try again in {retry} minutes."
                    .to_owned(),
            limit_text:
                "Too much mail in a short time: this message reaches {members} people. Try again in {retry} minutes."
                    .to_owned(),
        }
    }
}
