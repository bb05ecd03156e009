//! The tables of the page: near-storms, suspicions and lists, the first hundred of each.

use std::fmt::Write as _;

use super::super::{NearStorm, Report, words};
use super::MAX_ROWS;
use super::escape::Text;

/// Peaks that were no storm.
pub(super) fn near_storms(page: &mut String, report: &Report) {
    if report.near_storms.is_empty() {
        return;
    }
    open_table(
        page,
        "Near-storms",
        "Peaks of half of what would have been a storm, or more.",
        &["When", "List", "Conversation"],
        &["People", "A storm from"],
    );
    for NearStorm { list, conversation, at, peak, threshold, .. } in report.near_storms.iter().take(MAX_ROWS)
    {
        let conversation = conversation.as_deref().unwrap_or("(all of the list)");
        let _ = write!(
            page,
            "<tr><th scope=\"row\">{}</th><td><bdi>{}</bdi></td><td><bdi>{}</bdi></td><td class=\"n\">{peak}</td><td \
             class=\"n\">{threshold}</td></tr>",
            words::moment(*at),
            Text(list),
            Text(conversation)
        );
    }
    close_table(page, report.near_storms.len(), "near-storms");
}

/// Times in which mail waited.
pub(super) fn suspicions(page: &mut String, report: &Report) {
    if report.suspicions.is_empty() {
        return;
    }
    open_table(
        page,
        "Suspicions",
        "Times in which messages waited.",
        &["From", "Until", "List", "First message", "Then"],
        &["Messages"],
    );
    for suspicion in report.suspicions.iter().take(MAX_ROWS) {
        let _ = write!(
            page,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td><bdi>{}</bdi></td><td><bdi>{}</bdi></td><td>{}</td><td \
             class=\"n\">{}</td></tr>",
            words::moment(suspicion.started),
            words::moment(suspicion.ended),
            Text(&suspicion.list),
            Text(&suspicion.conversation),
            if suspicion.became_storm { "a storm" } else { "released" },
            words::count(suspicion.messages)
        );
    }
    close_table(page, report.suspicions.len(), "suspicions");
}

/// Lists that had mail.
pub(super) fn lists(page: &mut String, report: &Report) {
    if report.lists.is_empty() {
        return;
    }
    open_table(
        page,
        "Lists",
        "Peaks: most newcomers within the list's window, in one conversation and on the list as a whole.",
        &["List"],
        &["Members", "Messages", "Held", "Delayed", "Storms", "Near-storms", "Peaks", "Quietest threshold"],
    );
    for list in report.lists.iter().take(MAX_ROWS) {
        let _ = write!(page, "<tr><th scope=\"row\"><bdi>{}</bdi></th>", Text(&list.address));
        for number in [list.members, list.messages, list.held, list.delayed, list.storms, list.near_storms] {
            let _ = write!(page, "<td class=\"n\">{}</td>", words::count(number));
        }
        let quietest = list.quietest.map_or_else(|| "above 20".to_owned(), |threshold| threshold.to_string());
        let _ = write!(
            page,
            "<td class=\"n\">{} / {}</td><td class=\"n\">{quietest}</td></tr>",
            list.peak_newcomers, list.peak_list_newcomers
        );
    }
    close_table(page, report.lists.len(), "lists");
}

fn open_table(page: &mut String, heading: &str, caption: &str, texts: &[&str], numbers: &[&str]) {
    let _ = write!(
        page,
        "<h2>{heading}</h2><div class=\"table\" tabindex=\"0\" role=\"group\" aria-label=\"{heading}\"><table>\
         <caption>{caption}</caption><thead><tr>"
    );
    for column in texts {
        let _ = write!(page, "<th scope=\"col\">{column}</th>");
    }
    for column in numbers {
        let _ = write!(page, "<th scope=\"col\" class=\"n\">{column}</th>");
    }
    page.push_str("</tr></thead><tbody>");
}

fn close_table(page: &mut String, rows: usize, what: &str) {
    page.push_str("</tbody></table></div>");
    more(page, rows, what);
}

/// Says how many rows are not shown.
pub(super) fn more(page: &mut String, rows: usize, what: &str) {
    if let Some(hidden) = rows.checked_sub(MAX_ROWS).filter(|hidden| *hidden > 0) {
        let _ = write!(page, "<p class=\"soft\">{hidden} more {what} are not shown; --json has them.</p>");
    }
}
