//! What is shown, as lines of text: no terminal, no clock.

use std::time::Duration;

use super::super::figures::grouped;
use super::super::plain;
use super::super::quarantine::{bytes, span};
use crate::admin::api::{Status, Storms};

/// Panels below the figures.
pub(super) const PANELS: usize = 2;

/// What the daemon said at one moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// Since the view began.
    pub at: Duration,
    pub status: Status,
    pub storms: Storms,
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
            Some(sample) => self.with(sample, height),
            None => vec![
                (Look::Title, "becalm top".to_owned()),
                match &self.lost {
                    Some(why) => (Look::Alarm, format!("No daemon: {why}")),
                    None => (Look::Plain, "Asking the daemon ...".to_owned()),
                },
            ],
        };
        let keys = "q quit   p pause   tab next panel   up/down scroll";
        lines.truncate(height.saturating_sub(1));
        lines.resize(height.saturating_sub(1), (Look::Plain, String::new()));
        lines.push((Look::Faint, keys.to_owned()));
        lines.truncate(height);
        lines.into_iter().map(|(look, text)| (look, cut(&text, width))).collect()
    }

    fn with(&self, sample: &Sample, height: usize) -> Vec<Line> {
        let status = &sample.status;
        let state = match (&self.lost, self.paused) {
            (Some(_), _) => "NO ANSWER",
            (None, true) => "PAUSED",
            (None, false) => "live",
        };
        let mut lines = vec![
            (Look::Title, format!("becalm {} on {}   {}   {state}", status.version, status.node, status.now)),
            self.going_on(sample),
            health(status),
            (Look::Plain, String::new()),
        ];
        lines.extend(self.figures(sample).into_iter().map(|text| (Look::Plain, text)));
        lines.push((Look::Plain, String::new()));
        let room = height.saturating_sub(lines.len().saturating_add(1));
        lines.extend(self.panels(sample, room));
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
                more => format!(" and on {more} more lists"),
            };
            let (since, stopped) = (clock(&first.time), grouped(first.held));
            let text = format!(
                "STORM on {} since {since}{more}: {stopped} messages stopped.{observing}",
                first.list
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

    fn figures(&self, sample: &Sample) -> Vec<String> {
        let (status, counts) = (&sample.status, &sample.status.counts);
        let before = self.before.as_ref();
        let seconds = before.map_or(0.0, |before| sample.at.saturating_sub(before.at).as_secs_f64());
        let rate = |now: u64, then: fn(&Status) -> u64| match before {
            Some(before) if seconds > 0.0 => {
                format!("{:.1}/s", now.saturating_sub(then(&before.status)) as f64 / seconds)
            }
            _ => "-".to_owned(),
        };
        let verdicts = [
            ("passed", rate(counts.passed, |s| s.counts.passed)),
            ("observed", rate(counts.observed, |s| s.counts.observed)),
            ("held", rate(counts.held, |s| s.counts.held)),
            ("rejected", rate(counts.rejected, |s| s.counts.rejected)),
            ("deferred", rate(counts.deferred, |s| s.counts.deferred)),
        ];
        let verdicts = verdicts.map(|(name, rate)| format!("{name} {rate}")).join("  ");
        let held = &status.quarantine;
        let oldest = held.oldest_age_s.map_or_else(|| "-".to_owned(), span);
        let sources = status.sources.iter().map(|source| source.age_s).max().unwrap_or(0);
        let tables = status.tables.iter().take(2).map(|table| {
            let share = table.occupied.saturating_mul(100) / table.capacity.max(1);
            format!("{} {share}%", table.name)
        });
        let tables: Vec<_> = tables.collect();
        vec![
            format!(
                "mail      {}  watched {}   since the start {}, watched {}",
                rate(counts.messages, |s| s.counts.messages),
                rate(counts.watched, |s| s.counts.watched),
                grouped(counts.messages),
                grouped(counts.watched),
            ),
            format!("verdicts  {verdicts}"),
            format!(
                "copies    prevented {}  passed {}",
                grouped(counts.copies_prevented),
                grouped(counts.copies_passed)
            ),
            format!(
                "held      {} of {} messages, {} of {}, oldest {oldest}",
                grouped(held.held),
                grouped(held.max_count),
                bytes(held.bytes),
                bytes(held.max_bytes)
            ),
            format!(
                "state     {} lists, sources read {} ago   connections {} of {}   {}",
                status.lists,
                span(sources),
                status.connections,
                status.max_connections,
                tables.join("  ")
            ),
        ]
    }

    fn panels(&self, sample: &Sample, room: usize) -> Vec<Line> {
        let panels = [
            ("Storms", "list, since, members, stopped, passed", storms(&sample.storms)),
            ("Suspicions", "queue id, list, author, until", suspicions(&sample.storms)),
        ];
        let needs = [0, 1].map(|index| panels.get(index).map_or(0, |(_, _, rows)| rows.len().max(1)));
        let shares = shares(needs, room.saturating_sub(PANELS));
        let mut lines = Vec::new();
        for (index, ((name, columns, rows), share)) in panels.into_iter().zip(shares).enumerate() {
            let mark = if index == self.focus { ">" } else { " " };
            let first = self.scroll.get(index).copied().unwrap_or(0).min(rows.len().saturating_sub(share));
            let below = rows.len().saturating_sub(first.saturating_add(share));
            let hidden = match (first, below) {
                (0, 0) => String::new(),
                (above, below) => format!("   ({above} above, {below} below)"),
            };
            lines.push((Look::Title, format!("{mark}{name}: {}   {columns}{hidden}", rows.len())));
            match rows.is_empty() {
                true if share > 0 => lines.push((Look::Faint, "  none".to_owned())),
                _ => lines.extend(rows.into_iter().skip(first).take(share)),
            }
        }
        lines
    }

    /// Rows of each panel, so that scrolling ends somewhere.
    pub(super) fn rows(&self) -> [usize; PANELS] {
        self.now
            .as_ref()
            .map_or([0; PANELS], |sample| [sample.storms.open.len(), sample.storms.suspicions.len()])
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

fn storms(storms: &Storms) -> Vec<Line> {
    let rows = storms.open.iter().map(|open| {
        let (look, since) = match open.phase.as_str() {
            "storm" => (Look::Alarm, format!("storm since {}", clock(&open.time))),
            _ => (Look::Plain, format!("on guard until {}", clock(&open.time))),
        };
        let (members, stopped, passed) = (grouped(open.members), grouped(open.held), grouped(open.delivered));
        let text = format!("  {}  {since}  {members} members  {stopped} stopped  {passed} passed", open.list);
        (look, text)
    });
    rows.collect()
}

fn suspicions(storms: &Storms) -> Vec<Line> {
    let rows = storms.suspicions.iter().map(|held| {
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".to_owned());
        let until = held.until.as_deref().map_or("-", clock);
        (Look::Plain, format!("  {}  {}  {}  {until}", held.queue_id, name(&held.list), name(&held.author)))
    });
    rows.collect()
}

/// The time of day in RFC 3339's text; the whole where it is none.
fn clock(text: &str) -> &str {
    text.get(11..16).unwrap_or(text)
}

/// As it fits, and commands no terminal. Wide characters would break the lines of a fixed screen.
fn cut(text: &str, width: usize) -> String {
    let narrow = |c| if c >= '\u{1100}' { '?' } else { c };
    plain(text).chars().map(narrow).take(width).collect()
}
