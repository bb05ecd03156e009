//! Calm, suspicion, storm, quiet, cooling: a list's days, with the rule's own numbers.

use super::*;

const ROOT: &str = "root-1@example.net";

/// F = 3, K = 10 in a conversation; LF = 20 and LK = 15 on the list.
const MEMBERS: u64 = 100_000;

fn answer(n: u32) -> Letter {
    Letter::new(&stranger(n), ALL).re(ROOT)
}

/// Ten newcomers answer: three pass, six wait, the tenth is a storm.
fn in_storm() -> Site {
    let site = setup(&[(ALL, MEMBERS)]).build();
    site.introduce(ALL, "regular@example.org");
    site.send(&Letter::new("regular@example.org", ALL).id(ROOT));
    for n in 0..10 {
        site.send(&answer(n));
    }
    assert!(matches!(site.phase(ALL), Phase::Storm { .. }));
    site
}

fn regular(subject: &str) -> Letter {
    Letter::new("regular@example.org", ALL).header("Subject", subject)
}

#[test]
fn from_calm_to_suspicion_to_storm() {
    let mut site = setup(&[(ALL, MEMBERS)]).build();
    for n in 0..3 {
        let decision = site.send(&answer(n));
        assert_eq!((decision.action, decision.reason), (Action::Accept, Reason::Calm));
    }
    for n in 3..9 {
        site.wait(MINUTE);
        let decision = site.send(&answer(n));
        let until = site.now.after(10 * MINUTE);
        assert_eq!((decision.action, decision.reason), (Action::Hold, Reason::Suspicion { until }));
        assert_eq!(decision.storm, None);
    }
    let tenth = site.send(&answer(9));
    assert_eq!((&tenth.action, tenth.reason), (&Action::Hold, Reason::Storm));
    let [Event::StormStarted { storm, list, members, trigger, newcomers, .. }] = &tenth.events[..] else {
        panic!("{:?}", tenth.events);
    };
    assert_eq!(
        (list.as_deref(), *members, *trigger, *newcomers),
        (Some(ALL), MEMBERS, "conversation_newcomers", 10)
    );
    assert_eq!(tenth.storm.as_ref(), Some(storm));
    let eleventh = site.send(&answer(10));
    assert_eq!((eleventh.reason, eleventh.storm.as_ref()), (Reason::Storm, Some(storm)));
    assert!(eleventh.events.is_empty(), "a storm is announced once");
}

#[test]
fn newcomers_under_new_subjects_are_a_storm_of_the_list() {
    let site = setup(&[(ALL, MEMBERS)]).build();
    let decisions: Vec<Decision> = (0..15).map(|n| site.send(&Letter::new(&stranger(n), ALL))).collect();
    assert!(decisions[..14].iter().all(|decision| decision.reason == Reason::Calm));
    assert_eq!(started(&decisions[14]), Some("list_newcomers"));
}

#[test]
fn a_list_waits_for_half_as_many_again_as_a_conversation_and_for_twenty_at_most() {
    // K is 20, 14, 10, 10 and 10.
    for (members, trips) in [(300, 20), (21_000, 20), (30_000, 15), (200_000, 12), (840_000, 10)] {
        let site = setup(&[(ALL, members)]).build();
        let mut people = 0..30;
        let first = people.find(|n| started(&site.send(&Letter::new(&stranger(*n), ALL))).is_some());
        assert_eq!(first, Some(trips - 1), "{members}");
    }
}

#[test]
fn people_who_know_the_list_go_on_under_other_subjects() {
    let site = in_storm();
    assert_eq!(site.send(&regular("Weekly report")).reason, Reason::Calm);
    assert_eq!(site.send(&regular("Re: stop this").re(ROOT)).reason, Reason::Storm);
    assert_eq!(site.send(&Letter::new("jo@example.org", ALL)).reason, Reason::Storm);
}

