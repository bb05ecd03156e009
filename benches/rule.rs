//! What the rule lets through: on generated storms and calm days, and on real list mail.
//!
//! `cargo bench --bench rule` plays every scenario with a hundred seeds.
//! `cargo bench --bench rule -- --list ADDRESS FILE.mbox …` plays mailboxes (arrival times on their `From `
//! lines) as if the list had 300, 3,000 and 50,000 members. With `--storms` before the files, a storm of strangers
//! breaks out on it every four days, to see what becomes of the list's own mail then and on the day after.
//!
//! Nothing here is timed: the figures are counts, the same on every machine.

use std::error::Error;
use std::fs::File;
use std::time::Duration;

use becalm::engine::Capacity;
use becalm::replay::judge::Verdict;
use becalm::replay::report::Report;
use becalm::replay::run::{Mail, Run};
use becalm::replay::scenario::{EPOCH, KINDS, Scenario};
use becalm::replay::source::{Arrived, MboxSource, Source};
use becalm::replay::spread::Spread;
use becalm::replay::stage;
use becalm::storm::policy::Policy;
use becalm::time::Timestamp;

const SEEDS: u64 = 100;
const SIZES: [u64; 3] = [300, 3_000, 50_000];

/// Between two storms of `--storms`: the hours of the day take turns.
const BETWEEN: Duration = Duration::from_secs((4 * 24 + 7) * 3600);

/// Before the first of them: the list's people are known by then.
const ACQUAINTED: Duration = Duration::from_secs(40 * 24 * 3600);

/// Answers in one of them, and the seconds between two.
const ANSWERS: u64 = 25;
const ANSWER_EVERY: Duration = Duration::from_secs(25);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench").peekable();
    if std::env::args().all(|argument| argument != "--bench") {
        // `cargo test` builds and starts benches too; there is nothing to try here.
        return Ok(());
    }
    let mut list = "list@lists.example".to_owned();
    if arguments.next_if(|argument| argument == "--list").is_some() {
        list = arguments.next().ok_or("--list takes an address")?;
    }
    let storms = arguments.next_if(|argument| argument == "--storms").is_some();
    let files: Vec<String> = arguments.collect();
    if files.is_empty() {
        return scenarios();
    }
    for file in files {
        for members in SIZES {
            if storms {
                play_among_storms(&file, &list, members)?;
                continue;
            }
            let report = play_mbox(&file, &list, members)?;
            println!(
                "{file} at {members:>6} members: {} messages, {} storms, {} held, {} delayed ({:.3} %)",
                report.messages,
                report.storms.len(),
                report.messages_held_for_good,
                report.messages_delayed,
                100.0 * report.messages_delayed as f64 / report.messages.max(1) as f64,
            );
            for storm in &report.storms {
                println!("    storm on {}, of {} messages", storm.started.rfc3339(), storm.replies_held);
            }
        }
    }
    Ok(())
}

fn scenarios() -> Result<(), Box<dyn Error>> {
    println!("messages let through, first one included, {SEEDS} seeds each");
    println!(
        "{:<26}{:>9}{:>8}{:>6}{:>7}{:>16}{:>9}{:>12}{:>9}",
        "scenario", "members", "median", "p95", "worst", "median copies", "minutes", "never trip", "delayed"
    );
    for kind in KINDS {
        let mut delivered = Vec::new();
        let mut trips = Vec::new();
        let mut never = 0;
        let (mut delayed, mut messages) = (0, 0);
        for seed in 0..SEEDS {
            let scenario = kind.generate(seed);
            let report = play_scenario(&scenario)?;
            delivered.push(report.messages - report.messages_held_for_good);
            match seconds_to_trip(&scenario, &report) {
                Some(seconds) => trips.push(seconds),
                None => never += 1,
            }
            delayed += report.messages_delayed;
            messages += report.messages;
        }
        let Spread { median, p95, worst } = Spread::of(delivered).ok_or("no seed was played")?;
        let minutes = Spread::of(trips)
            .map_or_else(|| "-".to_owned(), |seconds| format!("{:.1}", seconds.median as f64 / 60.0));
        println!(
            "{:<26}{:>9}{median:>8}{p95:>6}{worst:>7}{:>16}{minutes:>9}{never:>12}{:>8.2}%",
            kind.name,
            kind.members,
            median * kind.members,
            100.0 * delayed as f64 / messages as f64,
        );
    }
    Ok(())
}

fn play_scenario(scenario: &Scenario) -> Result<Report, Box<dyn Error>> {
    let reports = stage::play(scenario, &Policy::default(), Vec::new())?;
    reports.into_iter().next().ok_or_else(|| "a run has a report".into())
}

/// From the second message, the first reply of a storm, until one was declared.
fn seconds_to_trip(scenario: &Scenario, report: &Report) -> Option<u64> {
    let second = EPOCH.after(scenario.posts.get(1)?.letter.at);
    Some(report.storms.first()?.started.since(second).as_secs())
}

/// All mail of the file as mail to one list.
fn play_mbox(file: &str, list: &str, members: u64) -> Result<Report, Box<dyn Error>> {
    let mut run = stage::alone(list, members, &Policy::default(), Capacity::default())?;
    let mut source = MboxSource::new(File::open(file)?, None);
    let mut message = Arrived::default();
    while source.next(&mut message)? {
        run.play(&message.mail());
    }
    run.finish(&source.skipped().by_reason()).into_iter().next().ok_or_else(|| "a run has a report".into())
}

/// The same, with a storm of strangers again and again; prints what was held of the list's own mail.
fn play_among_storms(file: &str, list: &str, members: u64) -> Result<(), Box<dyn Error>> {
    let mut run = stage::alone(list, members, &Policy::default(), Capacity::default())?;
    let mut source = MboxSource::new(File::open(file)?, None);
    let mut message = Arrived::default();
    let (mut storms, mut own, mut held) = (0, 0, 0_u64);
    let mut next = None;
    while source.next(&mut message)? {
        let due = *next.get_or_insert(message.at.after(ACQUAINTED));
        if message.at >= due {
            for number in 0..=ANSWERS {
                play_stranger(&mut run, storms, number, due);
            }
            storms += 1;
            next = Some(due.after(BETWEEN));
        }
        own += 1;
        held += u64::from(run.play(&message.mail()) == Verdict::Hold);
    }
    let report = run.finish(&source.skipped().by_reason()).into_iter().next().ok_or("a run has a report")?;
    println!(
        "{file} at {members:>6} members: {storms} storms of strangers, {} declared; {held} of {own} other messages held",
        report.storms.len(),
    );
    Ok(())
}

/// The first message of a storm of strangers, or an answer to it.
fn play_stranger(run: &mut Run, storm: u64, number: u64, began: Timestamp) {
    let answer =
        if number == 0 { String::new() } else { format!("In-Reply-To: <{storm}.0@storm.example>\n") };
    let sender = format!("stranger-{storm}-{number}@storm.example");
    let head =
        format!("From: {sender}\nMessage-ID: <{storm}.{number}@storm.example>\n{answer}Subject: test\n");
    let at = began.after(ANSWER_EVERY * number as u32);
    run.play(&Mail { at, sender: sender.as_bytes(), list: None, head: head.as_bytes(), lines: &[] });
}
