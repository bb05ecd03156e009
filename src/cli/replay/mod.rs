//! `becalm replay`: the same engine on past or invented mail, in virtual time; a day in a second.

mod policies;
mod seeds;
mod site;
mod text;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};

use crate::clock::Stopwatch;
use crate::config::{Config, DEFAULT_PATH};
use crate::replay::header;
use crate::replay::judge::Judge;
use crate::replay::report::Report;
use crate::replay::report::html::Page;
use crate::replay::run::Run;
use crate::replay::scenario::{KINDS, Kind, Scenario};
use crate::replay::source::{
    Arrived, FolderSource, Layout, MboxSource, Merged, ScenarioSource, Skipped, Source,
};
use crate::replay::stage;
use policies::PolicyName;
pub(super) use site::Site;

/// What `--scenario` takes to print the names.
const NAMES: &str = "list";

/// Shows what becalm would have done with past or invented mail. Reads it, and changes and sends nothing.
#[derive(Args, Debug)]
#[command(after_help = "\
A message goes to the lists of the directory, or of --list, that its headers name: To, Cc, Delivered-To, \
X-Original-To, List-Post, List-Id. With a single --list, mail that names no list counts as mail to that one.

Envelope senders are read from Return-Path and the From line. Lists and rate limits that only observe are played \
as if they held.

--json is one object: the first rule's report; with several --policy, `policies` holds each one's figures. \
With --seeds it is another object: policy, scenario, members, seeds and never_tripped are plain; messages, \
list_messages, conversations, storms, suspicions, messages_delivered, messages_delayed, messages_held_for_good, \
messages_over_limit, delay_p99_s, delay_max_s, copies_with, copies_without and seconds_to_trip (null where none \
tripped) are each {\"median\", \"p95\", \"worst\"} over the seeds.")]
pub struct ReplayArgs {
    #[command(flatten)]
    inputs: Inputs,
    /// Play the scenario with so many seeds, from 0, and show median, 95th percentile and worst.
    #[arg(long, value_name = "N",
        conflicts_with_all = ["seed", "mbox", "maildir", "folder", "list", "arrival"],
        value_parser = clap::value_parser!(u64).range(1..=100_000))]
    seeds: Option<u64>,
    /// A rule to play the mail to; given more than once, they are compared. becalm, exchange-online,
    /// rate-limit=N/h (also N/m, N/d; without a rate LISTSERV's 50/d), google-groups, or a configuration FILE:
    /// becalm's rule under all that the file says. Where it names no lists, those of --config are taken.
    #[arg(long, value_name = "RULE", default_value = "becalm")]
    policy: Vec<PolicyName>,
    /// Write a page that explains it, with drawings; it needs nothing but a browser.
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    html: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Which mail, to which lists, under which configuration.
#[derive(Args, Debug)]
pub(super) struct Inputs {
    /// An mbox, in the order in which its mail arrived; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    mbox: Vec<PathBuf>,
    /// A Maildir, with its subfolders.
    #[arg(long, value_name = "DIR")]
    maildir: Vec<PathBuf>,
    /// A folder with one message a file, folders in it included.
    #[arg(long, value_name = "DIR")]
    folder: Vec<PathBuf>,
    /// An invented storm or calm day; `list` prints their names.
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,
    /// Another seed, another day.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// A list and how many mailboxes it reaches, beside the directory's, or instead of what that says. May be
    /// given more than once.
    #[arg(long, value_name = "ADDRESS=MEMBERS")]
    pub list: Vec<ListSize>,
    /// Where the time of arrival is taken from. By itself: an mbox's From lines; else the topmost Received, or
    /// the Date.
    #[arg(long, value_name = "WHERE")]
    arrival: Option<Arrival>,
    /// becalm's configuration: lists, directory and thresholds. Without it, /etc/becalm/becalm.toml, or the
    /// defaults where there is none.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Where the time of arrival is taken from.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Arrival {
    /// The `From ` line of an mbox.
    FromLine,
    /// The topmost `Received` field.
    Received,
    /// The `Date` field.
    Date,
}

/// `ADDRESS=MEMBERS`.
#[derive(Clone, Debug)]
pub(super) struct ListSize {
    pub address: String,
    members: u64,
}

impl FromStr for ListSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not ADDRESS=MEMBERS, as in all@example.org=5000");
        let (address, members) = text.rsplit_once('=').ok_or_else(wrong)?;
        let members: u64 = members.replace('_', "").parse().map_err(|_| wrong())?;
        // As in the configuration.
        if members > 1_000_000_000 {
            return Err(format!("a list has at most 1,000,000,000 members, not {members}"));
        }
        if !address.contains('@') {
            return Err(wrong());
        }
        Ok(Self { address: address.to_lowercase(), members })
    }
}

