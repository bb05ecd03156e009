//! What is counted as copies that passed and copies that were prevented.

use super::*;

const OTHER: &str = "other@example.org";

fn of(passed: u64, prevented: u64, observed: u64) -> Copies {
    Copies { passed, prevented, observed }
}

fn newcomer(to: &str) -> Letter {
    Letter::new("jo@example.org", to)
}

/// A storm is open on a list of 100, in this mode; the other list has 200 and is calm.
fn stormy(mode: Mode) -> Site {
    let site = setup(&[(ALL, 100), (OTHER, 200)]).policy_of(ALL, touchy(mode)).build();
    site.open_storm(ALL);
    site
}

#[test]
fn what_passes_and_what_is_stopped() {
    let site = stormy(Mode::Hold);
    assert_eq!(site.send(&newcomer(OTHER)).copies, of(200, 0, 0));
    assert_eq!(site.send(&newcomer(OTHER).and_to("bo@example.org")).copies, of(201, 0, 0));
    for mode in [Mode::Hold, Mode::Reject, Mode::Defer, Mode::Discard] {
        assert_eq!(stormy(mode).send(&newcomer(ALL)).copies, of(0, 100, 0), "{mode:?}");
    }
    assert_eq!(stormy(Mode::Observe).send(&newcomer(ALL)).copies, of(100, 0, 100));
}

#[test]
fn a_stripped_message_is_both() {
    let letter = newcomer(ALL).and_to(OTHER).and_to("bo@example.org");
    let decision = stormy(Mode::Strip).send(&letter);
    assert!(matches!(decision.action, Action::Strip { .. }), "{decision:?}");
    assert_eq!(decision.copies, of(201, 100, 0));
}

#[test]
fn who_is_exempt_passes() {
    let mut setup = setup(&[(ALL, 100)]).policy(touchy(Mode::Hold));
    setup.exempt.networks = vec!["192.0.2.0/24".parse().unwrap()];
    assert_eq!(setup.build().send(&newcomer(ALL).client("192.0.2.7")).copies, of(100, 0, 0));
}

#[test]
fn a_message_that_comes_again_counts_once() {
    let mut site = stormy(Mode::Defer);
    let letter = newcomer(ALL).id("again@example.org");
    assert_eq!(site.send(&letter).copies, of(0, 100, 0));
    for _ in 0..5 {
        // Judged as before at first, and anew later: stopped once all the same.
        site.wait(4 * MINUTE);
        let again = site.send(&letter);
        assert!(matches!(again.action, Action::Defer { .. }), "{again:?}");
        assert_eq!(again.copies, of(0, 0, 0));
    }
    // The storm is over, and the message passes at last: it does so once.
    site.wait(30 * HOUR);
    site.engine.tick(site.now);
    let passed = site.send(&letter);
    assert_eq!((passed.action, passed.copies), (Action::Accept, of(100, 0, 0)));
    site.wait(MINUTE);
    assert_eq!(site.send(&letter).copies, of(0, 0, 0));
}

#[test]
fn parts_of_one_message_are_counted_each() {
    let site = setup(&[]).build();
    let part = |people| Letter::new("jo@example.org", "").with_people(people).id("many@example.org");
    assert_eq!(site.send(&part(0..60)).copies, of(60, 0, 0));
    let second = site.send(&part(60..120));
    assert_eq!((second.audience, second.copies), (120, of(60, 0, 0)));
}

#[test]
fn many_recipients_that_come_again_count_once() {
    let mut site = setup(&[]).policy(touchy(Mode::Defer)).build();
    let from = |n| Letter::new(&stranger(n), "").with_people(0..60).re("root@example.org");
    site.send(&from(0));
    let letter = from(1).id("second@example.org");
    assert_eq!(site.send(&letter).copies, of(0, 60, 0));
    site.wait(15 * MINUTE);
    let again = site.send(&letter);
    assert!(matches!(again.action, Action::Defer { .. }), "{again:?}");
    assert_eq!(again.copies, of(0, 0, 0));
}
