//! What operators do with lists and conversations.

use super::*;
use crate::journal::record::Record;

const LIST: &str = "some@example.org";

/// More than a line of mail.
const LONG: &str = const {
    const BYTES: [u8; 2000] = [b'@'; 2000];
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};

/// As a restart rebuilds it, from the image and from the records.
fn restarted(setup: &Setup, site: &Site, records: &[Record]) -> [Site; 2] {
    let from_records = setup.build();
    // In the order of a journal whose reports come late.
    records.iter().rev().for_each(|record| from_records.engine.apply(record, site.now));
    let from_image = setup.build();
    site.engine
        .image(site.now, &mut |piece| {
            from_image.engine.apply(&Record::Piece(Box::new(piece)), site.now);
            Ok::<(), ()>(())
        })
        .unwrap();
    [from_records, from_image].map(|other| Site { now: site.now, ..other })
}

fn records(site: &Site, done: &Done) -> Vec<Record> {
    let events = done.events.iter().filter_map(|event| site.engine.record_of(event));
    events.chain([done.record.clone()]).collect()
}

#[test]
fn a_closed_list_holds_newcomers_until_the_time_is_over() {
    let setup = setup(&[(LIST, 500)]);
    let mut site = setup.build();
    site.introduce(LIST, "known@example.org");
    let done = site.engine.close_by_hand(LIST, None, HOUR, site.now).unwrap();
    assert!(
        matches!(&done.events[..], [Event::StormStarted { trigger: "by_hand", .. }]),
        "{:?}",
        done.events
    );
    let kept = records(&site, &done);
    let stopped = site.send(&Letter::new("new-1@example.org", LIST));
    assert_eq!((stopped.action, stopped.reason), (Action::Hold, Reason::Storm));
    assert_eq!(stopped.storm, done.storm);
    assert_eq!(site.send(&Letter::new("known@example.org", LIST)).action, Action::Accept);

    site.wait(59 * MINUTE);
    for after in restarted(&setup, &site, &kept) {
        let stopped = after.send(&Letter::new("new-2@example.org", LIST));
        assert_eq!((stopped.reason, stopped.storm), (Reason::Storm, done.storm.clone()));
    }
    assert_eq!(site.send(&Letter::new("new-2@example.org", LIST)).action, Action::Hold);
    site.wait(MINUTE);
    let events = site.engine.tick(site.now);
    assert!(matches!(&events[..], [Event::StormEnded { held: 2, .. }]), "{events:?}");
    assert_eq!(site.phase(LIST), Phase::Calm, "no cooling: a time was asked for");
    assert_eq!(site.send(&Letter::new("new-3@example.org", LIST)).action, Action::Accept);
}

#[test]
fn a_storm_that_is_ended_is_over_at_once() {
    let setup = setup(&[(LIST, 500)]).policy(touchy(Mode::Hold));
    let mut site = setup.build();
    let root = Letter::new("root@example.org", LIST).id("root@example.org");
    site.send(&root);
    let answer =
        |n: u32| Letter::new(&stranger(n), LIST).re("root@example.org").id(&format!("a{n}@example.org"));
    let opened: Vec<Decision> = (0..3).map(|n| site.send(&answer(n))).collect();
    assert_eq!(opened[2].reason, Reason::Storm);
    let mut kept: Vec<Record> = Vec::new();
    for decision in &opened {
        kept.extend(decision.events.iter().filter_map(|event| site.engine.record_of(event)));
        kept.push(Record::Judged(decision.record.clone()));
    }
    site.wait(MINUTE);
    let done = site.engine.end_by_hand(opened[2].storm.as_deref().unwrap(), site.now).unwrap();
    assert!(matches!(&done.events[..], [Event::StormEnded { .. }]), "{:?}", done.events);
    assert_eq!(done.storm, opened[2].storm);
    kept.extend(records(&site, &done));
    assert_eq!(site.phase(LIST), Phase::Calm);
    site.wait(SECOND);
    for site in restarted(&setup, &site, &kept).iter().chain([&site]) {
        assert_eq!(site.phase(LIST), Phase::Calm);
        // What was stopped comes again; the conversation is open; and it takes as many as ever to make a storm.
        assert_eq!(site.send(&answer(2)).action, Action::Accept);
        assert_eq!(site.send(&answer(10)).action, Action::Accept);
        assert_eq!(site.send(&answer(11)).reason, Reason::Storm, "the rule goes on");
    }
}

#[test]
fn a_storm_among_many_recipients_is_ended_by_its_name() {
    let setup = setup(&[]).policy(touchy(Mode::Hold));
    let mut site = setup.build();
    let answer = |n: u32| {
        Letter::new(&stranger(n), "")
            .with_people(0..60)
            .re("root@example.org")
            .id(&format!("a{n}@example.org"))
    };
    let opened: Vec<Decision> = (0..3).map(|n| site.send(&answer(n))).collect();
    let storm = opened[2].storm.clone().expect("two are a storm");
    let mut kept: Vec<Record> = Vec::new();
    for decision in &opened {
        kept.extend(decision.events.iter().filter_map(|event| site.engine.record_of(event)));
        kept.push(Record::Judged(decision.record.clone()));
    }
    let of_another = site.engine.end_by_hand("20161114T083012Z-0000", site.now);
    assert!(matches!(of_another, Err(Refusal::NoStorm(_))));
    site.wait(MINUTE);
    let done = site.engine.end_by_hand(&storm, site.now).unwrap();
    let [Event::StormEnded { storm: name, list: None, held: 2, .. }] = &done.events[..] else {
        panic!("{:?}", done.events);
    };
    assert_eq!((name, done.storm.as_ref(), done.list.is_none()), (&storm, Some(&storm), true));
    kept.extend(records(&site, &done));
    site.wait(SECOND);
    for site in restarted(&setup, &site, &kept).iter().chain([&site]) {
        assert_eq!(site.engine.storms(site.now), []);
        // What was stopped comes again; the conversation is open; and it takes as many as ever to make a storm.
        assert_eq!(site.send(&answer(2)).action, Action::Accept);
        assert_eq!(site.send(&answer(10)).action, Action::Accept);
        assert_eq!(site.send(&answer(11)).reason, Reason::Storm, "the rule goes on");
    }
}

