//! Addresses that behave like lists and that no source knows.

use super::*;

fn event(site: &Site, author: &str, recipient: &str) -> Option<Event> {
    let mut tx = site.engine.session(None);
    site.engine.begin(&mut tx, author.as_bytes(), None, site.now);
    site.engine.recipient(&mut tx, recipient.as_bytes())
}

const NEW_LIST: &str = "<New-List@Example.net>";

#[test]
fn twenty_people_in_an_hour_make_it_a_possible_list() {
    let mut site = setup(&[(ALL, 100)]).build();
    for n in 0..19 {
        assert_eq!(event(&site, &stranger(n), NEW_LIST), None);
        assert_eq!(event(&site, &stranger(n), NEW_LIST), None, "the same again");
        site.wait(3 * MINUTE);
    }
    let expected =
        Event::PossibleList { address: "new-list@example.net".to_owned(), authors: 20, at: site.now };
    assert_eq!(event(&site, &stranger(19), NEW_LIST), Some(expected));
    assert_eq!(event(&site, &stranger(20), NEW_LIST), None, "once a day");
}

#[test]
fn it_is_reported_again_the_next_day() {
    let mut site = setup(&[]).build();
    let reports = |site: &Site| (0..25).filter(|n| event(site, &stranger(*n), NEW_LIST).is_some()).count();
    assert_eq!(reports(&site), 1);
    site.wait(DAY - 2 * HOUR);
    assert_eq!(reports(&site), 0);
    site.wait(2 * HOUR);
    assert_eq!(reports(&site), 1);
}

#[test]
fn known_lists_and_slow_traffic_are_none() {
    let mut site = setup(&[(ALL, 100), ("*-team@example.org", 10)]).build();
    for n in 0..60 {
        assert_eq!(event(&site, &stranger(n), ALL), None);
        assert_eq!(event(&site, &stranger(n), "red-team@example.org"), None);
    }
    for n in 0..60 {
        assert_eq!(event(&site, &stranger(n), NEW_LIST), None);
        site.wait(3 * MINUTE + 10 * SECOND);
    }
}

#[test]
fn nobody_and_bounces_do_not_count() {
    let site = setup(&[]).build();
    for _ in 0..60 {
        assert_eq!(event(&site, "<>", NEW_LIST), None);
        assert_eq!(event(&site, "jo@example.org", NEW_LIST), None);
    }
    for n in 0..60 {
        let verp = format!("bounces+jo-{n}=example.com@lists.example");
        assert_eq!(event(&site, &verp, NEW_LIST), None, "one sender, however its bounces are addressed");
    }
}
