//! What is shown, as lines of text: no terminal, no clock.

use std::time::Duration;

use super::super::figures::grouped;
use super::super::plain;
use super::super::quarantine::{bytes, span};
use crate::admin::api::{Nears, OpenList, Status, Storms};

/// Panels below the figures.
pub(super) const PANELS: usize = 3;

/// Rows that one sentence may take.
const MOST_ROWS: usize = 3;

/// What the daemon said at one moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// Since the view began.
    pub at: Duration,
    pub status: Status,
    pub storms: Storms,
    pub near: Nears,
}

/// All that a frame shows.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub now: Option<Sample>,
    /// The one before it: rates are between the two.
    pub before: Option<Sample>,
    /// Why the daemon does not answer.
    pub lost: Option<String>,
    pub paused: bool,
    /// The panel that the arrows move.
    pub focus: usize,
    /// Rows that each panel leaves out above.
    pub scroll: [usize; PANELS],
}

/// How a line looks where there are colours; its words say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    Title,
    Alarm,
    Faint,
}

/// One line of the screen, no longer than the screen.
pub(super) type Line = (Look, String);

/// A row of a panel in its parts, the least important last.
type Row = (Look, Vec<String>);

impl View {
    /// Takes what the daemon said, or why it said nothing.
    pub(super) fn take(&mut self, said: Result<Sample, String>) {
        match said {
            Ok(sample) => {
                // Between two processes there is no rate.
                let same = |before: &Sample| before.status.pid == sample.status.pid;
                self.before = self.now.take().filter(same);
                self.now = Some(sample);
                self.lost = None;
            }
            Err(why) => self.lost = Some(why),
        }
    }

    /// The screen: at most `height` lines of at most `width` characters.
    pub(super) fn frame(&self, width: usize, height: usize) -> Vec<Line> {
        let mut lines = match &self.now {
            Some(sample) => self.with(sample, width, height),
            None => {
                let (look, words) = match &self.lost {
                    Some(why) => (Look::Alarm, format!("No daemon: {why}")),
                    None => (Look::Plain, "Asking the daemon ...".to_owned()),
                };
                let mut lines = vec![(Look::Title, fit(&["becalm top"], width))];
                lines.extend(wrapped(look, &words, width));
                lines
            }
        };
        let keys = fit(&["q quit", " p pause", " tab next panel", " up/down scroll"], width);
        lines.truncate(height.saturating_sub(1));
        lines.resize(height.saturating_sub(1), (Look::Plain, String::new()));
        lines.push((Look::Faint, keys));
        lines.truncate(height);
        lines
    }

    fn with(&self, sample: &Sample, width: usize, height: usize) -> Vec<Line> {
        let status = &sample.status;
        let state = match (&self.lost, self.paused) {
            (Some(_), _) => "NO ANSWER",
            (None, true) => "PAUSED",
            (None, false) => "live",
        };
        let title =
            [state.to_owned(), format!("becalm {} on {}", status.version, status.node), status.now.clone()];
        let mut lines = vec![(Look::Title, fit(&title, width))];
        for (look, words) in [self.going_on(sample), health(status)] {
            lines.extend(wrapped(look, &words, width));
        }
        lines.push((Look::Plain, String::new()));
        lines.extend(self.figures(sample).into_iter().map(|parts| (Look::Plain, fit(&parts, width))));
        lines.push((Look::Plain, String::new()));
        let room = height.saturating_sub(lines.len().saturating_add(1));
        lines.extend(self.panels(sample, width, room));
        lines
    }

    /// In words.
    fn going_on(&self, sample: &Sample) -> Line {
        let (status, storms) = (&sample.status, &sample.storms);
        if let Some(why) = &self.lost {
            return (Look::Alarm, format!("The daemon does not answer; this is what it said last. {why}"));
        }
        let mut open = storms.open.iter().filter(|open| open.phase == "storm");
        let observing =
            if status.observing { " Everything is put to observe: no mail is touched." } else { "" };
        if let Some(first) = open.next() {
            let more = match open.count() {
                0 => String::new(),
                1 => " and 1 more".to_owned(),
                more => format!(" and {more} more"),
            };
            let (since, stopped) = (clock(&first.time), grouped(first.held));
            let text = format!(
                "STORM on {} since {since}{more}: {stopped} messages {}.{observing}",
                named(&first.list),
                done(first)
            );
            return (Look::Alarm, text);
        }
        let text = match (storms.suspicions.len(), status.cooling) {
            (0, 0) => "Calm: no storm, no suspicion.".to_owned(),
            (0, cooling) => format!("No storm now; {cooling} lists are on guard after one."),
            (waiting, _) => format!("No storm; {waiting} messages wait under suspicion."),
        };
        (Look::Plain, text + observing)
    }

