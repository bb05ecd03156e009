//! The daemon in numbers, for Prometheus: gathered when somebody asks.

use std::sync::PoisonError;
use std::time::Duration;

use super::Daemon;
use crate::admin::api::{Journal, QuarantineState};
use crate::clock::Stopwatch;
use crate::storm::state::Phase;
use crate::telemetry::counters::Counts;
use crate::telemetry::log;
use crate::telemetry::metrics::catalogue::*;
use crate::telemetry::metrics::{Exposition, Page};
use crate::time::Timestamp;

/// Whoever asks again within this time gets the same page: to count what is in the tables means to read them, and
/// many who ask must not cost more than one who does.
const SAME_PAGE: Duration = Duration::from_millis(250);

/// Pages that were written a moment ago.
#[derive(Default)]
pub(super) struct Pages([Option<(Stopwatch, String)>; 2]);

impl Daemon {
    /// All metrics, as text.
    pub fn metrics(&self, exposition: Exposition) -> String {
        // Held while they are gathered: others who ask meanwhile wait for the same page.
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let [prometheus, openmetrics] = &mut pages.0;
        let page = match exposition {
            Exposition::Prometheus => prometheus,
            Exposition::OpenMetrics => openmetrics,
        };
        if let Some((written, text)) = page
            && written.elapsed() < SAME_PAGE
        {
            return text.clone();
        }
        let text = self.page().text(exposition);
        *page = Some((Stopwatch::start(), text.clone()));
        text
    }

    fn page(&self) -> Page {
        let shared = &self.shared;
        let now = shared.clock.now();
        let journal = shared.memory.info(now);
        let quarantine = self.keeper.state();
        let mut page = Page::default();
        self.add_process(&mut page);
        self.add_degraded(&mut page, &journal, &quarantine);
        add_counts(&mut page, &shared.counters.read());
        page.whole(&LAST_MESSAGE, shared.since_last_message(now).as_secs());
        page.durations(&ORDINARY_DURATION, shared.latency.read());
        self.add_storms(&mut page, &quarantine, now);
        add_quarantine(&mut page, &quarantine);
        self.add_directory(&mut page, now);
        for table in self.tables() {
            let name = table.name.replace(' ', "_");
            page.labelled(&TABLE_OCCUPIED, &[&name], table.occupied as u64);
            page.labelled(&TABLE_CAPACITY, &[&name], table.capacity as u64);
            page.labelled(&TABLE_BYTES, &[&name], table.bytes as u64);
            page.labelled(&TABLE_EVICTIONS, &[&name], table.evictions);
            page.labelled(&TABLE_REFUSED, &[&name], table.refused);
        }
        page.flag(&JOURNAL_ENABLED, shared.memory.is_kept());
        add_journal(&mut page, &journal);
        page.whole(&CONNECTIONS, shared.sessions() as u64);
        page.whole(&CONNECTIONS_LIMIT, shared.max_connections() as u64);
        page.whole(&CONNECTIONS_BEFORE, self.kin.sessions_before() as u64);
        page
    }

    fn add_process(&self, page: &mut Page) {
        let shared = &self.shared;
        page.labelled(&BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1);
        page.real(&START_TIME, self.started.as_millis() as f64 / 1e3);
        page.whole(&GENERATION, self.kin.generation());
        page.whole(&LOG_LINES_LOST, log::lost());
        page.flag(&OBSERVING, shared.engine.is_observing());
        page.flag(&DRAINING, shared.is_draining());
        page.flag(&REFUSING, shared.is_refusing());
        page.flag(&RELOAD_OK, self.is_reload_ok());
    }

    fn is_reload_ok(&self) -> bool {
        self.standing().reload.as_deref().is_none_or(|reload| reload == "ok")
    }

