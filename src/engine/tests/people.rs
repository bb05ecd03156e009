//! Who wrote: authors, and who is exempt.

use super::*;

fn author(site: &Site, letter: &Letter) -> Option<String> {
    site.send(letter).author
}

fn letter(from: &str, header: &str) -> Letter {
    let mut letter = Letter::new(from, ALL);
    letter.headers = vec![("From".to_owned(), header.to_owned())];
    letter
}

#[test]
fn the_authenticated_user_then_from_then_the_envelope() {
    let site = setup(&[(ALL, 100)]).build();
    let spoofed = letter("envelope@example.net", "Boss <boss@example.org>");
    let is = |letter: &Letter, expected: &str| assert_eq!(author(&site, letter).as_deref(), Some(expected));
    is(&spoofed.clone().user("jo"), "jo@example.org");
    is(&spoofed.clone().user("Jo+web@example.org"), "jo@example.org");
    is(&spoofed.clone().user("EXAMPLE\\jo"), "jo@example.org");
    is(&spoofed, "boss@example.org");
    is(&letter("news-bounces+jo=example.org@lists.example", "nobody at all"), "news-bounces@lists.example");
    assert_eq!(author(&site, &letter("<>", "")), None);
}

#[test]
fn where_from_is_the_list_reply_to_says_who() {
    let site = setup(&[(ALL, 100)]).build();
    let from_list = letter("all-bounces@example.org", "Jo via All <ALL@example.org>");
    let reply_to = from_list.clone().header("Reply-To", "All <all@example.org>, Jo <jo@example.net>");
    assert_eq!(author(&site, &reply_to).as_deref(), Some("jo@example.net"));
    let original = from_list.header("X-Original-From", "Jo <jo@example.net>");
    assert_eq!(author(&site, &original).as_deref(), Some("jo@example.net"));
}

#[test]
fn web_mail_and_relay_make_one_person() {
    // K is 2 on the list: two people are a storm, the same person twice is none.
    let site = setup(&[(ALL, 100)]).policy(touchy(Mode::Hold)).build();
    let web = letter("web@host.example", "Jo <jo@example.org>");
    let relay = letter("jo@example.org", "Jo <jo.private@example.net>").user("jo");
    assert_eq!(site.send(&web).reason, Reason::Calm);
    assert!(!matches!(site.send(&relay).reason, Reason::Storm));
    assert_eq!(site.send(&letter("web@host.example", "Bo <bo@example.org>")).reason, Reason::Storm);
}

fn site_with_exempt() -> Site {
    let mut setup = setup(&[(ALL, 1_000_000)]).policy(touchy(Mode::Hold));
    setup.exempt = Exempt {
        authors: [b"boss@example.org".to_vec()].into(),
        networks: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
    };
    let site = setup.build();
    site.open_storm(ALL);
    site
}

#[test]
fn an_exempt_user_or_network_passes_even_a_storm() {
    let site = site_with_exempt();
    let passes = |letter: Letter| {
        let decision = site.send(&letter);
        assert_eq!((decision.action, decision.reason), (Action::Accept, Reason::Exempt), "{letter:?}");
    };
    passes(Letter::new("any@example.org", ALL).user("boss"));
    passes(Letter::new("any@example.org", ALL).user("Boss@Example.org"));
    passes(Letter::new("any@example.org", ALL).user("EXAMPLE\\boss"));
    passes(Letter::new("any@example.org", ALL).client("192.0.2.7"));
    passes(Letter::new("any@example.org", ALL).client("::ffff:192.0.2.7"));
    passes(Letter::new("any@example.org", ALL).client("2001:db8::1"));
}

#[test]
fn a_sender_that_anybody_can_write_exempts_nobody() {
    let site = site_with_exempt();
    let is_held = |letter: Letter| {
        let decision = site.send(&letter);
        assert_eq!((decision.action, decision.reason), (Action::Hold, Reason::Storm), "{letter:?}");
    };
    is_held(Letter::new("boss@example.org", ALL));
    is_held(Letter::new("boss@example.org", ALL).client("198.51.100.1"));
    is_held(Letter::new("boss@example.org", ALL).user("jo"));
    is_held(Letter::new("boss@example.org", ALL).user("boss@elsewhere.example"));
}

#[test]
fn exempt_mail_is_counted_nowhere_but_makes_its_author_known() {
    let mut setup = setup(&[(ALL, 100)]).policy(touchy(Mode::Hold));
    setup.exempt.networks = vec!["192.0.2.0/24".parse().unwrap()];
    let mut site = setup.build();
    for n in 0..30 {
        let letter = Letter::new(&stranger(n), ALL).re("root-1@example.net").client("192.0.2.7");
        assert_eq!(site.send(&letter).reason, Reason::Exempt);
    }
    assert_eq!(site.phase(ALL), Phase::Calm);
    // A day later the first two of them write by another way: they are no newcomers.
    site.wait(DAY);
    for n in 0..2 {
        assert_eq!(site.send(&Letter::new(&stranger(n), ALL)).reason, Reason::Calm);
    }
    assert_eq!(site.send(&Letter::new("new-1@example.org", ALL)).reason, Reason::Calm);
    assert_eq!(site.send(&Letter::new("new-2@example.org", ALL)).reason, Reason::Storm);
}