    /// The lines, each in its parts: where there is no room for all of them, the last are left out.
    fn figures(&self, sample: &Sample) -> Vec<Vec<String>> {
        let (status, counts) = (&sample.status, &sample.status.counts);
        let before = self.before.as_ref();
        let seconds = before.map_or(0.0, |before| sample.at.saturating_sub(before.at).as_secs_f64());
        let rate = |now: u64, then: fn(&Status) -> u64| match before {
            Some(before) if seconds > 0.0 => {
                format!("{:.1}/s", now.saturating_sub(then(&before.status)) as f64 / seconds)
            }
            _ => "-".to_owned(),
        };
        // The most telling first.
        let verdicts = [
            ("held", rate(counts.held, |s| s.counts.held)),
            ("passed", rate(counts.passed, |s| s.counts.passed)),
            ("deferred", rate(counts.deferred, |s| s.counts.deferred)),
            ("rejected", rate(counts.rejected, |s| s.counts.rejected)),
            ("observed", rate(counts.observed, |s| s.counts.observed)),
        ];
        let verdicts = verdicts.map(|(name, rate)| format!("{name} {rate}"));
        let held = &status.quarantine;
        let oldest = held.oldest_age_s.map_or_else(|| "-".to_owned(), span);
        let sources = status.sources.iter().map(|source| source.age_s).max().unwrap_or(0);
        let tables = status.tables.iter().take(2).map(|table| {
            let share = table.occupied.saturating_mul(100) / table.capacity.max(1);
            format!("{} {share}%", table.name)
        });
        let line = |name: &str, first: String, more: Vec<String>| {
            let mut parts = vec![format!("{name:<10}{first}")];
            parts.extend(more);
            parts
        };
        let [first, verdicts @ ..] = verdicts;
        let mut state = vec![
            format!("sources read {} ago", span(sources)),
            format!("connections {} of {}", status.connections, status.max_connections),
        ];
        state.extend(tables);
        vec![
            line(
                "mail",
                rate(counts.messages, |s| s.counts.messages),
                vec![
                    format!("watched {}", rate(counts.watched, |s| s.counts.watched)),
                    format!(
                        "since the start {}, watched {}",
                        grouped(counts.messages),
                        grouped(counts.watched)
                    ),
                ],
            ),
            line("verdicts", first, verdicts.to_vec()),
            line(
                "copies",
                format!("prevented {}", grouped(counts.copies_prevented)),
                vec![format!("passed {}", grouped(counts.copies_passed))],
            ),
            line(
                "held",
                format!("{} of {} messages", grouped(held.held), grouped(held.max_count)),
                vec![
                    format!("oldest {oldest}"),
                    format!("{} of {}", bytes(held.bytes), bytes(held.max_bytes)),
                ],
            ),
            line("state", format!("{} lists", grouped(status.lists as u64)), state),
        ]
    }

    fn panels(&self, sample: &Sample, width: usize, room: usize) -> Vec<Line> {
        let panels = [
            ("Storms", "list, since, stopped, passed, members", storms(&sample.storms)),
            ("Near a storm", "how near, list, copies within the hour and so far", nears(&sample.near)),
            ("Suspicions", "queue id, until, list, author", suspicions(&sample.storms)),
        ];
        let needs = [0, 1, 2].map(|index| panels.get(index).map_or(0, |(_, _, rows)| rows.len().max(1)));
        let shares = shares(needs, room.saturating_sub(PANELS));
        let mut lines = Vec::new();
        for (index, ((name, columns, rows), share)) in panels.into_iter().zip(shares).enumerate() {
            let mark = if index == self.focus { ">" } else { " " };
            let first = self.scroll.get(index).copied().unwrap_or(0).min(rows.len().saturating_sub(share));
            let below = rows.len().saturating_sub(first.saturating_add(share));
            let hidden = match (first, below) {
                (0, 0) => String::new(),
                (above, below) => format!(" ({above} above, {below} below)"),
            };
            let title = [format!("{mark}{name}: {}{hidden}", rows.len()), columns.to_owned()];
            lines.push((Look::Title, fit(&title, width)));
            match rows.is_empty() {
                true if share > 0 => lines.push((Look::Faint, fit(&["  none"], width))),
                _ => lines.extend(
                    rows.into_iter().skip(first).take(share).map(|(look, parts)| (look, fit(&parts, width))),
                ),
            }
        }
        lines
    }

    /// Rows of each panel, so that scrolling ends somewhere.
    pub(super) fn rows(&self) -> [usize; PANELS] {
        self.now.as_ref().map_or([0; PANELS], |Sample { storms, near, .. }| {
            [storms.open.len(), near.near.len(), storms.suspicions.len()]
        })
    }
}

/// Rooms for panels: none gets more than it needs, and what is left goes to those that need more.
fn shares(needs: [usize; PANELS], mut room: usize) -> [usize; PANELS] {
    let mut given = [0; PANELS];
    // Row by row: a screen has some hundred rows at most, whatever the lists are.
    while room > 0 {
        let before = room;
        for (given, need) in given.iter_mut().zip(needs) {
            if room > 0 && *given < need {
                *given += 1;
                room -= 1;
            }
        }
        if room == before {
            break;
        }
    }
    given
}