#[test]
fn on_a_dear_list_everybody_waits_in_a_storm() {
    let site = setup(&[(ALL, 1_000_000)]).build();
    site.introduce(ALL, "regular@example.org");
    for n in 0..10 {
        site.send(&Letter::new(&stranger(n), ALL));
    }
    assert!(matches!(site.phase(ALL), Phase::Storm { .. }));
    assert_eq!(site.send(&regular("Weekly report")).reason, Reason::Storm);
}

#[test]
fn on_a_dear_list_a_newcomer_who_writes_twice_waits() {
    let site = setup(&[(ALL, 1_000_000)]).build();
    assert_eq!(site.send(&Letter::new("jo@example.org", ALL)).reason, Reason::Calm);
    assert!(matches!(site.send(&Letter::new("jo@example.org", ALL)).reason, Reason::Suspicion { .. }));
    let site = setup(&[(ALL, 300_000)]).build();
    assert_eq!(site.send(&Letter::new("jo@example.org", ALL)).reason, Reason::Calm);
    assert_eq!(site.send(&Letter::new("jo@example.org", ALL)).reason, Reason::Calm, "not dear");
}

#[test]
fn a_tick_ends_a_storm_that_fell_quiet() {
    let mut site = in_storm();
    site.wait(QUIET);
    assert_eq!(site.engine.tick(site.now), [], "quiet means longer than two hours");
    site.wait(SECOND);
    let events = site.engine.tick(site.now);
    let [Event::StormEnded { list, held, copies_held, delivered, since, at, .. }] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!((list.as_deref(), *held, *copies_held, *delivered), (Some(ALL), 1, MEMBERS, 0));
    assert_eq!((*since, *at), (START, site.now));
    assert_eq!(site.phase(ALL), Phase::Cooling { until: START.after(QUIET).after(DAY) });
    assert_eq!(site.engine.tick(site.now), [], "ended once");
}

#[test]
fn so_does_a_post_and_it_says_so() {
    let mut site = in_storm();
    site.wait(QUIET + SECOND);
    let decision = site.send(&regular("Weekly report"));
    assert!(matches!(decision.events[..], [Event::StormEnded { .. }]), "{:?}", decision.events);
    assert_eq!(decision.reason, Reason::Calm);
}

#[test]
fn attempts_keep_a_storm_alive_and_people_who_pass_do_not() {
    let mut site = in_storm();
    for n in 20..23 {
        site.wait(QUIET - 10 * MINUTE);
        assert_eq!(site.send(&Letter::new(&stranger(n), ALL)).reason, Reason::Storm);
        assert_eq!(site.engine.tick(site.now), []);
    }
    site.wait(QUIET - 10 * MINUTE);
    assert_eq!(site.send(&regular("Weekly report")).reason, Reason::Calm);
    site.wait(11 * MINUTE);
    assert_eq!(site.engine.tick(site.now).len(), 1);
}

#[test]
fn after_a_storm_its_conversation_stays_closed_to_newcomers() {
    let mut site = in_storm();
    site.wait(QUIET + SECOND);
    site.engine.tick(site.now);
    assert_eq!(site.send(&answer(30)).reason, Reason::Storm);
    assert_eq!(site.send(&regular("Re: done").re(ROOT)).reason, Reason::Calm);
    assert_eq!(site.send(&Letter::new("jo@example.org", ALL)).reason, Reason::Calm);
    site.wait(DAY);
    assert_eq!(site.phase(ALL), Phase::Calm);
    assert_eq!(site.send(&answer(31)).reason, Reason::Calm);
}

#[test]
fn a_small_spark_rekindles_it() {
    let mut site = in_storm();
    site.wait(QUIET + SECOND);
    site.engine.tick(site.now);
    // K is 10: half of that many newcomers within the hour.
    for n in 40..44 {
        assert_eq!(site.send(&Letter::new(&stranger(n), ALL)).reason, Reason::Calm);
    }
    assert_eq!(started(&site.send(&Letter::new(&stranger(44), ALL))), Some("rekindled"));
    assert!(matches!(site.phase(ALL), Phase::Storm { since } if since == site.now));
}

