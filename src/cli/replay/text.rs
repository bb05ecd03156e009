//! A report as text, for people.

use std::fmt::Write as _;

use crate::cli::figures::grouped;
use crate::replay::report::{Report, StormReport};
use crate::replay::scenario::Kind;

/// Rows of one table; more are a matter for `--json`.
const MAX_ROWS: usize = 20;

/// Longest subject that is shown.
const MAX_SUBJECT: usize = 40;

/// The row of what was stopped.
const HELD: &str = "  held for good";

/// The names of the scenarios.
pub(super) fn scenarios(kinds: &[Kind]) -> String {
    let mut text = String::new();
    for kind in kinds {
        let _ = writeln!(text, "{:<26}{:>10} members  {}", kind.name, grouped(kind.members), kind.about);
    }
    text
}

/// One rule's report.
pub(super) fn report(report: &Report) -> String {
    let mut text = String::new();
    if let Some([what, why]) = report.nothing() {
        let _ = writeln!(text, "{what}. {why}\n");
    }
    if let Some([what, remedy]) = report.disorder() {
        let _ = writeln!(text, "{what}\n{remedy}\n");
    }
    if let (Some(first), Some(last)) = (report.first, report.last) {
        let _ = writeln!(text, "{}, mail from {} to {}\n", report.policy, first.rfc3339(), last.rfc3339());
    }
    let held = report.messages_held_for_good;
    let rows = [
        ("messages", grouped(report.messages)),
        ("  to lists", grouped(report.list_messages)),
        ("  in conversations", grouped(report.conversations)),
        ("  delayed, then let through", share(report.messages_delayed, report.list_messages)),
        ("    99 of 100 of these within", span(report.delay_p99_s)),
        ("    the longest", span(report.delay_max_s)),
        (HELD, share(held, report.list_messages)),
        ("copies", grouped(report.copies_with)),
        ("  without a filter", grouped(report.copies_without)),
        ("storms", report.storms.len().to_string()),
        ("times of suspicion", report.suspicions.len().to_string()),
        (
            "near-storms",
            if report.is_becalms { report.near_storms.len().to_string() } else { "-".to_owned() },
        ),
    ];
    for (name, value) in rows {
        let _ = writeln!(text, "{name:<30}{value:>20}");
        if name == HELD {
            stopped(&mut text, report);
        }
    }
    storms(&mut text, report);
    suspicions(&mut text, report);
    near_storms(&mut text, report);
    lists(&mut text, report);
    if report.out_of_order > 0 {
        let _ = writeln!(
            text,
            "\n{} messages came so late in their mbox that they were played at the latest time seen.",
            grouped(report.out_of_order)
        );
    }
    if !report.skipped.is_empty() {
        text.push_str("\nSkipped\n");
        for (reason, count) in &report.skipped {
            let _ = writeln!(text, "  {count:>8}  {reason}");
        }
    }
    if let Some(cut) = report.cut() {
        let _ = writeln!(text, "\n{cut}");
    }
    if report.left_out > 0 {
        let _ = writeln!(text, "\n{} more found than a report holds.", grouped(report.left_out));
    }
    text
}

/// How they were stopped, where that is not only by holding them.
fn stopped(text: &mut String, report: &Report) {
    if report.messages_over_limit > 0 {
        let _ = writeln!(text, "{:<30}{:>20}", "    by a rate limit", grouped(report.messages_over_limit));
    }
    for (action, what) in [
        ("defer", "    deferred: may come again"),
        ("reject", "    rejected"),
        ("discard", "    discarded"),
        ("strip", "    without the list"),
    ] {
        if let Some(count) = report.stopped_by_action.get(action) {
            let _ = writeln!(text, "{what:<30}{:>20}", grouped(*count));
        }
    }
}

fn storms(text: &mut String, report: &Report) {
    for storm in report.storms.iter().take(MAX_ROWS) {
        let StormReport { list, members, conversation, trigger, started, .. } = storm;
        let ended = storm.ended.map_or_else(|| "it was still open".to_owned(), |ended| ended.rfc3339());
        let _ = write!(
            text,
            "\nStorm on {} ({} members), {} to {}\n  \"{}\", by {}\n  {} let through ({} copies), {} held ({} copies)\n",
            printable(list),
            grouped(*members),
            started.rfc3339(),
            ended,
            short(conversation),
            trigger.replace('_', " "),
            grouped(storm.replies_delivered),
            grouped(storm.copies_delivered),
            grouped(storm.replies_held),
            grouped(storm.copies_held),
        );
    }
    more(text, report.storms.len(), "storms");
}

