//! Each rule by cases that were counted by hand.

use super::super::judge::{Declared, Verdict};
use super::*;
use crate::time::Timestamp;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

/// An answer in one conversation on one list, so many seconds after the first message.
fn answer(secs: u64, audience: u64) -> Posting {
    Posting {
        at: Timestamp::from_millis(1_479_112_140_000 + secs * 1_000),
        message: secs,
        list: 1,
        members: audience,
        audience,
        conversation: 7,
        author: secs,
        reply: true,
        automatic: false,
        newcomer: true,
    }
}

fn passes(rule: &mut Rival, posting: &Posting) -> bool {
    rule.judge(posting).verdict == Verdict::Pass
}

fn rule(name: &str) -> Rival {
    name.parse::<RivalName>().unwrap().rule()
}

/// The seconds at which a rule refuses what comes at `times`.
fn refused(name: &str, times: impl IntoIterator<Item = u64>, audience: u64) -> Vec<u64> {
    let mut rule = rule(name);
    times.into_iter().filter(|&at| !passes(&mut rule, &answer(at, audience))).collect()
}

#[test]
fn exchange_refuses_three_minutes_after_the_tenth_answer_and_for_six_hours() {
    // One a minute from 0 s on: the tenth comes at 540 s, and what comes from 720 s on is refused.
    let times = (0..=22_400).step_by(60);
    let refused = refused("exchange-online", times, 2_500);
    assert_eq!(refused.first(), Some(&720));
    // Six hours: up to 22,320 s, where it begins anew.
    assert_eq!(refused.last(), Some(&22_260));
    assert_eq!(refused.len(), 360);
}

#[test]
fn exchange_sees_neither_nine_an_hour_nor_small_lists() {
    assert_eq!(
        refused("exchange-online", (0..100).map(|n| n * 400), 2_500),
        [0; 0],
        "one in 400 s: nine an hour"
    );
    assert_eq!(refused("exchange-online", 0..10_000, 2_499), [0; 0]);
}

#[test]
fn exchange_forgets_an_answer_after_an_hour() {
    // Nine at once, and the tenth as the nine are an hour old.
    let times = (0..9).chain([HOUR + 8]).chain(HOUR + 300..HOUR + 308).chain([2 * HOUR - 60]);
    assert_eq!(refused("exchange-online", times, 50_000), [0; 0]);
}

#[test]
fn exchange_watches_one_conversation_and_answers_only() {
    let mut rule = rule("exchange-online");
    for second in 0..1_000 {
        let first = Posting { conversation: second, reply: false, ..answer(second, 840_000) };
        assert!(passes(&mut rule, &first), "a new subject");
        let other = Posting { conversation: 10_000 + second / 9, ..answer(second, 840_000) };
        assert!(passes(&mut rule, &other), "nine answers to each of many conversations");
    }
}

#[test]
fn a_rate_limit_slides() {
    assert_eq!(
        refused("rate-limit=3/h", [0, 10, 20, 30, HOUR - 1, HOUR, HOUR + 5, HOUR + 10], 5),
        [30, HOUR - 1, HOUR + 5]
    );
}

#[test]
fn listserv_lets_fifty_a_day_through() {
    let times: Vec<u64> = (0..60).chain(DAY..DAY + 60).collect();
    let refused = refused("rate-limit", times, 840_000);
    assert_eq!(refused.len(), 20);
    assert_eq!((refused[0], refused[10]), (50, DAY + 50));
}

#[test]
fn google_counts_recipients() {
    // 7 × 840,000 = 5.88 M; the eighth would make it 6.72 M. An hour later the first is forgotten.
    assert_eq!(refused("google-groups", 0..10, 840_000), [7, 8, 9]);
    assert_eq!(refused("google-groups", (0..8).chain([HOUR]), 840_000), [7]);
    assert_eq!(refused("google-groups", [0, 1, HOUR], 10_000_000), [1], "one message alone must be possible");
}

#[test]
fn rate_limits_tell_lists_apart() {
    for name in ["rate-limit=1/d", "google-groups"] {
        let mut rule = rule(name);
        assert!(passes(&mut rule, &answer(0, 6_200_000)), "{name}");
        assert!(!passes(&mut rule, &answer(1, 6_200_000)), "{name}");
        assert!(passes(&mut rule, &Posting { list: 2, ..answer(2, 6_200_000) }), "{name}: another list");
    }
}

#[test]
fn a_clock_that_goes_back_refuses_nothing_new() {
    let mut rule = rule("rate-limit=2/h");
    assert!(passes(&mut rule, &answer(HOUR, 1)));
    assert!(passes(&mut rule, &answer(0, 1)));
    assert!(!passes(&mut rule, &answer(10, 1)));
}

#[test]
fn names_are_read_and_written() {
    for name in ["exchange-online", "google-groups", "rate-limit=50/d", "rate-limit=7/m", "rate-limit=9/h"] {
        assert_eq!(name.parse::<RivalName>().unwrap().to_string(), name);
    }
    assert_eq!("rate-limit".parse::<RivalName>().unwrap().to_string(), "rate-limit=50/d");
    assert_eq!("rate-limit=30".parse::<RivalName>().unwrap().to_string(), "rate-limit=30/h");
    for rate in ["0/h", "-1/h", "5/y", "x", "", "100001/h", "99999999999999999999/d", "5/h/h"] {
        assert_eq!(format!("rate-limit={rate}").parse::<RivalName>(), Err(NoRival::Rate(rate.to_owned())));
    }
    assert!(matches!("gmail".parse::<RivalName>(), Err(NoRival::Unknown(_))));
}

#[test]
fn a_refusal_is_told_as_a_storm() {
    let mut exchange = rule("exchange-online");
    let told: Vec<_> = (0..20).filter_map(|at| exchange.judge(&answer(at, 3_000)).storm).collect();
    let until = answer(9 + 180 + 6 * HOUR, 1).at;
    assert_eq!(told, [Declared { trigger: "replies", until, whole_list: false }]);

    let mut rate = rule("rate-limit=1/m");
    let told: Vec<_> = (0..3).filter_map(|at| rate.judge(&answer(at, 3_000)).storm).collect();
    let until = |at| answer(at, 1).at;
    assert_eq!(told, [61, 62].map(|at| Declared { trigger: "rate", until: until(at), whole_list: true }));
    assert_eq!(rate.name(), "rate-limit=1/m");
}
