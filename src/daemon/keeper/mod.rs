//! Keeps the quarantine: sets the ledger right from the queue, lets suspicions go that calmed, returns what is too
//! old, watches the room that is left, and does what operators ask. A thread of its own: the helper may take its
//! time, and no verdict waits for it.

mod claw;
mod link;
mod room;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{error, info, warn};

use super::shared::Shared;
use crate::admin::api::{Act, Acted, Failed, HelperState, QuarantineState, StormRecord};
use crate::alert::watch::Room;
use crate::config::Quarantine;
use crate::quarantine::ledger::{CLAWED_BACK, Held, InQueue, Limits, Position};
use crate::quarantine::pace::Pace;
use crate::quarantine::protocol::{HeldMail, Reason, Request};
use crate::quarantine::queue_id::QueueId;
use crate::storm::state::Phase;
use crate::time::Timestamp;
use link::{Failure, Link, Links, Listed};

/// Between two rounds in which nothing was due.
const ROUND: Duration = Duration::from_millis(500);

/// Acts in one round, after which the thread looks whether it is to stop.
const ACTS_A_ROUND: usize = 100;

/// After this time a message is tried again that Postfix's programs failed on.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// For how long one request of an operator's is worked on; the command sends the rest again.
const OPERATOR_PATIENCE: Duration = Duration::from_secs(5);

/// What keeps the quarantine. One per daemon.
pub struct Keeper {
    shared: Arc<Shared>,
    settings: Mutex<Quarantine>,
    /// Held for an act and what follows from it in the ledger: they agree for whoever comes next.
    links: Mutex<Links>,
    seen: Mutex<Seen>,
    /// How much of each limit was taken when that was last looked at.
    room: Mutex<Vec<Room>>,
    /// As they were when the links were last free.
    helpers: Mutex<Vec<HelperState>>,
    /// Of the thread that was started last.
    stop: Mutex<Arc<AtomicBool>>,
}

/// What was seen when the queue was last looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    reconciled: Option<Timestamp>,
    /// Messages on hold that are not ours.
    others: u64,
    free_bytes: Option<u64>,
}

/// What the thread remembers from one round to the next.
struct Rounds<'s> {
    /// Set when nothing more is to be begun.
    stop: &'s AtomicBool,
    pace: Pace,
    next_look: Timestamp,
    next_return: Timestamp,
    /// What is overdue was tried up to here, and some of it could not be returned.
    tried: Option<Position>,
}

