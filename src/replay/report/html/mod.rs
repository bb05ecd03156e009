//! One page that explains a replay to a manager: what came, what becalm would have done, what others would have.
//!
//! It stands alone: no script, no font, no picture from elsewhere, and a policy in its head that forbids them. It
//! is of bounded size: of storms, lists and near-storms the first hundred, and drawings of the first eight storms.

mod chart;
mod escape;
mod tables;

use std::fmt::Write as _;

use super::words;
use super::{Bucket, Report, State, StormReport, Timeline};
use chart::Line;
use escape::{Sentence, Text};

/// Rows of a table.
const MAX_ROWS: usize = 100;

/// Storms that are drawn.
const MAX_DRAWN: usize = 8;

/// Policies that are drawn: there are colours for so many.
pub const MAX_POLICIES: usize = 8;

const LINES: [&str; MAX_POLICIES] = ["p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8"];
const DOTS: [&str; MAX_POLICIES] = ["d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8"];

/// What is shown.
pub struct Page<'a> {
    /// Where the mail came from, in words.
    pub sources: &'a [String],
    /// What each policy is, and what it would have made of the mail; the first is the one that is explained.
    pub policies: &'a [(String, &'a Report)],
}

impl Page<'_> {
    /// The page; empty where there is no policy at all.
    pub fn render(&self) -> String {
        let Some((_, report)) = self.policies.first() else { return String::new() };
        let mut page = String::with_capacity(128 * 1024);
        head(&mut page);
        self.opening(&mut page, report);
        let mut drawings = 0;
        if let Some(timeline) = report.timelines.iter().find(|timeline| timeline.storm.is_none()) {
            page.push_str("<h2>The course</h2>");
            draw_messages(&mut page, timeline, &mut drawings);
            self.draw_copies(&mut page, timeline, &mut drawings);
        }
        if self.policies.len() > 1 {
            self.side_by_side(&mut page);
        }
        storms(&mut page, report, &mut drawings);
        tables::near_storms(&mut page, report);
        tables::suspicions(&mut page, report);
        tables::lists(&mut page, report);
        self.closing(&mut page, report);
        page.push_str("</main></body></html>\n");
        page
    }

    fn opening(&self, page: &mut String, report: &Report) {
        let name = words::policy(&report.policy);
        page.push_str("<header>");
        for sentence in report.disorder().into_iter().flatten() {
            let _ = write!(page, "<p class=\"lead warning\">{}</p>", Sentence(&sentence));
        }
        let _ = write!(page, "<h1>{}</h1>", Sentence(&headline(report)));
        for sentence in summary(report) {
            let _ = write!(page, "<p class=\"lead\">{}</p>", Sentence(&sentence));
        }
        if let (Some(first), Some(last)) = (report.first, report.last) {
            let _ = write!(
                page,
                "<p class=\"soft\">{} of mail, from {} to {} (all times are UTC), played to {}.</p>",
                capital(&words::length(last.since(first).as_secs())),
                words::moment(first),
                words::moment(last),
                Text(name)
            );
        }
        page.push_str("</header><ul class=\"tiles\">");
        let tile = |page: &mut String, big: &str, small: &str| {
            let _ = write!(page, "<li><b>{}</b><span>{}</span></li>", Text(big), Text(small));
        };
        tile(
            page,
            &words::large(report.copies_with),
            &format!("copies in mailboxes, instead of {}", words::large(report.copies_without)),
        );
        tile(
            page,
            &words::count(report.messages_held_for_good),
            &format!("of {} held", words::many(report.list_messages, "message", "messages")),
        );
        tile(page, &words::count(report.messages_delayed), &delay(report));
        tile(page, &words::count(report.storms.len() as u64), &near(report));
        page.push_str("</ul>");
    }

    /// Copies so far, without a filter and under each policy.
    fn draw_copies(&self, page: &mut String, timeline: &Timeline, drawings: &mut usize) {
        let mut lines = vec![Line {
            name: "no filter".to_owned(),
            class: "without",
            dot: "d0",
            timeline,
            copies: |bucket: &Bucket| bucket.copies_without,
        }];
        let colours = LINES.iter().zip(DOTS);
        for ((_, report), (class, dot)) in self.policies.iter().zip(colours) {
            // Others have no line where their timeline is none of the same time.
            let own = report.timelines.iter().find(|own| own.storm.is_none()).filter(|own| {
                own.from == timeline.from
                    && own.step_s == timeline.step_s
                    && own.buckets.len() == timeline.buckets.len()
            });
            if let Some(own) = own {
                let name = words::policy(&report.policy).to_owned();
                lines.push(Line { name, class, dot, timeline: own, copies: |bucket| bucket.copies_with });
            }
        }
        figure_of_copies(page, &lines, drawings);
    }

    fn side_by_side(&self, page: &mut String) {
        page.push_str(
            "<h2>Policies side by side</h2><p class=\"soft\">The same mail, played to each of these rules.</p>\
             <div class=\"table\" tabindex=\"0\" role=\"group\" \
             aria-label=\"Policies side by side\"><table><thead><tr><th scope=\"col\">Policy</th><th scope=\"col\" class=\"n\">Copies \
             in mailboxes</th><th scope=\"col\" class=\"n\">Held or refused</th><th scope=\"col\" class=\"n\">Delayed\
             </th><th scope=\"col\" class=\"n\">Longest delay</th><th scope=\"col\" class=\"n\">Storms</th></tr>\
             </thead><tbody>",
        );
        let most = self.policies.iter().map(|(_, report)| report.copies_without).max().unwrap_or(0);
        for (about, report) in self.policies {
            policy_row(page, words::policy(&report.policy), about, report, most);
        }
        if let Some((_, report)) = self.policies.first() {
            let _ = write!(
                page,
                "<tr><th scope=\"row\">no filter</th><td class=\"n\">{}{}</td><td class=\"n\">0</td><td \
                 class=\"n\">0</td><td class=\"n\">–</td><td class=\"n\">–</td></tr>",
                words::large(report.copies_without),
                bar(report.copies_without, most, "d0")
            );
        }
        page.push_str("</tbody></table></div>");
    }

    fn closing(&self, page: &mut String, report: &Report) {
        page.push_str("<h2>What was read</h2><ul>");
        for source in self.sources.iter().take(MAX_ROWS) {
            let _ = write!(page, "<li><bdi>{}</bdi></li>", Text(source));
        }
        let _ = write!(page, "</ul><p>{}</p>", Sentence(&what_was_read(report)));
        if !report.skipped.is_empty() {
            page.push_str("<ul>");
            for (reason, count) in report.skipped.iter().take(MAX_ROWS) {
                let _ = write!(page, "<li>Not played: {}, {}</li>", words::count(*count), Text(reason));
            }
            page.push_str("</ul>");
        }
        if let Some(cut) = report.cut() {
            let _ = write!(page, "<p>{}</p>", Sentence(&cut));
        }
        page.push_str(EXPLAINED);
        let version = env!("CARGO_PKG_VERSION");
        let _ = write!(page, "<footer>Made by becalm {version} (becalm replay).</footer>");
    }
}

