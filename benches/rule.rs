//! What the rule lets through: on generated storms and calm days, and on real list mail.
//!
//! `cargo bench --bench rule` plays every scenario with a hundred seeds.
//! `cargo bench --bench rule -- --list ADDRESS FILE.mbox …` plays mailboxes (arrival times on their `From `
//! lines) as if the list had 300, 3,000 and 50,000 members.
//!
//! Nothing here is timed: the figures are counts, the same on every machine.

use std::error::Error;
use std::time::Duration;

use becalm::engine::Capacity;
use becalm::replay::letter::Letter;
use becalm::replay::player::{Player, Tally};
use becalm::replay::scenario::KINDS;
use becalm::storm::policy::{Mode, Policy};
use becalm::time::Timestamp;

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
        scenarios();
        return Ok(());
    }
    for file in files {
        let text = std::fs::read(&file)?;
        for members in SIZES {
            let tally = play_mbox(&text, &list, members);
            println!(
                "{file} at {members:>6} members: {} messages, {} storms, {} held, {} delayed ({:.3} %)",
                tally.letters,
                tally.storms.len(),
                tally.held,
                tally.delayed,
                100.0 * tally.delayed as f64 / tally.letters.max(1) as f64,
            );
            for (at, letters) in &tally.storms {
                println!(
                    "    storm {:.2} days after the first message, at message {letters}",
                    at.as_secs_f64() / 86_400.0
                );
            }
        }
    }
    Ok(())
}

fn scenarios() {
    println!("messages let through, first one included, {SEEDS} seeds each");
    println!(
        "{:<26}{:>9}{:>8}{:>6}{:>7}{:>16}{:>12}{:>9}",
        "scenario", "members", "median", "p95", "worst", "median copies", "never trip", "delayed"
    );
    for kind in KINDS {
        let tallies: Vec<Tally> =
            (0..SEEDS).map(|seed| Player::play_scenario(&kind.generate(seed), &Policy::default())).collect();
        let mut delivered: Vec<u64> = tallies.iter().map(Tally::delivered).collect();
        delivered.sort_unstable();
        let at = |share: f64| delivered[((delivered.len() as f64 * share) as usize).min(delivered.len() - 1)];
        let never = tallies.iter().filter(|tally| tally.storms.is_empty()).count();
        let delayed: u64 = tallies.iter().map(|tally| tally.delayed).sum();
        let letters: u64 = tallies.iter().map(|tally| tally.letters).sum();
        println!(
            "{:<26}{:>9}{:>8}{:>6}{:>7}{:>16}{:>12}{:>8.2}%",
            kind.name,
            kind.members,
            at(0.5),
            at(0.95),
            delivered[delivered.len() - 1],
            at(0.5) * kind.members,
            never,
            100.0 * delayed as f64 / letters as f64,
        );
    }
}

fn play_mbox(text: &[u8], list: &str, members: u64) -> Tally {
    let messages = split(text);
    let Some(first) = messages.first().map(|message| message.at) else { return Tally::default() };
    let policy = Policy { mode: Mode::Hold, ..Policy::default() };
    let mut player = Player::new(list, members, policy, Capacity::default(), first);
    for message in &messages {
        player.play(&Letter {
            at: message.at.since(first),
            // The archive keeps no envelope; a list's own bounce address is what it had.
            sender: "list-bounces@lists.example".to_owned(),
            headers: message.headers.clone(),
        });
    }
    player.finish()
}

struct Message {
    at: Timestamp,
    headers: Vec<(String, String)>,
}

/// An mbox of headers: `From ` line with the arrival, fields, an empty line.
fn split(text: &[u8]) -> Vec<Message> {
    let text = String::from_utf8_lossy(text);
    let mut messages: Vec<Message> = Vec::new();
    let mut after_blank = true;
    let mut in_headers = false;
    for line in text.lines() {
        if let Some(at) = line.strip_prefix("From ").filter(|_| after_blank).and_then(arrival) {
            messages.push(Message { at, headers: Vec::new() });
            in_headers = true;
        } else if line.is_empty() {
            in_headers = false;
        } else if let Some(message) = messages.last_mut().filter(|_| in_headers) {
            match (line.starts_with([' ', '\t']), message.headers.last_mut(), line.split_once(':')) {
                (true, Some((_, value)), _) => value.push_str(&format!("\n{line}")),
                (false, _, Some((name, value))) => {
                    message.headers.push((name.to_owned(), value.trim_start().to_owned()));
                }
                _ => {}
            }
        }
        after_blank = line.is_empty();
    }
    messages
}

/// `list@lists.example Mon Apr 29 00:01:27 2019`, in UTC.
fn arrival(line: &str) -> Option<Timestamp> {
    let (_, date) = line.split_once(' ')?;
    let date = jiff::civil::DateTime::strptime("%a %b %e %H:%M:%S %Y", date.trim()).ok()?;
    let seconds = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second();
    Some(Timestamp::default().after(Duration::from_secs(u64::try_from(seconds).ok()?)))
}
