//! What a message reaches: lists within lists, several lists, parts of one message, and retries.

use super::*;

fn audience(site: &Site, letter: &Letter) -> u64 {
    site.send(letter).audience
}

#[test]
fn nested_lists_count_once_and_other_lists_add_up() {
    let mut setup = setup(&[(ALL, 1000), ("staff@example.org", 300), ("board@example.org", 7)]);
    setup.lists[0].contains = vec![ListId::at(1)];
    let site = setup.build();
    let from = "jo@example.org";
    assert_eq!(audience(&site, &Letter::new(from, ALL)), 1000);
    assert_eq!(audience(&site, &Letter::new(from, ALL).and_to("staff@example.org")), 1000);
    assert_eq!(audience(&site, &Letter::new(from, "staff@example.org").and_to(ALL)), 1000);
    assert_eq!(audience(&site, &Letter::new(from, ALL).and_to("board@example.org")), 1007);
    assert_eq!(
        audience(&site, &Letter::new(from, ALL).and_to("bo@example.org").and_to("mo@example.net")),
        1002
    );
    assert_eq!(audience(&site, &Letter::new(from, ALL).and_to("<All+x@EXAMPLE.org>").and_to("all")), 1000);
}

#[test]
fn the_whole_audience_weighs_in_the_conversation() {
    // 90,000 allow 3 replies by newcomers, 10,000 would allow 20.
    let site = setup(&[(ALL, 10_000), ("most@example.org", 80_000)]).build();
    let answer = |n| Letter::new(&stranger(n), ALL).and_to("most@example.org").re("root-1@example.net");
    for n in 0..3 {
        assert_eq!(site.send(&answer(n)).reason, Reason::Calm);
    }
    assert!(matches!(site.send(&answer(3)).reason, Reason::Suspicion { .. }));
}

#[test]
fn ordinary_mail_is_not_watched_and_many_recipients_are() {
    let site = setup(&[(ALL, 100)]).build();
    assert!(!site.is_watched(&Letter::new("jo@example.org", "bo@example.org")));
    assert!(!site.is_watched(&Letter::new("jo@example.org", "").with_people(0..49)));
    assert!(site.is_watched(&Letter::new("bo@example.org", "").with_people(0..50)));
    assert!(site.is_watched(&Letter::new("mo@example.org", ALL)));
}

#[test]
fn the_same_client_and_sender_is_watched_for_two_minutes() {
    let mut site = setup(&[(ALL, 100)]).build();
    let small = Letter::new("jo@example.org", "bo@example.org").client("192.0.2.1");
    assert!(site.is_watched(&Letter::new("jo@example.org", ALL).client("192.0.2.1")));
    assert!(!site.is_watched(&small.clone().client("192.0.2.2")));
    assert!(!site.is_watched(&Letter::new("bo@example.org", "jo@example.org").client("192.0.2.1")));
    site.wait(2 * MINUTE - SECOND);
    assert!(site.is_watched(&small));
    site.wait(SECOND);
    assert!(!site.is_watched(&small));
}

/// A storm among many recipients and no list: two people answered.
fn many_in_storm() -> Site {
    let site = setup(&[(ALL, 100)]).policy(touchy(Mode::Hold)).build();
    for n in 0..2 {
        let letter = Letter::new(&stranger(n), "").with_people(0..60).re("root-1@example.net");
        assert_eq!(site.send(&letter).reason == Reason::Storm, n == 1);
    }
    site
}

#[test]
fn parts_of_one_message_add_up_and_share_a_verdict() {
    let site = many_in_storm();
    let whole = Letter::new("jo@example.org", "").id("split-1@example.org").re("root-1@example.net");
    let parts = [0..50, 50..100, 100..120].map(|people| whole.clone().with_people(people));
    for (part, audience) in parts.iter().zip([50, 100, 120]) {
        let decision = site.send(part);
        assert_eq!(
            (decision.audience, decision.action, decision.reason),
            (audience, Action::Hold, Reason::Storm)
        );
    }
    for part in &parts {
        let decision = site.send(part);
        assert_eq!((decision.audience, decision.action), (120, Action::Hold), "a retry does not add up");
    }
    // Another message of his to twenty people is watched, but no part.
    let other = Letter::new("jo@example.org", "").with_people(0..20).re("root-1@example.net");
    let decision = site.send(&other);
    assert_eq!((decision.audience, decision.action, decision.reason), (20, Action::Accept, Reason::Calm));
}

#[test]
fn parts_are_counted_once() {
    let site = setup(&[]).policy(touchy(Mode::Hold)).build();
    let whole = Letter::new("jo@example.org", "").id("split-1@example.org").re("root-1@example.net");
    for people in [0..50, 50..100, 100..120] {
        let decision = site.send(&whole.clone().with_people(people));
        assert_eq!(decision.reason, Reason::Calm);
    }
    let second = Letter::new("bo@example.org", "").with_people(0..50).re("root-1@example.net");
    let Decision { events, reason, .. } = site.send(&second);
    assert_eq!(reason, Reason::Storm);
    assert!(matches!(events[..], [Event::StormStarted { authors: 2, list: None, .. }]), "{events:?}");
}

