//! What is near a storm, as people who look are told.

use super::*;

const ROOT: &str = "root-1@example.net";

fn answer(n: u32) -> Letter {
    Letter::new(&stranger(n), ALL).re(ROOT)
}

/// F = 3, K = 10 in a conversation; LF = LK = 15 on the list.
fn site() -> Site {
    let site = setup(&[(ALL, 100_000), ("calm@example.org", 50)]).build();
    site.introduce(ALL, "regular@example.org");
    site.send(&Letter::new("regular@example.org", ALL).id(ROOT));
    site
}

fn told(site: &Site) -> Vec<(Option<String>, bool, &'static str, u32, u32)> {
    let near = site.engine.near(site.now);
    let told = near.into_iter().map(|near| {
        let Near { list, conversation, test, nearness, .. } = near;
        (list, conversation.is_some(), test, nearness.people, nearness.threshold)
    });
    told.collect()
}

#[test]
fn a_conversation_is_told_from_half_of_what_trips_until_it_trips() {
    let mut site = site();
    for n in 0..4 {
        site.send(&answer(n));
    }
    assert_eq!(told(&site), []);
    site.wait(10 * MINUTE);
    for n in 4..6 {
        site.send(&answer(n));
        // The same people once more are no more people.
        site.send(&answer(n));
    }
    let list = || Some(ALL.to_owned());
    assert_eq!(told(&site), [(list(), true, "conversation_newcomers", 6, 10)]);
    let near = site.engine.near(site.now).remove(0);
    assert_eq!((near.members, near.nearness.copies), (100_000, 600_000));
    assert_eq!(near.nearness.oldest, 10 * MINUTE);
    assert_eq!(near.nearness.projected(), 600_000 + 3_600_000);
    for n in 6..9 {
        site.send(&answer(n));
    }
    assert_eq!(told(&site)[0].3, 9);
    site.send(&answer(9));
    assert!(matches!(site.phase(ALL), Phase::Storm { .. }));
    assert_eq!(told(&site), [], "a storm is no near-storm");
}

#[test]
fn a_list_is_told_where_its_conversations_are_not_and_it_passes_with_the_window() {
    let mut site = site();
    for n in 0..8 {
        site.send(&Letter::new(&stranger(n), ALL));
    }
    assert_eq!(told(&site), [(Some(ALL.to_owned()), false, "list_newcomers", 8, 15)]);
    for n in 8..14 {
        site.send(&answer(n));
    }
    assert_eq!(told(&site).iter().map(|near| near.3).collect::<Vec<_>>(), [14, 6], "the nearer first");
    site.wait(59 * MINUTE);
    assert_eq!(told(&site).len(), 2);
    site.wait(2 * MINUTE);
    assert_eq!(told(&site), []);
    assert_eq!(site.engine.followed.len(), 0, "what is over is forgotten");
}

#[test]
fn many_recipients_without_a_list_are_told_too() {
    let site = site();
    let to_many = |n: u32| Letter::new(&stranger(n), "x@example.org").with_people(0..200);
    site.send(&to_many(0).id(ROOT));
    for n in 1..14 {
        site.send(&to_many(n).re(ROOT));
    }
    assert_eq!(told(&site), [(None, true, "conversation_newcomers", 13, 20)]);
    assert_eq!(site.engine.near(site.now)[0].members, 200);
}

#[test]
fn an_end_by_hand_forgives_and_a_cooling_list_needs_less() {
    let mut site = site();
    for n in 0..9 {
        site.send(&answer(n));
    }
    assert_eq!(told(&site).len(), 1);
    site.wait(SECOND);
    site.engine.end_by_hand(ALL, site.now).unwrap();
    site.wait(SECOND);
    assert_eq!(told(&site), []);
    for n in 20..30 {
        site.send(&answer(n));
    }
    site.wait(QUIET + SECOND);
    site.engine.tick(site.now);
    assert!(matches!(site.phase(ALL), Phase::Cooling { .. }));
    // A reply to a closed conversation waits; a new message by a newcomer is the spark that is counted.
    for n in 40..43 {
        site.send(&Letter::new(&stranger(n), ALL));
    }
    assert_eq!(told(&site), [(Some(ALL.to_owned()), false, "rekindled", 3, 5)]);
}

#[test]
fn it_is_bounded() {
    let site = site();
    let most = super::super::near::MAX_FOLLOWED as u64;
    for conversation in 0..most + 10 {
        site.engine.followed.follow(conversation, 0, 100, site.now.after(Duration::from_secs(conversation)));
    }
    assert_eq!(site.engine.followed.len(), super::super::near::MAX_FOLLOWED);
    assert_eq!(site.engine.near(site.now), [], "nothing is behind them");
    assert_eq!(site.engine.followed.len(), 0);
}
