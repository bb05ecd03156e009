//! Answers to operators, over HTTP.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::broadcast;
use tracing::{error, info, warn};

use super::{Daemon, site};
use crate::admin::api::{
    Act, Acted, AuditLog, ByHand, Decision, HeldInfo, ListInfo, Lists, MAX_ACTS, Nears, Observing, OpenList,
    ProbeTicket, PublicQuery, Pulse, Quarantine, Selection, Source, StartProbe, Status, Storms, TableUse,
    Timeline, Tried,
};
use crate::admin::backend::{Backend, Page, Refusal, Who};
use crate::engine::WatchedList;
use crate::journal::event::Event;
use crate::quarantine::ledger::{Held, Position, Selected};
use crate::storm::policy::Mode;
use crate::storm::state::Phase;
use crate::telemetry::log;
use crate::telemetry::metrics::Exposition;
use crate::time::Timestamp;
use crate::window::TableStats;

/// Suspicions in one reply; more are a storm, or soon will be.
const MAX_SUSPICIONS: usize = 1000;

/// Held messages in one reply, where it is not said how many.
const PAGE: usize = 1000;

/// ... and at most: 2 MB.
const MAX_PAGE: usize = 5000;

/// Entries of the audit log in one reply, where it is not said how many; and at most.
const ENTRIES: usize = 100;
const MAX_ENTRIES: usize = 1000;

impl Backend for Daemon {
    fn status(&self) -> Status {
        self.status()
    }

    fn lists(&self) -> Lists {
        self.lists()
    }

    fn storms(&self) -> Storms {
        self.storms()
    }

    fn near(&self) -> Nears {
        self.nears()
    }

    fn timeline(&self, minutes: Option<usize>) -> Result<Timeline, Refusal> {
        self.timeline(minutes)
    }

    fn quarantine(&self, select: &Selection) -> Result<Quarantine, Refusal> {
        self.quarantine(select)
    }

    fn metrics(&self, exposition: Exposition) -> String {
        self.metrics(exposition)
    }

    fn act(&self, act: Act, ids: &[String], who: &Who) -> Result<Acted, Refusal> {
        self.operate(act, ids, who)
    }

    fn decide(&self, decision: &Decision, who: &Who) -> Result<ByHand, Refusal> {
        self.by_hand(decision, who)
    }

    fn probe(&self, start: &StartProbe) -> Result<ProbeTicket, Refusal> {
        let node = self.standing().config.state.node.clone();
        self.shared.probes.begin(start, &node, self.shared.clock.now())
    }

    fn public(&self, query: &PublicQuery, accept: Option<&str>) -> Result<Page, Refusal> {
        self.public_status(query, accept)
    }

    fn observe(&self, on: bool, who: &Who) -> Result<Observing, Refusal> {
        self.throw_switch(on, who)
    }

    fn try_way(&self, way: &str, who: &Who) -> Result<Tried, Refusal> {
        self.send_test(way, who)
    }

    fn audit(&self, limit: Option<usize>) -> Result<AuditLog, Refusal> {
        let limit = limit.unwrap_or(ENTRIES);
        if !(1..=MAX_ENTRIES).contains(&limit) {
            return Err(Refusal::request(
                "bad_limit",
                format!("limit is {limit}; allowed: 1 to {MAX_ENTRIES}"),
            ));
        }
        self.audit.latest(limit).map_err(|error| Refusal::ours("no_audit", error.to_string()))
    }

    fn pulse(&self) -> Pulse {
        let shared = &self.shared;
        let now = shared.clock.now();
        let storms = shared.engine.storms(now);
        Pulse {
            now: now.rfc3339(),
            counts: shared.counters.read(),
            held: shared.ledger.count() as u64,
            connections: shared.sessions(),
            storms: storms.iter().filter(|storm| matches!(storm.phase, Phase::Storm { .. })).count(),
        }
    }

    fn feed(&self) -> broadcast::Receiver<Event> {
        self.shared.feed()
    }

    fn unready(&self) -> Vec<&'static str> {
        let reasons = [
            ("starting", !self.serving.load(Ordering::Acquire)),
            ("draining", self.shared.is_draining()),
            ("no_listeners", self.listening.is_empty()),
        ];
        reasons.into_iter().filter_map(|(reason, holds)| holds.then_some(reason)).collect()
    }
}

impl Daemon {
    /// Does what an operator asks for. Nothing is done that cannot be written down first.
    fn operate(&self, act: Act, ids: &[String], who: &Who) -> Result<Acted, Refusal> {
        if ids.len() > MAX_ACTS {
            return Err(Refusal::request("too_many", format!("at most {MAX_ACTS} messages at once")));
        }
        let now = self.shared.clock.now();
        let entry = self.audit.begin(now, who, act, ids).map_err(unwritten)?;
        let acted = self.keeper.operate(act, ids);
        let (done, failed) = (acted.done.len(), acted.failed.len());
        info!(%who, act = act.name(), done, failed, "an operator acts upon held mail");
        self.audit.end(self.shared.clock.now(), &entry, &acted);
        Ok(acted)
    }

