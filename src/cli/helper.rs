//! `becalm helper`: the part that runs as root and acts upon Postfix's hold queue.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use crate::quarantine::helper::{Helper, Settings};
use crate::telemetry::log;

/// Acts upon Postfix's hold queue for the daemon: as root, on mail that carries becalm's mark, and nothing else.
#[derive(Args, Debug)]
pub struct HelperArgs {
    /// Postfix's configuration directory. A machine with several Postfix instances has a helper for each.
    #[arg(long, value_name = "DIR", default_value = "/etc/postfix")]
    config_dir: PathBuf,
    /// Where to listen, unless systemd passes a socket. Its directory must be root's.
    #[arg(long, value_name = "PATH", default_value = "/run/becalm-helper/helper.sock")]
    socket: PathBuf,
    /// The user that `becalm run` runs as: only it, and root, may ask.
    #[arg(long, value_name = "NAME", default_value = "becalm")]
    user: String,
    /// The key that becalm's marks are made with, in the daemon's state directory.
    #[arg(long, value_name = "FILE", default_value = "/var/lib/becalm/key")]
    key: PathBuf,
}

/// Serves until it is ended.
pub fn run(args: HelperArgs) -> anyhow::Result<ExitCode> {
    let _log = log::start(log::Format::Text, tracing::Level::INFO)?.write()?;
    let settings =
        Settings { config_directory: args.config_dir, socket: args.socket, user: args.user, key: args.key };
    let helper = Helper::start(&settings).context("the helper cannot start")?;
    let (version, queue) = helper.postfix();
    tracing::info!(postfix = version, queue, "ready");
    if !helper.long_queue_ids() {
        tracing::warn!(
            "this Postfix has short queue ids: every act will be refused; `postconf -e enable_long_queue_ids=yes`"
        );
    }
    helper.serve()?;
    Ok(ExitCode::SUCCESS)
}
