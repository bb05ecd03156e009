//! Every metric there is. `docs/metrics.md` is made from this; dashboards and alert rules are tested against it.

use super::{Kind, Label, Metric, Values};

macro_rules! catalogue {
    ($($id:ident: $kind:ident $name:literal [$($label:expr),*] $help:literal;)+) => {
        $(
            #[doc = $help]
            pub static $id: Metric =
                Metric { name: $name, kind: Kind::$kind, help: $help, labels: &[$($label),*] };
        )+

        /// All of them, in the order in which they are documented.
        pub static ALL: &[&Metric] = &[$(&$id),+];
    };
}

/// What becomes of a message.
pub const VERDICTS: &[&str] = &[
    "ordinary",
    "passed",
    "observed",
    "held",
    "rejected",
    "deferred",
    "discarded",
    "stripped",
    "failed_open",
    "own",
];

/// The bounded tables, as `becalm status` names them.
pub const TABLES: &[&str] =
    &["conversations", "recipients", "known_authors", "message_ids", "storms_without_a_list"];

/// Why nothing more is held.
pub const LIMITS: &[&str] = &["max_count", "max_bytes", "disk"];

/// What may not be as it should.
pub const PARTS: &[&str] = &["journal", "directory", "helper", "quarantine", "configuration"];

const VERDICT: Label = Label { name: "verdict", values: Values::Closed(VERDICTS) };
const TABLE: Label = Label { name: "table", values: Values::Closed(TABLES) };
const LIMIT: Label = Label { name: "limit", values: Values::Closed(LIMITS) };
const PART: Label = Label { name: "part", values: Values::Closed(PARTS) };
const SOURCE: Label = Label {
    name: "source",
    values: Values::Configured("a file of `directory`, as `aliases /etc/aliases`, or `configuration`"),
};
const SOCKET: Label = Label { name: "socket", values: Values::Configured("a path of `quarantine.helpers`") };
const VERSION: Label = Label { name: "version", values: Values::Configured("becalm's version") };