    /// The emergency switch. Turning enforcement off is never refused for want of an audit log.
    fn throw_switch(&self, on: bool, who: &Who) -> Result<Observing, Refusal> {
        let mut notes = Vec::new();
        if let Err(error) = self.audit.switched(self.shared.clock.now(), who, on) {
            if !on {
                return Err(unwritten(error));
            }
            error!(%error, "everything is put to observe, and that is not in the audit log");
            notes.push(format!("this is not in the audit log: {error}"));
        }
        warn!(%who, on, "an operator throws the switch: everything to observe");
        let flag = &self.observe_flag;
        site::throw_switch(flag, on).map_err(|error| {
            let message = format!("cannot change {}: {error}; do it as root", flag.display());
            Refusal::ours("no_flag", message)
        })?;
        self.look_at_flag();
        Ok(Observing { observing: self.shared.engine.is_observing(), notes })
    }

    fn quarantine(&self, select: &Selection) -> Result<Quarantine, Refusal> {
        let limit = select.limit.unwrap_or(PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            let message = format!("limit is {limit}; allowed: 1 to {MAX_PAGE}");
            return Err(Refusal::request("bad_limit", message));
        }
        let after = match select.after.as_deref().map(parse_cursor) {
            Some(None) => {
                let message = "after is not what an answer named as next";
                return Err(Refusal::request("bad_after", message));
            }
            Some(after) => after,
            None => None,
        };
        let Selected { items, more, total, copies } = self.selected(select, after.as_ref(), limit);
        let next = items.last().filter(|_| more).map(cursor);
        Ok(Quarantine { messages: items.into_iter().map(held_info).collect(), next, total, copies })
    }

    fn selected(&self, select: &Selection, after: Option<&Position>, limit: usize) -> Selected {
        let now = self.shared.clock.now();
        let same = |wanted: &Option<String>, is: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| is.is_some_and(|is| is.eq_ignore_ascii_case(wanted)))
        };
        // By whichever of its names.
        let named = |list: &String| self.shared.engine.list_named(list.as_bytes(), now);
        let list =
            select.list.as_ref().map(|list| named(list).map_or(list.clone(), |list| list.address.clone()));
        let ids: HashSet<&str> = select.ids.iter().map(String::as_str).collect();
        self.shared.ledger.select(after, limit, |item| {
            (ids.is_empty() || ids.contains(item.queue_id.as_str()))
                && same(&select.storm, item.storm.as_deref())
                && same(&list, item.list.as_deref())
                && same(&select.author, item.author.as_deref())
                && same(&select.reason, Some(item.reason))
                && select.older_than_s.is_none_or(|age| now.since(item.since).as_secs() >= age)
        })
    }

    fn status(&self) -> Status {
        let shared = &self.shared;
        let now = shared.clock.now();
        let world = shared.engine.world();
        let storms = shared.engine.storms(now);
        let in_storm = storms.iter().filter(|storm| matches!(storm.phase, Phase::Storm { .. })).count();
        let standing = self.standing();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: standing.config.state.node.clone(),
            now: now.rfc3339(),
            started: self.started.rfc3339(),
            pid: std::process::id(),
            generation: self.kin.generation(),
            before: self.kin.before(),
            after: self.kin.after(),
            observing: shared.engine.is_observing(),
            draining: shared.is_draining(),
            refusing: shared.is_refusing(),
            config: self.config_path.as_ref().map(|path| path.display().to_string()),
            reload: standing.reload.clone(),
            sandbox: self.sandbox.to_string(),
            listening: self.listening.clone(),
            connections: shared.sessions(),
            max_connections: shared.max_connections(),
            counts: shared.counters.read(),
            log_lines_lost: log::lost(),
            last_message_s: shared.since_last_message(now).as_secs(),
            lists: world.snapshot.lists().len(),
            storms: in_storm,
            cooling: storms.len() - in_storm,
            sources: world
                .snapshot
                .sources()
                .iter()
                .map(|source| Source {
                    name: source.name.clone(),
                    lists: source.lists,
                    members: source.members,
                    read_at: source.read_at.rfc3339(),
                    age_s: now.since(source.read_at).as_secs(),
                    stale: source.stale.clone(),
                    warnings: source.warnings.clone(),
                })
                .collect(),
            tables: self.tables(),
            memory_only: !shared.memory.is_kept(),
            journal: shared.memory.info(now),
            quarantine: self.keeper.state(),
            alerts: self.alerts.state(),
        }
    }

    pub(super) fn tables(&self) -> Vec<TableUse> {
        let tables = self.shared.engine.tables();
        let (conversations, recipients) = (tables.conversations, tables.recipients);
        let (known, ids) = (tables.known_authors, tables.message_ids);
        let slots = |name: &str, stats: TableStats| TableUse {
            name: name.to_owned(),
            occupied: stats.occupied,
            capacity: stats.capacity,
            evictions: stats.evictions,
            refused: stats.refused,
            bytes: stats.bytes,
        };
        // These always make room.
        let entries = |name: &str, occupied, capacity, evictions, bytes| TableUse {
            name: name.to_owned(),
            occupied,
            capacity,
            evictions,
            refused: 0,
            bytes,
        };
        vec![
            slots("conversations", conversations),
            slots("recipients", recipients),
            entries("known authors", known.occupied, known.capacity, known.evictions, known.bytes),
            entries("message ids", ids.occupied, ids.capacity, ids.evictions, ids.bytes),
            slots("storms without a list", tables.storms_without_a_list),
        ]
    }

    fn lists(&self) -> Lists {
        let now = self.shared.clock.now();
        let world = self.shared.engine.world();
        let forgetful = self.shared.engine.tables().known_authors.evictions > 0;
        let mut lists: Vec<Arc<WatchedList>> = world.lists();
        lists.sort_by(|a, b| b.members.cmp(&a.members).then_with(|| a.address.cmp(&b.address)));
        let lists = lists.iter().map(|list| {
            let entry = world.snapshot.list(list.id);
            let policy = &list.policy;
            ListInfo {
                address: list.address.clone(),
                names: entry.names.clone(),
                members: list.members,
                class: entry.class.clone(),
                mode: mode_name(policy.mode).to_owned(),
                never_hold: policy.never_hold,
                origin: entry.origin.clone(),
                phase: phase_name(list.state.phase(now)).to_owned(),
                note: note(list, forgetful, now),
            }
        });
        Lists { lists: lists.collect() }
    }

    fn storms(&self) -> Storms {
        let shared = &self.shared;
        let now = shared.clock.now();
        let is_observing = shared.engine.is_observing();
        let open = shared.engine.storms(now).into_iter().map(|storm| OpenList {
            list: storm.list,
            members: storm.members,
            phase: phase_name(storm.phase).to_owned(),
            storm: storm.storm,
            time: match storm.phase {
                Phase::Storm { since } => since.rfc3339(),
                Phase::Cooling { until } => until.rfc3339(),
                Phase::Calm => now.rfc3339(),
            },
            closed_until: storm.closed_until.map(Timestamp::rfc3339),
            last_attempt: storm.last_attempt.rfc3339(),
            held: storm.figures.held,
            copies_held: storm.figures.copies_held,
            delivered: storm.figures.delivered,
            copies_delivered: storm.figures.copies_delivered,
            mode: if storm.never_hold || is_observing { "observe" } else { mode_name(storm.mode) }.to_owned(),
        });
        let suspicions = shared.ledger.latest(MAX_SUSPICIONS, |item| item.reason == "suspicion");
        Storms {
            open: open.collect(),
            storms: shared.storms.list(),
            suspicions: suspicions.into_iter().map(held_info).collect(),
        }
    }
}

