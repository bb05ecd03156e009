//! The judgement of one watched message: its facts, its weight, each list's verdict, and what they come to.

use std::sync::Arc;
use std::time::Duration;

use smallvec::{SmallVec, smallvec};

use super::copies::Copies;
use super::gatherings::storm_ended;
use super::keys::{Keys, Role};
use super::remember::{exempt_share, judged, note_verdict, share, trigger_name};
use super::thread::{Thread, Traces};
use super::transaction::Transaction;
use super::verdict::{self, Action, ListVerdict};
use super::world::{WatchedList, World};
use super::{Decision, Engine, Kind, Reason, name_storm, storm_name};
use crate::directory::snapshot::ListId;
use crate::journal::event::Event;
use crate::journal::record::Judged;
use crate::mail::AuthorAddress;
use crate::storm::detector::{Author, Conversation, Judgement, ListShare, Outcome, Post, Transition};
use crate::storm::policy::{Mode, Thresholds};
use crate::time::Timestamp;
use crate::window::AuthorTag;

/// A message that comes again within this time is a retry or a re-injection, not another attempt, and gets the
/// same verdict. No longer than a useful delay, so that a deferred message is judged anew when it returns.
pub(super) const RETRY_MEMORY: Duration = Duration::from_secs(10 * 60);

/// For so long a message that comes again is known to have been counted: as long as servers try (Postfix's
/// `maximal_queue_lifetime`, five days).
pub(super) const COUNTED_MEMORY: Duration = Duration::from_secs(5 * 86_400);

/// What the earlier parts of a message came to.
#[derive(Clone, Copy, Default)]
pub(super) struct PartMemo {
    pub audience: u64,
    pub worst: Judgement,
    /// The list that was worst off; 0: none.
    pub list: u64,
}

/// What a message came to that may come again.
#[derive(Clone, Copy, Default)]
pub(super) struct RetryMemo {
    pub judgement: Judgement,
    /// It was stopped by a rate limit, and charged to nobody.
    pub limited: bool,
}

/// One list's share of a message, as the detector saw it.
pub struct Share<'a> {
    /// The list; none for a message to many recipients.
    pub list: Option<&'a Arc<WatchedList>>,
    /// Who wrote it: a keyed hash, the same on every list; 0 if nobody can be told.
    pub author: u64,
    /// What was judged.
    pub post: &'a Post<'a>,
    /// What the detector said.
    pub outcome: &'a Outcome,
    /// By which numbers.
    pub thresholds: &'a Thresholds,
}

/// What is known of a message once its headers are read.
pub(super) struct Facts {
    pub author: Option<AuthorAddress>,
    pub author_key: u64,
    pub user: Option<AuthorAddress>,
    pub traces: Traces,
    pub automatic: bool,
    pub redistributed: bool,
    pub wants_receipts: bool,
    pub fallback: u64,
}

impl Facts {
    pub(super) fn kind(&self, thread: Thread) -> Kind {
        match (self.automatic, thread.reply) {
            (true, _) => Kind::Automatic,
            (false, true) => Kind::Reply,
            (false, false) => Kind::New,
        }
    }
}

/// What a message reaches, and which of it has been judged before.
pub(super) struct Weighed {
    pub audience: u64,
    /// The share of this transaction alone.
    pub own: u64,
    /// For each list (or for the set of its recipients, where no list is named).
    came: SmallVec<[Came; 2]>,
    parts_key: Option<u64>,
    /// Nothing in it is new.
    pub repeated: bool,
    /// It came before, however long ago, to the same lists (or the same recipients, where no list is named).
    pub came_before: bool,
    /// It came before and was stopped by a rate limit.
    pub limited: bool,
    pub earlier: Option<PartMemo>,
}

/// Whether a message came before: to a list, or to a set of recipients.
struct Came {
    /// Of its judgement, should it come again. None has a message without a usable id.
    key: Option<u64>,
    /// It did, and was counted.
    counted: bool,
    /// It did, and its judgement stands.
    memo: Option<RetryMemo>,
}

