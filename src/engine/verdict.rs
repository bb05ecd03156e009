//! From judgements to an action: the one place where the operator's modes are applied.

use std::sync::Arc;

use smallvec::SmallVec;

use super::transaction::Transaction;
use super::world::WatchedList;
use crate::storm::detector::Judgement;
use crate::storm::limits::Exceeded;
use crate::storm::policy::{Mode, Policy, SuspicionAction};
use crate::time::Timestamp;

/// What is to be done with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Let it pass untouched.
    Accept,
    /// Take these recipients off (their bytes as the client sent them) and deliver to the others.
    Strip {
        /// Never all recipients of the message.
        recipients: Vec<Box<[u8]>>,
    },
    /// Into the hold queue.
    Hold,
    /// 4xx with this text.
    Defer {
        /// Without reply code.
        text: String,
    },
    /// 5xx with this text.
    Reject {
        /// Without reply code.
        text: String,
    },
    /// Accept and throw away.
    Discard,
}

impl Action {
    /// For logs and counters.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Strip { .. } => "strip",
            Self::Hold => "hold",
            Self::Defer { .. } => "defer",
            Self::Reject { .. } => "reject",
            Self::Discard => "discard",
        }
    }

    /// Which of two lists' wishes prevails. Discard comes low: it only wins where nobody else wants anything.
    fn rank(&self) -> u8 {
        match self {
            Self::Accept => 0,
            Self::Strip { .. } => 1,
            Self::Discard => 2,
            Self::Hold => 3,
            Self::Defer { .. } => 4,
            Self::Reject { .. } => 5,
        }
    }
}

/// One list's say about a message.
pub(super) struct ListVerdict {
    /// None: many recipients, under the default policy.
    pub list: Option<Arc<WatchedList>>,
    pub judgement: Judgement,
}

impl ListVerdict {
    /// The list's, or the default one.
    pub(super) fn policy<'a>(&'a self, tx: &'a Transaction) -> &'a Policy {
        self.list.as_ref().map_or(&tx.world.default_policy, |list| &list.policy)
    }
}

/// The action that the lists' verdicts come to, as if every list were enforced, and as it really is.
pub(super) struct Ruling {
    pub would: Action,
    pub action: Action,
    /// Which verdict is the reason: the worst of those that ask for anything. 0 if none does.
    pub decisive: usize,
}

/// Applies modes: the strictest wish wins; a list that is never held protects the whole message; nothing is
/// thrown away, and no recipient dropped, on behalf of a list that did not ask for it.
pub(super) fn rule(verdicts: &[ListVerdict], tx: &Transaction, observing: bool, now: Timestamp) -> Ruling {
    let wishes =
        |pretend| -> Wishes { verdicts.iter().map(|verdict| wish(verdict, tx, now, pretend)).collect() };
    let (enforced, pretended) = (wishes(false), wishes(true));
    let protected = verdicts.iter().any(|verdict| verdict.policy(tx).never_hold);
    let action = if observing || protected { Action::Accept } else { combine(&enforced, tx) };
    // A list that is only observed is not the reason for what another one does.
    let asking = if action == Action::Accept { &pretended } else { &enforced };
    let decisive = verdicts
        .iter()
        .zip(asking)
        .enumerate()
        .filter(|(_, (_, wish))| **wish != Action::Accept)
        .max_by_key(|(_, (verdict, _))| verdict.judgement)
        .or_else(|| verdicts.iter().zip(asking).enumerate().max_by_key(|(_, (verdict, _))| verdict.judgement))
        .map_or(0, |(at, _)| at);
    Ruling { would: combine(&pretended, tx), action, decisive }
}

/// What a message above a rate limit meets.
pub(super) fn rule_limit(
    exceeded: &Exceeded,
    mode: Mode,
    policy: &Policy,
    list: &str,
    members: u64,
    now: Timestamp,
) -> Action {
    let text = || fill(&policy.limit_text, list, members, minutes_until(exceeded.retry_at.since(now)));
    match mode {
        Mode::Observe => Action::Accept,
        Mode::Reject => Action::Reject { text: text() },
        Mode::Defer => Action::Defer { text: text() },
        Mode::Hold | Mode::Discard | Mode::Strip => Action::Hold,
    }
}

