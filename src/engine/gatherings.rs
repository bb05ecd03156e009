//! Storms among many recipients without a list: what is remembered of each while it lasts, and a little longer.
//!
//! The rule closes the conversation by itself, in the table of conversations. What is kept here is the storm as people
//! see it: its name, its figures, its end, and that an operator has ended it.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::judging::{Facts, Weighed, both_suspicions};
use super::keys::{KeyHasher, Role};
use super::remember::share;
use super::transaction::Transaction;
use super::verdict::ListVerdict;
use super::world::World;
use super::{Decision, Engine, OpenStorm, Share, name_storm};
use crate::journal::event::Event;
use crate::journal::record::GatheringImage;
use crate::storm::detector::{Conversation, Judgement, Post, Transition};
use crate::storm::policy::Mode;
use crate::storm::state::{ListState, Phase, StateImage, StormFigures};
use crate::time::Timestamp;
use crate::window::TableStats;

/// Storms that are remembered, about 1 KB each. Further ones are judged all the same, without a name.
const MOST: usize = 1024;

/// No policy has a longer window or a longer quiet.
const LONGEST_WINDOW: Duration = Duration::from_secs(86_400);

/// A conversation that many people were named in, and that was a storm.
pub(super) struct Gathering {
    /// Keyed hash of the thread.
    pub key: u64,
    /// The same that is remembered of a list's storms.
    pub state: ListState,
    members: AtomicU64,
}

