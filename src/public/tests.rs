use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_479_118_500_000);

fn vienna() -> TimeZone {
    TimeZone::get("Europe/Vienna").expect("tzdata is there")
}

fn minutes_ago(minutes: u64) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis() - minutes * 60_000)
}

fn paused(name: Option<&str>) -> Paused {
    let ends = NOW.after(Duration::from_secs(31 * 60));
    Paused { name: name.map(str::to_owned), conversation: false, since: minutes_ago(11), ends }
}

fn rendered(language: &str, format: Format, paused: Vec<Paused>) -> String {
    let templates = Templates::default();
    let template = templates.get(language).unwrap();
    PublicStatus::new(paused, template, &vienna(), NOW).render(format, template, &vienna(), NOW)
}

#[test]
fn golden_texts() {
    let two = || {
        let older = Paused { since: minutes_ago(26 * 60), ..paused(None) };
        vec![older, paused(Some("All staff"))]
    };
    insta::assert_snapshot!("en", rendered("en", Format::Text, two()));
    insta::assert_snapshot!("de", rendered("de", Format::Text, two()));
    insta::assert_snapshot!("fr", rendered("fr", Format::Text, two()));
    insta::assert_snapshot!("es", rendered("es", Format::Text, two()));
    insta::assert_snapshot!("calm", rendered("de", Format::Text, Vec::new()));
}

#[test]
fn a_conversation_is_no_list() {
    let one = Paused { conversation: true, ..paused(None) };
    for (language, said) in [("en", "a conversation among many"), ("de", "Unterhaltung mit vielen")] {
        let text = rendered(language, Format::Text, vec![one.clone()]);
        assert!(text.contains(said), "{text}");
    }
    // An operator's own language may know nothing of them.
    let own =
        include_str!("templates/en.toml").lines().filter(|line| !line.starts_with("paused_conversation"));
    let (templates, bad) = Templates::with([("it".to_owned(), own.collect::<Vec<_>>().join("\n"))]);
    assert_eq!(bad, []);
    let status = PublicStatus::new(vec![one], templates.get("it").unwrap(), &vienna(), NOW);
    assert!(status.lists[0].messages[0].contains("a large mailing list"), "{status:?}");
}

#[test]
fn golden_object() {
    insta::assert_snapshot!("object", rendered("en", Format::Json, vec![paused(Some("All staff"))]));
}

/// A small check of what a browser would have to mend: each element is closed in its place, and what is in between
/// is text.
fn well_formed(html: &str) -> Result<(), String> {
    let mut rest = html.strip_prefix("<!DOCTYPE html>\n").ok_or("no doctype")?;
    let mut open: Vec<&str> = Vec::new();
    while let Some((text, after)) = rest.split_once('<') {
        if text.contains('>') && open.last() != Some(&"style") {
            return Err(format!("a stray > in {text:?}"));
        }
        let (tag, next) = after.split_once('>').ok_or("a tag without an end")?;
        rest = next;
        let name = tag.split_whitespace().next().unwrap_or_default();
        match name.strip_prefix('/') {
            Some(name) if open.pop() == Some(name) => {}
            Some(name) => return Err(format!("</{name}> closes something else")),
            None if name == "meta" => {}
            None => open.push(name),
        }
    }
    if open.is_empty() && rest.trim().is_empty() { Ok(()) } else { Err(format!("{open:?} is left open")) }
}

#[test]
fn every_template_renders_in_every_form() {
    for language in ["en", "de", "fr", "es"] {
        for format in [Format::Html, Format::Text, Format::Json] {
            for lists in [vec![], vec![paused(None)], vec![paused(Some("A")), paused(Some("B"))]] {
                let text = rendered(language, format, lists.clone());
                assert!(!text.contains('{') || format != Format::Text, "{text}");
                let time = text.contains("11:15") || text.contains("11\u{a0}h\u{a0}15");
                assert!(time || format == Format::Json, "{text}");
            }
        }
        let html = rendered(language, Format::Html, vec![paused(Some("A")), paused(None)]);
        well_formed(&html).unwrap_or_else(|why| panic!("{why}\n{html}"));
        assert!(html.contains(&format!("<html lang=\"{language}\" dir=\"ltr\">")), "{html}");
        assert!(!html.contains("<script") && !html.contains("src=") && !html.contains("http:"), "{html}");
        assert!(!html.contains("url(") && !html.contains("@import"), "{html}");
    }
}

