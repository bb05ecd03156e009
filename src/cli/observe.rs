//! `becalm observe`: everything at once to observe, and back.
//!
//! The switch is a file in the state directory: it works when the daemon does not answer, and it outlives a
//! restart. The daemon looks for it every second. Where a daemon answers, it throws the switch itself, at once, and
//! writes into the audit log who wanted it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use super::ask::load_config;
use crate::admin::api::{Observe, Reply, Request};
use crate::admin::client::{self, AskError};
use crate::daemon::site;

/// Puts everything to observe at once: mail is judged and reported, nothing is touched.
#[derive(Args, Debug)]
pub struct ObserveArgs {
    /// `on`: touch nothing from now on. `off`: each list in its own mode again.
    #[arg(value_enum)]
    switch: Switch,
    /// Configuration file that names the state directory.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// Asks the daemon to throw the switch, which writes down who did; where none answers, throws it without one.
pub fn run(args: &ObserveArgs) -> anyhow::Result<ExitCode> {
    let config = load_config(args.config.as_deref())?;
    let on = args.switch == Switch::On;
    let when = match client::ask(&config.admin.socket, &Request::Observe(Observe { on })) {
        Ok(Reply::Observing(done)) => {
            done.notes.iter().for_each(|note| tell!("becalm: {}", super::plain(note)));
            "from now on".to_owned()
        }
        Ok(_) => bail!("becalm gave another answer than was asked for"),
        Err(AskError::Refused { message, .. }) if !on => bail!("{message}"),
        // In an emergency what matters is that it is done.
        Err(error) => {
            let flag = site::observe_flag(&config);
            site::throw_switch(&flag, on).with_context(|| {
                format!("cannot change {}; run this as root or as becalm's user", flag.display())
            })?;
            tell!("becalm: this is not in the audit log: {error}");
            "as soon as a daemon sees it".to_owned()
        }
    };
    let what = if on { "everything is put to observe" } else { "each list is in its own mode again" };
    super::print(&format!("{what}, {when}\n"))?;
    Ok(ExitCode::SUCCESS)
}