impl Engine {
    /// Many recipients, or a further part of a message whose list was in an earlier one: that list's verdict
    /// holds for the part too.
    pub(super) fn judge_without_list(
        &self,
        tx: &Transaction,
        facts: &Facts,
        weighed: &Weighed,
        now: Timestamp,
        decision: &mut Decision,
        tell: &mut impl FnMut(&Share<'_>),
    ) -> ListVerdict {
        if weighed.same_recipients().is_none() && self.is_other_mail(tx, weighed) {
            return ListVerdict { list: None, judgement: Judgement::Pass };
        }
        let thread = self.threads.join(&facts.traces, 0, facts.fallback, &self.keys, now);
        decision.kind = facts.kind(thread);
        let key = self.keys.combine(Role::Conversation, &[0, thread.key]);
        let gathering = self.gatherings.of(key);
        decision.conversation = Some(key);
        if let Some(judgement) = weighed.same_recipients() {
            // What passed before the storm began is none of it.
            let stopped = gathering.filter(|_| judgement == Judgement::Storm);
            decision.storm = stopped.and_then(|gathering| gathering.storm());
            return ListVerdict { list: None, judgement };
        }
        let thresholds = &tx.world.default_policy.thresholds;
        if let Some(gathering) = &gathering
            && let Some(ended) = self.detector.tick_gathering(&gathering.state, now, thresholds)
        {
            decision.events.extend(gathering.ended(ended, now));
        }
        let post = Post {
            list: None,
            gathering: gathering.as_ref().map(|gathering| &gathering.state),
            author: self.author(facts, 0),
            audience: weighed.audience,
            conversation: Conversation { key, reply: thread.reply, closed: false },
            automatic: facts.automatic,
            part: weighed.earlier.is_some() || weighed.came_before,
            now,
        };
        let mut outcome = self.detector.observe(&post, thresholds);
        let gathering = match outcome.started {
            Some(_) => self.gatherings.remember(key, post.audience, now),
            // Declared by another message while this one was judged.
            None if outcome.judgement == Judgement::Storm => {
                gathering.clone().or_else(|| self.gatherings.of(key))
            }
            None => gathering.clone(),
        };
        match &gathering {
            Some(gathering) => {
                self.detector.follow(&gathering.state, &post, &mut outcome);
                if outcome.writes.storm > Timestamp::default() {
                    gathering.reaches(post.audience);
                }
            }
            // So many storms at a time: this one goes without a name.
            None => outcome.started = None,
        }
        tell(&Share { list: None, author: facts.author_key, post: &post, outcome: &outcome, thresholds });
        decision.record.shares.push(share(0, thread, &post, &outcome, thresholds));
        if let Some(started) = outcome.started {
            decision.events.extend(self.event(started, None, Some((&outcome, &post)), now));
        }
        match weighed.earlier {
            // Two suspicions differ in their time alone; the earlier part's counts.
            Some(part)
                if part.worst >= outcome.judgement || both_suspicions(part.worst, outcome.judgement) =>
            {
                ListVerdict { list: tx.world.list_by_key(part.list), judgement: part.worst }
            }
            _ => {
                if outcome.judgement == Judgement::Storm {
                    decision.storm = gathering.and_then(|gathering| gathering.storm());
                }
                ListVerdict { list: None, judgement: outcome.judgement }
            }
        }
    }

    /// Storms among many recipients end without mail too.
    pub(super) fn tick_gatherings(&self, now: Timestamp, events: &mut Vec<Event>) {
        let world = self.world.load();
        let thresholds = &world.default_policy.thresholds;
        for gathering in self.gatherings.all() {
            if let Some(ended) = self.detector.tick_gathering(&gathering.state, now, thresholds) {
                events.extend(gathering.ended(ended, now));
            }
        }
    }

    /// The conversation of an open storm among many recipients.
    pub fn conversation_of(&self, storm: &str) -> Option<u64> {
        Some(self.open_gathering(storm)?.1)
    }

    /// The storm of a conversation among many recipients that is open, or was declared after `since`.
    pub fn storm_in(&self, conversation: u64, since: Timestamp) -> Option<String> {
        let gathering = self.gatherings.of(conversation)?;
        let over = || {
            let ended = gathering.state.last_ended();
            (ended > Timestamp::default() && ended >= since).then(|| name_storm(ended, conversation))
        };
        gathering.storm().or_else(over)
    }

    /// The storm of this name that is open: when it was declared, and its conversation.
    pub(super) fn open_gathering(&self, storm: &str) -> Option<(Timestamp, u64)> {
        let all = self.gatherings.all();
        let open = all.iter().find(|gathering| gathering.storm().as_deref() == Some(storm))?;
        Some((open.since()?, open.key))
    }

    /// The conversation of a storm, by when it was declared and its name.
    pub(super) fn gathering_of(&self, since: Timestamp, storm: &str) -> Option<u64> {
        let all = self.gatherings.all();
        all.iter().find(|gathering| name_storm(since, gathering.key) == storm).map(|gathering| gathering.key)
    }

    /// What was kept of one is known again.
    pub(super) fn put_back_gathering(&self, image: &GatheringImage, now: Timestamp) {
        let [storm, ended, last_attempt, forgiven] = image.times;
        let [held, copies_held, delivered, copies_delivered] = image.figures;
        let Some(gathering) = self.gatherings.remember(image.conversation, image.members, now) else {
            return;
        };
        let figures = StormFigures { held, copies_held, delivered, copies_delivered };
        let last_attempt = last_attempt.min(now);
        gathering.state.put_back(
            &StateImage { since: now, storm, ended, last_attempt, figures, ..StateImage::default() },
            now,
        );
        self.forgive_gathering(image.conversation, forgiven, now);
    }

    /// An operator ended a conversation's storm at `at`: what came by then counts no more.
    pub(super) fn forgive_gathering(&self, conversation: u64, at: Timestamp, now: Timestamp) {
        if at > Timestamp::default()
            && let Some(gathering) = self.gatherings.remember(conversation, 0, now)
        {
            gathering.state.join_forgiven(at);
            self.gatherings.note_forgiven(at);
        }
    }
}

impl Gathering {
    /// The name of its storm; none: it is over.
    pub fn storm(&self) -> Option<String> {
        Some(name_storm(self.since()?, self.key))
    }

    /// For the admin side; none: it is over.
    pub fn open_storm(&self, world: &World) -> Option<OpenStorm> {
        let since = self.since()?;
        let policy = &world.default_policy;
        Some(OpenStorm {
            list: None,
            members: self.members(),
            phase: Phase::Storm { since },
            storm: Some(name_storm(since, self.key)),
            mode: policy.mode,
            never_hold: policy.never_hold,
            closed_until: None,
            enforced: policy.mode != Mode::Observe && !policy.never_hold,
            ends: self.state.ends(policy.thresholds.quiet),
            last_attempt: self.state.last_attempt(),
            figures: self.state.figures(),
        })
    }