impl Weighed {
    /// The judgement of the message that this one repeats. Only where no list is named: then it was to the same
    /// recipients.
    pub fn same_recipients(&self) -> Option<Judgement> {
        self.came.first()?.memo.map(|memo| memo.judgement)
    }
}

impl Engine {
    /// Judges a watched message whose headers have been read. Counts it; to be called once.
    pub fn judge(&self, tx: &Transaction, queue_id: Option<&[u8]>, now: Timestamp) -> Decision {
        self.judge_and_tell(tx, queue_id, now, &mut |share| self.followed.note(share))
    }

    /// As [`Self::judge`], and tells each list's share of the judgement while it is made. A message that is exempt,
    /// or a retry, is not looked at: nothing is told of it.
    pub fn judge_and_tell(
        &self,
        tx: &Transaction,
        queue_id: Option<&[u8]>,
        now: Timestamp,
        tell: &mut impl FnMut(&Share<'_>),
    ) -> Decision {
        let facts = self.facts(tx, queue_id);
        let lists = tx.distinct_lists();
        let mut decision = Decision::accept(tx, &facts, &lists);
        decision.record = judged(tx, &facts, &lists, now);
        if tx.world.exempt.covers(tx.client, facts.user.as_deref()) {
            for list in &lists {
                let known = self.keys.combine(Role::Known, &[list.key, facts.author_key]);
                self.detector.make_known(known, now, list.policy.thresholds.known_for);
                let thread = self.threads.join(&facts.traces, list.key, facts.fallback, &self.keys, now);
                decision.record.shares.push(exempt_share(list, thread));
            }
            decision.reason = Reason::Exempt;
            decision.copies.passed = decision.audience;
            return decision;
        }

        let weighed = self.weigh(tx, &facts, &lists, now);
        decision.audience = weighed.audience;
        let mut verdicts: SmallVec<[ListVerdict; 2]> = SmallVec::new();
        if lists.is_empty() {
            verdicts.push(self.judge_without_list(tx, &facts, &weighed, now, &mut decision, tell));
        }
        for (list, came) in lists.iter().zip(&weighed.came) {
            let judgement = match came.memo {
                Some(memo) => memo.judgement,
                None => {
                    self.judge_list(&facts, list, weighed.audience, came.counted, now, &mut decision, tell)
                }
            };
            verdicts.push(ListVerdict { list: Some(Arc::clone(list)), judgement });
        }
        self.conclude(tx, &facts, &verdicts, &weighed, now, &mut decision);
        decision.copies = Copies::of(&decision, tx, &weighed);
        let limited = matches!(decision.reason, Reason::Limit(_));
        self.remember(tx, &weighed, &verdicts, limited, now, &mut decision);
        decision
    }

    fn facts(&self, tx: &Transaction, queue_id: Option<&[u8]>) -> Facts {
        let world = &tx.world;
        let author =
            crate::mail::author(world.rules(), tx.user.as_deref(), Some(&tx.head), &tx.sender, |address| {
                world.snapshot.lookup_bytes(address).is_some()
            });
        let author_key = author.as_deref().map_or(0, |author| self.keys.bytes(Role::Author, author));
        // Without headers and sender: nobody but the authenticated user.
        let user = tx
            .user
            .as_deref()
            .and_then(|user| crate::mail::author(world.rules(), Some(user), None, b"", |_| false));
        let traces = Traces::read(&tx.head, queue_id, &self.keys);
        // Unique enough for a message without a usable id: who, when and how many.
        let fallback = || {
            let queue_id = self.keys.bytes(Role::Conversation, queue_id.unwrap_or_default());
            self.keys.combine(Role::Conversation, &[author_key, tx.now.as_millis(), tx.digest, queue_id])
        };
        Facts {
            author,
            author_key,
            user,
            automatic: tx.head.automatic(matches!(tx.sender.as_slice(), b"" | b"<>")).is_some(),
            redistributed: tx.head.redistributed(),
            wants_receipts: tx.head.wants_receipt(),
            fallback: if traces.name_a_thread() { 0 } else { fallback() },
            traces,
        }
    }

    /// Adds up what the message reaches: earlier parts count, what has been counted already does not.
    fn weigh(&self, tx: &Transaction, facts: &Facts, lists: &[Arc<WatchedList>], now: Timestamp) -> Weighed {
        let id = facts.traces.message_id;
        let still_holds = |memo: RetryMemo, at: Timestamp| {
            // A suspicion whose time is over is judged anew.
            let over = matches!(memo.judgement, Judgement::Suspicion { until } if until <= now);
            now.since(at) < RETRY_MEMORY && !over
        };
        // What a storm stopped comes again after an operator has ended it, or `forgiven` it: it is judged anew.
        let came = |last: u64, forgiven: Timestamp| {
            let key = id.map(|id| retry_key(&self.keys, id, facts.author_key, last));
            let seen = key.and_then(|key| self.retries.get_dated(key, now, COUNTED_MEMORY));
            let memo =
                seen.filter(|(memo, at)| *at > forgiven && still_holds(*memo, *at)).map(|(memo, _)| memo);
            Came { key, counted: seen.is_some(), memo }
        };
        let forgiven = self.gatherings.forgiven();
        let came: SmallVec<[Came; 2]> = if lists.is_empty() {
            smallvec![came(tx.digest, forgiven)]
        } else {
            lists.iter().map(|list| came(list.key, list.state.forgiven())).collect()
        };
        let came_before = came.iter().all(|came| came.counted);
        let limited = came.iter().filter_map(|came| came.memo).any(|memo| memo.limited);
        let repeated = came.iter().all(|came| came.memo.is_some());

        let parts_key = id.map(|id| parts_key(&self.keys, id, facts.author_key));
        let earlier = parts_key.and_then(|key| self.parts.get_dated(key, now, RETRY_MEMORY));
        // What its parts came to in a storm that an operator has ended since is no verdict any more.
        let earlier = earlier.filter(|(part, at)| part.list != 0 || *at > forgiven).map(|(part, _)| part);
        let new = lists.iter().zip(&came).filter(|(_, came)| came.memo.is_none() || repeated);
        let own = audience(&tx.world, new.map(|(list, _)| list)).saturating_add(tx.plain_recipients());
        let audience = match earlier {
            Some(part) if repeated => part.audience,
            Some(part) => part.audience.saturating_add(own),
            None => own,
        };
        Weighed { audience, own, came, parts_key, earlier, repeated, came_before, limited }
    }

    #[expect(clippy::too_many_arguments, reason = "they are one message, one list and two who are told")]
    fn judge_list(
        &self,
        facts: &Facts,
        list: &Arc<WatchedList>,
        audience: u64,
        counted: bool,
        now: Timestamp,
        decision: &mut Decision,
        tell: &mut impl FnMut(&Share<'_>),
    ) -> Judgement {
        let thread = self.threads.join(&facts.traces, list.key, facts.fallback, &self.keys, now);
        decision.kind = facts.kind(thread);
        let conversation = self.keys.combine(Role::Conversation, &[list.key, thread.key]);
        let post = Post {
            list: Some(ListShare { state: &list.state, members: list.members }),
            gathering: None,
            author: self.author(facts, list.key),
            audience,
            conversation: Conversation {
                key: conversation,
                reply: thread.reply,
                closed: self.by_hand.covers(conversation, now),
            },
            automatic: facts.automatic,
            part: counted,
            now,
        };
        let thresholds = &list.policy.thresholds;
        let outcome = self.detector.observe(&post, thresholds);
        tell(&Share {
            list: Some(list),
            author: facts.author_key,
            post: &post,
            outcome: &outcome,
            thresholds,
        });
        decision.record.shares.push(share(list.key, thread, &post, &outcome, thresholds));
        for change in [outcome.ended, outcome.started].into_iter().flatten() {
            decision.events.extend(self.event(change, Some(list), Some((&outcome, &post)), now));
        }
        outcome.judgement
    }

    /// Watched only because its sender was: it turned out to be another message, to few recipients and no list.
    pub(super) fn is_other_mail(&self, tx: &Transaction, weighed: &Weighed) -> bool {
        let few = weighed.audience < u64::from(tx.world.watch.many_recipients);
        tx.lists.is_empty() && few && weighed.earlier.is_none()
    }

    fn remember(
        &self,
        tx: &Transaction,
        weighed: &Weighed,
        verdicts: &[ListVerdict],
        limited: bool,
        now: Timestamp,
        decision: &mut Decision,
    ) {
        let Some(parts_key) = weighed.parts_key else { return };
        if !weighed.repeated || (weighed.limited && !limited) {
            for (verdict, key) in verdicts.iter().zip(weighed.came.iter().filter_map(|came| came.key)) {
                let list = match &verdict.list {
                    Some(list) if !tx.lists.is_empty() => list.key,
                    _ => 0,
                };
                let memo = RetryMemo { judgement: verdict.judgement, limited };
                self.retries.put(key, memo, now);
                note_verdict(&mut decision.record, list, memo);
            }
        }
        if weighed.repeated {
            return;
        }
        let mut memo = PartMemo { audience: weighed.audience, worst: Judgement::Pass, list: 0 };
        if let Some(earlier) = weighed.earlier {
            memo = PartMemo { audience: weighed.audience, ..earlier };
        }
        for verdict in verdicts {
            let list = verdict.list.as_ref().map_or(0, |list| list.key);
            if verdict.judgement > memo.worst {
                memo.worst = verdict.judgement;
                memo.list = list;
            }
        }
        self.parts.put(parts_key, memo, now);
        decision.record.parts = Some(memo.into());
    }

    /// Turns the verdicts into an action, and charges the rate limits for what passes.
    fn conclude(
        &self,
        tx: &Transaction,
        facts: &Facts,
        verdicts: &[ListVerdict],
        weighed: &Weighed,
        now: Timestamp,
        decision: &mut Decision,
    ) {
        let ruling = verdict::rule(verdicts, tx, self.is_observing(), now);
        decision.action = ruling.action;
        decision.would = ruling.would;
        if let Some(worst) = verdicts.get(ruling.decisive) {
            decision.reason = match worst.judgement {
                Judgement::Pass => Reason::Calm,
                Judgement::Suspicion { until } => Reason::Suspicion { until },
                Judgement::Automatic => Reason::Automatic,
                Judgement::Storm => Reason::Storm,
            };
            if let Some(list) = &worst.list {
                // Into the same memory: it is the first one, nearly always.
                decision.list.get_or_insert_default().clone_from(&list.address);
                decision.list_key = Some(list.key);
                let is_part = worst.judgement != Judgement::Pass;
                decision.storm = if is_part { storm_name(list, now) } else { None };
            }
        }
        // What is stopped is not charged; what came before and passed has been; and what was read only because
        // its sender had just sent to a list is no business of becalm's.
        let charged_before = weighed.repeated && !weighed.limited;
        if decision.action != Action::Accept || charged_before || self.is_other_mail(tx, weighed) {
            return;
        }
        if let Some(exceeded) = tx.world.limits.check(facts.author_key, weighed.own, now) {
            let decisive = verdicts.get(ruling.decisive);
            let policy = decisive.map_or(&tx.world.default_policy, |verdict| verdict.policy(tx));
            let name = decision.list.as_deref().unwrap_or("so many recipients");
            let protected = verdicts.iter().any(|v| v.policy(tx).never_hold);
            let mode = tx.world.limit_mode;
            let enforced = if mode == Mode::Observe { Mode::Hold } else { mode };
            let would = verdict::rule_limit(&exceeded, enforced, policy, name, weighed.audience, now);
            let acts = mode != Mode::Observe && !self.is_observing() && !protected;
            // A storm that is only observed is the better reason, unless the limit acts.
            if acts || decision.would == Action::Accept {
                decision.reason = Reason::Limit(exceeded);
                decision.would = would.clone();
            }
            if acts {
                decision.action = would;
            }
        }
    }

    /// The event of a change on a list (or, without one, of the beginning of a storm in a conversation).
    pub(super) fn event(
        &self,
        change: Transition,
        list: Option<&WatchedList>,
        cause: Option<(&Outcome, &Post<'_>)>,
        now: Timestamp,
    ) -> Option<Event> {
        match change {
            Transition::Started { trigger } => {
                let (outcome, post) = cause?;
                let since = outcome.writes.storm;
                let since = if since == Timestamp::default() { now } else { since };
                Some(Event::StormStarted {
                    storm: name_storm(since, list.map_or(post.conversation.key, |list| list.key)),
                    list: list.map(|list| list.address.clone()),
                    members: list.map_or(post.audience, |list| list.members),
                    trigger: trigger_name(trigger),
                    newcomers: outcome.conversation.newcomers,
                    authors: outcome.conversation.authors,
                    list_newcomers: outcome.list.newcomers,
                    copies: outcome.conversation.copies.max(outcome.list.copies),
                    at: now,
                })
            }
            Transition::Ended { since } => {
                let list = list?;
                Some(storm_ended(list.key, Some(list.address.clone()), &list.state.figures(), since, now))
            }
        }
    }

    pub(super) fn author(&self, facts: &Facts, list_key: u64) -> Author {
        Author {
            tag: AuthorTag::new(facts.author_key),
            known_key: self.keys.combine(Role::Known, &[list_key, facts.author_key]),
        }
    }
}

pub(super) fn parts_key(keys: &Keys, message: u64, author: u64) -> u64 {
    keys.combine(Role::Parts, &[message, author])
}

/// `last`: the list, or the set of recipients where none is named.
pub(super) fn retry_key(keys: &Keys, message: u64, author: u64, last: u64) -> u64 {
    keys.combine(Role::Retry, &[message, author, last])
}

impl Decision {
    fn accept(tx: &Transaction, facts: &Facts, lists: &[Arc<WatchedList>]) -> Self {
        Self {
            action: Action::Accept,
            would: Action::Accept,
            reason: Reason::Calm,
            list: lists.first().map(|list| list.address.clone()),
            list_key: lists.first().map(|list| list.key),
            storm: None,
            conversation: None,
            audience: audience(&tx.world, lists.iter()).saturating_add(tx.plain_recipients()),
            author: facts.author.as_deref().map(text),
            kind: if facts.automatic { Kind::Automatic } else { Kind::New },
            redistributed: facts.redistributed,
            wants_receipts: facts.wants_receipts,
            enforced: lists.iter().any(|list| list.policy.mode != Mode::Observe && !list.policy.never_hold),
            copies: Copies::default(),
            events: SmallVec::new(),
            record: Judged::default(),
        }
    }
}

/// Bytes that are text, nearly always.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Mailboxes that some lists reach together. Lists that matched a pattern add up: nothing is known of their
/// members but the number.
pub(super) fn audience<'a>(world: &World, lists: impl Iterator<Item = &'a Arc<WatchedList>>) -> u64 {
    let mut ids: SmallVec<[ListId; 4]> = SmallVec::new();
    let mut sum = 0_u64;
    for list in lists {
        if list.by_pattern {
            sum = sum.saturating_add(list.members);
        } else {
            ids.push(list.id);
        }
    }
    sum.saturating_add(world.snapshot.audience(&ids))
}

pub(super) fn both_suspicions(a: Judgement, b: Judgement) -> bool {
    matches!((a, b), (Judgement::Suspicion { .. }, Judgement::Suspicion { .. }))
}