/// What each verdict asks for.
type Wishes = SmallVec<[Action; 2]>;

fn combine(wishes: &[Action], tx: &Transaction) -> Action {
    let Some(strictest) = wishes.iter().max_by_key(|wish| wish.rank()) else { return Action::Accept };
    match strictest {
        Action::Strip { .. } => strip(wishes, tx),
        Action::Discard
            if tx.plain_recipients() > 0
                || !every_list_judged(tx)
                || wishes.iter().any(|wish| *wish != Action::Discard) =>
        {
            Action::Hold
        }
        action => action.clone(),
    }
}

/// What one list's policy asks for. `pretend`: as if an observed list held.
fn wish(verdict: &ListVerdict, tx: &Transaction, now: Timestamp, pretend: bool) -> Action {
    let policy = verdict.policy(tx);
    let mode = match policy.mode {
        Mode::Observe if pretend => Mode::Hold,
        mode => mode,
    };
    if mode == Mode::Observe || verdict.judgement == Judgement::Pass {
        return Action::Accept;
    }
    let (address, members) = match &verdict.list {
        Some(list) => (list.address.as_str(), list.members),
        None => ("so many recipients", u64::from(tx.recipients)),
    };
    let quiet = policy.thresholds.quiet;
    if let Judgement::Suspicion { until } = verdict.judgement {
        let text = || fill(&policy.defer_text, address, members, minutes_until(until.since(now)));
        return match policy.suspicion {
            SuspicionAction::Pass => Action::Accept,
            SuspicionAction::Hold => Action::Hold,
            SuspicionAction::Defer => Action::Defer { text: text() },
        };
    }
    match mode {
        Mode::Observe => Action::Accept,
        Mode::Hold => Action::Hold,
        Mode::Reject => {
            Action::Reject { text: fill(&policy.reject_text, address, members, minutes_until(quiet)) }
        }
        Mode::Defer => {
            Action::Defer { text: fill(&policy.defer_text, address, members, minutes_until(quiet)) }
        }
        Mode::Discard => Action::Discard,
        Mode::Strip => match &verdict.list {
            Some(list) => {
                let mine = tx.lists.iter().filter(|recipient| recipient.list.key == list.key);
                let recipients: Vec<_> = mine.map(|recipient| recipient.raw.clone()).collect();
                // A further part of a message whose list came, and was taken off, in an earlier one.
                if recipients.is_empty() { Action::Accept } else { Action::Strip { recipients } }
            }
            None => Action::Hold,
        },
    }
}

/// All recipients that lists want off; if nobody would be left, or not every list recipient was kept in
/// memory, the message is held instead.
fn strip(wishes: &[Action], tx: &Transaction) -> Action {
    let recipients: Vec<Box<[u8]>> = wishes
        .iter()
        .filter_map(|wish| match wish {
            Action::Strip { recipients } => Some(recipients.iter().cloned()),
            _ => None,
        })
        .flatten()
        .collect();
    let some_left = recipients.len() < tx.recipients as usize;
    if every_list_judged(tx) && some_left { Action::Strip { recipients } } else { Action::Hold }
}

/// Whether all recipients that are lists were kept; there may be more than are judged.
fn every_list_judged(tx: &Transaction) -> bool {
    tx.lists.len() == tx.list_recipients as usize
}

fn fill(template: &str, list: &str, members: u64, minutes: u64) -> String {
    template
        .replace("{members}", &members.to_string())
        .replace("{retry}", &minutes.to_string())
        // Last: an address could contain a placeholder.
        .replace("{list}", list)
}

fn minutes_until(span: std::time::Duration) -> u64 {
    span.as_secs().div_ceil(60).max(1)
}
