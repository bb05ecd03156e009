//! Whatever was in the mail, the page stands alone, stays small and says what the report says.

use super::super::{ListReport, MAX_BUCKETS, NearStorm, SuspicionReport};
use super::*;
use crate::time::Timestamp;

const HOSTILE: &str =
    "\"><script src=https://evil.example/x.js>alert(1)</script><img src=x onerror='y'>\u{202e}";

fn at(minute: u64) -> Timestamp {
    Timestamp::from_millis(1_479_112_140_000 + minute * 60_000)
}

/// A minute's burst of answers, and what a policy made of it.
fn timeline(storm: Option<usize>, buckets: u64, members: u64) -> Timeline {
    let bucket = |minute: u64| {
        let replies = if (7..82).contains(&minute) { 8 + minute * 7 % 9 } else { minute % 2 };
        let delivered = if minute < 8 { replies } else { 0 };
        Bucket {
            replies,
            delivered,
            delayed: 0,
            held: replies - delivered,
            copies_with: delivered * members,
            copies_without: replies * members,
            state: match minute {
                0..8 => State::Calm,
                8 => State::Suspicion,
                9..160 => State::Storm,
                _ => State::Cooling,
            },
        }
    };
    Timeline { storm, from: at(0), step_s: 60, buckets: (0..buckets).map(bucket).collect() }
}

fn report(text: &str) -> Report {
    Report {
        policy: "becalm".to_owned(),
        messages: 1_000,
        list_messages: 836,
        conversations: 120,
        storms: vec![StormReport {
            list: text.to_owned(),
            members: 840_000,
            conversation: text.to_owned(),
            trigger: "conversation_newcomers".to_owned(),
            started: at(9),
            ended: Some(at(160)),
            replies_delivered: 3,
            replies_held: 833,
            copies_delivered: 2_520_000,
            copies_held: 699_720_000,
        }],
        suspicions: vec![SuspicionReport {
            list: text.to_owned(),
            conversation: text.to_owned(),
            started: at(8),
            ended: at(9),
            messages: 6,
            became_storm: true,
        }],
        near_storms: vec![NearStorm {
            list: text.to_owned(),
            conversation: Some(text.to_owned()),
            at: at(500),
            peak: 7,
            threshold: 10,
            test: "list_newcomers".to_owned(),
        }],
        lists: vec![ListReport {
            address: text.to_owned(),
            members: 840_000,
            messages: 836,
            held: 833,
            delayed: 0,
            storms: 1,
            near_storms: 1,
            peak_newcomers: 600,
            peak_authors: 610,
            peak_list_newcomers: 700,
            quietest: None,
        }],
        messages_held_for_good: 833,
        copies_with: 2_520_000,
        copies_without: 702_240_000,
        first: Some(at(0)),
        last: Some(at(1_200)),
        skipped: [(text.to_owned(), 2)].into(),
        timelines: vec![timeline(None, 240, 840_000), timeline(Some(0), 200, 840_000)],
        ..Report::default()
    }
}

fn page(policies: &[(String, &Report)], source: &str) -> String {
    Page { sources: &[source.to_owned()], policies }.render()
}

