//! What takes too long for the tests: becalm killed again and again under a storm, behind a real Postfix.
//!
//! `cargo bench --bench soak -- kills 50 [SEED]` kills it fifty times. Needs root and Postfix, as the tests do. It
//! ends with an error if a storm is forgotten, or a message is neither delivered nor held, or both, or twice.

#[path = "../../tests/it/harness.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod harness;
#[path = "../../tests/it/kills.rs"]
mod kills;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo bench --bench soak -- kills TIMES [SEED]";

fn main() -> ExitCode {
    if std::env::args().all(|argument| argument != "--bench") {
        // `cargo test` builds and starts benches too; there is nothing to try here.
        return ExitCode::SUCCESS;
    }
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let parsed = match words[..] {
        ["kills", times] => times.parse().ok().zip(Some(1)),
        ["kills", times, seed] => times.parse().ok().zip(seed.parse().ok()),
        _ => None,
    };
    let Some((times, seed)) = parsed else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
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
    ExitCode::SUCCESS
}
