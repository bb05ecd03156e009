//! What the rule lets through: on generated storms and calm days, and on real list mail.
//!
//! `cargo bench --bench rule` plays every scenario with a hundred seeds.
//! `cargo bench --bench rule -- --list ADDRESS FILE.mbox …` plays mailboxes (arrival times on their `From `
//! lines) as if the list had 300, 3,000 and 50,000 members.
//!
//! Nothing here is timed: the figures are counts, the same on every machine.

use std::error::Error;
use std::fs::File;

use becalm::engine::Capacity;
use becalm::replay::report::Report;
use becalm::replay::scenario::{KINDS, Kind};
use becalm::replay::source::{Arrived, MboxSource, Source};
use becalm::replay::stage;
use becalm::storm::policy::Policy;

const SEEDS: u64 = 100;
const SIZES: [u64; 3] = [300, 3_000, 50_000];

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
    let files: Vec<String> = arguments.collect();
    if files.is_empty() {
        return scenarios();
    }
    for file in files {
        for members in SIZES {
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
        "{:<26}{:>9}{:>8}{:>6}{:>7}{:>16}{:>12}{:>9}",
        "scenario", "members", "median", "p95", "worst", "median copies", "never trip", "delayed"
    );
    for kind in KINDS {
        let reports: Vec<Report> =
            (0..SEEDS).map(|seed| play_scenario(kind, seed)).collect::<Result<_, _>>()?;
        let mut delivered: Vec<u64> =
            reports.iter().map(|report| report.messages - report.messages_held_for_good).collect();
        delivered.sort_unstable();
        let at = |share: f64| delivered[((delivered.len() as f64 * share) as usize).min(delivered.len() - 1)];
        let never = reports.iter().filter(|report| report.storms.is_empty()).count();
        let delayed: u64 = reports.iter().map(|report| report.messages_delayed).sum();
        let messages: u64 = reports.iter().map(|report| report.messages).sum();
        println!(
            "{:<26}{:>9}{:>8}{:>6}{:>7}{:>16}{:>12}{:>8.2}%",
            kind.name,
            kind.members,
            at(0.5),
            at(0.95),
            delivered[delivered.len() - 1],
            at(0.5) * kind.members,
            never,
            100.0 * delayed as f64 / messages as f64,
        );
    }
    Ok(())
}

fn play_scenario(kind: &Kind, seed: u64) -> Result<Report, Box<dyn Error>> {
    let reports = stage::play(&kind.generate(seed), &Policy::default(), Vec::new())?;
    reports.into_iter().next().ok_or_else(|| "a run has a report".into())
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