/// A place among held messages, for who asks.
fn cursor(item: &Held) -> String {
    format!("{}.{}", item.since.as_millis(), item.queue_id)
}

fn parse_cursor(text: &str) -> Option<Position> {
    let (since, queue_id) = text.split_once('.')?;
    let since = Timestamp::from_millis(since.parse().ok()?);
    Some(Position { since, queue_id: queue_id.to_owned() })
}

/// What cannot be written down is not done.
pub(super) fn unwritten(error: std::io::Error) -> Refusal {
    Refusal::ours("no_audit", format!("nothing was done, for it cannot be written down: {error}"))
}

fn held_info(item: Held) -> HeldInfo {
    HeldInfo {
        queue_id: item.queue_id,
        list: item.list,
        author: item.author,
        reason: item.reason.to_owned(),
        storm: item.storm,
        copies: item.copies,
        size: item.size,
        since: item.since.rfc3339(),
        until: item.until.map(Timestamp::rfc3339),
        held: item.held,
        trouble: item.trouble,
    }
}

/// What an operator should know about a list.
fn note(list: &WatchedList, forgetful: bool, now: Timestamp) -> Option<String> {
    let thresholds = &list.policy.thresholds;
    let age = now.since(list.state.since());
    if list.members > thresholds.budget {
        return Some("dear: one message costs more than a conversation's budget".to_owned());
    }
    if age < thresholds.history {
        let left = (thresholds.history - age).as_secs().div_ceil(86_400);
        let authors = thresholds.max;
        return Some(format!(
            "no history yet: for {left} more days only {authors} distinct authors are a storm"
        ));
    }
    forgetful.then(|| "the table of known authors is full: raise [tables] known_authors".to_owned())
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Calm => "calm",
        Phase::Storm { .. } => "storm",
        Phase::Cooling { .. } => "cooling",
    }
}

pub(super) fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "observe",
        Mode::Hold => "hold",
        Mode::Reject => "reject",
        Mode::Defer => "defer",
        Mode::Discard => "discard",
        Mode::Strip => "strip",
    }
}