    /// As it is kept.
    pub fn image(&self, now: Timestamp) -> GatheringImage {
        let StateImage { storm, ended, last_attempt, figures, .. } = self.state.image(now);
        let StormFigures { held, copies_held, delivered, copies_delivered } = figures;
        GatheringImage {
            conversation: self.key,
            members: self.members(),
            times: [storm, ended, last_attempt, self.state.forgiven()],
            figures: [held, copies_held, delivered, copies_delivered],
        }
    }

    /// The event of its storm's end.
    pub fn ended(&self, change: Transition, now: Timestamp) -> Option<Event> {
        let Transition::Ended { since } = change else { return None };
        Some(storm_ended(self.key, None, &self.state.figures(), since, now))
    }

    fn reaches(&self, mailboxes: u64) {
        // Relaxed, as in `members`.
        self.members.fetch_max(mailboxes, Ordering::Relaxed);
    }

    /// Mailboxes that its largest message reached.
    pub fn members(&self) -> u64 {
        // Relaxed: a figure for people.
        self.members.load(Ordering::Relaxed)
    }

    /// The start of its storm; none: it is over.
    pub fn since(&self) -> Option<Timestamp> {
        match self.state.phase(Timestamp::default()) {
            Phase::Storm { since } => Some(since),
            Phase::Calm | Phase::Cooling { .. } => None,
        }
    }
}

/// All of them. Mail to lists, and ordinary mail, never comes here.
#[derive(Default)]
pub(super) struct Gatherings {
    all: Mutex<HashMap<u64, Arc<Gathering>, BuildHasherDefault<KeyHasher>>>,
    /// How many there are: nearly always none, and then nobody takes the lock.
    count: AtomicUsize,
    /// The latest end by hand.
    forgiven: AtomicU64,
    /// Storms that found no place.
    refused: AtomicU64,
}

impl Gatherings {
    /// What is remembered of a conversation.
    pub fn of(&self, key: u64) -> Option<Arc<Gathering>> {
        // Acquire: pairs with the release in `remember`.
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.lock().get(&key).cloned()
    }

    /// The same; a new one, if nothing is remembered. None: there are too many storms.
    pub fn remember(&self, key: u64, members: u64, now: Timestamp) -> Option<Arc<Gathering>> {
        let mut all = self.lock();
        if all.len() >= MOST && !all.contains_key(&key) {
            // Without what was forgiven, the storm that an operator has ended would go on.
            all.retain(|_, gathering| {
                gathering.since().is_some() || gathering.state.forgiven().after(LONGEST_WINDOW) > now
            });
        }
        if all.len() >= MOST && !all.contains_key(&key) {
            // Relaxed: a figure for people.
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let gathering = all.entry(key).or_insert_with(|| {
            Arc::new(Gathering { key, state: ListState::new(now), members: AtomicU64::new(0) })
        });
        gathering.reaches(members);
        let gathering = Arc::clone(gathering);
        self.count.store(all.len(), Ordering::Release);
        Some(gathering)
    }

    /// All that are remembered.
    pub fn all(&self) -> Vec<Arc<Gathering>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        self.lock().values().cloned().collect()
    }

    /// How full it is.
    pub fn stats(&self) -> TableStats {
        let occupied = self.count.load(Ordering::Acquire);
        TableStats {
            capacity: MOST,
            occupied,
            evictions: 0,
            refused: self.refused.load(Ordering::Relaxed),
            bytes: occupied * (size_of::<Gathering>() + size_of::<(u64, Arc<Gathering>)>()),
        }
    }

    /// An operator has ended one: what its storm stopped is judged anew when it comes again.
    pub fn note_forgiven(&self, at: Timestamp) {
        self.forgiven.fetch_max(at.as_millis(), Ordering::AcqRel);
    }

    /// When an operator has last ended one.
    pub fn forgiven(&self) -> Timestamp {
        Timestamp::from_millis(self.forgiven.load(Ordering::Acquire))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Gathering>, BuildHasherDefault<KeyHasher>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The event of the end of a storm that was declared at `since`, on a list or in a conversation with this key.
pub(super) fn storm_ended(
    key: u64,
    list: Option<String>,
    figures: &StormFigures,
    since: Timestamp,
    now: Timestamp,
) -> Event {
    Event::StormEnded {
        storm: name_storm(since, key),
        list,
        held: figures.held,
        copies_held: figures.copies_held,
        delivered: figures.delivered,
        since,
        at: now,
    }
}
