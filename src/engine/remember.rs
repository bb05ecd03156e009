//! What a judgement wrote, as a record; and the same write without judging.
//!
//! [`Engine::apply`] is how a restart finds its way back, and how what other nodes judged will count. What a record
//! says was written is written again, at its own time: to join it in another order, or twice, ends in the same
//! state (but for automatic mail, of which a record counts each time).

use std::sync::Arc;
use std::time::Duration;

use super::gatherings::storm_ended;
use super::judging::{Facts, PartMemo, RetryMemo, parts_key, retry_key};
use super::keys::Role;
use super::thread::Thread;
use super::transaction::Transaction;
use super::world::WatchedList;
use super::{Engine, name_storm};
use crate::journal::event::Event;
use crate::journal::record::{self, ClawedBack, Ended, Judged, Opened, Parts, Record, Share, Verdict};
use crate::storm::detector::{Author, Judgement, Outcome, Past, Post, Trigger, Writes};
use crate::storm::policy::Thresholds;
use crate::storm::state::StormFigures;
use crate::time::Timestamp;
use crate::window::AuthorTag;

/// Nothing that a rule closes stays closed for longer than the longest cooling (30 days) and quiet (a day): what a
/// record says beyond that comes from another clock.
pub(super) const LONGEST_CLOSURE: Duration = Duration::from_secs(31 * 86_400);

impl Engine {
    /// Tells whether two engines have the same key: only then a record of one means anything to the other.
    pub fn key_check(&self) -> u64 {
        self.keys.bytes(Role::Check, b"becalm journal")
    }

    /// Writes what was written elsewhere, by an earlier run or by another node, at `now` or before. Times that lie
    /// ahead of `now` count as now.
    pub fn apply(&self, record: &Record, now: Timestamp) {
        match record {
            Record::Judged(judged) => self.apply_judged(judged, now),
            Record::Opened(opened) if opened.list != 0 => {
                let since = opened.since.min(now);
                let list = self.states.state(opened.list, since);
                list.join_storm(opened.since, since, &StormFigures::default());
            }
            // The conversation is closed by the message that tripped it.
            Record::Opened(opened) => {
                let gathering = (opened.conversation != 0)
                    .then(|| self.gatherings.remember(opened.conversation, opened.members, now))
                    .flatten();
                if let Some(gathering) = gathering {
                    let since = opened.since.min(now);
                    gathering.state.join_storm(opened.since, since, &StormFigures::default());
                }
            }
            Record::Ended(ended) if ended.list == 0 => {
                if let Some(gathering) = self.gatherings.remember(ended.conversation, 0, now) {
                    gathering.state.end(ended.since, Timestamp::default());
                }
            }
            Record::Ended(ended) => {
                let list = self.states.state(ended.list, ended.since.min(now));
                list.end(ended.since, ended.cooling_until.min(now.after(LONGEST_CLOSURE)));
            }
            Record::Known(known) => {
                let span = Duration::from_secs(u64::from(known.known_for) * 60);
                self.detector.make_known(known.key, known.at.min(now), span);
            }
            Record::ByHand(done) => self.apply_by_hand(done, now),
            // The ledger's business.
            Record::ClawedBack(_) => {}
            Record::Piece(piece) => self.put_back(piece, now),
        }
    }

    /// What is to be kept of an event; nothing of what is for people alone.
    pub fn record_of(&self, event: &Event) -> Option<Record> {
        let key = |list: &str| self.keys.bytes(Role::Recipient, list.as_bytes());
        match event {
            Event::StormStarted {
                storm,
                list,
                members,
                trigger,
                newcomers,
                authors,
                list_newcomers,
                copies,
                at,
            } => {
                let list = list.as_deref().map_or(0, key);
                // The storm's own time, which its name is made of, may differ from the event's.
                let (since, conversation) = match list {
                    0 => self.open_gathering(storm).unwrap_or((*at, 0)),
                    list => (self.storm_since(list).unwrap_or(*at), 0),
                };
                Some(Record::Opened(Opened {
                    list,
                    since,
                    digits: storm.rsplit('-').next().and_then(|hex| u16::from_str_radix(hex, 16).ok())?,
                    trigger: TRIGGERS.iter().position(|known| trigger_name(*known) == *trigger)? as u8,
                    members: *members,
                    counts: [*newcomers, *authors, *list_newcomers],
                    copies: *copies,
                    conversation,
                }))
            }
            Event::StormEnded { storm, list, held, copies_held, delivered, since, at } => {
                let mut ended = Ended {
                    since: *since,
                    at: *at,
                    figures: [*held, *copies_held, *delivered, 0],
                    ..Ended::default()
                };
                let [.., copies_delivered] = &mut ended.figures;
                match list {
                    Some(list) => {
                        ended.list = key(list);
                        let state = self.states.state(ended.list, *since);
                        ended.cooling_until = state.cooling_until();
                        *copies_delivered = state.figures().copies_delivered;
                    }
                    None => {
                        ended.conversation = self.gathering_of(*since, storm)?;
                        let gathering = self.gatherings.of(ended.conversation)?;
                        *copies_delivered = gathering.state.figures().copies_delivered;
                    }
                }
                Some(Record::Ended(ended))
            }
            Event::PossibleList { .. } | Event::ClawedBack { .. } => None,
        }
    }

