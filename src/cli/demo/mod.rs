//! `becalm demo`: a storm that happened, against becalm, with ordinary mail in between.
//!
//! ```text
//! scenario ─ paced by a clock that runs many times as fast ─▶ channels ─▶ becalm ─▶ counts
//! ordinary mail ─ at a steady rate in real time ────────────▶ channels ─▶ becalm ─▶ latencies
//! ```
//!
//! A channel is a milter connection, or (`--postfix`) an SMTP session with a private Postfix that asks becalm.

mod channel;
mod play;
mod report;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::clock::Clock;
use crate::config::Config;
use crate::daemon::Daemon;
use crate::daemon::background::Background;
use crate::postfix::Postfix;
use crate::replay::scenario::{ACQUAINTANCE, EPOCH, Kind, Scenario};
use crate::time::Timestamp;
use channel::Target;
use play::{Pace, Played};
use report::Report;

/// The list of the demonstration.
const LIST: &str = "all@staff.example";

/// The storm that is played.
const SCENARIO: &str = "nhs-2016";

/// Ordinary messages a second, in real time.
const ORDINARY_BY_MILTER: u32 = 200;
const ORDINARY_BY_SMTP: u32 = 20;

/// Shows what becalm does: plays NHS 2016 against it and counts.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Through a private Postfix on loopback and real SMTP. Needs root, and Postfix installed; nothing of the
    /// machine's own Postfix is touched, and nothing is sent anywhere.
    #[arg(long)]
    postfix: bool,
    /// Another seed, another day: who answers whom, and when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many times as fast as in life.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    speed: u32,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Plays, and prints the table.
pub fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let kind = Kind::named(SCENARIO).context("the scenario is gone")?;
    let scenario = kind.generate(args.seed);
    let report = if args.postfix { by_smtp(args, &scenario)? } else { by_milter(args, &scenario)? };
    super::print(&if args.json { report.json()? } else { report.text(&kind, args.seed) })?;
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// becalm as it comes, but enforcing, with one list; on a socket of its own.
fn start_becalm(home: &Path, members: u64, clock: &Clock) -> anyhow::Result<Background> {
    let text = format!(
        "[listen]\nsockets = ['unix:{home}/becalm.sock']\nmode = '0666'\ngroup = ''\n\
         [verdict]\nmode = 'hold'\n[state]\ndirectory = '{home}'\nnode = 'demo'\n[journal]\nenabled = false\n\
         [[list]]\naddress = '{LIST}'\nmembers = {members}\n",
        home = home.display()
    );
    let (config, _) = Config::parse("demo", &text).map_err(|report| anyhow::anyhow!("{report}"))?;
    let (daemon, listeners) = Daemon::start(config, None, clock.clone())?;
    Ok(daemon.in_background(listeners)?)
}

fn introduce(becalm: &Background, scenario: &Scenario) {
    let then = EPOCH.as_millis().saturating_sub(ACQUAINTANCE.as_millis() as u64);
    for post in scenario.posts.iter().filter(|post| post.known) {
        let then = Timestamp::from_millis(then);
        becalm.shared().engine.make_known(LIST, &post.letter.sender, then);
    }
}

fn by_milter(args: &DemoArgs, scenario: &Scenario) -> anyhow::Result<Report> {
    let home = tempfile::tempdir().context("cannot make a folder for the demonstration")?;
    let clock = Clock::scaled(EPOCH, args.speed);
    let becalm = start_becalm(home.path(), scenario.members, &clock)?;
    introduce(&becalm, scenario);
    let target = Target::Milter(home.path().join("becalm.sock"));
    let pace = Pace { clock, storm_channels: 1, ordinary_a_second: ORDINARY_BY_MILTER, progress: !args.json };
    let played = play::play(scenario, LIST, &target, &pace, &becalm)?;
    becalm.stop();
    let held = played.held;
    Ok(Report::new(scenario, &played, played.delivered, held, played.ordinary_touched))
}

fn by_smtp(args: &DemoArgs, scenario: &Scenario) -> anyhow::Result<Report> {
    let home = tempfile::tempdir().context("cannot make a folder for the demonstration")?;
    // Postfix's own user must reach the socket; there is nothing else to see in there.
    std::fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let clock = Clock::scaled(EPOCH, args.speed);
    let postfix = Postfix::builder()
        .milter(format!("unix:{}/becalm.sock", home.path().display()))
        .default_action("accept")
        .start()?;
    let becalm = start_becalm(home.path(), scenario.members, &clock)?;
    introduce(&becalm, scenario);
    let target = Target::Smtp(postfix.address());
    let pace = Pace { clock, storm_channels: 8, ordinary_a_second: ORDINARY_BY_SMTP, progress: !args.json };
    let played = play::play(scenario, LIST, &target, &pace, &becalm)?;
    postfix.wait_until_idle(Duration::from_secs(120))?;
    becalm.stop();
    let counted = count_by_postfix(&postfix, &played)?;
    Ok(Report::new(scenario, &played, counted.delivered, counted.held, counted.ordinary_touched))
}

struct Counted {
    delivered: u64,
    held: u64,
    ordinary_touched: u64,
}

/// What Postfix itself has in its hold queue and in its log; not what becalm says it did.
fn count_by_postfix(postfix: &Postfix, played: &Played) -> anyhow::Result<Counted> {
    let hold = postfix.hold_queue()?;
    let held = hold.iter().filter(|message| message.addresses().contains(&LIST)).count() as u64;
    let delivered = postfix.delivered().iter().filter(|delivery| delivery.recipient == LIST).count() as u64;
    let ordinary_held = hold.len() as u64 - held;
    Ok(Counted { delivered, held, ordinary_touched: played.ordinary_touched + ordinary_held })
}