/// Plays, and prints what came of it.
///
/// # Errors
/// A file, folder or configuration that cannot be read, and arguments that do not go together.
pub fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let inputs = &args.inputs;
    if inputs.scenario.iter().any(|name| name == NAMES) {
        super::print(&text::scenarios(KINDS))?;
        return Ok(ExitCode::SUCCESS);
    }
    let config = configuration(inputs.config.as_deref())?;
    let policies = PolicyName::all(&args.policy)?;
    if let Some(count) = args.seeds {
        let [name] = inputs.scenario.as_slice() else { bail!("--seeds plays one --scenario") };
        return seeds(args, &config, &policies, &kind(name)?, count);
    }
    let scenarios = inputs.scenarios()?;
    let sources = inputs.sources(&scenarios)?;
    ensure!(!sources.is_empty(), "nothing to play: name mail with --mbox, --maildir, --folder or --scenario");
    let watch = Stopwatch::start();
    let reports = play_all(&config, &policies, &inputs.list, &scenarios, Merged::new(sources)?)?;
    let took = watch.elapsed();
    let abouts = policies.iter().map(PolicyName::about);
    let compared: Vec<(String, &Report)> = abouts.zip(&reports).collect();
    let report = reports.first().context("a run has a report")?;
    if let Some(file) = &args.html {
        let page = Page { sources: &inputs.described(), policies: &compared };
        std::fs::write(file, page.render()).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let output = if args.json {
        policies::json(&compared)?
    } else {
        text::report(report) + &policies::side_by_side(&compared)
    };
    super::print(&output)?;
    let rate = report.messages as f64 / took.as_secs_f64().max(1e-9);
    tell!("{} messages in {:.2} s: {} messages/s", report.messages, took.as_secs_f64(), rate as u64);
    Ok(ExitCode::SUCCESS)
}

impl Inputs {
    /// The invented mail.
    pub fn scenarios(&self) -> anyhow::Result<Vec<Scenario>> {
        self.scenario.iter().map(|name| Ok(kind(name)?.generate(self.seed))).collect()
    }

    /// All the mail, opened.
    pub fn sources(&self, scenarios: &[Scenario]) -> anyhow::Result<Vec<Box<dyn Source>>> {
        sources_of(self, scenarios)
    }

    /// Where the mail comes from, for the page.
    fn described(&self) -> Vec<String> {
        let paths = [("mbox", &self.mbox), ("Maildir", &self.maildir), ("folder", &self.folder)];
        let named = paths
            .iter()
            .flat_map(|(kind, paths)| paths.iter().map(move |path| format!("{kind} {}", path.display())));
        let invented = self.scenario.iter().map(|name| format!("scenario {name}, seed {}", self.seed));
        named.chain(invented).collect()
    }
}

/// One scenario with many seeds, to each policy.
fn seeds(
    args: &ReplayArgs,
    config: &Config,
    policies: &[PolicyName],
    kind: &Kind,
    count: u64,
) -> anyhow::Result<ExitCode> {
    let mut summaries = Vec::new();
    for policy in policies {
        // Read once, not for every seed.
        let own = policy.rule(config)?.ok();
        let site = Site::new(own.unwrap_or_else(|| config.clone()), &[], [(kind.name, kind.members)])?;
        let play = |scenario: &Scenario| {
            let judge = match policy {
                PolicyName::Rival(rival) => Some(Box::new(rival.rule()) as Box<dyn Judge>),
                _ => None,
            };
            one_seed(&site, scenario, judge)
        };
        summaries.push(seeds::Summary::of(kind, count, policy.name(), play)?);
    }
    let output = if args.json {
        policies::beside(summaries.first(), summaries.iter().collect())?
    } else {
        summaries.iter().map(seeds::Summary::text).collect::<Vec<_>>().join("\n")
    };
    super::print(&output)?;
    Ok(ExitCode::SUCCESS)
}

/// Plays the mail to every policy, in one pass; their reports in the same order.
fn play_all(
    config: &Config,
    policies: &[PolicyName],
    lists: &[ListSize],
    scenarios: &[Scenario],
    mail: Merged,
) -> anyhow::Result<Vec<Report>> {
    // becalm's rules each have a run of their own; the others sit beside the first of them.
    let (mut runs, mut rivals) = (Vec::new(), Vec::new());
    let run = |name: &str, config: Config| {
        let invented = scenarios.iter().map(|scenario| (scenario.name, scenario.members));
        Site::new(config, lists, invented)?.run(name, None, scenarios)
    };
    for (place, policy) in policies.iter().enumerate() {
        match policy.rule(config)? {
            Ok(config) => runs.push((Some(place), run(&policy.name(), config)?)),
            Err(rival) => rivals.push((place, rival)),
        }
    }
    if runs.is_empty() {
        runs.push((None, run("becalm", config.clone())?));
    }
    let places: Vec<usize> = rivals.iter().map(|(place, _)| *place).collect();
    if let Some((_, first)) = runs.first_mut() {
        rivals.into_iter().for_each(|(_, rival)| first.beside(rival));
    }
    let (owners, runs): (Vec<Option<usize>>, Vec<Run>) = runs.into_iter().unzip();
    let mut placed: Vec<(usize, Report)> = Vec::new();
    for (index, (reports, owner)) in play(runs, mail).into_iter().zip(owners).enumerate() {
        let beside = if index == 0 { places.as_slice() } else { &[] };
        let owners = std::iter::once(owner).chain(beside.iter().copied().map(Some));
        placed.extend(owners.zip(reports).filter_map(|(owner, report)| Some((owner?, report))));
    }
    placed.sort_by_key(|(place, _)| *place);
    Ok(placed.into_iter().map(|(_, report)| report).collect())
}