#[test]
fn a_cooling_can_be_ended() {
    let mut site = setup(&[(ALL, 840_000)]).policy(touchy(Mode::Hold)).build();
    site.open_storm(ALL);
    site.wait(QUIET + SECOND);
    site.engine.tick(site.now);
    assert!(matches!(site.phase(ALL), Phase::Cooling { .. }));
    let done = site.engine.end_by_hand(ALL, site.now).unwrap();
    assert!(done.events.is_empty() && done.storm.is_none());
    assert_eq!(site.phase(ALL), Phase::Calm);
    site.wait(SECOND);
    assert_eq!(site.send(&Letter::new("new@example.org", ALL)).action, Action::Accept);
    // Nor does it come back after a closure.
    site.engine.close_by_hand(ALL, None, MINUTE, site.now).unwrap();
    site.wait(MINUTE);
    site.engine.tick(site.now);
    assert_eq!(site.phase(ALL), Phase::Calm);
}

#[test]
fn a_closed_conversation_is_closed_for_everybody_and_the_list_is_not() {
    let setup = setup(&[(LIST, 500)]);
    let mut site = setup.build();
    site.introduce(LIST, "known@example.org");
    site.send(&Letter::new("root@example.org", LIST).id("root@example.org"));
    site.send(&Letter::new(&stranger(1), LIST).re("root@example.org").id("a1@example.org"));
    // Named by an answer; and another that nobody has seen.
    let done = site.engine.close_by_hand(LIST, Some("<a1@example.org>"), HOUR, site.now).unwrap();
    let other = site.engine.close_by_hand(LIST, Some("unseen@example.org"), HOUR, site.now).unwrap();
    assert!(done.events.is_empty());
    let kept = [done.record.clone(), other.record.clone()];
    // From records alone a restart knows the conversation by the message that it was named by.
    for (site, parent) in restarted(&setup, &site, &kept).iter().zip(["a1@example.org", "root@example.org"]) {
        site.introduce(LIST, "known@example.org");
        assert_eq!(site.send(&Letter::new("known@example.org", LIST).re(parent)).action, Action::Hold);
        assert_eq!(
            site.send(&Letter::new("known@example.org", LIST).re("unseen@example.org")).action,
            Action::Hold
        );
        assert_eq!(site.send(&Letter::new("known@example.org", LIST)).action, Action::Accept);
    }
    let reply = |author: &str| Letter::new(author, LIST).re("root@example.org");
    assert_eq!(site.send(&reply("known@example.org")).reason, Reason::Storm);
    assert_eq!(site.send(&Letter::new("fresh@example.org", LIST)).action, Action::Accept);
    let closed_again = Letter::new("known@example.org", LIST).re("unseen@example.org");
    assert_eq!(site.send(&closed_again).action, Action::Hold);
    site.wait(MINUTE);
    site.engine.end_by_hand(LIST, site.now).unwrap();
    assert_eq!(site.send(&reply("known@example.org")).action, Action::Accept);
    // Closed anew, and for its time only.
    site.engine.close_by_hand(LIST, Some("root@example.org"), HOUR, site.now).unwrap();
    assert_eq!(site.send(&reply("known@example.org")).action, Action::Hold);
    site.wait(HOUR);
    assert_eq!(site.send(&reply("known@example.org")).action, Action::Accept);
}

#[test]
fn refused_with_a_reason() {
    let never = Policy { never_hold: true, ..holding() };
    let site = setup(&[(LIST, 500), (ALL, 900)]).policy_of(ALL, never).build();
    let close = |list, conversation, span| {
        site.engine.close_by_hand(list, conversation, span, site.now).map(drop).unwrap_err().to_string()
    };
    assert!(close(ALL, None, HOUR).contains("never held"));
    assert!(close("no@example.org", None, HOUR).contains("no list"));
    assert!(close(LIST, None, Duration::ZERO).contains("30 days"));
    assert!(close(LIST, None, 31 * DAY).contains("30 days"));
    assert!(close(LIST, Some("two words@example.org"), HOUR).contains("Message-ID"));
    assert!(close(LIST, Some(LONG), HOUR).contains("Message-ID"));
    assert!(site.engine.end_by_hand("20161114T082900Z-0000", site.now).is_err());
    assert_eq!(site.phase(LIST), Phase::Calm);
    for n in 0..1024 {
        site.engine.close_by_hand(LIST, Some(&format!("{n}@x")), HOUR, site.now).unwrap();
    }
    assert!(close(LIST, Some("more@x"), HOUR).contains("close the list"));
}