catalogue! {
    BUILD_INFO: Gauge "becalm_build_info" [VERSION]
        "Always 1; the version is in the label.";
    START_TIME: Gauge "becalm_start_time_seconds" []
        "When this process started, in seconds since the Unix epoch.";
    GENERATION: Gauge "becalm_generation" []
        "1, and one more with each takeover.";
    OBSERVING: Gauge "becalm_observing" []
        "1 while `becalm observe on` puts everything to observe.";
    DRAINING: Gauge "becalm_draining" []
        "1 while this process takes no new sessions: it stops, or another becalm has taken over.";
    REFUSING: Gauge "becalm_refusing" []
        "1 while watched mail is answered with 421, to come again to the becalm that takes over.";
    DEGRADED: Gauge "becalm_degraded" [PART]
        "1 where something is not as it should be: a journal that loses events, a directory source that is stale, a helper that does not answer, a hold queue that is full, a reload that was refused.";
    LOG_LINES_LOST: Counter "becalm_log_lines_lost_total" []
        "Lines of the log that nobody took in time, or that could not be written: mail does not wait for the log.";
    RELOAD_OK: Gauge "becalm_last_reload_successful" []
        "0 if the last reload was refused because of errors; the old configuration stays in force.";

    MESSAGES: Counter "becalm_messages_total" [VERDICT]
        "Messages by what became of them. `ordinary` ones were accepted at DATA; `observed` ones would have been stopped, had their list been enforced; `failed_open` ones passed because becalm failed on them; `own` ones are alerts and notices of becalm's own.";
    WATCHED: Counter "becalm_watched_messages_total" []
        "Messages that becalm reads the headers of: a list among the recipients, many recipients, or a sender who just wrote to a list.";
    WATCHED_UNFINISHED: Counter "becalm_watched_messages_unfinished_total" []
        "Watched messages that never reached their end: another filter or Postfix refused them, or the client left. Many of them mean that lists' mail does not reach becalm's judgement.";
    LAST_MESSAGE: Gauge "becalm_last_message_age_seconds" []
        "Time since the last message of any kind, or since the start where none has come.";
    ORDINARY_DURATION: Histogram "becalm_ordinary_message_duration_seconds" []
        "becalm's own time for an ordinary message: from the arrival of its DATA to the reply being written.";
    COPIES_PASSED: Counter "becalm_copies_passed_total" []
        "Copies, one for each mailbox, of watched messages that were let through at once.";
    COPIES_OBSERVED: Counter "becalm_copies_observed_total" []
        "Of the copies let through, those that would have been stopped, had their list been enforced.";
    COPIES_PREVENTED: Counter "becalm_copies_prevented_total" []
        "Copies of watched messages that were stopped, held ones included, whatever becomes of them later.";
    COPIES_RELEASED: Counter "becalm_copies_released_total" []
        "Of the copies prevented, those that were held and released later.";

    STORMS_OPEN: Gauge "becalm_storms_open" []
        "Lists in a storm.";
    LISTS_COOLING: Gauge "becalm_lists_cooling" []
        "Lists that cool after a storm: a small spark is enough for the next.";
    STORMS: Counter "becalm_storms_started_total" []
        "Storms that were declared, on lists and among many recipients, by the rule or by an operator.";
    SUSPICIONS_OPEN: Gauge "becalm_suspicions_open" []
        "Held messages under suspicion, which will be released by themselves unless a storm comes of them.";
    POSSIBLE_LISTS: Counter "becalm_possible_lists_total" []
        "Unknown addresses that behave like lists: many different people suddenly write to them. Each is counted once a day; the log names it.";

    HELD: Gauge "becalm_held_messages" []
        "Messages on hold that are becalm's.";
    HELD_LIMIT: Gauge "becalm_held_messages_limit" []
        "At so many (`quarantine.max_count`) nothing more is held and new storm mail gets a 4xx.";
    HELD_BYTES: Gauge "becalm_held_bytes" []
        "Their size; estimated for the latest.";
    HELD_BYTES_LIMIT: Gauge "becalm_held_limit_bytes" []
        "At this size (`quarantine.max_bytes`) nothing more is held and new storm mail gets a 4xx.";
    HELD_COPIES: Gauge "becalm_held_copies" []
        "Copies that the messages on hold stand for.";
    HELD_OLDEST: Gauge "becalm_held_oldest_age_seconds" []
        "For how long the oldest of them has been on hold; 0 where nothing is.";
    HELD_AGE_LIMIT: Gauge "becalm_held_age_limit_seconds" []
        "At this age (`quarantine.max_age`) held mail is returned to its sender.";
    HELD_OTHERS: Gauge "becalm_held_foreign_messages" []
        "Messages in Postfix's hold queue that are not becalm's, when it was last looked at.";
    HOLD_FULL_NOW: Gauge "becalm_hold_limit_reached" [LIMIT]
        "1 where this is the reason why nothing more is held.";
    HOLD_FULL: Counter "becalm_hold_full_deferred_total" []
        "Messages that were to be held and were refused for now (4xx) because no more may be held.";
    QUEUE_FREE: Gauge "becalm_queue_free_bytes" []
        "Free bytes on the disk of Postfix's queue; missing until a helper has answered.";
    RELEASED: Counter "becalm_held_messages_released_total" []
        "Held messages that were released: suspicions by themselves, and what operators let go.";
    RETURNED: Counter "becalm_held_messages_returned_total" []
        "Held messages that were returned to their senders, by age or by operators.";
    CLAWED_BACK: Counter "becalm_clawed_back_messages_total" []
        "Messages that had passed and were put on hold in Postfix's queue when a storm came of their conversation.";
    COPIES_CLAWED_BACK: Counter "becalm_clawed_back_copies_total" []
        "Of the copies let through, those that were not made yet when their message was clawed back.";
    HELPER_UP: Gauge "becalm_helper_up" [SOCKET]
        "1 if the helper answered when it was last asked. While it is down, mail stays held.";

    LISTS: Gauge "becalm_directory_lists" []
        "Lists known.";
    SOURCE_LISTS: Gauge "becalm_directory_source_lists" [SOURCE]
        "Lists that the source names.";
    SOURCE_MEMBERS: Gauge "becalm_directory_source_members" [SOURCE]
        "Members that the source names, repetitions counted.";
    SOURCE_AGE: Gauge "becalm_directory_source_age_seconds" [SOURCE]
        "Age of the content in use. A source that does not change is not read again: see the next one for one that should have been.";
    SOURCE_STALE: Gauge "becalm_directory_source_stale_seconds" [SOURCE]
        "For how long the source could not be read, or was not believed, and its last good content has been in use instead; 0 where all is well.";
    SOURCE_WARNINGS: Gauge "becalm_directory_source_warnings" [SOURCE]
        "Entries that were skipped (50 at most); `becalm status` names them.";

    TABLE_OCCUPIED: Gauge "becalm_table_entries" [TABLE]
        "Places taken in a table of fixed size.";
    TABLE_CAPACITY: Gauge "becalm_table_capacity" [TABLE]
        "Places in the table.";
    TABLE_BYTES: Gauge "becalm_table_bytes" [TABLE]
        "Its memory; taken at the start, but for storms without a list, which take it as they come.";
    TABLE_EVICTIONS: Counter "becalm_table_evictions_total" [TABLE]
        "Entries that had to go for others before their time.";
    TABLE_REFUSED: Counter "becalm_table_refused_total" [TABLE]
        "Entries that found no place.";

    JOURNAL_ENABLED: Gauge "becalm_journal_enabled" []
        "0 where what becalm learns is forgotten when it ends.";
    JOURNAL_WRITTEN: Counter "becalm_journal_written_total" []
        "Events that are safe on the disk.";
    JOURNAL_DROPPED: Counter "becalm_journal_dropped_total" []
        "Events that were dropped: the disk was full, failed, or too slow.";
    JOURNAL_WAITING: Gauge "becalm_journal_waiting" []
        "Events on their way to the disk.";
    JOURNAL_LAG: Gauge "becalm_journal_lag_seconds" []
        "For how long some have been on their way; 0 where none is.";
    JOURNAL_SEGMENTS: Gauge "becalm_journal_segments" []
        "Files with events.";
    JOURNAL_BYTES: Gauge "becalm_journal_size_bytes" []
        "The size of all files of the journal.";

    CONNECTIONS: Gauge "becalm_connections" []
        "Milter connections now.";
    CONNECTIONS_LIMIT: Gauge "becalm_connections_limit" []
        "Beyond so many (`listen.max_connections`) they are closed at once, and that mail passes unjudged.";
    CONNECTIONS_BEFORE: Gauge "becalm_predecessor_connections" []
        "Milter connections that the becalm before this one still serves after a takeover.";
    CONNECTIONS_ACCEPTED: Counter "becalm_connections_accepted_total" []
        "Milter connections that were taken.";
    CONNECTIONS_REFUSED: Counter "becalm_connections_refused_total" []
        "Milter connections that were closed at once because there were too many: that mail passes unjudged.";
    SESSIONS_FAILED: Counter "becalm_sessions_failed_total" []
        "Sessions that ended in a protocol error, a time-out or a broken connection: Postfix takes its default action for what was under way.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_follow_prometheus_conventions() {
        let mut names = HashSet::new();
        for metric in ALL {
            let name = metric.name;
            let base = name.strip_suffix("_total").unwrap_or(name);
            assert!(names.insert(base), "{name} is there twice: OpenMetrics knows it without `_total`");
            assert!(name.starts_with("becalm_"), "{name}");
            assert!(name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            assert!(metric.kind != Kind::Histogram || name.ends_with("_seconds"), "{name}");
            assert!(!metric.help.contains(['\\', '\n']) && metric.help.ends_with('.'), "{name}");
            for label in metric.labels {
                assert!(label.name.bytes().all(|c| c.is_ascii_lowercase()) && label.name != "le", "{name}");
                if let Values::Closed(values) = label.values {
                    assert!(
                        !values.is_empty() && values.len() == values.iter().collect::<HashSet<_>>().len()
                    );
                }
            }
        }
    }
}
