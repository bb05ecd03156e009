//! `becalm bench`: what a milter costs, becalm or any other.
//!
//! ```text
//! load (this process) ── milter protocol ──▶ A, then B, then A again: the filter, another one or one that does nothing
//! --postfix:
//! SMTP sessions ──▶ private Postfix with the filter, then without ──▶ nowhere
//! ```
//!
//! Each ratio is of two turns of one round: what the machine does meanwhile hits both.

mod args;
mod noop;
mod progress;
mod report;
mod smtp;
mod turns;

use std::process::ExitCode;

use crate::load::Failure;

pub use args::BenchArgs;
pub use noop::{NoopArgs, serve as serve_noop};

use progress::Progress;
use report::Report;
use turns::Contender;

/// Measures, and prints the result. Exit codes: 0 fine, 1 below `--fail-below`, 2 nothing or not all could be
/// measured.
pub fn run(args: &BenchArgs) -> ExitCode {
    match measure(args) {
        Ok(report) => {
            let text = if args.json { report.json() } else { report.text() };
            let printed = super::print(&text);
            if let Some(error) = report.error() {
                tell!("becalm bench: {error}");
            }
            match (printed, report.error(), report.passed()) {
                (Err(_), ..) | (_, Some(_), _) => ExitCode::from(2),
                (_, None, false) => ExitCode::FAILURE,
                (_, None, true) => ExitCode::SUCCESS,
            }
        }
        Err(error) => {
            tell!("becalm bench: {}", super::in_full(&error));
            ExitCode::from(2)
        }
    }
}

/// A contender's failure in the middle is part of the report; what comes before the first turn is an error, and where
/// one object is wanted, one without figures.
fn measure(args: &BenchArgs) -> anyhow::Result<Report> {
    args.check()?;
    let contenders = if args.postfix { smtp::contenders(args) } else { turns::contenders(args) };
    let mut contenders = match contenders {
        Ok(contenders) => contenders,
        Err(error) if args.json => return Ok(Report::new(args, &[], Some(super::in_full(&error)))),
        Err(error) => return Err(error),
    };
    let progress = Progress::new(!args.json, args.load().end, args.rounds(), contenders.len());
    let error = take_turns(args, &mut contenders, &progress);
    progress.finish();
    Ok(Report::new(args, &contenders, error))
}

/// All rounds, or until one fails; returns why.
fn take_turns(args: &BenchArgs, contenders: &mut [Contender], progress: &Progress) -> Option<String> {
    let load = args.load();
    for contender in contenders.iter_mut() {
        if let Err(error) = contender.warm_up(load) {
            return Some(contender.told(&error));
        }
    }
    for _ in 0..args.rounds() {
        for contender in contenders.iter_mut() {
            let name = contender.name.clone();
            let turn = contender.turn(load, |elapsed, messages| progress.show(&name, elapsed, messages));
            if let Err(error) = turn {
                return Some(contender.told(&error));
            }
            progress.next();
        }
    }
    None
}

/// Why a turn failed.
#[derive(Debug, thiserror::Error)]
enum TurnError {
    #[error(transparent)]
    Load(#[from] Failure),
    #[error(transparent)]
    Postfix(#[from] crate::postfix::Error),
    #[error("{0}")]
    Smtp(String),
}
