//! The run: verdicts, delays and episodes in virtual time.

use std::sync::Arc;

use super::judge::{Declared, Judge, Posting, Ruling, Verdict};
use super::report::{Report, State};
use super::run::{Mail, Run};
use super::stage;
use crate::directory::snapshot::{List, Snapshot};
use crate::engine::{Exempt, Parts, Watch};
use crate::mail::AddressRules;
use crate::storm::limits::LimitSettings;
use crate::storm::policy::{Mode, Policy};
use crate::time::Timestamp;

const LIST: &str = "all@x.example";

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis((1_000_000 + seconds) * 1000)
}

fn run(members: u64) -> Run {
    stage::alone(LIST, members, &Policy::default(), stage::SMALL).unwrap()
}

/// A reply to the first message by author `number`.
fn reply(run: &mut Run, seconds: u64, number: u64) -> Verdict {
    let head = format!(
        "From: p{number}@x.example\nTo: {LIST}\nSubject: Re: Test\nMessage-ID: <m{number}.{seconds}@x.example>\n\
         References: <first@x.example>\n"
    );
    run.play(&Mail { at: at(seconds), sender: b"p@x.example", list: None, head: head.as_bytes(), lines: &[] })
}

fn finish(run: Run) -> Report {
    run.finish(&Default::default()).remove(0)
}

#[test]
fn a_suspicion_is_released_after_its_delay() {
    // F is 3 and K is 10.
    let mut run = run(100_000);
    for number in 0..5 {
        let expected =
            if number < 3 { Verdict::Pass } else { Verdict::HoldUntil(at(number).after(MINUTES_10)) };
        assert_eq!(reply(&mut run, number, number), expected, "{number}");
    }
    let report = finish(run);
    assert_eq!((report.messages_delayed, report.messages_held_for_good), (2, 0));
    assert_eq!((report.delay_p99_s, report.delay_max_s), (600.0, 600.0));
    assert_eq!((report.copies_with, report.copies_without), (500_000, 500_000));
    assert_eq!((report.list_messages, report.conversations), (5, 1));
    let [suspicion] = report.suspicions.as_slice() else { panic!("{:?}", report.suspicions) };
    assert_eq!((suspicion.started, suspicion.ended, suspicion.messages), (at(3), at(604), 2));
    assert!(!suspicion.became_storm);
    let [near] = report.near_storms.as_slice() else { panic!("{:?}", report.near_storms) };
    assert_eq!((near.peak, near.threshold, near.at), (5, 10, at(4)));
    assert_eq!(near.conversation.as_deref(), Some("test"));
    assert_eq!(report.lists[0].quietest, Some(6));
    assert_eq!(report.timelines[0].buckets[0].state, State::Suspicion);
}

const MINUTES_10: std::time::Duration = std::time::Duration::from_secs(600);

#[test]
fn a_storm_overtakes_what_waits_and_ends_without_mail() {
    let mut run = run(100_000);
    for number in 0..12 {
        reply(&mut run, number, number);
    }
    let report = finish(run);
    assert_eq!((report.messages_delayed, report.messages_held_for_good), (0, 9));
    let [storm] = report.storms.as_slice() else { panic!("{:?}", report.storms) };
    assert_eq!((storm.list.as_str(), storm.conversation.as_str()), (LIST, "test"));
    assert_eq!(storm.trigger, "conversation_newcomers");
    assert_eq!(storm.started, at(9));
    assert_eq!(
        storm.ended.map(|ended| ended.since(at(11)).as_secs()),
        Some(7200),
        "quiet since its last attempt"
    );
    assert_eq!((storm.replies_delivered, storm.replies_held), (3, 9));
    assert_eq!((storm.copies_delivered, storm.copies_held), (300_000, 900_000));
    assert!(report.suspicions[0].became_storm && report.near_storms.is_empty());
    assert_eq!(report.timelines[1].storm, Some(0));
    let drawn = |bucket: fn(&super::report::Bucket) -> u64| -> u64 {
        report.timelines[1].buckets.iter().map(bucket).sum()
    };
    assert_eq!(
        (drawn(|b| b.replies), drawn(|b| b.delivered), drawn(|b| b.delayed), drawn(|b| b.held)),
        (12, 3, 6, 3)
    );
    assert_eq!(report.lists[0].quietest, Some(13));
}