#[test]
fn on_a_small_list_it_is_no_larger() {
    let mut site = setup(&[(ALL, 300)]).build();
    for n in 0..20 {
        site.send(&answer(n));
    }
    site.wait(QUIET + SECOND);
    site.engine.tick(site.now);
    assert!(matches!(site.phase(ALL), Phase::Cooling { .. }));
    // K is 20; half of it would be ten.
    for n in 40..44 {
        assert_eq!(site.send(&Letter::new(&stranger(n), ALL)).reason, Reason::Calm);
    }
    assert_eq!(started(&site.send(&Letter::new(&stranger(44), ALL))), Some("rekindled"));
}

#[test]
fn each_storm_of_a_list_has_a_name_of_its_own() {
    let mut site = in_storm();
    let first = site.send(&answer(10)).storm.expect("its mail is known by it");
    site.wait(QUIET + SECOND);
    site.engine.tick(site.now);
    let post = |n: u32| site.send(&Letter::new(&stranger(n), ALL).id(&format!("new-{n}@example.net")));
    let second = (100..110).filter_map(|n| post(n).storm).next_back().expect("a spark is enough");
    assert_ne!(first, second);
    assert_eq!(site.engine.storms(site.now)[0].storm.as_ref(), Some(&second));
    assert_eq!(post(110).storm, Some(second));
}

#[test]
fn a_spark_is_three_newcomers_at_least() {
    let mut policy = holding();
    policy.thresholds.storm_min = 4;
    let mut site = setup(&[(ALL, MEMBERS)]).policy(policy).build();
    for n in 0..4 {
        site.send(&answer(n));
    }
    assert!(matches!(site.phase(ALL), Phase::Storm { .. }));
    site.wait(QUIET + SECOND);
    site.engine.tick(site.now);
    // K is 4; half of it would be two.
    for n in 40..42 {
        assert_eq!(site.send(&Letter::new(&stranger(n), ALL)).reason, Reason::Calm);
    }
    assert_eq!(started(&site.send(&Letter::new(&stranger(42), ALL))), Some("rekindled"));
}

#[test]
fn who_passes_in_a_storm_is_no_attempt_however_high_the_counts() {
    let mut site = setup(&[(ALL, MEMBERS)]).build();
    site.introduce(ALL, "regular@example.org");
    for n in 0..20 {
        site.send(&Letter::new(&stranger(n), ALL));
    }
    site.wait(QUIET - 10 * MINUTE);
    assert_eq!(site.send(&regular("Weekly report")).reason, Reason::Calm);
    site.wait(10 * MINUTE + SECOND);
    assert_eq!(site.engine.tick(site.now).len(), 1);
}

#[test]
fn another_name_of_a_list_is_the_list() {
    let named = "everyone@example.net";
    let mut setup = setup(&[(ALL, MEMBERS)]);
    setup.lists[0].names = vec![named.to_owned()];
    let mut site = setup.build();
    for n in 0..10 {
        let name = if n % 2 == 0 { ALL } else { named };
        site.send(&Letter::new(&stranger(n), name).re(ROOT).id(&format!("m{n}@example.net")));
    }
    assert!(matches!(site.phase(ALL), Phase::Storm { .. }));
    let [open] = &site.engine.storms(site.now)[..] else { panic!("one list") };
    assert_eq!((open.list.as_deref(), open.members), (Some(ALL), MEMBERS));
    // Both names in one message are one list, and one audience.
    let both = site.send(&Letter::new(&stranger(20), named).and_to(ALL));
    assert_eq!((both.reason, both.audience), (Reason::Storm, MEMBERS));
    // It is one recipient, whether or not its spelling was met before.
    let digest = |to: &str| site.transaction(&Letter::new("jo@example.org", to)).digest;
    let digests = [ALL, "Everyone@Example.net", "Everyone@Example.net"].map(digest);
    assert_eq!([digests[1], digests[2]], [digests[0]; 2]);
    // A retry is known by any of its names.
    site.wait(MINUTE);
    let held = site.engine.storms(site.now)[0].figures.held;
    let again = Letter::new(&stranger(1), "Everyone@EXAMPLE.net").re(ROOT).id("m1@example.net");
    assert_eq!(site.send(&again).reason, site.send(&again).reason);
    assert_eq!(site.engine.storms(site.now)[0].figures.held, held);
}

