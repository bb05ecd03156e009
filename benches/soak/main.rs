//! What takes too long for the tests: becalm killed, or taken over, again and again under a storm, behind a real
//! Postfix. Needs root and Postfix, as the tests do.
//!
//! `cargo bench --bench soak -- kills 50 [SEED]` kills it fifty times. It ends with an error if a storm is forgotten,
//! or a message is neither delivered nor held, or both, or twice.
//!
//! `cargo bench --bench soak -- takeovers 20 [SEED]` takes it over twenty times. It ends with an error if one message
//! fails, or a watched one is not judged. `takeover-kills` kills one of the two each time: somebody goes on.
//!
//! `cargo bench --bench soak -- hostile 1000000 [SEED]` asks the helper a million times for what it must not do. It ends
//! with an error if one is not refused, the helper grows, or a good request fails afterwards.

#[path = "../../tests/it/harness.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod harness;
#[path = "../../tests/it/hostile.rs"]
mod hostile;
#[path = "../../tests/it/kills.rs"]
mod kills;
#[path = "../../tests/it/takeovers.rs"]
mod takeovers;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo bench --bench soak -- kills|takeovers|takeover-kills|hostile TIMES [SEED]";

fn main() -> ExitCode {
    if std::env::args().all(|argument| argument != "--bench") {
        // `cargo test` builds and starts benches too; there is nothing to try here.
        return ExitCode::SUCCESS;
    }
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let parsed = match words[..] {
        [what, times] => times.parse().ok().map(|times| (what, times, 1)),
        [what, times, seed] => {
            times.parse().ok().zip(seed.parse().ok()).map(|(times, seed)| (what, times, seed))
        }
        _ => None,
    };
    match parsed {
        Some(("kills", times, seed)) => report_kills(times, seed),
        Some(("takeovers", times, seed)) => report_takeovers(times, seed),
        Some(("takeover-kills", times, seed)) => report_takeover_kills(times, seed),
        Some(("hostile", times, seed)) => report_hostile(times, seed),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn report_kills(times: usize, seed: u64) {
    let mut done = kills::kills(times, seed);
    done.away_ms.sort_unstable();
    let median = done.away_ms.get(done.away_ms.len() / 2).copied().unwrap_or_default();
    println!(
        "killed {times} times (seed {seed}); away for {median} ms (median), its start and the check of its state included"
    );
    println!("storms declared more than a second before a kill: {}, all known after it", done.storms);
    println!(
        "storms declared within the last second: {}, of these known after it: {}",
        done.fresh, done.fresh_kept
    );
    println!(
        "messages: {} taken by Postfix, {} held, {} delivered, none in two places, none twice; {} tries deferred",
        done.messages,
        done.held,
        done.messages - done.held,
        done.deferred
    );
}

fn report_takeovers(times: usize, seed: u64) {
    let done = takeovers::takeovers(times, seed);
    let median = done.took_ms.get(done.took_ms.len() / 2).copied().unwrap_or_default();
    let longest = done.took_ms.last().copied().unwrap_or_default();
    println!(
        "taken over {times} times (seed {seed}) under load: 0 messages failed, 0 watched messages unjudged"
    );
    println!("each took {median} ms (median) from its start until it was ready, {longest} ms at most");
    println!("ordinary messages: {}, all delivered, none deferred", done.ordinary);
    println!(
        "watched messages: {}, all held; {} more sent on from a becalm that was about to end (421)",
        done.watched, done.sent_on
    );
    println!("the longest wait of a message, from MAIL to its last reply: {} ms", done.longest_ms);
}

fn report_takeover_kills(times: usize, seed: u64) {
    let done = takeovers::takeover_kills(times, seed);
    let [old, new] = done.killed;
    println!(
        "{times} takeovers (seed {seed}), the old one killed in {old}, the new one in {new}: the other went on"
    );
    println!(
        "messages: {} ordinary, all delivered, {} watched, all held; none lost, none twice; {} tries deferred",
        done.ordinary, done.watched, done.deferred
    );
    println!("the storm was known after each");
}

fn report_hostile(times: usize, seed: u64) {
    let done = hostile::hostile(times, seed);
    println!("{times} hostile requests (seed {seed}) in {:.0} s: all refused", done.took.as_secs_f64());
    println!("by reason: {:?}", done.refused);
    let [begun, ended] = done.memory_kib;
    println!(
        "the helper's memory: {begun} KiB after a tenth of them, {ended} KiB at the end ({} KiB more are allowed); \
         a good request was carried out then",
        hostile::MOST_GROWTH_KIB
    );
}