const EXPLAINED: &str = "<h2>How to read this</h2><dl>\
    <dt>Copy</dt><dd>One message in one mailbox. A message to a list of 1,000 people is 1,000 copies.</dd>\
    <dt>Let through, delayed, held</dt><dd>Delivered at once; kept for some minutes and then delivered by itself; \
    kept until somebody decides. What is held is not lost.</dd>\
    <dt>Newcomers</dt><dd>People who do not usually write to that list. A storm is many of them within a \
    window.</dd>\
    <dt>Window</dt><dd>The time within which people are counted: an hour, unless the list has another.</dd>\
    <dt>Suspicion</dt><dd>Newcomers come too fast for calm, but it is no storm yet: their messages wait.</dd>\
    <dt>Near-storm</dt><dd>A peak of half of what would have been a storm, or more.</dd>\
    <dt>Quietest threshold</dt><dd>The smallest number of people, in place of the thresholds of a storm, at which \
    no storm would have been declared on that list.</dd>\
    <dt>What this cannot know</dt><dd>Mail that was kept is mail that was sent: people who get fewer copies write \
    fewer answers, so a real storm would have been smaller.</dd></dl>";

fn head(page: &mut String) {
    page.push_str(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"referrer\" content=\"no-referrer\">\
         <title>becalm: what would have happened</title><style>",
    );
    page.push_str(include_str!("style.css"));
    page.push_str("</style></head><body><main>");
}

/// The verdict in one sentence.
fn headline(report: &Report) -> String {
    if let Some([what, _]) = report.nothing() {
        return what;
    }
    let name = words::policy(&report.policy);
    match report.storms.as_slice() {
        [] if report.list_messages == 0 => "There was no mail to lists".to_owned(),
        [] if report.messages_held_for_good == 0 && report.messages_delayed == 0 => {
            format!("{name} would have touched nothing")
        }
        [] => format!("{name} would have declared no storm"),
        [storm] if storm.replies_delivered > 0 => format!(
            "{} reached people before {} stopped the storm",
            words::many(storm.replies_delivered, "message", "messages"),
            words::policy(&report.policy)
        ),
        storms => {
            format!("{name} would have stopped {}", words::many(storms.len() as u64, "storm", "storms"))
        }
    }
}

