//! The rule on generated storms and calm days. The bounds lie a little above what a hundred seeds gave
//! (`cargo bench --bench rule` prints them), so that a change which lets more through is seen.

use super::report::Report;
use super::scenario::{KINDS, Kind};
use super::stage;
use crate::storm::policy::Policy;

/// Enough to see a change, few enough for every run of the tests.
const SEEDS: u64 = 8;

fn play(name: &str, seed: u64) -> Report {
    let kind = Kind::named(name).unwrap();
    stage::play(&kind.generate(seed), &Policy::default(), Vec::new()).unwrap().remove(0)
}

fn let_through(report: &Report) -> u64 {
    report.messages - report.messages_held_for_good
}

/// Plays every seed and returns what was let through, sorted.
fn delivered(name: &str) -> Vec<u64> {
    let mut delivered: Vec<u64> = (0..SEEDS)
        .map(|seed| {
            let report = play(name, seed);
            assert_eq!(report.copies_without, report.messages * report.lists[0].members, "{name} {seed}");
            let through = let_through(&report);
            assert_eq!(
                report.copies_with,
                through * report.lists[0].members,
                "{name} {seed}: nothing is lost"
            );
            through
        })
        .collect();
    delivered.sort_unstable();
    delivered
}

fn median(sorted: &[u64]) -> u64 {
    sorted[sorted.len() / 2]
}

#[test]
fn nhs_2016_costs_at_most_four_messages() {
    for name in ["nhs-2016", "nhs-known", "nhs-fuse"] {
        let delivered = delivered(name);
        assert!(delivered.last() <= Some(&4), "{name}: {delivered:?}");
    }
}

#[test]
fn other_storms_are_stopped_within_the_evidence() {
    for (name, median_at_most, worst_at_most) in [
        ("nhs-slow", 11, 19),
        ("dhs-2007", 28, 36),
        ("waves", 20, 30),
        ("slow-burn", 25, 80),
        ("small", 35, 50),
        ("regulars", 70, 90),
        ("recall", 6, 6),
    ] {
        let delivered = delivered(name);
        assert!(median(&delivered) <= median_at_most, "{name}: {delivered:?}");
        assert!(delivered.last() <= Some(&worst_at_most), "{name}: {delivered:?}");
    }
}

#[test]
fn calm_days_stay_calm() {
    for kind in KINDS.iter().filter(|kind| kind.is_calm() && kind.name != "calm-congratulation-5000") {
        for seed in 0..SEEDS {
            let report = play(kind.name, seed);
            assert_eq!(report.storms, [], "{} {seed}", kind.name);
            assert_eq!(report.messages_held_for_good, 0, "{} {seed}", kind.name);
        }
    }
}

#[test]
fn a_seed_gives_the_same_day_again() {
    let kind = Kind::named("nhs-2016").unwrap();
    assert_eq!(kind.generate(5).posts, kind.generate(5).posts);
    assert_ne!(kind.generate(5).posts, kind.generate(6).posts);
}

#[test]
fn days_from_the_press_are_stopped_at_a_small_part_of_them() {
    for (name, worst_at_most) in
        [("bedlam-1997", 40), ("state-2009", 210), ("nyu-2012", 40), ("nhs-echo", 4), ("nhs-peak", 4)]
    {
        let delivered = delivered(name);
        assert!(delivered.last() <= Some(&worst_at_most), "{name}: {delivered:?}");
    }
}

#[test]
fn days_from_the_press_have_the_size_that_was_reported() {
    for (name, messages) in [
        ("bedlam-1997", 600..1_300),
        ("nyu-2012", 1_800..4_600),
        ("calm-discussion", 31..32),
        ("nhs-peak", 301..306),
    ] {
        for seed in 0..SEEDS {
            let posts = Kind::named(name).unwrap().generate(seed).posts;
            assert!(messages.contains(&posts.len()), "{name} {seed}: {}", posts.len());
            assert!(posts.is_sorted_by_key(|post| post.letter.at), "{name} {seed}");
        }
    }
    let circle = Kind::named("calm-discussion").unwrap().generate(1);
    let people: std::collections::HashSet<_> = circle.posts.iter().map(|post| &post.letter.sender).collect();
    assert_eq!(people.len(), 10);
    let twice = Kind::named("calm-announcement-twice").unwrap().generate(1).posts;
    assert_eq!(twice.iter().filter(|post| post.letter.sender == twice[0].letter.sender).count(), 2);
}