#[test]
fn a_young_list_is_judged_by_distinct_authors_alone() {
    let mut young = setup(&[(ALL, MEMBERS)]);
    young.age = 30 * DAY - SECOND;
    let site = young.build();
    for n in 0..19 {
        assert_eq!(site.send(&answer(n)).reason, Reason::Calm);
        assert_eq!(site.send(&Letter::new(&stranger(n + 100), ALL)).reason, Reason::Calm);
    }
    assert_eq!(started(&site.send(&answer(19))), Some("conversation_authors"));
}

#[test]
fn a_young_list_that_is_dear_is_judged_from_the_first_day() {
    let mut young = setup(&[(ALL, 1_000_000)]);
    young.age = Duration::ZERO;
    let site = young.build();
    for n in 0..3 {
        assert_eq!(site.send(&answer(n)).reason, Reason::Calm);
    }
    assert!(matches!(site.send(&answer(3)).reason, Reason::Suspicion { .. }));
}

#[test]
fn automatic_mail_has_a_small_budget_and_is_counted_nowhere() {
    let away = |n| answer(n).header("Auto-Submitted", "auto-replied");
    let mut site = setup(&[(ALL, MEMBERS)]).build();
    for n in 0..3 {
        assert_eq!(site.send(&away(n)).reason, Reason::Calm);
    }
    for n in 3..40 {
        let decision = site.send(&away(n));
        assert_eq!((decision.action, decision.reason), (Action::Hold, Reason::Automatic));
    }
    assert_eq!(site.phase(ALL), Phase::Calm);
    for n in 0..3 {
        assert_eq!(site.send(&answer(n)).reason, Reason::Calm);
    }
    site.wait(HOUR);
    assert_eq!(site.send(&away(50)).reason, Reason::Calm);

    let site = in_storm();
    assert_eq!(site.send(&away(50)).reason, Reason::Automatic);
}

#[test]
fn automatic_mail_that_is_tried_again_gets_its_turn() {
    let away = |n: u32| {
        let letter = Letter::new(&stranger(n), ALL).header("Auto-Submitted", "auto-replied");
        letter.id(&format!("away-{n}@example.net"))
    };
    let mut site = setup(&[(ALL, MEMBERS)]).policy(Policy { mode: Mode::Defer, ..Policy::default() }).build();
    for n in 0..3 {
        assert_eq!(site.send(&away(n)).reason, Reason::Calm);
    }
    for n in 3..9 {
        assert_eq!(site.send(&away(n)).reason, Reason::Automatic);
    }
    // Every quarter of an hour each of the six: three more within the next hour, and three within the one after it.
    let mut waiting: Vec<u32> = (3..9).collect();
    let mut passed = Vec::new();
    for _ in 0..9 {
        site.wait(15 * MINUTE);
        let before = waiting.len();
        waiting.retain(|n| site.send(&away(*n)).reason == Reason::Automatic);
        passed.push(before - waiting.len());
    }
    assert_eq!(passed, [0, 0, 0, 3, 0, 0, 0, 3, 0]);
}

