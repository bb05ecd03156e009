//! The rule that tells a storm, one post at a time.
//!
//! A storm is many people who do not usually write to a list and suddenly do, weighed in copies. The order of
//! the checks below is the rule; each step is a function of its own, in that order.

mod apply;
mod gathering;
mod near;

use std::time::Duration;

pub use apply::{Past, Writes};
pub use near::Nearness;

use super::policy::Thresholds;
use super::state::{LIST_TAG, ListState, Phase};
use crate::time::Timestamp;
use crate::window::{AuthorTag, Entry, Known, SetStats, Slot, Table, TableStats, Tally};

/// A message as the rule sees it: one list's share of it, or a message to many recipients and no list.
#[derive(Clone, Copy)]
pub struct Post<'a> {
    /// The list, or none for a message to many recipients.
    pub list: Option<ListShare<'a>>,
    /// What is remembered of the storm of a conversation without list, if it has been one.
    pub gathering: Option<&'a ListState>,
    /// Who wrote it.
    pub author: Author,
    /// Mailboxes that the whole message reaches (its earlier parts included).
    pub audience: u64,
    /// The conversation it belongs to.
    pub conversation: Conversation,
    /// Sent by a program (out of office, receipt, bounce).
    pub automatic: bool,
    /// Counted already: a further part of a message to no list, or a message that comes again after a while. Judged
    /// again, counted nowhere.
    pub part: bool,
    /// When.
    pub now: Timestamp,
}

/// The list that a post goes to.
#[derive(Clone, Copy)]
pub struct ListShare<'a> {
    /// What is remembered of it.
    pub state: &'a ListState,
    /// Its resolved members.
    pub members: u64,
}

/// An author, as the counters know him.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Author {
    /// In the rings.
    pub tag: AuthorTag,
    /// Keyed hash of the list and the author's address: in the memory of who is known to which list.
    pub known_key: u64,
}

/// The conversation of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Keyed hash of the list and the thread.
    pub key: u64,
    /// Does the post answer one, or start it?
    pub reply: bool,
    /// An operator has closed it.
    pub closed: bool,
}

/// What the rule says of a post.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Judgement {
    /// Nothing speaks against it.
    #[default]
    Pass,
    /// Too fast for calm: to be held until then, and released unless a storm comes of it.
    Suspicion {
        /// When it would go.
        until: Timestamp,
    },
    /// Automatic mail above its budget.
    Automatic,
    /// Part of a storm, or of the day after one.
    Storm,
}

/// A change of a list's phase; each is reported to exactly one caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// A storm was declared.
    Started {
        /// What tripped.
        trigger: Trigger,
    },
    /// A storm fell quiet.
    Ended {
        /// When it had been declared.
        since: Timestamp,
    },
}

/// Which test declared a storm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Newcomers in one conversation reached K.
    ConversationNewcomers,
    /// Distinct authors of any kind in one conversation reached `max`.
    ConversationAuthors,
    /// Newcomers on the list reached LK.
    ListNewcomers,
    /// A spark in the time after a storm.
    Rekindled,
    /// No test: an operator closed the list.
    ByHand,
}

/// The answer to one post.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// What the rule says.
    pub judgement: Judgement,
    /// A storm that fell quiet before this post (close comes before anything is counted).
    pub ended: Option<Transition>,
    /// A storm that this post declared.
    pub started: Option<Transition>,
    /// Was the author new to the list?
    pub newcomer: bool,
    /// The conversation's counts, this post included.
    pub conversation: Tally,
    /// The list's counts of newcomers, this post included.
    pub list: Tally,
    /// In which it was counted: the thresholds' window, without what was forgiven.
    pub window: Duration,
    /// What it left behind.
    pub writes: Writes,
}

/// Entries know their second only: in that of an act of forgiveness nothing counts, and an author is noted once.
const SECOND: Duration = Duration::from_secs(1);

/// The limits that a message of a given cost meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Messages by newcomers that pass; the next waits.
    pub pass: u32,
    /// Messages by newcomers that are a storm.
    pub storm: u32,
}

impl Scope {
    /// F and K for a conversation whose messages reach `members`.
    pub fn conversation(t: &Thresholds, members: u64) -> Self {
        Self::of(t, t.budget, members)
    }

