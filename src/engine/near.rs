//! What is near a storm and none yet: for people who look, read from the counters.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, TryLockError};

use super::judging::Share;
use super::remember::trigger_name;
use super::{Engine, WatchedList};
use crate::storm::detector::{Judgement, ListShare, Nearness, Scope};
use crate::time::Timestamp;

/// Conversations that are followed at once, about 48 bytes each; beyond them the one that is quiet longest is
/// forgotten. More than an operator could look at.
pub(super) const MAX_FOLLOWED: usize = 1024;

/// A list or a conversation at half of what trips, or more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Near {
    /// The list; none: a message to many recipients.
    pub list: Option<String>,
    /// Mailboxes that a message reaches.
    pub members: u64,
    /// The conversation, as a keyed hash; none: all of the list's together.
    pub conversation: Option<u64>,
    /// The test that is nearest, in the words of [`Event::StormStarted`](crate::journal::event::Event).
    pub test: &'static str,
    /// How near.
    pub nearness: Nearness,
}

/// Conversations that were at half of what trips when somebody answered last. The counters know no conversation's
/// list; so it is noted here, at the few replies where it matters. Forgotten with the process.
#[derive(Default)]
pub(super) struct Followed(Mutex<HashMap<u64, Place>>);

#[derive(Clone, Copy)]
struct Place {
    /// 0: none.
    list: u64,
    audience: u64,
    at: Timestamp,
}

impl Followed {
    /// Looks at a judgement. Ordinary mail never comes here, and calm conversations leave after two comparisons.
    pub(super) fn note(&self, share: &Share<'_>) {
        let Share { list, post, outcome, thresholds, .. } = share;
        let counts = &outcome.conversation;
        let trips = Scope::conversation(thresholds, post.audience).storm;
        let far = |people: u32, threshold: u32| people.saturating_mul(2) < threshold;
        let calm = far(counts.newcomers, trips) && far(counts.authors, thresholds.max);
        if calm || outcome.judgement == Judgement::Storm || !post.conversation.reply {
            return;
        }
        self.follow(post.conversation.key, list.map_or(0, |list| list.key), post.audience, post.now);
    }

    pub(super) fn follow(&self, conversation: u64, list: u64, audience: u64, at: Timestamp) {
        // Nobody waits for a figure: where somebody reads, the next reply tells it.
        let mut places = match self.0.try_lock() {
            Ok(places) => places,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if places.len() >= MAX_FOLLOWED
            && !places.contains_key(&conversation)
            && let Some(quietest) = places.iter().min_by_key(|(_, place)| place.at).map(|(key, _)| *key)
        {
            places.remove(&quietest);
        }
        places.insert(conversation, Place { list, audience, at });
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Engine {
    /// Lists and conversations at half of what trips or more, the nearest first. Reads the rings of all lists, and
    /// disturbs nobody who judges. A list is left out where one of its conversations says as much.
    pub fn near(&self, now: Timestamp) -> Vec<Near> {
        let world = self.world();
        let mut near: Vec<Near> = Vec::new();
        let mut followed = self.followed.0.lock().unwrap_or_else(PoisonError::into_inner);
        followed.retain(|key, place| {
            let list = world.list_by_key(place.list);
            if list.is_none() && place.list != 0 {
                return false;
            }
            let policy = list.as_ref().map_or(&world.default_policy, |list| &list.policy);
            let nearness = self.detector.nearness_of_conversation(
                *key,
                place.audience,
                list.as_deref().map(shared),
                now,
                &policy.thresholds,
            );
            let Some(nearness) = nearness.filter(Nearness::is_near) else { return false };
            let members = list.as_ref().map_or(place.audience, |list| list.members);
            let list = list.map(|list| list.address.clone());
            let test = trigger_name(nearness.test);
            near.push(Near { list, members, conversation: Some(*key), test, nearness });
            true
        });
        drop(followed);
        let conversations = near.len();
        for list in world.lists() {
            let nearness = self.detector.nearness_of_list(shared(&list), now, &list.policy.thresholds);
            let Some(nearness) = nearness.filter(Nearness::is_near) else { continue };
            let said = near.iter().take(conversations).any(|other| {
                other.list.as_ref() == Some(&list.address) && !nearness.is_nearer_than(&other.nearness)
            });
            if !said {
                let (list, members) = (Some(list.address.clone()), list.members);
                let test = trigger_name(nearness.test);
                near.push(Near { list, members, conversation: None, test, nearness });
            }
        }
        // By the ratio; what costs more first among equals.
        near.sort_by(|a, b| {
            let ratio = |near: &Near| {
                (u64::from(near.nearness.people) << 32) / u64::from(near.nearness.threshold.max(1))
            };
            (ratio(b), b.nearness.copies).cmp(&(ratio(a), a.nearness.copies))
        });
        near
    }
}

fn shared(list: &WatchedList) -> ListShare<'_> {
    ListShare { state: &list.state, members: list.members }
}