#[test]
fn a_storm_among_many_recipients_without_a_list() {
    let mut site = setup(&[]).build();
    let many = |n: u32| Letter::new(&stranger(n), "").with_people(0..60).re(ROOT);
    for n in 0..19 {
        assert_eq!(site.send(&many(n)).reason, Reason::Calm);
    }
    let tripped = site.send(&many(19));
    assert_eq!((tripped.action.name(), tripped.reason), ("hold", Reason::Storm));
    let [Event::StormStarted { storm, list: None, members: 60, .. }] = &tripped.events[..] else {
        panic!("{:?}", tripped.events);
    };
    assert_eq!(tripped.storm.as_ref(), Some(storm), "its mail is known by it");
    let since = site.now;
    site.wait(MINUTE);
    let other = site.send(&many(3));
    assert_eq!((other.reason, other.storm.as_ref()), (Reason::Storm, Some(storm)), "whoever answers");
    let elsewhere = Letter::new("jo@example.org", "").with_people(0..60);
    let elsewhere = site.send(&elsewhere);
    assert_eq!((elsewhere.reason, elsewhere.storm), (Reason::Calm, None));
    site.wait(QUIET);
    assert_eq!(site.engine.tick(site.now), [], "not quiet for long enough");
    assert_eq!(site.send(&many(40)).reason, Reason::Storm);
    let [open] = &site.engine.storms(site.now)[..] else { panic!("one is open") };
    assert_eq!((&open.list, open.members, open.phase), (&None, 60, Phase::Storm { since }));
    assert_eq!((open.storm.as_ref(), open.enforced), (Some(storm), true));
    assert_eq!((open.figures.held, open.figures.copies_held), (3, 180));
    assert_eq!(open.ends, Some(site.now.after(QUIET)));
    site.wait(QUIET + SECOND);
    let ended = site.engine.tick(site.now);
    let [Event::StormEnded { storm: name, list: None, held: 3, since: began, .. }] = &ended[..] else {
        panic!("{ended:?}");
    };
    assert_eq!((name, *began), (storm, since));
    assert_eq!(site.engine.storms(site.now), []);
    assert_eq!(site.engine.tick(site.now), [], "told once");
    assert_eq!(site.send(&many(41)).reason, Reason::Calm);
}

#[test]
fn a_storm_among_many_recipients_ends_before_a_late_answer_counts() {
    let mut site = setup(&[]).policy(touchy(Mode::Hold)).build();
    let many = |n: u32| Letter::new(&stranger(n), "").with_people(0..60).re(ROOT);
    let storm = (0..2).filter_map(|n| site.send(&many(n)).storm).next_back().expect("two are a storm");
    site.wait(QUIET + SECOND);
    let late = site.send(&many(2));
    let [Event::StormEnded { storm: name, list: None, .. }] = &late.events[..] else {
        panic!("{:?}", late.events);
    };
    assert_eq!((name, late.reason, late.storm), (&storm, Reason::Calm, None));
    let again = site.send(&many(3));
    let [Event::StormStarted { storm: name, .. }] = &again.events[..] else { panic!("{:?}", again.events) };
    assert_ne!(name, &storm, "another storm");
    assert_eq!(site.engine.storms(site.now)[0].figures.held, 1, "counted from nothing");
}

#[test]
fn so_many_storms_among_many_recipients_are_named_and_the_others_judged_all_the_same() {
    let mut setup = setup(&[]).policy(touchy(Mode::Hold));
    setup.capacity.conversations = 4096;
    let mut site = setup.build();
    let answer = |root: u32, n: u32| {
        Letter::new(&stranger(n), "").with_people(0..60).re(&format!("root-{root}@example.net"))
    };
    for root in 0..1024 {
        site.send(&answer(root, 2 * root));
        let tripped = site.send(&answer(root, 2 * root + 1));
        assert_eq!((tripped.events.len(), tripped.storm.is_some()), (1, true), "{root}");
    }
    site.send(&answer(5000, 5000));
    let one_too_many = site.send(&answer(5000, 5001));
    assert_eq!((one_too_many.reason, &one_too_many.storm), (Reason::Storm, &None));
    assert!(one_too_many.events.is_empty());
    assert_eq!(site.engine.storms(site.now).len(), 1024);
    let table = site.engine.tables().storms_without_a_list;
    assert_eq!((table.occupied, table.capacity, table.refused), (1024, 1024, 1));
    // Room is made by those that are over.
    site.wait(QUIET + SECOND);
    assert_eq!(site.engine.tick(site.now).len(), 1024);
    site.send(&answer(6000, 6000));
    assert_eq!(site.send(&answer(6000, 6001)).events.len(), 1);
}

#[test]
fn a_reload_keeps_what_was_counted() {
    let setup = setup(&[(ALL, MEMBERS)]);
    let site = setup.build();
    for n in 0..9 {
        site.send(&answer(n));
    }
    site.reload(&setup);
    assert_eq!(started(&site.send(&answer(9))), Some("conversation_newcomers"));
}