    fn add_degraded(&self, page: &mut Page, journal: &Journal, quarantine: &QuarantineState) {
        let world = self.shared.engine.world();
        let parts = [
            ("journal", journal.why.is_some()),
            ("directory", world.snapshot.sources().iter().any(|source| source.stale.is_some())),
            ("helper", quarantine.helpers.iter().any(|helper| helper.error.is_some())),
            ("quarantine", quarantine.full.is_some()),
            ("configuration", !self.is_reload_ok()),
        ];
        for (part, is_degraded) in parts {
            page.labelled(&DEGRADED, &[part], u64::from(is_degraded));
        }
    }

    fn add_storms(&self, page: &mut Page, quarantine: &QuarantineState, now: Timestamp) {
        let lists = self.shared.engine.storms(now);
        let open = lists.iter().filter(|list| matches!(list.phase, Phase::Storm { .. })).count();
        page.whole(&STORMS_OPEN, open as u64);
        page.whole(&LISTS_COOLING, (lists.len() - open) as u64);
        page.whole(&SUSPICIONS_OPEN, quarantine.waiting);
    }

    fn add_directory(&self, page: &mut Page, now: Timestamp) {
        let world = self.shared.engine.world();
        page.whole(&LISTS, world.snapshot.lists().len() as u64);
        for source in world.snapshot.sources() {
            let name = &[source.name.as_str()];
            page.labelled(&SOURCE_LISTS, name, source.lists);
            page.labelled(&SOURCE_MEMBERS, name, source.members);
            page.labelled(&SOURCE_AGE, name, now.since(source.read_at).as_secs());
            // One that has been stale for less than a second is stale too.
            let stale = source.stale_since.map_or(0, |since| now.since(since).as_secs().max(1));
            page.labelled(&SOURCE_STALE, name, stale);
            page.labelled(&SOURCE_WARNINGS, name, source.warnings.len() as u64);
        }
    }
}

fn add_counts(page: &mut Page, counts: &Counts) {
    let verdicts = [
        ("ordinary", counts.ordinary),
        ("own", counts.own),
        ("passed", counts.passed),
        ("observed", counts.observed),
        ("held", counts.held),
        ("rejected", counts.rejected),
        ("deferred", counts.deferred),
        ("discarded", counts.discarded),
        ("stripped", counts.stripped),
        ("failed_open", counts.failed_open),
    ];
    for (verdict, count) in verdicts {
        page.labelled(&MESSAGES, &[verdict], count);
    }
    for (metric, count) in [
        (&WATCHED, counts.watched),
        (&WATCHED_UNFINISHED, counts.watched_unfinished),
        (&COPIES_PASSED, counts.copies_passed),
        (&COPIES_OBSERVED, counts.copies_observed),
        (&COPIES_PREVENTED, counts.copies_prevented),
        (&COPIES_RELEASED, counts.copies_released),
        (&STORMS, counts.storms_started),
        (&POSSIBLE_LISTS, counts.possible_lists),
        (&HOLD_FULL, counts.hold_full),
        (&RELEASED, counts.released),
        (&RETURNED, counts.returned),
        (&CLAWED_BACK, counts.clawed_back),
        (&COPIES_CLAWED_BACK, counts.copies_clawed_back),
        (&CONNECTIONS_ACCEPTED, counts.connections_accepted),
        (&CONNECTIONS_REFUSED, counts.connections_refused),
        (&SESSIONS_FAILED, counts.sessions_failed),
    ] {
        page.whole(metric, count);
    }
}

fn add_quarantine(page: &mut Page, quarantine: &QuarantineState) {
    page.whole(&HELD, quarantine.held);
    page.whole(&HELD_LIMIT, quarantine.max_count);
    page.whole(&HELD_BYTES, quarantine.bytes);
    page.whole(&HELD_BYTES_LIMIT, quarantine.max_bytes);
    page.whole(&HELD_COPIES, quarantine.copies);
    page.whole(&HELD_OLDEST, quarantine.oldest_age_s.unwrap_or(0));
    page.whole(&HELD_AGE_LIMIT, quarantine.max_age_s);
    page.whole(&HELD_OTHERS, quarantine.others);
    for limit in LIMITS {
        page.labelled(&HOLD_FULL_NOW, &[limit], u64::from(quarantine.full.as_deref() == Some(limit)));
    }
    if let Some(free) = quarantine.free_bytes {
        page.whole(&QUEUE_FREE, free);
    }
    for helper in &quarantine.helpers {
        page.labelled(&HELPER_UP, &[&helper.socket], u64::from(helper.state == "ok"));
    }
}