#[test]
fn names_are_text() {
    let html = rendered("en", Format::Html, vec![paused(Some("<b onclick=\"x\">R&D's</b>"))]);
    assert!(html.contains("“&lt;b onclick=&quot;x&quot;&gt;R&amp;D&#39;s&lt;/b&gt;”"), "{html}");
    well_formed(&html).unwrap();
    // Nor is a placeholder in a name filled in.
    let text = rendered("en", Format::Text, vec![paused(Some("{since}\u{1b}[2J"))]);
    assert!(text.contains("“{since}[2J”"), "{text}");
}

#[test]
fn an_end_is_to_five_minutes_and_never_past() {
    let templates = Templates::default();
    let end = |ends: u64| {
        let list = Paused { ends: Timestamp::from_millis(ends), ..paused(None) };
        let english = templates.get("en").unwrap();
        PublicStatus::new(vec![list], english, &TimeZone::UTC, NOW).lists.remove(0).expected_end
    };
    assert_eq!(end(NOW.as_millis() + 1), "2016-11-14T10:20:00Z");
    assert_eq!(end(NOW.as_millis() + 300_000), "2016-11-14T10:20:00Z");
    assert_eq!(end(0), "2016-11-14T10:15:00Z");
    assert_eq!(end(u64::MAX), "beyond the calendar");
}

#[test]
fn many_lists_are_counted() {
    let names = (0..130).map(|n| paused(Some(&format!("list {n}")))).collect();
    let english = Templates::default();
    let status = PublicStatus::new(names, english.get("en").unwrap(), &TimeZone::UTC, NOW);
    assert_eq!((status.lists.len(), status.more), (100, 30));
    assert_eq!(status.messages[0], "Further mailing lists that are paused: 30.");
}

fn with(name: &str, text: &str) -> (Templates, Vec<BadTemplate>) {
    Templates::with([(name.to_owned(), text.to_owned())])
}

#[test]
fn operators_change_and_add_languages() {
    let (templates, bad) = with("de", "calm = 'Alles ruhig.'");
    assert_eq!((templates.get("de-at").unwrap().calm.as_str(), bad), ("Alles ruhig.", vec![]));
    let (templates, bad) = with("de-AT", "calm = 'Passt.'");
    assert_eq!(bad, vec![]);
    assert_eq!(templates.get("de-AT").unwrap().calm, "Passt.");
    assert_eq!(templates.get("de-CH").unwrap().calm, Templates::default().get("de").unwrap().calm);
    let (templates, bad) = with("it", include_str!("templates/es.toml"));
    assert!(templates.get("it").is_some() && bad.is_empty());
}

#[test]
fn mistakes_in_templates_are_named_and_what_ships_stays() {
    for (name, text, expected) in [
        ("it", "calm = 'x'", "it.toml: missing field `direction`"),
        ("de", "clam = 'x'", "de.toml: unknown field `clam`"),
        ("de", "paused = 'seit {since}'", "de.toml: `paused` lacks {list}"),
        (
            "de",
            "ends = '{end} {when}'",
            "de.toml: `ends` has a placeholder that it does not take; it takes {end}",
        ),
        ("de", "calm = 'a } b'", "de.toml: `calm` has a placeholder that it does not take; it takes none"),
        ("de", "title = ''", "de.toml: `title` is empty"),
        ("de", "calm = \"a\\nb\"", "de.toml: `calm` has more than one line"),
        ("de", "months = ['x']", "de.toml: invalid length 1"),
        ("de", "calm =", "de.toml: TOML parse error at line 1"),
        ("../x", "", "../x.toml: the file's name is no language"),
    ] {
        let (templates, bad) = with(name, text);
        assert_eq!(templates, Templates::default());
        assert!(bad[0].to_string().starts_with(expected), "{} | {expected}", bad[0]);
    }
}

proptest! {
    #[test]
    fn whatever_a_template_says_nothing_panics(text in "(calm|paused|time|months) = ('[a-z{}<>]{0,12}'|\\[\\]|7)") {
        let (templates, _) = with("de", &text);
        let template = templates.get("de").unwrap();
        let status = PublicStatus::new(vec![paused(Some("A"))], template, &vienna(), NOW);
        well_formed(&status.render(Format::Html, template, &vienna(), NOW)).unwrap();
    }
}
