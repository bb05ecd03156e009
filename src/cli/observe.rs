//! `becalm observe`: everything at once to observe, and back.
//!
//! The switch is a file in the state directory: it works when the daemon does not answer, and it outlives a
//! restart. The daemon looks for it every second.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::ask::load_config;
use crate::admin::api::{Reply, Request};
use crate::admin::client;
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

/// Throws the switch, and says whether a daemon is there to see it.
pub fn run(args: &ObserveArgs) -> anyhow::Result<ExitCode> {
    let config = load_config(args.config.as_deref())?;
    let flag = site::observe_flag(&config);
    let done = match args.switch {
        Switch::On => std::fs::write(&flag, "put there by `becalm observe on`\n"),
        Switch::Off => match std::fs::remove_file(&flag) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done,
        },
    };
    done.with_context(|| format!("cannot change {}; run this as root or as becalm's user", flag.display()))?;
    let daemon = match client::ask(&config.admin.socket, &Request::Status {}) {
        Ok(Reply::Status(_)) => "within a second".to_owned(),
        Ok(_) => "as soon as it looks".to_owned(),
        Err(error) => format!("when a daemon runs ({error})"),
    };
    let what = match args.switch {
        Switch::On => "everything is put to observe",
        Switch::Off => "each list is in its own mode again",
    };
    super::print(&format!("{what}, {daemon}\n"))?;
    Ok(ExitCode::SUCCESS)
}