impl Rounds<'_> {
    /// Is nothing more to be begun? Another becalm may look after the same queue by now.
    fn are_over(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

impl Keeper {
    /// For a daemon's ledger.
    pub fn new(shared: Arc<Shared>, settings: Quarantine) -> Self {
        let keeper = Self {
            shared,
            settings: Mutex::new(settings.clone()),
            links: Mutex::default(),
            seen: Mutex::default(),
            room: Mutex::default(),
            helpers: Mutex::default(),
            stop: Mutex::default(),
        };
        keeper.set(settings);
        keeper
    }

    /// Other settings, from now on.
    pub fn set(&self, settings: Quarantine) {
        // Without a helper nobody tells what has left the queue: what was held since the start is no measure of it.
        let limits = Limits { count: settings.max_count, bytes: settings.max_bytes };
        self.shared.ledger.set_limits((!settings.helpers.is_empty()).then_some(limits));
        self.links().set_sockets(&settings.helpers);
        *lock(&self.settings) = settings;
    }

    /// Starts the thread. It ends some time after [`Keeper::stop`], and is not waited for: what it has begun, the
    /// helper ends. `goes_on`: another becalm has let mail go until a moment ago, and the pace is that of both.
    pub fn start(self: &Arc<Self>, goes_on: bool) -> std::io::Result<()> {
        // One that was stopped a moment ago may not have noticed yet.
        let (keeper, stop) = (Arc::clone(self), Arc::new(AtomicBool::new(false)));
        *lock(&self.stop) = Arc::clone(&stop);
        std::thread::Builder::new()
            .name("becalm-keeper".to_owned())
            .spawn(move || keeper.keep(&stop, goes_on))
            .map(drop)
    }

    /// Begins nothing more.
    pub fn stop(&self) {
        lock(&self.stop).store(true, Ordering::Release);
    }

    /// How the quarantine is, for `becalm status`.
    pub fn state(&self) -> QuarantineState {
        let settings = lock(&self.settings).clone();
        let seen = *lock(&self.seen);
        let ledger = &self.shared.ledger;
        let totals = ledger.totals();
        // Status does not wait for a helper that takes its time.
        let mut helpers = lock(&self.helpers);
        if let Ok(links) = self.links.try_lock() {
            *helpers = links.iter().map(helper_state).collect();
        }
        let helpers = helpers.clone();
        QuarantineState {
            held: totals.count as u64,
            copies: totals.copies,
            bytes: totals.bytes,
            waiting: totals.waiting as u64,
            oldest: totals.oldest.map(Timestamp::rfc3339),
            oldest_age_s: totals.oldest.map(|oldest| self.shared.clock.now().since(oldest).as_secs()),
            max_count: settings.max_count as u64,
            max_bytes: settings.max_bytes,
            max_age_s: settings.max_age.as_secs(),
            full: ledger.full().map(|full| full.name().to_owned()),
            free_bytes: seen.free_bytes,
            others: seen.others,
            reconciled: seen.reconciled.map(Timestamp::rfc3339),
            helpers,
        }
    }

    /// What an operator asks for. Blocks for some seconds at most; what was not come to is in neither list.
    pub fn operate(&self, act: Act, ids: &[String]) -> Acted {
        let begun = self.shared.clock.now();
        let mut acted = Acted::default();
        for id in ids {
            let now = self.shared.clock.now();
            if now.since(begun) > OPERATOR_PATIENCE {
                break;
            }
            let mut fail = |reason: String| acted.failed.push(Failed { id: id.clone(), reason });
            let queue_id = match QueueId::parse(id) {
                Ok(queue_id) => queue_id,
                Err(error) => {
                    fail(error.to_string());
                    continue;
                }
            };
            let mut links = self.links();
            let request = match act {
                Act::Release => Request::Release(queue_id),
                Act::Return => Request::Return(queue_id),
            };
            match self.carry_out(&mut links, &request, true, id, now) {
                Ok(()) => acted.done.push(id.clone()),
                Err(Failure::Refused(refusal)) => fail(refusal.message),
                Err(Failure::Down(why)) => {
                    // The others would fare no better.
                    fail(why);
                    break;
                }
            }
        }
        acted
    }

    fn keep(&self, stop: &AtomicBool, goes_on: bool) {
        let now = self.shared.clock.now();
        let pace = lock(&self.settings).release_pace;
        let pace = if goes_on { Pace::empty(pace, now) } else { Pace::new(pace, now) };
        let mut rounds = Rounds { stop, pace, next_look: now, next_return: now, tried: None };
        while !rounds.are_over() {
            // A bug here must not end what looks after held mail.
            let more = std::panic::catch_unwind(AssertUnwindSafe(|| self.round(&mut rounds)));
            if more.is_err() {
                error!("looking after held mail failed; it stays on hold, and the next round tries again");
            }
            if !more.unwrap_or(false) {
                self.shared.passed.wait(ROUND);
            }
        }
    }

    /// One round; true if there may be more to do at once.
    fn round(&self, rounds: &mut Rounds<'_>) -> bool {
        let settings = lock(&self.settings).clone();
        let now = self.shared.clock.now();
        rounds.pace.set(settings.release_pace);
        self.watch(&settings, now);
        if !self.links().is_any_ready(now) {
            return false;
        }
        // First: while it is waited for, it is delivered.
        self.claw_back(rounds);
        // Before anything is released. Where one of several helpers is missing, the others work on.
        if now >= rounds.next_look && !rounds.are_over() && self.look(now) {
            rounds.next_look = self.shared.clock.now().after(settings.reconcile);
        }
        if !self.links().is_any_ready(now) {
            return false;
        }
        if now >= rounds.next_return && !self.return_overdue(rounds, &settings, now) {
            rounds.next_return = now.after(TRY_AGAIN);
        }
        self.release_due(rounds)
    }

    /// Sets the ledger right from the queue, as far as the helpers tell. False where none of them can be asked.
    fn look(&self, now: Timestamp) -> bool {
        // To the end: nothing is released between the look and its taking effect.
        let mut links = self.links();
        let Listed { held, others, is_whole } = match links.list(now) {
            Ok(listed) => listed,
            Err(Failure::Refused(_)) => return true,
            Err(Failure::Down(_)) => return false,
        };
        let engine = &self.shared.engine;
        let storms = engine.storms(now);
        let storm_of = |item: &Held| {
            if item.list.is_none() {
                return engine.storm_in(item.conversation?, item.since);
            }
            let open = storms.iter().find(|storm| storm.list == item.list);
            let open = open.filter(|open| matches!(open.phase, Phase::Storm { .. }));
            open.and_then(|open| open.storm.clone()).or_else(|| self.declared_while_it_waited(item))
        };
        let listed = held.len();
        let queue: Vec<InQueue> = held.into_iter().filter_map(|mail| self.in_queue(mail, now)).collect();
        // Marked with a key that this process does not have: it made one up when it could not read the file.
        let others = others.saturating_add((listed - queue.len()) as u64);
        let outcome = self.shared.ledger.reconcile(queue, is_whole, now, storm_of);
        for queue_id in &outcome.never_seen {
            self.say_never_seen(queue_id, now);
        }
        if outcome.gone > 0 || outcome.taken_in > 0 {
            let (gone, taken_in) = (outcome.gone, outcome.taken_in);
            info!(gone, taken_in, "set right from Postfix's hold queue");
        }
        if is_whole {
            let mut seen = lock(&self.seen);
            (seen.reconciled, seen.others) = (Some(now), others);
        }
        true
    }

    /// A storm that cancelled a suspicion's timer and is over: its mail may have left the queue, the journal knows it.
    fn declared_while_it_waited(&self, item: &Held) -> Option<String> {
        let since = item.since.rfc3339();
        let declared = |record: &StormRecord| record.list == item.list && record.started >= since;
        self.shared.storms.list().into_iter().find(declared).map(|record| record.storm)
    }

    fn in_queue(&self, mail: HeldMail, now: Timestamp) -> Option<InQueue> {
        let mark = self.shared.marker.load().verify(&mail.mark)?;
        let engine = &self.shared.engine;
        let world = engine.world();
        // The first marks did not say which list it was.
        let list = mark
            .list
            .and_then(|key| world.list_by_key(key))
            .or_else(|| mail.recipients.iter().find_map(|to| engine.list_named(to.as_bytes(), now)));
        let author = crate::mail::author(world.rules(), None, None, mail.sender.as_bytes(), |_| false);
        Some(InQueue {
            mark,
            list: list.map(|list| list.address.clone()),
            sender: author.map_or(mail.sender, |author| String::from_utf8_lossy(&author).into_owned()),
            size: mail.size,
        })
    }

    /// Lets go what is due, as fast as the pace allows. True if there is more.
    fn release_due(&self, rounds: &mut Rounds<'_>) -> bool {
        for _ in 0..ACTS_A_ROUND {
            let mut links = self.links();
            if rounds.are_over() {
                return false;
            }
            let pace = &mut rounds.pace;
            let now = self.shared.clock.now();
            // Taken while the links are held: an operator may have been faster, and a storm may have cancelled it.
            let Some(item) = self.shared.ledger.due(now) else { return false };
            if let Some(storm) = self.storm_on(&item, now) {
                // Declared by another message while this one was being noted.
                self.shared.keep_held(item.list.as_deref(), &storm);
                continue;
            }
            if !pace.admits(item.copies, now) {
                return false;
            }
            let Some(queue_id) = self.long_id(&item, now) else { continue };
            match self.carry_out(&mut links, &Request::Release(queue_id), false, &item.queue_id, now) {
                Ok(()) => self.say(&item, "released: nothing came of the suspicion", now),
                Err(Failure::Refused(refusal)) => {
                    pace.give_back(item.copies);
                    self.refused(&item, refusal.reason, &refusal.message, now);
                }
                Err(Failure::Down(_)) => {
                    pace.give_back(item.copies);
                    if !links.is_any_ready(now) {
                        return false;
                    }
                    // In the queue of the one that is missing, most likely: others need not wait for it.
                    self.shared.ledger.postpone(&item.queue_id, now.after(TRY_AGAIN));
                }
            }
        }
        true
    }

    /// The id to ask the helper by. None: it is a short one, by which nothing is ever done; the message stays on hold,
    /// as `becalm check` says, until somebody acts upon it by `postsuper`.
    fn long_id(&self, item: &Held, now: Timestamp) -> Option<QueueId> {
        match QueueId::parse(&item.queue_id) {
            Ok(queue_id) => Some(queue_id),
            Err(error) => {
                self.refused(item, Reason::ShortId, &error.to_string(), now);
                None
            }
        }
    }

    /// The storm that is open on a message's list, or in its conversation.
    fn storm_on(&self, item: &Held, now: Timestamp) -> Option<String> {
        let engine = &self.shared.engine;
        let Some(list) = item.list.as_deref() else {
            let storm = engine.storm_in(item.conversation?, now)?;
            return engine.conversation_of(&storm).map(|_| storm);
        };
        // It may have been held under what is another name of that list since a reload.
        let list = engine.list_named(list.as_bytes(), now)?;
        if !matches!(list.state.phase(now), Phase::Storm { .. }) {
            return None;
        }
        engine.storms(now).into_iter().find(|open| open.list.as_ref() == Some(&list.address))?.storm
    }

    /// Returns what is too old to its senders. False where something of it failed, and is better left for a while.
    fn return_overdue(&self, rounds: &mut Rounds<'_>, settings: &Quarantine, now: Timestamp) -> bool {
        let age = settings.max_age.as_secs();
        let mut all = true;
        let items =
            self.shared.ledger.overdue(settings.max_age, now, rounds.tried.take().as_ref(), ACTS_A_ROUND);
        let last = items.last().filter(|_| items.len() == ACTS_A_ROUND).map(Position::of);
        for item in items {
            let Some(queue_id) = self.long_id(&item, now) else { continue };
            let mut links = self.links();
            if rounds.are_over() {
                return false;
            }
            match self.carry_out(&mut links, &Request::Expire(queue_id, age), false, &item.queue_id, now) {
                Ok(()) => self.say(&item, "returned to its sender: it was held for too long", now),
                // By the helper's clock it is younger: another time.
                Err(Failure::Refused(refusal)) if refusal.reason == Reason::TooYoung => return false,
                Err(Failure::Refused(refusal)) => {
                    self.refused(&item, refusal.reason, &refusal.message, now);
                    all &= refusal.reason != Reason::Failed;
                }
                // In the queue of the one that is missing, most likely: others need not wait for it.
                Err(Failure::Down(_)) if links.is_any_ready(now) => all = false,
                Err(Failure::Down(_)) => return false,
            }
        }
        // The next round goes on behind those that could not be returned, then begins anew.
        rounds.tried = last.filter(|_| !all);
        all
    }

    /// Has the helper act, for an `eager` operator or when its turn has come, and the ledger and the engine know.
    fn carry_out(
        &self,
        links: &mut Links,
        request: &Request,
        eager: bool,
        queue_id: &str,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let shared = &self.shared;
        match links.act(request, eager, now) {
            Ok(done) => {
                let item = shared.ledger.remove(queue_id);
                if let Some(waits) = done.waits
                    && shared.verdict_lines.admits(now)
                {
                    warn!(queue_id, waits, "released, but Postfix does not take it up at once");
                }
                if !matches!(request, Request::Release(_)) {
                    shared.counters.returned.add_one();
                    return Ok(());
                }
                shared.counters.released.add_one();
                // What was clawed back had been counted as passed.
                let prevented = item.as_ref().filter(|item| item.reason != CLAWED_BACK);
                shared.counters.copies_released.add(prevented.map_or(0, |item| item.copies));
                // His mail reaches the list: he is somebody who writes to it.
                if let Some(Held { list: Some(list), author: Some(author), .. }) = &item {
                    shared.make_known(list, author);
                }
                Ok(())
            }
            Err(Failure::Refused(refusal)) => {
                if refusal.reason == Reason::NotFound
                    && shared.ledger.forget(queue_id).is_some_and(|item| item.size.is_none())
                {
                    self.say_never_seen(queue_id, now);
                }
                Err(Failure::Refused(refusal))
            }
            Err(down) => Err(down),
        }
    }

    fn say(&self, item: &Held, what: &str, now: Timestamp) {
        if self.shared.verdict_lines.admits(now) {
            let (list, since) = (item.list.as_deref().unwrap_or("-"), item.since.rfc3339());
            info!(queue_id = item.queue_id, list, copies = item.copies, since, "{what}");
        }
    }

    /// It was to be held, and nobody ever saw it in the hold queue: its client broke off, Postfix could not write it,
    /// or an administrator was quicker than a look.
    fn say_never_seen(&self, queue_id: &str, now: Timestamp) {
        if self.shared.verdict_lines.admits(now) {
            warn!(queue_id, "it was to be held, but has never been seen on hold, and is not there");
        }
    }

    /// What the helper refuses is not asked again and again.
    fn refused(&self, item: &Held, reason: Reason, message: &str, now: Timestamp) {
        let ledger = &self.shared.ledger;
        match reason {
            // Somebody else has released or deleted it.
            Reason::NotFound => return,
            Reason::Failed => ledger.postpone(&item.queue_id, now.after(TRY_AGAIN)),
            _ => ledger.give_up(&item.queue_id, message),
        }
        if self.shared.verdict_lines.admits(now) {
            error!(queue_id = item.queue_id, reason = message, "a held message cannot be let go");
        }
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        lock(&self.links)
    }
}

fn helper_state(link: &Link) -> HelperState {
    let state = match (link.down(), link.hello()) {
        (Some(_), _) => "down",
        (None, Some(_)) => "ok",
        (None, None) => "not asked yet",
    };
    HelperState {
        socket: link.socket().display().to_string(),
        state: state.to_owned(),
        since: link.down().map(|(since, _)| since.rfc3339()),
        error: link.down().map(|(_, why)| why.clone()),
        postfix: link.hello().map(|hello| hello.postfix.clone()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