#[test]
fn a_reload_changes_the_thresholds_of_a_storm_under_way() {
    let mut site = in_storm();
    let mut setup = setup(&[(ALL, MEMBERS)]).policy(Policy { mode: Mode::Defer, ..holding() });
    setup.policy.thresholds.quiet = 10 * MINUTE;
    site.reload(&setup);
    assert!(matches!(site.phase(ALL), Phase::Storm { .. }));
    assert!(matches!(site.send(&answer(30)).action, Action::Defer { .. }));
    site.wait(10 * MINUTE + SECOND);
    assert_eq!(site.engine.tick(site.now).len(), 1);

    // Lower thresholds count from the next message on, with what has been counted.
    let site = self::setup(&[(ALL, MEMBERS)]).build();
    for n in 0..5 {
        site.send(&answer(n));
    }
    let mut setup = self::setup(&[(ALL, MEMBERS)]);
    setup.policy.thresholds.storm_min = 6;
    site.reload(&setup);
    assert_eq!(started(&site.send(&answer(5))), Some("conversation_newcomers"));
}

#[test]
fn a_list_that_left_and_came_back_is_still_in_its_storm() {
    let site = in_storm();
    site.reload(&setup(&[]));
    assert_eq!(site.engine.storms(site.now), []);
    site.reload(&setup(&[]));
    site.reload(&setup(&[(ALL, MEMBERS)]));
    assert!(matches!(site.phase(ALL), Phase::Storm { .. }));
}

/// Judged from the first day: an address of a pattern is a list from its first message on.
fn pattern() -> Setup {
    let mut setup = setup(&[("*-all@example.org", 100)]).policy(touchy(Mode::Hold));
    setup.policy.thresholds.history = Duration::ZERO;
    setup
}

#[test]
fn addresses_of_a_pattern_have_a_state_each() {
    let site = pattern().build();
    site.open_storm("red-all@example.org");
    assert!(matches!(site.phase("red-all@example.org"), Phase::Storm { .. }));
    assert_eq!(site.send(&Letter::new("jo@example.org", "blue-all@example.org")).reason, Reason::Calm);
    assert_eq!(site.send(&Letter::new("jo@example.org", "RED-all+x@example.org")).reason, Reason::Storm);
}

#[test]
fn a_storm_on_an_address_of_a_pattern_outlives_a_reload() {
    let setup = pattern();
    let mut site = setup.build();
    site.open_storm("red-all@example.org");
    for _ in 0..3 {
        site.reload(&setup);
    }
    assert!(matches!(site.phase("red-all@example.org"), Phase::Storm { .. }));
    site.wait(QUIET + SECOND);
    assert_eq!(site.engine.tick(site.now).len(), 1);
}

#[test]
fn an_address_of_a_pattern_that_becomes_a_list_is_one_list() {
    let mut setup = pattern();
    let site = setup.build();
    site.open_storm("red-all@example.org");
    setup.lists.insert(0, list("red-all@example.org", 100));
    site.reload(&setup);
    assert_eq!(site.engine.storms(site.now).len(), 1);
    assert_eq!(site.send(&Letter::new("jo@example.org", "red-all@example.org")).reason, Reason::Storm);
}

#[test]
fn an_address_of_a_pattern_keeps_its_history_over_reloads() {
    let mut setup = setup(&[("*-all@example.org", MEMBERS)]);
    setup.age = Duration::ZERO;
    let mut site = setup.build();
    let answer = |n| Letter::new(&stranger(n), "red-all@example.org").re(ROOT);
    assert_eq!(site.send(&answer(0)).reason, Reason::Calm);
    for _ in 0..31 {
        site.wait(DAY);
        site.reload(&setup);
    }
    for n in 1..4 {
        assert_eq!(site.send(&answer(n)).reason, Reason::Calm);
    }
    assert!(matches!(site.send(&answer(4)).reason, Reason::Suspicion { .. }), "a list of a month ago");
}
