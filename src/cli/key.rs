//! `becalm key rotate`: another key for the marks of held mail.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::ask::load_config;
use crate::clock::Clock;
use crate::daemon::site;
use crate::quarantine::keyfile;
use crate::quarantine::keys::RingError;

/// How much longer than the age at which held mail is returned an earlier key is good: the helper may be down for a
/// while, and what is returned may itself be held again.
const MARGIN: Duration = Duration::from_secs(7 * 86_400);

/// The key that held mail is marked with.
#[derive(Args, Debug)]
pub struct KeyArgs {
    #[command(subcommand)]
    act: Act,
}

#[derive(Subcommand, Debug)]
enum Act {
    /// Makes another key, which marks held mail from now on. What was held under the earlier ones can still be
    /// released and returned, for seven days longer than `quarantine.max_age`; what becalm has learnt stays.
    Rotate {
        /// Configuration file that names the state directory.
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// Rotates, and says until when the earlier keys are good.
pub fn run(args: &KeyArgs) -> anyhow::Result<ExitCode> {
    let Act::Rotate { config } = &args.act;
    let config = load_config(config.as_deref())?;
    let now = Clock::system().now();
    let until = now.after(config.quarantine.max_age.saturating_add(MARGIN));
    let path = site::key_path(&config.state);
    let ring = keyfile::change_ring(&path, |ring| {
        ring.rotate(site::random(), now, until).map_err(|error| match error {
            RingError::Full(_) => anyhow::anyhow!("{error}; nothing was changed"),
            error => error.into(),
        })
    })
    .with_context(|| {
        format!(
            "cannot rotate the key at {}: run this as root or as becalm's user, once becalm has made its first key",
            path.display()
        )
    })?;
    let times: Vec<String> = ring.retired().map(|until| until.rfc3339()).collect();
    super::print(&format!(
        "A new key marks held mail from now on. Earlier keys are good until {}.\n\
         A becalm that runs uses it within a second; its helper does at once.\n",
        times.join(", ")
    ))?;
    Ok(ExitCode::SUCCESS)
}