#[test]
fn a_part_is_no_repeat() {
    let mut policy = holding();
    policy.thresholds.budget = 100;
    let site = setup(&[]).policy(policy).build();
    let answer = |n: u32, people| Letter::new(&stranger(n), "").with_people(people).re("root-1@example.net");
    for n in 0..2 {
        assert_eq!(site.send(&answer(n, 0..60)).reason, Reason::Calm);
    }
    // Three may pass; the third comes in two parts.
    for people in [0..60, 60..120] {
        assert_eq!(site.send(&answer(2, people).id("split-1@example.org")).reason, Reason::Calm);
    }
    assert!(matches!(site.send(&answer(2, 0..60)).reason, Reason::Suspicion { .. }));
}

#[test]
fn a_suspicion_whose_time_is_over_passes_when_it_comes_again() {
    let mut policy = holding();
    policy.thresholds.delay = 5 * MINUTE;
    let mut site = setup(&[(ALL, 100_000)]).policy(policy).build();
    for n in 0..3 {
        site.send(&Letter::new(&stranger(n), ALL).re("root-1@example.net"));
    }
    let letter = Letter::new("jo@example.org", ALL).re("root-1@example.net").id("again-1@example.org");
    let until = |at: Timestamp| Reason::Suspicion { until: at.after(5 * MINUTE) };
    assert_eq!(site.send(&letter).reason, until(START));
    site.wait(5 * MINUTE - SECOND);
    assert_eq!(site.send(&letter).reason, until(START));
    site.wait(SECOND);
    assert_eq!(site.send(&letter).reason, Reason::Calm);
}

#[test]
fn a_part_without_the_list_shares_the_verdict_of_the_part_with_it() {
    let policy = Policy { reject_text: "no replies to {list}".to_owned(), ..touchy(Mode::Reject) };
    let site = setup(&[(ALL, 5)]).policy_of(ALL, policy).build();
    site.open_storm(ALL);
    let first = Letter::new("jo@example.org", ALL).id("split-1@example.org");
    let rejected = Action::Reject { text: "no replies to all@example.org".to_owned() };
    assert_eq!(site.send(&first).action, rejected);
    let decision = site.send(&first.clone().with_people(0..10));
    assert_eq!((decision.action, decision.audience, decision.list.as_deref()), (rejected, 15, Some(ALL)));
}

#[test]
fn a_part_of_a_suspicion_waits_as_long() {
    let mut site = setup(&[(ALL, 200_000)]).policy_of(ALL, holding()).policy(Policy::default()).build();
    for n in 0..3 {
        site.send(&Letter::new(&stranger(n), ALL).re("root-1@example.net"));
    }
    let first = Letter::new("jo@example.org", ALL).id("split-1@example.org").re("root-1@example.net");
    let Reason::Suspicion { until } = site.send(&first).reason else { panic!("no suspicion") };
    site.wait(10 * SECOND);
    let decision = site.send(&first.clone().with_people(0..50));
    assert_eq!((decision.action, decision.reason), (Action::Hold, Reason::Suspicion { until }));
}

#[test]
fn without_a_list_too() {
    let mut policy = holding();
    policy.thresholds = Thresholds { budget: 100, free: 1, ..Thresholds::default() };
    let mut site = setup(&[]).policy(policy).build();
    site.send(&Letter::new("first@example.org", "").with_people(0..60).re("root-1@example.net"));
    let whole = Letter::new("jo@example.org", "").id("split-1@example.org").re("root-1@example.net");
    let Reason::Suspicion { until } = site.send(&whole.clone().with_people(0..60)).reason else {
        panic!("no suspicion")
    };
    site.wait(10 * SECOND);
    assert_eq!(site.send(&whole.clone().with_people(60..80)).reason, Reason::Suspicion { until });
}

#[test]
fn messages_without_an_id_are_no_parts() {
    let site = setup(&[]).build();
    let whole = Letter::new("jo@example.org", "").without_id();
    assert_eq!(audience(&site, &whole.clone().with_people(0..50)), 50);
    assert_eq!(audience(&site, &whole.clone().with_people(50..100)), 50);

    // Postfix makes an id up from the time and the queue id: another for each part.
    let queued = |people, queue_id: &str| {
        let mut letter =
            whole.clone().with_people(people).id(&format!("20161114082900.{queue_id}@mx.example.org"));
        letter.queue_id = Some(queue_id.to_owned());
        letter
    };
    assert_eq!(audience(&site, &queued(0..50, "4ABC")), 50);
    assert_eq!(audience(&site, &queued(50..100, "4ABC")), 50);
}

#[test]
fn ids_of_two_authors_are_two() {
    let site = setup(&[]).build();
    let id = "same-1@example.org";
    assert_eq!(audience(&site, &Letter::new("jo@example.org", "").id(id).with_people(0..50)), 50);
    assert_eq!(audience(&site, &Letter::new("bo@example.org", "").id(id).with_people(50..100)), 50);
}