#[test]
fn what_is_taken_off_a_list_reaches_the_others() {
    let lists = vec![stage::assumed(LIST, 100_000), stage::assumed("few@x.example", 3)];
    let parts = Parts {
        snapshot: Arc::new(Snapshot::of(lists, AddressRules::default())),
        default_policy: Policy { mode: Mode::Strip, ..Policy::default() },
        exempt: Exempt::default(),
        watch: Watch::default(),
        limits: LimitSettings::default(),
    };
    let strips = |_: &List| Policy { mode: Mode::Strip, ..Policy::default() };
    let mut run = Run::new("becalm", parts, strips, stage::SMALL).unwrap();
    for number in 0..12 {
        reply(&mut run, number, number);
    }
    let head = format!(
        "From: p20@x.example\nTo: {LIST}, few@x.example, one@x.example\nSubject: Re: Test\nMessage-ID: <20@x.example>\n\
         References: <first@x.example>\n"
    );
    let mail = Mail { at: at(20), sender: b"p@x.example", list: None, head: head.as_bytes(), lines: &[] };
    assert_eq!(run.play(&mail), Verdict::Hold);
    let report = finish(run);
    assert_eq!((report.copies_with, report.copies_without), (300_003, 1_300_003));
    let of = |address: &str| report.lists.iter().find(|list| list.address == address).unwrap();
    assert_eq!((of(LIST).messages, of(LIST).held), (13, 10));
    assert_eq!((of("few@x.example").messages, of("few@x.example").held), (1, 0));
    assert_eq!((report.storms[0].replies_held, report.storms[0].copies_held), (10, 1_000_000));
    let course = &report.timelines[0].buckets;
    assert_eq!(course.iter().map(|bucket| bucket.copies_with).sum::<u64>(), 300_003);
    assert_eq!(course.iter().map(|bucket| bucket.replies).sum::<u64>(), 13);
}

#[test]
fn mail_that_comes_late_is_played_at_the_latest_time() {
    let mut run = run(100);
    reply(&mut run, 100, 1);
    reply(&mut run, 50, 2);
    let report = finish(run);
    assert_eq!((report.out_of_order, report.messages), (1, 2));
    assert_eq!((report.first, report.last), (Some(at(100)), Some(at(100))));
}

#[test]
fn mail_to_no_list_is_read_and_left_alone() {
    let mut run = stage::alone(LIST, 100, &Policy::default(), stage::SMALL).unwrap();
    let head = b"From: a@x.example\nTo: b@x.example\nList-Id: <all.x.example>\n";
    run.play(&Mail { at: at(0), sender: b"a@x.example", list: None, head, lines: &[] });
    run.play(&Mail { at: at(1), sender: b"a@x.example", list: Some(b"b@x.example"), head, lines: &[] });
    run.play(&Mail { at: at(2), sender: b"a@x.example", list: None, head: b"", lines: &[] });
    let report = finish(run);
    assert_eq!(
        (report.messages, report.list_messages, report.copies_without),
        (3, 2, 200),
        "one by its List-Id"
    );
}

/// Stops every second message, and opens a storm with the third.
struct EverySecond(u64);

impl Judge for EverySecond {
    fn name(&self) -> String {
        "every second".to_owned()
    }

    fn judge(&mut self, posting: &Posting) -> Ruling {
        self.0 += 1;
        let verdict = if self.0.is_multiple_of(2) { Verdict::Hold } else { Verdict::HoldUntil(posting.at) };
        let until = posting.at.after(MINUTES_10);
        let storm = (self.0 == 3).then_some(Declared { trigger: "third", until, whole_list: true });
        Ruling { verdict, storm }
    }
}

#[test]
fn another_rule_sees_the_same_mail_and_has_books_of_its_own() {
    let mut run = run(100);
    run.beside(Box::new(EverySecond(0)));
    for number in 0..5 {
        assert_eq!(reply(&mut run, number * 60, number), Verdict::Pass);
    }
    let reports = run.finish(&Default::default());
    let [ours, other] = reports.as_slice() else { panic!("two rules") };
    assert_eq!((ours.policy.as_str(), other.policy.as_str()), ("becalm", "every second"));
    assert_eq!((ours.messages_delayed, ours.messages_held_for_good, ours.storms.len()), (0, 0, 0));
    assert_eq!((other.messages_delayed, other.messages_held_for_good, other.copies_with), (3, 2, 300));
    let [storm] = other.storms.as_slice() else { panic!("{:?}", other.storms) };
    assert_eq!((storm.started, storm.ended), (at(120), Some(at(720))));
    assert_eq!((storm.replies_delivered, storm.replies_held, storm.trigger.as_str()), (3, 1, "third"));
}
