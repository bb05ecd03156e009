//! Storms among many recipients without a list: when they begin and end, and what belongs to them.

use super::*;
use crate::journal::record::Record;

const ROOT: &str = "root@example.org";

fn gathered(n: u32) -> Letter {
    Letter::new(&stranger(n), "").with_people(0..60).re(ROOT)
}

#[test]
fn a_storm_among_many_recipients_is_over_when_it_is_said_to_be() {
    let mut touchy = touchy(Mode::Hold);
    let mut site = setup(&[]).policy(touchy.clone()).build();
    (0..2).for_each(|n| drop(site.send(&gathered(n))));
    // Less patience: the conversation opens with the storm's end, not when it would have opened before.
    touchy.thresholds.quiet = 10 * MINUTE;
    touchy.thresholds.window = 10 * MINUTE;
    site.reload(&setup(&[]).policy(touchy.clone()));
    site.wait(11 * MINUTE);
    assert_eq!(site.engine.tick(site.now).len(), 1);
    assert_eq!(site.send(&gathered(2)).reason, Reason::Calm);
    // More of it: it stays closed for as long as the storm is said to be open.
    let tripped = site.send(&gathered(3));
    assert_eq!(tripped.events.len(), 1);
    touchy.thresholds.quiet = 2 * HOUR;
    site.reload(&setup(&[]).policy(touchy));
    site.wait(HOUR);
    assert_eq!(site.engine.tick(site.now), []);
    let late = site.send(&gathered(4));
    assert_eq!((late.reason, late.storm), (Reason::Storm, tripped.storm));
}

#[test]
fn a_storm_among_many_recipients_outlives_its_counters() {
    let mut setup = setup(&[]).policy(touchy(Mode::Hold));
    setup.capacity.conversations = 16;
    let mut site = setup.build();
    let storm = (0..2).filter_map(|n| site.send(&gathered(n)).storm).next_back().expect("two are a storm");
    site.wait(30 * MINUTE);
    for n in 0..500 {
        site.send(&Letter::new(&stranger(n), "").with_people(0..60).re(&format!("other-{n}@example.net")));
    }
    let late = site.send(&gathered(600));
    assert_eq!((late.reason, late.storm), (Reason::Storm, Some(storm)));
}

#[test]
fn who_tries_again_keeps_no_storm_among_many_recipients_open() {
    let mut site = setup(&[]).policy(touchy(Mode::Defer)).build();
    let deferred = gathered(1).id("deferred@example.org");
    site.send(&gathered(0));
    assert_eq!(site.send(&deferred).reason, Reason::Storm);
    for _ in 0..2 {
        site.wait(50 * MINUTE);
        assert_eq!(site.send(&deferred).reason, Reason::Storm);
    }
    site.wait(25 * MINUTE);
    let last = site.send(&deferred);
    assert!(matches!(&last.events[..], [Event::StormEnded { held: 1, .. }]), "{:?}", last.events);
    assert_eq!((last.reason, last.storm), (Reason::Calm, None));
}

#[test]
fn what_passed_before_a_storm_among_many_recipients_is_none_of_it() {
    let site = setup(&[]).policy(touchy(Mode::Hold)).build();
    let passed = gathered(0).id("passed@example.org");
    site.send(&passed);
    assert!(site.send(&gathered(1)).storm.is_some());
    let again = site.send(&passed);
    assert_eq!((again.reason, again.storm), (Reason::Calm, None));
}

#[test]
fn a_storm_among_many_recipients_reaches_as_many_as_its_largest_message() {
    let site = setup(&[]).policy(touchy(Mode::Hold)).build();
    (0..2).for_each(|n| drop(site.send(&gathered(n))));
    site.send(&Letter::new(&stranger(2), "").with_people(0..90).re(ROOT));
    assert_eq!(site.engine.storms(site.now)[0].members, 90);
}

#[test]
fn a_storm_after_the_clock_was_set_back_is_kept_by_its_name() {
    let mut site = setup(&[]).policy(touchy(Mode::Hold)).build();
    let first = (0..2).filter_map(|n| site.send(&gathered(n)).storm).next_back().expect("two are a storm");
    site.engine.end_by_hand(&first, site.now).unwrap();
    site.now = Timestamp::from_millis(site.now.as_millis() - HOUR.as_millis() as u64);
    let decisions: Vec<Decision> = (10..13).map(|n| site.send(&gathered(n))).collect();
    let started: Vec<&Event> = decisions.iter().flat_map(|decision| &decision.events).collect();
    let [event @ Event::StormStarted { storm, .. }] = started[..] else { panic!("{started:?}") };
    assert_eq!(site.engine.storms(site.now)[0].storm.as_ref(), Some(storm));
    let record = site.engine.record_of(event).expect("it is kept");
    let other = setup(&[]).build();
    other.engine.apply(&record, site.now);
    assert_eq!(other.engine.storms(site.now)[0].storm.as_ref(), Some(storm));
}

#[test]
fn who_wrote_before_an_end_by_hand_and_after_it_counts_after_a_restart() {
    let setup = setup(&[]).policy(touchy(Mode::Hold));
    let mut site = setup.build();
    let mut kept: Vec<Decision> = (0..2).map(|n| site.send(&gathered(n))).collect();
    let storm = kept[1].storm.clone().expect("two are a storm");
    site.wait(SECOND);
    let ended = site.engine.end_by_hand(&storm, site.now).unwrap().record;
    site.wait(MINUTE);
    let again = site.send(&gathered(1));
    assert_eq!(again.reason, Reason::Calm);
    let other = Site { now: site.now, ..setup.build() };
    for decision in kept.drain(..) {
        other.engine.apply(&Record::Judged(decision.record), site.now);
    }
    other.engine.apply(&ended, site.now);
    other.engine.apply(&Record::Judged(again.record), site.now);
    for site in [site, other] {
        assert_eq!(site.send(&gathered(2)).reason, Reason::Storm, "two again");
    }
}
