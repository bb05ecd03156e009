//! `becalm status`, `becalm lists`, `becalm storms`: what a running daemon says.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::figures::grouped;
use super::quarantine::{bytes, span};
use crate::admin::api::{Journal, ListInfo, Lists, QuarantineState, Reply, Request, Status, Storms};
use crate::admin::client;
use crate::config::{Config, DEFAULT_PATH};

/// Asks the running daemon.
#[derive(Args, Debug, Clone)]
pub struct AskArgs {
    /// Configuration file that names the admin socket.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The daemon's admin socket, instead of the configuration's.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print the daemon's own words, as JSON.
    #[arg(long)]
    json: bool,
}

impl AskArgs {
    /// Asks.
    pub(super) fn ask(&self, request: &Request) -> anyhow::Result<Reply> {
        Ok(client::ask(&self.socket()?, request)?)
    }

    /// Where the daemon is.
    pub(super) fn socket(&self) -> anyhow::Result<PathBuf> {
        match &self.socket {
            Some(socket) => Ok(socket.clone()),
            None => Ok(load_config(self.config.as_deref())?.admin.socket),
        }
    }

    /// Is the answer printed as JSON?
    pub(super) fn wants_json(&self) -> bool {
        self.json
    }
}

/// Asks, and prints the answer.
pub fn run(args: &AskArgs, request: &Request) -> anyhow::Result<ExitCode> {
    let reply = args.ask(request)?;
    if args.json {
        super::print(&(serde_json::to_string_pretty(&reply)? + "\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = match &printable(reply)? {
        Reply::Status(status) => status_text(status),
        Reply::Lists(lists) => lists_text(lists),
        Reply::Storms(storms) => storms_text(storms),
        Reply::Quarantine(_) | Reply::Acted(_) | Reply::ByHand(_) | Reply::Observing(_) => {
            bail!("becalm gave another answer than was asked for")
        }
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The same with every text in it as a terminal may have it: names of lists, authors and errors are others' words. JSON
/// is printed as it is, for programs.
pub(super) fn printable<T: Serialize + DeserializeOwned>(said: T) -> anyhow::Result<T> {
    let mut value = serde_json::to_value(said)?;
    make_plain(&mut value);
    Ok(serde_json::from_value(value)?)
}

fn make_plain(value: &mut Value) {
    match value {
        Value::String(text) => *text = super::plain(text),
        Value::Array(values) => values.iter_mut().for_each(make_plain),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    // What is wrong with a configuration has several lines, and they are becalm's own.
                    Value::String(text) if name == "reload" => {
                        *text = text.split('\n').map(super::plain).collect::<Vec<_>>().join("\n");
                    }
                    value => make_plain(value),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The configuration for a command that is given `-c FILE` or nothing. One with mistakes will do where it still
/// says where the daemon is: whoever mends it wants to see the daemon that runs, and stop it if need be.
pub(super) fn load_config(path: Option<&std::path::Path>) -> anyhow::Result<Config> {
    let file = path.unwrap_or(std::path::Path::new(DEFAULT_PATH));
    match Config::load(file, path.is_some()) {
        Ok((config, _)) => Ok(config),
        Err(report) => match Config::whereabouts(file) {
            Some((admin, state)) => {
                tell!(
                    "becalm: {} has mistakes (see `becalm check`); asking the daemon where it says",
                    file.display()
                );
                Ok(Config { admin, state, ..Config::default() })
            }
            None => bail!("{report}"),
        },
    }
}

fn status_text(status: &Status) -> String {
    let mut lines = vec![
        format!("becalm {} on {}, since {}", status.version, status.node, status.started),
        format!("clock       {}", status.now),
        format!("config      {}", status.config.as_deref().unwrap_or("none: defaults")),
    ];
    if status.observing {
        lines
            .push("OBSERVING   everything is put to observe; `becalm observe off` enforces again".to_owned());
    }
    lines.extend(process_lines(status));
    if let Some(reload) = &status.reload {
        lines.push(format!("last reload {reload}"));
    }
    lines.push(format!("sandbox     {}", status.sandbox));
    lines.push(format!("listening   {}", status.listening.join(", ")));
    let (now, most) = (status.connections, status.max_connections);
    lines.push(format!("connections {now} of {most}"));
    lines.push(format!(
        "lists       {} ({} in a storm, {} cooling)",
        status.lists, status.storms, status.cooling
    ));
    let c = &status.counts;
    let last = span(status.last_message_s);
    lines.push(match c.messages {
        0 => format!("last mail   none yet; started {last} ago"),
        _ => format!("last mail   {last} ago"),
    });
    lines.push(format!(
        "copies      {} passed ({} of them would have been stopped), {} prevented ({} of them released later)",
        grouped(c.copies_passed),
        grouped(c.copies_observed),
        grouped(c.copies_prevented),
        grouped(c.copies_released)
    ));
    lines.push(format!(
        "messages    {} ({} watched: {} passed, {} observed, {} held, {} rejected, {} deferred, {} discarded, {} stripped)",
        c.messages, c.watched, c.passed, c.observed, c.held, c.rejected, c.deferred, c.discarded, c.stripped
    ));
    lines.push(format!(
        "trouble     {} failed open, {} watched without an end, {} sessions failed, {} connections refused, {} log lines lost",
        c.failed_open, c.watched_unfinished, c.sessions_failed, c.connections_refused, status.log_lines_lost
    ));
    lines.push(format!(
        "of the held {} released, {} returned to their senders; {} refused because no more may be held",
        c.released, c.returned, c.hold_full
    ));
    lines.push(format!(
        "clawed back {} messages that had passed, before {} copies of them were made",
        c.clawed_back, c.copies_clawed_back
    ));
    lines.extend(quarantine_lines(&status.quarantine));
    for way in &status.alerts {
        if let Some(why) = &way.failing {
            lines.push(format!(
                "ALERTS FAIL {} ({} waiting, {} dropped): {why}",
                way.way, way.waiting, way.dropped
            ));
        }
    }
    for source in &status.sources {
        let stale = source.stale.as_ref().map_or(String::new(), |why| format!("; STALE: {why}"));
        lines.push(format!(
            "source      {}: {} lists, {} members, read {} s ago{stale}",
            source.name, source.lists, source.members, source.age_s
        ));
        lines.extend(source.warnings.iter().map(|warning| format!("            {warning}")));
    }
    for table in &status.tables {
        lines.push(format!(
            "table       {}: {} of {}, {} evicted, {} refused, {} KiB",
            table.name,
            table.occupied,
            table.capacity,
            table.evictions,
            table.refused,
            table.bytes / 1024
        ));
    }
    lines.extend(journal_lines(&status.journal));
    if status.memory_only {
        lines.push(
            "memory      storms, known authors and conversations are forgotten at a restart".to_owned(),
        );
    }
    lines.join("\n") + "\n"
}

fn process_lines(status: &Status) -> Vec<String> {
    let mut lines = vec![format!("process     {}, generation {}", status.pid, status.generation)];
    if status.draining {
        let refusing = if status.refusing { ", watched mail is refused for now (421)" } else { "" };
        lines.push(match &status.after {
            Some(after) => format!(
                "TAKEN OVER  by process {} (becalm {}) since {}: no new sessions are taken here{refusing}",
                after.pid, after.version, after.since
            ),
            None => format!("STOPPING    no new sessions are taken{refusing}"),
        });
    }
    if let Some(before) = &status.before {
        let refusing = if before.refusing { ", where watched mail is refused for now (421)" } else { "" };
        lines.push(format!(
            "            took over from process {} (becalm {}) at {}: {} sessions left there{refusing}",
            before.pid, before.version, before.since, before.sessions
        ));
    }
    lines
}

fn journal_lines(journal: &Journal) -> Vec<String> {
    let mut lines = Vec::new();
    let folder = journal.folder.as_deref().unwrap_or("none");
    match (&journal.why, &journal.since) {
        (Some(why), Some(since)) => {
            lines.push(format!("journal     DEGRADED since {since}: {why}"));
            lines.push(
                "            mail is judged as ever; what is learnt now may be lost at a restart".to_owned(),
            );
        }
        _ => lines.push(format!("journal     {}: {folder}", journal.state)),
    }
    if journal.folder.is_some() {
        lines.push(format!(
            "            {} events written, {} waiting ({} ms), {} dropped; {} segments, {} KiB; checkpoint {}",
            journal.written,
            journal.waiting,
            journal.lag_ms,
            journal.dropped,
            journal.segments,
            journal.bytes / 1024,
            journal.checkpoint.as_deref().unwrap_or("not since the start"),
        ));
        let recalled = &journal.recalled;
        lines.push(format!(
            "            read at the start: {} records in {} ms, {} places damaged, {} bytes torn off",
            recalled.records, recalled.took_ms, recalled.damaged, recalled.torn
        ));
        lines.extend(recalled.remarks.iter().map(|remark| format!("            {remark}")));
    }
    lines
}

fn quarantine_lines(q: &QuarantineState) -> Vec<String> {
    let mut lines = vec![format!(
        "held        {} of {} messages, {} of {}, {} copies, {} of them go by themselves; the oldest since {} (returned after {})",
        q.held,
        q.max_count,
        bytes(q.bytes),
        bytes(q.max_bytes),
        q.copies,
        q.waiting,
        q.oldest.as_deref().unwrap_or("-"),
        span(q.max_age_s),
    )];
    if let Some(full) = &q.full {
        lines.push(format!("HOLD FULL   {full}: what would be held is refused for now"));
    }
    if q.helpers.is_empty() {
        lines.push("helper      none: nothing leaves the hold queue by itself".to_owned());
    } else {
        lines.push(format!(
            "hold queue  looked at {}, {} held that are not becalm's, {} free",
            q.reconciled.as_deref().unwrap_or("never"),
            q.others,
            q.free_bytes.map_or_else(|| "?".to_owned(), bytes),
        ));
    }
    lines.extend(q.helpers.iter().map(|helper| match &helper.error {
        Some(error) => format!(
            "HELPER DOWN since {}: {error}; held mail stays on hold until it comes back",
            helper.since.as_deref().unwrap_or("-")
        ),
        None => format!(
            "helper      {} {}, Postfix {}",
            helper.socket,
            helper.state,
            helper.postfix.as_deref().unwrap_or("-")
        ),
    }));
    lines
}

fn lists_text(lists: &Lists) -> String {
    if lists.lists.is_empty() {
        return "no lists: name them in becalm.toml, or name Postfix's alias files in [directory]\n"
            .to_owned();
    }
    let mut table = table(&["members", "address", "mode", "phase", "class", "origin", "note"]);
    for list in &lists.lists {
        let mode = if list.never_hold { "never held" } else { &list.mode };
        table.add_row([
            &list.members.to_string(),
            &list.address,
            mode,
            &list.phase,
            list.class.as_deref().unwrap_or(""),
            &list.origin,
            &remarks(list),
        ]);
    }
    align_right(&mut table, 0);
    format!("{table}\n")
}

/// Other names of a list that are shown.
const MOST_NAMES: usize = 3;

/// Other names of a list, and what an operator should know of it.
fn remarks(list: &ListInfo) -> String {
    let mut names = list.names.iter().take(MOST_NAMES).cloned().collect::<Vec<_>>().join(", ");
    let more = list.names.len().saturating_sub(MOST_NAMES);
    if more > 0 {
        names.push_str(&format!(" and {more} more"));
    }
    let names = Some(names).filter(|names| !names.is_empty()).map(|names| format!("also {names}"));
    names.into_iter().chain(list.note.clone()).collect::<Vec<_>>().join("; ")
}

fn storms_text(storms: &Storms) -> String {
    let mut text = String::new();
    if storms.open.is_empty() {
        text.push_str("no list is in a storm\n");
    } else {
        let mut open =
            table(&["list", "members", "phase", "since/until", "storm", "held", "copies spared", "passed"]);
        for list in &storms.open {
            let phase = match &list.closed_until {
                Some(until) => format!("{}, closed by hand until {until}", list.phase),
                None => list.phase.clone(),
            };
            let is_observed = list.is_observed();
            let stopped = |count: u64| {
                if is_observed { format!("0 (of {count})") } else { count.to_string() }
            };
            let passed = list.delivered.saturating_add(if is_observed { list.held } else { 0 });
            open.add_row([
                list.list.as_deref().unwrap_or("(no list: many recipients)"),
                &list.members.to_string(),
                &if is_observed { format!("{phase}, only observed") } else { phase },
                &list.time,
                list.storm.as_deref().unwrap_or(""),
                &stopped(list.held),
                &stopped(list.copies_held),
                &passed.to_string(),
            ]);
        }
        text.push_str(&format!("{open}\n"));
    }
    if !storms.storms.is_empty() {
        let mut past = table(&["storm", "list", "members", "what tripped", "started", "ended"]);
        for storm in &storms.storms {
            past.add_row([
                &storm.storm,
                storm.list.as_deref().unwrap_or("(no list: many recipients)"),
                &storm.members.to_string(),
                &storm.trigger,
                &storm.started,
                storm.ended.as_deref().unwrap_or("still open"),
            ]);
        }
        text.push_str(&format!("\nStorms since the start\n{past}\n"));
    }
    if !storms.suspicions.is_empty() {
        let mut held = table(&["queue id", "list", "author", "copies", "held since", "would go at"]);
        for item in &storms.suspicions {
            let until = match (&item.until, item.held) {
                (_, false) => "delivered: only observed",
                (Some(until), true) => until,
                (None, true) => "stays: a storm came of it",
            };
            held.add_row([
                &item.queue_id,
                item.list.as_deref().unwrap_or(""),
                item.author.as_deref().unwrap_or(""),
                &item.copies.to_string(),
                &item.since,
                until,
            ]);
        }
        text.push_str(&format!(
            "\nSuspicions (`becalm quarantine` shows all that is held, releases it, returns it)\n{held}\n"
        ));
    }
    text
}

pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    table
}

pub(super) fn align_right(table: &mut Table, column: usize) {
    if let Some(column) = table.column_mut(column) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::api::{HeldInfo, OpenList};

    const EVIL: &str = "a\u{1b}]0;x\u{7}\u{202e}\nb@example.org";

    fn held() -> HeldInfo {
        HeldInfo {
            queue_id: "4fV1sQ2C8szl".to_owned(),
            list: Some(EVIL.to_owned()),
            author: Some(EVIL.to_owned()),
            reason: "suspicion".to_owned(),
            storm: None,
            copies: 9,
            size: None,
            since: "2016-11-14T10:10:00Z".to_owned(),
            until: None,
            held: true,
            trouble: None,
        }
    }

    #[test]
    fn nothing_that_others_wrote_commands_the_terminal() {
        let list = ListInfo {
            address: EVIL.to_owned(),
            names: vec![EVIL.to_owned()],
            members: 1,
            class: Some(EVIL.to_owned()),
            mode: "hold".to_owned(),
            never_hold: false,
            origin: EVIL.to_owned(),
            phase: "calm".to_owned(),
            note: None,
        };
        let open = OpenList {
            list: Some(EVIL.to_owned()),
            members: 1,
            phase: "storm".to_owned(),
            storm: None,
            time: "2016-11-14T10:04:00Z".to_owned(),
            closed_until: None,
            last_attempt: "2016-11-14T10:14:00Z".to_owned(),
            held: 1,
            copies_held: 1,
            delivered: 1,
            copies_delivered: 1,
            mode: "hold".to_owned(),
        };
        let storms = Storms { open: vec![open], storms: Vec::new(), suspicions: vec![held()] };
        for text in [
            lists_text(&printable(Lists { lists: vec![list] }).unwrap()),
            storms_text(&printable(storms).unwrap()),
        ] {
            assert!(text.contains("a?]0;x???b@example.org"), "{text:?}");
            assert!(!text.contains(|c: char| c != '\n' && (c.is_control() || c == '\u{202e}')), "{text:?}");
        }
        let mut value = serde_json::json!({ "reload": "line 1\n  line\u{1b} 2", "source": EVIL });
        make_plain(&mut value);
        let plain = serde_json::json!({ "reload": "line 1\n  line? 2", "source": "a?]0;x???b@example.org" });
        assert_eq!(value, plain);
    }
}