/// Tags and attributes of a page; everything in it must be closed.
fn tags(page: &str) -> Vec<String> {
    let page = page.split_once("</style>").unwrap().1;
    let mut open: Vec<&str> = vec!["html", "head"];
    let mut tags = Vec::new();
    for rest in page.split('<').skip(1) {
        let tag = rest.split_once('>').expect("a tag ends").0;
        tags.push(tag.to_owned());
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closes what is open, near {rest:.80}");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert_eq!(open, [""; 0], "all is closed");
    tags
}

#[test]
fn a_page_stands_alone() {
    let report = report("all@staff.example");
    let page = page(&[("about".to_owned(), &report), ("about".to_owned(), &report)], "past.mbox");
    assert!(page.contains("default-src 'none'"));
    for outside in
        ["http:", "https:", "//", "src=", "href=", "url(", "@import", "<script", "<link", "<iframe", "on"]
    {
        let found = match outside {
            // Attributes that would be scripts.
            "on" => tags(&page).iter().any(|tag| tag.contains(" on")),
            _ => page.contains(outside),
        };
        assert!(!found, "{outside}");
    }
    for tag in tags(&page).iter().filter(|tag| tag.starts_with("svg") && !tag.contains("aria-hidden")) {
        assert!(tag.contains("role=\"img\"") && tag.contains("aria-labelledby"), "{tag}");
    }
    for said in [
        "3 messages reached people before becalm stopped the storm",
        "836 messages to lists would have put 702 million copies into mailboxes",
        "2.52 million copies, 700 million fewer",
        "prefers-color-scheme: dark",
        "@media print",
    ] {
        assert!(page.contains(said), "{said}");
    }
}

#[test]
fn what_others_wrote_stays_text() {
    let mut hostile = report(HOSTILE);
    hostile.policy = HOSTILE.to_owned();
    hostile.storms[0].trigger = HOSTILE.to_owned();
    let page = page(&[(HOSTILE.to_owned(), &hostile), (HOSTILE.to_owned(), &hostile)], HOSTILE);
    let known = [
        "html", "head", "body", "main", "header", "h1", "h2", "h3", "p", "ul", "li", "b", "i", "span", "bdi",
    ];
    let known = known.into_iter().chain([
        "div",
        "table",
        "caption",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "small",
        "figure",
        "figcaption",
        "details",
        "summary",
        "dl",
        "dt",
        "dd",
        "footer",
        "svg",
        "title",
        "desc",
        "g",
        "rect",
        "path",
        "line",
        "text",
        "circle",
    ]);
    let known: Vec<&str> = known.collect();
    for tag in tags(&page) {
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        assert!(known.contains(&name), "{tag}");
        assert!(!tag.contains(" on") && !tag.contains("evil"), "{tag}");
    }
    assert!(page.contains("&lt;script src=https:"));
    assert!(!page.contains('\u{202e}'));
}

#[test]
fn the_largest_report_makes_a_bounded_page() {
    let mut large = report(&"<".repeat(100_000));
    large.storms = vec![large.storms[0].clone(); 1_000];
    large.near_storms = vec![large.near_storms[0].clone(); 1_000];
    large.suspicions = vec![large.suspicions[0].clone(); 1_000];
    large.lists = vec![large.lists[0].clone(); 10_000];
    large.skipped = (0..5_000).map(|n| (format!("{n}{}", "&".repeat(500)), u64::MAX)).collect();
    let worst = Bucket {
        replies: u64::MAX,
        delivered: u64::MAX,
        delayed: u64::MAX,
        held: u64::MAX,
        copies_with: u64::MAX,
        copies_without: u64::MAX,
        state: State::Storm,
    };
    let storms = (0..32).map(Some);
    large.timelines = std::iter::once(None)
        .chain(storms)
        .map(|storm| Timeline { storm, from: at(0), step_s: u64::MAX, buckets: vec![worst; MAX_BUCKETS] })
        .collect();
    let policies: Vec<(String, &Report)> = (0..8).map(|n| (format!("{n}"), &large)).collect();
    let page = page(&policies, "x");
    tags(&page);
    assert!(page.len() < 4 * 1024 * 1024, "{} bytes", page.len());
    assert!(page.contains("900 more storms are not shown"));
}

#[test]
fn every_kind_of_day_has_its_headline() {
    let empty = Report { policy: "becalm".to_owned(), ..Report::default() };
    assert_eq!(headline(&empty), "There was no mail");
    let unread = Report { skipped: [("an empty file".to_owned(), 1)].into(), ..empty.clone() };
    assert_eq!(headline(&unread), "No message could be read and played");
    assert_eq!(summary(&unread), ["Not played: 1, an empty file."]);
    let empty = Report { messages: 5, ..empty };
    assert_eq!(headline(&empty), "There was no mail to lists");
    let calm = Report { list_messages: 5, copies_with: 100, copies_without: 100, ..empty.clone() };
    assert_eq!(headline(&calm), "becalm would have touched nothing");
    assert_eq!(summary(&calm), ["All 5 messages to lists would have reached their 100 mailboxes."]);
    let slow = Report { messages_delayed: 1, delay_max_s: 600.0, ..calm.clone() };
    assert_eq!(headline(&slow), "becalm would have declared no storm");
    assert_eq!(summary(&slow)[1], "1 message waited before it was delivered, the longest for 10 minutes.");
    let storm = report("x").storms[0].clone();
    let one = Report { storms: vec![storm.clone()], ..calm.clone() };
    assert_eq!(headline(&one), "3 messages reached people before becalm stopped the storm");
    let two = Report { storms: vec![storm.clone(), storm], ..calm };
    assert_eq!(headline(&two), "becalm would have stopped 2 storms");
    for report in [empty, slow, one, two] {
        tags(&page(&[(String::new(), &report)], "x"));
    }
    assert_eq!(page(&[], "x"), "");
}

#[test]
fn cells_that_may_be_broken_anywhere_have_a_least_width() {
    let page = page(&[("about".to_owned(), &report("x"))], "x");
    assert!(
        page.contains("td > bdi { display: block; min-width: ") && page.contains("<td><bdi>x</bdi></td>")
    );
}

#[test]
fn no_window_is_said_to_be_an_hour() {
    let page = page(&[("about".to_owned(), &report("x"))], "x");
    assert!(page.contains("newcomers within the list's window") && !page.contains("within an hour"));
}

#[test]
fn what_was_played_is_not_among_what_was_not() {
    let cut = Report { headers_cut: 2, skipped: [].into(), ..report("x") };
    let cut = page(&[(String::new(), &cut)], "x");
    assert!(cut.contains("2 messages had more than 102,400 bytes of headers") && !cut.contains("Not played"));
}

#[test]
fn mail_in_the_wrong_order_is_told_first() {
    let wrong = Report { out_of_order: 11, ..report("x") };
    let wrong = page(&[(String::new(), &wrong)], "x");
    let place = |what: &str| wrong.find(what).unwrap_or_else(|| panic!("{what}"));
    assert!(place("The result cannot be trusted.") < place("--folder") && place("--folder") < place("<h1>"));
    tags(&wrong);
    assert!(!page(&[(String::new(), &report("x"))], "x").contains("trusted"));
}

/// `BECALM_PAGE=FILE cargo test --lib a_page_to_look_at` writes one.
#[test]
fn a_page_to_look_at() {
    let Some(file) = std::env::var_os("BECALM_PAGE") else { return };
    let ours = report("all@staff.example");
    let mut exchange = Report { policy: "exchange-online".to_owned(), ..ours.clone() };
    exchange.copies_with = 379_000_000;
    exchange.messages_held_for_good = 385;
    for bucket in &mut exchange.timelines[0].buckets {
        bucket.copies_with = bucket.copies_without / 2;
    }
    let policies = [("newcomers, weighed in copies".to_owned(), &ours), ("10 answers".to_owned(), &exchange)];
    std::fs::write(file, page(&policies, "scenario nhs-2016, seed 1")).unwrap();
}