/// What happened, in words.
fn summary(report: &Report) -> Vec<String> {
    if let Some([_, why]) = report.nothing() {
        return vec![why];
    }
    if report.list_messages == 0 {
        return vec![
            "None of the messages went to a list or to many people: there was nothing to judge.".to_owned(),
        ];
    }
    let mut sentences = Vec::new();
    let passed = report.list_messages.saturating_sub(report.messages_held_for_good);
    let many = |number| words::many(number, "message", "messages");
    if report.messages_held_for_good == 0 {
        sentences.push(format!(
            "All {} to lists would have reached their {} mailboxes.",
            many(report.list_messages),
            words::large(report.copies_with)
        ));
    } else {
        let saved = report.copies_without.saturating_sub(report.copies_with);
        sentences.push(format!(
            "Without a filter, {} to lists would have put {} copies into mailboxes. With {}, {} got through and {} \
             were held: {} copies, {} fewer.",
            many(report.list_messages),
            words::large(report.copies_without),
            words::policy(&report.policy),
            words::count(passed),
            words::count(report.messages_held_for_good),
            words::large(report.copies_with),
            words::large(saved)
        ));
    }
    if report.messages_delayed > 0 {
        sentences.push(format!(
            "{} waited before {} delivered, the longest for {}.",
            many(report.messages_delayed),
            if report.messages_delayed == 1 { "it was" } else { "they were" },
            words::length(report.delay_max_s.round() as u64)
        ));
    }
    sentences
}

fn delay(report: &Report) -> String {
    match report.messages_delayed {
        0 => "messages delayed".to_owned(),
        _ => format!(
            "delayed and released, the longest after {}",
            words::length(report.delay_max_s.round() as u64)
        ),
    }
}

fn near(report: &Report) -> String {
    let storms = if report.storms.len() == 1 { "storm" } else { "storms" };
    format!("{storms}, {}", words::many(report.near_storms.len() as u64, "near-storm", "near-storms"))
}

fn what_was_read(report: &Report) -> String {
    let mut text = format!(
        "{}, {} of them to lists or to many people, in {}.",
        words::many(report.messages, "message", "messages"),
        words::count(report.list_messages),
        words::many(report.conversations, "conversation", "conversations")
    );
    if report.out_of_order > 0 {
        let _ =
            write!(text, " {} came out of order and were played late.", words::count(report.out_of_order));
    }
    if report.left_out > 0 {
        let _ = write!(text, " {} more findings are not in this report.", words::count(report.left_out));
    }
    text
}

/// Messages in each step, with its legend and its numbers.
fn draw_messages(page: &mut String, timeline: &Timeline, drawings: &mut usize) {
    let busiest = timeline.buckets.iter().max_by_key(|bucket| bucket.replies).copied().unwrap_or_default();
    let step = words::length(timeline.step_s);
    let description = format!(
        "Messages in steps of {step}, at most {} in one; state: {}.",
        words::count(busiest.replies),
        states(timeline)
    );
    let each = if timeline.step_s == 60 { "a minute".to_owned() } else { format!("in each {step}") };
    let _ = write!(page, "<figure><figcaption>Messages {each}, and what becomes of them</figcaption>");
    legend(page, timeline);
    let svg = chart::messages(timeline, *drawings, &description);
    scrolling(page, &svg, "Messages over time");
    page.push_str(&chart::table(timeline));
    page.push_str("</figure>");
    *drawings += 1;
}