/// Three newcomers have answered on a list where three may: the next attempt of any of them waits.
fn three_answered(last: &Letter) -> Site {
    let site = setup(&[(ALL, 100_000)]).build();
    for n in 0..2 {
        site.send(&Letter::new(&stranger(n), ALL).re("root-1@example.net"));
    }
    assert_eq!(site.send(last).reason, Reason::Calm);
    site
}

#[test]
fn a_retry_is_counted_once_and_gets_the_same_verdict() {
    let letter = Letter::new("jo@example.org", ALL).re("root-1@example.net").id("again-1@example.org");
    let site = three_answered(&letter);
    for _ in 0..5 {
        let decision = site.send(&letter);
        assert_eq!((decision.reason, decision.audience), (Reason::Calm, 100_000));
    }
    let another = Letter::new("jo@example.org", ALL).re("root-1@example.net");
    assert!(matches!(site.send(&another).reason, Reason::Suspicion { .. }));
}

#[test]
fn without_an_id_of_its_own_it_is_no_retry() {
    let letter = Letter::new("jo@example.org", ALL).re("root-1@example.net").without_id();
    let site = three_answered(&letter);
    assert!(matches!(site.send(&letter).reason, Reason::Suspicion { .. }));

    let mut letter = letter.id("20161114082900.4ABC@mx.example.org");
    letter.queue_id = Some("4ABC".to_owned());
    let site = three_answered(&letter);
    assert!(matches!(site.send(&letter).reason, Reason::Suspicion { .. }));
}

#[test]
fn servers_that_try_again_keep_no_storm_alive() {
    let mut site = setup(&[(ALL, 100)]).policy(touchy(Mode::Defer)).build();
    site.open_storm(ALL);
    let letter = Letter::new("jo@example.org", ALL).id("again-1@example.org");
    assert!(matches!(site.send(&letter).action, Action::Defer { .. }));
    let held = site.engine.storms(site.now)[0].figures.held;
    // As things stand: the storm is open. But it is no further attempt.
    for _ in 0..2 {
        site.wait(50 * MINUTE);
        assert!(matches!(site.send(&letter).action, Action::Defer { .. }));
    }
    assert_eq!(site.engine.storms(site.now)[0].figures.held, held);
    site.wait(21 * MINUTE);
    assert_eq!(site.send(&letter).reason, Reason::Calm, "the storm fell quiet for want of people");
}

#[test]
fn a_message_that_passed_and_comes_again_much_later_is_not_counted_again() {
    let letter = Letter::new("jo@example.org", ALL).re("root-1@example.net").id("again-1@example.org");
    let mut site = three_answered(&letter);
    site.wait(10 * MINUTE);
    assert_eq!(site.send(&letter).reason, Reason::Calm);
}

#[test]
fn the_same_message_to_another_list_is_not_a_retry_there() {
    let site = setup(&[(ALL, 100), ("other@example.org", 100)]).policy(touchy(Mode::Hold)).build();
    let letter = |author: &str, list| Letter::new(author, list).id(&format!("to-both-{author}"));
    assert_eq!(site.send(&letter("jo@example.org", ALL)).audience, 100);
    assert_eq!(site.send(&letter("jo@example.org", "other@example.org")).audience, 200);
    assert_eq!(site.send(&letter("bo@example.org", "other@example.org")).reason, Reason::Storm);
}

#[test]
fn a_deferred_message_is_deferred_again_and_not_counted_again() {
    let site = setup(&[(ALL, 100)]).policy(touchy(Mode::Defer)).build();
    site.open_storm(ALL);
    let letter = Letter::new("jo@example.org", ALL).id("again-1@example.org");
    let held = |site: &Site| site.engine.storms(site.now)[0].figures.held;
    assert!(matches!(site.send(&letter).action, Action::Defer { .. }));
    let before = held(&site);
    assert!(matches!(site.send(&letter).action, Action::Defer { .. }));
    assert_eq!(held(&site), before);
}

#[test]
fn a_spelling_names_its_list_again_and_no_longer_than_the_list_is_there() {
    let site = setup(&[(ALL, 500), ("team+staff@example.org", 40), ("all-*@example.org", 7)]).build();
    let reached = |to: &str| site.send(&Letter::new("jo@example.org", to)).audience;
    for _ in 0..3 {
        assert_eq!(reached(ALL), 500);
        assert_eq!(reached("<ALL+week@Example.org>"), 500, "its extension is none of its name");
        assert_eq!(reached("Team+Staff@example.org"), 40, "and here it is");
        assert_eq!(reached("all-blue@example.org"), 7);
        assert_eq!(reached("all-*@example.org"), 7, "who writes the pattern itself");
        assert!(!site.is_watched(&Letter::new("lou@example.org", "team@example.org")));
    }
    site.reload(&setup(&[("team@example.org", 40)]));
    for _ in 0..3 {
        for former in [ALL, "<ALL+week@Example.org>", "all-blue@example.org"] {
            assert!(!site.is_watched(&Letter::new("kim@example.org", former)), "{former}");
        }
        assert!(site.is_watched(&Letter::new("kim-2@example.org", "Team+Staff@example.org")));
    }
}