    /// What people were told when a record was made, as far as its list is one of the present world.
    pub fn event_of(&self, record: &Record) -> Option<Event> {
        let world = self.world.load();
        match record {
            Record::Opened(opened) => {
                let list = match opened.list {
                    0 => None,
                    key => Some(world.list_by_key(key)?.address.clone()),
                };
                let [newcomers, authors, list_newcomers] = opened.counts;
                Some(Event::StormStarted {
                    storm: name_storm(opened.since, u64::from(opened.digits)),
                    list,
                    members: opened.members,
                    trigger: trigger_name(*TRIGGERS.get(usize::from(opened.trigger))?),
                    newcomers,
                    authors,
                    list_newcomers,
                    copies: opened.copies,
                    at: opened.since,
                })
            }
            Record::Ended(ended) => {
                let [held, copies_held, delivered, _] = ended.figures;
                let (key, list) = match ended.list {
                    0 => (ended.conversation, None),
                    key => (key, Some(world.list_by_key(key)?.address.clone())),
                };
                let figures = StormFigures { held, copies_held, delivered, ..StormFigures::default() };
                Some(storm_ended(key, list, &figures, ended.since, ended.at))
            }
            Record::ClawedBack(ClawedBack { at, storm, sums: [messages, copies], .. }) => {
                let (storm, messages, copies, at) = (storm.clone(), *messages, *copies, *at);
                Some(Event::ClawedBack { storm, list: None, messages, copies, at })
            }
            Record::Judged(_) | Record::Known(_) | Record::ByHand(_) | Record::Piece(_) => None,
        }
    }

    fn storm_since(&self, list: u64) -> Option<Timestamp> {
        let list = self.world.load().list_by_key(list)?;
        match list.state.phase(Timestamp::default()) {
            crate::storm::state::Phase::Storm { since } => Some(since),
            _ => None,
        }
    }

    fn apply_judged(&self, judged: &Judged, now: Timestamp) {
        let at = judged.at.min(now);
        if judged.origin != 0 {
            self.origins.insert(judged.origin, at);
        }
        for share in &judged.shares {
            self.apply_share(judged, share, at, now);
            if let Some(verdict) = share.verdict.filter(|_| judged.message != 0) {
                let last = if share.list == 0 { judged.digest } else { share.list };
                let key = retry_key(&self.keys, judged.message, judged.author, last);
                let memo = RetryMemo { judgement: verdict.into(), limited: share.has(Share::LIMITED) };
                self.retries.put_back(key, memo, at);
            }
        }
        if let Some(parts) = judged.parts.filter(|_| judged.message != 0) {
            self.parts.put_back(parts_key(&self.keys, judged.message, judged.author), parts.into(), at);
        }
    }

    fn apply_share(&self, judged: &Judged, share: &Share, at: Timestamp, now: Timestamp) {
        if share.thread == 0 {
            return;
        }
        let own = (judged.message != 0).then_some(judged.message);
        let subject = (share.subject != 0).then_some(share.subject);
        self.threads.note(own.into_iter().chain(judged.ids.iter().copied()), subject, share.thread, at);
        let conversation = self.keys.combine(Role::Conversation, &[share.list, share.thread]);
        let list = (share.list != 0).then(|| self.states.state(share.list, at));
        let storm = share.storm > Timestamp::default();
        let gathering = if list.is_none() && storm {
            self.gatherings.remember(conversation, share.audience, now)
        } else {
            None
        };
        let [held, copies_held, delivered, copies_delivered] = share.figures;
        self.detector.apply(&Past {
            list: list.as_deref().or(gathering.as_ref().map(|gathering| &gathering.state)),
            author: Author {
                tag: AuthorTag::new(judged.author),
                known_key: self.keys.combine(Role::Known, &[share.list, judged.author]),
            },
            conversation,
            audience: share.audience,
            newcomer: share.has(Share::NEWCOMER),
            at,
            window: Duration::from_secs(u64::from(share.window)),
            known_for: Duration::from_secs(u64::from(share.known_for) * 60),
            writes: Writes {
                starter: share.has(Share::STARTER),
                in_conversation: share.has(Share::IN_CONVERSATION),
                on_list: share.has(Share::ON_LIST),
                automatic: share.has(Share::AUTOMATIC),
                known: share.has(Share::KNOWN),
                attempt: share.has(Share::ATTEMPT),
                closed_until: share.closed_until.min(now.after(LONGEST_CLOSURE)),
                storm: share.storm,
                figures: StormFigures { held, copies_held, delivered, copies_delivered },
            },
        });
    }
}