    /// LF and LK for a list of `members`.
    ///
    /// In a storm one post in three changes the subject or loses its headers: where a conversation has K newcomers,
    /// the list has half as many again. So many are a storm however they spread over conversations; a slow one on
    /// a list of tens of thousands has K in one conversation by luck only.
    pub fn list(t: &Thresholds, members: u64) -> Self {
        let conversation = Self::conversation(t, members).storm;
        let Self { pass, storm } = Self::of(t, t.budget.saturating_mul(u64::from(t.list_factor)), members);
        // Where LF is above LK nobody comes to wait.
        Self { pass, storm: storm.min(conversation + conversation / 2) }
    }

    fn of(t: &Thresholds, budget: u64, members: u64) -> Self {
        // A list of no members costs nothing: the high clamp.
        let affordable = budget.checked_div(members).unwrap_or(u64::MAX);
        let clamp = |low: u32| {
            let high = u64::from(t.max);
            affordable.clamp(u64::from(low).min(high), high) as u32
        };
        Self { pass: clamp(t.free), storm: clamp(t.storm_min) }
    }
}

/// The counters of conversations and the memory of who is known where.
pub struct Detector {
    conversations: Table,
    known: Known,
}

impl Detector {
    /// Allocates everything it will ever use: `conversations` slots of 32 entries, and room for
    /// `known_authors` pairs of list and author.
    pub fn new(conversations: usize, known_authors: usize) -> Self {
        Self { conversations: Table::new(conversations, true), known: Known::new(known_authors) }
    }

    /// Counts a post and judges it: one write, one answer. The caller has let exempt authors pass already.
    pub fn observe(&self, post: &Post<'_>, t: &Thresholds) -> Outcome {
        match post.list {
            Some(list) => self.observe_on_list(post, list, t),
            None => self.observe_without_list(post, t),
        }
    }

    /// Makes an author known from `now` on: he is exempt, or his mail was released.
    pub fn make_known(&self, known_key: u64, now: Timestamp, known_for: Duration) {
        self.known.record(known_key, now, known_for);
    }

    /// Lets time pass for a list: a storm can end without mail.
    pub fn tick(&self, list: &ListState, now: Timestamp, t: &Thresholds) -> Option<Transition> {
        list.close_if_quiet(now, t.quiet, t.cooling).map(|since| Transition::Ended { since })
    }

    /// Occupancy of the table of conversations.
    pub fn conversations(&self) -> TableStats {
        self.conversations.stats()
    }

    /// Occupancy of the memory of known authors.
    pub fn known_authors(&self) -> SetStats {
        self.known.stats()
    }

    fn observe_on_list(&self, post: &Post<'_>, list: ListShare<'_>, t: &Thresholds) -> Outcome {
        let state = list.state;
        let now = post.now;
        let mut outcome = Outcome::pass(t.window);
        if post.automatic {
            (outcome.judgement, outcome.writes.automatic) = judge_automatic(post, list, t);
            return outcome;
        }
        outcome.ended = self.tick(state, now, t);
        if post.part {
            outcome.judgement = self.judge_again(post, list, t);
            outcome.writes.known = outcome.judgement == Judgement::Pass;
            return outcome;
        }

        // Whether an author is a newcomer is settled at the attempt, before it is counted.
        outcome.newcomer = !self.known.known(post.author.known_key, now, t.known_after, t.known_for);
        let slot = self.conversations.slot(post.conversation.key, now);
        // What came before a storm was ended by hand counts no more.
        let counted = state.counted(now, t.window);
        let window = counted.unwrap_or(SECOND);
        outcome.window = window;
        let counts = Counts {
            conversation: count_in_conversation(slot.as_ref(), post, &mut outcome, window),
            list: count_on_list(post, state, outcome.newcomer, window),
        };
        let counts = counted.map_or_else(Counts::default, |_| counts);
        outcome.writes.on_list = outcome.newcomer && !counts.list.repeat;
        outcome.conversation = counts.conversation;
        outcome.list = counts.list;

        let scopes = Scopes {
            conversation: Scope::conversation(t, post.audience),
            list: Scope::list(t, list.members),
            // In a storm and after it, what counts is the list, not one message's other recipients.
            aftermath: Scope::conversation(t, list.members),
        };
        let situation = Situation {
            newcomer: outcome.newcomer,
            dear: list.members > t.budget,
            history: now.since(state.since()) >= t.history,
            phase: state.phase(now),
            closed: post.conversation.closed
                || slot.as_ref().is_some_and(|slot| state.keeps_closed(slot.closed_until(), now, t.cooling)),
            closed_by_hand: post.conversation.closed,
            reply: post.conversation.reply,
        };

        let trigger = trigger(&situation, &counts, &scopes, t);
        let was_in_storm = matches!(situation.phase, Phase::Storm { .. });
        if let Some(trigger) = trigger
            && !was_in_storm
            && state.open(now)
        {
            outcome.started = Some(Transition::Started { trigger });
        }
        let in_storm = trigger.is_some() || was_in_storm;
        if in_storm {
            let closed = is_closed(&situation, trigger, &counts, &scopes);
            if closed && let Some(slot) = slot.as_ref() {
                outcome.writes.closed_until = now.after(t.cooling);
                slot.close_until(outcome.writes.closed_until);
            }
            outcome.judgement = judge_in_storm(&situation, closed);
        } else {
            outcome.judgement = judge_outside(&situation, &counts, &scopes, now, t);
        }
        match outcome.judgement {
            Judgement::Storm => state.remember_attempt(now),
            Judgement::Pass => self.known.record(post.author.known_key, now, t.known_for),
            Judgement::Suspicion { .. } | Judgement::Automatic => {}
        }
        outcome.writes.attempt = outcome.judgement == Judgement::Storm;
        outcome.writes.known = outcome.judgement == Judgement::Pass;
        if in_storm {
            state.count(outcome.judgement != Judgement::Pass, post.audience);
            if let Phase::Storm { since } = state.phase(now) {
                outcome.writes.storm = since;
                outcome.writes.figures = state.figures();
            }
        }
        outcome
    }