fn suspicions(text: &mut String, report: &Report) {
    if !report.suspicions.is_empty() {
        text.push_str("\nSuspicions\n");
    }
    for suspicion in report.suspicions.iter().take(MAX_ROWS) {
        let end = if suspicion.became_storm { ", a storm" } else { "" };
        let _ = writeln!(
            text,
            "  {} to {}  {:>4} waited  {}  \"{}\"{end}",
            suspicion.started.rfc3339(),
            suspicion.ended.rfc3339(),
            suspicion.messages,
            printable(&suspicion.list),
            short(&suspicion.conversation),
        );
    }
    more(text, report.suspicions.len(), "suspicions");
}

fn near_storms(text: &mut String, report: &Report) {
    if !report.near_storms.is_empty() {
        text.push_str("\nNear-storms\n");
    }
    for near in report.near_storms.iter().take(MAX_ROWS) {
        let what = near
            .conversation
            .as_ref()
            .map_or("the list as a whole".to_owned(), |subject| format!("\"{}\"", short(subject)));
        let _ = writeln!(
            text,
            "  {}  {:>2} of {:>2} {}  {}  {what}",
            near.at.rfc3339(),
            near.peak,
            near.threshold,
            near.test.replace('_', " "),
            printable(&near.list),
        );
    }
    more(text, report.near_storms.len(), "near-storms");
}

fn lists(text: &mut String, report: &Report) {
    if report.lists.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "\n{:<36}{:>11}{:>10}{:>8}{:>9}{:>8}{:>6}{:>10}",
        "List", "members", "messages", "held", "delayed", "storms", "near", "quietest"
    );
    for list in report.lists.iter().take(MAX_ROWS) {
        let (near, quietest) = match (report.is_becalms, list.quietest) {
            (false, _) => ("-".to_owned(), "-".to_owned()),
            (true, None) => (list.near_storms.to_string(), "none".to_owned()),
            (true, Some(people)) => (list.near_storms.to_string(), people.to_string()),
        };
        let _ = writeln!(
            text,
            "{:<36}{:>11}{:>10}{:>8}{:>9}{:>8}{:>6}{:>10}",
            printable(&list.address),
            grouped(list.members),
            grouped(list.messages),
            grouped(list.held),
            grouped(list.delayed),
            list.storms,
            near,
            quietest,
        );
    }
    more(text, report.lists.len(), "lists");
    if !report.is_becalms {
        text.push_str("near-storms and quietest thresholds are told of becalm's rule only\n");
        return;
    }
    text.push_str("quietest: so many people within the window, as threshold, would have been silent\n");
}

fn more(text: &mut String, rows: usize, what: &str) {
    if let Some(rest) = rows.checked_sub(MAX_ROWS).filter(|rest| *rest > 0) {
        let _ = writeln!(text, "  and {} more {what}: see --json", grouped(rest as u64));
    }
}

/// `1,234 (5.6 %)`.
fn share(count: u64, of: u64) -> String {
    match count {
        0 => "0".to_owned(),
        _ => format!("{} ({:.3} %)", grouped(count), 100.0 * count as f64 / of.max(1) as f64),
    }
}

fn span(seconds: f64) -> String {
    if seconds < 120.0 { format!("{seconds:.0} s") } else { format!("{:.0} min", seconds / 60.0) }
}

fn short(subject: &str) -> String {
    let mut short: String = printable(subject).chars().take(MAX_SUBJECT).collect();
    if subject.chars().count() > MAX_SUBJECT {
        short.push('…');
    }
    short
}

/// What stands in mail must not command the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_played_is_not_among_what_was_skipped() {
        let text = report(&Report { headers_cut: 1, ..Report::default() });
        assert!(text.contains("\n1 message had more than 102,400 bytes of headers: played"), "{text}");
        assert!(!text.contains("Skipped"), "{text}");
    }

    #[test]
    fn delays_are_those_of_the_delayed() {
        let text = report(&Report { messages_delayed: 2, delay_p99_s: 600.0, ..Report::default() });
        let mut rows = text.lines().skip_while(|row| !row.starts_with("  delayed, then let through")).skip(1);
        let row = rows.next().unwrap();
        assert!(row.starts_with("    99 of 100 of these within") && row.ends_with("10 min"), "{row}");
    }

    #[test]
    fn that_nothing_could_be_read_is_told_first() {
        let skipped = [("an empty file".to_owned(), 1)];
        let text = report(&Report { skipped: skipped.into(), ..Report::default() });
        assert!(
            text.starts_with("No message could be read and played. Not played: 1, an empty file.\n"),
            "{text}"
        );
    }

    #[test]
    fn mail_in_the_wrong_order_is_told_first() {
        let of = |out_of_order| Report { messages: 1_000, out_of_order, ..Report::default() };
        let text = report(&of(11));
        assert!(
            text.starts_with("The order of the mail is wrong: 11 of 1,000 messages came so late"),
            "{text}"
        );
        assert!(text.contains("--folder"), "{text}");
        assert!(!report(&of(10)).contains("wrong"), "some come late in any mbox");
    }
}