/// What an operator must look after, in words.
fn health(status: &Status) -> Line {
    let mut trouble = Vec::new();
    trouble.extend(status.journal.why.as_ref().map(|why| format!("journal degraded ({why})")));
    let down = status.quarantine.helpers.iter().filter(|helper| helper.error.is_some()).count();
    if down > 0 {
        trouble.push(format!("{down} of {} helpers down", status.quarantine.helpers.len()));
    }
    let stale = status.sources.iter().filter(|source| source.stale.is_some()).count();
    if stale > 0 {
        trouble.push(format!("{stale} sources of the directory stale"));
    }
    trouble.extend(status.quarantine.full.as_ref().map(|full| format!("no more can be held ({full})")));
    if status.counts.failed_open > 0 {
        trouble.push(format!("{} messages passed unjudged since the start", status.counts.failed_open));
    }
    if status.draining {
        trouble.push("it takes no new sessions any more".to_owned());
    }
    if trouble.is_empty() {
        return (Look::Plain, "All in order: directory, journal, helper.".to_owned());
    }
    (Look::Alarm, format!("Trouble: {}.", trouble.join("; ")))
}

fn storms(storms: &Storms) -> Vec<Row> {
    let rows = storms.open.iter().map(|open| {
        let (look, since) = match open.phase.as_str() {
            "storm" => (Look::Alarm, format!("storm since {}", clock(&open.time))),
            _ => (Look::Plain, format!("on guard until {}", clock(&open.time))),
        };
        let (members, stopped, passed) = (grouped(open.members), grouped(open.held), grouped(open.delivered));
        let figures =
            [format!("{stopped} {}", done(open)), format!("{passed} passed"), format!("{members} members")];
        (look, [vec![format!("  {}", named(&open.list)), since], figures.to_vec()].concat())
    });
    rows.collect()
}

/// With what the rule has stopped.
fn done(open: &OpenList) -> &'static str {
    if open.is_observed() { "would be stopped" } else { "stopped" }
}

fn named(list: &Option<String>) -> &str {
    list.as_deref().unwrap_or("many recipients")
}

fn nears(near: &Nears) -> Vec<Row> {
    let rows = near.near.iter().map(|one| {
        let test = match one.test.as_str() {
            "conversation_newcomers" => "newcomers",
            "conversation_authors" => "authors",
            "list_newcomers" => "newcomers on the list",
            "rekindled" => "newcomers after a storm",
            other => other,
        };
        let parts = vec![
            format!("  {} of {} {test}", one.people, one.threshold),
            named(&one.list).to_owned(),
            format!("{} copies within the hour", grouped(one.projected_copies)),
            format!("{} so far", grouped(one.copies)),
        ];
        (Look::Plain, parts)
    });
    rows.collect()
}

fn suspicions(storms: &Storms) -> Vec<Row> {
    let rows = storms.suspicions.iter().map(|held| {
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".to_owned());
        let until = held.until.as_deref().map_or("-", clock).to_owned();
        let id = format!("  {}", held.queue_id);
        (Look::Plain, vec![id, until, name(&held.list), name(&held.author)])
    });
    rows.collect()
}

/// The time of day in RFC 3339's text; the whole where it is none.
fn clock(text: &str) -> &str {
    text.get(11..16).unwrap_or(text)
}

/// As many of the parts as fit, whole, with two spaces in between. The first is there in any case, shortened if need be.
fn fit(parts: &[impl AsRef<str>], width: usize) -> String {
    let mut line = String::new();
    for (index, part) in parts.iter().enumerate() {
        let part = narrow(part.as_ref());
        if index == 0 {
            line = shortened(&part, width);
            continue;
        }
        if line.chars().count() + 2 + part.chars().count() > width {
            break;
        }
        line.push_str("  ");
        line.push_str(&part);
    }
    line
}

/// A sentence, broken between words. What is beyond [`MOST_ROWS`] is left out, and that is to be seen.
fn wrapped(look: Look, text: &str, width: usize) -> Vec<Line> {
    let mut rows: Vec<String> = Vec::new();
    for word in narrow(text).split(' ').filter(|word| !word.is_empty()) {
        match rows.last_mut() {
            Some(row) if row.chars().count() + 1 + word.chars().count() <= width => {
                row.push(' ');
                row.push_str(word);
            }
            _ => rows.push(shortened(word, width)),
        }
    }
    if rows.len() > MOST_ROWS {
        rows.truncate(MOST_ROWS);
        if let Some(row) = rows.last_mut() {
            while row.chars().count() + 2 > width && row.contains(' ') {
                row.truncate(row.rfind(' ').unwrap_or(0));
            }
            *row = shortened(&format!("{row} \u{2026}"), width);
        }
    }
    rows.into_iter().map(|row| (look, row)).collect()
}

/// One word that is too long for the screen ends with a mark that says so.
fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    if width == 0 { kept } else { kept + "\u{2026}" }
}

/// What commands no terminal, and is as wide as it has characters: wide ones would break the lines of a fixed screen.
fn narrow(text: &str) -> String {
    plain(text).chars().map(|c| if c >= '\u{1100}' && c != '\u{2026}' { '?' } else { c }).collect()
}