    /// A message that was counted when it first came: as things stand now. A suspicion's time is over by then; it
    /// passes unless a storm came of it. Retries keep no storm alive: another server makes them, not people.
    fn judge_again(&self, post: &Post<'_>, list: ListShare<'_>, t: &Thresholds) -> Judgement {
        let now = post.now;
        let newcomer = !self.known.known(post.author.known_key, now, t.known_after, t.known_for);
        let dear = list.members > t.budget;
        let slot = self.conversations.find(post.conversation.key);
        let by_hand = post.conversation.reply && post.conversation.closed;
        let by_rule = slot.is_some_and(|slot| list.state.keeps_closed(slot.closed_until(), now, t.cooling));
        let closed = by_hand || (post.conversation.reply && by_rule);
        let stopped = match list.state.phase(now) {
            _ if by_hand => true,
            Phase::Storm { .. } => dear || newcomer || closed,
            Phase::Cooling { .. } => (closed && (newcomer || dear)) || (dear && newcomer),
            Phase::Calm => false,
        };
        if stopped {
            return Judgement::Storm;
        }
        self.known.record(post.author.known_key, now, t.known_for);
        Judgement::Pass
    }
}

impl Outcome {
    fn pass(window: Duration) -> Self {
        Self {
            window,
            judgement: Judgement::Pass,
            ended: None,
            started: None,
            newcomer: false,
            conversation: Tally::default(),
            list: Tally::default(),
            writes: Writes::default(),
        }
    }
}

#[derive(Default)]
struct Counts {
    conversation: Tally,
    list: Tally,
}

struct Scopes {
    conversation: Scope,
    list: Scope,
    aftermath: Scope,
}

struct Situation {
    newcomer: bool,
    dear: bool,
    history: bool,
    phase: Phase,
    closed: bool,
    closed_by_hand: bool,
    reply: bool,
}

impl Situation {
    /// A young list knows nobody, so newcomers mean nothing there, unless every message is dear.
    fn newcomers_count(&self) -> bool {
        self.history || self.dear
    }
}

/// Automatic mail has a budget of its own and is counted nowhere else; none is left in a storm and after it. Whether it
/// was counted, too: what comes again is when it passes, or retries would keep the budget used up.
fn judge_automatic(post: &Post<'_>, list: ListShare<'_>, t: &Thresholds) -> (Judgement, bool) {
    let affordable = t.budget.checked_div(list.members).unwrap_or(u64::MAX);
    let budget = match list.state.phase(post.now) {
        Phase::Calm => affordable.min(u64::from(t.automatic_max)) as u32,
        Phase::Storm { .. } | Phase::Cooling { .. } => 0,
    };
    if post.part && list.state.automatic.tally(LIST_TAG, post.now, t.window).authors >= budget {
        return (Judgement::Automatic, false);
    }
    let cost = u32::try_from(post.audience).unwrap_or(u32::MAX);
    let sent = list.state.automatic.push(LIST_TAG, cost, post.now, t.window);
    (if sent > budget { Judgement::Automatic } else { Judgement::Pass }, true)
}