fn figure_of_copies(page: &mut String, lines: &[Line<'_>], drawings: &mut usize) {
    let mut description = "Copies in mailboxes, added up, at the end: ".to_owned();
    for (place, line) in lines.iter().enumerate() {
        let sum =
            line.timeline.buckets.iter().fold(0_u64, |sum, bucket| sum.saturating_add((line.copies)(bucket)));
        let comma = if place == 0 { "" } else { "; " };
        let _ = write!(description, "{comma}{} {}", line.name, words::large(sum));
    }
    page.push_str(
        "<figure><figcaption>Copies in mailboxes, added up</figcaption><ul class=\"legend narrow\">",
    );
    for line in lines {
        let _ = write!(page, "<li><i class=\"{}\"></i>{}</li>", line.dot, Text(&line.name));
    }
    page.push_str("</ul>");
    let svg = chart::copies(lines, *drawings, &description);
    scrolling(page, &svg, "Copies over time");
    page.push_str("</figure>");
    *drawings += 1;
}

/// A narrow screen scrolls a drawing, by keyboard too, and does not make its letters small.
fn scrolling(page: &mut String, svg: &str, label: &str) {
    let _ = write!(
        page,
        "<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"{label}\">{svg}</div>"
    );
}

fn legend(page: &mut String, timeline: &Timeline) {
    page.push_str("<ul class=\"legend\">");
    let entry = |page: &mut String, class: &str, name: &str| {
        let _ = write!(page, "<li><i class=\"{class}\"></i>{name}</li>");
    };
    let buckets = &timeline.buckets;
    entry(page, "let", "let through");
    if buckets.iter().any(|bucket| bucket.delayed > 0) {
        entry(page, "wait", "put to wait");
    }
    if buckets.iter().any(|bucket| bucket.held > 0) {
        entry(page, "held", "held");
    }
    for state in [State::Suspicion, State::Storm, State::Cooling] {
        if buckets.iter().any(|bucket| bucket.state == state) {
            let name = format!("state: {}", chart::state_name(state));
            entry(page, chart::state_class(state), &name);
        }
    }
    page.push_str("</ul>");
}

/// The states of a timeline, in order.
fn states(timeline: &Timeline) -> String {
    let runs = timeline.buckets.chunk_by(|a, b| a.state == b.state);
    let names: Vec<&str> =
        runs.filter_map(|run| run.first()).map(|bucket| chart::state_name(bucket.state)).take(12).collect();
    names.join(", then ")
}

fn policy_row(page: &mut String, name: &str, about: &str, report: &Report, most: u64) {
    let longest = match report.messages_delayed {
        0 => "–".to_owned(),
        _ => words::length(report.delay_max_s.round() as u64),
    };
    let _ = write!(
        page,
        "<tr><th scope=\"row\"><bdi>{}</bdi><small>{}</small></th><td class=\"n\">{}{}</td><td class=\"n\">{}</td>\
         <td class=\"n\">{}</td><td class=\"n\">{longest}</td><td class=\"n\">{}</td></tr>",
        Text(name),
        Sentence(about),
        words::large(report.copies_with),
        bar(report.copies_with, most, "let"),
        words::count(report.messages_held_for_good),
        words::count(report.messages_delayed),
        words::count(report.storms.len() as u64)
    );
}

/// How much of the most it is; the number beside it says the same.
fn bar(number: u64, most: u64, class: &str) -> String {
    // A sliver for what is little, so that it is not taken for nothing.
    let share = number as f64 / most.max(1) as f64;
    let width = if number == 0 { 0.0 } else { (share * 100.0).clamp(0.7, 100.0) };
    format!(
        "<svg class=\"bar\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect \
         class=\"rest\" width=\"100\" height=\"8\"/><rect class=\"{class}\" width=\"{width:.1}\" height=\"8\"/></svg>"
    )
}

fn storms(page: &mut String, report: &Report, drawings: &mut usize) {
    if report.storms.is_empty() {
        return;
    }
    page.push_str("<h2>Storms</h2>");
    for (place, storm) in report.storms.iter().take(MAX_ROWS).enumerate() {
        let _ = write!(
            page,
            "<h3>{}, <bdi>{}</bdi></h3><p>{}</p>",
            words::moment(storm.started),
            Text(&storm.list),
            describe(storm)
        );
        let timeline = report.timelines.iter().find(|timeline| timeline.storm == Some(place));
        if let Some(timeline) = timeline.filter(|_| place < MAX_DRAWN) {
            draw_messages(page, timeline, drawings);
            let line =
                |name: &str, class, dot, copies| Line { name: name.to_owned(), class, dot, timeline, copies };
            let lines = [
                line("no filter", "without", "d0", (|b| b.copies_without) as fn(&Bucket) -> u64),
                line(words::policy(&report.policy), "p1", "d1", |bucket| bucket.copies_with),
            ];
            figure_of_copies(page, &lines, drawings);
        }
    }
    tables::more(page, report.storms.len(), "storms");
}

/// A storm in words, as markup: what others wrote is in it.
fn describe(storm: &StormReport) -> String {
    let what = match storm.trigger.as_str() {
        "conversation_newcomers" => "many newcomers answered in one conversation",
        "conversation_authors" => "many different people answered in one conversation",
        "list_newcomers" => "many newcomers wrote to the list",
        "rekindled" => "it flared up again after an earlier storm",
        "replies" => "many answers came in one conversation",
        "rate" => "more messages came than the rate allows",
        other => other,
    };
    let mut text = format!("{}.", Text(&capital(what)));
    if !storm.conversation.is_empty() {
        let _ = write!(text, " The message that set it off: “<bdi>{}</bdi>”.", Text(&storm.conversation));
    }
    let many = |number| words::many(number, "message", "messages");
    let _ = write!(
        text,
        " The list has {}. {} got through, {} copies; {} were held, which would have been {} copies. ",
        words::many(storm.members, "member", "members"),
        capital(&many(storm.replies_delivered)),
        words::large(storm.copies_delivered),
        many(storm.replies_held),
        words::large(storm.copies_held)
    );
    match storm.ended {
        Some(ended) => {
            let length = words::length(ended.since(storm.started).as_secs());
            let _ = write!(text, "It was over after {length}, {}.", words::moment(ended));
        }
        None => text.push_str("It was still open at the end of the mail."),
    }
    text
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests;
