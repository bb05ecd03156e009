//! Answers to operators, over HTTP.

use std::collections::HashSet;
use std::sync::Arc;

use tracing::info;

use super::Daemon;
use crate::admin::api::{
    Act, Acted, ByHand, Decision, HeldInfo, ListInfo, Lists, MAX_ACTS, OpenList, Quarantine, Selection,
    Source, Status, Storms, TableUse,
};
use crate::admin::backend::{Backend, Refusal, Who};
use crate::engine::WatchedList;
use crate::quarantine::ledger::Held;
use crate::storm::policy::Mode;
use crate::storm::state::Phase;
use crate::time::Timestamp;
use crate::window::TableStats;

/// Suspicions in one reply; more are a storm, or soon will be.
const MAX_SUSPICIONS: usize = 1000;

/// Held messages in one reply, where it is not said how many.
const PAGE: usize = 1000;

/// ... and at most: 2 MB.
const MAX_PAGE: usize = 5000;

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

    fn quarantine(&self, select: &Selection) -> Result<Quarantine, Refusal> {
        self.quarantine(select)
    }

    fn act(&self, act: Act, ids: &[String], who: &Who) -> Result<Acted, Refusal> {
        self.operate(act, ids, who)
    }

    fn decide(&self, decision: &Decision, who: &Who) -> Result<ByHand, Refusal> {
        self.by_hand(decision, who)
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

    fn quarantine(&self, select: &Selection) -> Result<Quarantine, Refusal> {
        let limit = select.limit.unwrap_or(PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            let message = format!("limit is {limit}; allowed: 1 to {MAX_PAGE}");
            return Err(Refusal::request("bad_limit", message));
        }
        let after = match select.after.as_deref().map(Cursor::parse) {
            Some(None) => {
                let message = "after is not what an answer named as next";
                return Err(Refusal::request("bad_after", message));
            }
            Some(after) => after,
            None => None,
        };
        let mut found = self.selected(select);
        // Those of one moment need an order too, or a page could leave one of them out.
        found.sort_by(|a, b| Cursor::of(a).cmp(&Cursor::of(b)));
        let begin = after.map_or(0, |after| found.partition_point(|item| Cursor::of(item) <= after));
        let rest = found.len().saturating_sub(begin);
        let page: Vec<Held> = found.into_iter().skip(begin).take(limit).collect();
        let next = page.last().filter(|_| rest > limit).map(|last| Cursor::of(last).text());
        Ok(Quarantine { messages: page.into_iter().map(held_info).collect(), next })
    }

    fn selected(&self, select: &Selection) -> Vec<Held> {
        let now = self.shared.clock.now();
        let same = |wanted: &Option<String>, is: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| is.is_some_and(|is| is.eq_ignore_ascii_case(wanted)))
        };
        let ids: HashSet<&str> = select.ids.iter().map(String::as_str).collect();
        self.shared.ledger.select(|item| {
            (ids.is_empty() || ids.contains(item.queue_id.as_str()))
                && same(&select.storm, item.storm.as_deref())
                && same(&select.list, item.list.as_deref())
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
        });
        let suspicions = shared.ledger.latest(MAX_SUSPICIONS, |item| item.reason == "suspicion");
        Storms {
            open: open.collect(),
            storms: shared.storms.list(),
            suspicions: suspicions.into_iter().map(held_info).collect(),
        }
    }
}

/// A place among held messages. It holds even where the message itself is gone by the next request.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Cursor<'a> {
    since: u64,
    queue_id: &'a str,
}

impl<'a> Cursor<'a> {
    fn of(item: &'a Held) -> Self {
        Self { since: item.since.as_millis(), queue_id: &item.queue_id }
    }

    fn parse(text: &'a str) -> Option<Self> {
        let (since, queue_id) = text.split_once('.')?;
        Some(Self { since: since.parse().ok()?, queue_id })
    }

    fn text(&self) -> String {
        format!("{}.{}", self.since, self.queue_id)
    }
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

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "observe",
        Mode::Hold => "hold",
        Mode::Reject => "reject",
        Mode::Defer => "defer",
        Mode::Discard => "discard",
        Mode::Strip => "strip",
    }
}
