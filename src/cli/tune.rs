//! `becalm tune`: thresholds that past mail suggests, as a configuration fragment.

use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Args;

use super::replay::{Inputs, Site, configuration, play};
use crate::replay::report::Report;
use crate::replay::run::Run;
use crate::replay::source::Merged;
use crate::replay::tune::{CANDIDATES, Tried};

/// Suggests thresholds for each list, from past mail, and says what each would have done.
#[derive(Args, Debug)]
pub struct TuneArgs {
    #[command(flatten)]
    inputs: Inputs,
}

/// Plays the mail at every candidate at once, and prints the fragment.
///
/// # Errors
/// As `becalm replay`.
pub fn run(args: &TuneArgs) -> anyhow::Result<ExitCode> {
    let inputs = &args.inputs;
    let scenarios = inputs.scenarios()?;
    let mut config = configuration(inputs.config.as_deref())?;
    // Unknown lists are none of its business: the tables of several runs together stay small.
    config.tables.recipients = config.tables.recipients.min(1024);
    let sources = inputs.sources(&scenarios)?;
    ensure!(!sources.is_empty(), "nothing to learn from: name mail with --mbox, --maildir or --folder");

    let invented = scenarios.iter().map(|scenario| (scenario.name, scenario.members));
    let site = Site::new(config.clone(), &inputs.list, invented)?;
    let run = |name: &str, people: Option<u32>| -> anyhow::Result<Run> { site.run(name, people, &scenarios) };
    let mut runs = vec![run("becalm", None)?];
    for people in CANDIDATES {
        runs.push(run(&people.to_string(), Some(people))?);
    }
    let reports = play(runs, Merged::new(sources)?);
    let mut reports = reports.iter().filter_map(|of_run| of_run.first());
    let present: &Report = reports.next().context("a run has a report")?;
    let tried = Tried {
        present,
        candidates: CANDIDATES.into_iter().zip(reports).collect(),
        sized_here: inputs.list.iter().map(|list| list.address.clone()).collect(),
    };
    let free = |address: &str| config.policies.for_list(address, None).thresholds.free;
    super::print(&tried.fragment(free))?;
    Ok(ExitCode::SUCCESS)
}