/// What is kept of a message beside what it writes for each list.
pub(super) fn judged(tx: &Transaction, facts: &Facts, lists: &[Arc<WatchedList>], now: Timestamp) -> Judged {
    let watched = !lists.is_empty() || tx.recipients >= tx.world.watch.many_recipients;
    Judged {
        at: now,
        author: facts.author_key,
        message: facts.traces.message_id.unwrap_or_default(),
        origin: if watched { tx.origin_key } else { 0 },
        digest: tx.digest,
        ids: facts.traces.others().collect(),
        ..Judged::default()
    }
}

/// What a post wrote for a list (0: none).
pub(super) fn share(list: u64, thread: Thread, post: &Post<'_>, outcome: &Outcome, t: &Thresholds) -> Share {
    let writes = &outcome.writes;
    let figures = &writes.figures;
    let mut share = Share {
        list,
        thread: thread.key,
        subject: thread.subject.unwrap_or_default(),
        audience: post.audience,
        window: record::seconds(outcome.window),
        known_for: record::minutes(t.known_for),
        closed_until: writes.closed_until,
        storm: writes.storm,
        figures: [figures.held, figures.copies_held, figures.delivered, figures.copies_delivered],
        ..Share::default()
    };
    for (flag, on) in [
        (Share::STARTER, writes.starter),
        (Share::IN_CONVERSATION, writes.in_conversation),
        (Share::ON_LIST, writes.on_list),
        (Share::AUTOMATIC, writes.automatic),
        (Share::KNOWN, writes.known),
        (Share::ATTEMPT, writes.attempt),
        (Share::NEWCOMER, outcome.newcomer),
    ] {
        share.set(flag, on);
    }
    share
}

/// What the message of an exempt author wrote for a list.
pub(super) fn exempt_share(list: &WatchedList, thread: Thread) -> Share {
    Share {
        list: list.key,
        thread: thread.key,
        subject: thread.subject.unwrap_or_default(),
        flags: Share::KNOWN,
        known_for: record::minutes(list.policy.thresholds.known_for),
        ..Share::default()
    }
}

/// Adds what is remembered of a message in case it comes again, for a list (0: none).
pub(super) fn note_verdict(judged: &mut Judged, list: u64, memo: RetryMemo) {
    let at = match judged.shares.iter().position(|share| share.list == list) {
        Some(at) => at,
        None => {
            judged.shares.push(Share { list, ..Share::default() });
            judged.shares.len() - 1
        }
    };
    if let Some(share) = judged.shares.get_mut(at) {
        share.verdict = Some(memo.judgement.into());
        share.set(Share::LIMITED, memo.limited);
    }
}

/// Numbered as records have them: to be added to, never to be put in another order.
const TRIGGERS: [Trigger; 5] = [
    Trigger::ConversationNewcomers,
    Trigger::ConversationAuthors,
    Trigger::ListNewcomers,
    Trigger::Rekindled,
    Trigger::ByHand,
];

pub(super) fn trigger_name(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::ConversationNewcomers => "conversation_newcomers",
        Trigger::ConversationAuthors => "conversation_authors",
        Trigger::ListNewcomers => "list_newcomers",
        Trigger::Rekindled => "rekindled",
        Trigger::ByHand => "by_hand",
    }
}

impl From<Judgement> for Verdict {
    fn from(judgement: Judgement) -> Self {
        match judgement {
            Judgement::Pass => Self::Pass,
            Judgement::Suspicion { until } => Self::Suspicion { until },
            Judgement::Automatic => Self::Automatic,
            Judgement::Storm => Self::Storm,
        }
    }
}

impl From<Verdict> for Judgement {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::Pass,
            Verdict::Suspicion { until } => Self::Suspicion { until },
            Verdict::Automatic => Self::Automatic,
            Verdict::Storm => Self::Storm,
        }
    }
}

impl From<PartMemo> for Parts {
    fn from(memo: PartMemo) -> Self {
        Self { audience: memo.audience, worst: memo.worst.into(), list: memo.list }
    }
}

impl From<Parts> for PartMemo {
    fn from(parts: Parts) -> Self {
        Self { audience: parts.audience, worst: parts.worst.into(), list: parts.list }
    }
}