fn kind(name: &str) -> anyhow::Result<Kind> {
    Kind::named(name).with_context(|| {
        format!("there is no scenario `{name}`; `becalm replay --scenario {NAMES}` names them")
    })
}

pub(super) fn configuration(path: Option<&Path>) -> anyhow::Result<Config> {
    let file = path.unwrap_or(Path::new(DEFAULT_PATH));
    let (config, _) = Config::load(file, path.is_some()).map_err(|report| anyhow::anyhow!("{report}"))?;
    Ok(config)
}

fn sources_of(args: &Inputs, scenarios: &[Scenario]) -> anyhow::Result<Vec<Box<dyn Source>>> {
    let invented_only = args.mbox.is_empty() && args.maildir.is_empty() && args.folder.is_empty();
    if invented_only && !scenarios.is_empty() {
        let why = "is for mail that is read: a scenario brings its list and its times along";
        ensure!(args.list.is_empty(), "--list {why}");
        ensure!(args.arrival.is_none(), "--arrival {why}");
    }
    let arrival = args.arrival.map(|arrival| match arrival {
        Arrival::FromLine => header::Arrival::FromLine,
        Arrival::Received => header::Arrival::Received,
        Arrival::Date => header::Arrival::Date,
    });
    let mut sources: Vec<Box<dyn Source>> = Vec::new();
    for path in &args.mbox {
        let reader: Box<dyn Read> = if path == Path::new("-") {
            Box::new(std::io::stdin())
        } else {
            ensure!(!path.is_dir(), "{} is a folder: read it with --maildir or --folder", path.display());
            let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            Box::new(Named { file, path: path.clone() })
        };
        sources.push(Box::new(MboxSource::new(reader, arrival)));
    }
    let maildirs = args.maildir.iter().map(|path| (path, Layout::Maildir));
    for (path, layout) in maildirs.chain(args.folder.iter().map(|path| (path, Layout::Files))) {
        ensure!(!path.is_file(), "{} is a file: read it with --mbox", path.display());
        let source = FolderSource::open(path, layout, arrival)
            .with_context(|| format!("cannot read {}", path.display()))?;
        sources.push(Box::new(source));
    }
    for scenario in scenarios {
        let source = ScenarioSource::new(scenario.clone(), &stage::address(scenario.name));
        sources.push(Box::new(source));
    }
    Ok(sources)
}

/// A file whose errors say which one it is: of several, one may be on a disk that fails.
struct Named {
    file: File,
    path: PathBuf,
}

impl Read for Named {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.file.read(into).map_err(|error| {
            std::io::Error::new(error.kind(), format!("cannot read {}: {error}", self.path.display()))
        })
    }
}

/// Plays the mail to several runs at once; the reports of each.
pub(super) fn play(mut runs: Vec<Run>, mut mail: Merged) -> Vec<Vec<Report>> {
    let mut message = Arrived::default();
    while mail.next(&mut message) {
        for run in &mut runs {
            run.play(&message.mail());
        }
    }
    for error in mail.broken() {
        tell!("becalm: {error}; what was read of it was played");
    }
    let skipped: Skipped = mail.skipped();
    let finished = runs.into_iter().map(|run| {
        let mut reports = run.finish(&skipped.by_reason());
        reports.iter_mut().for_each(|report| report.headers_cut = skipped.cut());
        reports
    });
    finished.collect()
}

/// A scenario by itself, to becalm's rule or to another one.
fn one_seed(site: &Site, scenario: &Scenario, rival: Option<Box<dyn Judge>>) -> anyhow::Result<Report> {
    let run = site.small_run("becalm", scenario)?;
    // becalm's is the first; the rule beside it, if there is one, the last.
    let reports = stage::play_in(run, scenario, rival.into_iter().collect());
    reports.into_iter().next_back().context("a run has a report")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_and_its_size() {
        let list: ListSize = "All=x@Example.org=1_000".parse().unwrap();
        assert_eq!((list.address.as_str(), list.members), ("all=x@example.org", 1000));
        for wrong in ["", "all@example.org", "all@example.org=", "all=5", "a@b=-1", "a@b=1000000001"] {
            assert!(wrong.parse::<ListSize>().is_err(), "{wrong}");
        }
    }
}
