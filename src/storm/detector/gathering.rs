//! Messages to many recipients without a list: the rule, as far as it can be kept without members and phases.

use std::time::Duration;

use super::*;

impl Detector {
    /// Many recipients and no list: there is no membership and no phase, only the conversation itself, which
    /// closes when it trips and opens again when it has been quiet.
    pub(super) fn observe_without_list(&self, post: &Post<'_>, t: &Thresholds) -> Outcome {
        let now = post.now;
        let mut outcome = Outcome::pass(t.window);
        if post.automatic {
            return outcome;
        }
        outcome.newcomer = !self.known.known(post.author.known_key, now, t.known_after, t.known_for);
        let Some(slot) = self.conversations.slot(post.conversation.key, now) else { return outcome };
        let storm = post.gathering;
        let counted = storm.map_or(Some(t.window), |storm| storm.counted(now, t.window));
        outcome.window = counted.unwrap_or(SECOND);
        let window = outcome.window;
        let tally = count_in_conversation(Some(&slot), post, &mut outcome, window);
        let tally = counted.map_or_else(Tally::default, |_| tally);
        outcome.conversation = tally;
        let scope = Scope::conversation(t, post.audience);
        // Where its storm is known, that tells, whatever became of the slot, the thresholds or the clock since.
        let closed = match storm {
            Some(storm) => matches!(storm.phase(now), Phase::Storm { .. }),
            None => slot.closed_until() > now,
        };
        let tripped = post.conversation.reply && (tally.newcomers >= scope.storm || tally.authors >= t.max);
        outcome.judgement = if tripped || (closed && post.conversation.reply) {
            // Who tries again keeps no storm alive: another server does, not people.
            if !(closed && post.part) {
                outcome.writes.closed_until = now.after(closes_for(t));
                slot.close_until(outcome.writes.closed_until);
            }
            Judgement::Storm
        } else if post.conversation.reply && outcome.newcomer && too_many(&tally, scope.pass) {
            Judgement::Suspicion { until: now.after(t.delay) }
        } else {
            self.known.record(post.author.known_key, now, t.known_for);
            outcome.writes.known = true;
            Judgement::Pass
        };
        if tripped && !closed {
            let trigger = if tally.newcomers >= scope.storm {
                Trigger::ConversationNewcomers
            } else {
                Trigger::ConversationAuthors
            };
            outcome.started = Some(Transition::Started { trigger });
        }
        outcome
    }

    /// Keeps account of the storm of a conversation without list, after a post in it was judged: it begins with a post
    /// that tripped, and is announced by one of those who judge at the same time.
    pub fn follow(&self, storm: &ListState, post: &Post<'_>, outcome: &mut Outcome) {
        let now = post.now;
        if outcome.started.is_some() && !storm.open(now) {
            outcome.started = None;
        }
        let Phase::Storm { since } = storm.phase(now) else { return };
        let stopped = outcome.judgement == Judgement::Storm;
        // A further part, or another try, is of a message that was counted already.
        if !post.part {
            if stopped {
                storm.remember_attempt(now);
            }
            outcome.writes.attempt = stopped;
            storm.count(stopped, post.audience);
        }
        outcome.writes.storm = since;
        outcome.writes.figures = storm.figures();
    }

    /// Lets time pass for a conversation without list. Its storm has no aftermath.
    pub fn tick_gathering(&self, storm: &ListState, now: Timestamp, t: &Thresholds) -> Option<Transition> {
        storm.close_if_quiet(now, t.quiet, Duration::ZERO).map(|since| Transition::Ended { since })
    }
}

/// A conversation without list stays closed for so long after the last attempt. As on a list, the end is when that is
/// older than `quiet`, not just as old.
fn closes_for(t: &Thresholds) -> Duration {
    t.quiet.saturating_add(Duration::from_millis(1))
}