/// A reply by someone other than the conversation's starter counts in its ring.
fn count_in_conversation(
    slot: Option<&Slot<'_>>,
    post: &Post<'_>,
    outcome: &mut Outcome,
    window: Duration,
) -> Tally {
    let Some(slot) = slot else { return Tally::default() };
    if !post.conversation.reply {
        slot.set_starter(post.author.tag);
        outcome.writes.starter = true;
    }
    let counts = post.conversation.reply && !post.part && slot.starter() != Some(post.author.tag);
    if !counts {
        return slot.tally(post.now, window);
    }
    let tally = slot.record(entry(post, outcome.newcomer), post.now, window);
    // Who is there already has not written.
    outcome.writes.in_conversation = !tally.repeat;
    tally
}

/// Any newcomer's post counts in the list's ring.
fn count_on_list(post: &Post<'_>, state: &ListState, newcomer: bool, window: Duration) -> Tally {
    if newcomer {
        state.newcomers.record(LIST_TAG, entry(post, newcomer), post.now, window)
    } else {
        state.newcomers.tally(LIST_TAG, post.now, window)
    }
}

fn entry(post: &Post<'_>, newcomer: bool) -> Entry {
    Entry { author: post.author.tag, newcomer, cost: u32::try_from(post.audience).unwrap_or(u32::MAX) }
}

fn trigger(s: &Situation, counts: &Counts, scopes: &Scopes, t: &Thresholds) -> Option<Trigger> {
    if s.reply && counts.conversation.authors >= t.max {
        return Some(Trigger::ConversationAuthors);
    }
    if !s.newcomers_count() {
        return None;
    }
    // The counts say it, whoever writes: K falls with the audience, and the reply to more lists may be a known
    // author's. After a storm, though, the spark is a newcomer's own.
    let cooling = matches!(s.phase, Phase::Cooling { .. });
    if s.reply && counts.conversation.newcomers >= scopes.conversation.storm {
        Some(Trigger::ConversationNewcomers)
    } else if counts.list.newcomers >= scopes.list.storm {
        Some(Trigger::ListNewcomers)
    } else if cooling && s.newcomer && counts.list.newcomers >= spark(t) {
        Some(Trigger::Rekindled)
    } else {
        None
    }
}

/// So many newcomers make a storm again on a list that cools from one: half of the fewest that are a storm anywhere.
/// That a small list could afford more is no reason to wait for them: on real lists, the day after a storm brought as
/// many newcomers within an hour hardly ever.
fn spark(t: &Thresholds) -> u32 {
    (t.storm_min.min(t.max) / 2).max(3)
}

/// In a storm a conversation is closed once it tripped, or has as many newcomers as may pass.
fn is_closed(s: &Situation, trigger: Option<Trigger>, counts: &Counts, scopes: &Scopes) -> bool {
    let tripped_here = matches!(trigger, Some(Trigger::ConversationNewcomers | Trigger::ConversationAuthors));
    s.reply && (tripped_here || s.closed || counts.conversation.newcomers >= scopes.aftermath.pass)
}

/// Replies to closed conversations and every newcomer wait; on a dear list everybody does.
fn judge_in_storm(s: &Situation, closed: bool) -> Judgement {
    if s.dear || s.newcomer || closed { Judgement::Storm } else { Judgement::Pass }
}

/// On calm days, and in the time after a storm.
fn judge_outside(
    s: &Situation,
    counts: &Counts,
    scopes: &Scopes,
    now: Timestamp,
    t: &Thresholds,
) -> Judgement {
    if s.reply && s.closed_by_hand {
        return Judgement::Storm;
    }
    if matches!(s.phase, Phase::Cooling { .. }) {
        let guarded = s.reply && s.closed;
        if (guarded && (s.newcomer || s.dear)) || (s.dear && s.newcomer) {
            return Judgement::Storm;
        }
    }
    let fast = (s.reply && too_many(&counts.conversation, scopes.conversation.pass))
        || too_many(&counts.list, scopes.list.pass)
        || (s.dear && counts.list.repeat);
    if s.newcomer && s.newcomers_count() && fast {
        Judgement::Suspicion { until: now.after(t.delay) }
    } else {
        Judgement::Pass
    }
}

/// More newcomers than pass, or one of them again when as many have passed as may.
fn too_many(tally: &Tally, pass: u32) -> bool {
    tally.newcomers > pass || (tally.repeat && tally.newcomers >= pass)
}