fn add_journal(page: &mut Page, journal: &Journal) {
    page.whole(&JOURNAL_WRITTEN, journal.written);
    page.whole(&JOURNAL_DROPPED, journal.dropped);
    page.whole(&JOURNAL_WAITING, journal.waiting);
    page.real(&JOURNAL_LAG, journal.lag_ms as f64 / 1e3);
    page.whole(&JOURNAL_SEGMENTS, journal.segments);
    page.whole(&JOURNAL_BYTES, journal.bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::telemetry::metrics::{Kind, Values};

    fn daemon(folder: &std::path::Path) -> Daemon {
        daemon_at(folder, Clock::system())
    }

    fn daemon_at(folder: &std::path::Path, clock: Clock) -> Daemon {
        let mut config = Config::default();
        config.state.directory = folder.to_owned();
        config.listen.sockets =
            vec![format!("unix:{}", folder.join("becalm.sock").display()).parse().unwrap()];
        config.quarantine.helpers = vec![folder.join("helper.sock")];
        Daemon::start(config, None, clock).unwrap().0
    }

    #[test]
    fn every_metric_that_is_declared_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let text = daemon(folder.path()).metrics(Exposition::Prometheus);
        for metric in ALL {
            // Nobody has asked a helper yet.
            if metric.name == QUEUE_FREE.name {
                continue;
            }
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            assert!(text.contains(&format!("# TYPE {} {kind}\n", metric.name)), "{}\n{text}", metric.name);
            for label in metric.labels {
                let Values::Closed(values) = label.values else { continue };
                for value in values {
                    let labels = format!("{}{{{}=\"{value}\"}} ", metric.name, label.name);
                    assert!(text.contains(&labels), "{labels}\n{text}");
                }
            }
        }
    }

    #[test]
    fn the_time_since_the_last_message_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_millis(1_479_112_140_999));
        let daemon = daemon_at(folder.path(), clock.clone());
        let age = || {
            let text = daemon.page().text(Exposition::Prometheus);
            let line = text.lines().find_map(|line| line.strip_prefix("becalm_last_message_age_seconds "));
            line.unwrap().to_owned()
        };
        clock.skip(Duration::from_secs(90));
        assert_eq!(age(), "90", "since the start");
        daemon.shared.note_message(clock.now());
        assert_eq!(age(), "0");
        clock.skip(Duration::from_secs(7));
        assert_eq!(age(), "7");
        // Another thread's clock may be ahead.
        daemon.shared.note_message(Timestamp::from_millis(clock.now().as_millis() + 60_000));
        assert_eq!(age(), "0");
    }

    #[test]
    fn who_asks_often_gets_the_same_page() {
        let folder = tempfile::tempdir().unwrap();
        let daemon = daemon(folder.path());
        let written =
            |daemon: &Daemon| daemon.pages.lock().unwrap().0[0].as_ref().map(|(at, _)| at.elapsed());
        let first = daemon.metrics(Exposition::Prometheus);
        daemon.shared.counters.ordinary.add_one();
        let again = daemon.metrics(Exposition::Prometheus);
        // On a machine that stood still for so long it is another one.
        if written(&daemon).is_some_and(|age| age < SAME_PAGE) {
            assert_eq!(first, again);
        }
        while written(&daemon).is_some_and(|age| age < SAME_PAGE) {
            std::thread::yield_now();
        }
        assert!(daemon.metrics(Exposition::Prometheus).contains("{verdict=\"ordinary\"} 1\n"));
    }
}
